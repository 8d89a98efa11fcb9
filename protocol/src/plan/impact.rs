//! What a change of a project does to what runs: the mildest way that the platform allows, and why it is so.

use super::difference::{Change, InterfaceChange, Replaced, SwitchChange, VmChange};
use super::setup::{SetupChange, loses_a_disk};
use crate::model::{Attachment, DiskSize, Platform, TemplateRef};

/// What a change does to a VM that stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// It goes on running.
    Live,
    /// It goes on running where its guest gives what is asked of it, and else is stopped and started once: only doing it
    /// tells.
    LiveOrReboot,
    /// It is stopped and started once, with its disk.
    Reboot,
    /// Its disk is made anew.
    Rebuild,
    /// It is stopped, its disk is brought to another service host, and it is started there.
    Move,
}

impl Effect {
    /// Returns the word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::LiveOrReboot => "live-or-reboot",
            Self::Reboot => "reboot",
            Self::Rebuild => "rebuild",
            Self::Move => "move",
        }
    }
}

/// What is done about a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A VM is made.
    Build,
    /// A VM is deleted.
    Remove,
    /// What stays is changed.
    Change(Effect),
    /// Nothing: it is not carried out yet, or stays as it is for good.
    Keep,
    /// A VM that was left out is taken up again, with its disk.
    Return,
}

impl Act {
    /// Returns the word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Remove => "remove",
            Self::Change(effect) => effect.word(),
            Self::Keep => "kept",
            Self::Return => "return",
        }
    }
}

/// Why a change would cost what a VM has written to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The disk starts from something else.
    Template,
    /// A further disk goes, or is to be another one.
    Mounted,
}

impl Loss {
    /// Returns what is lost why, in words.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Template => "another template means a new disk: what the host has written is lost",
            Self::Mounted => "a disk that is mounted goes, or becomes another one: what is on it is lost",
        }
    }
}

/// What a change does, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Impact {
    /// What is done.
    pub act: Act,
    /// Why it is that.
    pub why: &'static str,
    /// What it would cost, for which it needs to be asked for by the VM's name.
    pub loss: Option<Loss>,
}

fn live(why: &'static str) -> Impact {
    Impact { act: Act::Change(Effect::Live), why, loss: None }
}

fn reboot(why: &'static str) -> Impact {
    Impact { act: Act::Change(Effect::Reboot), why, loss: None }
}

fn rebuild(loss: Loss) -> Impact {
    Impact { act: Act::Change(Effect::Rebuild), why: loss.reason(), loss: Some(loss) }
}

/// Returns what a change does where VMs run on a platform.
pub fn impact(change: &Change, platform: Platform) -> Impact {
    match change {
        Change::Renamed(_) => Impact {
            act: Act::Change(Effect::Rebuild),
            why: "a project of another name is another project, and is built anew",
            loss: None,
        },
        Change::Hooks(_) => live("they are run at the next start or stop"),
        Change::SwitchAdded { .. } => live("a new segment disturbs no other"),
        Change::SwitchRemoved { .. } => live("nothing is attached to it any more"),
        Change::SwitchChanged { change, .. } => match change {
            SwitchChange::Kind(_) => live("the switch is one or the other for the next frame"),
            SwitchChange::Uplink(_) | SwitchChange::Vlan(_) | SwitchChange::ServiceHost(_) => {
                live("only the way from the switch to the service host's network changes")
            }
        },
        Change::SwitchesReordered { .. } | Change::VmsReordered { .. } => {
            live("only the order in the file is another one")
        }
        Change::VmAdded { .. } => Impact { act: Act::Build, why: "it is not there yet", loss: None },
        Change::VmRemoved { .. } => {
            Impact { act: Act::Remove, why: "the project no longer has it", loss: None }
        }
        Change::VmChanged { change, .. } => match platform {
            Platform::Uml => on_uml(change),
        },
    }
}

