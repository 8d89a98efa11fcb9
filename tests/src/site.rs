//! Hosts that belong together, and where they are.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::host::Host;
use crate::leftover::{self, PREFIX};
use crate::network::{Network, Place};

static SITES: AtomicU32 = AtomicU32::new(0);

/// What an agent is told unless a story says something else.
const CONFIGURATION: &str = "memory_mib = 1024\n";

/// Hosts that belong together.
#[derive(Debug)]
pub struct Site {
    folder: PathBuf,
    network: Network,
    hosts: BTreeMap<String, Host>,
}

impl Site {
    /// Makes a site without hosts.
    pub fn bare() -> Self {
        // Not below the target folder: the path of a socket has few letters to spare.
        let parent = std::env::temp_dir();
        leftover::clear_old(&parent);
        let name = format!("{PREFIX}{}-{}", std::process::id(), SITES.fetch_add(1, Ordering::Relaxed));
        let folder = parent.join(&name);
        fs::create_dir(&folder).expect("no other process has this number");
        Self { folder, network: Network::new(&name), hosts: BTreeMap::new() }
    }

    /// Makes a mesh of hosts that have the template `mini`, are connected to each other, and know each other.
    #[track_caller]
    pub fn mesh(names: &[&str]) -> Self {
        Self::mesh_with(names, CONFIGURATION)
    }

    /// Makes such a mesh of hosts with another configuration.
    #[track_caller]
    pub fn mesh_with(names: &[&str], configuration: &str) -> Self {
        let mut site = Self::bare();
        for name in names {
            site.add(name);
            site.host(name).configure(configuration);
            site.host(name).take_images();
        }
        let (first, others) = names.split_first().expect("a mesh has a host");
        site.host(first).mlnd(&["init", "story", "--name", first]).done();
        site.host(first).run();
        for name in others {
            site.join(first, name).done();
            site.host(name).run();
        }
        for name in names {
            site.host(name).is_connected_to(others.len());
            site.host(name).has_heard_of(names.len());
        }
        site
    }

    /// Adds a host that belongs to no mesh.
    pub fn add(&mut self, name: &str) {
        let place = self.network.add(name);
        self.hosts.insert(name.to_owned(), Host::new(name, self.folder.join(name), place));
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
    pub(crate) fn settle_outside(&mut self, name: &str) {
        let host = Host::new(name, self.folder.join(name), Place::of_the_machine());
        self.hosts.insert(name.to_owned(), host);
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
