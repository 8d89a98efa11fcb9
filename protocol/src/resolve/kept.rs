//! What is understood and not carried out yet, after inheritance and with variables put in.

use super::definitions::{Body, Definitions, Line, Value};
use super::expand::{Expander, Scope};
use super::inherit::{Merged, MergedContent, MergedEntry};
use crate::id::Name;
use crate::lang::Node;
use crate::lang::grammar::State;
use crate::model::{Kept, Section};

/// How many keywords are kept for one project, over all hosts; those of further hosts are not compared.
const KEPT_MAX: usize = 500_000;

/// Collects it.
pub(super) struct Keeper<'k, 'a> {
    pub(super) expander: &'k mut Expander<'a>,
    pub(super) kept: &'k mut Vec<Kept>,
}

impl<'a> Keeper<'_, 'a> {
    /// Adds what `global` and the switches have.
    pub(super) fn outside_of_hosts(&mut self, definitions: &'a Definitions<'a>) {
        let scope = Scope::global(&definitions.global.variables);
        let has_some =
            |body: &Body<'_>| body.entries.iter().any(|entry| entry.keyword.state == State::NotYet);
        if has_some(&definitions.global) {
            let merged = Merged::of(&[&definitions.global], scope, self.expander);
            self.entries(&merged, scope, &Section::Project, "");
        }
        for (name, named) in definitions.switches.iter().filter(|(_, named)| has_some(&named.body)) {
            let Ok(name) = Name::parse(name) else { continue };
            let merged = Merged::of(&[&named.body], scope, self.expander);
            self.entries(&merged, scope.block(&merged.variables), &Section::Switch(name), "");
        }
    }

    /// Adds what a block has that is not carried out; `within` is the block's words, with a blank behind them.
    pub(super) fn entries(
        &mut self,
        merged: &Merged<'a>,
        scope: Scope<'_, 'a>,
        section: &Section,
        within: &str,
    ) {
        for entry in merged.entries().filter(|entry| entry.keyword.state == State::NotYet) {
            if self.kept.len() >= KEPT_MAX {
                return;
            }
            let mut lines = Vec::new();
            self.content(entry, scope, &mut lines);
            let name = entry.name.as_ref().map_or(String::new(), |name| format!(" {name}"));
            let key = format!("{within}{}{name}", entry.keyword.word);
            self.kept.push(Kept { section: section.clone(), key, lines });
        }
    }

    fn content(&mut self, entry: &MergedEntry<'a>, scope: Scope<'_, 'a>, lines: &mut Vec<String>) {
        match &entry.content {
            MergedContent::Setting(value) => self.value(value, scope, lines),
            MergedContent::Several(values) => {
                values.iter().for_each(|value| self.value(value, scope, lines));
            }
            MergedContent::Lines(all) => {
                lines.extend(all.iter().filter_map(|&line| self.expander.expand_line(line, scope)));
            }
            MergedContent::Free(block) => self.free(&block.nodes, scope, lines),
            MergedContent::Blocks(bodies) => {
                let merged = Merged::of(bodies, scope, self.expander);
                let scope = scope.block(&merged.variables);
                for inner in merged.entries() {
                    let mut of_inner = Vec::new();
                    self.content(inner, scope, &mut of_inner);
                    if of_inner.is_empty() {
                        of_inner.push(String::new());
                    }
                    let word = inner.keyword.word;
                    lines.extend(of_inner.iter().map(|line| format!("{word} {line}").trim_end().to_owned()));
                }
            }
        }
    }

    fn value(&mut self, value: &Value<'a>, scope: Scope<'_, 'a>, lines: &mut Vec<String>) {
        if value.words().next().is_some() {
            lines.extend(self.expander.expand(value, scope));
        }
    }

    /// Adds the lines of a block that has no keywords of ours, and those of the blocks in it.
    fn free(&mut self, nodes: &'a [Node], scope: Scope<'_, 'a>, lines: &mut Vec<String>) {
        let tree = self.expander.tree;
        for node in tree.through_includes(nodes) {
            match node {
                Node::Statement(statement) => {
                    // A `$name` that is not ours may be the plugin's.
                    lines.extend(self.expander.expand_raw(statement.span, scope));
                }
                Node::RawLine(raw) => lines.extend(self.expander.expand_line(Line::Raw(raw), scope)),
                Node::Block(block) => {
                    let (Some(first), Some(last)) = (block.words.first(), block.words.last()) else {
                        continue;
                    };
                    let words = self.expander.expand_raw(first.span.to(last.span), scope);
                    lines.extend(words.map(|words| format!("{words} {{")));
                    self.free(&block.nodes, scope, lines);
                    lines.push("}".to_owned());
                }
                Node::Blank(_) | Node::Comment(_) | Node::Include(_) | Node::Skipped(_) => {}
            }
        }
    }
}
