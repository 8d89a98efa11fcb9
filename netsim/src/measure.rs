//! A large mesh that has been running for long, looked at: quiet, when something changes, and when a host comes back.

use std::sync::Arc;
use std::time::Instant;

use mln_protocol::id::{Label, Name, ProjectId};
use mln_protocol::model::{MemoryMib, Platform, Project};
use mln_protocol::node::limits::{STATUS_MS, STATUS_PEERS};
use mln_protocol::node::{
    BuildOrder, ExistingProject, Input, Node, OnFailure, OpId, Operation, Outcome, ReviseContent,
    ReviseOrder, RunningVms, Write,
};
use mln_protocol::record::{Consent, HostStatus, Member, Record, VerifiedRecord};
use mln_protocol::wire;

use crate::disk::Disk;
use crate::host::UNIX_MS;
use crate::lot::Lot;
use crate::traffic::{Change, Sum};
use crate::workload::lab;
use crate::world::{Event, MEMORY_MIB, World};

/// By when all hosts have started, and all projects have been built, in milliseconds.
const STARTED_MS: u64 = 5_000;
const BUILT_MS: u64 = 60_000;

/// How many projects there are, of three hosts each.
const PROJECTS: usize = 10;
const PROJECT_HOSTS: usize = 3;

/// How long the quiet mesh is looked at, in milliseconds: longer where there are few hosts, of whom little is heard.
const IDLE_MS_MIN: u64 = 60_000;
const IDLE_MS_MAX: u64 = 600_000;
const IDLE_HOSTS_MS: u64 = 600_000_000;

/// How long it is looked at when something has changed, in milliseconds; and the traffic of what part of it counts as
/// the change's.
const CHANGE_MS: u64 = 30_000;
const CHANGE_TRAFFIC_MS: u64 = 10_000;

/// How long a host that comes back may take, in milliseconds, and how often it is looked whether it is done.
const RETURN_MS_MAX: u64 = 120_000;
const RETURN_LOOK_MS: u64 = 10;

/// Orders of those who measure have numbers from here on.
const ORDERS_FROM: u64 = 1 << 50;

/// By how much less than its period a host's status is repeated on average: up to a quarter less, by lot.
const STATUS_PERIOD_PER_MILLE: u64 = 875;

/// What was measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) nodes: usize,
    pub(crate) mesh_degree: f64,
    /// When each host knew of the revision, in milliseconds after it was made, soonest first.
    pub(crate) reached_ms: Vec<u64>,
    /// How often the revision arrived anywhere.
    pub(crate) copies: u64,
    /// Per host and second.
    pub(crate) idle: Rate,
    pub(crate) idle_s: f64,
    /// Per host, in the ten seconds after a change, and per second.
    pub(crate) change: Rate,
    /// How long the host that came back took, in milliseconds, and what went to it and from it.
    pub(crate) returned: Option<(u64, Sum)>,
    /// How many records each host has in the end.
    pub(crate) records: usize,
    /// How large a host's status is as a record on its way.
    pub(crate) status_bytes: u64,
    pub(crate) events: u64,
    pub(crate) took_s: f64,
    pub(crate) trace: String,
    pub(crate) violations: Vec<String>,
}

/// How much a host sends.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rate {
    pub(crate) bytes: f64,
    pub(crate) packets: f64,
}

impl Rate {
    fn of(sum: Sum, nodes: usize, ms: u64) -> Self {
        let host_seconds = nodes as f64 * ms as f64 / 1000.0;
        Self { bytes: sum.bytes as f64 / host_seconds, packets: sum.packets as f64 / host_seconds }
    }
}

