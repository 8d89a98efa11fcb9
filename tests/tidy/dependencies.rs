//! Who depends on whom.

use std::process::Command;

use serde_json::Value;

use super::tree::{none_break, root};

/// All that the pure crate may use: nothing here reads a clock, a file, a socket or the system's randomness.
const PURE: [&str; 8] =
    ["bincode", "blake3", "data-encoding", "ed25519-dalek", "serde", "serde_json", "sha2", "thiserror"];

/// Crates of the workspace, and which others of it they may use.
const HOUSE: [(&str, &[&str]); 9] = [
    ("mln-protocol", &[]),
    ("mln-link", &["mln-protocol"]),
    // What `mlnctl` and `mlnd` share of libp2p: dialling a member, and its door from outside.
    ("mln-door", &["mln-protocol"]),
    ("mlnd", &["mln-protocol", "mln-link", "mln-door", "mln-copy"]),
    ("mln-cli", &["mln-protocol", "mln-link", "mln-door", "mln-copy"]),
    ("mln-copy", &[]),
    ("netsim", &["mln-protocol"]),
    // It runs the programs; of the crates it takes the token's form, to forge one.
    ("mln-e2e", &["mln-protocol"]),
    // It runs the programs as well, and is itself the far end of guests that no agent holds.
    ("mln-bench", &["mln-e2e", "mln-protocol", "mlnd"]),
];

fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(arguments)
        .args(["--locked", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs this test, so it is there");
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo writes UTF-8")
}

/// Returns the packages of the workspace.
fn packages() -> Vec<Value> {
    let text = cargo(&["metadata", "--format-version", "1", "--no-deps"]);
    let metadata: Value = serde_json::from_str(&text).expect("cargo metadata writes JSON");
    metadata["packages"].as_array().expect("it has packages").clone()
}

/// Returns what a package uses outside of its tests.
fn uses(package: &Value) -> Vec<&str> {
    let dependencies = package["dependencies"].as_array().expect("a package has a list of dependencies");
    let outside_tests = dependencies.iter().filter(|dependency| dependency["kind"] != "dev");
    outside_tests.filter_map(|dependency| dependency["name"].as_str()).collect()
}

#[test]
fn the_pure_crate_uses_nothing_that_reads_the_world() {
    let packages = packages();
    let protocol = packages.iter().find(|package| package["name"] == "mln-protocol").expect("it is a member");
    let strange: Vec<String> =
        uses(protocol).into_iter().filter(|name| !PURE.contains(name)).map(str::to_owned).collect();
    none_break("mln-protocol may use only what tests/tidy/dependencies.rs lists", &strange);
}

#[test]
fn crates_use_only_those_below_them() {
    let mut wrong = Vec::new();
    for package in packages() {
        let name = package["name"].as_str().expect("a package has a name");
        let Some((_, allowed)) = HOUSE.iter().find(|(crate_name, _)| *crate_name == name) else {
            wrong.push(format!("{name} has no place yet"));
            continue;
        };
        for used in uses(&package) {
            let is_ours = HOUSE.iter().any(|(crate_name, _)| *crate_name == used);
            if is_ours && !allowed.contains(&used) {
                wrong.push(format!("{name} uses {used}"));
            }
        }
    }
    none_break("crates use only those that tests/tidy/dependencies.rs allows", &wrong);
}

#[test]
fn shipped_programs_cannot_have_their_rules_switched_off() {
    for package in ["mlnd", "mln-cli"] {
        let tree = cargo(&["tree", "-e", "features,no-dev", "-p", package]);
        assert!(tree.contains("mln-protocol"), "{package} is not built from mln-protocol:\n{tree}");
        for feature in ["mutants", "failpoints"] {
            assert!(!tree.contains(feature), "{package} has the feature `{feature}`:\n{tree}");
        }
    }
    // Were the feature renamed, the lines above would find nothing for ever.
    assert!(cargo(&["tree", "-e", "features,no-dev", "-p", "netsim"]).contains("mutants"));
    let manifest =
        std::fs::read_to_string(super::tree::root().join("agent/Cargo.toml")).expect("it is there");
    assert!(manifest.contains("failpoints = []") && !manifest.contains("\"failpoints\""), "{manifest}");
}

#[test]
fn the_guest_agent_is_free_of_the_mesh() {
    let tree = cargo(&["tree", "-e", "no-dev", "-p", "mlnd", "--no-default-features", "--prefix", "none"]);
    let heavy: Vec<String> = tree
        .lines()
        .filter(|line| ["libp2p", "sled", "clap"].iter().any(|name| line.starts_with(&format!("{name} "))))
        .map(str::to_owned)
        .collect();
    none_break("the guest agent is small and static", &heavy);
}
