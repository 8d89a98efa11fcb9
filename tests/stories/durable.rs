//! An agent ends in the middle of writing, its disk is full, its index or a journal is spoilt: nothing of what it said
//! is forgotten, and no VM is lost or runs twice.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use mln_e2e::{Host, Site, until};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::{LIMIT, SINGLE};

/// The places of the store at which `mlnd-failpoints` can end itself, as in the agent's `store/failpoint.rs`.
const PLACES: [&str; 12] = [
    "journal-made",
    "journal-named",
    "entry-torn",
    "entry-written",
    "entry-durable",
    "compact-written",
    "compact-durable",
    "compact-renamed",
    "contents-written",
    "contents-named",
    "index-applied",
    "index-flushed",
];

/// How often an agent is ended here, where nobody says otherwise: at each place once, and a few times from outside.
const ROUNDS: usize = 16;

/// Two VMs on the host that is asked.
fn two(name: &str) -> String {
    format!("global {{ project {name} }}\nhost left {{ memory 40M }}\nhost right {{ memory 40M }}\n")
}

/// Draws numbers from a seed: splitmix64.
struct Lot(u64);

impl Lot {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// Each round an agent ends while projects are built, started and removed: at a place in its code, or killed when it has
/// written so much. `make torture` does it two hundred times.
#[test]
fn an_agent_that_ends_anywhere_while_it_writes_loses_no_vm_and_runs_none_twice() {
    let rounds = std::env::var("MLN_TORTURE").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let mut site = Site::mesh_of(&["oslo"], "mlnd-failpoints");
    let file = site.project("single", SINGLE);
    site.host("oslo").ctl(&["build", "-f", &file]).done();
    site.host("oslo").ctl(&["start", "-p", "single"]).done();
    site.host("oslo").sees("single", "vm", "up");
    let boot = site.host("oslo").boot_id("single/vm");
    let (mut lot, mut ended, mut in_work) = (Lot(1), 0, 0);
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for round in 0..rounds {
        let name = format!("p{round}");
        let file = site.project(&name, &two(&name));
        let host = site.host("oslo");
        // Every fourth is killed from outside.
        let place = (round % 4 != 3).then(|| {
            let places = PLACES.len();
            let place = PLACES[(round - round / 4) % places];
            let often = if place.starts_with("entry") || place.starts_with("index") { 8 } else { 1 };
            (place, 1 + lot.below(often))
        });
        if place.is_some() {
            host.kill();
            host.abort_at(place);
            if !host.try_run() {
                ended += 1;
                *places.entry(place.map_or("", |(name, _)| name)).or_default() += 1;
                host.abort_at(None);
                host.run();
            }
        }
        let work = Work { name: &name, file: &file, starts: round % 5 == 4, kill_after: lot.below(3000) };
        let told = work.carry_out(host, place.is_some());
        if host.is_running() {
            // It would end while it is judged.
            host.kill();
        } else {
            ended += 1;
            in_work += 1;
            *places.entry(place.map_or("killed", |(name, _)| name)).or_default() += 1;
            host.reap();
        }
        host.abort_at(None);
        host.run();
        let what = format!("round {round}, {place:?}");
        judge(host, &work, &told, &what);
        assert_eq!(host.boot_id("single/vm"), boot, "{what}");
        clear_away(host, &name, &what);
    }
    assert!(ended * 3 > rounds && in_work > 0, "only {ended} of {rounds} ended, {in_work} of them at work");
    if rounds >= 100 {
        assert!(PLACES.iter().all(|place| places.contains_key(place)), "not at every place: {places:?}");
    }
    // Where nobody can read it, nobody misses it.
    let _ = std::io::Write::write_fmt(
        &mut std::io::stderr(),
        format_args!("{rounds} rounds, {ended} agents ended, {in_work} of them at work: {places:?}\n"),
    );
}

/// What is asked of an agent in a round.
struct Work<'a> {
    name: &'a str,
    file: &'a str,
    starts: bool,
    /// An agent that doesn't end itself is killed when it has written so many bytes more.
    kill_after: u64,
}

/// What an agent said before it ended.
#[derive(Debug, Default)]
struct Told {
    built: bool,
    started: bool,
    removal: bool,
    removed: bool,
}

