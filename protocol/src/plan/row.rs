//! Planned changes as rows for people and for scripts: one for each thing that came, went or changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use super::difference::{Change, InterfaceChange, Replaced, SwitchChange, VmChange};
use super::impact::{Act, Effect};
use super::sequence::{Permission, PlannedChange};
use super::setup::{items_of_hooks, items_of_setup};
use crate::id::Name;
use crate::model::{
    AddressPlan, Attachment, DiskSize, GuestFile, Impairment, SwitchKind, TemplateRef, Uplink, User,
};

/// What became of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sign {
    /// It came.
    Added,
    /// It went.
    Removed,
    /// It is another one.
    Changed,
    /// It is elsewhere.
    Moved,
}

impl Sign {
    /// Returns the character for it.
    pub fn character(self) -> char {
        match self {
            Self::Added => '+',
            Self::Removed => '-',
            Self::Changed => '~',
            Self::Moved => '>',
        }
    }
}

/// What a row is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The project itself.
    Project,
    /// A switch.
    Switch(Name),
    /// A host.
    Host(Name),
}

impl Subject {
    /// Returns the keyword of what it is.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::Switch(_) => "switch",
            Self::Host(_) => "host",
        }
    }

    /// Returns its name; the project has none here.
    pub fn name(&self) -> Option<&Name> {
        match self {
            Self::Project => None,
            Self::Switch(name) | Self::Host(name) => Some(name),
        }
    }
}

/// One thing that came, went or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What became of it.
    pub sign: Sign,
    /// What it belongs to.
    pub subject: Subject,
    /// What of it, as the language calls it: `memory`, `network eth0 address`. None for all of it.
    pub key: Option<String>,
    /// What it was, where that can be said in a line.
    pub from: Option<String>,
    /// What it is to be.
    pub to: Option<String>,
    /// What is done about it.
    pub act: Act,
    /// Why it is that.
    pub why: &'static str,
    /// Whether it is made.
    pub permission: Permission,
}

impl Row {
    /// A VM that was left out and comes back as it was.
    pub fn returning(vm: Name) -> Self {
        Self {
            sign: Sign::Added,
            subject: Subject::Host(vm),
            key: None,
            from: None,
            to: None,
            act: Act::Return,
            why: "it comes back with its disk",
            permission: Permission::Granted,
        }
    }
}

/// How many things came, went, changed, and moved: a host that moves and changes counts as moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// What came.
    pub added: usize,
    /// What went.
    pub removed: usize,
    /// What stays and changes.
    pub changed: usize,
    /// What stays and moves.
    pub moved: usize,
    /// Of these, what is refused.
    pub refused: usize,
}

/// Counts the projects, switches and hosts that rows are about.
pub fn counts(rows: &[Row]) -> Counts {
    let mut signs: BTreeMap<&Subject, Sign> = BTreeMap::new();
    let mut refused = BTreeSet::new();
    for row in rows {
        let sign = if row.key.is_none() || row.sign == Sign::Moved { row.sign } else { Sign::Changed };
        let before = signs.entry(&row.subject).or_insert(sign);
        *before = if sign == Sign::Moved { sign } else { *before };
        if row.permission != Permission::Granted {
            refused.insert(&row.subject);
        }
    }
    let count = |wanted: Sign| signs.values().filter(|&&sign| sign == wanted).count();
    Counts {
        added: count(Sign::Added),
        removed: count(Sign::Removed),
        changed: count(Sign::Changed),
        moved: count(Sign::Moved),
        refused: refused.len(),
    }
}

/// Returns planned changes as rows, in their order.
pub fn rows(planned: &[PlannedChange]) -> Vec<Row> {
    planned.iter().flat_map(rows_of).collect()
}

/// What becomes of an account that a host no longer names.
const ACCOUNT_STAYS: &str = "the account stays in the guest, and works: lock it there, as by `mlnctl exec PROJECT/HOST -- passwd -l USER`";

/// A row before it is known whose it is.
pub(super) type Item = (Sign, Option<String>, Option<String>, Option<String>);

