//! What a host makes of a change to a VM that is there: as it runs, with one start more, or not yet at all.
//!
//! [`super::impact()`] says what a change is on a platform at its mildest. This is what agents carry out of it today, and
//! what it costs one VM as it stands.

use std::collections::BTreeSet;

use super::difference::{Change, InterfaceChange, VmChange};
use super::impact::{Act, Effect};
use super::observed::Condition;
use super::row::{Row, Sign, Subject, rows};
use super::sequence::{PlannedChange, plan};
use super::setup::SetupChange;
use crate::id::Name;
use crate::model::{Fragment, Hooks, MemoryMib, Project, Vm};

/// Whether a VM that is there can have a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carry {
    /// It can, in the way that its platform allows.
    Now,
    /// Not yet: the host refuses it. What it is about, for people.
    NotYet(&'static str),
}

/// What keeps a VM that runs from being changed as it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The agent in the guest is of a version that changes nothing.
    Agent,
    /// What holds its process is of such a version.
    Holder,
    /// Both are.
    Both,
}

/// What a host knows of how a VM that runs can be changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// What keeps it from being changed; none where nothing does.
    pub obstacle: Option<Obstacle>,
    /// Whether its disk is long enough for what it is to be.
    pub disk: DiskRoom,
    /// How much memory it can have without another start, by how it was started; none where that isn't known.
    pub memory_max: Option<MemoryMib>,
    /// With how much memory its guest would do by what it has free now; none where that isn't known.
    pub memory_min: Option<MemoryMib>,
}

/// Whether a disk is long enough for the file system that is to be on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DiskRoom {
    /// It is.
    #[default]
    Enough,
    /// A longer file has to be put under it first.
    TooLittle,
}

/// Why what the agent in a guest does costs a start.
const OLDER_AGENT: &str = "the agent in the guest is of an older version, and does this at a start alone";
/// Why what a holder does costs a start.
const OLDER_HOLDER: &str = "an older mlnd has started it, which changes this at a start alone";
/// Why a disk costs a start.
const DISK_TOO_SHORT: &str =
    "that is more than there is under its disk; a longer file is put there when it is stopped";
/// Why a change costs nothing at a VM that doesn't run.
const NOT_RUNNING: &str = "it does not run, and has it from its next start on";
/// Why memory costs nothing at a VM that was started with room for it.
const HAS_ROOM: &str = "it was started with room for that, by its `memory_max`";
/// Why memory costs a start at a VM that was started before it was given room for it.
const STARTED_WITH_LESS: &str =
    "it was started with room for less, before its `memory_max` said so; it has the new room from a start on";
/// Why less memory costs a start at a VM that uses what would be taken from it.
const USES_IT: &str = "it has not that much memory free now, and less can't be taken from it as it runs";
/// What it means to come from another host.
const MOVE: &str = "its disk is copied while it runs; it is stopped for the last of it, and goes on there";

/// What it means to be placed where it is already.
const HERE: &str = "this host has taken it over and has it already; nothing is copied";

/// When a VM that moves has another size.
pub(super) const RESIZED: &str = "it has that from when it is up at its new host";

/// Returns whether a VM can have a change to it; what is no VM's is had at once.
pub fn carry(change: &Change) -> Carry {
    match change {
        Change::VmChanged { change, .. } => of_vm(change),
        Change::Renamed(_) => Carry::NotYet("the project's name"),
        Change::Hooks(_)
        | Change::SwitchAdded { .. }
        | Change::SwitchChanged { .. }
        | Change::SwitchRemoved { .. }
        | Change::SwitchesReordered { .. }
        | Change::VmAdded { .. }
        | Change::VmRemoved { .. }
        | Change::VmsReordered { .. } => Carry::Now,
    }
}

