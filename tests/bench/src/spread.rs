//! A template to many hosts at once, each behind a link of its own, against one host, one source, and `BitTorrent`.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use mln_e2e::{Site, until};

use crate::build::template;
use crate::figure::{Figure, Goal, Unit};
use crate::link::{self, Running, run};
use crate::process::processor_seconds;
use crate::statistics::Sample;
use crate::{Scale, seconds_since};

/// What cannot be packed in the template, in MiB.
const NOISE_MIB: u64 = 128;

/// Where that begins: behind the file system of the template that it is added to.
const NOISE_AT: u64 = 64 << 20;

/// How much longer many may take than one.
const TIMES_AT_MOST: f64 = 1.3;

/// How long the slowest way may take.
const LIMIT: Duration = Duration::from_secs(600);

/// The port of the tracker, and of the only source.
const PORT: &str = "6969";

/// How long templates take to be everywhere.
pub(crate) fn bench(scale: Scale) -> Vec<Figure> {
    let count = scale.spread.iter().copied().max().unwrap_or(1);
    let names: Vec<String> = (0..=count).map(|number| format!("host{number}")).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut site = Site::mesh_with(&all, "memory_mib = 1024\n");
    link::limit(&mut site, &names);

    let mut figures = Vec::new();
    let one = ours(&mut site, &names[..2], "single").seconds;
    for &hosts in scale.spread {
        let Round { seconds, processor, sent } = ours(&mut site, &names[..=hosts], &format!("many{hosts}"));
        let torrent = by_torrent(&mut site, &names[..=hosts]);
        let figure = |what: &str, unit, goal, ours: f64| {
            let what = format!("{what}, {NOISE_MIB} MiB to {hosts} hosts of {} Mbit/s", link::MEGABITS);
            Figure::alone("spread", &what, unit, Sample::single(ours), goal)
        };
        figures.push(
            figure("time", Unit::Seconds, Goal::TimesAtMost(TIMES_AT_MOST), seconds)
                .against("to one host", Sample::single(one)),
        );
        figures.push(
            figure("time", Unit::Seconds, Goal::Known, seconds)
                .against("aria2c and a tracker", Sample::single(torrent.0)),
        );
        figures.push(
            figure("processor", Unit::Seconds, Goal::Known, processor)
                .against("aria2c", Sample::single(torrent.1)),
        );
        figures.push(
            figure("sent by the source", Unit::Bytes, Goal::Known, sent)
                .against("the template", Sample::single((NOISE_MIB << 20) as f64)),
        );
    }
    if let Some(&hosts) = scale.spread.iter().min() {
        let Round { seconds, .. } = ours(&mut site, &names[..=hosts], "again");
        let what = format!("time, {NOISE_MIB} MiB to {hosts} hosts of {} Mbit/s", link::MEGABITS);
        let theirs = from_one_source(&mut site, &names[..=hosts]);
        figures.push(
            Figure::alone("spread", &what, Unit::Seconds, Sample::single(seconds), Goal::Known)
                .against("all from one source", Sample::single(theirs)),
        );
    }
    figures
}

/// What it took to spread a template.
#[derive(Debug, Clone, Copy)]
struct Round {
    /// The seconds until the last had it.
    seconds: f64,
    /// What the agents used of processors meanwhile, in seconds.
    processor: f64,
    /// The bytes that left the only host that had it, frames' heads and all else that it said included.
    sent: f64,
}

/// Has all hosts but the first fetch a new template from the first and from each other.
fn ours(site: &mut Site, names: &[String], name: &str) -> Round {
    let image = noise(site, &names[0], name);
    let path = image.to_str().expect("the site's folder is made of ASCII");
    site.host(&names[0]).ctl(&["template", "add", name, "-f", path]).done();
    let agents: Vec<u32> = names.iter().map(|name| site.host(name).agent_process()).collect();
    let used = || agents.iter().filter_map(|pid| processor_seconds(*pid)).sum::<f64>();
    let (before, sent, began) = (used(), link::sent(site.host(&names[0])), Instant::now());
    let pulls: Vec<_> =
        names[1..].iter().map(|host| site.host(host).ctl_begin(&["template", "pull", name])).collect();
    for mut pull in pulls {
        let status = pull.wait().expect("it is ours");
        assert!(status.success(), "a host could not fetch {name}: {status}");
    }
    let seconds = seconds_since(began);
    let taken =
        Round { seconds, processor: used() - before, sent: (link::sent(site.host(&names[0])) - sent) as f64 };
    // The next one is another; room is not what is measured.
    for host in names {
        site.host(host).ctl(&["template", "rm", name]).done();
        site.host(host).ctl(&["gc"]).done();
    }
    fs::remove_file(image).expect("the site's folder is ours");
    taken
}

/// Makes an image whose bytes nobody has and nothing can pack, behind the file system of the host's template.
fn noise(site: &mut Site, host: &str, name: &str) -> PathBuf {
    let path = site.folder().join(format!("{name}.img"));
    run(Command::new("cp").arg("--sparse=always").arg(template(site.host(host))).arg(&path));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("the copy is ours");
    let file = File::options().write(true).open(&path).expect("the copy is ours");
    let random = File::open("/dev/urandom").expect("every machine has it");
    let mut block = vec![0; 1 << 20];
    for number in 0..NOISE_MIB {
        std::io::Read::read_exact(&mut &random, &mut block).expect("it never ends");
        file.write_all_at(&block, NOISE_AT + (number << 20)).expect("there is room");
    }
    path
}

