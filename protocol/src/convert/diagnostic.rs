//! Diagnostics in the shape that editors and scripts read.

use serde::Serialize;

use crate::lang::{Diagnostic, Rewritten, Sources, Span};

#[derive(Serialize)]
struct ReportJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<ChangeJson<'a>>>,
    diagnostics: Vec<DiagnosticJson<'a>>,
}

#[derive(Serialize)]
struct DiagnosticJson<'a> {
    code: &'static str,
    severity: &'static str,
    #[serde(flatten)]
    place: PlaceJson<'a>,
    message: &'a str,
    label: Option<&'a str>,
    others: Vec<LabelJson<'a>>,
    fix: Option<FixJson<'a>>,
    included_from: Vec<PlaceJson<'a>>,
}

/// Lines and columns count from 1, the end being the column after the last character; bytes count from 0.
#[derive(Serialize)]
struct PlaceJson<'a> {
    file: &'a str,
    line: usize,
    column: usize,
    end_line: usize,
    end_column: usize,
    start_byte: u32,
    end_byte: u32,
}

#[derive(Serialize)]
struct LabelJson<'a> {
    #[serde(flatten)]
    place: PlaceJson<'a>,
    text: &'a str,
}

#[derive(Serialize)]
struct FixJson<'a> {
    #[serde(flatten)]
    place: PlaceJson<'a>,
    replacement: &'a str,
}

/// The place is that in the text before.
#[derive(Serialize)]
struct ChangeJson<'a> {
    #[serde(flatten)]
    place: PlaceJson<'a>,
    found: &'a str,
    replacement: &'a str,
}

fn place(sources: &Sources, span: Span) -> PlaceJson<'_> {
    let start = sources.position(span);
    let end = sources.position(Span { start: span.end, ..span });
    PlaceJson {
        file: start.path,
        line: start.line,
        column: start.column,
        end_line: end.line,
        end_column: end.column,
        start_byte: span.start,
        end_byte: span.end,
    }
}

/// Returns `{"diagnostics": […]}` with everything that a diagnostic knows, on several lines.
pub fn diagnostics_json(diagnostics: &[Diagnostic], sources: &Sources) -> String {
    to_text(&ReportJson { changes: None, diagnostics: diagnostics_shape(diagnostics, sources) })
}

/// Returns `{"changes": […], "diagnostics": […]}`: what was changed, and what is still wrong in the text after.
pub fn rewritten_json(
    files: &[Rewritten],
    before: &Sources,
    diagnostics: &[Diagnostic],
    after: &Sources,
) -> String {
    let changes = files.iter().flat_map(|file| &file.changes).map(|change| ChangeJson {
        place: place(before, change.span),
        found: before.slice(change.span),
        replacement: &change.replacement,
    });
    let diagnostics = diagnostics_shape(diagnostics, after);
    to_text(&ReportJson { changes: Some(changes.collect()), diagnostics })
}

fn to_text(report: &ReportJson<'_>) -> String {
    serde_json::to_string_pretty(report).expect("strings, numbers and lists of them always serialize")
}

fn diagnostics_shape<'a>(diagnostics: &'a [Diagnostic], sources: &'a Sources) -> Vec<DiagnosticJson<'a>> {
    diagnostics
        .iter()
        .map(|diagnostic| DiagnosticJson {
            code: diagnostic.code.as_str(),
            severity: diagnostic.severity().word(),
            place: place(sources, diagnostic.span),
            message: &diagnostic.message,
            label: diagnostic.label.as_deref(),
            others: diagnostic
                .others
                .iter()
                .map(|label| LabelJson { place: place(sources, label.span), text: &label.text })
                .collect(),
            fix: diagnostic
                .fix
                .as_ref()
                .map(|fix| FixJson { place: place(sources, fix.span), replacement: &fix.replacement }),
            included_from: sources
                .chain(diagnostic.span.source)
                .map(|include| place(sources, include))
                .collect(),
        })
        .collect()
}
