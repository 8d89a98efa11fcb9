//! The agent's end of a holder's socket: one task for each VM that runs.
//!
//! It knows which commands run in the guest and how much of their output nobody has taken yet. What it is told
//! by the guest is checked here: a guest that sends more than its windows allow loses the channel.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use mln_protocol::id::{Name, VmId};
use mln_protocol::wire::holder::{
    BootWire, ExitWire, HOLDER_MESSAGE_BYTES_MAX, HolderCommandWire, HolderEventWire, HolderLiveWire,
    HolderStateWire, LineMessageWire, holder_is_understood,
};
use mln_protocol::wire::line::{
    ClosedWire, ConsoleWire, ExecWire, KillWire, LINE_MESSAGE_BYTES_MAX, OpenWire, ReportWire, SizeWire,
    TerminalWire, WindowWire,
};
use mln_protocol::wire::{decode, encode};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::process::PidfdFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Semaphore, mpsc, watch};
use tracing::{info, warn};

use super::folder;
use crate::holder::{FolderLock, files, packet};
use crate::line::{CHANNELS_MAX, Kind, OUTPUT_WINDOW_BYTES, STDERR, STDIN, STDIN_WINDOW_BYTES, STDOUT};
use crate::platform::event::nat_of;
use crate::platform::exec::{ChannelRequest, ChannelSender};
use crate::platform::{
    BootProgress, ConsoleView, Exec, ExecCommand, ExecError, ExecOutputEvent, Exit, StepError,
    TerminalCommand, VmEvent, VmEventKind, WindowSize,
};

/// How long a holder may take to answer an agent that attaches.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long a holder whose socket has been closed may take to be gone.
const HOLDER_END_LIMIT: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };
/// How long a holder may take to say what can be changed, which is among its first words.
const LIVE_TOLD_LIMIT: Duration = Duration::from_secs(3);
/// Requests about channels that wait for the task.
const REQUESTS_MAX: usize = 64;

/// How a VM that was attached ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    Exited(Exit),
    Lost,
}

/// A VM that runs, as the rest of the platform sees it.
#[derive(Debug)]
pub(super) struct Attachment {
    commands: mpsc::Sender<Command>,
    requests: mpsc::Sender<(u32, ChannelRequest)>,
    channel_next: AtomicU32,
    /// Whether a guest agent answers.
    session: Arc<AtomicBool>,
    pub(super) ended: watch::Receiver<Option<Ended>>,
    /// What the holder says that can be changed.
    live: watch::Receiver<LiveView>,
}

/// What the holder has said of what can be changed as the guest runs.
#[derive(Debug, Clone, Default)]
struct LiveView {
    state: Option<HolderLiveWire>,
    refusals: u64,
    refusal: String,
}

/// Why the guest was not changed as it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LiveError {
    /// Its holder is from before there was that.
    HolderOlder,
    /// Its kernel refuses.
    Refused(String),
    /// There is no answer.
    Silent,
}

#[derive(Debug)]
enum Command {
    Open { channel: u32, open: OpenWire, end: ChannelEnd },
    Send(HolderCommandWire),
}

/// What the task has of a channel.
#[derive(Debug)]
struct ChannelEnd {
    output: mpsc::UnboundedSender<ExecOutputEvent>,
    window: Arc<Semaphore>,
    /// What the guest agent must know for it.
    needs: Needs,
    /// Bytes of each stream that the caller hasn't taken.
    pending_bytes: [u32; 3],
}

/// What a guest agent must know to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Commands: each knows them.
    Commands,
    /// Terminals: since version 2 of the line.
    Terminals,
}

/// What is needed to attach to a VM.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) vm: VmId,
    pub(super) folder: PathBuf,
    pub(super) kernel: PathBuf,
    pub(super) interfaces: Vec<Name>,
    pub(super) events: mpsc::Sender<VmEvent>,
}

