//! A resolved project in the shape of `show --json`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde::Serialize;

use super::policy::PolicyJson;
use crate::id::Name;
use crate::lang::{Diagnostic, Sources};
use crate::model::{
    AddressPlan, Attachment, Delay, DiskSize, Forward, Group, HookPoint, Mandate, Mount, MountSource,
    Network, Project, Rate, Switch, SwitchSettings, TemplateRef, Vm,
};
use crate::resolve::PluginFile;

#[derive(Serialize)]
struct ShowJson<'a> {
    project: LabelJson<'a>,
    hosts: Vec<HostJson<'a>>,
    switches: Vec<SwitchJson<'a>>,
    hooks: Vec<HookJson<'a>>,
    made_files: Vec<MadeFileJson<'a>>,
    diagnostics: Vec<DiagnosticJson<'a>>,
}

#[derive(Serialize)]
struct LabelJson<'a> {
    owner: Option<&'a str>,
    name: &'a str,
}

#[derive(Serialize)]
struct HostJson<'a> {
    name: &'a str,
    platform: &'static str,
    service_host: Option<&'a str>,
    template: Option<String>,
    memory_mib: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_max_mib: Option<u32>,
    vcpus: u16,
    disk_bytes: Option<u64>,
    free_space_bytes: Option<u64>,
    boot_order: u8,
    networks: Vec<NetworkJson<'a>>,
    users: Vec<UserJson<'a>>,
    files: Vec<FileJson<'a>>,
    startup: &'a [String],
    nameservers: Vec<String>,
    modules: &'a [String],
    shutdown: &'a [String],
    groups: Vec<GroupJson<'a>>,
    swap_bytes: Option<u64>,
    mounts: Vec<MountJson<'a>>,
    nice: Option<i8>,
    cpus: &'a [u16],
    /// Not there where it has none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    policies: Vec<PolicyJson<'a>>,
    /// Always null as long as clouds are not carried out; there, so that the shape doesn't change.
    ec2: Option<()>,
}

#[derive(Serialize)]
struct NetworkJson<'a> {
    name: &'a str,
    address: Option<String>,
    netmask: Option<String>,
    gateway: Option<String>,
    switch: Option<&'a str>,
    bridge: Option<&'a str>,
    tap: Option<&'a str>,
    mac: Option<String>,
    forwards: Vec<ForwardJson>,
    delay_us: Option<u32>,
    loss_percent: Option<f64>,
    rate_bits_per_s: Option<u64>,
    tap_address: Option<String>,
}

#[derive(Serialize)]
struct ForwardJson {
    host_port: u16,
    guest_port: u16,
    protocol: &'static str,
}

#[derive(Serialize)]
struct UserJson<'a> {
    name: &'a str,
    password: Option<&'a str>,
    home: Option<&'a str>,
    uid: Option<u32>,
}

#[derive(Serialize)]
struct FileJson<'a> {
    from: &'a str,
    to: &'a str,
    mode: Option<String>,
}

/// A file that a plugin has made.
#[derive(Serialize)]
struct MadeFileJson<'a> {
    from: &'a str,
    bytes: usize,
    /// Null for one that is no text.
    text: Option<&'a str>,
}

#[derive(Serialize)]
struct GroupJson<'a> {
    name: &'a str,
    members: Vec<&'a str>,
}

#[derive(Serialize)]
struct MountJson<'a> {
    disk_bytes: Option<u64>,
    image: Option<&'a str>,
    folder: Option<&'a str>,
    at: &'a str,
    file_system: &'a str,
    options: Option<&'a str>,
}

#[derive(Serialize)]
struct HookJson<'a> {
    when: &'static str,
    lines: &'a [String],
}

#[derive(Serialize)]
struct SwitchJson<'a> {
    name: &'a str,
    members: Vec<String>,
    r#type: &'static str,
    bridge: Option<&'a str>,
    tap: Option<TapJson<'a>>,
    vlan: Option<u16>,
    service_host: Option<&'a str>,
}

/// A tap's name, or `true` for one that has a made-up one.
#[derive(Serialize)]
#[serde(untagged)]
enum TapJson<'a> {
    Named(&'a str),
    Own(bool),
}

#[derive(Serialize)]
struct DiagnosticJson<'a> {
    code: &'static str,
    severity: &'static str,
    line: usize,
    message: &'a str,
}

