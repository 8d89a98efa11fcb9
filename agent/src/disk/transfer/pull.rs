//! Bringing a VM's drives to this host.

use std::io;

use mln_protocol::id::{Label, PublicKey, VmId};
use mln_protocol::model::TemplateRef;
use mln_protocol::node::PullRound;
use mln_protocol::wire::{
    DISK_BLOCK_BYTES, DISK_FRAME_BYTES_MAX, DecodeError, DiskAsk, DiskFrame, DiskHave, DiskRound, DiskShape,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::limits::{FRAME_TIMEOUT, FRAMES_WAITING_MAX, FREE_BYTES_MIN, PROGRESS_INTERVAL, SHAPE_TIMEOUT};
use super::receive::{ReceiveError, Receiver, Step};
use super::send::Sent;
use super::works::Turn;
use super::{Moving, Transfers};
use crate::disk::content::Shape;
use crate::disk::drive::VmDisk;
use crate::disk::{Reading, State, scan};
use crate::image::exchange::{FetchError, Wanted};
use crate::mesh::{MeshStream, StreamError, StreamKind};
use crate::platform::{NewCopy, StepError};

/// A VM whose drives are to come here.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    /// The VM.
    pub(crate) vm: VmId,
    /// Its project.
    pub(crate) label: Label,
    /// Who has them.
    pub(crate) from: PublicKey,
    /// Whether it may run there.
    pub(crate) round: PullRound,
}

/// What came of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pulled {
    /// How many bytes had changed.
    pub(crate) changed_bytes: u64,
    /// What came over the network.
    pub(crate) received: u64,
}

