//! Hosts and groups that policies name and the mesh doesn't have: nobody would notice until a machine wants to go there. And
//! those that a machine names wrongly itself.

use std::collections::{BTreeMap, BTreeSet};

use mln_link::Reply;
use mln_protocol::id::Name;
use mln_protocol::lang::{did_you_mean, nearest};
use mln_protocol::model::{HostAddress, May, Policy, Project};
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

/// A host or group that a machine names, and the one that it may have meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mistyped {
    /// What is wrong.
    pub(super) text: String,
    /// What was meant.
    pub(super) meant: String,
}

/// Returns what a machine may have meant that wants to go where nothing is. It is told the name of no host that its own policies
/// don't name.
pub(super) fn mistyped(to: &HostAddress, policies: &[Policy], hosts: &[HostView]) -> Option<Mistyped> {
    let may = policies.iter().flat_map(|policy| &policy.may).flat_map(|may| match may {
        May::Move(hosts) => hosts.as_slice(),
        May::Scale { .. } | May::Cloud { .. } | May::Volume { .. } => &[],
    });
    let may: Vec<&str> = may.map(|host| host.0.as_str()).collect();
    if may.contains(&to.0.as_str()) || hosts.iter().any(|host| host.name.as_str() == to.0) {
        return None;
    }
    let meant = nearest(&to.0, may.iter().copied())?.to_owned();
    let what =
        if to.0.starts_with('@') { "group that it may go to is called" } else { "service host is called" };
    Some(Mistyped { text: format!("no {what} `{to}`; did you mean {meant}?"), meant })
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

    /// A project whose machines may go to these.
    fn project(targets: &str) -> Project {
        let text = format!(
            "global {{ project p }}\nsuperclass base {{ policy go {{ run /go\n may move {targets} }} }}\n\
             host a {{ superclass base }}\nhost b {{ superclass base }}\n"
        );
        let (tree, _) = lang::parse("p.mln", text, &NoIncludes);
        resolve::resolve(&tree, &Options::default()).project
    }

    fn hosts() -> [HostView; 2] {
        [host("oslo", Reach::Here, Some("lab")), host("bergen", Reach::Away, None)]
    }

    #[track_caller]
    fn check(targets: &str, expect: &[&str]) {
        assert_eq!(strange_hosts(&project(targets), &hosts()), expect);
    }

    #[test]
    fn a_machine_is_told_what_it_may_have_meant_and_of_no_host_that_it_may_not_know() {
        let project = project("oslo @lab");
        let policies = &project.vms[0].setup.policies;
        let told = |to: &str| mistyped(&HostAddress(to.to_owned()), policies, &hosts()).map(|told| told.text);
        assert_eq!(told("solo").as_deref(), Some("no service host is called `solo`; did you mean oslo?"));
        assert_eq!(
            told("@lba").as_deref(),
            Some("no group that it may go to is called `@lba`; did you mean @lab?")
        );
        // There is a bergen, which is nothing that it may know; and what is there is judged by its policies.
        for to in ["oslo", "@lab", "begren", "bergen", "atlantis"] {
            assert_eq!(told(to), None, "{to}");
        }
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
