//! Applying the seed: what a guest is told on its drive becomes so. Again changes nothing.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mln_protocol::wire::seed::{SeedAddressWire, SeedInterfaceWire, SeedUserWire, SeedWire};
use rustix::process::Pid;
use tracing::{info, warn};

use super::accounts::{AccountError, Accounts, Wanted};
use super::grow::{self, GrowError};
use super::seed::{self, SeedReadError};
use super::{mounts, shutdown};

/// The digest of the users and files that are in place; an older guest agent wrote that of the whole seed.
const APPLIED: &str = "/var/lib/mln/seed-applied";
const ROOT_DEVICE: &str = "/dev/ubda";
/// The modules that are loaded at each boot.
const MODULES: &str = "/etc/modules";
const HOSTS_BEGIN: &str = "# guests of this project: begin";
const HOSTS_END: &str = "# guests of this project: end";

/// Why the seed could not be applied. Some of it may be.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApplyError {
    #[error(transparent)]
    Read(#[from] SeedReadError),
    #[error("{what} {path}")]
    File { what: &'static str, path: String, source: io::Error },
    #[error("setting the host name to {name}")]
    Hostname { name: String, source: io::Error },
    #[error("there is no interface with address {mac} for {name}")]
    NoInterface { name: String, mac: String },
    #[error("`{command}`: {text}")]
    Command { command: String, text: String },
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error(transparent)]
    Grow(#[from] GrowError),
}

/// Applies the seed that is on `drive`; returns its startup lines.
///
/// Users and files are put in place when they are others than the last time, so that what was changed in the guest since
/// then stays; all else at each boot.
pub(super) fn apply(drive: &Path) -> Result<Vec<String>, ApplyError> {
    let seed = seed::read(drive)?;
    set_hostname(&seed.hostname)?;
    if let Some(bytes) = seed.disk_bytes {
        // First of all that writes: a full disk must not keep it from growing.
        if grow::grow_root(Path::new(ROOT_DEVICE), bytes)? {
            info!(bytes, "root file system grown");
        }
    }
    write_hosts(&seed)?;
    configure_interfaces(&seed.interfaces)?;
    let more = seed::read_more(drive)?;
    // Before the files, which may lie below; one that can't be had keeps the rest from nothing.
    let mounted = more.as_ref().map_or(Ok(()), mounts::attach);
    let checksum = seed::checksum_of_files(drive, &seed, more.as_ref())?;
    let applied = fs::read_to_string(APPLIED).unwrap_or_default();
    if applied == checksum {
        // The rest of the seed may be another one: names of guests, for example.
    } else if applied == seed::checksum(drive)? {
        write_file(Path::new(APPLIED), checksum.as_bytes(), 0o644)?;
    } else {
        ensure_users(&seed.users, more.as_ref().map_or(&[], |more| &more.groups))?;
        seed::each_file(drive, |index, bytes| match seed.files.get(index) {
            Some(file) => write_file(Path::new(&file.path), &bytes, file.mode & 0o7777),
            None => Ok(()),
        })?;
        write_file(Path::new(APPLIED), checksum.as_bytes(), 0o644)?;
    }
    shutdown::prepare(more.as_ref().map_or(&[], |more| &more.shutdown))?;
    load_modules(Path::new(MODULES))?;
    mounted?;
    Ok(seed.startup)
}

/// Loads what a list names, all that can be; the first that can't is the error.
fn load_modules(list: &Path) -> Result<(), ApplyError> {
    let text = fs::read_to_string(list).unwrap_or_default();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let results: Vec<Result<(), ApplyError>> =
        lines.map(|line| run("modprobe", &line.split_whitespace().collect::<Vec<_>>())).collect();
    results.into_iter().collect()
}

fn set_hostname(name: &str) -> Result<(), ApplyError> {
    rustix::system::sethostname(name.as_bytes())
        .map_err(|errno| ApplyError::Hostname { name: name.to_owned(), source: errno.into() })?;
    write_if_other("/etc/hostname", &format!("{name}\n"), 0o644)
}

fn write_hosts(seed: &SeedWire) -> Result<(), ApplyError> {
    let before = fs::read_to_string("/etc/hosts").unwrap_or_default();
    write_if_other("/etc/hosts", &hosts_text(&before, &seed.hostname, &seed.guest_names), 0o644)
}

/// Returns `/etc/hosts` with our part replaced and everything else as it was.
fn hosts_text(before: &str, hostname: &str, guests: &[(String, IpAddr)]) -> String {
    let mut text = String::new();
    let mut ours = false;
    for line in before.lines() {
        ours |= line == HOSTS_BEGIN;
        if !ours {
            text += line;
            text.push('\n');
        }
        ours &= line != HOSTS_END;
    }
    if !text.lines().any(|line| line.split_whitespace().any(|word| word == "localhost")) {
        text.insert_str(0, "127.0.0.1 localhost\n::1 localhost ip6-localhost\n");
    }
    text += HOSTS_BEGIN;
    text.push('\n');
    if !guests.iter().any(|(name, _)| name == hostname) {
        text += &format!("127.0.1.1 {hostname}\n");
    }
    for (name, address) in guests {
        text += &format!("{address} {name}\n");
    }
    text + HOSTS_END + "\n"
}

fn configure_interfaces(interfaces: &[SeedInterfaceWire]) -> Result<(), ApplyError> {
    ip(&["link", "set", "lo", "up"])?;
    // Two rounds: the name that one interface is to get may be the one that another still has.
    let mut waiting = Vec::new();
    for (index, interface) in interfaces.iter().enumerate() {
        let mac = interface.mac.map(|byte| format!("{byte:02x}")).join(":");
        let present = interface_with(&mac)
            .ok_or_else(|| ApplyError::NoInterface { name: interface.name.clone(), mac })?;
        if present != interface.name {
            let between = format!("mln{index}");
            ip(&["link", "set", &present, "down"])?;
            ip(&["link", "set", &present, "name", &between])?;
            waiting.push((between, interface.name.as_str()));
        }
    }
    for (between, name) in waiting {
        ip(&["link", "set", &between, "name", name])?;
    }
    interfaces.iter().try_for_each(configure)
}

fn configure(interface: &SeedInterfaceWire) -> Result<(), ApplyError> {
    let name = interface.name.as_str();
    ip(&["link", "set", name, "up"])?;
    match interface.address {
        SeedAddressWire::LinkLocal => {}
        SeedAddressWire::Dhcp => {
            // In the background: a segment whose server comes later must not hold up the boot.
            if dhcp_client(name).is_none() {
                run("udhcpc", &["-b", "-S", "-i", name, "-p", &dhcp_pid_file(name)])?;
            }
        }
        SeedAddressWire::Static { address, prefix_bits } => {
            let with_prefix = format!("{address}/{prefix_bits}");
            let broadcast = interface.broadcast.map(|b| b.to_string());
            let mut words = vec!["addr", "replace", &with_prefix, "dev", name];
            match &broadcast {
                Some(broadcast) => words.extend(["broadcast", broadcast]),
                None if address.is_ipv4() => words.extend(["broadcast", "+"]),
                // Nobody else has it; waiting for duplicates would only make the first packets fail.
                None => words.push("nodad"),
            }
            ip(&words)?;
        }
    }
    if let Some(gateway) = interface.gateway {
        let family = if gateway.is_ipv4() { "-4" } else { "-6" };
        ip(&[family, "route", "replace", "default", "via", &gateway.to_string(), "dev", name])?;
    }
    Ok(())
}

fn dhcp_pid_file(interface: &str) -> String {
    format!("/run/udhcpc.{interface}.pid")
}

/// Returns the process that asks for the address of an interface, if one does.
pub(super) fn dhcp_client(interface: &str) -> Option<Pid> {
    let pid: i32 = fs::read_to_string(dhcp_pid_file(interface)).ok()?.trim().parse().ok()?;
    // The file may be older than this boot.
    let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let is_it = words.split(|byte| *byte == 0).any(|word| word == interface.as_bytes())
        && words.windows(6).any(|part| part == b"udhcpc");
    Pid::from_raw(pid).filter(|_| is_it)
}

fn interface_with(mac: &str) -> Option<String> {
    fs::read_dir("/sys/class/net").ok()?.flatten().find_map(|entry| {
        let address = fs::read_to_string(entry.path().join("address")).ok()?;
        (address.trim() == mac).then(|| entry.file_name().into_string().ok()).flatten()
    })
}

fn ensure_users(users: &[SeedUserWire], groups: &[(String, Vec<String>)]) -> Result<(), ApplyError> {
    let read = |path: &str| {
        fs::read_to_string(path).map_err(|source| ApplyError::File {
            what: "reading",
            path: path.into(),
            source,
        })
    };
    let mut accounts =
        Accounts { passwd: read("/etc/passwd")?, group: read("/etc/group")?, shadow: read("/etc/shadow")? };
    let shell = if Path::new("/bin/bash").exists() { "/bin/bash" } else { "/bin/sh" };
    let seconds = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_secs());
    let mut added = Vec::new();
    for user in users {
        added.extend(accounts.ensure(Wanted {
            name: &user.name,
            password: user.password.as_deref(),
            home: user.home.as_deref(),
            uid: user.uid,
            shell,
            today: seconds / 86_400,
        })?);
    }
    for (group, members) in groups {
        accounts.ensure_group(group, members)?;
    }
    write_if_other("/etc/group", &accounts.group, 0o644)?;
    write_if_other("/etc/shadow", &accounts.shadow, 0o640)?;
    write_if_other("/etc/passwd", &accounts.passwd, 0o644)?;
    for user in added {
        make_home(Path::new(&user.home), user.uid, user.gid).map_err(|source| ApplyError::File {
            what: "making the home folder",
            path: user.home,
            source,
        })?;
    }
    Ok(())
}

