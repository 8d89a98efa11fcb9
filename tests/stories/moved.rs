//! A VM goes to another host with all that is on its disk, and comes back.

use mln_e2e::{Host, Site, until};

use crate::LIMIT;

/// One VM with a disk of its own, on a host that is named.
fn project(host: &str) -> String {
    format!(
        "global {{ project roam }}
host vm {{
    memory 64M
    service_host {host}
    mount {{
        24M /data ext4
    }}
}}
"
    )
}

/// Returns where a host thinks that the VM is, and in which epoch it is owned.
fn place(host: &Host) -> String {
    let rows = host.ctl(&["status", "-p", "roam", "--json"]).json();
    let rows = rows.as_array().cloned().unwrap_or_default();
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let places: Vec<String> =
        rows.iter().map(|row| format!("{} {}", text(row, "service_host"), text(row, "state"))).collect();
    places.join(", ")
}

#[track_caller]
fn is_at(site: &mut Site, expect: &str) {
    for name in ["oslo", "bergen"] {
        until(&format!("{name} knows that it is {expect}"), LIMIT, || {
            let found = place(site.host(name));
            if found == expect { Ok(()) } else { Err(found) }
        });
    }
}

#[test]
fn a_vm_goes_to_another_host_and_comes_back_with_all_that_it_has_written() {
    let mut site = Site::mesh_lacking(&["oslo", "bergen"], &["bergen"]);
    let (at_oslo, at_bergen) =
        (site.project("at-oslo", &project("oslo")), site.project("at-bergen", &project("bergen")));
    site.host("oslo").ctl(&["build", "-f", &at_oslo]).done();
    site.host("oslo").ctl(&["start", "-p", "roam"]).done();
    site.host("oslo").sees("roam", "vm", "up");
    let noise = "dd if=/dev/urandom of=/root/noise bs=64k count=48 2>/dev/null; cp /root/noise /data/noise; \
                 echo 1 >/root/count; sync; md5sum </root/noise";
    let written = site.host("oslo").shell("roam/vm", noise).done();
    let boot = site.host("oslo").boot_id("roam/vm");

    site.host("bergen").ctl(&["plan", "-f", &at_bergen]).ended(2).says("> host vm").says("move");
    site.host("oslo").ctl(&["upgrade", "-f", &at_bergen, "--yes"]).ended(0);
    is_at(&mut site, "bergen up");
    assert_eq!(site.host("oslo").guest_processes(), 0);
    assert_ne!(site.host("oslo").boot_id("roam/vm"), boot);
    let look = "cmp /root/noise /data/noise && md5sum </root/noise";
    assert_eq!(site.host("oslo").shell("roam/vm", look).done(), written);
    let more = "echo 2 >>/root/count; sync; cat /root/count";
    assert_eq!(site.host("bergen").shell("roam/vm", more).done(), "1\n2\n");

    // Back, while both agents have just been started anew.
    for name in ["oslo", "bergen"] {
        site.host(name).kill();
        site.host(name).run();
    }
    is_at(&mut site, "bergen up");
    site.host("oslo").is_connected_to(1);
    site.host("bergen").ctl(&["upgrade", "-f", &at_oslo, "--yes"]).ended(0);
    is_at(&mut site, "oslo up");
    assert_eq!(site.host("bergen").guest_processes(), 0);
    assert_eq!(site.host("bergen").shell("roam/vm", "cat /root/count").done(), "1\n2\n");
    assert_eq!(site.host("bergen").shell("roam/vm", look).done(), written);
    let errors = "dmesg | grep -i 'ext4.*error' | head -3";
    assert_eq!(site.host("bergen").shell("roam/vm", errors).done(), "");

    // What is left behind goes with the project.
    site.host("oslo").ctl(&["remove", "-p", "roam", "--force"]).done();
    for name in ["oslo", "bergen"] {
        until(&format!("{name} has nothing left of it"), LIMIT, || {
            let traces = site.host(name).traces_of_vms();
            if traces.is_empty() { Ok(()) } else { Err(format!("{traces:?}")) }
        });
    }
}
