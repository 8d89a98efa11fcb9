//! `export`: what a project was submitted as and what is on its disks, from all hosts that have them, as one row of bytes.
//!
//! ```text
//!   take a snapshot, if none is named ──► definition, files ──► host by host: its disks ──► images ──► root
//!                │                                                                                      │
//!                └── removed, however it ends ◄─────────────────────────────────────────────────────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mln_link::message::{
    Export, ExportImages, ExportPart, OutputStream, Progress, ProjectRef, Request, Silence, SnapshotOrder,
    SnapshotRow, Step, StepState,
};
use mln_link::{Client, Reply};
use mln_protocol::id::{Digest, Label, Name, ProjectId, PublicKey};
use mln_protocol::model::{Definition, TemplateRef};
use mln_protocol::wire::{
    DiskFrame, EXPORT_PIECE_BYTES_MAX, ExportHead, ExportReader, ExportRecord, ExportWriter,
};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::change::not_kept;
use super::snapshot::{Had, Round};
use super::{answer, exec, failure, permit, refusal, select};
use crate::blob::Blobs;
use crate::causes::chain;
use crate::control::{Operator, Origin, ReplySender};
use crate::definition;
use crate::event_loop::EventLoop;
use crate::export::{self, EXPORTING, ReadError};
use crate::image::exchange::{Exchange, Wanted};
use crate::mesh::MeshHandle;
use crate::snapshot::Snapshots;

/// How many records wait between who reads disks and who sends them.
const RECORDS_WAITING_MAX: usize = 4;

/// How long a host may be silent that sends disks: it looks through all of its part before it begins.
const PART_TIMEOUT: Duration = Duration::from_secs(600);

/// After how long a snapshot is left over that was taken for an export, in milliseconds.
const LEFT_AFTER_MS: u64 = 24 * 3_600_000;

/// An export that is under way.
struct Exporting {
    round: Round,
    /// The hosts that may have had a part in a snapshot.
    ever: Round,
    project: ProjectId,
    label: Label,
    me: PublicKey,
    snapshots: Snapshots,
    exchange: Exchange,
    blobs: Blobs,
    mesh: MeshHandle,
    /// What the project was submitted as, and who may have that.
    submitted: Option<Digest>,
    holders: Vec<PublicKey>,
    vms: BTreeSet<Name>,
    images: ExportImages,
    unix_ms: u64,
}

/// Where the bytes go.
struct Outflow<'a> {
    writer: ExportWriter,
    reply: &'a ReplySender,
    /// The templates below the disks that went by.
    below: BTreeMap<Digest, Name>,
    /// How many bytes have gone.
    written: u64,
}

/// Why an export ended early: what is said of it, which is nothing where nobody listens.
type Ended = Vec<Reply>;

impl EventLoop {
    pub(super) fn request_export(&self, export: Export, operator: &Operator, reply: ReplySender) {
        let project = match select::project(&self.node, &export.project, operator) {
            Ok(project) => project,
            Err(wrong) => return answer(&reply, [*wrong]),
        };
        let ever = self.round(project.id, project.label.clone(), Had::Ever, operator);
        if let Some(standing) = &operator.standing {
            let hosts = ever.hosts.keys().filter_map(|key| permit::host(&self.node, *key));
            let mut left_out = hosts.filter_map(|(name, groups)| standing.covers_host(&name, &groups).err());
            if let Some(error) = left_out.next() {
                let text = format!("{} may not export {}: {error}", operator.name, project.label);
                return answer(
                    &reply,
                    [refusal("grant", text, Some("whoever gave the grant: mlnctl grant list"))],
                );
            }
        }
        let own = match export.snapshot {
            Some(_) => None,
            None => match self.snapshots.export(project.id) {
                Some(own) => Some(own),
                None => {
                    let text = format!(
                        "an export of {} is under way from this host already; wait until it is over",
                        project.label
                    );
                    let who =
                        "you, when it is over; or by a snapshot of yours: mlnctl export --snapshot NAME";
                    return answer(&reply, [refusal("snapshot", text, Some(who))]);
                }
            },
        };
        let exporting = Exporting {
            round: self.round(project.id, project.label.clone(), Had::Now, operator),
            ever,
            project: project.id,
            label: project.label,
            me: self.node.key(),
            snapshots: self.snapshots.clone(),
            exchange: self.exchange.clone(),
            blobs: self.blobs.clone(),
            mesh: self.mesh.clone(),
            submitted: self.node.submitted(project.id).into_iter().next(),
            holders: self.holders(project.id),
            vms: self.node.vms(project.id).into_iter().map(|vm| vm.status.vm.name).collect(),
            images: export.images,
            unix_ms: self.clock.now().unix_ms,
        };
        tokio::spawn(async move {
            let ended = exporting.carry_out(export.snapshot, &reply).await;
            drop(own);
            answer(&reply, ended.err().unwrap_or_default());
        });
    }

