//! What leads into a VM: at the host that owns it, or passed on to it. And `exec` itself.

use std::time::Duration;

use mln_link::InputQueue;
use mln_link::message::{ExecExit, Input, OutputStream, Reply, Request, Terminal, TerminalSize, VmRef};
use mln_protocol::id::{Name, PublicKey, VmId};
use mln_protocol::lang::did_you_mean;
use mln_protocol::node::VmView;
use rustix::io::Errno;
use tokio::time::{Instant, sleep};

use super::{answer, console, failure, logs, refusal, select};
use crate::causes::chain;
use crate::control::{self, Operator, Origin, ReplySender};
use crate::event_loop::EventLoop;
use crate::mesh::{MeshHandle, MeshStream, StreamError, StreamKind};
use crate::platform::{
    self, Exec, ExecCommand, ExecControl, ExecError, ExecInput, ExecOutputEvent, TerminalCommand, WindowSize,
};

/// How long a command waits for its VM's host to be connected.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// The pause between two looks.
const CONNECT_PAUSE: Duration = Duration::from_millis(200);

impl EventLoop {
    /// Answers a request that leads into a VM.
    pub(super) fn request_inside(
        &self,
        mut request: Request,
        operator: &Operator,
        reply: ReplySender,
        input: InputQueue,
    ) {
        let Some(wanted) = vm_of(&mut request) else {
            let text = format!("{} leads into no VM", request.word());
            return answer(&reply, [refusal("no-such-vm", text, None)]);
        };
        let found = select::project(&self.node, &wanted.project, operator).and_then(|project| {
            self.node.vm(project.id, &wanted.vm).ok_or_else(|| {
                let known: Vec<String> =
                    self.node.vms(project.id).iter().map(|vm| vm.status.vm.name.to_string()).collect();
                let meant = did_you_mean(wanted.vm.as_str(), known.iter().map(String::as_str));
                let text =
                    format!("{} has no VM {}{meant} (it has {})", project.label, wanted.vm, known.join(", "));
                Box::new(refusal("no-such-vm", text, None))
            })
        });
        let view = match found {
            Ok(view) => view,
            Err(wrong) => return answer(&reply, [*wrong]),
        };
        if view.owner == self.node.key() {
            let platform = self.platform.clone();
            tokio::spawn(async move {
                let vm = &view.status.vm;
                match request {
                    Request::Exec(exec) => {
                        let opened = platform.exec(vm, ExecCommand::of(exec.argv)).await;
                        run_here(vm, opened, reply, input).await;
                    }
                    Request::Terminal(terminal) => {
                        let opened = platform.terminal(vm, terminal_command(terminal)).await;
                        run_here(vm, opened, reply, input).await;
                    }
                    Request::Console(wanted) => console::look(&*platform, vm, wanted, reply, input).await,
                    Request::Logs(wanted) => logs::show(&*platform, vm, wanted, reply).await,
                    // No other has a VM.
                    _ => {}
                }
            });
        } else if let Origin::Peer { .. } = operator.origin {
            // Passed on to us by a host that believes it to be here: not passed on again, or it could go round.
            let text = format!("{wanted} is not on this host any more; ask again");
            answer(&reply, [refusal("moved", text, None)]);
        } else {
            *wanted = full_name(&view);
            let (mesh, header) = (self.mesh.clone(), operator.header());
            tokio::spawn(async move {
                let owner = view.owner;
                pass_on(&mesh, owner, &view.status.host, &header, &request, reply, input).await;
            });
        }
    }
}

/// Returns the VM that a request leads into; none where it leads into none.
fn vm_of(request: &mut Request) -> Option<&mut VmRef> {
    match request {
        Request::Exec(exec) => Some(&mut exec.vm),
        Request::Terminal(terminal) => Some(&mut terminal.vm),
        Request::Console(console) => Some(&mut console.vm),
        Request::Logs(logs) => Some(&mut logs.vm),
        _ => None,
    }
}

fn terminal_command(terminal: Terminal) -> TerminalCommand {
    let mut command = ExecCommand::of(terminal.argv);
    command.environment.push(("TERM".to_owned(), terminal.term));
    TerminalCommand { command, size: window_size(terminal.size) }
}

pub(super) fn window_size(size: TerminalSize) -> WindowSize {
    WindowSize { rows: size.rows, columns: size.columns }
}

/// Names a VM so that it means the same to every agent.
fn full_name(view: &VmView) -> VmRef {
    let project = mln_link::message::ProjectRef {
        owner: Some(view.label.owner.clone()),
        project: view.label.project.clone(),
    };
    VmRef { project, vm: view.status.vm.name.clone() }
}

/// Passes a request on to another host, and its input and replies in both directions.
pub(super) async fn pass_on(
    mesh: &MeshHandle,
    owner: PublicKey,
    host: &Name,
    operator: &[u8],
    request: &Request,
    reply: ReplySender,
    input: InputQueue,
) {
    match open(mesh, owner, operator).await {
        Ok(stream) => control::forward(request, stream, host, input, reply).await,
        Err(error) => {
            let why = format!("it can't be reached: {}", chain(&error));
            let silence = mln_link::message::Silence { host: host.clone(), text: why };
            answer(&reply, [Reply::Silent(silence)]);
        }
    }
}

