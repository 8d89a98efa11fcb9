//! Simulated guests: each that runs in a lab with a text has a key, and asks now and then for a change of its project; for
//! what it may have, and for what it may not.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mln_protocol::id::{Digest, Name, VmId};
use mln_protocol::model::HostAddress;
use mln_protocol::node::{Holding, Input, Node, OpId, Operation, Outcome, ProjectHeads, ProposedStage};
use mln_protocol::plan::Observed;
use mln_protocol::record::{Commit, Epoch, Link, Record};
use mln_protocol::trust::{
    Attestation, Grant, GuestRequest, GuestRight, KeyPair, Verified, Wanted, child_of,
};
use mln_protocol::wire;

use crate::ambush::Blow;
use crate::check_guest_grants::grounds;
use crate::fault::Fault;
use crate::host::Honesty;
use crate::lot::Lot;
use crate::options::FAULTS_MS;
use crate::scene::Scene;
use crate::sketch::{SERVERS, Sketch, Text};
use crate::world::{Event, World};

/// What guests ask for has numbers from here on.
const GUESTS_FROM: u64 = 1 << 43;

/// When guests begin to ask, and how long it is between two that do, in milliseconds; in scenes about them they ask more
/// often.
const FIRST_MS: u64 = 8_000;
const PAUSE_MS: (u64, u64) = (700, 3_500);
const SCENE_PAUSE_MS: (u64, u64) = (300, 1_200);

/// How many ways of asking there are; from [`draw_wanted`]'s last on, all are for what the guest may have.
const WAYS: usize = 34;

/// How many keys that were good once are remembered, and how many requests that were made.
const KEPT_MAX: usize = 64;

/// A guest as it runs.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    pub(crate) keys: KeyPair,
    pub(crate) attestation: Verified<Attestation>,
    /// In which run of its host's agent, and in which of its own starts.
    life: u32,
    start: u64,
    /// The number of its last request.
    number: u64,
}

/// What was asked for, and whether it may be had, as far as that is known by whom and with which key it was asked.
#[derive(Clone, Debug)]
struct Asked {
    node: usize,
    against: Option<&'static str>,
}

/// What became of what guests have asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GuestCount {
    pub(crate) asked: u64,
    pub(crate) granted: u64,
    pub(crate) failed: u64,
    /// By which rule it was refused, how often.
    pub(crate) refused: BTreeMap<&'static str, u64>,
    /// What liars have asked for in their names.
    pub(crate) forged: u64,
    /// How often hosts have said yes to that, where nothing was wrong with it.
    pub(crate) believed: u64,
}

impl GuestCount {
    pub(crate) fn merge(&mut self, other: &Self) {
        self.asked += other.asked;
        self.granted += other.granted;
        self.failed += other.failed;
        self.forged += other.forged;
        self.believed += other.believed;
        for (rule, times) in &other.refused {
            *self.refused.entry(rule).or_default() += times;
        }
    }

    /// Says it in one line.
    pub(crate) fn line(&self) -> String {
        let refused: Vec<String> =
            self.refused.iter().map(|(rule, times)| format!("{times} {rule}")).collect();
        let refused = if refused.is_empty() { "none".to_owned() } else { refused.join(", ") };
        format!(
            "guests: {} asked, {} granted, {} failed, {} forged, {} believed; refused: {refused}",
            self.asked, self.granted, self.failed, self.forged, self.believed
        )
    }
}

