//! `import`: a project from an export. All of it is here and verified before anybody is asked to build anything.
//!
//! ```text
//!   bytes ──► Staging: verified as they come ──► end and root right ──► text understood, VMs and disks agree
//!                │ anything wrong: nothing is kept                          │
//!                ▼                                                          ▼
//!             refused                           disks kept as contents of the project ──► built as any other
//! ```

use std::collections::BTreeSet;
use std::path::PathBuf;

use mln_link::message::{ExportImages, Import};
use mln_link::{Input, InputQueue, Reply};
use mln_protocol::id::{Label, Name, PublicKey};
use mln_protocol::model::{Blob, Project, TemplateRef};
use mln_protocol::node::{ExistingProject, OnFailure};
use mln_protocol::record::{VmState, VmStatus};
use mln_protocol::wire::{DriveTemplate, ExportContents};
use tokio::sync::{mpsc, oneshot};

use super::build::{Prepared, cut_off, hooks_from_elsewhere};
use super::prepare::{Submission, Understood, pin_templates, understand};
use super::{answer, failure, refusal, select};
use crate::blob::Blobs;
use crate::causes::chain;
use crate::control::{Operator, ReplySender};
use crate::event_loop::{EventLoop, Work};
use crate::export::{Brought, Kept, StageError, Staged, Staging};
use crate::image::exchange::Exchange;

/// How many pieces of input wait for the disk.
const PIECES_WAITING_MAX: usize = 8;

/// What is needed to take in an export.
struct Importing {
    import: Import,
    operator: Operator,
    label: Label,
    mesh: PublicKey,
    blobs: Blobs,
    exchange: Exchange,
    /// Where it is noted what imports have brought.
    notes: PathBuf,
}

/// A piece of what comes in.
enum Piece {
    Bytes(Vec<u8>),
    End,
}

impl EventLoop {
    pub(super) fn request_import(
        &mut self,
        import: Import,
        operator: &Operator,
        reply: ReplySender,
        input: InputQueue,
    ) {
        let label = Label { owner: operator.name.clone(), project: import.project.clone() };
        match select::labelled(&self.node, &label) {
            Ok(None) => {}
            Ok(Some(_)) => {
                let text = format!("there is a project {label} already");
                let who = Some("you: import it under another name: mlnctl import FILE --as NAME");
                return answer(&reply, [refusal("label", text, who)]);
            }
            Err(wrong) => return answer(&reply, [*wrong]),
        }
        // Once until it is understood, and once until all have built, or nobody waits for that any more.
        self.preparing += 2;
        let importing = Importing {
            import,
            operator: operator.clone(),
            label,
            mesh: self.identity.root,
            blobs: self.blobs.clone(),
            exchange: self.exchange.clone(),
            notes: self.imports.folder().to_owned(),
        };
        let author = format!("{} at {}", operator.name, self.identity.name);
        let (results, platform) = (self.results.clone(), self.platform.clone());
        let (inner, mut replies) = ReplySender::channel();
        let (over, label) = (self.results.clone(), importing.label.clone());
        let (brings, brought) = oneshot::channel();
        tokio::spawn(async move {
            while let Some(said) = replies.recv().await {
                // The build goes on if nobody waits for it any more.
                let _ = reply.send(said).await;
            }
            let imported = Box::new((label, brought.await.ok()));
            // The loop has ended if nobody listens.
            let _ = over.send(Work::Imported(imported)).await;
        });
        tokio::spawn(async move {
            let operator = importing.operator.clone();
            let exchange = importing.exchange.clone();
            let result = async {
                let staged = importing.receive(input).await?;
                importing.judge_images(&staged.contents).await?;
                let images = exchange.clone();
                let (mut understood, store) = importing.understand(staged).await?;
                // Whoever waits for the end of it waits for this first.
                let _ = brings.send(understood.1.brought());
                pin_templates(&images, &*platform, &mut understood.0.project).await;
                if let Some(refused) =
                    hooks_from_elsewhere(operator.origin, &understood.0.label, &understood.0.project)
                {
                    return Err(vec![refused]);
                }
                let (label, project, mut blobs) = understood.0.keep(&store)?;
                blobs.append(&mut understood.1.disks);
                Ok((label, project, blobs))
            };
            let result: Result<(Label, Project, Vec<Blob>), Vec<Reply>> = result.await;
            let (existing, on_failure) = (ExistingProject::Refuse, OnFailure::Undo);
            let prepared = Prepared { reply: inner, operator, author, existing, on_failure, result };
            // The loop has ended if nobody listens.
            let _ = results.send(Work::Prepared(Box::new(prepared))).await;
        });
    }

