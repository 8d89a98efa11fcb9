//! `mlnctl validate --fix`: what is proposed is written, and nothing else.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::{check, folder_with, mlnctl};

#[test]
fn what_is_proposed_is_written_and_every_other_byte_stays() {
    let folder = folder_with(&[
        ("p.mln", "global { project p }\t# tabs\r\nhost a {\n#include a.inc\n\tsize  2000 # odd\n}\n}\n"),
        ("a.inc", "\tmemroy\t96M"),
    ]);
    let told = "p.mln:4:8: `2000` is now `2000M`\np.mln:6:1: left out `}`\na.inc:1:2: `memroy` is now `memory`\n\
                p.mln: 1 hosts, 0 switches: no errors\n";
    check(folder.path(), &["validate", "-f", "p.mln", "--fix"], 0, told);
    let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("it is still there");
    let mended = "global { project p }\t# tabs\r\nhost a {\n#include a.inc\n\tsize  2000M # odd\n}\n\n";
    assert_eq!(text("p.mln"), mended);
    assert_eq!(text("a.inc"), "\tmemory\t96M");
    check(folder.path(), &["validate", "-f", "p.mln", "--fix"], 0, "p.mln: 1 hosts, 0 switches: no errors\n");
    assert_eq!(text("p.mln"), mended);
}

#[test]
fn what_has_no_fix_is_still_told_and_fails() {
    let folder = folder_with(&[("p.mln", "global { project p }\nhost a { memroy much }\n")]);
    let stderr =
        check(folder.path(), &["validate", "p.mln", "--fix"], 1, "p.mln:2:10: `memroy` is now `memory`\n");
    assert!(stderr.contains("error[E0503]: `much` is no size") && !stderr.contains("E0201"), "{stderr}");
}

#[test]
fn a_file_that_is_included_twice_is_mended_once() {
    let folder = folder_with(&[
        ("p.mln", "global { project p }\nhost a {\n#include i\n}\nhost b {\n#include i\n}\n"),
        ("i", "memroy 96M; network eth0 { 10.0.0.1 }\n"),
    ]);
    let output = mlnctl(folder.path(), &["validate", "p.mln", "--fix", "--json"]);
    assert_eq!(output.status.code(), Some(0));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON on standard output");
    assert_eq!(report["changes"].as_array().map(Vec::len), Some(2));
    assert_eq!(report["changes"][0]["found"], "memroy");
    assert_eq!(report["diagnostics"], serde_json::json!([]));
    let text = std::fs::read_to_string(folder.path().join("i")).expect("it is still there");
    assert_eq!(text, "memory 96M; network eth0 { address 10.0.0.1 }\n");
}

#[test]
fn permissions_and_links_stay() {
    let folder = folder_with(&[("real.mln", "global { project p }\n}\nhost a { }\n")]);
    let real = folder.path().join("real.mln");
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).expect("our own file");
    std::os::unix::fs::symlink("real.mln", folder.path().join("p.mln")).expect("the folder can be written");
    let output = mlnctl(folder.path(), &["validate", "p.mln", "--fix"]);
    assert_eq!(output.status.code(), Some(0));
    let mode = std::fs::metadata(&real).expect("it is still there").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    assert!(folder.path().join("p.mln").is_symlink());
    let names = std::fs::read_dir(folder.path()).expect("a readable folder").count();
    assert_eq!(names, 2, "something was left beside the file");
}
