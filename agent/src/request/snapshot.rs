//! `snapshot`: every host that owns VMs of a project does its part, step by step, and all of them or none.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use futures::future::join_all;
use mln_link::message::{
    ProjectRef, Request, Silence, Snapshot, SnapshotOrder, SnapshotPart, SnapshotRow, SnapshotStep,
};
use mln_link::{Client, Reply};
use mln_protocol::id::{Label, Name, ProjectId, PublicKey, VmId};
use mln_protocol::record::VmState;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::{answer, exec, failure, refusal, select};
use crate::causes::chain;
use crate::control::{Operator, Origin, ReplySender};
use crate::disk::transfer::Turn;
use crate::event_loop::{EventLoop, Work};
use crate::export::EXPORTING;
use crate::mesh::MeshHandle;
use crate::snapshot::{SnapshotError, Snapshots, Taken};

/// How long a host may take for a step: it may have to copy and sync many disks.
const STEP_TIMEOUT: Duration = Duration::from_secs(600);

/// What this host has of a project, and can do with it.
struct Here {
    snapshots: Snapshots,
    project: ProjectId,
    label: Label,
    host: Name,
    vms: Vec<OwnVm>,
    unix_ms: u64,
}

/// A VM of this host.
struct OwnVm {
    id: VmId,
    state: VmState,
    /// Nothing is being done with it, and it goes nowhere.
    rests: bool,
    /// Its turn, where it is down and its drives are to be left alone by all others meanwhile.
    turn: Option<Turn>,
}

/// A step for a snapshot that this agent has asked itself for.
pub(crate) struct OwnPart {
    project: ProjectId,
    part: SnapshotPart,
    answer: oneshot::Sender<StepAnswer>,
}

impl fmt::Debug for OwnPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnPart").field("part", &self.part).finish_non_exhaustive()
    }
}

type StepAnswer = Result<Vec<SnapshotRow>, Box<Reply>>;

/// Which hosts a round is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Had {
    /// Those that own VMs of the project.
    Now,
    /// Those that did so in some revision as well.
    Ever,
}

/// The hosts of a project, asked one step after the other.
pub(super) struct Round {
    project: ProjectId,
    label: Label,
    me: PublicKey,
    mesh: MeshHandle,
    results: mpsc::Sender<Work>,
    pub(super) header: Vec<u8>,
    pub(super) hosts: BTreeMap<PublicKey, Name>,
}

impl EventLoop {
    pub(super) fn request_snapshot(&self, snapshot: Snapshot, operator: &Operator, reply: ReplySender) {
        let project = match select::project(&self.node, &snapshot.project, operator) {
            Ok(project) => project,
            Err(wrong) => return answer(&reply, [*wrong]),
        };
        if let SnapshotOrder::Take(name) = &snapshot.order
            && name.as_str().starts_with(EXPORTING)
        {
            let text = format!("names that begin with {EXPORTING} are those of exports, and go with them");
            return answer(&reply, [refusal("snapshot", text, Some("you, by another name"))]);
        }
        let ever = if matches!(snapshot.order, SnapshotOrder::Take(_)) { Had::Now } else { Had::Ever };
        let round = self.round(project.id, project.label, ever, operator);
        tokio::spawn(async move {
            if snapshot.order == SnapshotOrder::List {
                let (rows, wrong) = round.list().await;
                // What some have is worth knowing also where others don't answer.
                if reply.post_rows(rows, Reply::Snapshots).is_ok() {
                    answer(&reply, wrong);
                }
                return;
            }
            let replies = match round.carry_out(snapshot.order).await {
                Ok(rows) => return finish(&reply, rows),
                Err(replies) => replies,
            };
            answer(&reply, replies);
        });
    }

    /// Returns the hosts that have VMs of a project, to be asked step by step.
    pub(super) fn round(&self, project: ProjectId, label: Label, had: Had, operator: &Operator) -> Round {
        let owners = self.node.vms(project).into_iter().map(|vm| (vm.owner, vm.status.host));
        let mut hosts: BTreeMap<PublicKey, Name> = owners.collect();
        if had == Had::Ever {
            // Who had VMs of it may have a part of an older one.
            let path = self.node.heads(project).into_iter().flat_map(|heads| heads.path());
            let revisions = path.filter_map(|revision| self.node.revision(*revision));
            let named = revisions.flat_map(|revision| &revision.revision.hosts);
            hosts.extend(named.map(|host| (host.key, host.name.clone())));
        }
        let (me, mesh, results) = (self.node.key(), self.mesh.clone(), self.results.clone());
        Round { project, label, me, mesh, results, header: operator.header(), hosts }
    }