impl World {
    /// Lets every host know all members and what each has said last, and plans that they start.
    pub(crate) fn prepare_measured(&mut self) {
        let nodes = self.options.nodes;
        let period_ms = STATUS_MS * nodes.div_ceil(STATUS_PEERS) as u64;
        let repeat_ms = period_ms * STATUS_PERIOD_PER_MILLE / 1000;
        // By lot who is when, and as many in each minute as in any other.
        let mut turns: Vec<u64> = (0..nodes as u64).collect();
        let mut lot = Lot::of(self.options.seed, "turns");
        for index in 1..nodes {
            turns.swap(index, lot.index(index + 1));
        }
        let mut known = Vec::with_capacity(2 * nodes);
        let mut of_before = Vec::new();
        for (host, turn) in self.hosts.iter().zip(turns) {
            let member = Member { counter: 1, name: host.name.clone(), chain: host.chain.clone() };
            known.push(wire::sign_record(&host.keys, Record::Member(member)));
            let due_ms = turn * repeat_ms / nodes as u64;
            let status = |counter, measured_unix_ms| {
                let status = HostStatus {
                    counter,
                    groups: Vec::new(),
                    platforms: vec![Platform::Uml],
                    projects: 0,
                    vms: 0,
                    memory_used: MemoryMib(0),
                    memory_limit: MemoryMib(MEMORY_MIB),
                    agent_version: "netsim".to_owned(),
                    measured_unix_ms,
                };
                wire::sign_record(&host.keys, Record::Host(status))
            };
            known.push(status(2, UNIX_MS + due_ms - period_ms));
            of_before.push(status(1, UNIX_MS - 2 * period_ms));
        }
        known.sort_by_cached_key(|record| record.key(record.author()));
        // The last one has been off for long.
        let members = known.iter().filter(|record| matches!(****record, Record::Member(_))).cloned();
        let outdated: Vec<Write> = members
            .chain(of_before)
            .map(|record| Write::Record(record.key(record.author()), record))
            .collect();
        let known: Arc<[VerifiedRecord]> = known.into();
        for host in &mut self.hosts {
            host.disk = Disk::sharing(known.clone());
        }
        for node in 0..nodes {
            let at = self.lot.between(0, 2_000);
            self.at(at, Event::Restart { node, life: 0 });
        }
        self.outdated = outdated;
    }

    /// Lets everything happen that happens until then.
    pub(crate) fn run_until(&mut self, until_ms: u64) {
        while self.queue.next_ms().is_some_and(|at_ms| at_ms <= until_ms)
            && let Some((at_ms, event)) = self.queue.pop()
        {
            self.now_ms = at_ms;
            self.tally.events += 1;
            self.happen(event);
        }
        self.now_ms = until_ms;
    }

    /// Asks a host for something.
    pub(crate) fn order(&mut self, node: usize, operation: Operation) -> OpId {
        let op = OpId(ORDERS_FROM + self.orders.len() as u64);
        self.orders.insert(op, None);
        self.input(node, Input::Operate { op, operation });
        op
    }

    /// Returns what came of an order, as far as that is known.
    pub(crate) fn outcome(&self, op: OpId) -> Option<&Outcome> {
        self.orders.get(&op)?.as_ref()
    }

    /// Draws a host that is up.
    pub(crate) fn draw_up(&mut self, lot: &mut Lot) -> usize {
        loop {
            let node = lot.index(self.options.nodes);
            if self.hosts[node].node.is_some() {
                return node;
            }
        }
    }

    /// Returns the definition of a project with a VM on each of these hosts.
    pub(crate) fn lab_on(&self, name: &Name, places: &[usize], lot: &mut Lot) -> Project {
        let hosts: Vec<&Name> = places.iter().map(|&place| &self.hosts[place].name).collect();
        let mut project = lab(name, &hosts, places.len(), lot);
        for vm in &mut project.vms {
            // So small that nothing fails for want of memory.
            vm.memory = MemoryMib(8);
        }
        project
    }

    /// Draws some hosts that are up, each once, as far as there are so many.
    pub(crate) fn draw_places(&mut self, count: usize, lot: &mut Lot) -> Vec<usize> {
        let mut up: Vec<usize> =
            (0..self.options.nodes).filter(|&node| self.hosts[node].node.is_some()).collect();
        let count = count.min(up.len());
        for index in 0..count {
            let drawn = index + lot.index(up.len() - index);
            up.swap(index, drawn);
        }
        up.truncate(count);
        up
    }

    /// Runs the world and measures it.
    pub(crate) fn measure(mut self) -> Measured {
        let began = Instant::now();
        let nodes = self.options.nodes;
        let mut lot = Lot::of(self.options.seed, "measure");
        let away = nodes - 1;
        self.hosts[away].disk = Disk::default();
        let outdated = std::mem::take(&mut self.outdated);
        self.hosts[away].disk.apply(outdated);
        // Its first start is one of an earlier life, and doesn't happen.
        self.hosts[away].life = 1;
        self.traffic.is_counted = true;
        self.run_until(STARTED_MS);
        let first = self.build_labs(&mut lot);
        self.run_until(BUILT_MS);

        let idle_ms = (IDLE_HOSTS_MS / nodes as u64).clamp(IDLE_MS_MIN, IDLE_MS_MAX);
        let before = self.traffic.sum;
        self.run_until(BUILT_MS + idle_ms);
        let idle = Rate::of(self.traffic.sum.since(before), away, idle_ms);

        self.traffic.change = Some(Change::default());
        let until_ms = self.now_ms + CHANGE_MS;
        let node = self.draw_up(&mut lot);
        if let Some((name, project)) = first {
            self.revise(node, &name, project, "another startup line");
        }
        while self.made_ms().is_none() && self.now_ms < until_ms {
            self.run_until(self.now_ms + 1);
        }
        let before = self.traffic.sum;
        self.run_until(self.now_ms + CHANGE_TRAFFIC_MS);
        let change = Rate::of(self.traffic.sum.since(before), away, CHANGE_TRAFFIC_MS);
        self.run_until(until_ms + CHANGE_TRAFFIC_MS);
        let spread = self.traffic.change.take().unwrap_or_default();
        let mut reached_ms: Vec<u64> = spread.known.values().copied().collect();
        reached_ms.sort_unstable();

        let returned = self.bring_back(away);
        let records = self.hosts[0].node.as_ref().map_or(0, |node| node.record_sum().0);
        Measured {
            nodes: away,
            mesh_degree: self.overlay.mesh_degree(),
            reached_ms,
            copies: spread.copies,
            idle,
            idle_s: idle_ms as f64 / 1000.0,
            change,
            returned,
            records,
            status_bytes: self.status_bytes(),
            events: self.tally.events,
            took_s: began.elapsed().as_secs_f64(),
            trace: self.trace.finalize().to_hex().to_string(),
            violations: self.oracle.take_violations(),
        }
    }

