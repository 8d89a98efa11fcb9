//! Plans and changes as `mlnctl` shows and asks for them.

use mln_link::message::{
    ChangeConsent, ChangeContent, Definition, LeftOut, Plan, PlanRow, PlanSign, Refusal, RevisionRef,
    RevisionRow, RevisionStanding, Silence, UnsettledRow,
};
use mln_link::{Reply, Request};
use serde_json::Value;

use crate::agent::{ScriptedAgent, mlnctl, name, stderr, stdout};

fn revision(number: u32) -> RevisionRef {
    RevisionRef { number, digest: format!("{number}f2a91bc").repeat(8) }
}

fn plan(hosts: &[&str]) -> Reply {
    Reply::Plan(Plan {
        owner: name("anna"),
        project: name("p"),
        head: Some(revision(2)),
        hosts: hosts.iter().map(|host| name(host)).collect(),
    })
}

fn row(sign: PlanSign, vm: &str, key: Option<&str>, act: &str) -> PlanRow {
    PlanRow {
        hosts: vec![name("oslo")],
        sign,
        kind: "host".to_owned(),
        name: Some(name(vm)),
        key: key.map(str::to_owned),
        from: key.map(|_| "64 MiB".to_owned()),
        to: key.map(|_| "96 MiB".to_owned()),
        act: act.to_owned(),
        why: "it counts from the next start on".to_owned(),
    }
}

fn file() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("p.mln");
    std::fs::write(&path, "global { project p }\nhost a { }\n").expect("room for a small file");
    let path = path.to_str().expect("a temporary folder's path is UTF-8").to_owned();
    (folder, path)
}

#[test]
fn a_plan_is_lines_with_their_cost_and_who_answers_for_them_and_ends_with_2() {
    let (_folder, path) = file();
    let rows =
        vec![row(PlanSign::Added, "b", None, "build"), row(PlanSign::Changed, "a", Some("memory"), "reboot")];
    let replies = vec![plan(&["oslo", "bergen"]), Reply::PlanRows(rows)];
    let (asked, output) = ScriptedAgent::answering(replies.clone()).run(&["plan", "-f", &path, "--partial"]);
    let Request::Plan(change) = asked else { panic!("{asked:?}") };
    assert_eq!((change.consent, change.left_out), (ChangeConsent::Partial, LeftOut::Refuse));
    assert!(matches!(change.content, ChangeContent::Text { .. }));
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let expect = "\
+ host b                            build   oslo
~ host a  memory: 64 MiB → 96 MiB   reboot  oslo
      it counts from the next start on
1 added, 1 changed; p at revision 2 (2f2a91bc); asked: oslo, bergen
";
    assert_eq!(
        stdout(&output).split_whitespace().collect::<Vec<_>>(),
        expect.split_whitespace().collect::<Vec<_>>()
    );
    assert!(stdout(&output).lines().all(|line| line.chars().count() <= 80), "{}", stdout(&output));

    let (_, output) = ScriptedAgent::answering(replies).run(&["plan", "-f", &path, "--json"]);
    let document: Value = serde_json::from_str(stdout(&output)).expect("a document");
    assert_eq!(document["revision"]["number"], 2);
    assert_eq!(document["counts"]["changed"], 1);
    assert_eq!(document["changes"][1]["act"], "reboot");
}

/// It was counted as removed, though the project keeps it.
#[test]
fn a_switch_that_machines_take_along_is_shown_and_not_counted() {
    let (_folder, path) = file();
    let at = |kind: &str, of: &str, act: &str| PlanRow {
        kind: kind.to_owned(),
        ..row(PlanSign::Moved, of, None, act)
    };
    let rows = vec![at("switch", "lan", "live"), at("host", "a", "move")];
    let agent = ScriptedAgent::answering(vec![plan(&["oslo"]), Reply::PlanRows(rows)]);
    let (_, output) = agent.run(&["plan", "-f", &path]);
    let shown = stdout(&output);
    assert!(shown.contains("> switch lan") && shown.contains("\n1 moved; p at revision 2"), "{shown}");
}

#[test]
fn a_plan_without_changes_ends_with_0_and_one_that_is_refused_with_3() {
    let (_folder, path) = file();
    let (_, output) = ScriptedAgent::answering(vec![plan(&[])]).run(&["plan", "-f", &path]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), "no changes\n"));
    let refused = Reply::Refused(Refusal {
        host: Some(name("oslo")),
        vm: None,
        rule: "memory".to_owned(),
        text: "too little".to_owned(),
        who_can_change: None,
    });
    let (_, output) = ScriptedAgent::answering(vec![plan(&["oslo"]), refused]).run(&["plan", "-f", &path]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("refused by oslo: too little (rule memory)"), "{}", stderr(&output));
}

