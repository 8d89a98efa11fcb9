//! What stands in a project for plugins: collected, inherited as all else is, variables put in.
//!
//! Values: the nearest counts. Blocks merge. Lines: the parent's first, then all of the child's, since a line may be a
//! part of something longer that is the plugin's to understand; `only` starts anew. `no` removes what was inherited.

use std::collections::BTreeMap;

use super::collect::{Collector, set_twice_of_plugin};
use super::definitions::{Body, Line, Value};
use super::expand::{Expander, Scope};
use crate::id::Name;
use crate::lang::grammar::Context;
use crate::lang::{Block, ClaimForm, ClaimId, Code, Diagnostic, Node, Span, Statement, Word, nearest};
use crate::model::{Claimed, ClaimedPlace, ClaimedValue};

/// How many claimed words are handed to plugins, over all hosts.
const CLAIMED_MAX: usize = 500_000;

/// What a block says to plugins.
#[derive(Clone, Debug, Default)]
pub(super) struct ClaimedBody<'a> {
    pub(super) entries: Vec<ClaimedEntry<'a>>,
    removals: Vec<ClaimId>,
}

/// A claimed word and what follows it.
#[derive(Clone, Debug)]
pub(super) struct ClaimedEntry<'a> {
    claim: ClaimId,
    span: Span,
    content: ClaimedContent<'a>,
}

