//! A project is changed while its guests run: planned, upgraded, scaled, taken back, and refused before anything happens.

use mln_e2e::{Host, Site, until};
use serde_json::Value;

use crate::{LIMIT, PAIR};

/// A third VM on the same switch.
const THIRD: &str = "
host third {
    superclass end
    service_host bergen
    network eth0 { switch lan; address 10.9.0.3/24 }
}
";

/// Machines by an enumeration, over two hosts.
const FARM: &str = "
global {
    project farm
    autoenum {
        numhosts 3
        superclass node
        service_hosts { oslo 2; bergen 3 }
    }
}
superclass node { memory 40M }
";

/// Returns each VM of a project with its host, by name.
fn places(host: &Host, project: &str) -> Vec<String> {
    let rows = host.ctl(&["status", "-p", project, "--json"]).json();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let rows = rows.as_array().cloned().unwrap_or_default();
    let mut places: Vec<String> =
        rows.iter().map(|row| format!("{} {}", text(row, "name"), text(row, "service_host"))).collect();
    places.sort();
    places
}

/// Returns the digests of a project's revisions, as a host knows them.
fn revisions(host: &Host, project: &str) -> Vec<String> {
    let rows = host.ctl(&["log", "-p", project, "--json"]).json();
    let rows = rows.as_array().cloned().unwrap_or_default();
    rows.iter().map(|row| row["digest"].as_str().unwrap_or_default().to_owned()).collect()
}

#[track_caller]
fn is_at(site: &mut Site, project: &str, expect: &[&str]) {
    for name in ["oslo", "bergen"] {
        until(&format!("{name} knows where {project} is"), LIMIT, || {
            let found = places(site.host(name), project);
            if found == expect { Ok(()) } else { Err(format!("{found:?}")) }
        });
    }
}

