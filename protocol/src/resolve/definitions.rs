//! What each block of the text says, before anything is inherited.

use std::collections::BTreeMap;

use super::claimed::ClaimedBody;
use super::collect::{Collector, duplicate, set_twice};
use super::expand::{Expander, Scope, Variables};
pub(super) use crate::lang::grammar::slot;
use crate::lang::grammar::{Context, Keyword};
use crate::lang::{Block, Code, Diagnostic, RawLine, SourceId, Span, Statement, Tree, Word};

/// A value: words of the text, or made up by an enumeration.
#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    Written {
        /// The first word, where it is only the rest of one, as in `$a=b`.
        first: Option<Word>,
        words: &'a [Word],
        span: Span,
    },
    Made {
        text: String,
        span: Span,
    },
}

impl<'a> Value<'a> {
    pub(super) fn written(first: Option<Word>, words: &'a [Word], span: Span) -> Self {
        Self::Written { first, words, span }
    }

    pub(super) fn span(&self) -> Span {
        match self {
            Self::Written { span, .. } | Self::Made { span, .. } => *span,
        }
    }

    pub(super) fn words(&self) -> impl Iterator<Item = Word> {
        let (first, words) = match self {
            Self::Written { first, words, .. } => (*first, *words),
            Self::Made { .. } => (None, [].as_slice()),
        };
        first.into_iter().chain(words.iter().copied())
    }
}

/// A line of a list block.
#[derive(Clone, Copy, Debug)]
pub(super) enum Line<'a> {
    Words(&'a Statement),
    Raw(&'a RawLine),
}

impl Line<'_> {
    pub(super) fn span(self) -> Span {
        match self {
            Self::Words(statement) => statement.span,
            Self::Raw(raw) => raw.span,
        }
    }
}

/// What follows a keyword.
#[derive(Clone, Debug)]
pub(super) enum Content<'a> {
    /// A value; without words for a flag.
    Setting(Value<'a>),
    /// A list block; `only` drops what was inherited.
    Lines { lines: Vec<Line<'a>>, only: bool },
    /// A block with keywords.
    Block(Box<Body<'a>>),
    /// A block that nobody here looks into.
    Free(&'a Block),
}

/// A keyword and what follows it.
#[derive(Clone, Debug)]
pub(super) struct Entry<'a> {
    pub(super) keyword: &'static Keyword,
    /// The keyword as written.
    pub(super) word: Word,
    /// A block's name, not yet expanded.
    pub(super) name: Option<Word>,
    pub(super) content: Content<'a>,
}

/// `no KEYWORD [NAME]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Removal {
    pub(super) keyword: &'static Keyword,
    pub(super) name: Option<Word>,
    pub(super) span: Span,
}

/// Something for each slot of a block, of which there are few: as fast as looking through a list is, and no larger.
#[derive(Clone, Debug)]
pub(super) struct BySlot<T>(Vec<(&'static str, T)>);

impl<T> Default for BySlot<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> BySlot<T> {
    fn at(&self, slot: &str) -> Option<usize> {
        self.0.iter().position(|(there, _)| *there == slot)
    }

    /// Returns what is in a slot.
    pub(super) fn get(&self, slot: &str) -> Option<&T> {
        Some(&self.0[self.at(slot)?].1)
    }

    /// Puts something into a slot; returns what was there.
    pub(super) fn insert(&mut self, slot: &'static str, value: T) -> Option<T> {
        match self.at(slot) {
            Some(at) => Some(std::mem::replace(&mut self.0[at].1, value)),
            None => {
                self.0.push((slot, value));
                None
            }
        }
    }

    /// Takes out what is in a slot.
    pub(super) fn remove(&mut self, slot: &str) -> Option<T> {
        Some(self.0.remove(self.at(slot)?).1)
    }

    /// Returns everything, in the order in which it came.
    pub(super) fn into_iter(self) -> impl Iterator<Item = (&'static str, T)> {
        self.0.into_iter()
    }
}

/// What one block says.
#[derive(Clone, Debug, Default)]
pub(super) struct Body<'a> {
    pub(super) variables: Variables<'a>,
    pub(super) entries: Vec<Entry<'a>>,
    pub(super) removals: Vec<Removal>,
    /// Where each keyword was last set.
    pub(super) settings: BySlot<Span>,
    /// Keywords that stand there in a wrong shape, which is reported: they are not missing.
    pub(super) misshapen: Vec<&'static str>,
    /// Where each block with a name is.
    pub(super) names: BTreeMap<(&'static str, &'a str), Span>,
    /// What it says to plugins; most say nothing.
    pub(super) claimed: Option<Box<ClaimedBody<'a>>>,
}

impl<'a> Body<'a> {
    /// Returns the value of a keyword, and where the value is.
    pub(super) fn setting(&self, canonical: &str) -> Option<(&Value<'a>, Span)> {
        self.entries.iter().rev().find_map(|entry| match &entry.content {
            Content::Setting(value) if entry.keyword.canonical == canonical => Some((value, value.span())),
            _ => None,
        })
    }

    /// Returns whether nothing at all says something about a keyword.
    pub(super) fn lacks(&self, canonical: &str) -> bool {
        self.setting(canonical).is_none() && !self.misshapen.contains(&canonical)
    }

    /// Returns the lines of a list block.
    pub(super) fn lines(&self, canonical: &str) -> impl Iterator<Item = Line<'a>> {
        self.entries
            .iter()
            .filter(move |entry| entry.keyword.canonical == canonical)
            .filter_map(|entry| match &entry.content {
                Content::Lines { lines, .. } => Some(lines.iter().copied()),
                _ => None,
            })
            .flatten()
    }
}

/// A host, class, switch or enumeration as written.
#[derive(Clone, Debug)]
pub(super) struct Named<'a> {
    /// Its name, or its keyword if it has none.
    pub(super) name_span: Span,
    pub(super) body: Body<'a>,
}

