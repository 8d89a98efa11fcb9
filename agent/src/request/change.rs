//! `plan`, `upgrade`, `scale`, `rollback` and `resolve`: what a project is to be, worked out for the node.

use mln_link::Reply;
use mln_link::message::{
    Change, ChangeConsent, ChangeContent, Definition as DefinitionReply, LeftOut, ProjectRef, Revised,
    RevisionRef, RevisionStanding,
};
use mln_protocol::id::{Digest, Label, Name, ProjectId, PublicKey};
use mln_protocol::model::{Blob, PinnedTemplate, Project};
use mln_protocol::node::{
    BuildOrder, ExistingProject, Intention, OnFailure, Operation, ReviseContent, ReviseOrder, RunningVms,
};
use mln_protocol::record::Consent;

use super::build::{cut_off, hooks_from_elsewhere, without_nat};
use super::prepare::{Submission, pin_templates, pinned, understand};
use super::{answer, log, refusal, select};
use crate::control::{Operator, ReplySender, SubmittedFile};
use crate::definition;
use crate::event_loop::{EventLoop, Work};
use crate::operations::Kind;

/// Of how many of the newest revisions those who published them are asked for what a project was submitted as.
const PUBLISHERS_MAX: usize = 64;

/// What a change is worked out for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To say what would come of it.
    Plan,
    /// To make it.
    Upgrade,
}

/// A change whose text is understood, or not.
#[derive(Debug)]
pub(crate) struct PreparedChange {
    purpose: Purpose,
    change: Change,
    operator: Operator,
    reply: ReplySender,
    result: Result<(Label, Project, Vec<Blob>), Vec<Reply>>,
}

/// What is known of a project that a text may mean.
#[derive(Clone, Debug)]
struct Known {
    label: Label,
    /// The digests of what it was submitted as, newest first.
    submitted: Vec<Digest>,
    /// Who may have that.
    hosts: Vec<PublicKey>,
    /// What disks on this host were made from.
    here: Vec<PinnedTemplate>,
}

impl EventLoop {
    pub(super) async fn request_change(
        &mut self,
        purpose: Purpose,
        change: Change,
        files: Vec<SubmittedFile>,
        operator: &Operator,
        reply: ReplySender,
    ) {
        let (source, vars) = match &change.content {
            ChangeContent::Text { source, vars, .. } => (source.clone(), Some(vars.clone())),
            ChangeContent::Edited { source } => (source.clone(), None),
            ChangeContent::Revision(_) | ChangeContent::Head(_) => {
                return self.change_to_revision(purpose, &change, operator, reply).await;
            }
        };
        // A text with what the project has already: that is the head's.
        let base = match (&vars, &change.project) {
            (None, Some(project)) => match select::project(&self.node, project, operator) {
                Ok(project) => self.node.submitted(project.id).into_iter().next(),
                Err(wrong) => return answer(&reply, [*wrong]),
            },
            (None, None) => {
                let text = "it is not said which project the text is of".to_owned();
                return answer(&reply, [refusal("malformed", text, None)]);
            }
            (Some(_), _) => None,
        };
        self.preparing += 1;
        let known: Vec<Known> = self.node.projects().iter().map(|project| self.known(project.id)).collect();
        let (operator, mesh_root) = (operator.clone(), self.identity.root);
        let (blobs, mesh, results) = (self.blobs.clone(), self.mesh.clone(), self.results.clone());
        let (exchange, platform) = (self.exchange.clone(), self.platform.clone());
        // Hashing passwords, writing files and asking others takes a while, in which the loop has others to serve.
        tokio::spawn(async move {
            let result = async {
                let mut kept = Vec::new();
                let mut variables = vars.unwrap_or_default();
                if let Some(base) = base {
                    let hosts: Vec<PublicKey> = known.iter().flat_map(|known| known.hosts.clone()).collect();
                    let found = definition::find(&blobs, &mesh, &[base], &hosts).await;
                    let (_, found) = found.ok_or_else(|| vec![not_kept()])?;
                    (kept, variables) = (found.files, found.variables);
                }
                let submission = Submission { source, vars: variables, files, kept };
                let (store, owner) = (blobs.clone(), operator.name.clone());
                let labels: Vec<Label> = known.iter().map(|known| known.label.clone()).collect();
                let preparing = tokio::task::spawn_blocking(move || {
                    let label_of = |project: &Name| meant(&labels, &owner, project);
                    understand(submission, &owner, label_of, mesh_root, &store)
                });
                let mut understood = preparing.await.unwrap_or_else(|_| Err(cut_off()))?;
                if let Some(known) = known.iter().find(|known| known.label == understood.label) {
                    let found = definition::find(&blobs, &mesh, &known.submitted, &known.hosts).await;
                    let mut pins = found.map(|(_, found)| found.templates).unwrap_or_default();
                    pins.splice(0..0, known.here.iter().cloned());
                    understood.keep_templates(&*platform, &pins);
                    for blob in &understood.blobs {
                        // Whoever is asked to build takes them from here.
                        for host in &known.hosts {
                            if blobs.fetch(&mesh, Some(*host), blob.digest).await.is_ok() {
                                break;
                            }
                        }
                    }
                }
                pin_templates(&exchange, &*platform, &mut understood.project).await;
                match hooks_from_elsewhere(operator.origin, &understood.label, &understood.project) {
                    Some(refused) => Err(vec![refused]),
                    None => understood.keep(&blobs),
                }
            }
            .await;
            let prepared = PreparedChange { purpose, change, operator, reply, result };
            // The loop has ended if nobody listens.
            let _ = results.send(Work::PreparedChange(Box::new(prepared))).await;
        });
    }

