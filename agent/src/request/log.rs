//! `log`: a project's revisions, and which one people mean.

use std::collections::BTreeSet;

use mln_link::Reply;
use mln_link::message::{ProjectRef, RevisionRef, RevisionRow, RevisionStanding};
use mln_protocol::id::{Digest, Name, ProjectId, PublicKey};
use mln_protocol::node::limits::REVISIONS_KEPT;
use mln_protocol::node::{Node, RevisionView, Standing};
use mln_protocol::record::{Commit, RevisionHost};

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

/// Refuses to go back to a revision of which hosts have forgotten their parts: they would have nothing to build from.
pub(super) fn kept(node: &Node, project: ProjectId, to: Digest) -> Result<Digest, Box<Reply>> {
    let path = node.revisions(project);
    // A host has the part by which it keeps a disk, however old that is.
    let kept: Vec<(PublicKey, Name)> =
        node.kept(project).into_iter().map(|kept| (kept.vm.owner, kept.vm.status.vm.name)).collect();
    let is_kept = |host: &RevisionHost| {
        kept.iter().any(|(at, vm)| *at == host.key && host.vms.iter().any(|one| one.name == *vm))
    };
    let parts = |commit: &Commit| -> BTreeSet<(PublicKey, Digest)> {
        let needed = commit.revision.hosts.iter().filter(|host| commit.digest != to || !is_kept(host));
        needed.map(|host| (host.key, host.fragment)).collect()
    };
    let all: Vec<BTreeSet<(PublicKey, Digest)>> = path.iter().map(|(_, commit)| parts(commit)).collect();
    let wanted = path.iter().position(|(_, commit)| commit.digest == to);
    let Some((at, first)) = wanted.and_then(|at| Some((at, forgotten(&all, at)?))) else { return Ok(to) };
    let name = node.label(project).map_or_else(|| "the project".to_owned(), |label| label.to_string());
    let text = format!(
        "revision {} of {name} isn't kept any more: the last {REVISIONS_KEPT} are ({}..{})",
        at + 1,
        first + 1,
        all.len()
    );
    let oldest = first + 1;
    let who = format!(
        "you: mlnctl rollback -p {name} --to {oldest}; or mlnctl upgrade -f FILE, with the text that it had"
    );
    Err(Box::new(refusal("revision-not-kept", text, Some(&who))))
}

/// Returns the place of the oldest revision whose parts all hosts have still, where they haven't all of another one's; parts
/// that a newer one has too are there.
fn forgotten(path: &[BTreeSet<(PublicKey, Digest)>], at: usize) -> Option<usize> {
    let first = path.len().saturating_sub(REVISIONS_KEPT);
    let is_there = |part: &(PublicKey, Digest)| path[first..].iter().any(|parts| parts.contains(part));
    (!path[at].iter().all(is_there)).then_some(first)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// It showed a plan of removals, and then each host refused it.
    #[test]
    fn a_revision_is_forgotten_when_eight_came_after_it_unless_a_newer_one_has_the_same_parts() {
        let part = |host: u8, content: u8| (PublicKey([host; 32]), Digest([content; 32]));
        let mut path: Vec<BTreeSet<(PublicKey, Digest)>> =
            (1..=REVISIONS_KEPT as u8).map(|content| [part(1, 0), part(2, content)].into()).collect();
        assert!((0..path.len()).all(|at| forgotten(&path, at).is_none()));
        path.push([part(1, 0), part(2, 9)].into());
        assert_eq!((forgotten(&path, 0), forgotten(&path, 1)), (Some(1), None));
        // As it was at first.
        path.push([part(1, 0), part(2, 1)].into());
        assert_eq!((forgotten(&path, 0), forgotten(&path, 1)), (None, Some(2)));
        // The same content at another host is no part of that one.
        path[0] = [part(1, 1)].into();
        assert_eq!(forgotten(&path, 0), Some(2));
    }
}
