//! S4 for guests, written from what `mesh.md` says of them.
//!
//! "Their right is the `policy` envelope in the *parent* of the revision that they sign, checked against the difference that
//! it makes. No guest revision on a contested or partial head, none that touches a policy. Moves, scalings and volumes are
//! counted in the chain of ancestors; revision times never go back. A budget belongs to the policy's definition, shared by
//! all VMs that inherit it." What the texts say this program knows, since it has written them: the core's own reading of them
//! is not asked for.
//!
//! Judged twice: each time that a host is asked, by what that host must know; and each revision that counts, by what it says,
//! unless all of those whom it changes lie.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mln_protocol::id::{Digest, Name, PublicKey};
use mln_protocol::model::Fragment;
use mln_protocol::node::Ask;
use mln_protocol::plan::{PlacedHost, fragments};
use mln_protocol::record::{Commit, Consent, Link, Record, Revision, RevisionHost, VerifiedRecord};
use mln_protocol::trust::{Decision, GuestRequest, GuestRight, Signed, Verified, Wanted};

use crate::check_signature::is_signed;
use crate::host::Honesty;
use crate::sketch::{Budget, Sketch, Text};
use crate::world::World;

/// What stands before what is signed by an owner about a guest, and by a guest.
const ATTESTATION: &[u8] = b"mln attestation 1\0";
const GUEST_REQUEST: &[u8] = b"mln guest request 1\0";

/// How far the clocks of two machines may be apart, in milliseconds.
const SKEW_MS: u64 = 120_000;

impl World {
    /// Says what is wrong with an ask in a guest's name that has come to a host.
    pub(crate) fn judge_guest(
        &self,
        node: usize,
        ask: &Verified<Ask>,
        part: Option<&Fragment>,
    ) -> Result<(), String> {
        let (Some(decision), Some(right)) = (&ask.revision.decision, &ask.guest) else {
            return Err("a decision of a guest and the right to it go together".to_owned());
        };
        if !self.index.contains_key(&ask.author()) {
            return Err("a stranger asks".to_owned());
        }
        self.judge_key(node, right)?;
        let request = &right.request;
        if decision.request != request.digest() || decision.vm != request.vm {
            return Err("the decision is another than the one that the guest has signed".to_owned());
        }
        let revision = &ask.revision;
        let (parent, before) = self.parent_of(revision)?;
        if Digest::of(&right.definition) != parent.revision.definition {
            return Err("the text that is shown is not the parent's".to_owned());
        }
        let unix_ms = self.hosts[node].clock.now(self.now_ms).unix_ms;
        if revision.made_unix_ms > unix_ms + SKEW_MS {
            return Err("it is made in the future, when every grace is over".to_owned());
        }
        if ask.replaces.is_some() || !ask.chain.is_empty() {
            return Err("it replaces another project, or comes on somebody's grants".to_owned());
        }
        let child = self.judge_decision(revision, request, &parent, &before)?;
        let expected = self.parts_of(&child)?;
        if !self.is_its_text(&parent, &before) {
            return Ok(());
        }
        self.judge_placement(revision, &parent, &expected)?;
        // "Verifiers compute the set of changed hosts themselves": what they are asked for and what the others are.
        let digest = |part: &Fragment| Digest::of(&mln_protocol::wire::encode_fragment(part));
        let other = expected
            .iter()
            .find(|(place, part)| revision.host(place.key).is_none_or(|host| host.fragment != digest(part)));
        if let Some((place, _)) = other {
            return Err(format!("the part of {} is not what the text says", place.name));
        }
        let own = self.hosts[node].keys.public();
        let mine = expected.iter().find(|(host, _)| host.key == own).map(|(_, part)| part);
        if mine != part {
            return Err("its part is not what the text says".to_owned());
        }
        self.judge_ground(revision, &parent, &expected)?;
        let had = self.parts_of(&before)?;
        self.judge_ground_at(node, ask.author(), revision, &parent, (&had, &expected))
    }

    /// Whether something was signed by whom it says; what was found right is not computed again.
    fn is_proven(&self, signed: &Signed, prefix: &[u8]) -> bool {
        let bytes = [prefix, &signed.author.0, &signed.signature, &signed.payload];
        let digest = Digest::of(&bytes.concat());
        if self.guests.proven.borrow().contains(&digest) {
            return true;
        }
        let is_right = is_signed(signed, prefix);
        if is_right {
            self.guests.proven.borrow_mut().insert(digest);
        }
        is_right
    }

