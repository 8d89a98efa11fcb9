//! `evacuate`: where the VMs of a host could go, or which have gone and could come back. Each project's move is a change of
//! its own, made by whoever asks: here is only the choice.

use std::collections::BTreeMap;

use mln_link::Reply;
use mln_link::message::{Evacuate, Evacuation, EvacuationRow};
use mln_protocol::id::{Digest, Label, Name, ProjectId, PublicKey};
use mln_protocol::lang::{self, Severity};
use mln_protocol::model::{Definition, Project};
use mln_protocol::plan::{Candidate, evacuate};
use mln_protocol::resolve::{self, Options};

use super::change::not_kept;
use super::prepare::NoFiles;
use super::{answer, refusal};
use crate::control::{Operator, ReplySender};
use crate::definition;
use crate::event_loop::EventLoop;

/// A project with VMs on a host that is to be empty.
struct Concerned {
    label: Label,
    /// Where its VMs are.
    places: BTreeMap<Name, Name>,
    /// The digests of what it was submitted as, newest first.
    submitted: Vec<Digest>,
    /// Who may have that.
    hosts: Vec<PublicKey>,
}

impl EventLoop {
    pub(super) fn request_evacuate(&self, order: &Evacuate, operator: &Operator, reply: ReplySender) {
        let members: Vec<Name> = self.node.hosts().into_iter().map(|host| host.name).collect();
        if !members.contains(&order.host) {
            let known: Vec<&str> = members.iter().map(Name::as_str).collect();
            let text = format!("there is no service host {}; there are {}", order.host, known.join(", "));
            return answer(&reply, [refusal("no-such-host", text, None)]);
        }
        let may_see = |label: &Label| operator.sees(label);
        match order.direction {
            Evacuation::Back => {
                let rows = self.back(&order.host, may_see);
                if reply.post_rows(rows, Reply::Evacuation).is_ok() {
                    answer(&reply, []);
                }
            }
            Evacuation::Away => self.away(order.host.clone(), may_see, reply),
        }
    }

    /// Returns what has gone from a host and could come back.
    fn back(&self, host: &Name, may_see: impl Fn(&Label) -> bool) -> Vec<EvacuationRow> {
        let row = |moved: mln_protocol::node::Evacuated| {
            let label = self.node.label(moved.project).filter(&may_see)?;
            Some(EvacuationRow {
                owner: label.owner,
                project: label.project,
                vm: moved.vm,
                from: moved.at,
                to: host.clone(),
                back_to: moved.back_to.map(|revision| revision.to_string()),
            })
        };
        self.node.evacuated(host).into_iter().filter_map(row).collect()
    }

    /// Answers with where the VMs of a host could go.
    fn away(&self, host: Name, may_see: impl Fn(&Label) -> bool, reply: ReplySender) {
        let mut projects: Vec<ProjectId> =
            self.node.placed_on(&host).into_iter().map(|(project, _)| project).collect();
        projects.dedup();
        let concerned = projects.into_iter().filter_map(|project| {
            Some(Concerned {
                label: self.node.label(project).filter(&may_see)?,
                places: self.node.places(project),
                submitted: self.node.submitted(project).into_iter().take(1).collect(),
                hosts: self.holders(project),
            })
        });
        let mut concerned: Vec<Concerned> = concerned.collect();
        concerned.sort_by(|a, b| a.label.cmp(&b.label));
        let mut candidates: Vec<Candidate> = self.node.candidates(self.clock.now(), None);
        candidates.retain(|one| one.host.name != host);
        let (blobs, mesh) = (self.blobs.clone(), self.mesh.clone());
        // Texts are fetched from other hosts, which takes a while.
        tokio::spawn(async move {
            let (mut rows, mut refusals) = (Vec::new(), Vec::new());
            for one in concerned {
                let found = definition::find(&blobs, &mesh, &one.submitted, &one.hosts).await;
                let project = found.and_then(|(_, definition)| understood(definition, &one.label.owner));
                let Some(project) = project else {
                    refusals.push(of_project(&one.label, not_kept()));
                    continue;
                };
                match evacuate(&project, &host, &mut candidates, &one.places) {
                    Ok(chosen) => rows.extend(chosen.into_iter().map(|(vm, to)| EvacuationRow {
                        owner: one.label.owner.clone(),
                        project: one.label.project.clone(),
                        vm,
                        from: host.clone(),
                        to: to.name,
                        back_to: None,
                    })),
                    Err(none) => refusals.extend(none.iter().map(|none| {
                        let who = "whoever runs one of these hosts: memory_mib and groups in its config.toml; or you, by \
                                   stopping and removing something there";
                        refusal("group", format!("{}: {none}", one.label), Some(who))
                    })),
                }
            }
            if reply.post_rows(rows, Reply::Evacuation).is_ok() {
                answer(&reply, refusals);
            }
        });
    }
}

/// Returns what a text makes; nothing where it makes nothing any more.
fn understood(definition: Definition, owner: &Name) -> Option<Project> {
    let (tree, _) = lang::parse("project", definition.source?, &NoFiles);
    let variables = definition.variables.into_iter().collect();
    let resolved = resolve::resolve(&tree, &Options { variables, owner: Some(owner.clone()) });
    let fails = resolved.diagnostics.iter().any(|diagnostic| diagnostic.severity() == Severity::Error);
    (!fails).then_some(resolved.project)
}

/// Says which project a refusal is about.
fn of_project(label: &Label, reply: Reply) -> Reply {
    match reply {
        Reply::Refused(refused) => {
            let text = format!("{label}: {}", refused.text);
            Reply::Refused(mln_link::message::Refusal { text, ..refused })
        }
        other => other,
    }
}
