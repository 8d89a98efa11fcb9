//! Out to the world and in again: address translation, ports that lead in, bridges of the host.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use mln_e2e::{Site, until, until_some};
use serde_json::json;

use crate::LIMIT;

/// How long a single packet may take, on a machine that is busy.
const PACKET: Duration = Duration::from_secs(20);

/// A guest that others reach, and one on a host without a way out.
const WEB: &str = "
global { project web }
host server {
    service_host oslo
    network eth0 { forward 8080:80; forward 8007:7; forward 5300:53/udp }
    startup {
        mkdir -p /srv; echo 'hello from a guest' >/srv/index.html; httpd -p 80 -h /srv
        setsid nc -ll -p 7 -e cat >/dev/null 2>&1 </dev/null &
    }
}
host lone {
    service_host bergen
    network eth0 { }
    network eth1 { address 10.9.0.1/24 }
}
";

/// Two hosts, and a place outside that the first of them has a default route to.
fn with_an_outside() -> Option<(Site, IpAddr, IpAddr)> {
    let mut site = Site::mesh(&["oslo", "bergen"]);
    site.add("world");
    let (oslo, world) = (site.host("oslo").address()?, site.host("world").address()?);
    site.host("oslo").ip(&["route", "add", "default", "via", &world.to_string()]).done();
    Some((site, oslo, world))
}

fn connect(address: impl Into<SocketAddr>) -> Result<TcpStream, String> {
    let stream = TcpStream::connect_timeout(&address.into(), PACKET).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(PACKET)).map_err(|error| error.to_string())?;
    Ok(stream)
}

/// Returns what a web server answers, head and all.
pub(crate) fn http_get(address: SocketAddr) -> Result<String, String> {
    let mut stream = connect(address)?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").map_err(|error| error.to_string())?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(|error| format!("{error}, after {text:?}"))?;
    Ok(text)
}

/// Sends bytes and gets them back.
#[track_caller]
fn echo(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).expect("the connection is there");
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).unwrap_or_else(|error| panic!("{text:?} doesn't come back: {error}"));
    assert_eq!(back, text.as_bytes());
}

/// Answers a question for a name with an address, once for each that comes, until nobody asks any more.
fn answer_names(socket: &UdpSocket, address: Ipv4Addr) {
    let mut question = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut question) {
        let mut answer = question[..length].to_vec();
        // A response, one answer: the name is the one at byte 12, of type A, of the internet, for a minute.
        answer[2..4].copy_from_slice(&[0x81, 0x80]);
        let is_a = answer.ends_with(&[0, 1, 0, 1]);
        answer[6..12].copy_from_slice(&[0, u8::from(is_a), 0, 0, 0, 0]);
        if is_a {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            answer.extend(address.octets());
        }
        // Who asked may have given up.
        let _ = socket.send_to(&answer, from);
        if is_a {
            return;
        }
    }
}

/// Returns the name server that this machine asks, where it isn't one of its own.
fn name_server() -> Option<Ipv4Addr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").ok()?;
    let first = text.lines().find_map(|line| line.strip_prefix("nameserver "))?;
    first.trim().parse().ok().filter(|address: &Ipv4Addr| !address.is_loopback())
}

