//! `start` and `stop`.

use mln_link::message::{ProjectSelection, Start, Stop, StopManner, Target, VmState};
use mln_protocol::node::{Operation, RunOrder, VmView};
use mln_protocol::plan::StopLimit;
use mln_protocol::record::RunState;

use super::{answer, select, status};
use crate::control::{Operator, ReplySender};
use crate::event_loop::EventLoop;
use crate::operations::Kind;

/// How long a VM may take to shut down where the operator doesn't say, in milliseconds.
const STOP_MS: u64 = 60_000;

impl EventLoop {
    pub(super) async fn request_start(&mut self, start: Start, operator: &Operator, reply: ReplySender) {
        self.request_run(start.target, RunOrder::Up, start.pause_ms, operator, reply).await;
    }

    pub(super) async fn request_stop(&mut self, stop: Stop, operator: &Operator, reply: ReplySender) {
        let limit = match stop.manner {
            StopManner::Ask => StopLimit::After(STOP_MS),
            StopManner::AskThenKill { after_ms } => StopLimit::After(after_ms),
            StopManner::Halt => StopLimit::Now,
        };
        self.request_run(stop.target, RunOrder::Down(limit), stop.pause_ms, operator, reply).await;
    }

    async fn request_run(
        &mut self,
        target: Target,
        order: RunOrder,
        pause_ms: u64,
        operator: &Operator,
        reply: ReplySender,
    ) {
        let vms = match select::vms(&self.node, &target, operator) {
            Ok(vms) => vms,
            Err(wrong) => return answer(&reply, [*wrong]),
        };
        let kind = match order {
            RunOrder::Up => Kind::Start,
            RunOrder::Down(_) => Kind::Stop,
        };
        let project = match target.projects {
            ProjectSelection::One(project) => Some(project.project),
            ProjectSelection::All => None,
        };
        let hosts = self.node.hosts();
        let is_there = |vm: &&VmView| match (&order, status::state_of(&hosts, vm)) {
            (RunOrder::Up, VmState::Up) => vm.status.run == RunState::Up,
            (RunOrder::Down(_), VmState::Down { .. }) => vm.status.run == RunState::Down,
            _ => false,
        };
        let there = vms.iter().filter(is_there);
        let there = there.map(|vm| (vm.status.vm.name.clone(), vm.status.host.clone())).collect();
        let op = self.operations.begin_run(reply, kind, project, there);
        let vms = vms.into_iter().map(|vm| vm.status.vm).collect();
        self.operate(op, Operation::Run { vms, order, pause_ms }, operator).await;
    }
}