fn of_vm(change: &VmChange) -> Carry {
    match change {
        VmChange::BootOrder(_)
        // Where it is doesn't change: else it would be on its way to another host.
        | VmChange::ServiceHost(_)
        | VmChange::Memory(_)
        | VmChange::Vcpus(_)
        // One that is to be smaller stays as it is.
        | VmChange::Disk(_)
        | VmChange::Users(_)
        | VmChange::Files(_)
        | VmChange::Startup(_)
        | VmChange::Nameservers(_)
        | VmChange::Modules(_)
        | VmChange::InterfaceAdded { .. }
        | VmChange::InterfaceRemoved { .. }
        | VmChange::InterfacesReordered { .. } => Carry::Now,
        VmChange::Platform(_) => Carry::NotYet("its platform"),
        VmChange::Template(_) => Carry::NotYet("what its disk was made from"),
        VmChange::Interface { change, .. } => match change {
            InterfaceChange::Attachment(_)
            | InterfaceChange::Mac(_)
            | InterfaceChange::Impairment { .. }
            | InterfaceChange::Address(_)
            | InterfaceChange::Gateway(_)
            | InterfaceChange::Broadcast(_)
            | InterfaceChange::Forwards(_)
            | InterfaceChange::TapAddress(_) => Carry::Now,
        },
        VmChange::Setup(change) => match change {
            // A disk that would be lost is refused for that.
            SetupChange::Groups(_)
            | SetupChange::Swap(_)
            | SetupChange::Mounts(_)
            | SetupChange::Shutdown(_)
            | SetupChange::Scheduling(_)
            | SetupChange::Policies(_)
            | SetupChange::MemoryMax(_) => Carry::Now,
        },
    }
}

/// Says what a change costs one VM as it stands, where that is less than it may cost elsewhere.
fn be_gentle(planned: &mut PlannedChange, before: &[Vm], condition: &impl Fn(&Name) -> Condition) {
    let (Change::VmChanged { vm, change }, Act::Change(Effect::Reboot | Effect::LiveOrReboot)) =
        (&planned.change, planned.act)
    else {
        return;
    };
    let definition = before.iter().find(|found| found.name == *vm);
    let most = definition.and_then(|found| found.setup.memory_max);
    let why = match change {
        _ if condition(vm) != Condition::Running => NOT_RUNNING,
        VmChange::Memory(memory) if memory.to > memory.from && most.is_some_and(|most| memory.to <= most) => {
            HAS_ROOM
        }
        _ => return,
    };
    (planned.act, planned.why) = (Act::Change(Effect::Live), why);
}

/// Says what a change costs one VM that runs, where that is more than it costs elsewhere.
fn be_strict(planned: &mut PlannedChange, limits: &impl Fn(&Name) -> Limits) {
    let (Change::VmChanged { vm, change }, Act::Change(Effect::Live | Effect::LiveOrReboot)) =
        (&planned.change, planned.act)
    else {
        return;
    };
    let Limits { obstacle, disk, memory_max, memory_min } = limits(vm);
    let by = carried_by(change);
    let why = match (obstacle, disk) {
        (_, DiskRoom::TooLittle) if matches!(change, VmChange::Disk(_)) => DISK_TOO_SHORT,
        _ if is_more_memory(change, memory_max) => STARTED_WITH_LESS,
        (Some(Obstacle::Agent | Obstacle::Both), _) if by.contains(&Carrier::Agent) => OLDER_AGENT,
        (Some(Obstacle::Holder | Obstacle::Both), _) if by.contains(&Carrier::Holder) => OLDER_HOLDER,
        _ if is_less_memory(change, memory_min) => USES_IT,
        _ => return,
    };
    (planned.act, planned.why) = (Act::Change(Effect::Reboot), why);
}

/// Whether a change gives a VM more memory than it can have without another start.
fn is_more_memory(change: &VmChange, most: Option<MemoryMib>) -> bool {
    matches!((change, most), (VmChange::Memory(memory), Some(most)) if memory.to > most)
}

/// Whether a change leaves a VM less memory than its guest would do with now.
fn is_less_memory(change: &VmChange, least: Option<MemoryMib>) -> bool {
    matches!((change, least), (VmChange::Memory(memory), Some(least)) if memory.to < memory.from && memory.to < least)
}

/// Who has something to do for a change of a VM that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrier {
    /// The agent in the guest.
    Agent,
    /// What holds the guest's process.
    Holder,
}

