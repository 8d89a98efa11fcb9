//! What people do meanwhile: each customer builds a project, starts, stops and sometimes removes it, asking any
//! host, and asking again where an answer does not come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mln_protocol::id::{Label, Name, ProjectId};
use mln_protocol::model::{
    AddressPlan, Attachment, BootOrder, DiskSize, HostAddress, Impairment, MemoryMib, Network, Platform,
    Project, Switch, SwitchMember, SwitchSettings, Vm,
};
use mln_protocol::node::{
    BuildOrder, ExistingProject, Node, OnFailure, OpId, Operation, Outcome, ReviseContent, ReviseOrder,
    RunOrder, RunningVms,
};
use mln_protocol::plan::StopLimit;
use mln_protocol::record::Consent;
use mln_protocol::time::Now;

use crate::holder::{Holder, NEAR_HOSTS};
use crate::lot::Lot;
use crate::options::Options;
use crate::sketch::{Sketch, Text, Texts};
use crate::world::Tally;

/// Names a customer.
pub(crate) type Customer = usize;

/// How often a build that is refused is tried again.
const TRIES_MAX: u32 = 6;

/// Of a thousand labs, how many are made from a text.
const WITH_TEXT: u64 = 250;

/// How long a customer waits for an answer before it asks somebody else, in milliseconds.
const PATIENCE_MS: u64 = 90_000;

#[derive(Debug)]
pub(crate) struct Workload {
    errands: Vec<Errand>,
    hosts: usize,
    last_op: u64,
    names: Vec<Name>,
    /// What labs are written as, those that are.
    pub(crate) texts: Texts,
    /// Whose grants were taken back.
    revoked: BTreeSet<Holder>,
}

#[derive(Debug)]
struct Errand {
    /// Draws whom it asks, and when it looks again.
    lot: Lot,
    /// Whether it comes at all.
    comes: bool,
    label: Label,
    project: Project,
    /// Its text, where it is made from one.
    text: Option<Arc<Text>>,
    /// On whose grants it is asked for; none where users of the hosts themselves ask.
    holder: Option<Holder>,
    existing: ExistingProject,
    goal: Goal,
    stage: Stage,
    tries: u32,
    waiting: Option<Waiting>,
    answer: Option<Answer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    /// Build, start, and leave it running.
    Run,
    /// Build, start, stop.
    Stop,
    /// All of it, and remove it at the end.
    Remove,
    /// Change what somebody else has built, some times.
    Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Build,
    Start,
    Stop,
    Remove,
    Change,
    Over,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    node: usize,
    op: OpId,
    since_ms: u64,
}

/// What somebody asks a host for.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) node: usize,
    pub(crate) op: OpId,
    pub(crate) operation: Operation,
    /// On whose grants; none where it is a user of the host itself.
    pub(crate) holder: Option<Holder>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Done,
    Refused,
    Failed,
}

