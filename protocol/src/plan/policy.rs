//! What differs in what a VM may decide by itself: policy by policy, each by its keywords.

use std::collections::BTreeMap;

use super::difference::Replaced;
use super::row::{Item, Sign, given};
use crate::model::{Decider, May, Policy};

/// Returns what came, what went, and of what stays the keywords that differ, each with what it was and is to be.
pub(super) fn items_of_policies(policies: &Replaced<Vec<Policy>>) -> Vec<Item> {
    let find = |all: &'_ [Policy], one: &Policy| all.iter().position(|there| there.name == one.name);
    let whole = |sign, policy: &Policy| {
        let (from, to) = match sign {
            Sign::Removed => (Some(policy_text(policy)), None),
            Sign::Added | Sign::Changed | Sign::Moved => (None, Some(policy_text(policy))),
        };
        (sign, Some(format!("policy {}", policy.name)), from, to)
    };
    let Replaced { from, to } = policies;
    let gone = from.iter().filter(|policy| find(to, policy).is_none());
    let mut items: Vec<Item> = gone.map(|policy| whole(Sign::Removed, policy)).collect();
    for policy in to {
        match find(from, policy) {
            None => items.push(whole(Sign::Added, policy)),
            Some(at) => items.extend(items_between(&from[at], policy)),
        }
    }
    if items.is_empty() {
        items.push((Sign::Changed, Some("order of policy".to_owned()), None, None));
    }
    items
}

fn items_between(from: &Policy, to: &Policy) -> Vec<Item> {
    let (mut before, after) = (values(from), values(to));
    let mut items: Vec<Item> = Vec::new();
    for (word, text) in after {
        let was = before.remove(&word);
        if was.as_ref() != Some(&text) {
            items.push(given(&format!("policy {} {}", to.name, word.1), was, Some(text)));
        }
    }
    items.extend(
        before
            .into_iter()
            .map(|(word, text)| given(&format!("policy {} {}", to.name, word.1), Some(text), None)),
    );
    if items.is_empty() && from.may != to.may {
        items.push((Sign::Changed, Some(format!("order of policy {}", to.name)), None, None));
    }
    items
}

/// Returns what a policy says, by its place among the keywords and the keyword.
fn values(policy: &Policy) -> BTreeMap<(usize, String), String> {
    let Policy { name: _, origin, decider, tuning, every_ms, grace_ms, may } = policy;
    let decides = match decider {
        Some(Decider::Run(words)) => Some((0, "run".to_owned(), words.join(" "))),
        Some(Decider::Builtin(builtin)) => Some((1, "builtin".to_owned(), builtin.word().to_owned())),
        None => None,
    };
    let gauge = tuning.gauge.as_ref().map(|gauge| (2, "gauge".to_owned(), gauge.to_string()));
    let quota = tuning.quota_milli.map(|milli| (3, "quota".to_owned(), thousandths_text(milli)));
    let window = tuning.window_ms.map(|ms| (4, "window".to_owned(), seconds_text(ms)));
    let times = [
        (5, "every".to_owned(), seconds_text(*every_ms)),
        (6, "grace".to_owned(), seconds_text(*grace_ms)),
        (ORIGIN, "of".to_owned(), origin.to_string()),
    ];
    let optional = [decides, gauge, quota, window].into_iter().flatten();
    // One of each kind, and of each class, is all that a policy has.
    let may = may.iter().map(|may| {
        let (word, text) = match may {
            May::Move(hosts) => {
                let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
                ("may move".to_owned(), hosts.join(" "))
            }
            May::Scale { class, least, most } => (format!("may scale {class}"), format!("{least}..{most}")),
            May::Cloud { hours_per_day } => ("may cloud".to_owned(), format!("{hours_per_day}h/day")),
            May::Volume { count, size } => ("may volume".to_owned(), format!("{count} {size}")),
        };
        (7, word, text)
    });
    optional.chain(times).chain(may).map(|(place, word, text)| ((place, word), text)).collect()
}

/// The place of what no keyword says: whose block has the policy first.
const ORIGIN: usize = 8;

fn policy_text(policy: &Policy) -> String {
    let lines = values(policy).into_iter().filter(|((place, _), _)| *place != ORIGIN);
    let lines: Vec<String> = lines.map(|((_, word), text)| format!("{word} {text}")).collect();
    format!("{{ {} }}", lines.join("; "))
}

fn seconds_text(ms: u64) -> String {
    format!("{}s", thousandths_text(ms))
}

/// A number with as many decimals as it has, which are three at most.
fn thousandths_text(milli: u64) -> String {
    let (whole, rest) = (milli / 1000, milli % 1000);
    if rest == 0 {
        return whole.to_string();
    }
    format!("{whole}.{}", format!("{rest:03}").trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang::{self, NoIncludes};
    use crate::resolve::{self, Options};

    fn policies(inside: &str) -> Vec<Policy> {
        let text = format!("global {{ project p }}\nhost a {{ {inside} }}\n");
        let (tree, _) = lang::parse("p.mln", text, &NoIncludes);
        let project = resolve::resolve(&tree, &Options::default()).project;
        project.vms.into_iter().find(|vm| vm.name.as_str() == "a").expect("it is there").setup.policies
    }

    #[track_caller]
    fn check(from: &str, to: &str, expect: &[&str]) {
        let (from, to) = (policies(from), policies(to));
        assert!(from != to, "there is something that differs");
        let items = items_of_policies(&Replaced { from, to });
        let line = |(sign, key, from, to): Item| {
            let values: Vec<String> = from.into_iter().chain(to).collect();
            let text = format!("{} {} {}", sign.character(), key.unwrap_or_default(), values.join(" → "));
            text.trim_end().to_owned()
        };
        let shown: Vec<String> = items.into_iter().map(line).collect();
        assert_eq!(shown, expect);
    }

    #[test]
    fn of_a_policy_that_stays_the_keywords_are_told_that_differ() {
        let policy = |inside: &str| format!("policy near {{ run /usr/bin/near {inside} }}");
        check(
            &policy("; every 30s; may move oslo bergen"),
            &policy("; every 1min; may move oslo voss"),
            &["~ policy near every 30s → 60s", "~ policy near may move oslo bergen → oslo voss"],
        );
        check(
            &policy("; may move oslo"),
            &policy("-fast; may move oslo; may volume 2 1G"),
            &["~ policy near run /usr/bin/near → /usr/bin/near -fast", "+ policy near may volume 2 1 GiB"],
        );
        check(
            "policy near { builtin proximity; gauge a; may move oslo }",
            "policy near { builtin proximity; window 90s; may move oslo }",
            &["+ policy near window 90s", "- policy near gauge a"],
        );
    }

    #[test]
    fn a_policy_that_comes_or_goes_is_one_line() {
        let near = "policy near { run /near; every 30s; grace 5min; may move oslo }";
        let text = "{ run /near; every 30s; grace 300s; may move oslo }";
        check("", near, &[&format!("+ policy near {text}")]);
        check(near, "", &[&format!("- policy near {text}")]);
        let away = "policy away { run /away; every 30s; grace 5min; may move voss }";
        check(&format!("{near}\n{away}"), &format!("{away}\n{near}"), &["~ order of policy"]);
    }

    #[test]
    fn a_number_has_the_decimals_that_it_has() {
        assert_eq!([1000, 1500, 50, 0].map(thousandths_text), ["1", "1.5", "0.05", "0"]);
    }
}