    fn made_ms(&self) -> Option<u64> {
        self.traffic.change.as_ref()?.made_ms
    }

    /// Has some projects built; returns the first one's definition and who was asked.
    fn build_labs(&mut self, lot: &mut Lot) -> Option<(Name, Project)> {
        let mut first = None;
        for index in 0..PROJECTS {
            let name = Name::parse(&format!("lab{index}")).ok()?;
            let places = self.draw_places(PROJECT_HOSTS, lot);
            let project = self.lab_on(&name, &places, lot);
            let node = self.draw_up(lot);
            self.order_build(node, &name, project.clone());
            first.get_or_insert((name, project));
            self.run_until(self.now_ms + 500);
        }
        first
    }

    /// Has a project built.
    pub(crate) fn order_build(&mut self, node: usize, name: &Name, project: Project) -> OpId {
        let order = BuildOrder {
            label: Label { owner: name.clone(), project: name.clone() },
            project,
            blobs: Vec::new(),
            author: "people".to_owned(),
            existing: ExistingProject::Refuse,
            on_failure: OnFailure::Undo,
        };
        self.order(node, Operation::Build(Box::new(order)))
    }

    /// Has a project's first VM start differently.
    fn revise(&mut self, node: usize, name: &Name, project: Project, line: &str) {
        let known = self.hosts[node].node.as_ref().map(Node::projects).unwrap_or_default();
        let Some(id) = known.iter().find(|known| known.label.project == *name).map(|known| known.id) else {
            return;
        };
        self.order_revision(node, id, (0, project), line, Consent::Majority);
    }

    /// Has a VM of a project start differently; `line` is the reason, too.
    pub(crate) fn order_revision(
        &mut self,
        node: usize,
        id: ProjectId,
        (vm, mut project): (usize, Project),
        line: &str,
        consent: Consent,
    ) -> OpId {
        if let Some(vm) = project.vms.get_mut(vm) {
            vm.startup = vec![format!("echo {line}")];
        }
        let order = ReviseOrder {
            project: id,
            content: ReviseContent::Definition { project, blobs: Vec::new() },
            author: "people".to_owned(),
            reason: line.to_owned(),
            consent,
            running: RunningVms::Stop,
            from_head: None,
            keep_removed_ms: 0,
        };
        self.order(node, Operation::Revise(Box::new(order)))
    }

    /// Starts the host that was off; returns how long it took until it had all that the others had then.
    fn bring_back(&mut self, away: usize) -> Option<(u64, Sum)> {
        let began_ms = self.now_ms;
        let all = self.hosts[0].node.as_ref()?.record_sum().0;
        self.traffic.watched = Some((away, Sum::default()));
        self.restart(away);
        while self.now_ms < began_ms + RETURN_MS_MAX {
            self.run_until(self.now_ms + RETURN_LOOK_MS);
            let records = self.hosts[away].disk.records();
            let is_new = |record: &&VerifiedRecord| match &****record {
                Record::Host(status) => status.counter > 1,
                Record::Member(_)
                | Record::Commit(_)
                | Record::Vm(_)
                | Record::Link(_)
                | Record::Grant(_)
                | Record::Revocation(_)
                | Record::Gauges(_)
                | Record::Later(_) => true,
            };
            if records.len() >= all && records.filter(is_new).count() >= all {
                let (_, sum) = self.traffic.watched?;
                return Some((self.now_ms - began_ms, sum));
            }
        }
        None
    }

    fn status_bytes(&self) -> u64 {
        let known = self.hosts[0].disk.load().records;
        let status = known.iter().find(|record| matches!(****record, Record::Host(_)));
        status.map_or(0, crate::traffic::gossip_bytes)
    }
}
