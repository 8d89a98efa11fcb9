//! What differs between two resolved projects, such that the one can be made of the other.
//!
//! Every part of a project is taken apart by name here, so that a new one cannot be forgotten. What a change costs
//! is not known here, but in [`super::impact`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::keyed::{Keyed, insert_all, reorder};
use super::setup::SetupChange;
use crate::id::Name;
use crate::model::{
    AddressPlan, Attachment, BootOrder, DiskSize, Forward, GuestFile, GuestSetup, Hooks, HostAddress,
    Impairment, InterfaceAddress, Mac, MemoryMib, Network, Platform, Project, Switch, SwitchKind,
    SwitchMember, SwitchSettings, TemplateRef, Uplink, User, Vm,
};

/// What was, and what is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced<T> {
    /// What was.
    pub from: T,
    /// What is to be.
    pub to: T,
}

/// One thing in which two projects differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The project has another name.
    Renamed(Replaced<Name>),
    /// Its service hosts run something else around its start and stop.
    Hooks(Replaced<Hooks>),
    /// There is another switch; who is attached to it is said by the VMs.
    SwitchAdded {
        /// Its name.
        switch: Name,
        /// Its place among the switches of the new project.
        at: usize,
        /// What it is besides.
        settings: SwitchSettings,
    },
    /// A switch that stays has something else.
    SwitchChanged {
        /// Its name.
        switch: Name,
        /// What it has.
        change: SwitchChange,
    },
    /// A switch is no longer there.
    SwitchRemoved {
        /// Its name.
        switch: Name,
    },
    /// The switches that stay come in another order.
    SwitchesReordered {
        /// Their names, in the new order.
        order: Vec<Name>,
    },
    /// There is another VM.
    VmAdded {
        /// The VM.
        vm: Box<Vm>,
        /// Its place among the VMs of the new project.
        at: usize,
    },
    /// A VM is no longer there.
    VmRemoved {
        /// Its name.
        vm: Name,
    },
    /// The VMs that stay come in another order.
    VmsReordered {
        /// Their names, in the new order.
        order: Vec<Name>,
    },
    /// A VM that stays has something else.
    VmChanged {
        /// Its name.
        vm: Name,
        /// What it has.
        change: VmChange,
    },
}

/// One thing that a VM has, and has otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VmChange {
    /// What runs it.
    Platform(Replaced<Platform>),
    /// Where it runs.
    ServiceHost(Replaced<Option<HostAddress>>),
    /// What its disk starts from.
    Template(Replaced<Option<TemplateRef>>),
    /// Its memory.
    Memory(Replaced<MemoryMib>),
    /// Its processors.
    Vcpus(Replaced<u16>),
    /// How large its disk is.
    Disk(Replaced<DiskSize>),
    /// When it starts and stops.
    BootOrder(Replaced<BootOrder>),
    /// It has another interface.
    InterfaceAdded {
        /// The interface.
        network: Network,
        /// Its place among the interfaces.
        at: usize,
    },
    /// It no longer has an interface.
    InterfaceRemoved {
        /// Its name.
        interface: Name,
    },
    /// The interfaces that stay come in another order.
    InterfacesReordered {
        /// Their names, in the new order.
        order: Vec<Name>,
    },
    /// An interface that stays has something else.
    Interface {
        /// Its name.
        interface: Name,
        /// What it has.
        change: InterfaceChange,
    },
    /// Its accounts.
    Users(Replaced<Vec<User>>),
    /// The files that are copied into it.
    Files(Replaced<Vec<GuestFile>>),
    /// What it runs at each boot.
    Startup(Replaced<Vec<String>>),
    /// Whom it asks for the addresses of names.
    Nameservers(Replaced<Vec<IpAddr>>),
    /// Modules of its kernel that it loads.
    Modules(Replaced<Vec<String>>),
    /// What else it has, and how its process runs.
    Setup(SetupChange),
}

/// One thing that a switch has, and has otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwitchChange {
    /// What it does with frames.
    Kind(Replaced<SwitchKind>),
    /// How it is joined to a service host's network.
    Uplink(Replaced<Option<Uplink>>),
    /// How its frames are tagged there.
    Vlan(Replaced<Option<u16>>),
    /// Which service host that is.
    ServiceHost(Replaced<Option<HostAddress>>),
}

