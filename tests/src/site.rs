//! Hosts that belong together, and where they are.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, getpgrp};

use crate::host::Host;
use crate::leftover::{self, PREFIX};
use crate::network::{Network, Place};
use crate::programs;

static SITES: AtomicU32 = AtomicU32::new(0);

/// What an agent is told unless a story says something else.
const CONFIGURATION: &str = "memory_mib = 1024\n";

/// Hosts that belong together.
#[derive(Debug)]
pub struct Site {
    folder: PathBuf,
    network: Network,
    hosts: BTreeMap<String, Host>,
    /// Who runs the programs of this site's own folder, where it has one.
    own: Option<Own>,
}

/// A site's own programs.
#[derive(Debug, Clone, Copy)]
struct Own {
    uid: Option<u32>,
}

/// The user of stories in which nothing is root's: everybody's nobody.
const NOBODY: u32 = 65_534;

impl Site {
    /// Makes a site without hosts.
    pub fn bare() -> Self {
        Self::bare_in(Network::new)
    }

    fn bare_in(network: impl FnOnce(&str) -> Network) -> Self {
        // Not below the target folder: the path of a socket has few letters to spare.
        let parent = std::env::temp_dir();
        leftover::clear_old(&parent);
        let name = format!("{PREFIX}{}-{}", std::process::id(), SITES.fetch_add(1, Ordering::Relaxed));
        let folder = parent.join(&name);
        fs::create_dir(&folder).expect("no other process has this number");
        Self { folder, network: network(&name), hosts: BTreeMap::new(), own: None }
    }

    /// Makes a mesh of hosts that have the template `mini`, are connected to each other, and know each other.
    #[track_caller]
    pub fn mesh(names: &[&str]) -> Self {
        Self::mesh_with(names, CONFIGURATION)
    }

    /// Makes such a mesh in which some of the hosts have no template.
    #[track_caller]
    pub fn mesh_lacking(names: &[&str], without: &[&str]) -> Self {
        let mut site = Self::bare();
        site.connect_lacking(names, CONFIGURATION, without);
        site
    }

    /// Makes such a mesh of hosts with another configuration.
    #[track_caller]
    pub fn mesh_with(names: &[&str], configuration: &str) -> Self {
        let mut site = Self::bare();
        site.connect(names, configuration);
        site
    }

    /// Makes such a mesh of hosts that each have a configuration of their own.
    #[track_caller]
    pub fn mesh_each(hosts: &[(&str, &str)]) -> Self {
        let mut site = Self::bare();
        site.connect_each(hosts, &[]);
        site
    }

    /// Makes such a mesh with programs in a folder of its own, which [`Site::install`] can replace.
    #[track_caller]
    pub fn mesh_of(names: &[&str], mlnd: &str) -> Self {
        let mut site = Self::bare();
        site.own = Some(Own { uid: None });
        site.install_all(mlnd);
        site.connect(names, CONFIGURATION);
        site
    }

    /// Makes a site on the machine's own network whose programs are all run by an ordinary user.
    pub fn unprivileged() -> Self {
        let mut site = Self::bare_in(|_| Network::Ports);
        // Who isn't root can't be anybody else, and needn't.
        site.own = Some(Own { uid: rustix::process::geteuid().is_root().then_some(NOBODY) });
        site.install_all("mlnd");
        site
    }

    /// Adds hosts to a site without any: a mesh that is connected.
    #[track_caller]
    pub fn connect(&mut self, names: &[&str], configuration: &str) {
        self.connect_lacking(names, configuration, &[]);
    }

    #[track_caller]
    fn connect_lacking(&mut self, names: &[&str], configuration: &str, without: &[&str]) {
        let hosts: Vec<(&str, &str)> = names.iter().map(|name| (*name, configuration)).collect();
        self.connect_each(&hosts, without);
    }

    #[track_caller]
    fn connect_each(&mut self, hosts: &[(&str, &str)], without: &[&str]) {
        let site = self;
        let names: Vec<&str> = hosts.iter().map(|(name, _)| *name).collect();
        for (name, configuration) in hosts {
            site.add(name);
            site.host(name).configure(configuration);
            if !without.contains(name) {
                site.host(name).take_images();
            }
        }
        let (first, others) = names.split_first().expect("a mesh has a host");
        site.host(first).mlnd(&["init", "story", "--name", first]).done();
        site.host(first).run();
        for name in others {
            site.join(first, name).done();
            site.host(name).run();
        }
        for name in &names {
            site.host(name).is_connected_to(others.len());
            site.host(name).has_heard_of(names.len());
        }
    }

    /// Puts a program of the stories in place of one of the site's own, as a package does: by renaming.
    #[track_caller]
    pub fn install(&self, program: &str, name: &str) {
        let to = self.folder.join("bin").join(name);
        let fresh = to.with_extension("new");
        fs::copy(programs::program_in(&programs::folder(), program), &fresh).expect("the folder is ours");
        fs::rename(fresh, to).expect("the folder is ours");
    }