/// Attaches to a VM's holder; none where there is no holder. Returns how things stand with it.
pub(super) async fn attach(target: Target) -> Result<Option<(Attachment, HolderStateWire)>, StepError> {
    let silent = || StepError::HolderSilent { vm: target.vm.clone() };
    let socket = match connect(&target.folder) {
        Ok(socket) => socket,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(source) => return Err(StepError::io("connecting to the holder in", &target.folder, source)),
    };
    let mut buffer = vec![0; HOLDER_MESSAGE_BYTES_MAX];
    let first = tokio::time::timeout(ANSWER_LIMIT, receive(&socket, &mut buffer)).await;
    let state = match first {
        Ok(Ok((HolderEventWire::State(state), _))) => state,
        // It ended just now.
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Ok(Ok(_) | Err(_)) | Err(_) => return Err(silent()),
    };
    if !holder_is_understood(state.version) {
        return Err(StepError::HolderVersion { vm: target.vm.clone(), found: state.version });
    }
    let (commands, command_queue) = mpsc::channel(REQUESTS_MAX);
    let (requests, request_queue) = mpsc::channel(REQUESTS_MAX);
    let (ended_sender, ended) = watch::channel(None);
    let session = Arc::new(AtomicBool::new(state.agent_version.is_some()));
    let (live_sender, live) = watch::channel(LiveView::default());
    let holder = holder_process(&socket);
    let channels = BTreeMap::new();
    let task = Task {
        target,
        socket,
        channels,
        session: session.clone(),
        holder,
        live: live_sender,
        exit: None,
        has_settled: false,
    };
    let first = state.clone();
    tokio::spawn(async move {
        let ended = task.run(first, command_queue, request_queue, buffer).await;
        // The platform may be gone.
        let _ = ended_sender.send(Some(ended));
    });
    let channel_next = AtomicU32::new(state.channel_next);
    Ok(Some((Attachment { commands, requests, channel_next, session, ended, live }, state)))
}

impl Attachment {
    /// Tells the holder to stop the guest.
    pub(super) async fn stop(&self, command: HolderCommandWire) {
        // Where the task has ended, so has the guest.
        let _ = self.commands.send(Command::Send(command)).await;
    }

    /// Returns what of the guest can be changed as it runs.
    pub(super) async fn live(&self) -> Result<HolderLiveWire, LiveError> {
        let mut live = self.live.clone();
        let told = tokio::time::timeout(LIVE_TOLD_LIMIT, live.wait_for(|view| view.state.is_some())).await;
        let view = told.map_err(|_| LiveError::HolderOlder)?.map_err(|_| LiveError::Silent)?;
        view.state.clone().ok_or(LiveError::HolderOlder)
    }

    /// Has the holder change the guest as it runs; returns when `is_done` holds of what it says.
    pub(super) async fn change(
        &self,
        command: HolderCommandWire,
        is_done: impl Fn(&HolderLiveWire) -> bool,
    ) -> Result<HolderLiveWire, LiveError> {
        self.live().await?;
        let mut live = self.live.clone();
        let refusals = live.borrow_and_update().refusals;
        self.commands.send(Command::Send(command)).await.map_err(|_| LiveError::Silent)?;
        let over = |view: &LiveView| view.refusals > refusals || view.state.as_ref().is_some_and(&is_done);
        let told = tokio::time::timeout(ANSWER_LIMIT, live.wait_for(over)).await;
        let view = told.map_err(|_| LiveError::Silent)?.map_err(|_| LiveError::Silent)?;
        match &view.state {
            Some(state) if is_done(state) => Ok(state.clone()),
            _ => Err(LiveError::Refused(view.refusal.clone())),
        }
    }

    /// Has the holder say again that an interface is up.
    pub(super) async fn tell_interface(&self, index: u32) {
        // Where the task has ended, so has the guest.
        let _ = self.commands.send(Command::Send(HolderCommandWire::TellInterface { index })).await;
    }

    /// Tells the guest something about its project; false where too much waits already, or it has ended.
    pub(super) fn tell(&self, bytes: Vec<u8>) -> bool {
        self.commands.try_send(Command::Send(HolderCommandWire::Node(bytes))).is_ok()
    }