    fn known(&self, project: ProjectId) -> Known {
        let head = self.node.heads(project).map(|heads| heads.head());
        let commit = head.and_then(|head| self.node.revision(head));
        let label = commit.map(|commit| commit.revision.label.clone());
        let part = commit.and_then(|commit| self.node.part(commit.host(self.node.key())?.fragment));
        Known {
            label: label.unwrap_or_else(|| Label {
                owner: self.identity.name.clone(),
                project: self.identity.name.clone(),
            }),
            submitted: self.node.submitted(project),
            hosts: self.holders(project),
            here: part.map(|part| pinned(&part.vms).collect()).unwrap_or_default(),
        }
    }

    /// Returns the connected hosts that may have what a project was submitted as, likeliest first.
    pub(crate) fn holders(&self, project: ProjectId) -> Vec<PublicKey> {
        let me = self.node.key();
        let head = self.node.heads(project).and_then(|heads| self.node.revision(heads.head()));
        let newest = self.node.newest(project).take(PUBLISHERS_MAX);
        let mut hosts: Vec<PublicKey> = newest.map(|revision| revision.publisher).collect();
        hosts.extend(head.iter().flat_map(|commit| &commit.revision.hosts).map(|host| host.key));
        let mut seen = std::collections::BTreeSet::new();
        hosts.retain(|host| *host != me && self.connected.contains(host) && seen.insert(*host));
        hosts
    }

    /// Goes on with a change whose text is understood.
    pub(crate) async fn change_prepared(&mut self, prepared: PreparedChange) {
        let PreparedChange { purpose, change, operator, reply, result } = prepared;
        let (label, project, blobs) = match result {
            Ok(result) => result,
            Err(wrong) => {
                answer(&reply, wrong);
                return self.work_over();
            }
        };
        if let Some(text) = without_nat(&project, &self.identity.name) {
            // Nobody listens any more if it can't be said; the change goes on.
            let _ = reply.post(Reply::Warning { text });
        }
        self.warn_of_strange_hosts(&project, &reply);
        let found = match select::labelled(&self.node, &label) {
            Ok(found) => found,
            Err(wrong) => {
                answer(&reply, [*wrong]);
                return self.work_over();
            }
        };
        let author = self.author(&operator);
        let intention = match (found, purpose) {
            (Some(found), _) => {
                let content = ReviseContent::Definition { project, blobs };
                match self.order(found.id, &change, content, author) {
                    Ok(order) => Intention::Revise(Box::new(order)),
                    Err(wrong) => {
                        answer(&reply, [*wrong]);
                        return self.work_over();
                    }
                }
            }
            (None, Purpose::Plan) => Intention::Build(Box::new(BuildOrder {
                label: label.clone(),
                project,
                blobs,
                author,
                existing: ExistingProject::Refuse,
                on_failure: OnFailure::Undo,
            })),
            (None, Purpose::Upgrade) => {
                let text = format!("there is no project {label} to be changed");
                let who = Some("you: mlnctl build -f FILE");
                answer(&reply, [refusal("no-such-project", text, who)]);
                return self.work_over();
            }
        };
        match purpose {
            // Its contents are wanted until all have answered.
            Purpose::Plan => {
                let texts = self.texts(&label.owner, &intention);
                self.plan(label, &intention, &operator, reply, texts);
            }
            Purpose::Upgrade => {
                self.preparing -= 1;
                self.revise(&label, intention, &operator, reply).await;
            }
        }
    }

