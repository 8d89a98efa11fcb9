//! Further drives of a guest: mounted and swapped to at each boot.

use std::fs;
use std::path::Path;

use mln_protocol::wire::seed::{SeedMoreWire, SeedMountWire};

use super::apply::{ApplyError, run, write_file};

/// What is mounted, the last first, for an init that has to take it down by itself.
const MOUNTED: &str = "/run/mln/mounted";

/// Mounts what is not mounted yet, and swaps to what is not swapped to: all that can be; the first that can't is the
/// error.
pub(super) fn attach(more: &SeedMoreWire) -> Result<(), ApplyError> {
    let text = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounted = mount_points(&text);
    let swapped = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let waiting =
        more.mounts.iter().filter(|one| !mounted.iter().any(|at| *at == one.at.trim_end_matches('/')));
    let mut results: Vec<Result<(), ApplyError>> = waiting.map(mount).collect();
    if let Some(device) = &more.swap
        && !swapped.lines().any(|line| line.split_whitespace().next() == Some(device))
    {
        results.push(run("swapon", &[device]));
    }
    let points: String = more.mounts.iter().rev().map(|mount| format!("{}\n", mount.at)).collect();
    results.push(write_file(Path::new(MOUNTED), points.as_bytes(), 0o644));
    results.into_iter().collect()
}

fn mount(mount: &SeedMountWire) -> Result<(), ApplyError> {
    let at = mount.at.as_str();
    fs::create_dir_all(at).map_err(|source| ApplyError::File {
        what: "making the folder",
        path: at.to_owned(),
        source,
    })?;
    let mut words = vec!["-t", mount.file_system.as_str()];
    words.extend(mount.options.iter().flat_map(|options| ["-o", options.as_str()]));
    words.extend([mount.device.as_str(), at]);
    run("mount", &words)
}

/// Returns where something is mounted, from the text of `/proc/self/mounts`. Paths of the language have no characters
/// that are written otherwise there.
fn mount_points(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.split_whitespace().nth(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_is_found() {
        let text = "/dev/root / ext4 rw 0 0\n/dev/ubdd /data ext4 rw,noatime 0 0\n";
        assert_eq!(mount_points(text), ["/", "/data"]);
    }
}