    /// Waits until the VM has ended.
    pub(super) async fn wait(&self) -> Ended {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone().unwrap_or(Ended::Lost),
            Err(_) => Ended::Lost,
        }
    }

    /// Opens a channel for a command.
    pub(super) async fn exec(&self, vm: &VmId, command: ExecCommand) -> Result<Exec, ExecError> {
        self.open(vm, OpenWire::Exec(exec_wire(command)), Needs::Commands).await
    }

    /// Opens a channel for a command on a terminal.
    pub(super) async fn terminal(&self, vm: &VmId, wanted: TerminalCommand) -> Result<Exec, ExecError> {
        let TerminalCommand { command, size } = wanted;
        let open = OpenWire::Terminal(TerminalWire { exec: exec_wire(command), size: size_wire(size) });
        self.open(vm, open, Needs::Terminals).await
    }

    /// Opens a channel for somebody who looks at the console.
    pub(super) async fn console(&self, vm: &VmId, view: ConsoleView) -> Result<Exec, ExecError> {
        let ConsoleView { term, size, lines } = view;
        let open = OpenWire::Console(ConsoleWire { term, size: size_wire(size), lines });
        self.open(vm, open, Needs::Terminals).await
    }

    async fn open(&self, vm: &VmId, open: OpenWire, needs: Needs) -> Result<Exec, ExecError> {
        if !self.session.load(Ordering::Acquire) {
            return Err(ExecError::NotReady { vm: vm.clone() });
        }
        let bytes = encode(&open).len();
        if bytes > LINE_MESSAGE_BYTES_MAX {
            return Err(ExecError::TooLong { bytes, limit: LINE_MESSAGE_BYTES_MAX });
        }
        let channel = self.channel_next.fetch_add(1, Ordering::Relaxed);
        let (output, events) = mpsc::unbounded_channel();
        let window = Arc::new(Semaphore::new(STDIN_WINDOW_BYTES as usize));
        let end = ChannelEnd { output, window: window.clone(), needs, pending_bytes: [0; 3] };
        let sent = self.commands.send(Command::Open { channel, open, end }).await;
        sent.map_err(|_| ExecError::NotRunning { vm: vm.clone() })?;
        Ok(Exec::new(ChannelSender { channel, requests: self.requests.clone() }, window, events))
    }
}

fn exec_wire(command: ExecCommand) -> ExecWire {
    let ExecCommand { argv, environment, folder } = command;
    ExecWire { argv, environment, folder }
}

fn size_wire(size: WindowSize) -> SizeWire {
    SizeWire { rows: size.rows, columns: size.columns }
}

fn connect(folder: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, flags, Mode::empty())?;
    let socket = packet::connect_in(folder.as_fd(), files::HOLDER_SOCKET)?;
    // SAFETY: an `OwnedFd` is open, stays open and is the same descriptor until it is dropped.
    Ok(unsafe { AsyncFd::register(socket) }?)
}

async fn receive(
    socket: &AsyncFd<OwnedFd>,
    buffer: &mut [u8],
) -> io::Result<(HolderEventWire, Option<OwnedFd>)> {
    loop {
        let packet = match socket.async_io(Interest::READABLE, |fd| packet::receive(fd, buffer)).await {
            Ok(packet) => packet,
            // A holder that ended before it had read all that we sent; its own last words come after this.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => continue,
            Err(error) => return Err(error),
        };
        if packet.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match decode(&buffer[..packet.bytes], HOLDER_MESSAGE_BYTES_MAX) {
            Ok(event) => return Ok((event, packet.fd)),
            // A newer holder may say what we don't know.
            Err(error) => warn!(%error, "unknown message of a holder"),
        }
    }
}

struct Task {
    target: Target,
    socket: AsyncFd<OwnedFd>,
    channels: BTreeMap<u32, ChannelEnd>,
    session: Arc<AtomicBool>,
    /// The holder's process.
    holder: Option<OwnedFd>,
    live: watch::Sender<LiveView>,
    exit: Option<Exit>,
    /// Whether this boot has come to its end, well or not.
    has_settled: bool,
}

