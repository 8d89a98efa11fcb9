//! What hosts are asked in the names of guests by somebody who must not: with keys that are old, stolen or nobody's, and with
//! parts and texts that are others than those that follow from what the guest has signed.
//!
//! Each is right but for one thing, so that only the rule about that is in its way.

use std::collections::BTreeMap;
use std::sync::Arc;

use mln_protocol::id::{Digest, Name, PublicKey, VmId};
use mln_protocol::model::{Fragment, HostAddress, MemoryMib};
use mln_protocol::node::limits::GUEST_KEEP_REMOVED_MS;
use mln_protocol::node::{Ask, Message, RunningVms};
use mln_protocol::plan::PlacedHost;
use mln_protocol::record::{Charge, Consent, Revision, RevisionHost, RevisionVm};
use mln_protocol::trust::{
    Amount, Attestation, Decision, Domain, GuestRequest, GuestRight, KeyPair, Use, UseKind, Verified, Wanted,
    child_of,
};
use mln_protocol::wire;

use crate::guest::Asker;
use crate::host::UNIX_MS;
use crate::lot::Lot;
use crate::sketch::{Budget, SERVERS, Sketch, Text};
use crate::workload::name;
use crate::world::World;

/// What is wrong with an ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GuestForgery {
    /// Nothing at all.
    Nothing,
    /// The key was the guest's under an earlier owner, or before.
    OldKey,
    /// The guest has not signed it, somebody else has.
    StolenName,
    /// Another guest asks, with its own key.
    OtherVm,
    /// Whoever asks has attested the key, and doesn't own the VM.
    OwnWord,
    /// A stranger has attested the key.
    Strangers,
    /// One host's part is another one.
    Part,
    /// One host is left as it was, so that nobody asks it.
    LeftOut,
    /// A VM that has not asked is elsewhere.
    Place,
    /// The text that is shown is not the parent's.
    Shown,
    /// The revision has another text than the one that follows.
    Text,
    /// The text allows more, and has more already.
    Wider,
    /// More of the class than there may be.
    Beyond,
    /// On a host where it may not be.
    Outside,
    /// Something has just been decided by the same policy.
    TooSoon,
    /// There is a decision, and no right.
    NoRight,
    /// There is a right, and no decision.
    NoDecision,
    /// The decision counts against nothing.
    NoUse,
    /// It is made so late that every grace is over.
    Future,
    /// It says nothing of the grants on which the project was made.
    Groundless,
    /// It says that it takes less of them than it does.
    Cheap,
}

impl GuestForgery {
    pub(crate) const ALL: [Self; 21] = [
        Self::Nothing,
        Self::OldKey,
        Self::StolenName,
        Self::OtherVm,
        Self::OwnWord,
        Self::Strangers,
        Self::Part,
        Self::LeftOut,
        Self::Place,
        Self::Shown,
        Self::Text,
        Self::Wider,
        Self::Beyond,
        Self::Outside,
        Self::TooSoon,
        Self::NoRight,
        Self::NoDecision,
        Self::NoUse,
        Self::Future,
        Self::Groundless,
        Self::Cheap,
    ];
}

/// How far in the future something is made that is, in milliseconds.
const FUTURE_MS: u64 = 3_600_000;