    /// A guest's key is good where the newest owner has attested it, in its epoch.
    fn judge_key(&self, node: usize, right: &GuestRight) -> Result<(), String> {
        let GuestRight { attestation, request, .. } = right;
        if !self.is_proven(attestation.signed(), ATTESTATION)
            || !self.is_proven(request.signed(), GUEST_REQUEST)
        {
            return Err("a guest's right is not signed by whom it says".to_owned());
        }
        if request.author() != attestation.key || request.vm != attestation.vm {
            return Err("a guest's request is signed with another key than its own".to_owned());
        }
        let owner = attestation.author();
        let lies = self.index.get(&owner).is_none_or(|owner| self.hosts[*owner].honesty == Honesty::Hostile);
        if !lies && !self.guests.attested.contains(&attestation.digest()) {
            return Err("its owner has never attested that key".to_owned());
        }
        if !lies && !self.guests.signed.contains_key(&request.digest()) {
            return Err("no guest has asked for that".to_owned());
        }
        // Of what liars say of who owns a VM it isn't known here what counts.
        let honest = |record: &&VerifiedRecord| {
            let author = self.index.get(&record.author());
            author.is_some_and(|author| self.hosts[*author].honesty == Honesty::Honest)
        };
        let mut claims = BTreeSet::new();
        for record in self.hosts[node].disk.links(&attestation.vm).filter(honest) {
            let Record::Link(link) = &***record else { continue };
            if link.epoch() > attestation.epoch {
                return Err(format!(
                    "the guest's key is of {}, and its VM is in {}",
                    attestation.epoch,
                    link.epoch()
                ));
            }
            if link.epoch() == attestation.epoch && matches!(link, Link::Claim(_)) {
                claims.insert(record.author());
            }
        }
        if !claims.is_empty() && !claims.contains(&owner) {
            return Err("whoever has attested the guest's key doesn't own its VM".to_owned());
        }
        Ok(())
    }

    /// Returns a revision's parent and the text of it.
    fn parent_of(&self, revision: &Revision) -> Result<(Commit, Arc<Text>), String> {
        let parent = revision.parent.and_then(|parent| self.oracle.revision(parent));
        let parent = parent.ok_or("a guest builds what there was not")?;
        if revision.consent != Consent::Majority || parent.revision.consent != Consent::Majority {
            return Err("a guest changes what is partial".to_owned());
        }
        if revision.label != parent.revision.label || revision.project != Some(parent.project()) {
            return Err("a guest changes another project".to_owned());
        }
        let text = self.workload.texts.get(parent.revision.definition);
        Ok((parent.clone(), text.ok_or("the parent has no text that allows a guest anything")?.clone()))
    }

    /// Judges what is decided by what the parent's text allows; returns the child's text.
    fn judge_decision(
        &self,
        revision: &Revision,
        request: &GuestRequest,
        parent: &Commit,
        before: &Text,
    ) -> Result<Arc<Text>, String> {
        if revision.parent != Some(request.parent) {
            return Err("the guest has asked for a change of another revision".to_owned());
        }
        let has_it = parent.placed().any(|(vm, _)| vm == request.vm);
        if !has_it {
            return Err("the VM that asks is none of the project's".to_owned());
        }
        let child = self.workload.texts.get(revision.definition).ok_or("its text was written by nobody")?;
        let vm = &request.vm.name;
        let wanted = before.sketch.with(vm, &request.wanted);
        let is_wanted = match (&request.wanted, wanted) {
            (Wanted::Text(text), _) => child.definition.source.as_ref() == Some(text),
            (_, Some(wanted)) => wanted == child.sketch,
            (_, None) => true,
        };
        if !is_wanted {
            return Err("its text is not what the guest has asked for".to_owned());
        }
        if let Some(against) = before.sketch.against(vm, &child.sketch) {
            return Err(against);
        }
        self.judge_grace(revision, vm, &before.sketch, parent)?;
        Ok(child.clone())
    }

    /// "Counted in the chain of ancestors": nothing is decided by a policy until its grace is over, whichever of its VMs asks.
    fn judge_grace(
        &self,
        revision: &Revision,
        vm: &Name,
        sketch: &Sketch,
        parent: &Commit,
    ) -> Result<(), String> {
        let (Some(budget), Some(envelope)) = (Budget::of(vm), sketch.envelope(vm)) else { return Ok(()) };
        let mut at = Some(parent);
        while let Some(ancestor) = at {
            if let Some(decision) = &ancestor.revision.decision
                && Budget::of(&decision.vm.name) == Some(budget)
            {
                let ago_ms = revision.made_unix_ms.saturating_sub(ancestor.revision.made_unix_ms);
                if ago_ms < envelope.grace_ms {
                    let (last, grace_ms) = (&decision.vm.name, envelope.grace_ms);
                    return Err(format!(
                        "{last} has decided {ago_ms} ms before {vm}, with {grace_ms} ms of grace"
                    ));
                }
                return Ok(());
            }
            at = ancestor.revision.parent.and_then(|parent| self.oracle.revision(parent));
        }
        Ok(())
    }

