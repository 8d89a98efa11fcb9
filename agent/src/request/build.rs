//! `build` and `remove`.

use mln_link::Reply;
use mln_link::message::{Build, Existing, OnFailure as UndoOrKeep, Removal, Remove};
use mln_protocol::id::{Label, Name};
use mln_protocol::model::{Attachment, Blob, Project, Vm};
use mln_protocol::node::{BuildOrder, ExistingProject, OnFailure, Operation, RunningVms};

use super::prepare::{Submission, pin_templates, understand};
use super::{answer, failure, refusal, select};
use crate::control::{Operator, Origin, ReplySender, SubmittedFile};
use crate::event_loop::{EventLoop, Work};
use crate::operations::Kind;

/// A build that was asked for, with what has come of its source.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(super) reply: ReplySender,
    pub(super) operator: Operator,
    pub(super) author: String,
    pub(super) existing: ExistingProject,
    pub(super) on_failure: OnFailure,
    pub(super) result: Result<(Label, Project, Vec<Blob>), Vec<Reply>>,
}

impl EventLoop {
    pub(super) fn request_build(
        &mut self,
        build: Build,
        files: Vec<SubmittedFile>,
        operator: &Operator,
        reply: ReplySender,
    ) {
        self.preparing += 1;
        let operator = operator.clone();
        let (owner, origin) = (operator.name.clone(), operator.origin);
        let author = format!("{owner} at {}", self.identity.name);
        let mesh = self.identity.root;
        let (blobs, results) = (self.blobs.clone(), self.results.clone());
        let (exchange, platform) = (self.exchange.clone(), self.platform.clone());
        // Hashing passwords, writing files and asking for templates takes a while, in which the loop has others to serve.
        tokio::spawn(async move {
            let existing = match build.existing {
                Existing::Refuse => ExistingProject::Refuse,
                Existing::Replace => ExistingProject::Replace(RunningVms::Refuse),
                Existing::ReplaceRunning => ExistingProject::Replace(RunningVms::Stop),
            };
            let on_failure = match build.on_failure {
                UndoOrKeep::Undo => OnFailure::Undo,
                UndoOrKeep::Keep => OnFailure::Keep,
            };
            let submission = Submission { source: build.source, vars: build.vars, files, kept: Vec::new() };
            let store = blobs.clone();
            let preparing = tokio::task::spawn_blocking(move || {
                let label_of = |project: &Name| Label { owner: owner.clone(), project: project.clone() };
                understand(submission, &owner, label_of, mesh, &blobs)
            });
            let mut understood = preparing.await.unwrap_or_else(|_| Err(cut_off()));
            if let Ok(understood) = &mut understood {
                pin_templates(&exchange, &*platform, &mut understood.project).await;
            }
            let result = understood.and_then(|understood| {
                match hooks_from_elsewhere(origin, &understood.label, &understood.project) {
                    Some(refused) => Err(vec![refused]),
                    None => understood.keep(&store),
                }
            });
            let prepared = Prepared { reply, operator, author, existing, on_failure, result };
            // The loop has ended if nobody listens.
            let _ = results.send(Work::Prepared(Box::new(prepared))).await;
        });
    }

    /// Goes on with a build whose source is understood.
    pub(crate) async fn build_prepared(&mut self, prepared: Prepared) {
        self.preparing -= 1;
        let Prepared { reply, operator, author, existing, on_failure, result } = prepared;
        let (label, project, blobs) = match result {
            Ok(result) => result,
            Err(wrong) => {
                answer(&reply, wrong);
                return self.drop_unused_blobs();
            }
        };
        if let Some(text) = without_nat(&project, &self.identity.name) {
            // Nobody listens any more if it can't be said; the build goes on.
            let _ = reply.post(Reply::Warning { text });
        }
        self.warn_of_strange_hosts(&project, &reply);
        let op = self.operations.begin(reply, Kind::Build, Some(label.project.clone()));
        let order = BuildOrder { label, project, blobs, author, existing, on_failure };
        self.operate(op, Operation::Build(Box::new(order)), &operator).await;
    }

