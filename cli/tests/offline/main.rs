//! The commands that need a project file alone, as processes: what is printed where, and exit codes.

mod diff;
mod edit;
mod explain;
mod fix;
mod fmt;
mod plugins;
mod project_file;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn examples() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples"))
}

/// Runs `mlnctl` in a folder, with no settings of its own in the environment.
fn mlnctl(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mlnctl"));
    for variable in ["MLN_FILE", "MLN_VAR", "MLN_JSON", "MLN_OUTPUT", "MLN_PEER"] {
        command.env_remove(variable);
    }
    command.current_dir(folder).args(arguments).output().expect("mlnctl was built for this test")
}

#[track_caller]
fn check(folder: &Path, arguments: &[&str], code: i32, stdout: &str) -> String {
    let output = mlnctl(folder, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(String::from_utf8_lossy(&output.stdout), stdout, "{arguments:?}: {stderr}");
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
    stderr
}

fn folder_with(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("the folder can be written");
    }
    folder
}

/// Returns what a file holds after a command.
fn text(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).expect("it is still there")
}

#[test]
fn a_valid_project_is_counted() {
    let ring = examples().join("ring");
    check(&ring, &["validate", "-f", "ring.mln"], 0, "ring.mln: 3 hosts, 3 switches: no errors\n");
    check(&ring, &["validate", "ring.mln"], 0, "ring.mln: 3 hosts, 3 switches: no errors\n");
}

#[test]
fn a_wrong_project_is_explained_on_stderr_with_an_excerpt() {
    let folder = folder_with(&[("p.mln", "global { project p }\nhost a {\n    memroy 64M\n}\n")]);
    let stderr = check(folder.path(), &["validate", "-f", "p.mln"], 1, "");
    for part in ["error[E0201]: unknown keyword `memroy`", "p.mln:3:5", "did you mean `memory`?", "1 error"] {
        assert!(stderr.contains(part), "{part} is not in:\n{stderr}");
    }
    assert!(!stderr.contains('\x1b'), "colours where there is no terminal:\n{stderr}");
}

#[test]
fn editors_get_places_and_fixes_as_json() {
    let folder = folder_with(&[
        ("p.mln", "global { project p }\n#include hosts.inc\n"),
        ("hosts.inc", "host a { memroy 64M }"),
    ]);
    let output = mlnctl(folder.path(), &["validate", "-f", "p.mln", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON on standard output");
    let found = &report["diagnostics"][0];
    assert_eq!(found["code"], "E0201");
    assert_eq!(found["file"], "hosts.inc");
    assert_eq!((&found["line"], &found["column"]), (&Value::from(1), &Value::from(10)));
    assert_eq!(found["fix"]["replacement"], "memory");
    assert_eq!(found["included_from"][0]["file"], "p.mln");
}

#[test]
fn show_prints_the_published_shape() {
    let output = mlnctl(&examples().join("ring-bare"), &["show", "-f", "ring.mln", "--json"]);
    assert_eq!(output.status.code(), Some(0));
    let shown: Value = serde_json::from_slice(&output.stdout).expect("JSON on standard output");
    let network = |name, switch| {
        serde_json::json!({"name": name, "address": null, "netmask": null, "gateway": null, "switch": switch,
                           "bridge": null, "tap": null, "mac": null, "forwards": [], "delay_us": null,
                           "loss_percent": null, "rate_bits_per_s": null, "tap_address": null})
    };
    assert_eq!(
        shown["hosts"][0],
        serde_json::json!({
            "name": "router1", "platform": "uml", "service_host": null, "template": null, "memory_mib": 64,
            "vcpus": 1, "disk_bytes": null, "free_space_bytes": null, "boot_order": 99,
            "networks": [network("eth0", "A"), network("eth1", "B")],
            "users": [], "files": [], "startup": [], "nameservers": [], "modules": [], "shutdown": [],
            "groups": [], "swap_bytes": null, "mounts": [], "nice": null, "cpus": [], "ec2": null,
        })
    );
    assert_eq!(shown["project"], serde_json::json!({"owner": null, "name": "ring-bare"}));
    assert_eq!(
        shown["switches"][0],
        serde_json::json!({"name": "A", "members": ["router1:eth0", "router3:eth1"], "type": "switch",
                           "bridge": null, "tap": null, "vlan": null, "service_host": null})
    );
    assert_eq!(shown["diagnostics"], serde_json::json!([]));
}

#[test]
fn show_carries_diagnostics_and_fails_on_errors() {
    let folder = folder_with(&[("p.mln", "global { project p }\nhost a { ec2 { }; memroy 1 }\n")]);
    let output = mlnctl(folder.path(), &["show", "-f", "p.mln", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let shown: Value = serde_json::from_slice(&output.stdout).expect("JSON on standard output");
    assert_eq!(
        shown["diagnostics"],
        serde_json::json!([
            {"code": "W0801", "severity": "warning", "line": 2, "message": "not carried out yet: `ec2`"},
            {"code": "E0201", "severity": "error", "line": 2, "message": "unknown keyword `memroy`"},
        ])
    );
}

#[test]
fn query_prints_one_value_on_each_line() {
    let ring = examples().join("ring");
    let check = |path, code, stdout| {
        let stderr = check(&ring, &["query", "-f", "ring.mln", path], code, stdout);
        assert_eq!(stderr.is_empty(), code == 0, "{stderr}");
    };
    check("/host/router2/network/eth0/address", 0, "10.10.2.2/24\n");
    check("/host/router2/memory", 0, "64M\n");
    check("/host/router2/network", 0, "eth0\neth1\n");
    check(
        "/host/router2/users",
        0,
        "root $6$mlnexample$vCC4bExvynnXqz3hHdGSR.63CnciIwB1MuxjocrSgFDuBBEWVEbXDM7U3Hy/j4nXmPSzYKGGRxF/gy96e/90x1\n",
    );
    check("/global/project", 0, "ring\n");
    check("/switch/A", 0, "");
    check("/host/router2/size", 1, "");
    check("/host/router9/memory", 1, "");
}

#[test]
fn variables_of_the_command_line_win() {
    let folder = folder_with(&[("p.mln", "global { project p; $m = 1G }\nhost a { memory $m }\n")]);
    let query = ["query", "-f", "p.mln", "/host/a/memory"];
    check(folder.path(), &query, 0, "1G\n");
    check(folder.path(), &[&query[..], &["--var", "m=2G"]].concat(), 0, "2G\n");
    check(folder.path(), &[&query[..], &["--var", "m"]].concat(), 64, "");
}

#[test]
fn what_cannot_be_carried_out_has_its_exit_code() {
    let folder = folder_with(&[("latin.mln", "")]);
    std::fs::write(folder.path().join("latin.mln"), b"# \xe5\n").expect("the folder can be written");
    check(folder.path(), &["validate"], 64, "");
    check(folder.path(), &["validate", "-f", "x.mln", "--no-such-flag"], 64, "");
    let stderr = check(folder.path(), &["validate", "-f", "x.mln"], 1, "");
    assert_eq!(stderr, "error: x.mln cannot be read: there is no such file\n");
    let stderr = check(folder.path(), &["show", "-f", "latin.mln"], 1, "");
    assert_eq!(stderr, "error: latin.mln is not text in UTF-8\n");
}