#[test]
fn a_project_is_changed_and_taken_back_under_guests_that_run_on() {
    let mut site = Site::mesh(&["oslo", "bergen"]);
    let before = site.project("pair", PAIR);
    site.host("oslo").ctl(&["plan", "-f", &before]).ended(2).says("+ host left").says("not built");
    site.host("oslo").ctl(&["upgrade", "-f", &before, "--yes"]).ended(3).says("mlnctl build");
    site.host("oslo").ctl(&["build", "-f", &before]).done();
    site.host("oslo").ctl(&["start", "-p", "pair"]).done();
    site.host("oslo").ctl(&["status", "-p", "pair", "--wait", "up", "--timeout", "90"]).ended(0);
    let boots = ["pair/left", "pair/right"].map(|vm| site.host("oslo").boot_id(vm));
    site.host("bergen").ctl(&["plan", "-f", &before]).ended(0).says("no changes");

    // One more, asked of the host that doesn't carry it; without a terminal nobody is asked.
    let grown = site.project("grown", &format!("{PAIR}{THIRD}"));
    site.host("oslo").ctl(&["upgrade", "-f", &grown]).ended(64).says("--yes");
    let plan = site.host("oslo").ctl(&["plan", "-f", &grown, "--json"]).ended(2).json();
    assert_eq!(plan["counts"]["added"], 1, "{plan}");
    assert_eq!(plan["changes"][0]["service_hosts"], serde_json::json!(["bergen"]), "{plan}");
    let told =
        site.host("oslo").ctl(&["upgrade", "-f", &grown, "--yes", "-S", "--reason", "one more"]).ended(0);
    told.says("+ host third").says("pair at revision 2");
    site.host("oslo").sees("pair", "third", "up");
    for (vm, boot) in ["pair/left", "pair/right"].into_iter().zip(&boots) {
        assert_eq!(site.host("bergen").boot_id(vm), *boot, "{vm} ran on");
    }
    site.host("oslo").shell("pair/left", "ping -c 1 -W 5 10.9.0.3").done();

    // What takes a start costs one of that machine alone; its disk stays.
    let wide = format!("{PAIR}{THIRD}").replacen(
        "    superclass end\n    service_host oslo\n",
        "    superclass end\n    service_host oslo\n    memory 96M\n    startup {\n        echo new >/root/said\n    }\n",
        1,
    );
    let wide = site.project("wide", &wide);
    site.host("oslo").shell("pair/left", "echo mine >/root/kept; echo changed >/etc/motd; sync").done();
    let told = site.host("bergen").ctl(&["upgrade", "-f", &wide, "--yes"]).ended(0);
    told.says("memory: 64 MiB → 96 MiB").says("reboot").says("pair at revision 3");
    site.host("oslo").sees("pair", "left", "up");
    assert_ne!(site.host("oslo").boot_id("pair/left"), boots[0]);
    let total = "grep MemTotal /proc/meminfo | tr -dc 0-9";
    let kib = |host: &Host| host.shell("pair/left", total).done().parse::<u64>().unwrap_or_default();
    assert!(kib(site.host("oslo")) > 64 << 10);
    let left = site.host("oslo").shell("pair/left", "cat /root/kept /root/said /etc/motd").done();
    assert_eq!(left, "mine\nnew\nchanged\n");

    // What can't be done is refused with its rule, by whom it concerns, and nothing is another way after it.
    let known = revisions(site.host("oslo"), "pair");
    let larger = site.project("larger", &PAIR.replace("memory 64M", "memory 64M; template other"));
    let refused = site.host("oslo").ctl(&["upgrade", "-f", &larger, "--yes", "--force"]).ended(3);
    refused.says("another template means a new disk").says("rule disk-loss");
    let moved = format!("{PAIR}{THIRD}").replace("service_host oslo", "service_host bergen");
    let moved = site.project("moved", &moved);
    site.host("oslo").ctl(&["plan", "-f", &moved]).ended(2).says("> host left").says("at most");
    let huge = format!("{PAIR}{}", THIRD.replace("superclass end", "superclass end; memory 4000M"));
    let huge = site.project("huge", &huge);
    site.host("oslo")
        .ctl(&["plan", "-f", &huge])
        .ended(3)
        .says("by bergen")
        .says("rule memory")
        .says("config.toml");
    site.host("oslo").ctl(&["upgrade", "-f", &before, "--yes"]).ended(3).says("third still running");
    site.host("oslo")
        .ctl(&["upgrade", "-f", &before, "--yes", "--force", "-l", "left:third"])
        .ended(3)
        .says("third");
    assert_eq!(revisions(site.host("oslo"), "pair"), known);
    assert_eq!(site.host("bergen").shell("pair/third", "echo there").done(), "there\n");

    // Back to the first, which has no third, and less memory for the one that has it until it is started again.
    let told = site.host("bergen").ctl(&["rollback", "-p", "pair", "--to", "1", "--yes", "--force"]).ended(0);
    told.says("- host third").says("pair at revision 4");
    is_at(&mut site, "pair", &["left oslo", "right bergen"]);
    assert_eq!(site.host("oslo").boot_id("pair/right"), boots[1], "it ran through all of it");
    let log = site.host("oslo").ctl(&["log", "-p", "pair", "--json"]).json();
    let log = log.as_array().cloned().unwrap_or_default();
    let reasons: Vec<&str> = log.iter().filter_map(|row| row["reason"].as_str()).collect();
    assert_eq!(reasons, ["build", "one more", "upgrade", "rollback"]);
    assert_eq!((&log[1]["added"], &log[3]["removed"]), (&Value::from(1), &Value::from(1)));
    site.host("oslo").ctl(&["plan", "-f", &before]).ended(0).says("no changes");
}

