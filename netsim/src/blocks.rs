//! What is on a simulated disk, block by block, and the copy of one while it is brought: what was received, what of it a
//! power cut leaves, and what its receiver believes to have.

use mln_protocol::id::Digest;

/// How many blocks a disk has: few, so that worlds stay quick, and enough for a copy that is partly old.
pub(crate) const BLOCKS: usize = 8;

/// The blocks of a disk, each as the number of what is in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Blocks([u64; BLOCKS]);

impl Blocks {
    /// A disk that was just made.
    pub(crate) fn made(number: u64) -> Self {
        Self([number; BLOCKS])
    }

    /// Returns the number of the first block.
    pub(crate) fn number(&self) -> u64 {
        self.0[0]
    }

    /// A guest writes to a block.
    pub(crate) fn write(&mut self, at: usize) {
        self.0[at % BLOCKS] += 1;
    }

    /// A block becomes something that nobody wrote.
    pub(crate) fn damage(&mut self, at: usize) {
        self.0[at % BLOCKS] = self.0[at % BLOCKS].wrapping_add(1 << 33);
    }

    /// Returns what stands for the root digest.
    pub(crate) fn root(&self) -> Digest {
        let bytes: Vec<u8> = self.0.iter().flat_map(|block| block.to_le_bytes()).collect();
        Digest::of(&bytes)
    }
}

/// A copy of a disk: on its way, or left behind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Copy {
    /// What whoever reads it finds.
    blocks: Blocks,
    /// What a power cut leaves of it.
    synced: Blocks,
    /// What its host has noted that it has: a source sends what differs from that.
    noted: Blocks,
}

impl Copy {
    /// What was a VM's disk, and lies there.
    pub(crate) fn shelved(blocks: Blocks) -> Self {
        Self { blocks, synced: blocks, noted: blocks }
    }

    pub(crate) fn blocks(&self) -> Blocks {
        self.blocks
    }

    /// Returns which blocks a source would have to send.
    pub(crate) fn lacks(&self, source: &Blocks) -> Vec<usize> {
        (0..BLOCKS).filter(|&at| self.noted.0[at] != source.0[at]).collect()
    }

    /// Writes a block as it was sent, and notes it. It is not yet safe.
    pub(crate) fn receive(&mut self, at: usize, source: &Blocks) {
        self.blocks.0[at] = source.0[at];
        self.noted.0[at] = source.0[at];
    }

    /// A block is not what was written, and nobody has noticed.
    pub(crate) fn damage(&mut self, at: usize) {
        self.blocks.damage(at);
    }

    /// Makes it durable and reads it back: what is noted is what is there, from now on.
    pub(crate) fn read(&mut self) -> Blocks {
        self.synced = self.blocks;
        self.noted = self.blocks;
        self.blocks
    }

    /// The machine ends: what was not synced is as it was before. What was noted may have been synced sooner.
    pub(crate) fn power_cut(&mut self) {
        self.blocks = self.synced;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_power_cut_took_or_a_disk_has_lost_is_sent_again_once_the_copy_was_read() {
        let mut source = Blocks::made(7);
        let mut copy = Copy::shelved(source);
        source.write(1);
        source.write(5);
        assert_eq!(copy.lacks(&source), [1, 5]);
        copy.receive(1, &source);
        assert_eq!(copy.lacks(&source), [5], "what was begun goes on where it was");
        copy.receive(5, &source);
        copy.power_cut();
        assert_eq!(copy.lacks(&source), [] as [usize; 0], "it doesn't know yet");
        assert_ne!(copy.read().root(), source.root());
        assert_eq!(copy.lacks(&source), [1, 5]);
        copy.receive(1, &source);
        copy.receive(5, &source);
        copy.damage(3);
        assert_ne!(copy.read().root(), source.root());
        assert_eq!(copy.lacks(&source), [3]);
        copy.receive(3, &source);
        assert_eq!(copy.read().root(), source.root());
        copy.power_cut();
        assert_eq!(copy.blocks(), source, "what was read back stays");
    }
}