impl<'a> From<&'a Vm> for HostJson<'a> {
    fn from(vm: &'a Vm) -> Self {
        let (disk_bytes, free_space_bytes) = match vm.disk {
            DiskSize::Template => (None, None),
            DiskSize::Whole(bytes) => (Some(bytes.0), None),
            DiskSize::Free(bytes) => (None, Some(bytes.0)),
        };
        Self {
            name: vm.name.as_str(),
            platform: vm.platform.keyword(),
            service_host: vm.service_host.as_ref().map(|host| host.0.as_str()),
            template: vm.template.as_ref().map(template_text),
            memory_mib: vm.memory.0,
            memory_max_mib: vm.setup.memory_max.map(|most| most.0),
            vcpus: vm.vcpus,
            disk_bytes,
            free_space_bytes,
            boot_order: vm.boot_order.0,
            networks: vm.networks.iter().map(NetworkJson::from).collect(),
            users: vm
                .users
                .iter()
                .map(|user| UserJson {
                    name: user.name.as_str(),
                    password: user.password.as_deref(),
                    home: user.home.as_deref(),
                    uid: user.uid,
                })
                .collect(),
            files: vm
                .files
                .iter()
                .map(|file| FileJson {
                    from: &file.from,
                    to: &file.to,
                    mode: file.mode.map(|mode| format!("{mode:04o}")),
                })
                .collect(),
            startup: &vm.startup,
            nameservers: vm.nameservers.iter().map(IpAddr::to_string).collect(),
            modules: &vm.modules,
            shutdown: &vm.setup.shutdown,
            groups: vm.setup.groups.iter().map(GroupJson::from).collect(),
            swap_bytes: vm.setup.swap.map(|bytes| bytes.0),
            mounts: vm.setup.mounts.iter().map(MountJson::from).collect(),
            nice: vm.scheduling.nice,
            cpus: &vm.scheduling.cpus,
            policies: Vec::new(),
            ec2: None,
        }
    }
}

impl<'a> From<&'a Network> for NetworkJson<'a> {
    fn from(network: &'a Network) -> Self {
        let (address, netmask) = match network.address {
            AddressPlan::LinkLocal => (None, None),
            AddressPlan::Dhcp => (Some("dhcp".to_owned()), None),
            AddressPlan::Static(plan) => {
                (Some(plan.address.to_string()), Some(mask_text(plan.address, plan.prefix_bits)))
            }
        };
        let (switch, bridge, tap) = match &network.attachment {
            Attachment::UserNat => (None, None, None),
            Attachment::Switch(name) => (Some(name.as_str()), None, None),
            Attachment::Bridge(name) => (None, Some(name.as_str()), None),
            Attachment::Tap(name) => (None, None, Some(name.as_str())),
        };
        Self {
            name: network.name.as_str(),
            address,
            netmask,
            gateway: network.gateway.map(|address| address.to_string()),
            switch,
            bridge,
            tap,
            mac: network.mac.map(|mac| mac.to_string()),
            forwards: network.forwards.iter().map(ForwardJson::from).collect(),
            delay_us: network.impairment.delay.map(Delay::us),
            loss_percent: network.impairment.loss.map(|loss| f64::from(loss.millionths()) / 10_000.0),
            rate_bits_per_s: network.impairment.rate.map(Rate::bits_per_s),
            tap_address: network.tap_address.map(|address| address.to_string()),
        }
    }
}

impl<'a> From<&'a Group> for GroupJson<'a> {
    fn from(group: &'a Group) -> Self {
        Self { name: group.name.as_str(), members: group.members.iter().map(Name::as_str).collect() }
    }
}

impl<'a> From<&'a Mount> for MountJson<'a> {
    fn from(mount: &'a Mount) -> Self {
        let (disk_bytes, image, folder) = match &mount.source {
            MountSource::Disk(bytes) => (Some(bytes.0), None, None),
            MountSource::Image(path) => (None, Some(path.as_str()), None),
            MountSource::Folder(path) => (None, None, Some(path.as_str())),
        };
        let (at, file_system) = (mount.at.as_str(), mount.file_system.as_str());
        Self { disk_bytes, image, folder, at, file_system, options: mount.options.as_deref() }
    }
}

impl From<&Forward> for ForwardJson {
    fn from(forward: &Forward) -> Self {
        Self {
            host_port: forward.host_port,
            guest_port: forward.guest_port,
            protocol: forward.transport.word(),
        }
    }
}

