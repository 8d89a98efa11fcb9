//! VMs that move: what the node wants done with their drives, done. What is decided is decided there.

use std::sync::Arc;

use mln_protocol::id::{Digest, PublicKey, VmId};
use mln_protocol::model::{TemplateRef, Vm};
use mln_protocol::node::{HandOver, Input, Message, Node, PullRound, Refusal, Rule};
use mln_protocol::record::{ClaimBasis, Link, Record, VerifiedRecord};
use mln_protocol::wire::{DiskAsk, DiskShape};
use tracing::{debug, info, warn};

use crate::causes::chain;
use crate::disk::transfer::{Arrival, Moving, PullError, Transfers};
use crate::disk::{Reading, scan};
use crate::event_loop::{EventLoop, NotMoved, Work};
use crate::image::exchange::{Exchange, newest};
use crate::mesh::MeshStream;
use crate::platform::{self, Platform, TemplateFacts};
use crate::store::failpoint::reach;

impl EventLoop {
    /// Copies what has changed of a VM's drives to this host.
    pub(crate) fn pull(&mut self, vm: VmId, from: PublicKey, round: PullRound) {
        reach("pull-begun");
        let Some(label) = self.node.vm_project(&vm).and_then(|project| self.node.label(project)) else {
            let result = Err("nobody here knows its project any more".to_owned());
            return self.own.push_back(Input::Pulled { vm, result });
        };
        // One that is still under way was given up by the node.
        self.transfers.give_up(&vm);
        let (turn, transfers, results) = (self.works.turn(&vm), self.transfers.clone(), self.results.clone());
        let arrival = Arrival { vm: vm.clone(), label, from, round };
        let task = tokio::spawn(async move {
            let tell = |moving: Moving| {
                // What doesn't get through is told again, and is only for people.
                let _ = results.try_send(Work::Moving(Box::new(moving)));
            };
            let pulled = transfers.pull(&arrival, turn, &tell).await;
            let Arrival { vm, label, round, .. } = arrival;
            let result = pulled.map(|pulled| pulled.changed_bytes).map_err(|error| {
                let why = chain(&error);
                warn!(%vm, why, "its disk does not come");
                let failed = NotMoved { vm: vm.clone(), label, why: why.clone() };
                // What doesn't get through is told again, and is only for people.
                let _ = results.try_send(Work::NotMoved(Box::new(failed)));
                why
            });
            reach(if round == PullRound::Last { "pull-last" } else { "pull-round" });
            // The loop has ended if nobody listens.
            let _ = results.send(Work::Input(Box::new(Input::Pulled { vm, result }))).await;
        });
        self.transfers.note(&vm, task.abort_handle());
    }

    /// Tells people that a disk does not come.
    pub(crate) fn not_moved(&mut self, failed: &NotMoved) {
        let NotMoved { vm, label, why } = failed;
        self.note(|deriver, now| deriver.not_moved(vm, label.clone(), why, now));
        let detail = format!("its disk does not come, and is asked for again: {why}");
        self.operations.moving(vm, label, &detail, &self.identity.name);
    }

    /// Hashes the drives of a VM that doesn't run.
    pub(crate) fn seal(&mut self, vm: VmId) {
        let (mut turn, platform) = (self.works.turn(&vm), self.platform.clone());
        self.spawn(async move {
            turn.come().await;
            let result = rooted(platform, vm.clone(), Reading::Cached).await;
            drop(turn);
            if let Err(why) = &result {
                warn!(%vm, why, "its disk can't be hashed");
            }
            reach("sealed");
            Input::Sealed { vm, result }
        });
    }

    /// Reads a copy back from the disk, whole; it may be started with from then on.
    pub(crate) fn read_copy(&mut self, vm: VmId) {
        let (mut turn, platform) = (self.works.turn(&vm), self.platform.clone());
        self.spawn(async move {
            turn.come().await;
            let result = rooted(platform, vm.clone(), Reading::FromDisk).await;
            drop(turn);
            if let Err(why) = &result {
                warn!(%vm, why, "its copy can't be read");
            }
            reach("copy-read");
            Input::CopyRead { vm, result }
        });
    }

