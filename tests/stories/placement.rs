//! Where VMs go: customers on the hosts that their files name, a farm over two hosts, and groups of which the mesh
//! chooses.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use mln_e2e::{Host, Site, until};
use serde_json::Value;

use crate::LIMIT;

/// How many bytes a VM of the farm may take that was never started.
const UNTOUCHED_BYTES_MAX: u64 = 2 << 20;

const GATEWAYS: &str = "memory_mib = 1280\ngroups = ['gateways']\n";
const BACKENDS: &str = "memory_mib = 1024\ngroups = ['backends']\n";

/// The table of the paper.
const HOSTING: &str = "\
Server    #Projs  #vms  Mem.Used  Mem.Ava  Groups
gateway1       2     2       512      768  gateways
backend1       1     1       128      896  backends
backend2       1     1       128      896  backends
backend3       2     2       256      768  backends
backend4       1     1       128      896  backends
Total          7     7      1152     4224
";

const ONLY_GATEWAYS: &str = "\
Server    #Projs  #vms  Mem.Used  Mem.Ava  Groups
gateway1       2     2       512      768  gateways
Total          2     2       512      768
";

#[track_caller]
fn tells(host: &Host, arguments: &[&str], table: &str) {
    until(&format!("{} tells the table", host.name()), LIMIT, || {
        let told = host.ctl(&[&["daemon_status"], arguments].concat()).done();
        if told == table { Ok(()) } else { Err(told) }
    });
}

#[test]
fn customers_of_a_gateway_and_four_back_ends_are_counted_alike_by_every_peer() {
    let hosts = [
        ("gateway1", GATEWAYS),
        ("backend1", BACKENDS),
        ("backend2", BACKENDS),
        ("backend3", BACKENDS),
        ("backend4", BACKENDS),
    ];
    let mut site = Site::mesh_each(&hosts);
    site.host("backend2").ctl(&["build", "-f", &Site::repository("examples/hosting/acme.mln")]).done();
    site.host("gateway1").ctl(&["build", "-f", &Site::repository("examples/hosting/blue.mln")]).done();
    for (name, _) in hosts {
        tells(site.host(name), &[], HOSTING);
        tells(site.host(name), &["-g", "gateways"], ONLY_GATEWAYS);
    }

    // The gateway and its web servers are on three hosts; connections go by the gateway's rules.
    site.host("backend4").ctl(&["start", "-p", "acme"]).done();
    site.host("backend1").ctl(&["status", "-p", "acme", "--wait", "up", "--timeout", "100"]).ended(0);
    let host = site.host("backend2");
    for (web, port) in [("web1", "8001"), ("web2", "8002")] {
        let page = format!("http://localhost:{port}/");
        until(&format!("the gateway leads to {web}"), LIMIT, || {
            let answer = host.ctl(&["exec", "acme/gateway", "--", "wget", "-qO-", &page]);
            let is_its = answer.code == Some(0) && answer.out.contains(&format!("{web} of acme"));
            if is_its { Ok(()) } else { Err(answer.to_string()) }
        });
    }
    host.ctl(&["exec", "acme/web2", "--", "ping", "-c", "1", "-W", "5", "gateway"]).done();
    let route = host.ctl(&["exec", "acme/web1", "--", "ip", "route", "show", "default"]).done();
    assert!(route.contains("via 10.21.1.1"), "{route}");

    // What is defined counts, whether it runs or not.
    tells(site.host("backend3"), &[], HOSTING);
}

/// Returns what a folder takes on the disk, in bytes.
fn bytes_of(folder: &Path) -> u64 {
    let entries =
        fs::read_dir(folder).expect("the folder of a VM").map(|entry| entry.expect("a readable folder"));
    entries.map(|entry| entry.metadata().expect("it is there").blocks() * 512).sum()
}