fn carried_by(change: &VmChange) -> &'static [Carrier] {
    const BOTH: &[Carrier] = &[Carrier::Agent, Carrier::Holder];
    match change {
        VmChange::Users(_)
        | VmChange::Files(_)
        | VmChange::Nameservers(_)
        | VmChange::Modules(_)
        | VmChange::Disk(_) => &[Carrier::Agent],
        VmChange::Memory(memory) if memory.to < memory.from => BOTH,
        VmChange::Memory(_) => &[Carrier::Holder],
        VmChange::InterfaceAdded { .. } | VmChange::InterfaceRemoved { .. } => BOTH,
        VmChange::Interface { change, .. } => match change {
            InterfaceChange::Attachment(_) => &[Carrier::Holder],
            InterfaceChange::Address(_) | InterfaceChange::Gateway(_) | InterfaceChange::Broadcast(_) => {
                &[Carrier::Agent]
            }
            InterfaceChange::Mac(_)
            | InterfaceChange::Impairment { .. }
            | InterfaceChange::Forwards(_)
            | InterfaceChange::TapAddress(_) => &[],
        },
        VmChange::Setup(change) => match change {
            SetupChange::Groups(_) | SetupChange::Shutdown(_) => &[Carrier::Agent],
            SetupChange::Swap(_)
            | SetupChange::Mounts(_)
            | SetupChange::Scheduling(_)
            | SetupChange::Policies(_)
            | SetupChange::MemoryMax(_) => &[],
        },
        VmChange::Platform(_)
        | VmChange::ServiceHost(_)
        | VmChange::Template(_)
        | VmChange::Vcpus(_)
        | VmChange::BootOrder(_)
        | VmChange::InterfacesReordered { .. }
        | VmChange::Startup(_) => &[],
    }
}

/// A host's part of a project, and what takes its place.
#[derive(Clone, Copy, Debug)]
pub struct PartChange<'a> {
    /// What is there; none where the host carries nothing of the project.
    pub before: Option<&'a Fragment>,
    /// What is to be; none where it is to carry nothing of it any more.
    pub after: Option<&'a Fragment>,
    /// The VMs that come from other hosts.
    pub arriving: &'a [Name],
    /// The VMs that go to other hosts.
    pub leaving: &'a [Name],
    /// The VMs that this host took over before, and that are placed here from now on.
    pub here: &'a [Name],
}

impl PartChange<'_> {
    /// Returns the changes of this part as rows, with what each costs there. `condition` is how a VM is right now.
    pub fn rows(&self, condition: impl Fn(&Name) -> Condition) -> Vec<Row> {
        self.rows_within(condition, |_| Limits::default())
    }

    /// Returns the same where more is known of how VMs that run can be changed.
    pub fn rows_within(
        &self,
        condition: impl Fn(&Name) -> Condition,
        limits: impl Fn(&Name) -> Limits,
    ) -> Vec<Row> {
        let (before, after) = (project(self.before), project(self.after));
        let mut planned = plan(&before, &after, &BTreeSet::new());
        // What only concerns the file's order, or how it spells the host, changes nothing here.
        planned.retain(|planned| match &planned.change {
            Change::SwitchesReordered { .. } | Change::VmsReordered { .. } => false,
            Change::VmChanged { change: VmChange::ServiceHost(_), .. } => false,
            Change::VmAdded { vm, .. } => !self.arriving.contains(&vm.name) && !self.here.contains(&vm.name),
            Change::VmRemoved { vm } => !self.leaving.contains(vm),
            _ => true,
        });
        for planned in &mut planned {
            be_gentle(planned, &before.vms, &condition);
            be_strict(planned, &limits);
        }
        let placed = |vm: &Name, effect, why| Row {
            sign: Sign::Moved,
            subject: Subject::Host(vm.clone()),
            key: None,
            from: None,
            to: None,
            act: Act::Change(effect),
            why,
            permission: super::Permission::Granted,
        };
        let moved = self.arriving.iter().map(|vm| placed(vm, Effect::Move, MOVE));
        let here = self.here.iter().map(|vm| placed(vm, Effect::Live, HERE));
        rows(&planned).into_iter().chain(moved).chain(here).collect()
    }

    /// Returns a row for each VM that comes here and has another size from then on. `memory` is what its owner last said:
    /// no host has both its parts.
    pub fn resized(&self, memory: impl Fn(&Name) -> Option<MemoryMib>) -> Vec<Row> {
        let row = |name: &Name| {
            let after = self.after?.vms.iter().find(|vm| vm.name == *name)?.memory;
            let before = memory(name).filter(|before| *before != after)?;
            Some(Row {
                sign: Sign::Moved,
                subject: Subject::Host(name.clone()),
                key: Some("memory".to_owned()),
                from: Some(before.to_string()),
                to: Some(after.to_string()),
                act: Act::Change(Effect::Move),
                why: RESIZED,
                permission: super::Permission::Granted,
            })
        };
        self.arriving.iter().filter_map(row).collect()
    }

    /// Returns the first VM that stays and would have something else that no host carries out yet, and what that is.
    pub fn not_yet(&self) -> Option<(Name, &'static str)> {
        let (before, after) = (project(self.before), project(self.after));
        super::difference(&before, &after).iter().find_map(|change| match (change, carry(change)) {
            (Change::VmChanged { vm, .. }, Carry::NotYet(what)) => Some((vm.clone(), what)),
            _ => None,
        })
    }
}

