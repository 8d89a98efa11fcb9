//! `snapshot`: every host that owns VMs of a project does its part, step by step, and all of them or none.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use mln_link::message::{
    ProjectRef, Request, Silence, Snapshot, SnapshotOrder, SnapshotPart, SnapshotRow, SnapshotStep,
};
use mln_link::{Client, Reply};
use mln_protocol::id::{Label, Name, ProjectId, PublicKey, VmId};
use mln_protocol::node::ProjectView;
use mln_protocol::record::VmState;
use tokio::time::timeout;

use super::{answer, exec, failure, refusal, select};
use crate::causes::chain;
use crate::control::{Operator, Origin, ReplySender};
use crate::event_loop::EventLoop;
use crate::mesh::MeshHandle;
use crate::snapshot::{SnapshotError, Snapshots};

/// How long a host may take for a step: it may have to copy and sync many disks.
const STEP_TIMEOUT: Duration = Duration::from_secs(600);

/// What this host has of a project, and can do with it.
struct Here {
    snapshots: Snapshots,
    project: ProjectId,
    label: Label,
    host: Name,
    vms: Vec<(VmId, VmState)>,
    unix_ms: u64,
}

/// The hosts of a project, asked one step after the other.
struct Round {
    here: Here,
    me: PublicKey,
    mesh: MeshHandle,
    header: Vec<u8>,
    hosts: BTreeMap<PublicKey, Name>,
}

impl EventLoop {
    pub(super) fn request_snapshot(&self, snapshot: Snapshot, operator: &Operator, reply: ReplySender) {
        let project = match select::project(&self.node, &snapshot.project, &operator.name) {
            Ok(project) => project,
            Err(wrong) => return answer(&reply, [*wrong]),
        };
        let owners = self.node.vms(project.id).into_iter().map(|vm| (vm.owner, vm.status.host));
        let mut hosts: BTreeMap<PublicKey, Name> = owners.collect();
        if !matches!(snapshot.order, SnapshotOrder::Take(_)) {
            // Who had VMs of it may have a part of an older one.
            let head = self.node.heads(project.id).and_then(|heads| self.node.revision(heads.head()));
            let of_head = head.into_iter().flat_map(|head| &head.revision.hosts);
            hosts.extend(of_head.map(|host| (host.key, host.name.clone())));
        }
        let (here, header) = (self.here(&project), operator.header());
        let round = Round { here, me: self.node.key(), mesh: self.mesh.clone(), header, hosts };
        tokio::spawn(async move {
            let replies = match round.carry_out(snapshot.order).await {
                Ok(rows) => return finish(&reply, rows),
                Err(replies) => replies,
            };
            answer(&reply, replies);
        });
    }

    /// Does this host's part for another one.
    pub(super) fn request_snapshot_part(&self, part: SnapshotPart, operator: &Operator, reply: ReplySender) {
        let Origin::Peer { .. } = operator.origin else {
            let text = "this is asked by another agent; you want mlnctl snapshot".to_owned();
            return answer(&reply, [refusal("malformed", text, None)]);
        };
        let project = match select::project(&self.node, &part.project, &operator.name) {
            Ok(project) => project,
            Err(wrong) => return answer(&reply, [*wrong]),
        };
        let here = self.here(&project);
        tokio::spawn(async move {
            match here.step(part.step, part.name.as_ref(), &part.hosts).await {
                Ok(rows) => finish(&reply, rows),
                Err(wrong) => answer(&reply, [*wrong]),
            }
        });
    }

    fn here(&self, project: &ProjectView) -> Here {
        let own = self.node.vms(project.id).into_iter().filter(|vm| vm.owner == self.node.key());
        Here {
            snapshots: self.snapshots.clone(),
            project: project.id,
            label: project.label.clone(),
            host: self.identity.name.clone(),
            vms: own.map(|vm| (vm.status.vm, vm.status.state)).collect(),
            unix_ms: self.clock.now().unix_ms,
        }
    }
}