/// Opens a control stream; a host that has just come back gets a moment to be connected again.
pub(super) async fn open(
    mesh: &MeshHandle,
    owner: PublicKey,
    operator: &[u8],
) -> Result<MeshStream, StreamError> {
    let deadline = Instant::now() + CONNECT_PATIENCE;
    loop {
        match mesh.open_stream(owner, StreamKind::Control, operator).await {
            Err(StreamError::NotConnected) if Instant::now() < deadline => sleep(CONNECT_PAUSE).await,
            opened => return opened,
        }
    }
}

/// Carries a command in a VM of this host; whoever asked hears its output as fast as they take it.
async fn run_here(vm: &VmId, opened: Result<Exec, ExecError>, reply: ReplySender, mut input: InputQueue) {
    let mut exec = match opened {
        Ok(exec) => exec,
        Err(error) => return answer(&reply, [not_run(vm, &error)]),
    };
    let feeding = feed(exec.input, exec.control, &mut input, None);
    let showing = async {
        while let Some(event) = exec.output.next().await {
            let last = match event {
                ExecOutputEvent::Stdout(bytes) => {
                    show(&reply, OutputStream::Stdout, &bytes).await?;
                    continue;
                }
                ExecOutputEvent::Stderr(bytes) => {
                    show(&reply, OutputStream::Stderr, &bytes).await?;
                    continue;
                }
                ExecOutputEvent::Ended(end) => Reply::Exited(exit_of(end)),
                ExecOutputEvent::Failed(error) => match shell_status(&error) {
                    Some(status) => {
                        show(&reply, OutputStream::Stderr, format!("{error}\n").as_bytes()).await?;
                        Reply::Exited(ExecExit::Status(status))
                    }
                    None => not_run(vm, &error),
                },
            };
            reply.send(last).await?;
        }
        reply.send(Reply::Done).await
    };
    tokio::select! {
        // Whoever has gone takes the command with them: dropping its output kills it.
        () = reply.closed() => {}
        _ = showing => {}
        // Feeding only ends with the command or the operator, which the other arms see.
        () = async { feeding.await; std::future::pending().await } => {}
    }
}

pub(super) async fn show(
    reply: &ReplySender,
    stream: OutputStream,
    bytes: &[u8],
) -> Result<(), crate::control::ReplyError> {
    for chunk in bytes.chunks(mln_link::CHUNK_BYTES_MAX) {
        reply.send(Reply::Output { stream, bytes: chunk.to_vec() }).await?;
    }
    Ok(())
}

/// Hands on what the operator types, until the command or the operator has gone. A new size is noted in `size`.
pub(super) async fn feed(
    input: ExecInput,
    control: ExecControl,
    queue: &mut InputQueue,
    mut size: Option<&mut TerminalSize>,
) {
    let mut input = Some(input);
    while let Some(message) = queue.next().await {
        let fed = match message {
            Input::Bytes(bytes) => match &mut input {
                Some(open) => write(open, &control, queue, &bytes).await,
                None => Ok(()),
            },
            Input::End => match input.take() {
                Some(open) => open.close().await,
                None => Ok(()),
            },
            Input::Signal(signal) => control.signal(signal).await,
            Input::Resize(new) => {
                if let Some(size) = &mut size {
                    **size = new;
                }
                control.resize(window_size(new)).await
            }
        };
        if fed.is_err() {
            return;
        }
    }
}

/// Hands bytes to the command; signals that come meanwhile overtake them.
async fn write(
    input: &mut ExecInput,
    control: &ExecControl,
    queue: &mut InputQueue,
    bytes: &[u8],
) -> Result<(), ExecError> {
    // One write that is never cancelled: half of it may have been sent.
    let writing = input.write(bytes);
    tokio::pin!(writing);
    loop {
        tokio::select! {
            written = &mut writing => return written,
            Some(signal) = queue.signal() => control.signal(signal).await?,
        }
    }
}

pub(super) fn exit_of(end: platform::End) -> ExecExit {
    match end {
        platform::End::Exited(status) => ExecExit::Status(u8::try_from(status & 0xff).unwrap_or(u8::MAX)),
        platform::End::Signalled(signal) => ExecExit::Signal(signal),
    }
}

/// Returns what a shell ends with that can't start a command; none where it isn't for want of the command.
fn shell_status(error: &ExecError) -> Option<u8> {
    const NOT_FOUND: u8 = 127;
    const NOT_EXECUTABLE: u8 = 126;
    let ExecError::NotStarted { errno, .. } = error else { return None };
    // The guest says it, so it may be any number: it is compared, and not made an `Errno`.
    let statuses = [(Errno::NOENT, NOT_FOUND), (Errno::ACCESS, NOT_EXECUTABLE)];
    statuses.into_iter().find(|(known, _)| known.raw_os_error() == *errno).map(|(_, status)| status)
}

pub(super) fn not_run(vm: &VmId, error: &ExecError) -> Reply {
    let next: &[&str] = match error {
        ExecError::NotRunning { .. } => &["mlnctl start -p PROJECT"],
        ExecError::NotReady { .. } => &["mlnctl status --wait up"],
        ExecError::GuestOlder => &["mlnctl stop -p PROJECT -h HOST", "mlnctl start -p PROJECT -h HOST"],
        ExecError::TooLong { .. }
        | ExecError::NotStarted { .. }
        | ExecError::TooMany { .. }
        | ExecError::LineLost
        | ExecError::GuestEnded => &["mlnctl status"],
    };
    failure(&format!("running a command in {}", vm.name), error.to_string(), next)
}
