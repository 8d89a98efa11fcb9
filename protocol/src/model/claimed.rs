//! What a project says to plugins: after inheritance, with variables put in.

use crate::id::Name;
use crate::lang::Span;

/// A word that a plugin claims, with what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// Whose it is: the number of the plugin among those that the project names, from 0.
    pub plugin: usize,
    /// Where it stands.
    pub place: ClaimedPlace,
    /// The word; for settings, the plugin's name.
    pub word: String,
    /// Where the word stands in the text, the nearest of several places.
    pub span: Span,
    /// What follows it.
    pub value: ClaimedValue,
}

/// Where a claimed word stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClaimedPlace {
    /// In `global`.
    Project,
    /// It is the plugin's settings, `plugin NAME { }` outside of hosts.
    Settings,
    /// In a switch.
    Switch(Name),
    /// In a host, its superclasses included.
    Host(Name),
    /// It is the plugin's settings for a host, `plugin NAME { }` within.
    HostSettings(Name),
    /// In an interface of a host.
    Network(Name, String),
}

/// What follows a claimed word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimedValue {
    /// Nothing.
    Flag,
    /// A value.
    Text(String),
    /// Values that add up, the parent's first.
    Texts(Vec<String>),
    /// Lines as they are, the parent's first; indented among themselves as in the text.
    Lines(Vec<String>),
    /// A block: each word once.
    Block(Vec<(String, ClaimedValue)>),
    /// Blocks with names, in the order in which the names first came.
    Blocks(Vec<(String, Vec<(String, ClaimedValue)>)>),
}

impl ClaimedValue {
    /// Returns it in lines: a value, the lines of a list, the words of a block or the names of blocks.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Flag => Vec::new(),
            Self::Text(text) => vec![text.clone()],
            Self::Texts(lines) | Self::Lines(lines) => lines.clone(),
            Self::Block(words) => words.iter().map(|(word, _)| word.clone()).collect(),
            Self::Blocks(blocks) => blocks.iter().map(|(name, _)| name.clone()).collect(),
        }
    }
}
