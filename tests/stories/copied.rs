//! A host's data folder is put back from a copy: nothing is signed before somebody says that it is the right one.

use std::fs;
use std::path::Path;
use std::process::Command;

use mln_e2e::Site;

use crate::SINGLE;

#[track_caller]
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp is there");
    assert!(status.success(), "{} to {}", from.display(), to.display());
}

#[test]
fn a_host_that_was_put_back_does_nothing_until_it_is_said_to_be_the_right_one() {
    let mut site = Site::mesh(&["oslo", "bergen"]);
    let file = site.project("single", SINGLE);
    let other = site.project("other", "global { project other }\nhost vm { memory 64M }\n");
    let bergen = site.host("bergen");
    let (folder, backup) = (bergen.folder().to_owned(), bergen.folder().with_extension("backup"));
    bergen.ctl(&["key", "confirm"]).done();
    bergen.stop();
    copy(&folder, &backup);
    bergen.run();
    bergen.is_connected_to(1);
    // What it signs from now on, the backup doesn't know.
    bergen.ctl(&["build", "-f", &file]).done();
    site.host("oslo").sees("single", "vm", "down");
    let bergen = site.host("bergen");
    bergen.stop();
    fs::rename(&folder, folder.with_extension("gone")).expect("both are ours");
    copy(&backup, &folder);

    bergen.mlnd(&["run"]).ended(1).says("mlnd confirm --data");
    bergen.mlnd(&["confirm"]).done();
    bergen.run();
    bergen.is_connected_to(1);
    // What it is asked for waits until it has asked what others have heard.
    bergen.ctl(&["build", "-f", &other]).ended(3).says("forgotten").says("mlnctl key confirm");
    bergen.ctl(&["daemon_status"]).says("mlnctl key confirm");
    bergen.ctl(&["key", "confirm"]).done();
    bergen.ctl(&["build", "-f", &other]).done();
    // The one that it built before the backup was put back is nobody's to make anew.
    let row = site.host("oslo").ctl(&["status", "-p", "single", "--json"]).json();
    assert!(!row.to_string().contains("\"building\""), "{row}");
}
