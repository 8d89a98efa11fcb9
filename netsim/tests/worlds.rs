//! The simulator as a program: what it promises about traces, convergence and broken rules.

use std::process::{Command, Output};

fn netsim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_netsim")).args(arguments).output().expect("cargo has just built it")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn line<'a>(all: &'a str, begins: &str) -> &'a str {
    all.lines().find(|line| line.starts_with(begins)).unwrap_or_else(|| panic!("no line {begins:?}:\n{all}"))
}

#[test]
fn one_seed_has_one_trace_and_another_seed_another() {
    let trace = |world: &[&str]| line(&text(&netsim(world)), "trace ").to_owned();
    let world = ["run", "--nodes", "12", "--projects", "12", "--seed", "7"];
    assert_eq!(trace(&world), trace(&world));
    assert_ne!(trace(&world), trace(&["run", "--nodes", "12", "--projects", "12", "--seed", "8"]));
    // With all that the swarm draws as well.
    let world = ["run", "--swarm", "--seed", "5", "--as-is"];
    assert_eq!(trace(&world), trace(&world));
}

#[test]
fn many_worlds_have_one_trace() {
    let trace =
        || line(&text(&netsim(&["run", "--seeds", "1..3", "--swarm", "--as-is"])), "trace ").to_owned();
    assert_eq!(trace(), trace());
}

#[test]
fn a_host_that_goes_on_though_its_key_signs_elsewhere_is_noticed() {
    for mutation in ["own-key-not-asked", "second-run-ignored"] {
        let output = netsim(&["run", "--seeds", "1..40", "--swarm", "--as-is", "--mutation", mutation]);
        let all = text(&output);
        assert!(!output.status.success(), "{all}");
        assert!(all.contains(": D: "), "{all}");
    }
}

#[test]
fn everyday_worlds_come_right() {
    let output = netsim(&["run", "--seeds", "1..20", "--nodes", "12", "--projects", "12"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(line(&text(&output), "20 worlds").contains(" 0 violations"), "{}", text(&output));
}

#[test]
fn the_swarm_has_every_kind_of_fault_and_comes_right() {
    let output = netsim(&["run", "--seeds", "1..40", "--swarm", "--as-is"]);
    let all = text(&output);
    assert!(output.status.success(), "{all}");
    assert!(line(&all, "40 worlds").contains(" 0 violations"), "{all}");
    let table = all.lines().skip_while(|line| !line.starts_with("fault ")).skip(1);
    let counted: Vec<(&str, u64)> = table
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?, words.next()?.parse().ok()?))
        })
        .collect();
    assert!(counted.len() >= 22, "{all}");
    for (fault, happened) in counted.iter().filter(|(fault, _)| *fault != "cut-build") {
        assert!(*happened > 0, "no {fault} in any world:\n{all}");
    }
}

#[test]
fn a_broken_rule_is_noticed_and_its_world_made_smaller() {
    let output = netsim(&[
        "run",
        "--nodes",
        "12",
        "--projects",
        "12",
        "--seed",
        "1",
        "--mutation",
        "merge-keeps-first",
    ]);
    let all = text(&output);
    assert!(!output.status.success(), "{all}");
    assert!(all.contains("violation: "), "{all}");
    // What is printed brings the same rule's violation about again.
    let again =
        line(&all, "    again with: netsim ").trim_start_matches("    again with: netsim ").to_owned();
    let output = netsim(&again.split_whitespace().collect::<Vec<_>>());
    let rule =
        line(&all, "made smaller: ").trim_start_matches("made smaller: ").split(':').next().unwrap_or("");
    assert!(
        line(&text(&output), "violation: ").starts_with(&format!("violation: {rule}:")),
        "{}",
        text(&output)
    );
}

