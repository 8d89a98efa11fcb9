//! What is asked of the agent, and what is written where.

use mln_link::message::{
    DaemonStatusRow, Failure, HostLiveness, Progress, ProjectSelection, Removal, Start, Step, StepState,
    Stop, StopManner, Target, TemplateRow, Token,
};
use mln_link::{Input, Reply, Request};
use serde_json::Value;

use crate::agent::{ScriptedAgent, mlnctl, name, stderr, stdout};

fn progress(vm: &str, state: StepState) -> Reply {
    Reply::Progress(Progress {
        project: None,
        vm: Some(name(vm)),
        host: Some(name("oslo")),
        step: Step::Start,
        state,
        detail: String::new(),
    })
}

#[test]
fn mln_flags_become_requests() {
    let asked = |line: &[&str]| ScriptedAgent::answering(vec![]).run(line).0;
    assert_eq!(
        asked(&["stop", "-a", "-h", "r1", "-s", "3", "-w", "120"]),
        Request::Stop(Stop {
            target: Target { projects: ProjectSelection::All, vms: vec![name("r1")] },
            pause_ms: 3000,
            manner: StopManner::AskThenKill { after_ms: 120_000 },
        })
    );
    assert!(matches!(
        asked(&["stop", "-a", "-w", "120", "-H"]),
        Request::Stop(Stop { manner: StopManner::Halt, .. })
    ));
    let Request::Remove(remove) = asked(&["remove", "-p", "anna/ring", "--force"]) else {
        panic!("not a removal")
    };
    assert_eq!((remove.project.to_string().as_str(), remove.removal), ("anna/ring", Removal::Forced));
    assert_eq!(asked(&["hosts", "-g", "lab"]), Request::DaemonStatus { group: Some(name("lab")) });
}

#[test]
fn every_flag_can_come_from_the_environment() {
    let agent = ScriptedAgent::answering(vec![]);
    let output = mlnctl(&["start"])
        .env("MLN_PEER", agent.socket())
        .envs([("MLN_PROJECT", "ring"), ("MLN_VM", "a,b"), ("MLN_PAUSE", "0.5"), ("MLN_JSON", "1")])
        .output()
        .expect("mlnctl runs");
    let Request::Start(Start { target, pause_ms }) = agent.asked() else { panic!("not a start") };
    assert_eq!((target.vms, pause_ms), (vec![name("a"), name("b")], 500));
    assert_eq!(stdout(&output), "{\"event\":\"end\",\"exit_code\":0}\n");
}

