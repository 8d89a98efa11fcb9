//! `mlnctl ssh`: the system's ssh, on a way through the mesh.
//!
//! `mlnctl` is ssh's proxy: a server in the VM runs for this one connection, over the same way as `exec`, and lets
//! in the key that comes with the request. It also tells ssh the VM's host key, over the same authenticated way.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use mln_link::message::{ExecExit, OutputStream, ProjectRef, VmRef};
use mln_link::{Reply, Request};
use mln_protocol::id::Name;

use crate::conversation::{Agent, Answer, OnSignal};
use crate::error::{CommandError, UsageError};
use crate::exit::Exit;
use crate::ui::screen::Screen;
use crate::ui::text::printable;

/// What the names of VMs end with for ssh.
const SUFFIX: &str = ".mln";
/// Who logs in where nobody is named.
const USER: &str = "root";
/// The program of the guest agent, as seen from itself.
const GUEST_PROGRAM: &str = "/proc/self/exe";
/// What is kept of what a guest says, in bytes.
const SAID_BYTES_MAX: usize = 16 << 10;

/// The arguments of `ssh`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples: mlnctl ssh ring/router1\n          mlnctl ssh anna@ring/router1 -- uname -r\n          \
    mlnctl ssh --config >> ~/.ssh/config; scp file router1.ring.mln:"
)]
pub struct Ssh {
    /// Where: [USER@]PROJECT/HOST, or [USER@]HOST.PROJECT.mln
    #[arg(value_name = "PROJECT/HOST")]
    target: Option<String>,
    /// A command in place of a shell
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
    /// Print what ~/.ssh/config needs, so that ssh, scp, rsync and ansible know HOST.PROJECT.mln
    #[arg(long, conflicts_with_all = ["target", "proxy", "host_key"])]
    config: bool,
    /// Be the connection of an ssh to this VM
    #[arg(long, hide = true, value_name = "USER@HOST", conflicts_with_all = ["target", "host_key"])]
    proxy: Option<String>,
    /// Print the host key of this VM as ssh's known_hosts has it
    #[arg(long, hide = true, value_name = "HOST", conflicts_with = "target")]
    host_key: Option<String>,
}

/// A VM, as ssh is told of it.
#[derive(Debug, PartialEq, Eq)]
struct Destination {
    user: Option<String>,
    vm: VmRef,
}

impl Destination {
    fn parse(text: &str) -> Result<Self, CommandError> {
        let (user, name) = match text.split_once('@') {
            Some((user, name)) => (Some(user.to_owned()), name),
            None => (None, text),
        };
        let wrong = || CommandError::Usage(UsageError::SshName(text.to_owned()));
        let vm = vm_of(name).ok_or_else(wrong)?;
        if user.as_deref().is_some_and(|user| !is_login(user)) {
            return Err(wrong());
        }
        Ok(Self { user, vm })
    }

    /// Returns the name that ssh knows it by.
    fn host(&self) -> String {
        let VmRef { project: ProjectRef { owner, project }, vm } = &self.vm;
        match owner {
            Some(owner) => format!("{vm}.{project}.{owner}{SUFFIX}"),
            None => format!("{vm}.{project}{SUFFIX}"),
        }
    }
}

/// Whether a text can be a login. ssh puts it into a shell's line, where anything else would be obeyed.
fn is_login(text: &str) -> bool {
    let is_ordinary = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-');
    !text.is_empty() && !text.starts_with('-') && text.chars().all(is_ordinary)
}

fn vm_of(name: &str) -> Option<VmRef> {
    let Some(stem) = name.strip_suffix(SUFFIX) else { return VmRef::parse(name).ok() };
    let parsed = |text: &str| Name::parse(text).ok();
    match stem.split('.').collect::<Vec<_>>()[..] {
        [vm, project] => {
            Some(VmRef { project: ProjectRef { owner: None, project: parsed(project)? }, vm: parsed(vm)? })
        }
        [vm, project, owner] => {
            let project = ProjectRef { owner: Some(parsed(owner)?), project: parsed(project)? };
            Some(VmRef { project, vm: parsed(vm)? })
        }
        _ => None,
    }
}