#[test]
fn a_rule_that_is_switched_off_is_noticed_by_the_scene_that_is_made_for_it() {
    let rules = "decline-without-epoch,run-request-without-epoch,shadow-unpinned,note-after-send,takeover-keeps-term,\
                 promise-lapses,journal-not-needed,first-epoch-by-another,merge-refuses-expired,\
                 identity-without-birth,refused-not-told,unsigned-accepted,revocation-ignored,grant-verb-ignored,\
                 grant-limit-ignored,asker-not-judged,strangers-heard,reservation-never-lapses,times-go-back,\
                 kept-disk-deleted-early,kept-disk-not-held,\
                 reservation-forgotten,joined-when-asked,takeover-without-room,fragment-for-anybody,\
                 guest-key-kept-over-an-epoch,budget-per-vm,envelope-read-from-child,envelope-ignored,\
                 guest-part-not-remade,guest-signature-ignored,\
                 guest-grant-revoked-passes,guest-verb-unchecked,guest-charge-forgotten,guest-limit-unchecked,\
                 guest-hosts-unchecked,overtaken-not-told";
    // Each scene is played three times: of those in which somebody is late, or in which grants are drawn, not each comes to it.
    let output = netsim(&["mutate", "--seeds", "126", "--kills", "1", "--only", rules]);
    let all = text(&output);
    assert!(output.status.success(), "{all}");
    assert_eq!(all.lines().last(), Some("37 of 37 killed"), "{all}");
}

#[test]
fn guests_are_given_what_they_may_have_and_nothing_of_what_they_may_not() {
    let output = netsim(&["run", "--seeds", "1..8", "--scene", "forged", "--as-is"]);
    let all = text(&output);
    assert!(output.status.success(), "{all}");
    let guests = line(&all, "guests: ");
    let count = |what: &str| -> u64 {
        let before = guests.split(what).next().and_then(|words| words.split_whitespace().last());
        before
            .and_then(|number| number.parse().ok())
            .unwrap_or_else(|| panic!("no number of {what}: {guests}"))
    };
    for what in [" asked", " granted", " forged", " believed", " envelope", " guest-key", " guest-rate"] {
        assert!(count(what) > 0, "no guest was {what}: {guests}");
    }
}

#[test]
fn guests_on_grants_meet_people_and_the_ends_of_their_hosts() {
    let output = netsim(&["run", "--seeds", "1..24", "--scene", "granted", "--as-is"]);
    let all = text(&output);
    assert!(output.status.success(), "{all}");
    let count = |begins: &str, before: &str| -> u64 {
        let words = line(&all, begins).split(before).next().and_then(|words| words.split_whitespace().last());
        words.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no number of {before}: {all}"))
    };
    for what in [" granted", " grant,", " grant-limit"] {
        assert!(count("guests: ", what) > 0, "no guest was {what}: {all}");
    }
    for what in [" revisions", " guests and"] {
        assert!(count("rivals: ", what) > 0, "{what}: {all}");
    }
    for what in [" while", " before", " of the first"] {
        assert!(count("guests' hosts ended: ", what) > 0, "{what}: {all}");
    }
}

#[test]
fn a_quiet_mesh_is_measured_beside_its_models() {
    let output = netsim(&["scale", "--nodes", "20"]);
    let all = text(&output);
    assert!(output.status.success(), "{all}");
    for row in ["this mesh", "flooding", "SWIM's pings alone", "idle: ", "change: "] {
        line(&all, row);
    }
}

#[test]
fn no_world_of_a_few_steps_breaks_a_rule_and_from_all_of_them_things_come_right() {
    for scope in ["decision", "hand-over", "claim", "decline", "takeover"] {
        let output = netsim(&["explore", "--scope", scope, "--crashes", "1", "--depth", "5"]);
        let all = text(&output);
        assert!(output.status.success() && all.contains("all within so many steps"), "{all}");
    }
}

#[test]
fn a_skipped_round_of_ballots_is_found_with_the_way_to_it() {
    let mutated = ["explore", "--scope", "decision", "--crashes", "0", "--mutation", "ask-round-skipped"];
    let output = netsim(&mutated);
    let all = text(&output);
    assert!(!output.status.success(), "{all}");
    assert!(line(&all, "violation: S2").contains("two children of one revision are committed"), "{all}");
    assert!(all.contains("  1. host0 is asked for change 0"), "{all}");
}

#[test]
fn the_built_in_policies_are_as_good_as_they_have_to_be() {
    let output = netsim(&["policy", "--seeds", "3"]);
    let all = text(&output);
    assert!(output.status.success(), "{all}");
    for row in
        ["published, as then", "published rule", "ours ", "2  ", "3  ", "   10    100 min       65 min"]
    {
        line(&all, row);
    }
}