impl Work<'_> {
    fn carry_out(&self, host: &mut Host, ends_itself: bool) -> Told {
        let mut told = Told::default();
        let before = written(host.folder());
        let ask = |host: &mut Host, arguments: &[&str]| {
            let mut asked = host.ctl_begin(arguments);
            let mut code = None;
            until("the agent has done it, or has ended", LIMIT, || {
                if !ends_itself && written(host.folder()) > before + self.kill_after && host.is_running() {
                    host.kill();
                }
                code = asked.try_wait().expect("it is ours");
                if code.is_some() { Ok(()) } else { Err(format!("{arguments:?}")) }
            });
            code.is_some_and(|code| code.success())
        };
        told.built = ask(host, &["build", "-f", self.file]);
        if told.built && self.starts {
            told.started = ask(host, &["start", "-p", self.name]);
        }
        if told.built && !self.starts {
            told.removal = true;
            told.removed = ask(host, &["remove", "-p", self.name]);
        }
        told
    }
}

/// Returns how long all journals are together.
fn written(data: &Path) -> u64 {
    let folders = fs::read_dir(data.join("projects")).into_iter().flatten().flatten();
    let paths = folders.map(|entry| entry.path().join("journal")).chain([data.join("journal")]);
    paths.filter_map(|path| Some(fs::metadata(path).ok()?.len())).sum()
}

