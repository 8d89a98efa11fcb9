//! Asking from afar, and hosts that find each other: operators, mDNS, relays, IPv6.

use std::fs;

use mln_e2e::{Host, Site, until};
use mln_protocol::trust::{Domain, Grant, KeyPair};
use mln_protocol::wire::Token;

use crate::{LIMIT, PAIR};

/// Makes a token for an operator.
#[track_caller]
fn token(host: &Host, arguments: &[&str]) -> String {
    let all = [&["token", "new", "--role", "operator"], arguments].concat();
    host.ctl(&all).done().trim().to_owned()
}

/// Where a host answers operators, as people write it.
fn address(token: &str) -> String {
    let token = Token::parse(token).expect("an agent made it");
    let tcp = token.addresses.iter().find(|address| address.contains("/tcp/"));
    tcp.expect("agents listen on TCP").clone()
}

/// The same token, had it been made a day ago: signed again with the key of its host.
fn outdated(host: &Host, token: &str) -> String {
    let secret = fs::read_to_string(host.folder().join("host.key")).expect("the test may read everything");
    let secret: Vec<u8> = (0..32)
        .map(|n| u8::from_str_radix(&secret[2 * n..2 * n + 2], 16).expect("a key is hexadecimal"))
        .collect();
    let keys = KeyPair::from_secret(secret.try_into().expect("32 bytes"));
    let mut token = Token::parse(token).expect("an agent made it");
    let mut grant: Grant = token.claims().expect("a token has a grant");
    grant.not_after_unix_ms = grant.not_after_unix_ms.map(|end| end - 24 * 3_600_000);
    *token.chain.last_mut().expect("a token has a grant") = keys.sign(Domain::Grant, grant.to_bytes());
    token.to_text()
}

#[test]
fn an_operator_without_an_agent_builds_and_runs_commands_within_their_grant() {
    let mut site = Site::mesh(&["oslo", "bergen"]);
    for name in ["anna", "bob", "eve"] {
        site.add(name);
    }
    let file = site.project("pair", PAIR);
    let for_anna = token(site.host("oslo"), &["--name", "anna"]);
    let oslo = address(&for_anna);

    // Whoever has no grant is refused, and is told what to do about it.
    let eve = site.host("eve");
    eve.mlnctl(&["--peer", &oslo, "list"])
        .ended(3)
        .says("`mlnctl key` prints it")
        .says("mlnctl ctx join TEXT");
    eve.mlnctl(&["ctx", "join", &for_anna, "--as", "eve"]).ended(3).says("the token is for another name");
    let nobody = oslo.replace("/tcp/", "/tcp/1");
    let nobody = &nobody[..nobody.len() - 1];
    eve.mlnctl(&["--peer", nobody, "list"]).ended(4).says(nobody);
    let fresh = token(site.host("oslo"), &[]);
    let old = outdated(site.host("oslo"), &fresh);
    site.host("eve").mlnctl(&["ctx", "join", &old]).ended(3).says("expired");
    let for_a_host = site.host("oslo").ctl(&["token", "new"]).done();
    site.host("eve").mlnctl(&["ctx", "join", for_a_host.trim()]).ended(1).says("mlnd join");

    // An operator does all that the grant says, through any host.
    let anna = site.host("anna");
    anna.mlnctl(&["ctx", "join", &for_anna, "--name", "lab"]).ended(0).says("anna");
    anna.mlnctl(&["build", "-f", &file]).done();
    anna.mlnctl(&["start", "-p", "pair"]).done();
    anna.mlnctl(&["status", "-p", "pair", "--wait", "up", "--timeout", "60"]).ended(0);
    for (vm, host) in [("pair/left", "left"), ("pair/right", "right")] {
        anna.mlnctl(&["exec", vm, "--", "hostname"]).ended(0).says(host);
    }
    let projects = anna.mlnctl(&["list", "--json"]).json();
    assert_eq!(projects[0]["owner"], "anna", "{projects}");
    anna.mlnctl(&["token", "new"]).ended(3).says("grant");
    anna.mlnctl(&["--peer", &oslo, "version"]).done();
    let contexts = anna.mlnctl(&["ctx", "list", "--json"]).json();
    assert_eq!((&contexts[0]["name"], &contexts[0]["used"]), (&"lab".into(), &true.into()), "{contexts}");

    // Who may only look changes nothing, and learns who could change that.
    let for_bob = token(site.host("oslo"), &["--may", "read"]);
    let bob = site.host("bob");
    bob.mlnctl(&["ctx", "join", &for_bob]).done();
    bob.mlnctl(&["status", "-p", "pair"]).ended(0);
    let refused = bob.mlnctl(&["stop", "-p", "pair"]).ended(3);
    refused.says("bob may not stop").says("rule grant").says("this can be changed by whoever gave the grant");
    bob.mlnctl(&["exec", "pair/right", "--", "true"]).ended(3).says("no exec");
    bob.mlnctl(&["token", "new", "--role", "operator"]).ended(3).says("rule grant");
    bob.mlnctl(&["status", "-p", "pair"]).ended(0);

    // An operator is no host: nobody counts them, nobody looks for them.
    site.host("oslo").is_connected_to(1);
    assert_eq!(site.host("oslo").daemon_status()["service_hosts"].as_array().map(Vec::len), Some(2));

    // The context has learned of the other host, and works while the first one is off.
    site.host("oslo").stop();
    site.host("anna").mlnctl(&["list"]).ended(0).says("pair");
}

