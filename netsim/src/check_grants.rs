//! S4: what is asked for is done only where whoever asks may ask for it, written from what `mesh.md` says of trust.
//!
//! "Grant, expiry, revocation, envelope and budget are judged once, by the host that reserves, promises or acts, by its
//! own clock (± 2 min)." So each request is judged here as it arrives at a host, by the clock of that host and by the
//! revocations that are durable there; and a host that says yes must once have been asked in a way that was in order.

use std::collections::{BTreeMap, BTreeSet};

use mln_protocol::id::{Digest, Label, ProjectId, PublicKey};
use mln_protocol::model::Fragment;
use mln_protocol::node::{Ask, Input, Message, RunOrder, RunRequest, RunVerdict};
use mln_protocol::record::{Consent, Record, RecordKey, VerifiedRecord};
use mln_protocol::trust::{Domain, Grant, Signed, Verb, Verified};

use mln_protocol::wire;

use crate::check::Oracle;
use crate::host::{Honesty, Host, root_key};
use crate::world::World;

/// How far the clocks of two machines may be apart, in milliseconds.
const SKEW_MS: u64 = 120_000;

/// What hosts were asked for, each named by its digest.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// What was in order when a host was asked for it.
    permitted: BTreeSet<(PublicKey, Digest)>,
    /// What wasn't, and why.
    against: BTreeMap<(PublicKey, Digest), String>,
}

impl Requests {
    fn note(&mut self, host: PublicKey, request: Digest, judged: Result<(), String>) {
        match judged {
            Ok(()) => {
                self.permitted.insert((host, request));
            }
            Err(reason) => {
                self.against.insert((host, request), reason);
            }
        }
    }

    /// Says why a host must not have said yes; none where it might.
    fn against(&self, host: PublicKey, request: Digest) -> Option<&String> {
        let asked = (host, request);
        self.against.get(&asked).filter(|_| !self.permitted.contains(&asked))
    }
}

impl Oracle {
    fn check_permitted(&mut self, host: &Host, request: Digest, what: &str) {
        if let Some(reason) = self.asked.against(host.keys.public(), request) {
            let rule = format!("S4: {} {what}, though {reason}", host.name);
            self.broken(rule);
        }
    }
}

/// Judges a chain of grants at a host: each link signed by whom the one before it is for, each only narrows, and all of
/// them allow what is asked.
fn judge(host: &Host, unix_ms: u64, chain: &[Signed], verb: Verb, label: &Label) -> Result<(), String> {
    let root = root_key().public();
    let mut before: Option<Grant> = None;
    for (index, link) in chain.iter().enumerate() {
        let issuer = before.as_ref().map_or(root, |grant| grant.subject);
        let genuine = link.clone().verify(Domain::Grant, Grant::from_bytes).ok();
        let grant = genuine.filter(|_| link.author == issuer).ok_or("a grant is not genuine")?;
        let wider = before
            .as_ref()
            .is_some_and(|before| before.passes <= grant.passes || !grant.verbs.is_subset(&before.verbs));
        let ended =
            grant.not_after_unix_ms.is_some_and(|until_ms| until_ms.saturating_add(SKEW_MS) < unix_ms);
        let revoked = host.disk.record(&RecordKey::Revocation(Digest::of(&link.payload))).is_some();
        let against = [
            (wider, "allows more than the one before it"),
            (ended, "is over by this host's clock"),
            (revoked, "was taken back, and that is durable here"),
            (!grant.verbs.contains(&verb), "doesn't allow this"),
            (!grant.scope.covers_project(label), "is for other projects"),
            (!grant.scope.covers_host(&host.name, &[]), "is for other hosts"),
        ];
        if let Some((_, reason)) = against.iter().find(|(holds, _)| *holds) {
            return Err(format!("grant {} of whoever asks {reason} ({} {label})", index + 1, verb.word()));
        }
        before = Some((*grant).clone());
    }
    Ok(())
}

/// Whether an ask is for what a guest wants.
fn is_guests(ask: &Ask) -> bool {
    ask.revision.decision.is_some() || ask.guest.is_some()
}

impl World {
    /// Judges what a host is asked for, before it is.
    pub(crate) fn note_request(&mut self, node: usize, input: &Input) {
        let (request, judged) = match input {
            Input::Message { message: Message::Ask { ask, fragment }, .. } => {
                (ask.digest, self.judge_ask(node, ask, fragment.as_deref()))
            }
            Input::Message { message: Message::Run(request), .. } => {
                (request.digest(), self.judge_run(node, request))
            }
            _ => return,
        };
        if let Input::Message { message: Message::Ask { ask, .. }, .. } = input
            && is_guests(ask)
        {
            self.guests.wanted.insert(request);
        }
        self.oracle.asked.note(self.hosts[node].keys.public(), request, judged);
    }

    /// Looks at what a host answers.
    pub(crate) fn check_answer(&mut self, node: usize, message: &Message) {
        let host = &self.hosts[node];
        match message {
            // "A host of the project that signs two things": what it says of guests is the word of whoever runs it.
            Message::Answer { revision, .. }
                if host.honesty == Honesty::Hostile && self.guests.wanted.contains(revision) => {}
            // What counts already is nobody's to judge again.
            Message::Answer { revision, verdict: Ok(_) } if self.oracle.revision(*revision).is_none() => {
                self.tally.guests.believed += u64::from(self.guests.forged.contains(revision));
                self.oracle.check_permitted(host, *revision, "keeps room for a revision");
            }
            Message::RunAnswer { request, verdict: RunVerdict::Applied } => {
                self.oracle.check_permitted(host, *request, "starts or stops a VM");
            }
            _ => {}
        }
    }

