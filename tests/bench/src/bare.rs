//! A guest without an agent: the same kernel, image, seed and command line, and this program at the far end of
//! its line. What MLN costs is what its own guests take longer.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Instant;

use mln_protocol::wire::line::{
    ClosedWire, EndWire, ExecWire, LINE_MESSAGE_BYTES_MAX, OpenWire, ReportWire, WindowWire,
};
use mln_protocol::wire::{decode, encode};
use mlnd::line::{HostEvent, HostLine, Kind, Message, STDOUT};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::{LIMIT, seconds_since};

/// The most boots until a guest agent says hello: as holders do, for a kernel that now and then gives up.
const BOOTS_MAX: u32 = 3;

/// A guest that this program holds itself.
#[derive(Debug)]
pub(crate) struct BareGuest {
    process: Child,
    socket: OwnedFd,
    line: HostLine,
    channel: u32,
    folder: PathBuf,
    /// Where its kernel tells of itself; nobody reads it, as nobody needs it.
    _notices: UnixDatagram,
}

/// The files of a guest, and the words that its kernel is started with.
#[derive(Debug, Clone)]
pub(crate) struct BareDisk {
    folder: PathBuf,
}

impl BareDisk {
    /// Copies what a VM that has not run yet has on its disk.
    pub(crate) fn copy(vm: &Path, folder: PathBuf) -> Self {
        fs::create_dir_all(folder.join("run")).expect("the site's folder is ours");
        for name in ["disk.cow", "seed.tar"] {
            let mut command = Command::new("cp");
            command.arg("--sparse=always").arg(vm.join(name)).arg(folder.join(name));
            assert!(command.status().is_ok_and(|status| status.success()), "{command:?}");
        }
        Self { folder }
    }

    /// Starts the guest with the words of the kernel's command line, its program first, in a network namespace
    /// where one is named. Returns it with the seconds until its agent's hello.
    pub(crate) fn boot(&self, words: &[String], namespace: Option<&str>) -> (BareGuest, f64) {
        for _ in 0..BOOTS_MAX {
            let began = Instant::now();
            let mut guest = self.start(words, namespace);
            if guest.says_hello() {
                return (guest, seconds_since(began));
            }
        }
        panic!("{BOOTS_MAX} kernels gave up in {}", self.folder.display());
    }

    fn start(&self, words: &[String], namespace: Option<&str>) -> BareGuest {
        let folder = self.folder.clone();
        let notices = folder.join("notify.sock");
        let _ = fs::remove_file(&notices);
        let notices = UnixDatagram::bind(&notices).expect("the folder is ours");
        let (socket, guests) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .expect("a machine has sockets");
        rustix::io::ioctl_fionbio(&socket, true).expect("a socket can be told not to wait");
        let console = File::create(folder.join("console.log")).expect("the folder is ours");
        // As holders do: the gap of a random layout would cost the guest memory.
        let mut command = match namespace {
            None => Command::new("setarch"),
            Some(name) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/{name}")).arg("setarch");
                command
            }
        };
        command
            .arg("-R")
            .args(words)
            .current_dir(&folder)
            .env("TMPDIR", "/dev/shm")
            .stdin(guests)
            .stdout(console.try_clone().expect("a descriptor can be doubled"))
            .stderr(console)
            .process_group(0);
        let process = command.spawn().expect("util-linux is everywhere");
        BareGuest { process, socket, line: HostLine::new(), channel: 0, folder, _notices: notices }
    }
}

impl BareGuest {
    /// Returns the process of its kernel.
    pub(crate) fn process(&self) -> u32 {
        self.process.id()
    }

    /// Waits for the guest agent's hello; false where the kernel gave up before.
    fn says_hello(&mut self) -> bool {
        let deadline = Instant::now() + LIMIT;
        loop {
            while let Some(event) = self.line.event() {
                if matches!(event, HostEvent::Started(_)) {
                    return true;
                }
            }
            if !matches!(self.process.try_wait(), Ok(None)) {
                return false;
            }
            self.step(deadline, "its hello");
        }
    }

