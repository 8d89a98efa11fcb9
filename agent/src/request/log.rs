//! `log`: a project's revisions, and which one people mean.

use mln_link::Reply;
use mln_link::message::{ProjectRef, RevisionRef, RevisionRow, RevisionStanding};
use mln_protocol::id::{Digest, ProjectId};
use mln_protocol::node::{Node, RevisionView, Standing};

use super::status::count;
use super::{answer, refusal, select};
use crate::control::{Operator, ReplySender};
use crate::event_loop::EventLoop;

impl EventLoop {
    pub(super) fn request_log(&self, wanted: &ProjectRef, operator: &Operator, reply: &ReplySender) {
        let project = match select::project(&self.node, wanted, operator) {
            Ok(project) => project,
            // What was removed has a log still.
            Err(wrong) => match select::removed(&self.node, wanted, operator) {
                Some(project) => project,
                None => return answer(reply, [*wrong]),
            },
        };
        let rows = self.node.history(project.id).iter().map(|view| row(&self.node, view)).collect();
        if reply.post_rows(rows, Reply::Revisions).is_ok() {
            answer(reply, []);
        }
    }
}

fn row(node: &Node, view: &RevisionView<'_>) -> RevisionRow {
    let revision = &view.commit.revision;
    let publisher = node.hosts().into_iter().find(|host| host.key == view.publisher);
    RevisionRow {
        revision: reference(view),
        parent: revision.parent.map(|parent| parent.to_string()),
        standing: standing(view.standing),
        author: revision.author.clone(),
        publisher: publisher.map_or_else(|| view.publisher.short(), |host| host.name.to_string()),
        made_unix_ms: revision.made_unix_ms,
        reason: revision.reason.clone(),
        hosts: revision.hosts.iter().map(|host| host.name.clone()).collect(),
        vms: count(revision.vm_count()),
        added: count(view.changes.added),
        removed: count(view.changes.removed),
        moved: count(view.changes.moved),
        changed_hosts: count(view.changes.hosts),
    }
}

/// Returns how people name a revision.
pub(super) fn reference(view: &RevisionView<'_>) -> RevisionRef {
    RevisionRef { number: count(view.number), digest: view.commit.digest.to_string() }
}

/// Returns how a revision stands, in words of the link.
pub(super) fn standing(standing: Standing) -> RevisionStanding {
    match standing {
        Standing::Decided => RevisionStanding::Decided,
        Standing::Partial => RevisionStanding::Partial,
        Standing::Contested => RevisionStanding::Contested,
        Standing::Beaten => RevisionStanding::Beaten,
    }
}

/// Returns the revision of a project that is meant by a number or by the digits with which its digest begins. A number is
/// one of those that lead to the head.
pub(super) fn find(node: &Node, project: ProjectId, wanted: &str) -> Result<Digest, Box<Reply>> {
    let history = node.history(project);
    let on_path = |view: &&RevisionView<'_>| matches!(view.standing, Standing::Decided | Standing::Partial);
    let number: Option<usize> = wanted.parse().ok();
    let numbered = history.iter().filter(on_path).find(|view| Some(view.number) == number);
    let begins = |view: &&RevisionView<'_>| {
        wanted.len() >= DIGITS_MIN && view.commit.digest.to_string().starts_with(wanted)
    };
    let mut named = history.iter().filter(begins);
    match (numbered, named.next(), named.next()) {
        (Some(view), None, _) | (None, Some(view), None) => Ok(view.commit.digest),
        (_, Some(_), _) => {
            let text = format!("{wanted} may mean several revisions; give more digits");
            Err(Box::new(refusal("ambiguous-revision", text, None)))
        }
        (None, None, _) if history.iter().any(|view| Some(view.number) == number) => {
            let same = history.iter().filter(|view| Some(view.number) == number);
            let same: Vec<String> = same.map(|view| view.commit.digest.short()).collect();
            let text = format!(
                "revision {wanted} leads to no head; say by its digest which is meant: {}",
                same.join(", ")
            );
            Err(Box::new(refusal("ambiguous-revision", text, None)))
        }
        (None, None, _) => {
            let known: Vec<String> = history
                .iter()
                .map(|view| format!("{} ({})", view.number, view.commit.digest.short()))
                .collect();
            let text = format!("there is no revision {wanted}; there are {}", known.join(", "));
            Err(Box::new(refusal("no-such-revision", text, None)))
        }
    }
}

/// Returns the head that a project is to go on with, where that is a question: its partial revisions contradict each other,
/// or the newest is one that no majority has decided.
pub(super) fn find_head(node: &Node, project: ProjectId, wanted: &str) -> Result<Digest, Box<Reply>> {
    let found = find(node, project, wanted)?;
    let Some(heads) = node.heads(project) else { return Ok(found) };
    let mut open: Vec<Digest> =
        heads.contested.iter().copied().chain(heads.partial.last().copied()).collect();
    if open.is_empty() {
        let text = "nothing is contested: a majority has decided where the project stands".to_owned();
        let who = Some("you: mlnctl rollback -p PROJECT --to REVISION goes back to an earlier one");
        return Err(Box::new(refusal("not-contested", text, who)));
    }
    open.push(*heads.newest());
    if open.contains(&found) {
        return Ok(found);
    }
    let open: Vec<String> = open.iter().map(Digest::short).collect();
    let text = format!("{} is no head; it is between {}", found.short(), open.join(", "));
    Err(Box::new(refusal("not-contested", text, None)))
}

/// Returns the revision before a project's head.
pub(super) fn before(node: &Node, project: ProjectId) -> Result<Digest, Box<Reply>> {
    let head = node.heads(project).and_then(|heads| node.revision(heads.head()));
    head.and_then(|head| head.revision.parent).ok_or_else(|| {
        let text = "the project has one revision: there is none before it".to_owned();
        Box::new(refusal("no-such-revision", text, Some("you: mlnctl remove -p PROJECT")))
    })
}

/// How many digits of a digest name a revision at least.
const DIGITS_MIN: usize = 4;
