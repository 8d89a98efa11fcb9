//! On whose grants a request comes: judged once, by the host that reserves or acts, by its own clock.
//!
//! A host asks others for its own users with its own grant, and for operators with theirs behind it: then both must
//! allow what is asked. What others have accepted is never judged again by this, and no record is refused for it.

use super::Node;
use super::io::{OpId, Output};
use super::message::{Ask, Refusal, Rule};
use super::propose::Goal;
use crate::id::{Digest, Label, ProjectId, PublicKey};
use crate::model::Fragment;
use crate::record::{Charge, Commit, Consent, Record, VerifiedRecord};
use crate::time::Now;
use crate::trust::{
    AdmitError, Amount, Revocation, ScopeError, Signed, Standing, Verb, Verified, admit, standing_of,
};

/// The end of time is not judged: what a member was let in with was judged by whoever let it in.
const LONG_AGO: Now = Now { mono_ms: 0, unix_ms: 0 };

impl Node {
    /// Returns the root key of the mesh.
    pub(super) fn root(&self) -> PublicKey {
        self.config.chain.first().map_or(self.me, |link| link.author)
    }

    /// Returns what takes a grant back; none where nothing does.
    pub fn revocation(&self, grant: Digest) -> Option<&Verified<Record>> {
        if self.mutated_revocation_ignored() {
            return None;
        }
        self.records.revocation(grant)
    }

    /// Returns every grant that was taken back, as far as it is known here.
    pub fn revocations(&self) -> impl Iterator<Item = (PublicKey, &Revocation)> {
        self.records.revocations()
    }

    /// Returns the grants of people that are known here, the last link of each with the chain that it ends.
    pub fn grants(&self) -> Vec<Standing> {
        let root = self.root();
        self.records.grants().filter_map(|chain| standing_of(root, chain).ok()).collect()
    }

    /// Refuses a chain of which a link was revoked, for all that is known here.
    pub fn judge_revoked(&self, standing: &Standing) -> Result<(), AdmitError> {
        standing.not_revoked(|grant| self.revocation(grant).is_some())
    }

    /// Tells everybody of an operator's grants, unless it is known.
    pub(super) fn grant_seen(&mut self, now: Now, chain: Vec<Signed>) {
        let record = Record::Grant(chain);
        if self.records.get(&record.key(self.me)).is_none() {
            self.publish(now, record);
        }
    }

    /// Takes in a revocation that somebody signed, or signs one for `chain` with this host's key.
    pub(super) fn revoke(&mut self, now: Now, chain: Vec<Signed>, reason: String) {
        self.publish(now, Record::Revocation(Revocation { chain, made_unix_ms: now.unix_ms, reason }));
    }

    /// Takes in a revocation that an operator or the holder of the root key has signed, and tells everybody.
    pub(super) fn revoked_by(&mut self, now: Now, record: VerifiedRecord) {
        self.take(now, record.clone());
        self.outbox.push(Output::Broadcast(record));
    }

    /// Tells the edge of all grants that were taken back: it refuses connections.
    pub(super) fn tell_revoked(&mut self) {
        let all: Vec<Digest> = self.records.revocations().map(|(_, revocation)| revocation.grant()).collect();
        for grant in all {
            if self.revocation(grant).is_some() {
                self.outbox.push(Output::Revoked(grant));
            }
        }
    }

    /// Refuses what neither the author of a request nor whoever it is passed on for may do; returns the grants of the
    /// latter.
    pub(super) fn judge_grants(
        &self,
        now: Now,
        author: PublicKey,
        chain: &[Signed],
        verb: Verb,
        label: &Label,
    ) -> Result<Option<Standing>, Refusal> {
        let refuse = |detail: String| Refusal { rule: Rule::Grant, detail };
        let now = if self.mutated_grant_expiry_ignored() { LONG_AGO } else { now };
        let member = self.records.member(author);
        // What this host's own users ask for, it is asked for by nobody else: its socket has judged them.
        let is_judged = author != self.me
            && !(member.is_none() && self.mutated_strangers_heard())
            && !(member.is_some() && self.mutated_member_not_judged());
        if is_judged {
            let member = member.ok_or_else(|| {
                refuse(format!("nobody here knows the key {} that signed this", author.short()))
            })?;
            let who = member.name.to_string();
            let standing = admit(self.root(), &member.chain, author, now)
                .map_err(|error| refuse(format!("{who}: {error}")))?;
            self.judge_standing(&standing, &who, verb, label)?;
        }
        let Some(last) = chain.last().filter(|_| !self.mutated_asker_not_judged()) else { return Ok(None) };
        let standing = standing_of(self.root(), chain)
            .and_then(|named| admit(self.root(), chain, named.subject, now))
            .or_else(|error| self.unless_widened(chain, now, error))
            .map_err(|error| refuse(format!("the grants of who asked for it: {error}")))?;
        let who = standing.name.as_ref().map_or_else(|| last.author.short(), ToString::to_string);
        self.judge_standing(&standing, &who, verb, label)?;
        Ok(Some(standing))
    }

