//! From a submitted text to what a node is asked for: understood here again, passwords hashed, files stored, templates
//! settled, and kept as it was submitted.

use std::collections::BTreeMap;

use mln_link::Reply;
use mln_protocol::id::{Digest, Label, Name, PublicKey};
use mln_protocol::lang::{self, LoadError, Severity, SourceLoader};
use mln_protocol::model::{Blob, PinnedTemplate, Project, TemplateRef, Vm};
use mln_protocol::resolve::{self, Options};

use super::{failure, refusal};
use crate::blob::{BlobError, Blobs};
use crate::causes::chain;
use crate::control::{Account, SubmittedFile, crypt_password};
use crate::definition;
use crate::image::exchange::{Exchange, newest};
use crate::platform::Platform;

/// What was submitted.
#[derive(Debug)]
pub(super) struct Submission {
    /// The text.
    pub(super) source: String,
    /// The variables of the command line.
    pub(super) vars: Vec<(String, String)>,
    /// The files that came along.
    pub(super) files: Vec<SubmittedFile>,
    /// The contents that are known already.
    pub(super) kept: Vec<Blob>,
}

/// What has come of it.
#[derive(Debug)]
pub(super) struct Understood {
    /// What people call the project.
    pub(super) label: Label,
    /// The project; passwords are hashed.
    pub(super) project: Project,
    /// The contents of its files.
    pub(super) blobs: Vec<Blob>,
    /// The text, where it may be kept.
    source: Option<String>,
    vars: Vec<(String, String)>,
}

/// Resolves a submitted project, hashes its plain passwords, and stores the contents of its files. `label_of` says whose
/// project of that name is meant.
///
/// It was resolved where it was submitted; here it is resolved again, because only what this agent has understood itself is
/// acted upon.
pub(super) fn understand(
    submission: Submission,
    owner: &Name,
    label_of: impl FnOnce(&Name) -> Label,
    mesh: PublicKey,
    blobs: &Blobs,
) -> Result<Understood, Vec<Reply>> {
    let Submission { source, vars, files, kept } = submission;
    let (tree, mut diagnostics) = lang::parse("project", source.clone(), &NoFiles);
    let variables: BTreeMap<String, String> = vars.iter().cloned().collect();
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
    let label = label_of(&project.name);
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
    let stored: Result<Vec<Blob>, BlobError> = stored.collect();
    let mut stored =
        stored.map_err(|error| vec![failure("storing a file of the project", chain(&error), &[])])?;
    stored.extend(kept);
    let source = (!definition::has_plain_password(&tree)).then_some(source);
    Ok(Understood { label, project, blobs: stored, source, vars })
}

impl Understood {
    /// Stores what was submitted, and adds it to the contents; its templates must be settled.
    pub(super) fn keep(mut self, blobs: &Blobs) -> Result<(Label, Project, Vec<Blob>), Vec<Reply>> {
        let defined = definition::define(self.source, self.vars, &self.blobs, &self.project);
        let stored = definition::store(blobs, &defined)
            .map_err(|error| vec![failure("keeping the project's text", chain(&error), &[])])?;
        self.blobs.push(stored);
        Ok((self.label, self.project, self.blobs))
    }

    /// Lets the VMs that are there keep what their disks were made from, unless their definition says something else.
    pub(super) fn keep_templates(&mut self, platform: &dyn Platform, pinned: &[PinnedTemplate]) {
        for vm in &mut self.project.vms {
            let wanted = platform.template_of(vm);
            let is_newest = matches!(&wanted, TemplateRef::Newest(_));
            let pin = pinned.iter().find(|pin| pin.vm == vm.name && pin.template == *wanted.name());
            if let Some(pin) = pin.filter(|_| is_newest) {
                vm.template = Some(TemplateRef::Exact(pin.template.clone(), pin.digest));
            }
        }
    }
}

/// Returns what the disks of these VMs were made from.
pub(super) fn pinned(vms: &[Vm]) -> impl Iterator<Item = PinnedTemplate> {
    vms.iter().filter_map(|vm| match &vm.template {
        Some(TemplateRef::Exact(template, digest)) => {
            Some(PinnedTemplate { vm: vm.name.clone(), template: template.clone(), digest: *digest })
        }
        Some(TemplateRef::Newest(_) | TemplateRef::Version(..)) | None => None,
    })
}

/// Settles for the whole project which image each template is, so that all hosts build from the same.
///
/// What this host has under the name counts, else the newest that a connected host has. What nobody has is left as it
/// is: the hosts that need it refuse, and say so.
pub(super) async fn pin_templates(exchange: &Exchange, platform: &dyn Platform, project: &mut Project) {
    let mut known: BTreeMap<TemplateRef, Option<TemplateRef>> = BTreeMap::new();
    for vm in &mut project.vms {
        let wanted = platform.template_of(vm);
        // It is settled already.
        if let TemplateRef::Exact(..) = wanted {
            continue;
        }
        let pinned = match known.get(&wanted) {
            Some(pinned) => pinned.clone(),
            None => {
                let digest: Option<Digest> = match exchange.images().resolve(&wanted) {
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

/// A submitted source has its includes folded in: there is nothing to load, and on no account from this host.
pub(super) struct NoFiles;

impl SourceLoader for NoFiles {
    fn load(&self, _path: &str) -> Result<String, LoadError> {
        Err(LoadError::NotFound)
    }
}
