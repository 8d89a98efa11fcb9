//! The simulated bytes of a hand-over: disks are numbers, copying one takes its time and fails now and then.

use mln_protocol::id::{Digest, PublicKey, VmId};
use mln_protocol::node::{Holding, Input, PullRound};
use mln_protocol::plan::{Observed, Step};
use mln_protocol::record::{Link, Record, ReleasedDisk, VerifiedRecord};

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

/// What stands for the root digest of a disk.
pub(crate) fn root(content: u64) -> Digest {
    Digest::of(&content.to_le_bytes())
}

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
                Input::Sealed { vm, result: content.map(root).ok_or_else(|| "there is no disk".to_owned()) }
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
                let content = self.hosts[node].disk.content(&vm);
                Input::CopyRead { vm, result: content.map(root).ok_or_else(|| "unreadable".to_owned()) }
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
        let disk = &mut self.hosts[source].disk;
        if let Some(found) =
            disk.vms.get_mut(vm).filter(|found| matches!(found.observed, Observed::Running(_)))
        {
            // It goes on writing.
            found.content += 1;
            if round == PullRound::Last {
                return Err("it runs".to_owned());
            }
        }
        // One that was never built has nothing to be copied.
        let mut content = disk.content(vm).unwrap_or(0);
        if self.now_ms < FAULTS_MS && self.lot.chance(DAMAGED_PER_MILLE) {
            // It arrives otherwise than it was sent, and is so until it is brought again.
            content = content.wrapping_add(1 << 33);
        }
        self.hosts[node].disk.copies.insert(vm.clone(), content);
        Ok(bytes)
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
        }
        let Record::Link(Link::Release(release)) = &***record else { return };
        let ReleasedDisk::Root(released) = release.disk else { return };
        let there = self.index.get(&release.to).and_then(|&to| self.hosts[to].disk.content(&release.vm));
        self.oracle.ownership.check_release(record.author(), release, released, there.map(root));
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
                *other != node && matches!(seen, Some(Observed::Running(_)))
            })
            .map(|(_, host)| host.keys.public())
            .collect();
        let disk = &self.hosts[node].disk;
        self.oracle.ownership.check_step(&name, key, vm, step, disk, &elsewhere);
    }
}
