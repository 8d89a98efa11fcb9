//! The one source of chance: everything is drawn from a seed, so a run can be repeated.

/// Draws numbers by lot: splitmix64 (Steele, Lea, Flood, 2014).
#[derive(Debug, Clone)]
pub(crate) struct Lot(u64);

impl Lot {
    /// Returns the source for one purpose: what is drawn for another doesn't move it.
    pub(crate) fn of(seed: u64, purpose: &str) -> Self {
        let hash = blake3::hash(&[&seed.to_le_bytes(), purpose.as_bytes()].concat());
        let mut first = [0; 8];
        first.copy_from_slice(&hash.as_bytes()[..8]);
        Self(u64::from_le_bytes(first))
    }

    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Draws from `from..until`, which must not be empty.
    pub(crate) fn between(&mut self, from: u64, until: u64) -> u64 {
        from + self.draw() % (until - from)
    }

    /// Draws an index below `len`, which must not be 0.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        (self.draw() % len as u64) as usize
    }

    /// Draws from 0 to 1, 1 excluded.
    pub(crate) fn share(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Whether something happens that has this chance, in thousandths.
    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.draw() % 1000 < per_mille
    }
}
