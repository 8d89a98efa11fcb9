//! What a plan says that no host knows alone: what else changes of a machine that moves, and which switches come and go.
//!
//! Each host compares its own parts. Of a machine that moves one host has what it was, and another one what it is to be; and
//! a switch that a part loses may be in another one. So both texts of the project are compared here, where they are kept.

use mln_link::Reply;
use mln_link::message::{PlanRow, PlanSign};
use mln_protocol::id::{Digest, Name, PublicKey};
use mln_protocol::lang::{self, NoIncludes};
use mln_protocol::model::{Blob, Definition, Project};
use mln_protocol::node::{Intention, ReviseContent};
use mln_protocol::plan::{Effect, moved_rows};
use mln_protocol::resolve::{self, Options};

use super::plan::{add, plan_row};
use crate::blob::Blobs;
use crate::definition;
use crate::event_loop::EventLoop;
use crate::mesh::MeshHandle;

/// Why a switch is told of that neither comes nor goes.
const SWITCH_STAYS: &str =
    "the project has it before and after; a host has it while a machine there is attached to it";

/// What a project was submitted as and is to be, and who may have that.
#[derive(Debug)]
pub(super) struct Texts {
    owner: Name,
    before: Option<Digest>,
    after: Option<Digest>,
    hosts: Vec<PublicKey>,
}

impl EventLoop {
    /// Returns where the texts are found that a change is between; none where nothing was there before.
    pub(super) fn texts(&self, owner: &Name, intention: &Intention) -> Option<Texts> {
        let order = match intention {
            Intention::Revise(order) => order,
            Intention::Build(_) | Intention::Guest(_) => return None,
        };
        let text = |revision: Digest| self.node.revision(revision).map(|commit| commit.revision.definition);
        let head = self.node.heads(order.project)?.head();
        let after = match &order.content {
            ReviseContent::Definition { blobs, .. } => {
                let submitted = blobs.iter().find(|blob| blob.from == Blob::DEFINITION);
                submitted.map(|blob| blob.digest)
            }
            ReviseContent::Revision(to) => text(*to),
        };
        Some(Texts {
            owner: owner.clone(),
            before: text(order.from_head.unwrap_or(head)),
            after,
            hosts: self.holders(order.project),
        })
    }
}

impl Texts {
    /// Between what a project was submitted as, and what was made of that.
    pub(super) fn between(owner: Name, before: Digest, after: Digest, hosts: Vec<PublicKey>) -> Self {
        Self { owner, before: Some(before), after: Some(after), hosts }
    }

    /// Makes rows say what only both texts tell; returns what is to be said where these aren't there.
    pub(super) async fn complete(
        self,
        rows: Vec<PlanRow>,
        blobs: &Blobs,
        mesh: &MeshHandle,
    ) -> (Vec<PlanRow>, Option<Reply>) {
        let moved = moved(&rows);
        if moved.is_empty() && !rows.iter().any(comes_or_goes) {
            return (rows, None);
        }
        let Self { owner, before, after, hosts } = self;
        let mut projects = Vec::new();
        for digest in before.into_iter().chain(after) {
            let found = definition::find(blobs, mesh, &[digest], &hosts).await;
            let owner = owner.clone();
            let understanding = tokio::task::spawn_blocking(move || project(&found?.1, owner));
            projects.extend(understanding.await.unwrap_or_default());
        }
        match <[Project; 2]>::try_from(projects) {
            Ok([before, after]) => (completed(rows, &before, &after), None),
            Err(_) if moved.is_empty() => (rows, None),
            Err(_) => {
                let names: Vec<&str> = moved.iter().map(|name| name.as_str()).collect();
                let text = format!(
                    "what else changes of {} with its move is not told: a text of the project is not kept, because a \
                     password stands in it in plain, or no host that has it is there",
                    names.join(", ")
                );
                (rows, Some(Reply::Warning { text }))
            }
        }
    }
}

fn project(definition: &Definition, owner: Name) -> Option<Project> {
    let (tree, _) = lang::parse("project", definition.source.clone()?, &NoIncludes);
    let variables = definition.variables.iter().cloned().collect();
    Some(resolve::resolve(&tree, &Options { variables, owner: Some(owner) }).project)
}

fn moved(rows: &[PlanRow]) -> Vec<Name> {
    rows.iter().filter(|row| is_placed(row)).filter_map(|row| row.name.clone()).collect()
}

/// Whether a row says that a machine is placed elsewhere.
fn is_placed(row: &PlanRow) -> bool {
    row.sign == PlanSign::Moved && row.kind == "host" && row.key.is_none()
}

