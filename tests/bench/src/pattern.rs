//! What is in the blocks of a disk that is measured: half of each is noise, half of it can be packed.

/// The block of a file system, in bytes.
pub(crate) const BLOCK_BYTES: usize = 4096;

/// Fills a block with what belongs at its place: other places and other seeds have something else.
pub(crate) fn fill(block: &mut [u8; BLOCK_BYTES], seed: u64, place: u64) {
    let mut state = mixed(seed, place) | 1;
    let (noise, rest) = block.split_at_mut(BLOCK_BYTES / 2);
    for word in noise.chunks_exact_mut(8) {
        // Xorshift (Marsaglia 2003): nobody's secret hangs on it.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
    rest.fill(b'a' + (place % 26) as u8);
}

/// Whether a place is among those that are written anew: about `percent` of 100, other ones for each seed.
pub(crate) fn is_chosen(seed: u64, place: u64, percent: u64) -> bool {
    mixed(seed, place) % 100 < percent
}

/// The finaliser of `SplitMix64` (Steele, Lea and Flood 2014).
fn mixed(seed: u64, place: u64) -> u64 {
    let mut x =
        place.wrapping_add(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_as_many_places_are_chosen_as_was_said() {
        for percent in [1, 10, 50] {
            let chosen = (0..100_000).filter(|place| is_chosen(7, *place, percent)).count() as u64;
            assert!(chosen.abs_diff(percent * 1000) < percent * 100 + 100, "{percent}: {chosen}");
        }
    }

    #[test]
    fn two_places_and_two_seeds_differ() {
        let block = |seed, place| {
            let mut block = [0; BLOCK_BYTES];
            fill(&mut block, seed, place);
            block
        };
        assert_eq!(block(1, 2), block(1, 2));
        assert_ne!(block(1, 2), block(1, 3));
        assert_ne!(block(1, 2), block(2, 2));
    }
}