    /// Does this host's part for another one.
    pub(super) fn request_snapshot_part(
        &mut self,
        part: SnapshotPart,
        operator: &Operator,
        reply: ReplySender,
    ) {
        let Origin::Peer { .. } = operator.origin else {
            let text = "this is asked by another agent; you want mlnctl snapshot".to_owned();
            return answer(&reply, [refusal("malformed", text, None)]);
        };
        let project = match select::project(&self.node, &part.project, operator) {
            Ok(project) => project,
            Err(wrong) => return answer(&reply, [*wrong]),
        };
        let here = self.here(project.id, project.label, part.step);
        tokio::spawn(async move {
            match here.step(part.step, part.name.as_ref(), &part.hosts).await {
                Ok(rows) => finish(&reply, rows),
                Err(wrong) => answer(&reply, [*wrong]),
            }
        });
    }

    /// Does this host's part where it has asked itself for it.
    pub(crate) fn own_snapshot_part(&mut self, own: OwnPart) {
        let OwnPart { project, part, answer } = own;
        let label = self.node.label(project);
        let here = label.map(|label| self.here(project, label, part.step));
        tokio::spawn(async move {
            let done = match here {
                Some(here) => here.step(part.step, part.name.as_ref(), &part.hosts).await,
                None => Err(Box::new(failure(
                    "snapshot",
                    "the project is gone by now".to_owned(),
                    &["mlnctl list"],
                ))),
            };
            // Whoever asked may have gone.
            let _ = answer.send(done);
        });
    }

    /// Looks at what this host has; what is to be held still has its turn from now on.
    fn here(&mut self, project: ProjectId, label: Label, step: SnapshotStep) -> Here {
        let own = self.node.vms(project).into_iter().filter(|vm| vm.owner == self.node.key());
        let mut vms = Vec::new();
        for vm in own {
            let (id, state) = (vm.status.vm, vm.status.state);
            let rests = self.node.is_at_rest(&id);
            let holds = matches!(step, SnapshotStep::Freeze | SnapshotStep::Restore);
            let turn = (holds && rests && state == VmState::Down).then(|| self.works.turn(&id));
            vms.push(OwnVm { id, state, rests, turn });
        }
        Here {
            snapshots: self.snapshots.clone(),
            project,
            label,
            host: self.identity.name.clone(),
            vms,
            unix_ms: self.clock.now().unix_ms,
        }
    }
}

fn finish(reply: &ReplySender, rows: Vec<SnapshotRow>) {
    if reply.post_rows(rows, Reply::Snapshots).is_ok() {
        answer(reply, []);
    }
}

/// Returns what a host has of a snapshot.
pub(super) fn row(taken: Taken, label: &Label, host: &Name) -> SnapshotRow {
    let names = |texts: Vec<&String>| texts.into_iter().filter_map(|text| Name::parse(text).ok()).collect();
    SnapshotRow {
        owner: label.owner.clone(),
        project: label.project.clone(),
        host: host.clone(),
        hosts: names(taken.about.hosts.iter().collect()),
        vms: names(taken.about.vms.iter().map(|vm| &vm.name).collect()),
        bytes: taken.bytes,
        taken_unix_ms: taken.about.taken_unix_ms,
        name: taken.name,
    }
}

/// Returns the command that lists the snapshots of a project.
fn listing(label: &Label) -> String {
    format!("mlnctl snapshot list -p {label}")
}

