//! The simulator's model of gossip beside libp2p itself: thirty processes with the agent's settings, on links of one
//! delay. No agents and no guests take part.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use mln_e2e::{program, until};

use crate::LIMIT;

/// How many peers there are, and how many others each of them dials.
const PEERS: usize = 30;
const DIALLED: usize = 4;

/// How long a link takes, one way: long beside what a busy machine adds to it.
const DELAY_MS: u64 = 200;

/// How many messages are measured; some more come after them, so that all copies of these have arrived.
const MESSAGES: u64 = 40;
const MESSAGES_AFTER: u64 = 12;

/// With how many peers a message must be before the next one is sent.
const AHEAD: usize = PEERS / 2;

/// How many messages the model follows.
const MODEL_MESSAGES: &str = "200";

/// How far libp2p and the model may be apart.
const APART_MAX: f64 = 0.25;

/// A process that gossips.
struct Peer {
    child: Child,
    orders: ChildStdin,
}

impl Peer {
    /// Starts a peer; what it says comes with its number.
    fn start(number: usize, said: std::sync::mpsc::Sender<(usize, String)>) -> Self {
        let mut command = Command::new(program("gossip-peer"));
        command.arg(DELAY_MS.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("`make binaries` builds it");
        let orders = child.stdin.take().expect("it was asked for");
        let lines = BufReader::new(child.stdout.take().expect("it was asked for")).lines();
        std::thread::spawn(move || {
            // Until the peer ends, or the story does.
            for line in lines.map_while(Result::ok) {
                if said.send((number, line)).is_err() {
                    break;
                }
            }
        });
        Self { child, orders }
    }

    fn order(&mut self, order: &str) {
        writeln!(self.orders, "{order}").expect("the peer runs");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the peers have said so far.
struct Heard {
    said: Receiver<(usize, String)>,
    addresses: BTreeMap<usize, String>,
    subscribed: Vec<usize>,
    mesh: BTreeMap<usize, usize>,
    /// By message: when it was published, and when each copy of it arrived where, in nanoseconds.
    published: BTreeMap<u64, u64>,
    copies: BTreeMap<u64, Vec<(usize, u64)>>,
}

impl Heard {
    fn listen(&mut self) {
        while let Ok((peer, line)) = self.said.try_recv() {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |index: usize| words[index].parse::<u64>().expect("the peer writes numbers");
            match words[0] {
                "listening" => _ = self.addresses.insert(peer, words[1].to_owned()),
                "subscribed" => self.subscribed[peer] += 1,
                "mesh" => _ = self.mesh.insert(peer, number(1) as usize),
                "published" => _ = self.published.insert(number(1), number(2)),
                "copy" => self.copies.entry(number(1)).or_default().push((peer, number(2))),
                other => panic!("peer {peer} says {other:?}"),
            }
        }
    }

    /// Returns when a message arrived first at each peer that it arrived at.
    fn arrivals(&self, message: u64) -> BTreeMap<usize, u64> {
        let mut first = BTreeMap::new();
        for &(peer, at) in self.copies.get(&message).into_iter().flatten() {
            let earliest = first.entry(peer).or_insert(at);
            *earliest = at.min(*earliest);
        }
        first
    }
}

/// Draws numbers, the same in every run (Knuth's MMIX).
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

#[test]
fn the_model_of_gossip_is_as_fast_and_as_wordy_as_libp2p() {
    let (tell, said) = channel();
    let mut peers: Vec<Peer> = (0..PEERS).map(|number| Peer::start(number, tell.clone())).collect();
    let mut heard = Heard {
        said,
        addresses: BTreeMap::new(),
        subscribed: vec![0; PEERS],
        mesh: BTreeMap::new(),
        published: BTreeMap::new(),
        copies: BTreeMap::new(),
    };
    until("all peers listen", LIMIT, || {
        heard.listen();
        if heard.addresses.len() == PEERS { Ok(()) } else { Err(format!("{:?}", heard.addresses)) }
    });

    // A ring, and links by lot: as in the model.
    let mut draw = Draw(7);
    let mut links = BTreeSet::new();
    let mut degree = vec![0; PEERS];
    for peer in 0..PEERS {
        let others = (1..DIALLED).map(|_| draw.below(PEERS)).collect::<Vec<_>>();
        for other in [(peer + 1) % PEERS].into_iter().chain(others) {
            if other != peer && links.insert((peer.min(other), peer.max(other))) {
                peers[peer].order(&format!("dial {}", heard.addresses[&other]));
                degree[peer] += 1;
                degree[other] += 1;
            }
        }
    }
    until("all listen to their neighbours' gossip", LIMIT, || {
        heard.listen();
        if heard.subscribed == degree { Ok(()) } else { Err(format!("{:?} of {degree:?}", heard.subscribed)) }
    });
    until("gossip has chosen whom to push to", LIMIT, || {
        for peer in &mut peers {
            peer.order("mesh");
        }
        heard.listen();
        let has_enough = |peer: usize| heard.mesh.get(&peer).is_some_and(|mesh| *mesh >= degree[peer].min(5));
        if (0..PEERS).all(has_enough) { Ok(()) } else { Err(format!("{:?} of {degree:?}", heard.mesh)) }
    });
    let pushed = heard.mesh.values().sum::<usize>() as f64 / PEERS as f64;

    for message in 0..MESSAGES + MESSAGES_AFTER {
        peers[draw.below(PEERS)].order(&format!("publish {message}"));
        until("the message is under way", LIMIT, || {
            heard.listen();
            let arrived = heard.arrivals(message).len();
            if arrived >= AHEAD { Ok(()) } else { Err(format!("{arrived} have message {message}")) }
        });
    }
    until("all have all messages", LIMIT, || {
        heard.listen();
        let arrived: Vec<usize> = (0..MESSAGES).map(|message| heard.arrivals(message).len()).collect();
        // A copy comes back to whoever published it now and then.
        if arrived.iter().all(|count| *count >= PEERS - 1) { Ok(()) } else { Err(format!("{arrived:?}")) }
    });

    let mut delays = Vec::new();
    for message in 0..MESSAGES {
        let mut arrivals: Vec<u64> = heard.arrivals(message).into_values().collect();
        arrivals.sort_unstable();
        arrivals.truncate(PEERS - 1);
        let published = heard.published[&message];
        delays.extend(arrivals.iter().map(|at| Duration::from_nanos(at - published).as_secs_f64() * 1000.0));
    }
    delays.sort_by(f64::total_cmp);
    let copies: usize = (0..MESSAGES).map(|message| heard.copies[&message].len()).sum();
    let copies = copies as f64 / delays.len() as f64;
    let mean = delays.iter().sum::<f64>() / delays.len() as f64;
    let ninety = delays[delays.len() * 90 / 100];

    let model = model();
    let apart = |real: f64, of: &str| real / model[of] - 1.0;
    let of_model = model["pushed"];
    let mut said = std::io::stderr();
    let _ = writeln!(
        said,
        "{PEERS} peers, links of {DELAY_MS} ms, pushed over {pushed:.2} (model {of_model:.2})"
    );
    for (name, real, of) in [
        ("mean", mean, "mean_ms"),
        ("ninety of a hundred", ninety, "ninety_ms"),
        ("copies", copies, "copies"),
    ] {
        let percent = 100.0 * apart(real, of);
        let _ = writeln!(said, "{name}: libp2p {real:.2}, model {:.2}, {percent:+.0} %", model[of]);
    }
    for (real, of) in [(mean, "mean_ms"), (copies, "copies")] {
        assert!(apart(real, of).abs() <= APART_MAX, "{of}: libp2p {real:.2}, model {:.2}", model[of]);
    }
}

/// Returns the figures of the model, by name.
fn model() -> BTreeMap<String, f64> {
    let mut command = Command::new(program("netsim"));
    command.args(["gossip", "--messages", MODEL_MESSAGES]);
    command.args(["--nodes", &PEERS.to_string(), "--dialled", &DIALLED.to_string()]);
    command.args(["--delay-ms", &DELAY_MS.to_string()]);
    let output = command.output().expect("`make binaries` builds it");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    let figure = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let value = words.iter().skip(1).find_map(|word| word.parse().ok())?;
        Some((words[0].to_owned(), value))
    };
    text.lines().filter_map(figure).collect()
}