/// Writes the same amount of noise into a file of its own, for programs that know no holes.
fn noise_file(folder: &Path) -> PathBuf {
    let path = folder.join("noise");
    run(Command::new("dd").arg("if=/dev/urandom").arg(format!("of={}", path.display())).args([
        "bs=1M",
        &format!("count={NOISE_MIB}"),
        "status=none",
    ]));
    path
}

/// Returns how long `aria2c` takes until the last host has a file, and what it uses of processors, in seconds.
fn by_torrent(site: &mut Site, names: &[String]) -> (f64, f64) {
    let folder = site.folder().join("torrent");
    fs::create_dir(&folder).expect("the site's folder is ours");
    let file = noise_file(&folder);
    let torrent = folder.join("noise.torrent");
    let source = site.host(&names[0]).address().expect("hosts have networks of their own").to_string();
    run(Command::new("mktorrent")
        .args(["-a", &format!("http://{source}:{PORT}/announce"), "-l", "18", "-o"])
        .args([&torrent, &file]));
    let shown = run(Command::new("aria2c").arg("-S").arg(&torrent));
    let hash = shown.lines().find_map(|line| line.strip_prefix("Info Hash: ")).expect("a torrent has one");
    let allowed = folder.join("allowed");
    fs::write(&allowed, format!("{hash}\n")).expect("the folder is ours");
    // By then it is nobody.
    for (path, mode) in [(&folder, 0o755), (&allowed, 0o644)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
    }
    let mut tracker = Command::new("opentracker");
    // It locks itself in the folder before it looks at its list.
    tracker.args(["-i", &source, "-p", PORT, "-P", PORT, "-w", "allowed", "-d"]).arg(&folder);
    tracker.current_dir(&folder);
    let _tracker = link::start_in(site.host(&names[0]), &mut tracker);

    let mut peers: Vec<Running> = Vec::new();
    let mut began = Instant::now();
    let done = |host: &str| folder.join(format!("{host}.done"));
    for (number, host) in names.iter().enumerate() {
        let own = if number == 0 { folder.clone() } else { folder.join(host) };
        let hook = folder.join(format!("{host}.sh"));
        fs::create_dir_all(&own).expect("the folder is ours");
        fs::write(&hook, format!("#!/bin/sh\ntouch {}\n", done(host).display())).expect("the folder is ours");
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("it is ours");
        let mut aria = Command::new("aria2c");
        aria.args(["--seed-ratio=0.0", "--enable-dht=false", "--bt-enable-lpd=false", "--quiet=true"])
            .args(["--file-allocation=none", "--bt-max-peers=0", "--bt-request-peer-speed-limit=0"])
            .args(["--check-integrity=true", "--bt-tracker-interval=1", "--no-conf=true"])
            .arg(format!("--on-bt-download-complete={}", hook.display()))
            .arg(format!("--dir={}", own.display()))
            .arg(&torrent);
        peers.push(link::start_in(site.host(host), &mut aria));
        if number == 0 {
            // Nobody waits for the source's own look at what it has.
            until("the source has looked at its file", LIMIT, || announced(&done(host)));
            began = Instant::now();
        }
    }
    until("all have the file", LIMIT, || {
        names.iter().map(|host| announced(&done(host))).collect::<Result<Vec<()>, String>>().map(drop)
    });
    let seconds = seconds_since(began);
    let processor = peers.iter().filter_map(|peer| processor_seconds(peer.process())).sum();
    drop(peers);
    fs::remove_dir_all(&folder).expect("the folder is ours");
    (seconds, processor)
}

fn announced(path: &Path) -> Result<(), String> {
    if path.exists() { Ok(()) } else { Err(format!("{} is not there", path.display())) }
}

/// Returns how long it takes until all have a file that each fetches from the first, in seconds.
fn from_one_source(site: &mut Site, names: &[String]) -> f64 {
    let folder = site.folder().join("source");
    fs::create_dir(&folder).expect("the site's folder is ours");
    let file = noise_file(&folder);
    let address = site.host(&names[0]).address().expect("hosts have networks of their own");
    let mut server = Command::new("python3");
    server.args(["-m", "http.server", "--bind", &address.to_string(), PORT, "--directory"]).arg(&folder);
    let _server = link::start_in(site.host(&names[0]), &mut server);
    until("the source listens", LIMIT, || {
        let asked = site.host(&names[0]).inside(|| std::net::TcpStream::connect((address, 6969)));
        asked.map(drop).map_err(|error| error.to_string())
    });
    let url = format!("http://{address}:{PORT}/noise");
    let began = Instant::now();
    let mut fetches = Vec::new();
    for host in &names[1..] {
        let mut fetch = Command::new("aria2c");
        fetch.args(["--quiet=true", "--no-conf=true", "--file-allocation=none", "--dir"]);
        fetch.arg(folder.join(host)).arg(&url);
        fetches.push(site.host(host).inside(|| fetch.spawn()).expect("aria2 is installed"));
    }
    for mut fetch in fetches {
        let status = fetch.wait().expect("it is ours");
        assert!(status.success(), "aria2c: {status}");
    }
    let seconds = seconds_since(began);
    let size = |host: &String| folder.join(host).join("noise").metadata().map_or(0, |file| file.len());
    let whole = file.metadata().expect("it is there").len();
    assert!(names[1..].iter().all(|host| size(host) == whole), "all have all of it");
    fs::remove_dir_all(&folder).expect("the folder is ours");
    seconds
}