impl Workload {
    pub(crate) fn new(options: &Options, hosts: Vec<Name>, lot: &mut Lot) -> Self {
        let mut labs: BTreeMap<Name, Project> = BTreeMap::new();
        let mut written: BTreeMap<Name, Option<Arc<Text>>> = BTreeMap::new();
        let mut texts = Texts::default();
        let errands = (0..options.projects)
            .map(|index| {
                // Some share a label and hosts, so that builds meet, or one replaces the other.
                let label =
                    Label { owner: name("people"), project: name(&format!("lab{}", index - index % 5 / 4)) };
                let lab =
                    labs.entry(label.project.clone()).or_insert_with_key(|label| project(label, &hosts, lot));
                let mut lab = lab.clone();
                let text = written.entry(label.project.clone()).or_insert_with_key(|label| {
                    let mut lot = Lot::of(options.seed, &format!("text {label}"));
                    let near = ground(options.seed, label) == Some(Holder::Near);
                    let at = if near { &hosts[..hosts.len().min(NEAR_HOSTS)] } else { &hosts[..] };
                    let sketch = lot.chance(WITH_TEXT).then(|| Sketch::draw(label, at, &hosts, &mut lot));
                    sketch.and_then(|sketch| texts.write(sketch))
                });
                let text = text.clone();
                if let Some(text) = &text {
                    lab = text.project.clone();
                }
                let holder = text.as_ref().and_then(|_| ground(options.seed, &label.project));
                let existing = if lot.chance(100) {
                    ExistingProject::Replace(RunningVms::Stop)
                } else {
                    ExistingProject::Refuse
                };
                Errand {
                    lot: Lot::of(options.seed, &format!("customer {index}")),
                    comes: options.customers.as_ref().is_none_or(|some| some.contains(&index)),
                    project: lab,
                    text,
                    holder,
                    label,
                    existing,
                    goal: [Goal::Run, Goal::Stop, Goal::Remove][lot.index(3)],
                    stage: Stage::Build,
                    tries: 0,
                    waiting: None,
                    answer: None,
                }
            })
            .collect();
        let mut errands: Vec<Errand> = errands;
        // Others change what somebody has built, two of them at a time, whoever they ask.
        for index in 0..options.projects {
            for second in 0..2 {
                let lot = Lot::of(options.seed, &format!("meddler {index} {second}"));
                let errand = &errands[index];
                let (label, project) = (errand.label.clone(), errand.project.clone());
                let (text, holder) = (errand.text.clone(), errand.holder);
                errands.push(Errand {
                    lot,
                    comes: errand.comes,
                    label,
                    project,
                    text,
                    holder,
                    existing: ExistingProject::Refuse,
                    goal: Goal::Change,
                    stage: Stage::Change,
                    tries: 0,
                    waiting: None,
                    answer: None,
                });
            }
        }
        let revoked = BTreeSet::new();
        Self { errands, hosts: hosts.len(), last_op: 0, names: hosts, texts, revoked }
    }

    /// Returns whose grants may be taken back on which somebody asks for something: there is a narrower one to go on with.
    pub(crate) fn revocable(&self) -> Vec<Holder> {
        let asking = self.errands.iter().filter(|errand| errand.comes).filter_map(|errand| errand.holder);
        let asking: BTreeSet<Holder> = asking.flat_map(Holder::depends_on).collect();
        let may_go = |holder: &Holder| *holder != Holder::Narrowed && !self.revoked.contains(holder);
        asking.into_iter().filter(may_go).collect()
    }

    /// From now on those who had these grants ask on narrower ones.
    pub(crate) fn revoke(&mut self, holder: Holder) {
        self.revoked.insert(holder);
        for errand in &mut self.errands {
            if errand.holder.is_some_and(|had| had.depends_on().any(|link| link == holder)) {
                errand.holder = Some(Holder::Narrowed);
            }
        }
    }

    /// Returns everybody who comes.
    pub(crate) fn customers(&self) -> Vec<Customer> {
        (0..self.errands.len()).filter(|&customer| self.errands[customer].comes).collect()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.errands.iter().all(|errand| !errand.comes || errand.stage == Stage::Over)
    }

    pub(crate) fn waiting(&self) -> Vec<String> {
        let late = self.errands.iter().filter(|errand| errand.comes && errand.stage != Stage::Over);
        late.take(5).map(|errand| format!("{} at {:?}", errand.label, errand.stage)).collect()
    }

