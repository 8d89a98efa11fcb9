//! Plays a scene's script in its world.

use mln_protocol::id::{Label, Name, ProjectId, VmId};
use mln_protocol::model::{HostAddress, MemoryMib, Project};
use mln_protocol::node::{
    BuildOrder, ExistingProject, Holding, Input, Node, OnFailure, OpId, Operation, Outcome, ReviseContent,
    ReviseOrder, Rule, RunOrder, RunningVms,
};
use mln_protocol::plan::StopLimit;
use mln_protocol::record::Consent;
use mln_protocol::trust::Verb;

use crate::fault::Fault;
use crate::holder::{Holder, NEAR_HOSTS};
use crate::host::root_key;
use crate::lot::Lot;
use crate::options::FAULTS_MS;
use crate::scene::{Act, Order, SCENE_HOSTS, Scene, Script, Waiting};
use crate::sketch::{Envelope, Sketch};
use crate::workload;
use crate::world::{Event, World};

/// Orders of scripts have numbers from here on.
const ORDERS_FROM: u64 = 1 << 42;

/// How often a script is looked at, in milliseconds, and after which time what was refused is asked for again.
const LOOK_MS: u64 = 250;
const AGAIN_MS: u64 = 1_000;

/// How far clocks that are wrong are ahead, in milliseconds: a day.
const AHEAD_MS: i64 = 86_400_000;

impl World {
    /// Sets up the scene that the options name.
    pub(crate) fn set_stage(&mut self) {
        let Some(scene) = self.options.scene else { return };
        let mut lot = Lot::of(self.options.seed, "script");
        let mut left: Vec<usize> = (0..SCENE_HOSTS).collect();
        let mut hosts: Vec<usize> = (0..SCENE_HOSTS).map(|_| left.remove(lot.index(left.len()))).collect();
        if scene == Scene::Granted {
            // What VMs may go to beside their own hosts, and whoever asks, are those that not every grant is for.
            for (far, at) in [(NEAR_HOSTS, 3), (NEAR_HOSTS + 1, 4)] {
                let is_at = hosts.iter().position(|&host| host == far);
                is_at.into_iter().for_each(|is_at| hosts.swap(is_at, at));
            }
            // And whoever owns the first VM may bring nothing of others' projects to others.
            let host = &mut self.hosts[hosts[0]];
            host.chain = host.chain_without_upgrade(&root_key());
        }
        let names: Vec<_> = hosts[..3].iter().map(|&host| self.hosts[host].name.clone()).collect();
        let (label, lab) = workload::scene_lab(&names, &mut lot);
        if scene == Scene::ShortGrants {
            for &host in &hosts[3..5] {
                self.hosts[host].clock.ahead_ms = AHEAD_MS;
            }
        }
        if scene == Scene::Holders {
            // One of the hosts may start and stop what others have built, and that is all.
            let host = &mut self.hosts[hosts[5]];
            host.chain = host.chain_for(&root_key(), [Verb::View, Verb::Start, Verb::Stop, Verb::Join]);
        }
        if scene == Scene::Curious {
            // One of the hosts may start and stop what others have built, and may not look at it.
            let host = &mut self.hosts[hosts[5]];
            host.chain = host.chain_for(&root_key(), [Verb::Start, Verb::Stop, Verb::Join]);
        }
        let mut script = Script::new(scene, &hosts, label, lab, &mut lot);
        if scene.has_guests() {
            self.write_texts(&hosts, &mut script, &mut lot);
        }
        self.script = Some(script);
        self.at(3_000, Event::Script);
    }

    /// Writes what the project of a scene is made from, and what people make of it then.
    fn write_texts(&mut self, hosts: &[usize], script: &mut Script, lot: &mut Lot) {
        let names: Vec<_> = hosts.iter().map(|&host| self.hosts[host].name.clone()).collect();
        let [a, b, c, d, ..] = names.as_slice() else { return };
        let hosts = |some: &[&Name]| some.iter().map(|host| (*host).clone()).collect::<Vec<_>>();
        let grace_ms = [1_000, 4_000, 10_000][lot.index(3)];
        let first = Sketch {
            balancer: a.clone(),
            plain: b.clone(),
            places: hosts(&[b, c]),
            count: 2,
            own: Envelope { hosts: hosts(&[a, c, d]), least: 1, most: 3, grace_ms },
            shared: Envelope { hosts: hosts(&[a, b, d]), least: 1, most: 3, grace_ms },
            ..Sketch::draw(&script.label.project, &names, &names, lot)
        };
        let all = [
            first.clone(),
            Sketch { balancer: c.clone(), ..first.clone() },
            Sketch { balancer: d.clone(), mark: 7, ..first.clone() },
            Sketch { own: Envelope { most: 2, ..first.own.clone() }, ..first },
        ];
        script.texts = all.into_iter().filter_map(|sketch| self.workload.texts.write(sketch)).collect();
        if let Some(first) = script.texts.first() {
            script.lab = first.project.clone();
        }
    }