/// Why drives are not here. What came of them is kept, and another try goes on from there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PullError {
    /// Its host can't be asked.
    #[error("its host can't be asked")]
    Stream(#[from] StreamError),
    /// The connection failed.
    #[error("the connection to its host failed")]
    Io(#[from] io::Error),
    /// Its host is silent.
    #[error("its host was silent for {seconds} s")]
    Silent {
        /// For how long.
        seconds: u64,
    },
    /// Its host hands over as many as it may already.
    #[error("its host hands over as many disks as it may; it is asked again")]
    Busy,
    /// Its host says why not.
    #[error("its host says: {0}")]
    Refused(String),
    /// What its host says is nothing.
    #[error("its host says what is not understood")]
    Decode(#[from] DecodeError),
    /// What its host sends is not the disk.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// Its drives are nothing that can be here.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The template can't be had.
    #[error("its template")]
    Template(#[from] FetchError),
    /// There is no room.
    #[error(
        "its disk takes {wanted} bytes, and {free} are free beside what must stay so: remove what is not needed"
    )]
    Room {
        /// What it takes.
        wanted: u64,
        /// What there is.
        free: u64,
    },
    /// The copy that is here can't be read.
    #[error("the copy of its disk that is here")]
    Copy(#[source] io::Error),
    /// A task of this program ended early; a bug.
    #[error("the work was cut off")]
    CutOff,
}

impl Transfers {
    /// Brings here what has changed on a VM's drives, and first the image below them; returns how much that was. `tell`
    /// hears how far it is.
    pub(crate) async fn pull(
        &self,
        arrival: &Arrival,
        mut turn: Turn,
        tell: &(dyn Fn(Moving) + Send + Sync),
    ) -> Result<Pulled, PullError> {
        turn.come().await;
        let vm = &arrival.vm;
        let mut here = self.here(vm).await?;
        let (shape, stream) = loop {
            let have = here.as_ref().map_or(DiskHave::Nothing, |(_, state)| DiskHave::Root(state.root()));
            let round = match arrival.round {
                PullRound::Running => DiskRound::Running,
                PullRound::Last => DiskRound::Last,
            };
            let ask = DiskAsk::Pull { vm: vm.clone(), round, have };
            let (shape, stream) = self.ask(arrival.from, &ask).await?;
            match &here {
                Some((_, state)) if !Shape::are_same(state.drives(), &shape.drives) => {
                    info!(%vm, "the copy that is here is of other drives; it is made anew");
                    self.shared.platform.drop_copy(vm).await?;
                    here = None;
                }
                Some(_) | None => break (shape, stream),
            }
        };
        let (disk, base) = match here {
            Some((disk, state)) => (disk, Some(state)),
            None => (self.fresh(arrival, &shape).await?, None),
        };
        let expected = base.is_none().then_some(shape.bytes_on_disk);
        let received = self.receive(arrival, stream, disk, base, turn, expected, tell).await;
        if let Err(PullError::Receive(error)) = &received
            && error.is_theirs()
        {
            // The mesh's task has ended only if the agent is about to.
            let _ = self.shared.mesh.report_misbehaviour(arrival.from, "a part of a disk that is none").await;
        }
        received
    }

    /// Returns what drives a VM has at its host.
    pub(crate) async fn shape(&self, from: PublicKey, vm: &VmId) -> Result<DiskShape, PullError> {
        Ok(self.ask(from, &DiskAsk::Shape(vm.clone())).await?.0)
    }

    /// Returns the copy that is here, with what is on it; one that nobody can read is deleted.
    async fn here(&self, vm: &VmId) -> Result<Option<(VmDisk, State)>, PullError> {
        let Some(disk) = self.shared.platform.copy(vm).await? else { return Ok(None) };
        let known = tokio::task::spawn_blocking(move || {
            if let Some(state) = disk.folder.content() {
                return Ok((disk, state));
            }
            // It was being written when the agent or the machine went down: what there is, is on the disk.
            let root = scan(&disk, Reading::FromDisk)?;
            disk.folder.set_content(root)?;
            let state = disk.folder.content().ok_or(io::ErrorKind::NotFound)?;
            Ok((disk, state))
        });
        match known.await.map_err(|_| PullError::CutOff)? {
            Ok(known) => Ok(Some(known)),
            Err(error) => {
                let error: io::Error = error;
                match error.kind() {
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound => {
                        warn!(%vm, %error, "the copy that is here can't be read; it is made anew");
                        self.shared.platform.drop_copy(vm).await?;
                        Ok(None)
                    }
                    _ => Err(PullError::Copy(error)),
                }
            }
        }
    }

    async fn ask(&self, from: PublicKey, ask: &DiskAsk) -> Result<(DiskShape, MeshStream), PullError> {
        let asking = async {
            let mut stream = self.shared.mesh.open_stream(from, StreamKind::Disk, &ask.to_bytes()).await?;
            let frame = stream.read_block(DISK_FRAME_BYTES_MAX).await?;
            Ok::<_, PullError>((DiskFrame::from_bytes(&frame)?, stream))
        };
        let silent = PullError::Silent { seconds: SHAPE_TIMEOUT.as_secs() };
        match timeout(SHAPE_TIMEOUT, asking).await.map_err(|_| silent)?? {
            (DiskFrame::Shape(shape), stream) => Ok((shape, stream)),
            (DiskFrame::Refused(why), _) => Err(PullError::Refused(why)),
            (DiskFrame::Busy, _) => Err(PullError::Busy),
            (
                DiskFrame::Compare(_)
                | DiskFrame::Blocks(_)
                | DiskFrame::RegionEnd { .. }
                | DiskFrame::End { .. },
                _,
            ) => Err(ReceiveError::Place.into()),
        }
    }

    /// Makes an empty copy, with the images that it needs.
    async fn fresh(&self, arrival: &Arrival, shape: &DiskShape) -> Result<VmDisk, PullError> {
        for template in shape.drives.iter().filter_map(|drive| drive.template.as_ref()) {
            if !self.shared.exchange.images().has(&template.digest) {
                let template = TemplateRef::Exact(template.name.clone(), template.digest);
                self.shared.exchange.fetch(&Wanted { template, from: None }, &|_| {}).await?;
            }
        }
        let available = self.shared.platform.probe().await.disk_available.0;
        let free = available.saturating_sub(FREE_BYTES_MIN);
        if shape.bytes_on_disk > free {
            return Err(PullError::Room { wanted: shape.bytes_on_disk, free });
        }
        let Arrival { vm, label, .. } = arrival.clone();
        Ok(self.shared.platform.make_copy(NewCopy { vm, label, drives: shape.drives.clone() }).await?)
    }

    #[expect(clippy::too_many_arguments, reason = "each is used once, and none belongs to another")]
    async fn receive(
        &self,
        arrival: &Arrival,
        mut stream: MeshStream,
        disk: VmDisk,
        base: Option<State>,
        turn: Turn,
        expected: Option<u64>,
        tell: &(dyn Fn(Moving) + Send + Sync),
    ) -> Result<Pulled, PullError> {
        let (frames, taken) = mpsc::channel(FRAMES_WAITING_MAX);
        let (answered, mut answers) = mpsc::channel(1);
        let writer = tokio::task::spawn_blocking(move || {
            let written = write(disk, base, taken, &answered);
            // Others may work on the drives when all of it is on the disk.
            drop(turn);
            written
        });
        let mut meter = Meter { arrival, expected, began: Instant::now(), told: None, received: 0 };
        let mut read = Ok(());
        loop {
            let frame = match self.frame(&mut stream, &mut meter, tell).await {
                Ok(frame) => frame,
                Err(error) => {
                    read = Err(error);
                    break;
                }
            };
            let (is_end, is_asked) =
                (matches!(frame, DiskFrame::End { .. }), matches!(frame, DiskFrame::Compare(_)));
            if frames.send(frame).await.is_err() || is_end {
                break;
            }
            if is_asked {
                let Some(answer) = answers.recv().await else { break };
                if let Err(error) = stream.write_block(&answer).await {
                    read = Err(error.into());
                    break;
                }
            }
        }
        drop(frames);
        let written: Result<Option<Sent>, ReceiveError> = writer.await.map_err(|_| PullError::CutOff)?;
        match (written, read) {
            (Err(error), _) => Err(error.into()),
            (Ok(Some(sent)), _) => {
                let took_ms = u64::try_from(meter.began.elapsed().as_millis()).unwrap_or(u64::MAX);
                info!(
                    vm = %arrival.vm, round = ?arrival.round, blocks = sent.changed, received = meter.received,
                    took_ms, root = %sent.root.short(), "disk received"
                );
                let changed_bytes = sent.changed.saturating_mul(DISK_BLOCK_BYTES as u64);
                Ok(Pulled { changed_bytes, received: meter.received })
            }
            (Ok(None), Err(error)) => Err(error),
            (Ok(None), Ok(())) => Err(PullError::Io(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    async fn frame(
        &self,
        stream: &mut MeshStream,
        meter: &mut Meter<'_>,
        tell: &(dyn Fn(Moving) + Send + Sync),
    ) -> Result<DiskFrame, PullError> {
        let silent = PullError::Silent { seconds: FRAME_TIMEOUT.as_secs() };
        let block =
            timeout(FRAME_TIMEOUT, stream.read_block(DISK_FRAME_BYTES_MAX)).await.map_err(|_| silent)??;
        meter.note(block.len(), tell);
        match DiskFrame::from_bytes(&block)? {
            DiskFrame::Refused(why) => Err(PullError::Refused(why)),
            frame => Ok(frame),
        }
    }
}

/// Writes what arrives; none where it ended early, and what there is was noted.
fn write(
    disk: VmDisk,
    base: Option<State>,
    mut frames: mpsc::Receiver<DiskFrame>,
    answers: &mpsc::Sender<Vec<u8>>,
) -> Result<Option<Sent>, ReceiveError> {
    let mut receiver = Receiver::begin(disk, base)?;
    while let Some(frame) = frames.blocking_recv() {
        match receiver.take(frame) {
            Ok(Step::Next) => {}
            Ok(Step::Answer(nodes)) => {
                if answers.blocking_send(nodes.concat()).is_err() {
                    break;
                }
            }
            Ok(Step::Done(sent)) => return Ok(Some(sent)),
            Err(error) => {
                if error.is_theirs() {
                    receiver.cut()?;
                }
                return Err(error);
            }
        }
    }
    receiver.cut()?;
    Ok(None)
}

struct Meter<'a> {
    arrival: &'a Arrival,
    expected: Option<u64>,
    began: Instant,
    told: Option<Instant>,
    received: u64,
}

impl Meter<'_> {
    fn note(&mut self, bytes: usize, tell: &(dyn Fn(Moving) + Send + Sync)) {
        self.received += bytes as u64;
        let now = Instant::now();
        if self.told.is_some_and(|told| now.duration_since(told) < PROGRESS_INTERVAL) {
            return;
        }
        self.told = Some(now);
        let ms = u64::try_from(now.duration_since(self.began).as_millis()).unwrap_or(u64::MAX).max(1);
        tell(Moving {
            vm: self.arrival.vm.clone(),
            label: self.arrival.label.clone(),
            received: self.received,
            expected: self.expected,
            bytes_per_s: self.received.saturating_mul(1000) / ms,
        });
    }
}