/// One thing that an interface has, and has otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterfaceChange {
    /// How it gets its address.
    Address(Replaced<AddressPlan>),
    /// The router to everywhere else.
    Gateway(Replaced<Option<IpAddr>>),
    /// The address that everyone on the segment listens to.
    Broadcast(Replaced<Option<IpAddr>>),
    /// Where its other end is.
    Attachment(Replaced<Attachment>),
    /// Its hardware address.
    Mac(Replaced<Option<Mac>>),
    /// The service host's ports that lead to the guest's.
    Forwards(Replaced<Vec<Forward>>),
    /// What is done to the frames that leave it.
    Impairment {
        /// What it was and is to be.
        impairment: Replaced<Impairment>,
        /// Where the other end of the interface is to be.
        attachment: Attachment,
    },
    /// The service host's address on its tap.
    TapAddress(Replaced<Option<InterfaceAddress>>),
}

/// Returns in what two projects differ; nothing if they are the same.
pub fn difference(from: &Project, to: &Project) -> Vec<Change> {
    let Project { name, vms, switches, hooks } = from;
    let mut changes = Vec::new();
    changes.extend(replaced(name, &to.name).map(Change::Renamed));

    changes.extend(replaced(hooks, &to.hooks).map(Change::Hooks));

    let keyed = Keyed::between(switches, &to.switches, |switch| &switch.name);
    changes.extend(keyed.removed.iter().map(|switch| Change::SwitchRemoved { switch: switch.name.clone() }));
    changes.extend(keyed.order.map(|order| Change::SwitchesReordered { order }));
    for (old, new) in keyed.kept {
        let of_switch = switch_changes(&old.settings, &new.settings).into_iter();
        changes.extend(of_switch.map(|change| Change::SwitchChanged { switch: new.name.clone(), change }));
    }
    changes.extend(keyed.added.iter().map(|&(at, switch)| Change::SwitchAdded {
        switch: switch.name.clone(),
        at,
        settings: switch.settings.clone(),
    }));

    let keyed = Keyed::between(vms, &to.vms, |vm| &vm.name);
    changes.extend(keyed.removed.iter().map(|vm| Change::VmRemoved { vm: vm.name.clone() }));
    changes.extend(keyed.order.map(|order| Change::VmsReordered { order }));
    for (old, new) in keyed.kept {
        let of_vm = vm_changes(old, new).into_iter();
        changes.extend(of_vm.map(|change| Change::VmChanged { vm: new.name.clone(), change }));
    }
    changes.extend(keyed.added.iter().map(|&(at, vm)| Change::VmAdded { vm: Box::new(vm.clone()), at }));
    changes
}

fn replaced<T: Clone + PartialEq>(from: &T, to: &T) -> Option<Replaced<T>> {
    (from != to).then(|| Replaced { from: from.clone(), to: to.clone() })
}

fn switch_changes(from: &SwitchSettings, to: &SwitchSettings) -> Vec<SwitchChange> {
    let SwitchSettings { kind, uplink, vlan, service_host } = from;
    let mut changes = Vec::new();
    changes.extend(replaced(kind, &to.kind).map(SwitchChange::Kind));
    changes.extend(replaced(uplink, &to.uplink).map(SwitchChange::Uplink));
    changes.extend(replaced(vlan, &to.vlan).map(SwitchChange::Vlan));
    changes.extend(replaced(service_host, &to.service_host).map(SwitchChange::ServiceHost));
    changes
}