#[test]
fn without_a_terminal_a_change_takes_yes() {
    let (_folder, path) = file();
    for line in [&["upgrade", "-f", &path][..], &["rollback", "-p", "p"], &["resolve", "-p", "p", "3f2a"]] {
        let output = mlnctl(line).env("MLN_PEER", "/nonexistent/mlnd.sock").output().expect("mlnctl runs");
        assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
        assert!(stderr(&output).contains("--yes"), "{}", stderr(&output));
    }
}

#[test]
fn what_must_stay_live_is_not_removed() {
    let (_folder, path) = file();
    let rows = vec![row(PlanSign::Removed, "b", None, "remove")];
    let agent = ScriptedAgent::answering(vec![plan(&["oslo"]), Reply::PlanRows(rows)]);
    let (_, output) = agent.run(&["upgrade", "-f", &path, "--yes", "-l", "a:b"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("b would be stopped"), "{}", stderr(&output));
    assert!(stderr(&output).contains("leave it in the project"), "{}", stderr(&output));
}

/// It said to leave the machine in the project, where it was.
#[test]
fn what_to_do_about_a_machine_that_must_stay_live_depends_on_what_would_stop_it() {
    let (_folder, path) = file();
    let hint_of = |sign, key, act| {
        let agent =
            ScriptedAgent::answering(vec![plan(&["oslo"]), Reply::PlanRows(vec![row(sign, "b", key, act)])]);
        let (_, output) = agent.run(&["upgrade", "-f", &path, "--yes", "-l", "a:b"]);
        assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
        stderr(&output).to_owned()
    };
    let reboot = hint_of(PlanSign::Changed, Some("swap"), "reboot");
    assert!(reboot.contains("would be stopped") && reboot.contains("costs it a start"), "{reboot}");
    let added = hint_of(PlanSign::Added, Some("disk data"), "reboot");
    assert!(added.contains("costs it a start"), "{added}");
    let moved = hint_of(PlanSign::Moved, None, "move");
    assert!(moved.contains("leave it on its service host"), "{moved}");
}

/// The plan said "live", and it was started once more.
#[test]
fn what_may_be_stopped_is_refused_for_what_must_stay_live() {
    let (_folder, path) = file();
    let rows = vec![row(PlanSign::Changed, "b", Some("memory"), "live-or-reboot")];
    let agent = ScriptedAgent::answering(vec![plan(&["oslo"]), Reply::PlanRows(rows)]);
    let (_, output) = agent.run(&["upgrade", "-f", &path, "--yes", "-l", "a:b"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("b may be stopped"), "{}", stderr(&output));
    let shown = stdout(&output);
    assert!(shown.contains("it counts from the next start on"), "the reason is shown: {shown}");
}

#[test]
fn a_log_says_who_changed_what_and_how_it_stands() {
    let row = |number: u32, standing| RevisionRow {
        revision: revision(number),
        parent: None,
        standing,
        author: "anna at oslo".to_owned(),
        publisher: "oslo".to_owned(),
        made_unix_ms: 1_792_843_264_007,
        reason: "one more".to_owned(),
        hosts: vec![name("oslo"), name("bergen")],
        vms: 4,
        added: 1,
        removed: 2,
        moved: 0,
        changed_hosts: 1,
    };
    let rows = vec![row(1, RevisionStanding::Decided), row(2, RevisionStanding::Contested)];
    let reply = Reply::Revisions(rows);
    let (asked, output) = ScriptedAgent::answering(vec![reply.clone()]).run(&["log", "-p", "anna/p"]);
    assert!(matches!(asked, Request::Log(_)));
    let lines: Vec<&str> = stdout(&output).lines().collect();
    assert!(lines[0].starts_with("Rev  Digest"), "{lines:?}");
    assert!(lines[2].contains("2f2a91bc") && lines[2].contains("contested") && lines[2].contains("+1 -2 ~1"));
    // Whoever reads a pipe is cut nothing.
    assert!(lines[2].contains("oslo,bergen") && lines[2].ends_with("anna at oslo  one more"), "{lines:?}");
    let (_, output) = ScriptedAgent::answering(vec![reply]).run(&["log", "-p", "p", "--json"]);
    let document: Value = serde_json::from_str(stdout(&output)).expect("a document");
    assert_eq!((&document[1]["standing"], &document[1]["number"]), (&"contested".into(), &2.into()));
}

#[test]
fn status_names_what_is_not_settled() {
    let row = UnsettledRow {
        owner: name("anna"),
        project: name("p"),
        partial: Vec::new(),
        contested: vec!["aaaaaaaabb".to_owned(), "ccccccccdd".to_owned()],
        stranded: vec![name("extra")],
    };
    let (_, output) = ScriptedAgent::answering(vec![Reply::Unsettled(vec![row])]).run(&["status"]);
    let told = stderr(&output);
    assert!(told.contains("aaaaaaaa, cccccccc contradict each other"), "{told}");
    assert!(told.contains("mlnctl resolve -p anna/p HEAD") && told.contains("has extra"), "{told}");
}

#[test]
fn what_comes_back_is_counted_as_that_and_what_stays_as_it_is_says_why() {
    let (_folder, path) = file();
    let mut back = row(PlanSign::Added, "b", None, "return");
    back.hosts = vec![name("bergen")];
    let mut account = row(PlanSign::Removed, "a", Some("user anna"), "kept");
    account.why = "the account stays in the guest".to_owned();
    let other = PlanRow { key: Some("user bob".to_owned()), ..account.clone() };
    let rows = vec![account, other, row(PlanSign::Removed, "b", None, "remove"), back];
    let replies = vec![plan(&["oslo", "bergen"]), Reply::PlanRows(rows)];
    let (_, output) = ScriptedAgent::answering(replies.clone()).run(&["plan", "-f", &path]);
    let text = stdout(&output);
    assert!(text.contains("1 returned, 1 changed;"), "{text}");
    assert_eq!(text.matches("the account stays in the guest").count(), 1, "{text}");
    let (_, output) = ScriptedAgent::answering(replies).run(&["plan", "-f", &path, "--json"]);
    let document: Value = serde_json::from_str(stdout(&output)).expect("a document");
    assert_eq!((&document["counts"]["returned"], &document["counts"]["removed"]), (&1.into(), &0.into()));
}

#[test]
fn a_time_for_what_is_kept_already_is_said_to_change_nothing() {
    let (_folder, path) = file();
    let line = ["upgrade", "-f", &path, "--yes", "--keep-removed", "1w"];
    let (asked, output) = ScriptedAgent::answering(vec![plan(&[])]).run(&line);
    let Request::Plan(change) = asked else { panic!("{asked:?}") };
    assert_eq!((change.keep_removed_ms, output.status.code()), (7 * 86_400_000, Some(0)));
    assert!(stderr(&output).contains("keeps the time that it was given"), "{}", stderr(&output));
}

#[test]
fn a_host_that_a_project_lacks_is_told_before_anything_is_planned() {
    let definition = Definition {
        owner: name("anna"),
        project: name("p"),
        revision: revision(2),
        source: "global { project p }\nhost router1 { }\nhost router2 { }\n".to_owned(),
        vars: Vec::new(),
    };
    let reply = Reply::Definition(Box::new(definition));
    let line = ["migrate", "-p", "p", "-h", "ruter1", "--to", "oslo", "--yes"];
    let (_, output) = ScriptedAgent::answering(vec![reply]).run(&line);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let said = "p has no host ruter1; did you mean router1? (it has router1, router2)";
    assert!(stderr(&output).contains(said), "{}", stderr(&output));
}

#[test]
fn a_snapshot_says_that_it_is_done_and_a_list_what_is_not_known() {
    let (_, output) = ScriptedAgent::answering(vec![]).run(&["snapshot", "take", "-p", "p", "before"]);
    assert_eq!(stderr(&output), "p: snapshot before is taken\n");
    let silent = Reply::Silent(Silence { host: name("bergen"), text: "it is off".to_owned() });
    let (_, output) = ScriptedAgent::answering(vec![silent.clone()]).run(&["snapshot", "list", "-p", "p"]);
    assert_eq!((stdout(&output), output.status.code()), ("", Some(5)));
    assert!(stderr(&output).contains("no answer from bergen"), "{}", stderr(&output));
    let (_, output) = ScriptedAgent::answering(vec![]).run(&["snapshot", "list", "-p", "p"]);
    assert!(stdout(&output).starts_with("Snapshot"), "{}", stdout(&output));
}