/// All guests, and what they have signed.
#[derive(Debug)]
pub(crate) struct Guests {
    pub(crate) lot: Lot,
    here: BTreeMap<(usize, VmId), Guest>,
    /// Those whose key is another by now.
    pub(crate) before: Vec<Guest>,
    /// What was asked for with a right that was good then.
    rights: Vec<GuestRight>,
    /// What the agents of hosts have attested.
    pub(crate) attested: BTreeSet<Digest>,
    /// What guests have signed, and whoever has stolen a key of one.
    pub(crate) signed: BTreeMap<Digest, GuestRequest>,
    /// The revisions that guests want, as hosts were asked about them.
    pub(crate) wanted: BTreeSet<Digest>,
    /// The revisions that liars have made up.
    pub(crate) forged: BTreeSet<Digest>,
    /// The revisions that were looked at.
    pub(crate) looked_at: BTreeSet<Digest>,
    /// The grants on which projects are made.
    pub(crate) grounds: BTreeMap<Digest, Grant>,
    /// What was found to be signed by whom it says.
    pub(crate) proven: RefCell<BTreeSet<Digest>>,
    boots: u64,
    asked: BTreeMap<OpId, Asked>,
}

impl Guests {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            lot: Lot::of(seed, "guests"),
            here: BTreeMap::new(),
            before: Vec::new(),
            rights: Vec::new(),
            attested: BTreeSet::new(),
            signed: BTreeMap::new(),
            wanted: BTreeSet::new(),
            forged: BTreeSet::new(),
            looked_at: BTreeSet::new(),
            grounds: grounds(),
            proven: RefCell::new(BTreeSet::new()),
            boots: 0,
            asked: BTreeMap::new(),
        }
    }

    /// Returns the guests that run, or did when they last asked.
    pub(crate) fn here(&self) -> impl Iterator<Item = (&(usize, VmId), &Guest)> {
        self.here.iter()
    }

    fn new_key(&mut self) -> KeyPair {
        let mut secret = [3; 32];
        secret[..8].copy_from_slice(&self.boots.to_le_bytes());
        KeyPair::from_secret(secret)
    }

    /// Signs a request in the name of a VM.
    pub(crate) fn sign(&mut self, keys: &KeyPair, request: GuestRequest) -> Verified<GuestRequest> {
        let request = wire::sign_guest_request(keys, request);
        self.signed.insert(request.digest(), (*request).clone());
        request
    }

    fn keep(&mut self, right: &GuestRight) {
        if self.rights.len() < KEPT_MAX {
            self.rights.push(right.clone());
        }
    }
}

/// A VM that runs in a lab with a text, and what it and its host know of it.
pub(crate) struct Asker {
    pub(crate) node: usize,
    pub(crate) vm: VmId,
    start: u64,
    epoch: Epoch,
    pub(crate) parent: Commit,
    pub(crate) text: Arc<Text>,
    /// Whether nothing in its project is partial, as far as its host knows.
    settled: bool,
}

impl Asker {
    /// Whether its project lets it decide something, and whoever could settle that has settled what was partial.
    fn may_ask(&self) -> bool {
        self.settled && self.text.sketch.envelope(&self.vm.name).is_some()
    }
}

/// Returns the epoch in which a host owns a VM.
fn owned_in(machine: &Node, vm: &VmId) -> Option<Epoch> {
    machine.holdings().find(|(there, _)| *there == vm).and_then(|(_, holding)| match holding {
        Holding::Claimed { claim, .. } => match &***claim {
            Record::Link(Link::Claim(claim)) => Some(claim.epoch),
            _ => None,
        },
        _ => None,
    })
}

impl World {
    /// Whether there are guests that ask.
    pub(crate) fn has_guests(&self) -> bool {
        !self.workload.texts.is_empty()
    }

    pub(crate) fn first_guest(&mut self) {
        if self.has_guests() {
            self.at(FIRST_MS, Event::Guest);
        }
    }

    /// Returns every VM that runs in a lab with a text, where its host's agent answers.
    pub(crate) fn askers(&self) -> Vec<Asker> {
        let mut askers = Vec::new();
        for (node, host) in self.hosts.iter().enumerate() {
            let Some(machine) = host.answering(self.now_ms) else { continue };
            for (vm, found) in host.disk.vms.iter() {
                if !matches!(found.observed, Observed::Running(_)) {
                    continue;
                }
                let Some(epoch) = owned_in(machine, vm) else { continue };
                let heads = machine.vm_project(vm).and_then(|project| machine.heads(project));
                let Some(heads) = heads else { continue };
                let Some((parent, text)) = self.head_of(machine, heads) else { continue };
                let settled = heads.partial.is_empty() && heads.contested.is_empty();
                askers.push(Asker {
                    node,
                    vm: vm.clone(),
                    start: found.starts,
                    epoch,
                    parent,
                    text,
                    settled,
                });
            }
        }
        askers
    }