fn rows_of(planned: &PlannedChange) -> Vec<Row> {
    let all = |sign| vec![(sign, None, None, None)];
    let reordered =
        |order: &[Name]| vec![(Sign::Changed, Some("order".to_owned()), None, Some(listed(order)))];
    let (subject, items) = match &planned.change {
        Change::Renamed(name) => (Subject::Project, vec![replaced("name", name, Name::to_string)]),
        Change::Hooks(hooks) => (Subject::Project, items_of_hooks(hooks)),
        Change::SwitchAdded { switch, .. } => (Subject::Switch(switch.clone()), all(Sign::Added)),
        Change::SwitchChanged { switch, change } => {
            (Subject::Switch(switch.clone()), vec![item_of_switch(change)])
        }
        Change::SwitchRemoved { switch } => (Subject::Switch(switch.clone()), all(Sign::Removed)),
        Change::SwitchesReordered { order } | Change::VmsReordered { order } => {
            (Subject::Project, reordered(order))
        }
        Change::VmAdded { vm, .. } => (Subject::Host(vm.name.clone()), all(Sign::Added)),
        Change::VmRemoved { vm } => (Subject::Host(vm.clone()), all(Sign::Removed)),
        Change::VmChanged { vm, change } => (Subject::Host(vm.clone()), items_of_vm(change)),
    };
    let moves = planned.act == Act::Change(Effect::Move);
    let is_of_users = matches!(&planned.change, Change::VmChanged { change: VmChange::Users(_), .. });
    items
        .into_iter()
        .map(|(sign, key, from, to)| {
            let stays = is_of_users && sign == Sign::Removed && planned.act == Act::Change(Effect::Live);
            let (act, why) = if stays { (Act::Keep, ACCOUNT_STAYS) } else { (planned.act, planned.why) };
            Row {
                sign: if moves { Sign::Moved } else { sign },
                subject: subject.clone(),
                key,
                from,
                to,
                act,
                why,
                permission: planned.permission,
            }
        })
        .collect()
}

fn items_of_vm(change: &VmChange) -> Vec<Item> {
    let one = |item: Item| vec![item];
    match change {
        VmChange::Platform(platform) => one(replaced("platform", platform, |one| one.keyword().to_owned())),
        VmChange::ServiceHost(host) => one(optional("service_host", host)),
        VmChange::Template(template) => {
            let text = |one: &Option<TemplateRef>| one.as_ref().map(template_text);
            one(given("template", text(&template.from), text(&template.to)))
        }
        VmChange::Memory(memory) => one(replaced("memory", memory, |one| one.to_string())),
        VmChange::Vcpus(vcpus) => one(replaced("vcpus", vcpus, u16::to_string)),
        VmChange::Disk(disk) => one(given("disk", disk_text(disk.from), disk_text(disk.to))),
        VmChange::BootOrder(order) => one(replaced("boot_order", order, |one| one.0.to_string())),
        VmChange::InterfaceAdded { network, .. } => {
            one((Sign::Added, Some(format!("network {}", network.name)), None, None))
        }
        VmChange::InterfaceRemoved { interface } => {
            one((Sign::Removed, Some(format!("network {interface}")), None, None))
        }
        VmChange::InterfacesReordered { order } => {
            one((Sign::Changed, Some("order of networks".to_owned()), None, Some(listed(order))))
        }
        VmChange::Interface { interface, change } => items_of_interface(interface, change),
        VmChange::Users(users) => items_of_users(users),
        VmChange::Files(files) => items_of_list("files", files, file_text),
        VmChange::Startup(startup) => items_of_list("startup", startup, String::clone),
        VmChange::Nameservers(servers) => {
            vec![given("nameserver", joined(&servers.from), joined(&servers.to))]
        }
        VmChange::Modules(modules) => items_of_list("modules", modules, String::clone),
        VmChange::Setup(change) => items_of_setup(change),
    }
}

/// What is done to frames, by its keywords.
fn items_of_impairment(interface: &Name, change: &Replaced<Impairment>) -> Vec<Item> {
    let text = |one: &Impairment| {
        [
            ("delay", one.delay.map(|delay| delay.to_string())),
            ("loss", one.loss.map(|loss| loss.to_string())),
            ("rate", one.rate.map(|rate| rate.to_string())),
        ]
    };
    let both = text(&change.from).into_iter().zip(text(&change.to));
    both.filter(|((_, from), (_, to))| from != to)
        .map(|((word, from), (_, to))| given(&format!("network {interface} {word}"), from, to))
        .collect()
}

fn item_of_switch(change: &SwitchChange) -> Item {
    match change {
        SwitchChange::Kind(kind) => replaced("type", kind, |kind: &SwitchKind| kind.word().to_owned()),
        SwitchChange::Uplink(uplink) => {
            let text = |uplink: &Option<Uplink>| uplink.as_ref().map(uplink_text);
            given("uplink", text(&uplink.from), text(&uplink.to))
        }
        SwitchChange::Vlan(vlan) => optional("vlan", vlan),
        SwitchChange::ServiceHost(host) => optional("service_host", host),
    }
}

fn uplink_text(uplink: &Uplink) -> String {
    let bridge = uplink.bridge.as_ref().map(|bridge| format!("bridge {bridge}"));
    let tap = match &uplink.tap {
        Some(tap) => Some(format!("tap {tap}")),
        None if bridge.is_none() => Some("tap".to_owned()),
        None => None,
    };
    bridge.into_iter().chain(tap).collect::<Vec<_>>().join(", ")
}

