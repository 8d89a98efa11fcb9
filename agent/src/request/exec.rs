//! `exec`: at the host that owns the VM, or passed on to it.

use std::time::Duration;

use mln_link::InputQueue;
use mln_link::message::{Exec, ExecExit, Input, OutputStream, Reply, Request, VmRef};
use mln_protocol::id::{Name, PublicKey, VmId};
use mln_protocol::node::VmView;
use tokio::time::{Instant, sleep};

use super::{answer, failure, refusal, select};
use crate::causes::chain;
use crate::control::{self, Operator, Origin, ReplySender};
use crate::event_loop::EventLoop;
use crate::mesh::{MeshHandle, MeshStream, StreamError, StreamKind};
use crate::platform::{self, ExecCommand, ExecControl, ExecError, ExecInput, ExecOutputEvent, Platform};

/// How long a command waits for its VM's host to be connected.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// The pause between two looks.
const CONNECT_PAUSE: Duration = Duration::from_millis(200);

impl EventLoop {
    pub(super) fn request_exec(
        &self,
        exec: Exec,
        operator: &Operator,
        reply: ReplySender,
        input: InputQueue,
    ) {
        let found = select::project(&self.node, &exec.vm.project, &operator.name).and_then(|project| {
            self.node.vm(project.id, &exec.vm.vm).ok_or_else(|| {
                let known: Vec<String> =
                    self.node.vms(project.id).iter().map(|vm| vm.status.vm.name.to_string()).collect();
                let text = format!("{} has no VM {}; it has {}", project.label, exec.vm.vm, known.join(", "));
                Box::new(refusal("no-such-vm", text, None))
            })
        });
        let view = match found {
            Ok(view) => view,
            Err(wrong) => return answer(&reply, [*wrong]),
        };
        if view.owner == self.node.key() {
            let platform = self.platform.clone();
            tokio::spawn(async move { run_here(&*platform, &view.status.vm, exec.argv, reply, input).await });
        } else if let Origin::Peer { .. } = operator.origin {
            // Passed on to us by a host that believes it to be here: not passed on again, or it could go round.
            let text = format!("{} is not on this host any more; ask again", exec.vm);
            answer(&reply, [refusal("moved", text, None)]);
        } else {
            let (mesh, operator) = (self.mesh.clone(), operator.name.clone());
            tokio::spawn(async move {
                let owner = view.owner;
                let request = Request::Exec(Exec { vm: full_name(&view), argv: exec.argv });
                pass_on(&mesh, owner, &view.status.host, operator.as_str(), &request, reply, input).await;
            });
        }
    }
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
    operator: &str,
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
async fn open(mesh: &MeshHandle, owner: PublicKey, operator: &str) -> Result<MeshStream, StreamError> {
    let deadline = Instant::now() + CONNECT_PATIENCE;
    loop {
        match mesh.open_stream(owner, StreamKind::Control, operator.as_bytes()).await {
            Err(StreamError::NotConnected) if Instant::now() < deadline => sleep(CONNECT_PAUSE).await,
            opened => return opened,
        }
    }
}

/// Runs a command in a VM of this host; whoever asked hears its output as fast as they take it.
async fn run_here(
    platform: &dyn Platform,
    vm: &VmId,
    argv: Vec<String>,
    reply: ReplySender,
    input: InputQueue,
) {
    let mut exec = match platform.exec(vm, ExecCommand::of(argv)).await {
        Ok(exec) => exec,
        Err(error) => return answer(&reply, [not_run(vm, &error)]),
    };
    let feeding = feed(exec.input, exec.control, input);
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
                ExecOutputEvent::Failed(error) => not_run(vm, &error),
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

async fn show(
    reply: &ReplySender,
    stream: OutputStream,
    bytes: &[u8],
) -> Result<(), crate::control::ReplyError> {
    for chunk in bytes.chunks(mln_link::CHUNK_BYTES_MAX) {
        reply.send(Reply::Output { stream, bytes: chunk.to_vec() }).await?;
    }
    Ok(())
}

async fn feed(input: ExecInput, control: ExecControl, mut queue: InputQueue) {
    let mut input = Some(input);
    while let Some(message) = queue.next().await {
        let fed = match message {
            Input::Bytes(bytes) => match &mut input {
                Some(open) => write(open, &control, &mut queue, &bytes).await,
                None => Ok(()),
            },
            Input::End => match input.take() {
                Some(open) => open.close().await,
                None => Ok(()),
            },
            Input::Signal(signal) => control.signal(signal).await,
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

fn exit_of(end: platform::End) -> ExecExit {
    match end {
        platform::End::Exited(status) => ExecExit::Status(u8::try_from(status & 0xff).unwrap_or(u8::MAX)),
        platform::End::Signalled(signal) => ExecExit::Signal(signal),
    }
}

fn not_run(vm: &VmId, error: &ExecError) -> Reply {
    let next: &[&str] = match error {
        ExecError::NotRunning { .. } => &["mlnctl start -p PROJECT"],
        ExecError::NotReady { .. } => &["mlnctl status --wait up"],
        ExecError::TooLong { .. }
        | ExecError::NotStarted { .. }
        | ExecError::TooMany { .. }
        | ExecError::LineLost
        | ExecError::GuestEnded => &["mlnctl status"],
    };
    failure(&format!("running a command in {}", vm.name), error.to_string(), next)
}