#[test]
fn the_agent_of_this_user_is_found_by_itself() {
    let agent = ScriptedAgent::answering(vec![]);
    let home = tempfile::tempdir().expect("a temporary folder");
    let data = home.path().join("mln");
    std::os::unix::fs::symlink(agent.socket().parent().expect("it is in a folder"), &data)
        .expect("a fresh name");
    let output = mlnctl(&["list"]).env("XDG_DATA_HOME", home.path()).output().expect("mlnctl runs");
    if rustix::process::geteuid().is_root() {
        // Root's agent is the machine's, wherever a variable points; so this one is asked by name.
        assert_ne!(stderr(&output), "");
        let output = mlnctl(&["list"]).env("MLN_PEER", data.join("mlnd.sock")).output().expect("mlnctl runs");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    } else {
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    assert_eq!(agent.asked(), Request::List);
}

#[test]
fn progress_goes_to_standard_error_line_by_line() {
    let (_, output) = ScriptedAgent::answering(vec![
        progress("r1", StepState::Begun),
        progress("r2", StepState::Unchanged),
        progress("r1", StepState::Done),
    ])
    .run(&["start", "-p", "ring"]);
    assert_eq!(stdout(&output), "");
    let lines: Vec<&str> = stderr(&output).lines().collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!(lines[0], "- r1 on oslo               starting");
    assert_eq!(lines[1], "✔ r2 on oslo               already up");
    assert!(lines[2].starts_with("✔ r1 on oslo               started ("), "{lines:?}");
    assert!(lines[3].starts_with("2 done in "), "{lines:?}");
}

#[test]
fn work_under_json_is_a_line_per_event() {
    let failure = Reply::Failed(Failure {
        what: "starting".to_owned(),
        host: None,
        vm: Some(name("r1")),
        why: "it \u{1b}[2J panicked".to_owned(),
        console_tail: vec![],
        next: vec![],
    });
    let (_, output) = ScriptedAgent::answering(vec![progress("r1", StepState::Begun), failure])
        .run(&["start", "-a", "--json"]);
    let events: Vec<Value> =
        stdout(&output).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let kinds: Vec<&Value> = events.iter().map(|event| &event["event"]).collect();
    assert_eq!(kinds, ["progress", "failed", "end"]);
    assert_eq!((&events[0]["name"], &events[0]["step"]), (&Value::from("r1"), &Value::from("start")));
    assert_eq!(events[2]["exit_code"], 1);
    assert!(!stdout(&output).contains('\u{1b}'));
}

#[test]
fn a_table_under_json_is_one_document() {
    let row = DaemonStatusRow {
        name: name("oslo"),
        projects: 1,
        vms: 2,
        memory_used_mib: 128,
        memory_available_mib: 896,
        groups: vec![name("lab")],
        age_ms: 2500,
        liveness: HostLiveness::Alive,
    };
    let (_, output) =
        ScriptedAgent::answering(vec![Reply::DaemonStatus(vec![row])]).run(&["daemon_status", "-o", "json"]);
    let document: Value = serde_json::from_str(stdout(&output)).expect("one document");
    assert_eq!(document["service_hosts"][0]["name"], "oslo");
    assert_eq!(document["service_hosts"][0]["groups"][0], "lab");
    assert_eq!(document["total"]["memory_available_mib"], 896);
}

#[test]
fn a_token_is_printed_alone() {
    let token = Token { text: "mln1abc".to_owned(), expires_unix_ms: 1 };
    let (asked, output) =
        ScriptedAgent::answering(vec![Reply::Token(token)]).run(&["token", "new", "--ttl", "90"]);
    assert!(matches!(asked, Request::TokenNew { ttl_s: 90, .. }), "{asked:?}");
    assert_eq!((stdout(&output), stderr(&output)), ("mln1abc\n", ""));
}

/// An agent that takes a template's image, and answers with the number of bytes that it was sent.
fn taking_an_image() -> ScriptedAgent {
    ScriptedAgent::serving(async move |_request, replies, mut input| {
        let mut received = 0_usize;
        while let Some(message) = input.next().await {
            match message {
                Input::Bytes(bytes) => received += bytes.len(),
                Input::End => break,
                Input::Signal(_) | Input::Resize(_) => {}
            }
        }
        let row = TemplateRow {
            name: name("mini"),
            version: "1".to_owned(),
            digest: "ab".repeat(32),
            bytes: received as u64,
            bytes_on_disk: received as u64,
            created_unix_ms: 0,
        };
        replies.send(Reply::Templates(vec![row])).await.expect("mlnctl reads");
        replies.send(Reply::Done).await.expect("mlnctl reads");
    })
}

#[test]
fn a_template_image_is_sent_whole() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let image = folder.path().join("image");
    let length = mln_link::INPUT_WINDOW_BYTES * 3 + 5;
    std::fs::write(&image, vec![7; length]).expect("room for a small file");
    let image = image.to_str().expect("a temporary folder's path is UTF-8");
    let (asked, output) = taking_an_image().run(&["template", "add", "mini", "-f", image, "--json"]);
    assert_eq!(asked, Request::TemplateAdd { name: name("mini"), bytes: length as u64 });
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains(&format!("\"bytes\": {length}")), "{}", stdout(&output));
}

#[test]
fn the_hole_at_the_end_of_a_template_image_is_not_sent() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("image");
    std::fs::write(&path, vec![7; 1 << 20]).expect("room for a small file");
    let length = 4 << 30;
    let image = std::fs::File::options().write(true).open(&path).expect("it was just written");
    image.set_len(length).expect("a file may have holes");
    let path = path.to_str().expect("a temporary folder's path is UTF-8");
    let (asked, output) = taking_an_image().run(&["template", "add", "mini", "-f", path, "--json"]);
    assert_eq!(asked, Request::TemplateAdd { name: name("mini"), bytes: length });
    assert!(stdout(&output).contains("\"bytes\": 1048576"), "{}", stdout(&output));
}
