//! An ssh server for one connection that came over the line: no network of the guest is needed.
//!
//! The server is the guest's own (dropbear or OpenSSH's sshd), in the mode in which another program accepts. It
//! wants a socket of the internet family, so it gets a connection over the guest's loopback that nobody else can
//! be at the other end of. The caller's key is authorised while their connection lasts, and no longer.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};

use rustix::fs::OFlags;
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// Folders where servers are.
const PROGRAMS: [&str; 4] = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin"];
/// A user's authorised keys, in their home.
const KEYS: &str = ".ssh/authorized_keys";
/// What a line that we added to `authorized_keys` ends with, before the number of our process.
const MARK: &str = " mln-connection-";
/// The longest file of authorised keys that is changed, in bytes.
const KEYS_BYTES_MAX: u64 = 1 << 20;

/// Why there is no ssh. Nothing was changed but, it may be, that the guest has a host key now.
#[derive(Debug, thiserror::Error)]
pub(super) enum SshError {
    #[error(
        "this guest has no ssh server: install dropbear-bin or openssh-server in it, or use `mlnctl console`"
    )]
    NoServer,
    #[error("this guest has no user {0}")]
    NoUser(String),
    #[error("the key that is to be let in is not one line")]
    BadKey,
    #[error("making the guest's host key: {0}")]
    HostKey(String),
    #[error("{what} {}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("running the ssh server")]
    Run(#[source] io::Error),
}

/// A server that the guest has.
enum Server {
    Dropbear(PathBuf),
    OpenSsh(PathBuf),
}

impl Server {
    fn find() -> Result<Self, SshError> {
        let dropbear = program("dropbear").map(Self::Dropbear);
        // A template that has the larger one means it to be used.
        program("sshd").map(Self::OpenSsh).or(dropbear).ok_or(SshError::NoServer)
    }

    fn host_key_file(&self) -> &'static Path {
        Path::new(match self {
            Self::Dropbear(_) => "/etc/dropbear/dropbear_ed25519_host_key",
            Self::OpenSsh(_) => "/etc/ssh/ssh_host_ed25519_key",
        })
    }

    /// Makes the host key if this is the first time; it stays on the guest's disk.
    fn ensure_host_key(&self) -> Result<&'static Path, SshError> {
        let path = self.host_key_file();
        if path.exists() {
            return Ok(path);
        }
        let folder = path.parent().unwrap_or(Path::new("/"));
        let disk = |what, source| SshError::File { what, path: path.to_owned(), source };
        fs::create_dir_all(folder).map_err(|error| disk("making the folder of", error))?;
        // Two may come at once: each makes one under a name of its own, and the first name counts.
        let fresh = path.with_extension(format!("new{}", std::process::id()));
        let words: &[&str] = match self {
            Self::Dropbear(_) => &["dropbearkey", "-t", "ed25519", "-f"],
            Self::OpenSsh(_) => &["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f"],
        };
        run(words, &fresh)?;
        let linked = fs::hard_link(&fresh, path);
        for left in [fresh.clone(), PathBuf::from(format!("{}.pub", fresh.display()))] {
            let _ = fs::remove_file(left);
        }
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(disk("making", error)),
            Ok(()) | Err(_) => Ok(path),
        }
    }

    fn public_key(&self, path: &Path) -> Result<String, SshError> {
        let text = match self {
            Self::Dropbear(_) => run(&["dropbearkey", "-y", "-f"], path)?,
            Self::OpenSsh(_) => run(&["ssh-keygen", "-y", "-f"], path)?,
        };
        let key = text.lines().find(|line| line.starts_with("ssh-ed25519 "));
        let words = key.map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" "));
        words.ok_or_else(|| SshError::HostKey(format!("unexpected words: {text}")))
    }

    fn command(&self, host_key: &Path) -> Command {
        let mut command;
        match self {
            Self::Dropbear(program) => {
                command = Command::new(program);
                // In inetd's mode, where complaints go to the guest's log; no passwords, this key.
                command.args(["-i", "-s", "-r"]).arg(host_key);
            }
            Self::OpenSsh(program) => {
                // It refuses to run without the folder that its unit makes.
                let _ = fs::create_dir_all("/run/sshd");
                command = Command::new(program);
                command.args(["-i", "-e", "-o", "PasswordAuthentication=no", "-o", "PermitRootLogin=yes"]);
                command.arg("-h").arg(host_key);
            }
        }
        command
    }
}

