//! Inheritance: what a host's block and its chain of superclasses say together.
//!
//! Pairs: the nearest wins. Blocks merge, the nearer side winning. Lists: the parent's lines first, then those of
//! the child that are not there yet; `only` starts anew. `no` removes what was inherited.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::definitions::{Body, BySlot, Content, Definitions, Entry, Guest, Line, Removal, Value, slot};
use super::expand::{Expander, Scope, Variables};
use crate::id::Name;
use crate::lang::grammar::Keyword;
use crate::lang::{Block, Code, Diagnostic, Span, Statement, Word};

/// How many superclasses one host may inherit from, one behind the other.
const CHAIN_MAX: usize = 64;
/// As how many things it counts that blocks are merged at all.
const MERGING_ITEMS: usize = 16;

/// Finds chains of superclasses, and remembers which classes are used.
pub(super) struct Inheritance<'a> {
    definitions: &'a Definitions<'a>,
    used: BTreeSet<&'a str>,
}

/// A guest's own block and those of its superclasses, the farthest first, with all their variables.
#[derive(Debug)]
pub(super) struct Chain<'a> {
    pub(super) bodies: Vec<&'a Body<'a>>,
    /// How many of them, the last ones, amend the host.
    pub(super) amending: usize,
    /// The names of the superclasses, the nearest first.
    pub(super) classes: Vec<&'a str>,
    pub(super) variables: Variables<'a>,
}

impl Chain<'_> {
    /// Returns whose block a level of the merged ones is: a superclass, or the guest itself and what amends it.
    pub(super) fn name_of(&self, level: usize, guest: &Guest<'_>) -> Option<Name> {
        // The farthest superclass comes first among the blocks, and last among the names.
        let class = self.classes.iter().rev().nth(level).copied();
        Name::parse(class.unwrap_or(&guest.name)).ok()
    }
}

impl<'a> Inheritance<'a> {
    pub(super) fn new(definitions: &'a Definitions<'a>) -> Self {
        Self { definitions, used: BTreeSet::new() }
    }

    /// Returns whether some host inherits from a class.
    pub(super) fn is_used(&self, class: &str) -> bool {
        self.used.contains(class)
    }

    /// Returns the chain of a guest, as far as it can be followed.
    pub(super) fn chain(&mut self, guest: &Guest<'a>, expander: &mut Expander<'a>) -> Chain<'a> {
        let mut bodies: Vec<&'a Body<'a>> = guest.body.into_iter().collect();
        let mut names: Vec<&'a str> = Vec::new();
        let mut next = match (&guest.superclass, guest.body) {
            (Some((name, span)), _) => Some((name.clone(), *span)),
            (None, Some(body)) => self.parent(body, expander),
            (None, None) => None,
        };
        while let Some((name, span)) = next.take() {
            let Some((name, class)) = self.definitions.superclasses.get_key_value(name.as_str()) else {
                let message = format!("the superclass `{name}` is not defined");
                let diagnostic = Diagnostic::new(Code::SuperclassUnknown, span, message)
                    .label(format!("expected a block `superclass {name} {{ … }}`"));
                let known = self.definitions.superclasses.keys().map(String::as_str);
                expander.report.push_unknown(diagnostic, span, &name, known);
                break;
            };
            let is_own = guest.is_class && *name == guest.name;
            if is_own || names.contains(&name.as_str()) {
                let message = format!("the superclass `{name}` inherits from itself");
                let diagnostic = Diagnostic::new(Code::SuperclassCycle, span, message)
                    .other(class.name_span, "this superclass");
                expander.report.push(diagnostic);
                self.used.insert(name);
                break;
            }
            if names.len() >= CHAIN_MAX {
                let message = format!("more than {CHAIN_MAX} superclasses, one behind the other");
                expander.report.push(Diagnostic::new(Code::SuperclassDeep, span, message));
                break;
            }
            names.push(name);
            self.used.insert(name);
            bodies.push(&class.body);
            expander.spend(class.body.variables.len());
            next = self.parent(&class.body, expander);
        }
        bodies.reverse();
        let amendments = if guest.is_class { None } else { self.definitions.amendments.get(&guest.name) };
        let before = bodies.len();
        bodies.extend(amendments.into_iter().flatten().map(|named| &named.body));
        let amending = bodies.len() - before;
        let variables = bodies
            .iter()
            .flat_map(|body| body.variables.iter().map(|(name, value)| (*name, value.clone())))
            .collect();
        Chain { bodies, amending, classes: names, variables }
    }

    fn parent(&self, body: &'a Body<'a>, expander: &mut Expander<'a>) -> Option<(String, Span)> {
        let (value, span) = body.setting("superclass")?;
        let scope = Scope::global(&self.definitions.global.variables).host(&body.variables, None, false);
        Some((expander.expand(value, scope)?, span))
    }
}

