//! Members that lie: they hold a valid key and a grant, and do with both what the rules forbid.
//!
//! Beside its lies a hostile host runs an ordinary agent, so that others work with it. The oracle hears nothing of
//! the lies: whatever follows from one on an honest host breaks a rule.

use std::collections::VecDeque;
use std::sync::Arc;

use mln_protocol::id::{Digest, Label, Name, ProjectId, PublicKey, VmId};
use mln_protocol::model::{BootOrder, Fragment, MemoryMib, Platform};
use mln_protocol::node::{
    Ask, Message, Refusal, Rule, RunOrder, RunRequest, RunVerdict, RunningVms, SyncContent, SyncRange,
};
use mln_protocol::plan::StopLimit;
use mln_protocol::record::{
    Ballot, Claim, ClaimBasis, Commit, Consent, Epoch, HostStatus, Link, Promise, Record, RecordKey,
    Revision, RunState, Takeover, VmState, VmStatus,
};
use mln_protocol::trust::{Domain, KeyPair, Revocation, Signed, Verb, Verified};
use mln_protocol::wire;

use crate::fault::Fault;
use crate::guest_lies::GuestForgery;
use crate::host::{Honesty, root_key};
use crate::lot::Lot;
use crate::options::FAULTS_MS;
use crate::transport::Packet;
use crate::world::{Event, World};

/// How many messages a liar remembers, to repeat them.
const OVERHEARD_MAX: usize = 64;

/// How many records a liar makes up at once.
const FLOOD: usize = 40;

/// How many messages a liar sends at once.
const BURST: usize = 100;

/// A host that lies.
pub(crate) struct Liar {
    node: usize,
    lot: Lot,
    overheard: VecDeque<Message>,
}

impl Liar {
    pub(crate) fn new(node: usize, seed: u64) -> Self {
        Self { node, lot: Lot::of(seed, &format!("liar {node}")), overheard: VecDeque::new() }
    }
}

/// A kind of lie.
#[derive(Clone, Copy, Debug)]
enum Lie {
    /// What somebody once said, again.
    Replay,
    /// Two records in one slot, with one counter.
    Equivocate,
    /// Bytes that were tampered with.
    Garbage,
    /// Records about VMs that nobody has.
    Flood,
    /// Questions and answers that nobody waits for.
    Unasked,
    /// A VM of somebody else, as if it were the liar's.
    Usurp,
    /// A project removed without its hosts' word.
    Remove,
    /// A request to run a VM, for a counter that was made up.
    Run,
    /// The same question, many times.
    Burst,
    /// A record under somebody else's name.
    Forge,
    /// That another run of the victim's key is alive.
    OtherRun,
    /// A takeover at the end of all terms.
    LastTerm,
    /// A takeover by a grant for another project.
    Overreach,
    /// A takeover that no grant allows.
    Ungranted,
    /// A grant taken back that is nobody's to take back but the root key's.
    Revoke,
    /// A ballot that nobody can outbid.
    HighBallot,
    /// A change in the name of a guest.
    Guest,
}

impl Lie {
    const ALL: [Self; 17] = [
        Self::Replay,
        Self::Equivocate,
        Self::Garbage,
        Self::Flood,
        Self::Unasked,
        Self::Usurp,
        Self::Remove,
        Self::Run,
        Self::Burst,
        Self::Forge,
        Self::OtherRun,
        Self::LastTerm,
        Self::Overreach,
        Self::Ungranted,
        Self::Revoke,
        Self::HighBallot,
        Self::Guest,
    ];
}

impl World {
    /// Lets a liar remember what it is told.
    pub(crate) fn overhear(&mut self, node: usize, message: &Message) {
        if self.hosts[node].honesty == Honesty::Honest {
            return;
        }
        if let Some(liar) = self.liars.iter_mut().find(|liar| liar.node == node) {
            liar.overheard.push_back(message.clone());
            liar.overheard.truncate(OVERHEARD_MAX);
        }
    }

