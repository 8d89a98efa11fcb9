//! By what right a VM changes its project: judged by every host that the change concerns, each from the parent's text.
//!
//! ```text
//! owner's word on the key ─► request, signed with it ─► parent's text ──made again──► text, uses, parts of the child
//!                                                                         == what the revision says, to the byte
//! ```
//!
//! Nothing is taken from whoever coordinates but where in a group a new VM goes, and which VM comes back with its disk.

use std::collections::{BTreeMap, BTreeSet};

use super::draft::{hosts_of, leaves_out};
use super::message::{Ask, Refusal, Rule, RunningVms};
use super::projects::Fate;
use super::{Node, limits};
use crate::id::{Digest, Label, Name, PublicKey, VmId};
use crate::model::{Fragment, HostAddress, Policy};
use crate::plan::{PlacedHost, PlacementError, fragments};
use crate::record::{Charge, Commit, Consent, RevisionHost};
use crate::time::Now;
use crate::trust::{
    Amount, Asked, Child, Constitution, Decision, Destination, EnvelopeError, GUEST_DEFINITION_BYTES_MAX,
    GUEST_TEXT_BYTES_MAX, GUEST_VMS_MAX, Ground, GuestRight, Spent, Standing, Surroundings, Use, UseKind,
    Verb, Verified, Wanted, admit, judge_envelope,
};
use crate::wire;

/// How long a day is, in milliseconds.
const DAY_MS: u64 = 86_400_000;

/// What a VM's policies allow of what it wants.
#[derive(Clone, Debug)]
pub(super) struct Granted {
    /// The project as it then is.
    pub(super) child: Child,
    /// What policies were used for.
    pub(super) uses: Vec<Use>,
    /// Whether the VM that asks names another service host than before.
    pub(super) moves: bool,
}

/// Returns what a revision has for its author that a VM decided on.
pub(super) fn author_of(vm: &Name, label: &Label) -> String {
    format!("{vm} of {label}")
}

fn malformed(detail: &str) -> Refusal {
    Refusal { rule: Rule::Malformed, detail: detail.to_owned() }
}

fn key_refused(detail: String) -> Refusal {
    Refusal { rule: Rule::GuestKey, detail }
}

fn envelope_refused(error: EnvelopeError) -> Refusal {
    Refusal { rule: error.rule(), detail: error.to_string() }
}

/// Refuses what is larger than any host looks at for a VM.
pub(super) fn judge_guest_sizes(right: &GuestRight) -> Result<(), Refusal> {
    let at_most = |what, found, most| {
        let large = || envelope_refused(EnvelopeError::Large { what, found, most });
        if found <= most { Ok(()) } else { Err(large()) }
    };
    at_most("a definition", right.definition.len(), GUEST_DEFINITION_BYTES_MAX)?;
    match &right.request.wanted {
        Wanted::Text(text) => at_most("a text", text.len(), GUEST_TEXT_BYTES_MAX),
        Wanted::Scale { to, .. } => {
            at_most("a count", usize::try_from(*to).unwrap_or(usize::MAX), GUEST_VMS_MAX)
        }
        Wanted::Move { .. } | Wanted::Set { .. } => Ok(()),
    }
}

impl EnvelopeError {
    /// Returns the rule by which it is refused: [`Rule::Envelope`] where another policy would allow it.
    pub fn rule(&self) -> Rule {
        match self {
            Self::Nothing => Rule::Unchanged,
            Self::ScaleElse { .. }
            | Self::NotMade { .. }
            | Self::CloudHours
            | Self::NoText
            | Self::Large { .. }
            | Self::Wrong { .. }
            | Self::Edit(_) => Rule::Malformed,
            Self::NoPolicy { .. }
            | Self::PolicyTouched { .. }
            | Self::MoveOutside { .. }
            | Self::ScaleOutside { .. }
            | Self::VolumesSpent { .. }
            | Self::VolumeLarge { .. }
            | Self::CloudSpent { .. }
            | Self::TooSoon { .. }
            | Self::Else { .. } => Rule::Envelope,
        }
    }
}

