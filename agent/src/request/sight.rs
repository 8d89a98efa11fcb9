//! What the policies of a VM see: told whenever the guest asks, from what this host knows.
//!
//! How many there are of a class, and who shares a policy, only the project's text says; it is read once for each that a
//! project has had, as long as somebody looks at it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use mln_protocol::id::{Digest, Name, PublicKey, VmId};
use mln_protocol::model::{May, Policy};
use mln_protocol::node::{HostView, Reach};
use mln_protocol::policy::{
    Companion, DECIDED_MAX, Decided, Decision, HostSeen, Machines, Outline, Shared, Tenure, Told,
};
use mln_protocol::record::VmState;
use mln_protocol::trust::{Ground, Use, UseKind};
use mln_protocol::wire::me::MeAnswer;
use mln_protocol::wire::{MeSight, MeView};
use tracing::debug;

use super::itself::not_owned;
use crate::definition;
use crate::event_loop::{EventLoop, Work};

/// How many projects are remembered in short.
const OUTLINES_MAX: usize = 64;
/// Among how many of a project's newest revisions those are looked for that a policy has decided.
const REVISIONS_LOOKED_AT: usize = 256;
/// How many looks are worked on at a time.
const LOOKING_MAX: usize = 64;

/// How much a guest wants to see: an older one knows only the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Its policies, and what they look at.
    Sight,
    /// What the other machines measure, too.
    View,
}

impl Look {
    fn answer(self, policies: &[Policy], told: &Told, now_unix_ms: u64) -> MeAnswer {
        match self {
            Self::Sight => MeAnswer::Sight(Box::new(MeSight::new(policies, told, now_unix_ms))),
            Self::View => MeAnswer::View(Box::new(MeView::new(policies, told, now_unix_ms))),
        }
    }
}

/// What is remembered of projects whose VMs have policies.
#[derive(Debug, Default)]
pub(super) struct Sights {
    /// By the digest of the definition.
    outlines: BTreeMap<Digest, Arc<Outline>>,
    /// The same, the oldest first.
    order: VecDeque<Digest>,
    looking: usize,
}

/// A look for which all that takes a while is done.
#[derive(Debug)]
pub(crate) struct Seen {
    vm: VmId,
    number: u64,
    look: Look,
    definition: Digest,
    /// None where the text could not be had or understood.
    outline: Option<Arc<Outline>>,
    /// How long a message takes to each host that is connected, and back, in milliseconds.
    round_trips: BTreeMap<PublicKey, u32>,
}

impl Sights {
    fn keep(&mut self, definition: Digest, outline: &Arc<Outline>) {
        if self.outlines.insert(definition, Arc::clone(outline)).is_none() {
            self.order.push_back(definition);
        }
        while self.order.len() > OUTLINES_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.outlines.remove(&oldest);
            }
        }
    }
}

impl EventLoop {
    /// Begins to find out what a VM's policies see; an answer at once where it has none.
    pub(super) fn look(&mut self, vm: &VmId, number: u64, look: Look) -> Option<MeAnswer> {
        let Some((_, _, known)) = self.node.owned(vm) else { return Some(not_owned(vm)) };
        if known.setup.policies.is_empty() {
            let told = self.told(vm, &[], &Outline::default(), &BTreeMap::new());
            return Some(look.answer(&[], &told, 0));
        }
        if self.guests.sights.looking >= LOOKING_MAX {
            return Some(MeAnswer::Failed { text: "too many machines look at the same time".to_owned() });
        }
        let project = self.node.vm_project(vm)?;
        let head = self.node.heads(project)?.head();
        let revision = &self.node.revision(head)?.revision;
        let (wanted, label) = (revision.definition, revision.label.clone());
        let outline = self.guests.sights.outlines.get(&wanted).cloned();
        let (blobs, mesh, results) = (self.blobs.clone(), self.mesh.clone(), self.results.clone());
        let (hosts, vm) = (self.holders(project), vm.clone());
        self.guests.sights.looking += 1;
        tokio::spawn(async move {
            let outline = match outline {
                Some(outline) => Some(outline),
                None => {
                    let found = definition::find(&blobs, &mesh, &[wanted], &hosts).await;
                    let reading = tokio::task::spawn_blocking(move || {
                        let (_, definition) = found?;
                        let ground = Ground::of(&definition, &label);
                        let ground = ground.map_err(|error| debug!(%error, "a text has no outline")).ok()?;
                        Some(Arc::new(Outline::of(ground.project())))
                    });
                    reading.await.ok().flatten()
                }
            };
            let peers = mesh.peers().await.into_iter();
            let round_trips = peers.filter_map(|peer| {
                let connection = peer.connection?;
                let ms = connection.round_trip.map_or(0, |time| time.as_millis());
                Some((peer.key, u32::try_from(ms).unwrap_or(u32::MAX)))
            });
            let seen =
                Seen { vm, number, look, definition: wanted, outline, round_trips: round_trips.collect() };
            // The loop has ended if nobody listens.
            let _ = results.send(Work::Seen(Box::new(seen))).await;
        });
        None
    }

