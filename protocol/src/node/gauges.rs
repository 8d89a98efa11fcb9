//! What the guests in this host's VMs measure, told to everybody: how often, and how much of it.
//!
//! ```text
//!   guest ── its newest values ──▶ board ── when it is time ──▶ one record for all VMs of this host
//! ```
//!
//! All hosts that have something to tell share one rate, [`limits::GAUGES_BYTES_PER_S`]: each waits as long as its record is
//! long and as they are many. So what a host hears of it has a bound, however large the mesh is; where nobody
//! measures anything there is no record at all. Nothing is decided by these numbers but what policies want.

use std::collections::{BTreeMap, VecDeque};

use super::timers::Timer;
use super::{Node, limits};
use crate::id::{Name, PublicKey, VmId};
use crate::policy::Sample;
use crate::record::{
    HostGauges, Measured, Reading, Record, RecordKey, TOLD_GAUGES_MAX, TOLD_VALUES_MAX, VmState,
};
use crate::time::Now;
use crate::wire;

/// What this host was told.
#[derive(Clone, Debug, Default)]
pub(super) struct GaugeBoard {
    /// By VM and gauge: when each value came, by the monotonic clock, and the value; the newest last.
    vms: BTreeMap<VmId, BTreeMap<Name, VecDeque<(u64, Measured)>>>,
    /// When others were told, by the monotonic clock.
    told_ms: Option<u64>,
    /// The first VM of which nothing was told the last time, for want of room: with it the next record begins.
    left_out: Option<VmId>,
}

impl GaugeBoard {
    /// Forgets what a VM has measured: it starts anew, or isn't here any more.
    pub(super) fn forget(&mut self, vm: &VmId) {
        self.vms.remove(vm);
    }

    pub(super) fn note(&mut self, now_ms: u64, vm: &VmId, values: Vec<(Name, f64)>) {
        let gauges = self.vms.entry(vm.clone()).or_default();
        let measured = values.into_iter().filter_map(|(gauge, value)| Some((gauge, Measured::of(value)?)));
        for (gauge, value) in measured {
            if gauges.len() >= TOLD_GAUGES_MAX && !gauges.contains_key(&gauge) {
                continue;
            }
            let history = gauges.entry(gauge).or_default();
            // What comes more often only takes the newest one's place: the history is as long as its values are apart.
            let before = history.len().checked_sub(2).and_then(|at| history.get(at));
            if before.is_some_and(|(at_ms, _)| now_ms.saturating_sub(*at_ms) < limits::GAUGE_APART_MS) {
                history.pop_back();
            }
            history.push_back((now_ms, value));
            while history.len() > TOLD_VALUES_MAX {
                history.pop_front();
            }
        }
    }

    /// Returns the last so many values of each gauge.
    fn last(&self, now: Now, counter: u64, values: usize, is_told: impl Fn(&VmId) -> bool) -> HostGauges {
        let readings = |history: &VecDeque<(u64, Measured)>| {
            let of = |&(at_ms, value): &(u64, Measured)| {
                let age_s = now.mono_ms.saturating_sub(at_ms) / 1000;
                Reading { age_s: u16::try_from(age_s).unwrap_or(u16::MAX), value }
            };
            history.iter().skip(history.len().saturating_sub(values)).map(of).collect()
        };
        let vm = |(vm, gauges): (&VmId, &BTreeMap<Name, VecDeque<_>>)| {
            let gauges = gauges.iter().map(|(gauge, history)| (gauge.clone(), readings(history)));
            (vm.clone(), gauges.collect())
        };
        let vms = self.vms.iter().filter(|(vm, _)| is_told(vm)).map(vm).collect();
        HostGauges { counter, told_unix_ms: now.unix_ms, vms }
    }
}

impl Node {
    /// Takes in what the guest in a VM of ours measures, and sees to it that others hear of it in time.
    pub(super) fn measured(&mut self, now: Now, vm: &VmId, values: Vec<(Name, f64)>) {
        if values.is_empty() || !self.is_up_here(vm) {
            return;
        }
        self.gauges.note(now.mono_ms, vm, values);
        if self.timers.is_set(&Timer::Gauges) {
            return;
        }
        // A moment later, so that what guests measure at one time is told at one time.
        let soon = now.mono_ms + limits::GAUGES_GATHER_MS;
        // What was told before a start counts too: where power comes back, thousands would speak at once.
        let before = self.records.gauges(self.me).map(|held| now.unix_ms.checked_sub(held.told_unix_ms));
        let before = before.flatten().map(|age_ms| now.mono_ms.saturating_sub(age_ms));
        let told_ms = self.gauges.told_ms.or(before);
        let due = told_ms.map_or(soon, |told_ms| soon.max(told_ms + self.gauges_period_ms(now)));
        self.timers.set(Timer::Gauges, due);
    }