    /// Returns the newest revision of a project that a host knows, and its text.
    fn head_of(&self, machine: &Node, heads: &ProjectHeads) -> Option<(Commit, Arc<Text>)> {
        let parent = machine.revision(heads.head()).filter(|parent| !parent.removes())?;
        let text = self.workload.texts.get(parent.revision.definition)?;
        Some((parent.clone(), text.clone()))
    }

    /// Lets one of the guests ask for something, and another one a little later.
    pub(crate) fn guest_turn(&mut self) {
        if self.now_ms >= FAULTS_MS {
            return;
        }
        let scene = self.options.scene.is_some_and(Scene::has_guests);
        let (from, until) = if scene { SCENE_PAUSE_MS } else { PAUSE_MS };
        let at = self.now_ms + self.guests.lot.between(from, until);
        self.at(at, Event::Guest);
        let mut askers = self.askers();
        // Those who may decide nothing ask seldom, and so do those whose project is partial.
        if !self.guests.lot.chance(100) {
            askers.retain(Asker::may_ask);
        }
        if askers.is_empty() {
            return;
        }
        let index = self.guests.lot.index(askers.len());
        let asker = askers.swap_remove(index);
        let Some(guest) = self.attest(&asker) else { return };
        let Some((right, against)) = self.wish(&asker, guest) else { return };
        let op = self.ask_as_guest(asker.node, right, against);
        if (self.options.has(Fault::Crash) || scene) && self.guests.lot.chance(100) {
            // In the middle of it: sooner or later, or just when it is so far.
            let lot = &mut self.guests.lot;
            let (wait_ms, down_ms) = (lot.between(0, 800), lot.between(500, 5_000));
            match lot.index(4) {
                0 => self.aim(asker.node, op, ProposedStage::Asking, down_ms),
                1 | 2 => self.aim(asker.node, op, ProposedStage::Promising, down_ms),
                _ => {
                    let blow = Blow::Crash(down_ms);
                    self.at(self.now_ms + wait_ms, Event::Struck { node: asker.node, blow });
                }
            }
        }
    }

    fn ask_as_guest(&mut self, node: usize, right: GuestRight, against: Option<&'static str>) -> OpId {
        self.tally.guests.asked += 1;
        let op = OpId(GUESTS_FROM + self.tally.guests.asked);
        self.guests.asked.insert(op, Asked { node, against });
        self.input(node, Input::Operate { op, operation: Operation::Guest(Box::new(right)) });
        op
    }

    /// Takes in what became of it; false where it wasn't a guest that asked.
    pub(crate) fn guest_done(&mut self, op: OpId, outcome: &Outcome) -> bool {
        let Some(asked) = self.guests.asked.remove(&op) else { return false };
        let count = &mut self.tally.guests;
        match outcome {
            Outcome::Done => count.granted += 1,
            Outcome::Failed(_) => count.failed += 1,
            Outcome::Refused(refusals) => {
                let rules: BTreeSet<&'static str> =
                    refusals.iter().map(|refused| refused.refusal.rule.code()).collect();
                for rule in rules {
                    *count.refused.entry(rule).or_default() += 1;
                }
            }
        }
        if let (Some(reason), Outcome::Done) = (asked.against, outcome)
            && self.hosts[asked.node].honesty == Honesty::Honest
        {
            self.oracle.broken(format!("S4: a guest is given what it asks for, {reason}"));
        }
        true
    }

