//! What the node wants done, done: one arm per output, and no decision in any of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mln_protocol::id::{Digest, Label, Name, ProjectId, PublicKey, VmId};
use mln_protocol::model::{Blob, Fragment, HookPoint, TemplateRef, Vm};
use mln_protocol::node::{Input, Message, Outcome, Output, Refusal, Rule, RunVerdict, Write};
use mln_protocol::plan::{Observed, RunPhase, Step, StopLimit};
use mln_protocol::record::{ExitStatus, VmState};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use crate::blob::{BlobError, Blobs};
use crate::causes::chain;
use crate::event_loop::{EventLoop, Fetching, Work};
use crate::export::ImportedDisk;
use crate::image::exchange::{Exchange, Wanted, newest};
use crate::image::{Sweep, Template};
use crate::mesh::MeshHandle;
use crate::moving::{self, ArrivalCheck, Outlook, take_up};
use crate::operations::join_reason;
use crate::part_change::PartChange;
use crate::platform::{
    self, Applied, BootProgress, BuildRequest, Configuration, End, FileContent, FirstContent, Platform,
    StepError, Stop, TemplateFacts, VmEvent, VmEventKind,
};
use crate::request::reach_guest_message;
use crate::uplinks;

/// How many lines of a VM's console go with a failure.
const CONSOLE_LINES: usize = 10;

impl EventLoop {
    pub(crate) async fn effect(&mut self, output: Output) {
        match output {
            Output::Send { to, message } => {
                log_refusal(to, &message);
                moving::reach_message(&message);
                reach_guest_message(&message);
                self.send(to, message).await;
            }
            Output::Revoked(grant) => {
                if self.identity.chain.iter().any(|link| Digest::of(&link.payload) == grant) {
                    warn!("the grant of this host was revoked: others refuse it from now on");
                }
                // The mesh's task has ended only if the loop is about to.
                let _ = self.mesh.revoke(grant).await;
            }
            Output::Forked(pair) => {
                let (author, [first, second]) = (pair[0].author(), [pair[0].digest(), pair[1].digest()]);
                warn!(%author, %first, %second, "a member has signed two things in one slot: it is cut off");
                let _ = self.mesh.cut_off(author).await;
            }
            Output::Broadcast(record) => {
                moving::reach_record(&record);
                self.broadcast(&record).await;
            }
            Output::Persist { id, writes } => {
                let dropped = writes.iter().any(|write| matches!(write, Write::DropFragment(_)));
                self.writer.write(id, writes);
                if dropped {
                    self.drop_unused_blobs();
                }
            }
            Output::Check { revision, coordinator, fragment, before, arriving, leaving } => {
                let change = PartChange { before, arriving, leaving };
                self.check(revision, coordinator, fragment, change);
            }
            Output::Step { vm, step: Step::Apply, label, fragment } => {
                let replugged = self.switches.unplug_moved(&self.node, &vm).await;
                self.apply(vm, replugged, label, fragment);
            }
            Output::Step { vm, step, label, fragment } => self.step(vm, step, label, fragment),
            Output::Hook { project, point, label, fragment } => self.hook(project, point, label, fragment),
            Output::Pull { vm, from, round } => self.pull(vm, from, round),
            Output::Seal { vm } => self.seal(vm),
            Output::ReadCopy { vm } => {
                self.operations.reading_copy(&vm);
                self.read_copy(vm);
            }
            Output::Shelve { vm } => self.shelve(vm),
            Output::DropCopy { vm } => self.drop_copy(vm),
            Output::Switches(wanted) => self.switches.want(wanted).await,
            // An earlier machine of that name, which is gone, is not the one that people mean while there is one.
            Output::Progress { op, vm, state: VmState::Removed | VmState::Kept, .. }
                if self.operations.project(op).is_some_and(|project| self.has_vm(project, &vm)) => {}
            Output::Progress { op, vm, host, state } => {
                if self.operations.progress(op, vm, host, &state) {
                    self.own.push_back(Input::Abandon(op));
                }
            }
            Output::Done { op, outcome } => {
                self.drop_unused_blobs();
                if let (Outcome::Done, Some(project)) = (&outcome, self.operations.changes(op))
                    && let Some(revised) = self.revised(project)
                {
                    self.operations.revised(op, revised);
                }
                self.operations.done(op, outcome);
            }
        }
    }