    pub(super) fn judge_standing(
        &self,
        standing: &Standing,
        who: &str,
        verb: Verb,
        label: &Label,
    ) -> Result<(), Refusal> {
        let refuse = |detail: String| Refusal { rule: Rule::Grant, detail };
        self.judge_revoked(standing).map_err(|error| refuse(format!("{who}: {error}")))?;
        let on_project = match standing.allows_on(verb, label) {
            Err(ScopeError::Verb(_)) if self.mutated_grant_verb_ignored() => standing.covers(label),
            Err(ScopeError::Project { .. }) if self.mutated_grant_projects_ignored() => Ok(()),
            judged => judged,
        };
        let on_host = || match standing.covers_host(&self.config.name, &self.config.groups) {
            Err(_) if self.mutated_grant_hosts_ignored() => Ok(()),
            judged => judged,
        };
        on_project
            .and_then(|()| on_host())
            .map_err(|error| refuse(format!("{who} may not {} {label} here: {error}", verb.word())))
    }

    /// Passes over a chain whose links allow more than those before them: only a mutation does.
    #[cfg(feature = "mutants")]
    fn unless_widened(&self, chain: &[Signed], now: Now, error: AdmitError) -> Result<Standing, AdmitError> {
        match error {
            AdmitError::Widened { .. } if self.config.mutation == Some(super::Mutation::GrantWidened) => {
                crate::trust::admit_widened(self.root(), chain, now)
            }
            error => Err(error),
        }
    }

    #[cfg(not(feature = "mutants"))]
    fn unless_widened(&self, _: &[Signed], _: Now, error: AdmitError) -> Result<Standing, AdmitError> {
        Err(error)
    }

    /// Refuses a request to change a project by the grants that it comes with.
    pub(super) fn judge_ask(&self, now: Now, ask: &Verified<Ask>) -> Result<(), Refusal> {
        let revision = &ask.revision;
        match (&ask.guest, &revision.decision) {
            (Some(right), Some(decision)) => return self.judge_guest(now, ask, right, decision),
            (None, None) => {}
            (Some(_), None) | (None, Some(_)) => {
                let detail = "what a VM decided on says so, and brings its right along".to_owned();
                return Err(Refusal { rule: Rule::Malformed, detail });
            }
        }
        let verb = match revision.parent {
            _ if revision.hosts.is_empty() => Verb::Remove,
            None => Verb::Build,
            Some(_) => Verb::Upgrade,
        };
        let label = &revision.label;
        let standing = self.judge_grants(now, ask.author(), &ask.chain, verb, label)?;
        if let Some(removed) = ask.replaces.and_then(|project| self.label(project)) {
            self.judge_grants(now, ask.author(), &ask.chain, Verb::Remove, &removed)?;
        }
        if revision.consent == Consent::Partial && !self.mutated_partial_for_anybody() {
            self.judge_grants(now, ask.author(), &ask.chain, Verb::Partial, label)?;
        }
        let Some(standing) = standing.filter(|_| !revision.hosts.is_empty()) else { return Ok(()) };
        let named = revision.charge.as_ref().is_some_and(|charge| {
            charge.principal == standing.subject
                && charge.grants.iter().eq(standing.links.iter().map(|link| &link.digest))
        });
        if !named {
            let detail = "the revision doesn't name the grants on which it was made".to_owned();
            return Err(Refusal { rule: Rule::Malformed, detail });
        }
        self.judge_limits(ask, &standing)
    }

