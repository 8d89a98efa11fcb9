//! A host: a folder, a place in the network, and an agent that runs or doesn't.

use std::fs::{self, OpenOptions};
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::answer::{Answer, ends_within};
use crate::network::Place;
use crate::programs::program_in;
use crate::until::{until, until_some};
use crate::{leftover, programs};

/// How long anything may take that has no time of its own, on a machine that is busy with other tests.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// A host.
#[derive(Debug)]
pub struct Host {
    name: String,
    folder: PathBuf,
    place: Place,
    /// The folder with the programs that it runs.
    programs: PathBuf,
    /// The user who runs them; none is the one who runs the test.
    uid: Option<u32>,
    /// Where the agent ends itself.
    abort_at: Option<String>,
    agent: Option<Child>,
}

impl Host {
    pub(crate) fn new(name: &str, folder: PathBuf, place: Place) -> Self {
        fs::create_dir(&folder).expect("the site's folder has no such host yet");
        Self {
            name: name.to_owned(),
            folder,
            place,
            programs: programs::folder(),
            uid: None,
            abort_at: None,
            agent: None,
        }
    }

    /// Makes a host with programs of its own, run by another user, whose its folder becomes.
    pub(crate) fn with_programs(mut self, programs: &Path, uid: Option<u32>) -> Self {
        if let Some(uid) = uid {
            std::os::unix::fs::chown(&self.folder, Some(uid), Some(uid)).expect("root may give it away");
        }
        self.programs = programs.to_owned();
        self.uid = uid;
        self
    }

    fn program(&self, name: &str) -> PathBuf {
        program_in(&self.programs, name)
    }

    /// Lets the host's user run a command, with a home of its own and nothing of the tester's.
    fn dress(&self, command: &mut Command) {
        let Some(uid) = self.uid else { return };
        command.uid(uid).gid(uid);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", &self.folder).env("NO_COLOR", "1");
    }

    /// Makes another host unreachable for this one, and leaves all others as they are.
    #[track_caller]
    pub fn cut_off_from(&self, address: IpAddr) {
        self.place.cut_off_from(address);
    }

    /// Returns the folder with the agent's state.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes the agent's configuration; it counts from its next start.
    pub fn configure(&self, text: &str) {
        fs::write(self.folder.join("config.toml"), text).expect("the folder is ours");
    }

    /// Lets the agent listen where it was, on any port that is free; counts from its next start.
    pub fn listen_on_any_port(&mut self) {
        self.place.listen_on_any_port();
    }

    /// Gives the host the template `mini`.
    pub fn take_images(&self) {
        let images = self.folder.join("images");
        programs::copy(programs::images(), &images);
        if let Some(uid) = self.uid {
            programs::give(&images, uid);
        }
    }

    /// Runs `mlnd` with these arguments, and this host's folder, to its end.
    #[track_caller]
    pub fn mlnd(&self, arguments: &[&str]) -> Answer {
        let mut command = self.place.command(&self.program("mlnd"));
        self.dress(&mut command);
        if let Some(place) = &self.abort_at {
            command.env("MLN_ABORT_AT", place);
        }
        command.args(arguments).arg("--data").arg(&self.folder).current_dir(&self.folder);
        Answer::of(command, &[], LIMIT)
    }

    /// Lets the agent end itself when it comes to a place in its code for the n-th time, or never; counts from its next
    /// start. Only `mlnd-failpoints` knows such places.
    pub fn abort_at(&mut self, place: Option<(&str, u64)>) {
        self.abort_at = place.map(|(name, number)| format!("{name}:{number}"));
    }

    /// Starts the agent, and waits until it answers; returns whether it does, and hasn't ended.
    #[track_caller]
    pub fn try_run(&mut self) -> bool {
        self.begin();
        let mut answers = false;
        until("the agent answers or has ended", LIMIT, || {
            answers = self.ctl(&["version"]).code == Some(0);
            if answers || !self.is_running() { Ok(()) } else { Err("it does neither".to_owned()) }
        });
        if !answers {
            self.reap();
        }
        answers
    }

