//! What would come of a change: the first round of a decision without anything that is noted, reserved or promised.
//!
//! Whoever plans drafts the revision and asks each host that it changes; each host answers for its own part. Nothing here
//! changes anything, so a plan may be asked for at any time, and proves nothing about a moment later.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::io::{BuildOrder, HostRefusal, ReviseOrder};
use super::message::{Ask, Message, Refusal, Rule};
use super::{Node, draft::Draft};
use crate::id::{Digest, Name, PublicKey, VmId};
use crate::model::Fragment;
use crate::plan::{Act, Condition, Observed, PartChange, Row};
use crate::time::Now;
use crate::trust::{Domain, GuestRight, Signed, Standing, Verb, Verified};
use crate::wire;

/// Why a VM that is left out costs nothing yet.
const DISK_KEPT: &str = "the project no longer has it; its disk is kept for a while, see mlnctl gc";

/// A change that is only thought of.
#[derive(Clone, Debug)]
pub enum Intention {
    /// To build a project.
    Build(Box<BuildOrder>),
    /// To change one.
    Revise(Box<ReviseOrder>),
    /// What a VM wants for itself.
    Guest(Box<GuestRight>),
}

/// What is asked of one host.
#[derive(Clone, Debug)]
pub struct Inquiry {
    /// The host.
    pub host: PublicKey,
    /// Its name.
    pub name: Name,
    /// The question, as it would be asked if it were meant.
    pub message: Message,
}

/// What a host has to say about its part of a change that is only thought of.
#[derive(Clone, Debug)]
pub struct Consideration {
    /// The part that it would have; none where it is left out.
    pub fragment: Option<Arc<Fragment>>,
    /// The part that it has.
    pub before: Option<Arc<Fragment>>,
    /// The VMs that would come from other hosts.
    pub arriving: Vec<Name>,
    /// The VMs that would go to other hosts.
    pub leaving: Vec<Name>,
    /// The changes, each with what it costs.
    pub rows: Vec<Row>,
    /// Whether the node itself knows a reason against it; the platform may know another.
    pub verdict: Result<(), Refusal>,
}

impl Node {
    /// Returns what would be asked of which hosts, on somebody's own grants where they have some; nothing where nothing
    /// would change.
    pub fn inquiries(
        &self,
        now: Now,
        intention: &Intention,
        standing: Option<&Standing>,
    ) -> Result<Vec<Inquiry>, Vec<HostRefusal>> {
        let draft = match intention {
            Intention::Build(order) => self.draft_build(now, order),
            Intention::Revise(order) => self.draft_revision(now, order),
            Intention::Guest(right) => self.draft_guest_asked(now, right),
        };
        match draft {
            Ok(mut draft) => {
                self.charge(standing, &mut draft);
                Ok(self.inquiries_of(&draft, standing.map(Standing::chain).unwrap_or_default()))
            }
            Err(refusals) if refusals.iter().all(|refused| refused.refusal.rule == Rule::Unchanged) => {
                Ok(Vec::new())
            }
            Err(refusals) => Err(refusals),
        }
    }

    fn inquiries_of(&self, draft: &Draft, chain: Vec<Signed>) -> Vec<Inquiry> {
        let parent = draft.revision.parent.and_then(|parent| self.projects.commit(parent));
        let names: BTreeMap<PublicKey, &Name> = parent
            .into_iter()
            .flat_map(|parent| &parent.revision.hosts)
            .chain(&draft.revision.hosts)
            .map(|host| (host.key, &host.name))
            .collect();
        let inquiry = |host: &PublicKey| {
            let ask = Ask {
                host: *host,
                revision: draft.revision.clone(),
                digest: draft.digest,
                running: draft.running,
                replaces: draft.replaces,
                chain: chain.clone(),
                guest: draft.guest.clone(),
            };
            let payload = wire::encode_ask(&ask);
            let ask = Arc::new(Verified::own(&self.config.keys, Domain::Request, ask, payload));
            let fragment = draft.fragments.get(host).cloned();
            Some(Inquiry {
                host: *host,
                name: (*names.get(host)?).clone(),
                message: Message::Ask { ask, fragment },
            })
        };
        draft.answers.keys().filter_map(inquiry).collect()
    }

