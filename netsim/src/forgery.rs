//! What a host says in a scene that it must not: in the name of a stranger, or about less than it is.

use std::sync::Arc;

use mln_protocol::id::{Digest, Label, Name, PublicKey};
use mln_protocol::node::{Intention, Message, Operation, RunOrder, RunRequest};
use mln_protocol::plan::StopLimit;
use mln_protocol::record::{
    Charge, Commit, Consent, Record, Revision, RevisionHost, RevisionVm, VerifiedRecord,
};
use mln_protocol::trust::{Amount, Domain, KeyPair, Verified};
use mln_protocol::wire;

use crate::guest_lies::GuestForgery;
use crate::holder::Holder;
use crate::host::{Honesty, Host, root_key};
use crate::hostile::host_status;
use crate::scene::{Order, Script};
use crate::stage::{operation, project_of, vm_of};
use crate::world::World;

/// Something that nobody may act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forgery {
    /// A change that a stranger asks for.
    StrangerAsks,
    /// A VM that a stranger wants stopped.
    StrangerRuns,
    /// What a stranger says of itself.
    StrangerSays,
    /// A build that says that it takes nearly nothing.
    SmallCharge,
    /// All parts of a project that don't concern whoever asks for them.
    PartsWanted,
    /// A part of that project, as if it were one of a project of whoever names it.
    PartNamed,
    /// A change of a project in the name of one of its guests.
    Guest(GuestForgery),
}

/// A key that no grant is for.
fn stranger() -> KeyPair {
    KeyPair::from_secret([99; 32])
}

/// Returns a project that a host has for itself alone, and whose one part is this one.
fn named_part(host: &Host, name: Name, part: Digest) -> VerifiedRecord {
    let here = RevisionHost {
        name: host.name.clone(),
        key: host.keys.public(),
        fragment: part,
        vms: vec![RevisionVm { name: name.clone(), birth: None }],
    };
    let revision = Revision {
        project: None,
        parent: None,
        label: Label { owner: host.name.clone(), project: name },
        hosts: vec![here],
        definition: part,
        consent: Consent::Majority,
        made_unix_ms: 0,
        author: "liar".to_owned(),
        reason: "build".to_owned(),
        charge: None,
        keep_removed_ms: 0,
        decision: None,
    };
    let digest = Digest::of(&wire::encode_revision(&revision));
    let reservations = vec![wire::sign_reservation(&host.keys, digest)];
    wire::sign_record(
        &host.keys,
        Record::Commit(Commit { revision, digest, reservations, promises: Vec::new() }),
    )
}

impl World {
    /// Lets a host forge something; false where it can't now.
    pub(crate) fn forge_for_script(&mut self, script: &mut Script, node: usize, forgery: Forgery) -> bool {
        if let Forgery::Guest(forgery) = forgery {
            let mut lot = self.guests.lot.clone();
            let asks = self.forge_guest(None, forgery, &mut lot);
            self.guests.lot = lot;
            for (from, to, message) in asks {
                self.send_forged(from, to, &message);
            }
            // Not each can be said of the guest that is drawn.
            return true;
        }
        let Some(messages) = self.forgeries(script, node, forgery) else { return false };
        if forgery == Forgery::PartNamed {
            // From now on it is a liar: its own agent finds a project that it knows nothing of.
            self.hosts[node].honesty = Honesty::Hostile;
            self.oracle.exempt_hostile(self.hosts[node].keys.public());
        }
        for (to, message) in messages {
            self.send(node, to, message);
        }
        true
    }

