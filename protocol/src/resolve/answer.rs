//! What a plugin answers, and what becomes of it: text of the language, files, and diagnostics with a place.

use std::collections::{BTreeMap, BTreeSet};

use super::Resolved;
use crate::id::Digest;
use crate::lang::{
    AmendedSetting, Amendment, AmendmentError, Code, Diagnostic, Made, NamedPlugin, Severity, Span,
};
use crate::model::ClaimedPlace;

/// How much text of a plugin's remark is shown, in bytes.
const REMARK_BYTES_MAX: usize = 2_000;
/// How much of the host's name that a remark gives is shown, in bytes.
const HOST_BYTES_MAX: usize = 200;
/// How many remarks of one plugin are shown.
const REMARKS_MAX: usize = 200;

/// What a plugin answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginAnswer {
    /// Further text of the project: hosts, switches, superclasses.
    pub text: String,
    /// Values of hosts, each with the host's name.
    pub settings: Vec<(String, AmendedSetting)>,
    /// Files for guests.
    pub files: Vec<AnsweredFile>,
    /// Lines for the `startup` of hosts, each with the host's name.
    pub startup: Vec<(String, Vec<String>)>,
    /// What it finds wrong.
    pub remarks: Vec<Remark>,
}

/// A file for a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnsweredFile {
    /// The host.
    pub host: String,
    /// Its absolute path in the guest.
    pub path: String,
    /// Its permission bits.
    pub mode: u32,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// Something that a plugin finds wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// How bad it is.
    pub severity: Severity,
    /// What it is.
    pub message: String,
    /// Which host it is about.
    pub host: Option<String>,
}

/// A file that a plugin has made, under the name that the project has for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginFile {
    /// `plugin:NAME:DIGEST`, so that other bytes are another file: a change of them is a change of the project.
    pub from: String,
    /// What is in it.
    pub bytes: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
}

impl PluginAnswer {
    /// Returns the answer as text of the language, and the files that it brings, each once.
    pub fn made(&self, plugin: &str) -> Result<(Made, Vec<PluginFile>), AmendmentError> {
        let mut hosts = ByHost::default();
        for (host, setting) in &self.settings {
            hosts.of(host).settings.push(setting.clone());
        }
        let mut files: Vec<PluginFile> = Vec::new();
        let mut there: BTreeSet<String> = BTreeSet::new();
        for file in &self.files {
            let digest = Digest::of(&file.bytes).to_string();
            let from = format!("plugin:{plugin}:{}", digest.get(..16).unwrap_or(&digest));
            hosts.of(&file.host).files.push((from.clone(), file.path.clone(), file.mode));
            if there.insert(from.clone()) {
                files.push(PluginFile { from, bytes: file.bytes.clone(), mode: file.mode });
            }
        }
        for (host, lines) in &self.startup {
            hosts.of(host).startup.extend(lines.iter().cloned());
        }
        let mut text = self.text.clone();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        for (host, amendment) in &hosts.all {
            text += &amendment.text(host)?;
        }
        Ok((Made { plugin: plugin.to_owned(), text }, files))
    }

    /// Returns what the plugin finds wrong, each at a place in the text: where the host says something to the plugin,
    /// or else where the plugin is named. `before` is what it was asked about, `index` its number among the plugins.
    pub fn diagnostics(&self, plugin: &NamedPlugin, index: usize, before: &Resolved) -> Vec<Diagnostic> {
        let place = |host: &str| -> Option<Span> {
            let said = before.claimed.iter().find(|one| {
                one.plugin == index
                    && match &one.place {
                        ClaimedPlace::Host(name)
                        | ClaimedPlace::HostSettings(name)
                        | ClaimedPlace::Network(name, _) => name.as_str() == host,
                        ClaimedPlace::Project | ClaimedPlace::Settings | ClaimedPlace::Switch(_) => false,
                    }
            });
            said.map(|one| one.span)
        };
        let remarks = self.remarks.iter().take(REMARKS_MAX).map(|remark| {
            let code = match remark.severity {
                Severity::Error => Code::PluginRefuses,
                Severity::Warning => Code::PluginWarns,
            };
            let host = remark
                .host
                .as_deref()
                .map_or(String::new(), |host| format!("host {}: ", readable(host, HOST_BYTES_MAX)));
            let message = readable(&remark.message, REMARK_BYTES_MAX);
            let span = remark.host.as_deref().and_then(place).unwrap_or(plugin.span);
            Diagnostic::new(code, span, format!("{}: {host}{message}", plugin.name))
        });
        remarks.collect()
    }
}

/// Amendments in the order in which their hosts first came.
#[derive(Default)]
struct ByHost<'h> {
    all: Vec<(&'h str, Amendment)>,
    places: BTreeMap<&'h str, usize>,
}

impl<'h> ByHost<'h> {
    fn of(&mut self, host: &'h str) -> &mut Amendment {
        let at = *self.places.entry(host).or_insert(self.all.len());
        if at == self.all.len() {
            self.all.push((host, Amendment::default()));
        }
        &mut self.all[at].1
    }
}

/// Returns the beginning of what a program has written, without characters that a terminal would obey.
fn readable(text: &str, bytes_max: usize) -> String {
    let end = (0..=bytes_max.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    text[..end].trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(host: &str, bytes: &[u8]) -> AnsweredFile {
        AnsweredFile { host: host.to_owned(), path: "/etc/x".to_owned(), mode: 0o640, bytes: bytes.to_vec() }
    }

    #[test]
    fn equal_files_travel_once_and_other_bytes_are_another_file() {
        let answer = PluginAnswer {
            files: vec![file("a", b"1"), file("b", b"1"), file("c", b"2")],
            ..Default::default()
        };
        let (made, files) = answer.made("x").expect("it can be said");
        assert_eq!(files.len(), 2);
        assert_ne!(files[0].from, files[1].from);
        assert_eq!(made.text.matches(&files[0].from).count(), 2, "{}", made.text);
    }

    #[test]
    fn remarks_are_cut_and_obeyed_by_no_terminal() {
        assert_eq!(readable("a\u{1b}[2Jb\n", 100), "a [2Jb");
        assert_eq!(readable("äää", 3), "ä");
        let plugin = crate::lang::parse("p", "global { plugins x }".to_owned(), &crate::lang::NoIncludes).0;
        let resolved = crate::resolve::resolve(&plugin, &crate::resolve::Options::default());
        let host = Some("a\u{1b}[2J".repeat(HOST_BYTES_MAX));
        let remark = Remark { severity: Severity::Warning, message: "odd".to_owned(), host };
        let answer = PluginAnswer { remarks: vec![remark], ..Default::default() };
        let named = plugin.claims().plugins().first().expect("it is named");
        let said = answer.diagnostics(named, 0, &resolved);
        assert!(said[0].message.len() < 2 * HOST_BYTES_MAX && !said[0].message.contains(char::is_control));
    }
}
