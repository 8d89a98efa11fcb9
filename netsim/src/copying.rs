//! The simulated bytes of a hand-over: a few blocks for each disk. Copying takes its time; while things go wrong it breaks off
//! between any two blocks, finds no room, meets blocks that are not what they should be, and a guest that runs writes meanwhile.

use mln_protocol::id::{PublicKey, VmId};
use mln_protocol::node::{Holding, Input, PullRound};
use mln_protocol::plan::{Observed, Step};
use mln_protocol::record::{ClaimBasis, Link, Record, ReleasedDisk, VerifiedRecord};

use crate::blocks::{BLOCKS, Copy};
use crate::options::FAULTS_MS;
use crate::world::{Event, World};

/// What is done with the copy of a disk.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CopyWork {
    /// It is brought here.
    Pull { from: PublicKey, round: PullRound },
    /// The disk that it is a copy of is hashed.
    Seal,
    /// It is read back.
    Read,
}

/// One copy of so many, per mille, turns out to be unreadable while things go wrong.
const DAMAGED_PER_MILLE: u64 = 50;

/// At how many blocks of a thousand a copy breaks off, a block arrives spoilt, or there is no room for it.
const BREAKS_PER_MILLE: u64 = 15;
const SPOILT_PER_MILLE: u64 = 5;
const FULL_PER_MILLE: u64 = 5;

impl World {
    pub(crate) fn copy(&mut self, node: usize, vm: VmId, work: CopyWork) {
        let life = self.hosts[node].life;
        let ms = match work {
            CopyWork::Pull { .. } => self.lot.between(50, 3_000),
            CopyWork::Seal | CopyWork::Read => self.lot.between(10, 500),
        };
        let at = self.now_ms + ms;
        self.at(at, Event::Copied { node, life, vm, work });
    }

    pub(crate) fn copied(&mut self, node: usize, life: u32, vm: VmId, work: CopyWork) {
        if self.hosts[node].life != life {
            return;
        }
        let input = match work {
            CopyWork::Pull { from, round } => {
                let result = self.pull(node, &vm, from, round);
                Input::Pulled { vm, result }
            }
            CopyWork::Seal => {
                let content = self.hosts[node].disk.content(&vm);
                let root = content.map(|blocks| blocks.root());
                Input::Sealed { vm, result: root.ok_or_else(|| "there is no disk".to_owned()) }
            }
            CopyWork::Read => {
                if self.now_ms < FAULTS_MS && self.lot.chance(DAMAGED_PER_MILLE) {
                    let disk = &mut self.hosts[node].disk;
                    let was_there = disk.copies.remove(&vm).is_some();
                    if was_there && matches!(disk.holding(&vm), Some(Holding::Released { .. })) {
                        // The pinned copy may be the only one: whoever was to have it may have let go of its own.
                        self.oracle.exempt_lost_disk(vm.clone());
                    }
                }
                let disk = &mut self.hosts[node].disk;
                let content = disk.copies.get_mut(&vm).map(Copy::read).or_else(|| disk.content(&vm));
                let root = content.map(|blocks| blocks.root());
                Input::CopyRead { vm, result: root.ok_or_else(|| "unreadable".to_owned()) }
            }
        };
        self.input(node, input);
    }