#[test]
fn a_farm_of_51_machines_is_built_over_two_hosts_and_takes_next_to_nothing_until_it_runs() {
    let mut site = Site::mesh_with(&["oslo", "bergen"], "memory_mib = 2048\n");
    site.host("oslo").ctl(&["build", "-f", &Site::repository("examples/farm/farm.mln")]).done();
    let mut counted = 0;
    for name in ["oslo", "bergen"] {
        let vms = fs::read_dir(site.host(name).folder().join("vms")).expect("VMs are built");
        for folder in vms.map(|entry| entry.expect("a readable folder").path()).filter(|path| path.is_dir()) {
            let bytes = bytes_of(&folder);
            assert!(bytes <= UNTOUCHED_BYTES_MAX, "{} takes {bytes} bytes", folder.display());
            counted += 1;
        }
    }
    assert_eq!(counted, 51);
    for name in ["oslo", "bergen"] {
        until(&format!("{name} counts them"), LIMIT, || {
            let table = site.host(name).daemon_status();
            let is_all = table["total"]["vms"] == 51 && table["total"]["projects"] == 2;
            if is_all { Ok(()) } else { Err(table.to_string()) }
        });
    }

    for vm in ["master", "node01", "node02"] {
        site.host("bergen").ctl(&["start", "-p", "farm", "-h", vm]).done();
    }
    let frame = "cat /tmp/frame";
    let rendered = ["node01", "node02"].map(|node| {
        until(&format!("{node} has rendered"), LIMIT, || {
            let answer = site.host("oslo").shell(&format!("farm/{node}"), frame);
            if answer.code == Some(0) && !answer.out.is_empty() { Ok(()) } else { Err(answer.to_string()) }
        });
        site.host("oslo").shell(&format!("farm/{node}"), frame).done()
    });
    assert_eq!(rendered[0], rendered[1], "both had the master's scene");
}

/// Returns each VM of a project with its host.
fn places(host: &Host, project: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let rows = host.ctl(&["status", "-p", project, "--json"]).json();
    let rows = rows.as_array().expect("an array").clone();
    rows.iter().map(|row| (text(&row["name"]), text(&row["service_host"]))).collect()
}

#[test]
fn the_mesh_chooses_among_the_hosts_of_a_group() {
    let hosts = [
        ("oslo", "memory_mib = 300\ngroups = ['lab']\n"),
        ("bergen", "memory_mib = 200\ngroups = ['lab', 'wet']\n"),
        ("gjovik", "memory_mib = 900\n"),
    ];
    let mut site = Site::mesh_each(&hosts);
    let text = "global { project spread\n autoenum { numhosts 4; superclass n\n service_hosts { @lab all } } }\n\
                superclass n { memory 64M }\n";
    let file = site.project("spread", text);
    // Whoever is asked needn't belong to the group.
    site.host("gjovik").ctl(&["build", "-f", &file]).done();
    let expected = [("node1", "oslo"), ("node2", "oslo"), ("node3", "bergen"), ("node4", "oslo")]
        .map(|(vm, host)| (vm.to_owned(), host.to_owned()));
    for name in ["oslo", "bergen", "gjovik"] {
        until(&format!("{name} knows where they are"), LIMIT, || {
            let told = places(site.host(name), "spread");
            if told == expected { Ok(()) } else { Err(format!("{told:?}")) }
        });
    }

    let large =
        site.project("large", "global { project large }\nhost a { memory 150M; service_host @lab }\n");
    let refused = site.host("gjovik").ctl(&["build", "-f", &large]).ended(3);
    let words = ["@lab", "150 MiB", "bergen has 136 MiB left", "oslo has 108 MiB left", "config.toml"];
    words.iter().fold(refused, |answer, words| answer.says(words));
    let nobody = site.project("nobody", "global { project nobody }\nhost a { service_host @dry }\n");
    site.host("oslo").ctl(&["build", "-f", &nobody]).ended(3).says("@dry").says("@lab, @wet");

    // Who is off is not asked, and named.
    site.host("bergen").kill();
    let wet = site.project("wet", "global { project wet }\nhost a { service_host @wet }\n");
    until("bergen is seen to be off", LIMIT, || {
        let answer = site.host("oslo").ctl(&["build", "-f", &wet]);
        let is_named = answer.code == Some(3) && answer.to_string().contains("bergen is off");
        if is_named { Ok(()) } else { Err(answer.to_string()) }
    });
}

#[test]
fn a_disk_smaller_than_its_template_is_refused_by_the_host_with_both_sizes() {
    let mut site = Site::mesh(&["oslo"]);
    let file = site.project("tiny", "global { project tiny }\nhost vm { size 8M }\n");
    let refused = site.host("oslo").ctl(&["build", "-f", &file]).ended(3);
    refused.says("8 MiB").says("64 MiB").says("template");
    assert_eq!(site.host("oslo").traces_of_vms(), [] as [String; 0]);
}