/// Logs in, or does one of ssh's parts; `peer` is which agent was named, if one was.
pub async fn run(
    args: Ssh,
    peer: Option<&Path>,
    agent: &Agent,
    screen: &Screen,
) -> Result<Exit, CommandError> {
    if args.config {
        screen.text(&configuration(&own_key()?)?);
        return Ok(Exit::Done);
    }
    if let Some(name) = args.host_key {
        let destination = Destination::parse(&name)?;
        return match host_key(&destination, agent).await? {
            Ok(key) => {
                screen.text(&format!("{} {key}\n", name.to_lowercase()));
                Ok(Exit::Done)
            }
            Err(answer) => Ok(screen.troubles(&answer)),
        };
    }
    if let Some(name) = args.proxy {
        return carry(&Destination::parse(&name)?, agent, screen).await;
    }
    let target = args.target.ok_or(CommandError::Usage(UsageError::SshNowhere))?;
    let destination = Destination::parse(&target)?;
    let key = own_key()?;
    let mut ssh = Command::new("ssh");
    for (name, value) in options(&key)? {
        ssh.arg("-o").arg(format!("{name}={value}"));
    }
    // What ssh runs is to ask the same agent.
    if let Some(peer) = peer {
        ssh.env("MLN_PEER", peer);
    }
    ssh.arg("-l").arg(destination.user.as_deref().unwrap_or(USER)).arg(destination.host()).arg("--");
    // Nothing comes back from this but an error: ssh is what this process is then.
    Err(failed("ssh", &ssh.args(args.command).exec().to_string()))
}

/// Is the connection: the VM's ssh server at one end, our standard streams at the other.
async fn carry(destination: &Destination, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let public = own_key()?.with_extension("pub");
    let key = fs::read_to_string(&public).map_err(|source| CommandError::File { path: public, source })?;
    let user = destination.user.as_deref().unwrap_or(USER);
    let request = request(&destination.vm, &["serve", user, key.trim()]);
    let answer = agent.attach(&request, OnSignal::EndInput, screen).await?;
    Ok(match (screen.troubles(&answer), answer.exited) {
        (Exit::Done, Some(ExecExit::Status(0))) => Exit::Done,
        (Exit::Done, _) => Exit::Failed,
        (trouble, _) => trouble,
    })
}

/// Asks a VM for its public host key; it makes one the first time.
async fn host_key(
    destination: &Destination,
    agent: &Agent,
) -> Result<Result<String, Box<Answer>>, CommandError> {
    let (mut input, mut replies) = agent.begin(&request(&destination.vm, &["host-key"])).await?;
    input.end().await.map_err(CommandError::BrokeOff)?;
    let (mut answer, mut said, mut complaint) = (Answer::default(), Vec::new(), Vec::new());
    while let Some(reply) = replies.next().await.map_err(CommandError::BrokeOff)? {
        match reply {
            Reply::Output { stream, bytes } => {
                let to = if stream == OutputStream::Stdout { &mut said } else { &mut complaint };
                let room = SAID_BYTES_MAX.saturating_sub(to.len());
                to.extend(bytes.into_iter().take(room));
            }
            reply => answer.note(reply),
        }
    }
    let key = String::from_utf8(said).ok().map(|key| key.trim().to_owned());
    match (answer.exited, key) {
        (Some(ExecExit::Status(0)), Some(key)) if is_key(&key) => Ok(Ok(key)),
        (None, _) => Ok(Err(Box::new(answer))),
        (Some(_), _) => {
            let text = printable(String::from_utf8_lossy(&complaint).trim());
            Err(CommandError::Guest { what: format!("in {}", destination.vm), text })
        }
    }
}