/// Returns the guest's public host key, as `known_hosts` has it after the name.
pub(super) fn host_key() -> Result<String, SshError> {
    let server = Server::find()?;
    server.public_key(server.ensure_host_key()?)
}

/// Serves the connection that is standard input and output; whoever has this key is let in as `user`.
pub(super) fn serve(user: &str, key: &str) -> Result<(), SshError> {
    let server = Server::find()?;
    let host_key = server.ensure_host_key()?;
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let account = account(&passwd, user).ok_or_else(|| SshError::NoUser(user.to_owned()))?;
    let _at_end = authorise(user, &account, key)?;
    let (ours, theirs) = connection().map_err(SshError::Run)?;
    let (input, output) = (OwnedFd::from(theirs.try_clone().map_err(SshError::Run)?), OwnedFd::from(theirs));
    let mut command = server.command(host_key);
    command.stdin(Stdio::from(input)).stdout(Stdio::from(output)).stderr(Stdio::null());
    let mut child = command.spawn().map_err(SshError::Run)?;
    drop(command);
    carry(ours);
    child.wait().map_err(SshError::Run)?;
    Ok(())
}

/// Returns the two ends of a connection over the loopback.
fn connection() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let ours = TcpStream::connect(listener.local_addr()?)?;
    let us = ours.local_addr()?;
    // Somebody else in the guest may have come first.
    loop {
        let (theirs, peer) = listener.accept()?;
        if peer == us {
            ours.set_nodelay(true)?;
            theirs.set_nodelay(true)?;
            return Ok((ours, theirs));
        }
    }
}

