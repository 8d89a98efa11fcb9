//! The example of a web service whose load balancer decides how many servers there are: more connections than one server can
//! do, then few. Who asks is here, outside of the hosts, and comes in by the port of the balancer's host.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, UNIX_EPOCH};

use mln_e2e::{Host, Site, until};

use crate::LIMIT;

/// How long a client waits for its page, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(20);
/// What a page has, in bytes.
const PAGE_BYTES: usize = 4096;
/// The port of the balancer's host.
const PORT: u16 = 8080;
/// What is said of the example: a window of six seconds, and servers that do four pages a second.
const VARIABLES: [&str; 5] = ["every=1s", "window=6s", "grace=2s", "quota=1.7", "rate=4"];
/// Connections a second: what one server can do with room to spare, and what takes four; a thousand times as many.
const LOW_MILLI: u64 = 700;
const HIGH_MILLI: u64 = 6_500;
/// By how much the load rises in a second, a thousand times as many.
const RISE_MILLI: u64 = 800;
/// How many answers of each server are looked at, to know who answers.
const LAST: usize = 5;
/// How long nothing changes, and nothing may be lost.
const STEADY: Duration = Duration::from_secs(5);

/// Somebody who asks so many times a second, whatever comes of it; each time is a connection of its own.
struct Load {
    state: Arc<State>,
    asking: Option<JoinHandle<()>>,
}

struct State {
    /// To how many connections a second it rises, a thousand times as many; none ends it.
    wanted_milli: AtomicU64,
    /// In the order in which they were begun.
    asked: Mutex<Vec<Asked>>,
}

/// A connection.
#[derive(Debug, Clone)]
struct Asked {
    begun: Instant,
    /// What has come of it; none as long as it is open.
    over: Option<Over>,
}

/// What has come of a connection.
#[derive(Debug, Clone)]
struct Over {
    unix_ms: u64,
    /// Which server has made the page, or why there is none.
    answer: Result<String, String>,
}

impl Asked {
    /// Returns the server that has answered.
    fn server(&self) -> Option<&str> {
        self.over.as_ref()?.answer.as_deref().ok()
    }

    /// Whether there was no page for it.
    fn is_lost(&self) -> bool {
        self.over.as_ref().is_some_and(|over| over.answer.is_err())
    }
}

impl Load {
    /// Begins to ask. Its threads are in the network of the one that begins.
    fn begin(address: SocketAddr, rate_milli: u64) -> Self {
        let wanted_milli = AtomicU64::new(rate_milli);
        let state = Arc::new(State { wanted_milli, asked: Mutex::new(Vec::new()) });
        let own = Arc::clone(&state);
        let asking = std::thread::spawn(move || own.ask_until_told(address, rate_milli));
        Self { state, asking: Some(asking) }
    }

    /// Lets it rise so far, or fall at once.
    fn set(&self, rate_milli: u64) {
        self.state.wanted_milli.store(rate_milli, Ordering::Relaxed);
    }

    fn asked(&self) -> Vec<Asked> {
        self.state.asked().clone()
    }

    /// Lets time go by in which all that is asked has to be answered.
    #[track_caller]
    fn is_steady(&self, how: &str) {
        let begun = Instant::now();
        let within = begun..begun + STEADY;
        until(&format!("all is over that is asked {how}"), STEADY + LIMIT, || {
            let asked = self.asked();
            let open = asked.iter().filter(|one| one.begun < within.end && one.over.is_none()).count();
            let is_over = Instant::now() >= within.end && open == 0;
            if is_over { Ok(()) } else { Err(format!("{open} of {} are open", asked.len())) }
        });
        let asked: Vec<Asked> = self.asked().into_iter().filter(|one| within.contains(&one.begun)).collect();
        let lost: Vec<&Asked> = asked.iter().filter(|one| one.is_lost()).collect();
        assert!(!asked.is_empty() && lost.is_empty(), "{how}, of {}: {lost:#?}", asked.len());
    }

