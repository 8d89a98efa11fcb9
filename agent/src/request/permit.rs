//! Who may ask for what: one table of what each request needs, and one rule per way by which it came.

use mln_link::message::{
    ChangeConsent, Existing, Export, ExportImages, Import, LeftOut, ProjectRef, ProjectSelection, Refusal,
    Removal, Request, Role, Snapshot, SnapshotOrder, SnapshotStep, Start, Stop, VmRef,
};
use mln_protocol::id::{Name, PublicKey};
use mln_protocol::node::Node;
use mln_protocol::trust::{ScopeError, Verb};

use super::select;

use crate::control::{Operator, Origin, Verbs};

/// Returns what somebody must be allowed to do who asks for this.
///
/// Listed one by one, so that a new request is not forgotten here.
fn needs(request: &Request) -> &'static [Verb] {
    match request {
        // Taking a grant back needs no more than to have signed one on the way to it, which is judged with it.
        Request::Version
        | Request::Grants
        | Request::Revocation(_)
        | Request::Status(_)
        | Request::Gauges(_)
        | Request::DaemonStatus { .. }
        | Request::List
        | Request::Peers
        | Request::PeersLan
        | Request::TemplateList
        | Request::TemplatePeers
        | Request::Events(_)
        | Request::Doctor
        | Request::Plan(_)
        | Request::Log(_)
        | Request::Definition(_)
        | Request::Consider(_)
        // What comes of it are changes, each asked for by itself.
        | Request::Evacuate(_)
        | Request::EvacuateBut(_)
        | Request::Room => &[Verb::View],
        Request::Build(build) => match build.existing {
            Existing::Refuse => &[Verb::Build],
            Existing::Replace => &[Verb::Build, Verb::Remove],
            Existing::ReplaceRunning => &[Verb::Build, Verb::Stop, Verb::Remove],
        },
        // It only makes a change slower.
        Request::Bandwidth(_) => &[Verb::Upgrade],
        Request::Upgrade(change) => match (change.consent, change.left_out) {
            (ChangeConsent::Majority, LeftOut::Refuse) => &[Verb::Upgrade],
            (ChangeConsent::Majority, LeftOut::Stop) => &[Verb::Upgrade, Verb::Stop],
            (ChangeConsent::Partial, LeftOut::Refuse) => &[Verb::Upgrade, Verb::Partial],
            (ChangeConsent::Partial, LeftOut::Stop) => &[Verb::Upgrade, Verb::Partial, Verb::Stop],
        },
        Request::Snapshot(Snapshot { order: SnapshotOrder::List, .. }) => &[Verb::View],
        Request::SnapshotPart(part) if part.step == SnapshotStep::List => &[Verb::View],
        // A disk that is what it was before is a change of the project.
        Request::Snapshot(_) | Request::SnapshotPart(_) => &[Verb::Upgrade],
        // Who has a VM's disk has read all that a command in it could.
        Request::Export(Export { snapshot: Some(_), .. }) | Request::ExportPart(_) => &[Verb::Exec],
        Request::Export(Export { snapshot: None, .. }) => &[Verb::Exec, Verb::Upgrade],
        Request::Import(Import { images: ExportImages::Named, .. }) => &[Verb::Build],
        Request::Import(Import { images: ExportImages::Along, .. }) => &[Verb::Build, Verb::Template],
        Request::Start(_) => &[Verb::Start],
        Request::Stop(_) => &[Verb::Stop],
        Request::Remove(remove) => match remove.removal {
            Removal::Stopped => &[Verb::Remove],
            Removal::Forced => &[Verb::Stop, Verb::Remove],
        },
        Request::Exec(_) | Request::Terminal(_) => &[Verb::Exec],
        // A console's log shows what the console showed.
        Request::Console(_) | Request::Logs(_) => &[Verb::Console],
        Request::TokenNew { role: Role::Host, .. } => &[Verb::Grant, Verb::Join],
        Request::OperatorToken(_) | Request::Grant(_) | Request::Revoke(_) => &[Verb::Grant],
        Request::TemplateBuild { .. }
        | Request::TemplateRecipe(_)
        | Request::TemplateAdd { .. }
        | Request::TemplatePull(_)
        | Request::TemplatePush(_)
        | Request::TemplateTake(_)
        | Request::TemplateRemove(_)
        | Request::Gc(_) => &[Verb::Template],
        // Like a takeover it says which of two disks counts.
        Request::ConfirmKey | Request::TakeOver(_) => &[Verb::Takeover],
    }
}

