//! What guests measure, between real nodes.

use super::*;
use crate::id::Name;
use crate::policy::Sample;
use crate::record::{HostGauges, Measured, TOLD_GAUGES_MAX, TOLD_VALUES_MAX};

fn values(of: &[(&str, f64)]) -> Vec<(Name, f64)> {
    of.iter().map(|(gauge, value)| (name(gauge), *value)).collect()
}

impl Cluster {
    /// Builds the ring and has its machines up; returns the machine of the first host.
    fn with_one_up(&mut self) -> VmId {
        let project = self.build_ring();
        let vms = self.vms(project);
        self.begin(0, 2, Operation::Run { vms: vms.clone(), order: RunOrder::Up, pause_ms: 0 });
        for _ in 0..3 {
            self.end_steps();
        }
        let vm = vms.into_iter().find(|vm| vm.name.as_str() == "router0").expect("it is in the ring");
        self.input(0, Input::Observed { vm: vm.clone(), observed: Observed::Running(RunPhase::Ready) });
        vm
    }

    fn measures(&mut self, vm: &VmId, of: &[(&str, f64)]) {
        self.input(0, Input::Gauges { vm: vm.clone(), values: values(of) });
    }

    /// Returns what a node knows of a gauge.
    fn history(&self, index: usize, vm: &VmId, gauge: &str) -> Vec<Sample> {
        let now = Now { mono_ms: self.now_ms, unix_ms: self.now_ms };
        let mut gauges = self.nodes[index].gauges(now, vm, keys(0).public());
        gauges.remove(&name(gauge)).unwrap_or_default()
    }

    fn told(&self) -> Option<u64> {
        self.nodes[1].records.gauges(keys(0).public()).map(|told| told.counter)
    }
}

#[test]
fn what_a_guest_measures_is_known_at_once_at_its_host_and_soon_elsewhere() {
    let mut cluster = Cluster::new(512);
    let vm = cluster.with_one_up();
    cluster.pass(5_000);
    cluster.measures(&vm, &[("load", 1.5), ("cpu", 3.0)]);
    let load = Sample { at_ms: cluster.now_ms, value: 1.5 };
    assert_eq!(cluster.history(0, &vm, "load"), [load]);
    assert_eq!(cluster.history(1, &vm, "load"), []);
    cluster.pass(limits::GAUGES_GATHER_MS);
    assert_eq!(cluster.history(1, &vm, "load"), [load]);
    assert_eq!(cluster.history(2, &vm, "cpu")[0].value, 3.0);
}

#[test]
fn hosts_whose_guests_measure_nothing_say_nothing() {
    let mut cluster = Cluster::new(512);
    let vm = cluster.with_one_up();
    cluster.measures(&vm, &[]);
    cluster.pass(600_000);
    for node in &cluster.nodes {
        assert_eq!(node.records.gauges(keys(0).public()), None);
        assert!(!node.timers.is_set(&Timer::Gauges));
    }
}

#[test]
fn the_history_is_of_values_that_are_apart_and_its_newest_is_the_newest() {
    let mut cluster = Cluster::new(512);
    let vm = cluster.with_one_up();
    let began_ms = cluster.now_ms;
    for second in 1..=300_u32 {
        cluster.pass(1_000);
        cluster.measures(&vm, &[("load", f64::from(second))]);
    }
    let found = cluster.history(0, &vm, "load");
    assert_eq!((found.len(), found[found.len() - 1].value), (TOLD_VALUES_MAX, 300.0));
    let at: Vec<u64> = found.iter().map(|sample| (sample.at_ms - began_ms) / 1000).collect();
    assert!(at[..TOLD_VALUES_MAX - 1].windows(2).all(|two| two[1] - two[0] >= 9), "{at:?}");
}

#[test]
fn a_guest_has_so_many_gauges_and_no_more_and_none_that_is_no_number() {
    let mut cluster = Cluster::new(512);
    let vm = cluster.with_one_up();
    let names: Vec<String> = (0..99).map(|number| format!("g{number}")).collect();
    let many: Vec<(&str, f64)> = names.iter().map(|name| (name.as_str(), 1.0)).collect();
    cluster.measures(&vm, &[("load", f64::NAN)]);
    cluster.measures(&vm, &many);
    let now = Now { mono_ms: cluster.now_ms, unix_ms: cluster.now_ms };
    let gauges = cluster.nodes[0].gauges(now, &vm, keys(0).public());
    assert_eq!(gauges.len(), TOLD_GAUGES_MAX);
    assert!(!gauges.contains_key(&name("load")));
}

