//! Every code is explained, by an example that has it.

use std::collections::BTreeSet;

use mln_protocol::lang::{Code, Diagnostic, Explanation, LoadError, SourceLoader};

use crate::{options, understand};

/// The files of an example.
struct Beside<'e>(&'e Explanation);

impl SourceLoader for Beside<'_> {
    fn load(&self, path: &str) -> Result<String, LoadError> {
        let found = self.0.beside.iter().find(|(name, _)| *name == path);
        found.map(|(_, text)| (*text).to_owned()).ok_or(LoadError::NotFound)
    }
}

fn diagnostics(text: &str, explanation: &Explanation) -> Vec<Diagnostic> {
    let variables: Vec<(&str, &str)> =
        explanation.variables.iter().filter_map(|variable| variable.split_once('=')).collect();
    understand("example.mln", text, &Beside(explanation), &options(&variables)).2
}

/// Codes about what is found on disk, and what plugins do; the command line's tests look at them.
const ON_DISK: [Code; 6] = [
    Code::FileUnread,
    Code::FileAbsent,
    Code::PluginForbidden,
    Code::PluginFailed,
    Code::PluginRefuses,
    Code::PluginWarns,
];

#[test]
fn every_code_has_a_paragraph_and_an_example_with_it_and_nothing_else() {
    let mut astray = Vec::new();
    for &code in Code::ALL {
        let explanation = code.explanation();
        assert!(explanation.paragraph.len() > 50, "{code}: no paragraph");
        assert!(!explanation.paragraph.contains("Wrong"), "{code}: {}", explanation.paragraph);
        let right = diagnostics(explanation.right, &explanation);
        if !right.is_empty() {
            astray.push(format!("{code}: the right example is not right: {right:#?}"));
        }
        if ON_DISK.contains(&code) {
            continue;
        }
        let mut found: BTreeSet<Code> =
            diagnostics(explanation.wrong, &explanation).iter().map(|one| one.code).collect();
        // Nothing that is carried out can be nested so deeply.
        if code == Code::NestingDeep {
            found.remove(&Code::NotYet);
        }
        if found != BTreeSet::from([code]) {
            astray.push(format!("{code}: the wrong example has {found:?}"));
        }
    }
    assert!(astray.is_empty(), "{}", astray.join("\n"));
}

#[test]
fn fixes_of_examples_mend_them() {
    let mut mended = 0;
    for &code in Code::ALL {
        let explanation = code.explanation();
        let found = diagnostics(explanation.wrong, &explanation);
        let Some(fix) = found.first().and_then(|one| one.fix.clone()) else { continue };
        let mut text = explanation.wrong.to_owned();
        text.replace_range(fix.span.start as usize..fix.span.end as usize, &fix.replacement);
        assert_eq!(diagnostics(&text, &explanation), [], "{code}: not mended by its fix");
        mended += 1;
    }
    assert!(mended >= 7, "only {mended} codes have a fix");
}