    /// Returns a guest with its key: a new one wherever it was started, its host's agent was, or its host has claimed it.
    pub(crate) fn attest(&mut self, asker: &Asker) -> Option<Guest> {
        let here = (asker.node, asker.vm.clone());
        let life = self.hosts[asker.node].life;
        if let Some(known) = self.guests.here.get(&here)
            && (known.life, known.start, known.attestation.epoch) == (life, asker.start, asker.epoch)
        {
            return Some(known.clone());
        }
        self.guests.boots += 1;
        let (boot, keys) = (self.guests.boots, self.guests.new_key());
        let now = self.hosts[asker.node].clock.now(self.now_ms);
        let machine = self.hosts[asker.node].node.as_mut()?;
        let attestation = machine.attest(now, &asker.vm, boot, keys.public())?;
        self.guests.attested.insert(attestation.digest());
        let guest = Guest { keys, attestation, life, start: asker.start, number: 0 };
        // Wherever it ran before, its key there is one of another time.
        let elsewhere: Vec<(usize, VmId)> =
            self.guests.here.keys().filter(|(_, vm)| *vm == asker.vm).cloned().collect();
        let before: Vec<Guest> = elsewhere.iter().filter_map(|key| self.guests.here.remove(key)).collect();
        self.guests.before.extend(before);
        let many = self.guests.before.len().saturating_sub(KEPT_MAX);
        self.guests.before.drain(..many);
        self.guests.here.insert(here, guest.clone());
        Some(guest)
    }

    /// Draws what a guest asks for, and says why it can't have it where that doesn't follow from the text.
    fn wish(&mut self, asker: &Asker, guest: Guest) -> Option<(GuestRight, Option<&'static str>)> {
        let mut lot = self.guests.lot.clone();
        let way = lot.index(WAYS);
        let drawn = self.draw_wish(asker, guest, way, &mut lot);
        self.guests.lot = lot;
        drawn
    }

    fn draw_wish(
        &mut self,
        asker: &Asker,
        guest: Guest,
        way: usize,
        lot: &mut Lot,
    ) -> Option<(GuestRight, Option<&'static str>)> {
        let here = (asker.node, asker.vm.clone());
        let names: Vec<Name> =
            self.hosts[..self.options.nodes].iter().map(|host| host.name.clone()).collect();
        let (wanted, child) = draw_wanted(&asker.text, &asker.vm.name, &names, way, lot);
        let number = guest.number + 1;
        if let Some(guest) = self.guests.here.get_mut(&here) {
            guest.number = number;
        }
        let made_unix_ms = self.hosts[asker.node].clock.now(self.now_ms).unix_ms;
        let mut request = GuestRequest {
            vm: asker.vm.clone(),
            parent: asker.parent.digest,
            number,
            wanted,
            reason: "load".to_owned(),
            made_unix_ms,
        };
        let mut keys = guest.keys.clone();
        let mut attestation = guest.attestation.clone();
        let mut against = None;
        match way {
            // A key of another time, or of another VM, or of nobody.
            12 => {
                let before =
                    self.guests.before.iter().rev().find(|before| before.attestation.vm == asker.vm)?;
                (keys, attestation) = (before.keys.clone(), before.attestation.clone());
                against = Some("with a key of another time");
            }
            13 => {
                let (_, other) = self.guests.here.iter().find(|((_, vm), _)| *vm != asker.vm)?;
                keys = other.keys.clone();
                against = Some("with the key of another VM");
            }
            14 => {
                let (_, other) = self.guests.here.iter().find(|((_, vm), _)| *vm != asker.vm)?;
                (keys, attestation) = (other.keys.clone(), other.attestation.clone());
                against = Some("in the name of another VM");
            }
            15 => {
                keys = KeyPair::from_secret([98; 32]);
                against = Some("with a key of nobody's");
            }
            // What was asked for before.
            16 => {
                let rights = &self.guests.rights;
                let right = rights.get(lot.index(rights.len().max(1)))?.clone();
                let is_old = right.attestation != guest.attestation;
                return Some((right, is_old.then_some("once more, with a key of another time or VM")));
            }
            // Another project, or an earlier revision.
            17 => {
                let others: Vec<Digest> = self.guests.signed.values().map(|other| other.parent).collect();
                request.parent = *others.get(lot.index(others.len().max(1)))?;
                if request.parent != asker.parent.digest {
                    against = Some("of another revision than the one whose text it shows");
                }
            }
            _ => {}
        }
        if against.is_none() && wants_more(asker, &request.wanted) && self.is_ground_revoked(asker) {
            against = Some("on grants that were taken back, which its host knows");
        }
        self.write_child(asker, &request.wanted, child);
        let request = self.guests.sign(&keys, request);
        let definition = asker.text.bytes.clone();
        let right = GuestRight { attestation, request, definition };
        if against.is_none() {
            self.guests.keep(&right);
        }
        Some((right, against))
    }