    /// Says what this host would answer if it were asked in earnest.
    ///
    /// Nothing is changed but how often its coordinator has asked about what guests want.
    pub fn consider(
        &mut self,
        now: Now,
        ask: &Verified<Ask>,
        fragment: Option<Arc<Fragment>>,
    ) -> Consideration {
        let stranger = || Refusal {
            rule: Rule::Grant,
            detail: format!("nobody here knows the key {} that signed this", ask.author().short()),
        };
        let judged = match self.records.member(ask.author()) {
            Some(_) => self.judge_asked(now, ask),
            None => Err(stranger()),
        };
        let part = ask.revision.host(self.me);
        let fragment = fragment.or_else(|| self.fragments.get(&part?.fragment).cloned());
        let before = self.carried_before(ask);
        let (arriving, leaving) = self.moving(ask);
        let here = self.taken_up(ask);
        let condition = |vm: &Name| self.condition(ask.revision.parent, vm);
        let change = PartChange {
            before: before.as_deref(),
            after: fragment.as_deref().filter(|_| part.is_some()),
            arriving: &arriving,
            leaving: &leaving,
            here: &here,
        };
        let memory = |vm: &Name| {
            let id = part?.ids(ask.digest).find(|id| id.name == *vm)?;
            self.records.vm(&id, self.owner(&id)?).map(|status| status.memory)
        };
        // Whoever may not even look at the project is not told what is in it.
        let sees = match &ask.guest {
            // Its owner has the project anyway.
            Some(_) => judged.is_ok(),
            None => self.judge_grants(now, ask.author(), &ask.chain, Verb::View, &ask.revision.label).is_ok(),
        };
        let mut rows =
            if sees { [change.rows(condition), change.resized(memory)].concat() } else { Vec::new() };
        if ask.revision.keep_removed_ms > 0 {
            for row in rows.iter_mut().filter(|row| row.act == Act::Remove) {
                row.why = DISK_KEPT;
            }
        }
        let returning = part.into_iter().filter(|_| sees).flat_map(|part| part.ids(ask.digest));
        let returning = returning.filter(|vm| self.may_come_back(vm)).map(|vm| Row::returning(vm.name));
        rows.splice(0..0, returning);
        let verdict = judged.and_then(|()| self.judge(ask, fragment.clone())).map(drop);
        Consideration {
            fragment: fragment.filter(|_| part.is_some()),
            before,
            arriving,
            leaving,
            rows,
            verdict,
        }
    }

    /// Returns the VMs that a revision places here, and its parent elsewhere, though they are here: this host took them over.
    fn taken_up(&self, ask: &Ask) -> Vec<Name> {
        let parent = ask.revision.parent.and_then(|parent| self.projects.commit(parent));
        let before: Vec<VmId> = parent
            .and_then(|parent| Some(parent.host(self.me)?.ids(parent.digest).collect()))
            .unwrap_or_default();
        let after = ask.revision.host(self.me).into_iter().flat_map(|host| host.ids(ask.digest));
        after
            .filter(|vm| !before.contains(vm) && vm.birth != ask.digest)
            // Whoever comes back with its disk is told of as such.
            .filter(|vm| self.vms.owns(vm) && !self.may_come_back(vm))
            .map(|vm| vm.name)
            .collect()
    }

    /// Returns how a VM of this host is that stands in a revision.
    fn condition(&self, revision: Option<Digest>, name: &Name) -> Condition {
        let part = revision
            .and_then(|revision| self.projects.commit(revision))
            .and_then(|commit| commit.host(self.me)?.ids(commit.digest).find(|vm| vm.name == *name));
        let observed = part.and_then(|vm| {
            self.owned_vms().find(|(owned, ..)| **owned == vm).map(|(_, _, observed, _)| observed.clone())
        });
        match observed {
            Some(Observed::Running(_)) => Condition::Running,
            Some(Observed::Down { .. } | Observed::Lost) => Condition::Down,
            Some(Observed::Absent) | None => Condition::Absent,
        }
    }
}
