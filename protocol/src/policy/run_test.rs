//! When policies are asked, who of several asks, and what becomes of answers.

use super::*;
use crate::model::{BuiltinName, HostAddress, May, Tuning};
use crate::policy::{Bounds, Tenure};
use crate::sample::name;

const EVERY_MS: u64 = 5_000;

fn policy(named: &str, decider: Option<Decider>) -> Policy {
    let may = vec![
        May::Scale { class: name("web"), least: 1, most: 4 },
        May::Move(vec![HostAddress("oslo".to_owned())]),
    ];
    let (origin, tuning) = (name("web"), Tuning::default());
    Policy { name: name(named), origin, decider, tuning, every_ms: EVERY_MS, grace_ms: 15_000, may }
}

fn program(named: &str) -> Policy {
    policy(named, Some(Decider::Run(vec!["/bin/decide".to_owned()])))
}

fn scale() -> Policy {
    policy("grow", Some(Decider::Builtin(BuiltinName::Scale)))
}

/// What host `oslo` tells the VM `front`, with these VMs sharing each of these policies.
fn told(shared: &[(&str, &[(&str, bool)])]) -> Told {
    let companion = |&(vm, runs): &(&str, bool)| Companion { vm: name(vm), runs };
    let of = |vms: &[(&str, bool)]| Shared { vms: vms.iter().map(companion).collect(), decided: Vec::new() };
    Told {
        vm: name("front"),
        host: name("oslo"),
        classes: [(name("web"), 1)].into(),
        volumes: 0,
        hosts: vec![HostSeen {
            name: name("oslo"),
            site: name("oslo"),
            tenure: Tenure::Owned,
            round_trip_ms: Some(0),
        }],
        cloud_spent_ms: 0,
        machines: Default::default(),
        shared: shared.iter().map(|(policy, vms)| (name(policy), of(vms))).collect(),
    }
}

fn alone() -> Told {
    told(&[("grow", &[("front", true)]), ("walk", &[("front", true)])])
}

fn wants_move() -> Verdict {
    Verdict { decision: Decision::Move { to: name("oslo") }, reason: "nearer".to_owned() }
}

#[test]
fn a_policy_is_asked_when_it_is_due_and_not_while_its_program_runs_or_what_it_wants_is_open() {
    let mut runner = Runner::new(vec![program("walk")], 1_000);
    assert_eq!(runner.turn(1_000, &alone()), []);
    assert_eq!(runner.next_ms(), Some(6_000));
    let turns = runner.turn(6_000, &alone());
    assert!(matches!(&turns[..], [Turn::Run { program, .. }] if program == &["/bin/decide"]), "{turns:?}");
    assert_eq!((runner.turn(60_000, &alone()), runner.next_ms()), (vec![], None));
    let asked = Turn::Ask { policy: name("walk"), verdict: wants_move() };
    assert_eq!(runner.ended(&name("walk"), 60_000, Ok(wants_move())), Some(asked));
    assert_eq!(runner.turn(100_000, &alone()), []);
    runner.answered(&name("walk"), 100_000, Granted::Yes);
    assert_eq!(runner.next_ms(), Some(105_000));
}

#[test]
fn what_nobody_answers_ends_as_a_refusal() {
    let mut runner = Runner::new(vec![program("walk")], 0);
    runner.turn(5_000, &alone());
    runner.ended(&name("walk"), 5_000, Ok(wants_move()));
    assert_eq!(runner.next_ms(), Some(5_000 + OPEN_MS_MAX));
    assert_eq!(runner.turn(5_000 + OPEN_MS_MAX, &alone()), []);
    assert_eq!(runner.next_ms(), Some(5_000 + OPEN_MS_MAX + EVERY_MS));
}

#[test]
fn after_refusals_the_pause_doubles_up_to_a_bound_and_a_yes_ends_that() {
    let mut runner = Runner::new(vec![program("walk")], 0);
    let mut now_ms = 0;
    let mut pauses = Vec::new();
    for granted in [Granted::No; 9].into_iter().chain([Granted::Yes, Granted::No]) {
        now_ms = runner.next_ms().expect("it waits");
        runner.turn(now_ms, &alone());
        runner.ended(&name("walk"), now_ms, Ok(wants_move()));
        runner.answered(&name("walk"), now_ms, granted);
        pauses.push((runner.next_ms().expect("it waits") - now_ms) / EVERY_MS);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 64, 64, 1, 1]);
    // A program that fails is no better than a refusal.
    now_ms = runner.next_ms().unwrap_or(now_ms);
    runner.turn(now_ms, &alone());
    let failed = runner.ended(&name("walk"), now_ms, Err("it ended with status 1".to_owned()));
    assert!(matches!(failed, Some(Turn::Stay { reason, .. }) if reason.contains("status 1")));
    assert_eq!(runner.next_ms(), Some(now_ms + 2 * EVERY_MS));
}

