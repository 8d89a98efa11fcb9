//! What a site leaves: processes that work in its folder, and the folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::network;
use crate::until::until;

/// What the name of a site's folder begins with; the process that made it and a number follow.
pub(crate) const PREFIX: &str = "mln-story-";

/// Returns the processes whose working folder is in `folder`: agents, holders and guests, each with all of theirs.
pub(crate) fn processes_in(folder: &Path) -> Vec<Pid> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            let here = fs::read_link(format!("/proc/{pid}/cwd"));
            let ended = fs::read_to_string(format!("/proc/{pid}/stat"))
                .map_or(true, |stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")));
            // A folder that was removed has a word behind its name.
            here.is_ok_and(|here| here.starts_with(folder)) && !ended
        })
        .filter_map(Pid::from_raw)
        .collect()
}

/// Kills all processes in a folder, and waits until none is left.
pub(crate) fn kill_in(folder: &Path) {
    until("all processes of the host have ended", Duration::from_secs(20), || {
        let left = processes_in(folder);
        for &pid in &left {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::KILL);
        }
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

/// Clears a site away.
pub(crate) fn clear(folder: &Path) {
    kill_in(folder);
    network::remove(&name_of(folder));
    let _ = fs::remove_dir_all(folder);
}

/// Clears away the sites of test processes that were killed.
pub(crate) fn clear_old(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    let folders = entries.filter_map(|entry| Some(entry.ok()?.path()));
    for folder in folders.filter(|folder| name_of(folder).starts_with(PREFIX)) {
        if maker(&folder).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            clear(&folder);
        }
    }
}

fn maker(folder: &Path) -> Option<u32> {
    name_of(folder).strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

fn name_of(folder: &Path) -> String {
    PathBuf::from(folder).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