#[test]
fn an_enumeration_is_scaled_from_any_host_by_the_text_that_the_project_came_from() {
    let mut site = Site::mesh(&["oslo", "bergen", "gjovik"]);
    let file = site.project("farm", FARM);
    site.host("oslo").ctl(&["build", "-f", &file]).done();
    let three = ["node1 oslo", "node2 oslo", "node3 bergen"];
    is_at(&mut site, "farm", &three);
    // One that carries nothing of it, and has the text from those that do.
    let told = site.host("gjovik").ctl(&["scale", "-p", "farm", "node", "5", "--yes"]).ended(0);
    told.says("2 added").says("farm at revision 2");
    is_at(&mut site, "farm", &["node1 oslo", "node2 oslo", "node3 bergen", "node4 bergen", "node5 bergen"]);
    site.host("oslo").ctl(&["show", "-p", "farm", "--source"]).ended(0).says("numhosts 5");
    let told = site
        .host("bergen")
        .ctl(&["scale", "-p", "farm", "node", "2", "--yes", "--keep-removed", "0"])
        .ended(0);
    told.says("3 removed").says("farm at revision 3");
    is_at(&mut site, "farm", &["node1 oslo", "node2 oslo"]);
    let left = site.host("bergen").traces_of_vms();
    assert!(!left.iter().any(|path| path.contains("/vms/")), "{left:?}");
    site.host("oslo").ctl(&["scale", "-p", "farm", "nothing", "2", "--yes"]).ended(1).says("nothing");
    // Without a number it is the one before; who was removed comes back as another one.
    site.host("oslo").ctl(&["rollback", "-p", "farm", "--yes"]).ended(0).says("3 added");
    let shown = site.host("gjovik").ctl(&["show", "-p", "farm", "--json"]).json();
    assert_eq!(shown["hosts"].as_array().map(Vec::len), Some(5), "{shown}");
    // Eight are kept, and of an older one nothing is planned: its hosts have forgotten what they had.
    for count in ["6", "5", "6", "5", "6"] {
        site.host("oslo").ctl(&["scale", "-p", "farm", "node", count, "--yes"]).ended(0);
    }
    let told = site.host("gjovik").ctl(&["rollback", "-p", "farm", "--to", "1", "--yes"]).ended(3);
    assert_eq!(told.out, "", "{told}");
    told.says("isn't kept any more: the last 8 are (2..9)").says("mlnctl rollback -p root/farm --to 2");
    site.host("gjovik")
        .ctl(&["rollback", "-p", "farm", "--to", "2", "--yes"])
        .ended(0)
        .says("farm at revision 10");

    // A password in plain is kept nowhere, and so the text isn't.
    let secret =
        site.project("secret", "global { project secret }\nhost vm { root_password plain-and-nowhere-91 }\n");
    site.host("oslo").ctl(&["build", "-f", &secret]).done();
    site.host("oslo").ctl(&["show", "-p", "secret"]).ended(3).says("rule definition").says("crypt");
    let found = std::process::Command::new("grep")
        .args(["-r", "-l", "plain-and-nowhere-91"])
        .arg(site.host("oslo").folder())
        .output()
        .expect("grep runs");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    site.host("oslo").ctl(&["plan", "-f", &secret]).ended(0);
}

/// What only some hosts could carry out has a text all the same: what was asked for.
#[test]
fn what_was_changed_in_part_is_shown_and_scaled_by_what_was_asked_for() {
    let mut site = Site::mesh(&["bergen", "oslo"]);
    let farm = |nodes: u32, memory: u32| {
        format!(
            "global {{\n project farm\n autoenum {{ numhosts {nodes}; superclass node }}\n}}\n\
             superclass node {{ memory 40M; service_host oslo }}\n\
             host far {{ memory {memory}M; service_host bergen }}\n"
        )
    };
    let before = site.project("before", &farm(1, 40));
    let wish = site.project("wish", &farm(2, 48));
    site.host("oslo").ctl(&["build", "-f", &before]).done();
    site.host("bergen").stop();
    site.host("oslo").is_connected_to(0);
    let partial = ["upgrade", "-f", &wish, "--yes", "--partial"];
    site.host("oslo").ctl(&partial).ended(0).says("partial");
    let shown = site.host("oslo").ctl(&["show", "-p", "farm", "--source"]).ended(0);
    shown.says("numhosts 2").says("memory 48M").says("partial");
    site.host("oslo")
        .ctl(&["scale", "-p", "farm", "node", "3", "--yes", "--partial"])
        .ended(0)
        .says("partial");
    let rows = site.host("oslo").ctl(&["status", "-p", "farm", "--json"]).json();
    assert_eq!(rows.as_array().map(Vec::len), Some(4), "{rows}");

    // With all of them it is carried out everywhere.
    site.host("bergen").run();
    site.host("oslo").is_connected_to(1);
    let told = site.host("oslo").ctl(&["scale", "-p", "farm", "node", "4", "--yes"]).ended(0);
    told.says("farm at revision 2");
    let shown = site.host("bergen").ctl(&["show", "-p", "farm", "--source"]).ended(0);
    shown.says("numhosts 4").says("memory 48M");
    let all = site.project("all", &farm(4, 48));
    site.host("bergen").ctl(&["plan", "-f", &all]).ended(0).says("no changes");
}
