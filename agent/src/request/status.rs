//! `status` and `list`, and who waits until VMs are up or down.

use std::collections::BTreeMap;

use mln_link::Reply;
use mln_link::message::{
    ForwardRow, KeptRow, NatState, OutsideRow, PortProtocol, ProjectRow, ProjectSelection, StartupRow,
    Status, StatusRow, StatusWait, UnsettledRow, VmState as State, WaitFor,
};
use mln_protocol::id::{Digest, Label, Name};
use mln_protocol::model::{Forward, Transport};
use mln_protocol::node::{HostView, Node, ProjectView, Reach, VmView};
use mln_protocol::record::{ExitStatus, RunState, Startup, VmState};
use mln_protocol::time::Now;

use super::{answer, failure, select};
use crate::control::{Operator, ReplySender};
use crate::event_loop::{EventLoop, Work};
use crate::operations::split_reason;

/// How many operators may wait for a status.
const WAITERS_MAX: usize = 256;

/// Operators who wait until VMs are up or down.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    waiting: Vec<Waiter>,
    /// The number of the last one.
    last: u64,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    request: Status,
    operator: Operator,
    reply: ReplySender,
    until: WaitFor,
    began_ms: u64,
}

/// For how long a VM may be down, and nobody wanting it up, while somebody waits for it to come up: a start that was
/// asked of another agent takes a moment to get about. In milliseconds.
const HOPE_MS: u64 = 10_000;

impl EventLoop {
    pub(super) fn request_status(&mut self, status: Status, operator: &Operator, reply: ReplySender) {
        if let Some(text) = self.warning() {
            // The rows are worth more, and whoever has gone misses neither.
            let _ = reply.post(Reply::Warning { text });
        }
        match &status.wait {
            None => {
                let rows = rows(&self.node, self.clock.now(), &status, operator);
                finish(&reply, rows);
            }
            Some(_) if self.waiters.waiting.len() >= WAITERS_MAX => {
                let why = format!("{WAITERS_MAX} others wait already");
                answer(&reply, [failure("waiting", why, &["mlnctl status"])]);
            }
            Some(StatusWait { until, timeout_ms }) => {
                self.waiters.last += 1;
                let number = self.waiters.last;
                if let Some(ms) = *timeout_ms {
                    self.end_wait_after(ms, number, reply.clone());
                }
                let (until, began_ms) = (*until, self.clock.now().mono_ms);
                let operator = operator.clone();
                let waiter = Waiter { number, until, operator, reply, request: status, began_ms };
                if let Some(idle) = idle(&self.node, &waiter) {
                    // It may be up in a moment: somebody may have asked another agent for that just now.
                    let here = &self.identity.name;
                    let text =
                        format!("{}, as far as {here} knows; next: {}", idle.why, idle.next.join("; "));
                    let _ = waiter.reply.post(Reply::Warning { text });
                }
                self.waiters.waiting.push(waiter);
                self.answer_waiters();
            }
        }
    }

    /// Ends a wait that lasts too long; whoever got an answer meanwhile no longer listens.
    fn end_wait_after(&self, ms: u64, number: u64, reply: ReplySender) {
        let results = self.results.clone();
        tokio::spawn(async move {
            let limit = tokio::time::sleep(std::time::Duration::from_millis(ms));
            tokio::select! {
                // The loop has ended if nobody listens.
                () = limit => drop(results.send(Work::WaitOver { number, ms }).await),
                () = reply.closed() => {}
            }
        });
    }