#[test]
fn others_are_told_no_more_often_than_the_rate_of_all_allows() {
    let mut cluster = Cluster::new(512);
    let vm = cluster.with_one_up();
    let names: Vec<String> = (0..TOLD_GAUGES_MAX).map(|number| format!("{number:0>40}")).collect();
    for second in 0..600_u32 {
        cluster.pass(1_000);
        let many: Vec<(&str, f64)> = names.iter().map(|name| (name.as_str(), f64::from(second))).collect();
        cluster.measures(&vm, &many);
    }
    let told = cluster.nodes[1].records.gauges(keys(0).public()).expect("it was told");
    let bytes = wire::gauges_bytes(told) as u64;
    let rate = bytes * told.counter / 600;
    assert!(rate <= limits::GAUGES_BYTES_PER_S, "{rate} bytes a second, {} records", told.counter);
    assert!(told.counter >= 20, "{} records of {bytes} bytes", told.counter);
}

#[test]
fn a_machine_that_stops_measures_nothing_any_more_and_begins_anew() {
    let mut cluster = Cluster::new(512);
    let vm = cluster.with_one_up();
    cluster.pass(5_000);
    cluster.measures(&vm, &[("load", 1.0)]);
    cluster.pass(20_000);
    assert_eq!(cluster.told(), Some(1));
    let down = Operation::Run { vms: vec![vm.clone()], order: RunOrder::Down(StopLimit::Now), pause_ms: 0 };
    cluster.begin(0, 3, down);
    cluster.end_steps();
    cluster.measures(&vm, &[("load", 2.0)]);
    assert!((0..3).all(|index| cluster.history(index, &vm, "load").is_empty()));
    cluster.pass(20_000);
    assert_eq!(cluster.told(), Some(1), "of what is down nothing is said");
    cluster.begin(0, 4, Operation::Run { vms: vec![vm.clone()], order: RunOrder::Up, pause_ms: 0 });
    cluster.end_steps();
    cluster.input(0, Input::Observed { vm: vm.clone(), observed: Observed::Running(RunPhase::Ready) });
    assert!((0..3).all(|index| cluster.history(index, &vm, "load").is_empty()), "that was before");
    cluster.measures(&vm, &[("load", 3.0)]);
    cluster.pass(20_000);
    assert_eq!(cluster.history(2, &vm, "load").len(), 1);
}

#[test]
fn a_host_that_was_started_anew_goes_on_counting() {
    let mut cluster = Cluster::new(512);
    let vm = cluster.with_one_up();
    cluster.measures(&vm, &[("load", 1.0)]);
    cluster.pass(20_000);
    assert_eq!(cluster.told(), Some(1));
    // What it has heard of itself is all that it has kept.
    cluster.nodes[0].gauges = GaugeBoard::default();
    cluster.measures(&vm, &[("load", 2.0)]);
    cluster.pass(20_000);
    assert_eq!(cluster.told(), Some(2));
    assert_eq!(cluster.history(1, &vm, "load")[0].value, 2.0);
}

#[test]
fn of_many_machines_fewer_values_are_told_and_the_record_stays_small_enough() {
    let mut cluster = Cluster::new(512);
    let vm = cluster.with_one_up();
    let names: Vec<String> = (0..TOLD_GAUGES_MAX).map(|number| format!("gauge{number}")).collect();
    for (count, least) in [(2_usize, TOLD_VALUES_MAX), (30, 1), (400, 1)] {
        let node = &mut cluster.nodes[0];
        node.gauges = GaugeBoard::default();
        for number in 0..count {
            let vm = VmId { name: name(&format!("vm{number}")), ..vm.clone() };
            for moment in 0..TOLD_VALUES_MAX as u64 {
                let many = names.iter().map(|gauge| (name(gauge), moment as f64)).collect();
                node.gauges.note(moment * 10_000, &vm, many);
            }
        }
        let now = Now { mono_ms: 200_000, unix_ms: 200_000 };
        let told = node.gauges_that_fit(now, 1);
        assert!(wire::gauges_bytes(&told) <= limits::GAUGES_BYTES_MAX);
        assert!(
            !told.vms.is_empty() && (count > 30 || told.vms.len() == count),
            "{} of {count}",
            told.vms.len()
        );
        for gauges in told.vms.values() {
            for readings in gauges.values() {
                assert!(readings.len() >= least);
                assert_eq!(readings[readings.len() - 1].value, Measured::of(11.0).expect("a number"));
            }
        }
    }
}