fn vm_changes(from: &Vm, to: &Vm) -> Vec<VmChange> {
    let Vm {
        name: _,
        platform,
        service_host,
        template,
        memory,
        vcpus,
        disk,
        boot_order,
        networks,
        users,
        files,
        startup,
        nameservers,
        modules,
        setup: GuestSetup { groups, swap, mounts, shutdown, memory_max, policies },
        scheduling,
    } = from;
    let mut changes = Vec::new();
    changes.extend(replaced(platform, &to.platform).map(VmChange::Platform));
    changes.extend(replaced(service_host, &to.service_host).map(VmChange::ServiceHost));
    changes.extend(replaced(template, &to.template).map(VmChange::Template));
    changes.extend(replaced(memory, &to.memory).map(VmChange::Memory));
    changes.extend(replaced(vcpus, &to.vcpus).map(VmChange::Vcpus));
    changes.extend(replaced(disk, &to.disk).map(VmChange::Disk));
    changes.extend(replaced(boot_order, &to.boot_order).map(VmChange::BootOrder));
    let keyed = Keyed::between(networks, &to.networks, |network| &network.name);
    changes.extend(
        keyed.removed.iter().map(|network| VmChange::InterfaceRemoved { interface: network.name.clone() }),
    );
    changes.extend(keyed.order.map(|order| VmChange::InterfacesReordered { order }));
    for (old, new) in keyed.kept {
        let of_interface = interface_changes(old, new).into_iter();
        changes
            .extend(of_interface.map(|change| VmChange::Interface { interface: new.name.clone(), change }));
    }
    changes.extend(
        keyed.added.iter().map(|&(at, network)| VmChange::InterfaceAdded { network: network.clone(), at }),
    );
    changes.extend(replaced(users, &to.users).map(VmChange::Users));
    changes.extend(replaced(files, &to.files).map(VmChange::Files));
    changes.extend(replaced(startup, &to.startup).map(VmChange::Startup));
    changes.extend(replaced(nameservers, &to.nameservers).map(VmChange::Nameservers));
    changes.extend(replaced(modules, &to.modules).map(VmChange::Modules));
    let mut of_setup = Vec::new();
    of_setup.extend(replaced(groups, &to.setup.groups).map(SetupChange::Groups));
    of_setup.extend(replaced(swap, &to.setup.swap).map(SetupChange::Swap));
    of_setup.extend(replaced(mounts, &to.setup.mounts).map(SetupChange::Mounts));
    of_setup.extend(replaced(shutdown, &to.setup.shutdown).map(SetupChange::Shutdown));
    of_setup.extend(replaced(memory_max, &to.setup.memory_max).map(SetupChange::MemoryMax));
    of_setup.extend(replaced(policies, &to.setup.policies).map(SetupChange::Policies));
    of_setup.extend(replaced(scheduling, &to.scheduling).map(SetupChange::Scheduling));
    changes.extend(of_setup.into_iter().map(VmChange::Setup));
    changes
}

fn interface_changes(from: &Network, to: &Network) -> Vec<InterfaceChange> {
    let Network { name: _, address, gateway, broadcast, attachment, mac, forwards, impairment, tap_address } =
        from;
    let mut changes = Vec::new();
    changes.extend(replaced(address, &to.address).map(InterfaceChange::Address));
    changes.extend(replaced(gateway, &to.gateway).map(InterfaceChange::Gateway));
    changes.extend(replaced(broadcast, &to.broadcast).map(InterfaceChange::Broadcast));
    changes.extend(replaced(attachment, &to.attachment).map(InterfaceChange::Attachment));
    changes.extend(replaced(mac, &to.mac).map(InterfaceChange::Mac));
    changes.extend(replaced(forwards, &to.forwards).map(InterfaceChange::Forwards));
    changes.extend(
        replaced(impairment, &to.impairment)
            .map(|impairment| InterfaceChange::Impairment { impairment, attachment: to.attachment.clone() }),
    );
    changes.extend(replaced(tap_address, &to.tap_address).map(InterfaceChange::TapAddress));
    changes
}

/// Returns the project that comes of another one by the changes that [`difference`] returned for it, in any order.
pub fn apply<'c>(project: &Project, changes: impl IntoIterator<Item = &'c Change>) -> Project {
    let mut project = project.clone();
    let mut of_vms: BTreeMap<&Name, Vec<&VmChange>> = BTreeMap::new();
    let mut gone: (BTreeSet<&Name>, BTreeSet<&Name>) = Default::default();
    let mut new_switches: Vec<(usize, Switch)> = Vec::new();
    let mut new_vms: Vec<(usize, Vm)> = Vec::new();
    let mut orders: (Option<&[Name]>, Option<&[Name]>) = (None, None);
    for change in changes {
        match change {
            Change::Renamed(name) => project.name = name.to.clone(),
            Change::Hooks(hooks) => project.hooks.clone_from(&hooks.to),
            Change::SwitchAdded { switch, at, settings } => {
                let switch = Switch { name: switch.clone(), members: Vec::new(), settings: settings.clone() };
                new_switches.push((*at, switch));
            }
            Change::SwitchChanged { switch, change } => {
                if let Some(there) = project.switches.iter_mut().find(|there| there.name == *switch) {
                    apply_to_switch(&mut there.settings, change);
                }
            }
            Change::SwitchRemoved { switch } => _ = gone.0.insert(switch),
            Change::SwitchesReordered { order } => orders.0 = Some(order),
            Change::VmAdded { vm, at } => new_vms.push((*at, (**vm).clone())),
            Change::VmRemoved { vm } => _ = gone.1.insert(vm),
            Change::VmsReordered { order } => orders.1 = Some(order),
            Change::VmChanged { vm, change } => of_vms.entry(vm).or_default().push(change),
        }
    }
    for vm in &mut project.vms {
        for change in of_vms.get(&vm.name).into_iter().flatten() {
            apply_to_vm(vm, change);
        }
    }
    project.switches.retain(|switch| !gone.0.contains(&switch.name));
    project.vms.retain(|vm| !gone.1.contains(&vm.name));
    if let Some(order) = orders.0 {
        reorder(&mut project.switches, order, |switch| &switch.name);
    }
    if let Some(order) = orders.1 {
        reorder(&mut project.vms, order, |vm| &vm.name);
    }
    insert_all(&mut project.switches, new_switches);
    insert_all(&mut project.vms, new_vms);
    attach(&mut project);
    project
}