impl Node {
    /// Refuses what a VM asks for and may not, and what isn't exactly that.
    pub(super) fn judge_guest(
        &self,
        now: Now,
        ask: &Verified<Ask>,
        right: &GuestRight,
        decision: &Decision,
    ) -> Result<(), Refusal> {
        let parent = self.judge_guest_question(now, ask, right, decision)?;
        let granted = self.judge_wanted(parent, right, ask.revision.made_unix_ms)?;
        if decision.uses != granted.uses {
            return Err(malformed("the revision says something else of what was granted than what was"));
        }
        self.judge_made_again(now, ask, parent, right, &granted)
    }

    /// Judges all of it that can be judged without a look at the project's text; returns the parent.
    pub(super) fn judge_guest_question(
        &self,
        now: Now,
        ask: &Verified<Ask>,
        right: &GuestRight,
        decision: &Decision,
    ) -> Result<&Commit, Refusal> {
        if !ask.chain.is_empty() || ask.replaces.is_some() || ask.running != RunningVms::Stop {
            return Err(malformed(
                "what a VM asks for comes on no grants, replaces nothing and stops what goes",
            ));
        }
        self.judge_member(now, ask.author())?;
        self.judge_attestation(ask.author(), right)?;
        self.judge_request_key(right)?;
        let parent = self.judge_guest_parent(right)?;
        let revision = &ask.revision;
        if revision.parent != Some(parent.digest) || revision.project != Some(parent.project()) {
            return Err(malformed("the revision doesn't follow the one that the VM has seen"));
        }
        if revision.made_unix_ms > now.unix_ms.saturating_add(limits::GUEST_AHEAD_MS_MAX) {
            return Err(malformed("the revision was made later than it is: look at the clocks"));
        }
        if revision.made_unix_ms < parent.revision.made_unix_ms && !self.mutated_times_go_back() {
            return Err(malformed("the revision was made before the one that it follows"));
        }
        if decision.vm != right.request.vm || decision.request != right.request.digest() {
            return Err(malformed(
                "the revision says that another request was granted than the one that came along",
            ));
        }
        let keep_removed_ms = if leaves_out(parent, revision) { limits::GUEST_KEEP_REMOVED_MS } else { 0 };
        let says_so = revision.label == parent.revision.label
            && revision.consent == Consent::Majority
            && revision.author == author_of(&right.request.vm.name, &revision.label)
            && revision.reason == right.request.reason_given()
            && revision.keep_removed_ms == keep_removed_ms;
        if !says_so {
            return Err(malformed(
                "the revision says something else of itself than what comes of the request",
            ));
        }
        judge_guest_sizes(right)?;
        self.judge_parent(ask, parent.digest)?;
        Ok(parent)
    }

    /// Refuses a coordinator that is no member any more. What it may ask for itself doesn't matter.
    fn judge_member(&self, now: Now, author: PublicKey) -> Result<(), Refusal> {
        if author == self.me {
            return Ok(());
        }
        let refuse = |detail: String| Refusal { rule: Rule::Grant, detail };
        let member = self.records.member(author);
        let member = member.ok_or_else(|| {
            refuse(format!("nobody here knows the key {} that signed this", author.short()))
        })?;
        let standing = admit(self.root(), &member.chain, author, now)
            .and_then(|standing| self.judge_revoked(&standing).map(|()| standing));
        standing.map(drop).map_err(|error| refuse(format!("{}: {error}", member.name)))
    }

    /// Refuses a word on a guest's key that isn't that of the VM's owner in this very epoch, or that somebody else brings.
    fn judge_attestation(&self, author: PublicKey, right: &GuestRight) -> Result<(), Refusal> {
        let word = &right.attestation;
        let vm = &word.vm.name;
        if author != word.author() {
            return Err(key_refused(format!("only the host that owns {vm} speaks for the guest in it")));
        }
        if self.mutated_guest_key_kept_over_an_epoch() {
            return Ok(());
        }
        let owner = self.ledger.owner(&word.vm);
        let owner = owner
            .ok_or_else(|| key_refused(format!("nobody here knows who owns {vm}; try again in a moment")))?;
        if owner.owner != word.author() || owner.epoch != word.epoch || owner.tenure != super::Tenure::Held {
            return Err(key_refused(format!(
                "the key of {vm} is of epoch {}, and it is in epoch {} of {} by now: it has a new key with each claim",
                word.epoch,
                owner.epoch,
                self.host_name(owner.owner)
            )));
        }
        Ok(())
    }