    fn pull(&mut self, node: usize, vm: &VmId, from: PublicKey, round: PullRound) -> Result<u64, String> {
        let source = self.index.get(&from).copied().ok_or("nobody has that key")?;
        if self.now_ms < FAULTS_MS && self.lot.chance(100) || self.hosts[source].node.is_none() {
            return Err("the connection broke".to_owned());
        }
        let bytes = self.lot.between(0, 40 << 20);
        let trouble = self.now_ms < FAULTS_MS;
        let damaged = trouble && self.lot.chance(DAMAGED_PER_MILLE);
        let found = self.hosts[source].disk.vms.get(vm);
        let runs = found.is_some_and(|found| matches!(found.observed, Observed::Running(_)));
        if runs && round == PullRound::Last {
            return Err("it runs".to_owned());
        }
        let mut copy = self.hosts[node].disk.copies.get(vm).copied().unwrap_or_default();
        let mut ends = Ok(bytes);
        for at in copy.lacks(&self.hosts[source].disk.content(vm).unwrap_or_default()) {
            if trouble && self.bytes.chance(BREAKS_PER_MILLE) {
                ends = Err("the connection broke".to_owned());
            } else if trouble && self.bytes.chance(SPOILT_PER_MILLE) {
                ends = Err("a block is not what it was said to be".to_owned());
            } else if trouble && self.bytes.chance(FULL_PER_MILLE) {
                ends = Err("no space left on device".to_owned());
            }
            if ends.is_err() {
                break;
            }
            // One that was never built has nothing to be copied.
            copy.receive(at, &self.hosts[source].disk.content(vm).unwrap_or_default());
            // It goes on writing, before and behind where the copy is.
            if runs && self.bytes.chance(500) {
                let written = self.bytes.index(BLOCKS);
                if let Some(found) = self.hosts[source].disk.vms.get_mut(vm) {
                    found.content.write(written);
                }
            }
        }
        if damaged {
            // It lies there otherwise than it was written, and is so until it is read and brought again.
            copy.damage(self.bytes.index(BLOCKS));
        }
        self.hosts[node].disk.copies.insert(vm.clone(), copy);
        ends
    }

    pub(crate) fn shelve(&mut self, node: usize, vm: &VmId) {
        self.hosts[node].disk.shelve(vm);
        if self.lot.chance(500) && self.options.scene.is_none() {
            let (life, at) = (self.hosts[node].life, self.now_ms + self.lot.between(0, 5_000));
            self.at(at, Event::Input { node, life, input: Box::new(Input::SpaceShort) });
        }
    }

    pub(crate) fn drop_copy(&mut self, node: usize, vm: &VmId) {
        let (name, key) = (self.hosts[node].name.clone(), self.hosts[node].keys.public());
        self.oracle.ownership.check_drop(&name, key, vm);
        self.hosts[node].disk.copies.remove(vm);
    }

    /// Shows a link that is published to the oracle, with what lies on the disks that it speaks of.
    pub(crate) fn note_link(&mut self, record: &VerifiedRecord) {
        if let (Record::Link(Link::Claim(claim)), Some(&node)) =
            (&***record, self.index.get(&record.author()))
        {
            self.note_takeover(node, claim);
            if let ClaimBasis::Release(_) = claim.basis {
                self.tally.hand_overs.claimed += 1;
            }
        }
        if let Record::Link(Link::Decline(_)) = &***record {
            self.tally.hand_overs.declined += 1;
        }
        let Record::Link(Link::Release(release)) = &***record else { return };
        self.tally.hand_overs.released += 1;
        let ReleasedDisk::Root(released) = release.disk else { return };
        let there = self.index.get(&release.to).and_then(|&to| self.hosts[to].disk.content(&release.vm));
        let there = there.map(|blocks| blocks.root());
        self.oracle.ownership.check_release(record.author(), release, released, there);
    }

    /// Shows a step that begins to the oracle, with who else runs the VM and who has heard what.
    pub(crate) fn note_step(&mut self, node: usize, vm: &VmId, step: Step) {
        let (name, key) = (self.hosts[node].name.clone(), self.hosts[node].keys.public());
        let elsewhere: Vec<PublicKey> = self
            .hosts
            .iter()
            .enumerate()
            .filter(|(other, host)| {
                let seen = host.disk.vms.get(vm).map(|found| &found.observed);
                // What a copy of a machine has started before it noticed, only whoever copied it can stop.
                let copied = self.clones.contains_key(other);
                *other != node && !copied && matches!(seen, Some(Observed::Running(_)))
            })
            .map(|(_, host)| host.keys.public())
            .collect();
        let disk = &self.hosts[node].disk;
        self.oracle.ownership.check_step(&name, key, vm, step, disk, &elsewhere);
    }
}