fn finish(reply: &ReplySender, rows: Vec<SnapshotRow>) {
    if reply.post_rows(rows, Reply::Snapshots).is_ok() {
        answer(reply, []);
    }
}

impl Round {
    async fn carry_out(&self, order: SnapshotOrder) -> Result<Vec<SnapshotRow>, Vec<Reply>> {
        match &order {
            SnapshotOrder::List => self.all(SnapshotStep::List, None).await,
            SnapshotOrder::Take(name) => {
                for step in [SnapshotStep::Freeze, SnapshotStep::Copy, SnapshotStep::Keep] {
                    if let Err(wrong) = self.all(step, Some(name)).await {
                        // One that was there before is not ours to drop.
                        if step != SnapshotStep::Freeze || !self.is_known(name).await {
                            // What can't be reached sweeps its part when it starts, or when this is tried again.
                            let _ = self.all(SnapshotStep::Drop, Some(name)).await;
                        }
                        return Err(wrong);
                    }
                }
                Ok(Vec::new())
            }
            SnapshotOrder::Restore(name) => {
                let rows = self.all(SnapshotStep::List, None).await?;
                let parts: Vec<&SnapshotRow> = rows.iter().filter(|row| row.name == *name).collect();
                let wanted = parts.iter().flat_map(|row| &row.hosts);
                let mut missing = wanted.filter(|host| parts.iter().all(|row| row.host != **host));
                if let Some(host) = missing.next() {
                    let text = format!("the snapshot {name} is not whole: {host} does not have its part");
                    return Err(vec![refusal(
                        "snapshot",
                        text,
                        Some("you, by another snapshot: mlnctl snapshot list"),
                    )]);
                }
                if parts.is_empty() {
                    let text = format!("{} has no snapshot {name}", self.here.label);
                    return Err(vec![refusal("snapshot", text, Some("you: mlnctl snapshot list"))]);
                }
                let hosts: Vec<&Name> = parts.iter().map(|row| &row.host).collect();
                self.some(SnapshotStep::Check, Some(name), &hosts).await?;
                self.some(SnapshotStep::Restore, Some(name), &hosts).await
            }
            SnapshotOrder::Remove(name) => {
                if !self.is_known(name).await {
                    let text = format!("{} has no snapshot {name}", self.here.label);
                    return Err(vec![refusal("snapshot", text, Some("you: mlnctl snapshot list"))]);
                }
                self.all(SnapshotStep::Drop, Some(name)).await
            }
        }
    }

    /// Whether some host has a part of a snapshot.
    async fn is_known(&self, name: &Name) -> bool {
        let hosts: Vec<&Name> = self.hosts.values().collect();
        let asked =
            self.hosts.iter().map(|(&key, host)| self.ask(key, host, SnapshotStep::List, None, &hosts));
        join_all(asked).await.into_iter().flatten().flatten().any(|row| row.name == *name)
    }

    async fn all(&self, step: SnapshotStep, name: Option<&Name>) -> Result<Vec<SnapshotRow>, Vec<Reply>> {
        let hosts: Vec<&Name> = self.hosts.values().collect();
        self.some(step, name, &hosts).await
    }