/// Whether an agent may pass this on to us for its operator: only what this host alone can do. Everything else is
/// asked of one's own agent, which answers for it with its own grants.
fn may_be_passed_on(request: &Request) -> bool {
    matches!(
        request,
        Request::Exec(_)
            | Request::Terminal(_)
            | Request::Console(_)
            | Request::Logs(_)
            | Request::TemplateTake(_)
            | Request::Consider(_)
            | Request::TakeOver(_)
            | Request::Room
            | Request::SnapshotPart(_)
            | Request::ExportPart(_)
            | Request::Bandwidth(_)
    )
}

/// What of the mesh a request is about, as far as a grant may be limited to some of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach<'a> {
    /// What no grant is limited by, or what is shown only as far as the grant goes.
    Mesh,
    /// What each host judges that is to do something for it.
    Changed,
    /// All projects, where one could be named.
    AllProjects,
    /// What happens on this host, in whichever project.
    Everything,
    /// One project.
    Project(&'a ProjectRef),
    /// The inside of a VM, and so the host that carries it.
    Inside(&'a VmRef),
    /// What belongs to this host.
    Host,
}

/// Returns what a request is about.
///
/// Listed one by one, so that a new request is not forgotten here.
fn reach(request: &Request) -> Reach<'_> {
    match request {
        Request::Start(Start { target, .. }) | Request::Stop(Stop { target, .. }) => match &target.projects {
            ProjectSelection::One(project) => Reach::Project(project),
            ProjectSelection::All => Reach::AllProjects,
        },
        Request::Remove(remove) => Reach::Project(&remove.project),
        Request::Log(project) | Request::Definition(project) => Reach::Project(project),
        // Without a project the text names it.
        Request::Plan(change) | Request::Upgrade(change) => {
            change.project.as_ref().map_or(Reach::Changed, Reach::Project)
        }
        Request::Build(_) | Request::Consider(_) | Request::Import(_) => Reach::Changed,
        // To which host, is looked at by that one.
        Request::TakeOver(order) => Reach::Project(&order.vm.project),
        Request::Snapshot(snapshot) => Reach::Project(&snapshot.project),
        Request::SnapshotPart(part) => Reach::Project(&part.project),
        Request::Export(export) => Reach::Project(&export.project),
        Request::ExportPart(part) => Reach::Project(&part.project),
        Request::Bandwidth(wanted) => Reach::Project(&wanted.project),
        Request::Exec(exec) => Reach::Inside(&exec.vm),
        Request::Terminal(terminal) => Reach::Inside(&terminal.vm),
        Request::Console(console) => Reach::Inside(&console.vm),
        Request::Logs(logs) => Reach::Inside(&logs.vm),
        Request::Events(_) => Reach::Everything,
        // Templates belong to this host, and so does its key.
        Request::TemplateBuild { .. }
        | Request::TemplateRecipe(_)
        | Request::TemplateAdd { .. }
        | Request::TemplatePull(_)
        | Request::TemplatePush(_)
        | Request::TemplateTake(_)
        | Request::TemplateRemove(_)
        | Request::Gc(_)
        | Request::ConfirmKey => Reach::Host,
        // Whose VMs and projects are listed, and which grants may be signed, is looked at where that is done.
        Request::Version
        | Request::Status(_)
        | Request::Gauges(_)
        | Request::DaemonStatus { .. }
        | Request::Evacuate(_)
        | Request::EvacuateBut(_)
        | Request::Room
        | Request::List
        | Request::Peers
        | Request::PeersLan
        | Request::TemplateList
        | Request::TemplatePeers
        | Request::Doctor
        | Request::TokenNew { .. }
        | Request::OperatorToken(_)
        | Request::Grant(_)
        | Request::Grants
        | Request::Revoke(_)
        | Request::Revocation(_) => Reach::Mesh,
    }
}

/// Judges what an operator asks by the projects and hosts that their grants are for, and by what was taken back.
///
/// What becomes a change of a project, a start or a stop is judged again by each host that does something for it.
pub(super) fn judge_scope(node: &Node, operator: &Operator, request: &Request) -> Result<(), Box<Refusal>> {
    let Some(standing) = &operator.standing else { return Ok(()) };
    let refused = |text: String| refusal(text, Some("whoever gave the grant: mlnctl grant list".to_owned()));
    node.judge_revoked(standing).map_err(|error| refused(format!("{}: {error}", operator.name)))?;
    let is_limited = standing.links.iter().any(|link| !link.grant.scope.projects.is_empty());
    let may_not =
        |error: ScopeError| refused(format!("{} may not {}: {error}", operator.name, request.word()));
    let (project, inside) = match reach(request) {
        Reach::Project(project) => (project, None),
        Reach::Inside(vm) => (&vm.project, Some(&vm.vm)),
        Reach::AllProjects if is_limited => {
            let text = format!("{} may not {} all projects", operator.name, request.word());
            let change = "you, by naming one that the grant is for: -p PROJECT".to_owned();
            return Err(refusal(text, Some(change)));
        }
        Reach::Everything if is_limited => {
            let text = format!("{} may not see events: they are of all projects", operator.name);
            return Err(refused(text));
        }
        Reach::Host => {
            return match host(node, node.key()) {
                Some((name, groups)) => standing.covers_host(&name, &groups).map_err(may_not),
                None => Ok(()),
            };
        }
        Reach::Mesh | Reach::Changed | Reach::AllProjects | Reach::Everything => return Ok(()),
    };
    let Ok(project) = select::project(node, project, operator) else { return Ok(()) };
    standing.covers(&project.label).map_err(may_not)?;
    let view = inside.and_then(|vm| node.vm(project.id, vm));
    match view.and_then(|view| host(node, view.owner)) {
        Some((name, groups)) => standing.covers_host(&name, &groups).map_err(may_not),
        None => Ok(()),
    }
}