#[test]
fn what_nobody_asked_for_changes_nothing() {
    let mut runner = Runner::new(vec![program("walk")], 0);
    assert_eq!(runner.ended(&name("walk"), 1, Ok(wants_move())), None);
    assert_eq!(runner.ended(&name("other"), 1, Ok(wants_move())), None);
    runner.answered(&name("walk"), 1, Granted::No);
    assert_eq!(runner.next_ms(), Some(EVERY_MS));
}

#[test]
fn a_built_in_policy_decides_by_its_gauge() {
    let mut runner = Runner::new(vec![scale()], 0);
    for second in 1..=60 {
        let sample = Sample { at_ms: second * 1_000, value: 60.0 };
        runner.measure(&name(crate::policy::LOAD_GAUGE), sample).expect("a number");
    }
    let turns = runner.turn(60_000, &alone());
    let [Turn::Ask { verdict, .. }] = &turns[..] else { panic!("{turns:?}") };
    assert_eq!(verdict.decision, Decision::Scale { class: name("web"), to: 3 });
    assert!(verdict.reason.contains("60.0"), "{}", verdict.reason);
}

#[test]
fn of_vms_that_share_a_policy_the_first_that_runs_asks_and_the_next_takes_over() {
    let mut runner = Runner::new(vec![program("walk")], 0);
    let first = told(&[("walk", &[("back", true), ("front", true), ("gone", true)])]);
    let turns = runner.turn(5_000, &first);
    assert_eq!(turns, [Turn::StandBy { policy: name("walk"), elected: name("back") }]);
    let down = told(&[("walk", &[("back", false), ("front", true), ("gone", true)])]);
    let turns = runner.turn(10_000, &down);
    assert!(matches!(turns[..], [Turn::Run { .. }]), "{turns:?}");
    // Where nobody is known to run, whoever looks does.
    let unknown = told(&[]);
    let mut runner = Runner::new(vec![program("walk")], 0);
    assert!(matches!(runner.turn(5_000, &unknown)[..], [Turn::Run { .. }]));
}

#[test]
fn a_policy_that_stays_as_it_is_goes_on_and_a_new_one_begins() {
    let mut runner = Runner::new(vec![program("walk")], 0);
    runner.turn(5_000, &alone());
    runner.replace(vec![program("walk"), scale()], 6_000);
    // The program still runs, and the other is due in a while.
    assert_eq!(runner.next_ms(), Some(11_000));
    assert!(runner.ended(&name("walk"), 7_000, Ok(wants_move())).is_some());
    runner.replace(vec![], 8_000);
    assert_eq!((runner.next_ms(), runner.turn(90_000, &alone())), (None, vec![]));
}

#[test]
fn one_without_a_decider_is_never_asked() {
    let mut runner = Runner::new(vec![policy("free", None)], 0);
    assert_eq!((runner.next_ms(), runner.turn(90_000, &alone())), (None, vec![]));
}

#[test]
fn a_project_s_policy_gives_the_built_in_one_its_times_and_bounds() {
    let Some(Builtin::Scale(grow)) = Builtin::of(&scale()) else { panic!("it names `scale`") };
    assert_eq!((grow.every_ms, grow.grace_ms, grow.class), (EVERY_MS, 15_000, name("web")));
    assert_eq!(grow.bounds, Bounds { least: 1, most: 4 });
    let tuning = Tuning { gauge: Some(name("jobs")), quota_milli: Some(2_500), window_ms: Some(9_000) };
    let Some(Builtin::Scale(tuned)) = Builtin::of(&Policy { tuning, ..scale() }) else { panic!("as above") };
    assert_eq!((tuned.gauge, tuned.quota, tuned.window_ms), (name("jobs"), 2.5, 9_000));
    let none = Policy { may: Vec::new(), ..scale() };
    assert_eq!(Builtin::of(&none), None);
    let near = policy("near", Some(Decider::Builtin(BuiltinName::Proximity)));
    assert!(matches!(Builtin::of(&near), Some(Builtin::Proximity(near)) if near.grace_ms == 15_000));
    assert_eq!(Builtin::of(&program("walk")), None);
}
