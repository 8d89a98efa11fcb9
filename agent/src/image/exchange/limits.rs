//! Every limit of the exchange of images, by name.

use std::time::Duration;

/// How long hosts may take to say whether they have a template.
pub(super) const FIND_TIMEOUT: Duration = Duration::from_secs(2);

/// How many hosts are asked for a template at a time.
pub(super) const PEERS_ASKED_MAX: usize = 64;

/// How long a host may take for a manifest.
pub(super) const MANIFEST_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a host may take for a chunk; on a slow line several are under way.
pub(super) const CHUNK_TIMEOUT: Duration = Duration::from_secs(60);

/// Chunks that are asked for and not yet here, where there is one source alone.
pub(super) const CHUNKS_ALONE_MAX: usize = 8;

/// The same of all sources together, where there are several: what waits at one of them keeps what others wait for from
/// coming, and what those who fetch have asked for comes in one queue with their own questions. Each is asked for one at
/// least.
pub(super) const CHUNKS_IN_FLIGHT_MAX: usize = 16;

/// The longest block with a chunk: how it is packed, and the chunk.
pub(super) const CHUNK_BLOCK_BYTES_MAX: usize = 1 + mln_protocol::wire::CHUNK_BYTES as usize;

/// Images that are handed to one peer at a time.
pub(super) const SERVED_PER_PEER_MAX: usize = 4;

/// Images that are handed over at a time in all.
pub(super) const SERVED_MAX: usize = 32;

/// How long whoever fetches an image may wait before it asks for the next chunk.
pub(super) const SERVE_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a fetch goes on looking for somebody who has the image, since it last got a chunk.
pub(super) const SOURCE_PATIENCE: Duration = Duration::from_secs(60);

/// The pause before hosts are asked again.
pub(super) const SOURCE_PAUSE: Duration = Duration::from_millis(500);

/// How often progress is told.
pub(super) const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// How hard chunks are packed: hardly, since the other end waits.
pub(super) const ZSTD_LEVEL: i32 = 1;

/// The same of each source where there are several: what is asked of one can't be asked of another.
pub(super) const CHUNKS_SHARED_MAX: usize = 3;

/// How many sources an image is fetched from at a time.
pub(super) const SOURCES_MAX: usize = 24;

/// How often further sources are looked for.
pub(super) const SOURCE_LOOK: Duration = Duration::from_secs(2);

/// How often at most, when somebody seems to fetch the same.
pub(super) const SOURCE_LOOK_MIN: Duration = Duration::from_millis(250);

/// How long a host may take to say what it has of an image: on busy lines the question waits behind what is under way.
pub(super) const INVENTORY_TIMEOUT: Duration = Duration::from_secs(20);

/// How many are told at a time of what comes of images that are being fetched here.
pub(super) const FOLLOWERS_MAX: usize = 128;

/// How often a source that can't be asked for anything right now is looked at again.
pub(super) const WAIT_MAX: Duration = Duration::from_millis(500);