/// Whether a row says that a host has a switch, or has it no more.
fn comes_or_goes(row: &PlanRow) -> bool {
    row.kind == "switch" && row.key.is_none() && matches!(row.sign, PlanSign::Added | PlanSign::Removed)
}

fn completed(rows: Vec<PlanRow>, before: &Project, after: &Project) -> Vec<PlanRow> {
    let has = |project: &Project, name: &Name| project.switches.iter().any(|switch| switch.name == *name);
    let told: Vec<(Option<Name>, Option<String>)> =
        rows.iter().map(|row| (row.name.clone(), row.key.clone())).collect();
    let mut whole = Vec::with_capacity(rows.len());
    for mut row in rows {
        let stays = |name: &Name| has(before, name) && has(after, name);
        if comes_or_goes(&row) && row.name.as_ref().is_some_and(stays) {
            (row.sign, row.why) = (PlanSign::Moved, SWITCH_STAYS.to_owned());
        }
        let placed = row.name.clone().filter(|_| is_placed(&row) && row.kind == "host");
        let arrival = if row.act == Effect::Move.word() { Effect::Move } else { Effect::Live };
        let hosts = row.hosts.clone();
        add(&mut whole, row);
        for more in placed.iter().flat_map(|vm| moved_rows(before, after, vm, arrival)) {
            // Its new host may know some of it by itself.
            let is_told = more.key.as_deref() != Some("disk")
                && told.iter().any(|(name, key)| *name == placed && key.is_some() && *key == more.key);
            if let (Some(host), false) = (hosts.first(), is_told) {
                whole.push(plan_row(host, &more));
            }
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use mln_protocol::wire;

    fn name(text: &str) -> Name {
        Name::parse(text).expect("a name")
    }

    fn row(sign: PlanSign, kind: &str, of: &str, act: &str, host: &str) -> PlanRow {
        PlanRow {
            hosts: vec![name(host)],
            sign,
            kind: kind.to_owned(),
            name: Some(name(of)),
            key: None,
            from: None,
            to: None,
            act: act.to_owned(),
            why: String::new(),
        }
    }

    fn of(text: &str) -> Project {
        let definition = Definition {
            source: Some(text.to_owned()),
            variables: Vec::new(),
            files: Vec::new(),
            templates: Vec::new(),
        };
        // As it is kept, and read again.
        let definition = wire::decode_definition(&wire::encode_definition(&definition)).expect("it is one");
        project(&definition, name("anna")).expect("it has a text")
    }

    fn shown(rows: &[PlanRow]) -> Vec<String> {
        let line = |row: &PlanRow| {
            let hosts: Vec<&str> = row.hosts.iter().map(|host| host.as_str()).collect();
            let words = [
                format!("{:?}", row.sign),
                row.name.as_ref().map_or(String::new(), Name::to_string),
                row.key.clone().unwrap_or_default(),
                row.act.clone(),
                hosts.join(","),
            ];
            words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
        };
        rows.iter().map(line).collect()
    }

    const BEFORE: &str = "global { project p }\nswitch s { }\nswitch t { }\n\
        host a { service_host oslo; memory 64M; network eth0 { switch s } }\n\
        host b { service_host oslo; network eth0 { switch t } }\n";

    /// The plan told of the move alone, and counted its switch as removed.
    #[test]
    fn what_else_changes_of_a_machine_that_moves_is_told_and_its_switch_stays() {
        let after = BEFORE.replacen("oslo; memory 64M", "bergen; memory 96M; boot_order 3", 1);
        let after = after.replace("network eth0 { switch t }", "").replace("switch t { }\n", "");
        let mut memory = row(PlanSign::Moved, "host", "a", "move", "bergen");
        memory.key = Some("memory".to_owned());
        let rows = vec![
            row(PlanSign::Added, "switch", "s", "live", "bergen"),
            row(PlanSign::Moved, "host", "a", "move", "bergen"),
            memory,
            row(PlanSign::Removed, "switch", "s", "live", "oslo"),
            row(PlanSign::Removed, "switch", "t", "live", "oslo"),
        ];
        let expect = [
            "Moved s live bergen,oslo",
            "Moved a move bergen",
            "Moved a boot_order move bergen",
            "Moved a memory move bergen",
            "Removed t live oslo",
        ];
        assert_eq!(shown(&completed(rows, &of(BEFORE), &of(&after))), expect);
    }

    #[test]
    fn a_switch_that_is_new_in_the_text_comes() {
        let before = BEFORE.replace("switch t { }\n", "").replace("network eth0 { switch t }", "");
        let rows = vec![row(PlanSign::Added, "switch", "t", "live", "oslo")];
        assert_eq!(shown(&completed(rows, &of(&before), &of(BEFORE))), ["Added t live oslo"]);
    }
}