#[test]
fn a_guest_is_reached_by_a_port_of_its_host_and_reaches_others_also_while_the_agent_is_away() {
    // Where networks can't be made there is no outside either.
    let Some((mut site, oslo, world)) = with_an_outside() else { return };
    let file = site.project("web", WEB);
    site.host("bergen").ctl(&["build", "-f", &file]).done();
    site.host("oslo").ctl(&["start", "-p", "web"]).done();
    site.host("oslo").ctl(&["status", "-p", "web", "--wait", "up", "--timeout", "90"]).ended(0);

    // In: a web server in the guest, from outside.
    until("the web server answers", LIMIT, || {
        let page = site.host("world").inside(|| http_get((oslo, 8080).into()))?;
        if page.ends_with("hello from a guest\n") { Ok(()) } else { Err(page) }
    });

    // What the project says of it is told by every agent, and why a guest doesn't get out.
    for name in ["oslo", "bergen"] {
        until(&format!("{name} tells of ways out"), LIMIT, || {
            let rows = site.host(name).ctl(&["status", "-p", "web", "--json"]).json();
            let of = |vm: &str| rows.as_array().into_iter().flatten().find(|row| row["name"] == vm).cloned();
            let (server, lone) = (of("server").unwrap_or_default(), of("lone").unwrap_or_default());
            let ports = json!([
                { "host_port": 8080, "guest_port": 80, "protocol": "tcp" },
                { "host_port": 8007, "guest_port": 7, "protocol": "tcp" },
                { "host_port": 5300, "guest_port": 53, "protocol": "udp" },
            ]);
            let told = server["nat"] == "up"
                && server["forwards"] == ports
                && lone["nat"] == "none"
                && lone["nat_reason"] == "the host has no default route";
            if told { Ok(()) } else { Err(rows.to_string()) }
        });
        site.host(name).ctl(&["status", "-p", "web"]).ended(0).says("nat: none").says("forward 8080:80");
    }
    // Two interfaces with address translation have different subnets; one address is the file's.
    let addresses = site.host("oslo").shell("web/lone", "ip -4 -o addr").done();
    assert!(addresses.contains("10.0.2.15/24") && addresses.contains("10.9.0.1/24"), "{addresses}");

    // Out: by address.
    let listener = site.host("world").inside(|| TcpListener::bind((world, 0))).expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let listening = std::thread::spawn(move || {
        let (mut stream, from) = listener.accept().expect("somebody calls");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("text");
        (text, from.ip())
    });
    site.host("oslo").shell("web/server", &format!("echo from within | nc -w 20 {world} {port}")).done();
    assert_eq!(listening.join().expect("it listens"), ("from within\n".to_owned(), oslo));

    // Out: by name, which the host's own server is asked for.
    if let Some(server) = name_server() {
        site.host("world").ip(&["address", "add", &format!("{server}/32"), "dev", "eth0"]).done();
        let socket = site.host("world").inside(|| UdpSocket::bind((server, 53))).expect("the port is free");
        socket.set_read_timeout(Some(PACKET)).expect("is set");
        let answering = std::thread::spawn(move || answer_names(&socket, Ipv4Addr::new(192, 0, 2, 77)));
        let found =
            site.host("oslo").shell("web/server", "nslookup -type=a world.example 10.0.2.3").to_string();
        let asked = site.host("oslo").shell("web/server", "cat /etc/resolv.conf").done();
        answering.join().expect("it answers");
        assert!(found.contains("192.0.2.77"), "{found}");
        assert_eq!(asked, "nameserver 10.0.2.3\n");
    }

    // In, without a connection: the guest's kernel counts what came for nobody.
    until("a datagram comes in", LIMIT, || {
        site.host("world").inside(|| {
            let socket = UdpSocket::bind((world, 0)).map_err(|error| error.to_string())?;
            socket.send_to(b"a datagram", (oslo, 5300)).map_err(|error| error.to_string())
        })?;
        let counts = site.host("oslo").shell("web/server", "grep Udp: /proc/net/snmp").done();
        let line = counts.lines().nth(1).unwrap_or_default();
        let for_nobody = line.split_whitespace().nth(2).and_then(|word| word.parse::<u32>().ok());
        if for_nobody.is_some_and(|count| count > 0) { Ok(()) } else { Err(counts) }
    });

    // The agent is killed while a connection is open: it goes on, and new ones are taken.
    let mut stream = until_some("the echo is there", LIMIT, || {
        site.host("world").inside(|| connect((oslo, 8007))).map(Some)
    });
    echo(&mut stream, "before\n");
    site.host("oslo").kill();
    echo(&mut stream, "without an agent\n");
    let page = site.host("world").inside(|| http_get((oslo, 8080).into())).expect("a page");
    assert!(page.ends_with("hello from a guest\n"), "{page}");
    site.host("oslo").run();
    site.host("oslo").sees("web", "server", "up");
    echo(&mut stream, "with another agent\n");
    drop(stream);
    site.host("bergen").is_connected_to(1);
    site.host("bergen").sees("web", "server", "up");

    // Ports that are taken are refused, by whom they are taken.
    let other = |forward: &str| {
        format!(
            "global {{ project other }}\nhost mail {{ service_host oslo; network eth0 {{ forward {forward} }} }}\n"
        )
    };
    let taken = site.project("taken", &other("8080:25"));
    site.host("bergen").ctl(&["build", "-f", &taken]).ended(3).says("8080").says("web/server").says("mail");
    let _listener = site.host("oslo").inside(|| TcpListener::bind(("0.0.0.0", 2525))).expect("a free port");
    let taken = site.project("taken", &other("2525:25"));
    site.host("bergen").ctl(&["build", "-f", &taken]).ended(3).says("2525").says("another program");

    // With the guest its ports are free again, and nothing of it is left.
    site.host("bergen").ctl(&["stop", "-p", "web", "-w", "20"]).done();
    site.host("bergen").ctl(&["status", "-p", "web", "--wait", "down", "--timeout", "60"]).ended(0);
    until("the ports are free", LIMIT, || {
        let bound = site.host("oslo").inside(|| TcpListener::bind(("0.0.0.0", 8080)).map(drop));
        bound.map_err(|error| error.to_string())
    });
}