    /// Whether a project has a VM of that name, as far as this host knows, that is neither removed nor left out.
    fn has_vm(&self, project: ProjectId, name: &Name) -> bool {
        self.node.vms(project).iter().any(|vm| vm.status.vm.name == *name)
    }

    fn check(&self, revision: Digest, coordinator: PublicKey, fragment: Arc<Fragment>, change: PartChange) {
        let (platform, blobs, mesh) = (self.platform.clone(), self.blobs.clone(), self.mesh.clone());
        let (exchange, transfers) = (self.exchange.clone(), self.transfers.clone());
        let arriving = self.node.arrivals(self.node.parent_asked(revision), &change.arriving);
        let source = (coordinator != self.node.key()).then_some(coordinator);
        let definition = self.node.definition_asked(revision);
        self.spawn(async move {
            let verdict = match change.judge(&fragment) {
                Ok(()) => {
                    let arrivals =
                        ArrivalCheck { platform: &*platform, exchange: &exchange, transfers: &transfers };
                    check_part(&arrivals, &arriving, &blobs, &mesh, source, &fragment).await
                }
                Err(refusal) => Err(refusal),
            };
            if let (Ok(()), Some(definition), Some(source)) = (&verdict, definition, source)
                && let Err(error) = blobs.fetch(&mesh, Some(source), definition).await
            {
                // An older coordinator has none; without it the project can't be shown and edited from here.
                debug!(error = chain(&error), "what the project was submitted as is not there");
            }
            if let Err(refusal) = &verdict {
                info!(rule = refusal.rule.code(), detail = %refusal.detail, "a change is refused");
            }
            Input::Checked { revision, verdict }
        });
    }

    fn step(&self, vm: VmId, step: Step, label: Label, fragment: Arc<Fragment>) {
        let (platform, blobs) = (self.platform.clone(), self.blobs.clone());
        // What was wanted of its drives before comes first.
        let over = self.works.over(&vm);
        // By the revision in which it was born: a change that came before it was built takes nothing from its disk.
        let imported = self.node.imported_disk(&vm).map(|(label, disk)| Imported {
            disk: disk.clone(),
            label: label.clone(),
            holders: self.node.vm_project(&vm).map(|project| self.holders(project)).unwrap_or_default(),
        });
        let fetcher = Fetcher {
            exchange: self.exchange.clone(),
            results: self.results.clone(),
            mesh: self.mesh.clone(),
            imported,
        };
        self.spawn(async move {
            over.await;
            info!(%vm, %label, ?step, "begins");
            let result = carry_out(&*platform, &blobs, &fetcher, &vm, step, label, &fragment).await;
            let result = result.map_err(|error| {
                let why = chain(&error);
                warn!(%vm, ?step, why, "failed");
                join_reason(&why, &platform.console_tail(&vm, CONSOLE_LINES))
            });
            Input::StepDone { vm, step, result }
        });
    }

    /// Gives a VM that runs its definition.
    fn apply(&self, vm: VmId, replugged: Vec<Name>, label: Label, fragment: Arc<Fragment>) {
        let (platform, blobs) = (self.platform.clone(), self.blobs.clone());
        self.spawn(async move {
            let applied = match configuration(&blobs, &vm, label, &fragment) {
                Ok(Some(configuration)) => platform.apply(configuration, replugged).await,
                Ok(None) => Ok(Applied::Done),
                Err(error) => Err(error),
            };
            let step = Step::Apply;
            match applied {
                Ok(Applied::Done) => {
                    // What became of it meanwhile has been told, and counts.
                    Input::StepDone { vm, step, result: Ok(Observed::Running(RunPhase::Ready)) }
                }
                Ok(Applied::TakesAStart { why }) => {
                    info!(%vm, why, "is started once more, for what it can't be given as it runs");
                    Input::NotLive { vm }
                }
                Err(error) => {
                    let why = chain(&error);
                    warn!(%vm, ?step, why, "failed");
                    Input::StepDone { vm, step, result: Err(why) }
                }
            }
        });
    }

    fn hook(&self, project: ProjectId, point: HookPoint, label: Label, fragment: Arc<Fragment>) {
        let runner = self.hooks.clone();
        self.spawn(async move {
            let lines = fragment.hooks.lines(point).unwrap_or_default();
            let result = runner.run(&label, point, lines).await.map_err(|error| chain(&error));
            if let Err(why) = &result {
                warn!(%label, hook = point.keyword(), why, "a hook failed");
            }
            Input::HookDone { project, point, result }
        });
    }

