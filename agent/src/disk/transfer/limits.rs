//! Every limit of the transfer of drives, by name.

use std::time::Duration;

/// How many VMs' drives a host hands to others at a time: each takes some 8 MiB of memory.
pub(super) const SERVED_MAX: usize = 4;

/// Frames that are made and not yet sent, or received and not yet written; each has at most a MiB of blocks.
pub(super) const FRAMES_WAITING_MAX: usize = 3;

/// How long the first frame may take: a host may have to look at the whole drive to know what it has.
pub(super) const SHAPE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long any further frame may take, or the answer to one: hashing what has not changed comes between.
pub(super) const FRAME_TIMEOUT: Duration = Duration::from_secs(120);

/// How often those who wait are told how far a transfer is.
pub(super) const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// How hard blocks are packed: the fastest that still finds what repeats.
pub(super) const ZSTD_LEVEL: i32 = 3;

/// What must stay free on the disk beside what arrives, in bytes.
pub(super) const FREE_BYTES_MIN: u64 = 64 << 20;
