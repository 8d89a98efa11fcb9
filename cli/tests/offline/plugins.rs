//! Plugins as they run: the shipped ones against their golden files, and what goes wrong with others.
//!
//! `UPDATE_GOLDEN=1 cargo test -p mln-cli --test offline` writes the expected files anew.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use mln_cli::plugin::{Allowed, Plugins, Shelf, Understood, understand};
use mln_protocol::convert;
use mln_protocol::lang::{self, NoIncludes, Severity};
use mln_protocol::resolve::Options;
use tempfile::TempDir;

use crate::folder_with;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Puts a plugin into a folder, with permissions of its own whatever the repository's are.
fn install(folder: &Path, name: &str, text: &str, mode: u32) {
    let path = folder.join(name);
    fs::write(&path, text).expect("our own folder");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("our own file");
}

/// Returns a folder with the shipped plugins.
fn shipped() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for entry in fs::read_dir(repository().join("examples/plugins")).expect("part of the repository") {
        let path = entry.expect("a readable folder").path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mode = if name.ends_with(".py") { 0o755 } else { 0o644 };
        install(folder.path(), &name, &fs::read_to_string(&path).expect("text"), mode);
    }
    folder
}

fn understood(project: &Path, text: &str, installed: Vec<PathBuf>, allowed: Allowed) -> Understood {
    let options = Options { variables: BTreeMap::new(), owner: None };
    let shelf = Shelf::new(project, installed);
    understand("p.mln", text.to_owned(), &NoIncludes, &options, &shelf, Plugins::Run(allowed))
}

/// Compares a text with a golden file.
#[track_caller]
fn check_golden(golden: &Path, found: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(golden, found).expect("the repository can be written");
    }
    let expected = fs::read_to_string(golden).unwrap_or_default();
    assert_eq!(found, expected, "{}", golden.display());
}

fn shown(understood: &Understood) -> String {
    let Understood { tree, resolved, files, .. } = understood;
    let shown = convert::Shown {
        project: &resolved.project,
        mandates: &resolved.mandates,
        owner: None,
        diagnostics: &[],
        sources: tree.sources(),
        made_files: files,
    };
    shown.to_json() + "\n"
}

#[test]
fn every_shipped_plugin_makes_what_its_golden_file_says() {
    let plugins = shipped();
    let cases = repository().join("cli/tests/offline/plugins");
    let mut seen = 0;
    for entry in fs::read_dir(repository().join("examples/plugins")).expect("part of the repository") {
        let manifest = entry.expect("a readable folder").path();
        if manifest.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let name = manifest.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let case = cases.join(format!("{name}.mln"));
        let text = fs::read_to_string(&case).expect("every plugin has a case");
        let made = understood(&case, &text, vec![plugins.path().to_owned()], Allowed::Installed);
        assert_eq!(made.diagnostics, [], "{name}");
        check_golden(&case.with_extension("expect"), &shown(&made));
        seen += 1;
    }
    assert_eq!(seen, 6);
}

#[test]
fn the_example_makes_what_its_files_say_and_the_plugin_has_ten_lines() {
    let plugins = shipped();
    let example = repository().join("examples/plugin");
    let text = fs::read_to_string(example.join("plugin.mln")).expect("part of the repository");
    let made =
        understood(&example.join("plugin.mln"), &text, vec![plugins.path().to_owned()], Allowed::Installed);
    assert_eq!(made.diagnostics, []);
    check_golden(&example.join("show.json"), &shown(&made));
    check_golden(&example.join("host.cf"), &String::from_utf8_lossy(&made.files[0].bytes));
    let plain = mln_protocol::model::Project { vms: Vec::new(), ..made.resolved.project.clone() };
    let planned = mln_protocol::plan::plan(&plain, &made.resolved.project, &Default::default());
    let rows = mln_protocol::plan::rows(&planned);
    check_golden(&example.join("plan.txt"), &mln_cli::ui::plan::describe(&rows));
    let script = fs::read_to_string(repository().join("examples/plugins/cfengine.py")).expect("it is there");
    assert_eq!(script.lines().count(), 10);
}

