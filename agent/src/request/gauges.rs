//! What guests measure: heard from those of this host, told to whoever asks about a project.

use mln_link::Reply;
use mln_link::message::{GaugeRow, GaugeValue, Target};
use mln_protocol::id::{Name, VmId};
use mln_protocol::node::{Input, VmView};
use mln_protocol::policy::Machines;
use mln_protocol::record::TOLD_GAUGES_MAX;
use mln_protocol::wire::MACHINES_SEEN_MAX;
use mln_protocol::wire::me::MeValue;
use tracing::debug;

use super::{answer, select};
use crate::control::{Operator, ReplySender};
use crate::event_loop::EventLoop;

impl EventLoop {
    /// Takes in what a guest says that it measures now. It may say whatever it likes: what is no gauge is left out.
    pub(super) async fn hear_gauges(&mut self, vm: &VmId, values: Vec<MeValue>) {
        let values: Vec<(Name, f64)> = values.iter().take(TOLD_GAUGES_MAX).filter_map(gauge_of).collect();
        if !values.is_empty() {
            self.handle(Input::Gauges { vm: vm.clone(), values }).await;
        }
    }

    /// Returns what the other machines of a VM's project measure, by this host's wall clock.
    pub(super) fn other_machines(&self, vm: &VmId) -> Machines {
        let Some(project) = self.node.vm_project(vm) else { return Machines::new() };
        let now = self.clock.now();
        let others = self.node.vms(project).into_iter().filter(|other| other.status.vm != *vm);
        let measured = others.map(|other| {
            let gauges = self.node.gauges(now, &other.status.vm, other.owner);
            (other.status.vm.name, gauges)
        });
        measured.filter(|(_, gauges)| !gauges.is_empty()).take(MACHINES_SEEN_MAX).collect()
    }

    /// Answers `status --gauges`.
    pub(super) fn request_gauges(&self, target: &Target, operator: &Operator, reply: &ReplySender) {
        let found = match select::vms(&self.node, target, operator) {
            Ok(found) => found,
            Err(wrong) => return answer(reply, [*wrong]),
        };
        let seen = found.into_iter().filter(|vm| operator.sees(&vm.label));
        let rows: Vec<GaugeRow> = seen.flat_map(|vm| self.gauge_rows(&vm)).collect();
        if reply.post_rows(rows, Reply::Gauges).is_ok() {
            answer(reply, []);
        }
    }

    fn gauge_rows(&self, vm: &VmView) -> Vec<GaugeRow> {
        let now = self.clock.now();
        let gauges = self.node.gauges(now, &vm.status.vm, vm.owner).into_iter();
        let row = |(gauge, samples): (Name, Vec<mln_protocol::policy::Sample>)| GaugeRow {
            owner: vm.label.owner.clone(),
            project: vm.label.project.clone(),
            vm: vm.status.vm.name.clone(),
            gauge,
            values: samples
                .iter()
                .map(|sample| GaugeValue {
                    ago_ms: now.unix_ms.saturating_sub(sample.at_ms),
                    value: sample.value.to_string(),
                })
                .collect(),
        };
        gauges.map(row).collect()
    }
}

fn gauge_of(told: &MeValue) -> Option<(Name, f64)> {
    let gauge = Name::parse(&told.name).ok();
    let value = told.value.parse().ok().filter(|value: &f64| value.is_finite());
    let found = gauge.zip(value);
    if found.is_none() {
        debug!(name = told.name, value = told.value, "is no gauge");
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_gauge_is_left_out() {
        let told =
            |name: &str, value: &str| gauge_of(&MeValue { name: name.to_owned(), value: value.to_owned() });
        let load = Name::parse("load").expect("a name");
        assert_eq!(told("load", "-1.5"), Some((load, -1.5)));
        for (name, value) in [("-", "1"), ("load", "inf"), ("load", "NaN"), ("load", "much")] {
            assert_eq!(told(name, value), None, "{name} {value}");
        }
    }
}
