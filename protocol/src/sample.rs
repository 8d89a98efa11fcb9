//! Values that the tests of several modules begin with.

use std::collections::BTreeMap;

use crate::id::{Digest, Label, Name};
use crate::model::{BootOrder, DiskSize, HostAddress, MemoryMib, Platform, Vm};
use crate::node::NodeConfig;
use crate::policy::{HostSeen, Sight, Tenure};
use crate::record::{Commit, Consent, HostStatus, Revision, RevisionHost, RevisionVm};
use crate::trust::{Domain, Grant, KeyPair, Scope, Verb, mesh_of};
use crate::wire;

/// A name that is known to be one.
pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).expect("a valid name")
}

/// The keys of this number.
pub(crate) fn keys(number: u8) -> KeyPair {
    KeyPair::from_secret([number; 32])
}

/// The root key of the mesh in which [`member`] is one.
pub(crate) fn root() -> KeyPair {
    keys(99)
}

/// A host that may do anything and lends so many MiB to VMs of one platform.
pub(crate) fn member(keys: KeyPair, named: &str, memory_mib: u32) -> NodeConfig {
    let grant = Grant {
        mesh: mesh_of(root().public()),
        subject: keys.public(),
        name: Some(name(named)),
        verbs: Verb::ALL.into_iter().collect(),
        passes: 1,
        not_after_unix_ms: None,
        scope: Scope::default(),
    };
    let chain = vec![root().sign(Domain::Grant, grant.to_bytes())];
    NodeConfig {
        platforms: vec![Platform::Uml],
        memory_limit: MemoryMib(memory_mib),
        ..NodeConfig::new(keys, name(named), chain)
    }
}

/// A VM on a host, of 64 MiB and without networks.
pub(crate) fn vm(named: &str, host: &str) -> Vm {
    Vm {
        name: name(named),
        platform: Platform::Uml,
        service_host: Some(HostAddress(host.to_owned())),
        template: None,
        memory: MemoryMib(64),
        vcpus: 1,
        disk: DiskSize::Template,
        boot_order: BootOrder(99),
        networks: Vec::new(),
        users: Vec::new(),
        files: Vec::new(),
        startup: Vec::new(),
        nameservers: Vec::new(),
        modules: Vec::new(),
        setup: Default::default(),
        scheduling: Default::default(),
    }
}

/// The first revision of `root/ring`, in which this VM is born on the host with the keys 1; without anybody's word.
pub(crate) fn first_revision(vm: &str) -> Commit {
    let revision = Revision {
        project: None,
        parent: None,
        label: Label { owner: name("root"), project: name("ring") },
        hosts: vec![RevisionHost {
            name: name("oslo"),
            key: keys(1).public(),
            fragment: Digest([9; 32]),
            vms: vec![RevisionVm { name: name(vm), birth: None }],
        }],
        definition: Digest([8; 32]),
        consent: Consent::Majority,
        made_unix_ms: 1,
        author: "oslo".into(),
        reason: "build".into(),
        charge: None,
        keep_removed_ms: 0,
        decision: None,
    };
    let digest = Digest::of(&wire::encode_revision(&revision));
    Commit { revision, digest, reservations: Vec::new(), promises: Vec::new() }
}

/// What a host says of itself that has nothing.
pub(crate) fn host_status(counter: u64) -> HostStatus {
    HostStatus {
        counter,
        groups: Vec::new(),
        platforms: Vec::new(),
        projects: 0,
        vms: 0,
        memory_used: MemoryMib(0),
        memory_limit: MemoryMib(1),
        agent_version: String::new(),
        measured_unix_ms: 0,
    }
}

/// What the VM `web` sees on a host, of these hosts: their names, which are their sites' too, whose they are, and how
/// far they are. There are no gauges.
pub(crate) fn sight(host: &str, hosts: &[(&str, Tenure, Option<u32>)]) -> Sight {
    let seen = |(named, tenure, round_trip_ms): &(&str, Tenure, Option<u32>)| HostSeen {
        name: name(named),
        site: name(named),
        tenure: *tenure,
        round_trip_ms: *round_trip_ms,
    };
    Sight {
        now_ms: 0,
        vm: name("web"),
        host: name(host),
        classes: BTreeMap::new(),
        volumes: 0,
        hosts: hosts.iter().map(seen).collect(),
        cloud_spent_ms: 0,
        gauges: BTreeMap::new(),
        machines: Default::default(),
        decided: Vec::new(),
    }
}
