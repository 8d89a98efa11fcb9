//! Measured round trips between ten regions of a public cloud, as the delays of wide-area links.
//!
//! Source: "Latency Between AWS Global Regions" (averages in milliseconds), as quoted by
//! `acomputerscientistlearnsaws.blogspot.com/2017/04/aws-regions.html`.

/// North Virginia, North California, Oregon, Ireland, Frankfurt, Tokyo, Seoul, Singapore, Sydney, São Paulo.
const REGIONS: usize = 10;

/// Round trips in milliseconds, one region's row after the other; within a region 1.
const ROUND_TRIP_MS: [[u64; REGIONS]; REGIONS] = [
    [1, 73, 87, 81, 89, 145, 178, 217, 230, 120],
    [73, 1, 19, 153, 167, 103, 132, 174, 158, 193],
    [87, 19, 1, 137, 160, 89, 118, 161, 162, 183],
    [81, 153, 137, 1, 20, 212, 242, 239, 310, 191],
    [89, 167, 160, 20, 1, 237, 266, 326, 324, 195],
    [145, 103, 89, 212, 237, 1, 31, 74, 104, 257],
    [178, 132, 118, 242, 266, 31, 1, 72, 134, 286],
    [217, 174, 161, 239, 326, 74, 72, 1, 175, 328],
    [230, 158, 162, 310, 324, 104, 134, 175, 1, 323],
    [120, 193, 183, 191, 195, 257, 286, 328, 323, 1],
];

/// Returns half the round trip between two hosts' regions, in milliseconds; hosts are dealt out to the regions in turn.
pub(crate) fn one_way_ms(from: usize, to: usize) -> u64 {
    ROUND_TRIP_MS[from % REGIONS][to % REGIONS].div_ceil(2)
}
