//! Answers for people and scripts in the guest.

use std::io::{self, Write};

use mln_protocol::convert::me_json;
use mln_protocol::id::Digest;
use mln_protocol::wire::me::{MeAnswer, MePlanRow, MeRefusal, MeRevision, MeSelf, MeVm};

use super::command::Form;

/// Writes an answer: what was asked for to the one, what is in the way of it to the other.
pub(super) fn answer(
    answer: &MeAnswer,
    form: Form,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<()> {
    match form {
        Form::Json => writeln!(out, "{}", me_json(answer))?,
        Form::Text => text(answer, out, err)?,
    }
    match answer {
        MeAnswer::Status { more, .. } | MeAnswer::Log { more, .. } | MeAnswer::Plan { more, .. }
            if *more > 0 =>
        {
            writeln!(err, "and {more} more: from outside, mlnctl shows all")
        }
        _ => Ok(()),
    }
}

fn text(answer: &MeAnswer, out: &mut impl Write, err: &mut impl Write) -> io::Result<()> {
    match answer {
        MeAnswer::Me(me) => myself(me, out),
        MeAnswer::Attested(vm) => writeln!(out, "{}", whose(vm)),
        MeAnswer::Status { rows, .. } => rows.iter().try_for_each(|row| {
            let (name, state, host) = (clean(&row.name), clean(&row.state), clean(&row.service_host));
            writeln!(out, "{name:<20} {state:<9} {host}")
        }),
        MeAnswer::Log { rows, .. } => rows.iter().try_for_each(|row| writeln!(out, "{}", line(row))),
        MeAnswer::Own { gauges, policies } => {
            let ago = |ms: u64| format!("{} s ago", ms / 1000);
            for gauge in gauges {
                writeln!(
                    out,
                    "{:<20} {:<12} {}",
                    clean(&gauge.name),
                    clean(&gauge.value),
                    ago(gauge.ago_ms)
                )?;
            }
            policies.iter().try_for_each(|run| {
                writeln!(out, "policy {}, {}: {}", clean(&run.policy), ago(run.ago_ms), clean(&run.said))
            })
        }
        MeAnswer::Plan { rows, .. } if rows.is_empty() => writeln!(out, "no changes"),
        MeAnswer::Plan { rows, .. } => rows.iter().try_for_each(|row| plan_row(row, out)),
        MeAnswer::Sight(_) | MeAnswer::View(_) => Ok(()),
        MeAnswer::Done(revision) => writeln!(out, "done: {}", line(revision)),
        MeAnswer::Refused(all) => refusals(all, err),
        MeAnswer::Failed { text } => writeln!(err, "failed: {}", clean(text)),
        MeAnswer::Away => writeln!(
            err,
            "no host listens: its agent is away, or this machine was started before machines could ask\n\
             next: try again; or have it stopped and started"
        ),
        MeAnswer::Unknown => {
            writeln!(err, "failed: the host's agent is older, and doesn't know what it is asked")
        }
    }
}

/// Writes what would change: what, what of it, what it costs, and who says so; why, where that is said.
fn plan_row(row: &MePlanRow, out: &mut impl Write) -> io::Result<()> {
    let text = |text: &Option<String>| text.as_deref().map(clean).unwrap_or_default();
    let (sign, kind, act, why) = (clean(&row.sign), clean(&row.kind), clean(&row.act), clean(&row.why));
    let (name, key) = (text(&row.name), text(&row.key));
    let value = match (&row.from, &row.to) {
        (Some(from), Some(to)) => format!("{} → {}", clean(from), clean(to)),
        (Some(one), None) | (None, Some(one)) => clean(one),
        (None, None) => String::new(),
    };
    let hosts = clean(&row.service_hosts.join(","));
    let words = [sign, kind, name, key, value];
    let words: Vec<String> = words.into_iter().filter(|word| !word.is_empty()).collect();
    writeln!(out, "{:<46} {act:<8} {hosts}", words.join(" "))?;
    if why.is_empty() { Ok(()) } else { writeln!(out, "      {why}") }
}

fn whose(vm: &MeVm) -> String {
    let [name, owner, project, host] =
        [&vm.name, &vm.owner, &vm.project, &vm.service_host].map(|text| clean(text));
    format!("{name} of {owner}/{project}, on {host}, epoch {}.{}", vm.term, vm.n)
}

fn myself(me: &MeSelf, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", whose(&me.vm))?;
    writeln!(out, "revision {}", line(&me.revision))?;
    if me.policies.is_empty() {
        return writeln!(out, "may decide nothing: the project's owner can give it a `policy`");
    }
    for policy in &me.policies {
        writeln!(out, "policy {}, grace {} s", clean(&policy.name), policy.grace_ms.div_ceil(1000))?;
        for may in &policy.may {
            writeln!(out, "  {}", clean(may))?;
        }
    }
    Ok(())
}

fn line(revision: &MeRevision) -> String {
    let digest = Digest(revision.digest).short();
    let (standing, author) = (clean(&revision.standing), clean(&revision.author));
    let reason = clean(&revision.reason);
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    format!("{} {digest} {standing}, by {author}{why}", revision.number)
}

/// Writes refusals: what several hosts say alike, once.
fn refusals(all: &[MeRefusal], err: &mut impl Write) -> io::Result<()> {
    let alike = |one: &MeRefusal, other: &MeRefusal| {
        (&one.rule, &one.text, &one.who_can_change) == (&other.rule, &other.text, &other.who_can_change)
    };
    for (at, one) in all.iter().enumerate() {
        if all[..at].iter().any(|before| alike(before, one)) {
            continue;
        }
        let named = all.iter().filter(|other| alike(other, one) && !other.host.is_empty());
        let hosts: Vec<String> = named.map(|other| clean(&other.host)).collect();
        let by = if hosts.is_empty() { "the host".to_owned() } else { hosts.join(", ") };
        writeln!(err, "refused by {by}: {} (rule {})", clean(&one.text), clean(&one.rule))?;
        if !one.who_can_change.is_empty() {
            writeln!(err, "  this can be changed by {}", clean(&one.who_can_change))?;
        }
    }
    Ok(())
}

/// Returns a text without what could move a terminal's cursor.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(of: &MeAnswer) -> (String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        answer(of, Form::Text, &mut out, &mut err).expect("there is room");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (text(out), text(err))
    }

    #[test]
    fn a_refusal_names_the_rule_and_who_can_widen_it() {
        let refused = MeRefusal {
            host: "oslo".to_owned(),
            rule: "envelope".to_owned(),
            text: "no `may move` of `vm` names `atlantis`".to_owned(),
            who_can_change: "the project's\u{1b}[2J owner".to_owned(),
        };
        let (out, err) = shown(&MeAnswer::Refused(vec![refused]));
        assert_eq!(out, "");
        let expect = "refused by oslo: no `may move` of `vm` names `atlantis` (rule envelope)\n  \
                      this can be changed by the project's[2J owner\n";
        assert_eq!(err, expect);
    }

    #[test]
    fn what_several_hosts_refuse_alike_is_said_once() {
        let by = |host: &str, who: &str| MeRefusal {
            host: host.to_owned(),
            rule: "memory".to_owned(),
            text: "there is no room".to_owned(),
            who_can_change: who.to_owned(),
        };
        let (_, err) =
            shown(&MeAnswer::Refused(vec![by("oslo", "anna"), by("bergen", "anna"), by("gjovik", "")]));
        let expect = "refused by oslo, bergen: there is no room (rule memory)\n  this can be changed by anna\n\
                      refused by gjovik: there is no room (rule memory)\n";
        assert_eq!(err, expect);
        let (_, err) = shown(&MeAnswer::Refused(vec![by("", ""), by("", "")]));
        assert_eq!(err, "refused by the host: there is no room (rule memory)\n");
    }

    #[test]
    fn what_would_change_is_a_line_each() {
        let row = MePlanRow {
            service_hosts: vec!["bergen".to_owned()],
            sign: ">".to_owned(),
            kind: "host".to_owned(),
            name: Some("boss".to_owned()),
            key: Some("service_host".to_owned()),
            from: Some("oslo".to_owned()),
            to: Some("ber\u{1b}gen".to_owned()),
            act: "move".to_owned(),
            why: String::new(),
        };
        let (out, err) = shown(&MeAnswer::Plan { rows: vec![row], more: 0 });
        assert_eq!(out, "> host boss service_host oslo → bergen         move     bergen\n");
        assert_eq!(err, "");
        assert_eq!(shown(&MeAnswer::Plan { rows: Vec::new(), more: 0 }).0, "no changes\n");
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let (out, err) = shown(&MeAnswer::Status { rows: Vec::new(), more: 7 });
        assert_eq!((out.as_str(), err.contains("7 more")), ("", true));
    }
}
