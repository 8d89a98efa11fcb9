//! Hosts and groups that policies name and the mesh doesn't have: nobody would notice until a machine wants to go there.

use std::collections::{BTreeMap, BTreeSet};

use mln_link::Reply;
use mln_protocol::id::Name;
use mln_protocol::lang::did_you_mean;
use mln_protocol::model::{HostAddress, May, Project};
use mln_protocol::node::HostView;

use crate::control::ReplySender;
use crate::event_loop::EventLoop;

/// How many VMs of a policy are named; the others are counted.
const VMS_NAMED_MAX: usize = 3;

impl EventLoop {
    /// Warns of hosts in policies that are none. One that is only off is known still.
    pub(super) fn warn_of_strange_hosts(&self, project: &Project, reply: &ReplySender) {
        for text in strange_hosts(project, &self.node.hosts()) {
            // Nobody listens any more if it can't be said; the change goes on.
            let _ = reply.post(Reply::Warning { text });
        }
    }
}

fn strange_hosts(project: &Project, hosts: &[HostView]) -> Vec<String> {
    let names: BTreeSet<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
    let groups = hosts.iter().filter_map(|host| host.status.as_ref()).flat_map(|status| &status.groups);
    let groups: BTreeSet<String> = groups.map(|group| format!("@{group}")).collect();
    let mut strange: BTreeMap<(&Name, &HostAddress), Vec<&Name>> = BTreeMap::new();
    for vm in &project.vms {
        for policy in &vm.setup.policies {
            let targets = policy.may.iter().flat_map(|may| match may {
                May::Move(hosts) => hosts.as_slice(),
                May::Scale { .. } | May::Cloud { .. } | May::Volume { .. } => &[],
            });
            for target in targets.filter(|host| !names.contains(&*host.0) && !groups.contains(&host.0)) {
                strange.entry((&policy.name, target)).or_default().push(&vm.name);
            }
        }
    }
    let text = |((policy, target), vms): ((&Name, &HostAddress), Vec<&Name>)| {
        let named: Vec<&str> = vms.iter().take(VMS_NAMED_MAX).map(|vm| vm.as_str()).collect();
        let more = vms.len().saturating_sub(named.len());
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let what = match target.group() {
            Some(_) => format!("no host of the mesh that was heard counts itself to {target}"),
            None => format!("the mesh has no host {target}"),
        };
        let near = match target.group() {
            Some(_) => did_you_mean(&target.0, groups.iter().map(String::as_str)),
            None => did_you_mean(&target.0, names.iter().copied()),
        };
        format!("{}{more}: policy {policy}, `may move`: {what}{near}", named.join(", "))
    };
    strange.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mln_protocol::id::PublicKey;
    use mln_protocol::lang::{self, NoIncludes};
    use mln_protocol::model::MemoryMib;
    use mln_protocol::node::Reach;
    use mln_protocol::record::HostStatus;
    use mln_protocol::resolve::{self, Options};

    fn host(text: &str, reach: Reach, group: Option<&str>) -> HostView {
        let name = |text: &str| Name::parse(text).expect("a name");
        let status = group.map(|group| HostStatus {
            counter: 1,
            groups: vec![name(group)],
            platforms: Vec::new(),
            projects: 0,
            vms: 0,
            memory_used: MemoryMib(0),
            memory_limit: MemoryMib(0),
            agent_version: String::new(),
            measured_unix_ms: 0,
        });
        HostView { name: name(text), key: PublicKey([1; 32]), grants: 1, status, reach }
    }

    #[track_caller]
    fn check(targets: &str, expect: &[&str]) {
        let text = format!(
            "global {{ project p }}\nsuperclass base {{ policy go {{ run /go\n may move {targets} }} }}\n\
             host a {{ superclass base }}\nhost b {{ superclass base }}\n"
        );
        let (tree, _) = lang::parse("p.mln", text, &NoIncludes);
        let project = resolve::resolve(&tree, &Options::default()).project;
        let hosts = [host("oslo", Reach::Here, Some("lab")), host("bergen", Reach::Away, None)];
        assert_eq!(strange_hosts(&project, &hosts), expect);
    }

    #[test]
    fn a_mistyped_host_is_told_with_the_nearest_and_one_that_is_off_is_no_mistake() {
        check("oslo bergen @lab", &[]);
        check(
            "oslo begren",
            &["a, b: policy go, `may move`: the mesh has no host begren; did you mean bergen?"],
        );
        check(
            "tromso @lba",
            &[
                "a, b: policy go, `may move`: no host of the mesh that was heard counts itself to @lba; did you mean @lab?",
                "a, b: policy go, `may move`: the mesh has no host tromso",
            ],
        );
    }
}