    /// Refuses what comes to more than a link allows, with all that was made on it and is reserved for it.
    pub(super) fn judge_limits(&self, ask: &Ask, standing: &Standing) -> Result<(), Refusal> {
        let Some(charge) = &ask.revision.charge else { return Ok(()) };
        if charge.amount.vms != ask.revision.vm_count() as u64 && !self.mutated_charge_not_compared() {
            let detail = "the revision doesn't say how many VMs it has".to_owned();
            return Err(Refusal { rule: Rule::Malformed, detail });
        }
        let changed = [ask.replaces, ask.revision.project];
        for (index, link) in standing.links.iter().enumerate() {
            let limits = link.grant.scope.limits;
            if limits.is_none() || self.mutated_grant_limit_ignored() {
                continue;
            }
            let taken = self.taken(link.digest, &changed, ask.digest);
            if let Some(excess) = limits.excess(taken, charge.amount) {
                let detail = format!("grant {}: {excess}; remove something, or ask for less", index + 1);
                return Err(Refusal { rule: Rule::GrantLimit, detail });
            }
        }
        Ok(())
    }

    /// Refuses a part that is larger than the revision says that all parts are together.
    pub(super) fn judge_charge(&self, ask: &Ask, fragment: &Fragment) -> Result<(), Refusal> {
        match &ask.revision.charge {
            Some(charge)
                if !charge.amount.holds(Amount::of(fragment)) && !self.mutated_charge_not_compared() =>
            {
                let detail = "the revision takes more than it says".to_owned();
                Err(Refusal { rule: Rule::Malformed, detail })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Returns what is taken of a grant, in all projects and by all that this host keeps room for, but for those that
    /// are about to be changed.
    fn taken(&self, grant: Digest, changed: &[Option<ProjectId>], asked: Digest) -> Amount {
        let counts = |charge: &&Charge| charge.grants.contains(&grant);
        let heads = self
            .projects
            .heads()
            .filter(|(project, head)| !head.removes() && !changed.contains(&Some(*project)))
            .filter_map(|(_, head)| head.revision.charge.as_ref());
        let reserved = if self.mutated_reservation_not_counted() {
            Vec::new()
        } else {
            self.reservations.charges(asked, changed).collect()
        };
        let taken = heads.chain(reserved).filter(counts).map(|charge| charge.amount);
        taken.fold(Amount::default(), Amount::and)
    }

    /// Whether a part of a project may go to a member: one of the project's hosts, or one that may view it.
    pub(super) fn concerns(&self, now: Now, part: Digest, member: PublicKey) -> bool {
        let named = |commit: &Commit| commit.revision.hosts.iter().any(|host| host.fragment == part);
        let mut named_somewhere = false;
        let mut by_one = false;
        // Whoever names the part of somebody else's project in one of its own doesn't get it by that.
        let by_all = self.projects.heads().all(|(project, _)| {
            let commits = || self.projects.proven(project);
            let Some(commit) = commits().find(|commit| named(commit)) else { return true };
            named_somewhere = true;
            let concerned = commits().any(|commit| commit.host(member).is_some())
                || self.judge_grants(now, member, &[], Verb::View, &commit.revision.label).is_ok();
            by_one |= concerned;
            concerned || self.mutated_fragment_by_own_name()
        });
        (named_somewhere && by_all && (by_one || !self.mutated_fragment_by_own_name()))
            || self.mutated_fragment_for_anybody()
    }

    /// Returns the grants on which an operation is carried out; none where a user of this host asked for it.
    pub(super) fn chain_of(&self, op: OpId) -> Vec<Signed> {
        self.principals.get(&op).map(Standing::chain).unwrap_or_default()
    }

    /// Returns the grants on which the hosts are asked: what takes a failed build back was allowed with the build.
    pub(super) fn chain_for(&self, op: OpId, goal: &Goal) -> Vec<Signed> {
        match goal {
            Goal::Build(_) | Goal::Revise | Goal::Remove => self.chain_of(op),
            // A VM has no grants.
            Goal::Undo(_) | Goal::Guest(_) => Vec::new(),
        }
    }

    /// Judges the chain of a host that speaks here, without looking at the clock.
    pub fn member_standing(&self, key: PublicKey) -> Option<Standing> {
        let chain = if key == self.me { &self.config.chain } else { &self.records.member(key)?.chain };
        admit(self.root(), chain, key, LONG_AGO).ok()
    }
}

/// Returns what a revision is to say of the grants on which it is made.
pub(super) fn charge_of<'a>(
    standing: &Standing,
    parts: impl Iterator<Item = Option<&'a Fragment>>,
) -> Charge {
    let amounts = parts.flatten().map(Amount::of);
    Charge {
        principal: standing.subject,
        grants: standing.links.iter().map(|link| link.digest).collect(),
        amount: amounts.fold(Amount::default(), Amount::and),
    }
}