    /// Waits until all of these answer, and nobody else any more.
    #[track_caller]
    fn is_answered_by(&self, names: &[&str]) {
        until(&format!("it is answered by {names:?}"), LIMIT * 3, || {
            let asked = self.asked();
            let last = asked.iter().rev().filter_map(Asked::server).take(LAST * names.len());
            let last: BTreeSet<&str> = last.collect();
            if last == names.iter().copied().collect() { Ok(()) } else { Err(format!("{last:?}")) }
        });
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.set(0);
        if let Some(asking) = self.asking.take() {
            // Where it has panicked, so has whoever looks at what it has found.
            let _ = asking.join();
        }
    }
}

impl State {
    fn asked(&self) -> MutexGuard<'_, Vec<Asked>> {
        self.asked.lock().expect("nobody panics who has it")
    }

    fn ask_until_told(self: Arc<Self>, address: SocketAddr, mut rate_milli: u64) {
        let mut clients: Vec<JoinHandle<()>> = Vec::new();
        let mut due = Instant::now();
        loop {
            let wanted_milli = self.wanted_milli.load(Ordering::Relaxed);
            if wanted_milli == 0 {
                break;
            }
            rate_milli = wanted_milli.min(rate_milli + RISE_MILLI * 1000 / rate_milli);
            due += Duration::from_micros(1_000_000_000 / rate_milli);
            while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                std::thread::park_timeout(left);
            }
            clients.retain(|client| !client.is_finished());
            let state = Arc::clone(&self);
            clients.push(std::thread::spawn(move || state.ask(address)));
        }
        for client in clients {
            client.join().expect("a client doesn't panic");
        }
    }

    fn ask(&self, address: SocketAddr) {
        let number = {
            let mut asked = self.asked();
            asked.push(Asked { begun: Instant::now(), over: None });
            asked.len() - 1
        };
        let answer = page(address).and_then(|text| server_of(&text).map(str::to_owned));
        let unix_ms = UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64);
        self.asked()[number].over = Some(Over { unix_ms, answer });
    }
}

/// Asks for the page, and returns what comes within a client's patience.
fn page(address: SocketAddr) -> Result<String, String> {
    let until = Instant::now() + PATIENCE;
    let failed = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(failed)?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").map_err(failed)?;
    let mut bytes = Vec::new();
    let mut some = [0; PAGE_BYTES];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("not within {PATIENCE:?}, after {} bytes", bytes.len()));
        }
        stream.set_read_timeout(Some(left)).map_err(failed)?;
        match stream.read(&mut some).map_err(failed)? {
            0 => return String::from_utf8(bytes).map_err(|error| error.to_string()),
            count => bytes.extend(&some[..count]),
        }
    }
}

/// Returns the server that has made a page; an error where it isn't a whole one.
fn server_of(text: &str) -> Result<&str, String> {
    let wrong = || format!("no page: {text:?}");
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(wrong)?;
    let (first, page) = body.split_once('\n').ok_or_else(wrong)?;
    let server = first.strip_prefix("served by ").ok_or_else(wrong)?;
    let is_whole = head.contains(" 200 ") && page.len() == PAGE_BYTES && page.lines().is_sorted();
    if is_whole { Ok(server) } else { Err(wrong()) }
}

/// Returns the project's machines, by name.
fn machines(host: &Host) -> Vec<String> {
    let rows = host.ctl(&["status", "-p", "web", "--json"]).json();
    let names = rows.as_array().into_iter().flatten().filter_map(|row| row["name"].as_str());
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort();
    names
}

/// How many servers there are from a moment on.
#[derive(Debug)]
struct Decision {
    unix_ms: u64,
    servers: u64,
    reason: String,
}

/// Returns what the balancer has decided, the oldest first.
fn decisions(host: &Host) -> Vec<Decision> {
    let rows = host.ctl(&["log", "-p", "web", "--json"]).json();
    let decided = rows.as_array().into_iter().flatten().filter_map(|row| {
        row["author"].as_str().filter(|author| author.starts_with("balancer of "))?;
        let (unix_ms, vms) = (row["made_unix_ms"].as_u64()?, row["vms"].as_u64()?);
        // The balancer is none of its servers.
        Some(Decision { unix_ms, servers: vms - 1, reason: row["reason"].as_str()?.to_owned() })
    });
    let mut decided: Vec<Decision> = decided.collect();
    decided.sort_by_key(|decision| decision.unix_ms);
    decided
}

