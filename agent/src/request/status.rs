//! `status` and `list`, and who waits until VMs are up or down.

use mln_link::Reply;
use mln_link::message::{
    ForwardRow, KeptRow, NatState, OutsideRow, PortProtocol, ProjectRow, ProjectSelection, StartupRow,
    Status, StatusRow, StatusWait, UnsettledRow, VmState as State, WaitFor,
};
use mln_protocol::id::{Digest, Name};
use mln_protocol::model::{Forward, Transport};
use mln_protocol::node::{HostView, Node, ProjectView, Reach, VmView};
use mln_protocol::record::{ExitStatus, RunState, Startup, VmState};
use mln_protocol::time::Now;

use super::{answer, failure, select};
use crate::control::{Operator, ReplySender};
use crate::event_loop::EventLoop;
use crate::operations::split_reason;

/// How many operators may wait for a status.
const WAITERS_MAX: usize = 256;

/// Operators who wait until VMs are up or down.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    waiting: Vec<Waiter>,
}

#[derive(Debug)]
struct Waiter {
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
                if let Some(ms) = *timeout_ms {
                    self.end_wait_after(ms, reply.clone(), *until);
                }
                let (until, began_ms) = (*until, self.clock.now().mono_ms);
                let waiter = Waiter { until, operator: operator.clone(), reply, request: status, began_ms };
                self.waiters.waiting.push(waiter);
                self.answer_waiters();
            }
        }
    }

    /// Ends a wait that lasts too long; whoever got an answer meanwhile no longer listens.
    fn end_wait_after(&self, ms: u64, reply: ReplySender, until: WaitFor) {
        tokio::spawn(async move {
            let limit = tokio::time::sleep(std::time::Duration::from_millis(ms));
            tokio::select! {
                () = limit => {
                    let goal = if until == WaitFor::Up { "up" } else { "down" };
                    let why = format!("not all are {goal} after {} s", ms as f64 / 1000.0);
                    answer(&reply, [failure("waiting", why, &["mlnctl status"])]);
                }
                () = reply.closed() => {}
            }
        });
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
            let vain = if over { None } else { in_vain(node, waiter, waited_ms) };
            if let Some(why) = &vain {
                // The rows follow, so that the answer is whole.
                let _ = waiter.reply.post(failure("waiting", why.clone(), &["mlnctl start -p PROJECT"]));
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

/// Says why a wait for "up" can't end well: a VM is down, and nobody wants it otherwise.
fn in_vain(node: &Node, waiter: &Waiter, waited_ms: u64) -> Option<String> {
    if waiter.until == WaitFor::Down || waited_ms < HOPE_MS {
        return None;
    }
    let vms = select::vms(node, &waiter.request.target, &waiter.operator).ok()?;
    let idle = vms.iter().find(|vm| vm.status.run == RunState::Down && vm.status.state == VmState::Down)?;
    let ended = idle.status.exit.map_or_else(String::new, |exit| format!(", ended with {exit}"));
    Some(format!("{} on {} is down{ended}, and nobody starts it", idle.status.vm.name, idle.status.host))
}

fn is_over(rows: &[StatusRow], until: WaitFor) -> bool {
    rows.iter().all(|row| match until {
        WaitFor::Up => row.state == State::Up,
        WaitFor::Down => matches!(row.state, State::Down { .. }),
    })
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