    /// Splits a text over the hosts that it names.
    pub(crate) fn parts_of(&self, text: &Text) -> Result<BTreeMap<PlacedHost, Fragment>, String> {
        let places: BTreeMap<Name, PlacedHost> = self.hosts[..self.options.nodes]
            .iter()
            .map(|host| (host.name.clone(), PlacedHost { name: host.name.clone(), key: host.keys.public() }))
            .collect();
        let vms = text.sketch.vms();
        let chosen =
            vms.iter().filter_map(|(vm, host)| Some((vm.clone(), places.get(host)?.clone()))).collect();
        let find = |address: &mln_protocol::model::HostAddress| {
            places.iter().find(|(name, _)| name.as_str() == address.0).map(|(_, place)| place.clone())
        };
        let nobody = PlacedHost { name: crate::workload::name("nobody"), key: PublicKey([0; 32]) };
        let parts = fragments(&text.project, &[], |_| nobody.clone(), &chosen, find);
        parts.map_err(|_| "its text names hosts that there are not".to_owned())
    }

    /// Whether a revision is what its text says: it isn't where somebody has gone back to what was partial.
    fn is_its_text(&self, revision: &Commit, text: &Text) -> bool {
        let digest = |part: &Fragment| Digest::of(&mln_protocol::wire::encode_fragment(part));
        let parts: BTreeSet<(PublicKey, Digest)> =
            revision.revision.hosts.iter().map(|host| (host.key, host.fragment)).collect();
        let expected = self.parts_of(text);
        expected.is_ok_and(|expected| {
            expected.iter().map(|(place, part)| (place.key, digest(part))).collect::<BTreeSet<_>>() == parts
        })
    }

    /// Each VM is where the text says, and those that stay are the same ones.
    fn judge_placement(
        &self,
        revision: &Revision,
        parent: &Commit,
        expected: &BTreeMap<PlacedHost, Fragment>,
    ) -> Result<(), String> {
        let before: BTreeMap<Name, Digest> = parent.placed().map(|(vm, _)| (vm.name, vm.birth)).collect();
        let hosts: BTreeSet<(&Name, PublicKey)> =
            revision.hosts.iter().map(|host| (&host.name, host.key)).collect();
        let wanted: BTreeSet<(&Name, PublicKey)> =
            expected.keys().map(|host| (&host.name, host.key)).collect();
        if hosts != wanted {
            return Err("it is on other hosts than its text says".to_owned());
        }
        for (place, part) in expected {
            let Some(host) = revision.host(place.key) else { continue };
            let names: Vec<&Name> = host.vms.iter().map(|vm| &vm.name).collect();
            if names != part.vms.iter().map(|vm| &vm.name).collect::<Vec<_>>() {
                return Err(format!("{} has other VMs than its text says", place.name));
            }
            let other =
                host.vms.iter().find(|vm| before.get(&vm.name).is_some_and(|birth| vm.birth != Some(*birth)));
            if let Some(other) = other {
                return Err(format!("{} is another VM than before", other.name));
            }
        }
        Ok(())
    }

    /// S4: looks at a revision that counts, once an honest host has written it down.
    pub(crate) fn check_decided(&mut self, node: usize, commit: &Commit) {
        let Some(decision) = &commit.revision.decision else { return };
        if !self.guests.looked_at.insert(commit.digest) || self.is_all_lies(commit) {
            return;
        }
        if let Err(reason) = self.judge_decided(commit, decision) {
            let host = &self.hosts[node].name;
            let rule =
                format!("S4: {host} holds a change that {} has asked for, though {reason}", decision.vm);
            self.oracle.broken(rule);
        }
    }

    /// Whether nobody who is honest was asked about it: "a host of the project that signs two things".
    fn is_all_lies(&self, commit: &Commit) -> bool {
        commit.reservations.iter().all(|reservation| {
            let host = self.index.get(&reservation.author());
            host.is_none_or(|host| self.hosts[*host].honesty == Honesty::Hostile)
        })
    }

    fn judge_decided(&self, commit: &Commit, decision: &Decision) -> Result<(), String> {
        let revision = &commit.revision;
        let request = self.guests.signed.get(&decision.request).ok_or("no guest has asked for it")?;
        if request.vm != decision.vm {
            return Err("another guest has asked for it".to_owned());
        }
        let (parent, before) = self.parent_of(revision)?;
        let child = self.judge_decision(revision, request, &parent, &before)?;
        let expected = self.parts_of(&child)?;
        if !self.is_its_text(&parent, &before) {
            return Ok(());
        }
        self.judge_placement(revision, &parent, &expected)?;
        for (place, part) in &expected {
            let digest = Digest::of(&mln_protocol::wire::encode_fragment(part));
            let is_it = revision.host(place.key).is_some_and(|host: &RevisionHost| host.fragment == digest);
            if !is_it {
                return Err(format!("the part of {} is not what its text says", place.name));
            }
        }
        self.judge_ground(revision, &parent, &expected)?;
        self.judge_ground_hosts(revision, &parent, |_| true)
    }
}