#[test]
fn what_did_not_fit_the_last_time_comes_first_the_next_time() {
    let mut cluster = Cluster::new(512);
    let vm = cluster.with_one_up();
    let node = &mut cluster.nodes[0];
    let gauges: Vec<String> = (0..TOLD_GAUGES_MAX).map(|number| format!("gauge{number}")).collect();
    let vms: Vec<VmId> =
        (0..400).map(|number| VmId { name: name(&format!("vm{number}")), ..vm.clone() }).collect();
    for vm in &vms {
        node.gauges.note(0, vm, gauges.iter().map(|gauge| (name(gauge), 1.0)).collect());
    }
    let now = Now { mono_ms: 0, unix_ms: 0 };
    let mut told = BTreeMap::<VmId, usize>::new();
    let mut records = 0;
    while told.len() < vms.len() {
        let some = node.gauges_that_fit(now, 1);
        let bytes = wire::gauges_bytes(&some);
        assert!(bytes <= limits::GAUGES_BYTES_MAX && bytes > limits::GAUGES_BYTES_MAX * 9 / 10, "{bytes}");
        some.vms.into_keys().for_each(|vm| *told.entry(vm).or_default() += 1);
        records += 1;
        assert!(records < 100, "{} of 400 were told", told.len());
    }
    assert!(told.values().all(|times| *times <= 2), "all have their turn");
    node.gauges = GaugeBoard::default();
    node.gauges.note(0, &vms[7], values(&[("load", 1.0)]));
    assert_eq!(node.gauges_that_fit(now, 1).vms.len(), 1);
}

#[test]
fn hosts_that_have_told_nothing_for_long_share_no_rate_any_more() {
    let mut cluster = Cluster::new(512);
    let vm = cluster.with_one_up();
    let day_ms = 24 * 3_600_000;
    cluster.pass(8 * day_ms);
    let told = |host: usize, told_unix_ms| {
        let gauges = HostGauges { counter: 1, told_unix_ms, vms: BTreeMap::new() };
        wire::sign_record(&keys(host), Record::Gauges(gauges))
    };
    let now_ms = cluster.now_ms;
    cluster.input(0, Input::Record(told(1, now_ms - 6 * day_ms)));
    cluster.input(0, Input::Record(told(2, 0)));
    cluster.measures(&vm, &[("load", 1.0)]);
    cluster.pass(limits::GAUGES_GATHER_MS);
    let node = &cluster.nodes[0];
    assert_eq!(node.records.gauges_told_after(now_ms - limits::GAUGES_GONE_MS), 2);
    assert_eq!(node.records.gauges_told_after(0), 2, "one said nothing but at time zero");
}

/// An agent that doesn't know gauges passes on whatever has their head: those that do know them keep it too.
#[test]
fn gauges_that_nobody_can_read_are_kept_in_their_slot_until_newer_ones_come() {
    use crate::record::Later;
    let mut cluster = Cluster::new(512);
    let (kind, slot) = (wire::GAUGES_KIND, wire::GAUGES_SLOT);
    let unread = |counter| {
        let later = Later { kind, slot, counter, rest: b"who knows".to_vec() };
        let signed = wire::sign_record(&keys(1), Record::Later(later)).signed().clone();
        wire::verify_record(signed, keys(0).public()).expect("it has the head, and is signed")
    };
    let read = |counter| {
        let gauges = HostGauges { counter, told_unix_ms: 1, vms: BTreeMap::new() };
        wire::sign_record(&keys(1), Record::Gauges(gauges))
    };
    let counts = |cluster: &Cluster| cluster.nodes[0].records.gauges_told_after(0);
    cluster.input(0, Input::Record(unread(1)));
    assert_eq!(counts(&cluster), 0);
    cluster.input(0, Input::Record(read(2)));
    assert_eq!(counts(&cluster), 1);
    cluster.input(0, Input::Record(unread(3)));
    let held = cluster.nodes[0].records.get(&RecordKey::gauges(keys(1).public())).map(|held| held.counter());
    assert_eq!((counts(&cluster), held), (0, Some(3)));
}