    /// Gives another agent what this host has of an export.
    pub(super) fn request_export_part(&self, part: ExportPart, operator: &Operator, reply: ReplySender) {
        let Origin::Peer { .. } = operator.origin else {
            let text = "this is asked by another agent; you want mlnctl export".to_owned();
            return answer(&reply, [refusal("malformed", text, None)]);
        };
        let project = match select::project(&self.node, &part.project, operator) {
            Ok(project) => project,
            Err(wrong) => return answer(&reply, [*wrong]),
        };
        if let (Some(standing), Some((name, groups))) =
            (&operator.standing, permit::host(&self.node, self.node.key()))
            && let Err(error) = standing.covers_host(&name, &groups)
        {
            let text = format!("{} may not export from here: {error}", operator.name);
            return answer(&reply, [refusal("grant", text, Some("whoever gave the grant"))]);
        }
        let (snapshots, host) = (self.snapshots.clone(), self.identity.name.clone());
        tokio::spawn(async move {
            let mut records = read_here(snapshots, project.id, part.snapshot);
            let (writer, begin) = ExportWriter::begin();
            let mut out = Outflow { writer, reply: &reply, below: BTreeMap::new(), written: 0 };
            let sent = async {
                out.bytes(&begin).await?;
                while let Some(record) = records.records.recv().await {
                    out.record(&record).await?;
                }
                records.ended().await.map_err(|error| vec![not_read(&error, &host)])?;
                out.finish().await
            };
            let sent: Result<(), Ended> = sent.await;
            answer(&reply, sent.err().unwrap_or_default());
        });
    }
}

/// Disks of this host on their way.
struct Reading {
    records: mpsc::Receiver<ExportRecord>,
    work: tokio::task::JoinHandle<Result<(), ReadError>>,
}

impl Reading {
    async fn ended(self) -> Result<(), ReadError> {
        drop(self.records);
        self.work.await.unwrap_or(Err(ReadError::Gone))
    }
}

fn read_here(snapshots: Snapshots, project: ProjectId, name: Name) -> Reading {
    let (sender, records) = mpsc::channel(RECORDS_WAITING_MAX);
    let work = tokio::task::spawn_blocking(move || export::disks(&snapshots, project, &name, &sender));
    Reading { records, work }
}

fn not_read(error: &ReadError, host: &Name) -> Reply {
    let mut reply = failure("reading the disks", chain(error), &["mlnctl snapshot list", "mlnctl doctor"]);
    if let Reply::Failed(failure) = &mut reply {
        failure.host = Some(host.clone());
    }
    reply
}

impl Outflow<'_> {
    async fn record(&mut self, record: &ExportRecord) -> Result<(), Ended> {
        if let ExportRecord::Frame(DiskFrame::Shape(shape)) = record {
            let templates = shape.drives.iter().filter_map(|drive| drive.template.as_ref());
            self.below.extend(templates.map(|template| (template.digest, template.name.clone())));
        }
        let bytes = self.writer.record(record);
        self.bytes(&bytes).await
    }

    async fn bytes(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        self.written += bytes.len() as u64;
        // Whoever has gone is told nothing.
        exec::show(self.reply, OutputStream::Stdout, bytes).await.map_err(|_| Vec::new())
    }

    async fn finish(self) -> Result<(), Ended> {
        let Self { writer, reply, .. } = self;
        exec::show(reply, OutputStream::Stdout, &writer.finish()).await.map_err(|_| Vec::new())
    }
}

