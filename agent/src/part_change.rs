//! What this agent can carry out of a change to its part of a project, and what it refuses.
//!
//! The node decides what a project is; what VMs that are there can become is for the platform to say. It makes VMs and
//! removes them, gives one that is there another definition, as it runs or by one start more, and takes one to another host
//! with its disks, which may grow.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use mln_protocol::id::{Name, VmId};
use mln_protocol::model::Fragment;
use mln_protocol::node::{Refusal, Rule};
use mln_protocol::plan::{self, Act, Condition, DiskRoom, Effect, Limits, Row, Subject};

use crate::platform::{Leeway, MemoryQuestion, Platform};

/// A part of a project that takes the place of another one.
#[derive(Debug)]
pub(crate) struct PartChange {
    /// The part that is there.
    pub(crate) before: Option<Arc<Fragment>>,
    /// The VMs whose disks would have to come here.
    pub(crate) arriving: Vec<Name>,
    /// The VMs whose disks would have to go elsewhere.
    pub(crate) leaving: Vec<Name>,
}

impl PartChange {
    /// Returns the change to this part, as it is planned.
    fn to<'a>(&'a self, fragment: &'a Fragment) -> plan::PartChange<'a> {
        plan::PartChange {
            before: self.before.as_deref(),
            after: Some(fragment),
            arriving: &self.arriving,
            leaving: &self.leaving,
            here: &[],
        }
    }

    /// Refuses what can't be carried out. Nothing was changed.
    pub(crate) fn judge(&self, fragment: &Fragment) -> Result<(), Refusal> {
        let refuse = |detail: String| Err(Refusal { rule: Rule::Platform, detail });
        match self.to(fragment).not_yet() {
            Some((vm, what)) => refuse(format!(
                "{vm}: {what} can't be changed yet while the VM stays; leave it as it is, or give the new one another name"
            )),
            None => Ok(()),
        }
    }

    /// Makes rows say what changes cost here, where VMs that run can't be changed as VMs usually can; `ids` are the VMs of
    /// this host.
    pub(crate) async fn be_exact(
        &self,
        rows: &mut [Row],
        platform: &dyn Platform,
        fragment: &Fragment,
        ids: &[VmId],
    ) {
        let is_live = |row: &Row| matches!(row.act, Act::Change(Effect::Live | Effect::LiveOrReboot));
        let is_about = |row: &Row, vm: &VmId| row.subject == Subject::Host(vm.name.clone());
        let is_asked =
            |vm: &&VmId| rows.iter().any(|row| is_live(row) && is_about(row, vm)) && platform.is_running(vm);
        let asked = ids.iter().filter(is_asked);
        let is_unsure = |row: &Row| row.act == Act::Change(Effect::LiveOrReboot);
        let memory = |vm: &VmId| match rows.iter().any(|row| is_unsure(row) && is_about(row, vm)) {
            true => MemoryQuestion::MostAndLeast,
            false => MemoryQuestion::Most,
        };
        let found = asked.map(|vm| {
            let memory = memory(vm);
            async move { (vm.name.clone(), limits_of(platform, fragment, vm, memory).await) }
        });
        let limits: BTreeMap<Name, Limits> = join_all(found).await.into_iter().collect();
        let exact = self
            .to(fragment)
            .rows_within(|_| Condition::Running, |vm| limits.get(vm).copied().unwrap_or_default());
        for row in rows.iter_mut().filter(|row| is_live(row)) {
            let is_same = |other: &&Row| {
                (&other.sign, &other.subject, &other.key) == (&row.sign, &row.subject, &row.key)
                    && (&other.from, &other.to) == (&row.from, &row.to)
            };
            let runs = row.subject.name().is_some_and(|vm| limits.contains_key(vm));
            if let Some(other) = exact.iter().find(is_same).filter(|_| runs) {
                (row.act, row.why) = (other.act, other.why);
            }
        }
    }
}

async fn limits_of(
    platform: &dyn Platform,
    fragment: &Fragment,
    vm: &VmId,
    memory: MemoryQuestion,
) -> Limits {
    let Leeway { obstacle, disk_max, memory_max, memory_min } = platform.leeway(vm, memory).await;
    let definition = fragment.vms.iter().find(|found| found.name == vm.name);
    let wanted = match definition {
        // What is wrong with it is said where a part is checked.
        Some(definition) => platform.check(definition).await.ok().map(|checked| checked.disk),
        None => None,
    };
    let is_too_short = disk_max.zip(wanted).is_some_and(|(most, wanted)| wanted > most);
    let disk = if is_too_short { DiskRoom::TooLittle } else { DiskRoom::Enough };
    Limits { obstacle, disk, memory_max, memory_min }
}
