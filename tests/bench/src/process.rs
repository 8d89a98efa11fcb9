//! What processes use, and what the machine has: read from `/proc`.

use std::fs;
use std::path::Path;
use std::time::Instant;

use crate::statistics::Sample;

/// How often something is made durable, to know how long that takes.
const FSYNCS: usize = 21;

/// Returns how long a process has used processors, in seconds.
///
/// With the resolution of the kernel's clock ticks, but precise: threads that have ended are in it.
pub(crate) fn processor_seconds(pid: u32) -> Option<f64> {
    let ticks = stat_ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Returns user and system time from a line of `/proc/PID/stat`, in ticks.
fn stat_ticks(stat: &str) -> Option<u64> {
    user_and_system(stat, 11)
}

/// Returns the same of its children that have ended and were waited for, and of theirs.
fn ended_ticks(stat: &str) -> Option<u64> {
    user_and_system(stat, 13)
}

fn user_and_system(stat: &str, at: usize) -> Option<u64> {
    // The program's name may have blanks and brackets.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(at);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Returns how long a process has used processors, with what it has started and waited for, in seconds: what runs in a guest
/// are processes of its host that come and go.
pub(crate) fn lasting_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let ticks = ended_ticks(&stat).unwrap_or(0);
    thread_seconds(pid) + ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// Returns how long the threads of a process have run, in seconds, to the nanosecond.
pub(crate) fn thread_seconds(pid: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let times = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    times.sum::<u64>() as f64 / 1e9
}

/// Returns what a process has in memory, in bytes: its own pages and those of files.
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    field_bytes(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmRSS")
}

/// Returns a number of `/proc/meminfo`, in bytes.
pub(crate) fn memory_bytes(name: &str) -> Option<u64> {
    field_bytes(&fs::read_to_string("/proc/meminfo").ok()?, name)
}

/// Returns the value of a line like `Shmem:   12 kB`, in bytes.
fn field_bytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Returns what a folder takes on the disk, in bytes, as `du` counts it.
pub(crate) fn allocated_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(metadata) = path.symlink_metadata() else { return 0 };
    let inside = if metadata.is_dir() {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| allocated_bytes(&entry.path())).sum()
    } else {
        0
    };
    metadata.blocks() * 512 + inside
}

/// Says what machine this is: what is measured holds for it.
pub(crate) fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let memory = memory_bytes("MemTotal").unwrap_or(0) >> 20;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let fsync = fsync_seconds().map_or("unknown".to_owned(), |seconds| format!("{:.0} µs", seconds * 1e6));
    format!(
        "{} processors ({}), {memory} MiB, Linux {}, fsync {fsync}, load before {}",
        std::thread::available_parallelism().map_or(0, usize::from),
        model.map_or("unknown", |(_, model)| model.trim()),
        kernel.trim(),
        load.split(' ').next().unwrap_or("unknown"),
    )
}

/// Returns how long it takes to make 4 KiB durable where the hosts' folders are: what is built waits for that, and
/// the alternative doesn't.
fn fsync_seconds() -> Option<f64> {
    let path = std::env::temp_dir().join(format!("mln-bench-fsync-{}", std::process::id()));
    let times: std::io::Result<Vec<f64>> = (0..FSYNCS)
        .map(|_| {
            fs::write(&path, [0; 4096])?;
            let file = fs::File::open(&path)?;
            let began = Instant::now();
            file.sync_all()?;
            Ok(began.elapsed().as_secs_f64())
        })
        .collect();
    // Where it could not be made, there is nothing to remove.
    let _ = fs::remove_file(&path);
    Some(Sample::of(times.ok()?)?.median())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_name_may_be_anything() {
        let stat = "7 (a) b) 1 2) S 1 7 7 0 -1 4194560 1 0 0 0 125 75 3 4 20 0 1 0 5 6 7";
        assert_eq!((stat_ticks(stat), ended_ticks(stat)), (Some(200), Some(7)));
        assert_eq!(stat_ticks("7 (cut) S 1"), None);
    }

    #[test]
    fn a_field_is_the_one_with_the_whole_name() {
        let text = "MemTotal:       24682496 kB\nShmemHugePages:        0 kB\nShmem:      8 kB\n";
        assert_eq!(field_bytes(text, "Shmem"), Some(8192));
        assert_eq!(field_bytes(text, "Mem"), None);
    }

    #[test]
    fn a_machine_says_how_long_its_disk_takes() {
        assert!(fsync_seconds().is_some_and(|seconds| seconds > 0.0));
        assert!(machine().contains(" µs"), "{}", machine());
    }

    #[test]
    fn this_process_uses_something() {
        let own = std::process::id();
        assert!(resident_bytes(own).is_some_and(|bytes| bytes > 0));
        assert!(processor_seconds(own).is_some());
        assert!(thread_seconds(own) > 0.0);
    }
}
