//! The holder's loop: one thread that polls everything a guest has.

mod live;
mod questions;

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use mln_protocol::wire::holder::{
    DrivesWire, ExitWire, HOLDER_MESSAGE_BYTES_MAX, HOLDER_VERSION, HolderCommandWire, HolderEventWire,
    HolderStateWire, LaunchWire, LineMessageWire, NatStateWire, PlugWire, StopWire,
};
use mln_protocol::wire::line::{ClosedWire, KillWire, LINE_MESSAGE_BYTES_MAX, ReportWire};
use mln_protocol::wire::{decode, encode};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};
use tracing::{info, warn};

use super::console_log::ConsoleLog;
use super::mconsole::{Console, Notice};
use super::{FolderLock, Guest, HolderError, files, packet, room, unix_ms};
use crate::line::{HostEvent, HostLine, Kind, Message};
use crate::process_end::end_of;

/// Messages that wait for the agent; when there are more, the guest is not listened to.
const AGENT_QUEUE_MAX: usize = 256;
/// Bytes that wait for the guest; a channel that would add more is closed.
const GUEST_QUEUE_BYTES_MAX: usize = 1 << 20;
/// The most commands of the agent that are obeyed before the guest is looked at again.
const COMMANDS_MAX: usize = 64;
/// The most boots until the guest has come to anything.
const BOOTS_MAX: u32 = 3;
/// How long the last messages may take to an agent that does not read, in milliseconds.
const FAREWELL_MS: i64 = 2_000;

/// What the loop is made of.
pub(super) struct Parts {
    pub(super) lock: Option<FolderLock>,
    pub(super) launch: LaunchWire,
    pub(super) plugs: Vec<PlugWire>,
    pub(super) drives: DrivesWire,
    pub(super) log: ConsoleLog,
    pub(super) console: Console,
    pub(super) ports: Vec<OwnedFd>,
    pub(super) listener: OwnedFd,
    pub(super) guest: Guest,
    pub(super) boot_unix_ms: u64,
}

pub(super) struct Keeper {
    parts: Parts,
    group: Pid,
    pidfd: OwnedFd,
    line: HostLine,
    /// The connected socket of each interface. The agent has a duplicate and moves the frames; this one only
    /// keeps the connection up.
    interfaces: Vec<Option<OwnedFd>>,
    agent: Option<Attached>,
    /// Channels of the agent that is attached; messages on any other are dropped.
    channels: BTreeSet<u32>,
    channel_next: u32,
    agent_version: Option<String>,
    report: Option<Vec<u8>>,
    panic: Option<String>,
    /// How often the guest was started, because its kernel gave up before it had come to anything.
    boots: u32,
    listening: bool,
    stop: Option<Stopping>,
    live: live::Live,
    questions: questions::Questions,
}

struct Attached {
    socket: OwnedFd,
    queue: VecDeque<(Vec<u8>, Option<OwnedFd>)>,
}

struct Stopping {
    how: StopWire,
    asked: bool,
    deadline: Instant,
}

/// What there is to do, by the poll's order.
#[derive(Clone, Copy)]
enum Source {
    Exit,
    Line,
    Output,
    Notices,
    Listener,
    Agent,
    Port(usize),
    Interface(usize),
    Nat(usize),
}

impl Keeper {
    pub(super) fn new(parts: Parts) -> io::Result<Self> {
        let group = Pid::from_child(&parts.guest.process);
        let pidfd = rustix::process::pidfd_open(group, PidfdFlags::empty())?;
        let interfaces = parts.ports.iter().map(|_| None).collect();
        let live = live::Live::of(&parts.launch, &parts.plugs);
        Ok(Self {
            parts,
            live,
            group,
            pidfd,
            line: HostLine::new(),
            interfaces,
            agent: None,
            channels: BTreeSet::new(),
            channel_next: 1,
            agent_version: None,
            report: None,
            panic: None,
            boots: 1,
            listening: false,
            stop: None,
            questions: questions::Questions::new(Instant::now()),
        })
    }