    /// Gives up a wait that lasts too long, and says which VMs it was for; they may all be as they should by now.
    pub(crate) fn wait_over(&mut self, number: u64, ms: u64) {
        self.answer_waiters();
        let Some(at) = self.waiters.waiting.iter().position(|waiter| waiter.number == number) else { return };
        let waiter = self.waiters.waiting.swap_remove(at);
        let found = rows(&self.node, self.clock.now(), &waiter.request, &waiter.operator);
        let listed = found.as_ref().map_or(&[][..], |rows| &rows.vms);
        let late: Vec<String> = listed.iter().filter(|row| !is_so(row, waiter.until)).map(late).collect();
        let goal = if waiter.until == WaitFor::Up { "up" } else { "down" };
        let which = if late.is_empty() { "some aren't heard of yet".to_owned() } else { some_of(&late) };
        let why = format!("not all are {goal} after {} s: {which}", ms as f64 / 1000.0);
        let idle = idle(&self.node, &waiter).map(|idle| idle.next).unwrap_or_default();
        let next: Vec<&str> = idle.iter().map(String::as_str).chain(["mlnctl status"]).collect();
        // The rows follow, so that the answer is whole.
        let _ = waiter.reply.post(failure("waiting", why, &next));
        finish(&waiter.reply, found);
    }

    /// Answers those whose wait is over.
    pub(crate) fn answer_waiters(&mut self) {
        if self.waiters.waiting.is_empty() {
            return;
        }
        let now = self.clock.now();
        let node = &self.node;
        self.waiters.waiting.retain(|waiter| {
            let found = rows(node, now, &waiter.request, &waiter.operator);
            let over = match &found {
                Ok(Rows { vms, .. }) => {
                    is_over(vms, waiter.until) && is_complete(node, &waiter.request, &waiter.operator, vms)
                }
                Err(_) => true,
            };
            let waited_ms = now.mono_ms.saturating_sub(waiter.began_ms);
            let vain = if over || waited_ms < HOPE_MS { None } else { idle(node, waiter) };
            if let Some(idle) = &vain {
                let next: Vec<&str> = idle.next.iter().map(String::as_str).collect();
                // The rows follow, so that the answer is whole.
                let _ = waiter.reply.post(failure("waiting", idle.why.clone(), &next));
            }
            let ends = over || vain.is_some();
            if ends {
                finish(&waiter.reply, found);
            }
            !ends && !waiter.reply.is_closed()
        });
    }

    pub(super) fn request_list(&self, operator: &Operator, reply: &ReplySender) {
        let row = |project: mln_protocol::node::ProjectView| {
            let vms = self.node.vms(project.id);
            let up = vms.iter().filter(|vm| vm.status.state == VmState::Up).count();
            ProjectRow {
                owner: project.label.owner,
                project: project.label.project,
                id: project.id.0.to_string(),
                revisions: count(self.node.revisions(project.id).len()),
                hosts: count(project.hosts.len()),
                vms: count(project.vms),
                vms_up: count(up),
            }
        };
        let seen = self.node.projects().into_iter().filter(|project| operator.sees(&project.label));
        let rows = seen.map(row).collect();
        if reply.post_rows(rows, Reply::Projects).is_ok() {
            answer(reply, []);
        }
    }
}

fn finish(reply: &ReplySender, rows: Result<Rows, Box<Reply>>) {
    match rows {
        Ok(Rows { vms, outside, unsettled, kept, startup }) => {
            let told = reply.post_rows(vms, Reply::Status);
            let told = told.and_then(|()| reply.post_rows(outside, Reply::Outside));
            let told = told.and_then(|()| reply.post_rows(startup, Reply::Startup));
            let told = told.and_then(|()| reply.post_rows(unsettled, Reply::Unsettled));
            if told.and_then(|()| reply.post_rows(kept, Reply::Kept)).is_ok() {
                answer(reply, []);
            }
        }
        Err(wrong) => answer(reply, [*wrong]),
    }
}

/// Why a wait for "up" can't end well.
#[derive(Debug, PartialEq, Eq)]
struct Idle {
    /// Which VMs are down, and that nobody wants them otherwise.
    why: String,
    /// How they are started.
    next: Vec<String>,
}

/// Returns the VMs that somebody waits for to be up, and that are down, and nobody wants them otherwise.
fn idle(node: &Node, waiter: &Waiter) -> Option<Idle> {
    if waiter.until == WaitFor::Down {
        return None;
    }
    let mut vms = select::vms(node, &waiter.request.target, &waiter.operator).ok()?;
    let hosts = node.hosts();
    vms.retain(|vm| {
        // What is off may be anything by now.
        let is_down = vm.status.state == VmState::Down && matches!(state_of(&hosts, vm), State::Down { .. });
        is_down && vm.status.run == RunState::Down && waiter.operator.sees(&vm.label)
    });
    idle_of(&vms)
}

