//! `mlnctl plan` in a guest: what would come of what it might ask for, and nothing is done.
//!
//! The guest signs it as if it were meant. Every host that it concerns is asked as for anybody's `plan`, and judges it by the same
//! rules; nothing is reserved. What is signed serves nobody else: a request counts only from the host that owns the VM.

use mln_link::Reply;
use mln_link::message::{PlanRow, PlanSign};
use mln_protocol::id::{Digest, Label, VmId};
use mln_protocol::node::Intention;
use mln_protocol::wire::me::{ME_ROWS_MAX, MeAnswer, MePlanRow};

use super::itself::{GuestMade, refusal_of};
use super::status;
use super::texts::Texts;
use crate::control::{Operator, Origin, ReplySender};
use crate::event_loop::{EventLoop, Work};

/// How long a value may be that is shown, in bytes: with all rows it fits into one message.
const VALUE_BYTES_MAX: usize = 56;

/// What a guest only thinks of is answered.
#[derive(Debug)]
pub(crate) struct GuestPlanned {
    vm: VmId,
    number: u64,
    answer: MeAnswer,
}

impl EventLoop {
    /// Asks all whom it concerns what they would say to what a guest might ask for.
    pub(super) fn guest_plan(&mut self, vm: VmId, number: u64, label: Label, made: GuestMade) {
        let of = self.node.vm_project(&vm);
        let (reply, mut replies) = ReplySender::channel();
        let results = self.results.clone();
        tokio::spawn(async move {
            let mut said = Vec::new();
            while let Some(reply) = replies.recv().await {
                match reply {
                    Reply::Done => break,
                    reply => said.push(reply),
                }
            }
            let planned = GuestPlanned { vm, number, answer: answer_of(said) };
            // The loop has ended if nobody listens.
            let _ = results.send(Work::GuestPlanned(Box::new(planned))).await;
        });
        // Nobody's grants stand behind it; others are told whose project it is.
        let operator = Operator::of_host(label.owner.clone(), Origin::Peer { key: self.node.key() });
        // What was made of the parent's text is kept here, by its digest, until all have answered.
        let texts = of.map(|project| {
            let (owner, hosts) = (label.owner.clone(), self.holders(project));
            Texts::between(owner, Digest::of(&made.right.definition), made.child, hosts)
        });
        self.plan(label, &Intention::Guest(made.right), &operator, reply, texts);
    }

    /// Tells a guest what would come of it.
    pub(crate) fn guest_planned(&mut self, planned: GuestPlanned) {
        self.guests.plan_over(&planned.vm);
        self.tell_guest(&planned.vm, planned.number, planned.answer);
    }
}

/// Puts together what hosts have said.
fn answer_of(said: Vec<Reply>) -> MeAnswer {
    let (mut rows, mut refusals, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    for reply in said {
        match reply {
            Reply::PlanRows(more) => rows.extend(more),
            Reply::Refused(refusal) => refusals.push(refusal_of(refusal)),
            Reply::Failed(failure) => failures.push(format!("{}: {}", failure.what, failure.why)),
            Reply::Silent(silence) => failures.push(format!("{}: {}", silence.host, silence.text)),
            _ => {}
        }
    }
    if !refusals.is_empty() {
        return MeAnswer::Refused(refusals);
    }
    if !failures.is_empty() {
        return MeAnswer::Failed { text: failures.join("; ") };
    }
    let more = status::count(rows.len().saturating_sub(ME_ROWS_MAX));
    MeAnswer::Plan { rows: rows.into_iter().take(ME_ROWS_MAX).map(plan_row).collect(), more }
}

fn plan_row(row: PlanRow) -> MePlanRow {
    let sign = match row.sign {
        PlanSign::Added => "+",
        PlanSign::Removed => "-",
        PlanSign::Changed => "~",
        PlanSign::Moved => ">",
    };
    MePlanRow {
        service_hosts: row.hosts.iter().take(HOSTS_SHOWN_MAX).map(ToString::to_string).collect(),
        sign: sign.to_owned(),
        kind: row.kind,
        name: row.name.map(|name| name.to_string()),
        key: row.key.map(short),
        from: row.from.map(short),
        to: row.to.map(short),
        act: row.act,
        why: short(row.why),
    }
}

/// How many hosts of one row are named.
const HOSTS_SHOWN_MAX: usize = 2;

fn short(text: String) -> String {
    if text.len() <= VALUE_BYTES_MAX {
        return text;
    }
    format!("{}…", &text[..text.floor_char_boundary(VALUE_BYTES_MAX)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use mln_link::message::{Refusal, Silence};
    use mln_protocol::id::Name;
    use mln_protocol::wire::me::{ME_BYTES_MAX, encode_me_answer};

    fn name(text: &str) -> Name {
        Name::parse(text).expect("a name")
    }

    fn row(long: &str) -> PlanRow {
        PlanRow {
            hosts: vec![name(&"h".repeat(63)); 9],
            sign: PlanSign::Moved,
            kind: "host".to_owned(),
            name: Some(name(&"v".repeat(63))),
            key: Some(long.to_owned()),
            from: Some(long.to_owned()),
            to: Some(long.to_owned()),
            act: "rebuild".to_owned(),
            why: long.to_owned(),
        }
    }

    #[test]
    fn the_longest_plan_fits_into_one_message_and_says_what_it_leaves_out() {
        let said = vec![Reply::PlanRows(vec![row(&"ä".repeat(5_000)); 250])];
        let answer = answer_of(said);
        assert!(matches!(&answer, MeAnswer::Plan { rows, more: 150 } if rows.len() == 100), "{answer:?}");
        let bytes = encode_me_answer(1, answer).len();
        assert!(bytes <= ME_BYTES_MAX, "{bytes} bytes");
    }

    #[test]
    fn a_refusal_goes_before_silence_and_both_before_rows() {
        let refusal = Refusal {
            host: Some(name("oslo")),
            vm: None,
            rule: "envelope".to_owned(),
            text: "no".to_owned(),
            who_can_change: None,
        };
        let silence = Silence { host: name("bergen"), text: "is off".to_owned() };
        let mut said = vec![Reply::PlanRows(vec![row("x")]), Reply::Silent(silence), Reply::Refused(refusal)];
        let answer = answer_of(said.clone());
        assert!(matches!(&answer, MeAnswer::Refused(one) if one[0].rule == "envelope"), "{answer:?}");
        said.pop();
        assert_eq!(answer_of(said), MeAnswer::Failed { text: "bergen: is off".to_owned() });
        assert_eq!(answer_of(Vec::new()), MeAnswer::Plan { rows: Vec::new(), more: 0 });
    }
}