/// What becomes one or more VMs.
#[derive(Clone, Debug)]
pub(super) enum Member<'a> {
    Host(String, Named<'a>),
    Enumeration(Option<String>, Named<'a>),
}

/// A VM before its values are known.
#[derive(Clone, Debug)]
pub(super) struct Guest<'a> {
    pub(super) name: String,
    pub(super) name_span: Span,
    /// What its own block says; none for a VM that an enumeration makes.
    pub(super) body: Option<&'a Body<'a>>,
    /// The name of the enumeration that makes it, where that has one.
    pub(super) enumeration: Option<&'a str>,
    /// Its superclass, for a VM that an enumeration makes.
    pub(super) superclass: Option<(String, Span)>,
    /// Settings that an enumeration makes: keyword and value.
    pub(super) service_host: Option<Value<'a>>,
    /// The interface and the address that an enumeration gives it.
    pub(super) address: Option<MadeAddress>,
    /// A class that no host has, which is only checked.
    pub(super) is_class: bool,
}

/// An address from an enumeration.
#[derive(Clone, Debug)]
pub(super) struct MadeAddress {
    pub(super) interface: String,
    pub(super) address: std::net::IpAddr,
    pub(super) prefix_bits: u8,
    /// Whether the enumeration states the length of its network's prefix.
    pub(super) prefix_is_stated: bool,
    pub(super) span: Span,
}

impl<'a> Guest<'a> {
    pub(super) fn of_host(name: &str, host: &'a Named<'a>) -> Self {
        Self {
            name: name.to_owned(),
            name_span: host.name_span,
            body: Some(&host.body),
            enumeration: None,
            superclass: None,
            service_host: None,
            address: None,
            is_class: false,
        }
    }

    pub(super) fn of_class(name: &str, class: &'a Named<'a>) -> Self {
        Self { is_class: true, ..Self::of_host(name, class) }
    }
}

/// All blocks of a project.
#[derive(Debug, Default)]
pub(super) struct Definitions<'a> {
    pub(super) global: Body<'a>,
    pub(super) global_span: Option<Span>,
    pub(super) members: Vec<Member<'a>>,
    pub(super) superclasses: BTreeMap<String, Named<'a>>,
    pub(super) switches: Vec<(String, Named<'a>)>,
    pub(super) switch_places: BTreeMap<String, usize>,
    /// What is said outside of all blocks: settings of plugins.
    pub(super) top: Body<'a>,
    /// What is said about a host beside its own block, by its name; several add up.
    pub(super) amendments: BTreeMap<String, Vec<Named<'a>>>,
}

