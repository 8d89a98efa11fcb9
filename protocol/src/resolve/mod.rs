//! Tree to model: variables, inheritance, enumerations and checks.
//!
//! ```text
//! Tree ──collect──▶ what each block says ──inherit──▶ what each host says ──vm, network──▶ model::Project
//!                              └─ autoenum: further hosts ─┘        (expand: variables)
//! ```
//!
//! The only place that knows both the tree and the model. Never fails: what cannot be understood is reported and
//! left out, and everything that is wrong is reported at once. Each host is merged, made and forgotten before the
//! next, so that time and memory grow with the file and the number of hosts, and with nothing else.

mod answer;
mod autoenum;
mod claimed;
mod collect;
mod definitions;
mod expand;
mod host;
mod inherit;
mod kept;
mod link;
mod network;
mod policy;
mod query;
mod report;
mod setup;
mod size;
mod switch;
mod vm;

pub use answer::{AnsweredFile, PluginAnswer, PluginFile, Remark};
pub use expand::is_variable_name;
pub use query::query;

use std::collections::{BTreeMap, BTreeSet};

use crate::id::Name;
use crate::lang::{Code, Diagnostic, SourceId, Span, Tree};
use crate::model::{Claimed, ClaimedPlace, Kept, Mandate, Project, Switch};

use definitions::{Definitions, Guest};
use expand::{Expander, Scope};
use inherit::Inheritance;
use network::Segments;

/// How many VMs one project may have.
pub const VMS_MAX: usize = 100_000;
/// How much text the values of all VMs may have together, in bytes: variables and enumerations multiply.
pub const VALUES_BYTES_MAX: usize = 256 << 20;

/// What the file alone does not say.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Variables of the command line; they win over those of the file.
    pub variables: BTreeMap<String, String>,
    /// Whose project it is, where that is known: `$owner` stays as it is where not.
    pub owner: Option<Name>,
}

/// How much a project may come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many VMs it may have.
    pub vms: usize,
    /// How much text the values of all VMs may have together, in bytes.
    pub values_bytes: usize,
    /// How many bytes of that each thing counts beside its text that is merged, looked up or put in: so the work is bounded,
    /// also where there is little text.
    pub item_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { vms: VMS_MAX, values_bytes: VALUES_BYTES_MAX, item_bytes: 0 }
    }
}

/// A project, as well as it could be understood.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The project; not to be used for anything but showing it if one of the diagnostics is an error.
    pub project: Project,
    /// What is wrong, in the order of the text; without what parsing reported.
    pub diagnostics: Vec<Diagnostic>,
    /// What the project says that is not carried out yet.
    pub kept: Vec<Kept>,
    /// What each VM counts among and may decide; not for those that have no class and no policy.
    pub mandates: BTreeMap<Name, Mandate>,
    /// What the project says to its plugins.
    pub claimed: Vec<Claimed>,
    /// Where each file that guests receive is first asked for, by its path.
    pub file_places: BTreeMap<String, Span>,
}

/// The name of a project that has none, which is an error.
const UNNAMED: &str = "unnamed";

/// Resolves a parsed project. Never fails: what is wrong is in the diagnostics.
pub fn resolve(tree: &Tree, options: &Options) -> Resolved {
    resolve_within(tree, options, Limits::default())
}

