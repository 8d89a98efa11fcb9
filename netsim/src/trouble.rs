//! What planned faults do to the world.

use mln_protocol::id::VmId;
use mln_protocol::node::{Input, Node, OpId, Operation, RunOrder, Signing, Write};
use mln_protocol::plan::{Existence, Observed, StopLimit};

use crate::blocks::Copy;
use crate::disk::Disk;
use crate::fault::Fault;
use crate::host::Presence;
use crate::mishap::{BackupExtent, Mishap, Shape, SleepingClock};
use crate::world::{Event, OPERATOR_MS, World};

/// Operations of hosts that are alone have numbers from here on, those of customers are below.
const ALONE_FROM: u64 = 1 << 40;

/// Operations of whoever looks after hosts that sign nothing have numbers from here on.
const CLEAR_UP_FROM: u64 = 1 << 50;

impl World {
    pub(crate) fn mishap(&mut self, mishap: Mishap) {
        match mishap {
            Mishap::Crash { node, down_ms } => {
                if self.hosts[node].node.is_some() {
                    self.tally.faults.add(Fault::Crash);
                    self.crash(node, down_ms);
                }
            }
            Mishap::PowerCut { node, down_ms } => {
                self.tally.faults.add(Fault::PowerCut);
                switch_off(&mut self.hosts[node].disk);
                if self.hosts[node].node.is_some() {
                    self.crash(node, down_ms);
                }
            }
            Mishap::Pause { node, ms } => {
                self.tally.faults.add(Fault::Pause);
                let host = &mut self.hosts[node];
                host.still_until_ms = host.still_until_ms.max(self.now_ms + ms);
            }
            Mishap::Suspend { node, ms, clock } => {
                self.tally.faults.add(Fault::Suspend);
                let host = &mut self.hosts[node];
                host.asleep_until_ms = host.asleep_until_ms.max(self.now_ms + ms);
                if clock == SleepingClock::Stands {
                    host.clock.stood_ms += ms;
                }
            }
            Mishap::DiskFull { node, ms } => self.hosts[node].full_until_ms = self.now_ms + ms,
            Mishap::ClockJump { node, by_ms } => {
                self.tally.faults.add(Fault::ClockJump);
                self.set_clock(node, by_ms);
            }
            Mishap::BackupTaken { node, extent } => {
                let disk = &self.hosts[node].disk;
                self.hosts[node].backup = Some(match extent {
                    BackupExtent::Database => disk.database(),
                    BackupExtent::Machine => disk.copy(),
                });
            }
            Mishap::BackupRestored { node, extent, down_ms } => self.restore(node, extent, down_ms),
            Mishap::CloneBegins { original, clone } => self.begin_clone(original, clone),
            Mishap::CloneEnds { clone } => self.end_clone(clone),
            Mishap::Clog { from, to, ms } => {
                self.tally.faults.add(Fault::Clog);
                self.network.clog(from, to, self.now_ms + ms);
            }
            Mishap::TakeOver { node, pick } => self.somebody_takes_over(node, pick),
            Mishap::Ambush(ambush) => self.ambushes.push(ambush),
            Mishap::Revoke { node, pick } => self.somebody_revokes(node, pick),
            Mishap::Partition { cut, shape, ms } => {
                self.tally.faults.add(Fault::Partition);
                self.network.cut(cut, shape, self.now_ms + ms);
                let alone = (0..self.options.nodes)
                    .find(|&node| self.network.is_alone(node, self.hosts.len(), self.now_ms));
                if let Some(node) = alone.filter(|_| shape == Shape::Isolated && ms > 15_000) {
                    self.at(self.now_ms + 2_000, Event::Alone { node });
                }
            }
        }
    }

    /// Sets a host's wall clock forward, or back.
    pub(crate) fn set_clock(&mut self, node: usize, by_ms: i64) {
        let host = &mut self.hosts[node];
        host.clock.ahead_ms += by_ms;
        self.oracle.note_clock_set(host.keys.public());
    }

    /// Ends an agent without warning: what isn't durable is gone, but for what happens to be on the disk already.
    fn crash(&mut self, node: usize, down_ms: u64) {
        if self.lot.chance(self.options.rate(Fault::TornWrite)) && !self.hosts[node].unsynced.is_empty() {
            self.tally.faults.add(Fault::TornWrite);
            let whole = self.lot.index(self.hosts[node].unsynced.len());
            let half = self.lot.chance(500);
            let host = &mut self.hosts[node];
            for (index, (_, writes)) in std::mem::take(&mut host.unsynced).into_iter().enumerate() {
                let key = host.keys.public();
                if index < whole {
                    self.oracle.ownership.note_writes(key, &writes);
                    host.disk.apply(writes);
                } else if index == whole && half {
                    // The store's trees are written one after the other, records nearly last: what is let go of comes after.
                    let fragments = writes.into_iter().filter(|w| {
                        !matches!(
                            w,
                            Write::Record(..)
                                | Write::Heard(..)
                                | Write::DropHolding(_)
                                | Write::DropReservation(_)
                        )
                    });
                    let first: Vec<Write> = fragments.collect();
                    self.oracle.ownership.note_writes(key, &first);
                    host.disk.apply(first);
                }
            }
        }
        if self.lot.chance(self.options.rate(Fault::LostDisk)) {
            self.lose_disk(node);
        }
        self.stop(node, down_ms);
    }

