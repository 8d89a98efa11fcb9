//! Handing drives to another host.

use std::io;

use mln_protocol::id::VmId;
use mln_protocol::wire::{
    DISK_FRAME_BYTES_MAX, DISK_NODE_BYTES, DiskAsk, DiskCompare, DiskFrame, DiskHave, DiskRound,
};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{debug, info};

use super::Transfers;
use super::limits::{FRAME_TIMEOUT, FRAMES_WAITING_MAX};
use super::send::{Base, Outlet, SendError, Sent, Still, send, shape};
use crate::causes::chain;
use crate::disk::content::{Node, Shape};
use crate::disk::drive::{Access, VmDisk};
use crate::mesh::MeshStream;

/// A frame on its way out.
struct Outgoing {
    frame: Vec<u8>,
    answer: Due,
}

/// Whether an answer is due to a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    Answer,
    Nothing,
}

/// Frames go by one channel, answers come by another: blocks are read where it holds up nobody.
struct Channels {
    frames: mpsc::Sender<Outgoing>,
    answers: mpsc::Receiver<Vec<u8>>,
}

impl Channels {
    fn put(&self, frame: &DiskFrame, answer: Due) -> io::Result<()> {
        let outgoing = Outgoing { frame: frame.to_bytes(), answer };
        self.frames.blocking_send(outgoing).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Outlet for Channels {
    fn send(&mut self, frame: DiskFrame) -> io::Result<()> {
        self.put(&frame, Due::Nothing)
    }

    fn ask(&mut self, compare: DiskCompare) -> io::Result<Vec<Node>> {
        self.put(&DiskFrame::Compare(compare), Due::Answer)?;
        let answer = self.answers.blocking_recv().ok_or(io::ErrorKind::BrokenPipe)?;
        // What is left over makes the answer too short, or is not looked at.
        Ok(answer.as_chunks::<DISK_NODE_BYTES>().0.to_vec())
    }
}

impl Transfers {
    /// Answers a host that asks for a VM's drives; `allowed` says whether it may have what is on them.
    pub(crate) async fn serve(
        &self,
        ask: DiskAsk,
        allowed: Result<(), String>,
        mut stream: MeshStream,
    ) -> io::Result<()> {
        let (vm, pull) = match ask {
            DiskAsk::Shape(vm) => (vm, None),
            DiskAsk::Pull { vm, round, have } => (vm, Some((round, have))),
        };
        let refused = match (pull, allowed) {
            (Some(_), Err(why)) => Some(DiskFrame::Refused(why)),
            (Some(_), Ok(())) | (None, _) => None,
        };
        let permit = self.shared.serving.clone().try_acquire_owned();
        let opened = match (refused, &permit) {
            (Some(refused), _) => Err(refused),
            (None, Err(_)) if pull.is_some() => Err(DiskFrame::Busy),
            (None, Ok(_) | Err(_)) => {
                self.open(&vm, pull.map(|(round, _)| round)).await.map_err(DiskFrame::Refused)
            }
        };
        let (disk, shape) = match opened {
            Ok(opened) => opened,
            Err(frame) => {
                stream.write_block(&frame.to_bytes()).await?;
                return stream.shutdown().await;
            }
        };
        stream.write_block(&DiskFrame::Shape(shape.clone()).to_bytes()).await?;
        if let Some((round, have)) = pull {
            let base = match have {
                DiskHave::Nothing => Base::Nothing,
                DiskHave::Root(root) => disk
                    .folder
                    .state(root)
                    .filter(|state| Shape::are_same(state.drives(), &shape.drives))
                    .map_or(Base::Unknown, Base::Known),
            };
            let known = match base {
                Base::Nothing => "nothing",
                Base::Known(_) => "a known state",
                Base::Unknown => "an unknown state",
            };
            let still = if round == DiskRound::Last { Still::Yes } else { Still::No };
            match self.hand_over(&vm, &mut stream, disk, still, base).await? {
                Ok(sent) => {
                    info!(%vm, ?round, known, blocks = sent.changed, root = %sent.root.short(), "disk handed over");
                }
                Err(error) => {
                    debug!(%vm, ?round, known, error = chain(&error), "a disk was not handed over");
                    stream.write_block(&DiskFrame::Refused(chain(&error)).to_bytes()).await?;
                }
            }
        }
        stream.shutdown().await
    }

    /// Opens the drives of a VM, if they may be read in that round; says why not, for people.
    async fn open(
        &self,
        vm: &VmId,
        round: Option<DiskRound>,
    ) -> Result<(VmDisk, mln_protocol::wire::DiskShape), String> {
        if round == Some(DiskRound::Last) && self.shared.platform.is_running(vm) {
            return Err("it runs".to_owned());
        }
        let (platform, vm) = (self.shared.platform.clone(), vm.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let disk = platform.disk(&vm).map_err(|error| chain(&error))?;
            let shape = disk.open(Access::Read).and_then(|drives| shape(&drives));
            Ok((disk, shape.map_err(|error| chain(&error))?))
        });
        opened.await.unwrap_or_else(|_| Err("the work was cut off".to_owned()))
    }

    async fn hand_over(
        &self,
        vm: &VmId,
        stream: &mut MeshStream,
        disk: VmDisk,
        still: Still,
        base: Base,
    ) -> io::Result<Result<Sent, SendError>> {
        let (frames, mut outgoing) = mpsc::channel(FRAMES_WAITING_MAX);
        let (answered, answers) = mpsc::channel(1);
        let mut channels = Channels { frames, answers };
        let work = tokio::task::spawn_blocking(move || send(&disk, still, &base, &mut channels));
        while let Some(Outgoing { frame, answer }) = outgoing.recv().await {
            self.shared.pace.wait(frame.len()).await;
            // Also where it was said in the middle.
            if let Some(limit) = self.limit_of(vm) {
                limit.wait(frame.len()).await;
            }
            timeout(FRAME_TIMEOUT, stream.write_block(&frame)).await??;
            if answer == Due::Answer {
                let answer = timeout(FRAME_TIMEOUT, stream.read_block(DISK_FRAME_BYTES_MAX)).await??;
                // It has ended if nobody takes it.
                let _ = answered.send(answer).await;
            }
        }
        work.await.map_err(|_| io::Error::other("the work was cut off"))
    }
}