fn make_home(home: &Path, uid: u32, gid: u32) -> io::Result<()> {
    if home.exists() {
        return Ok(());
    }
    fs::create_dir_all(home)?;
    for entry in fs::read_dir("/etc/skel").into_iter().flatten().flatten() {
        let to = home.join(entry.file_name());
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), &to)?;
            std::os::unix::fs::chown(&to, Some(uid), Some(gid))?;
        }
    }
    fs::set_permissions(home, fs::Permissions::from_mode(0o755))?;
    std::os::unix::fs::chown(home, Some(uid), Some(gid))
}

fn write_if_other(path: &str, text: &str, mode: u32) -> Result<(), ApplyError> {
    if fs::read_to_string(path).ok().as_deref() == Some(text) {
        return Ok(());
    }
    write_file(Path::new(path), text.as_bytes(), mode)
}

/// Puts a file in place whole or not at all.
pub(super) fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), ApplyError> {
    let put = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let fresh = beside(path);
        fs::write(&fresh, bytes)?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(mode))?;
        fs::rename(&fresh, path)
    };
    put().map_err(|source| ApplyError::File { what: "writing", path: path.display().to_string(), source })
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".mln-new");
    path.with_file_name(name)
}

fn ip(words: &[&str]) -> Result<(), ApplyError> {
    run("ip", words)
}