    /// Tells a VM what its policies see.
    pub(crate) fn seen(&mut self, seen: Seen) {
        let Seen { vm, number, look, definition, outline, round_trips } = seen;
        self.guests.sights.looking -= 1;
        let Some(outline) = outline else {
            let text =
                "the project's text, which says what there is of each class, can't be had now".to_owned();
            return self.tell_guest(&vm, number, MeAnswer::Failed { text });
        };
        self.guests.sights.keep(definition, &outline);
        let Some((_, _, known)) = self.node.owned(&vm) else {
            return self.tell_guest(&vm, number, not_owned(&vm));
        };
        let policies = &known.setup.policies;
        let mut told = self.told(&vm, policies, &outline, &round_trips);
        if look == Look::View {
            told.machines = self.other_machines(&vm);
        }
        self.tell_guest(&vm, number, look.answer(policies, &told, self.clock.now().unix_ms));
    }

    fn told(
        &self,
        vm: &VmId,
        policies: &[Policy],
        outline: &Outline,
        round_trips: &BTreeMap<PublicKey, u32>,
    ) -> Told {
        let mays = || policies.iter().flat_map(|policy| &policy.may);
        let classes = mays().filter_map(|may| match may {
            May::Scale { class, .. } => Some((class.clone(), *outline.classes.get(class)?)),
            May::Move(_) | May::Cloud { .. } | May::Volume { .. } => None,
        });
        let may_go = |host: &HostView| {
            mays().any(|may| match may {
                May::Move(named) => named.iter().any(|address| match address.group() {
                    Some(group) => host.status.as_ref().is_some_and(|status| status.groups.contains(&group)),
                    None => address.0 == host.name.as_str(),
                }),
                May::Scale { .. } | May::Cloud { .. } | May::Volume { .. } => false,
            })
        };
        // The own one first: it is never among those for which there is no room.
        let mut hosts = self.node.hosts();
        hosts.sort_by_key(|host| host.reach != Reach::Here);
        let hosts =
            hosts.into_iter().filter(|host| host.reach == Reach::Here || may_go(host)).map(|host| HostSeen {
                round_trip_ms: match host.reach {
                    Reach::Here => Some(0),
                    Reach::Connected => Some(round_trips.get(&host.key).copied().unwrap_or(0)),
                    Reach::Away => None,
                },
                site: host.name.clone(),
                name: host.name,
                tenure: Tenure::Owned,
            });
        Told {
            vm: vm.name.clone(),
            host: self.identity.name.clone(),
            classes: classes.collect(),
            volumes: 0,
            hosts: hosts.collect(),
            cloud_spent_ms: 0,
            machines: Machines::new(),
            shared: policies
                .iter()
                .map(|policy| (policy.name.clone(), self.shared(vm, policy, outline)))
                .collect(),
        }
    }

    /// Returns who shares a policy with a VM, and what was decided by it.
    fn shared(&self, vm: &VmId, policy: &Policy, outline: &Outline) -> Shared {
        let Some(project) = self.node.vm_project(vm) else { return Shared::default() };
        let own = [vm.name.clone()];
        let key = (policy.origin.clone(), policy.name.clone());
        let names: &[Name] = outline.sharing.get(&key).map_or(&own, Vec::as_slice);
        let machines = if names.len() > 1 { self.node.vms(project) } else { Vec::new() };
        let runs = |name: &Name| {
            // It asks, so it runs.
            *name == vm.name
                || machines.iter().any(|machine| {
                    machine.status.vm.name == *name
                        && machine.status.state == VmState::Up
                        && self.is_there(machine.owner)
                })
        };
        let vms = names.iter().map(|name| Companion { vm: name.clone(), runs: runs(name) });
        let decided = self.node.newest(project).take(REVISIONS_LOOKED_AT).filter_map(|view| {
            let revision = &view.commit.revision;
            let is_by = |one: &&Use| one.origin == policy.origin && one.policy == policy.name;
            let used = revision.decision.as_ref()?.uses.iter().find(is_by)?;
            Some(Decided { at_ms: revision.made_unix_ms, decision: decision(&used.kind) })
        });
        let mut decided: Vec<Decided> = decided.take(DECIDED_MAX).collect();
        decided.reverse();
        Shared { vms: vms.collect(), decided }
    }

    /// Whether a host is this one or connected.
    fn is_there(&self, host: PublicKey) -> bool {
        host == self.node.key() || self.connected.contains(&host)
    }
}

fn decision(kind: &UseKind) -> Decision {
    match kind {
        // A group stands for the host that was chosen from it: what counts is when.
        UseKind::Move { to } => {
            Name::parse(to.0.trim_start_matches('@')).map_or(Decision::Stay, |to| Decision::Move { to })
        }
        UseKind::Scale { class, to } => Decision::Scale { class: class.clone(), to: *to },
        UseKind::Volumes { .. } => Decision::AddVolume,
        UseKind::Cloud { .. } => Decision::Stay,
    }
}