impl Round {
    pub(super) async fn carry_out(&self, order: SnapshotOrder) -> Result<Vec<SnapshotRow>, Vec<Reply>> {
        match &order {
            SnapshotOrder::List => {
                let (rows, wrong) = self.list().await;
                if wrong.is_empty() { Ok(rows) } else { Err(wrong) }
            }
            SnapshotOrder::Take(name) => {
                for step in [SnapshotStep::Freeze, SnapshotStep::Copy, SnapshotStep::Keep] {
                    let hosts: Vec<&Name> = self.hosts.values().collect();
                    let answered = self.each(step, Some(name), &hosts).await;
                    if answered.iter().all(|(_, answer)| answer.is_ok()) {
                        continue;
                    }
                    // Whoever has said no to the first step has begun nothing, or has begun it for somebody else.
                    let begun = |answer: &Result<_, Vec<Reply>>| match answer {
                        Ok(_) => true,
                        Err(replies) => replies.iter().any(|reply| matches!(reply, Reply::Silent(_))),
                    };
                    let begun =
                        answered.iter().filter(|(_, answer)| step != SnapshotStep::Freeze || begun(answer));
                    let begun: Vec<&Name> = begun.map(|(host, _)| *host).collect();
                    // What can't be reached sweeps its part when it starts, or when this is tried again.
                    let _ = self.some(SnapshotStep::Undo, Some(name), &begun).await;
                    return Err(answered
                        .into_iter()
                        .filter_map(|(_, answer)| answer.err())
                        .flatten()
                        .collect());
                }
                Ok(Vec::new())
            }
            SnapshotOrder::Restore(name) => {
                let parts = self.parts(name).await?;
                let hosts: Vec<&Name> = parts.iter().map(|row| &row.host).collect();
                self.some(SnapshotStep::Check, Some(name), &hosts).await?;
                self.some(SnapshotStep::Restore, Some(name), &hosts).await
            }
            SnapshotOrder::Remove(name) => {
                if !self.is_known(name).await {
                    let text = format!("{} has no snapshot {name}", self.label);
                    let who = format!("you: {}", self.listing());
                    return Err(vec![refusal("snapshot", text, Some(&who))]);
                }
                self.all(SnapshotStep::Drop, Some(name)).await
            }
        }
    }

    /// Returns what hosts have of snapshots, and what went wrong where that can't be known.
    pub(super) async fn list(&self) -> (Vec<SnapshotRow>, Vec<Reply>) {
        let (mut rows, mut wrong) = (Vec::new(), Vec::new());
        let hosts: Vec<&Name> = self.hosts.values().collect();
        for (_, answered) in self.each(SnapshotStep::List, None, &hosts).await {
            match answered {
                Ok(more) => rows.extend(more),
                Err(replies) => wrong.extend(replies),
            }
        }
        (rows, wrong)
    }

    /// Returns the command that lists the snapshots of the project.
    fn listing(&self) -> String {
        listing(&self.label)
    }

    /// Returns what the hosts have of a snapshot that is whole.
    pub(super) async fn parts(&self, name: &Name) -> Result<Vec<SnapshotRow>, Vec<Reply>> {
        let mut parts = self.all(SnapshotStep::List, None).await?;
        parts.retain(|row| row.name == *name);
        let mut wanted = parts.iter().flat_map(|row| &row.hosts);
        if let Some(host) = wanted.find(|host| parts.iter().all(|row| row.host != **host)) {
            let text = format!("the snapshot {name} is not whole: {host} does not have its part");
            let who = format!("you, by another snapshot: {}", self.listing());
            return Err(vec![refusal("snapshot", text, Some(&who))]);
        }
        if parts.is_empty() {
            let text = format!("{} has no snapshot {name}", self.label);
            let who = format!("you: {}", self.listing());
            return Err(vec![refusal("snapshot", text, Some(&who))]);
        }
        Ok(parts)
    }

    /// Whether some host has a part of a snapshot, or may have one: it doesn't answer.
    async fn is_known(&self, name: &Name) -> bool {
        let hosts: Vec<&Name> = self.hosts.values().collect();
        let asked =
            self.hosts.iter().map(|(&key, host)| self.ask(key, host, SnapshotStep::List, None, &hosts));
        let has_it = |answer: Result<Vec<SnapshotRow>, _>| match answer {
            Ok(rows) => rows.iter().any(|row| row.name == *name),
            Err(_) => true,
        };
        join_all(asked).await.into_iter().any(has_it)
    }

    async fn all(&self, step: SnapshotStep, name: Option<&Name>) -> Result<Vec<SnapshotRow>, Vec<Reply>> {
        let hosts: Vec<&Name> = self.hosts.values().collect();
        self.some(step, name, &hosts).await
    }