#[test]
fn a_guest_gets_a_way_out_when_its_host_gets_one() {
    let mut site = Site::mesh(&["oslo"]);
    site.add("world");
    let (Some(oslo), Some(world)) = (site.host("oslo").address(), site.host("world").address()) else {
        return;
    };
    let text = "global { project late }\nhost vm { network eth0 { forward 8022:22 } }\n";
    let file = site.project("late", text);
    site.host("oslo").ctl(&["build", "-f", &file]).done();
    site.host("oslo").ctl(&["start", "-p", "late"]).done();
    assert_eq!(site.host("oslo").sees("late", "vm", "up")["nat"], "none");
    site.host("oslo").ip(&["route", "add", "default", "via", &world.to_string()]).done();
    until("the way out is there", LIMIT, || {
        let row = site.host("oslo").sees("late", "vm", "up");
        if row["nat"] == "up" { Ok(()) } else { Err(row.to_string()) }
    });
    // passt runs a moment before it listens.
    until("the host listens", LIMIT, || {
        site.host("world").inside(|| connect((oslo, 8022))).map(drop).map_err(|error| error.to_string())
    });
}

/// A guest on a bridge of its host.
const BRIDGED: &str = "
global { project bridged }
host vm {
    network eth0 { bridge br9; address 10.50.0.2/24 }
}
";

#[test]
fn a_guest_on_a_bridge_is_a_neighbour_of_its_host_and_leaves_no_tap() {
    let mut site = Site::mesh(&["oslo"]);
    let file = site.project("bridged", BRIDGED);
    let host = site.host("oslo");
    host.ctl(&["build", "-f", &file]).ended(3).says("br9");
    // Ports are for one agent only: a bridge would be the machine's.
    if host.address().is_none() {
        return;
    }
    let make_bridge = |host: &mln_e2e::Host| {
        host.ip(&["link", "add", "br9", "type", "bridge"]).done();
        host.ip(&["address", "add", "10.50.0.1/24", "dev", "br9"]).done();
        host.ip(&["link", "set", "br9", "up"]).done();
    };
    make_bridge(host);
    host.ctl(&["build", "-f", &file]).done();
    let taps = |host: &mln_e2e::Host| host.ip(&["-o", "-d", "link", "show", "type", "tun"]).done();

    // The bridge is gone when the guest is to start: that leaves nothing on the host.
    host.ip(&["link", "delete", "br9"]).done();
    host.ctl(&["start", "-p", "bridged"]).ended(1).says("br9");
    assert_eq!(taps(host), "");
    make_bridge(host);

    host.ctl(&["start", "-p", "bridged"]).done();
    host.sees("bridged", "vm", "up");
    let echo = |host: &mln_e2e::Host, from: &str| {
        // Whoever is asked answers by itself, the host's kernel among them.
        host.shell("bridged/vm", &format!("ping -c 1 -W 5 {from}")).done();
    };
    echo(host, "10.50.0.1");
    assert_eq!(taps(host).lines().count(), 1, "{}", taps(host));

    // What a power cut leaves is made anew.
    host.cut_power();
    host.run();
    host.sees("bridged", "vm", "up");
    echo(host, "10.50.0.1");
    assert_eq!(taps(host).lines().count(), 1, "{}", taps(host));

    // The holder clears up also when no agent is there.
    host.shell("bridged/vm", "setsid sh -c 'sleep 2; poweroff -f' >/dev/null 2>&1 </dev/null &").done();
    host.kill();
    until("the tap is gone", LIMIT, || match taps(host) {
        none if none.is_empty() => Ok(()),
        some => Err(some),
    });
    host.run();
    host.ctl(&["remove", "-p", "bridged"]).done();
}