    /// Takes away an agent that has ended by itself.
    pub fn reap(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.wait().expect("it is ours");
        }
    }

    /// Starts the agent, and waits until it answers.
    #[track_caller]
    pub fn run(&mut self) {
        self.begin();
        until("the agent answers", LIMIT, || {
            let answer = self.ctl(&["version"]);
            match (answer.code, self.is_running()) {
                (Some(0), _) => Ok(()),
                (_, true) => Err(answer.to_string()),
                (_, false) => panic!("the agent of {} has ended:\n{}", self.name, self.last_words()),
            }
        });
    }

    #[track_caller]
    fn begin(&mut self) {
        assert!(self.agent.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new().create(true).append(true).open(self.log()).expect("the folder is ours");
        let errors = log.try_clone().expect("a descriptor can be doubled");
        let mut command = self.place.command(&self.program("mlnd"));
        self.dress(&mut command);
        if let Some(place) = &self.abort_at {
            command.env("MLN_ABORT_AT", place);
        }
        command.arg("run").arg("--data").arg(&self.folder).arg("--listen").arg(self.place.listen.join(","));
        // Holders and guests work below this folder: that is how they are found.
        command.current_dir(&self.folder).stdin(Stdio::null()).stdout(log).stderr(errors);
        self.agent = Some(command.spawn().expect("the program is there"));
    }

    /// Kills the agent, and nothing else of the host.
    #[track_caller]
    pub fn kill(&mut self) {
        let mut agent = self.agent.take().expect("it runs");
        agent.kill().expect("it is ours, and not waited for");
        agent.wait().expect("it is ours");
    }

    /// Asks the agent to end, and waits for it.
    #[track_caller]
    pub fn stop(&mut self) {
        let mut agent = self.agent.take().expect("it runs");
        let pid = rustix::process::Pid::from_child(&agent);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is ours");
        assert!(ends_within(&agent, LIMIT), "the agent of {} doesn't end:\n{}", self.name, self.last_words());
        agent.wait().expect("it is ours");
    }

    /// Cuts the power: all processes of the host are gone at once, those of its guests too.
    pub fn cut_power(&mut self) {
        leftover::kill_in(&self.folder);
        if let Some(mut agent) = self.agent.take() {
            agent.wait().expect("it is ours");
        }
    }

    /// Returns whether the agent runs.
    pub fn is_running(&mut self) -> bool {
        self.agent.as_mut().is_some_and(|agent| matches!(agent.try_wait(), Ok(None)))
    }

    /// Returns how many processes of User-Mode Linux the host has.
    pub fn guest_processes(&self) -> usize {
        let is_guest = |pid: &rustix::process::Pid| {
            fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()))
                .is_ok_and(|line| line.split(|byte| *byte == 0).any(|word| word.starts_with(b"umid=")))
        };
        leftover::processes_in(&self.folder.join("vms")).iter().filter(|pid| is_guest(pid)).count()
    }

    /// Returns the process of the agent.
    #[track_caller]
    pub fn agent_process(&self) -> u32 {
        self.agent.as_ref().expect("it runs").id()
    }

    /// Returns the processes of the host's VMs: holders, kernels, and what guests run.
    pub fn vm_processes(&self) -> Vec<u32> {
        let found = leftover::processes_in(&self.folder.join("vms"));
        found.iter().filter_map(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok()).collect()
    }

    /// Returns the folder of a VM that is built on this host.
    #[track_caller]
    pub fn vm_folder(&self, vm: &str) -> PathBuf {
        let entries = fs::read_dir(self.folder.join("vms")).into_iter().flatten().flatten();
        let named = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.split_once('-'));
            name.is_some_and(|(_, name)| name == vm)
        };
        let found = entries.map(|entry| entry.path()).find(named);
        found.unwrap_or_else(|| panic!("{} has no VM {vm}", self.name))
    }

    /// Returns the process of a running VM's kernel, and the command line that it was started with.
    #[track_caller]
    pub fn kernel(&self, vm: &str) -> (u32, Vec<String>) {
        let words = |pid: &rustix::process::Pid| {
            let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok()?;
            let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
            let words: Vec<String> = words.map(|word| String::from_utf8_lossy(word).into_owned()).collect();
            words.iter().any(|word| word.starts_with("umid=")).then_some(words)
        };
        let found = leftover::processes_in(&self.vm_folder(vm));
        // Its helpers are forked from it and look alike; it leads their group.
        let leads = |pid: &&rustix::process::Pid| rustix::process::getpgid(Some(**pid)) == Ok(**pid);
        let kernel = found.iter().filter(leads).find_map(|pid| Some((*pid, words(pid)?)));
        let (pid, words) = kernel.unwrap_or_else(|| panic!("{vm} doesn't run on {}", self.name));
        (u32::try_from(pid.as_raw_nonzero().get()).expect("a process has a positive number"), words)
    }

    /// Runs `mlnctl` against this host's agent.
    #[track_caller]
    pub fn ctl(&self, arguments: &[&str]) -> Answer {
        self.ctl_with(arguments, &[])
    }

    /// Runs `mlnctl` against this host's agent, with something on its standard input.
    #[track_caller]
    pub fn ctl_with(&self, arguments: &[&str], input: &[u8]) -> Answer {
        Answer::of(self.ctl_command(arguments), input, LIMIT)
    }

    /// Starts `mlnctl` against this host's agent, and leaves it to itself.
    pub fn ctl_begin(&self, arguments: &[&str]) -> Child {
        let mut command = self.ctl_command(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("the program is there")
    }

    /// Starts `mlnctl` against this host's agent; what it writes goes to a file.
    pub fn ctl_into(&self, arguments: &[&str], file: &Path) -> Child {
        let out = fs::File::create(file).expect("the folder is ours");
        let mut command = self.ctl_command(arguments);
        command.stdin(Stdio::null()).stdout(out).stderr(Stdio::null());
        command.spawn().expect("the program is there")
    }

    /// Runs `mlnctl` as somebody in this host's network whose home is its folder; no agent is named for them.
    #[track_caller]
    pub fn mlnctl(&self, arguments: &[&str]) -> Answer {
        let mut command = self.place.command(&self.program("mlnctl"));
        command.args(arguments).env("HOME", &self.folder).env("LOGNAME", &self.name).env("NO_COLOR", "1");
        for variable in
            ["MLN_PEER", "MLN_PROJECT", "MLN_OUTPUT", "MLN_JSON", "XDG_CONFIG_HOME", "XDG_DATA_HOME"]
        {
            command.env_remove(variable);
        }
        Answer::of(command, &[], LIMIT)
    }

    /// Whether the host has a network of its own, where hosts can be cut off from each other and multicast works.
    pub fn has_own_network(&self) -> bool {
        self.place.address.is_some()
    }

    pub(crate) fn ctl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.program("mlnctl"));
        self.dress(&mut command);
        command.arg("--peer").arg(self.folder.join("mlnd.sock")).args(arguments).env("NO_COLOR", "1");
        // Where a user's own files would be: keys for ssh.
        command.env("HOME", &self.folder).env_remove("XDG_CONFIG_HOME");
        for variable in ["MLN_PEER", "MLN_PROJECT", "MLN_OUTPUT", "MLN_JSON"] {
            command.env_remove(variable);
        }
        command
    }

    /// Runs a shell line in a VM.
    #[track_caller]
    pub fn shell(&self, vm: &str, line: &str) -> Answer {
        self.ctl(&["exec", vm, "--", "sh", "-c", line])
    }

    /// Returns what identifies this run of a guest's kernel.
    #[track_caller]
    pub fn boot_id(&self, vm: &str) -> String {
        self.shell(vm, "cat /proc/sys/kernel/random/boot_id").done()
    }

    /// Waits until a VM is in a state, and returns its row of `status`.
    #[track_caller]
    pub fn sees(&self, project: &str, vm: &str, state: &str) -> Value {
        until_some(&format!("{} sees {project}/{vm} {state}", self.name), LIMIT, || {
            let rows = self.ctl(&["status", "--json"]).json();
            let row = rows
                .as_array()
                .into_iter()
                .flatten()
                .find(|row| row["project"] == project && row["name"] == vm);
            match row {
                Some(row) if row["state"] == state => Ok(Some(row.clone())),
                Some(_) | None => Err(rows.to_string()),
            }
        })
    }

    /// Waits until the agent is connected to so many others.
    #[track_caller]
    pub fn is_connected_to(&self, count: usize) {
        until(&format!("{} is connected to {count} others", self.name), LIMIT, || {
            let peers = self.ctl(&["peers", "--json"]).json();
            let up = peers.as_array().into_iter().flatten().filter(|peer| peer["link"] == "up").count();
            if up == count { Ok(()) } else { Err(peers.to_string()) }
        });
    }

    /// Waits until the agent has heard from so many hosts what they are, itself among them.
    #[track_caller]
    pub fn has_heard_of(&self, count: usize) {
        until(&format!("{} has heard of {count} hosts", self.name), LIMIT, || {
            let table = self.daemon_status();
            let hosts = table["service_hosts"].as_array().map_or(0, Vec::len);
            if hosts == count { Ok(()) } else { Err(table.to_string()) }
        });
    }

    /// Returns `daemon_status` without what tells when it was asked.
    #[track_caller]
    pub fn daemon_status(&self) -> Value {
        let mut table = self.ctl(&["daemon_status", "--json"]).json();
        for host in table["service_hosts"].as_array_mut().into_iter().flatten() {
            host.as_object_mut().expect("a host is an object").remove("age_ms");
        }
        table
    }

    /// Returns all that the host has of VMs and projects on its disk.
    pub fn traces_of_vms(&self) -> Vec<String> {
        let folders = ["vms", "blobs"].map(|name| self.folder.join(name));
        let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| Some(entry.ok()?.path().display().to_string())).collect();
        names.sort();
        names
    }

    /// Does something in the host's network.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.place.inside(work)
    }

    /// Returns the host's address in the network of the site; none where it has no network of its own.
    pub fn address(&self) -> Option<IpAddr> {
        self.place.address()
    }

    /// Runs `ip` in the host's network.
    #[track_caller]
    pub fn ip(&self, arguments: &[&str]) -> Answer {
        let mut command = self.place.command(Path::new("ip"));
        command.args(arguments).env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
        Answer::of(command, &[], LIMIT)
    }

    fn log(&self) -> PathBuf {
        self.folder.join("mlnd.log")
    }

    /// Returns the end of the agent's log, and of the consoles of its guests.
    pub fn last_words(&self) -> String {
        let mut words = last_lines(&self.log(), 25);
        for folder in fs::read_dir(self.folder.join("vms")).into_iter().flatten().flatten() {
            let console = last_lines(&folder.path().join("console.log"), 60);
            words += &format!("\n{}:\n{console}", folder.path().display());
        }
        words
    }

    /// Returns the host's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

fn last_lines(path: &Path, count: usize) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