    /// Deletes the disk of one VM that doesn't run, as if somebody had, or the file system did.
    fn lose_disk(&mut self, node: usize) {
        let disk = &self.hosts[node].disk;
        let down = disk.vms.iter().filter(|(_, vm)| matches!(vm.observed, Observed::Down { .. }));
        let down: Vec<VmId> = down.map(|(vm, _)| vm.clone()).collect();
        if down.is_empty() {
            return;
        }
        let vm = down[self.lot.index(down.len())].clone();
        self.tally.faults.add(Fault::LostDisk);
        self.hosts[node].disk.vms.remove(&vm);
        self.oracle.exempt_lost_disk(vm);
    }

    /// Ends an agent; it is started again after this time.
    pub(crate) fn stop(&mut self, node: usize, down_ms: u64) {
        self.rivals_cut(node);
        let host = &mut self.hosts[node];
        host.node = None;
        host.unsynced.clear();
        host.life += 1;
        host.still_until_ms = 0;
        self.oracle.check_remembered(&host.name, host.keys.public(), &host.disk);
        self.hang_up(node);
        self.workload.lost_coordinator(node);
        self.script_lost(node);
        self.alone.retain(|_, host| *host != node);
        let life = self.hosts[node].life;
        self.at(self.now_ms + down_ms, Event::Restart { node, life });
    }

    /// Puts an old copy of a disk in place of what is there.
    fn restore(&mut self, node: usize, extent: BackupExtent, down_ms: u64) {
        let Some(mut backup) = self.hosts[node].backup.take() else { return };
        self.tally.faults.add(Fault::Backup);
        self.oracle.exempt_restored(self.hosts[node].keys.public());
        self.stop(node, down_ms);
        match extent {
            BackupExtent::Database => backup.vms = std::mem::take(&mut self.hosts[node].disk.vms),
            BackupExtent::Machine => switch_off(&mut backup),
        }
        self.hosts[node].disk = backup;
    }

    /// Starts a copy of a host: the same key, the same disk.
    fn begin_clone(&mut self, original: usize, clone: usize) {
        if self
            .options
            .skipped
            .iter()
            .any(|&index| self.planned[index].mishap == (Mishap::CloneEnds { clone }))
        {
            // A clone without an end would never come right.
            return;
        }
        self.tally.faults.add(Fault::CloneKey);
        let source = &self.hosts[original];
        let (keys, chain, name, mut disk) =
            (source.keys.clone(), source.chain.clone(), source.name.clone(), source.disk.copy());
        switch_off(&mut disk);
        self.oracle.exempt_cloned(keys.public());
        self.clones.insert(clone, original);
        let host = &mut self.hosts[clone];
        (host.keys, host.chain, host.name, host.disk, host.presence) =
            (keys, chain, name, disk, Presence::Here);
        self.restart(clone);
    }

    fn end_clone(&mut self, clone: usize) {
        if self.hosts[clone].presence == Presence::Here {
            self.stop(clone, 0);
            // The whole machine is: nothing runs there any more.
            switch_off(&mut self.hosts[clone].disk);
            self.hosts[clone].presence = Presence::Gone;
        }
    }

    /// Tells the hosts that have stopped signing, since their key had signed elsewhere, that they are the right ones.
    pub(crate) fn clear_up(&mut self) {
        for node in 0..self.options.nodes {
            let signing = self.hosts[node].answering(self.now_ms).map(Node::signing);
            if signing == Some(Signing::Doubled) {
                self.oracle.check_silenced(&self.hosts[node]);
                let op = OpId(CLEAR_UP_FROM + self.now_ms);
                self.hosts[node].own_key.told_to_go_on();
                self.input(node, Input::Operate { op, operation: Operation::GoOn });
            }
            let host = &self.hosts[node];
            if signing == Some(Signing::Confirmed) && host.own_key.is_told() {
                self.oracle.end_exemption(host.keys.public(), &host.disk);
            }
        }
        self.at(self.now_ms + OPERATOR_MS, Event::Operator);
    }

    /// L2: a host that reaches nobody is asked to start or stop a VM of its own.
    pub(crate) fn ask_alone(&mut self, node: usize) {
        if !self.network.is_alone(node, self.hosts.len(), self.now_ms) {
            return;
        }
        let Some(machine) = self.hosts[node].answering(self.now_ms) else { return };
        let settled = machine.owned_vms().find_map(|(id, existence, observed, _)| {
            let order = match observed {
                Observed::Running(_) => RunOrder::Down(StopLimit::After(5_000)),
                Observed::Down { .. } => RunOrder::Up,
                Observed::Absent | Observed::Lost => return None,
            };
            (existence == Existence::Wanted).then(|| (id.clone(), order))
        });
        let Some((vm, order)) = settled else { return };
        let op = OpId(ALONE_FROM + self.alone.len() as u64 + self.now_ms);
        self.alone.insert(op, node);
        self.input(
            node,
            Input::Operate { op, operation: Operation::Run { vms: vec![vm], order, pause_ms: 0 } },
        );
    }
}

/// What a copy of a disk is after its machine was started: nothing runs.
fn switch_off(disk: &mut Disk) {
    for vm in disk.vms.values_mut().filter(|vm| matches!(vm.observed, Observed::Running(_))) {
        vm.observed = Observed::Down { exit: None };
    }
    disk.copies.values_mut().for_each(Copy::power_cut);
}