#[derive(Clone, Debug)]
enum ClaimedContent<'a> {
    Flag,
    Value(Value<'a>),
    Lines { lines: Vec<Line<'a>>, only: bool },
    Block { name: Option<Word>, body: ClaimedBody<'a> },
}

impl<'a> Collector<'_, 'a> {
    /// Takes a statement that begins with a claimed word.
    pub(super) fn claimed_statement(
        &mut self,
        claim: ClaimId,
        statement: &'a Statement,
        into: &mut ClaimedBody<'a>,
    ) {
        let Some((&word, rest)) = statement.words.split_first() else { return };
        let claimed = self.tree.claims().get(claim);
        let (text, form) = (claimed.word.as_str(), &claimed.form);
        let content = match (form, rest) {
            (ClaimForm::Flag, []) => ClaimedContent::Flag,
            (ClaimForm::Pair | ClaimForm::Pairs, [first, ..]) => {
                let span = first.span.to(statement.span);
                ClaimedContent::Value(Value::written(None, rest, span))
            }
            (ClaimForm::Flag, [_, ..]) => {
                return self.misshapen(Code::ValueUnexpected, statement.span, text, "takes no value", form);
            }
            (ClaimForm::Pair | ClaimForm::Pairs, []) => {
                return self.misshapen(Code::ValueMissing, statement.span, text, "lacks its value", form);
            }
            (ClaimForm::Lines | ClaimForm::Block(_) | ClaimForm::Blocks(_), _) => {
                let what = "is a block, and this has no braces";
                return self.misshapen(Code::BlockExpected, statement.span, text, what, form);
            }
        };
        let before = into.entries.iter().rev().find(|entry| entry.claim == claim).map(|entry| entry.span);
        if let (ClaimForm::Flag | ClaimForm::Pair, Some(first)) = (form, before) {
            self.expander.report.push(set_twice_of_plugin(text, statement.span, first));
        }
        into.entries.push(ClaimedEntry { claim, span: word.span, content });
    }

    /// Takes a block that begins with a claimed word.
    pub(super) fn claimed_block(&mut self, claim: ClaimId, block: &'a Block, into: &mut ClaimedBody<'a>) {
        let Some((&word, rest)) = block.words.split_first() else { return };
        let claimed = self.tree.claims().get(claim);
        let (text, form) = (claimed.word.as_str(), &claimed.form);
        let content = match (form, rest) {
            (ClaimForm::Lines, []) => ClaimedContent::Lines { lines: self.claimed_lines(block), only: false },
            (ClaimForm::Lines, [only]) if self.tree.word(*only) == "only" => {
                ClaimedContent::Lines { lines: self.claimed_lines(block), only: true }
            }
            (ClaimForm::Block(_), []) => {
                ClaimedContent::Block { name: None, body: self.inside(claim, block) }
            }
            (ClaimForm::Blocks(_), [name]) => {
                ClaimedContent::Block { name: Some(*name), body: self.inside(claim, block) }
            }
            (ClaimForm::Blocks(_), []) => {
                return self.misshapen(Code::NameMissing, block.head, text, "lacks its name", form);
            }
            (ClaimForm::Flag | ClaimForm::Pair | ClaimForm::Pairs, _) => {
                return self.misshapen(Code::BlockUnexpected, block.head, text, "takes no block", form);
            }
            (ClaimForm::Lines | ClaimForm::Block(_), [name, ..]) | (ClaimForm::Blocks(_), [_, name, ..]) => {
                let what = "has too many words before its brace";
                return self.misshapen(Code::NameUnexpected, name.span, text, what, form);
            }
        };
        into.entries.push(ClaimedEntry { claim, span: word.span, content });
    }

    /// Takes `plugin NAME { }`; `claim` stands for the settings of that plugin.
    pub(super) fn settings_block(&mut self, claim: ClaimId, block: &'a Block, into: &mut ClaimedBody<'a>) {
        let span = block.words.last().map_or(block.head, |word| word.span);
        let content = ClaimedContent::Block { name: None, body: self.inside(claim, block) };
        into.entries.push(ClaimedEntry { claim, span, content });
    }

    pub(super) fn claimed_removal(&mut self, claim: ClaimId, into: &mut ClaimedBody<'a>) {
        into.removals.push(claim);
    }

    fn claimed_lines(&self, block: &'a Block) -> Vec<Line<'a>> {
        let lines = self.tree.through_includes(&block.nodes);
        lines
            .filter_map(|node| match node {
                Node::RawLine(raw) => Some(Line::Raw(raw)),
                Node::Statement(statement) => Some(Line::Words(statement)),
                Node::Block(_) | Node::Blank(_) | Node::Comment(_) | Node::Include(_) | Node::Skipped(_) => {
                    None
                }
            })
            .collect()
    }

    /// Takes what is in a claimed block.
    fn inside(&mut self, outer: ClaimId, block: &'a Block) -> ClaimedBody<'a> {
        let mut body = ClaimedBody::default();
        for node in self.tree.through_includes(&block.nodes) {
            let Some(word) = node.first_word() else { continue };
            if let (Node::Statement(statement), "no") = (node, self.tree.word(word)) {
                let removed = statement.words.get(1).and_then(|&word| self.claim_inside(outer, word));
                body.removals.extend(removed);
                continue;
            }
            let Some(claim) = self.claim_inside(outer, word) else { continue };
            match node {
                Node::Statement(statement) => self.claimed_statement(claim, statement, &mut body),
                Node::Block(block) => self.claimed_block(claim, block, &mut body),
                Node::Blank(_)
                | Node::Comment(_)
                | Node::Include(_)
                | Node::RawLine(_)
                | Node::Skipped(_) => {}
            }
        }
        body
    }

    fn claim_inside(&mut self, outer: ClaimId, word: Word) -> Option<ClaimId> {
        let (claims, text) = (self.tree.claims(), self.tree.word(word));
        if let Some(claim) = claims.find_inside(outer, text) {
            return Some(claim);
        }
        let of = &claims.get(outer).word;
        let message = format!("unknown keyword `{text}` in `{of}`");
        let diagnostic = Diagnostic::new(Code::KeywordUnknown, word.span, message);
        let known: Vec<&str> = claims.words_inside(outer).collect();
        self.expander.report.push(match nearest(text, known.iter().copied()) {
            Some(near) => diagnostic.label(format!("did you mean `{near}`?")).fix(word.span, near),
            None if known.is_empty() => diagnostic.label(format!("`{of}` takes none")),
            None => diagnostic.label(format!("expected one of `{}`", known.join("`, `"))),
        });
        None
    }

    fn misshapen(&mut self, code: Code, span: Span, word: &str, what: &str, form: &ClaimForm) {
        let expected = match form {
            ClaimForm::Flag => format!("expected `{word}` alone"),
            ClaimForm::Pair | ClaimForm::Pairs => format!("expected `{word} VALUE`"),
            ClaimForm::Lines | ClaimForm::Block(_) => format!("expected `{word} {{ … }}`"),
            ClaimForm::Blocks(_) => format!("expected `{word} NAME {{ … }}`"),
        };
        let diagnostic = Diagnostic::new(code, span, format!("`{word}` {what}")).label(expected);
        self.expander.report.push(diagnostic);
    }
}

/// What several blocks say together about one claimed word.
enum Merging<'b, 'a> {
    Flag,
    Value(&'b Value<'a>),
    Values(Vec<&'b Value<'a>>),
    Lines(Vec<&'b [Line<'a>]>),
    Block(Vec<&'b ClaimedBody<'a>>),
    /// By name, in the order in which the names first came.
    Blocks(Vec<(String, Vec<&'b ClaimedBody<'a>>)>),
}

/// Merges blocks, the farthest first, and puts variables in.
fn merged<'a>(
    bodies: &[&ClaimedBody<'a>],
    scope: Scope<'_, 'a>,
    expander: &mut Expander<'a>,
) -> Vec<(ClaimId, Span, ClaimedValue)> {
    let mut order: Vec<ClaimId> = Vec::new();
    let mut found: BTreeMap<ClaimId, (Span, Merging<'_, 'a>)> = BTreeMap::new();
    for body in bodies {
        for removed in &body.removals {
            found.remove(removed);
            order.retain(|claim| claim != removed);
        }
        for ClaimedEntry { claim, span, content } in &body.entries {
            if !found.contains_key(claim) {
                order.push(*claim);
            }
            let adds_up = expander.tree.claims().get(*claim).form == ClaimForm::Pairs;
            let before = found.remove(claim).map(|(_, merging)| merging);
            let merging = match (content, before) {
                (ClaimedContent::Flag, _) => Merging::Flag,
                (ClaimedContent::Value(value), Some(Merging::Values(mut values))) => {
                    values.push(value);
                    Merging::Values(values)
                }
                (ClaimedContent::Value(value), _) if adds_up => Merging::Values(vec![value]),
                (ClaimedContent::Value(value), _) => Merging::Value(value),
                (ClaimedContent::Lines { lines, only: false }, Some(Merging::Lines(mut all))) => {
                    all.push(lines);
                    Merging::Lines(all)
                }
                (ClaimedContent::Lines { lines, .. }, _) => Merging::Lines(vec![lines]),
                (ClaimedContent::Block { name: None, body }, Some(Merging::Block(mut all))) => {
                    all.push(body);
                    Merging::Block(all)
                }
                (ClaimedContent::Block { name: None, body }, _) => Merging::Block(vec![body]),
                (ClaimedContent::Block { name: Some(word), body }, before) => {
                    let mut blocks = match before {
                        Some(Merging::Blocks(blocks)) => blocks,
                        _ => Vec::new(),
                    };
                    if let Some(name) = expander.expand_word(*word, scope) {
                        match blocks.iter_mut().find(|(there, _)| *there == name) {
                            Some((_, bodies)) => bodies.push(body),
                            None => blocks.push((name, vec![body])),
                        }
                    }
                    Merging::Blocks(blocks)
                }
            };
            found.insert(*claim, (*span, merging));
        }
    }
    let mut values = Vec::with_capacity(order.len());
    for claim in order {
        let Some((span, merging)) = found.remove(&claim) else { continue };
        values.extend(value(merging, scope, expander).map(|value| (claim, span, value)));
    }
    values
}

fn value<'a>(
    merging: Merging<'_, 'a>,
    scope: Scope<'_, 'a>,
    expander: &mut Expander<'a>,
) -> Option<ClaimedValue> {
    let words = |bodies: &[&ClaimedBody<'a>], expander: &mut Expander<'a>| -> Vec<(String, ClaimedValue)> {
        let tree = expander.tree;
        let merged = merged(bodies, scope, expander);
        merged.into_iter().map(|(claim, _, value)| (tree.claims().get(claim).word.clone(), value)).collect()
    };
    Some(match merging {
        Merging::Flag => ClaimedValue::Flag,
        Merging::Value(value) => ClaimedValue::Text(expander.expand(value, scope)?),
        Merging::Values(values) => ClaimedValue::Texts(
            values.into_iter().filter_map(|value| expander.expand(value, scope)).collect(),
        ),
        Merging::Lines(blocks) => {
            let mut lines = Vec::new();
            for block in blocks {
                indented(block, scope, expander, &mut lines);
            }
            ClaimedValue::Lines(lines)
        }
        Merging::Block(bodies) => ClaimedValue::Block(words(&bodies, expander)),
        Merging::Blocks(blocks) => ClaimedValue::Blocks(
            blocks.into_iter().map(|(name, bodies)| (name, words(&bodies, expander))).collect(),
        ),
    })
}

/// Adds the lines of a block, each with the blanks that it is indented beyond the least indented of them.
fn indented<'a>(
    lines: &[Line<'a>],
    scope: Scope<'_, 'a>,
    expander: &mut Expander<'a>,
    into: &mut Vec<String>,
) {
    let tree = expander.tree;
    let lead = |line: &Line<'a>| {
        let span = line.span();
        let before = tree.sources().get(span.source).text().get(..span.start as usize)?;
        let lead = &before[before.rfind('\n').map_or(0, |newline| newline + 1)..];
        lead.bytes().all(|byte| matches!(byte, b' ' | b'\t')).then_some(lead)
    };
    let least = lines.iter().filter_map(lead).map(str::len).min().unwrap_or(0);
    for line in lines {
        let beyond = lead(line).and_then(|lead| lead.get(least..)).unwrap_or("");
        into.extend(expander.expand_line(*line, scope).map(|text| format!("{beyond}{text}")));
    }
}

/// Collects what all blocks of a project say to plugins.
pub(super) struct Gatherer<'g, 'a> {
    pub(super) expander: &'g mut Expander<'a>,
    pub(super) claimed: &'g mut Vec<Claimed>,
}

impl<'a> Gatherer<'_, 'a> {
    /// Adds what a block and those that it inherits from say, the farthest first; the place is given by whether it is
    /// about a plugin's settings.
    pub(super) fn add(
        &mut self,
        bodies: &[&'a Body<'a>],
        scope: Scope<'_, 'a>,
        place: impl Fn(bool) -> ClaimedPlace,
    ) {
        let claimed: Vec<&ClaimedBody<'a>> =
            bodies.iter().filter_map(|body| body.claimed.as_deref()).collect();
        if claimed.is_empty() || self.claimed.len() >= CLAIMED_MAX {
            return;
        }
        let claims = self.expander.tree.claims();
        for (claim, span, value) in merged(&claimed, scope, self.expander) {
            let found = claims.get(claim);
            let is_settings = claims.settings(&found.word) == Some(Some(claim));
            let (plugin, word) = (found.plugin, found.word.clone());
            self.claimed.push(Claimed { plugin, place: place(is_settings), word, span, value });
        }
    }
}

