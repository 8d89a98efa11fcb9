//! How much room a data folder's disk has.

use std::io;
use std::path::Path;

use mln_protocol::node::Room;

/// With less than this left, in bytes, a host takes on nothing new.
pub(crate) const FULL_BYTES: u64 = 16 << 20;
/// With this much it does again.
const AMPLE_BYTES: u64 = 24 << 20;

/// Returns how many bytes an ordinary user may still write.
pub(super) fn free_bytes(folder: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Judges the room there is, after what was thought of it before.
pub(super) fn judge(before: Room, free_bytes: u64) -> Room {
    let limit = match before {
        Room::Ample => FULL_BYTES,
        Room::Full => AMPLE_BYTES,
    };
    if free_bytes < limit { Room::Full } else { Room::Ample }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_at_the_limit_is_not_full_and_ample_in_turns() {
        let mut room = Room::Ample;
        let mut seen = Vec::new();
        for free in [FULL_BYTES, FULL_BYTES - 1, FULL_BYTES, AMPLE_BYTES - 1, AMPLE_BYTES, FULL_BYTES] {
            room = judge(room, free);
            seen.push(room);
        }
        use Room::{Ample, Full};
        assert_eq!(seen, [Ample, Full, Full, Full, Ample, Ample]);
    }
}