    fn install_all(&self, mlnd: &str) {
        fs::create_dir(self.folder.join("bin")).expect("the site is new");
        self.install(mlnd, "mlnd");
        self.install("mlnctl", "mlnctl");
        self.install("mlnd-guest", "mlnd-guest");
    }

    /// Adds a host that belongs to no mesh.
    pub fn add(&mut self, name: &str) {
        let place = self.network.add(name);
        let host = self.owned(Host::new(name, self.folder.join(name), place));
        self.hosts.insert(name.to_owned(), host);
    }

    fn owned(&self, host: Host) -> Host {
        match self.own {
            Some(own) => host.with_programs(&self.folder.join("bin"), own.uid),
            None => host,
        }
    }

    /// Returns the processes of the site that root runs, by their command lines.
    pub fn of_root(&self) -> Vec<String> {
        let in_folder = leftover::processes_in(&self.folder);
        // What confines itself has left the folder, and is still in the group of its guest. Agents are in the tester's.
        let own = getpgrp().as_raw_nonzero().get();
        let groups: Vec<i32> =
            in_folder.iter().filter_map(|pid| group_of(*pid)).filter(|group| *group != own).collect();
        let needle = self.folder.display().to_string();
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        all.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
            .filter_map(|pid| {
                let number = pid.as_raw_nonzero();
                let line = fs::read(format!("/proc/{number}/cmdline")).ok()?;
                let line = String::from_utf8_lossy(&line).replace('\0', " ");
                let is_ours = line.contains(&needle)
                    || in_folder.contains(&pid)
                    || group_of(pid).is_some_and(|group| groups.contains(&group));
                let status = fs::read_to_string(format!("/proc/{number}/status")).ok()?;
                let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
                (is_ours && uids.split_whitespace().any(|uid| uid == "0")).then_some(line)
            })
            .collect()
    }

    /// Returns how many processes the site has.
    pub fn processes(&self) -> usize {
        leftover::processes_in(&self.folder).len()
    }

    /// Adds a host that belongs to no mesh, and has IPv6 alone.
    pub fn add_ipv6(&mut self, name: &str) {
        let place = self.network.add_ipv6(name);
        self.hosts.insert(name.to_owned(), Host::new(name, self.folder.join(name), place));
    }

    /// Adds a host with a mesh of its own, and runs it.
    #[track_caller]
    pub fn settle(&mut self, name: &str) {
        self.add(name);
        self.settle_added(name);
    }

    /// Adds such a host in the network of the machine, for what needs a way out.
    #[track_caller]
    pub fn settle_outside(&mut self, name: &str) {
        let host = self.owned(Host::new(name, self.folder.join(name), Place::of_the_machine()));
        self.hosts.insert(name.to_owned(), host);
        self.settle_added(name);
    }

    /// Adds a host with a mesh and the template `mini`, whose folder is prepared before anything is in it.
    #[track_caller]
    pub fn settle_in(&mut self, name: &str, prepare: impl FnOnce(&Path)) {
        self.add(name);
        prepare(self.host(name).folder());
        self.host(name).take_images();
        self.settle_added(name);
    }

    #[track_caller]
    fn settle_added(&mut self, name: &str) {
        self.host(name).configure(CONFIGURATION);
        self.host(name).mlnd(&["init", name, "--name", name]).done();
        self.host(name).run();
    }

    /// Lets a host join the mesh of another, under its own name.
    #[track_caller]
    pub fn join(&mut self, member: &str, name: &str) -> crate::Answer {
        let token = self.host(member).ctl(&["token", "new"]).done();
        self.host(name).mlnd(&["join", token.trim(), "--name", name])
    }

    /// Returns a host.
    #[track_caller]
    pub fn host(&mut self, name: &str) -> &mut Host {
        self.hosts.get_mut(name).unwrap_or_else(|| panic!("the site has no host {name}"))
    }

    /// Returns the folder of all its hosts; what works in there ends with the site, and namespaces whose names
    /// begin with this folder's name and a hyphen are removed.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a project file, and returns its path.
    pub fn project(&self, name: &str, text: &str) -> String {
        let path = self.folder.join(format!("{name}.mln"));
        fs::write(&path, text).expect("the folder is ours");
        path.to_str().expect("the folder's name is made of ASCII").to_owned()
    }

    /// Returns the path of a file of the repository.
    pub fn repository(path: &str) -> String {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = tests.parent().expect("this crate is a folder of the repository");
        root.join(path).display().to_string()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for host in self.hosts.values() {
                // Where the test's output can't be written, nobody misses this.
                let _ = writeln!(std::io::stderr(), "--- {}:\n{}", host.name(), host.last_words());
            }
        }
        for host in self.hosts.values_mut() {
            host.cut_power();
        }
        leftover::clear(&self.folder);
    }
}

/// Returns the group of a process; 0 where that is none of this system's.
fn group_of(pid: Pid) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The name in parentheses may have anything in it; behind it come state, parent and group.
    stat.rsplit_once(')')?.1.split_whitespace().nth(2)?.parse().ok()
}