    /// Refuses a request that isn't signed with the key that the owner attests, or is about another VM.
    pub(super) fn judge_request_key(&self, right: &GuestRight) -> Result<(), Refusal> {
        let GuestRight { attestation, request, .. } = right;
        if request.author() != attestation.key && !self.mutated_guest_signature_ignored() {
            return Err(key_refused(format!(
                "the request is not signed with the key of {}",
                attestation.vm.name
            )));
        }
        if request.vm != attestation.vm {
            return Err(key_refused(format!(
                "the key is of {}, and the request is for {}",
                attestation.vm.name, request.vm.name
            )));
        }
        Ok(())
    }

    /// Returns the revision that a guest has seen, if it is what everybody goes on from and has the VM.
    pub(super) fn judge_guest_parent(&self, right: &GuestRight) -> Result<&Commit, Refusal> {
        let request = &right.request;
        let refuse = |rule, detail: &str| Refusal { rule, detail: detail.to_owned() };
        let other = || {
            refuse(
                Rule::Parent,
                "the project is not what the VM has seen of it: it may look at it and ask again",
            )
        };
        let parent = self.projects.commit(request.parent).ok_or_else(other)?;
        let heads = self.projects.heads_of(parent.project()).ok_or_else(other)?;
        if !heads.contested.is_empty() || !heads.partial.is_empty() {
            let detail = "no VM changes a project that has partial revisions: whoever may change it settles them first";
            return Err(refuse(Rule::Contested, detail));
        }
        if heads.head() != parent.digest || parent.removes() {
            return Err(other());
        }
        if !parent.placed().any(|(vm, _)| vm == request.vm) {
            let detail = "a VM changes its own project alone, and that has no such VM";
            return Err(refuse(Rule::Envelope, detail));
        }
        self.judge_has_policy(parent, &request.vm)?;
        Ok(parent)
    }

