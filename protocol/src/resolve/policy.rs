//! Policies: what a VM may decide, each value parsed and checked; what they name must be there.

use super::VMS_MAX;
use super::definitions::{Definitions, Member, Value};
use super::expand::{Expander, Scope};
use super::inherit::{Merged, MergedContent, MergedEntry};
use super::setup::{DISK_BYTES_MAX, DISK_BYTES_MIN, DISKS_MAX};
use super::size;
use crate::id::Name;
use crate::lang::{Code, Diagnostic, Span};
use crate::model::{BuiltinName, Decider, DiskBytes, HostAddress, May, Policy, Tuning};
use crate::policy::{Bounds, Builtin, Proximity, Queue, Scale};

const SECOND_MS: u64 = 1000;
const DAY_MS: u64 = 24 * 60 * 60 * SECOND_MS;
/// How often a program is asked that the file says nothing else of, and how long nothing is decided after a decision.
const EVERY_MS: u64 = 60 * SECOND_MS;
const GRACE_MS: u64 = 15 * SECOND_MS;
/// How many policies one host may have, with those that it inherits: each is judged, told and asked on its own.
const POLICIES_MAX: usize = 16;
/// How many hosts and groups one `may move` may name.
const MOVE_HOSTS_MAX: usize = 256;
/// The largest quota, in thousandths.
const QUOTA_MILLI_MAX: u64 = 1_000_000_000_000;

/// What may stand behind `may`, and how.
const MAY: [(&str, &str); 4] = [
    ("move", "`may move HOST|@GROUP …`"),
    ("scale", "`may scale CLASS A..B`"),
    ("cloud", "`may cloud Nh/day`"),
    ("volume", "`may volume N SIZE`"),
];

/// Returns the policies of a merged host, with what is wrong left out; `origin` says who has the merged block of a level.
pub(super) fn policies<'a>(
    body: &Merged<'a>,
    origin: impl Fn(usize) -> Option<Name>,
    scope: Scope<'_, 'a>,
    definitions: &Definitions<'a>,
    expander: &mut Expander<'a>,
) -> Vec<Policy> {
    let blocks = || body.entries().filter(|entry| entry.keyword.word == "policy");
    if let Some(more) = blocks().nth(POLICIES_MAX) {
        let message = format!("a host has at most {POLICIES_MAX} policies, with those that it inherits");
        expander.report.push(Diagnostic::new(Code::PolicyLimit, more.word, message).label("one too many"));
    }
    blocks()
        .take(POLICIES_MAX)
        .filter_map(|entry| policy(entry, origin(entry.level)?, scope, definitions, expander))
        .collect()
}

fn policy<'a>(
    entry: &MergedEntry<'a>,
    origin: Name,
    scope: Scope<'_, 'a>,
    definitions: &Definitions<'a>,
    expander: &mut Expander<'a>,
) -> Option<Policy> {
    let MergedContent::Blocks(bodies) = &entry.content else { return None };
    let merged = Merged::of(bodies, scope, expander);
    let mut reader = Reader { definitions, scope: scope.block(&merged.variables), expander };
    let decider = reader.decider(&merged);
    let (every_ms, grace_ms) = match decider {
        Some(Decider::Builtin(builtin)) => usual(builtin),
        Some(Decider::Run(_)) | None => (EVERY_MS, GRACE_MS),
    };
    let every_ms = reader.duration(&merged, "every", SECOND_MS).unwrap_or(every_ms);
    let grace_ms = reader.duration(&merged, "grace", 0).unwrap_or(grace_ms);
    let tuning = reader.tuning(&merged, decider.as_ref());
    let mut may = Vec::new();
    if let Some(MergedEntry { content: MergedContent::Several(values), .. }) = merged.entry("may") {
        for value in values {
            let one = reader.may(value);
            one.into_iter().for_each(|one| add(&mut may, one));
        }
    }
    let name = entry.name.as_deref()?;
    let name = expander.name(name, entry.word, "a policy's name")?;
    Some(Policy { name, origin, decider, tuning, every_ms, grace_ms, may })
}

/// Returns how often a built-in policy is asked and how long its grace is, in milliseconds, where the file doesn't say.
fn usual(builtin: BuiltinName) -> (u64, u64) {
    let policy = match builtin {
        BuiltinName::Scale => {
            let name = Name::parse("any").expect("a literal of letters only");
            Builtin::Scale(Scale::new(name.clone(), Bounds { least: 0, most: 0 }, name))
        }
        BuiltinName::Proximity => Builtin::Proximity(Proximity::default()),
        BuiltinName::Queue => Builtin::Queue(Queue::default()),
    };
    (policy.every_ms(), policy.grace_ms())
}