    /// Takes in what a VM did by itself.
    pub(crate) async fn vm_event(&mut self, event: VmEvent) {
        if let VmEventKind::Asks { bytes } = &event.kind {
            return self.guest_asks(&event.vm, bytes).await;
        }
        if let VmEventKind::Booting { .. } | VmEventKind::Exited(_) | VmEventKind::Lost = &event.kind {
            self.guests.ended(&event.vm);
        }
        // Until it is in a commit's first revision, a VM has no project.
        let label = self.node.vm_project(&event.vm).and_then(|project| self.node.label(project));
        self.note(|deriver, now| deriver.vm_event(&event, now, label));
        let vm = event.vm;
        let observed = match event.kind {
            VmEventKind::Booting { .. } => Observed::Running(RunPhase::Booting),
            VmEventKind::Progress(progress) => {
                report_progress(&vm, &progress);
                let observed = Observed::Running(phase(&progress));
                if let BootProgress::StartupFailed { .. } = progress {
                    // First: whoever waits until it is up is told then, and hears the mark with it.
                    self.handle(Input::StartupFailed { vm: vm.clone() }).await;
                }
                observed
            }
            VmEventKind::GuestAgent { version } => {
                debug!(%vm, version, "its agent answers");
                return;
            }
            VmEventKind::Asks { .. } => return,
            VmEventKind::Panicked { text } => {
                warn!(%vm, text, "its kernel gave up");
                return;
            }
            VmEventKind::InterfaceUp { interface, socket } => {
                return self.switches.interface_up(&self.node, &vm, &interface, socket).await;
            }
            VmEventKind::InterfaceDown { interface } => {
                return self.switches.interface_down(&self.node, &vm, &interface).await;
            }
            VmEventKind::Nat(nat) => {
                if let Some(why) = nat.why_not() {
                    warn!(%vm, why, "doesn't reach the outside");
                }
                return self.handle(Input::Nat { vm, nat }).await;
            }
            VmEventKind::Exited(exit) => {
                self.switches.ended(&vm);
                info!(%vm, end = %exit.end, "has ended");
                Observed::Down { exit: Some(exit_status(exit.end)) }
            }
            VmEventKind::Lost => {
                self.switches.ended(&vm);
                Observed::Lost
            }
        };
        self.handle(Input::Observed { vm, observed }).await;
    }
}

/// Says in the log what this host was asked for and does not do, and why.
fn log_refusal(to: PublicKey, message: &Message) {
    let (rule, why) = match message {
        Message::Answer { verdict: Err(refusal), .. } => (refusal.rule.code(), refusal.detail.as_str()),
        Message::RunAnswer { verdict: RunVerdict::Refused(refusal), .. } => {
            (refusal.rule.code(), refusal.detail.as_str())
        }
        Message::RunAnswer { verdict: RunVerdict::Stale { .. }, .. } => {
            ("stale", "its author saw an earlier state of the virtual machine; or it was sent before")
        }
        Message::RunAnswer { verdict: RunVerdict::NotOwner, .. } => {
            ("ownership", "it is for a virtual machine or a host that this is not")
        }
        _ => return,
    };
    warn!(peer = %to.short(), rule, why, "a request is refused");
}

/// Fetches a part's files, and asks the platform about each of its VMs.
pub(crate) async fn check_part(
    arrivals: &ArrivalCheck<'_>,
    arriving: &[(VmId, PublicKey)],
    blobs: &Blobs,
    mesh: &MeshHandle,
    source: Option<PublicKey>,
    fragment: &Fragment,
) -> Result<(), Refusal> {
    let disks: u64 = fragment.blobs.iter().filter(|blob| blob.is_disk()).map(|blob| blob.bytes).sum();
    if disks > 0 {
        check_room(arrivals.platform, disks).await?;
    }
    for blob in fragment.blobs.iter().filter(|blob| !blob.is_disk()) {
        blobs.fetch(mesh, source, blob.digest).await.map_err(|error| {
            let detail = format!("{}: {}; try again", blob.from, chain(&error));
            Refusal { rule: Rule::Files, detail }
        })?;
    }
    let mut offers = BTreeMap::new();
    for vm in &fragment.vms {
        if let Some(file) = vm.files.iter().find(|file| !fragment.blobs.iter().any(|b| b.from == file.from)) {
            let detail = format!("{}: the contents of {} did not come with the project", vm.name, file.from);
            return Err(Refusal { rule: Rule::Files, detail });
        }
        if let Some((id, owner)) = arriving.iter().find(|(id, _)| id.name == vm.name)
            && arrivals.judge(vm, id, *owner).await? == Outlook::Comes
        {
            continue;
        }
        check_vm(arrivals.platform, arrivals.exchange, &mut offers, vm).await?;
    }
    if fragment.uplinks.is_empty() {
        return Ok(());
    }
    let fragment = fragment.clone();
    let checked = tokio::task::spawn_blocking(move || uplinks::check(&fragment)).await;
    checked.unwrap_or_else(|_| {
        let detail = "asking for what switches lead to was cut off; try again".to_owned();
        Err(Refusal { rule: Rule::Platform, detail })
    })
}

