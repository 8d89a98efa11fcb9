//! Requests and replies about images: where templates are, fetching them, and what nobody uses.

use std::fmt;

use mln_protocol::id::{Digest, Name};
use serde::{Deserialize, Serialize};

use super::row::TemplateRow;

/// A template, as people name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TemplateChoice {
    /// The newest version of a name.
    Newest(#[serde(with = "crate::name")] Name),
    /// One version of a name.
    Version(#[serde(with = "crate::name")] Name, #[serde(with = "crate::name")] Name),
    /// The image of this digest, 64 hexadecimal digits, whatever its name.
    Digest(String),
}

/// Why a text names no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a template is NAME, NAME:VERSION, NAME@VERSION or a digest of 64 hexadecimal digits")]
pub struct TemplateChoiceError;

impl TemplateChoice {
    /// Parses `NAME`, `NAME:VERSION`, `NAME@VERSION`, `NAME@DIGEST` or `DIGEST`.
    pub fn parse(text: &str) -> Result<Self, TemplateChoiceError> {
        let digest = |text: &str| Digest::from_hex(text).map(|_| Self::Digest(text.to_owned()));
        if let Some(digest) = digest(text) {
            return Ok(digest);
        }
        let parse = |text: &str| Name::parse(text).map_err(|_| TemplateChoiceError);
        match text.split_once([':', '@']) {
            None => Ok(Self::Newest(parse(text)?)),
            Some((name, which)) => {
                let name = parse(name)?;
                match digest(which) {
                    Some(digest) => Ok(digest),
                    None => Ok(Self::Version(name, parse(which)?)),
                }
            }
        }
    }
}

impl fmt::Display for TemplateChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest(name) => write!(f, "{name}"),
            Self::Version(name, version) => write!(f, "{name}:{version}"),
            Self::Digest(digest) => f.write_str(digest),
        }
    }
}

/// Fetch a template from another host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplatePull {
    /// Which.
    pub template: TemplateChoice,
    /// From which host; none is whoever has it.
    #[serde(with = "crate::name::option")]
    pub from: Option<Name>,
}

/// Have another host fetch a template from this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplatePush {
    /// Which.
    pub template: TemplateChoice,
    /// Which host.
    #[serde(with = "crate::name")]
    pub to: Name,
}

/// Remove a template's name, and its image unless something else needs that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateRemove {
    /// Which; a name alone must have one version.
    pub template: TemplateChoice,
    /// What VMs mean that use it.
    pub removal: TemplateRemoval,
}

/// What the removal of a template does where VMs use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TemplateRemoval {
    /// Refuses, naming them.
    Unused,
    /// Takes the name away; the image stays as long as they use it.
    Forced,
}

/// What to do with what nobody uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GcMode {
    /// Only show it.
    Show,
    /// Free it.
    Free,
}

/// A template on a host of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateHostRow {
    /// The host: its name, or the beginning of its key.
    pub host: String,
    /// The template; of another host's, what it takes there is what of it is not a hole.
    pub template: TemplateRow,
}

/// What nobody uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GarbageReport {
    /// Files that were freed, or would be, oldest first.
    pub rows: Vec<GarbageRow>,
    /// What the image store takes after that, in bytes.
    pub bytes_left: u64,
    /// What it may take, in bytes, where that is limited.
    pub limit_bytes: Option<u64>,
}

/// A file that nobody uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GarbageRow {
    /// What it is.
    pub kind: GarbageKind,
    /// Its name in the folder of images.
    pub file: String,
    /// What it takes on the disk, in bytes.
    pub bytes: u64,
    /// When it came there, in milliseconds since 1970.
    pub since_unix_ms: u64,
}

/// What a file is that nobody uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GarbageKind {
    /// An image without a name.
    Image,
    /// A template's bytes in a longer file, for disks that are gone.
    LongerImage,
    /// A drive with another version of the guest agent.
    AgentDrive,
    /// An image that was fetched in part.
    Part,
    /// A snapshot of a project that is removed.
    Snapshot,
}

impl GarbageKind {
    /// Returns its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::LongerImage => "longer-image",
            Self::AgentDrive => "agent-drive",
            Self::Part => "part",
            Self::Snapshot => "snapshot",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_named_in_every_usual_way() {
        let digest = "0123456789abcdef".repeat(4);
        let name = |text| Name::parse(text).expect("a name");
        let cases = [
            ("mini", TemplateChoice::Newest(name("mini"))),
            ("mini:3", TemplateChoice::Version(name("mini"), name("3"))),
            ("mini@3", TemplateChoice::Version(name("mini"), name("3"))),
        ];
        for (text, expected) in cases {
            assert_eq!(TemplateChoice::parse(text), Ok(expected), "{text}");
        }
        for text in [digest.clone(), format!("mini@{digest}"), format!("mini:{digest}")] {
            assert_eq!(TemplateChoice::parse(&text), Ok(TemplateChoice::Digest(digest.clone())), "{text}");
        }
        for text in ["", "a/b", "mini:", ":3", "mini:../x"] {
            assert_eq!(TemplateChoice::parse(text), Err(TemplateChoiceError), "{text}");
        }
    }
}