    /// Lets a liar lie, and again a little later.
    pub(crate) fn lie(&mut self, index: usize) {
        if self.now_ms >= FAULTS_MS {
            return;
        }
        let at = self.now_ms + self.liars[index].lot.between(300, 3_000);
        self.at(at, Event::Lie { liar: index });
        let node = self.liars[index].node;
        if self.hosts[node].answering(self.now_ms).is_none() {
            return;
        }
        self.tally.faults.add(Fault::Hostile);
        let lie = Lie::ALL[self.liars[index].lot.index(Lie::ALL.len())];
        let mut lot = self.liars[index].lot.clone();
        let victim = lot.index(self.options.nodes);
        let made_up = match lie {
            Lie::Forge => self.forge(node, victim),
            Lie::Guest => self.speak_as_guest(node, &mut lot),
            _ => self.make_up(lie, index, node, victim, &mut lot),
        };
        for (to, message) in made_up {
            if to != node {
                // A request that happens to name the right counter is as good as any: it counts, but once.
                self.oracle.note_message(self.hosts[node].keys.public(), &message);
                self.tell(node, to, &message, &mut lot, lie);
            }
        }
        self.liars[index].lot = lot;
    }

    /// Sends a lie's bytes, or what is left of them; what can't be read goes nowhere, as in the real agent.
    fn tell(&mut self, from: usize, to: usize, message: &Message, lot: &mut Lot, lie: Lie) {
        let mut bytes = wire::encode_message(message);
        if matches!(lie, Lie::Garbage) {
            for _ in 0..lot.between(1, 5) {
                let at = lot.index(bytes.len());
                bytes[at] ^= 1 << lot.index(8);
            }
            if lot.chance(300) {
                bytes.truncate(lot.index(bytes.len()));
            }
        }
        match self.codec.decode(&bytes) {
            Ok(message) => {
                let digest = Digest::of(&bytes);
                self.transmit(from, to, Packet::Direct(Box::new((message, digest))));
            }
            Err(_) => self.tally.garbage += 1,
        }
    }