#[test]
fn members_that_know_no_address_find_each_other_on_the_local_network() {
    let mut site = Site::mesh(&["oslo", "bergen"]);
    if !site.host("oslo").has_own_network() {
        // On 127.0.0.1 there is no multicast.
        return;
    }
    site.settle("stranger");
    for name in ["oslo", "bergen"] {
        site.host(name).stop();
        fs::write(site.host(name).folder().join("peers"), "").expect("the folder is ours");
    }
    for name in ["oslo", "bergen"] {
        site.host(name).run();
    }
    for name in ["oslo", "bergen"] {
        site.host(name).is_connected_to(1);
    }
    until("the stranger is seen and not a member", LIMIT, || {
        let seen = site.host("oslo").ctl(&["peers", "--lan", "--json"]).json();
        let rows = seen.as_array().cloned().unwrap_or_default();
        let members: Vec<bool> = rows.iter().filter_map(|row| row["member"].as_bool()).collect();
        if members.contains(&true) && members.contains(&false) { Ok(()) } else { Err(seen.to_string()) }
    });
    site.host("oslo").is_connected_to(1);
}

#[test]
fn hosts_that_cannot_reach_each_other_connect_through_a_relay_and_share_a_switch() {
    let mut site = Site::mesh_with(&["gjovik", "oslo", "bergen"], "memory_mib = 1024\nrelay = true\n");
    let Some(relay) = site.host("gjovik").address() else {
        // On 127.0.0.1 nobody can be cut off.
        return;
    };
    let version = site.host("gjovik").ctl(&["version", "--json"]).json();
    let peer = version["agent"]["peer_id"].as_str().expect("an agent has a peer id").to_owned();
    for (name, other) in [("oslo", "bergen"), ("bergen", "oslo")] {
        site.host(name).stop();
        let other = site.host(other).address().expect("as the relay");
        site.host(name).cut_off_from(other);
        let relays = format!("memory_mib = 1024\nrelays = [\"/ip4/{relay}/tcp/7117/p2p/{peer}\"]\n");
        site.host(name).configure(&relays);
    }
    for name in ["oslo", "bergen"] {
        site.host(name).run();
    }
    for name in ["oslo", "bergen"] {
        site.host(name).is_connected_to(2);
    }
    let peers = site.host("oslo").ctl(&["peers", "--json"]).json();
    let relayed = |name: &str| {
        let row = peers.as_array().into_iter().flatten().find(|row| row["name"] == name);
        row.map(|row| row["relayed"].clone())
    };
    assert_eq!((relayed("bergen"), relayed("gjovik")), (Some(true.into()), Some(false.into())), "{peers}");

    let file = site.project("pair", PAIR);
    site.host("oslo").ctl(&["build", "-f", &file]).done();
    site.host("oslo").ctl(&["start", "-p", "pair"]).done();
    site.host("oslo").ctl(&["status", "-p", "pair", "--wait", "up", "--timeout", "60"]).ended(0);
    until("the guests reach each other", LIMIT, || {
        let ping = site.host("oslo").shell("pair/left", "ping -c 1 -W 5 10.9.0.2");
        if ping.code == Some(0) { Ok(()) } else { Err(ping.to_string()) }
    });
    // A command goes the same way.
    site.host("oslo").ctl(&["exec", "pair/right", "--", "hostname"]).ended(0).says("right");
}

#[test]
fn a_mesh_may_have_ipv6_alone() {
    let mut site = Site::bare();
    for name in ["oslo", "bergen", "anna"] {
        site.add_ipv6(name);
    }
    site.host("oslo").mlnd(&["init", "story", "--name", "oslo"]).done();
    site.host("oslo").mlnd(&["init", "office", "--name", "oslo"]).ended(1).says("called story");
    site.host("oslo").run();
    site.join("oslo", "bergen").done();
    site.host("bergen").run();
    site.host("bergen").is_connected_to(1);
    let token = token(site.host("bergen"), &[]);
    site.host("anna").mlnctl(&["ctx", "join", &token]).done();
    site.host("anna").mlnctl(&["hosts"]).ended(0);
}
