//! Words that plugins add to the language.
//!
//! A plugin's manifest claims blocks and keywords for it: so they are no typos, and typos in them are still found.
//! Which manifests count stands in the project itself, in `plugins a b c` of `global`. Nothing here reads a manifest
//! or runs a plugin: a [`ManifestLoader`] is asked for the former, and whoever submits a project does the latter.

use std::collections::BTreeMap;

use super::code::Code;
use super::diagnostic::Diagnostic;
use super::grammar::{self, Body, Context};
use super::nearest::nearest;
use super::source::{SourceId, Span};
use super::tree::{Node, Tree};

/// How many plugins a project may name.
pub(super) const PLUGINS_MAX: usize = 32;
/// How many words one plugin may claim, those within blocks included.
pub(super) const CLAIMS_MAX: usize = 512;
/// How deeply the blocks of a claim may be nested.
pub(super) const CLAIM_DEPTH_MAX: usize = 4;

/// The blocks in which a plugin may claim words.
pub const CLAIM_CONTEXTS: [Context; 4] = [Context::Global, Context::Host, Context::Network, Context::Switch];

/// What a plugin says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Words that it claims, each with the kinds of blocks in which it may stand.
    pub claims: Vec<(Vec<Context>, Claim)>,
    /// Words that may stand in `plugin NAME { }`.
    pub settings: Vec<Claim>,
}

/// A word that a plugin claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// As it is written.
    pub word: String,
    /// What follows it.
    pub form: ClaimForm,
}

/// What follows a claimed word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimForm {
    /// Nothing: it stands alone.
    Flag,
    /// A value; the nearest one counts.
    Pair,
    /// A value; several add up.
    Pairs,
    /// A block whose lines are taken as they are.
    Lines,
    /// A block with words of its own.
    Block(Vec<Claim>),
    /// Blocks with names, each with these words.
    Blocks(Vec<Claim>),
}

/// Reads the manifests of the plugins that a project names, for the parser, which reads none itself.
pub trait ManifestLoader: std::fmt::Debug {
    /// Returns the manifest of a plugin.
    fn manifest(&self, name: &str) -> Result<Manifest, ManifestError>;
}

/// Knows no plugin: for a text that is already made, such as one that a peer sends.
#[derive(Clone, Copy, Debug)]
pub struct NoPlugins;

impl ManifestLoader for NoPlugins {
    fn manifest(&self, _name: &str) -> Result<Manifest, ManifestError> {
        Err(ManifestError::NotHere)
    }
}

/// Why there is no manifest. The parser reports it where the plugin is named, and goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Nobody has installed it.
    #[error("it is not installed: there is no {file} in {}", searched.join(", "))]
    NotFound {
        /// The name of its manifest.
        file: String,
        /// The folders that were looked into.
        searched: Vec<String>,
        /// The plugins that there are.
        known: Vec<String>,
    },
    /// Plugins have no meaning here, such as where a text is read that somebody else has sent.
    #[error("plugins run where a project is submitted, not here")]
    NotHere,
    /// It is there, and cannot be used.
    #[error("{reason}")]
    Unusable {
        /// What is wrong, with the file.
        reason: String,
    },
}

/// A claimed word, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClaimId(u16);

/// A claimed word with the numbers of those in its block.
#[derive(Clone, Debug)]
pub(crate) struct Claimed {
    pub(crate) plugin: usize,
    pub(crate) word: String,
    pub(crate) form: ClaimForm,
    inside: Vec<ClaimId>,
}

/// A plugin that the project names.
#[derive(Clone, Debug)]
pub struct NamedPlugin {
    /// Its name.
    pub name: String,
    /// Where it is named.
    pub span: Span,
    /// Its settings' block, as a claim; none if there is no manifest.
    settings: Option<ClaimId>,
}

/// All plugins of a project in the order in which they run, with what they claim.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    plugins: Vec<NamedPlugin>,
    all: Vec<Claimed>,
    outermost: BTreeMap<(Context, String), ClaimId>,
    problems: BTreeMap<String, ManifestError>,
}

impl Claims {
    /// Returns the plugins that the project names, in the order in which they run.
    pub fn plugins(&self) -> &[NamedPlugin] {
        &self.plugins
    }

    /// Loads the manifests of plugins. What is wrong with one is reported by [`Claims::report`].
    pub(super) fn load(named: Vec<(String, Span)>, loader: &dyn ManifestLoader) -> Self {
        let mut claims = Self::default();
        for (name, span) in named.into_iter().take(PLUGINS_MAX) {
            let loaded = loader.manifest(&name);
            let settings = match loaded.and_then(|manifest| claims.add(claims.plugins.len(), &name, manifest))
            {
                Ok(settings) => Some(settings),
                Err(error) => {
                    claims.problems.insert(name.clone(), error);
                    None
                }
            };
            claims.plugins.push(NamedPlugin { name, span, settings });
        }
        claims
    }