impl Task {
    async fn run(
        mut self,
        state: HolderStateWire,
        mut commands: mpsc::Receiver<Command>,
        mut requests: mpsc::Receiver<(u32, ChannelRequest)>,
        mut buffer: Vec<u8>,
    ) -> Ended {
        if let Some(version) = state.agent_version {
            self.tell(VmEventKind::GuestAgent { version }).await;
        }
        match state.report {
            Some(report) => self.report(&report).await,
            None => self.tell(VmEventKind::Booting { boot_unix_ms: state.boot_unix_ms }).await,
        }
        loop {
            let done = tokio::select! {
                // In this order, so that a channel is open before a request about it comes.
                biased;
                // Cancel-safe: nothing is taken from the queue unless this arm is chosen.
                Some(command) = commands.recv() => match command {
                    Command::Open { channel, open, end } => self.open(channel, &open, end).await,
                    Command::Send(command) => self.send(&command).await,
                },
                // Cancel-safe: a packet is taken whole, in the poll that chooses this arm.
                received = receive(&self.socket, &mut buffer) => match received {
                    Ok((event, fd)) => self.take(event, fd).await,
                    Err(error) => Err(error),
                },
                // Cancel-safe: nothing is taken from the queue unless this arm is chosen.
                Some((channel, request)) = requests.recv() => self.request(channel, request).await,
            };
            if done.is_err() {
                break;
            }
        }
        self.session.store(false, Ordering::Release);
        self.end_channels(&ExecError::GuestEnded);
        let ended = self.ended().await;
        self.tell(match &ended {
            Ended::Exited(exit) => VmEventKind::Exited(exit.clone()),
            Ended::Lost => VmEventKind::Lost,
        })
        .await;
        ended
    }

    /// Finds out how the guest ended, once the holder is gone.
    async fn ended(&mut self) -> Ended {
        if let Some(exit) = self.exit.take() {
            return Ended::Exited(exit);
        }
        let (folder, kernel) = (self.target.folder.clone(), self.target.kernel.clone());
        let holder = self.holder.take();
        let found = tokio::task::spawn_blocking(move || {
            wait_for_end(holder);
            last_exit_or_sweep(&folder, &kernel)
        })
        .await;
        match found {
            Ok(Some(exit)) => Ended::Exited(exit),
            Ok(None) | Err(_) => Ended::Lost,
        }
    }

    async fn tell(&self, kind: VmEventKind) {
        // Where nobody listens any more, the program is ending.
        let _ = self.target.events.send(VmEvent { vm: self.target.vm.clone(), kind }).await;
    }

    async fn report(&mut self, bytes: &[u8]) {
        match decode::<ReportWire>(bytes, LINE_MESSAGE_BYTES_MAX) {
            // A guest agent that was started again says so from the beginning; the boot is no younger for it.
            Ok(ReportWire::Starting) if self.has_settled => {}
            Ok(report) => {
                self.has_settled |= report != ReportWire::Starting;
                self.tell(VmEventKind::Progress(BootProgress::from(report))).await;
            }
            Err(error) => warn!(vm = %self.target.vm, %error, "unknown report of a guest"),
        }
    }