/// Adds what may be done. Hosts add up; of the others the nearest wins: a host may narrow what its class says.
fn add(may: &mut Vec<May>, one: May) {
    let before = may.iter_mut().find(|before| match (&**before, &one) {
        (May::Move(_), May::Move(_))
        | (May::Cloud { .. }, May::Cloud { .. })
        | (May::Volume { .. }, May::Volume { .. }) => true,
        (May::Scale { class, .. }, May::Scale { class: other, .. }) => class == other,
        (May::Move(_) | May::Scale { .. } | May::Cloud { .. } | May::Volume { .. }, _) => false,
    });
    match (before, one) {
        (Some(May::Move(hosts)), May::Move(more)) => {
            for host in more {
                if !hosts.contains(&host) {
                    hosts.push(host);
                }
            }
        }
        (Some(before), one) => *before = one,
        (None, one) => may.push(one),
    }
}

/// Reads one policy.
struct Reader<'r, 's, 'a> {
    definitions: &'r Definitions<'a>,
    scope: Scope<'s, 'a>,
    expander: &'r mut Expander<'a>,
}

impl<'a> Reader<'_, '_, 'a> {
    fn report(&mut self, code: Code, span: Span, message: String, label: &str) {
        self.expander.report.push(Diagnostic::new(code, span, message).label(label));
    }

    fn setting(&mut self, merged: &Merged<'a>, slot: &'static str) -> Option<(String, Span)> {
        let (value, _) = merged.setting(slot)?;
        Some((self.expander.expand(value, self.scope)?, value.span()))
    }

    fn decider(&mut self, merged: &Merged<'a>) -> Option<Decider> {
        // The nearer of both wins, and one block can't have both.
        let level = |slot| merged.setting(slot).map(|(_, level)| level);
        if let (Some(run), Some(builtin)) = (level("run"), level("builtin"))
            && run == builtin
        {
            let (_, span) = self.setting(merged, "run")?;
            let message = "the policy has both `run` and `builtin`".to_owned();
            self.report(Code::ValueInvalid, span, message, "expected one of them, or none");
            return None;
        }
        if level("run") > level("builtin") {
            let (value, _) = merged.setting("run")?;
            let words = value.words().map(|word| self.expander.expand_word(word, self.scope));
            let words = words.collect::<Option<Vec<String>>>()?;
            let program = words.first()?;
            if program.starts_with('/') {
                return Some(Decider::Run(words));
            }
            let message = format!("`{program}` is no program of the guest");
            let label = "expected its absolute path, and its arguments";
            self.report(Code::ValueInvalid, value.span(), message, label);
            return None;
        }
        let (text, span) = self.setting(merged, "builtin")?;
        let found = BuiltinName::ALL.into_iter().find(|builtin| builtin.word() == text);
        if found.is_none() {
            let diagnostic =
                Diagnostic::new(Code::ValueInvalid, span, format!("there is no built-in policy `{text}`"))
                    .label("expected `scale`, `proximity` or `queue`");
            let known = BuiltinName::ALL.map(BuiltinName::word);
            self.expander.report.push_unknown(diagnostic, span, &text, known);
        }
        found.map(Decider::Builtin)
    }

    fn duration(&mut self, merged: &Merged<'a>, slot: &'static str, least_ms: u64) -> Option<u64> {
        let (text, span) = self.setting(merged, slot)?;
        let parsed = milliseconds(&text).filter(|ms| (least_ms..=DAY_MS).contains(ms));
        if parsed.is_none() {
            let message = format!("`{text}` cannot be `{slot}`");
            let label = format!("expected {}s to 24h, such as `5s`, `15min` or `1h`", least_ms / SECOND_MS);
            self.report(Code::ValueInvalid, span, message, &label);
        }
        parsed
    }