    /// Lets a customer act; returns what it asks of whom, and when it looks again.
    pub(crate) fn turn<'a>(
        &mut self,
        customer: Customer,
        now: Now,
        alive: impl Fn(usize) -> Option<&'a Node>,
    ) -> (Option<Wish>, Option<u64>) {
        let errand = &mut self.errands[customer];
        let look_again = Some(errand.lot.between(500, 1_500));
        if let Some(waiting) = errand.waiting
            && errand.answer.is_none()
        {
            if now.mono_ms.saturating_sub(waiting.since_ms) > PATIENCE_MS {
                errand.waiting = None;
                errand.answer = Some(Answer::Failed);
                errand.go_on();
            }
            return (None, look_again);
        }
        errand.waiting = None;
        errand.go_on();
        if errand.stage == Stage::Over {
            return (None, None);
        }
        let node = errand.lot.index(self.hosts);
        let Some(machine) = alive(node) else { return (None, look_again) };
        let Some(operation) = errand.order(machine, &self.names, &mut self.texts) else {
            return (None, look_again);
        };
        self.last_op += 1;
        let op = OpId(self.last_op);
        errand.waiting = Some(Waiting { node, op, since_ms: now.mono_ms });
        (Some(Wish { node, op, operation, holder: errand.holder }), look_again)
    }

    pub(crate) fn done(&mut self, node: usize, op: OpId, outcome: &Outcome, tally: &mut Tally) {
        let waits = |errand: &&mut Errand| errand.waiting.is_some_and(|w| w.node == node && w.op == op);
        let Some(errand) = self.errands.iter_mut().find(waits) else { return };
        errand.answer = Some(match outcome {
            Outcome::Done => Answer::Done,
            Outcome::Refused(_) => Answer::Refused,
            Outcome::Failed(_) => Answer::Failed,
        });
        match (outcome, errand.stage) {
            (Outcome::Done, Stage::Build) => tally.built += 1,
            (Outcome::Done, Stage::Start) => tally.started += 1,
            (Outcome::Done, Stage::Stop) => tally.stopped += 1,
            (Outcome::Done, Stage::Remove) => tally.removed += 1,
            (Outcome::Refused(_), _) => tally.refused += 1,
            (Outcome::Done, Stage::Change) => tally.changed += 1,
            (Outcome::Done, Stage::Over) | (Outcome::Failed(_), _) => {}
        }
    }

    /// Those who want to remove projects with these labels go home.
    pub(crate) fn give_up(&mut self, labels: &BTreeSet<Label>) {
        let wants = |errand: &&mut Errand| errand.stage == Stage::Remove && labels.contains(&errand.label);
        for errand in self.errands.iter_mut().filter(wants) {
            errand.stage = Stage::Over;
        }
    }

    /// Whoever waited for an answer of this host will not get one.
    pub(crate) fn lost_coordinator(&mut self, node: usize) {
        for errand in &mut self.errands {
            if errand.waiting.is_some_and(|waiting| waiting.node == node) && errand.answer.is_none() {
                errand.waiting = None;
            }
        }
    }
}

/// For how long disks of VMs that are left out are kept, in milliseconds.
const KEPT_MS: [u64; 4] = [0, 3_000, 15_000, 7 * 86_400_000];

impl Errand {
    /// Draws the consequence of an answer.
    fn go_on(&mut self) {
        let Some(answer) = self.answer.take() else { return };
        if self.stage == Stage::Change {
            self.tries += LOOKS_MAX / TRIES_MAX;
            if self.tries >= LOOKS_MAX {
                self.stage = Stage::Over;
            }
            return;
        }
        match answer {
            Answer::Done => {
                self.tries = 0;
                self.stage = match (self.stage, self.goal) {
                    (Stage::Build, _) => Stage::Start,
                    (Stage::Start, Goal::Run) => Stage::Over,
                    (Stage::Start, Goal::Stop | Goal::Remove) => Stage::Stop,
                    (Stage::Stop, Goal::Remove) => Stage::Remove,
                    (Stage::Start | Stage::Stop, Goal::Change)
                    | (Stage::Stop, Goal::Run | Goal::Stop)
                    | (Stage::Remove | Stage::Change | Stage::Over, _) => Stage::Over,
                };
            }
            Answer::Refused | Answer::Failed => {
                self.tries += 1;
                if self.stage != Stage::Remove && self.tries >= TRIES_MAX {
                    self.stage = Stage::Over;
                }
            }
        }
    }

