//! What plugins bring to a project: words before it is read, and text once they have run.
//!
//! What a plugin has made is text of the language, put in behind the project file. So it is checked as all else is, a
//! mistake in it has a place, and whoever gets the folded project needs no plugin to understand it.

use super::claim::ManifestLoader;
use super::edit::{written, written_word};
use super::lexer::is_raw;

/// What plugins bring to a project.
#[derive(Clone, Copy, Debug)]
pub struct Plugged<'p> {
    /// Where their manifests come from.
    pub manifests: &'p dyn ManifestLoader,
    /// What they have made so far, in the order in which they ran.
    pub made: &'p [Made],
}

/// What a plugin has made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// The plugin.
    pub plugin: String,
    /// In the language.
    pub text: String,
}

/// What is to be said about one host, which is defined elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amendment {
    /// Keywords with their values.
    pub settings: Vec<AmendedSetting>,
    /// Files: what the project calls them, where they go in the guest, and their permission bits.
    pub files: Vec<(String, String, u32)>,
    /// Lines for its `startup`, as they would stand there.
    pub startup: Vec<String>,
}

/// A keyword of a host, or of one of its interfaces, with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmendedSetting {
    /// The interface; none is the host itself.
    pub network: Option<String>,
    /// The keyword.
    pub keyword: String,
    /// Its value, taken as it is; none for a flag.
    pub value: Option<String>,
}

/// Why something cannot be said in the language.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmendmentError {
    /// A word of several lines, or one that is none.
    #[error("`{}` cannot be written as one word", text.escape_debug())]
    Word {
        /// What was given.
        text: String,
    },
    /// A value of several lines.
    #[error("the value of `{keyword}` has several lines")]
    Lines {
        /// Whose value.
        keyword: String,
    },
    /// Lines of a shell that would end their block, or begin another one.
    #[error("the startup lines of `{host}` have braces without partners, or an `#include`")]
    Startup {
        /// Whose lines.
        host: String,
    },
}

impl Amendment {
    /// Returns it in the language, as an `amend` block for a host.
    pub fn text(&self, host: &str) -> Result<String, AmendmentError> {
        let mut text = format!("amend {} {{\n", word(host)?);
        for setting in self.settings.iter().filter(|setting| setting.network.is_none()) {
            text += &format!("    {}\n", setting.text()?);
        }
        // An interface has one block, whatever is said about it.
        let mut networks: Vec<(&str, String)> = Vec::new();
        for setting in &self.settings {
            let Some(name) = setting.network.as_deref() else { continue };
            let line = format!("        {}\n", setting.text()?);
            match networks.iter_mut().find(|(there, _)| *there == name) {
                Some((_, lines)) => lines.push_str(&line),
                None => networks.push((name, line)),
            }
        }
        for (name, lines) in networks {
            text += &format!("    network {} {{\n{lines}    }}\n", word(name)?);
        }
        if !self.files.is_empty() {
            text += "    files {\n";
            for (from, to, mode) in &self.files {
                text += &format!("        {} {} {mode:04o}\n", word(from)?, word(to)?);
            }
            text += "    }\n";
        }
        if !self.startup.is_empty() {
            let lines = self.startup.join("\n");
            if !is_raw(&lines) {
                return Err(AmendmentError::Startup { host: host.to_owned() });
            }
            text += &format!("    startup {{\n{lines}\n    }}\n");
        }
        text += "}\n";
        Ok(text)
    }
}

impl AmendedSetting {
    fn text(&self) -> Result<String, AmendmentError> {
        let Self { keyword, value, .. } = self;
        let is_keyword =
            !keyword.is_empty() && keyword.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !is_keyword {
            return Err(AmendmentError::Word { text: keyword.clone() });
        }
        let Some(value) = value else { return Ok(keyword.clone()) };
        let value = written(value).map_err(|_| AmendmentError::Lines { keyword: keyword.clone() })?;
        Ok(format!("{keyword} {}", literal(&value)))
    }
}

fn word(text: &str) -> Result<String, AmendmentError> {
    if text.is_empty() || text.contains(char::is_control) {
        return Err(AmendmentError::Word { text: text.to_owned() });
    }
    Ok(literal(&written_word(text)))
}

/// Keeps `$` from being a variable: what a plugin says is final.
fn literal(written: &str) -> String {
    if !written.contains('$') {
        return written.to_owned();
    }
    // In quotation marks a backslash stands before what is taken as it is.
    match written.strip_prefix('"') {
        Some(rest) => format!("\"{}", rest.replace('$', "\\$")),
        None => written.replace('$', "\\$"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang::{NoIncludes, NoPlugins, parse_with};
    use crate::resolve::{Options, resolve};

    fn setting(keyword: &str, value: &str) -> AmendedSetting {
        AmendedSetting { network: None, keyword: keyword.to_owned(), value: Some(value.to_owned()) }
    }

    #[test]
    fn what_is_said_is_taken_as_it_is() {
        let amendment = Amendment {
            settings: vec![
                setting("memory", "128M"),
                setting("root_password", "$6$a b\"c\\d#{e};$[hostname]"),
                AmendedSetting { network: Some("eth0".to_owned()), ..setting("address", "10.0.0.1/24") },
                AmendedSetting { network: Some("eth0".to_owned()), ..setting("gateway", "10.0.0.2") },
            ],
            files: vec![("plugin:x:1".to_owned(), "/etc/a b".to_owned(), 0o600)],
            startup: vec!["f() {".to_owned(), "echo \"}\" $1; }".to_owned(), "f".to_owned()],
        };
        let text = amendment.text("a").expect("it can be said");
        let made = [Made { plugin: "x".to_owned(), text }];
        let project = "global { project p }\nhost a { network eth0 { } }".to_owned();
        let plugged = Plugged { manifests: &NoPlugins, made: &made };
        let (tree, diagnostics) = parse_with("p.mln", project, &NoIncludes, &plugged);
        let resolved = resolve(&tree, &Options::default());
        assert_eq!((diagnostics, resolved.diagnostics), (vec![], vec![]), "{}", made[0].text);
        let vm = &resolved.project.vms[0];
        assert_eq!(vm.memory.0, 128);
        assert_eq!(vm.users[0].password.as_deref(), Some("$6$a b\"c\\d#{e};$[hostname]"));
        assert_eq!((vm.files[0].to.as_str(), vm.files[0].mode), ("/etc/a b", Some(0o600)));
        assert_eq!(vm.startup, ["f() {", "echo \"}\" $1; }", "f"]);
        let crate::model::AddressPlan::Static(address) = vm.networks[0].address else { panic!("no address") };
        assert_eq!(address.to_string(), "10.0.0.1/24");
    }

    #[test]
    fn nothing_gets_out_of_its_block() {
        let startup = |line: &str| Amendment { startup: vec![line.to_owned()], ..Amendment::default() };
        for line in ["}", "echo {", "} host b {", "host b {", "#include /etc/passwd"] {
            assert!(startup(line).text("a").is_err(), "{line}");
        }
        assert!(Amendment::default().text("a\nb").is_err());
        let several = Amendment { settings: vec![setting("memory", "1\n}")], ..Amendment::default() };
        assert!(several.text("a").is_err());
        let odd = Amendment { settings: vec![setting("memory 5; size", "1")], ..Amendment::default() };
        assert!(odd.text("a").is_err());
    }
}