fn idle_of(vms: &[VmView]) -> Option<Idle> {
    let down = |vm: &VmView| {
        let ended = vm.status.exit.map_or_else(String::new, |exit| format!(", ended with {exit}"));
        format!("{} on {} is down{ended}", vm.status.vm.name, vm.status.host)
    };
    let all: Vec<String> = vms.iter().map(down).collect();
    let whom = if all.len() > 1 { "them" } else { "it" };
    let mut by_project: BTreeMap<&Label, Vec<&str>> = BTreeMap::new();
    for vm in vms {
        by_project.entry(&vm.label).or_default().push(vm.status.vm.name.as_str());
    }
    let start =
        |(label, names): (&Label, Vec<&str>)| format!("mlnctl start -p {label} -h {}", names.join(","));
    (!all.is_empty()).then(|| Idle {
        why: format!("{}, and nobody starts {whom}", some_of(&all)),
        next: by_project.into_iter().map(start).collect(),
    })
}

/// How many VMs are named; the others are counted.
const NAMES_MAX: usize = 8;

fn some_of(texts: &[String]) -> String {
    let more = texts.len().saturating_sub(NAMES_MAX);
    let named = texts[..texts.len() - more].join("; ");
    if more == 0 { named } else { format!("{named}; and {more} more") }
}

/// Says how a VM is that isn't as somebody waits for it.
fn late(row: &StatusRow) -> String {
    let StatusRow { vm, host, state, .. } = row;
    match state {
        State::Failed { why } => format!("{vm} on {host} failed: {why}"),
        State::Unknown => format!("{vm}: {host} is off"),
        state => format!("{vm} on {host} is {}", state.word()),
    }
}

fn is_over(rows: &[StatusRow], until: WaitFor) -> bool {
    rows.iter().all(|row| is_so(row, until))
}

fn is_so(row: &StatusRow, until: WaitFor) -> bool {
    match until {
        WaitFor::Up => row.state == State::Up,
        WaitFor::Down => matches!(row.state, State::Down { .. }),
    }
}

/// Whether every VM that was asked for has been heard of: a host may not yet have said that it has some.
fn is_complete(node: &Node, request: &Status, operator: &Operator, rows: &[StatusRow]) -> bool {
    let wanted = match &request.target.projects {
        ProjectSelection::All => {
            let seen = node.projects().into_iter().filter(|project| operator.sees(&project.label));
            seen.map(|project| project.vms).sum()
        }
        ProjectSelection::One(one) => select::project(node, one, operator).map_or(0, |project| project.vms),
    };
    !request.target.vms.is_empty() || rows.len() >= wanted
}

/// What is answered.
struct Rows {
    vms: Vec<StatusRow>,
    /// Those VMs that have something of the outside.
    outside: Vec<OutsideRow>,
    /// Those projects on which not all agree.
    unsettled: Vec<UnsettledRow>,
    /// The VMs that are left out and whose disks are kept.
    kept: Vec<KeptRow>,
    /// Those VMs whose startup lines failed.
    startup: Vec<StartupRow>,
}

/// Returns the projects of a selection on which not all agree.
fn unsettled(
    node: &Node,
    projects: &ProjectSelection,
    operator: &Operator,
) -> Result<Vec<UnsettledRow>, Box<Reply>> {
    let projects = match projects {
        ProjectSelection::All => node.projects(),
        ProjectSelection::One(wanted) => vec![select::project(node, wanted, operator)?],
    };
    let row = |project: ProjectView| {
        let heads = node.heads(project.id)?;
        let stranded: Vec<Name> = node.stranded(project.id).into_iter().map(|vm| vm.status.vm.name).collect();
        let is_settled = heads.partial.is_empty() && heads.contested.is_empty() && stranded.is_empty();
        (!is_settled).then(|| UnsettledRow {
            owner: project.label.owner.clone(),
            project: project.label.project.clone(),
            partial: heads.partial.iter().map(Digest::to_string).collect(),
            contested: heads.contested.iter().map(Digest::to_string).collect(),
            stranded,
        })
    };
    Ok(projects.into_iter().filter(|project| operator.sees(&project.label)).filter_map(row).collect())
}