    /// Refuses a VM that may decide nothing by the part of it that is here.
    fn judge_has_policy(&self, parent: &Commit, vm: &VmId) -> Result<(), Refusal> {
        if self.mutated_envelope_ignored() || self.mutated_envelope_read_from_child() {
            return Ok(());
        }
        let part = parent.host(self.me).and_then(|part| self.fragments.get(&part.fragment));
        match part.and_then(|part| part.vms.iter().find(|here| here.name == vm.name)) {
            Some(here) if here.setup.policies.is_empty() => {
                Err(envelope_refused(EnvelopeError::NoPolicy { vm: vm.name.clone() }))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Makes what a VM wants of the parent's text, and judges it by the parent's policies.
    pub(super) fn judge_wanted(
        &self,
        parent: &Commit,
        right: &GuestRight,
        made_unix_ms: u64,
    ) -> Result<Granted, Refusal> {
        let request = &right.request;
        let name = &request.vm.name;
        if Digest::of(&right.definition) != parent.revision.definition {
            return Err(malformed(
                "the text that came along is not that of the revision that the VM has seen",
            ));
        }
        let definition = wire::decode_definition(&right.definition)
            .map_err(|error| malformed(&format!("the project's text can't be read: {error}")))?;
        let ground = Ground::of(&definition, &parent.revision.label).map_err(envelope_refused)?;
        let child = ground.child(name, &request.wanted).map_err(envelope_refused)?;
        let before = ground.project();
        let (mut from, to) = (before.constitution(), child.constitution());
        if self.mutated_envelope_read_from_child() {
            from.mandates.clone_from(&to.mandates);
            for vm in &mut from.project.vms {
                let mandate = to.mandates.get(&vm.name);
                vm.setup.policies = mandate.map(|mandate| mandate.policies.clone()).unwrap_or_default();
            }
        }
        let policies = from.mandates.get(name).map(|mandate| mandate.policies.clone()).unwrap_or_default();
        let spent = self.spent(parent, right, &policies, made_unix_ms);
        let remade = |steps: &[_]| -> Option<Constitution> {
            if self.mutated_envelope_read_from_child() {
                return Some(to.clone());
            }
            ground.remade(name, steps, &child).map(|child| child.constitution())
        };
        let around = Surroundings { hosts: &self.destinations(), spent: &spent, remade: &remade };
        let asked = Asked { vm: name, parent: &from, child: &to, cloud_hours: 0 };
        let uses = match judge_envelope(asked, &around) {
            Err(_) if self.mutated_envelope_ignored() => Vec::new(),
            judged => judged.map_err(envelope_refused)?,
        };
        let at = |child: &Child| {
            let vm = child.project.vms.iter().find(|vm| vm.name == *name);
            vm.map(|vm| vm.service_host.clone())
        };
        let moves = at(before) != at(&child);
        Ok(Granted { child, uses, moves })
    }

    /// Returns what of a VM's policies is spent, by all who share each, in the revisions that lead to the next one.
    fn spent(
        &self,
        parent: &Commit,
        right: &GuestRight,
        policies: &[Policy],
        made_unix_ms: u64,
    ) -> BTreeMap<Name, Spent> {
        let mut spent: BTreeMap<Name, Spent> = BTreeMap::new();
        let next = |commit: &&Commit| commit.revision.parent.and_then(|parent| self.projects.commit(parent));
        for commit in std::iter::successors(Some(parent), next) {
            let Some(decision) = &commit.revision.decision else { continue };
            if self.mutated_budget_per_vm() && decision.vm != right.request.vm {
                continue;
            }
            let ago_ms = made_unix_ms.saturating_sub(commit.revision.made_unix_ms);
            for one in &decision.uses {
                let of_it = |policy: &&Policy| policy.origin == one.origin && policy.name == one.policy;
                let Some(policy) = policies.iter().find(of_it) else { continue };
                let spent = spent.entry(policy.name.clone()).or_default();
                spent.last_ms_ago = Some(spent.last_ms_ago.map_or(ago_ms, |last| last.min(ago_ms)));
                match one.kind {
                    UseKind::Volumes { count } => spent.volumes = spent.volumes.saturating_add(count),
                    UseKind::Cloud { hours } if ago_ms < DAY_MS => {
                        spent.cloud_hours = spent.cloud_hours.saturating_add(hours);
                    }
                    UseKind::Cloud { .. } | UseKind::Move { .. } | UseKind::Scale { .. } => {}
                }
            }
        }
        spent
    }

    /// Returns the service hosts that are known, each with its groups; none of them is paid for by the hour yet.
    fn destinations(&self) -> BTreeMap<Name, Destination> {
        let groups = |key| -> BTreeSet<Name> { self.groups_of(key).iter().cloned().collect() };
        let members = self.records.members();
        members
            .map(|(key, member)| {
                (member.name.clone(), Destination { groups: groups(key), ..Destination::default() })
            })
            .collect()
    }

    /// Returns the groups that a host counts itself to, as far as is known.
    fn groups_of(&self, key: PublicKey) -> &[Name] {
        if key == self.me {
            return &self.config.groups;
        }
        self.records.host(key).map(|status| status.groups.as_slice()).unwrap_or_default()
    }

    /// Returns the service host that an address names.
    pub(super) fn placed_host(&self, address: &HostAddress) -> Option<PlacedHost> {
        let key = self.records.named(&address.0)?;
        Some(PlacedHost { name: self.records.member(key)?.name.clone(), key })
    }

    /// Splits a project over the hosts where its VMs are.
    pub(super) fn lay_out(
        &self,
        child: &Child,
        placed: &BTreeMap<Name, PlacedHost>,
    ) -> Result<BTreeMap<PlacedHost, Fragment>, Refusal> {
        let here = PlacedHost { name: self.config.name.clone(), key: self.me };
        let asked = |vm: &Name| placed.get(vm).cloned().unwrap_or_else(|| here.clone());
        let find = |address: &HostAddress| self.placed_host(address);
        fragments(&child.project, &child.definition.files, asked, placed, find).map_err(|unknown| {
            let detail = match unknown.first() {
                Some(PlacementError::Vm { vm, host }) => format!("{vm}: there is no service host {host}"),
                Some(PlacementError::Switch { switch, host }) => {
                    format!("switch {switch}: there is no service host {host}")
                }
                Some(PlacementError::SwitchElsewhere { switch, host, .. }) => format!(
                    "switch {switch}: its service_host {host} would run no member of it, so it couldn't have its uplink"
                ),
                None => "its parts can't be made".to_owned(),
            };
            Refusal { rule: Rule::UnknownHost, detail }
        })
    }

    /// Returns what a revision says of grants that follows one that was made on some.
    pub(super) fn charge_after<'p>(
        &self,
        parent: &Commit,
        parts: impl Iterator<Item = &'p Fragment> + Clone,
    ) -> Option<Charge> {
        let before = parent.revision.charge.as_ref().filter(|_| !self.mutated_guest_charge_forgotten())?;
        let vms = parts.clone().map(|part| part.vms.len() as u64).sum();
        let amount = parts.map(Amount::of).fold(Amount::default(), Amount::and);
        Some(Charge { amount: Amount { vms, ..amount }, ..before.clone() })
    }

    /// Refuses a revision that is not, in all that it says, what comes of the parent's text.
    fn judge_made_again(
        &self,
        now: Now,
        ask: &Verified<Ask>,
        parent: &Commit,
        right: &GuestRight,
        granted: &Granted,
    ) -> Result<(), Refusal> {
        let revision = &ask.revision;
        let Granted { child, moves, .. } = granted;
        if revision.definition != child.digest() {
            return Err(malformed(
                "the revision has another text than what the VM asked for makes of its project's",
            ));
        }
        self.judge_places(ask.author(), parent, right, revision.hosts.as_slice(), child, *moves)?;
        let placed: BTreeMap<Name, PlacedHost> = revision
            .hosts
            .iter()
            .flat_map(|host| {
                let at = PlacedHost { name: host.name.clone(), key: host.key };
                host.vms.iter().map(move |vm| (vm.name.clone(), at.clone()))
            })
            .collect();
        let parts = self.lay_out(child, &placed)?;
        let births: BTreeMap<&Name, Option<Digest>> =
            revision.hosts.iter().flat_map(|host| &host.vms).map(|vm| (&vm.name, vm.birth)).collect();
        let hosts = hosts_of(&parts, |name| births.get(name).copied().flatten());
        if hosts != revision.hosts && !self.mutated_guest_part_not_remade() {
            let differs = |host: &&RevisionHost| !hosts.contains(host);
            let named =
                revision.hosts.iter().find(differs).map_or_else(String::new, |host| host.name.to_string());
            let detail = format!("the part of {named} is not what the project's text makes of it");
            return Err(Refusal { rule: Rule::Malformed, detail });
        }
        self.judge_guest_charge(now, ask, parent, &parts)
    }

    /// Refuses VMs that are elsewhere, or others, than what the parent and its text say.
    fn judge_places(
        &self,
        coordinator: PublicKey,
        parent: &Commit,
        right: &GuestRight,
        hosts: &[RevisionHost],
        child: &Child,
        moves: bool,
    ) -> Result<(), Refusal> {
        let wrong = |vm: &Name, what: &str| {
            let detail = format!("{vm}: the revision has it {what}, and nobody asked for that");
            Err(Refusal { rule: Rule::Malformed, detail })
        };
        let before: BTreeMap<Name, (Digest, PublicKey)> =
            parent.placed().map(|(vm, host)| (vm.name, (vm.birth, host.key))).collect();
        let after: BTreeMap<&Name, (Option<Digest>, &RevisionHost)> = hosts
            .iter()
            .flat_map(|host| host.vms.iter().map(move |vm| (&vm.name, (vm.birth, host))))
            .collect();
        for host in hosts {
            let known = parent.host(host.key).map(|host| &host.name);
            let known = known.or_else(|| self.records.member(host.key).map(|member| &member.name));
            if known != Some(&host.name) {
                return Err(malformed("the revision calls a host otherwise than it is called"));
            }
        }
        if after.len() != child.project.vms.len() {
            return Err(malformed("the revision has other VMs than the project's text"));
        }
        for vm in &child.project.vms {
            let Some((birth, host)) = after.get(&vm.name) else {
                return Err(malformed("the revision has other VMs than the project's text"));
            };
            let was = before.get(&vm.name);
            match was {
                Some((known, _)) if *birth != Some(*known) => return wrong(&vm.name, "as another one"),
                Some((_, at)) if !(moves && vm.name == right.request.vm.name) => {
                    if *at != host.key {
                        return wrong(&vm.name, "on another host");
                    }
                    continue;
                }
                Some(_) | None => {}
            }
            let returns = birth.filter(|_| was.is_none());
            if let Some(birth) = returns {
                let id = VmId { birth, name: vm.name.clone() };
                if self.projects.fate(&id) != Some(Fate::Removed) {
                    return wrong(&vm.name, "back, though it was never removed");
                }
            }
            let fits = match &vm.service_host {
                None => host.key == coordinator || returns.is_some(),
                Some(address) => match address.group() {
                    Some(group) => self.groups_of(host.key).contains(&group),
                    None => self.placed_host(address).is_some_and(|named| named.key == host.key),
                },
            };
            if !fits {
                return wrong(&vm.name, "on another host than the text says");
            }
        }
        Ok(())
    }

    /// Refuses what the grants don't allow on which people have made the project: a VM's right is no wider than theirs.
    fn judge_guest_charge(
        &self,
        now: Now,
        ask: &Verified<Ask>,
        parent: &Commit,
        parts: &BTreeMap<PlacedHost, Fragment>,
    ) -> Result<(), Refusal> {
        let revision = &ask.revision;
        if revision.charge != self.charge_after(parent, parts.values()) {
            return Err(malformed("the revision takes something else of grants than what its parts come to"));
        }
        let carried =
            |commit: &RevisionHost| commit.vms.iter().map(|vm| vm.name.clone()).collect::<BTreeSet<_>>();
        let had = parent.host(self.me).map(carried).unwrap_or_default();
        let has = revision.host(self.me).map(carried).unwrap_or_default();
        let comes = !has.is_subset(&had);
        let (Some(before), Some(charge)) = (&parent.revision.charge, &revision.charge) else {
            return self.judge_guest_growth(now, ask, comes, parts);
        };
        let grows = !before.amount.holds(charge.amount);
        if !comes && !grows {
            return Ok(());
        }
        let is_it = |standing: &Standing| {
            standing.subject == charge.principal
                && charge.grants.iter().eq(standing.links.iter().map(|link| &link.digest))
        };
        let standing = self.grants().into_iter().find(is_it).ok_or_else(|| Refusal {
            rule: Rule::GrantLimit,
            detail: "nobody here knows the grants yet on which the project was made; try again in a moment"
                .to_owned(),
        })?;
        let revoked = self.judge_revoked(&standing).map_err(|error| Refusal {
            rule: Rule::Grant,
            detail: format!(
                "the grants on which the project was made: {error}; somebody who may can upgrade it on their own, and its VMs \
                 decide again"
            ),
        });
        if !self.mutated_guest_grant_revoked_passes() {
            revoked?;
        }
        if comes && !self.mutated_guest_hosts_unchecked() {
            standing.covers_host(&self.config.name, &self.config.groups).map_err(|error| Refusal {
                rule: Rule::Grant,
                detail: format!("the grants on which the project was made: {error}"),
            })?;
        }
        if grows && !self.mutated_guest_limit_unchecked() {
            return self.judge_limits(ask, &standing);
        }
        Ok(())
    }

    /// Refuses what takes more of this host where the project was made on nobody's grants: by the user of some host. Then
    /// its coordinator must be one that may upgrade the project here, as for any other change of its.
    fn judge_guest_growth(
        &self,
        now: Now,
        ask: &Verified<Ask>,
        comes: bool,
        parts: &BTreeMap<PlacedHost, Fragment>,
    ) -> Result<(), Refusal> {
        let before = self.part_before(ask).and_then(|part| self.fragments.get(&part.fragment));
        let before = before.map(|part| Amount::of(part)).unwrap_or_default();
        let after = parts.iter().find(|(host, _)| host.key == self.me).map(|(_, part)| Amount::of(part));
        let grows = !before.holds(after.unwrap_or_default());
        if !comes && !grows || self.mutated_guest_verb_unchecked() {
            return Ok(());
        }
        let judged = self.judge_grants(now, ask.author(), &[], Verb::Upgrade, &ask.revision.label);
        judged.map(drop).map_err(|refusal| Refusal {
            detail: format!(
                "{}; whoever gave that host its grant can widen it, or somebody who may upgrade the project here does it",
                refusal.detail
            ),
            ..refusal
        })
    }
}