    /// Tells others what guests here measure.
    pub(super) fn publish_gauges(&mut self, now: Now) {
        let gone: Vec<VmId> = self.gauges.vms.keys().filter(|vm| !self.is_up_here(vm)).cloned().collect();
        gone.iter().for_each(|vm| self.gauges.forget(vm));
        let held = self.records.get(&RecordKey::gauges(self.me));
        let counter = held.map_or(1, |held| held.counter().saturating_add(1));
        let told = self.gauges_that_fit(now, counter);
        self.gauges.told_ms = Some(now.mono_ms);
        self.publish(now, Record::Gauges(told));
    }

    /// Takes as much of what guests here measure as fits into a record: fewer values of each where there is much, and of some VMs
    /// none where that is still too much; of those the next time.
    pub(super) fn gauges_that_fit(&mut self, now: Now, counter: u64) -> HostGauges {
        let fits = |told: &HostGauges| wire::gauges_bytes(told) <= limits::GAUGES_BYTES_MAX;
        let mut values = TOLD_VALUES_MAX;
        let mut told = self.gauges.last(now, counter, values, |_| true);
        while !fits(&told) && values > 1 {
            values /= 2;
            told = self.gauges.last(now, counter, values, |_| true);
        }
        if fits(&told) {
            self.gauges.left_out = None;
            return told;
        }
        let first = self.gauges.left_out.take();
        let (before, after): (Vec<_>, Vec<_>) =
            told.vms.into_iter().partition(|(vm, _)| first.as_ref().is_some_and(|first| vm < first));
        let of = |vms| HostGauges { counter, told_unix_ms: now.unix_ms, vms };
        let head = wire::gauges_bytes(&of(BTreeMap::new()));
        let (mut some, mut bytes) = (BTreeMap::new(), head);
        for (vm, gauges) in after.into_iter().chain(before) {
            // Integers are of fixed width: what a VM adds doesn't depend on the others.
            bytes += wire::gauges_bytes(&of([(vm.clone(), gauges.clone())].into())) - head;
            if bytes > limits::GAUGES_BYTES_MAX {
                self.gauges.left_out = Some(vm);
                break;
            }
            some.insert(vm, gauges);
        }
        of(some)
    }

    /// After how long, in milliseconds, others are told again: so long that all who tell something have one rate together.
    fn gauges_period_ms(&self, now: Now) -> u64 {
        let own = self.records.gauges(self.me);
        let bytes = own.map_or(0, wire::gauges_bytes);
        let lately = now.unix_ms.saturating_sub(limits::GAUGES_GONE_MS);
        // Who was away for as long itself can't tell who is gone: they may all come back together.
        let lately = if own.is_some_and(|own| own.told_unix_ms <= lately) { 0 } else { lately };
        let all = bytes.saturating_mul(self.records.gauges_told_after(lately)) as u64;
        (all.saturating_mul(1000) / limits::GAUGES_BYTES_PER_S).max(limits::GAUGE_APART_MS)
    }

    fn is_up_here(&self, vm: &VmId) -> bool {
        self.own_status(vm).is_some_and(|status| status.state == VmState::Up)
    }

    /// Returns what the guest in a VM measures, as far as it is known here: by gauge, with times by this host's wall clock in
    /// milliseconds, the newest last. Nothing is known of a VM that isn't up, nor of a time before it was.
    pub fn gauges(&self, now: Now, vm: &VmId, owner: PublicKey) -> BTreeMap<Name, Vec<Sample>> {
        let here = (owner == self.me).then(|| self.gauges.last(now, 0, TOLD_VALUES_MAX, |one| one == vm));
        let Some(told) = here.as_ref().or_else(|| self.records.gauges(owner)) else { return BTreeMap::new() };
        let own = self.own_status(vm).filter(|_| owner == self.me);
        let status = own.or_else(|| self.records.vm(vm, owner));
        let Some(status) = status.filter(|status| status.state == VmState::Up) else {
            return BTreeMap::new();
        };
        let sample = |reading: &Reading| {
            let at_ms = told.told_unix_ms.saturating_sub(u64::from(reading.age_s) * 1000);
            // By the clock of one host, both; a value's age is whole seconds.
            (at_ms.saturating_add(1000) > status.since_unix_ms)
                .then(|| Sample { at_ms, value: reading.value.value() })
        };
        let gauges = told.vms.get(vm).into_iter().flatten();
        let gauges =
            gauges.map(|(gauge, readings)| (gauge.clone(), readings.iter().filter_map(sample).collect()));
        gauges.filter(|(_, samples): &(Name, Vec<Sample>)| !samples.is_empty()).collect()
    }
}
