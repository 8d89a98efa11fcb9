//! `mlnctl fmt`: files are laid out, or left alone.

use std::path::Path;

use serde_json::Value;

use crate::{check, folder_with, mlnctl, text};

const UNTIDY: &str = "global{project p}\n\n\n\nhost a{ # first\nmemory   96M;uml\n}\n";
const TIDY: &str = "global { project p }\n\nhost a { # first\n    memory 96M\n    uml\n}\n";

#[test]
fn a_file_is_laid_out_once_and_checked() {
    let folder = folder_with(&[("p.mln", UNTIDY)]);
    let told = "p.mln: not in the usual layout: `mlnctl fmt` would change it\n";
    check(folder.path(), &["fmt", "-f", "p.mln", "--check"], 1, told);
    assert_eq!(text(folder.path(), "p.mln"), UNTIDY);
    check(folder.path(), &["fmt", "-f", "p.mln"], 0, "p.mln: laid out\n");
    assert_eq!(text(folder.path(), "p.mln"), TIDY);
    check(folder.path(), &["fmt", "p.mln", "--check"], 0, "p.mln: nothing to change\n");
    let output = mlnctl(folder.path(), &["fmt", "p.mln", "--json"]);
    let shown: Value = serde_json::from_slice(&output.stdout).expect("JSON on standard output");
    assert_eq!(shown, serde_json::json!({"file": "p.mln", "changed": false}));
}

#[test]
fn a_file_with_an_open_block_is_left_alone() {
    let damaged = "global { project p }\nhost a{\n";
    let folder = folder_with(&[("p.mln", damaged)]);
    let stderr = check(folder.path(), &["fmt", "p.mln"], 1, "");
    assert!(stderr.contains("error[E0102]") && stderr.contains("cannot be laid out"), "{stderr}");
    assert_eq!(text(folder.path(), "p.mln"), damaged);
}

#[test]
fn examples_are_in_the_usual_layout() {
    let examples = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples"));
    for example in std::fs::read_dir(examples).expect("a readable folder") {
        let folder = example.expect("a readable folder").path();
        for entry in std::fs::read_dir(&folder).expect("a readable folder") {
            let path = entry.expect("a readable folder").path();
            if path.extension().is_some_and(|extension| extension == "mln") {
                let name = path.to_string_lossy().into_owned();
                let output = mlnctl(&folder, &["fmt", &name, "--check"]);
                assert_eq!(output.status.code(), Some(0), "{name}");
            }
        }
    }
}
