//! `takeover`: a VM whose owner is gone goes on from a copy of its disk, on the host that has one.

use mln_link::InputQueue;
use mln_link::message::{OwnerHeard, ProjectRef, Request, TakeOver, VmRef};
use mln_protocol::id::{Label, VmId};
use mln_protocol::lang::did_you_mean;
use mln_protocol::node::{self, CopyHere, Operation};

use super::exec::pass_on;
use super::{answer, permit, refusal, select};
use crate::control::{Operator, Origin, ReplySender};
use crate::event_loop::EventLoop;
use crate::operations::Kind;

impl EventLoop {
    /// Takes a VM over with the copy that is here, or asks the host that gave it to its owner.
    pub(super) async fn request_takeover(
        &mut self,
        order: TakeOver,
        operator: &Operator,
        reply: ReplySender,
        input: InputQueue,
    ) {
        let project = match select::project(&self.node, &order.vm.project, operator) {
            Ok(project) => project,
            Err(wrong) => return answer(&reply, [*wrong]),
        };
        let Some(vm) = self.node.vm_named(project.id, &order.vm.vm) else {
            let known: Vec<String> = self.node.places(project.id).keys().map(ToString::to_string).collect();
            let meant = did_you_mean(order.vm.vm.as_str(), known.iter().map(String::as_str));
            let text =
                format!("{} has no VM {}{meant} (it has {})", project.label, order.vm.vm, known.join(", "));
            return answer(&reply, [refusal("no-such-vm", text, None)]);
        };
        let here = self.node.copy_here(&vm);
        let is_passed_on = matches!(operator.origin, Origin::Peer { .. });
        match (here, self.giver(&vm)) {
            (CopyHere::Owned, _) => {
                let text = format!("{} owns it: there is nobody to take it over from", self.identity.name);
                answer(&reply, [refusal("ownership", text, Some("you: mlnctl start"))]);
            }
            (CopyHere::None | CopyHere::Incomplete, Some((key, name))) if !is_passed_on => {
                let request = Request::TakeOver(TakeOver { vm: full_name(&project.label, &vm), ..order });
                let (mesh, header) = (self.mesh.clone(), operator.header());
                tokio::spawn(async move {
                    pass_on(&mesh, key, &name, &header, &request, reply, input).await;
                });
            }
            (CopyHere::Complete(_) | CopyHere::None | CopyHere::Incomplete, _) => {
                self.take_over(order.owner_heard, vm, here, project.label, operator, reply).await;
            }
        }
    }

    /// Returns the other host that gave a VM to its owner, if it is one that is known.
    fn giver(&self, vm: &VmId) -> Option<(mln_protocol::id::PublicKey, mln_protocol::id::Name)> {
        let key = self.node.given_by(vm).filter(|key| *key != self.node.key())?;
        let host = self.node.hosts().into_iter().find(|host| host.key == key)?;
        Some((key, host.name))
    }

    async fn take_over(
        &mut self,
        heard: OwnerHeard,
        vm: VmId,
        here: CopyHere,
        label: Label,
        operator: &Operator,
        reply: ReplySender,
    ) {
        // It is this host that the VM comes to.
        if let (Some(standing), Some((name, groups))) =
            (&operator.standing, permit::host(&self.node, self.node.key()))
            && let Err(error) = standing.covers_host(&name, &groups)
        {
            let text = format!("{} may not take over to {name}: {error}", operator.name);
            return answer(
                &reply,
                [refusal("grant", text, Some("whoever gave the grant: mlnctl grant list"))],
            );
        }
        let owner = match heard {
            OwnerHeard::Refuse => node::OwnerHeard::Refuse,
            OwnerHeard::Force => node::OwnerHeard::Force,
        };
        let copy = match here {
            CopyHere::Complete(epoch) => {
                let written = self.written(&vm).await.map(|at| age(self.clock.now().unix_ms, at));
                let written = written.map_or_else(String::new, |age| format!(", last written {age} ago"));
                format!("the copy is as it was in epoch {epoch}{written}; what was written since is lost")
            }
            CopyHere::Owned | CopyHere::Incomplete | CopyHere::None => String::new(),
        };
        let author = format!("{} at {}", operator.name, self.identity.name);
        let op = self.operations.begin(reply, Kind::TakeOver, Some(label.project));
        self.operations.will_take_over(op, vm.clone(), self.identity.name.clone(), copy);
        self.operate(op, Operation::TakeOver { vm, owner, author }, operator).await;
    }

    /// Returns when something last wrote to the copy of a VM's disk, in milliseconds since 1970; none where that can't be told.
    async fn written(&self, vm: &VmId) -> Option<u64> {
        let (platform, vm) = (self.platform.clone(), vm.clone());
        let looking = tokio::task::spawn_blocking(move || platform.disk(&vm).ok()?.written_unix_ms().ok());
        looking.await.ok().flatten()
    }
}

/// Names a VM so that it means the same to every agent.
fn full_name(label: &Label, vm: &VmId) -> VmRef {
    let project = ProjectRef { owner: Some(label.owner.clone()), project: label.project.clone() };
    VmRef { project, vm: vm.name.clone() }
}

/// Returns how long ago something was, in the largest unit that gives at least two of it.
pub(super) fn age(now_unix_ms: u64, then_unix_ms: u64) -> String {
    let seconds = now_unix_ms.saturating_sub(then_unix_ms) / 1000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::age;

    #[test]
    fn an_age_is_told_in_the_largest_unit_that_gives_two() {
        let told = |seconds: u64| age(1_000_000_000_000, 1_000_000_000_000 - seconds * 1000);
        assert_eq!(told(0), "0 s");
        assert_eq!(told(119), "119 s");
        assert_eq!(told(3600), "60 min");
        assert_eq!(told(7200), "2 h");
        assert_eq!(told(200_000), "2 d");
        assert_eq!(age(0, 5000), "0 s", "a clock was set back");
    }
}
