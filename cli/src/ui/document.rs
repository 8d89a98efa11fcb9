//! One JSON document in other forms: YAML, and CSV for what is a table.

use serde_json::{Map, Value};

/// In which form a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    Json,
    /// As YAML, with the same fields.
    Yaml,
    /// As lines of values, the names of the fields first.
    Csv,
}

/// Returns a document in a form, with a line's end.
pub fn written(document: &Value, form: Form) -> String {
    match form {
        Form::Json => format!("{document:#}\n"),
        Form::Yaml => yaml(document),
        Form::Csv => csv(document),
    }
}

fn yaml(document: &Value) -> String {
    let mut lines = Vec::new();
    block(document, &mut lines);
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Adds the lines of a value.
fn block(value: &Value, lines: &mut Vec<String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let name = scalar_text(name);
                if is_block(value) {
                    lines.push(format!("{name}:"));
                    nested(value, "  ", "  ", lines);
                } else {
                    lines.push(format!("{name}: {}", scalar(value)));
                }
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                nested(item, "- ", "  ", lines);
            }
        }
        other => lines.push(scalar(other)),
    }
}

/// Adds the lines of a value behind others: `first` stands before its first line, `next` before all further ones.
fn nested(value: &Value, first: &str, next: &str, lines: &mut Vec<String>) {
    let mut own = Vec::new();
    block(value, &mut own);
    let before = std::iter::once(first).chain(std::iter::repeat(next));
    lines.extend(before.zip(own).map(|(before, line)| format!("{before}{line}")));
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => scalar_text(text),
        other => other.to_string(),
    }
}

/// Words that YAML takes for something else than a text, in its old version or its new one.
const RESERVED: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];

/// Returns a text as YAML has it: plain where nobody could take it for anything else, and else in quotes, as in JSON.
fn scalar_text(text: &str) -> String {
    let begins = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_' || c == '/');
    let is_plain = begins
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
        && !RESERVED.contains(&text.to_ascii_lowercase().as_str());
    if is_plain { text.to_owned() } else { Value::String(text.to_owned()).to_string() }
}

/// Returns the rows of a document: of its first field that is a table, where it is none itself.
fn rows_of(document: &Value) -> Vec<&Map<String, Value>> {
    match document {
        Value::Array(items) => items.iter().filter_map(Value::as_object).collect(),
        Value::Object(fields) => fields.values().find_map(table).unwrap_or_else(|| vec![fields]),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

/// Returns the rows of what is an array of objects, and not empty.
fn table(value: &Value) -> Option<Vec<&Map<String, Value>>> {
    let items = value.as_array().filter(|items| !items.is_empty())?;
    items.iter().map(Value::as_object).collect()
}

fn csv(document: &Value) -> String {
    let rows = rows_of(document);
    let mut names: Vec<&str> = Vec::new();
    for name in rows.iter().flat_map(|row| row.keys()) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    if names.is_empty() {
        return String::new();
    }
    let line = |cells: Vec<String>| cells.join(",") + "\n";
    let head = line(names.iter().map(|name| cell(name)).collect());
    let body = rows
        .iter()
        .map(|row| line(names.iter().map(|name| row.get(*name).map_or_else(String::new, cell_of)).collect()));
    std::iter::once(head).chain(body).collect()
}

/// Returns a value in a cell: what is no single value is JSON there.
fn cell_of(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => cell(text),
        other => cell(&other.to_string()),
    }
}

fn cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(form: Form, document: &Value, expect: &str) {
        assert_eq!(written(document, form), expect);
    }

    #[test]
    fn yaml_has_the_same_fields_and_quotes_what_could_be_something_else() {
        let document = json!([
            { "age": 7, "groups": ["lab", "no"], "in": { "a": [] }, "name": "oslo", "up": true, "why": null },
            { "name": "12", "text": "a: b\n" },
        ]);
        let expect = "\
- age: 7
  groups:
    - lab
    - \"no\"
  in:
    a: []
  name: oslo
  up: true
  why: null
- name: \"12\"
  text: \"a: b\\n\"
";
        check(Form::Yaml, &document, expect);
        check(Form::Yaml, &json!([]), "[]\n");
        check(Form::Yaml, &json!({ "a b": [[1, 2], {}] }), "\"a b\":\n  - - 1\n    - 2\n  - {}\n");
    }

    #[test]
    fn csv_names_its_fields_and_keeps_lines_apart() {
        let rows = json!([{ "name": "a,b", "vms": 3 }, { "name": "say \"no\"", "groups": ["x", "y"] }]);
        let expect = "name,vms,groups\n\"a,b\",3,\n\"say \"\"no\"\"\",,\"[\"\"x\"\",\"\"y\"\"]\"\n";
        check(Form::Csv, &rows, expect);
        check(Form::Csv, &json!({ "total": { "vms": 1 }, "hosts": [{ "name": "oslo" }] }), "name\noslo\n");
        check(Form::Csv, &json!({ "agent": "0.1.0", "mesh": null }), "agent,mesh\n0.1.0,\n");
        check(Form::Csv, &json!([]), "");
    }
}