fn on_uml(change: &VmChange) -> Impact {
    match change {
        VmChange::Platform(_) => reboot("another platform starts it, with the same disk"),
        VmChange::ServiceHost(_) => Impact {
            act: Act::Change(Effect::Move),
            why: "its disk goes along to the other service host",
            loss: None,
        },
        VmChange::Template(template) => of_template(template),
        VmChange::Memory(memory) if memory.to < memory.from => Impact {
            act: Act::Change(Effect::LiveOrReboot),
            why: "what it has free is taken from it as it runs; where it has not that much free, it is started once more",
            loss: None,
        },
        VmChange::Memory(_) => reboot("User-Mode Linux has at most the memory that it was started with"),
        VmChange::Vcpus(_) => live("User-Mode Linux has one processor, whatever the project says"),
        VmChange::Disk(disk) => of_disk(disk),
        VmChange::BootOrder(_) => live("it counts from the next start on"),
        VmChange::InterfaceAdded { network, .. } if has_tap(&network.attachment) => {
            reboot("User-Mode Linux has the taps that it was started with")
        }
        VmChange::InterfaceAdded { .. } => live("interfaces are plugged in as it runs"),
        VmChange::InterfaceRemoved { .. } => live("interfaces are unplugged as it runs"),
        VmChange::InterfacesReordered { .. } => live("only the order in the file is another one"),
        VmChange::Interface { change, .. } => match change {
            InterfaceChange::Address(_) | InterfaceChange::Gateway(_) | InterfaceChange::Broadcast(_) => {
                live("the agent in the guest sets it as it runs")
            }
            InterfaceChange::Attachment(attachment)
                if on_switch(&attachment.from) && on_switch(&attachment.to) =>
            {
                live("the interface is plugged into the other switch as it runs")
            }
            InterfaceChange::Attachment(_) => {
                reboot("what an interface leads to, if not a switch, is settled when it is plugged in")
            }
            InterfaceChange::Forwards(_) => {
                reboot("the address translation has the ports that it was started with")
            }
            InterfaceChange::Impairment { attachment: Attachment::UserNat, .. } => {
                reboot("the address translation delays and loses what it was started with")
            }
            InterfaceChange::Impairment { .. } => live("the switch does it to the next frame"),
            InterfaceChange::TapAddress(_) => reboot("the service host sets it when the guest is started"),
            InterfaceChange::Mac(_) => {
                reboot("an interface has the hardware address that it was started with")
            }
        },
        VmChange::Users(_) => live("the agent in the guest makes and changes accounts as it runs"),
        VmChange::Files(_) => live("the agent in the guest copies files as it runs"),
        VmChange::Nameservers(_) => live("the agent in the guest sets them as it runs"),
        VmChange::Modules(_) => live("the agent in the guest loads them as it runs"),
        VmChange::Startup(_) => live("the lines are run from the next boot on"),
        VmChange::Setup(change) => of_setup(change),
    }
}

fn on_switch(attachment: &Attachment) -> bool {
    matches!(attachment, Attachment::Switch(_))
}

/// Whether an interface is a tap of the service host.
fn has_tap(attachment: &Attachment) -> bool {
    matches!(attachment, Attachment::Bridge(_) | Attachment::Tap(_))
}

fn of_setup(change: &SetupChange) -> Impact {
    match change {
        SetupChange::Groups(_) => live("the agent in the guest makes and changes groups as it runs"),
        SetupChange::Swap(_) => reboot("User-Mode Linux has the disks that it was started with"),
        SetupChange::Mounts(mounts) if loses_a_disk(mounts) => {
            let loss = Loss::Mounted;
            Impact { act: Act::Change(Effect::Reboot), why: loss.reason(), loss: Some(loss) }
        }
        SetupChange::Mounts(_) => reboot("User-Mode Linux has the disks that it was started with"),
        SetupChange::Shutdown(_) => live("the lines are run when it next shuts down"),
        SetupChange::Policies(_) => live("it counts from the next thing on that the guest asks for"),
        SetupChange::MemoryMax(_) => live("it counts from the next start on"),
        SetupChange::Scheduling(_) => live("it counts from the next start on"),
    }
}

fn of_template(template: &Replaced<Option<TemplateRef>>) -> Impact {
    let name = |template: &Option<TemplateRef>| template.as_ref().map(|template| template.name().clone());
    match (&template.from, &template.to) {
        // A disk stays what it was made from; its template is pinned when it is built.
        (Some(_), Some(TemplateRef::Newest(_))) if name(&template.from) == name(&template.to) => {
            live("a disk keeps the version that it was made from")
        }
        _ => rebuild(Loss::Template),
    }
}

fn of_disk(disk: &Replaced<DiskSize>) -> Impact {
    let growth = live("the file system grows as it is used");
    let why = "a disk only grows: it stays as large as it is";
    let shrinks = Impact { act: Act::Keep, why, loss: None };
    match (disk.from, disk.to) {
        (DiskSize::Whole(from), DiskSize::Whole(to)) | (DiskSize::Free(from), DiskSize::Free(to)) => {
            if to < from { shrinks } else { growth }
        }
        // A disk is never smaller than its template.
        (DiskSize::Template, DiskSize::Template | DiskSize::Whole(_) | DiskSize::Free(_)) => growth,
        (DiskSize::Free(_) | DiskSize::Whole(_), DiskSize::Template) => shrinks,
        (DiskSize::Whole(_), DiskSize::Free(_)) | (DiskSize::Free(_), DiskSize::Whole(_)) => {
            live("the file system grows as it is used, if that is more than it has")
        }
    }
}