    /// Does what the script says next.
    pub(crate) fn play(&mut self) {
        let Some(mut script) = self.script.take() else { return };
        let now_ms = self.now_ms;
        if self.options.scene == Some(Scene::Moves) && now_ms >= FAULTS_MS {
            // Who is off by then is off for a while, and says so.
            script.end();
        }
        while let Some(act) = script.act().cloned() {
            let since_ms = *script.since_ms.get_or_insert(now_ms);
            let over = match act {
                Act::Wait(ms) => now_ms >= since_ms + ms,
                Act::Until(at_ms) => now_ms >= at_ms,
                Act::Await(vm, host, patience_ms) => {
                    now_ms >= since_ms + patience_ms || self.has_claimed(&script, host, vm)
                }
                Act::Lay(ambush) => {
                    self.ambushes.push(ambush);
                    true
                }
                Act::Strike(node, blow) => {
                    self.strike(node, blow);
                    true
                }
                Act::Say(node, order) | Act::For(_, node, order, 0) => {
                    let holder = act.holder();
                    let op = self.give_order(&mut script, node, order, holder);
                    if op.is_none() && now_ms < since_ms + 10 * AGAIN_MS {
                        break;
                    }
                    true
                }
                Act::Revoke(node, holder) => {
                    let revocation = holder.revocation(&root_key(), self.hosts[node].clock.now(now_ms));
                    let answers = self.hosts[node].answering(now_ms).is_some();
                    if answers {
                        self.input(node, Input::RevokedBy(revocation));
                    }
                    answers
                }
                Act::Forge(node, forgery) => self.forge_for_script(&mut script, node, forgery),
                Act::Ask(node, order, patience_ms)
                | Act::Must(node, order, patience_ms)
                | Act::For(_, node, order, patience_ms) => {
                    let gone = self.hosts[node].answering(now_ms).is_none();
                    let rests = script.waiting.is_some_and(|waiting| waiting.op == OpId(0))
                        && script.waiting.is_some_and(|waiting| now_ms < waiting.since_ms + AGAIN_MS);
                    if now_ms < since_ms + patience_ms && !rests && !gone {
                        let asked = script.waiting.is_some_and(|waiting| waiting.op != OpId(0));
                        if !asked {
                            script.waiting = None;
                            self.give_order(&mut script, node, order, act.holder());
                        }
                    }
                    let over = now_ms >= since_ms + patience_ms;
                    if over && matches!(act, Act::Must(..)) {
                        self.oracle
                            .broken(format!("L1: nothing is in its way, and it isn't done: {order:?}"));
                    }
                    over
                }
            };
            // What was asked may have been answered at once.
            if !over {
                break;
            }
            script.next();
        }
        if !script.is_over() {
            self.at(now_ms + LOOK_MS, Event::Script);
        }
        // An answer that came while the script was away is found here.
        self.script = Some(script);
        for (node, op, outcome) in std::mem::take(&mut self.answers) {
            self.script_answered(node, op, &outcome);
        }
    }

    /// Takes in an answer; false where it isn't one to the script.
    pub(crate) fn script_done(&mut self, node: usize, op: OpId, outcome: &Outcome) -> bool {
        let ours = op.0 >= ORDERS_FROM || self.takeover_done(op, outcome);
        if ours {
            self.answers.push((node, op, outcome.clone()));
            if self.script.is_some() {
                for (node, op, outcome) in std::mem::take(&mut self.answers) {
                    self.script_answered(node, op, &outcome);
                }
            }
        }
        ours
    }

