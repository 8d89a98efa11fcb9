//! What `show --json` prints is what `docs/show.schema.json` says.

use jsonschema::Validator;
use mln_protocol::convert;
use serde_json::Value;

use crate::golden::{cases, variables_of};
use crate::{Folder, crate_folder, options, understand};

fn schema() -> Value {
    let path = crate_folder().join("../docs/show.schema.json");
    let text = std::fs::read_to_string(path).expect("the schema is part of the repository");
    serde_json::from_str(&text).expect("the schema is JSON")
}

fn validator() -> Validator {
    jsonschema::draft202012::new(&schema()).expect("the schema is one")
}

/// Returns what is shown of each case, its diagnostics included; without what VMs may decide.
fn shown() -> Vec<(String, Value)> {
    let strip = |mut value: Value| {
        for host in value.pointer_mut("/hosts").and_then(Value::as_array_mut).into_iter().flatten() {
            host.as_object_mut().and_then(|host| host.shift_remove("policies"));
        }
        value
    };
    shown_whole().into_iter().map(|(path, value)| (path, strip(value))).collect()
}

/// Returns all that is shown of each case, its diagnostics included.
fn shown_whole() -> Vec<(String, Value)> {
    let loader = Folder(crate_folder().join("tests/lang"));
    let show = |folder: &str, case: &std::path::Path| {
        let text = std::fs::read_to_string(case).expect("cases are text");
        let name = case.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let path = format!("{folder}/{name}");
        let (tree, resolved, diagnostics) = understand(&path, &text, &loader, &options(&variables_of(&text)));
        let shown = convert::Shown {
            project: &resolved.project,
            mandates: &resolved.mandates,
            owner: None,
            diagnostics: &diagnostics,
            sources: tree.sources(),
            made_files: &[],
        };
        let json = shown.to_json();
        (path, serde_json::from_str(&json).expect("what is shown is JSON"))
    };
    ["ok", "wrong"]
        .iter()
        .flat_map(|folder| cases(folder).into_iter().map(|case| show(folder, &case)))
        .collect()
}

#[test]
fn every_case_is_shown_as_the_schema_says() {
    let validator = validator();
    let mut astray = Vec::new();
    for (path, value) in shown_whole() {
        astray.extend(
            validator.iter_errors(&value).map(|error| format!("{path}: {}: {error}", error.instance_path())),
        );
    }
    assert!(astray.is_empty(), "{}", astray.join("\n"));
}

/// Takes each key of each object out, and puts one in that is none; returns where that was let pass.
fn let_pass(whole: &Value, at: &str, validator: &Validator) -> Vec<String> {
    let found = whole.pointer(at).expect("the path was made from the value");
    let mut passed = Vec::new();
    match found {
        Value::Object(object) => {
            let mut others: Vec<(String, Value)> = Vec::new();
            for key in object.keys() {
                let mut fewer = object.clone();
                fewer.shift_remove(key);
                others.push((format!("{at} without {key}"), Value::Object(fewer)));
            }
            let mut more = object.clone();
            more.insert("strange".to_owned(), Value::Null);
            others.push((format!("{at} with a strange key"), Value::Object(more)));
            for (what, other) in others {
                let mut changed = whole.clone();
                *changed.pointer_mut(at).expect("it is there") = other;
                passed.extend(validator.is_valid(&changed).then_some(what));
            }
            passed.extend(object.keys().flat_map(|key| let_pass(whole, &format!("{at}/{key}"), validator)));
        }
        Value::Array(items) => {
            // All items are of one kind: the first tells.
            passed.extend(items.iter().take(1).flat_map(|_| let_pass(whole, &format!("{at}/0"), validator)));
        }
        _ => {}
    }
    passed
}

#[test]
fn the_schema_misses_nothing_and_lets_nothing_else_pass() {
    let validator = validator();
    let mut seen = String::new();
    for (path, value) in
        shown().iter().filter(|(path, _)| path.starts_with("ok/rows-") || path == "ok/warnings.mln")
    {
        assert_eq!(let_pass(value, "", &validator), Vec::<String>::new(), "{path}");
        seen += &value.to_string();
    }
    for kind in
        ["\"uid\":1003", "\"mode\":\"0600\"", "\"mac\":\"02:", "\"members\":[\"", "\"severity\":\"warning\""]
    {
        assert!(seen.contains(kind), "no case shows {kind}");
    }
}

#[test]
fn the_schema_of_policies_misses_nothing_and_lets_nothing_else_pass() {
    let validator = validator();
    let whole =
        shown_whole().into_iter().find(|(path, _)| path == "ok/policy.mln").expect("the case is there").1;
    let hosts = whole.pointer("/hosts").and_then(Value::as_array).map_or(0, Vec::len);
    for host in 0..hosts {
        let policies = format!("/hosts/{host}/policies");
        let there = whole.pointer(&policies).and_then(Value::as_array).map_or(0, Vec::len);
        for policy in 0..there {
            let passed = let_pass(&whole, &format!("{policies}/{policy}"), &validator);
            assert_eq!(passed, Vec::<String>::new(), "{policies}/{policy}");
        }
    }
}
