//! What else changes of a VM that moves: no host has both its parts, so it is told from the project's texts.

use std::collections::BTreeSet;

use super::carry::{Carry, RESIZED, carry};
use super::difference::{Change, VmChange};
use super::impact::{Act, Effect};
use super::row::{Row, Sign, rows};
use super::sequence::{PlannedChange, plan};
use crate::id::Name;
use crate::model::{Hooks, Project};

/// What becomes of what nothing but a new disk would change.
const GOES_ALONG: &str = "its disk goes along as it is, and stays what it was made from";

/// Returns what changes of a VM beside where it is. `arrival` is what it costs to be placed where it is to be: where it
/// moves, it has all of it from its start there.
pub fn moved_rows(before: &Project, after: &Project, vm: &Name, arrival: Effect) -> Vec<Row> {
    let one = |project: &Project| Project {
        name: before.name.clone(),
        vms: project.vms.iter().filter(|there| there.name == *vm).cloned().collect(),
        switches: Vec::new(),
        hooks: Hooks::default(),
    };
    let mut planned = plan(&one(before), &one(after), &BTreeSet::new());
    planned.retain(|planned| match &planned.change {
        Change::VmChanged { change, .. } => {
            !matches!(change, VmChange::ServiceHost(_) | VmChange::InterfacesReordered { .. })
        }
        _ => false,
    });
    let of_one = |planned: &PlannedChange| {
        let mut told = rows(std::slice::from_ref(planned));
        for row in told.iter_mut().filter(|row| arrival == Effect::Move && row.act != Act::Keep) {
            (row.act, row.why) = match carry(&planned.change) {
                Carry::Now => (Act::Change(Effect::Move), RESIZED),
                Carry::NotYet(_) => (Act::Keep, GOES_ALONG),
            };
            row.sign = if row.sign == Sign::Changed { Sign::Moved } else { row.sign };
        }
        told
    };
    planned.iter().flat_map(of_one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang::{self, NoIncludes};
    use crate::resolve::{self, Options};

    #[track_caller]
    fn check(arrival: Effect, from: &str, to: &str, expect: &[&str]) {
        let project = |inside: &str| {
            let text = format!("global {{ project p }}\nhost a {{ {inside} }}\nhost b {{ }}\n");
            let (tree, _) = lang::parse("p.mln", text, &NoIncludes);
            resolve::resolve(&tree, &Options::default()).project
        };
        let name = Name::parse("a").expect("a name");
        let line = |row: &Row| {
            let key = row.key.as_deref().unwrap_or_default();
            format!("{} {key} {}", row.sign.character(), row.act.word())
        };
        let told = moved_rows(&project(from), &project(to), &name, arrival);
        assert_eq!(told.iter().map(line).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn what_changes_with_a_move_is_had_at_the_new_host() {
        check(Effect::Move, "service_host oslo", "service_host bergen", &[]);
        check(
            Effect::Move,
            "service_host oslo; memory 64M; users { u x; v y }",
            "service_host bergen; memory 96M; users { v z; w z }; startup {\n date\n}; policy p { run /p; may move oslo }",
            &[
                "> memory move",
                "- user u kept",
                "> user v move",
                "+ user w move",
                "+ startup move",
                "+ policy p move",
            ],
        );
    }

    #[test]
    fn a_disk_goes_along_as_it_is() {
        check(
            Effect::Move,
            "service_host oslo; template mini; size 2G",
            "service_host bergen; template other; size 1G",
            &["> template kept", "~ disk kept"],
        );
    }

    #[test]
    fn what_is_there_already_changes_as_if_it_had_always_been_there() {
        check(
            Effect::Live,
            "service_host oslo; memory 64M",
            "service_host bergen; memory 96M",
            &["~ memory reboot"],
        );
    }
}
