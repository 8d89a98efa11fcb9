//! What the host of a VM tells its policies, as bytes: a part of [`super::me`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fragment_policies::PolicyWire;
use super::me::ME_BYTES_MAX;
use super::{DecodeError, name};
use crate::model::Policy;
use crate::policy::{Companion, DECIDED_MAX, Decided, Decision, HostSeen, Sample, Shared, Tenure, Told};
use crate::record::{Measured, TOLD_GAUGES_MAX, TOLD_VALUES_MAX};

/// How many hosts, classes, and VMs that share a policy, one VM is told of.
pub const SIGHT_ROWS_MAX: usize = 64;

/// Of how many machines of its project one VM is told what they measure: with the rest it fits into one message.
pub const MACHINES_SEEN_MAX: usize = 24;

/// How many bytes it may take, so that it fits into one message with what goes before it.
const VIEW_BYTES_MAX: usize = ME_BYTES_MAX - 256;

/// A VM's policies, and what they see of the mesh and the project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeSight {
    policies: Vec<PolicyWire>,
    vm: String,
    host: String,
    classes: Vec<(String, u32)>,
    volumes: u32,
    hosts: Vec<HostWire>,
    cloud_spent_ms: u64,
    shared: Vec<SharedWire>,
}

/// The same, and what the other machines of the project measure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeView {
    sight: MeSight,
    machines: Vec<MachineWire>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct MachineWire {
    name: String,
    gauges: Vec<(String, Vec<ValueWire>)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ValueWire {
    /// How long ago, in milliseconds: host and guest have no clock in common.
    ago_ms: u32,
    bits: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct HostWire {
    name: String,
    site: String,
    rented: bool,
    round_trip_ms: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SharedWire {
    policy: String,
    vms: Vec<(String, bool)>,
    decided: Vec<DecidedWire>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct DecidedWire {
    /// How long ago, in milliseconds: host and guest have no clock in common.
    ago_ms: u64,
    decision: DecisionWire,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum DecisionWire {
    Stay,
    Move { to: String },
    Scale { class: String, to: u32 },
    AddVolume,
}

impl MeSight {
    /// Makes it of what there is at `now_ms`, by the clock of the decisions in `told`. What is too much for one message is left
    /// out; of those that share a policy, what doesn't run first.
    pub fn new(policies: &[Policy], told: &Told, now_ms: u64) -> Self {
        let host = |host: &HostSeen| HostWire {
            name: host.name.to_string(),
            site: host.site.to_string(),
            rented: host.tenure == Tenure::Cloud,
            round_trip_ms: host.round_trip_ms,
        };
        let shared = |(policy, shared): (&crate::id::Name, &Shared)| {
            let (up, down): (Vec<&Companion>, Vec<&Companion>) = shared.vms.iter().partition(|vm| vm.runs);
            let vms = up.into_iter().chain(down).take(SIGHT_ROWS_MAX);
            let newest = shared.decided.iter().rev().take(DECIDED_MAX).rev();
            SharedWire {
                policy: policy.to_string(),
                vms: vms.map(|companion| (companion.vm.to_string(), companion.runs)).collect(),
                decided: newest.map(|decided| decided_wire(decided, now_ms)).collect(),
            }
        };
        Self {
            policies: policies.iter().map(PolicyWire::from).collect(),
            vm: told.vm.to_string(),
            host: told.host.to_string(),
            classes: told
                .classes
                .iter()
                .take(SIGHT_ROWS_MAX)
                .map(|(class, count)| (class.to_string(), *count))
                .collect(),
            volumes: told.volumes,
            hosts: told.hosts.iter().take(SIGHT_ROWS_MAX).map(host).collect(),
            cloud_spent_ms: told.cloud_spent_ms,
            shared: told.shared.iter().map(shared).collect(),
        }
    }

    /// Returns what it says; times by the reader's clock, at which it is `now_ms`.
    pub fn told(self, now_ms: u64) -> Result<(Vec<Policy>, Told), DecodeError> {
        let policies = self.policies.into_iter().map(Policy::try_from).collect::<Result<_, _>>()?;
        let host = |wire: HostWire| {
            Ok(HostSeen {
                name: name(&wire.name)?,
                site: name(&wire.site)?,
                tenure: if wire.rented { Tenure::Cloud } else { Tenure::Owned },
                round_trip_ms: wire.round_trip_ms,
            })
        };
        let companion = |(vm, runs): (String, bool)| Ok(Companion { vm: name(&vm)?, runs });
        let shared = |wire: SharedWire| {
            let vms = wire.vms.into_iter().map(companion).collect::<Result<_, DecodeError>>()?;
            let decided = wire.decided.into_iter().map(|decided| decided_at(decided, now_ms));
            let decided = decided.collect::<Result<_, DecodeError>>()?;
            Ok((name(&wire.policy)?, Shared { vms, decided }))
        };
        let classes = self.classes.into_iter().map(|(class, count)| Ok((name(&class)?, count)));
        let told = Told {
            vm: name(&self.vm)?,
            host: name(&self.host)?,
            classes: classes.collect::<Result<BTreeMap<_, _>, DecodeError>>()?,
            volumes: self.volumes,
            hosts: self.hosts.into_iter().map(host).collect::<Result<_, DecodeError>>()?,
            cloud_spent_ms: self.cloud_spent_ms,
            machines: BTreeMap::new(),
            shared: self.shared.into_iter().map(shared).collect::<Result<_, DecodeError>>()?,
        };
        Ok((policies, told))
    }
}

impl MeView {
    /// Makes it of what there is at `now_ms`, by the clock of the times in `told`. Of many machines some are left out.
    pub fn new(policies: &[Policy], told: &Told, now_ms: u64) -> Self {
        let value = |sample: &Sample| {
            let ago_ms = u32::try_from(now_ms.saturating_sub(sample.at_ms)).unwrap_or(u32::MAX);
            Some(ValueWire { ago_ms, bits: Measured::of(sample.value)?.to_bits() })
        };
        let values = |samples: &[Sample]| {
            samples.iter().skip(samples.len().saturating_sub(TOLD_VALUES_MAX)).filter_map(value).collect()
        };
        let machine =
            |(vm, gauges): (&crate::id::Name, &BTreeMap<crate::id::Name, Vec<Sample>>)| MachineWire {
                name: vm.to_string(),
                gauges: gauges
                    .iter()
                    .take(TOLD_GAUGES_MAX)
                    .map(|(gauge, samples)| (gauge.to_string(), values(samples)))
                    .collect(),
            };
        let machines = told.machines.iter().take(MACHINES_SEEN_MAX).map(machine).collect();
        let mut view = Self { sight: MeSight::new(policies, told, now_ms), machines };
        // What policies can't do without comes first: others measure what there is room for.
        while super::encode(&view).len() > VIEW_BYTES_MAX && view.machines.pop().is_some() {}
        view
    }

    /// Returns what it says; times by the reader's clock, at which it is `now_ms`.
    pub fn told(self, now_ms: u64) -> Result<(Vec<Policy>, Told), DecodeError> {
        let value = |wire: ValueWire| {
            let value =
                Measured::from_bits(wire.bits).ok_or(DecodeError::Invalid { what: "value of a gauge" })?;
            Ok(Sample { at_ms: now_ms.saturating_sub(wire.ago_ms.into()), value: value.value() })
        };
        let gauge = |(gauge, values): (String, Vec<ValueWire>)| {
            let samples = values.into_iter().map(value).collect::<Result<Vec<_>, DecodeError>>()?;
            Ok((name(&gauge)?, samples))
        };
        let machine = |wire: MachineWire| {
            let gauges = wire.gauges.into_iter().map(gauge).collect::<Result<_, DecodeError>>()?;
            Ok((name(&wire.name)?, gauges))
        };
        let machines = self.machines.into_iter().map(machine).collect::<Result<_, DecodeError>>()?;
        let (policies, told) = self.sight.told(now_ms)?;
        Ok((policies, Told { machines, ..told }))
    }
}

fn decided_wire(decided: &Decided, now_ms: u64) -> DecidedWire {
    let decision = match &decided.decision {
        Decision::Stay => DecisionWire::Stay,
        Decision::Move { to } => DecisionWire::Move { to: to.to_string() },
        Decision::Scale { class, to } => DecisionWire::Scale { class: class.to_string(), to: *to },
        Decision::AddVolume => DecisionWire::AddVolume,
    };
    DecidedWire { ago_ms: now_ms.saturating_sub(decided.at_ms), decision }
}

fn decided_at(wire: DecidedWire, now_ms: u64) -> Result<Decided, DecodeError> {
    let decision = match wire.decision {
        DecisionWire::Stay => Decision::Stay,
        DecisionWire::Move { to } => Decision::Move { to: name(&to)? },
        DecisionWire::Scale { class, to } => Decision::Scale { class: name(&class)?, to },
        DecisionWire::AddVolume => Decision::AddVolume,
    };
    Ok(Decided { at_ms: now_ms.saturating_sub(wire.ago_ms), decision })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::{BuiltinName, Decider, Tuning};
    use crate::sample::name as named;
    use crate::wire::me::{ME_BYTES_MAX, MeAnswer, encode_me_answer};

    /// What a VM might be told at 100,000 ms.
    pub(in crate::wire) fn sight() -> (Vec<Policy>, Told) {
        let policy = Policy {
            name: named("g"),
            origin: named("o"),
            decider: Some(Decider::Builtin(BuiltinName::Scale)),
            tuning: Tuning { gauge: Some(named("l")), quota_milli: Some(1), window_ms: None },
            every_ms: 2,
            grace_ms: 3,
            may: Vec::new(),
        };
        let host =
            HostSeen { name: named("h"), site: named("s"), tenure: Tenure::Cloud, round_trip_ms: Some(4) };
        let decided = Decided { at_ms: 95_000, decision: Decision::Scale { class: named("c"), to: 6 } };
        let shared = Shared { vms: vec![Companion { vm: named("v"), runs: true }], decided: vec![decided] };
        let told = Told {
            vm: named("v"),
            host: named("h"),
            classes: [(named("c"), 7)].into(),
            volumes: 8,
            hosts: vec![host],
            cloud_spent_ms: 9,
            machines: BTreeMap::new(),
            shared: [(named("g"), shared)].into(),
        };
        (vec![policy], told)
    }

    #[test]
    fn what_a_vm_is_told_comes_back_by_its_own_clock() {
        let (policies, told) = sight();
        let wire = MeSight::new(&policies, &told, 100_000);
        let (same, mut back) = wire.told(7_000).expect("names");
        assert_eq!(same, policies);
        let decided = &mut back.shared.get_mut(&named("g")).expect("it is there").decided;
        assert_eq!(decided[0].at_ms, 2_000);
        decided[0].at_ms = 95_000;
        assert_eq!(back, told);
    }

    /// What another machine of its project measures.
    pub(in crate::wire) fn view() -> (Vec<Policy>, Told) {
        let (policies, told) = sight();
        let samples = vec![Sample { at_ms: 70_000, value: 0.1 }, Sample { at_ms: 80_000, value: -2.0 }];
        (policies, Told { machines: [(named("w"), [(named("l"), samples)].into())].into(), ..told })
    }

    #[test]
    fn what_other_machines_measure_comes_back_by_its_own_clock() {
        let (policies, told) = view();
        let (same, back) = MeView::new(&policies, &told, 100_000).told(100_000).expect("names");
        assert_eq!((same, back), (policies.clone(), told.clone()));
        let (_, later) = MeView::new(&policies, &told, 100_000).told(100_500).expect("names");
        assert_eq!(later.machines[&named("w")][&named("l")][0].at_ms, 70_500);
    }

    #[test]
    fn the_most_that_a_machine_is_told_fits_into_one_message() {
        let (policies, mut told) = sight();
        let long = |number: usize| named(&format!("{number:0>63}"));
        let samples = vec![Sample { at_ms: 1, value: 1.0 }; 99];
        let gauges: BTreeMap<_, _> = (0..20).map(|gauge| (long(gauge), samples.clone())).collect();
        let machines = (0..200).map(|machine| (long(machine), gauges.clone())).collect();
        let vms: Vec<_> = (0..99).map(|vm| Companion { vm: long(vm), runs: true }).collect();
        told.shared =
            (0..6).map(|policy| (long(policy), Shared { vms: vms.clone(), decided: Vec::new() })).collect();
        let view = MeView::new(&policies, &Told { machines, ..told }, 100_000);
        assert!((1..MACHINES_SEEN_MAX).contains(&view.machines.len()), "{}", view.machines.len());
        let bytes = encode_me_answer(1, MeAnswer::View(Box::new(view)));
        assert!(bytes.len() < ME_BYTES_MAX, "{} bytes", bytes.len());
    }

    #[test]
    fn of_many_that_share_a_policy_those_that_run_are_told_first() {
        let (policies, mut told) = sight();
        let vms = (0..200).map(|number| Companion { vm: named(&format!("v{number}")), runs: number >= 190 });
        told.shared.insert(named("g"), Shared { vms: vms.collect(), decided: Vec::new() });
        let (_, back) = MeSight::new(&policies, &told, 0).told(0).expect("names");
        let vms = &back.shared[&named("g")].vms;
        assert_eq!((vms.len(), vms.iter().filter(|vm| vm.runs).count()), (SIGHT_ROWS_MAX, 10));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let (policies, told) = sight();
        let wire = MeSight { vm: "-".to_owned(), ..MeSight::new(&policies, &told, 0) };
        assert!(wire.told(0).is_err());
    }
}