/// Sees whether there is room for disks that are fetched when their VMs are built: for them as they come and, at the very
/// least, as much again for what is made of them.
async fn check_room(platform: &dyn Platform, disks: u64) -> Result<(), Refusal> {
    let (wanted, available) = (disks.saturating_mul(2), platform.probe().await.disk_available.0);
    if wanted <= available {
        return Ok(());
    }
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let detail = format!(
        "the imported disks take {} MiB, and {} MiB are free: remove what is not needed there",
        mib(wanted),
        mib(available)
    );
    Err(Refusal { rule: Rule::Disk, detail })
}

/// Asks the platform about a VM. Where its template is not here, somebody else must have it and this host room for it;
/// `offers` remembers who was found for the VMs that follow.
async fn check_vm(
    platform: &dyn Platform,
    exchange: &Exchange,
    offers: &mut BTreeMap<TemplateRef, Option<TemplateFacts>>,
    vm: &Vm,
) -> Result<(), Refusal> {
    let refused = |refusal: platform::Refusal| {
        let rule = rule_of(&refusal);
        Refusal { rule, detail: format!("{}: {}", vm.name, chain(&refusal)) }
    };
    let missing = match platform.check(vm).await {
        Ok(_) => return Ok(()),
        Err(platform::Refusal::Template(error)) if error.is_missing() => error,
        Err(refusal) => return Err(refused(refusal)),
    };
    let wanted = platform.template_of(vm);
    let offered = match offers.get(&wanted) {
        Some(known) => *known,
        None => {
            let found = exchange.find(&wanted, None).await;
            let facts = newest(&found, &wanted).map(TemplateFacts::from);
            if let Some(facts) = &facts {
                exchange.room_for(facts.fetch_bytes, Sweep::Show).await.map_err(|error| Refusal {
                    rule: Rule::Disk,
                    detail: format!("{}: {}", vm.name, chain(&error)),
                })?;
            }
            offers.insert(wanted, facts);
            facts
        }
    };
    let Some(offered) = offered else {
        let detail = format!("{}: {}, and no connected host has it", vm.name, chain(&missing));
        return Err(Refusal { rule: Rule::Template, detail });
    };
    platform.check_on(vm, &offered).await.map(|_| ()).map_err(refused)
}

/// Returns the rule behind a platform's refusal.
pub(crate) fn rule_of(refusal: &platform::Refusal) -> Rule {
    match refusal {
        platform::Refusal::Platform { .. }
        | platform::Refusal::InterfaceName { .. }
        | platform::Refusal::MemoryTooSmall { .. }
        | platform::Refusal::TooManyInterfaces { .. }
        | platform::Refusal::TooManyDrives { .. }
        | platform::Refusal::FileSystem { .. }
        | platform::Refusal::NiceNeedsRoot { .. }
        | platform::Refusal::NoCpu { .. }
        | platform::Refusal::PortTaken { .. }
        | platform::Refusal::PortPrivileged { .. }
        | platform::Refusal::BridgeNeedsRoot { .. }
        | platform::Refusal::NoBridge { .. }
        | platform::Refusal::NoTap { .. }
        | platform::Refusal::TapAddressNeedsRoot { .. } => Rule::Platform,
        platform::Refusal::NotShared { .. }
        | platform::Refusal::ShareMissing { .. }
        | platform::Refusal::ShareUnconfined { .. } => Rule::Share,
        platform::Refusal::Template(_) => Rule::Template,
        platform::Refusal::DiskSmallerThanTemplate { .. }
        | platform::Refusal::DiskTooLarge { .. }
        | platform::Refusal::DiskSpace { .. } => Rule::Disk,
    }
}