    /// Has this host do a step. What it may do is looked at where all else is decided that concerns its VMs.
    async fn ask_here(&self, part: SnapshotPart) -> Result<Vec<SnapshotRow>, Vec<Reply>> {
        let (answer, heard) = oneshot::channel();
        let own = Work::Snapshot(Box::new(OwnPart { project: self.project, part, answer }));
        let ending = || vec![failure("snapshot", "the agent is about to end".to_owned(), &[&self.listing()])];
        if self.results.send(own).await.is_err() {
            return Err(ending());
        }
        match heard.await {
            Ok(answered) => answered.map_err(|wrong| vec![*wrong]),
            Err(_) => Err(ending()),
        }
    }

    /// Has these hosts do a step at once.
    async fn some(
        &self,
        step: SnapshotStep,
        name: Option<&Name>,
        hosts: &[&Name],
    ) -> Result<Vec<SnapshotRow>, Vec<Reply>> {
        let (mut rows, mut wrong) = (Vec::new(), Vec::new());
        for (_, answered) in self.each(step, name, hosts).await {
            match answered {
                Ok(more) => rows.extend(more),
                Err(replies) => wrong.extend(replies),
            }
        }
        if wrong.is_empty() { Ok(rows) } else { Err(wrong) }
    }

    /// The same; returns what each of them says.
    async fn each<'a>(
        &'a self,
        step: SnapshotStep,
        name: Option<&Name>,
        hosts: &[&Name],
    ) -> Vec<(&'a Name, Result<Vec<SnapshotRow>, Vec<Reply>>)> {
        let asked = self.hosts.iter().filter(|(_, host)| hosts.contains(host));
        let asked = asked.map(async |(&key, host)| (host, self.ask(key, host, step, name, hosts).await));
        join_all(asked).await
    }

    async fn ask(
        &self,
        key: PublicKey,
        host: &Name,
        step: SnapshotStep,
        name: Option<&Name>,
        hosts: &[&Name],
    ) -> Result<Vec<SnapshotRow>, Vec<Reply>> {
        let hosts: Vec<Name> = hosts.iter().copied().cloned().collect();
        let label = &self.label;
        let project = ProjectRef { owner: Some(label.owner.clone()), project: label.project.clone() };
        let part = SnapshotPart { project, name: name.cloned(), step, hosts };
        if key == self.me {
            return self.ask_here(part).await;
        }
        let conversation = async {
            let stream = exec::open(&self.mesh, key, &self.header).await.map_err(|error| chain(&error))?;
            let client = Client::over(stream).await.map_err(|error| chain(&error))?;
            let (_input, mut replies) =
                client.request(&Request::SnapshotPart(part)).await.map_err(|error| chain(&error))?;
            let (mut rows, mut wrong) = (Vec::new(), Vec::new());
            while let Some(reply) = replies.next().await.map_err(|error| chain(&error))? {
                match reply {
                    Reply::Snapshots(more) => rows.extend(more),
                    Reply::Done => break,
                    other => wrong.push(other),
                }
            }
            Ok::<_, String>((rows, wrong))
        };
        let answered = timeout(STEP_TIMEOUT, conversation).await;
        let answered =
            answered.unwrap_or_else(|_| Err(format!("no answer for {} s", STEP_TIMEOUT.as_secs())));
        match answered {
            Ok((rows, wrong)) if wrong.is_empty() => Ok(rows),
            Ok((_, wrong)) => Err(wrong),
            Err(why) => {
                let text = format!("what it says to its part is not known: {why}");
                Err(vec![Reply::Silent(Silence { host: host.clone(), text })])
            }
        }
    }
}