/// Returns the kind of place in a host.
pub(super) fn host_place(name: &Name) -> impl Fn(bool) -> ClaimedPlace {
    |is_settings| match is_settings {
        true => ClaimedPlace::HostSettings(name.clone()),
        false => ClaimedPlace::Host(name.clone()),
    }
}

/// Returns what is claimed where a path of `query` leads, in lines.
pub(super) fn query(claimed: &[Claimed], word: &str, rest: &[&str]) -> Option<Vec<String>> {
    let found = claimed.iter().find(|one| one.word == word)?;
    let mut value = &found.value;
    let mut last = word;
    let mut inside: Option<&Vec<(String, ClaimedValue)>> = None;
    for part in rest {
        match (inside.take(), value) {
            (Some(words), _) | (None, ClaimedValue::Block(words)) => {
                let (word, inner) = words.iter().find(|(word, _)| word == part)?;
                (value, last) = (inner, word);
            }
            (None, ClaimedValue::Blocks(blocks)) => {
                inside = Some(&blocks.iter().find(|(name, _)| name == part)?.1);
            }
            (None, _) => return None,
        }
    }
    Some(match (inside, value) {
        (Some(words), _) => words.iter().map(|(word, _)| word.clone()).collect(),
        (None, ClaimedValue::Flag) => vec![last.to_owned()],
        (None, value) => value.lines(),
    })
}

/// The block of a path of `query`, as a kind of block.
pub(super) fn is_claimed(expander: &Expander<'_>, context: Context, word: &str) -> bool {
    expander.tree.claims().find(context, word).is_some()
}