/// What blocks say together.
#[derive(Debug, Default)]
pub(super) struct Merged<'a> {
    entries: Vec<Option<MergedEntry<'a>>>,
    places: BySlot<usize>,
    named_places: BTreeMap<(&'static str, String), usize>,
    pub(super) variables: Variables<'a>,
}

/// One keyword, or one block with a name.
#[derive(Debug)]
pub(super) struct MergedEntry<'a> {
    pub(super) keyword: &'static Keyword,
    /// Its name as written, or the keyword where it has none.
    pub(super) word: Span,
    pub(super) name: Option<String>,
    pub(super) content: MergedContent<'a>,
    /// Which of the merged blocks it comes from, the farthest being 0.
    pub(super) level: usize,
}

/// What follows it.
#[derive(Debug)]
pub(super) enum MergedContent<'a> {
    Setting(Value<'a>),
    /// Settings that add up.
    Several(Vec<Value<'a>>),
    Lines(Vec<Line<'a>>),
    /// Blocks that are to be merged, the farthest first.
    Blocks(Vec<&'a Body<'a>>),
    Free(&'a Block),
}

impl<'a> Merged<'a> {
    /// Merges blocks, the farthest first. Names of blocks are expanded in `scope`.
    pub(super) fn of(bodies: &[&'a Body<'a>], scope: Scope<'_, 'a>, expander: &mut Expander<'a>) -> Self {
        let mut merged = Self::default();
        let mut there = BTreeMap::new();
        expander.spend(MERGING_ITEMS);
        for (level, body) in bodies.iter().enumerate() {
            expander.spend(body.variables.len() + 1);
            if expander.is_exhausted() {
                break;
            }
            merged.variables.extend(body.variables.iter().map(|(name, value)| (*name, value.clone())));
            for removal in &body.removals {
                merged.remove(removal, scope, expander);
            }
            for entry in &body.entries {
                merged.add(level, entry, scope, expander, &mut there);
            }
        }
        merged
    }

    /// Returns everything, in the order in which it first came.
    pub(super) fn entries(&self) -> impl Iterator<Item = &MergedEntry<'a>> {
        self.entries.iter().flatten()
    }

    /// Returns what stands in a slot.
    pub(super) fn entry(&self, slot: &'static str) -> Option<&MergedEntry<'a>> {
        self.entries[*self.places.get(slot)?].as_ref()
    }

    /// Returns a setting's value and the level that it comes from.
    pub(super) fn setting(&self, slot: &'static str) -> Option<(&Value<'a>, usize)> {
        match self.entry(slot)? {
            MergedEntry { content: MergedContent::Setting(value), level, .. } => Some((value, *level)),
            _ => None,
        }
    }

    /// Returns the lines of a list.
    pub(super) fn lines(&self, slot: &'static str) -> &[Line<'a>] {
        match self.entry(slot) {
            Some(MergedEntry { content: MergedContent::Lines(lines), .. }) => lines,
            _ => &[],
        }
    }

    /// Puts a made value in, nearer than all else.
    pub(super) fn put(&mut self, keyword: &'static Keyword, value: Value<'a>) {
        let entry = MergedEntry {
            keyword,
            word: value.span(),
            name: None,
            content: MergedContent::Setting(value),
            level: usize::MAX,
        };
        self.place(slot(keyword), entry);
    }

    fn place_of(&self, slot: &'static str, name: Option<&String>) -> Option<usize> {
        match name {
            None => self.places.get(slot).copied(),
            Some(name) => self.named_places.get(&(slot, name.clone())).copied(),
        }
    }

    fn place(&mut self, slot: &'static str, entry: MergedEntry<'a>) {
        if let Some(at) = self.place_of(slot, entry.name.as_ref()) {
            self.entries[at] = Some(entry);
            return;
        }
        match &entry.name {
            None => _ = self.places.insert(slot, self.entries.len()),
            Some(name) => _ = self.named_places.insert((slot, name.clone()), self.entries.len()),
        }
        self.entries.push(Some(entry));
    }

    fn remove(&mut self, removal: &Removal, scope: Scope<'_, 'a>, expander: &mut Expander<'a>) {
        let slot = slot(removal.keyword);
        // Of one without a name, all that have one are looked at.
        expander.spend(self.named_places.len() + 1);
        let name = match removal.name {
            Some(word) => match expander.expand_word(word, scope) {
                Some(name) => Some(name),
                None => return,
            },
            None => None,
        };
        let removed: Vec<usize> = match &name {
            Some(name) => self.named_places.remove(&(slot, name.clone())).into_iter().collect(),
            None => {
                let all = std::mem::take(&mut self.named_places);
                let (gone, kept): (BTreeMap<_, _>, _) =
                    all.into_iter().partition(|((found, _), _)| *found == slot);
                self.named_places = kept;
                self.places.remove(slot).into_iter().chain(gone.into_values()).collect()
            }
        };
        for &at in &removed {
            self.entries[at] = None;
        }
        if removed.is_empty() {
            let what =
                name.map_or(removal.keyword.word.to_owned(), |n| format!("{} {n}", removal.keyword.word));
            let diagnostic =
                Diagnostic::new(Code::RemovesNothing, removal.span, format!("`no {what}` removes nothing"))
                    .label("nothing of that name is inherited");
            expander.report.push(diagnostic);
        }
    }

    fn add(
        &mut self,
        level: usize,
        entry: &'a Entry<'a>,
        scope: Scope<'_, 'a>,
        expander: &mut Expander<'a>,
        there: &mut BTreeMap<&'static str, Lines<'a>>,
    ) {
        expander.spend(1);
        let name = match entry.name.map(|word: Word| expander.expand_word(word, scope)) {
            Some(None) => return,
            Some(Some(name)) => Some(name),
            None => None,
        };
        let slot = slot(entry.keyword);
        let before = self.place_of(slot, name.as_ref()).and_then(|at| self.entries[at].as_mut());
        let content = match (&entry.content, before.map(|entry| &mut entry.content)) {
            (Content::Setting(value), Some(MergedContent::Several(values))) => {
                values.push(value.clone());
                return;
            }
            (Content::Block(body), Some(MergedContent::Blocks(bodies))) => {
                bodies.push(body);
                return;
            }
            (Content::Lines { lines, only: false }, Some(MergedContent::Lines(merged))) => {
                append(merged, lines, there.entry(slot).or_default(), expander);
                return;
            }
            (Content::Setting(value), _) if entry.keyword.several => {
                MergedContent::Several(vec![value.clone()])
            }
            (Content::Setting(value), _) => MergedContent::Setting(value.clone()),
            (Content::Block(body), _) => MergedContent::Blocks(vec![body]),
            (Content::Lines { lines, .. }, _) => {
                // Not those of a list that is no more.
                there.remove(slot);
                expander.spend(lines.len());
                MergedContent::Lines(lines.clone())
            }
            (Content::Free(block), _) => MergedContent::Free(block),
        };
        let word = entry.name.unwrap_or(entry.word).span;
        let entry = MergedEntry { keyword: entry.keyword, word, name, content, level };
        self.place(slot, entry);
    }
}

/// The lines of a list as they are written, as far as they were compared.
#[derive(Debug, Default)]
struct Lines<'a> {
    texts: BTreeSet<Cow<'a, str>>,
    /// How many of the list's lines are among them.
    compared: usize,
}

/// Appends the lines that are not already there, compared as they are written but for runs of blanks.
fn append<'a>(
    merged: &mut Vec<Line<'a>>,
    lines: &[Line<'a>],
    there: &mut Lines<'a>,
    expander: &mut Expander<'a>,
) {
    expander.spend(lines.len());
    if expander.is_exhausted() {
        return;
    }
    let tree = expander.tree;
    let text = |line: &Line<'a>| -> Cow<'a, str> {
        match line {
            Line::Words(Statement { words, .. }) => match words.as_slice() {
                [word] => tree.word(*word).into(),
                words => words.iter().map(|&word| tree.word(word)).collect::<Vec<_>>().join(" ").into(),
            },
            Line::Raw(raw) => tree.sources().slice(raw.span).into(),
        }
    };
    there.texts.extend(merged[there.compared..].iter().map(text));
    there.compared = merged.len();
    // A line that this very list has twice stays twice.
    merged.extend(lines.iter().filter(|line| !there.texts.contains(&text(line))));
}
