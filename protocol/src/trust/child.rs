//! What a project is, by its text alone, and what comes of it by what a VM wants: the same bytes on every host.
//!
//! ```text
//! parent's definition ──parse, resolve──▶ Ground ──edit, parse, resolve──▶ Child: its definition, project, mandates
//! ```
//!
//! Disks stay what they were made from: the parent's definition says which image each VM has. One that is new gets that
//! of a VM whose template is written in the same words; where there is none, each host takes the newest that it has.

use std::collections::BTreeMap;

use super::envelope::{Constitution, EnvelopeError, Step};
use super::guest::{
    GUEST_DEFINITION_BYTES_MAX, GUEST_ITEM_BYTES, GUEST_TEXT_BYTES_MAX, GUEST_VALUES_BYTES_MAX,
    GUEST_VMS_MAX, Wanted,
};
use crate::id::{Digest, Label, Name};
use crate::lang::{self, Edit, NoIncludes, Setting, Severity, SourceId, Tree};
use crate::model::{Definition, Mandate, PinnedTemplate, Project, TemplateRef, Vm};
use crate::resolve::{self, Limits, Options};
use crate::wire;

/// How the text is called in what is wrong with it.
const PATH: &str = "project";

/// A project as its text makes it, ready to be asked for changes.
#[derive(Clone, Debug)]
pub struct Ground<'d> {
    definition: &'d Definition,
    label: &'d Label,
    tree: Tree,
    child: Child,
    /// What disks were made from, by how the text writes that.
    images: BTreeMap<Option<TemplateRef>, PinnedTemplate>,
}

/// A project as a text makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// What it would be submitted as.
    pub definition: Definition,
    /// That, encoded.
    pub bytes: Vec<u8>,
    /// The project; what its disks are made from is settled where that is known.
    pub project: Project,
    /// What each VM counts among and may decide.
    pub mandates: BTreeMap<Name, Mandate>,
}

/// Returns what a project becomes by what one of its VMs wants, whether it may or not.
///
/// It depends on the arguments alone: every host comes to the same bytes.
pub fn child_of(
    parent: &Definition,
    label: &Label,
    vm: &Name,
    wanted: &Wanted,
) -> Result<Child, EnvelopeError> {
    Ground::of(parent, label)?.child(vm, wanted)
}

impl Child {
    /// Returns the digest of its definition: what a revision has of it.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// Returns it as the envelope looks at it.
    pub fn constitution(&self) -> Constitution {
        let (project, mandates) = (self.project.clone(), self.mandates.clone());
        Constitution { project, mandates, definition: self.digest() }
    }
}

impl<'d> Ground<'d> {
    /// Understands a definition.
    pub fn of(definition: &'d Definition, label: &'d Label) -> Result<Self, EnvelopeError> {
        let source = definition.source.as_deref().ok_or(EnvelopeError::NoText)?;
        let (tree, mut project, mandates) = understood(definition, label, source)?;
        let mut images = BTreeMap::new();
        let pins = by_vm(definition);
        for vm in &mut project.vms {
            let written = vm.template.clone();
            if let Some(pin) = pins.get(&vm.name).filter(|pin| is_of(&written, pin)) {
                vm.template = Some(exact(pin));
                images.entry(written).or_insert_with(|| (*pin).clone());
            }
        }
        let child = Child::new(definition.clone(), project, mandates)?;
        Ok(Self { definition, label, tree, child, images })
    }

    /// Returns the project as it is.
    pub fn project(&self) -> &Child {
        &self.child
    }

    /// Returns what comes of it by what one of its VMs wants.
    pub fn child(&self, vm: &Name, wanted: &Wanted) -> Result<Child, EnvelopeError> {
        let text = match wanted {
            Wanted::Scale { class, to } => {
                let found = usize::try_from(*to).unwrap_or(usize::MAX);
                at_most("a count", found, GUEST_VMS_MAX)?;
                edited(&self.tree, &Edit::Scale { class: class.to_string(), count: *to })?
            }
            Wanted::Move { to } => edited(&self.tree, &placed(vm, &to.0))?,
            Wanted::Set { path, value } => {
                edited(&self.tree, &Edit::Set(Setting { path: path.clone(), value: value.clone() }))?
            }
            Wanted::Text(text) => {
                at_most("a text", text.len(), GUEST_TEXT_BYTES_MAX)?;
                text.clone()
            }
        };
        self.of_text(text)
    }