    /// Draws another definition of the lab, or goes back to an earlier one.
    fn change(
        &mut self,
        machine: &Node,
        project: ProjectId,
        hosts: &[Name],
        texts: &mut Texts,
    ) -> ReviseOrder {
        let revisions = machine.revisions(project);
        let heads = machine.heads(project);
        let contested =
            heads.map(|heads| heads.contested.iter().copied().collect::<Vec<_>>()).unwrap_or_default();
        let from_head =
            if contested.is_empty() { None } else { Some(contested[self.lot.index(contested.len())]) };
        let partial = from_head.is_none() && self.lot.chance(250);
        let content = if self.lot.chance(200) && !revisions.is_empty() {
            ReviseContent::Revision(revisions[self.lot.index(revisions.len())].1.digest)
        } else if let Some(text) =
            self.text.as_ref().and_then(|text| texts.write(text.sketch.changed(hosts, &mut self.lot)))
        {
            ReviseContent::Definition { project: text.project.clone(), blobs: text.blobs() }
        } else {
            let mut lab = self.project.clone();
            match self.lot.index(6) {
                0 if lab.vms.len() > 1 => {
                    lab.vms.pop();
                }
                1 => {
                    let mut more = lab.vms[0].clone();
                    more.name = name("extra");
                    more.memory = MemoryMib(64);
                    more.service_host = Some(HostAddress(hosts[self.lot.index(hosts.len())].to_string()));
                    more.networks.clear();
                    lab.vms.push(more);
                }
                2 | 3 => {
                    let vm = self.lot.index(lab.vms.len());
                    lab.vms[vm].service_host =
                        Some(HostAddress(hosts[self.lot.index(hosts.len())].to_string()));
                }
                _ => {
                    let vm = self.lot.index(lab.vms.len());
                    lab.vms[vm].startup = vec![format!("echo {}", self.lot.between(0, 1_000))];
                }
            }
            ReviseContent::Definition { project: lab, blobs: Vec::new() }
        };
        ReviseOrder {
            project,
            content,
            author: "people".to_owned(),
            reason: "change".to_owned(),
            consent: if partial { Consent::Partial } else { Consent::Majority },
            running: RunningVms::Stop,
            from_head,
            keep_removed_ms: KEPT_MS[self.lot.index(KEPT_MS.len())],
        }
    }

    fn order(&mut self, machine: &Node, hosts: &[Name], texts: &mut Texts) -> Option<Operation> {
        let built: Vec<ProjectId> =
            machine.projects().into_iter().filter(|p| p.label == self.label).map(|p| p.id).collect();
        let vms =
            || built.iter().flat_map(|project| machine.vms(*project)).map(|view| view.status.vm).collect();
        match self.stage {
            Stage::Build => Some(Operation::Build(Box::new(BuildOrder {
                label: self.label.clone(),
                project: self.project.clone(),
                blobs: self.text.as_ref().map_or_else(Vec::new, |text| text.blobs()),
                author: "people".to_owned(),
                existing: self.existing,
                on_failure: OnFailure::Undo,
            }))),
            Stage::Start => Some(Operation::Run { vms: vms(), order: RunOrder::Up, pause_ms: 0 }),
            Stage::Stop => {
                let order = RunOrder::Down(StopLimit::After(5_000));
                Some(Operation::Run { vms: vms(), order, pause_ms: 0 })
            }
            Stage::Remove => match built.first() {
                Some(&project) => Some(Operation::Remove { project, running: RunningVms::Stop }),
                None => {
                    self.stage = Stage::Over;
                    None
                }
            },
            Stage::Change => match built.first() {
                Some(&project) => {
                    Some(Operation::Revise(Box::new(self.change(machine, project, hosts, texts))))
                }
                None => {
                    // It isn't there yet, or no longer.
                    self.tries += 1;
                    if self.tries >= LOOKS_MAX {
                        self.stage = Stage::Over;
                    }
                    None
                }
            },
            Stage::Over => None,
        }
    }
}

