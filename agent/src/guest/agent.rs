//! The guest agent's loop: the line, the processes that run for the host, the seed and the startup lines.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use mln_protocol::wire::line::{
    ClosedWire, ConsoleWire, ExecWire, KillWire, LINE_MESSAGE_BYTES_MAX, OpenWire, ReportWire, SizeWire,
    WindowWire,
};
use mln_protocol::wire::{decode, encode};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::PidfdFlags;
use tracing::{info, warn};

use super::apply::{self, ApplyError};
use super::me::Me;
use super::process::{Output, Process, pid_of};
use super::session::Session;
use super::{Devices, boot_record, terminal};
use crate::causes::chain;
use crate::line::{CHANNELS_MAX, GuestEvent, GuestLine, Kind, Message, STDIN};
use crate::process_end::end_of;

const BOOT_RECORD: &str = "/run/mln/boot-record";
const STARTUP_SCRIPT: &str = "/run/mln/startup";
const STARTUP_LOG: &str = "/var/log/mln/startup.log";
/// What is reported of the startup log, in bytes.
const LOG_TAIL_BYTES: usize = 2 << 10;

/// Why the guest agent ended. Its init starts it again; what ran for the host is killed.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The line could not be opened.
    #[error("opening the line {path}")]
    Open {
        /// The device.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The line broke.
    #[error("the line")]
    Line(#[source] io::Error),
    /// The loop could not go on.
    #[error("the guest agent's loop")]
    Loop(#[source] io::Error),
}

struct Agent {
    terminal: File,
    line: GuestLine,
    session: u64,
    processes: BTreeMap<u32, Process>,
    console: Option<Session>,
    me: Me,
    report: Option<ReportWire>,
    boot_id: String,
    setup: Setup,
}

/// How far the boot has come.
enum Setup {
    /// The seed is being applied by a thread, which closes its end of the pipe when it is done.
    Applying { done: OwnedFd, result: mpsc::Receiver<Result<Vec<String>, ApplyError>> },
    /// The startup lines run.
    Startup { shell: Child, pidfd: OwnedFd },
    /// There is nothing left to do.
    Over,
}

/// Runs until the line breaks.
pub(super) fn run(devices: &Devices) -> Result<(), AgentError> {
    let open_error = |source| AgentError::Open { path: devices.line.display().to_string(), source };
    let terminal = terminal::open_raw(&devices.line).map_err(open_error)?;
    let _ = fs::create_dir_all("/run/mln");
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let report = match boot_record::read(Path::new(BOOT_RECORD), &boot_id) {
        Some(ReportWire::Starting) => Some(ReportWire::SeedFailed {
            text: "the guest agent was restarted while the startup lines ran".into(),
        }),
        other => other,
    };
    let setup = match report {
        Some(_) => Setup::Over,
        None => begin_setup(devices.seed.clone()).map_err(AgentError::Loop)?,
    };
    let mut agent = Agent {
        terminal,
        line: GuestLine::new(),
        session: 0,
        processes: BTreeMap::new(),
        console: None,
        me: Me::open(),
        report,
        boot_id,
        setup,
    };
    agent.start_session();
    loop {
        agent.wait().map_err(AgentError::Loop)?;
        agent.read_line().map_err(AgentError::Line)?;
        agent.step_setup();
        agent.pump_processes();
        agent.pump_console();
        agent.pump_me();
        agent.write_line().map_err(AgentError::Line)?;
    }
}

impl Agent {
    /// Waits until there is something to do.
    fn wait(&self) -> io::Result<()> {
        // Whatever can be written has been, so room on the line is waited for only when it was full.
        let full = if self.line.has_output() { PollFlags::OUT } else { PollFlags::empty() };
        let mut fds = vec![PollFd::new(&self.terminal, PollFlags::IN | full)];
        match &self.setup {
            Setup::Applying { done, .. } => fds.push(PollFd::new(done, PollFlags::IN)),
            Setup::Startup { pidfd, .. } => fds.push(PollFd::new(pidfd, PollFlags::IN)),
            Setup::Over => {}
        }
        let console = self.console.iter().flat_map(Session::interests);
        let others = console.chain(self.me.interests());
        for (fd, write) in self.processes.values().flat_map(Process::interests).chain(others) {
            fds.push(PollFd::from_borrowed_fd(fd, if write { PollFlags::OUT } else { PollFlags::IN }));
        }
        // What doesn't fit is long enough to wait for something else.
        let pause = self.me.pause().and_then(|pause| Timespec::try_from(pause).ok());
        match rustix::event::poll(&mut fds, pause.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn read_line(&mut self) -> io::Result<()> {
        let mut bytes = [0; 4096];
        loop {
            match self.terminal.read(&mut bytes) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.line.receive(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        while let Some(event) = self.line.event() {
            match event {
                GuestEvent::Welcomed => {
                    self.me.welcomed();
                    self.send_report();
                }
                GuestEvent::Over => {
                    warn!("the line lost bytes: new session");
                    self.processes.clear();
                    // The shell itself is nobody's: it can be looked at again.
                    self.console.iter_mut().for_each(Session::detach_all);
                    self.me.session_over();
                    self.start_session();
                }
                GuestEvent::Message(message) => self.take(message),
            }
        }
        Ok(())
    }

    fn write_line(&mut self) -> io::Result<()> {
        loop {
            let bytes = self.line.transmit();
            if bytes.is_empty() {
                return Ok(());
            }
            match self.terminal.write(bytes) {
                Ok(count) => self.line.transmitted(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Begins a session with a number that no earlier one had.
    fn start_session(&mut self) {
        let nanoseconds = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_nanos() as u64);
        self.session = nanoseconds.max(self.session + 1);
        self.line.start(self.session, crate::version::VERSION);
    }

    fn take(&mut self, message: Message) {
        let Message { kind, channel, payload } = message;
        match kind {
            Kind::Open => return self.open(channel, &payload),
            Kind::Node => return self.me.heard(&payload),
            _ => {}
        }
        if let Some(console) = self.console.as_mut().filter(|console| console.is_seen_over(channel)) {
            return take_for_console(console, channel, kind, &payload);
        }
        // Its end may have crossed this message.
        let Some(process) = self.processes.get_mut(&channel) else { return };
        match kind {
            Kind::Data => {
                if let Some((&STDIN, bytes)) = payload.split_first()
                    && !process.feed(bytes)
                {
                    process.kill(0);
                }
            }
            Kind::Eof => process.feed_end(),
            Kind::Window => {
                if let Ok(window) = decode::<WindowWire>(&payload, 64) {
                    process.widen(window.stream, window.bytes);
                }
            }
            Kind::Kill => {
                if let Ok(kill) = decode::<KillWire>(&payload, 64) {
                    process.kill(kill.signal);
                }
            }
            Kind::Resize => {
                if let Ok(size) = decode::<SizeWire>(&payload, 64) {
                    process.resize(size);
                }
            }
            Kind::Open
            | Kind::Node
            | Kind::Hello
            | Kind::Welcome
            | Kind::Ack
            | Kind::Reset
            | Kind::Report
            | Kind::Closed => {}
        }
    }

    fn open(&mut self, channel: u32, payload: &[u8]) {
        let viewers = self.console.as_ref().map_or(0, Session::viewers);
        let opened = if self.processes.len() + viewers >= CHANNELS_MAX {
            Err(ClosedWire::TooMany { limit: CHANNELS_MAX as u32 })
        } else {
            match decode::<OpenWire>(payload, LINE_MESSAGE_BYTES_MAX) {
                Ok(OpenWire::Exec(exec)) => self.run(channel, &exec, Process::start(&exec)),
                Ok(OpenWire::Terminal(wanted)) => {
                    self.run(channel, &wanted.exec, Process::start_on_terminal(&wanted))
                }
                Ok(OpenWire::Console(wanted)) => self.attach(channel, &wanted),
                // A newer host. It takes an answer without an error number for that.
                Err(error) => Err(ClosedWire::NotStarted { text: error.to_string(), errno: 0 }),
            }
        };
        if let Err(closed) = opened {
            self.line.send(&Message { kind: Kind::Closed, channel, payload: encode(&closed) });
        }
    }

    fn run(&mut self, channel: u32, exec: &ExecWire, started: io::Result<Process>) -> Result<(), ClosedWire> {
        let process = started.map_err(|error| not_started(&exec.argv, &error))?;
        self.processes.insert(channel, process);
        Ok(())
    }

    /// Lets somebody look at the console, whose shell is started if none runs.
    fn attach(&mut self, channel: u32, wanted: &ConsoleWire) -> Result<(), ClosedWire> {
        if self.console.as_mut().is_some_and(Session::has_ended) {
            self.pump_console();
        }
        let session = match self.console.take() {
            Some(session) => session,
            None => {
                Session::start(wanted).map_err(|error| not_started(&[b"the console".to_vec()], &error))?
            }
        };
        self.console.insert(session).attach(channel, wanted);
        Ok(())
    }

    fn pump_console(&mut self) {
        let Some(console) = &mut self.console else { return };
        let line = &mut self.line;
        let goes_on = console.pump(|channel, output| send_output(line, channel, output));
        for (channel, bytes) in console.taken() {
            let payload = encode(&WindowWire { stream: STDIN, bytes });
            line.send(&Message { kind: Kind::Window, channel, payload });
        }
        if !goes_on {
            self.console = None;
        }
    }

    fn pump_me(&mut self) {
        let line = &mut self.line;
        self.me.pump(|payload| line.send(&Message::line(Kind::Node, payload)));
    }

    fn pump_processes(&mut self) {
        let line = &mut self.line;
        self.processes.retain(|&channel, process| {
            let mut ended = false;
            process.pump(|output| {
                ended |= matches!(output, Output::Ended(_));
                send_output(line, channel, output);
            });
            if let Some(bytes) = process.taken().filter(|_| !ended) {
                let payload = encode(&WindowWire { stream: STDIN, bytes });
                line.send(&Message { kind: Kind::Window, channel, payload });
            }
            !ended
        });
    }

    fn step_setup(&mut self) {
        match &mut self.setup {
            Setup::Applying { result, .. } => match result.try_recv() {
                Ok(Ok(lines)) => self.begin_startup(&lines),
                Ok(Err(error)) => self.seed_failed(chain(&error)),
                Err(mpsc::TryRecvError::Empty) => {}
                Err(mpsc::TryRecvError::Disconnected) => self.seed_failed("applying it stopped".into()),
            },
            Setup::Startup { shell, .. } => {
                if let Ok(Some(status)) = shell.try_wait() {
                    let report = if status.success() {
                        info!("startup lines have run");
                        ReportWire::Ready
                    } else {
                        let log_tail = log_tail();
                        let last = log_tail.trim_end().lines().next_back().unwrap_or_default();
                        warn!(%status, last, log = STARTUP_LOG, "startup lines failed");
                        ReportWire::StartupFailed { end: end_of(status), log_tail }
                    };
                    self.over(report);
                }
            }
            Setup::Over => {}
        }
    }

    fn begin_startup(&mut self, lines: &[String]) {
        if lines.is_empty() {
            return self.over(ReportWire::Ready);
        }
        match start_shell(lines) {
            Ok((shell, pidfd)) => {
                self.set_report(ReportWire::Starting);
                self.setup = Setup::Startup { shell, pidfd };
            }
            Err(error) => self.seed_failed(format!("running the startup lines: {error}")),
        }
    }

    fn seed_failed(&mut self, text: String) {
        warn!(text, "the seed could not be applied");
        self.over(ReportWire::SeedFailed { text });
    }

    fn over(&mut self, report: ReportWire) {
        self.setup = Setup::Over;
        self.set_report(report);
    }

    fn set_report(&mut self, report: ReportWire) {
        if let Err(error) = boot_record::write(Path::new(BOOT_RECORD), &self.boot_id, &report) {
            warn!(%error, "can't note how far the boot has come");
        }
        self.report = Some(report);
        self.send_report();
    }

    fn send_report(&mut self) {
        if let Some(report) = &self.report {
            self.line.send(&Message::line(Kind::Report, encode(report)));
        }
    }
}

/// Does to the console what somebody who looks at it asks for.
fn take_for_console(console: &mut Session, channel: u32, kind: Kind, payload: &[u8]) {
    match kind {
        Kind::Data => {
            if let Some((&STDIN, bytes)) = payload.split_first()
                && !console.feed(channel, bytes)
            {
                console.detach(channel);
            }
        }
        Kind::Window => {
            if let Ok(window) = decode::<WindowWire>(payload, 64) {
                console.widen(channel, window.bytes);
            }
        }
        Kind::Resize => {
            if let Ok(size) = decode::<SizeWire>(payload, 64) {
                console.resize(size);
            }
        }
        // Nobody's signal ends a session that is everybody's.
        Kind::Kill => console.detach(channel),
        // Whoever types no more may still look.
        Kind::Eof
        | Kind::Open
        | Kind::Node
        | Kind::Hello
        | Kind::Welcome
        | Kind::Ack
        | Kind::Reset
        | Kind::Report
        | Kind::Closed => {}
    }
}

fn send_output(line: &mut GuestLine, channel: u32, output: Output) {
    let message = match output {
        Output::Data(stream, bytes) => {
            let mut payload = Vec::with_capacity(bytes.len() + 1);
            payload.push(stream);
            payload.extend_from_slice(&bytes);
            Message { kind: Kind::Data, channel, payload }
        }
        Output::Ended(end) => {
            Message { kind: Kind::Closed, channel, payload: encode(&ClosedWire::Ended(end)) }
        }
    };
    line.send(&message);
}

/// Applies the seed in a thread: its commands would otherwise keep the line unread.
fn begin_setup(seed: Option<PathBuf>) -> io::Result<Setup> {
    let (done, at_end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let (sender, result) = mpsc::channel();
    std::thread::Builder::new().name("seed".into()).spawn(move || {
        let lines = seed.map_or(Ok(Vec::new()), |drive| apply::apply(&drive));
        // The loop may have ended.
        let _ = sender.send(lines);
        drop(at_end);
    })?;
    Ok(Setup::Applying { done, result })
}

fn start_shell(lines: &[String]) -> io::Result<(Child, OwnedFd)> {
    if let Some(folder) = Path::new(STARTUP_LOG).parent() {
        fs::create_dir_all(folder)?;
    }
    // One script, so that a line may use what the one before has set; its status is that of its last command.
    fs::write(STARTUP_SCRIPT, lines.join("\n") + "\n")?;
    let log = File::create(STARTUP_LOG)?;
    let shell = Command::new("/bin/sh")
        .arg(STARTUP_SCRIPT)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    let pidfd = rustix::process::pidfd_open(pid_of(&shell), PidfdFlags::empty())?;
    Ok((shell, pidfd))
}

fn log_tail() -> String {
    let bytes = fs::read(STARTUP_LOG).unwrap_or_default();
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(LOG_TAIL_BYTES)..]).into_owned()
}

fn not_started(argv: &[Vec<u8>], error: &io::Error) -> ClosedWire {
    let program = argv.first().map(|word| String::from_utf8_lossy(word).into_owned()).unwrap_or_default();
    ClosedWire::NotStarted { text: format!("{program}: {error}"), errno: error.raw_os_error().unwrap_or(0) }
}