    /// Takes note that contents are no longer wanted by work that was under way.
    pub(crate) fn work_over(&mut self) {
        self.preparing -= 1;
        self.drop_unused_blobs();
    }

    /// Goes back to a revision, or chooses among heads.
    async fn change_to_revision(
        &mut self,
        purpose: Purpose,
        change: &Change,
        operator: &Operator,
        reply: ReplySender,
    ) {
        let wanted = match &change.project {
            Some(project) => select::project(&self.node, project, operator),
            None => Err(Box::new(refusal("malformed", "it is not said which project".to_owned(), None))),
        };
        let project = match wanted {
            Ok(project) => project,
            Err(wrong) => return answer(&reply, [*wrong]),
        };
        let to = match &change.content {
            ChangeContent::Head(head) => log::find_head(&self.node, project.id, head),
            ChangeContent::Revision(Some(revision)) => log::find(&self.node, project.id, revision)
                .and_then(|found| log::kept(&self.node, project.id, found)),
            _ => log::before(&self.node, project.id),
        };
        let order = to.and_then(|to| {
            let mut change = change.clone();
            if let ChangeContent::Head(_) = change.content {
                change.from_head = Some(to.to_string());
            }
            self.order(project.id, &change, ReviseContent::Revision(to), self.author(operator))
        });
        let intention = match order {
            Ok(order) => Intention::Revise(Box::new(order)),
            Err(wrong) => return answer(&reply, [*wrong]),
        };
        match purpose {
            Purpose::Plan => {
                self.preparing += 1;
                let texts = self.texts(&project.label.owner, &intention);
                self.plan(project.label, &intention, operator, reply, texts);
            }
            Purpose::Upgrade => self.revise(&project.label, intention, operator, reply).await,
        }
    }

    fn author(&self, operator: &Operator) -> String {
        format!("{} at {}", operator.name, self.identity.name)
    }

    fn order(
        &self,
        project: ProjectId,
        change: &Change,
        content: ReviseContent,
        author: String,
    ) -> Result<ReviseOrder, Box<Reply>> {
        let head = self.node.heads(project).map(|heads| heads.head());
        let now = head.map(|head| head.to_string()).unwrap_or_default();
        if let Some(seen) = change.seen.as_ref().filter(|seen| **seen != now) {
            let text = format!(
                "the project stands at {} by now, and not at {}: look at it and ask again",
                now.get(..8).unwrap_or(&now),
                seen.get(..8).unwrap_or(seen)
            );
            return Err(Box::new(refusal("overtaken", text, None)));
        }
        let from_head = match &change.from_head {
            Some(head) => Some(log::find(&self.node, project, head)?),
            None => None,
        };
        Ok(ReviseOrder {
            project,
            content,
            author,
            reason: change.reason.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect(),
            consent: match change.consent {
                ChangeConsent::Majority => Consent::Majority,
                ChangeConsent::Partial => Consent::Partial,
            },
            running: match change.left_out {
                LeftOut::Refuse => RunningVms::Refuse,
                LeftOut::Stop => RunningVms::Stop,
            },
            from_head,
            keep_removed_ms: change.keep_removed_ms.min(KEEP_REMOVED_MS_MAX),
        })
    }