impl World {
    /// Returns what a host asks all those that a change of a lab concerns, with this wrong; nothing where no guest runs. It
    /// is this host, or whichever the lot says: the owner of the guest, where nobody else may speak for it.
    pub(crate) fn forge_guest(
        &mut self,
        by: Option<usize>,
        forgery: GuestForgery,
        lot: &mut Lot,
    ) -> Vec<(usize, PublicKey, Message)> {
        let mut askers = self.askers();
        let owns = by.is_none_or(|by| askers.iter().any(|asker| asker.node == by));
        // Who owns no guest can only say that it does.
        let forgery =
            if owns || forgery == GuestForgery::Strangers { forgery } else { GuestForgery::OwnWord };
        let is_owners = !matches!(forgery, GuestForgery::OwnWord | GuestForgery::Strangers);
        askers.retain(|asker| by.is_none_or(|by| (asker.node == by) == is_owners));
        if askers.is_empty() {
            return Vec::new();
        }
        let asker = askers.swap_remove(lot.index(askers.len()));
        let another = (asker.node + 1 + lot.index(self.options.nodes - 1)) % self.options.nodes;
        let node = if is_owners { asker.node } else { by.unwrap_or(another) };
        let Some((node, asks)) = self.forged(node, &asker, forgery, lot) else { return Vec::new() };
        self.tally.guests.forged += u64::from(!asks.is_empty());
        self.tell_event(&(forgery, node, asks.len()));
        self.guests.forged.extend(asks.iter().filter_map(|(_, ask)| match ask {
            Message::Ask { ask, .. } => Some(ask.digest),
            _ => None,
        }));
        asks.into_iter().map(|(to, ask)| (node, to, ask)).collect()
    }

    fn forged(
        &mut self,
        node: usize,
        asker: &Asker,
        forgery: GuestForgery,
        lot: &mut Lot,
    ) -> Option<(usize, Vec<(PublicKey, Message)>)> {
        let mut node = node;
        let guest = self.attest(asker)?;
        let names: Vec<Name> =
            self.hosts[..self.options.nodes].iter().map(|host| host.name.clone()).collect();
        let (wanted, text) = wish(asker, forgery, &names, lot)?;
        self.write_child(asker, &wanted, text);
        let (mut keys, mut attestation, mut vm) = (guest.keys, guest.attestation, asker.vm.clone());
        match forgery {
            GuestForgery::OldKey => {
                let before = self.guests.before.iter().rev();
                let mut before = before
                    .filter(|old| old.attestation.vm == vm && old.attestation.epoch < attestation.epoch);
                let old = before.next()?;
                (keys, attestation) = (old.keys.clone(), old.attestation.clone());
                node = *self.index.get(&attestation.author())?;
            }
            GuestForgery::StolenName => keys = KeyPair::from_secret([97; 32]),
            GuestForgery::OtherVm => {
                let mut others = self.guests.here();
                let (_, other) = others
                    .find(|((_, other), guest)| *other != vm && guest.keys.public() != keys.public())?;
                (keys, vm) = (other.keys.clone(), asker.vm.clone());
                attestation = other.attestation.clone();
            }
            GuestForgery::OwnWord | GuestForgery::Strangers => {
                keys = KeyPair::from_secret([96; 32]);
                attestation = self.own_word(node, &attestation, keys.public(), forgery);
            }
            _ => {}
        }
        let request = GuestRequest {
            vm: vm.clone(),
            parent: asker.parent.digest,
            number: lot.between(1_000, 1_000_000),
            wanted: wanted.clone(),
            reason: "load".to_owned(),
            made_unix_ms: UNIX_MS,
        };
        let request = self.guests.sign(&keys, request);
        let child = child_of(&asker.text.definition, &asker.parent.revision.label, &vm.name, &wanted).ok()?;
        let child = self.workload.texts.get(child.digest())?.clone();
        let parts = self.forged_parts(&child, forgery, &names, lot)?;
        let mut revision =
            self.forged_revision(node, asker, &child, &parts, request.digest(), &vm, &wanted)?;
        let mut definition = asker.text.bytes.clone();
        match forgery {
            GuestForgery::LeftOut => {
                // Its part is as it was, and nobody asks it.
                let old = asker.parent.revision.hosts.iter();
                let kept = old.filter(|old| old.key != self.hosts[asker.node].keys.public()).find(|old| {
                    revision.host(old.key).is_some_and(|new| {
                        new.fragment != old.fragment
                            && new.vms.iter().map(|vm| &vm.name).eq(old.vms.iter().map(|vm| &vm.name))
                    })
                })?;
                revision.hosts.iter_mut().find(|host| host.key == kept.key)?.fragment = kept.fragment;
            }
            GuestForgery::Shown => {
                let wider = Sketch { own: asker.text.sketch.own.wider(), ..asker.text.sketch.clone() };
                definition = self.workload.texts.write(wider)?.bytes.clone();
            }
            GuestForgery::Text => {
                let wider = Sketch { own: child.sketch.own.wider(), ..child.sketch.clone() };
                revision.definition = self.workload.texts.write(wider)?.digest;
            }
            GuestForgery::NoDecision => revision.decision = None,
            GuestForgery::NoUse => revision.decision.as_mut()?.uses.clear(),
            GuestForgery::Future => revision.made_unix_ms += FUTURE_MS,
            GuestForgery::Groundless => drop(revision.charge.take()?),
            GuestForgery::Cheap => {
                let charge = revision.charge.as_mut()?;
                charge.amount.vms = charge.amount.vms.checked_sub(1)?;
            }
            _ => {}
        }
        let right = GuestRight { attestation, request, definition };
        let right = (forgery != GuestForgery::NoRight).then(|| Arc::new(right));
        Some((node, self.asks_of(node, asker, &revision, &parts, right)))
    }