/// Returns a host's name and groups, as it last said.
pub(super) fn host(node: &Node, key: PublicKey) -> Option<(Name, Vec<Name>)> {
    let host = node.hosts().into_iter().find(|host| host.key == key)?;
    Some((host.name, host.status.map(|status| status.groups).unwrap_or_default()))
}

/// Judges a request by the way it came; `peer_verbs` is what the host may do that passed it on.
///
/// Nobody gains by passing on: the agent that was asked first has judged its operator, and here the request must
/// also be within what that agent's own host may do.
pub(super) fn judge(
    operator: &Operator,
    request: &Request,
    peer_verbs: Option<Verbs>,
) -> Result<(), Box<Refusal>> {
    let word = request.word();
    match operator.origin {
        // Whoever may use the socket has been judged by `control::Access`.
        Origin::Socket { .. } => Ok(()),
        Origin::Operator { verbs, .. } => match missing(verbs, request) {
            None => Ok(()),
            Some(verb) => Err(refusal(
                format!("{} may not {word}: the grant has no {}; it has {verbs}", operator.name, verb.word()),
                Some(format!("whoever gave the grant, by one more: {}", granting(operator, verbs, verb))),
            )),
        },
        Origin::Peer { key } => match (may_be_passed_on(request), peer_verbs) {
            (false, _) => {
                Err(refusal(format!("{word} is asked of one's own agent, not over the mesh"), None))
            }
            (true, None) => Err(refusal(format!("{} is not connected as a host", key.short()), None)),
            (true, Some(verbs)) => match missing(verbs, request) {
                None => within_own(operator, request),
                Some(verb) => {
                    let text = format!(
                        "the host that passed it on may not {word}: its own grant has no {}",
                        verb.word()
                    );
                    Err(refusal(text, Some("whoever invited that host".to_owned())))
                }
            },
        },
    }
}

/// Returns the command that gives an operator one verb more, for the same projects and on the same hosts.
fn granting(operator: &Operator, verbs: Verbs, verb: Verb) -> String {
    let mut command =
        format!("mlnctl grant --to {} --may {},{}", operator.name, verbs.words().join(","), verb.word());
    let Some(link) = operator.standing.as_ref().and_then(|standing| standing.links.last()) else {
        return command;
    };
    let scope = &link.grant.scope;
    let projects: Vec<String> = scope.projects.iter().map(ToString::to_string).collect();
    let hosts: Vec<String> = scope.hosts.iter().map(ToString::to_string).collect();
    for (flag, patterns) in [("projects", projects), ("hosts", hosts)] {
        if !patterns.is_empty() {
            command.push_str(&format!(" --{flag} '{}'", patterns.join(",")));
        }
    }
    command
}

/// Refuses what the grants leave out of whoever a host passes it on for, where it says who that is.
fn within_own(operator: &Operator, request: &Request) -> Result<(), Box<Refusal>> {
    let Some(standing) = &operator.standing else { return Ok(()) };
    match missing(standing.verbs.iter().copied().collect(), request) {
        None => Ok(()),
        Some(verb) => {
            let text =
                format!("{} may not {}: the grant has no {}", operator.name, request.word(), verb.word());
            Err(refusal(text, Some("whoever gave the grant".to_owned())))
        }
    }
}

fn missing(verbs: Verbs, request: &Request) -> Option<Verb> {
    needs(request).iter().copied().find(|verb| !verbs.contains(*verb))
}

fn refusal(text: String, who_can_change: Option<String>) -> Box<Refusal> {
    Box::new(Refusal { host: None, vm: None, rule: "grant".to_owned(), text, who_can_change })
}

#[cfg(test)]
#[path = "permit_test.rs"]
mod tests;