    /// Goes on with what an import has brought, when nobody waits for it any more: it may go on by itself.
    pub(crate) fn imported(&mut self, (label, brought): (Label, Option<Brought>)) {
        if let Some(brought) = brought {
            self.imports.add(label.clone(), brought);
            if self.node.projects().iter().all(|project| project.label != label) {
                self.imports.failed(&label, self.exchange.images());
            }
        }
        self.settle_imports();
        self.work_over();
    }

    /// Lets go of what imports have brought, where all have built from it.
    pub(crate) fn settle_imports(&mut self) {
        if self.imports.projects().next().is_none() {
            return;
        }
        let settled: Vec<Label> =
            self.imports.projects().filter(|label| self.is_built(label)).cloned().collect();
        if settled.is_empty() {
            return;
        }
        settled.iter().for_each(|label| self.imports.settled(label));
        self.drop_unused_blobs();
    }

    /// Whether all machines of a project have their disks; also where there is no such project any more.
    fn is_built(&self, label: &Label) -> bool {
        let projects = self.node.projects();
        projects.iter().filter(|project| project.label == *label).all(|project| {
            let vms = self.node.vms(project.id);
            let has_disk =
                |name: &Name| vms.iter().any(|vm| vm.status.vm.name == *name && has_disk(&vm.status));
            self.node.places(project.id).keys().all(has_disk)
        })
    }
}

fn has_disk(status: &VmStatus) -> bool {
    match status.state {
        VmState::Down | VmState::Booting | VmState::Up | VmState::Stopping | VmState::Kept => true,
        VmState::Failed { .. } => status.run_counter > 0,
        VmState::Building | VmState::Removed => false,
    }
}

fn not_taken(error: &StageError) -> Vec<Reply> {
    let text = chain(error);
    vec![match error {
        StageError::Export(_)
        | StageError::OtherImage
        | StageError::Receive(_)
        | StageError::UnsaidImage
        | StageError::Machines
        | StageError::Files => refusal("export", text, Some("you: mlnctl import --check FILE")),
        StageError::Disk(_) | StageError::Blob(_) | StageError::Image(_) => {
            failure("importing", text, &["df -h", "mlnctl gc"])
        }
    }]
}

fn disagreement(text: String) -> Vec<Reply> {
    let who = Some("you: a variable may make other machines of the text than there were; leave it out");
    vec![refusal("export", text, who)]
}

impl Importing {
    /// Takes in all of it; nothing is kept of what is not whole and right.
    async fn receive(&self, mut input: InputQueue) -> Result<Staged, Vec<Reply>> {
        let (sender, mut pieces) = mpsc::channel::<Piece>(PIECES_WAITING_MAX);
        let takes_images = self.import.images == ExportImages::Along;
        let (label, blobs) = (self.label.clone(), self.blobs.clone());
        let images = self.exchange.images().clone();
        let work = tokio::task::spawn_blocking(move || {
            let mut staging = Staging::begin(label, blobs, images, takes_images);
            while let Some(piece) = pieces.blocking_recv() {
                match piece {
                    Piece::Bytes(bytes) => staging.take(&bytes)?,
                    Piece::End => return staging.end().map(Some),
                }
            }
            Ok(None)
        });
        while let Some(message) = input.next().await {
            let sent = match message {
                Input::Bytes(bytes) => sender.send(Piece::Bytes(bytes)).await,
                Input::End => {
                    // Whoever has failed says so below.
                    let _ = sender.send(Piece::End).await;
                    break;
                }
                Input::Signal(_) | Input::Resize(_) => Ok(()),
            };
            if sent.is_err() {
                break;
            }
        }
        drop(sender);
        match work.await {
            Ok(Ok(Some(staged))) => Ok(staged),
            Ok(Ok(None)) => {
                Err(vec![failure("importing", "the sender left in the middle".to_owned(), &["mlnctl list"])])
            }
            Ok(Err(error)) => Err(not_taken(&error)),
            Err(_) => Err(cut_off()),
        }
    }