/// Returns the VMs that these projects leave out and whose disks are kept.
pub(super) fn kept(node: &Node, now: Now, projects: &[ProjectView], operator: &Operator) -> Vec<KeptRow> {
    let seen = projects.iter().filter(|project| operator.sees(&project.label));
    let kept = seen.flat_map(|project| node.kept(project.id));
    kept.map(|kept| KeptRow {
        owner: kept.vm.label.owner,
        project: kept.vm.label.project,
        age_ms: now.unix_ms.saturating_sub(kept.vm.status.kept_since_unix_ms()),
        left_ms: kept.until_unix_ms.saturating_sub(now.unix_ms),
        vm: kept.vm.status.vm.name,
        host: kept.vm.status.host,
    })
    .collect()
}

/// Returns what a VM has of the outside; none where that is nothing.
fn outside(vm: &VmView) -> Option<OutsideRow> {
    let status = &vm.status;
    if status.nat.is_none() && status.forwards.is_empty() {
        return None;
    }
    let forward = |forward: &Forward| ForwardRow {
        host_port: forward.host_port,
        guest_port: forward.guest_port,
        protocol: match forward.transport {
            Transport::Tcp => PortProtocol::Tcp,
            Transport::Udp => PortProtocol::Udp,
        },
    };
    Some(OutsideRow {
        owner: vm.label.owner.clone(),
        project: vm.label.project.clone(),
        vm: status.vm.name.clone(),
        nat: status.nat.map(|nat| match nat.why_not() {
            None => NatState::Up,
            Some(why) => NatState::None { why: why.to_owned() },
        }),
        forwards: status.forwards.iter().map(forward).collect(),
    })
}

fn rows(node: &Node, now: Now, request: &Status, operator: &Operator) -> Result<Rows, Box<Reply>> {
    let hosts = node.hosts();
    let row = |vm: VmView| {
        let host = hosts.iter().find(|host| host.key == vm.owner);
        let reach = host.map_or(Reach::Away, |host| host.reach);
        let heard = host.and_then(|host| host.status.as_ref()).map(|status| status.measured_unix_ms);
        let age_ms = match reach {
            Reach::Here | Reach::Connected => 0,
            Reach::Away => now.unix_ms.saturating_sub(heard.unwrap_or(vm.status.since_unix_ms)),
        };
        StatusRow {
            owner: vm.label.owner,
            project: vm.label.project,
            vm: vm.status.vm.name,
            host: vm.status.host,
            address: vm.status.address,
            since_ms: Some(now.unix_ms.saturating_sub(vm.status.since_unix_ms)),
            state: state(reach, vm.status.state, vm.status.exit),
            age_ms,
        }
    };
    let mut found = select::vms(node, &request.target, operator)?;
    found.retain(|vm| operator.sees(&vm.label));
    let outside = found.iter().filter_map(outside).collect();
    let failed = found.iter().filter(|vm| vm.status.startup == Startup::Failed);
    let startup = failed.filter(|vm| vm.status.state == VmState::Up).map(|vm| StartupRow {
        owner: vm.label.owner.clone(),
        project: vm.label.project.clone(),
        vm: vm.status.vm.name.clone(),
    });
    let startup = startup.collect();
    let unsettled = unsettled(node, &request.target.projects, operator)?;
    let projects = match &request.target.projects {
        ProjectSelection::All => node.projects(),
        ProjectSelection::One(wanted) => vec![select::project(node, wanted, operator)?],
    };
    let kept = kept(node, now, &projects, operator);
    Ok(Rows { vms: found.into_iter().map(row).collect(), outside, unsettled, kept, startup })
}

/// Returns how a VM is, as far as this host can know.
pub(super) fn state_of(hosts: &[HostView], vm: &VmView) -> State {
    let host = hosts.iter().find(|host| host.key == vm.owner);
    state(host.map_or(Reach::Away, |host| host.reach), vm.status.state.clone(), vm.status.exit)
}