    pub(super) fn run(mut self) -> Result<(), HolderError> {
        loop {
            let ready = match self.wait() {
                Ok(ready) => ready,
                Err(error) => {
                    self.kill();
                    return Err(HolderError::Loop(error));
                }
            };
            for (source, flags) in ready {
                match source {
                    Source::Exit if self.boots_again() => break,
                    Source::Exit => return self.finish(),
                    Source::Line => self.read_line(),
                    Source::Output => self.read_output(),
                    Source::Notices => self.read_notices(),
                    Source::Listener => self.accept_agent(),
                    Source::Agent => self.read_agent(flags),
                    Source::Port(index) => self.accept_interface(index),
                    Source::Interface(index) => self.interface_down(index),
                    Source::Nat(index) => self.nat_ended(index),
                }
            }
            self.retry_nats();
            self.check_deadline();
            self.write_line();
            self.write_agent();
        }
    }

    fn wait(&self) -> io::Result<Vec<(Source, PollFlags)>> {
        let mut waits: Vec<(Source, BorrowedFd<'_>, PollFlags)> = vec![
            (Source::Exit, self.pidfd.as_fd(), PollFlags::IN),
            (Source::Output, self.parts.guest.output.as_fd(), PollFlags::IN),
            (Source::Notices, self.parts.console.socket.as_fd(), PollFlags::IN),
            (Source::Listener, self.parts.listener.as_fd(), PollFlags::IN),
        ];
        let hears = self.agent.as_ref().is_none_or(|agent| agent.queue.len() < AGENT_QUEUE_MAX);
        let mut line = if hears { PollFlags::IN } else { PollFlags::empty() };
        line.set(PollFlags::OUT, !self.line.transmit().is_empty());
        if !line.is_empty() {
            waits.push((Source::Line, self.parts.guest.line.as_fd(), line));
        }
        if let Some(agent) = &self.agent {
            // Always: a guest that takes nothing must not keep us from hearing that it is to be stopped.
            let mut flags = PollFlags::IN;
            flags.set(PollFlags::OUT, !agent.queue.is_empty());
            waits.push((Source::Agent, agent.socket.as_fd(), flags));
        }
        if hears {
            let ports = self.parts.ports.iter().enumerate();
            waits.extend(ports.map(|(index, port)| (Source::Port(index), port.as_fd(), PollFlags::IN)));
        }
        for (index, interface) in self.interfaces.iter().enumerate() {
            // No flags: only the end of the connection is of interest, its frames are the agent's.
            waits.extend(interface.iter().map(|i| (Source::Interface(index), i.as_fd(), PollFlags::empty())));
        }
        for (index, nat) in self.parts.guest.nats.iter().enumerate() {
            let end = nat.as_ref().and_then(|nat| nat.end());
            waits.extend(end.map(|end| (Source::Nat(index), end.as_fd(), PollFlags::IN)));
        }
        let retry = self.parts.guest.nats.iter().flatten().filter_map(|nat| nat.due()).min();
        let due = self.stop.as_ref().map(|stop| stop.deadline).into_iter().chain(retry).min();
        let timeout = due.map(|due| {
            let left = due.saturating_duration_since(Instant::now());
            // One more millisecond: the deadline is to be over when the poll is.
            Timespec::try_from(left + Duration::from_millis(1))
                .unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 })
        });
        let mut fds: Vec<PollFd<'_>> =
            waits.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(errno) => return Err(errno.into()),
        }
        let sources = waits.iter().map(|(source, _, _)| *source);
        // The exit comes last, so that what the guest said before is heard.
        let mut ready: Vec<_> =
            sources.zip(fds.iter().map(PollFd::revents)).filter(|(_, flags)| !flags.is_empty()).collect();
        ready.sort_by_key(|(source, _)| matches!(source, Source::Exit));
        Ok(ready)
    }

    fn read_line(&mut self) {
        let mut buffer = [0; 16 << 10];
        while self.agent.as_ref().is_none_or(|agent| agent.queue.len() < AGENT_QUEUE_MAX) {
            match rustix::io::read(&self.parts.guest.line, &mut buffer) {
                Ok(0) => return,
                Ok(count) => self.line.receive(&buffer[..count]),
                Err(Errno::INTR) => continue,
                Err(_) => return,
            }
            while let Some(event) = self.line.event() {
                self.take_line_event(event);
            }
        }
    }

    fn take_line_event(&mut self, event: HostEvent) {
        match event {
            HostEvent::Started(hello) => {
                self.channels.clear();
                self.agent_version = Some(hello.agent_version.clone());
                self.tell(&HolderEventWire::SessionStarted { agent_version: hello.agent_version }, None);
            }
            HostEvent::Damaged => {
                warn!("the line lost bytes: new session");
                self.channels.clear();
                self.tell(&HolderEventWire::SessionDamaged, None);
            }
            HostEvent::Message(message) if message.kind == Kind::Report => {
                // What is told to the next agent: a boot that was over does not begin again.
                let starts =
                    |bytes: &[u8]| matches!(decode(bytes, LINE_MESSAGE_BYTES_MAX), Ok(ReportWire::Starting));
                if !starts(&message.payload) || self.report.as_deref().is_none_or(starts) {
                    self.report = Some(message.payload.clone());
                }
                self.tell(&HolderEventWire::Report(message.payload), None);
            }
            HostEvent::Message(message) if message.kind == Kind::Node => self.question(message.payload),
            HostEvent::Message(message) => {
                let known = if message.kind == Kind::Closed {
                    self.channels.remove(&message.channel)
                } else {
                    self.channels.contains(&message.channel)
                };
                if known {
                    let Message { kind, channel, payload } = message;
                    let line = LineMessageWire { kind: kind as u8, channel, payload };
                    self.tell(&HolderEventWire::Line(line), None);
                }
            }
        }
    }

    fn write_line(&mut self) {
        loop {
            let bytes = self.line.transmit();
            if bytes.is_empty() {
                return;
            }
            match rustix::io::write(&self.parts.guest.line, bytes) {
                Ok(count) => self.line.transmitted(count),
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    fn read_output(&mut self) {
        let mut buffer = [0; 8 << 10];
        while let Ok(count @ 1..) = rustix::io::read(&self.parts.guest.output, &mut buffer) {
            if let Some(text) = self.parts.log.append(&buffer[..count]) {
                self.panicked(text);
            }
        }
    }

    fn read_notices(&mut self) {
        while let Some(notice) = self.parts.console.notice() {
            match notice {
                Notice::Listening => {
                    self.listening = true;
                    self.ask_to_stop();
                    self.shrink();
                }
                Notice::Panic(text) => self.panicked(text),
                Notice::Answer { error, text } => self.answered(error, &text),
                Notice::Other => {}
            }
        }
    }

    fn panicked(&mut self, text: String) {
        if self.panic.is_none() {
            warn!(text, "the guest's kernel gave up");
            self.panic = Some(text.clone());
            // Else it is told when it is known that nothing better comes of it.
            if !self.may_boot_again() {
                self.tell(&HolderEventWire::Panicked { text }, None);
            }
        }
    }

    /// Whether a kernel that gave up is one that never came to run anything.
    ///
    /// About one boot in two hundred of linux.uml 6.1 on a busy machine ends with "unable to mount root fs":
    /// its kernel could not start a thread. The next boot is fine.
    fn may_boot_again(&self) -> bool {
        self.agent_version.is_none() && self.stop.is_none() && self.boots < BOOTS_MAX
    }

    /// Starts the guest once more if its kernel gave up before it had come to anything.
    fn boots_again(&mut self) -> bool {
        self.read_output();
        if self.panic.is_none() || !self.may_boot_again() {
            return false;
        }
        super::group::kill_and_wait(self.group);
        // Its status says no more than its console.
        let _ = self.parts.guest.process.wait();
        let started = Guest::start(&self.parts.launch, &self.parts.plugs, &self.parts.drives);
        let again = started.and_then(|guest| {
            let group = Pid::from_child(&guest.process);
            let pidfd = rustix::process::pidfd_open(group, PidfdFlags::empty());
            Ok((guest, group, pidfd.map_err(|errno| HolderError::Loop(errno.into()))?))
        });
        match again {
            Ok((guest, group, pidfd)) => {
                warn!("the guest is started once more");
                self.parts.guest = guest;
                (self.group, self.pidfd) = (group, pidfd);
                self.line = HostLine::new();
                self.live = live::Live::of(&self.parts.launch, &self.parts.plugs);
                self.interfaces.iter_mut().for_each(|interface| *interface = None);
                self.panic = None;
                self.listening = false;
                self.boots += 1;
                self.tell_nat();
                true
            }
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "the guest can't be started once more");
                false
            }
        }
    }

    fn accept_agent(&mut self) {
        let Ok(socket) = packet::accept(self.parts.listener.as_fd()) else { return };
        let us = rustix::process::geteuid();
        match rustix::net::sockopt::socket_peercred(&socket) {
            Ok(peer) if peer.uid == us || peer.uid.is_root() => {}
            Ok(peer) => return warn!(uid = peer.uid.as_raw(), "a stranger tried to attach"),
            Err(error) => return warn!(%error, "can't tell who tried to attach"),
        }
        self.detach();
        info!("agent attached");
        self.agent = Some(Attached { socket, queue: VecDeque::new() });
        let state = HolderStateWire {
            version: HOLDER_VERSION,
            boot_unix_ms: self.parts.boot_unix_ms,
            process_group: self.group.as_raw_nonzero().get(),
            agent_version: self.agent_version.clone(),
            report: self.report.clone(),
            channel_next: self.channel_next,
        };
        self.tell(&HolderEventWire::State(state), None);
        self.tell_live();
        for index in 0..self.interfaces.len() {
            self.tell_interface(index);
        }
        self.tell_nat();
        if let Some(text) = self.panic.clone() {
            self.tell(&HolderEventWire::Panicked { text }, None);
        }
    }

    /// Lets go of the agent, and kills what ran in the guest for it.
    fn detach(&mut self) {
        if self.agent.take().is_some() {
            info!("agent detached");
        }
        for channel in std::mem::take(&mut self.channels) {
            let payload = encode(&KillWire { signal: 0 });
            self.line.send(&Message { kind: Kind::Kill, channel, payload });
        }
    }

    fn read_agent(&mut self, flags: PollFlags) {
        if !flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            return;
        }
        let mut buffer = vec![0; HOLDER_MESSAGE_BYTES_MAX];
        for _ in 0..COMMANDS_MAX {
            let Some(agent) = &self.agent else { return };
            match packet::receive(&agent.socket, &mut buffer) {
                Ok(packet) if packet.bytes > 0 => {
                    match decode(&buffer[..packet.bytes], HOLDER_MESSAGE_BYTES_MAX) {
                        Ok(command) => self.obey(command),
                        // A newer agent may ask for what we don't know; it can read our version.
                        Err(error) => warn!(%error, "unknown command"),
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return self.detach(),
            }
        }
    }

    fn obey(&mut self, command: HolderCommandWire) {
        match command {
            HolderCommandWire::Line(LineMessageWire { kind, channel, payload }) => {
                let Some(kind) = Kind::parse(kind) else { return };
                match kind {
                    Kind::Open => {
                        self.channels.insert(channel);
                        self.channel_next = self.channel_next.max(channel.saturating_add(1));
                    }
                    Kind::Data | Kind::Eof | Kind::Window | Kind::Kill | Kind::Resize => {}
                    Kind::Hello
                    | Kind::Welcome
                    | Kind::Ack
                    | Kind::Reset
                    | Kind::Report
                    | Kind::Closed
                    | Kind::Node => return,
                }
                if !self.channels.contains(&channel) {
                    return;
                }
                if self.line.waiting_bytes() + payload.len() > GUEST_QUEUE_BYTES_MAX {
                    self.close_channel(channel, kind);
                } else {
                    self.line.send(&Message { kind, channel, payload });
                }
            }
            HolderCommandWire::StopClean { limit_ms } => {
                let deadline = Instant::now() + Duration::from_millis(limit_ms);
                let asked = self.stop.as_ref().is_some_and(|stop| stop.asked);
                let deadline = self.stop.as_ref().map_or(deadline, |stop| stop.deadline.min(deadline));
                self.stop = Some(Stopping { how: StopWire::Clean, asked, deadline });
                self.ask_to_stop();
            }
            HolderCommandWire::Memory { .. }
            | HolderCommandWire::Plug { .. }
            | HolderCommandWire::Unplug { .. }
            | HolderCommandWire::TellInterface { .. } => self.change(command),
            HolderCommandWire::Node(payload) => self.answer(payload),
            HolderCommandWire::StopNow => {
                self.stop = Some(Stopping { how: StopWire::Now, asked: true, deadline: Instant::now() });
                self.kill();
            }
        }
    }

    /// Closes a channel of which something could not be queued; without that the rest would make no sense.
    fn close_channel(&mut self, channel: u32, refused: Kind) {
        self.channels.remove(&channel);
        if refused != Kind::Open {
            // Past the limit, but only once for each channel that was opened within it.
            let payload = encode(&KillWire { signal: 0 });
            self.line.send(&Message { kind: Kind::Kill, channel, payload });
        }
        let text = "the guest takes nothing that it is sent".to_owned();
        let payload = encode(&ClosedWire::NotStarted { text, errno: Errno::AGAIN.raw_os_error() });
        let line = LineMessageWire { kind: Kind::Closed as u8, channel, payload };
        self.tell(&HolderEventWire::Line(line), None);
    }

    /// Presses ctrl-alt-del, as soon as the guest's kernel listens.
    fn ask_to_stop(&mut self) {
        let Some(stop) = self.stop.as_mut().filter(|stop| !stop.asked && self.listening) else { return };
        let socket = format!("{}{}/mconsole", files::UML_FOLDER, files::UML_ID);
        match self.parts.console.request(Path::new(&socket), "cad") {
            Ok(()) => {
                stop.asked = true;
                self.asked_otherwise("cad");
            }
            Err(error) => warn!(%error, "can't ask the guest to shut down"),
        }
    }

    fn check_deadline(&mut self) {
        let passed = self.stop.as_ref().is_some_and(|stop| stop.deadline <= Instant::now());
        if passed {
            self.kill();
            if let Some(stop) = &mut self.stop {
                if stop.how == StopWire::Clean {
                    info!("the guest did not shut down in time");
                    stop.how = StopWire::LimitPassed;
                }
                stop.deadline += Duration::from_secs(3600);
            }
        }
    }

    fn kill(&self) {
        // The main process is not waited for yet, so the group's number is still its own.
        let _ = rustix::process::kill_process_group(self.group, Signal::KILL);
    }

    fn accept_interface(&mut self, index: usize) {
        if let Ok(socket) = packet::accept(self.parts.ports[index].as_fd()) {
            let port = files::port_socket(index);
            if let Err(error) = room::widen(&socket, self.pidfd.as_fd(), self.group, &port) {
                info!(%error, port, "the guest's end has no more room than usual");
            }
            if let Some(nat) = &self.parts.guest.nats[index] {
                nat.plug(&socket);
            }
            self.interfaces[index] = Some(socket);
            self.tell_interface(index);
        }
    }

    fn nat_ended(&mut self, index: usize) {
        if let Some(nat) = &mut self.parts.guest.nats[index] {
            nat.ended();
            self.tell_nat();
        }
    }

    /// Starts address translation that could not be started before.
    fn retry_nats(&mut self) {
        let mut changed = false;
        for (nat, interface) in self.parts.guest.nats.iter_mut().zip(&self.interfaces) {
            let Some(nat) = nat else { continue };
            let before = nat.state();
            if nat.retry(self.group)
                && let Some(interface) = interface
            {
                nat.plug(interface);
            }
            changed |= nat.state() != before;
        }
        if changed {
            self.tell_nat();
        }
    }

    fn tell_nat(&mut self) {
        let worst: Option<NatStateWire> = self.parts.guest.nats.iter().flatten().map(|nat| nat.state()).max();
        if let Some(state) = worst {
            self.tell(&HolderEventWire::Nat(state), None);
        }
    }

    fn interface_down(&mut self, index: usize) {
        if self.interfaces[index].take().is_some() && self.live.plug(index) == Some(&PlugWire::Socket) {
            self.tell(&HolderEventWire::InterfaceDown { index: index as u32 }, None);
        }
    }

    fn tell_interface(&mut self, index: usize) {
        // All other frames are none of the agent's business.
        if self.live.plug(index) != Some(&PlugWire::Socket) {
            return;
        }
        if let Some(Ok(duplicate)) = self.interfaces[index].as_ref().map(OwnedFd::try_clone) {
            self.tell(&HolderEventWire::InterfaceUp { index: index as u32 }, Some(duplicate));
        }
    }

    fn tell(&mut self, event: &HolderEventWire, fd: Option<OwnedFd>) {
        if let Some(agent) = &mut self.agent {
            agent.queue.push_back((encode(event), fd));
        }
    }

    fn write_agent(&mut self) {
        while let Some(agent) = &mut self.agent {
            let Some((bytes, fd)) = agent.queue.front() else { return };
            match packet::send(&agent.socket, bytes, fd.as_ref().map(AsFd::as_fd)) {
                Ok(()) => drop(agent.queue.pop_front()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.detach(),
            }
        }
    }

    /// The guest's main process has ended: writes the exit file, tells the agent, and ends.
    fn finish(mut self) -> Result<(), HolderError> {
        super::group::kill_and_wait(self.group);
        super::tap::remove_for(Path::new("."));
        let status = self.parts.guest.process.wait().map_err(HolderError::Loop)?;
        self.read_line();
        self.read_output();
        if let Some(text) = self.panic.clone().filter(|_| self.may_boot_again()) {
            self.tell(&HolderEventWire::Panicked { text }, None);
        }
        let exit = ExitWire {
            version: HOLDER_VERSION,
            boot_unix_ms: self.parts.boot_unix_ms,
            exit_unix_ms: unix_ms(),
            end: end_of(status),
            panic: self.panic.clone(),
            stop: self.stop.as_ref().map(|stop| stop.how),
        };
        info!(?exit.end, ?exit.stop, "the guest has ended");
        let written = files::write(Path::new("."), files::EXIT, &exit);
        // From here on another holder may start the VM; an agent that sees this connection end must be able to.
        for name in [files::HOLDER_SOCKET, files::NOTIFY_SOCKET] {
            let _ = std::fs::remove_file(name);
        }
        (0..self.parts.ports.len()).for_each(|index| drop(std::fs::remove_file(files::port_socket(index))));
        drop(self.parts.lock.take());
        self.tell(&HolderEventWire::Exited(exit), None);
        self.write_agent();
        while let Some(agent) = self.agent.as_ref().filter(|agent| !agent.queue.is_empty()) {
            let mut fds = [PollFd::new(&agent.socket, PollFlags::OUT)];
            let limit = Timespec { tv_sec: FAREWELL_MS / 1000, tv_nsec: 0 };
            match rustix::event::poll(&mut fds, Some(&limit)) {
                Ok(1..) => self.write_agent(),
                Ok(0) | Err(_) => break,
            }
        }
        Ok(written?)
    }
}