/// Carries standard input and output until the server has closed its end.
fn carry(ours: TcpStream) {
    let Ok(mut to_server) = ours.try_clone() else { return };
    // It is left behind when the server ends first: a read of standard input can't be called off.
    std::thread::spawn(move || {
        let _ = pour(&mut io::stdin().lock(), &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let mut from_server = ours;
    let _ = pour(&mut from_server, &mut io::stdout().lock());
    let _ = from_server.shutdown(Shutdown::Both);
}

fn pour(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut bytes = [0; 16 << 10];
    loop {
        match from.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                to.write_all(&bytes[..count])?;
                to.flush()?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Account {
    uid: u32,
    gid: u32,
    home: PathBuf,
}

fn account(passwd: &str, user: &str) -> Option<Account> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(user))?;
    let fields: Vec<&str> = line.split(':').collect();
    let home = fields.get(5).filter(|home| home.starts_with('/'))?;
    Some(Account { uid: fields.get(2)?.parse().ok()?, gid: fields.get(3)?.parse().ok()?, home: home.into() })
}

/// Takes back what was authorised for a process, and for others that are gone, once standard input ends: that is,
/// when that process does, however it ends.
pub(super) fn clear(user: &str, process: u32) -> Result<(), SshError> {
    // Nothing comes; an error is an end as well.
    let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let account = account(&passwd, user).ok_or_else(|| SshError::NoUser(user.to_owned()))?;
    let path = account.home.join(KEYS);
    let mark = format!("{MARK}{process}");
    rewrite(&path, &account, |line| !line.ends_with(&mark) && is_still_wanted(line), None)
        .map_err(|source| SshError::File { what: "writing", path: path.clone(), source })
}

/// Authorises a key as long as what is returned is kept: its end is what [`clear`] waits for, in a process that
/// nobody kills together with this one.
fn authorise(user: &str, account: &Account, key: &str) -> Result<ChildStdin, SshError> {
    if !key.starts_with("ssh-") || key.chars().any(char::is_control) {
        return Err(SshError::BadKey);
    }
    let path = account.home.join(KEYS);
    let process = std::process::id().to_string();
    let mut clearer = Command::new("/proc/self/exe")
        .args([super::verb::SSH, "clear", user, &process])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(SshError::Run)?;
    let at_end = clearer.stdin.take().ok_or_else(|| SshError::Run(io::ErrorKind::BrokenPipe.into()))?;
    rewrite(&path, account, is_still_wanted, Some(&format!("{key}{MARK}{process}")))
        .map_err(|source| SshError::File { what: "writing", path: path.clone(), source })?;
    Ok(at_end)
}

/// Whether a line isn't one of ours whose connection is over.
fn is_still_wanted(line: &str) -> bool {
    match line.rsplit_once(MARK) {
        Some((_, process)) if process.parse::<u32>().is_ok() => Path::new("/proc").join(process).exists(),
        Some(_) | None => true,
    }
}

/// Writes an account's file of keys anew: those lines that are kept, and one more.
fn rewrite(
    path: &Path,
    account: &Account,
    keep: impl Fn(&str) -> bool,
    more: Option<&str>,
) -> io::Result<()> {
    // Those that come at once come one after the other.
    let lock = fs::File::create("/run/mln/authorized-keys.lock")?;
    lock.lock()?;
    let _acting = Acting::for_account(account)?;
    rewrite_keys(path, keep, more)
}

/// While it exists, this thread touches files as an account does. In a home, any name may be a link of its user's to
/// what only root may write.
struct Acting {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl Acting {
    fn for_account(account: &Account) -> io::Result<Option<Self>> {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        if uid.as_raw() == account.uid {
            return Ok(None);
        }
        // From here on, dropping it leads back.
        let before = Self { uid, gid, groups: rustix::process::getgroups()? };
        let theirs = Gid::from_raw(account.gid);
        set_thread_groups(&[theirs])?;
        set_thread_res_gid(None::<Gid>, theirs, None::<Gid>)?;
        set_thread_res_uid(None::<Uid>, Uid::from_raw(account.uid), None::<Uid>)?;
        Ok(Some(before))
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        // Where that fails, less is allowed than before, and what follows says so.
        let _ = set_thread_res_uid(None::<Uid>, self.uid, None::<Uid>);
        let _ = set_thread_res_gid(None::<Gid>, self.gid, None::<Gid>);
        let _ = set_thread_groups(&self.groups);
    }
}

/// Reads a file of keys; one that isn't there is empty.
fn read_keys(path: &Path) -> io::Result<String> {
    // A pipe in its place would keep everybody waiting.
    let nonblocking = OFlags::NONBLOCK.bits() as i32;
    let file = match fs::File::options().read(true).custom_flags(nonblocking).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        opened => opened?,
    };
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
    }
    if found.len() > KEYS_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too long"));
    }
    let mut text = String::new();
    file.take(KEYS_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn rewrite_keys(path: &Path, keep: impl Fn(&str) -> bool, more: Option<&str>) -> io::Result<()> {
    let before = read_keys(path)?;
    let lines = before.lines().filter(|line| keep(line)).chain(more);
    let after: String = lines.map(|line| format!("{line}\n")).collect();
    if after == before {
        return Ok(());
    }
    if after.is_empty() {
        return fs::remove_file(path);
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let fresh = path.with_extension("mln-new");
    // What has that name was left behind, or put there by somebody; it is not written through.
    let _ = fs::remove_file(&fresh);
    let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(after.as_bytes())?;
    fs::rename(fresh, path)
}

fn program(name: &str) -> Option<PathBuf> {
    PROGRAMS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists())
}

fn run(words: &[&str], path: &Path) -> Result<String, SshError> {
    let failed = |text: &dyn std::fmt::Display| SshError::HostKey(format!("{}: {text}", words[0]));
    let output = Command::new(words[0]).args(&words[1..]).arg(path).stdin(Stdio::null()).output();
    let output = output.map_err(|error| failed(&error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(failed(&String::from_utf8_lossy(&output.stderr).trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let passwd = "rooter:x:7:8::/else:/bin/sh\nroot:x:0:0:root:/root:/bin/sh\nbare:x:9:9\n";
        let root = Account { uid: 0, gid: 0, home: "/root".into() };
        assert_eq!(account(passwd, "root"), Some(root));
        assert_eq!(account(passwd, "roo"), None);
        assert_eq!(account(passwd, "bare"), None);
    }

    #[test]
    fn keys_of_connections_that_are_over_are_not_kept() {
        let ours = |process: u32| format!("ssh-ed25519 AAAA x{MARK}{process}");
        assert!(is_still_wanted(&ours(std::process::id())));
        // Above the largest number that a process can have.
        assert!(!is_still_wanted(&ours(5_000_000)));
        assert!(is_still_wanted("ssh-ed25519 AAAA anna@laptop"));
        assert!(is_still_wanted(&format!("ssh-ed25519 AAAA{MARK}hers")));
    }

    #[test]
    fn what_a_user_links_to_is_not_written_in_the_place_of_their_keys() {
        let folder = tempfile::tempdir().expect("a folder");
        let (home, precious) = (folder.path().join("home/.ssh"), folder.path().join("precious"));
        fs::create_dir_all(&home).expect("makes");
        fs::write(&precious, "precious").expect("writes");
        std::os::unix::fs::symlink(&precious, home.join("authorized_keys.mln-new")).expect("links");
        let keys = home.join("authorized_keys");
        rewrite_keys(&keys, is_still_wanted, Some("ssh-ed25519 AAAA anna")).expect("it is ours");
        assert_eq!(fs::read_to_string(&precious).expect("is there"), "precious");
        assert_eq!(fs::read_to_string(&keys).expect("is there"), "ssh-ed25519 AAAA anna\n");
        assert!(fs::symlink_metadata(&keys).expect("is there").is_file());
    }

    #[test]
    fn keys_are_written_with_the_rights_of_their_user_alone() {
        use std::os::unix::fs::{PermissionsExt, chown};
        let account = Account { uid: 65_534, gid: 65_534, home: "/".into() };
        // Whoever isn't root can't be anybody else either.
        let is_root = rustix::process::geteuid().is_root();
        let Ok(acting) = Acting::for_account(&account) else { return assert!(!is_root, "root may") };
        drop(acting);
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("ours");
        for name in ["home", "roots"] {
            fs::create_dir(path(name)).expect("makes");
        }
        chown(path("home"), Some(account.uid), Some(account.gid)).expect("root may");
        let keys = path("home").join(KEYS);
        let put = || {
            let _acting = Acting::for_account(&account)?;
            rewrite_keys(&keys, is_still_wanted, Some("ssh-ed25519 AAAA anna"))
        };
        std::os::unix::fs::symlink(path("roots"), path("home/.ssh")).expect("links");
        assert!(put().is_err(), "a folder of root's");
        assert_eq!(fs::read_dir(path("roots")).expect("is there").count(), 0);
        fs::remove_file(path("home/.ssh")).expect("removes");
        put().expect("their own home");
        let found = fs::metadata(&keys).expect("is there");
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&found), account.uid);
        assert_eq!(found.permissions().mode() & 0o777, 0o600);
        assert!(rustix::process::geteuid().is_root(), "it leads back");
    }

    #[test]
    fn a_pipe_in_the_place_of_keys_keeps_nobody_waiting() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("authorized_keys");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).expect("makes");
        assert!(rewrite_keys(&path, is_still_wanted, Some("ssh-ed25519 AAAA anna")).is_err());
    }
}