    /// Reads what a built-in policy reads, and how; says so where the policy that decides has no use for it.
    fn tuning(&mut self, merged: &Merged<'a>, decider: Option<&Decider>) -> Tuning {
        let uses: &[&str] = match decider {
            Some(Decider::Builtin(BuiltinName::Scale)) => &["gauge", "quota", "window"],
            Some(Decider::Builtin(BuiltinName::Proximity)) => &["gauge", "window"],
            Some(Decider::Builtin(BuiltinName::Queue)) => &["gauge"],
            Some(Decider::Run(_)) => &[],
            // A class may leave what decides to those that have it.
            None => &["gauge", "quota", "window"],
        };
        let level = |slot| merged.setting(slot).map(|(_, level)| level);
        let decides = level("run").max(level("builtin"));
        for slot in ["gauge", "quota", "window"].into_iter().filter(|slot| !uses.contains(slot)) {
            // What is inherited was for what decided there.
            if level(slot) < decides {
                continue;
            }
            if let Some((_, span)) = self.setting(merged, slot) {
                let message = format!("nothing in this policy reads `{slot}`");
                let label = "all `builtin`s read `gauge`, `scale` and `proximity` read `window`, `scale` reads `quota`";
                self.report(Code::ValueInvalid, span, message, label);
            }
        }
        let reads = |slot: &&'static str| uses.contains(slot);
        let gauge = Some("gauge").filter(reads).and_then(|slot| self.setting(merged, slot));
        let gauge = gauge.and_then(|(text, span)| self.expander.name(&text, span, "a gauge's name"));
        let quota = Some("quota").filter(reads).and_then(|slot| self.setting(merged, slot));
        let quota_milli = quota.and_then(|(text, span)| {
            let parsed = thousandths(&text).filter(|milli| (1..=QUOTA_MILLI_MAX).contains(milli));
            if parsed.is_none() {
                let message = format!("`{text}` cannot be `quota`");
                let label = "expected a number such as `25` or `0.5`, with at most three decimals";
                self.report(Code::ValueInvalid, span, message, label);
            }
            parsed
        });
        let window = Some("window").filter(reads);
        let window_ms = window.and_then(|slot| self.duration(merged, slot, SECOND_MS));
        Tuning { gauge, quota_milli, window_ms }
    }

    fn may(&mut self, value: &Value<'a>) -> Option<May> {
        let text = self.expander.expand(value, self.scope)?;
        let words: Vec<&str> = text.split_whitespace().collect();
        // A variable may be several words.
        let written: Vec<Span> = value.words().map(|word| word.span).collect();
        let is_plain = written.len() == words.len();
        let span = |at: usize| written.get(at).copied().filter(|_| is_plain).unwrap_or(value.span());
        let (verb, rest) = words.split_first()?;
        match *verb {
            "move" => self.may_move(rest, |at| span(at + 1), value.span()),
            "scale" => self.may_scale(rest, |at| span(at + 1), value.span()),
            "cloud" => self.may_cloud(rest, value.span()),
            "volume" => self.may_volume(rest, value.span()),
            other => {
                let diagnostic =
                    Diagnostic::new(Code::ValueInvalid, span(0), format!("`may {other}` is nothing"))
                        .label(format!("expected {}", MAY.map(|(_, form)| form).join(", ")));
                let known = MAY.map(|(word, _)| word);
                self.expander.report.push_unknown(diagnostic, span(0), other, known);
                None
            }
        }
    }

    fn lacks(&mut self, span: Span, verb: &str, what: &str) {
        let form = MAY.iter().find(|(word, _)| *word == verb).map_or("", |(_, form)| form);
        let message = format!("`may {verb}` lacks {what}");
        self.report(Code::ValueMissing, span, message, &format!("expected {form}"));
    }

    fn may_move(&mut self, hosts: &[&str], span: impl Fn(usize) -> Span, whole: Span) -> Option<May> {
        if hosts.is_empty() {
            self.lacks(whole, "move", "its service hosts");
            return None;
        }
        if hosts.len() > MOVE_HOSTS_MAX {
            let message = format!("{} hosts and groups are more than {MOVE_HOSTS_MAX}", hosts.len());
            self.report(Code::ValueInvalid, whole, message, "name a group instead");
            return None;
        }
        let mut named = Vec::new();
        for (at, text) in hosts.iter().enumerate() {
            let host = HostAddress((*text).to_owned());
            if text.starts_with('@') && host.group().is_none() {
                let message = format!("`{text}` is no group of service hosts");
                let label = "expected `@` and the group's name, such as `@lab`";
                self.report(Code::ValueInvalid, span(at), message, label);
            } else if !named.contains(&host) {
                named.push(host);
            }
        }
        (!named.is_empty()).then_some(May::Move(named))
    }

    fn may_scale(&mut self, words: &[&str], span: impl Fn(usize) -> Span, whole: Span) -> Option<May> {
        let Some((class, rest)) = words.split_first() else {
            self.lacks(whole, "scale", "its class");
            return None;
        };
        let known = self.class(class, span(0));
        let [range] = rest else {
            match rest {
                [] => self.lacks(whole, "scale", "its bounds"),
                [_, ..] => {
                    let message = format!("`{}` are no bounds", rest.join(" "));
                    self.report(Code::ValueInvalid, whole, message, "expected `A..B`, such as `1..7`");
                }
            }
            return None;
        };
        let numbers = range
            .split_once("..")
            .and_then(|(least, most)| Some((least.parse::<u32>().ok()?, most.parse::<u32>().ok()?)));
        match numbers {
            Some((least, most)) if least <= most && most as usize <= VMS_MAX => {
                Some(May::Scale { class: known?, least, most })
            }
            Some(_) | None => {
                let message = format!("`{range}` are no bounds");
                let label = format!("expected `A..B`, such as `1..7`: the smaller first, at most {VMS_MAX}");
                self.report(Code::ValueInvalid, span(1), message, &label);
                None
            }
        }
    }

