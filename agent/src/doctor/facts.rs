//! What can be seen of this machine: looks and tries, and judges nothing.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::StatVfsMountFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::image::ImageStore;
use crate::platform::uml::UmlConfig;
use crate::store_health::StoreFacts;

/// How long a program may take to say which one it is.
const PROGRAM_LIMIT: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// Where programs are looked for that ordinary users don't have in their path.
const TOOL_FOLDERS: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Whose machine is looked at.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The agent's data folder.
    pub data: PathBuf,
    /// What its guests run with.
    pub uml: UmlConfig,
    /// The group that may use its socket.
    pub control_group: Option<String>,
    /// What is wrong with its configuration.
    pub config_error: Option<String>,
}

/// What an agent that runs knows of its mesh.
#[derive(Clone, Debug)]
pub(crate) struct MeshFacts {
    /// Where it listens, or would.
    pub ports: Ports,
    /// The clocks of the peers that are connected.
    pub peers: Vec<PeerClock>,
    /// How its store fares.
    pub store: StoreFacts,
    /// How it stands with its mesh; none where no agent runs.
    pub standing: Option<MeshStanding>,
}

/// How an agent stands with the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MeshStanding {
    /// Why its host signs and starts nothing, where others have heard its key say what it never said.
    pub doubled: Option<String>,
    /// How many other members it knows.
    pub members: usize,
    /// How many of them it reaches.
    pub reached: usize,
}

/// Where an agent listens.
#[derive(Clone, Debug)]
pub(crate) enum Ports {
    /// It runs, and listens here.
    Open(Vec<String>),
    /// None runs; it would listen here.
    Wanted(Vec<String>),
}

/// What a connected peer's clock showed when it last spoke of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerClock {
    /// Its name.
    pub name: String,
    /// In milliseconds since 1970.
    pub measured_unix_ms: u64,
}

/// All that was seen.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub config_error: Option<String>,
    pub kernel: PathBuf,
    pub kernel_run: Run,
    pub ptrace: Result<(), String>,
    pub memory_folder: PathBuf,
    pub memory: Result<Space, String>,
    pub data: PathBuf,
    pub disk: Result<Space, String>,
    pub guest_agent: PathBuf,
    pub guest_agent_there: bool,
    pub templates: Vec<String>,
    pub missing_tools: Vec<(&'static str, &'static str)>,
    pub passt_there: bool,
    pub default_route: Result<(), String>,
    pub open_ports: Vec<String>,
    pub taken_ports: Vec<(String, String)>,
    pub agent_runs: bool,
    pub now_unix_ms: u64,
    pub peers: Vec<PeerClock>,
    pub store: StoreFacts,
    pub standing: Option<MeshStanding>,
    pub landlock: Landlock,
    pub user: User,
    pub control_group: Option<ControlGroup>,
}

/// What came of running a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Run {
    /// It said which one it is.
    Version(String),
    /// It isn't there.
    Missing,
    /// It is there and doesn't run.
    Broken(String),
}

/// A file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Space {
    pub free_mib: u64,
    pub total_mib: u64,
    pub exec: Exec,
}

/// Whether what is in a file system may be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exec {
    Allowed,
    Forbidden,
}

/// Whether the kernel has Landlock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Landlock {
    There,
    Missing,
}

/// Who runs this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub uid: u32,
    pub login: Option<String>,
    /// Whether the user's services run without a session; none where the machine has no such thing.
    pub lingers: Option<bool>,
}

/// The group that may use the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ControlGroup {
    pub name: String,
    pub gid: Result<u32, String>,
}

