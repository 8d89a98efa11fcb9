//! What codes mean, in the shape that editors and scripts read.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::lang::Code;

#[derive(Serialize)]
struct CodeJson {
    code: &'static str,
    severity: &'static str,
    title: &'static str,
    explanation: &'static str,
    wrong: &'static str,
    right: &'static str,
    files: BTreeMap<&'static str, &'static str>,
    variables: Vec<&'static str>,
}

impl From<Code> for CodeJson {
    fn from(code: Code) -> Self {
        let explanation = code.explanation();
        Self {
            code: code.as_str(),
            severity: code.severity().word(),
            title: code.title(),
            explanation: explanation.paragraph,
            wrong: explanation.wrong,
            right: explanation.right,
            files: explanation.beside.into_iter().collect(),
            variables: explanation.variables,
        }
    }
}

/// Returns what a code means, as an object on several lines.
pub fn explanation_json(code: Code) -> String {
    serde_json::to_string_pretty(&CodeJson::from(code)).expect("strings and maps of them always serialize")
}

/// Returns what codes mean, as an array of the objects of [`explanation_json`].
pub fn explanations_json(codes: &[Code]) -> String {
    let codes: Vec<CodeJson> = codes.iter().copied().map(CodeJson::from).collect();
    serde_json::to_string_pretty(&codes).expect("strings and maps of them always serialize")
}