    fn forgeries(
        &self,
        script: &mut Script,
        node: usize,
        forgery: Forgery,
    ) -> Option<Vec<(PublicKey, Message)>> {
        let everybody = || self.hosts.iter().map(|host| host.keys.public());
        let machine = self.hosts[node].answering(self.now_ms)?;
        match forgery {
            Forgery::StrangerSays => {
                let record = wire::sign_record(&stranger(), host_status(1, 1));
                Some(everybody().map(|to| (to, Message::Records(vec![record.clone()]))).collect())
            }
            Forgery::StrangerRuns => {
                let vm = vm_of(script, machine, 0)?;
                let views = machine.projects().into_iter().flat_map(|project| machine.vms(project.id));
                let view = views.into_iter().find(|view| view.status.vm == vm)?;
                let request = RunRequest {
                    owner: view.owner,
                    vm,
                    epoch: view.status.epoch,
                    seen_counter: view.status.run_counter,
                    order: RunOrder::Down(StopLimit::Now),
                    made_unix_ms: 0,
                    chain: Vec::new(),
                };
                let payload = wire::encode_run_request(&request);
                let request = Verified::own(&stranger(), Domain::Request, request, payload);
                Some(vec![(view.owner, Message::Run(Arc::new(request)))])
            }
            Forgery::PartsWanted => {
                let project = project_of(script, machine)?;
                let parts = self.oracle.revision(project.0)?.revision.hosts.iter().map(|host| host.fragment);
                let wanted = parts.flat_map(|part| everybody().map(move |to| (to, part)));
                let own = self.hosts[node].keys.public();
                let wanted = wanted.filter(|(to, _)| *to != own);
                Some(wanted.map(|(to, part)| (to, Message::FragmentWanted(part))).collect())
            }
            Forgery::PartNamed => {
                let project = project_of(script, machine)?;
                let part = self.oracle.revision(project.0)?.revision.hosts.first()?.fragment;
                let record = named_part(&self.hosts[node], script.label.project.clone(), part);
                let own = self.hosts[node].keys.public();
                let others = everybody().filter(|to| *to != own);
                Some(others.map(|to| (to, Message::Records(vec![record.clone()]))).collect())
            }
            Forgery::Guest(_) => None,
            Forgery::StrangerAsks => self.asks(script, node, Order::Change(0), &stranger(), None),
            Forgery::SmallCharge => {
                let standing = Holder::Whole.standing(&root_key());
                let charge = Charge {
                    principal: standing.subject,
                    grants: standing.links.iter().map(|link| link.digest).collect(),
                    amount: Amount { memory_mib: 1, vms: 3, disk_bytes: 0 },
                };
                let keys = &self.hosts[node].keys;
                self.asks(script, node, Order::BuildOther("cheap", 64), keys, Some(charge))
            }
        }
    }

    /// Returns what a host would ask all others for, but that somebody has signed it, on an operator's grants where it
    /// says what it takes.
    fn asks(
        &self,
        script: &mut Script,
        node: usize,
        order: Order,
        keys: &KeyPair,
        charge: Option<Charge>,
    ) -> Option<Vec<(PublicKey, Message)>> {
        let host = &self.hosts[node];
        let machine = host.answering(self.now_ms)?;
        let names: Vec<String> = self.hosts.iter().map(|host| host.name.to_string()).collect();
        let intention = match operation(script, machine, order, &names)? {
            Operation::Build(order) => Intention::Build(order),
            Operation::Revise(order) => Intention::Revise(order),
            _ => return None,
        };
        let inquiries = machine.inquiries(host.clock.now(self.now_ms), &intention, None).ok()?;
        let mut asks = Vec::new();
        for inquiry in inquiries {
            let Message::Ask { ask, fragment } = inquiry.message else { continue };
            let mut ask = (**ask).clone();
            if let Some(charge) = &charge {
                ask.chain = Holder::Whole.standing(&root_key()).chain();
                ask.revision.charge = Some(charge.clone());
                ask.digest = Digest::of(&wire::encode_revision(&ask.revision));
            }
            let payload = wire::encode_ask(&ask);
            let ask = Arc::new(Verified::own(keys, Domain::Request, ask, payload));
            asks.push((inquiry.host, Message::Ask { ask, fragment }));
        }
        (!asks.is_empty()).then_some(asks)
    }
}
