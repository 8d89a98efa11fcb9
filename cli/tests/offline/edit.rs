//! `mlnctl edit`: what is written back, and what is refused.

use crate::{check, folder_with, text};

#[test]
fn values_are_set_and_unset_where_they_stand_also_in_included_files() {
    let folder = folder_with(&[
        ("p.mln", "global{project p}\n#include a.inc\n"),
        ("a.inc", "host a { memory  64M }\n"),
    ]);
    let edit = |arguments: &[&str], told: &str| {
        check(folder.path(), &[&["edit", "-f", "p.mln"], arguments].concat(), 0, told);
    };
    edit(&["set", "/host/a/memory", "96M"], "a.inc:1:18: `64M` is now `96M`\n");
    edit(&["set", "/host/a/memory", "96M"], "p.mln: nothing to change\n");
    edit(&["set", "/global/$net", "10.0.0"], "p.mln:1:17: put in `; $net = 10.0.0`\n");
    edit(&["add", "host", "b", "memory=1G", "uml"], "p.mln:3:1: put in `host b { memory 1G uml }`\n");
    edit(&["unset", "/host/a"], "a.inc:1:1: left out `host a { memory 96M }`\n");
    let expect = "global{project p; $net = 10.0.0}\n#include a.inc\n\nhost b {\n    memory 1G\n    uml\n}\n";
    assert_eq!(text(folder.path(), "p.mln"), expect);
    assert_eq!(text(folder.path(), "a.inc"), "");
}

#[test]
fn enumerations_are_scaled() {
    let farm = "global { project farm; autoenum { superclass node; numhosts 5 } }\nsuperclass node { }\n";
    let folder = folder_with(&[("p.mln", farm)]);
    check(folder.path(), &["edit", "-f", "p.mln", "scale", "node", "50"], 0, "p.mln:1:61: `5` is now `50`\n");
    check(folder.path(), &["query", "-f", "p.mln", "/global/autoenum/1/numhosts"], 0, "50\n");
}

#[test]
fn a_change_that_would_make_the_project_wrong_is_not_written() {
    let before = "global { project p }\nhost a { memory 64M }\n";
    let folder = folder_with(&[("p.mln", before)]);
    let refused = |arguments: &[&str], part: &str| {
        let stderr = check(folder.path(), &[&["edit", "-f", "p.mln"], arguments].concat(), 1, "");
        assert!(stderr.contains(part), "{part} is not in:\n{stderr}");
        assert_eq!(text(folder.path(), "p.mln"), before);
    };
    refused(&["set", "/host/a/memory", "much"], "error[E0503]: `much` is no size");
    refused(&["set", "/host/a/memory", "much"], "error: p.mln is as it was");
    refused(&["set", "/host/a/network/eth0/switch", "lan"], "error[E0601]");
    refused(&["set", "/host/b/memory", "1G"], "error: there is no block `host b` in the file\n");
    refused(&["unset", "/global/project"], "error[E0212]");
    refused(&["add", "host", "a b"], "error[E0211]");
    refused(&["add", "host", "a"], "error: there is a host `a` already\n");
}