    /// Waits until the seed is applied and the startup lines have run; to be called after the hello.
    pub(crate) fn wait_for_report(&mut self) {
        let deadline = Instant::now() + LIMIT;
        loop {
            while let Some(event) = self.line.event() {
                if let HostEvent::Message(Message { kind: Kind::Report, payload, .. }) = event
                    && decode(&payload, LINE_MESSAGE_BYTES_MAX) == Ok(ReportWire::Ready)
                {
                    return;
                }
            }
            self.step(deadline, "its report");
        }
    }

    /// Runs a command to its end, and returns what it printed; panics where it fails.
    pub(crate) fn exec(&mut self, argv: &[&str]) -> String {
        self.channel += 1;
        let exec = ExecWire {
            argv: argv.iter().map(|word| word.as_bytes().to_vec()).collect(),
            environment: Vec::new(),
            folder: None,
        };
        let open = encode(&OpenWire::Exec(exec));
        self.line.send(&Message { kind: Kind::Open, channel: self.channel, payload: open });
        let deadline = Instant::now() + LIMIT;
        let mut printed = Vec::new();
        loop {
            while let Some(event) = self.line.event() {
                let HostEvent::Message(message) = event else { continue };
                match message.kind {
                    Kind::Data => printed.extend(self.taken(&message)),
                    Kind::Closed => {
                        let end = decode::<ClosedWire>(&message.payload, LINE_MESSAGE_BYTES_MAX);
                        let text = String::from_utf8_lossy(&printed).into_owned();
                        let well = matches!(end, Ok(ClosedWire::Ended(EndWire::Exited(0))));
                        assert!(well, "{argv:?} ended with {end:?}: {text}");
                        return text;
                    }
                    _ => {}
                }
            }
            self.step(deadline, "a command's end");
        }
    }

    /// Takes output, and makes room for more.
    fn taken(&mut self, message: &Message) -> Vec<u8> {
        let Some((&stream, bytes)) = message.payload.split_first() else { return Vec::new() };
        let window = WindowWire { stream, bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX) };
        let payload = encode(&window);
        self.line.send(&Message { kind: Kind::Window, channel: message.channel, payload });
        if stream == STDOUT { bytes.to_vec() } else { Vec::new() }
    }

    /// Ends it as a host would, so that its disk is as after a clean stop.
    pub(crate) fn stop(mut self) {
        self.channel += 1;
        let argv = ["sh", "-c", "sync; mount -o remount,ro /; poweroff -f"];
        let argv = argv.map(|word| word.as_bytes().to_vec()).to_vec();
        let open = OpenWire::Exec(ExecWire { argv, environment: Vec::new(), folder: None });
        self.line.send(&Message { kind: Kind::Open, channel: self.channel, payload: encode(&open) });
        let deadline = Instant::now() + LIMIT;
        while self.process.try_wait().expect("it is ours").is_none() {
            self.step(deadline, "its end");
        }
    }

    /// Moves bytes until there is something new, or the deadline has passed.
    fn step(&mut self, deadline: Instant, what: &str) {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}; its console:\n{}", self.console());
        let mut flags = PollFlags::IN;
        flags.set(PollFlags::OUT, !self.line.transmit().is_empty());
        let mut fds = [PollFd::new(&self.socket, flags)];
        // Also the end of the process is noticed in time, which says nothing on the line.
        let limit = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        let _ = poll(&mut fds, Some(&limit));
        let mut buffer = [0; 16 << 10];
        while let Ok(count @ 1..) = rustix::io::read(&self.socket, &mut buffer) {
            self.line.receive(&buffer[..count]);
        }
        while let Ok(count @ 1..) = rustix::io::write(&self.socket, self.line.transmit()) {
            self.line.transmitted(count);
        }
    }

    fn console(&self) -> String {
        let text = fs::read(self.folder.join("console.log")).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Drop for BareGuest {
    fn drop(&mut self) {
        // One that has ended by itself has taken its group with it, and its number may be somebody else's.
        if matches!(self.process.try_wait(), Ok(None)) {
            let _ = kill_process_group(Pid::from_child(&self.process), Signal::KILL);
            let _ = self.process.wait();
        }
    }
}