    /// Has these hosts do a step at once.
    async fn some(
        &self,
        step: SnapshotStep,
        name: Option<&Name>,
        hosts: &[&Name],
    ) -> Result<Vec<SnapshotRow>, Vec<Reply>> {
        let asked = self.hosts.iter().filter(|(_, host)| hosts.contains(host));
        let asked = asked.map(|(&key, host)| self.ask(key, host, step, name, hosts));
        let (mut rows, mut wrong) = (Vec::new(), Vec::new());
        for answered in join_all(asked).await {
            match answered {
                Ok(more) => rows.extend(more),
                Err(replies) => wrong.extend(replies),
            }
        }
        if wrong.is_empty() { Ok(rows) } else { Err(wrong) }
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
        if key == self.me {
            return self.here.step(step, name, &hosts).await.map_err(|wrong| vec![*wrong]);
        }
        let label = &self.here.label;
        let project = ProjectRef { owner: Some(label.owner.clone()), project: label.project.clone() };
        let part = SnapshotPart { project, name: name.cloned(), step, hosts };
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
    async fn step(
        &self,
        step: SnapshotStep,
        name: Option<&Name>,
        hosts: &[Name],
    ) -> Result<Vec<SnapshotRow>, Box<Reply>> {
        let (snapshots, project) = (&self.snapshots, self.project);
        let Some(name) = name else {
            let taken = snapshots.list(project).map_err(|error| self.wrong("listing snapshots", &error))?;
            return Ok(taken.into_iter().map(|taken| self.row(taken)).collect());
        };
        let ids = || self.vms.iter().map(|(vm, _)| vm.clone()).collect::<Vec<VmId>>();
        let (what, done) = match step {
            SnapshotStep::Freeze => {
                let is_between = |state: &VmState| !matches!(state, VmState::Up | VmState::Down);
                if let Some((vm, _)) = self.vms.iter().find(|(_, state)| is_between(state)) {
                    let text = format!("{} is neither up nor down", vm.name);
                    return Err(self.refused("snapshot", text, "you, when it is: mlnctl status"));
                }
                let running = self.vms.iter().filter(|(_, state)| *state == VmState::Up);
                let running = running.map(|(vm, _)| vm.clone()).collect();
                ("holding the guests still", snapshots.freeze(project, name, running).await)
            }
            SnapshotStep::Copy => {
                let copied = snapshots.copy(project, name, hosts, ids(), self.unix_ms).await;
                ("copying the disks", copied)
            }
            SnapshotStep::Keep => ("keeping the snapshot", snapshots.keep(project, name).await),
            SnapshotStep::Drop => ("removing the snapshot", snapshots.drop(project, name).await),
            SnapshotStep::Check | SnapshotStep::Restore => {
                if let Some((vm, _)) = self.vms.iter().find(|(_, state)| *state != VmState::Down) {
                    let text = format!("{} is not down, and its disk would be changed under it", vm.name);
                    let whom = format!("you: mlnctl stop -p {}", self.label.project);
                    return Err(self.refused("running", text, &whom));
                }
                match step {
                    SnapshotStep::Check => {
                        ("looking at the snapshot", snapshots.check(project, name, &ids()).await)
                    }
                    _ => ("restoring", snapshots.restore(project, name, &ids()).await),
                }
            }
            SnapshotStep::List => ("listing snapshots", Ok(())),
        };
        done.map(|()| Vec::new()).map_err(|error| self.wrong(what, &error))
    }

    fn row(&self, taken: crate::snapshot::Taken) -> SnapshotRow {
        let names =
            |texts: Vec<&String>| texts.into_iter().filter_map(|text| Name::parse(text).ok()).collect();
        SnapshotRow {
            owner: self.label.owner.clone(),
            project: self.label.project.clone(),
            host: self.host.clone(),
            hosts: names(taken.about.hosts.iter().collect()),
            vms: names(taken.about.vms.iter().map(|vm| &vm.name).collect()),
            bytes: taken.bytes,
            taken_unix_ms: taken.about.taken_unix_ms,
            name: taken.name,
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
        let next = ["mlnctl snapshot list"];
        let mut reply = match error {
            SnapshotError::Exists { .. } | SnapshotError::Missing { .. } | SnapshotError::TooMany => {
                return self.refused("snapshot", chain(error), "you: mlnctl snapshot list");
            }
            SnapshotError::Freeze(_)
            | SnapshotError::TooSlow
            | SnapshotError::NotBegun { .. }
            | SnapshotError::Elsewhere { .. }
            | SnapshotError::Damaged { .. }
            | SnapshotError::About(_)
            | SnapshotError::Step(_)
            | SnapshotError::Io { .. }
            | SnapshotError::CutOff => failure(what, chain(error), &next),
        };
        if let Reply::Failed(failure) = &mut reply {
            failure.host = Some(self.host.clone());
        }
        Box::new(reply)
    }
}
