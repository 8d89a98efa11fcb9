//! What a guest measures of itself: the gauges that every VM has.

use std::fs;

use mln_protocol::id::Name;

/// The gauges that every VM has: how busy its processors are in percent, the memory that is in use in MiB, and bytes a second
/// that its interfaces receive and send.
pub(super) const GAUGES: [&str; 4] = ["cpu", "memory_mib", "received", "sent"];

/// What was counted last.
#[derive(Debug, Default)]
pub(super) struct Meter {
    last: Option<Counted>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counted {
    at_ms: u64,
    /// Processor time, busy and in all, in ticks.
    busy: u64,
    all: u64,
    received: u64,
    sent: u64,
}

impl Meter {
    /// Reads what the kernel counts; what is a rate needs two readings.
    pub(super) fn read(&mut self, now_ms: u64) -> Vec<(Name, f64)> {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (busy, all) = processors(&text("/proc/stat")).unwrap_or_default();
        let (received, sent) = interfaces(&text("/proc/net/dev"));
        let now = Counted { at_ms: now_ms, busy, all, received, sent };
        let mut values = [None, memory_mib(&text("/proc/meminfo")), None, None];
        if let Some(last) = self.last.replace(now) {
            let seconds = now.at_ms.saturating_sub(last.at_ms) as f64 / 1000.0;
            let ticks = now.all.saturating_sub(last.all) as f64;
            let rate =
                |now: u64, last: u64| (seconds > 0.0).then(|| now.saturating_sub(last) as f64 / seconds);
            let percent = now.busy.saturating_sub(last.busy) as f64 * 100.0 / ticks;
            values[0] = (ticks > 0.0).then_some(percent);
            values[2] = rate(now.received, last.received);
            values[3] = rate(now.sent, last.sent);
        }
        let named = |word: &str| Name::parse(word).expect("a literal of letters");
        GAUGES.into_iter().zip(values).filter_map(|(word, value)| Some((named(word), value?))).collect()
    }
}

/// Returns how long the processors were busy, and in all, in ticks (proc_stat(5)).
fn processors(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // Guests' time, which comes last, is in the first ones already.
    let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|word| word.parse().ok()).collect();
    let all: u64 = ticks.iter().sum();
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    Some((all - idle, all))
}

/// Returns the memory that is in use, in MiB (proc_meminfo(5)).
fn memory_mib(meminfo: &str) -> Option<f64> {
    let kib = |key: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let used = kib("MemTotal:")?.checked_sub(kib("MemAvailable:")?)?;
    Some(used as f64 / 1024.0)
}

/// Returns how many bytes all interfaces but the loopback have received and sent (proc_pid_net(5)).
fn interfaces(dev: &str) -> (u64, u64) {
    let counts = dev.lines().filter_map(|line| {
        let (name, rest) = line.split_once(':')?;
        let field = |at| rest.split_whitespace().nth(at)?.parse::<u64>().ok();
        (name.trim() != "lo").then(|| Some((field(0)?, field(8)?)))?
    });
    counts.fold((0, 0), |(received, sent), (more_in, more_out)| (received + more_in, sent + more_out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_counts_is_read() {
        let stat = "cpu  10 0 20 60 10 0 0 0 5 0\ncpu0 1 1 1 1\nintr 9\n";
        assert_eq!(processors(stat), Some((30, 100)));
        assert_eq!(processors("intr 9\n"), None);
        assert_eq!(memory_mib("MemTotal:  65536 kB\nMemAvailable:   32768 kB\n"), Some(32.0));
        assert_eq!(memory_mib("MemTotal:  65536 kB\n"), None);
        let dev = "Inter-|   Receive\n face |bytes    packets\n    lo:  7 0 0 0 0 0 0 0 7 0\n  eth0: 100 1 0 0 0 0 0 0 30 1\n\
                   eth1:5 0 0 0 0 0 0 0 6 0\n";
        assert_eq!(interfaces(dev), (105, 36));
    }

    #[test]
    fn a_rate_needs_two_readings() {
        let mut meter = Meter::default();
        let first: Vec<Name> = meter.read(1_000).into_iter().map(|(name, _)| name).collect();
        assert!(first.iter().all(|name| name.as_str() == "memory_mib"), "{first:?}");
        let second = meter.read(2_000);
        assert!(second.iter().any(|(name, _)| name.as_str() == "received"), "{second:?}");
        assert!(second.iter().all(|(_, value)| value.is_finite() && *value >= 0.0), "{second:?}");
    }
}
