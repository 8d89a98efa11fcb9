//! What is found again after all was off, and what is known of what is gone.

use mln_e2e::Site;

const HOSTS: [&str; 2] = ["oslo", "bergen"];

/// Makes a mesh of hosts that listen wherever a port is free, and don't look for each other on the network.
fn on_any_port() -> Site {
    let mut site = Site::bare();
    for name in HOSTS {
        site.add(name);
        site.host(name).configure("mdns = false\n");
        site.host(name).listen_on_any_port();
    }
    site.host("oslo").mlnd(&["init", "story", "--name", "oslo"]).done();
    site.host("oslo").run();
    site.join("oslo", "bergen").done();
    site.host("bergen").run();
    site.host("bergen").is_connected_to(1);
    site
}

#[test]
fn hosts_that_listen_on_any_port_find_each_other_after_all_were_off_and_by_a_new_token_where_they_moved() {
    let mut site = on_any_port();
    for name in HOSTS {
        site.host(name).stop();
    }
    for name in HOSTS {
        site.host(name).run();
    }
    site.host("bergen").is_connected_to(1);
    // Whose ports are others now: neither knows where the other one is.
    for name in HOSTS {
        site.host(name).stop();
        let ports = site.host(name).folder().join("ports");
        std::fs::remove_file(ports).expect("it was written when a port was found");
    }
    for name in HOSTS {
        site.host(name).run();
    }
    let told = site.host("bergen").ctl(&["doctor"]);
    assert!(told.to_string().contains("reaches 0 of 1 members"), "{told}");
    let token = site.host("oslo").ctl(&["token", "new"]).done();
    let again = ["join", token.trim(), "--name", "bergen"];
    site.host("bergen").mlnd(&again).ended(0).says("its agent runs");
    site.host("bergen").stop();
    site.host("bergen").mlnd(&again).ended(0).says("belongs to this mesh already").says("is taken up");
    site.host("bergen").mlnd(&again).ended(0).says("belongs to this mesh already");
    site.host("bergen").run();
    site.host("bergen").is_connected_to(1);
}

#[test]
fn a_command_line_that_is_none_ends_with_64_and_what_was_removed_has_a_log() {
    let mut site = Site::mesh(&["oslo"]);
    let file = site.project("gone", "global { project gone }\nhost a { memory 64M }\n");
    let host = site.host("oslo");
    host.mlnd(&["run", "--listen", "here"]).ended(64).says("--listen");
    host.ctl(&["build", "-f", &file]).done();
    host.ctl(&["show", "-p", "gone", "-f", &file]).ended(64).says("say one of them");
    host.ctl(&["remove", "-p", "gone"]).done();
    let log = host.ctl(&["log", "-p", "gone", "--json"]).json();
    let reasons: Vec<&str> =
        log.as_array().into_iter().flatten().filter_map(|row| row["reason"].as_str()).collect();
    assert_eq!(reasons, ["build", "remove"]);
    host.ctl(&["show", "-p", "gone"]).ended(3).says("there is no project gone");
}