impl Exporting {
    async fn carry_out(&self, snapshot: Option<Name>, reply: &ReplySender) -> Result<(), Ended> {
        if let Some(name) = snapshot {
            return self.write(&self.ever, &name, reply).await;
        }
        self.sweep().await;
        let mut lot = [0; 8];
        getrandom::fill(&mut lot)
            .map_err(|error| vec![failure("naming a snapshot", error.to_string(), &[])])?;
        let name = Name::parse(&format!("{}{:016x}", export::snapshots_of(self.me), u64::from_le_bytes(lot)))
            .expect("letters, hyphens and digits are a name");
        self.round.carry_out(SnapshotOrder::Take(name.clone())).await?;
        let written = self.write(&self.round, &name, reply).await;
        if self.round.carry_out(SnapshotOrder::Remove(name.clone())).await.is_err() {
            tracing::warn!(%name, project = %self.label, "a snapshot that was taken for an export is left for now");
        }
        written
    }

    /// Removes what exports have left whose agent was killed: those of this host at once, since it has no other under way.
    async fn sweep(&self) {
        let (rows, _) = self.round.list().await;
        let own = export::snapshots_of(self.me);
        let is_left = |row: &&SnapshotRow| {
            row.name.as_str().starts_with(&own)
                || row.name.as_str().starts_with(EXPORTING)
                    && row.taken_unix_ms.saturating_add(LEFT_AFTER_MS) < self.unix_ms
        };
        let left: BTreeSet<Name> = rows.iter().filter(is_left).map(|row| row.name.clone()).collect();
        for name in left {
            // The next export tries it again.
            let _ = self.round.carry_out(SnapshotOrder::Remove(name)).await;
        }
    }

    /// Writes all of it, as it is in a snapshot of which only these hosts can have a part.
    async fn write(&self, hosts: &Round, snapshot: &Name, reply: &ReplySender) -> Result<(), Ended> {
        let parts = hosts.parts(snapshot).await?;
        let there: BTreeSet<&Name> = parts.iter().flat_map(|part| &part.vms).collect();
        if let Some(vm) = self.vms.iter().find(|vm| !there.contains(vm)) {
            let text = format!("the snapshot {snapshot} has no disk of {vm}, which the project has by now");
            let who = Some("you, by another snapshot, or by naming none");
            return Err(vec![refusal("snapshot", text, who)]);
        }
        let definition = self.definition().await?;
        let taken_unix_ms = parts.iter().map(|part| part.taken_unix_ms).max().unwrap_or(self.unix_ms);
        let (writer, begin) = ExportWriter::begin();
        let mut out = Outflow { writer, reply, below: BTreeMap::new(), written: 0 };
        out.bytes(&begin).await?;
        let head = ExportHead { label: self.label.clone(), taken_unix_ms };
        out.record(&ExportRecord::Head(head)).await?;
        out.record(&ExportRecord::Definition(definition.clone())).await?;
        for (index, file) in (0..).zip(&definition.files) {
            let bytes = self.file(file.digest, &file.from).await?;
            for piece in bytes.chunks(EXPORT_PIECE_BYTES_MAX) {
                out.record(&ExportRecord::File { index, bytes: piece.to_vec() }).await?;
            }
        }
        let mut missing = self.vms.clone();
        for part in parts.iter().filter(|part| !part.vms.is_empty()) {
            let before = out.written;
            self.tell(part, StepState::Begun, String::new(), reply);
            self.part(part, snapshot, &mut missing, &mut out).await?;
            let mib = (out.written - before) as f64 / f64::from(1 << 20);
            self.tell(part, StepState::Done, format!("{mib:.1} MiB"), reply);
        }
        if let Some(vm) = missing.first() {
            let text = format!("no host had the disk of {vm}");
            return Err(vec![failure("exporting", text, &["mlnctl status"])]);
        }
        if self.images == ExportImages::Along {
            self.write_images(&mut out).await?;
        }
        out.finish().await
    }

    /// Says how far it is with what a host has; whoever has gone is told nothing.
    fn tell(&self, part: &SnapshotRow, state: StepState, detail: String, reply: &ReplySender) {
        let (project, host) = (Some(self.label.project.clone()), Some(part.host.clone()));
        let progress = Progress { project, vm: None, host, step: Step::Fetch, state, detail };
        let _ = reply.post(Reply::Progress(progress));
    }

    async fn definition(&self) -> Result<Definition, Ended> {
        let wanted: Vec<Digest> = self.submitted.into_iter().collect();
        let found = definition::find(&self.blobs, &self.mesh, &wanted, &self.holders).await;
        match found {
            Some((_, definition)) if definition.source.is_some() => Ok(definition),
            Some(_) | None => Err(vec![not_kept()]),
        }
    }