    /// Refuses disks over images that neither came along nor are to be had.
    async fn judge_images(&self, contents: &ExportContents) -> Result<(), Vec<Reply>> {
        let templates: BTreeSet<(Name, _)> = contents
            .vms
            .iter()
            .flat_map(|vm| &vm.drives)
            .filter_map(|drive| drive.template.as_ref())
            .map(|template| (template.name.clone(), template.digest))
            .collect();
        for (name, digest) in templates {
            let came = contents.images.iter().any(|(image, _)| image.digest == digest);
            if came || self.exchange.images().has(&digest) {
                continue;
            }
            let wanted = TemplateRef::Exact(name.clone(), digest);
            if self.exchange.find(&wanted, None).await.is_empty() {
                let text = format!(
                    "its disks are layers over the image {name} ({}), which is not in it, and no connected host has it",
                    digest.short()
                );
                let who = "whoever exports it: mlnctl export --with-images; or whoever has the image: mlnctl template add";
                return Err(vec![refusal("template", text, Some(who))]);
            }
        }
        Ok(())
    }

    /// Understands the text, and lets the VMs have the disks that came; returns the disks with it.
    async fn understand(self, staged: Staged) -> Result<((Understood, Kept), Blobs), Vec<Reply>> {
        let Self { import, operator, label, mesh, blobs, notes, exchange } = self;
        let store = blobs.clone();
        let work = tokio::task::spawn_blocking(move || {
            let mut staged = staged;
            let files = std::mem::take(&mut staged.files);
            let submission = Submission { source: import.source, vars: import.vars, files, kept: Vec::new() };
            let label_of = |project: &Name| Label { owner: operator.name.clone(), project: project.clone() };
            let mut understood = understand(submission, &operator.name, label_of, mesh, &blobs)?;
            if understood.label != label {
                let text = format!("the text is of {}, and not of {label}", understood.label);
                return Err(vec![refusal("export", text, None)]);
            }
            settle(&mut understood.project, &staged.contents)?;
            let kept = staged.keep().map_err(|error| not_taken(&error))?;
            let brought = kept.brought();
            if let Err(error) = brought.note(&notes, &label) {
                brought.unname(exchange.images());
                return Err(not_taken(&StageError::Disk(error)));
            }
            Ok((understood, kept))
        });
        let understood = work.await.unwrap_or_else(|_| Err(cut_off()))?;
        Ok((understood, store))
    }
}

/// Lets each VM start from the image below its disk; an error where they are other VMs than those with disks.
fn settle(project: &mut Project, contents: &ExportContents) -> Result<(), Vec<Reply>> {
    let named: BTreeSet<&Name> = project.vms.iter().map(|vm| &vm.name).collect();
    let there: BTreeSet<&Name> = contents.vms.iter().map(|vm| &vm.name).collect();
    if let Some(vm) = named.difference(&there).next() {
        return Err(disagreement(format!("the text has a machine {vm}, and there is no disk of it")));
    }
    if let Some(vm) = there.difference(&named).next() {
        return Err(disagreement(format!("there is a disk of {vm}, and the text has no such machine")));
    }
    for vm in &mut project.vms {
        let disk = contents.vms.iter().find(|disk| disk.name == vm.name);
        let drives = disk.iter().flat_map(|disk| &disk.drives);
        if let Some(DriveTemplate { name, digest }) =
            drives.filter_map(|drive| drive.template.as_ref()).next()
        {
            let pinned = contents.definition.iter().flat_map(|definition| &definition.templates);
            let called = pinned.clone().find(|pin| pin.vm == vm.name && pin.digest == *digest);
            let name = called.map_or(name, |pin| &pin.template);
            vm.template = Some(TemplateRef::Exact(name.clone(), *digest));
        }
    }
    Ok(())
}