    fn make_up(
        &self,
        lie: Lie,
        liar: usize,
        node: usize,
        victim: usize,
        lot: &mut Lot,
    ) -> Vec<(usize, Message)> {
        let keys = &self.hosts[node].keys;
        let Some(machine) = &self.hosts[node].node else { return Vec::new() };
        let everybody =
            |message: Message| (0..self.options.nodes).map(move |to| (to, message.clone())).collect();
        let own = |record: Record| wire::sign_record(keys, record);
        let some_vm = machine.projects().iter().flat_map(|project| machine.vms(project.id)).nth(lot.index(8));
        match lie {
            Lie::Replay | Lie::Garbage => {
                let overheard = &self.liars[liar].overheard;
                if overheard.is_empty() {
                    return Vec::new();
                }
                vec![(victim, overheard[lot.index(overheard.len())].clone())]
            }
            Lie::Equivocate => {
                let counter = 1_000 + lot.between(0, 3);
                (0..self.options.nodes)
                    .map(|to| (to, Message::Records(vec![own(host_status(counter, to as u32 % 3))])))
                    .collect()
            }
            Lie::Flood => {
                let records =
                    (0..FLOOD).map(|_| own(invented_vm(random_digest(lot), keys.public()))).collect();
                vec![(victim, Message::Records(records))]
            }
            Lie::Unasked => vec![(victim, unasked(keys, self.hosts[victim].keys.public(), lot))],
            Lie::Usurp => match some_vm {
                Some(view) => {
                    let mut status = view.status;
                    status.counter += 1_000;
                    status.run_counter += 1_000;
                    status.state = [VmState::Removed, VmState::Up, VmState::Down][lot.index(3)].clone();
                    everybody(Message::Records(vec![own(Record::Vm(status))]))
                }
                None => Vec::new(),
            },
            Lie::Remove => match machine.projects().first() {
                Some(project) => everybody(Message::Records(vec![own(Record::Commit(removal(
                    keys,
                    project.id,
                    project.label.clone(),
                    self.now_ms,
                )))])),
                None => Vec::new(),
            },
            Lie::Run => match some_vm {
                Some(view) => {
                    let request = RunRequest {
                        owner: view.owner,
                        vm: view.status.vm.clone(),
                        epoch: view.status.epoch,
                        // Too low or too high: it never saw that.
                        seen_counter: view.status.run_counter + 1 + lot.between(0, 3),
                        order: [RunOrder::Up, RunOrder::Down(StopLimit::Now)][lot.index(2)],
                        made_unix_ms: 0,
                        chain: Vec::new(),
                    };
                    let payload = wire::encode_run_request(&request);
                    let request = Verified::own(keys, Domain::Request, request, payload);
                    everybody(Message::Run(Arc::new(request)))
                }
                None => Vec::new(),
            },
            Lie::Burst => {
                let question = Message::Sync(vec![SyncRange {
                    from: None,
                    until: None,
                    content: SyncContent::Sum { records: u64::MAX, fingerprint: random_digest(lot) },
                }]);
                (0..BURST).map(|_| (victim, question.clone())).collect()
            }
            Lie::Forge | Lie::Guest => Vec::new(),
            Lie::LastTerm => match some_vm {
                Some(view) => {
                    let chain = self.hosts[node].chain.clone();
                    let seen = Epoch { term: u64::MAX - 1 - lot.between(0, 3), n: 1 };
                    everybody(Message::Records(vec![own(taken_over(view.status.vm, seen, chain))]))
                }
                None => Vec::new(),
            },
            Lie::Overreach => match some_vm {
                Some(view) => {
                    let chain = self.hosts[node].chain_elsewhere(&root_key());
                    let (vm, seen) = (view.status.vm, view.status.epoch);
                    everybody(Message::Records(vec![own(taken_over(vm, seen, chain))]))
                }
                None => Vec::new(),
            },
            Lie::Ungranted => match some_vm {
                Some(view) => {
                    let verbs = [Verb::View, Verb::Start, Verb::Stop, Verb::Join];
                    let chain = self.hosts[node].chain_for(&root_key(), verbs);
                    let (vm, seen) = (view.status.vm, view.status.epoch);
                    everybody(Message::Records(vec![own(taken_over(vm, seen, chain))]))
                }
                None => Vec::new(),
            },
            Lie::Revoke => {
                let chain = self.hosts[victim].chain.clone();
                let reason = "it is a lie".to_owned();
                everybody(Message::Records(vec![own(Record::Revocation(Revocation {
                    chain,
                    made_unix_ms: 0,
                    reason,
                }))]))
            }
            Lie::HighBallot => {
                let project = machine.projects().first().map(|project| project.id);
                let heads = project.and_then(|project| machine.heads(project));
                let ballot = Ballot { number: u64::MAX - lot.between(0, 3), coordinator: keys.public() };
                match heads.map(|heads| *heads.newest()) {
                    Some(parent) => everybody(Message::Ballot { parent, ballot }),
                    None => Vec::new(),
                }
            }
            Lie::OtherRun => {
                let runs = self.hosts[victim].node.as_ref();
                let told =
                    |instance| Message::OwnTold { instance, other: Some(instance ^ 1), records: Vec::new() };
                runs.map(|there| (victim, told(there.run_number()))).into_iter().collect()
            }
        }
    }

    /// In the name of a guest, by whatever right.
    fn speak_as_guest(&mut self, liar: usize, lot: &mut Lot) -> Vec<(usize, Message)> {
        let forgery = GuestForgery::ALL[lot.index(GuestForgery::ALL.len())];
        let asks = self.forge_guest(Some(liar), forgery, lot);
        let its_own = asks.into_iter().filter(|(from, ..)| *from == liar);
        its_own.filter_map(|(_, to, ask)| Some((*self.index.get(&to)?, ask))).collect()
    }

    /// Its payload says the victim, its signature doesn't: nobody may be able to read it.
    fn forge(&mut self, liar: usize, victim: usize) -> Vec<(usize, Message)> {
        let record = wire::sign_record(&self.hosts[liar].keys, host_status(2_000, 7));
        let forged = Signed { author: self.hosts[victim].keys.public(), ..record.signed().clone() };
        let Ok(record) = self.codec.record(&forged) else { return Vec::new() };
        let other = (victim + 1) % self.options.nodes;
        vec![(other, Message::Records(vec![record]))]
    }
}

fn random_digest(lot: &mut Lot) -> Digest {
    Digest::of(&lot.draw().to_le_bytes())
}