fn state(reach: Reach, state: VmState, exit: Option<ExitStatus>) -> State {
    if reach == Reach::Away {
        return State::Unknown;
    }
    match state {
        VmState::Building => State::Building,
        // As a shell has it: a signal counts from 128.
        VmState::Down | VmState::Removed | VmState::Kept => State::Down {
            exit_status: exit.map(|exit| match exit {
                ExitStatus::Code(code) => code,
                ExitStatus::Signal(signal) => 128 + signal,
            }),
        },
        VmState::Booting => State::Starting,
        VmState::Up => State::Up,
        VmState::Stopping => State::Stopping,
        VmState::Failed { reason } => State::Failed { why: split_reason(&reason).0 },
    }
}

pub(super) fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mln_protocol::id::{ProjectId, PublicKey, VmId};
    use mln_protocol::model::{BootOrder, MemoryMib};
    use mln_protocol::record::{Epoch, VmStatus};

    fn name(text: &str) -> Name {
        Name::parse(text).expect("a name")
    }

    /// A VM that is down, of some project of anna's.
    fn down(project: &str, vm: &str, exit: Option<ExitStatus>) -> VmView {
        let (birth, key) = (Digest::of(project.as_bytes()), PublicKey([1; 32]));
        let status = VmStatus {
            counter: 1,
            vm: VmId { birth, name: name(vm) },
            epoch: Epoch::FIRST,
            project: ProjectId(birth),
            run: RunState::Down,
            run_counter: 1,
            run_by: key,
            state: VmState::Down,
            exit,
            memory: MemoryMib(64),
            boot_order: BootOrder(99),
            address: None,
            since_unix_ms: 0,
            kept_ms: 0,
            nat: None,
            forwards: Vec::new(),
            part: None,
            startup: Startup::Fine,
            host: name("oslo"),
        };
        let label = Label { owner: name("anna"), project: name(project) };
        VmView { label, owner: key, status }
    }

    #[test]
    fn who_waits_in_vain_is_told_for_whom_and_what_starts_them() {
        assert_eq!(idle_of(&[]), None);
        let one = idle_of(&[down("ring", "a", Some(ExitStatus::Code(3)))]).expect("it is down");
        assert_eq!(
            one.why,
            format!("a on oslo is down, ended with {}, and nobody starts it", ExitStatus::Code(3))
        );
        assert_eq!(one.next, ["mlnctl start -p anna/ring -h a"]);
        let vms = [down("ring", "a", None), down("ring", "b", None), down("web", "a", None)];
        let three = idle_of(&vms).expect("they are down");
        assert!(three.why.ends_with("a on oslo is down, and nobody starts them"), "{}", three.why);
        assert_eq!(three.next, ["mlnctl start -p anna/ring -h a,b", "mlnctl start -p anna/web -h a"]);
        let many: Vec<VmView> = (1..=10).map(|number| down("ring", &format!("n{number}"), None)).collect();
        let many = idle_of(&many).expect("they are down");
        assert!(many.why.contains("n8 on oslo is down; and 2 more, and nobody"), "{}", many.why);
        assert_eq!(many.next, ["mlnctl start -p anna/ring -h n1,n2,n3,n4,n5,n6,n7,n8,n9,n10"]);
    }

    #[test]
    fn what_isn_t_as_it_is_waited_for_is_told_with_what_is_known_of_why() {
        let row = |state: State| StatusRow {
            owner: name("anna"),
            project: name("ring"),
            vm: name("a"),
            host: name("oslo"),
            address: None,
            since_ms: None,
            state,
            age_ms: 0,
        };
        assert_eq!(late(&row(State::Failed { why: "no room".to_owned() })), "a on oslo failed: no room");
        assert_eq!(late(&row(State::Unknown)), "a: oslo is off");
        assert_eq!(late(&row(State::Starting)), "a on oslo is starting");
        let stopped = row(State::Down { exit_status: None });
        assert!(is_so(&stopped, WaitFor::Down) && !is_so(&stopped, WaitFor::Up));
    }
}