    /// Removes contents that nothing names any more.
    pub(crate) fn drop_unused_blobs(&self) {
        if self.preparing == 0 {
            self.blobs.retain(&self.node.used_blobs().into_iter().chain(self.imports.disks()).collect());
        }
    }

    pub(super) async fn request_remove(&mut self, remove: &Remove, operator: &Operator, reply: ReplySender) {
        let project = match select::project(&self.node, &remove.project, operator) {
            Ok(project) => project,
            Err(wrong) => return answer(&reply, [*wrong]),
        };
        let running = match remove.removal {
            Removal::Stopped => RunningVms::Refuse,
            Removal::Forced => RunningVms::Stop,
        };
        let op = self.operations.begin_removal(reply, project.label.project.clone(), project.id);
        let operation = Operation::Remove { project: project.id, running };
        self.operate(op, operation, operator).await;
    }
}

/// Refuses hooks of whom this host doesn't know by itself: it is believed who its own users are, and no more than that.
pub(super) fn hooks_from_elsewhere(origin: Origin, label: &Label, project: &Project) -> Option<Reply> {
    match origin {
        Origin::Socket { .. } => return None,
        Origin::Peer { .. } | Origin::Operator { .. } if project.hooks.is_empty() => return None,
        Origin::Peer { .. } | Origin::Operator { .. } => {}
    }
    let text = format!(
        "the project has hooks, and only users of a host may build such a one there: that {} is who they say, this host \
         has from somebody else",
        label.owner
    );
    Some(refusal("hooks", text, Some("you: log in to a host of the mesh, and build it there")))
}

/// Says that nobody has read a text to its end.
pub(super) fn cut_off() -> Vec<Reply> {
    vec![failure("reading the project", "the work was cut off".to_owned(), &[])]
}

/// Names the VMs of this host that will not reach the outside, because it lacks the program for that.
pub(super) fn without_nat(project: &Project, own: &Name) -> Option<String> {
    if crate::holder::has_passt() {
        return None;
    }
    let is_here = |vm: &&Vm| vm.service_host.as_ref().is_none_or(|host| host.0 == own.as_str());
    let has_nat = |vm: &&Vm| vm.networks.iter().any(|network| network.attachment == Attachment::UserNat);
    let vms: Vec<&str> =
        project.vms.iter().filter(is_here).filter(has_nat).map(|vm| vm.name.as_str()).collect();
    let (first, others) = vms.split_first()?;
    let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
    Some(format!("{first}{more}: no way to the outside; on {own}, as root: apt-get install passt"))
}

#[cfg(test)]
mod tests {
    use super::super::prepare::NoFiles;
    use super::*;
    use mln_protocol::id::PublicKey;
    use mln_protocol::lang;
    use mln_protocol::resolve::{self, Options};

    #[test]
    fn hooks_are_taken_from_users_of_this_host_only() {
        let build = |text: &str| {
            let (tree, _) = lang::parse("p.mln", text.to_owned(), &NoFiles);
            let project = resolve::resolve(&tree, &Options::default()).project;
            let label = Label { owner: Name::parse("root").expect("a name"), project: project.name.clone() };
            let refused = |origin| hooks_from_elsewhere(origin, &label, &project).is_some();
            let verbs = mln_protocol::trust::Verb::ALL.into_iter().collect();
            let key = PublicKey([1; 32]);
            [
                refused(Origin::Socket { uid: 0 }),
                refused(Origin::Operator { key, verbs }),
                refused(Origin::Peer { key }),
            ]
        };
        assert_eq!(build("global { project p }\nhost a { }\n"), [false; 3]);
        let hooked = "global { project p; beforeHostsStart { true } }\nhost a { }\n";
        assert_eq!(build(hooked), [false, true, true]);
    }
}