fn states(host: &Host, project: &str) -> Vec<String> {
    let rows = host.ctl(&["status", "--json"]).json();
    let of_project = rows.as_array().into_iter().flatten().filter(|row| row["project"] == project);
    of_project.map(|row| row["state"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Waits until the host is where it must be after what it had said.
fn judge(host: &mut Host, work: &Work<'_>, told: &Told, what: &str) {
    let state = host.ctl(&["doctor", "--json"]).json();
    let rows = state.as_array().cloned().unwrap_or_default();
    let row = rows.iter().find(|row| row["name"] == "state").expect("doctor looks at the state");
    assert_ne!(row["verdict"], "fail", "{what}: {row}");
    until(&format!("{} is as it was said: {told:?}, {what}", work.name), LIMIT, || {
        let seen = states(host, work.name);
        let whole = |state: &str| seen.len() == 2 && seen.iter().all(|seen| seen == state);
        let is_right = if told.removed {
            seen.is_empty()
        } else if told.started {
            whole("up")
        } else if told.removal {
            seen.is_empty() || whole("down")
        } else if told.built {
            // Perhaps both were being started, or one of them.
            seen.len() == 2 && seen.iter().all(|seen| ["up", "down"].contains(&seen.as_str()))
        } else {
            // It was asked, and nobody was told how it ended.
            seen.is_empty() || whole("down")
        };
        if is_right { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    until(&format!("what runs is what is up, {what}"), LIMIT, || {
        let mut running = kernels(host);
        running.sort();
        let folders = running.windows(2).filter(|two| two[0] == two[1]).count();
        assert_eq!(folders, 0, "{what}: a VM runs twice: {running:?}");
        // It may be about to start what was asked for.
        let up = states(host, work.name).iter().filter(|state| *state == "up").count();
        if running.len() == up + 1 { Ok(()) } else { Err(format!("{up} are up, and {running:?} run")) }
    });
}

/// Returns the folders in which kernels run: each leads its group, and its helpers don't.
fn kernels(host: &Host) -> Vec<PathBuf> {
    let is_kernel = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let group = rustix::process::Pid::from_raw(i32::try_from(*pid).unwrap_or(0))
            .and_then(|pid| rustix::process::getpgid(Some(pid)).ok());
        line.split(|byte| *byte == 0).any(|word| word.starts_with(b"umid="))
            && group.is_some_and(|group| group.as_raw_nonzero().get().cast_unsigned() == *pid)
    };
    let pids = host.vm_processes();
    let folders = pids.iter().filter(|pid| is_kernel(pid));
    folders.filter_map(|pid| fs::read_link(format!("/proc/{pid}/cwd")).ok()).collect()
}

fn clear_away(host: &mut Host, project: &str, what: &str) {
    until(&format!("{project} is gone, {what}"), LIMIT, || {
        let seen = states(host, project);
        if seen.is_empty() {
            return Ok(());
        }
        let answer = host.ctl(&["remove", "-p", project, "--force"]);
        Err(format!("{seen:?} {answer}"))
    });
}

#[test]
fn a_lost_index_is_made_anew_and_a_damaged_journal_stops_its_project_alone() {
    let mut site = Site::mesh(&["oslo"]);
    for name in ["first", "second"] {
        let file = site.project(name, &two(name));
        site.host("oslo").ctl(&["build", "-f", &file]).done();
    }
    let host = site.host("oslo");
    host.kill();
    for entry in fs::read_dir(host.folder().join("state")).expect("the index is there").flatten() {
        if entry.path().is_file() {
            fs::write(entry.path(), b"not a database").expect("the folder is ours");
        }
    }
    host.run();
    for name in ["first", "second"] {
        assert_eq!(states(host, name), ["down", "down"]);
    }
    let events = host.ctl(&["events", "--json"]).done();
    assert!(events.contains("is made anew"), "{events}");

    // Now a journal, and not at its end.
    host.kill();
    let folders = fs::read_dir(host.folder().join("projects")).expect("there are two").flatten();
    let path = folders.map(|entry| entry.path().join("journal")).next().expect("there are two");
    let sound = fs::read(&path).expect("it is there");
    let mut bytes = sound.clone();
    bytes[100] ^= 1;
    fs::write(&path, &bytes).expect("the folder is ours");
    host.run();
    let doctor = host.ctl(&["doctor", "--json"]);
    assert!(doctor.to_string().contains("damaged at byte"), "{doctor}");
    let removed: Vec<bool> =
        ["first", "second"].map(|name| host.ctl(&["remove", "-p", name]).code == Some(0)).to_vec();
    assert_eq!(removed.iter().filter(|removed| **removed).count(), 1, "the other one is not touched");

    // The copy is put back.
    host.kill();
    fs::write(&path, &sound).expect("the folder is ours");
    host.run();
    let left = if removed[0] { "second" } else { "first" };
    host.ctl(&["remove", "-p", left]).done();
}

/// A small disk of its own below a folder, gone when the test is.
#[derive(Default)]
pub(crate) struct SmallDisk(Option<PathBuf>);

impl SmallDisk {
    /// Mounts it; `size` is an option of tmpfs.
    pub(crate) fn mount(&mut self, folder: &Path, size: &CStr) {
        mount("none", folder, "tmpfs", MountFlags::empty(), size).expect("the test is root's");
        self.0 = Some(folder.to_owned());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Some(folder) = &self.0 {
            // What can't be unmounted now is when the last process in it has ended.
            let _ = unmount(folder, UnmountFlags::DETACH);
            let _ = folder.parent().map(fs::remove_dir_all);
        }
    }
}

#[test]
fn a_full_disk_refuses_what_is_new_and_stops_nothing_else() {
    // It is unmounted after the site has ended all processes on it.
    let mut disk = SmallDisk::default();
    let mut site = Site::bare();
    site.settle_in("oslo", |folder| disk.mount(folder, c"size=128m"));
    let (kept, more) = (site.project("single", SINGLE), site.project("more", &two("more")));
    let host = site.host("oslo");
    host.ctl(&["build", "-f", &kept]).done();
    host.ctl(&["start", "-p", "single"]).done();
    host.sees("single", "vm", "up");
    let agent = host.agent_process();

    let filler = host.folder().join("filler");
    let stat = rustix::fs::statvfs(host.folder()).expect("it is there");
    let free = stat.f_bavail * stat.f_frsize;
    let file = File::create(&filler).expect("there is room");
    fallocate(&file, FallocateFlags::empty(), 0, free - (1 << 20)).expect("there is room");
    drop(file);
    until("the host says that its disk is full", LIMIT, || {
        let answer = host.ctl(&["status"]);
        if answer.to_string().contains("nothing new is built") { Ok(()) } else { Err(answer.to_string()) }
    });
    let refused = host.ctl(&["build", "-f", &more]);
    assert_ne!(refused.code, Some(0));
    assert!(refused.to_string().contains("disk"), "{refused}");
    assert_eq!(host.shell("single/vm", "echo there").done(), "there\n");
    host.ctl(&["stop", "-p", "single", "-w", "30"]).done();
    host.sees("single", "vm", "down");

    fs::remove_file(&filler).expect("it is ours");
    until("there is room again", LIMIT, || {
        let answer = host.ctl(&["build", "-f", &more]);
        if answer.code == Some(0) { Ok(()) } else { Err(answer.to_string()) }
    });
    assert_eq!(host.agent_process(), agent);
    assert!(host.is_running(), "the agent has ended:\n{}", host.last_words());
    until("the host has said that its disk was full, and that it isn't any more", LIMIT, || {
        let events = host.ctl(&["events", "-n", "1000", "--json"]).done();
        let said = events.contains("the disk is full") && events.contains("room again");
        if said { Ok(()) } else { Err(events) }
    });
}

/// A machine whose disk is larger than what its new host has room for.
const HEAVY: &str = "
global { project heavy }
host vm { memory 64M; service_host oslo }
";

/// Lets a file take all of a disk but for so many bytes.
pub(crate) fn fill_up_to(filler: &Path, folder: &Path, free_bytes: u64) {
    let disk = rustix::fs::statvfs(folder).expect("it is there");
    let file = File::create(filler).expect("there is room");
    let taken = (disk.f_bavail * disk.f_frsize).checked_sub(free_bytes).expect("more is free");
    fallocate(&file, FallocateFlags::empty(), 0, taken).expect("there is room");
}

/// Lets a file take nearly all of its disk, while others write there, too.
pub(crate) fn fill_up(file: &File, folder: &Path) {
    const PIECE_BYTES: u64 = 1 << 20;
    let mut length = 0;
    loop {
        let disk = rustix::fs::statvfs(folder).expect("it is there");
        if disk.f_bavail * disk.f_frsize <= PIECE_BYTES {
            return;
        }
        match fallocate(file, FallocateFlags::empty(), length, PIECE_BYTES) {
            Ok(()) => length += PIECE_BYTES,
            // Somebody was faster.
            Err(error) => return assert_eq!(error, rustix::io::Errno::NOSPC),
        }
    }
}

#[test]
fn a_disk_that_fills_up_while_a_machine_comes_costs_nothing_and_it_comes_when_there_is_room() {
    // It is unmounted after the site has ended all processes on it.
    let mut disk = SmallDisk::default();
    let mut site = Site::bare();
    site.settle_in("bergen", |folder| disk.mount(folder, c"size=192m"));
    site.add("oslo");
    site.host("oslo").take_images();
    // Slow enough for its new host's disk to fill up meanwhile.
    site.host("oslo").configure("memory_mib = 1024\nmove_bandwidth = \"8Mbit\"\n");
    site.join("bergen", "oslo").done();
    site.host("oslo").run();
    for name in ["oslo", "bergen"] {
        site.host(name).is_connected_to(1);
        site.host(name).has_heard_of(2);
    }
    let file = site.project("heavy", HEAVY);
    site.host("oslo").ctl(&["build", "-f", &file]).done();
    site.host("oslo").ctl(&["start", "-p", "heavy"]).done();
    site.host("oslo").sees("heavy", "vm", "up");
    let written = "dd if=/dev/urandom of=/root/load bs=1M count=8 2>/dev/null; sync; sha256sum /root/load";
    let sum = site.host("oslo").shell("heavy/vm", written).done();
    let boot = site.host("oslo").boot_id("heavy/vm");

    let told = site.folder().join("migrate.out");
    let arguments = ["migrate", "-p", "heavy", "-h", "vm", "--to", "bergen", "--yes"];
    let mut moving = site.host("oslo").ctl_into(&arguments, &told);
    let host = site.host("bergen");
    until("its disk begins to come", LIMIT, || {
        let traces = host.traces_of_vms();
        if traces.iter().any(|path| path.ends_with(".copy")) { Ok(()) } else { Err(format!("{traces:?}")) }
    });
    let filler = host.folder().join("filler");
    fill_up(&File::create(&filler).expect("there is room"), host.folder());
    until("bergen says why it does not come", LIMIT, || {
        let events = host.ctl(&["events", "-n", "1000", "--json"]).done();
        let said = events.contains("its disk does not come") && events.contains("the disk is full");
        if said { Ok(()) } else { Err(events) }
    });
    // It runs where it was, and has lost nothing.
    assert_eq!(site.host("oslo").boot_id("heavy/vm"), boot);
    assert_eq!(site.host("oslo").sees("heavy", "vm", "up")["service_host"], "oslo");
    assert_eq!(site.host("oslo").shell("heavy/vm", "sha256sum /root/load").done(), sum);

    fs::remove_file(&filler).expect("it is ours");
    until("it comes when there is room", LIMIT, || {
        let row = site.host("oslo").ctl(&["status", "-p", "heavy", "--json"]).json();
        let there = row[0]["service_host"] == "bergen" && row[0]["state"] == "up";
        if there { Ok(()) } else { Err(row.to_string()) }
    });
    assert_eq!(site.host("oslo").shell("heavy/vm", "sha256sum /root/load").done(), sum);
    moving.wait().expect("it is ours");
}
