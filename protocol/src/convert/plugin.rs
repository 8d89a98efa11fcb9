//! What plugins are told, and what they answer: version 1 of their JSON.

use data_encoding::BASE64;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::project::project_value;
use crate::lang::{AmendedSetting, NamedPlugin, Severity};
use crate::model::{Claimed, ClaimedPlace, ClaimedValue};
use crate::resolve::{AnsweredFile, PluginAnswer, Remark, Resolved};

/// The version of what plugins are told, and of what they answer.
const VERSION: u64 = 1;
/// The permission bits of a file for which a plugin gives none.
const MODE_DEFAULT: u32 = 0o644;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerJson {
    version: u64,
    #[serde(default)]
    text: String,
    #[serde(default)]
    set: Vec<SetJson>,
    #[serde(default)]
    files: Vec<FileJson>,
    #[serde(default)]
    startup: Vec<StartupJson>,
    #[serde(default)]
    diagnostics: Vec<DiagnosticJson>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetJson {
    host: String,
    network: Option<String>,
    keyword: String,
    value: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileJson {
    host: String,
    path: String,
    mode: Option<String>,
    text: Option<String>,
    base64: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StartupJson {
    host: String,
    lines: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DiagnosticJson {
    severity: SeverityJson,
    message: String,
    host: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum SeverityJson {
    Error,
    Warning,
}

/// Why an answer is none.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// It is not the JSON that is expected.
    #[error("its answer is not what is expected: {0}")]
    Malformed(#[from] serde_json::Error),
    /// It is of another version.
    #[error("its answer has version {found}, and this mlnctl knows version {VERSION}")]
    Version {
        /// What it says.
        found: u64,
    },
    /// A file's permission bits are no octal digits.
    #[error("the mode `{mode}` of {path} is not made of octal digits, such as \"0644\"")]
    Mode {
        /// The file.
        path: String,
        /// What it says.
        mode: String,
    },
    /// A file has neither text nor base64, or both, or what is no base64.
    #[error("{path} has not exactly one of \"text\" and \"base64\", or no proper base64")]
    Content {
        /// The file.
        path: String,
    },
}

/// Returns what a plugin is told, on one line: the project as it is so far, and what the text says to that plugin.
pub fn plugin_request(plugin: &NamedPlugin, index: usize, resolved: &Resolved) -> String {
    let mut project = project_value(&resolved.project);
    if let Some(project) = project.as_object_mut() {
        project.shift_remove("diagnostics");
        project.shift_remove("made_files");
    }
    let mut global = Map::new();
    let mut settings = Value::Object(Map::new());
    for key in ["hosts", "switches"] {
        each(&mut project, key, |one| {
            one.insert("claimed".to_owned(), json!({}));
            if key == "hosts" {
                one.insert("settings".to_owned(), json!({}));
            }
        });
    }
    each(&mut project, "hosts", |host| {
        for network in host.get_mut("networks").and_then(Value::as_array_mut).into_iter().flatten() {
            network["claimed"] = json!({});
        }
    });
    let places = |key: &str| -> std::collections::BTreeMap<String, usize> {
        let all = project[key].as_array().map_or(&[][..], Vec::as_slice);
        let name = |one: &Value| one["name"].as_str().unwrap_or_default().to_owned();
        all.iter().enumerate().map(|(at, one)| (name(one), at)).collect()
    };
    let (hosts, switches) = (places("hosts"), places("switches"));
    for Claimed { place, word, value, .. } in resolved.claimed.iter().filter(|one| one.plugin == index) {
        let value = value_json(value);
        match place {
            ClaimedPlace::Project => _ = global.insert(word.clone(), value),
            ClaimedPlace::Settings => settings = value,
            ClaimedPlace::Switch(name) => {
                if let Some(&at) = switches.get(name.as_str()) {
                    project["switches"][at]["claimed"][word] = value;
                }
            }
            ClaimedPlace::Host(name) => {
                if let Some(&at) = hosts.get(name.as_str()) {
                    project["hosts"][at]["claimed"][word] = value;
                }
            }
            ClaimedPlace::HostSettings(name) => {
                if let Some(&at) = hosts.get(name.as_str()) {
                    project["hosts"][at]["settings"] = value;
                }
            }
            ClaimedPlace::Network(name, interface) => {
                let Some(&at) = hosts.get(name.as_str()) else { continue };
                let networks = project["hosts"][at]["networks"].as_array_mut();
                let mut networks = networks.into_iter().flatten();
                if let Some(network) = networks.find(|network| network["name"] == interface.as_str()) {
                    network["claimed"][word] = value;
                }
            }
        }
    }
    let request = json!({
        "version": VERSION,
        "plugin": plugin.name,
        "settings": settings,
        "global": global,
        "project": project,
    });
    request.to_string()
}

fn each(project: &mut Value, key: &str, mut change: impl FnMut(&mut Map<String, Value>)) {
    let all = project.get_mut(key).and_then(Value::as_array_mut);
    all.into_iter().flatten().filter_map(Value::as_object_mut).for_each(&mut change);
}

fn value_json(value: &ClaimedValue) -> Value {
    match value {
        ClaimedValue::Flag => Value::Bool(true),
        ClaimedValue::Text(text) => Value::String(text.clone()),
        ClaimedValue::Texts(texts) | ClaimedValue::Lines(texts) => json!(texts),
        ClaimedValue::Block(words) => words_json(words, Map::new()),
        ClaimedValue::Blocks(blocks) => blocks
            .iter()
            .map(|(name, words)| words_json(words, Map::from_iter([("name".to_owned(), json!(name))])))
            .collect(),
    }
}

fn words_json(words: &[(String, ClaimedValue)], mut object: Map<String, Value>) -> Value {
    object.extend(words.iter().map(|(word, value)| (word.clone(), value_json(value))));
    Value::Object(object)
}

/// Returns what a plugin answers.
pub fn plugin_answer(text: &str) -> Result<PluginAnswer, AnswerError> {
    let answer: AnswerJson = serde_json::from_str(text)?;
    if answer.version != VERSION {
        return Err(AnswerError::Version { found: answer.version });
    }
    Ok(PluginAnswer {
        text: answer.text,
        settings: answer
            .set
            .into_iter()
            .map(|SetJson { host, network, keyword, value }| {
                (host, AmendedSetting { network, keyword, value })
            })
            .collect(),
        files: answer.files.into_iter().map(file).collect::<Result<_, _>>()?,
        startup: answer.startup.into_iter().map(|StartupJson { host, lines }| (host, lines)).collect(),
        remarks: answer
            .diagnostics
            .into_iter()
            .map(|DiagnosticJson { severity, message, host }| {
                let severity = match severity {
                    SeverityJson::Error => Severity::Error,
                    SeverityJson::Warning => Severity::Warning,
                };
                Remark { severity, message, host }
            })
            .collect(),
    })
}

fn file(file: FileJson) -> Result<AnsweredFile, AnswerError> {
    let FileJson { host, path, mode, text, base64 } = file;
    let mode = match mode {
        None => MODE_DEFAULT,
        Some(mode) => match u32::from_str_radix(&mode, 8) {
            Ok(bits) if bits <= 0o7777 => bits,
            Ok(_) | Err(_) => return Err(AnswerError::Mode { path, mode }),
        },
    };
    let bytes = match (text, base64) {
        (Some(text), None) => Some(text.into_bytes()),
        (None, Some(base64)) => BASE64.decode(base64.as_bytes()).ok(),
        (Some(_), Some(_)) | (None, None) => None,
    };
    let Some(bytes) = bytes else { return Err(AnswerError::Content { path }) };
    Ok(AnsweredFile { host, path, mode, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_what_is_wrong_with_it() {
        let reason =
            |text: &str| plugin_answer(text).map_or_else(|error| error.to_string(), |_| "fine".to_owned());
        assert_eq!(reason(r#"{"version": 1}"#), "fine");
        assert!(reason(r#"{"version": 2}"#).contains("version 2"), "{}", reason(r#"{"version": 2}"#));
        assert!(reason("").contains("not what is expected"));
        assert!(reason(r#"{"version": 1, "file": []}"#).contains("unknown field `file`"));
        let file =
            |rest: &str| format!(r#"{{"version": 1, "files": [{{"host": "a", "path": "/x"{rest}}}]}}"#);
        assert_eq!(reason(&file(r#", "base64": "aGk=""#)), "fine");
        assert!(reason(&file("")).contains("exactly one"));
        assert!(reason(&file(r#", "text": "", "base64": """#)).contains("exactly one"));
        assert!(reason(&file(r#", "text": "", "mode": "rw""#)).contains("octal"));
    }
}