impl<'a> From<&'a Switch> for SwitchJson<'a> {
    fn from(switch: &'a Switch) -> Self {
        let members =
            switch.members.iter().map(|member| format!("{}:{}", member.vm, member.interface)).collect();
        let SwitchSettings { kind, uplink, vlan, service_host } = &switch.settings;
        Self {
            name: switch.name.as_str(),
            members,
            r#type: kind.word(),
            bridge: uplink.as_ref().and_then(|uplink| uplink.bridge.as_ref()).map(Name::as_str),
            tap: uplink.as_ref().and_then(|uplink| match (&uplink.tap, &uplink.bridge) {
                (Some(tap), _) => Some(TapJson::Named(tap.as_str())),
                (None, None) => Some(TapJson::Own(true)),
                (None, Some(_)) => None,
            }),
            vlan: *vlan,
            service_host: service_host.as_ref().map(|host| host.0.as_str()),
        }
    }
}

fn template_text(template: &TemplateRef) -> String {
    match template {
        TemplateRef::Newest(name) => name.to_string(),
        TemplateRef::Version(name, version) => format!("{name}@{version}"),
        TemplateRef::Exact(name, digest) => format!("{name}@{digest}"),
    }
}

/// Returns a mask as the language takes it: in dots for IPv4, as a number of bits for IPv6.
fn mask_text(address: IpAddr, prefix_bits: u8) -> String {
    match address {
        IpAddr::V4(_) => {
            let mask = u32::MAX.checked_shl(u32::from(32 - prefix_bits.min(32))).unwrap_or(0);
            Ipv4Addr::from_bits(mask).to_string()
        }
        IpAddr::V6(_) => prefix_bits.to_string(),
    }
}

/// Returns the project in the shape of `show --json`, as plugins get it: without diagnostics, since there is nothing
/// wrong yet.
pub(super) fn project_value(project: &Project) -> serde_json::Value {
    serde_json::to_value(shape(project, None)).expect("strings, numbers and lists of them always serialize")
}

fn shape<'a>(project: &'a Project, owner: Option<&'a Name>) -> ShowJson<'a> {
    ShowJson {
        project: LabelJson { owner: owner.map(Name::as_str), name: project.name.as_str() },
        hosts: project.vms.iter().map(HostJson::from).collect(),
        switches: project.switches.iter().map(SwitchJson::from).collect(),
        hooks: HookPoint::ALL
            .into_iter()
            .filter_map(|point| Some(HookJson { when: point.keyword(), lines: project.hooks.lines(point)? }))
            .collect(),
        made_files: Vec::new(),
        diagnostics: Vec::new(),
    }
}

/// Returns the project as `show --json` prints it, without what its VMs may decide.
pub fn project_json(
    project: &Project,
    owner: Option<&Name>,
    diagnostics: &[Diagnostic],
    sources: &Sources,
) -> String {
    let mandates = BTreeMap::new();
    Shown { project, mandates: &mandates, owner, diagnostics, sources, made_files: &[] }.to_json()
}

/// What is shown of a project.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// The project.
    pub project: &'a Project,
    /// What its VMs may decide.
    pub mandates: &'a BTreeMap<Name, Mandate>,
    /// Its owner; known once it is submitted.
    pub owner: Option<&'a Name>,
    /// What is wrong with it.
    pub diagnostics: &'a [Diagnostic],
    /// Where that is.
    pub sources: &'a Sources,
    /// The files that plugins have made for it.
    pub made_files: &'a [PluginFile],
}

impl Shown<'_> {
    /// Returns it as `show --json` prints it, on several lines.
    pub fn to_json(&self) -> String {
        let Self { project, mandates, owner, diagnostics, sources, made_files } = *self;
        let mut shape = ShowJson {
            made_files: made_files
                .iter()
                .map(|file| MadeFileJson {
                    from: &file.from,
                    bytes: file.bytes.len(),
                    text: std::str::from_utf8(&file.bytes).ok(),
                })
                .collect(),
            diagnostics: diagnostics
                .iter()
                .map(|diagnostic| DiagnosticJson {
                    code: diagnostic.code.as_str(),
                    severity: diagnostic.severity().word(),
                    line: sources.position(diagnostic.span).line,
                    message: &diagnostic.message,
                })
                .collect(),
            ..shape(project, owner)
        };
        for (host, vm) in shape.hosts.iter_mut().zip(&project.vms) {
            let policies = mandates.get(&vm.name).into_iter().flat_map(|mandate| &mandate.policies);
            host.policies = policies.map(PolicyJson::from).collect();
        }
        serde_json::to_string_pretty(&shape).expect("strings, numbers and lists of them always serialize")
    }
}