    async fn revise(&mut self, label: &Label, intention: Intention, operator: &Operator, reply: ReplySender) {
        let Intention::Revise(order) = intention else { return };
        let op = self.operations.begin_change(reply, Kind::Upgrade, label.project.clone(), order.project);
        self.operate(op, Operation::Revise(order), operator).await;
    }

    /// Returns where a project stands.
    pub(crate) fn revised(&self, project: ProjectId) -> Option<Revised> {
        let label = self.node.label(project)?;
        let head = self.node.heads(project)?.head();
        let view = self.node.newest(project).find(|view| view.commit.digest == head)?;
        Some(Revised {
            owner: label.owner,
            project: label.project,
            head: log::reference(&view),
            standing: log::standing(view.standing),
        })
    }

    /// Returns where a project stands, for those who are about to change it.
    pub(super) fn head_of(&self, label: &Label) -> Option<RevisionRef> {
        let project = self.node.projects().into_iter().find(|project| project.label == *label)?;
        self.revised(project.id).map(|revised| revised.head)
    }

    /// Answers with what a project was submitted as.
    pub(super) fn request_definition(&self, wanted: &ProjectRef, operator: &Operator, reply: ReplySender) {
        let project = match select::project(&self.node, wanted, operator) {
            Ok(project) => project,
            Err(wrong) => return answer(&reply, [*wrong]),
        };
        let (known, revised) = (self.known(project.id), self.revised(project.id));
        let digest = self.node.submitted(project.id).into_iter().next();
        let (blobs, mesh) = (self.blobs.clone(), self.mesh.clone());
        tokio::spawn(async move {
            let wanted: Vec<Digest> = digest.into_iter().collect();
            let found = definition::find(&blobs, &mesh, &wanted, &known.hosts).await;
            let source = found.and_then(|(_, found)| Some((found.source?, found.variables)));
            if let (Some(_), Some(RevisionStanding::Partial)) =
                (&source, revised.as_ref().map(|it| it.standing))
            {
                let text = "the project stands at a partial revision: hosts that were away have their parts as before";
                // Whoever has gone misses nothing.
                let _ = reply.post(Reply::Warning { text: text.to_owned() });
            }
            let told = match (source, revised) {
                (Some((source, vars)), Some(revised)) => Reply::Definition(Box::new(DefinitionReply {
                    owner: revised.owner,
                    project: revised.project,
                    revision: revised.head,
                    source,
                    vars,
                })),
                _ => not_kept(),
            };
            answer(&reply, [told]);
        });
    }
}

/// The longest time for which the disk of a VM that is left out is kept, in milliseconds: ten years.
const KEEP_REMOVED_MS_MAX: u64 = 10 * 365 * 86_400_000;

/// How long a reason may be, in characters.
const REASON_CHARS_MAX: usize = 200;

/// Returns whose project of a name is meant: one's own, or the only one; one's own also where there is none.
fn meant(labels: &[Label], owner: &Name, project: &Name) -> Label {
    let own = Label { owner: owner.clone(), project: project.clone() };
    let mut named = labels.iter().filter(|label| label.project == *project);
    match (labels.contains(&own), named.next(), named.next()) {
        (false, Some(only), None) => only.clone(),
        _ => own,
    }
}

pub(super) fn not_kept() -> Reply {
    refusal(
        "definition",
        "the text that this revision came from is not kept: a password stands in it in plain, or no host that has it is \
         there"
            .to_owned(),
        Some("the author of the project: write passwords as crypt(5) has them, or change the file: mlnctl upgrade -f FILE"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_ones_own_project_or_else_the_only_one() {
        let name = |text: &str| Name::parse(text).expect("a name");
        let label = |owner: &str, project: &str| Label { owner: name(owner), project: name(project) };
        let labels = [label("anna", "ring"), label("bob", "ring"), label("bob", "web")];
        assert_eq!(meant(&labels, &name("anna"), &name("ring")), label("anna", "ring"));
        assert_eq!(meant(&labels, &name("anna"), &name("web")), label("bob", "web"));
        assert_eq!(meant(&labels, &name("carl"), &name("ring")), label("carl", "ring"));
        assert_eq!(meant(&labels, &name("carl"), &name("new")), label("carl", "new"));
    }
}
