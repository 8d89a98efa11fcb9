//! Plugins that don't behave: each script is a process of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn ran(script: &str, request: &str, limit: Duration) -> Result<String, RunError> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("our own folder");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
    run_within(&path, folder.path(), request.to_owned(), limit)
}

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(300);

#[test]
fn what_is_told_comes_back() {
    assert_eq!(ran("cat", "told", LONG).expect("an answer"), "told");
    let much = "x".repeat(3 << 20);
    assert_eq!(ran("cat", &much, LONG).expect("more than a pipe holds").len(), much.len());
    assert_eq!(ran("echo fine", &much, LONG).expect("it need not listen"), "fine\n");
}

#[test]
fn who_takes_too_long_is_killed_with_its_children() {
    for script in [
        "echo early >&2; exec cat /dev/zero >/dev/null",
        "cat /dev/zero >/dev/null & wait",
        "exec >&-; cat /dev/zero >/dev/null",
    ] {
        let error = ran(script, "", SHORT).expect_err("killed");
        assert!(matches!(error, RunError::Slow { .. }), "{script}: {error}");
    }
}

#[test]
fn who_writes_without_end_is_killed() {
    assert!(matches!(ran("exec cat /dev/zero", "", LONG), Err(RunError::Long)));
}

#[test]
fn of_complaints_the_last_is_shown() {
    let error = ran("yes early | head -n 5000 >&2; echo last >&2; exit 1", "", LONG).expect_err("status 1");
    let text = error.to_string();
    assert!(text.ends_with(" / last") && text.len() < 4_000, "{text}");
    assert!(matches!(ran("printf '\\377'", "", LONG), Err(RunError::NoText)));
}
