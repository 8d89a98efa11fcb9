//! Whoever doesn't belong to the mesh changes nothing in it.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use mln_e2e::Site;
use mln_protocol::wire::Token;
use serde_json::Value;

use crate::SINGLE;

/// All that an operator can see of the mesh.
fn seen(site: &mut Site) -> (Value, Value, Value, Vec<String>) {
    let oslo = site.host("oslo");
    let states: Vec<String> = oslo
        .ctl(&["status", "--json"])
        .json()
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| format!("{} {} {}", row["project"], row["name"], row["state"]))
        .collect();
    let members: Value = oslo
        .ctl(&["peers", "--json"])
        .json()
        .as_array()
        .into_iter()
        .flatten()
        .map(|p| p["key"].clone())
        .collect();
    (oslo.daemon_status(), oslo.ctl(&["list", "--json"]).json(), members, states)
}

/// Returns the address and port in the multiaddresses of a token.
fn addresses(token: &Token) -> Vec<(String, u16)> {
    let parts = |address: &String| {
        let parts: Vec<&str> = address.split('/').collect();
        Some((parts.get(2)?.to_string(), parts.get(4)?.parse().ok()?))
    };
    let mut addresses: Vec<(String, u16)> = token.addresses.iter().filter_map(parts).collect();
    addresses.dedup();
    addresses
}

#[test]
fn a_stranger_and_a_sender_of_garbage_change_nothing() {
    let mut site = Site::mesh(&["oslo", "bergen"]);
    let file = site.project("single", SINGLE);
    site.host("oslo").ctl(&["build", "-f", &file]).done();
    site.host("oslo").ctl(&["start", "-p", "single"]).done();
    site.host("oslo").sees("single", "vm", "up");
    let boot = site.host("oslo").boot_id("single/vm");
    let token = Token::parse(&site.host("oslo").ctl(&["token", "new"]).done()).expect("oslo's own token");
    let before = seen(&mut site);

    // Somebody of another mesh, with a token of that mesh that leads here.
    site.settle("mallory");
    let own = Token::parse(&site.host("mallory").ctl(&["token", "new"]).done()).expect("mallory's own token");
    let forged = |issuer, root, chain| Token {
        issuer,
        root,
        chain,
        secret: own.secret,
        addresses: token.addresses.clone(),
    };
    let attempts = [
        // A root that isn't ours, a chain that doesn't begin at the root, and one that doesn't end in the key.
        forged(token.issuer, own.root, own.chain.clone()),
        forged(token.issuer, token.root, own.chain.clone()),
        forged(token.issuer, token.root, token.chain.clone()),
    ];
    for (number, attempt) in attempts.iter().enumerate() {
        let name = format!("eve{number}");
        site.add(&name);
        let answer = site.host(&name).mlnd(&["join", &attempt.to_text(), "--name", &name]);
        assert_ne!(answer.code, Some(0), "{answer}");
        assert_eq!(site.host(&name).mlnd(&["run"]).code.map(|code| code != 0), Some(true));
    }
    // A member's token is good for a name that is free, not for one that is taken.
    site.add("impostor");
    let answer = site.host("impostor").mlnd(&["join", &token.to_text(), "--name", "bergen"]);
    assert_ne!(answer.code, Some(0), "{answer}");

    // Garbage: none at all, random bytes, the begin of a dialogue and then nonsense, far too much.
    let random: Vec<u8> =
        (0..200_000_u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect();
    let begin = [&b"\x13/multistream/1.0.0\n\x07/noise\n"[..], &random[..2000]].concat();
    let mut reached = 0;
    for (address, port) in addresses(&token) {
        reached += site.host("mallory").inside(|| {
            let mut reached = 0;
            for bytes in [&[][..], b"GET / HTTP/1.1\r\n\r\n", &random[..100], &begin, &random] {
                // Where only UDP is listened on, nobody answers here.
                let Ok(mut stream) = TcpStream::connect((address.as_str(), port)) else { continue };
                reached += 1;
                stream.set_read_timeout(Some(Duration::from_secs(30))).expect("not zero");
                // It may hang up before it has read all, which is what it should do.
                let _ = stream.write_all(bytes);
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let mut answer = Vec::new();
                let _ = stream.read_to_end(&mut answer);
                assert!(answer.len() < 10_000, "{} bytes for a stranger", answer.len());
            }
            let udp = UdpSocket::bind("0.0.0.0:0").expect("any port");
            for chunk in random.chunks(1200) {
                // Nobody may be listening.
                let _ = udp.send_to(chunk, (address.as_str(), port));
            }
            reached
        });
    }
    assert!(reached >= 5, "the garbage reached nobody: {reached} connections to {:?}", token.addresses);

    assert!(site.host("oslo").is_running(), "{}", site.host("oslo").last_words());
    assert_eq!(seen(&mut site), before);
    assert_eq!(site.host("bergen").boot_id("single/vm"), boot);
    let names = site.host("mallory").ctl(&["daemon_status", "--json"]).json();
    assert_eq!(
        names["service_hosts"].as_array().map(Vec::len),
        Some(1),
        "mallory has learned of others: {names}"
    );
    // The mesh still takes whom it invites.
    site.add("gjovik");
    site.host("gjovik").configure("memory_mib = 128\n");
    site.join("bergen", "gjovik").done();
    site.host("gjovik").run();
    site.host("oslo").is_connected_to(2);
}