/// Resolves a parsed project that comes from somebody who is not trusted with more: beyond the limits, it is wrong.
pub fn resolve_within(tree: &Tree, options: &Options, limits: Limits) -> Resolved {
    let mut expander = Expander::new(tree, options, limits);
    let definitions = Definitions::collect(tree, &mut expander);
    let name = project_name(&definitions, &mut expander);
    expander.project = name.as_ref().map(|name| name.as_str().to_owned());

    let guests = autoenum::guests(&definitions, &mut expander);
    let mut inheritance = Inheritance::new(&definitions);
    let mut segments = Segments::new(&definitions);
    let mut file_places = BTreeMap::new();
    let mut vms = Vec::with_capacity(guests.len());
    let mut kept = Vec::new();
    kept::Keeper { expander: &mut expander, kept: &mut kept }.outside_of_hosts(&definitions);
    let mut mandates = BTreeMap::new();
    let mut claimed = Vec::new();
    claimed_outside_of_hosts(&definitions, &mut expander, &mut claimed);
    check_amendments(&definitions, &guests, &mut expander);
    for guest in &guests {
        let chain = inheritance.chain(guest, &mut expander);
        let mut maker = vm::Maker {
            expander: &mut expander,
            segments: &mut segments,
            file_places: &mut file_places,
            kept: &mut kept,
            mandates: &mut mandates,
            claimed: &mut claimed,
        };
        vms.extend(maker.vm(&definitions, guest, &chain));
        if expander.is_exhausted() {
            expander.report_exhausted(guest.name_span);
            break;
        }
    }
    check_unused_superclasses(&definitions, &mut inheritance, &mut expander);
    let hooks = setup::hooks(&definitions, &mut expander);
    let switches: Vec<Switch> = segments.finish(&mut expander);
    expander.report_unused(options);

    let name = name.unwrap_or_else(|| Name::parse(UNNAMED).expect("a literal of letters only"));
    let project = Project { name, vms, switches, hooks };
    Resolved { project, diagnostics: expander.report.finish(), kept, mandates, claimed, file_places }
}

/// Adds what `global` and the switches say to plugins, and the plugins' settings.
fn claimed_outside_of_hosts<'a>(
    definitions: &'a Definitions<'a>,
    expander: &mut Expander<'a>,
    claimed: &mut Vec<Claimed>,
) {
    let scope = Scope::global(&definitions.global.variables);
    let mut gatherer = claimed::Gatherer { expander, claimed };
    gatherer.add(&[&definitions.top, &definitions.global], scope, |is_settings| match is_settings {
        true => ClaimedPlace::Settings,
        false => ClaimedPlace::Project,
    });
    for (name, named) in &definitions.switches {
        let Ok(name) = Name::parse(name) else { continue };
        let scope = scope.block(&named.body.variables);
        gatherer.add(&[&named.body], scope, |_| ClaimedPlace::Switch(name.clone()));
    }
}

/// Reports amendments of hosts that there are not.
fn check_amendments<'a>(definitions: &'a Definitions<'a>, guests: &[Guest<'a>], expander: &mut Expander<'a>) {
    if definitions.amendments.is_empty() {
        return;
    }
    let names: BTreeSet<&str> = guests.iter().map(|guest| guest.name.as_str()).collect();
    for (name, amendments) in &definitions.amendments {
        if names.contains(name.as_str()) {
            continue;
        }
        for amendment in amendments {
            let span = amendment.name_span;
            let diagnostic =
                Diagnostic::new(Code::AmendedUnknown, span, format!("there is no host `{name}`"))
                    .label("expected a host that the project has, also one that an enumeration makes");
            expander.report.push_unknown(diagnostic, span, name, names.iter().copied());
        }
    }
}

fn project_name<'a>(definitions: &'a Definitions<'a>, expander: &mut Expander<'a>) -> Option<Name> {
    let Some((value, span)) = definitions.global.setting("project") else {
        if !definitions.global.lacks("project") {
            return None;
        }
        let span = definitions.global_span.unwrap_or(Span::start_of(SourceId::ROOT));
        let diagnostic = Diagnostic::new(Code::ProjectUnnamed, span, "the project has no name")
            .label("expected `project NAME` in `global { }`");
        expander.report.push(diagnostic);
        return None;
    };
    let text = expander.expand(value, Scope::global(&definitions.global.variables))?;
    expander.name(&text, span, "a project's name")
}

/// Checks the values of superclasses that no host has; variables that only a host could define are let pass.
fn check_unused_superclasses<'a>(
    definitions: &'a Definitions<'a>,
    inheritance: &mut Inheritance<'a>,
    expander: &mut Expander<'a>,
) {
    for (name, class) in &definitions.superclasses {
        if inheritance.is_used(name) || expander.is_exhausted() {
            continue;
        }
        let guest = Guest::of_class(name, class);
        let chain = inheritance.chain(&guest, expander);
        let mut segments = Segments::new(definitions);
        let mut file_places = BTreeMap::new();
        let mut kept = Vec::new();
        let mut maker = vm::Maker {
            expander,
            segments: &mut segments,
            file_places: &mut file_places,
            kept: &mut kept,
            mandates: &mut BTreeMap::new(),
            claimed: &mut Vec::new(),
        };
        maker.vm(definitions, &guest, &chain);
    }
}
