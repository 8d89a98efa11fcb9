//! The command line, with the habits of MLN's users.

use clap::error::ErrorKind;

use super::*;

fn parsed(line: &str) -> Result<Args, clap::Error> {
    parse(std::iter::once("mlnctl").chain(line.split_whitespace()).map(OsString::from))
}

/// Checks that a line is understood, by a part of what it is understood as.
#[track_caller]
fn check(line: &str, expect: &str) {
    let args = parsed(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    let shown = format!("{args:?}");
    assert!(shown.contains(expect), "{line}: {expect:?} is not in {shown}");
}

#[track_caller]
fn check_wrong(line: &str, kind: ErrorKind) {
    let error = parsed(line).err().unwrap_or_else(|| panic!("{line}: understood"));
    assert_eq!(error.kind(), kind, "{line}: {error}");
}

#[test]
fn the_definition_of_the_command_line_is_sound() {
    <Args as clap::CommandFactory>::command().debug_assert();
}

#[test]
fn lower_case_h_is_a_host_and_help_is_spelled_out() {
    check("start -p ring -h router1", r#"host: ["router1"]"#);
    check("status -h a,b -h c", r#"host: ["a", "b", "c"]"#);
    check_wrong("--help", ErrorKind::DisplayHelp);
    check_wrong("start --help", ErrorKind::DisplayHelp);
    check_wrong("help start", ErrorKind::DisplayHelp);
    check_wrong("help", ErrorKind::DisplayHelp);
    check_wrong("help frobnicate", ErrorKind::InvalidSubcommand);
    check_wrong("list -h", ErrorKind::UnknownArgument);
}

#[test]
fn seconds_may_have_decimals_and_units() {
    check("start -a -s 3", "pause_ms: 3000");
    check("start -a -s 0.2", "pause_ms: 200");
    check("stop -p ring -w 120", "wait_ms: Some(120000)");
    check("stop -p ring -H", "halt: true");
    check("token new --ttl 7d", "ttl_ms: 604800000");
    check("token new", "ttl_ms: 3600000");
    check_wrong("start -a -s soon", ErrorKind::ValueValidation);
}

#[test]
fn mln_lines_are_understood() {
    check("build -f ring.mln -r --keep --var n=3", r#"replace: true, force: false, keep: true"#);
    check("build -f ring.mln", "replace: false, force: false, keep: false");
    check_wrong("build", ErrorKind::MissingRequiredArgument);
    check("validate -f ring.mln", "Offline(Validate");
    check("daemon_status -g students -s", r#"group: Some("students"), summary: true"#);
    check("hosts", "DaemonStatus");
    check("status -p anna/ring -u", r#"owner: Some("anna")"#);
    check("status -d", "down: true");
    check("remove -p ring", "force: false");
    check("remove -p ring --force", "force: true");
    check("-P /tmp/projects start -p ring", r#"projects_folder: Some("/tmp/projects")"#);
    check("start -p ring -P /tmp/projects", r#"projects_folder: Some("/tmp/projects")"#);
    check_wrong("remove -p ring -f", ErrorKind::UnknownArgument);
    check_wrong("remove", ErrorKind::MissingRequiredArgument);
    check_wrong("start -p ../etc", ErrorKind::ValueValidation);
    check_wrong("frobnicate", ErrorKind::InvalidSubcommand);
}

#[test]
fn what_follows_a_command_is_its_own() {
    check("exec ring/router1 -- ls -l --json", r#"argv: ["ls", "-l", "--json"]"#);
    check("exec ring/router1 ping -c 1 10.0.0.2", r#"argv: ["ping", "-c", "1", "10.0.0.2"]"#);
    check("exec --json ring/router1 -- true", "json: true");
    check_wrong("exec ring/router1", ErrorKind::MissingRequiredArgument);
    check_wrong("exec router1 -- ls", ErrorKind::ValueValidation);
}

#[test]
fn global_flags_stand_before_or_after_the_command() {
    for line in ["--peer /tmp/a.sock list", "list --peer /tmp/a.sock"] {
        check(line, r#"peer: Some("/tmp/a.sock")"#);
    }
    assert_eq!(parsed("list -o json").expect("fine").global.output(), Output::Json);
    assert_eq!(parsed("list --json").expect("fine").global.output(), Output::Json);
    assert_eq!(parsed("list").expect("fine").global.output(), Output::Table);
}

#[test]
fn waiting_has_a_state_and_may_have_a_limit() {
    check("status --wait up --timeout 30", "wait: Some(Up), timeout_ms: Some(30000)");
    check_wrong("status --timeout 30", ErrorKind::MissingRequiredArgument);
    check_wrong("status -u -d", ErrorKind::ArgumentConflict);
}
