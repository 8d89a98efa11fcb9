//! `evacuate`: where the VMs of a host could go, or which have gone and could come back. Each project's move is a change of
//! its own, made by whoever asks: here is only the choice.

use std::collections::{BTreeMap, BTreeSet};

use mln_link::Reply;
use mln_link::message::{Evacuate, EvacuateBut, Evacuation, EvacuationRefused, EvacuationRow};
use mln_protocol::id::{Digest, Label, Name, ProjectId, PublicKey};
use mln_protocol::lang::{self, Severity, did_you_mean};
use mln_protocol::model::{Definition, Project};
use mln_protocol::node::{Reach, Rule};
use mln_protocol::plan::{Candidate, evacuate};
use mln_protocol::resolve::{self, Options};

use super::change::not_kept;
use super::prepare::NoFiles;
use super::room::ask_rooms;
use super::takeover::age;
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
    pub(super) fn request_evacuate(&self, order: Evacuate, operator: &Operator, reply: ReplySender) {
        if let Some(refused) = self.no_such_host(&order.host) {
            return answer(&reply, [refused]);
        }
        match order.direction {
            Evacuation::Back => {
                let rows = self.back(&order.host, |label| operator.sees(label));
                if reply.post_rows(rows, Reply::Evacuation).is_ok() {
                    answer(&reply, []);
                }
            }
            Evacuation::Away => match self.evacuation_of_absent(&order.host, operator) {
                Some(refused) => answer(&reply, [refused]),
                None => self.away(order.host, Vec::new(), operator, reply),
            },
        }
    }

    /// The same away from a host, without those that have said no.
    pub(super) fn request_evacuate_but(&self, order: EvacuateBut, operator: &Operator, reply: ReplySender) {
        match self.no_such_host(&order.host) {
            Some(refused) => answer(&reply, [refused]),
            None => self.away(order.host, order.refused, operator, reply),
        }
    }

    fn no_such_host(&self, host: &Name) -> Option<Reply> {
        let members: Vec<Name> = self.node.hosts().into_iter().map(|host| host.name).collect();
        if members.contains(host) {
            return None;
        }
        let known: Vec<&str> = members.iter().map(Name::as_str).collect();
        let meant = did_you_mean(host.as_str(), known.iter().copied());
        let text = format!("there is no service host {host}{meant} (there are {})", known.join(", "));
        Some(refusal("no-such-host", text, None))
    }

    /// Refuses to empty a host that is off: nobody else has its disks, but as copies.
    fn evacuation_of_absent(&self, host: &Name, operator: &Operator) -> Option<Reply> {
        let view = self.node.hosts().into_iter().find(|view| view.name == *host)?;
        if view.reach != Reach::Away {
            return None;
        }
        let label = |project| self.node.label(project).filter(|label| operator.sees(label));
        let on_it = self.node.placed_on(host).into_iter();
        let on_it: Vec<String> =
            on_it.filter_map(|(project, vm)| Some(format!("{}/{vm}", label(project)?))).collect();
        let (first, others) = on_it.split_first()?;
        let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
        let since = self.last_heard(view.key);
        let text = format!(
            "{host} is off{since}, and the disks of {first}{more} are on it: they move when it is back and this is said again"
        );
        let who = format!(
            "whoever runs {host}: mlnd run; where it is gone for good, you, by a copy where another host has one: mlnctl takeover \
             {first}"
        );
        let mut refused = refusal(Rule::HostOff.code(), text, Some(&who));
        if let Reply::Refused(refused) = &mut refused {
            refused.host = Some(host.clone());
        }
        Some(refused)
    }

    /// Returns since when nothing was heard of a host that is off, for people; nothing where that is not known.
    pub(super) fn last_heard(&self, host: PublicKey) -> String {
        let view = self.node.hosts().into_iter().find(|view| view.key == host);
        let status = view.and_then(|view| view.status);
        let now = self.clock.now().unix_ms;
        status.map_or_else(String::new, |status| {
            format!(" (last heard of {} ago)", age(now, status.measured_unix_ms))
        })
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
    fn away(&self, host: Name, refused: Vec<EvacuationRefused>, operator: &Operator, reply: ReplySender) {
        let mut projects: Vec<ProjectId> =
            self.node.placed_on(&host).into_iter().map(|(project, _)| project).collect();
        projects.dedup();
        let concerned = projects.into_iter().filter_map(|project| {
            Some(Concerned {
                label: self.node.label(project).filter(|label| operator.sees(label))?,
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
        let (here, header) = ((self.node.key(), self.node.room()), operator.header());
        // Texts are fetched from other hosts, and these are asked what they have left, which takes a while.
        tokio::spawn(async move {
            ask_rooms(&mut candidates, here, &mesh, &header).await;
            let (mut rows, mut refusals) = (Vec::new(), Vec::new());
            for one in concerned {
                let found = definition::find(&blobs, &mesh, &one.submitted, &one.hosts).await;
                let project = found.and_then(|(_, definition)| understood(definition, &one.label.owner));
                let Some(project) = project else {
                    refusals.push(of_project(&one.label, not_kept()));
                    continue;
                };
                let without: BTreeSet<&Name> = refused
                    .iter()
                    .filter(|no| (&no.owner, &no.project) == (&one.label.owner, &one.label.project))
                    .map(|no| &no.by)
                    .collect();
                match evacuate(&project, &host, &mut candidates, &one.places, &without) {
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
