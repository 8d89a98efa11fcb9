//! Which project people mean by its name.

use mln_link::Reply;
use mln_link::message::{ProjectRef, ProjectSelection, Target};
use mln_protocol::id::Name;
use mln_protocol::node::{Node, ProjectView, VmView};

use super::refusal;

/// Returns the project that a name means to an operator: their own, or the only one of that name.
pub(super) fn project(node: &Node, wanted: &ProjectRef, operator: &Name) -> Result<ProjectView, Box<Reply>> {
    let projects = node.projects();
    let named: Vec<&ProjectView> = projects
        .iter()
        .filter(|project| project.label.project == wanted.project)
        .filter(|project| wanted.owner.as_ref().is_none_or(|owner| project.label.owner == *owner))
        .collect();
    let own: Vec<&&ProjectView> = named.iter().filter(|project| project.label.owner == *operator).collect();
    match (named.as_slice(), own.as_slice()) {
        ([], _) => {
            let known: Vec<String> = projects.iter().map(|project| project.label.to_string()).collect();
            let known = if known.is_empty() {
                "none is built".to_owned()
            } else {
                format!("known: {}", known.join(", "))
            };
            Err(Box::new(refusal("no-such-project", format!("there is no project {wanted}; {known}"), None)))
        }
        ([only], _) => Ok((*only).clone()),
        (_, [own]) => Ok((**own).clone()),
        (several, _) => {
            let all: Vec<String> = several
                .iter()
                .map(|project| format!("{} ({})", project.label, project.id.0.short()))
                .collect();
            let text = format!("{wanted} may mean {}; say OWNER/PROJECT", all.join(", "));
            Err(Box::new(refusal("ambiguous-project", text, None)))
        }
    }
}

/// Returns the VMs that a request is about, in the order of their projects and names.
pub(super) fn vms(node: &Node, target: &Target, operator: &Name) -> Result<Vec<VmView>, Box<Reply>> {
    let projects = match &target.projects {
        ProjectSelection::All => node.projects(),
        ProjectSelection::One(wanted) => vec![project(node, wanted, operator)?],
    };
    let all: Vec<VmView> = projects.iter().flat_map(|project| node.vms(project.id)).collect();
    if let Some(missing) = target.vms.iter().find(|name| !all.iter().any(|vm| vm.status.vm.name == **name)) {
        let known: Vec<&str> = all.iter().map(|vm| vm.status.vm.name.as_str()).collect();
        let text = format!("there is no virtual machine {missing}; known: {}", known.join(", "));
        return Err(Box::new(refusal("no-such-vm", text, None)));
    }
    let wanted = |vm: &VmView| target.vms.is_empty() || target.vms.contains(&vm.status.vm.name);
    Ok(all.into_iter().filter(wanted).collect())
}