    /// Writes down the text that a guest wants, as its host's agent does.
    pub(crate) fn write_child(&mut self, asker: &Asker, wanted: &Wanted, text: Option<Sketch>) {
        let label = &asker.parent.revision.label;
        let Some(sketch) = text.or_else(|| asker.text.sketch.with(&asker.vm.name, wanted)) else { return };
        if let Ok(child) = child_of(&asker.text.definition, label, &asker.vm.name, wanted) {
            self.workload.texts.add(Text::with(sketch, child.definition, child.project));
        }
    }
}

/// Whether a guest wants more of the class, and with that more VMs than its project has by what it says of grants.
fn wants_more(asker: &Asker, wanted: &Wanted) -> bool {
    let had = asker.parent.revision.charge.as_ref().map(|charge| charge.amount.vms);
    let wants = asker.text.sketch.with(&asker.vm.name, wanted).map(|child| child.vms().len() as u64);
    matches!(wanted, Wanted::Scale { .. }) && wants > had
}

/// Draws what a VM wants, mostly what it may have; where that is a whole text, with what is in it.
fn draw_wanted(
    text: &Text,
    vm: &Name,
    hosts: &[Name],
    way: usize,
    lot: &mut Lot,
) -> (Wanted, Option<Sketch>) {
    let sketch = &text.sketch;
    let envelope = sketch.envelope(vm).unwrap_or(&sketch.own);
    let scale = |to: u32| Wanted::Scale { class: crate::workload::name(SERVERS), to };
    let to = |host: &Name| Wanted::Move { to: HostAddress(host.to_string()) };
    let set = |path: &str, value: &str| Wanted::Set { path: path.to_owned(), value: Some(value.to_owned()) };
    let whole = |child: Sketch| (Wanted::Text(child.text()), Some(child));
    let any = &hosts[lot.index(hosts.len())];
    let counts: Vec<u32> = (envelope.least..=envelope.most).filter(|count| *count != sketch.count).collect();
    let within = counts.get(lot.index(counts.len().max(1))).copied().unwrap_or(sketch.count);
    let wanted = match way {
        0..=3 | 18..=25 => scale(within),
        4 => scale(envelope.most + 1 + lot.between(0, 3) as u32),
        5 => to(any),
        6 => set("/host/plain/memory", "96M"),
        7 => set("/host/balancer/policy/grow/grace", "0s"),
        // Whole texts: with more that it may decide, with something that no policy is about, and what it might as well have
        // asked for.
        8 if lot.chance(500) => {
            let (own, shared) = (sketch.own.wider(), sketch.shared.wider());
            return whole(Sketch { own, shared, count: envelope.most + 1, ..sketch.clone() });
        }
        8 => return whole(sketch.reaching(vm, any)),
        9 => return whole(Sketch { mark: sketch.mark + 1, ..sketch.clone() }),
        10 => return whole(Sketch { plain: any.clone(), ..sketch.clone() }),
        11 => {
            let source = text.definition.source.clone().unwrap_or_default();
            let (before, after) = (format!("numhosts {}\n", sketch.count), format!("numhosts {within}\n"));
            let child = Sketch { count: within, ..sketch.clone() };
            return (Wanted::Text(source.replacen(&before, &after, 1)), Some(child));
        }
        _ => to(&envelope.hosts[lot.index(envelope.hosts.len())]),
    };
    (wanted, None)
}
