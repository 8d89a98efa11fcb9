//! `build` and `remove`.

use std::collections::BTreeMap;

use mln_link::Reply;
use mln_link::message::{Build, Existing, OnFailure as UndoOrKeep, Removal, Remove};
use mln_protocol::id::{Label, PublicKey};
use mln_protocol::lang::{self, LoadError, Severity, SourceLoader};
use mln_protocol::model::{Attachment, Blob, Project, TemplateRef, Vm};
use mln_protocol::node::{BuildOrder, ExistingProject, OnFailure, Operation, RunningVms};
use mln_protocol::resolve::{self, Options};

use super::{answer, failure, refusal, select};
use crate::blob::Blobs;
use crate::causes::chain;
use crate::control::{Account, Operator, Origin, ReplySender, SubmittedFile, crypt_password};
use crate::event_loop::{EventLoop, Work};
use crate::image::exchange::{Exchange, newest};
use crate::operations::Kind;
use crate::platform::Platform;

/// A build that was asked for, with what has come of its source.
#[derive(Debug)]
pub(crate) struct Prepared {
    reply: ReplySender,
    operator: Operator,
    author: String,
    existing: ExistingProject,
    on_failure: OnFailure,
    result: Result<(Label, Project, Vec<Blob>), Vec<Reply>>,
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
            let preparing = tokio::task::spawn_blocking(move || prepare(&build, files, owner, mesh, &blobs));
            let cut_off =
                |_| Err(vec![failure("reading the project", "the work was cut off".to_owned(), &[])]);
            let mut result = preparing.await.unwrap_or_else(cut_off);
            if let Ok((label, project, _)) = &result
                && let Some(refused) = hooks_from_elsewhere(origin, label, project)
            {
                result = Err(vec![refused]);
            }
            if let Ok((_, project, _)) = &mut result {
                pin_templates(&exchange, &*platform, project).await;
            }
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
        let op = self.operations.begin(reply, Kind::Build, Some(label.project.clone()));
        let order = BuildOrder { label, project, blobs, author, existing, on_failure };
        self.operate(op, Operation::Build(Box::new(order)), &operator).await;
    }

    /// Removes contents that nothing names any more.
    pub(crate) fn drop_unused_blobs(&self) {
        if self.preparing == 0 {
            self.blobs.retain(&self.node.used_blobs());
        }
    }

    pub(super) async fn request_remove(&mut self, remove: &Remove, operator: &Operator, reply: ReplySender) {
        let project = match select::project(&self.node, &remove.project, &operator.name) {
            Ok(project) => project,
            Err(wrong) => return answer(&reply, [*wrong]),
        };
        let running = match remove.removal {
            Removal::Stopped => RunningVms::Refuse,
            Removal::Forced => RunningVms::Stop,
        };
        let op = self.operations.begin(reply, Kind::Remove, Some(project.label.project.clone()));
        let operation = Operation::Remove { project: project.id, running };
        self.operate(op, operation, operator).await;
    }
}

/// Refuses hooks of whom this host doesn't know by itself: it is believed who its own users are, and no more than that.
fn hooks_from_elsewhere(origin: Origin, label: &Label, project: &Project) -> Option<Reply> {
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

/// Resolves a submitted project, hashes its plain passwords, and stores the contents of its files.
///
/// It was resolved where it was submitted; here it is resolved again, because only what this agent has
/// understood itself is acted upon.
fn prepare(
    build: &Build,
    files: Vec<SubmittedFile>,
    owner: mln_protocol::id::Name,
    mesh: PublicKey,
    blobs: &Blobs,
) -> Result<(Label, Project, Vec<Blob>), Vec<Reply>> {
    let (tree, mut diagnostics) = lang::parse("project", build.source.clone(), &NoFiles);
    let variables: BTreeMap<String, String> = build.vars.iter().cloned().collect();
    let resolved = resolve::resolve(&tree, &Options { variables, owner: Some(owner.clone()) });
    diagnostics.extend(resolved.diagnostics);
    let wrong: Vec<Reply> = diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.severity() == Severity::Error)
        .map(|diagnostic| {
            let line = tree.sources().position(diagnostic.span).line;
            let text = format!("line {line}: {}", diagnostic.message);
            refusal(
                diagnostic.code.as_str(),
                text,
                Some("the author of the project; try: mlnctl validate -f FILE"),
            )
        })
        .collect();
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let mut project = resolved.project;
    let label = Label { owner, project: project.name.clone() };
    let users = project.vms.iter_mut().flat_map(|vm| vm.users.iter_mut().map(|user| (&vm.name, user)));
    for (vm, user) in users {
        if let Some(password) = &mut user.password {
            let account = Account { mesh, label: &label, vm, user: user.name.as_str() };
            let crypted = crypt_password(password, account);
            *password = crypted.map_err(|error| vec![failure("hashing a password", chain(&error), &[])])?;
        }
    }
    let stored = files.into_iter().map(|file| {
        let digest = blobs.put(&file.bytes)?;
        Ok(Blob { from: file.from, digest, bytes: file.bytes.len() as u64, mode: file.mode })
    });
    let stored: Result<Vec<Blob>, crate::blob::BlobError> = stored.collect();
    let stored =
        stored.map_err(|error| vec![failure("storing a file of the project", chain(&error), &[])])?;
    Ok((label, project, stored))
}

/// Settles for the whole project which image each template is, so that all hosts build from the same.
///
/// What this host has under the name counts, else the newest that a connected host has. What nobody has is left as it
/// is: the hosts that need it refuse, and say so.
async fn pin_templates(exchange: &Exchange, platform: &dyn Platform, project: &mut Project) {
    let mut known: BTreeMap<TemplateRef, Option<TemplateRef>> = BTreeMap::new();
    for vm in &mut project.vms {
        let wanted = platform.template_of(vm);
        let pinned = match known.get(&wanted) {
            Some(pinned) => pinned.clone(),
            None => {
                let digest = match exchange.images().resolve(&wanted) {
                    Ok(template) => Some(template.digest),
                    Err(_) => newest(&exchange.find(&wanted, None).await, &wanted).map(|offer| offer.digest),
                };
                let pinned = digest.map(|digest| TemplateRef::Exact(wanted.name().clone(), digest));
                known.insert(wanted, pinned.clone());
                pinned
            }
        };
        vm.template = pinned.or_else(|| vm.template.take());
    }
}

/// Names the VMs of this host that will not reach the outside, because it lacks the program for that.
fn without_nat(project: &Project, own: &mln_protocol::id::Name) -> Option<String> {
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

/// A submitted source has its includes folded in: there is nothing to load, and on no account from this host.
struct NoFiles;

impl SourceLoader for NoFiles {
    fn load(&self, _path: &str) -> Result<String, LoadError> {
        Err(LoadError::NotFound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mln_protocol::id::{Name, PublicKey};

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
