//! Killing a guest's processes, and waiting until they are gone.
//!
//! Waiting matters: the lock on the guest's disk belongs to all of them, and goes with the last.

use std::fs;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use tracing::warn;

/// How long processes that were killed may take to be gone.
const END_LIMIT: Duration = Duration::from_secs(10);

/// Kills the processes of a group and waits until they have ended.
///
/// The group's number must be known to be its own: its leader is not waited for yet, or one of its processes
/// was just seen to be a guest's.
pub(crate) fn kill_and_wait(group: Pid) {
    // They may all have ended by now.
    let _ = rustix::process::kill_process_group(group, Signal::KILL);
    let deadline = Instant::now() + END_LIMIT;
    // Only now: a process that is about to be killed starts no other.
    for member in members(group) {
        let left = deadline.saturating_duration_since(Instant::now());
        let limit = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let mut fds = [PollFd::new(&member, PollFlags::IN)];
        if matches!(rustix::event::poll(&mut fds, Some(&limit)), Ok(0)) {
            warn!(group = group.as_raw_nonzero(), "a process of a guest does not end");
        }
    }
}

/// Returns the processes of a group, each as a descriptor that tells its end.
fn members(group: Pid) -> Vec<OwnedFd> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .filter(|&pid| group_of(pid) == Some(group))
        .filter_map(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok())
        .collect()
}

/// Returns the group of a process; none where it is gone, or is one of the kernel's, which have no group.
pub(crate) fn group_of(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The name in parentheses may have anything in it; behind it come state, parent and group.
    let (_, fields) = stat.rsplit_once(')')?;
    Pid::from_raw(fields.split_whitespace().nth(2)?.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    #[test]
    fn the_group_of_a_process_is_found() {
        let own = rustix::process::getpid();
        assert_eq!(group_of(own), Some(rustix::process::getpgrp()));
        let child = Command::new("sleep").arg("1000").process_group(0).spawn();
        let mut child = child.expect("starts");
        let pid = Pid::from_child(&child);
        assert_eq!(group_of(pid), Some(pid));
        kill_and_wait(pid);
        child.wait().expect("ended");
        assert_eq!(group_of(pid), None);
    }

    #[test]
    fn a_group_is_gone_when_it_was_killed() {
        let mut leader =
            Command::new("sh").args(["-c", "sleep 1000 & wait"]).process_group(0).spawn().expect("starts");
        let group = Pid::from_child(&leader);
        kill_and_wait(group);
        let _ = leader.wait();
        assert!(members(group).iter().all(|member| {
            // What has ended may still be listed, until its parent has taken its status.
            let mut fds = [PollFd::new(member, PollFlags::IN)];
            rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(1)
        }));
    }
}