pub(super) fn gather(place: &Place, mesh: &MeshFacts) -> Facts {
    let memory_folder = place.uml.memory_folders.first().cloned().unwrap_or_else(|| "/dev/shm".into());
    let (open_ports, taken_ports, agent_runs) = match &mesh.ports {
        Ports::Open(open) => (open.clone(), Vec::new(), true),
        Ports::Wanted(wanted) => {
            let (free, taken) = try_ports(wanted);
            (free, taken, false)
        }
    };
    Facts {
        config_error: place.config_error.clone(),
        kernel_run: version_of(&place.uml.kernel),
        kernel: place.uml.kernel.clone(),
        ptrace: try_ptrace(),
        memory: space(&memory_folder),
        memory_folder,
        disk: space(existing(&place.data)),
        data: place.data.clone(),
        guest_agent_there: place.uml.guest_agent.exists(),
        guest_agent: place.uml.guest_agent.clone(),
        templates: templates(&place.data),
        missing_tools: missing_tools(),
        passt_there: is_tool("passt"),
        default_route: default_route(),
        open_ports,
        taken_ports,
        agent_runs,
        now_unix_ms: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        peers: mesh.peers.clone(),
        store: mesh.store.clone(),
        standing: mesh.standing.clone(),
        landlock: if fs::read_to_string("/sys/kernel/security/lsm").is_ok_and(|list| has_landlock(&list))
            || landlock_answers()
        {
            Landlock::There
        } else {
            Landlock::Missing
        },
        user: user(),
        control_group: place.control_group.as_ref().map(|name| ControlGroup {
            name: name.clone(),
            gid: crate::control::gid_of(name).map_err(|error| crate::causes::chain(&error)),
        }),
    }
}

/// Runs a kernel for as long as it takes to say its version.
fn version_of(program: &Path) -> Run {
    if !program.exists() {
        return Run::Missing;
    }
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Run::Broken(error.to_string()),
    };
    let ended = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())
        .and_then(|handle| poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&PROGRAM_LIMIT)));
    if !matches!(ended, Ok(1)) {
        // It may have ended just now.
        let _ = child.kill();
        let _ = child.wait();
        return Run::Broken("it doesn't say its version within 5 s".to_owned());
    }
    match child.wait_with_output() {
        Ok(output) if output.status.success() => {
            Run::Version(String::from_utf8_lossy(&output.stdout).trim().chars().take(80).collect())
        }
        Ok(output) => Run::Broken(format!("asked for its version, it ends with {}", output.status)),
        Err(error) => Run::Broken(error.to_string()),
    }
}

/// Traces a process of our own for a moment, as User-Mode Linux does with all of its guest's.
fn try_ptrace() -> Result<(), String> {
    let mut command = Command::new("cat");
    // It waits for input that never comes, so it is there until it is killed.
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("no process to try it on: {error}"))?;
    let pid = nix::unistd::Pid::from_raw(Pid::from_child(&child).as_raw_nonzero().get());
    let traced = nix::sys::ptrace::seize(pid, nix::sys::ptrace::Options::empty());
    let _ = child.kill();
    let _ = child.wait();
    traced.map_err(|errno| errno.desc().to_owned())
}

fn space(folder: &Path) -> Result<Space, String> {
    let stat = rustix::fs::statvfs(folder).map_err(|errno| std::io::Error::from(errno).to_string())?;
    let exec = if stat.f_flag.contains(StatVfsMountFlags::NOEXEC) { Exec::Forbidden } else { Exec::Allowed };
    let mib = |blocks: u64| blocks.saturating_mul(stat.f_frsize) >> 20;
    Ok(Space { free_mib: mib(stat.f_bavail), total_mib: mib(stat.f_blocks), exec })
}

/// Returns the folder itself, or the nearest above it that is there.
fn existing(folder: &Path) -> &Path {
    folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"))
}

fn templates(data: &Path) -> Vec<String> {
    let folder = data.join("images");
    // Opening a store makes its folder: here nothing is to be changed.
    if !folder.is_dir() {
        return Vec::new();
    }
    let Ok(store) = ImageStore::open(&folder) else { return Vec::new() };
    let mut names: Vec<String> = store.list().iter().map(|template| template.name.to_string()).collect();
    names.sort();
    names.dedup();
    names
}

fn is_tool(name: &str) -> bool {
    TOOL_FOLDERS.iter().any(|folder| Path::new(folder).join(name).exists())
}

/// Returns the programs that templates are made with and that aren't there, each with its Debian package.
fn missing_tools() -> Vec<(&'static str, &'static str)> {
    let mut tools = vec![("mke2fs", "e2fsprogs"), ("mmdebstrap", "mmdebstrap")];
    if !rustix::process::geteuid().is_root() {
        tools.push(("fakeroot", "fakeroot"));
    }
    tools.retain(|(tool, _)| !is_tool(tool));
    tools
}

