use super::*;
use crate::sample::{name, sight};

const MINUTE_MS: u64 = 60_000;
const HOSTS: [(&str, Tenure, Option<u32>); 3] =
    [("oslo", Tenure::Owned, Some(1)), ("gjovik", Tenure::Owned, Some(5)), ("ec2", Tenure::Cloud, Some(40))];

fn seen(host: &str, waiting: f64, spent_minutes: u64) -> Sight {
    let mut seen = sight(host, &HOSTS);
    seen.cloud_spent_ms = spent_minutes * MINUTE_MS;
    seen.gauges.insert(name("queue"), vec![Sample { at_ms: 0, value: waiting }]);
    seen
}

#[track_caller]
fn check(settings: &Queue, seen: &Sight, expect: Option<&str>) {
    let (verdict, _) = Builtin::Queue(settings.clone()).decide(seen, Memory::default());
    let expect = expect.map_or(Decision::Stay, |host| Decision::Move { to: name(host) });
    assert_eq!(verdict.decision, expect, "{}", verdict.reason);
}

#[test]
fn it_stays_for_three_jobs_and_goes_for_four() {
    for (waiting, expect) in
        [(0.0, None), (3.0, None), (4.0, Some("ec2")), (10.0, Some("ec2")), (-1.0, None), (f64::NAN, None)]
    {
        check(&Queue::default(), &seen("oslo", waiting, 0), expect);
    }
}

#[test]
fn where_it_is_worth_it_follows_from_the_times() {
    // 12 minutes to move: three jobs gain 15.
    let near = Queue { move_ms: 12 * MINUTE_MS, ..Queue::default() };
    check(&near, &seen("oslo", 2.0, 0), None);
    check(&near, &seen("oslo", 3.0, 0), Some("ec2"));
    // The cloud is no faster.
    let slow = Queue { cloud_job_ms: 10 * MINUTE_MS, ..Queue::default() };
    check(&slow, &seen("oslo", 1000.0, 0), None);
}

#[test]
fn hours_that_are_spent_are_not_asked_for() {
    // Of six hours 20 minutes are four jobs; with 19 only three would get done there.
    for (spent, expect) in [(0, Some("ec2")), (340, Some("ec2")), (341, None), (360, None), (400, None)] {
        check(&Queue::default(), &seen("oslo", 100.0, spent), expect);
    }
}

#[test]
fn it_comes_back_at_once_when_the_queue_or_the_hours_are_short() {
    for (waiting, spent, expect) in [
        (1.0, 100, None),
        (0.0, 100, Some("oslo")),
        (100.0, 355, None),
        (100.0, 356, Some("oslo")),
        (100.0, 360, Some("oslo")),
    ] {
        check(&Queue::default(), &seen("ec2", waiting, spent), expect);
    }
    let short = Queue { short: 2, ..Queue::default() };
    check(&short, &seen("ec2", 3.0, 0), None);
    check(&short, &seen("ec2", 2.0, 0), Some("oslo"));
}

#[test]
fn it_comes_home_or_else_to_the_nearest() {
    let home = Queue { home: Some(name("gjovik")), ..Queue::default() };
    check(&home, &seen("ec2", 0.0, 0), Some("gjovik"));
    let mut off = seen("ec2", 0.0, 0);
    off.hosts[1].round_trip_ms = None;
    check(&home, &off, Some("oslo"));
    off.hosts[0].round_trip_ms = None;
    check(&home, &off, None);
}

#[test]
fn while_it_moves_it_decides_nothing() {
    for (at_minute, expect) in [(14, None), (15, Some("oslo"))] {
        let mut seen = seen("ec2", 0.0, 0);
        seen.now_ms = at_minute * MINUTE_MS;
        seen.gauges.insert(name("queue"), vec![Sample { at_ms: seen.now_ms, value: 0.0 }]);
        seen.decided.push(Decided { at_ms: 0, decision: Decision::Move { to: name("ec2") } });
        check(&Queue::default(), &seen, expect);
    }
}

#[test]
fn what_was_told_long_ago_decides_nothing() {
    for (now_ms, expect) in [(MINUTE_MS - 1, Some("ec2")), (MINUTE_MS, None)] {
        let mut seen = seen("oslo", 10.0, 0);
        seen.now_ms = now_ms;
        check(&Queue::default(), &seen, expect);
    }
}
