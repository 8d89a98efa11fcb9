//! What operators ask for, and what is answered at once: from what the node knows, or by a task of its own.

mod bandwidth;
mod build;
mod change;
mod confirm;
mod console;
mod doctor;
mod evacuate;
mod events;
mod exec;
mod export;
mod gauges;
mod gc;
mod grant;
mod guest_plan;
mod hosts;
mod import;
mod itself;
mod log;
mod logs;
mod permit;
mod plan;
mod prepare;
mod room;
mod run;
mod select;
mod sight;
mod snapshot;
mod status;
mod strange;
mod takeover;
mod template;
mod texts;
mod transfer;

use mln_link::Reply;
use mln_link::message::{AgentVersion, Failure, Refusal, Request, Role, TemplateRecipe};
use mln_protocol::node::{Input, OpId, Operation};
use mln_protocol::trust::mesh_of;
use tracing::warn;

use crate::control::{ControlCommand, Operator, Origin, ReplySender};
use crate::event_loop::EventLoop;

pub(crate) use build::Prepared;
pub(crate) use change::PreparedChange;
pub(crate) use guest_plan::GuestPlanned;
pub(crate) use itself::{GuestOver, GuestPrepared, Guests, reach_guest_message};
pub(crate) use sight::Seen;
pub(crate) use snapshot::OwnPart;
pub(crate) use status::Waiters;

impl EventLoop {
    /// Answers a request, or begins what it asks for.
    pub(crate) async fn request(&mut self, command: ControlCommand) {
        let ControlCommand { request, files, operator, reply, input } = command;
        let peer_verbs = match operator.origin {
            Origin::Peer { key } => self.standings.get(&key).copied(),
            Origin::Socket { .. } | Origin::Operator { .. } => None,
        };
        let judged = permit::judge(&operator, &request, peer_verbs)
            .and_then(|()| permit::judge_scope(&self.node, &operator, &request));
        if let Err(refused) = judged {
            warn!(operator = %operator.name, request = request.word(), rule = refused.rule, why = refused.text, "refused");
            return answer(&reply, [Reply::Refused(*refused)]);
        }
        match request {
            Request::Version => answer(&reply, [Reply::Version(self.version())]),
            Request::Build(build) => self.request_build(build, files, &operator, reply),
            Request::Start(start) => self.request_start(start, &operator, reply).await,
            Request::Stop(stop) => self.request_stop(stop, &operator, reply).await,
            Request::Remove(remove) => self.request_remove(&remove, &operator, reply).await,
            Request::Status(status) => self.request_status(status, &operator, reply),
            Request::Gauges(target) => self.request_gauges(&target, &operator, &reply),
            Request::DaemonStatus { group } => self.request_daemon_status(group.as_ref(), &reply),
            Request::List => self.request_list(&operator, &reply),
            Request::Exec(_) | Request::Terminal(_) | Request::Console(_) | Request::Logs(_) => {
                self.request_inside(request, &operator, reply, input);
            }
            Request::Peers => self.request_peers(reply),
            Request::TokenNew { role: Role::Host, ttl_s } => self.request_host_token(ttl_s, reply),
            Request::OperatorToken(token) => self.request_operator_token(token, &operator, reply),
            Request::PeersLan => self.request_peers_lan(reply),
            Request::TemplateBuild { name } => {
                let recipe = TemplateRecipe { recipe: name.clone(), name, packages: Vec::new() };
                self.request_template_build(recipe, reply);
            }
            Request::TemplateRecipe(recipe) => self.request_template_build(recipe, reply),
            Request::TemplateAdd { name, bytes } => self.request_template_add(name, bytes, reply, input),
            Request::TemplateList => self.request_template_list(reply),
            Request::TemplatePeers => self.request_template_peers(reply),
            Request::TemplatePull(pull) => self.request_template_pull(&pull, reply),
            Request::TemplatePush(push) => self.request_template_push(push, &operator, reply, input),
            Request::TemplateTake(template) => self.request_template_take(&template, &operator, reply),
            Request::TemplateRemove(remove) => self.request_template_remove(remove, reply),
            Request::Gc(mode) => self.request_gc(mode, &operator, reply),
            Request::Events(events) => self.request_events(events, reply),
            Request::Doctor => self.request_doctor(reply),
            Request::Plan(change) => {
                self.request_change(change::Purpose::Plan, change, files, &operator, reply).await;
            }
            Request::Upgrade(change) => {
                self.request_change(change::Purpose::Upgrade, change, files, &operator, reply).await;
            }
            Request::Log(project) => self.request_log(&project, &operator, &reply),
            Request::Definition(project) => self.request_definition(&project, &operator, reply),
            Request::Consider(consider) => self.request_consider(&consider, &operator, reply),
            Request::Grant(order) => self.request_grant(order, &operator, reply).await,
            Request::Grants => self.request_grants(&reply),
            Request::Revoke(revoke) => self.request_revoke(revoke, &operator, reply).await,
            Request::Revocation(bytes) => self.request_revocation(&bytes, reply).await,
            Request::ConfirmKey => self.request_confirm_key(&operator, reply).await,
            Request::Evacuate(order) => self.request_evacuate(order, &operator, reply),
            Request::EvacuateBut(order) => self.request_evacuate_but(order, &operator, reply),
            Request::Room => self.request_room(&reply),
            Request::TakeOver(order) => self.request_takeover(order, &operator, reply, input).await,
            Request::Snapshot(snapshot) => self.request_snapshot(snapshot, &operator, reply),
            Request::SnapshotPart(part) => self.request_snapshot_part(part, &operator, reply),
            Request::Export(export) => self.request_export(export, &operator, reply),
            Request::ExportPart(part) => self.request_export_part(part, &operator, reply),
            Request::Bandwidth(wanted) => self.request_bandwidth(wanted, &operator, reply),
            Request::Import(import) => self.request_import(import, &operator, reply, input),
        }
    }

    /// Has the node carry out what somebody asks for, on their own grants where they have some.
    pub(crate) async fn operate(&mut self, op: OpId, operation: Operation, operator: &Operator) {
        let input = match &operator.standing {
            Some(standing) => {
                Input::OperateFor { op, operation, standing: Box::new(standing.as_ref().clone()) }
            }
            None => Input::Operate { op, operation },
        };
        self.handle(input).await;
    }

    fn version(&self) -> AgentVersion {
        AgentVersion {
            agent: crate::version::VERSION.to_owned(),
            host: self.identity.name.clone(),
            key: self.node.key().to_string(),
            mesh: mesh_of(self.identity.root).to_string(),
        }
    }
}

/// Answers and ends the conversation.
fn answer(reply: &ReplySender, replies: impl IntoIterator<Item = Reply>) {
    for message in replies.into_iter().chain([Reply::Done]) {
        // Whoever no longer listens doesn't need the answer.
        if reply.post(message).is_err() {
            return;
        }
    }
}

fn refusal(rule: &str, text: String, who_can_change: Option<&str>) -> Reply {
    Reply::Refused(Refusal {
        host: None,
        vm: None,
        rule: rule.to_owned(),
        text,
        who_can_change: who_can_change.map(str::to_owned),
    })
}

fn failure(what: &str, why: String, next: &[&str]) -> Reply {
    Reply::Failed(Failure {
        what: what.to_owned(),
        host: None,
        vm: None,
        why,
        console_tail: Vec::new(),
        next: next.iter().map(|&command| command.to_owned()).collect(),
    })
}