/// Of a thousand labs with a text, how many are made on grants.
const ON_GRANTS: u64 = 600;

/// Draws on whose grants a lab is made that has a text.
fn ground(seed: u64, label: &Name) -> Option<Holder> {
    let mut lot = Lot::of(seed, &format!("grants of {label}"));
    let grounds = [Holder::Whole, Holder::Passed, Holder::Near, Holder::Narrowed];
    lot.chance(ON_GRANTS).then(|| grounds[lot.index(grounds.len())])
}

/// How often who wants to change a lab looks whether it is there.
const LOOKS_MAX: u32 = 40;

/// A lab: one to four routers on one to three hosts, each pair of neighbours on a switch.
fn project(label: &Name, hosts: &[Name], lot: &mut Lot) -> Project {
    let places: Vec<&Name> = (0..lot.between(1, 4)).map(|_| &hosts[lot.index(hosts.len())]).collect();
    let count = lot.between(1, 5) as usize;
    lab(label, &places, count, lot)
}

/// This many routers, on these hosts in turn, each pair of neighbours on a switch.
pub(crate) fn lab(label: &Name, places: &[&Name], count: usize, lot: &mut Lot) -> Project {
    let vm = |index: usize, lot: &mut Lot| Vm {
        name: name(&format!("router{index}")),
        platform: Platform::Uml,
        service_host: Some(HostAddress(places[index % places.len()].to_string())),
        template: None,
        memory: MemoryMib([64, 128, 192][lot.index(3)]),
        vcpus: 1,
        disk: DiskSize::Template,
        boot_order: BootOrder([10, 99][lot.index(2)]),
        networks: vec![interface("eth0", index), interface("eth1", (index + 1) % count)],
        users: Vec::new(),
        files: Vec::new(),
        startup: Vec::new(),
        nameservers: Vec::new(),
        modules: Vec::new(),
        setup: Default::default(),
        scheduling: Default::default(),
    };
    let vms: Vec<Vm> = (0..count).map(|index| vm(index, lot)).collect();
    let mut switches: BTreeMap<Name, Vec<SwitchMember>> = BTreeMap::new();
    for vm in &vms {
        for network in &vm.networks {
            if let Attachment::Switch(switch) = &network.attachment {
                let member = SwitchMember { vm: vm.name.clone(), interface: network.name.clone() };
                switches.entry(switch.clone()).or_default().push(member);
            }
        }
    }
    let switches = switches
        .into_iter()
        .map(|(name, members)| Switch { name, members, settings: SwitchSettings::default() })
        .collect();
    Project { name: label.clone(), vms, switches, hooks: Default::default() }
}

fn interface(label: &str, switch: usize) -> Network {
    Network {
        name: name(label),
        address: AddressPlan::LinkLocal,
        gateway: None,
        broadcast: None,
        attachment: Attachment::Switch(name(&format!("switch{switch}"))),
        mac: None,
        forwards: Vec::new(),
        impairment: Impairment::default(),
        tap_address: None,
    }
}

/// The lab of a scene: a router on each of three hosts.
pub(crate) fn scene_lab(hosts: &[Name], lot: &mut Lot) -> (Label, Project) {
    let label = Label { owner: name("people"), project: name("scene") };
    let mut lab = project(&label.project, hosts, lot);
    let router = lab.vms[0].clone();
    let on = |(index, host): (usize, &Name)| Vm {
        name: name(&format!("router{index}")),
        service_host: Some(HostAddress(host.to_string())),
        memory: MemoryMib(64),
        networks: vec![interface("eth0", 0)],
        ..router.clone()
    };
    lab.vms = hosts.iter().enumerate().map(on).collect();
    let member = |vm: &Vm| SwitchMember { vm: vm.name.clone(), interface: name("eth0") };
    let members = lab.vms.iter().map(member).collect();
    lab.switches = vec![Switch { name: name("switch0"), members, settings: SwitchSettings::default() }];
    (label, lab)
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).expect("letters and digits are a name")
}