impl Here {
    async fn step(mut self, step: SnapshotStep, name: Option<&Name>, hosts: &[Name]) -> StepAnswer {
        let mut vms = std::mem::take(&mut self.vms);
        let down: Vec<(VmId, Turn)> =
            vms.iter_mut().filter_map(|vm| Some((vm.id.clone(), vm.turn.take()?))).collect();
        if let Err(wrong) = self.judge(step, &vms) {
            // Those behind them wait for all that was before.
            for (_, mut turn) in down {
                turn.come().await;
            }
            return Err(wrong);
        }
        let (snapshots, project) = (&self.snapshots, self.project);
        let Some(name) = name else {
            let taken = snapshots.list(project).map_err(|error| self.wrong("listing snapshots", &error))?;
            return Ok(taken.into_iter().map(|taken| row(taken, &self.label, &self.host)).collect());
        };
        let ids = || vms.iter().map(|vm| vm.id.clone()).collect::<Vec<VmId>>();
        let (what, done) = match step {
            SnapshotStep::Freeze => {
                let running = vms.iter().filter(|vm| vm.state == VmState::Up);
                let running = running.map(|vm| vm.id.clone()).collect();
                let turns = down.into_iter().map(|(_, turn)| turn).collect();
                ("holding the guests still", snapshots.freeze(project, name, running, turns).await)
            }
            SnapshotStep::Copy => {
                let copied = snapshots.copy(project, name, hosts, ids(), self.unix_ms).await;
                ("copying the disks", copied)
            }
            SnapshotStep::Keep => ("keeping the snapshot", snapshots.keep(project, name).await),
            SnapshotStep::Drop => ("removing the snapshot", snapshots.drop(project, name).await),
            SnapshotStep::Undo => ("taking back what was begun", snapshots.undo(project, name).await),
            SnapshotStep::Check => ("looking at the snapshot", snapshots.check(project, name, &ids()).await),
            SnapshotStep::Restore => ("restoring", snapshots.restore(project, name, down).await),
            SnapshotStep::List => ("listing snapshots", Ok(())),
        };
        done.map(|()| Vec::new()).map_err(|error| self.wrong(what, &error))
    }

    /// Refuses a step where a VM is not as it has to be.
    fn judge(&self, step: SnapshotStep, vms: &[OwnVm]) -> Result<(), Box<Reply>> {
        match step {
            SnapshotStep::Freeze => {
                let ready = |vm: &&OwnVm| vm.rests && matches!(vm.state, VmState::Up | VmState::Down);
                let Some(vm) = vms.iter().find(|vm| !ready(vm)) else { return Ok(()) };
                let text = format!("{} is neither up nor down, or is being moved", vm.id.name);
                Err(self.refused("snapshot", text, "you, when it is: mlnctl status"))
            }
            SnapshotStep::Check | SnapshotStep::Restore => {
                let Some(vm) = vms.iter().find(|vm| !(vm.rests && vm.state == VmState::Down)) else {
                    return Ok(());
                };
                let text = format!(
                    "{} is not down, or is being moved: its disk would be changed under it",
                    vm.id.name
                );
                let whom = format!("you: mlnctl stop -p {}", self.label.project);
                Err(self.refused("running", text, &whom))
            }
            SnapshotStep::Copy
            | SnapshotStep::Keep
            | SnapshotStep::Drop
            | SnapshotStep::List
            | SnapshotStep::Undo => Ok(()),
        }
    }

    fn refused(&self, rule: &str, text: String, who: &str) -> Box<Reply> {
        let mut reply = refusal(rule, text, Some(who));
        if let Reply::Refused(refusal) = &mut reply {
            refusal.host = Some(self.host.clone());
        }
        Box::new(reply)
    }

    fn wrong(&self, what: &str, error: &SnapshotError) -> Box<Reply> {
        let next = listing(&self.label);
        let mut reply = match error {
            SnapshotError::Exists { .. }
            | SnapshotError::Missing { .. }
            | SnapshotError::TooMany
            | SnapshotError::Another { .. }
            | SnapshotError::OtherDrives { .. } => {
                return self.refused("snapshot", chain(error), &format!("you: {next}"));
            }
            SnapshotError::Freeze(_)
            | SnapshotError::TooSlow
            | SnapshotError::Busy
            | SnapshotError::NotBegun { .. }
            | SnapshotError::Elsewhere { .. }
            | SnapshotError::Damaged { .. }
            | SnapshotError::About(_)
            | SnapshotError::Step(_)
            | SnapshotError::Io { .. }
            | SnapshotError::CutOff => failure(what, chain(error), &[&next]),
        };
        if let Reply::Failed(failure) = &mut reply {
            failure.host = Some(self.host.clone());
        }
        Box::new(reply)
    }
}