    /// Returns a class that the project has; else that it has none is reported.
    fn class(&mut self, class: &str, span: Span) -> Option<Name> {
        let definitions = self.definitions;
        if definitions.superclasses.contains_key(class) || enumerations(definitions).any(|name| name == class)
        {
            return Name::parse(class).ok();
        }
        let message = format!("the project has no superclass and no enumeration `{class}`");
        let diagnostic = Diagnostic::new(Code::PolicyClassUnknown, span, message)
            .label("expected what there may be more of, or fewer");
        let known = definitions.superclasses.keys().map(String::as_str).chain(enumerations(definitions));
        self.expander.report.push_unknown(diagnostic, span, class, known);
        None
    }

    fn may_cloud(&mut self, words: &[&str], whole: Span) -> Option<May> {
        let hours = match words {
            [] => {
                self.lacks(whole, "cloud", "its hours");
                return None;
            }
            [one] => one.strip_suffix("h/day").and_then(|hours| hours.parse().ok()),
            [_, ..] => None,
        };
        match hours {
            Some(hours_per_day @ 1..=24) => Some(May::Cloud { hours_per_day }),
            Some(_) | None => {
                let message = format!("`{}` are no hours in the cloud", words.join(" "));
                self.report(Code::ValueInvalid, whole, message, "expected `1h/day` to `24h/day`");
                None
            }
        }
    }

    fn may_volume(&mut self, words: &[&str], whole: Span) -> Option<May> {
        let [count, size] = words else {
            if words.len() < 2 {
                self.lacks(whole, "volume", "how many and how large");
            } else {
                let message = format!("`{}` are no volumes", words.join(" "));
                self.report(Code::ValueInvalid, whole, message, "expected `N SIZE`, such as `2 10G`");
            }
            return None;
        };
        let Some(count) = count.parse().ok().filter(|count| (1..=DISKS_MAX as u32).contains(count)) else {
            let message = format!("`{count}` cannot be how many volumes there are");
            self.report(Code::ValueInvalid, whole, message, &format!("expected 1 to {DISKS_MAX}"));
            return None;
        };
        match size::disk(size) {
            Ok(DiskBytes(bytes)) if (DISK_BYTES_MIN..=DISK_BYTES_MAX).contains(&bytes) => {
                Some(May::Volume { count, size: DiskBytes(bytes) })
            }
            Ok(_) | Err(_) => {
                let message = format!("`{size}` cannot be a volume's size");
                let label = format!("expected 1M to 8T, with a unit: {}", size::UNITS);
                self.report(Code::SizeInvalid, whole, message, &label);
                None
            }
        }
    }
}

/// Returns a time in milliseconds; a number with a unit.
fn milliseconds(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit.trim_start() {
        "s" => SECOND_MS,
        "min" => 60 * SECOND_MS,
        "h" => 60 * 60 * SECOND_MS,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit_ms)
}

/// Returns a number in thousandths; it has at most three decimals.
fn thousandths(text: &str) -> Option<u64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    if !is_number(whole) || !is_number(decimals) || decimals.len() > 3 {
        return None;
    }
    let decimals: u64 = format!("{decimals:0<3}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(decimals)
}

fn enumerations<'d>(definitions: &'d Definitions<'_>) -> impl Iterator<Item = &'d str> {
    definitions.members.iter().filter_map(|member| match member {
        Member::Enumeration(name, _) => name.as_deref(),
        Member::Host(..) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_with_a_unit() {
        for (text, expect) in [
            ("5s", Some(5_000)),
            ("15 min", Some(900_000)),
            ("1h", Some(3_600_000)),
            ("0s", Some(0)),
            ("5", None),
            ("5m", None),
            ("s", None),
            ("-5s", None),
            ("1.5s", None),
            ("99999999999999999999s", None),
            ("18446744073709551615h", None),
        ] {
            assert_eq!(milliseconds(text), expect, "{text}");
        }
    }

    #[test]
    fn a_quota_is_a_number_with_at_most_three_decimals() {
        for (text, expect) in [
            ("25", Some(25_000)),
            ("0.5", Some(500)),
            ("12.125", Some(12_125)),
            ("1.0001", None),
            ("-1", None),
            ("1.", None),
            (".5", None),
            ("1e3", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(thousandths(text), expect, "{text}");
        }
    }
}
