//! S3: "A disk is deleted only by its owner … after the keep-removed time": by the time of the world, whatever clocks show.

use std::collections::BTreeMap;

use mln_protocol::id::{PublicKey, VmId};
use mln_protocol::record::{VmState, VmStatus};

/// What a host may be wrong by for each time that its wall clock was set: it has nothing else to know by how long its agent
/// was off. An eighth of the time, but within these bounds, in milliseconds.
const SKEW_SHARE: u64 = 8;
const SKEW_MS_MIN: u64 = 1_000;
const SKEW_MS_MAX: u64 = 3_600_000;

/// For how long disks of VMs are kept that are left out.
#[derive(Debug, Default)]
pub(crate) struct KeptDisks {
    /// Of each VM and host: who had it before a takeover may keep a disk of it, too.
    by_host: BTreeMap<(VmId, PublicKey), KeptDisk>,
    /// How often the wall clocks of hosts were set.
    clocks_set: BTreeMap<PublicKey, u64>,
}

#[derive(Debug)]
struct KeptDisk {
    /// Since when, by the time of the world, in milliseconds.
    since_ms: u64,
    /// How often its host's wall clock had been set by then.
    clocks_set: u64,
    /// Whether its owner has written down that it is as it was before; until that is durable a crash undoes it.
    is_back: bool,
}

impl KeptDisks {
    pub(crate) fn note_clock_set(&mut self, host: PublicKey) {
        *self.clocks_set.entry(host).or_default() += 1;
    }

    /// Takes note of what an owner writes down.
    pub(crate) fn note(&mut self, by: PublicKey, status: &VmStatus, now_ms: u64) {
        let clocks_set = self.times_set(by);
        match status.state {
            VmState::Kept if status.kept_ms == 0 => {
                let begun = KeptDisk { since_ms: now_ms, clocks_set, is_back: false };
                self.by_host.insert((status.vm.clone(), by), begun);
            }
            VmState::Kept => {
                if let Some(kept) = self.by_host.get_mut(&(status.vm.clone(), by)) {
                    kept.is_back = false;
                }
            }
            VmState::Building | VmState::Down | VmState::Booting | VmState::Up | VmState::Stopping => {
                if let Some(kept) = self.by_host.get_mut(&(status.vm.clone(), by)) {
                    kept.is_back = true;
                }
            }
            VmState::Removed | VmState::Failed { .. } => {}
        }
    }

    fn times_set(&self, host: PublicKey) -> u64 {
        self.clocks_set.get(&host).copied().unwrap_or(0)
    }

    /// Returns for how long a host has kept the disk of a VM, in milliseconds.
    pub(crate) fn kept_ms(&self, vm: &VmId, host: PublicKey, now_ms: u64) -> u64 {
        let kept = self.by_host.get(&(vm.clone(), host)).filter(|kept| !kept.is_back);
        kept.map_or(0, |kept| now_ms.saturating_sub(kept.since_ms))
    }

    /// Returns by how much its host may be wrong about that, in milliseconds.
    pub(crate) fn skew_ms(&self, vm: &VmId, host: PublicKey, keep_ms: u64) -> u64 {
        let kept = self.by_host.get(&(vm.clone(), host));
        let times = kept.map_or(0, |kept| self.times_set(host).saturating_sub(kept.clocks_set));
        times * (keep_ms / SKEW_SHARE).clamp(SKEW_MS_MIN, SKEW_MS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mln_protocol::id::Digest;
    use mln_protocol::record::Record;

    use crate::hostile::invented_vm;

    #[test]
    fn the_time_is_that_of_the_world_but_for_a_bound_for_each_time_a_clock_was_set() {
        let host = PublicKey([1; 32]);
        let Record::Vm(vm) = invented_vm(Digest([2; 32]), host) else { panic!("no VM") };
        let said = |state, kept_ms| VmStatus { state, kept_ms, ..vm.clone() };
        let mut kept = KeptDisks::default();
        kept.note_clock_set(host);
        kept.note(host, &said(VmState::Kept, 0), 5_000);
        assert_eq!((kept.kept_ms(&vm.vm, host, 9_000), kept.skew_ms(&vm.vm, host, 80_000)), (4_000, 0));
        kept.note_clock_set(host);
        assert_eq!(kept.skew_ms(&vm.vm, host, 80_000), 10_000);
        assert_eq!(kept.skew_ms(&vm.vm, host, 3_000), 1_000);
        kept.note(host, &said(VmState::Down, 0), 10_000);
        assert_eq!(kept.kept_ms(&vm.vm, host, 11_000), 0);
        kept.note(host, &said(VmState::Kept, 7), 12_000);
        assert_eq!(kept.kept_ms(&vm.vm, host, 13_000), 8_000, "a crash has undone that it came back");
        kept.note(host, &said(VmState::Kept, 0), 14_000);
        assert_eq!(kept.kept_ms(&vm.vm, host, 15_000), 1_000);
    }
}