/// Whether a guest's words are a key and nothing else: one line of two words.
fn is_key(text: &str) -> bool {
    let words: Vec<&str> = text.split(' ').collect();
    words.len() == 2
        && words[0].starts_with("ssh-")
        && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

fn request(vm: &VmRef, words: &[&str]) -> Request {
    let argv = [GUEST_PROGRAM, "guest-ssh"].iter().chain(words).map(|word| (*word).to_owned()).collect();
    Request::Exec(mln_link::message::Exec { vm: vm.clone(), argv })
}

/// Returns our own key for VMs; makes it the first time.
fn own_key() -> Result<PathBuf, CommandError> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")));
    let folder = config.unwrap_or_else(|| PathBuf::from("/root/.config")).join("mln/ssh");
    let key = folder.join("id_ed25519");
    if key.exists() && key.with_extension("pub").exists() {
        return Ok(key);
    }
    let making = |source| CommandError::Write { path: folder.clone(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(making)?;
    // Under a name of its own first: two may come at once, and each must find a whole pair.
    let fresh = folder.join(format!("new-{}", std::process::id()));
    let output = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "mlnctl", "-f"])
        .arg(&fresh)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed("ssh-keygen", &error.to_string()))?;
    if !output.status.success() {
        return Err(failed("ssh-keygen", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let lock = fs::File::create(folder.join("lock")).map_err(making)?;
    lock.lock().map_err(making)?;
    if !key.exists() {
        fs::rename(fresh.with_extension("pub"), key.with_extension("pub")).map_err(making)?;
        fs::rename(&fresh, &key).map_err(making)?;
    } else {
        let _ = fs::remove_file(fresh.with_extension("pub"));
        let _ = fs::remove_file(&fresh);
    }
    Ok(key)
}

/// Returns what ssh must be told, in its own words.
fn options(key: &Path) -> Result<Vec<(&'static str, String)>, CommandError> {
    let program = std::env::current_exe().map_err(|error| failed("mlnctl", &error.to_string()))?;
    // A per cent sign begins something that ssh fills in.
    let program = program.display().to_string().replace('%', "%%");
    Ok(vec![
        // A shell reads this. The user's name may come from a URL that somebody else wrote: older versions of ssh fill
        // in whatever it has.
        ("ProxyCommand", format!("\"{program}\" ssh --proxy '%r@%n'")),
        ("KnownHostsCommand", format!("\"{program}\" ssh --host-key %n")),
        ("UserKnownHostsFile", "/dev/null".to_owned()),
        ("GlobalKnownHostsFile", "/dev/null".to_owned()),
        ("StrictHostKeyChecking", "yes".to_owned()),
        ("UpdateHostKeys", "no".to_owned()),
        ("IdentityFile", format!("\"{}\"", key.display())),
        ("IdentitiesOnly", "yes".to_owned()),
        // Whoever can't be let in by the key is told so, not asked for a password that nothing takes.
        ("PreferredAuthentications", "publickey".to_owned()),
    ])
}

fn configuration(key: &Path) -> Result<String, CommandError> {
    let mut text = format!(
        "# Hosts of MLN's projects, by the names HOST.PROJECT{SUFFIX}\nHost *{SUFFIX}\n    User {USER}\n"
    );
    for (name, value) in options(key)? {
        text += &format!("    {name} {value}\n");
    }
    Ok(text)
}

fn failed(program: &'static str, text: &str) -> CommandError {
    CommandError::Program { program, text: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_has_a_name_for_ssh_that_leads_back_to_it() {
        for (text, host) in [
            ("ring/router1", "router1.ring.mln"),
            ("anna/ring/router1", "router1.ring.anna.mln"),
            ("bob@ring/router1", "router1.ring.mln"),
        ] {
            let destination = Destination::parse(text).expect("a VM");
            assert_eq!(destination.host(), host);
            assert_eq!(Destination::parse(host).expect("a VM").vm, destination.vm);
        }
        assert_eq!(Destination::parse("bob@router1.ring.mln").expect("a VM").user.as_deref(), Some("bob"));
        for wrong in ["router1", "router1.mln", "a.b.c.d.mln", "-x.ring.mln", "ring/-oProxyCommand=x"] {
            assert!(Destination::parse(wrong).is_err(), "{wrong}");
        }
        for wrong in ["`id`@ring/r1", "$(id)@ring/r1", "a;id@ring/r1", "'a@ring/r1", "-l@ring/r1", "@ring/r1"]
        {
            assert!(Destination::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_shell_obeys_nothing_in_what_ssh_fills_in() {
        let options = options(Path::new("/home/anna/key")).expect("this program has a path");
        let (_, proxy) = options.iter().find(|(name, _)| *name == "ProxyCommand").expect("it is there");
        let line = proxy.replace("%r", "$(echo x)`echo y`; echo z").replace("%n", "r1.ring.mln");
        let (_, words) = line.split_once(" ssh --proxy ").expect("what it runs");
        let shell = Command::new("sh").arg("-c").arg(format!("printf '%s' {words}")).output();
        let shell = shell.expect("every machine has a shell");
        assert_eq!(String::from_utf8_lossy(&shell.stdout), "$(echo x)`echo y`; echo z@r1.ring.mln");
    }

    #[test]
    fn a_guest_can_say_nothing_but_its_key() {
        assert!(is_key("ssh-ed25519 AAAAC3Nza"));
        for wrong in
            ["", "ssh-ed25519", "ssh-ed25519 AAAA\n* ssh-ed25519 BBBB", "@cert-authority * x", "ssh-x a b"]
        {
            assert!(!is_key(wrong), "{wrong:?}");
        }
    }
}
