//! Which project people mean by its name.

use mln_link::Reply;
use mln_link::message::{ProjectRef, ProjectSelection, Target};
use mln_protocol::id::Label;
use mln_protocol::lang::did_you_mean;
use mln_protocol::node::{Node, ProjectView, VmView};

use super::refusal;
use crate::control::Operator;

/// How many digits of a digest people are shown, and name a project by at least.
const DIGEST_DIGITS_MIN: usize = 8;

/// Returns the project that a name means to an operator: their own, or the only one of that name; or the one whose
/// digest begins so.
pub(super) fn project(
    node: &Node,
    wanted: &ProjectRef,
    operator: &Operator,
) -> Result<ProjectView, Box<Reply>> {
    let projects = node.projects();
    let named: Vec<&ProjectView> = projects
        .iter()
        .filter(|project| project.label.project == wanted.project)
        .filter(|project| wanted.owner.as_ref().is_none_or(|owner| project.label.owner == *owner))
        .collect();
    let own: Vec<&&ProjectView> =
        named.iter().filter(|project| project.label.owner == operator.name).collect();
    match (named.as_slice(), own.as_slice()) {
        ([], _) => {
            if let Some(found) = by_digest(&projects, wanted) {
                return Ok(found.clone());
            }
            // Others' projects are not listed either.
            let seen = || projects.iter().filter(|project| operator.sees(&project.label));
            let known: Vec<String> = seen().map(|project| project.label.to_string()).collect();
            let names = seen().map(|project| project.label.project.as_str());
            let meant = did_you_mean(wanted.project.as_str(), names);
            let known = if known.is_empty() {
                "none is built".to_owned()
            } else {
                format!("known: {}", known.join(", "))
            };
            Err(Box::new(refusal(
                "no-such-project",
                format!("there is no project {wanted}{meant} ({known})"),
                None,
            )))
        }
        ([only], _) => Ok((*only).clone()),
        (_, [own]) => Ok((**own).clone()),
        (several, _) => Err(ambiguous(&format!("{wanted} may mean"), several)),
    }
}

/// Returns the project that is removed, and that a name or the beginning of a digest meant: their own, or the only one of
/// that name; of several removed ones the last.
///
/// Nobody has judged yet whether they may know of it, since it stands among no projects: here it is.
pub(super) fn removed(node: &Node, wanted: &ProjectRef, operator: &Operator) -> Option<ProjectView> {
    let mut seen = node.removed_projects();
    seen.retain(|project| operator.sees(&project.label));
    if node.projects().iter().any(|project| project.label.project == wanted.project) {
        // There is one of that name: it is said which are known, and none of those that were.
        return by_digest(&seen, wanted).cloned();
    }
    let named: Vec<&ProjectView> = seen
        .iter()
        .filter(|project| project.label.project == wanted.project)
        .filter(|project| wanted.owner.as_ref().is_none_or(|owner| project.label.owner == *owner))
        .collect();
    let own = named.iter().rfind(|project| project.label.owner == operator.name);
    let one_owner = named.windows(2).all(|two| two[0].label == two[1].label);
    let only = named.last().filter(|_| one_owner);
    own.or(only).map(|project| (*project).clone()).or_else(|| by_digest(&seen, wanted).cloned())
}

/// Returns the project of a label, to be changed by its file; two of them are there when both were built while a network
/// was cut in two.
pub(super) fn labelled(node: &Node, label: &Label) -> Result<Option<ProjectView>, Box<Reply>> {
    let projects = node.projects();
    let named: Vec<&ProjectView> = projects.iter().filter(|project| project.label == *label).collect();
    match named.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some((*only).clone())),
        several => Err(ambiguous("a file names no single one of", several)),
    }
}

/// Returns the project whose digest begins so; what is shorter than what people are shown is a name.
fn by_digest<'a>(projects: &'a [ProjectView], wanted: &ProjectRef) -> Option<&'a ProjectView> {
    let digits = wanted.project.as_str();
    if wanted.owner.is_some() || digits.len() < DIGEST_DIGITS_MIN {
        return None;
    }
    let mut found = projects.iter().filter(|project| project.id.0.to_string().starts_with(digits));
    found.next().filter(|_| found.next().is_none())
}

fn ambiguous(what: &str, several: &[&ProjectView]) -> Box<Reply> {
    let all: Vec<String> =
        several.iter().map(|project| format!("{} ({})", project.label, project.id.0.short())).collect();
    let same = several.iter().all(|project| project.label == several[0].label);
    let how = if same {
        format!("say which by its digest, as in -p {}, and remove the other", several[0].id.0.short())
    } else {
        "say OWNER/PROJECT".to_owned()
    };
    Box::new(refusal("ambiguous-project", format!("{what} {}; {how}", all.join(", ")), None))
}

/// Returns the VMs that a request is about, in the order of their projects and names.
pub(super) fn vms(node: &Node, target: &Target, operator: &Operator) -> Result<Vec<VmView>, Box<Reply>> {
    let projects = match &target.projects {
        ProjectSelection::All => node.projects(),
        ProjectSelection::One(wanted) => vec![project(node, wanted, operator)?],
    };
    let all: Vec<VmView> = projects.iter().flat_map(|project| node.vms(project.id)).collect();
    if let Some(missing) = target.vms.iter().find(|name| !all.iter().any(|vm| vm.status.vm.name == **name)) {
        let known: Vec<&str> = all.iter().map(|vm| vm.status.vm.name.as_str()).collect();
        let meant = did_you_mean(missing.as_str(), known.iter().copied());
        let text = format!("there is no virtual machine {missing}{meant} (known: {})", known.join(", "));
        return Err(Box::new(refusal("no-such-vm", text, None)));
    }
    let wanted = |vm: &VmView| target.vms.is_empty() || target.vms.contains(&vm.status.vm.name);
    Ok(all.into_iter().filter(wanted).collect())
}
