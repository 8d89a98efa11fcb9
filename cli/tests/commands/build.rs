//! `mlnctl build`: what is sent, and what is said before anything is.

use std::path::PathBuf;

use mln_link::message::{Existing, OnFailure};
use mln_link::{Input, Reply, Request};
use serde_json::Value;
use tempfile::TempDir;

use crate::agent::{ScriptedAgent, mlnctl, stderr, stdout};

/// A folder with a project file and a file that it copies.
fn project(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("motd"), "hello\n").expect("room for a small file");
    let path = folder.path().join("p.mln");
    std::fs::write(&path, text).expect("room for a small file");
    (folder, path)
}

const GOOD: &str = "global {\n    project p\n    $size = 64M\n}\nhost a {\n    memory $size\n    network eth0 {\n        address dhcp\n    }\n    files {\n        motd /etc/motd\n    }\n}\n";

#[test]
fn the_project_and_its_files_are_sent() {
    let (_folder, path) = project(GOOD);
    let agent = ScriptedAgent::serving(async |_request, replies, mut input| {
        let mut received = Vec::new();
        while let Some(message) = input.next().await {
            match message {
                Input::Bytes(bytes) => received.extend(bytes),
                Input::End => break,
                Input::Signal(_) | Input::Resize(_) => {}
            }
        }
        let text = String::from_utf8(received).expect("the file is text");
        replies.send(Reply::Warning { text }).await.expect("mlnctl reads");
        replies.send(Reply::Done).await.expect("mlnctl reads");
    });
    let path = path.to_str().expect("a temporary folder's path is UTF-8");
    let (asked, output) = agent.run(&["build", "-f", path, "-r", "--var", "size=128M"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("warning: hello"), "{}", stderr(&output));
    let Request::Build(build) = asked else { panic!("not a build") };
    assert!(build.source.contains("project p"), "{}", build.source);
    assert_eq!(build.vars, [("size".to_owned(), "128M".to_owned())]);
    assert_eq!((build.existing, build.on_failure), (Existing::Replace, OnFailure::Undo));
    let [file] = &build.files[..] else { panic!("not one file: {:?}", build.files) };
    assert_eq!((file.from.as_str(), file.bytes), ("motd", 6));
}

#[test]
fn a_wrong_project_is_explained_and_nobody_is_asked() {
    let (_folder, path) = project("global {\n    project p\n}\nhost a {\n    memroy 64M\n}\n");
    let run = |line: &[&str]| {
        mlnctl(line)
            .arg("-f")
            .arg(&path)
            .env("MLN_PEER", "/nonexistent/mlnd.sock")
            .output()
            .expect("mlnctl runs")
    };
    let output = run(&["build"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("memroy") && stderr(&output).contains("memory"), "{}", stderr(&output));
    let output = run(&["build", "--json"]);
    let event: Value = serde_json::from_str(stderr(&output)).expect("one event");
    assert_eq!(
        (&event["event"], &event["diagnostics"][0]["line"]),
        (&Value::from("diagnostics"), &Value::from(5))
    );
    assert_eq!(stdout(&output), "");
}

#[test]
fn a_file_that_is_missing_stops_a_build() {
    let (folder, path) = project(GOOD);
    std::fs::remove_file(folder.path().join("motd")).expect("it is there");
    let output = mlnctl(&["build", "-f"]).arg(&path).output().expect("mlnctl runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("motd"), "{}", stderr(&output));
    let output = mlnctl(&["build", "-f", "/nonexistent/p.mln"]).output().expect("mlnctl runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).starts_with("error: /nonexistent/p.mln cannot be read"), "{}", stderr(&output));
}