    /// Makes what was a VM's own drives a copy.
    pub(crate) fn shelve(&mut self, vm: VmId) {
        reach("released");
        // What was said of its way out is over with it.
        self.transfers.limit(&vm, None);
        let (mut turn, platform) = (self.works.turn(&vm), self.platform.clone());
        tokio::spawn(async move {
            turn.come().await;
            match platform.shelve(&vm).await {
                Ok(()) => info!(%vm, "its disk is a copy from now on"),
                // The node doesn't have it run, and asks for this again when the agent starts.
                Err(error) => warn!(%vm, error = chain(&error), "its disk could not be put aside"),
            }
            reach("shelved");
        });
    }

    /// Deletes a copy.
    pub(crate) fn drop_copy(&mut self, vm: VmId) {
        self.transfers.give_up(&vm);
        let (mut turn, platform) = (self.works.turn(&vm), self.platform.clone());
        tokio::spawn(async move {
            turn.come().await;
            match platform.drop_copy(&vm).await {
                Ok(()) => debug!(%vm, "its copy is gone"),
                Err(error) => {
                    warn!(%vm, error = chain(&error), "its copy can't be deleted; it only takes room")
                }
            }
            reach("copy-dropped");
        });
    }

    /// Answers a host that asks for what is on a VM's drives.
    pub(crate) fn disk_stream(&self, from: PublicKey, header: &[u8], stream: MeshStream) {
        let Ok(ask) = DiskAsk::from_bytes(header) else {
            let mesh = self.mesh.clone();
            tokio::spawn(async move {
                // The mesh's task has ended only if the agent is about to.
                let _ = mesh.report_misbehaviour(from, "a question about disks that is none").await;
            });
            return;
        };
        let allowed = match &ask {
            // How large they are is no secret among hosts.
            DiskAsk::Shape(_) => Ok(()),
            DiskAsk::Pull { vm, .. } => self.node.may_copy(vm, from),
        };
        let transfers = self.transfers.clone();
        tokio::spawn(async move {
            if let Err(error) = transfers.serve(ask, allowed, stream).await {
                debug!(peer = %from.short(), %error, "a disk was not handed over");
            }
        });
    }
}

/// Hashes the drives of a VM that doesn't run, or the copy of them, and notes what is on them.
async fn rooted(platform: Arc<dyn Platform>, vm: VmId, reading: Reading) -> Result<Digest, String> {
    if platform.is_running(&vm) {
        return Err("it runs".to_owned());
    }
    let work = move || {
        let disk = platform.disk(&vm).map_err(|error| chain(&error))?;
        if reading == Reading::Cached
            && let Some(known) = disk.folder.content()
        {
            return Ok(known.root());
        }
        let noted = scan(&disk, reading).and_then(|root| {
            disk.folder.set_content(root)?;
            disk.folder.end_arriving()?;
            Ok(root)
        });
        noted.map_err(|error| format!("{}: {}", disk.folder.path().display(), chain(&error)))
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err("the work was cut off".to_owned()))
}

/// Deletes what is left of copies that nobody waits for any more, of when the agent ended before. What is complete is never
/// deleted here.
pub(crate) async fn drop_incomplete(node: &Node, platform: &dyn Platform) {
    let incomplete = platform.incomplete_copies().await.unwrap_or_else(|error| {
        warn!(error = chain(&error), "what is left of copies is not known");
        Vec::new()
    });
    for vm in incomplete.iter().filter(|vm| node.holdings().all(|(noted, _)| noted != *vm)) {
        match platform.drop_copy(vm).await {
            Ok(()) => info!(%vm, "what was left of a copy is gone"),
            Err(error) => warn!(%vm, error = chain(&error), "what is left of a copy can't be deleted"),
        }
    }
}

/// Finds out whether VMs that are elsewhere can come here, before anything stops.
#[derive(Debug)]
pub(crate) struct ArrivalCheck<'a> {
    pub(crate) platform: &'a dyn Platform,
    pub(crate) exchange: &'a Exchange,
    pub(crate) transfers: &'a Transfers,
}

/// What is known of a VM that would come here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// Its disk can come.
    Comes,
    /// It has none yet: it would be built here.
    Unbuilt,
}

