//! `key confirm`: whoever runs this host says that it is the right one of those with its key.

use std::collections::BTreeSet;

use mln_link::Reply;
use mln_protocol::id::PublicKey;
use mln_protocol::node::{Operation, Signing};
use tracing::warn;

use super::answer;
use crate::control::{Operator, ReplySender};
use crate::event_loop::EventLoop;
use crate::operations::Kind;

impl EventLoop {
    pub(super) async fn request_confirm_key(&mut self, operator: &Operator, reply: ReplySender) {
        match self.node.signing() {
            Signing::Doubled => {
                warn!(operator = %operator.name, "this host goes on as the right one of those with its key");
                let op = self.operations.begin(reply, Kind::Confirm, None);
                self.operate(op, Operation::GoOn, operator).await;
            }
            Signing::Asking | Signing::Confirmed | Signing::Unconfirmed => {
                let text = "nobody has heard anything under this host's key that it doesn't know; nothing was changed";
                answer(&reply, [Reply::Warning { text: text.to_owned() }]);
            }
        }
    }

    /// Returns what operators should know at once of this host; none where all is well.
    pub(super) fn warning(&self) -> Option<String> {
        match self.node.signing() {
            Signing::Doubled => {
                Some(format!("this host signs and starts nothing: {}", self.node.doubled_refusal().detail))
            }
            Signing::Asking | Signing::Confirmed | Signing::Unconfirmed => {
                self.store.warning().or_else(|| self.cut_off_warning())
            }
        }
    }

    /// Says which members have signed two things in one slot, as far as this run of the agent has seen it.
    fn cut_off_warning(&self) -> Option<String> {
        let authors: BTreeSet<PublicKey> = self.node.forks().map(|pair| pair[0].author()).collect();
        let name = |key: &PublicKey| {
            let name = self.node.member_standing(*key).and_then(|standing| standing.name);
            name.map_or_else(|| key.short(), |name| name.to_string())
        };
        let names: Vec<String> = authors.iter().map(name).collect();
        (!names.is_empty()).then(|| {
            format!(
                "{} signed two different things about one epoch of a VM, and is cut off here: see mlnctl events; where it \
                 was put back to an older state, clear that up there, then start this agent again",
                names.join(", ")
            )
        })
    }
}
