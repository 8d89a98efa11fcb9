//! Jobs that wait for a VM that may do them in the cloud, by `queue`.

use std::collections::BTreeMap;
use std::io::Write;

use mln_protocol::policy::{Builtin, Decision, HostSeen, Memory, Queue, Sample, Sight, Tenure};

use super::name;

const MINUTE_MS: u64 = 60_000;
/// What a job needs, in parts: one is done in a minute at home, two in the cloud.
const JOB_PARTS: u64 = 10;
/// How long it is watched at most, in minutes.
const WATCHED_MIN: u64 = 24 * 60;

/// What came of some jobs that were all there at the beginning.
struct Day {
    /// When the last was done, in minutes; none if that was not on the first day.
    done_min: Option<u64>,
    moves: u32,
    cloud_min: u64,
}

/// Runs each number of jobs, and prints what came of it.
pub(super) fn run(out: &mut impl Write) -> std::io::Result<bool> {
    writeln!(out, "queue: 10 minutes a job, 5 in the cloud, 15 to move, 6 hours in the cloud a day")?;
    writeln!(
        out,
        "{:>5} {:>10} {:>12} {:>8} {:>14}",
        "jobs", "at home", "by policy", "moves", "in the cloud"
    )?;
    let mut holds = true;
    for jobs in [1, 3, 4, 5, 10, 20, 72, 80, 120] {
        let day = day(jobs);
        let minutes =
            |minutes: Option<u64>| minutes.map_or("-".to_owned(), |minutes| format!("{minutes} min"));
        writeln!(
            out,
            "{jobs:>5} {:>10} {:>12} {:>8} {:>14}",
            minutes(Some(jobs * JOB_PARTS)),
            minutes(day.done_min),
            day.moves,
            minutes(Some(day.cloud_min))
        )?;
        holds &= day.cloud_min <= 6 * 60 && day.done_min.is_some_and(|done| done <= jobs * JOB_PARTS);
    }
    Ok(holds && day(10).done_min == Some(65))
}

/// Does jobs that are all there at the beginning, for one day.
fn day(jobs: u64) -> Day {
    let settings = Queue::default();
    let (policy, move_min) = (Builtin::Queue(settings.clone()), settings.move_ms / MINUTE_MS);
    let mut parts = jobs * JOB_PARTS;
    let mut seen = sight();
    let (mut memory, mut day) = (Memory::default(), Day { done_min: None, moves: 0, cloud_min: 0 });
    let mut moving_min = 0;
    for minute in 0..WATCHED_MIN {
        if parts == 0 && day.done_min.is_none() {
            day.done_min = Some(minute);
        }
        seen.now_ms = minute * MINUTE_MS;
        seen.cloud_spent_ms = day.cloud_min * MINUTE_MS;
        let waiting = Sample { at_ms: seen.now_ms, value: parts.div_ceil(JOB_PARTS) as f64 };
        seen.gauges.insert(name("queue"), vec![waiting]);
        let (verdict, next) = policy.decide(&seen, memory);
        memory = next;
        if let Decision::Move { to } = verdict.decision {
            day.moves += 1;
            moving_min = move_min;
            seen.host = to;
        }
        if moving_min > 0 {
            moving_min -= 1;
            continue;
        }
        let is_cloud = seen.host == name("cloud");
        day.cloud_min += u64::from(is_cloud);
        let per_minute = if is_cloud { settings.job_ms / settings.cloud_job_ms } else { 1 };
        parts = parts.saturating_sub(per_minute);
    }
    day
}

fn sight() -> Sight {
    let host =
        |(named, tenure)| HostSeen { name: name(named), site: name(named), tenure, round_trip_ms: Some(1) };
    Sight {
        now_ms: 0,
        vm: name("worker"),
        host: name("oslo"),
        classes: BTreeMap::new(),
        volumes: 0,
        hosts: [("oslo", Tenure::Owned), ("cloud", Tenure::Cloud)].map(host).into(),
        cloud_spent_ms: 0,
        gauges: BTreeMap::new(),
        machines: Default::default(),
        decided: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_jobs_take_65_minutes_and_three_are_done_at_home() {
        let minutes = |jobs| (day(jobs).done_min, day(jobs).moves);
        assert_eq!(minutes(3), (Some(30), 0));
        assert_eq!(minutes(4), (Some(35), 2));
        assert_eq!(minutes(10), (Some(65), 2));
    }

    #[test]
    fn six_hours_a_day_are_not_exceeded_and_what_is_left_is_done_at_home() {
        let day = day(90);
        assert!(day.cloud_min <= 360 && day.moves == 2, "{} min, {} moves", day.cloud_min, day.moves);
        // There, until no further job fits, back, and what is left at home: 90 jobs have 900 parts, two a minute there.
        assert_eq!(day.done_min, Some(15 + 356 + 15 + (900 - 2 * 356)));
    }
}
