//! Policies: what they name must be there. What they let a VM do is not carried out here.

use super::definitions::{Definitions, Member};
use super::expand::{Expander, Scope};
use super::inherit::{Merged, MergedContent};
use crate::lang::{Code, Diagnostic};

/// Reports each class that a policy lets grow, `may scale CLASS A..B`, and that the project does not have.
pub(super) fn check<'a>(
    body: &Merged<'a>,
    scope: Scope<'_, 'a>,
    definitions: &Definitions<'a>,
    expander: &mut Expander<'a>,
) {
    let policies = body.entries().filter(|entry| entry.keyword.word == "policy");
    for policy in policies {
        let MergedContent::Blocks(bodies) = &policy.content else { continue };
        let merged = Merged::of(bodies, scope, expander);
        let scope = scope.block(&merged.variables);
        for entry in merged.entries().filter(|entry| entry.keyword.word == "may") {
            let MergedContent::Several(values) = &entry.content else { continue };
            for value in values {
                let mut words = value.words();
                if words.next().map(|word| expander.tree.word(word)) != Some("scale") {
                    continue;
                }
                let Some(word) = words.next() else {
                    let diagnostic =
                        Diagnostic::new(Code::ValueMissing, value.span(), "`may scale` lacks its class")
                            .label("expected `may scale CLASS A..B`");
                    expander.report.push(diagnostic);
                    continue;
                };
                let Some(class) = expander.expand_word(word, scope) else { continue };
                if definitions.superclasses.contains_key(&class)
                    || enumerations(definitions).any(|name| name == class)
                {
                    continue;
                }
                let message = format!("the project has no superclass and no enumeration `{class}`");
                let diagnostic = Diagnostic::new(Code::PolicyClassUnknown, word.span, message)
                    .label("expected what there may be more of, or fewer");
                let known =
                    definitions.superclasses.keys().map(String::as_str).chain(enumerations(definitions));
                expander.report.push_unknown(diagnostic, word.span, &class, known);
            }
        }
    }
}

fn enumerations<'d>(definitions: &'d Definitions<'_>) -> impl Iterator<Item = &'d str> {
    definitions.members.iter().filter_map(|member| match member {
        Member::Enumeration(name, _) => name.as_deref(),
        Member::Host(..) => None,
    })
}