    /// Adds what a manifest claims; returns the claim of its settings. Nothing of it counts if some of it can't.
    fn add(&mut self, plugin: usize, name: &str, manifest: Manifest) -> Result<ClaimId, ManifestError> {
        let unusable = |reason: String| ManifestError::Unusable { reason };
        let words = manifest.settings.iter().chain(manifest.claims.iter().map(|(_, claim)| claim));
        let mut count = 0;
        for claim in words {
            check(claim, 0, &mut count).map_err(unusable)?;
        }
        for (contexts, claim) in &manifest.claims {
            for &context in contexts {
                let word = &claim.word;
                if !CLAIM_CONTEXTS.contains(&context) {
                    return Err(unusable(format!(
                        "it claims `{word}` {}, where it may not",
                        context.place()
                    )));
                }
                if grammar::keyword(context, word).is_some() {
                    return Err(unusable(format!(
                        "it claims `{word}`, which is a keyword {}",
                        context.place()
                    )));
                }
                if let Some(&first) = self.outermost.get(&(context, word.clone())) {
                    let other = &self.plugins.get(self.get(first).plugin).map_or(name, |other| &other.name);
                    return Err(unusable(format!(
                        "it claims `{word}` {}, as the plugin `{other}` does",
                        context.place()
                    )));
                }
            }
        }
        for (contexts, claim) in manifest.claims {
            let id = self.push(plugin, claim);
            for context in contexts {
                let word = self.get(id).word.clone();
                self.outermost.insert((context, word), id);
            }
        }
        Ok(self.push(plugin, Claim { word: name.to_owned(), form: ClaimForm::Block(manifest.settings) }))
    }

    fn push(&mut self, plugin: usize, claim: Claim) -> ClaimId {
        let inside = match &claim.form {
            ClaimForm::Block(words) | ClaimForm::Blocks(words) => words.clone(),
            ClaimForm::Flag | ClaimForm::Pair | ClaimForm::Pairs | ClaimForm::Lines => Vec::new(),
        };
        let inside = inside.into_iter().map(|claim| self.push(plugin, claim)).collect();
        // Plugins and their words are limited, so that all of them together are fewer than 65536.
        let id = ClaimId(u16::try_from(self.all.len()).unwrap_or(u16::MAX));
        self.all.push(Claimed { plugin, word: claim.word, form: claim.form, inside });
        id
    }

    pub(crate) fn get(&self, id: ClaimId) -> &Claimed {
        &self.all[usize::from(id.0)]
    }

    /// Returns the claim of a word in a kind of block of the language.
    pub(crate) fn find(&self, context: Context, word: &str) -> Option<ClaimId> {
        if self.outermost.is_empty() {
            return None;
        }
        self.outermost.get(&(context, word.to_owned())).copied()
    }

    /// Returns the claim of a word within a claimed block.
    pub(crate) fn find_inside(&self, id: ClaimId, word: &str) -> Option<ClaimId> {
        self.get(id).inside.iter().copied().find(|&inner| self.get(inner).word == word)
    }

    /// Returns the settings' block of a plugin; none inside of the option if its manifest could not be read.
    pub(crate) fn settings(&self, name: &str) -> Option<Option<ClaimId>> {
        self.plugins.iter().find(|plugin| plugin.name == name).map(|plugin| plugin.settings)
    }

    /// Returns the words that are claimed in a kind of block.
    pub(crate) fn words(&self, context: Context) -> impl Iterator<Item = &str> {
        let of_context = self.outermost.keys().filter(move |(at, _)| *at == context);
        of_context.map(|(_, word)| word.as_str())
    }

    /// Returns the words that are claimed within a claimed block.
    pub(crate) fn words_inside(&self, id: ClaimId) -> impl Iterator<Item = &str> {
        self.get(id).inside.iter().map(|&inner| self.get(inner).word.as_str())
    }

    /// Returns whether a plugin's words are not known, so that nobody can say which word is wrong.
    pub(crate) fn is_incomplete(&self) -> bool {
        !self.problems.is_empty()
    }

    /// Returns how the inside of a block is read, from the words before its brace and where it stands.
    pub(super) fn body_of(&self, outer: Body, word: &str, name: Option<&str>) -> Body {
        match outer {
            Body::Keywords(_) if word == "plugin" => {
                name.and_then(|name| self.settings(name)).flatten().map_or(Body::Free, Body::Claimed)
            }
            Body::Keywords(context) if grammar::keyword(context, word).is_none() => {
                match self.find(context, word).or_else(|| self.find(context, self.meant(context, word)?)) {
                    Some(id) => self.inside(id),
                    None => grammar::body_of(outer, word),
                }
            }
            Body::Claimed(id) => {
                let inner = self.find_inside(id, word);
                let meant = || self.find_inside(id, nearest(word, self.words_inside(id))?);
                inner.or_else(meant).map_or(Body::Free, |inner| self.inside(inner))
            }
            Body::Keywords(_) | Body::Lines | Body::Raw | Body::Lists | Body::Free => {
                grammar::body_of(outer, word)
            }
        }
    }