    async fn file(&self, digest: Digest, from: &str) -> Result<Vec<u8>, Ended> {
        for host in std::iter::once(None).chain(self.holders.iter().copied().map(Some)) {
            if self.blobs.fetch(&self.mesh, host, digest).await.is_ok()
                && let Ok(bytes) = self.blobs.get(digest)
            {
                return Ok(bytes);
            }
        }
        let text = format!("no connected host has the file {from} of the project");
        Err(vec![failure("exporting", text, &["mlnctl peers"])])
    }

    /// Passes on what a host has.
    async fn part(
        &self,
        part: &SnapshotRow,
        snapshot: &Name,
        missing: &mut BTreeSet<Name>,
        out: &mut Outflow<'_>,
    ) -> Result<(), Ended> {
        let key = self.ever.hosts.iter().find(|(_, host)| **host == part.host).map(|(key, _)| *key);
        // A VM that the project has no more, or that came already, is left out.
        let mut wanted = false;
        let mut choose = |record: &ExportRecord| {
            if let ExportRecord::Vm(vm) = record {
                wanted = missing.remove(vm);
            }
            wanted
        };
        if key == Some(self.me) {
            let mut reading = read_here(self.snapshots.clone(), self.project, snapshot.clone());
            while let Some(record) = reading.records.recv().await {
                if choose(&record) {
                    out.record(&record).await?;
                }
            }
            return reading.ended().await.map_err(|error| vec![not_read(&error, &part.host)]);
        }
        let silent = |text: String| vec![Reply::Silent(Silence { host: part.host.clone(), text })];
        let gone = |error: String| silent(format!("its disks did not come: {error}"));
        let key = key.ok_or_else(|| gone("it is not known".to_owned()))?;
        let stream =
            exec::open(&self.mesh, key, &self.ever.header).await.map_err(|error| gone(chain(&error)))?;
        let client = Client::over(stream).await.map_err(|error| gone(chain(&error)))?;
        let project =
            ProjectRef { owner: Some(self.label.owner.clone()), project: self.label.project.clone() };
        let request = Request::ExportPart(ExportPart { project, snapshot: snapshot.clone() });
        let (_input, mut replies) = client.request(&request).await.map_err(|error| gone(chain(&error)))?;
        let (mut reader, mut wrong) = (ExportReader::part(), Vec::new());
        loop {
            let next = timeout(PART_TIMEOUT, replies.next()).await;
            let next = next.map_err(|_| gone(format!("nothing came for {} s", PART_TIMEOUT.as_secs())))?;
            match next.map_err(|error| gone(chain(&error)))? {
                None => break,
                Some(Reply::Output { bytes, .. }) => {
                    reader.push(&bytes);
                    while let Some(record) = reader.record().map_err(|error| gone(chain(&error)))? {
                        if choose(&record) && record != ExportRecord::End {
                            out.record(&record).await?;
                        }
                    }
                }
                Some(other) => wrong.push(other),
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        reader.end().map(|_| ()).map_err(|error| gone(chain(&error)))
    }

    async fn write_images(&self, out: &mut Outflow<'_>) -> Result<(), Ended> {
        let host = self.round.hosts.get(&self.me).unwrap_or(&self.label.owner).clone();
        for (digest, name) in std::mem::take(&mut out.below) {
            if !self.exchange.images().has(&digest) {
                let wanted = Wanted { template: TemplateRef::Exact(name.clone(), digest), from: None };
                let fetched = self.exchange.fetch(&wanted, &|_| {}).await;
                fetched.map_err(|error| {
                    vec![failure(&format!("fetching the image {name}"), chain(&error), &["mlnctl peers"])]
                })?;
            }
            let (sender, records) = mpsc::channel(RECORDS_WAITING_MAX);
            let images = self.exchange.images().clone();
            let work = tokio::task::spawn_blocking(move || export::image(&images, &digest, &sender));
            let mut reading = Reading { records, work };
            while let Some(record) = reading.records.recv().await {
                out.record(&record).await?;
            }
            reading.ended().await.map_err(|error| vec![not_read(&error, &host)])?;
        }
        Ok(())
    }
}
