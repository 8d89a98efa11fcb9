//! The switches that VMs of this host are on, and the other hosts that carry them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Node, Vms};
use crate::id::{Name, ProjectId, PublicKey, VmId};
use crate::model::{Attachment, Fragment};
use crate::node::io::{ImpairedPort, Output, SwitchWanted, UplinkWanted};
use crate::plan::Observed;
use crate::record::{Commit, Epoch, RevisionHost, RunState};

impl Node {
    /// Asks for other switches where other ones are needed now.
    pub(super) fn switches_changed(&mut self) {
        let mut wanted: BTreeMap<(ProjectId, Name), (BTreeSet<PublicKey>, SwitchWanted)> = BTreeMap::new();
        let mut strayed: BTreeMap<ProjectId, BTreeMap<VmId, PublicKey>> = BTreeMap::new();
        for (id, vm) in &self.vms.owned {
            let live = vm.status.run == RunState::Up || matches!(vm.observed, Observed::Running(_));
            let Some(definition) = Vms::definition(id, vm).filter(|_| live) else { continue };
            let project = vm.status.project;
            let strayed = strayed.entry(project).or_insert_with(|| self.strayed(project));
            for network in &definition.networks {
                if let Attachment::Switch(name) = &network.attachment {
                    let key = (vm.status.project, name.clone());
                    let (peers, switch) = wanted.entry(key).or_insert_with(|| {
                        (BTreeSet::new(), switch_of(vm.status.project, &vm.fragment, name))
                    });
                    peers.extend(self.switch_peers(id, &vm.fragment, name, strayed));
                    if !network.impairment.is_none() {
                        let (interface, impairment) = (network.name.clone(), network.impairment);
                        switch.impaired.push(ImpairedPort { vm: id.clone(), interface, impairment });
                    }
                }
            }
        }
        let switches: Vec<SwitchWanted> = wanted
            .into_values()
            .map(|(peers, switch)| SwitchWanted { peers: peers.into_iter().collect(), ..switch })
            .collect();
        if switches != self.vms.switches {
            self.vms.switches.clone_from(&switches);
            self.outbox.push(Output::Switches(switches));
        }
    }

    /// Returns the VMs of a project whose owner is another host than the one where the head places them, with that owner:
    /// those on their way, and those that were taken over.
    fn strayed(&self, project: ProjectId) -> BTreeMap<VmId, PublicKey> {
        let placed = self.projects.head(project).into_iter().flat_map(Commit::placed);
        let elsewhere = |(vm, host): (VmId, &RevisionHost)| {
            let owner = self.owner(&vm).filter(|owner| *owner != host.key)?;
            Some((vm, owner))
        };
        placed.filter_map(elsewhere).collect()
    }

    /// Draws the consequence for switches of another owner of a VM. Its first one is the host where it is placed.
    pub(in crate::node) fn owner_changed(&mut self, project: ProjectId, vm: &VmId) {
        let has_moved = self.ledger.owner(vm).is_some_and(|current| current.epoch != Epoch::FIRST);
        if has_moved && self.vms.owned.values().any(|vm| vm.status.project == project) {
            self.switches_changed();
        }
    }

    /// Returns the other hosts that carry a switch: those where its VMs are placed, and those that own them.
    fn switch_peers(
        &self,
        vm: &VmId,
        fragment: &Fragment,
        name: &Name,
        strayed: &BTreeMap<VmId, PublicKey>,
    ) -> BTreeSet<PublicKey> {
        let switch = fragment.switches.iter().find(|switch| switch.name == *name);
        let members: BTreeSet<&Name> =
            switch.into_iter().flat_map(|s| s.members.iter().map(|m| &m.vm)).collect();
        let placed = fragment
            .placement
            .iter()
            .filter(|placement| members.contains(&placement.vm))
            .filter_map(|placement| self.host_of(vm, &placement.host));
        let owners = strayed.iter().filter(|(vm, _)| members.contains(&vm.name)).map(|(_, owner)| *owner);
        let mut peers: BTreeSet<PublicKey> = placed.chain(owners).collect();
        if strayed.contains_key(vm) {
            // This host may have taken it over with the part that it had then: others may be elsewhere since.
            let head = self.projects.project_of(vm).and_then(|project| self.projects.head(project));
            let placed = head.into_iter().flat_map(Commit::placed);
            peers.extend(placed.filter(|(vm, _)| members.contains(&vm.name)).map(|(_, host)| host.key));
        }
        peers.remove(&self.me);
        peers
    }

    /// Returns the host with this name in the project of a VM.
    fn host_of(&self, vm: &VmId, name: &Name) -> Option<PublicKey> {
        let head = self.projects.project_of(vm).and_then(|project| self.projects.head(project));
        let by_name = |commit: &Commit| commit.revision.hosts.iter().find(|h| h.name == *name).map(|h| h.key);
        head.and_then(by_name).or_else(|| self.projects.owner(vm.birth, name))
    }

    /// Whether a peer is known to carry a switch that this host carries too.
    pub fn shares_switch(&self, peer: PublicKey, project: ProjectId, name: &Name) -> bool {
        let strayed = self.strayed(project);
        self.vms.owned.iter().any(|(id, vm)| {
            vm.status.project == project
                && self.switch_peers(id, &vm.fragment, name, &strayed).contains(&peer)
        })
    }
}

/// Returns a switch as a fragment has it, without peers.
fn switch_of(project: ProjectId, fragment: &Fragment, name: &Name) -> SwitchWanted {
    let settings =
        fragment.switches.iter().find(|switch| switch.name == *name).map(|switch| &switch.settings);
    let uplink = settings
        .filter(|_| fragment.uplinks.contains(name))
        .and_then(|settings| Some(UplinkWanted { uplink: settings.uplink.clone()?, vlan: settings.vlan }));
    SwitchWanted {
        project,
        name: name.clone(),
        peers: Vec::new(),
        kind: settings.map(|settings| settings.kind).unwrap_or_default(),
        uplink,
        impaired: Vec::new(),
    }
}