impl ArrivalCheck<'_> {
    /// Asks its owner what drives it has, and whether this host has room for them and the image below.
    pub(crate) async fn judge(&self, vm: &Vm, id: &VmId, owner: PublicKey) -> Result<Outlook, Refusal> {
        let refused = |rule: Rule, why: String| Refusal { rule, detail: format!("{}: {why}", vm.name) };
        let shape = match self.transfers.shape(owner, id).await {
            Ok(shape) => shape,
            Err(PullError::Refused(why)) => {
                debug!(vm = %id, why, "its host has no disk of it");
                return Ok(Outlook::Unbuilt);
            }
            Err(error) => {
                let why = chain(&error);
                let text =
                    format!("its disk would have to come, and what it is like can't be found out: {why}");
                return Err(refused(Rule::Disk, text));
            }
        };
        let drives: Vec<_> = shape.drives.iter().filter(|drive| drive.template.is_none()).collect();
        let wanted = self.platform.own_drives(vm);
        let is_same = drives.len() == wanted.len()
            && drives
                .iter()
                .zip(&wanted)
                .all(|(drive, (name, bytes))| (&drive.name, drive.bytes) == (name, *bytes));
        if !is_same {
            let text =
                "its further disks can't be others when it comes than they were; change them before or after";
            return Err(refused(Rule::Disk, text.to_owned()));
        }
        let facts = self.template(&shape).await.ok_or_else(|| {
            let text = "the image below its disk is not here, and no connected host has it";
            refused(Rule::Template, text.to_owned())
        })?;
        self.platform.check_on(vm, &facts).await.map_err(|refusal| {
            let rule = crate::effect::rule_of(&refusal);
            refused(rule, chain(&refusal))
        })?;
        // What it has left here the last time is here already.
        let is_here = matches!(self.platform.has_copy(id).await, Ok(true));
        let wanted = if is_here { 0 } else { shape.bytes_on_disk }.saturating_add(facts.fetch_bytes);
        let available = self.platform.probe().await.disk_available.0;
        if wanted > available {
            let mib = |bytes: u64| bytes.div_ceil(1 << 20);
            let text = format!(
                "its disk takes {} MiB, and {} MiB are free: remove what is not needed there",
                mib(wanted),
                mib(available)
            );
            return Err(refused(Rule::Disk, text));
        }
        Ok(Outlook::Comes)
    }

    /// Returns what is to be known of the image below the drives.
    async fn template(&self, shape: &DiskShape) -> Option<TemplateFacts> {
        let template = shape.drives.iter().find_map(|drive| drive.template.as_ref())?;
        let wanted = TemplateRef::Exact(template.name.clone(), template.digest);
        let images = self.exchange.images();
        match images.resolve(&wanted) {
            Ok(known) => Some(TemplateFacts::from(&known)),
            // It may be here without a name.
            Err(_) if images.has(&template.digest) => {
                let (_, file_system_bytes) = images.sizes(&template.digest).ok()?;
                let memory_min = crate::image::MEMORY_MIN;
                Some(TemplateFacts { digest: template.digest, file_system_bytes, memory_min, fetch_bytes: 0 })
            }
            Err(_) => {
                let found = self.exchange.find(&wanted, None).await;
                newest(&found, &wanted).map(TemplateFacts::from)
            }
        }
    }
}

/// Makes a copy that is complete the VM's own again, since it is about to do something.
pub(crate) async fn take_up(platform: &dyn Platform, vm: &VmId) -> Result<(), platform::StepError> {
    platform.take_up(vm).await?;
    reach("copy-taken");
    Ok(())
}

/// Tests end the agent when it is about to tell others how far a hand-over is.
pub(crate) fn reach_message(message: &Message) {
    match message {
        Message::HandOver(HandOver::Halted { .. }) => reach("halted"),
        Message::HandOver(HandOver::Ready(_)) => reach("ready"),
        _ => {}
    }
}

/// Tests end the agent when it is about to let everybody know that a VM which was released is its own.
pub(crate) fn reach_record(record: &VerifiedRecord) {
    if let Record::Link(Link::Claim(claim)) = &***record
        && matches!(claim.basis, ClaimBasis::Release(_))
    {
        reach("claimed");
    }
}