fn apply_to_switch(settings: &mut SwitchSettings, change: &SwitchChange) {
    match change {
        SwitchChange::Kind(kind) => settings.kind = kind.to,
        SwitchChange::Uplink(uplink) => settings.uplink.clone_from(&uplink.to),
        SwitchChange::Vlan(vlan) => settings.vlan = vlan.to,
        SwitchChange::ServiceHost(host) => settings.service_host.clone_from(&host.to),
    }
}

fn apply_to_vm(vm: &mut Vm, change: &VmChange) {
    match change {
        VmChange::Platform(platform) => vm.platform = platform.to,
        VmChange::ServiceHost(host) => vm.service_host.clone_from(&host.to),
        VmChange::Template(template) => vm.template.clone_from(&template.to),
        VmChange::Memory(memory) => vm.memory = memory.to,
        VmChange::Vcpus(vcpus) => vm.vcpus = vcpus.to,
        VmChange::Disk(disk) => vm.disk = disk.to,
        VmChange::BootOrder(order) => vm.boot_order = order.to,
        VmChange::InterfaceAdded { network, at } => {
            insert_all(&mut vm.networks, vec![(*at, network.clone())])
        }
        VmChange::InterfaceRemoved { interface } => vm.networks.retain(|there| there.name != *interface),
        VmChange::InterfacesReordered { order } => reorder(&mut vm.networks, order, |network| &network.name),
        VmChange::Interface { interface, change } => {
            if let Some(network) = vm.networks.iter_mut().find(|there| there.name == *interface) {
                apply_to_interface(network, change);
            }
        }
        VmChange::Users(users) => vm.users.clone_from(&users.to),
        VmChange::Files(files) => vm.files.clone_from(&files.to),
        VmChange::Startup(startup) => vm.startup.clone_from(&startup.to),
        VmChange::Nameservers(servers) => vm.nameservers.clone_from(&servers.to),
        VmChange::Modules(modules) => vm.modules.clone_from(&modules.to),
        VmChange::Setup(change) => match change {
            SetupChange::Groups(groups) => vm.setup.groups.clone_from(&groups.to),
            SetupChange::Swap(swap) => vm.setup.swap = swap.to,
            SetupChange::Mounts(mounts) => vm.setup.mounts.clone_from(&mounts.to),
            SetupChange::Shutdown(lines) => vm.setup.shutdown.clone_from(&lines.to),
            SetupChange::MemoryMax(most) => vm.setup.memory_max = most.to,
            SetupChange::Policies(policies) => vm.setup.policies.clone_from(&policies.to),
            SetupChange::Scheduling(scheduling) => vm.scheduling.clone_from(&scheduling.to),
        },
    }
}

fn apply_to_interface(network: &mut Network, change: &InterfaceChange) {
    match change {
        InterfaceChange::Address(address) => network.address = address.to,
        InterfaceChange::Gateway(gateway) => network.gateway = gateway.to,
        InterfaceChange::Broadcast(broadcast) => network.broadcast = broadcast.to,
        InterfaceChange::Attachment(attachment) => network.attachment = attachment.to.clone(),
        InterfaceChange::Mac(mac) => network.mac = mac.to,
        InterfaceChange::Forwards(forwards) => network.forwards.clone_from(&forwards.to),
        InterfaceChange::Impairment { impairment, .. } => network.impairment = impairment.to,
        InterfaceChange::TapAddress(address) => network.tap_address = address.to,
    }
}

/// Works out who is attached to each switch.
fn attach(project: &mut Project) {
    let mut members: BTreeMap<&Name, Vec<SwitchMember>> = BTreeMap::new();
    for vm in &project.vms {
        for network in &vm.networks {
            if let Attachment::Switch(switch) = &network.attachment {
                let member = SwitchMember { vm: vm.name.clone(), interface: network.name.clone() };
                members.entry(switch).or_default().push(member);
            }
        }
    }
    for switch in &mut project.switches {
        switch.members = members.remove(&switch.name).unwrap_or_default();
    }
}