    fn script_answered(&mut self, node: usize, op: OpId, outcome: &Outcome) {
        let Some(script) = &mut self.script else { return };
        if let (Outcome::Refused(refusals), Some(since_ms)) = (outcome, self.ordered.remove(&op))
            && let Some(mute) = refusals.iter().find(|refused| script.is_mute(refused.refusal.rule, since_ms))
        {
            let rule = format!("L1: {} refuses and doesn't say why", mute.host);
            self.oracle.broken(rule);
        }
        let Some(waiting) = script.waiting.filter(|waiting| (waiting.node, waiting.op) == (node, op)) else {
            return;
        };
        // Decided it is, though a liar among the hosts may not carry it out.
        let must = matches!(script.act(), Some(Act::Must(..)));
        let decided = must
            && matches!(outcome, Outcome::Refused(refusals)
                if refusals.iter().all(|refused| refused.refusal.rule == Rule::Unchanged));
        match outcome {
            Outcome::Done => script.next(),
            Outcome::Refused(_) if decided => script.next(),
            Outcome::Refused(_) | Outcome::Failed(_) => {
                script.waiting = Some(Waiting { op: OpId(0), since_ms: self.now_ms, ..waiting });
            }
        }
    }

    /// Whoever waited for an answer of this host asks again.
    pub(crate) fn script_lost(&mut self, node: usize) {
        if let Some(script) = &mut self.script
            && script.waiting.is_some_and(|waiting| waiting.node == node)
        {
            script.waiting = None;
        }
    }

    fn has_claimed(&self, script: &Script, host: usize, vm: usize) -> bool {
        let name = &script.lab.vms[vm].name;
        let mut holdings = self.hosts[host].node.iter().flat_map(Node::holdings);
        holdings.any(|(vm, holding)| vm.name == *name && matches!(holding, Holding::Claimed { .. }))
    }

    fn give_order(
        &mut self,
        script: &mut Script,
        node: usize,
        order: Order,
        holder: Option<Holder>,
    ) -> Option<OpId> {
        let names: Vec<String> = self.hosts.iter().map(|host| host.name.to_string()).collect();
        let machine = self.hosts[node].answering(self.now_ms)?;
        let waiting = |op| Waiting { node, op, since_ms: self.now_ms };
        if let Order::TakeOver(vm, heard) = order {
            let vm = vm_of(script, machine, vm)?;
            // It is known before it is asked for: the answer may come at once.
            script.waiting = Some(waiting(self.next_takeover()));
            return Some(self.take_over(node, vm, heard));
        }
        let operation = operation(script, machine, order, &names)?;
        self.last_order += 1;
        let op = OpId(ORDERS_FROM + self.last_order);
        script.waiting = Some(waiting(op));
        self.ordered.insert(op, self.now_ms);
        self.operate(node, op, operation, holder);
        Some(op)
    }

    /// Has a host do something, on somebody's grants or for its own user.
    pub(crate) fn operate(&mut self, node: usize, op: OpId, operation: Operation, holder: Option<Holder>) {
        let Some(standing) = holder.map(|holder| Box::new(holder.standing(&root_key()))) else {
            return self.input(node, Input::Operate { op, operation });
        };
        if self.has_guests() {
            // Whoever lets an operator in tells everybody of their grants.
            self.input(node, Input::GrantSeen(standing.chain()));
        }
        self.input(node, Input::OperateFor { op, operation, standing });
    }

    /// Takes back one of the grants on which projects were made: whoever had it goes on with a narrower one.
    pub(crate) fn somebody_revokes(&mut self, node: usize, pick: u64) {
        let some = self.workload.revocable();
        let Some(&holder) = some.get(pick as usize % some.len().max(1)) else { return };
        let nodes = self.options.nodes;
        let answers = |node: &usize| self.hosts[*node].answering(self.now_ms).is_some();
        let Some(node) = (node..node + nodes).map(|node| node % nodes).find(answers) else { return };
        self.tally.faults.add(Fault::Revoked);
        self.workload.revoke(holder);
        let revocation = holder.revocation(&root_key(), self.hosts[node].clock.now(self.now_ms));
        self.input(node, Input::RevokedBy(revocation));
    }
}

pub(crate) fn project_of(script: &Script, machine: &Node) -> Option<ProjectId> {
    machine.projects().into_iter().find(|project| project.label == script.label).map(|project| project.id)
}