fn items_of_interface(interface: &Name, change: &InterfaceChange) -> Vec<Item> {
    let key = |word: &str| format!("network {interface} {word}");
    let item = match change {
        InterfaceChange::Address(address) => {
            given(&key("address"), address_text(address.from), address_text(address.to))
        }
        InterfaceChange::Gateway(gateway) => optional(&key("gateway"), gateway),
        InterfaceChange::Broadcast(broadcast) => optional(&key("broadcast"), broadcast),
        InterfaceChange::Attachment(attachment) => {
            let text = |one: &Attachment| match one {
                Attachment::UserNat => "slirp".to_owned(),
                Attachment::Switch(name) => format!("switch {name}"),
                Attachment::Bridge(name) => format!("bridge {name}"),
                Attachment::Tap(name) => format!("tun_iface {name}"),
            };
            replaced(&format!("network {interface}"), attachment, text)
        }
        InterfaceChange::Mac(mac) => optional(&key("mac"), mac),
        InterfaceChange::Forwards(forwards) => {
            given(&key("forward"), joined(&forwards.from), joined(&forwards.to))
        }
        InterfaceChange::Impairment { impairment, .. } => return items_of_impairment(interface, impairment),
        InterfaceChange::TapAddress(address) => optional(&key("tun_address"), address),
    };
    vec![item]
}

/// Several values in a line; none where there is none.
fn joined<T: Display>(values: &[T]) -> Option<String> {
    let words: Vec<String> = values.iter().map(T::to_string).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// Accounts by name. Passwords are not shown.
fn items_of_users(users: &Replaced<Vec<User>>) -> Vec<Item> {
    let find = |all: &[User], name: &Name| all.iter().find(|user| user.name == *name).cloned();
    let key = |user: &User| Some(format!("user {}", user.name));
    let gone = users.from.iter().filter(|user| find(&users.to, &user.name).is_none());
    let mut items: Vec<Item> = gone.map(|user| (Sign::Removed, key(user), None, None)).collect();
    for user in &users.to {
        match find(&users.from, &user.name) {
            None => items.push((Sign::Added, key(user), None, None)),
            Some(before) if before != *user => items.push((Sign::Changed, key(user), None, None)),
            Some(_) => {}
        }
    }
    if items.is_empty() {
        items.push((Sign::Changed, Some("order of users".to_owned()), None, None));
    }
    items
}

/// Lines that came and went.
pub(super) fn items_of_list<T: PartialEq>(
    key: &str,
    list: &Replaced<Vec<T>>,
    text: impl Fn(&T) -> String,
) -> Vec<Item> {
    let mut added: Vec<&T> = list.to.iter().collect();
    let mut items = Vec::new();
    for line in &list.from {
        match added.iter().position(|there| **there == *line) {
            Some(at) => _ = added.remove(at),
            None => items.push((Sign::Removed, Some(key.to_owned()), Some(text(line)), None)),
        }
    }
    items.extend(added.into_iter().map(|line| (Sign::Added, Some(key.to_owned()), None, Some(text(line)))));
    if items.is_empty() {
        items.push((Sign::Changed, Some(format!("order of {key}")), None, None));
    }
    items
}

fn replaced<T>(key: &str, change: &Replaced<T>, text: impl Fn(&T) -> String) -> Item {
    (Sign::Changed, Some(key.to_owned()), Some(text(&change.from)), Some(text(&change.to)))
}

fn optional<T: Display>(key: &str, change: &Replaced<Option<T>>) -> Item {
    let text = |one: &Option<T>| one.as_ref().map(T::to_string);
    given(key, text(&change.from), text(&change.to))
}

/// A key that is given or not: what was not given came, and what is no longer given went.
pub(super) fn given(key: &str, from: Option<String>, to: Option<String>) -> Item {
    let sign = match (&from, &to) {
        (None, Some(_)) => Sign::Added,
        (Some(_), None) => Sign::Removed,
        (Some(_), Some(_)) | (None, None) => Sign::Changed,
    };
    (sign, Some(key.to_owned()), from, to)
}

fn address_text(address: AddressPlan) -> Option<String> {
    match address {
        AddressPlan::LinkLocal => None,
        AddressPlan::Dhcp => Some("dhcp".to_owned()),
        AddressPlan::Static(address) => Some(address.to_string()),
    }
}

fn disk_text(disk: DiskSize) -> Option<String> {
    match disk {
        DiskSize::Template => None,
        DiskSize::Whole(bytes) => Some(bytes.to_string()),
        DiskSize::Free(bytes) => Some(format!("{bytes} of free space")),
    }
}

fn template_text(template: &TemplateRef) -> String {
    match template {
        TemplateRef::Newest(name) => name.to_string(),
        TemplateRef::Version(name, version) => format!("{name}@{version}"),
        TemplateRef::Exact(name, digest) => format!("{name}@{}", digest.short()),
    }
}

fn file_text(file: &GuestFile) -> String {
    let mode = file.mode.map_or(String::new(), |mode| format!(" {mode:04o}"));
    format!("{} {}{mode}", file.from, file.to)
}

fn listed(names: &[Name]) -> String {
    names.iter().map(Name::as_str).collect::<Vec<_>>().join(" ")
}