#[test]
fn what_is_sent_needs_no_plugin() {
    let plugins = shipped();
    let cases = repository().join("cli/tests/offline/plugins");
    for name in ["apache", "cfengine", "postfix", "puppet", "replicate", "sshkey"] {
        let case = cases.join(format!("{name}.mln"));
        let text = fs::read_to_string(&case).expect("every plugin has a case");
        let made = understood(&case, &text, vec![plugins.path().to_owned()], Allowed::Installed);
        let (tree, diagnostics) = lang::parse("project", lang::fold(&made.tree), &NoIncludes);
        let again = mln_protocol::resolve::resolve(&tree, &Options::default());
        assert_eq!((diagnostics, again.diagnostics), (vec![], vec![]), "{name}");
        assert_eq!(again.project, made.resolved.project, "{name}");
    }
}

#[test]
fn what_is_no_public_key_goes_into_no_guest() {
    let plugins = shipped();
    let folder = folder_with(&[("id", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"), ("empty", "")]);
    for key in ["id", "empty"] {
        let text = format!("global {{ project p; plugins sshkey }}\nhost a {{ sshkey {key} }}\n");
        let case = folder.path().join("p.mln");
        let made = understood(&case, &text, vec![plugins.path().to_owned()], Allowed::Installed);
        let said: Vec<_> = made.diagnostics.iter().map(|one| one.message.as_str()).collect();
        assert_eq!(said, [format!("sshkey: host a: {key} holds no public keys; is {key}.pub meant?")]);
        assert!(made.files.is_empty(), "{key}");
    }
    // Nor is anything read that has no end.
    let text = "global { project p; plugins sshkey }\nhost a { sshkey /dev/zero }\n";
    let made =
        understood(&folder.path().join("p.mln"), text, vec![plugins.path().to_owned()], Allowed::Installed);
    assert!(made.diagnostics[0].message.contains("/dev/zero cannot be read"), "{:?}", made.diagnostics);
}

/// Runs a plugin `x` of one script; returns what is wrong.
fn said(script: &str, mode: u32) -> Vec<(String, String)> {
    let folder = folder_with(&[(
        "x.toml",
        "version = 1\n[[claim]]\nword = \"x\"\nin = [\"host\"]\nform = \"lines\"\n",
    )]);
    install(folder.path(), "x", script, mode);
    let text = "global { project p; plugins x }\nhost a { x { one } }\n";
    let made =
        understood(&folder.path().join("p.mln"), text, vec![folder.path().to_owned()], Allowed::Installed);
    made.diagnostics.iter().map(|one| (one.code.to_string(), one.message.clone())).collect()
}

#[track_caller]
fn check_said(script: &str, code: &str, text: &str) {
    let said = said(script, 0o755);
    let fits = |(found, message): &(String, String)| found == code && message.contains(text);
    assert!(said.len() == 1 && fits(&said[0]), "{script}: {said:?}");
}

#[test]
fn a_plugin_that_fails_says_how() {
    check_said("#!/bin/sh\necho oh >&2; echo dear >&2; exit 3\n", "E0904", "ended with status 3: oh / dear");
    check_said("#!/bin/sh\nkill -9 $$\n", "E0904", "signal 9");
    check_said("#!/bin/sh\necho '{\"version\": 1, \"fiels\": []}'\n", "E0904", "unknown field `fiels`");
    check_said("#!/bin/sh\necho '{\"version\": 2}'\n", "E0904", "version 2");
    check_said("#!/nowhere\n", "E0904", "cannot be started");
    let wrong = r#"{"version": 1, "startup": [{"host": "a", "lines": ["}"]}]}"#;
    check_said(&format!("#!/bin/sh\necho '{wrong}'\n"), "E0904", "braces without partners");
    let refused = r#"{"version": 1, "diagnostics": [{"severity": "error", "host": "a", "message": "no"}]}"#;
    check_said(&format!("#!/bin/sh\necho '{refused}'\n"), "E0905", "x: host a: no");
    let unknown = r#"{"version": 1, "set": [{"host": "b", "keyword": "memory", "value": "1G"}]}"#;
    check_said(&format!("#!/bin/sh\necho '{unknown}'\n"), "E0908", "there is no host `b`");
    let odd = r#"{"version": 1, "set": [{"host": "a", "keyword": "memory", "value": "much"}]}"#;
    check_said(&format!("#!/bin/sh\necho '{odd}'\n"), "E0503", "`much`");
}

#[test]
fn a_plugin_that_reads_nothing_or_says_nothing_more_is_fine() {
    assert_eq!(said("#!/bin/sh\necho '{\"version\": 1}'\n", 0o755), []);
}

#[test]
fn what_others_may_write_and_what_nobody_may_run_is_not_run() {
    let answer = "#!/bin/sh\necho '{\"version\": 1}'\n";
    for (mode, text) in
        [(0o757, "others may write"), (0o775, "others may write"), (0o644, "is not executable")]
    {
        let said = said(answer, mode);
        assert_eq!(said.len(), 1);
        assert!(said[0].0 == "E0902" && said[0].1.contains(text), "{said:?}");
    }
}

#[test]
fn what_came_with_the_project_runs_only_where_that_is_said() {
    let folder = folder_with(&[("p.mln", "")]);
    let plugins = folder.path().join("plugins");
    fs::create_dir(&plugins).expect("our own folder");
    fs::set_permissions(&plugins, fs::Permissions::from_mode(0o755)).expect("our own folder");
    let ran = folder.path().join("ran");
    install(
        &plugins,
        "own.toml",
        "version = 1\n[[claim]]\nword = \"x\"\nin = [\"host\"]\nform = \"flag\"\n",
        0o644,
    );
    install(
        &plugins,
        "own",
        &format!("#!/bin/sh\ntouch {}\necho '{{\"version\": 1}}'\n", ran.display()),
        0o755,
    );
    let project = folder.path().join("p.mln");
    let text = "global { project p; plugins own }\nhost a { x }\n";
    let codes = |allowed| -> Vec<String> {
        let made = understood(&project, text, Vec::new(), allowed);
        made.diagnostics.iter().map(|one| one.code.to_string()).collect()
    };
    assert_eq!(codes(Allowed::Installed), ["E0903"], "its words are known, and it is not run");
    assert!(!ran.exists());
    assert_eq!(codes(Allowed::OfProject), Vec::<String>::new());
    assert!(ran.exists());
}

#[test]
fn no_plugin_runs_on_a_project_that_is_wrong() {
    let plugins = shipped();
    let text = "global { project p; plugins cfengine }\nhost a { memroy 5; cfengine { x } }\n";
    let made = understood(Path::new("/p.mln"), text, vec![plugins.path().to_owned()], Allowed::Installed);
    let errors = made.diagnostics.iter().filter(|one| one.severity() == Severity::Error).count();
    assert_eq!((errors, made.files.len()), (1, 0));
}

#[test]
fn a_plugin_sees_what_the_one_before_it_has_made() {
    let plugins = shipped();
    let text = "global { project p; plugins replicate cfengine }
superclass c { cfengine { x } }
host a { superclass c; replicate 2 }
amend a { startup { echo $[hostname] } }\n";
    let made = understood(Path::new("/p.mln"), text, vec![plugins.path().to_owned()], Allowed::Installed);
    assert_eq!(made.diagnostics, []);
    let vms = &made.resolved.project.vms;
    assert_eq!(vms[1].name.as_str(), "a-2");
    assert_eq!(
        (vms[0].files.len(), vms[1].files.len()),
        (1, 0),
        "a copy has no policy: it was not written for it"
    );
}
