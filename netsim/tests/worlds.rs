//! The simulator as a program: what it promises about traces, convergence and broken rules.

use std::process::{Command, Output};

fn netsim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_netsim")).args(arguments).output().expect("cargo has just built it")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn trace(output: &Output) -> String {
    let all = text(output);
    all.lines().find(|line| line.starts_with("trace ")).expect("every run prints its trace").to_owned()
}

#[test]
fn one_seed_has_one_trace_and_another_seed_another() {
    let world = ["run", "--nodes", "30", "--seed", "7"];
    let (first, second) = (netsim(&world), netsim(&world));
    assert!(first.status.success(), "{}", text(&first));
    assert_eq!(trace(&first), trace(&second));
    assert_ne!(trace(&first), trace(&netsim(&["run", "--nodes", "30", "--seed", "8"])));
}

#[test]
fn small_worlds_converge_after_every_kind_of_fault() {
    let mut faults = String::new();
    for seed in 1..=25 {
        let seed = seed.to_string();
        let output = netsim(&["run", "--nodes", "12", "--projects", "24", "--seed", &seed]);
        assert!(output.status.success(), "seed {seed}:\n{}", text(&output));
        faults +=
            text(&output).lines().find(|line| line.starts_with("faults:")).expect("every run counts them");
    }
    for kind in ["packets lost", "repeated", "crashes", "steps failed"] {
        assert!(
            faults.split(", ").any(|part| part.ends_with(kind) && !part.ends_with(&format!(" 0 {kind}"))),
            "no {kind} in any world: {faults}"
        );
    }
}

#[test]
fn every_broken_rule_is_noticed() {
    let output = netsim(&["mutate", "--seeds", "30"]);
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn a_broken_merge_rule_fails_a_large_world() {
    let output = netsim(&["run", "--nodes", "100", "--seed", "1", "--mutation", "merge-keeps-first"]);
    assert!(!output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("violation: "), "{}", text(&output));
}