    /// Returns what comes of it by steps of one VM, in their order; none where the text can't be changed like that. What
    /// comes of `known`'s text is known.
    pub fn remade(&self, vm: &Name, steps: &[Step], known: &Child) -> Option<Child> {
        let mut text = root_text(&self.tree).to_owned();
        for step in steps {
            let edit = match step {
                Step::Scale { class, to } => Edit::Scale { class: class.to_string(), count: *to },
                Step::Place { to } => placed(vm, &to.0),
                // The language has no edit for them yet.
                Step::Volumes { .. } => return None,
            };
            let (tree, _) = lang::parse(PATH, text, &NoIncludes);
            text = edited(&tree, &edit).ok()?;
        }
        if known.definition.source.as_ref() == Some(&text) {
            return Some(known.clone());
        }
        self.of_text(text).ok()
    }

    fn of_text(&self, text: String) -> Result<Child, EnvelopeError> {
        let (_, mut project, mandates) = understood(self.definition, self.label, &text)?;
        let pins = by_vm(self.definition);
        for vm in &mut project.vms {
            let own = pins.get(&vm.name).copied().filter(|pin| is_of(&vm.template, pin));
            if let Some(pin) = own.or_else(|| self.images.get(&vm.template)) {
                vm.template = Some(exact(pin));
            }
        }
        let templates = project.vms.iter().filter_map(pin_of).collect();
        let definition = Definition { source: Some(text), templates, ..self.definition.clone() };
        Child::new(definition, project, mandates)
    }
}

impl Child {
    fn new(
        definition: Definition,
        project: Project,
        mandates: BTreeMap<Name, Mandate>,
    ) -> Result<Self, EnvelopeError> {
        let bytes = wire::encode_definition(&definition);
        at_most("a definition", bytes.len(), GUEST_DEFINITION_BYTES_MAX)?;
        Ok(Self { definition, bytes, project, mandates })
    }
}

fn at_most(what: &'static str, found: usize, most: usize) -> Result<(), EnvelopeError> {
    if found <= most { Ok(()) } else { Err(EnvelopeError::Large { what, found, most }) }
}

fn placed(vm: &Name, service_host: &str) -> Edit {
    Edit::Place { host: vm.to_string(), service_host: service_host.to_owned() }
}

fn edited(tree: &Tree, edit: &Edit) -> Result<String, EnvelopeError> {
    let changes = lang::edit(tree, edit)?;
    let file = lang::rewrite(tree.sources(), changes).into_iter().next();
    Ok(file.map_or_else(|| root_text(tree).to_owned(), |file| file.text))
}

fn root_text(tree: &Tree) -> &str {
    tree.sources().get(SourceId::ROOT).text()
}

/// Parses and resolves a text with the variables of a definition; nothing is loaded for it.
fn understood(
    definition: &Definition,
    label: &Label,
    text: &str,
) -> Result<(Tree, Project, BTreeMap<Name, Mandate>), EnvelopeError> {
    at_most("a text", text.len(), GUEST_DEFINITION_BYTES_MAX)?;
    let (tree, mut diagnostics) = lang::parse(PATH, text.to_owned(), &NoIncludes);
    let variables = definition.variables.iter().cloned().collect();
    let options = Options { variables, owner: Some(label.owner.clone()) };
    let limits =
        Limits { vms: GUEST_VMS_MAX, values_bytes: GUEST_VALUES_BYTES_MAX, item_bytes: GUEST_ITEM_BYTES };
    let resolved = resolve::resolve_within(&tree, &options, limits);
    diagnostics.extend(resolved.diagnostics);
    if let Some(wrong) = diagnostics.into_iter().find(|one| one.severity() == Severity::Error) {
        let line = tree.sources().position(wrong.span).line;
        return Err(EnvelopeError::Wrong { line, message: wrong.message });
    }
    Ok((tree, resolved.project, resolved.mandates))
}

fn by_vm(definition: &Definition) -> BTreeMap<&Name, &PinnedTemplate> {
    definition.templates.iter().map(|pin| (&pin.vm, pin)).collect()
}

/// Whether what a text writes can mean an image: where it writes nothing, it was the host's usual template.
fn is_of(written: &Option<TemplateRef>, pin: &PinnedTemplate) -> bool {
    written.as_ref().is_none_or(|written| *written.name() == pin.template)
}

fn exact(pin: &PinnedTemplate) -> TemplateRef {
    TemplateRef::Exact(pin.template.clone(), pin.digest)
}

fn pin_of(vm: &Vm) -> Option<PinnedTemplate> {
    match &vm.template {
        Some(TemplateRef::Exact(template, digest)) => {
            Some(PinnedTemplate { vm: vm.name.clone(), template: template.clone(), digest: *digest })
        }
        Some(TemplateRef::Newest(_) | TemplateRef::Version(..)) | None => None,
    }
}