    async fn take(&mut self, event: HolderEventWire, fd: Option<OwnedFd>) -> io::Result<()> {
        match event {
            HolderEventWire::State(_) => {}
            HolderEventWire::SessionStarted { agent_version } => {
                self.end_channels(&ExecError::LineLost);
                self.session.store(true, Ordering::Release);
                self.tell(VmEventKind::GuestAgent { version: agent_version }).await;
            }
            HolderEventWire::SessionDamaged => {
                self.session.store(false, Ordering::Release);
                self.end_channels(&ExecError::LineLost);
            }
            HolderEventWire::Report(bytes) => self.report(&bytes).await,
            HolderEventWire::Line(message) => return self.take_line(message).await,
            HolderEventWire::InterfaceUp { index } => {
                if let (Some(interface), Some(socket)) = (self.interface(index), fd) {
                    self.tell(VmEventKind::InterfaceUp { interface, socket }).await;
                }
            }
            HolderEventWire::InterfaceDown { index } => {
                if let Some(interface) = self.interface(index) {
                    self.tell(VmEventKind::InterfaceDown { interface }).await;
                }
            }
            HolderEventWire::Live(state) => self.live.send_modify(|view| view.state = Some(state)),
            HolderEventWire::Refused { text } => self.live.send_modify(|view| {
                view.refusals += 1;
                view.refusal = text;
            }),
            HolderEventWire::Nat(state) => self.tell(VmEventKind::Nat(nat_of(state))).await,
            HolderEventWire::Panicked { text } => self.tell(VmEventKind::Panicked { text }).await,
            HolderEventWire::Node(bytes) => self.tell(VmEventKind::Asks { bytes }).await,
            HolderEventWire::Exited(exit) => {
                self.exit = Some(Exit::from(exit));
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    fn interface(&self, index: u32) -> Option<Name> {
        let live = self.live.borrow();
        match &live.state {
            Some(state) => {
                let slot = state.slots.get(index as usize)?.as_ref()?;
                Name::parse(&slot.interface.name).ok()
            }
            None => self.target.interfaces.get(index as usize).cloned(),
        }
    }

    async fn take_line(&mut self, message: LineMessageWire) -> io::Result<()> {
        let LineMessageWire { kind, channel, payload } = message;
        let Some(end) = self.channels.get_mut(&channel) else { return Ok(()) };
        let heard = match Kind::parse(kind) {
            Some(Kind::Data) => end.data(&payload),
            Some(Kind::Window) => {
                end.widen(&payload);
                true
            }
            Some(Kind::Closed) => {
                end.close(&payload);
                self.channels.remove(&channel);
                true
            }
            _ => true,
        };
        if heard { Ok(()) } else { self.abandon(channel).await }
    }

    async fn open(&mut self, channel: u32, open: &OpenWire, end: ChannelEnd) -> io::Result<()> {
        if !self.session.load(Ordering::Acquire) {
            end.fail(ExecError::LineLost);
            return Ok(());
        }
        // Those that are abandoned but not over yet are counted by the guest.
        if self.channels.len() >= CHANNELS_MAX {
            end.fail(ExecError::TooMany { limit: CHANNELS_MAX as u32 });
            return Ok(());
        }
        self.channels.insert(channel, end);
        self.send_line(Kind::Open, channel, encode(open)).await
    }

    async fn request(&mut self, channel: u32, request: ChannelRequest) -> io::Result<()> {
        // The channel's end may have crossed the request.
        let Some(end) = self.channels.get_mut(&channel) else { return Ok(()) };
        match request {
            ChannelRequest::Input(bytes) => {
                let mut payload = Vec::with_capacity(bytes.len() + 1);
                payload.push(STDIN);
                payload.extend_from_slice(&bytes);
                self.send_line(Kind::Data, channel, payload).await
            }
            ChannelRequest::InputEnd => self.send_line(Kind::Eof, channel, vec![STDIN]).await,
            ChannelRequest::Signal(signal) => {
                self.send_line(Kind::Kill, channel, encode(&KillWire { signal })).await
            }
            ChannelRequest::Resize(size) => {
                self.send_line(Kind::Resize, channel, encode(&size_wire(size))).await
            }
            ChannelRequest::Taken { stream, bytes } => {
                if let Some(pending) = end.pending_bytes.get_mut(usize::from(stream)) {
                    *pending = pending.saturating_sub(bytes);
                }
                self.send_line(Kind::Window, channel, encode(&WindowWire { stream, bytes })).await
            }
            ChannelRequest::Abandon => self.abandon(channel).await,
        }
    }

    async fn abandon(&mut self, channel: u32) -> io::Result<()> {
        if let Some(end) = self.channels.remove(&channel) {
            end.fail(ExecError::LineLost);
        }
        self.send_line(Kind::Kill, channel, encode(&KillWire { signal: 0 })).await
    }

    async fn send_line(&self, kind: Kind, channel: u32, payload: Vec<u8>) -> io::Result<()> {
        let message = LineMessageWire { kind: kind as u8, channel, payload };
        self.send(&HolderCommandWire::Line(message)).await
    }

    /// Sends to the holder, which always reads: what it has for us waits in a queue of its own.
    async fn send(&self, command: &HolderCommandWire) -> io::Result<()> {
        let bytes = encode(command);
        self.socket.async_io(Interest::WRITABLE, |fd| packet::send(fd, &bytes, None)).await
    }

    fn end_channels(&mut self, why: &ExecError) {
        for end in std::mem::take(&mut self.channels).into_values() {
            end.fail(why.clone());
        }
    }
}

impl ChannelEnd {
    /// Passes output on. False when the caller is gone or the guest sends more than it may.
    fn data(&mut self, payload: &[u8]) -> bool {
        let Some((&stream, bytes)) = payload.split_first() else { return false };
        let event = match stream {
            STDOUT => ExecOutputEvent::Stdout(bytes.to_vec()),
            STDERR => ExecOutputEvent::Stderr(bytes.to_vec()),
            _ => return false,
        };
        let pending = &mut self.pending_bytes[usize::from(stream)];
        *pending = pending.saturating_add(bytes.len() as u32);
        *pending <= OUTPUT_WINDOW_BYTES && self.output.send(event).is_ok()
    }

    fn widen(&self, payload: &[u8]) {
        if let Ok(WindowWire { stream: STDIN, bytes }) = decode(payload, 64) {
            // Never more than the whole window, whatever the guest says.
            let room = (STDIN_WINDOW_BYTES as usize).saturating_sub(self.window.available_permits());
            self.window.add_permits(room.min(bytes as usize));
        }
    }

    fn close(&self, payload: &[u8]) {
        self.window.close();
        let event = match decode::<ClosedWire>(payload, LINE_MESSAGE_BYTES_MAX) {
            Ok(ClosedWire::Ended(end)) => ExecOutputEvent::Ended(end.into()),
            // So does a guest agent answer what it doesn't know.
            Ok(ClosedWire::NotStarted { errno: 0, .. }) if self.needs == Needs::Terminals => {
                ExecOutputEvent::Failed(ExecError::GuestOlder)
            }
            Ok(ClosedWire::NotStarted { text, errno }) => {
                ExecOutputEvent::Failed(ExecError::NotStarted { text, errno })
            }
            Ok(ClosedWire::TooMany { limit }) => ExecOutputEvent::Failed(ExecError::TooMany { limit }),
            Err(_) => ExecOutputEvent::Failed(ExecError::LineLost),
        };
        // The caller may be gone.
        let _ = self.output.send(event);
    }

    fn fail(&self, why: ExecError) {
        self.window.close();
        // The caller may be gone.
        let _ = self.output.send(ExecOutputEvent::Failed(why));
    }
}

/// Finds the process at the other end of a holder's socket.
fn holder_process(socket: &AsyncFd<OwnedFd>) -> Option<OwnedFd> {
    let peer = rustix::net::sockopt::socket_peercred(socket.get_ref()).ok()?;
    rustix::process::pidfd_open(peer.pid, PidfdFlags::empty()).ok()
}

/// Waits for a holder's process whose socket has been closed.
///
/// When a process is killed its sockets may close before its locks. One that goes on has another agent now.
fn wait_for_end(holder: Option<OwnedFd>) {
    if let Some(holder) = holder {
        let mut fds = [PollFd::new(&holder, PollFlags::IN)];
        let _ = rustix::event::poll(&mut fds, Some(&HOLDER_END_LIMIT));
    }
}

/// Returns how the guest that was started last ended; clears away what is left of one without a holder.
pub(super) fn last_exit_or_sweep(folder: &Path, kernel: &Path) -> Option<Exit> {
    if let Some(exit) = last_exit(folder) {
        return Some(exit);
    }
    let lock = FolderLock::take(folder).ok()?;
    info!(folder = %folder.display(), "the holder is gone");
    folder::sweep(folder, kernel);
    drop(lock);
    last_exit(folder)
}

/// Returns how the guest that was started last ended, if its exit file says so.
pub(super) fn last_exit(folder: &Path) -> Option<Exit> {
    let boot: BootWire = files::read(folder, files::BOOT).ok()?;
    let exit: ExitWire = files::read(folder, files::EXIT).ok()?;
    (exit.boot_unix_ms == boot.boot_unix_ms).then(|| exit.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_agent_that_knows_no_terminals_is_told_from_a_command_that_fails() {
        let answer = |needs, errno| {
            let (output, mut events) = mpsc::unbounded_channel();
            let window = Arc::new(Semaphore::new(1));
            let end = ChannelEnd { output, window, needs, pending_bytes: [0; 3] };
            end.close(&encode(&ClosedWire::NotStarted { text: "why".into(), errno }));
            events.try_recv().expect("it is over")
        };
        let failed = |errno| ExecError::NotStarted { text: "why".into(), errno };
        assert_eq!(answer(Needs::Terminals, 0), ExecOutputEvent::Failed(ExecError::GuestOlder));
        assert_eq!(answer(Needs::Terminals, 2), ExecOutputEvent::Failed(failed(2)));
        assert_eq!(answer(Needs::Commands, 0), ExecOutputEvent::Failed(failed(0)));
        // What the one of version 1 finds where a command was: bytes that it can't read.
        let console = ConsoleWire { term: "vt100".into(), size: SizeWire { rows: 1, columns: 1 }, lines: 1 };
        assert_eq!(encode(&OpenWire::Console(console))[0], 2, "the number of a variant that it hasn't got");
    }
}
