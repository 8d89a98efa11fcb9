use super::*;
use crate::sample::{name, sight};

const MINUTE_MS: u64 = 60_000;
const HOSTS: [(&str, Tenure, Option<u32>); 3] = [
    ("oslo", Tenure::Owned, Some(1)),
    ("gjovik", Tenure::Owned, Some(20)),
    ("berkeley", Tenure::Owned, Some(180)),
];

/// What is seen in Oslo at the end of some minutes, in which each site's clients change on a line from one number to
/// another.
fn after(minutes: u64, sites: &[(&str, f64, f64)]) -> Sight {
    let mut seen = sight("oslo", &HOSTS);
    seen.now_ms = minutes * MINUTE_MS;
    for (site, from, to) in sites {
        let value = |minute: u64| from + (to - from) * minute as f64 / minutes.max(1) as f64;
        let samples = (0..=minutes).map(|minute| Sample { at_ms: minute * MINUTE_MS, value: value(minute) });
        seen.gauges.insert(name(&format!("clients.{site}")), samples.collect());
    }
    seen
}

#[track_caller]
fn check(seen: &Sight, expect: Option<&str>) {
    let (verdict, _) = Builtin::Proximity(Proximity::default()).decide(seen, Memory::default());
    let expect = expect.map_or(Decision::Stay, |host| Decision::Move { to: name(host) });
    assert_eq!(verdict.decision, expect, "{}", verdict.reason);
}

#[test]
fn it_goes_where_more_than_60_percent_are_and_become_more() {
    for (oslo, berkeley, expect) in [
        ((40.0, 40.0), (59.0, 61.0), Some("berkeley")),
        ((40.0, 40.0), (59.0, 60.0), None),
        ((40.0, 40.0), (59.0, 59.9), None),
        ((10.0, 10.0), (61.0, 60.0), None),
        ((10.0, 10.0), (60.0, 60.0), None),
        ((10.0, 10.0), (59.0, 60.0), Some("berkeley")),
    ] {
        check(&after(15, &[("oslo", oslo.0, oslo.1), ("berkeley", berkeley.0, berkeley.1)]), expect);
    }
}

#[test]
fn the_trend_is_that_of_15_minutes() {
    let sites = [("oslo", 10.0, 10.0), ("berkeley", 60.0, 70.0)];
    for (minutes, expect) in [(5, None), (13, None), (14, Some("berkeley")), (15, Some("berkeley"))] {
        check(&after(minutes, &sites), expect);
    }
    // What was long ago doesn't count: it fell for an hour, and has risen for a quarter of one.
    let mut seen = after(60, &sites);
    let value = |minute: u64| if minute < 45 { 200.0 - minute as f64 } else { minute as f64 };
    let samples = (0..=60).map(|minute| Sample { at_ms: minute * MINUTE_MS, value: value(minute) });
    seen.gauges.insert(name("clients.berkeley"), samples.collect());
    check(&seen, Some("berkeley"));
}

#[test]
fn it_stays_where_it_is_among_the_most() {
    check(&after(15, &[("oslo", 60.0, 90.0), ("berkeley", 10.0, 10.0)]), None);
}

#[test]
fn few_clients_decide_nothing() {
    check(&after(15, &[("oslo", 0.0, 0.0), ("berkeley", 5.0, 9.0)]), None);
    check(&after(15, &[("oslo", 0.0, 0.0), ("berkeley", 5.0, 10.0)]), Some("berkeley"));
    check(&after(15, &[]), None);
}

#[test]
fn a_site_that_is_new_counts_among_all() {
    let mut seen = after(15, &[("oslo", 20.0, 20.0), ("berkeley", 60.0, 70.0)]);
    check(&seen, Some("berkeley"));
    seen.gauges.insert(name("clients.gjovik"), vec![Sample { at_ms: seen.now_ms, value: 60.0 }]);
    check(&seen, None);
}

#[test]
fn it_goes_to_the_nearest_host_there_that_can_be_reached() {
    let mut seen = after(15, &[("oslo", 10.0, 10.0), ("berkeley", 60.0, 70.0)]);
    let mut add = |named: &str, round_trip_ms| {
        let (name, site) = (name(named), name("berkeley"));
        seen.hosts.push(HostSeen { name, site, tenure: Tenure::Owned, round_trip_ms });
    };
    add("stanford", Some(170));
    add("off", None);
    check(&seen, Some("stanford"));
    seen.hosts.retain(|host| host.site != name("berkeley") || host.round_trip_ms.is_none());
    check(&seen, None);
}

#[test]
fn it_stays_for_15_minutes_where_it_has_come_to() {
    let sites = [("oslo", 10.0, 10.0), ("berkeley", 60.0, 70.0)];
    for (minutes, expect) in [(29, None), (30, Some("berkeley"))] {
        let mut seen = after(minutes, &sites);
        let decision = Decision::Move { to: name("oslo") };
        seen.decided.push(Decided { at_ms: 15 * MINUTE_MS, decision });
        check(&seen, expect);
    }
}

#[test]
fn where_it_is_trusted_it_wants_one_disk_more() {
    let backup = Backup { hosts: [name("oslo")].into(), volumes: 1 };
    let policy = Builtin::Proximity(Proximity { backup: Some(backup), ..Proximity::default() });
    let decide = |seen: &Sight| policy.decide(seen, Memory::default()).0.decision;
    let mut seen = after(15, &[("oslo", 60.0, 60.0), ("berkeley", 10.0, 10.0)]);
    assert_eq!(decide(&seen), Decision::AddVolume);
    seen.volumes = 1;
    assert_eq!(decide(&seen), Decision::Stay);
    seen.volumes = 0;
    seen.host = name("gjovik");
    assert_eq!(
        decide(&after(15, &[("oslo", 10.0, 10.0), ("berkeley", 60.0, 70.0)])),
        Decision::Move { to: name("berkeley") }
    );
    seen.gauges.clear();
    assert_eq!(decide(&seen), Decision::Stay);
}