/// Says what was decided when, and how long it took until each new server had answered somebody.
fn tell(decided: &[Decision], asked: &[Asked]) {
    let lost = asked.iter().filter(|one| one.is_lost()).count();
    let mut text = format!("{} asked, {lost} lost\n", asked.len());
    let (mut before, first_ms) = (1, decided.first().map_or(0, |decision| decision.unix_ms));
    for Decision { unix_ms, servers, reason } in decided {
        let new = (before + 1..=*servers).map(|number| {
            let name = format!("web{number}");
            let answers = asked.iter().filter(|one| one.server() == Some(&name));
            let times = answers.filter_map(|one| one.over.as_ref()?.unix_ms.checked_sub(*unix_ms));
            let after = times.min().map_or("never".to_owned(), |ms| format!("{:.1} s", ms as f64 / 1000.0));
            format!("; {name} answers after {after}")
        });
        let new: String = new.collect();
        let at_s = (unix_ms - first_ms) as f64 / 1000.0;
        text += &format!("{at_s:5.1} s: {before} to {servers}{new} ({reason})\n");
        before = *servers;
    }
    // Where the test's output can't be written, nobody misses this.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[test]
fn a_balancer_adds_servers_as_its_load_needs_and_removes_them_without_losing_a_connection() {
    let mut site = Site::mesh(&["oslo"]);
    site.add("world");
    // Where networks can't be made there is no outside either.
    let (Some(oslo), Some(world)) = (site.host("oslo").address(), site.host("world").address()) else {
        return;
    };
    site.host("oslo").ip(&["route", "add", "default", "via", &world.to_string()]).done();
    let file = Site::repository("examples/web-scaling/web.mln");
    let build: Vec<&str> = ["build", "-f", &file]
        .into_iter()
        .chain(VARIABLES.into_iter().flat_map(|one| ["--var", one]))
        .collect();
    site.host("oslo").ctl(&build).done();
    site.host("oslo").ctl(&["start", "-p", "web"]).done();
    let address = SocketAddr::from((oslo, PORT));
    until("there is a page", LIMIT * 2, || {
        let text = site.host("world").inside(|| page(address))?;
        server_of(&text).map(drop)
    });

    // One server has what it can do; then there is more than that, and it isn't known beforehand how much more.
    let load = site.host("world").inside(|| Load::begin(address, LOW_MILLI));
    load.is_steady("of one server");
    load.set(HIGH_MILLI);
    let four = ["web1", "web2", "web3", "web4"];
    load.is_answered_by(&four);
    let from_here = load.asked().len();
    load.is_steady("of four servers");

    // Few again: all but one go.
    load.set(LOW_MILLI);
    load.is_answered_by(&four[..1]);
    until("the others are gone", LIMIT * 2, || {
        let found = machines(site.host("oslo"));
        if found == ["balancer", "web1"] { Ok(()) } else { Err(format!("{found:?}")) }
    });
    load.is_steady("of one server again");

    let asked = load.asked();
    let decided = decisions(site.host("oslo"));
    tell(&decided, &asked);
    // Also while servers went, whoever asked was answered.
    let lost: Vec<&Asked> = asked[from_here..].iter().filter(|one| one.is_lost()).collect();
    assert!(lost.is_empty(), "of {}: {lost:#?}", asked.len() - from_here);
    let is_by_load = |decision: &Decision| {
        (1..=4).contains(&decision.servers) && decision.reason.starts_with("policy grow: connections ")
    };
    assert!(decided.iter().all(is_by_load), "{decided:#?}");
    let counts: Vec<u64> = decided.iter().map(|decision| decision.servers).collect();
    let most = counts.iter().position(|count| *count == 4);
    assert!(most.is_some_and(|most| counts[most..].contains(&1)), "{counts:?}");
}
