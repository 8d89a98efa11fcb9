//! Who may ask for what: one table of what each request needs, and one rule per way by which it came.

use mln_link::message::{
    ChangeConsent, Existing, LeftOut, ProjectSelection, Refusal, Removal, Request, Role, Snapshot,
    SnapshotOrder, SnapshotStep, Start, Stop,
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
        | Request::Consider(_) => &[Verb::View],
        Request::Build(build) => match build.existing {
            Existing::Refuse => &[Verb::Build],
            Existing::Replace => &[Verb::Build, Verb::Remove],
            Existing::ReplaceRunning => &[Verb::Build, Verb::Stop, Verb::Remove],
        },
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
        Request::ConfirmKey => &[Verb::Takeover],
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
            | Request::SnapshotPart(_)
    )
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
    let project = match request {
        Request::Start(Start { target, .. }) | Request::Stop(Stop { target, .. }) => match &target.projects {
            ProjectSelection::One(project) => project,
            ProjectSelection::All if is_limited => {
                let text = format!("{} may not {} all projects", operator.name, request.word());
                return Err(refusal(
                    text,
                    Some("you, by naming one that the grant is for: -p PROJECT".to_owned()),
                ));
            }
            ProjectSelection::All => return Ok(()),
        },
        Request::Remove(remove) => &remove.project,
        Request::Log(project) | Request::Definition(project) => project,
        Request::Snapshot(snapshot) => &snapshot.project,
        Request::SnapshotPart(part) => &part.project,
        Request::Plan(change) | Request::Upgrade(change) => match &change.project {
            Some(project) => project,
            // The text names it, and the hosts judge what comes of that.
            None => return Ok(()),
        },
        Request::Exec(exec) => &exec.vm.project,
        Request::Terminal(terminal) => &terminal.vm.project,
        Request::Console(console) => &console.vm.project,
        Request::Logs(logs) => &logs.vm.project,
        // Of everything that happens on the host.
        Request::Events(_) if is_limited => {
            let text = format!("{} may not see events: they are of all projects", operator.name);
            return Err(refused(text));
        }
        // Templates belong to this host, and so does its key.
        Request::TemplateBuild { .. }
        | Request::TemplateRecipe(_)
        | Request::TemplateAdd { .. }
        | Request::TemplatePull(_)
        | Request::TemplatePush(_)
        | Request::TemplateTake(_)
        | Request::TemplateRemove(_)
        | Request::Gc(_)
        | Request::ConfirmKey => {
            let own = host(node, node.key());
            return match own {
                Some((name, groups)) => standing.covers_host(&name, &groups).map_err(may_not),
                None => Ok(()),
            };
        }
        _ => return Ok(()),
    };
    let Ok(project) = select::project(node, project, &operator.name) else { return Ok(()) };
    standing.covers(&project.label).map_err(may_not)?;
    let inside = match request {
        Request::Exec(exec) => Some(&exec.vm.vm),
        Request::Terminal(terminal) => Some(&terminal.vm.vm),
        Request::Console(console) => Some(&console.vm.vm),
        Request::Logs(logs) => Some(&logs.vm.vm),
        _ => None,
    };
    let view = inside.and_then(|vm| node.vm(project.id, vm));
    match view.and_then(|view| host(node, view.owner)) {
        Some((name, groups)) => standing.covers_host(&name, &groups).map_err(may_not),
        None => Ok(()),
    }
}

