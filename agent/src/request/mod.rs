//! What operators ask for, and what is answered at once: from what the node knows, or by a task of its own.

mod build;
mod console;
mod exec;
mod hosts;
mod logs;
mod run;
mod select;
mod status;
mod template;

use mln_link::Reply;
use mln_link::message::{AgentVersion, Failure, Refusal, Request};
use mln_protocol::trust::mesh_of;

use crate::control::{ControlCommand, Origin, ReplySender};
use crate::event_loop::EventLoop;

pub(crate) use build::Prepared;
pub(crate) use status::Waiters;

impl EventLoop {
    /// Answers a request, or begins what it asks for.
    pub(crate) async fn request(&mut self, command: ControlCommand) {
        let ControlCommand { request, files, operator, reply, input } = command;
        if !may_ask(operator.origin, &request) {
            let text = format!("{} is asked of one's own agent, not over the mesh", request.word());
            return answer(&reply, [refusal("grant", text, None)]);
        }
        match request {
            Request::Version => answer(&reply, [Reply::Version(self.version())]),
            Request::Build(build) => self.request_build(build, files, &operator, reply),
            Request::Start(start) => self.request_start(start, &operator, reply).await,
            Request::Stop(stop) => self.request_stop(stop, &operator, reply).await,
            Request::Remove(remove) => self.request_remove(&remove, &operator, reply).await,
            Request::Status(status) => self.request_status(status, &operator, reply),
            Request::DaemonStatus { group } => self.request_daemon_status(group.as_ref(), &reply),
            Request::List => self.request_list(&reply),
            Request::Exec(_) | Request::Terminal(_) | Request::Console(_) | Request::Logs(_) => {
                self.request_inside(request, &operator, reply, input);
            }
            Request::Peers => self.request_peers(reply),
            Request::TokenNew { role, ttl_s } => self.request_token(role, ttl_s, reply),
            Request::TemplateBuild { name } => self.request_template_build(name, reply),
            Request::TemplateAdd { name, bytes } => self.request_template_add(name, bytes, reply, input),
            Request::TemplateList => self.request_template_list(reply),
        }
    }

    fn version(&self) -> AgentVersion {
        AgentVersion {
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            host: self.identity.name.clone(),
            key: self.node.key().to_string(),
            mesh: mesh_of(self.identity.root).to_string(),
        }
    }
}

/// Whether a request may come this way: over the mesh only what this host alone can do. Everything else is asked of
/// one's own agent, which answers for it with its own grants.
fn may_ask(origin: Origin, request: &Request) -> bool {
    match origin {
        Origin::Socket { .. } => true,
        Origin::Peer { .. } => matches!(
            request,
            Request::Exec(_) | Request::Terminal(_) | Request::Console(_) | Request::Logs(_)
        ),
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

#[cfg(test)]
mod tests {
    use super::*;
    use mln_link::message::{Exec, LogExtent, Logs, Role, VmRef};
    use mln_protocol::id::PublicKey;

    #[test]
    fn another_agent_may_lead_its_operator_into_a_vm_and_ask_for_nothing_else() {
        let (peer, socket) = (Origin::Peer { key: PublicKey([1; 32]) }, Origin::Socket { uid: 0 });
        let vm = VmRef::parse("ring/router1").expect("a project and a VM");
        let logs = Request::Logs(Logs { vm: vm.clone(), lines: 1, extent: LogExtent::Present });
        assert!(may_ask(peer, &logs));
        let exec = Request::Exec(Exec { vm, argv: vec!["true".to_owned()] });
        let token = Request::TokenNew { role: Role::Host, ttl_s: 60 };
        assert!(may_ask(peer, &exec) && may_ask(socket, &exec) && may_ask(socket, &token));
        for request in [token, Request::List, Request::TemplateList, Request::Version] {
            assert!(!may_ask(peer, &request), "{}", request.word());
        }
    }
}