pub(crate) fn vm_of(script: &Script, machine: &Node, vm: usize) -> Option<VmId> {
    let name = &script.lab.vms[vm].name;
    let views = machine.vms(project_of(script, machine)?);
    views.into_iter().map(|view| view.status.vm).find(|vm| vm.name == *name)
}

/// Returns another project on the same hosts.
fn other(script: &Script, name: &str, memory_mib: u32) -> (Label, Project) {
    let mut lab = script.lab.clone();
    lab.name = workload::name(name);
    for vm in &mut lab.vms {
        vm.memory = MemoryMib(memory_mib);
    }
    (Label { project: lab.name.clone(), ..script.label.clone() }, lab)
}

pub(crate) fn operation(
    script: &mut Script,
    machine: &Node,
    order: Order,
    names: &[String],
) -> Option<Operation> {
    let blobs = script.texts.first().map_or_else(Vec::new, |text| text.blobs());
    let build = |label, project: Project| {
        Operation::Build(Box::new(BuildOrder {
            label,
            project,
            blobs: blobs.clone(),
            author: "people".to_owned(),
            existing: ExistingProject::Refuse,
            on_failure: OnFailure::Keep,
        }))
    };
    match order {
        Order::Build => return Some(build(script.label.clone(), script.lab.clone())),
        Order::BuildTooLarge => {
            let mut lab = script.lab.clone();
            lab.name = workload::name("large");
            lab.vms[0].memory = MemoryMib(1 << 16);
            let label = Label { project: lab.name.clone(), ..script.label.clone() };
            return Some(build(label, lab));
        }
        Order::BuildOther(name, memory_mib) => {
            let (label, lab) = other(script, name, memory_mib);
            return Some(build(label, lab));
        }
        Order::BuildOn(host, memory_mib) => {
            let (label, mut lab) = other(script, "large", memory_mib);
            lab.vms.truncate(1);
            lab.vms[0].service_host = Some(HostAddress(names[host].clone()));
            lab.vms[0].networks.clear();
            lab.switches.clear();
            return Some(build(label, lab));
        }
        Order::Up => {
            let views = machine.vms(project_of(script, machine)?);
            let vms = views.into_iter().map(|view| view.status.vm).collect();
            return Some(Operation::Run { vms, order: RunOrder::Up, pause_ms: 0 });
        }
        Order::Down(vm) => {
            let vms = vec![vm_of(script, machine, vm)?];
            return Some(Operation::Run { vms, order: RunOrder::Down(StopLimit::After(2_000)), pause_ms: 0 });
        }
        Order::Place(vm, host) => script.lab.vms[vm].service_host = Some(HostAddress(names[host].clone())),
        Order::Change(vm) | Order::ChangePartially(vm) => {
            script.lab.vms[vm].startup = vec!["echo changed".to_owned()]
        }
        Order::LeaveOut(vm) | Order::Shelve(vm, _) => script.left_out = vec![vm],
        // Not what the script's next revision follows from.
        Order::Try(_) | Order::Write(_) => {}
        Order::LeaveOnly(vm) => {
            script.left_out = (0..script.lab.vms.len()).filter(|left| *left != vm).collect();
        }
        Order::TakeIn(vm) => script.left_out.retain(|out| *out != vm),
        Order::TakeOver(..) => return None,
    }
    let consent = match order {
        Order::ChangePartially(_) => Consent::Partial,
        _ => Consent::Majority,
    };
    let mut project = script.lab.clone();
    if let Order::Try(vm) = order {
        project.vms[vm].startup = vec!["echo tried".to_owned()];
    }
    for &out in script.left_out.iter().rev() {
        project.vms.remove(out);
    }
    let mut blobs = Vec::new();
    if let Order::Write(text) = order {
        let text = script.texts.get(text)?;
        (project, blobs) = (text.project.clone(), text.blobs());
    }
    Some(Operation::Revise(Box::new(ReviseOrder {
        project: project_of(script, machine)?,
        content: ReviseContent::Definition { project, blobs },
        author: "people".to_owned(),
        reason: "change".to_owned(),
        consent,
        running: RunningVms::Stop,
        from_head: None,
        keep_removed_ms: if let Order::Shelve(_, ms) = order { ms } else { 0 },
    })))
}