/// Returns a part as a project of its own; the name is the same for all.
fn project(part: Option<&Fragment>) -> Project {
    let name = Name::parse("part").expect("letters are a name");
    match part {
        None => Project { name, vms: Vec::new(), switches: Vec::new(), hooks: Hooks::default() },
        Some(part) => Project {
            name,
            vms: part.vms.clone(),
            switches: part.switches.clone(),
            hooks: part.hooks.clone(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang::{self, NoIncludes};
    use crate::resolve::{self, Options};

    fn part(hosts: &str) -> Fragment {
        let (tree, _) = lang::parse("p.mln", format!("global {{ project p }}\n{hosts}"), &NoIncludes);
        let project = resolve::resolve(&tree, &Options::default()).project;
        Fragment { vms: project.vms, switches: project.switches, ..Fragment::default() }
    }

    fn name(text: &str) -> Name {
        Name::parse(text).expect("a name")
    }

    #[track_caller]
    fn check(before: &str, after: &str, running: &[&str], expect: &[&str]) {
        let (before, after) = (part(before), part(after));
        let change =
            PartChange { before: Some(&before), after: Some(&after), arriving: &[], leaving: &[], here: &[] };
        let condition = |vm: &Name| {
            if running.contains(&vm.as_str()) { Condition::Running } else { Condition::Down }
        };
        let shown: Vec<String> = change
            .rows(condition)
            .iter()
            .map(|row| {
                let name = row.subject.name().map_or("", Name::as_str);
                let key = row.key.as_deref().unwrap_or("");
                format!("{} {name} {key} {}", row.sign.character(), row.act.word())
            })
            .collect();
        assert_eq!(shown, expect);
    }

    #[test]
    fn what_a_start_changes_costs_one_only_where_the_vm_runs() {
        let (before, after) = ("host a { memory 64M }", "host a { memory 96M }");
        check(before, after, &["a"], &["~ a memory reboot"]);
        check(before, after, &[], &["~ a memory live"]);
        check(before, "host a { memory 64M; boot_order 5 }", &["a"], &["~ a boot_order live"]);
        check(before, "host a { memory 64M; startup {\n date\n} }", &["a"], &["+ a startup live"]);
        check(before, "host a { memory 48M }", &["a"], &["~ a memory live-or-reboot"]);
        check(before, "host a { memory 48M }", &[], &["~ a memory live"]);
    }

    #[test]
    fn a_disk_that_is_to_be_smaller_and_an_account_that_is_left_out_stay_as_they_are() {
        check("host a { size 2G }", "host a { size 1G }", &["a"], &["~ a disk kept"]);
        check("host a { size 2G }", "host a { size 3G }", &["a"], &["~ a disk live"]);
        check("host a { free_space 2G }", "host a { free_space 1G }", &[], &["~ a disk kept"]);
        check("host a { size 2G }", "host a { }", &["a"], &["- a disk kept"]);
        check(
            "host a { users { u x; v y } }",
            "host a { users { v z } }",
            &["a"],
            &["- a user u kept", "~ a user v live"],
        );
    }

    #[test]
    fn memory_is_had_at_once_as_far_as_the_guest_was_started_with_room_for_it() {
        let before = "host a { memory 64M; memory_max 128M }";
        check(before, "host a { memory 128M; memory_max 128M }", &["a"], &["~ a memory live"]);
        check(
            before,
            "host a { memory 129M; memory_max 129M }",
            &["a"],
            &["~ a memory reboot", "~ a memory_max live"],
        );
        check(
            "host a { memory 64M }",
            "host a { memory 96M; memory_max 96M }",
            &["a"],
            &["~ a memory reboot", "+ a memory_max live"],
        );
    }

    #[test]
    fn interfaces_are_plugged_in_and_into_other_switches_as_the_vm_runs() {
        let on = |inside: &str| format!("host a {{ {inside} }}\nswitch s {{ }}\nswitch t {{ }}");
        let before = on("network eth0 { switch s }");
        check(&before, &on("network eth0 { switch t }"), &["a"], &["~ a network eth0 live"]);
        check(
            &before,
            &on("network eth0 { switch s; address 10.0.0.1/24 }"),
            &["a"],
            &["+ a network eth0 address live"],
        );
        check(&before, &on(""), &["a"], &["- a network eth0 live"]);
        check(&on(""), &before, &["a"], &["+ a network eth0 live"]);
        check(&before, &on("network eth0 { tun_iface tap0 }"), &["a"], &["~ a network eth0 reboot"]);
    }

    #[test]
    fn what_comes_and_goes_is_built_and_removed_and_the_host_name_alone_is_no_change() {
        check("host a { }", "host b { }", &[], &["- a  remove", "+ b  build"]);
        check("host a { }", "host a { service_host oslo }", &[], &[]);
    }

    #[test]
    fn a_vm_that_comes_from_another_host_moves_and_one_that_goes_is_told_of_there() {
        let (before, after) = (part("host a { }"), part("host b { }"));
        let (arriving, leaving) = ([name("b")], [name("a")]);
        let change = PartChange {
            before: Some(&before),
            after: Some(&after),
            arriving: &arriving,
            leaving: &leaving,
            here: &[],
        };
        let rows = change.rows(|_| Condition::Down);
        let shown: Vec<(char, &str)> =
            rows.iter().map(|row| (row.sign.character(), row.act.word())).collect();
        assert_eq!(shown, [('>', "move")]);
    }

    #[test]
    fn what_a_host_took_over_is_not_built_there_and_a_new_size_is_told_of_with_the_move() {
        let after = part("host a { memory 96M }\nhost b { memory 64M }");
        let (arriving, here) = ([name("a")], [name("b")]);
        let change =
            PartChange { before: None, after: Some(&after), arriving: &arriving, leaving: &[], here: &here };
        let shown = |rows: Vec<Row>| {
            let line = |row: &Row| {
                let name = row.subject.name().map_or("", Name::as_str);
                let values = [&row.from, &row.to].map(|value| value.clone().unwrap_or_default());
                format!("{} {name} {} {}", row.sign.character(), row.act.word(), values.join(" "))
            };
            rows.iter().map(|row| line(row).trim_end().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(shown(change.rows(|_| Condition::Down)), ["> a move", "> b live"]);
        assert_eq!(shown(change.resized(|_| Some(MemoryMib(64)))), ["> a move 64 MiB 96 MiB"]);
        assert_eq!(shown(change.resized(|_| Some(MemoryMib(96)))), [""; 0]);
    }

    #[test]
    fn what_an_older_agent_or_holder_can_not_do_as_a_vm_runs_costs_a_start_there() {
        let before = part("host a { memory 64M; memory_max 128M; size 1G }\nswitch s { }");
        let after = part(
            "host a { memory 96M; memory_max 128M; size 9G; boot_order 3; users { u x }; network eth0 { switch s } }\nswitch s { }",
        );
        let change =
            PartChange { before: Some(&before), after: Some(&after), arriving: &[], leaving: &[], here: &[] };
        let reboots = |limits: Limits| -> Vec<String> {
            let rows = change.rows_within(|_| Condition::Running, |_| limits);
            let rows = rows.into_iter().filter(|row| row.act == Act::Change(Effect::Reboot));
            rows.filter_map(|row| row.key).collect()
        };
        let of = |obstacle| Limits { obstacle: Some(obstacle), ..Limits::default() };
        assert_eq!(reboots(Limits::default()), [""; 0]);
        assert_eq!(reboots(of(Obstacle::Agent)), ["disk", "network eth0", "user u"]);
        assert_eq!(reboots(of(Obstacle::Holder)), ["memory", "network eth0"]);
        assert_eq!(reboots(of(Obstacle::Both)), ["memory", "disk", "network eth0", "user u"]);
        assert_eq!(reboots(Limits { disk: DiskRoom::TooLittle, ..Limits::default() }), ["disk"]);
    }

    /// Its definition was given room first, as it ran, and memory afterwards: the plan said that this is live.
    #[test]
    fn memory_beyond_what_a_vm_was_started_with_costs_a_start_whatever_its_definition_says() {
        let before = part("host a { memory 64M; memory_max 128M }");
        let acts = |memory: u32, most: u32| -> Vec<String> {
            let after = part(&format!("host a {{ memory {memory}M; memory_max 128M }}"));
            let change = PartChange {
                before: Some(&before),
                after: Some(&after),
                arriving: &[],
                leaving: &[],
                here: &[],
            };
            let limits = Limits { memory_max: Some(MemoryMib(most)), ..Limits::default() };
            let rows = change.rows_within(|_| Condition::Running, |_| limits);
            rows.iter().map(|row| row.act.word().to_owned()).collect()
        };
        assert_eq!(acts(96, 64), ["reboot"]);
        assert_eq!(acts(96, 96), ["live"]);
        assert_eq!(acts(48, 64), ["live-or-reboot"]);
    }

    /// The plan said "live", and the machine was started once more, also with `-l`.
    #[test]
    fn less_memory_is_never_promised_as_a_vm_runs_and_costs_a_start_where_the_guest_uses_it() {
        let before = part("host a { memory 96M }");
        let act = |memory: u32, limits: Limits| -> String {
            let after = part(&format!("host a {{ memory {memory}M }}"));
            let change = PartChange {
                before: Some(&before),
                after: Some(&after),
                arriving: &[],
                leaving: &[],
                here: &[],
            };
            let rows = change.rows_within(|_| Condition::Running, |_| limits);
            rows.iter().map(|row| row.act.word()).collect()
        };
        let least = |mib| Limits { memory_min: Some(MemoryMib(mib)), ..Limits::default() };
        assert_eq!(act(64, Limits::default()), "live-or-reboot");
        assert_eq!(act(64, least(64)), "live-or-reboot");
        assert_eq!(act(64, least(65)), "reboot");
        let older = Limits { obstacle: Some(Obstacle::Agent), ..Limits::default() };
        assert_eq!(act(64, older), "reboot");
    }

    #[test]
    fn another_template_is_not_yet() {
        let not_yet = |before: &str, after: &str| {
            let (before, after) = (part(before), part(after));
            let change = PartChange {
                before: Some(&before),
                after: Some(&after),
                arriving: &[],
                leaving: &[],
                here: &[],
            };
            change.not_yet().map(|(vm, what)| format!("{vm}: {what}"))
        };
        assert_eq!(not_yet("host a { memory 64M }", "host a { memory 96M }"), None);
        assert_eq!(not_yet("host a { size 100M }", "host a { size 200M }"), None);
        assert_eq!(not_yet("host a { }", "host a { swap 64M }"), None);
        let template = not_yet("host a { template mini }", "host a { template other }");
        assert_eq!(template.as_deref(), Some("a: what its disk was made from"));
    }
}