    /// Returns the claimed word that somebody may have meant, if no keyword of the language is as near.
    pub(crate) fn meant(&self, context: Context, word: &str) -> Option<&str> {
        if self.outermost.is_empty() {
            return None;
        }
        let keywords = grammar::keywords(context).iter().map(|keyword| keyword.word);
        let found = nearest(word, keywords.chain(self.words(context)))?;
        self.words(context).find(|claimed| *claimed == found)
    }

    fn inside(&self, id: ClaimId) -> Body {
        match self.get(id).form {
            ClaimForm::Lines => Body::Raw,
            ClaimForm::Block(_) | ClaimForm::Blocks(_) => Body::Claimed(id),
            ClaimForm::Flag | ClaimForm::Pair | ClaimForm::Pairs => Body::Free,
        }
    }

    /// Returns whether these are the plugins whose manifests were asked for.
    pub(super) fn is_of(&self, named: &[(String, Span)]) -> bool {
        self.plugins
            .iter()
            .map(|plugin| &plugin.name)
            .eq(named.iter().take(PLUGINS_MAX).map(|(name, _)| name))
    }

    /// Takes over where the plugins are named in the text as it was read last, and reports what is wrong with them.
    pub(super) fn report(&mut self, named: &[(String, Span)], diagnostics: &mut Vec<Diagnostic>) {
        for (plugin, (_, span)) in self.plugins.iter_mut().zip(named) {
            plugin.span = *span;
        }
        if let Some((_, span)) = named.get(PLUGINS_MAX) {
            let message = format!("a project may name {PLUGINS_MAX} plugins");
            diagnostics.push(Diagnostic::new(Code::PluginUnusable, *span, message));
        }
        for plugin in &self.plugins {
            let Some(error) = self.problems.get(&plugin.name) else { continue };
            let (name, span) = (&plugin.name, plugin.span);
            diagnostics.push(match error {
                ManifestError::NotFound { known, .. } => {
                    let message = format!("the plugin `{name}` cannot be used: {error}");
                    let diagnostic = Diagnostic::new(Code::PluginUnknown, span, message);
                    match nearest(name, known.iter().map(String::as_str)) {
                        Some(near) => diagnostic.label(format!("did you mean `{near}`?")).fix(span, near),
                        None => diagnostic.label("expected the name of a plugin that is installed"),
                    }
                }
                ManifestError::NotHere => {
                    let message = format!("the plugin `{name}` cannot be used: {error}");
                    Diagnostic::new(Code::PluginUnknown, span, message)
                }
                ManifestError::Unusable { reason } => {
                    let message = format!("the plugin `{name}` cannot be used: {reason}");
                    Diagnostic::new(Code::PluginUnusable, span, message)
                }
            });
        }
    }
}

/// Checks a claim and those within it.
fn check(claim: &Claim, depth: usize, count: &mut usize) -> Result<(), String> {
    let word = &claim.word;
    *count += 1;
    if *count > CLAIMS_MAX || depth > CLAIM_DEPTH_MAX {
        return Err(format!("it claims more than {CLAIMS_MAX} words, or more than {CLAIM_DEPTH_MAX} deep"));
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let is_word = word.bytes().all(fits) && word.starts_with(|first: char| first.is_ascii_alphabetic());
    if !is_word || matches!(word.as_str(), "no" | "only") || grammar::is_outermost(word) {
        return Err(format!("it claims `{word}`, which can be no keyword"));
    }
    match &claim.form {
        ClaimForm::Block(words) | ClaimForm::Blocks(words) => {
            words.iter().try_for_each(|inner| check(inner, depth + 1, count))
        }
        ClaimForm::Flag | ClaimForm::Pair | ClaimForm::Pairs | ClaimForm::Lines => Ok(()),
    }
}

/// Returns the plugins that the project file names in `global`, each where it is first named. Texts that plugins have
/// made name none.
pub(super) fn named_plugins(tree: &Tree) -> Vec<(String, Span)> {
    let mut named: Vec<(String, Span)> = Vec::new();
    // What was made stands where nothing is written.
    let is_made =
        |node: &&Node| matches!(node, Node::Include(include) if include.span.start == include.span.end);
    let written = tree.nodes(SourceId::ROOT).iter().filter(|node| !is_made(node));
    for node in written.flat_map(|node| tree.through_includes(std::slice::from_ref(node))) {
        let Node::Block(block) = node else { continue };
        if block.words.first().is_none_or(|&word| tree.word(word) != "global") {
            continue;
        }
        for node in tree.through_includes(&block.nodes) {
            let Node::Statement(statement) = node else { continue };
            let Some((&first, names)) = statement.words.split_first() else { continue };
            if tree.word(first) != "plugins" {
                continue;
            }
            for &word in names {
                let name = tree.word(word);
                if named.iter().all(|(there, _)| there != name) {
                    named.push((name.to_owned(), word.span));
                }
            }
        }
    }
    named
}