async fn carry_out(
    platform: &dyn Platform,
    blobs: &Blobs,
    fetcher: &Fetcher,
    vm: &VmId,
    step: Step,
    label: Label,
    fragment: &Fragment,
) -> Result<Observed, StepError> {
    match step {
        Step::Build => {
            build(platform, blobs, fetcher, vm, label, fragment).await?;
            Ok(Observed::Down { exit: None })
        }
        Step::Start => {
            take_up(platform, vm).await?;
            configure(platform, blobs, vm, label, fragment).await?;
            platform.start(vm).await?;
            Ok(Observed::Running(RunPhase::Booting))
        }
        Step::Stop(limit) => {
            let how = match limit {
                StopLimit::After(ms) => Stop::Clean { limit: Duration::from_millis(ms) },
                StopLimit::Now => Stop::Now,
            };
            let exit = platform.stop(vm, how).await?;
            Ok(Observed::Down { exit: exit.map(|exit| exit_status(exit.end)) })
        }
        Step::Remove => {
            take_up(platform, vm).await?;
            platform.remove(vm).await?;
            Ok(Observed::Absent)
        }
        // It has a way of its own, because it can end in a third way.
        Step::Apply => Ok(Observed::Running(RunPhase::Ready)),
    }
}

/// What is said of an imported disk that no host has which can be asked.
const NOWHERE: &str = "no connected host has it: it is fetched when the host is back on which the project was imported; where that one is gone for \
     good, remove the project (mlnctl remove) and import it again";

/// The disk that came with a VM's project.
struct Imported {
    disk: Blob,
    /// What the project was called then.
    label: Label,
    /// Who may have it.
    holders: Vec<PublicKey>,
}

/// Fetches the templates of VMs that are to be built, and says how far that is.
struct Fetcher {
    exchange: Exchange,
    results: mpsc::Sender<Work>,
    mesh: MeshHandle,
    /// What the VM's disk begins with; none where it begins as its template.
    imported: Option<Imported>,
}

impl Fetcher {
    /// Returns what the disk of a VM begins with that came with its project. Where that can't be had, the VM isn't built.
    async fn first(&self, blobs: &Blobs, imported: &Imported, vm: &VmId) -> Result<ImportedDisk, StepError> {
        let Imported { disk, label, holders } = imported;
        let failed = |error: &dyn std::error::Error| StepError::ImportedDisk {
            vm: vm.name.clone(),
            text: chain(error),
        };
        let fetched = blobs.fetch_disk(&self.mesh, holders, disk).await;
        let path = fetched.map_err(|error| match error {
            BlobError::Missing => StepError::ImportedDisk { vm: vm.name.clone(), text: NOWHERE.to_owned() },
            error => failed(&error),
        })?;
        let (label, name) = (label.clone(), vm.name.clone());
        let opened = tokio::task::spawn_blocking(move || ImportedDisk::open(path, &label, &name)).await;
        let opened = opened.unwrap_or_else(|_| Err(std::io::ErrorKind::Interrupted.into()));
        opened.map_err(|error| failed(&error))
    }

    async fn fetch(&self, template: TemplateRef, vm: &VmId, label: &Label) -> Result<Template, StepError> {
        let tell = |progress| {
            let fetching = Fetching { vm: vm.name.clone(), label: label.clone(), progress };
            // What doesn't get through is told again, and is only for people.
            let _ = self.results.try_send(Work::Fetching(Box::new(fetching)));
        };
        let wanted = Wanted { template, from: None };
        self.exchange.fetch(&wanted, &tell).await.map_err(|error| StepError::Fetch { text: chain(&error) })
    }
}