    /// S4: "The source itself and the fragments travel over direct streams to the project's hosts and guests and to those with
    /// `view`."
    pub(crate) fn check_handed(&mut self, node: usize, to: PublicKey, message: &Message) {
        let Message::FragmentFound(part) = message else { return };
        if self.hosts[node].honesty == Honesty::Hostile {
            return;
        }
        let digest = Digest::of(&wire::encode_fragment(part));
        let mut named = self.oracle.with_part(digest, to).peekable();
        let known = named.peek().is_some();
        let concerned = known
            && named.all(|(commit, takes_part)| {
                takes_part || self.may(node, to, &[], Verb::View, &commit.revision.label).is_ok()
            });
        drop(named);
        if !concerned {
            let rule = format!(
                "S4: {} hands a part of a project to {}, whom it doesn't concern",
                self.hosts[node].name,
                to.short()
            );
            self.oracle.broken(rule);
        }
    }

    /// S4: what strangers have signed is not kept, unless it says by itself what gives them the right.
    pub(crate) fn check_kept(&mut self, node: usize, record: &VerifiedRecord) {
        let says_itself = matches!(***record, Record::Member(_) | Record::Revocation(_));
        if !says_itself && !self.index.contains_key(&record.author()) {
            let rule = format!("S4: {} keeps what a stranger has signed", self.hosts[node].name);
            self.oracle.broken(rule);
        }
    }

    /// Judges both who signs a request and for whom it is passed on; a host's own users are its own business.
    pub(crate) fn may(
        &self,
        node: usize,
        author: PublicKey,
        chain: &[Signed],
        verb: Verb,
        label: &Label,
    ) -> Result<(), String> {
        let host = &self.hosts[node];
        let unix_ms = host.clock.now(self.now_ms).unix_ms;
        if author != host.keys.public() {
            let member = self.index.get(&author).ok_or("a stranger asks")?;
            judge(host, unix_ms, &self.hosts[*member].chain, verb, label)?;
        }
        judge(host, unix_ms, chain, verb, label)
    }

    fn judge_run(&self, node: usize, request: &Verified<RunRequest>) -> Result<(), String> {
        let Some(born) = self.oracle.revision(request.vm.birth) else { return Ok(()) };
        let verb = match request.order {
            RunOrder::Up => Verb::Start,
            RunOrder::Down(_) => Verb::Stop,
        };
        self.may(node, request.author(), &request.chain, verb, &born.revision.label)
    }

    fn judge_ask(&self, node: usize, ask: &Verified<Ask>, fragment: Option<&Fragment>) -> Result<(), String> {
        let revision = &ask.revision;
        if is_guests(ask) {
            return self.judge_guest(node, ask, fragment);
        }
        let verb = match revision.parent {
            _ if revision.hosts.is_empty() => Verb::Remove,
            None => Verb::Build,
            Some(_) => Verb::Upgrade,
        };
        let (author, chain, label) = (ask.author(), &ask.chain, &revision.label);
        self.may(node, author, chain, verb, label)?;
        if revision.consent == Consent::Partial {
            self.may(node, author, chain, Verb::Partial, label)?;
        }
        if let Some(replaced) = ask.replaces.and_then(|project| self.oracle.revision(project.0)) {
            self.may(node, author, chain, Verb::Remove, &replaced.revision.label)?;
        }
        if chain.is_empty() || revision.hosts.is_empty() {
            return Ok(());
        }
        self.judge_amount(node, ask, fragment)
    }

    /// What a revision takes it says, and all that is made on a grant is within its limits.
    fn judge_amount(&self, node: usize, ask: &Ask, fragment: Option<&Fragment>) -> Result<(), String> {
        let links: Vec<Digest> = ask.chain.iter().map(|link| Digest::of(&link.payload)).collect();
        let charge = ask.revision.charge.as_ref().filter(|charge| charge.grants == links);
        let charge = charge.ok_or("the revision doesn't name the grants that it is made on")?;
        let vms = fragment.map_or(0, |part| part.vms.len() as u64);
        let memory = fragment.map_or(0, |part| part.vms.iter().map(|vm| u64::from(vm.memory.0)).sum());
        let here: (u64, u64) = (vms, memory);
        if charge.amount.vms < here.0 || charge.amount.memory_mib < here.1 {
            return Err("the revision takes more than it says".to_owned());
        }
        for link in &ask.chain {
            let grant = Grant::from_bytes(&link.payload).map_err(|error| error.to_string())?;
            let limits = grant.scope.limits;
            let changed = [ask.revision.project, ask.replaces];
            let taken = self.taken(node, Digest::of(&link.payload), &changed);
            let over = |limit: Option<u64>, sum: u64| limit.is_some_and(|limit| sum > limit);
            if over(limits.vms, taken.0 + charge.amount.vms)
                || over(limits.memory_mib, taken.1 + charge.amount.memory_mib)
            {
                return Err(format!(
                    "its grant is for {limits:?}, of which {taken:?} VMs and MiB are taken already"
                ));
            }
        }
        Ok(())
    }

    /// Returns how many VMs and MiB are made on a grant, for all that a host knows of other projects.
    pub(crate) fn taken(&self, node: usize, grant: Digest, changed: &[Option<ProjectId>]) -> (u64, u64) {
        let Some(machine) = &self.hosts[node].node else { return (0, 0) };
        let heads = machine
            .projects()
            .into_iter()
            .filter(|project| !changed.contains(&Some(project.id)))
            .filter_map(|project| self.oracle.revision(machine.heads(project.id)?.head()));
        let charges = heads.filter_map(|head| head.revision.charge.as_ref());
        let counted = charges.filter(|charge| charge.grants.contains(&grant)).map(|charge| charge.amount);
        counted.fold((0, 0), |(vms, memory), amount| (vms + amount.vms, memory + amount.memory_mib))
    }
}