    /// Attests a key for a VM of somebody else, as a host or as a stranger.
    fn own_word(
        &self,
        node: usize,
        owners: &Verified<Attestation>,
        key: PublicKey,
        forgery: GuestForgery,
    ) -> Verified<Attestation> {
        let attestation = Attestation { key, boot: owners.boot + 1, ..(**owners).clone() };
        let keys = match forgery {
            GuestForgery::Strangers => KeyPair::from_secret([95; 32]),
            _ => self.hosts[node].keys.clone(),
        };
        wire::sign_attestation(&keys, attestation)
    }

    fn forged_parts(
        &self,
        child: &Text,
        forgery: GuestForgery,
        names: &[Name],
        lot: &mut Lot,
    ) -> Option<BTreeMap<PlacedHost, Fragment>> {
        let mut sketch = child.sketch.clone();
        if forgery == GuestForgery::Place {
            let elsewhere: Vec<&Name> = names.iter().filter(|host| **host != sketch.plain).collect();
            sketch.plain = (*elsewhere.get(lot.index(elsewhere.len().max(1)))?).clone();
        }
        let placed = Text::with(sketch, child.definition.clone(), child.project.clone());
        let mut parts = self.parts_of(&placed).ok()?;
        if forgery == GuestForgery::Part {
            let which = lot.index(parts.len().max(1));
            parts.values_mut().nth(which)?.vms.first_mut()?.memory = MemoryMib(96);
        }
        Some(parts)
    }

    #[expect(clippy::too_many_arguments, reason = "a revision is made of all of them")]
    fn forged_revision(
        &self,
        node: usize,
        asker: &Asker,
        child: &Text,
        parts: &BTreeMap<PlacedHost, Fragment>,
        request: Digest,
        vm: &VmId,
        wanted: &Wanted,
    ) -> Option<Revision> {
        let parent = &asker.parent;
        let births: BTreeMap<Name, Digest> = parent.placed().map(|(vm, _)| (vm.name, vm.birth)).collect();
        let host = |(place, part): (&PlacedHost, &Fragment)| RevisionHost {
            name: place.name.clone(),
            key: place.key,
            fragment: Digest::of(&wire::encode_fragment(part)),
            vms: part
                .vms
                .iter()
                .map(|vm| RevisionVm { name: vm.name.clone(), birth: births.get(&vm.name).copied() })
                .collect(),
        };
        let now = self.hosts[node].clock.now(self.now_ms);
        let stays = |vm: &Name| parts.values().any(|part| part.vms.iter().any(|there| there.name == *vm));
        let leaves_out = births.keys().any(|vm| !stays(vm));
        let kind = match wanted {
            Wanted::Scale { class, to } => UseKind::Scale { class: class.clone(), to: *to },
            Wanted::Move { to } => UseKind::Move { to: to.clone() },
            Wanted::Set { .. } | Wanted::Text(_) => {
                UseKind::Scale { class: name(SERVERS), to: child.sketch.count }
            }
        };
        let budget = Budget::of(&vm.name)?;
        let uses = vec![Use { origin: budget.origin(), policy: budget.policy(), kind }];
        Some(Revision {
            hosts: parts.iter().map(host).collect(),
            project: Some(parent.project()),
            parent: Some(parent.digest),
            definition: child.digest,
            consent: Consent::Majority,
            made_unix_ms: now.unix_ms.max(parent.revision.made_unix_ms),
            author: format!("{} of {}", vm.name, parent.revision.label),
            reason: "load".to_owned(),
            charge: parent.revision.charge.as_ref().map(|charge| {
                let vms = || parts.values().flat_map(|part| &part.vms);
                let memory_mib = vms().map(|vm| u64::from(vm.memory.0)).sum();
                let amount = Amount { vms: vms().count() as u64, memory_mib, ..charge.amount };
                Charge { amount, ..charge.clone() }
            }),
            keep_removed_ms: if leaves_out { GUEST_KEEP_REMOVED_MS } else { 0 },
            decision: Some(Decision { vm: vm.clone(), request, uses }),
            label: parent.revision.label.clone(),
        })
    }

