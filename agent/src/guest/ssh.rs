//! An ssh server for one connection that came over the line: no network of the guest is needed.
//!
//! The server is the guest's own (dropbear or OpenSSH's sshd), in the mode in which another program accepts. It
//! wants a socket of the internet family, so it gets a connection over the guest's loopback that nobody else can
//! be at the other end of. The caller's key is authorised while their connection lasts, and no longer.
//!
//! The file of keys is in a folder of the user's own, and is changed by root. So no link in there is followed: it
//! could lead to what the user may neither read nor write.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

/// Folders where servers are.
const PROGRAMS: [&str; 4] = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin"];
/// The folder of a user's keys, in their home.
const FOLDER: &str = ".ssh";
/// A user's authorised keys, in that folder.
const KEYS: &str = "authorized_keys";
/// What they are until all of them are written.
const KEYS_FRESH: &str = "authorized_keys.mln-new";
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
    let mark = format!("{MARK}{process}");
    rewrite(&account, |line| !line.ends_with(&mark) && is_still_wanted(line), None)
}

/// Authorises a key as long as what is returned is kept: its end is what [`clear`] waits for, in a process that
/// nobody kills together with this one.
fn authorise(user: &str, account: &Account, key: &str) -> Result<ChildStdin, SshError> {
    if !key.starts_with("ssh-") || key.chars().any(char::is_control) {
        return Err(SshError::BadKey);
    }
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
    rewrite(account, is_still_wanted, Some(&format!("{key}{MARK}{process}")))?;
    Ok(at_end)
}

/// Whether a line isn't one of ours whose connection is over.
fn is_still_wanted(line: &str) -> bool {
    match line.rsplit_once(MARK) {
        Some((_, process)) if process.parse::<u32>().is_ok() => Path::new("/proc").join(process).exists(),
        Some(_) | None => true,
    }
}

/// Writes a user's keys anew: those lines that are kept, and one more.
fn rewrite(account: &Account, keep: impl Fn(&str) -> bool, more: Option<&str>) -> Result<(), SshError> {
    let write = || {
        // Those that come at once come one after the other.
        let lock = File::create("/run/mln/authorized-keys.lock")?;
        lock.lock()?;
        rewrite_in(keys_folder(account)?, account, keep, more)
    };
    let path = || account.home.join(FOLDER).join(KEYS);
    write().map_err(|source| SshError::File { what: "writing", path: path(), source })
}

/// Returns the folder of a user's keys, which is made where there is none.
fn keys_folder(account: &Account) -> io::Result<OwnedFd> {
    fs::create_dir_all(&account.home)?;
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let home = rustix::fs::open(&account.home, flags, Mode::empty())?;
    let open = || rustix::fs::openat(&home, FOLDER, flags | OFlags::NOFOLLOW, Mode::empty());
    match open() {
        Err(Errno::NOENT) => {
            rustix::fs::mkdirat(&home, FOLDER, Mode::RWXU)?;
            let folder = open()?;
            give(&folder, account)?;
            Ok(folder)
        }
        opened => Ok(opened?),
    }
}

/// Does what [`rewrite`] does, in the folder of keys, for one that comes after the other.
fn rewrite_in(
    folder: impl AsFd,
    account: &Account,
    keep: impl Fn(&str) -> bool,
    more: Option<&str>,
) -> io::Result<()> {
    let before = read_keys(&folder)?;
    let lines = before.lines().filter(|line| keep(line)).chain(more);
    let after: String = lines.map(|line| format!("{line}\n")).collect();
    if after == before {
        return Ok(());
    }
    if after.is_empty() {
        return Ok(rustix::fs::unlinkat(&folder, KEYS, AtFlags::empty())?);
    }
    match rustix::fs::unlinkat(&folder, KEYS_FRESH, AtFlags::empty()) {
        Err(Errno::NOENT) => {}
        removed => removed?,
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut fresh = File::from(rustix::fs::openat(&folder, KEYS_FRESH, flags, Mode::RUSR | Mode::WUSR)?);
    fresh.write_all(after.as_bytes())?;
    give(&fresh, account)?;
    Ok(rustix::fs::renameat(&folder, KEYS_FRESH, &folder, KEYS)?)
}

/// Reads the keys of a folder; none where there is no such file.
fn read_keys(folder: impl AsFd) -> io::Result<String> {
    // A pipe of that name would otherwise be waited for.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = match rustix::fs::openat(folder, KEYS, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(String::new()),
        opened => File::from(opened?),
    };
    let found = file.metadata()?;
    // One that has a second name may be anybody's.
    if !found.is_file() || found.nlink() != 1 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file of its own"));
    }
    if found.len() > KEYS_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too long"));
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

fn give(file: impl AsFd, account: &Account) -> io::Result<()> {
    Ok(rustix::fs::fchown(file, Some(Uid::from_raw(account.uid)), Some(Gid::from_raw(account.gid)))?)
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

    /// Adds a key in a folder where a user has done something before, and returns what is in the file of keys.
    fn with_a_key_more(prepare: impl FnOnce(&Path)) -> (io::Result<String>, String) {
        let home = tempfile::tempdir().expect("a folder");
        let (folder, secret) = (home.path().join(FOLDER), home.path().join("secret"));
        fs::create_dir(&folder).expect("is made");
        fs::write(&secret, "a secret\n").expect("is written");
        prepare(&folder);
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        let account = Account { uid, gid, home: home.path().to_owned() };
        let done =
            keys_folder(&account).and_then(|folder| rewrite_in(folder, &account, |_| true, Some("a key")));
        let keys = done.and_then(|()| fs::read_to_string(folder.join(KEYS)));
        (keys, fs::read_to_string(secret).expect("is there"))
    }

    #[test]
    fn a_key_comes_behind_those_that_are_there() {
        let (keys, _) = with_a_key_more(|folder| fs::write(folder.join(KEYS), "hers\n").expect("is written"));
        assert_eq!(keys.expect("is written"), "hers\na key\n");
        let (keys, _) = with_a_key_more(|folder| fs::remove_dir(folder).expect("is removed"));
        assert_eq!(keys.expect("is written"), "a key\n");
    }

    #[test]
    fn what_a_user_has_linked_is_neither_read_nor_written() {
        use std::os::unix::fs::symlink;
        // The file that is written first was opened by its name, so a link led root to any file of the guest.
        let (keys, secret) = with_a_key_more(|folder| {
            symlink("../secret", folder.join(KEYS_FRESH)).expect("is linked");
        });
        assert_eq!((keys.expect("is written").as_str(), secret.as_str()), ("a key\n", "a secret\n"));
        let (keys, secret) = with_a_key_more(|folder| {
            symlink("../secret", folder.join(KEYS)).expect("is linked");
        });
        assert!(keys.is_err(), "{keys:?}");
        assert_eq!(secret, "a secret\n");
        let (keys, secret) = with_a_key_more(|folder| {
            fs::hard_link(folder.join("../secret"), folder.join(KEYS)).expect("is linked");
        });
        assert!(keys.is_err(), "{keys:?}");
        assert_eq!(secret, "a secret\n");
        let (keys, _) = with_a_key_more(|folder| {
            fs::remove_dir(folder).expect("is removed");
            symlink(".", folder).expect("is linked");
        });
        assert!(keys.is_err(), "{keys:?}");
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
}