impl<'a> Definitions<'a> {
    /// Collects what the text says, and reports what the grammar doesn't know.
    pub(super) fn collect(tree: &'a Tree, expander: &mut Expander<'a>) -> Self {
        let mut collector = Collector { tree, expander };
        let mut top = Body::default();
        collector.nodes(tree.nodes(SourceId::ROOT), Context::Top, &mut top);
        let mut definitions = Self::default();
        let mut rest = Vec::new();
        for entry in std::mem::take(&mut top.entries) {
            match entry.content {
                Content::Block(body) if entry.keyword.word == "global" => {
                    definitions.global_span.get_or_insert(entry.word.span);
                    definitions.add_global(*body, collector.expander);
                }
                _ => rest.push(entry),
            }
        }
        definitions.top = top;
        definitions.add_enumerations(collector.expander);
        let mut places = BTreeMap::new();
        for entry in rest {
            definitions.add_named(entry, &mut places, collector.expander);
        }
        definitions
    }

    /// Adds one of several `global` blocks: included files may have their own.
    fn add_global(&mut self, body: Body<'a>, expander: &mut Expander<'a>) {
        for (slot, span) in body.settings.into_iter() {
            match self.global.settings.get(slot) {
                Some(&first) => expander.report.push(set_twice(slot, span, first)),
                None => _ = self.global.settings.insert(slot, span),
            }
        }
        self.global.misshapen.extend(body.misshapen);
        self.global.variables.extend(body.variables);
        self.global.entries.extend(body.entries);
        if let Some(claimed) = body.claimed {
            self.global.claimed.get_or_insert_default().entries.extend(claimed.entries);
        }
    }

    fn add_enumerations(&mut self, expander: &mut Expander<'a>) {
        let mut places: BTreeMap<String, Span> = BTreeMap::new();
        let entries = std::mem::take(&mut self.global.entries);
        for mut entry in entries {
            let Content::Block(body) = &mut entry.content else {
                self.global.entries.push(entry);
                continue;
            };
            let body = std::mem::take(&mut **body);
            let name = match entry.name {
                Some(word) => expander.expand_word(word, Scope::global(&self.global.variables)),
                None => None,
            };
            let name_span = entry.name.unwrap_or(entry.word).span;
            if let Some(name) = &name {
                if let Some(&first) = places.get(name) {
                    expander.report.push(duplicate("autoenum", name, name_span, first));
                    continue;
                }
                places.insert(name.clone(), name_span);
            }
            self.members.push(Member::Enumeration(name, Named { name_span, body }));
        }
    }

    fn add_named(
        &mut self,
        entry: Entry<'a>,
        places: &mut BTreeMap<(&'static str, String), Span>,
        expander: &mut Expander<'a>,
    ) {
        let (Content::Block(body), Some(word)) = (entry.content, entry.name) else { return };
        let Some(name) = expander.expand_word(word, Scope::global(&self.global.variables)) else { return };
        let kind = entry.keyword.word;
        let name_span = word.span;
        if kind == "amend" {
            let named = Named { name_span, body: *body };
            if let Some((_, span)) = named.body.setting("superclass") {
                let message = "a host's superclass stands in its own block";
                let diagnostic = Diagnostic::new(Code::KeywordElsewhere, span, message)
                    .label("`amend` changes what a host has, and not what it is");
                expander.report.push(diagnostic);
            }
            self.amendments.entry(name).or_default().push(named);
            return;
        }
        if let Some(&first) = places.get(&(kind, name.clone())) {
            expander.report.push(duplicate(kind, &name, name_span, first));
            return;
        }
        places.insert((kind, name.clone()), name_span);
        let named = Named { name_span, body: *body };
        match kind {
            "host" => self.members.push(Member::Host(name, named)),
            "superclass" => _ = self.superclasses.insert(name, named),
            "switch" => {
                self.switch_places.insert(name.clone(), self.switches.len());
                self.switches.push((name, named));
            }
            _ => {}
        }
    }
}