/// Returns a host's name and groups, as it last said.
fn host(node: &Node, key: PublicKey) -> Option<(Name, Vec<Name>)> {
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
                Some(format!(
                    "whoever gave the grant, by a wider one: mlnctl token new --role operator --may {},{}",
                    verbs.words().join(","),
                    verb.word()
                )),
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
mod tests {
    use super::*;
    use mln_link::message::{
        Build, Exec, LogExtent, Logs, OnFailure, OperatorToken, ProjectRef, Remove, StopManner, Target, VmRef,
    };

    fn operator(origin: Origin) -> Operator {
        Operator::of_host(Name::parse("anna").expect("a name"), origin)
    }

    fn with(verbs: &[Verb]) -> Operator {
        operator(Origin::Operator { key: PublicKey([2; 32]), verbs: verbs.iter().copied().collect() })
    }

    fn target() -> Target {
        Target { projects: ProjectSelection::All, vms: Vec::new() }
    }

    fn exec() -> Request {
        let vm = VmRef::parse("ring/router1").expect("a project and a VM");
        Request::Exec(Exec { vm, argv: vec!["true".to_owned()] })
    }

    fn build(existing: Existing) -> Request {
        let (source, vars, files) = (String::new(), Vec::new(), Vec::new());
        Request::Build(Build { source, vars, files, existing, on_failure: OnFailure::Undo })
    }

    #[track_caller]
    fn check(verbs: &[Verb], request: &Request, expect: Option<&str>) {
        let judged = judge(&with(verbs), request, None).map_err(|refusal| refusal.text);
        match expect {
            None => assert_eq!(judged, Ok(()), "{}", request.word()),
            Some(words) => {
                let text = judged.expect_err("it is not granted");
                assert!(text.contains(words), "{text}");
            }
        }
    }

    #[test]
    fn an_operator_may_ask_for_what_their_verbs_allow() {
        let stop = Request::Stop(Stop { target: target(), pause_ms: 0, manner: StopManner::Ask });
        let start = Request::Start(Start { target: target(), pause_ms: 0 });
        let project = ProjectRef::parse("ring").expect("a project");
        let remove = |removal| Request::Remove(Remove { project: project.clone(), removal });
        let view = [Verb::View];
        for request in
            [Request::Version, Request::List, Request::Peers, Request::PeersLan, Request::TemplateList]
        {
            check(&view, &request, None);
            check(&[Verb::Exec], &request, Some("no view"));
        }
        check(&view, &stop, Some("anna may not stop: the grant has no stop; it has view"));
        check(&view, &start, Some("no start"));
        check(&view, &exec(), Some("no exec"));
        check(&[Verb::View, Verb::Exec], &exec(), None);
        check(&[Verb::Build], &build(Existing::Refuse), None);
        check(&[Verb::Build], &build(Existing::Replace), Some("no remove"));
        check(&[Verb::Build, Verb::Remove], &build(Existing::ReplaceRunning), Some("no stop"));
        check(&[Verb::Remove], &remove(Removal::Stopped), None);
        check(&[Verb::Remove], &remove(Removal::Forced), Some("no stop"));
        let name = Name::parse("mini").expect("a name");
        check(&view, &Request::TemplateBuild { name }, Some("no template"));
        check(&view, &Request::ConfirmKey, Some("no takeover"));
    }

    #[test]
    fn an_operator_makes_no_hosts_and_invites_only_where_that_is_granted() {
        let host = Request::TokenNew { role: Role::Host, ttl_s: 60 };
        let token = Request::OperatorToken(OperatorToken { ttl_s: 60, verbs: 1, name: None });
        let all_but_join: Vec<Verb> = Verb::ALL.into_iter().filter(|verb| *verb != Verb::Join).collect();
        check(&all_but_join, &host, Some("no join"));
        check(&all_but_join, &token, None);
        check(&[Verb::View], &token, Some("no grant"));
    }

    #[test]
    fn another_agent_may_pass_on_commands_within_its_own_grant_and_nothing_else() {
        let peer = operator(Origin::Peer { key: PublicKey([1; 32]) });
        let all: Verbs = Verb::ALL.into_iter().collect();
        let no_exec: Verbs = [Verb::View, Verb::Join].into_iter().collect();
        assert_eq!(judge(&peer, &exec(), Some(all)), Ok(()));
        let vm = VmRef::parse("ring/router1").expect("a project and a VM");
        let logs = Request::Logs(Logs { vm, lines: 1, extent: LogExtent::Present });
        assert_eq!(judge(&peer, &logs, Some(all)), Ok(()));
        assert!(judge(&peer, &logs, Some(no_exec)).is_err(), "a console may show secrets");
        assert!(judge(&peer, &exec(), Some(no_exec)).is_err(), "no privilege grows by passing on");
        assert!(judge(&peer, &exec(), None).is_err(), "a host that is not connected vouches for nobody");
        let token = Request::TokenNew { role: Role::Host, ttl_s: 60 };
        for request in [token.clone(), Request::List, Request::TemplateList, Request::Version] {
            assert!(judge(&peer, &request, Some(all)).is_err(), "{}", request.word());
        }
        assert_eq!(judge(&operator(Origin::Socket { uid: 0 }), &token, None), Ok(()));
    }
}