pub(super) fn run(program: &str, words: &[&str]) -> Result<(), ApplyError> {
    let command = || format!("{program} {}", words.join(" "));
    let output = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| ApplyError::Command { command: command(), text: error.to_string() })?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    warn!(command = command(), text, "failed");
    Err(ApplyError::Command { command: command(), text: format!("{} ({text})", output.status) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_part_of_the_hosts_file_is_replaced_and_the_rest_kept() {
        let guests = [("r1".to_owned(), IpAddr::from([10, 0, 0, 1]))];
        let first = hosts_text("", "r1", &guests);
        assert_eq!(
            first,
            format!(
                "127.0.0.1 localhost\n::1 localhost ip6-localhost\n{HOSTS_BEGIN}\n10.0.0.1 r1\n{HOSTS_END}\n"
            )
        );
        assert_eq!(hosts_text(&first, "r1", &guests), first, "again changes nothing");
        let edited = format!("192.0.2.1 mine\n{first}192.0.2.2 too\n");
        let second = hosts_text(&edited, "r2", &[]);
        assert_eq!(
            second,
            format!(
                "192.0.2.1 mine\n127.0.0.1 localhost\n::1 localhost ip6-localhost\n192.0.2.2 too\n\
                 {HOSTS_BEGIN}\n127.0.1.1 r2\n{HOSTS_END}\n"
            )
        );
    }
}