async fn build(
    platform: &dyn Platform,
    blobs: &Blobs,
    fetcher: &Fetcher,
    id: &VmId,
    label: Label,
    fragment: &Fragment,
) -> Result<(), StepError> {
    let definition = fragment.vms.iter().find(|vm| vm.name == id.name);
    let mut vm = definition.ok_or_else(|| StepError::NoSuchVm { vm: id.clone() })?.clone();
    let imported = fetcher.imported.as_ref();
    let first = match imported {
        // One that is there has it already.
        Some(imported) if !platform.has_copy(id).await? => Some(fetcher.first(blobs, imported, id).await?),
        Some(_) | None => None,
    };
    if let Some(below) = first.as_ref().and_then(ImportedDisk::template) {
        // Whatever the definition starts from by now: its disk is a layer over this one.
        vm.template = Some(TemplateRef::Exact(below.name.clone(), below.digest));
    }
    let checked = match platform.check(&vm).await {
        Err(platform::Refusal::Template(error)) if error.is_missing() => {
            let template = fetcher.fetch(platform.template_of(&vm), id, &label).await?;
            platform.check_on(&vm, &TemplateFacts::from(&template)).await?
        }
        checked => checked?,
    };
    let files = contents(blobs, &vm, fragment)?;
    let guest_names = fragment.guest_names.clone();
    let first = first.map(|first| Arc::new(first) as Arc<dyn FirstContent>);
    let template = checked.template;
    platform.build(BuildRequest { id: id.clone(), vm, label, template, guest_names, files, first }).await?;
    if let Some(imported) = imported {
        blobs.forget_disk(&imported.disk);
    }
    Ok(())
}

/// Gives a VM that is about to start what its definition says by now.
async fn configure(
    platform: &dyn Platform,
    blobs: &Blobs,
    id: &VmId,
    label: Label,
    fragment: &Fragment,
) -> Result<(), StepError> {
    match configuration(blobs, id, label, fragment)? {
        Some(configuration) => platform.configure(configuration).await,
        None => Ok(()),
    }
}

/// Returns what a VM's definition says; none where the part has none.
fn configuration(
    blobs: &Blobs,
    id: &VmId,
    label: Label,
    fragment: &Fragment,
) -> Result<Option<Configuration>, StepError> {
    let Some(vm) = fragment.vms.iter().find(|vm| vm.name == id.name).cloned() else { return Ok(None) };
    let files = contents(blobs, &vm, fragment)?;
    let guest_names = fragment.guest_names.clone();
    Ok(Some(Configuration { id: id.clone(), vm, label, guest_names, files }))
}

/// Returns the files of a VM, with their contents.
fn contents(blobs: &Blobs, vm: &Vm, fragment: &Fragment) -> Result<Vec<FileContent>, StepError> {
    let mut files = Vec::with_capacity(vm.files.len());
    for file in &vm.files {
        let Some(blob) = fragment.blobs.iter().find(|blob| blob.from == file.from) else { continue };
        let bytes = blobs.get(blob.digest).map_err(|error| StepError::Io {
            what: "reading",
            path: file.from.clone().into(),
            source: std::io::Error::other(error),
        })?;
        files.push(FileContent { path: file.to.clone(), mode: file.mode.unwrap_or(blob.mode), bytes });
    }
    Ok(files)
}

/// Returns what the node needs of what a platform found at the start.
pub(crate) fn found(observation: platform::Observation) -> (VmId, Observed) {
    let state = match observation.state {
        platform::Observed::Down { exit } => Observed::Down { exit: exit.map(|exit| exit_status(exit.end)) },
        platform::Observed::Lost { .. } => Observed::Lost,
        platform::Observed::Running { progress, .. } => Observed::Running(phase(&progress)),
    };
    (observation.vm, state)
}

fn phase(progress: &BootProgress) -> RunPhase {
    match progress {
        BootProgress::Booting => RunPhase::Booting,
        // It runs and can be looked into, which is what "up" promises; what went wrong is in the log.
        BootProgress::Ready | BootProgress::SeedFailed { .. } | BootProgress::StartupFailed { .. } => {
            RunPhase::Ready
        }
    }
}

fn report_progress(vm: &VmId, progress: &BootProgress) {
    match progress {
        BootProgress::Booting => debug!(%vm, "boots"),
        BootProgress::Ready => info!(%vm, "is ready"),
        BootProgress::SeedFailed { text } => warn!(%vm, text, "could not be configured"),
        BootProgress::StartupFailed { end, log_tail } => {
            warn!(%vm, %end, log_tail, "its startup lines failed")
        }
    }
}

fn exit_status(end: End) -> ExitStatus {
    match end {
        End::Exited(code) => ExitStatus::Code(code),
        End::Signalled(signal) => ExitStatus::Signal(signal),
    }
}