    fn asks_of(
        &self,
        node: usize,
        asker: &Asker,
        revision: &Revision,
        parts: &BTreeMap<PlacedHost, Fragment>,
        right: Option<Arc<GuestRight>>,
    ) -> Vec<(PublicKey, Message)> {
        let digest = Digest::of(&wire::encode_revision(revision));
        let changed = asker.parent.revision.changed_hosts(asker.parent.digest, revision, digest);
        let keys = &self.hosts[node].keys;
        let ask = |host: PublicKey| {
            let ask = Ask {
                host,
                revision: revision.clone(),
                digest,
                running: RunningVms::Stop,
                replaces: None,
                chain: Vec::new(),
                guest: right.clone(),
            };
            let payload = wire::encode_ask(&ask);
            let ask = Arc::new(Verified::own(keys, Domain::Request, ask, payload));
            let part = parts.iter().find(|(place, _)| place.key == host);
            (host, Message::Ask { ask, fragment: part.map(|(_, part)| Arc::new(part.clone())) })
        };
        changed.into_iter().filter(|host| *host != keys.public()).map(ask).collect()
    }
}

/// Draws what a guest would want: what it may have, where that is not what is wrong. Where that is a whole text, with what is
/// in it.
fn wish(
    asker: &Asker,
    forgery: GuestForgery,
    hosts: &[Name],
    lot: &mut Lot,
) -> Option<(Wanted, Option<Sketch>)> {
    let (sketch, vm) = (&asker.text.sketch, &asker.vm.name);
    let may = sketch.envelope(vm)?;
    let scale = |to: u32| (Wanted::Scale { class: name(SERVERS), to }, None);
    let to = |host: &Name| (Wanted::Move { to: HostAddress(host.to_string()) }, None);
    let counts: Vec<u32> = (may.least..=may.most).filter(|count| *count != sketch.count).collect();
    let now_at = sketch.vms().get(vm)?.clone();
    let places: Vec<&Name> = may.hosts.iter().filter(|host| **host != now_at).collect();
    let outside: Vec<&Name> =
        hosts.iter().filter(|host| !may.hosts.contains(host) && **host != now_at).collect();
    match forgery {
        GuestForgery::Wider if lot.chance(300) => {
            let (own, shared) = (sketch.own.wider(), sketch.shared.wider());
            let child = Sketch { own, shared, count: may.most + 1, ..sketch.clone() };
            Some((Wanted::Text(child.text()), Some(child)))
        }
        GuestForgery::Wider => {
            let child = sketch.reaching(vm, outside.get(lot.index(outside.len().max(1)))?);
            Some((Wanted::Text(child.text()), Some(child)))
        }
        GuestForgery::Beyond => Some(scale(may.most + 1)),
        GuestForgery::Outside => Some(to(outside.get(lot.index(outside.len().max(1)))?)),
        _ if lot.chance(500) || places.is_empty() => {
            Some(scale(*counts.get(lot.index(counts.len().max(1)))?))
        }
        _ => Some(to(places[lot.index(places.len())])),
    }
}