pub(crate) fn host_status(counter: u64, vms: u32) -> Record {
    Record::Host(HostStatus {
        counter,
        groups: Vec::new(),
        platforms: vec![Platform::Uml],
        projects: vms,
        vms,
        memory_used: MemoryMib(64 * vms),
        memory_limit: MemoryMib(512),
        agent_version: "liar".to_owned(),
        measured_unix_ms: 0,
    })
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("letters and digits are a name")
}

pub(crate) fn invented_vm(birth: Digest, by: PublicKey) -> Record {
    Record::Vm(VmStatus {
        counter: 1,
        epoch: Epoch::FIRST,
        vm: VmId { birth, name: name("ghost") },
        project: ProjectId(birth),
        run: RunState::Up,
        run_counter: 1,
        run_by: by,
        state: VmState::Up,
        exit: None,
        memory: MemoryMib(64),
        boot_order: BootOrder(99),
        address: None,
        since_unix_ms: 0,
        kept_ms: 0,
        host: name("nowhere"),
        nat: None,
        forwards: Vec::new(),
        part: None,
        startup: mln_protocol::record::Startup::Fine,
    })
}

/// A takeover of a VM with no copy of its disk.
fn taken_over(vm: VmId, seen: Epoch, chain: Vec<Signed>) -> Record {
    let takeover =
        Takeover { seen: Some(seen), copy: None, chain, author: "liar".to_owned(), made_unix_ms: 0 };
    Record::Link(Link::Claim(Claim { vm, epoch: seen.taken_over(), basis: ClaimBasis::Takeover(takeover) }))
}

/// The end of a project, with nobody's word but the liar's.
fn removal(keys: &KeyPair, project: ProjectId, label: Label, made_unix_ms: u64) -> Commit {
    let revision = Revision {
        project: Some(project),
        parent: Some(project.0),
        label,
        hosts: Vec::new(),
        definition: Digest([0; 32]),
        consent: Consent::Majority,
        made_unix_ms,
        author: "liar".to_owned(),
        reason: "remove".to_owned(),
        charge: None,
        keep_removed_ms: 0,
        decision: None,
    };
    let digest = Digest::of(&wire::encode_revision(&revision));
    // Its promises are as good as its reservation: from the liar alone.
    let ballot = Ballot { number: u64::MAX, coordinator: keys.public() };
    let promise = Promise { parent: project.0, child: digest, ballot };
    Commit {
        revision,
        digest,
        reservations: vec![wire::sign_reservation(keys, digest)],
        promises: vec![wire::sign_promise(keys, promise)],
    }
}

fn unasked(keys: &KeyPair, victim: PublicKey, lot: &mut Lot) -> Message {
    let digest = random_digest(lot);
    match lot.index(8) {
        0 => Message::Answer { revision: digest, verdict: Ok(wire::sign_reservation(keys, digest)) },
        1 => Message::Answer {
            revision: digest,
            verdict: Err(Refusal { rule: Rule::Memory, detail: "no".to_owned() }),
        },
        2 => Message::Withdraw { revision: digest },
        3 => Message::RunAnswer { request: digest, verdict: RunVerdict::Applied },
        4 => Message::Want(vec![RecordKey::Commit(digest); 16]),
        5 => Message::FragmentWanted(digest),
        6 => Message::FragmentFound(Arc::new(Fragment::default())),
        _ => {
            let revision = Revision {
                project: None,
                parent: None,
                label: Label { owner: name("people"), project: name("ghost") },
                hosts: Vec::new(),
                definition: digest,
                consent: Consent::Majority,
                made_unix_ms: 0,
                author: "liar".to_owned(),
                reason: "build".to_owned(),
                charge: None,
                keep_removed_ms: 0,
                decision: None,
            };
            let ask = Ask {
                host: victim,
                digest: Digest::of(&wire::encode_revision(&revision)),
                revision,
                running: RunningVms::Stop,
                replaces: None,
                chain: Vec::new(),
                guest: None,
            };
            let payload = wire::encode_ask(&ask);
            Message::Ask { ask: Arc::new(Verified::own(keys, Domain::Request, ask, payload)), fragment: None }
        }
    }
}