fn default_route() -> Result<(), String> {
    let v4 = fs::read_to_string("/proc/net/route").map_err(|error| error.to_string())?;
    let v6 = fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    if has_route_v4(&v4) || has_route_v6(&v6) { Ok(()) } else { Err("there is none".to_owned()) }
}

/// Whether `/proc/net/route` has a route to everywhere: destination and mask are 0.
fn has_route_v4(text: &str) -> bool {
    text.lines().skip(1).any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(1) == Some(&"00000000") && words.get(7) == Some(&"00000000")
    })
}

/// Whether `/proc/net/ipv6_route` has one; those by `lo` reject.
fn has_route_v6(text: &str) -> bool {
    text.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.first().is_some_and(|to| to.bytes().all(|byte| byte == b'0'))
            && words.get(1) == Some(&"00")
            && words.last() != Some(&"lo")
    })
}

/// Tries to listen on the TCP addresses; returns those that are free, and those that aren't with the reason.
fn try_ports(wanted: &[String]) -> (Vec<String>, Vec<(String, String)>) {
    let (mut free, mut taken) = (Vec::new(), Vec::new());
    for text in wanted {
        let Some(address) = text.parse().ok().as_ref().and_then(tcp_address) else { continue };
        match TcpListener::bind(address) {
            Ok(_) => free.push(text.clone()),
            Err(error) => taken.push((text.clone(), error.to_string())),
        }
    }
    (free, taken)
}

fn tcp_address(address: &Multiaddr) -> Option<SocketAddr> {
    let mut ip = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    for part in address.iter() {
        match part {
            Protocol::Ip4(found) => ip = found.into(),
            Protocol::Ip6(found) => ip = found.into(),
            Protocol::Tcp(port) => return Some(SocketAddr::new(ip, port)),
            _ => {}
        }
    }
    None
}

fn has_landlock(list: &str) -> bool {
    list.trim().split(',').any(|name| name == "landlock")
}

/// Whether the kernel takes a ruleset: where `/sys/kernel/security` isn't mounted, that is how to know.
fn landlock_answers() -> bool {
    use landlock::{ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr};
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    ruleset.handle_access(AccessFs::from_all(ABI::V1)).and_then(|ruleset| ruleset.create()).is_ok()
}

fn user() -> User {
    let uid = rustix::process::getuid();
    let login = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid.as_raw()));
    let login = login.ok().flatten().map(|user| user.name);
    let lingering = Path::new("/var/lib/systemd/linger");
    let has_systemd = Path::new("/run/systemd/system").is_dir();
    let lingers = match &login {
        Some(login) if has_systemd => Some(lingering.join(login).exists()),
        Some(_) | None => None,
    };
    User { uid: uid.as_raw(), login, lingers }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_to_everywhere_are_told_from_others() {
        let v4 = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
                  eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n";
        assert!(!has_route_v4(v4));
        assert!(has_route_v4(&format!("{v4}eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\n")));
        let zeros = "0".repeat(32);
        let v6 = |device: &str| {
            format!("{zeros} 00 {zeros} 00 {zeros} ffffffff 00000001 00000000 00200200 {device}\n")
        };
        assert!(has_route_v6(&v6("eth0")) && !has_route_v6(&v6("lo")));
    }

    #[test]
    fn a_port_that_somebody_has_is_found_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let wanted = [format!("/ip4/127.0.0.1/tcp/{port}"), "/ip4/127.0.0.1/udp/7/quic-v1".to_owned()];
        let (free, taken) = try_ports(&wanted);
        assert_eq!((free.len(), taken.len()), (0, 1), "{taken:?}");
    }

    #[test]
    fn a_program_that_is_none_and_one_that_runs_are_told_apart() {
        assert_eq!(version_of(Path::new("/nowhere/linux.uml")), Run::Missing);
        assert!(matches!(version_of(Path::new("/etc/passwd")), Run::Broken(_)));
        assert!(matches!(version_of(Path::new("/bin/cat")), Run::Version(text) if text.contains("cat")));
    }
}
