//! Loading a project as `build` does: the folded source, and files for guests.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use mln_cli::project_file::{self, LoadedFile};

use crate::folder_with;

#[test]
fn files_are_found_beside_the_project_and_includes_are_folded_in() {
    let folder = folder_with(&[
        ("p.mln", "global { project p }\nhost a {\n#include a.inc\n}\n"),
        ("a.inc", "files { motd /etc/motd; run.sh /usr/local/bin/ 0755; motd /etc/issue }"),
        ("motd", "welcome\n"),
        ("run.sh", "#!/bin/sh\n"),
    ]);
    let mode = std::fs::Permissions::from_mode(0o640);
    std::fs::set_permissions(folder.path().join("motd"), mode).expect("our own file");
    let loaded = project_file::load(&folder.path().join("p.mln"), BTreeMap::new()).expect("readable");
    assert_eq!(loaded.diagnostics, []);
    assert!(!loaded.source.contains("#include"), "{}", loaded.source);
    assert!(loaded.source.contains("run.sh /usr/local/bin/ 0755"), "{}", loaded.source);
    assert_eq!(loaded.files.len(), 2);
    let motd = LoadedFile { from: "motd".to_owned(), bytes: b"welcome\n".to_vec(), mode: 0o640 };
    assert_eq!(loaded.files[0], motd);
    assert_eq!(loaded.project.vms[0].files[1].to, "/usr/local/bin/run.sh");
    assert_eq!(loaded.project.vms[0].files[1].mode, Some(0o755));
}

#[test]
fn a_missing_file_is_an_error_where_it_is_asked_for() {
    let folder = folder_with(&[("p.mln", "global { project p }\nhost a { files { nowhere /x; . /y } }\n")]);
    let loaded = project_file::load(&folder.path().join("p.mln"), BTreeMap::new()).expect("readable");
    let found: Vec<_> = loaded
        .diagnostics
        .iter()
        .map(|one| (one.code.as_str(), loaded.tree.sources().slice(one.span)))
        .collect();
    assert_eq!(found, [("E0510", "nowhere /x"), ("E0510", ". /y")]);
    assert!(loaded.files.is_empty());
}
