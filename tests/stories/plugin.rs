//! A plugin beside the project: what it makes arrives in the guest, and it runs only where that is allowed.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use mln_e2e::Site;

const PROJECT: &str = "
global { project plugged; plugins rules }
superclass all { rules { for all } }
host vm { superclass all; memory 64M; rules { for $[hostname] } }
";

const MANIFEST: &str =
    "version = 1\nrun = \"rules.sh\"\n[[claim]]\nword = \"rules\"\nin = [\"host\"]\nform = \"lines\"\n";

/// Answers with the lines that it was told: without a library, since this is about the way there.
const PROGRAM: &str = r#"#!/bin/sh
lines=$(sed 's/.*"rules":\["\([^]]*\)"\].*/\1/; s/","/\\n/g')
printf '{"version": 1, "files": [{"host": "vm", "path": "/etc/rules", "mode": "0600", "text": "%s\\n"}]}' "$lines"
"#;

#[test]
fn what_a_plugin_makes_arrives_in_the_guest_and_no_other_host_needs_it() {
    let mut site = Site::mesh(&["oslo"]);
    let plugins = site.folder().join("plugins");
    fs::create_dir(&plugins).expect("the site's own folder");
    fs::write(plugins.join("rules.toml"), MANIFEST).expect("the site's own folder");
    fs::write(plugins.join("rules.sh"), PROGRAM).expect("the site's own folder");
    for (path, mode) in
        [(plugins.clone(), 0o755), (plugins.join("rules.toml"), 0o644), (plugins.join("rules.sh"), 0o755)]
    {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the site's own folder");
    }
    let file = site.project("plugged", PROJECT);
    let oslo = site.host("oslo");
    oslo.ctl(&["build", "-f", &file]).ended(1).says("--allow-plugins");
    oslo.ctl(&["build", "-f", &file, "--allow-plugins"]).done();
    oslo.ctl(&["start", "-p", "plugged"]).done();
    oslo.ctl(&["status", "-p", "plugged", "--wait", "up", "--timeout", "60"]).ended(0);
    let found = oslo.shell("plugged/vm", "cat /etc/rules; stat -c %a /etc/rules").done();
    assert_eq!(found, "for all\nfor vm\n600\n");
}
