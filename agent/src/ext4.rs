//! The size of an ext4 file system, as its superblock has it.

/// Where the superblock is, in bytes from the beginning of the device.
pub(crate) const SUPERBLOCK_OFFSET: u64 = 1024;

/// The size of an ext4 file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ext4Size {
    /// How many blocks it has.
    pub(crate) blocks: u64,
    /// The size of one.
    pub(crate) block_bytes: u64,
}

impl Ext4Size {
    /// Reads it from a superblock; none where that is of something else.
    pub(crate) fn parse(superblock: &[u8; 1024]) -> Option<Self> {
        const INCOMPAT_64BIT: u32 = 0x80;
        let u32_at = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| superblock[at + i]));
        let magic = u16::from_le_bytes([superblock[0x38], superblock[0x39]]);
        let exponent = u32_at(0x18);
        if magic != 0xef53 || exponent > 6 {
            return None;
        }
        let high = if u32_at(0x60) & INCOMPAT_64BIT != 0 { u64::from(u32_at(0x150)) << 32 } else { 0 };
        Some(Self { blocks: high | u64::from(u32_at(0x4)), block_bytes: 1024 << exponent })
    }

    /// Returns the size in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.blocks.saturating_mul(self.block_bytes)
    }
}
