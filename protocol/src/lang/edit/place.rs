//! Where in the tree a path leads.

use super::path::Step;
use super::splice::{self, Item};
use super::value::meant;
use super::{EditError, nearest_name};
use crate::lang::diagnostic::Fix;
use crate::lang::grammar::{self, Body, Keyword};
use crate::lang::source::SourceId;
use crate::lang::tree::{Block, Node, Statement, Tree};

/// The blocks that the steps of a path lead to.
#[derive(Clone, Debug)]
pub(super) struct Place<'a> {
    /// The blocks after the last step that there is; none if not even the first one leads anywhere. Several where a
    /// block may come several times.
    pub(super) blocks: Vec<&'a Block>,
    /// The steps that lead nowhere.
    rest: Vec<Step<'a>>,
}

impl<'a> Place<'a> {
    /// Follows steps as far as there are blocks.
    pub(super) fn find(tree: &'a Tree, steps: &[Step<'a>]) -> Self {
        let mut place = Self { blocks: Vec::new(), rest: steps.to_vec() };
        let mut found = blocks_of_step(tree, tree.nodes(SourceId::ROOT), steps.first());
        while !found.is_empty() {
            place.rest.remove(0);
            let next = place.rest.first();
            let inner = found.iter().flat_map(|block| blocks_of_step(tree, &block.nodes, next)).collect();
            place.blocks = found;
            found = inner;
        }
        place
    }

    /// Returns the place within one block.
    pub(super) fn of(block: &'a Block) -> Self {
        Self { blocks: vec![block], rest: Vec::new() }
    }

    /// Returns whether all blocks of the path are there.
    pub(super) fn is_whole(&self) -> bool {
        self.rest.is_empty() && !self.blocks.is_empty()
    }

    /// Returns which block is not there.
    pub(super) fn missing(&self, tree: &Tree) -> EditError {
        let Some(step) = self.rest.first() else {
            return EditError::BlockMissing { block: String::new(), meant: None };
        };
        let outer: Vec<&[Node]> = if self.blocks.is_empty() {
            vec![tree.nodes(SourceId::ROOT)]
        } else {
            self.blocks.iter().map(|block| block.nodes.as_slice()).collect()
        };
        let known: Vec<String> = outer
            .into_iter()
            .flat_map(|nodes| blocks(tree, nodes, step.keyword, None))
            .filter_map(|block| name(tree, block))
            .collect();
        EditError::BlockMissing {
            block: step.head(),
            meant: nearest_name(step.name.unwrap_or_default(), &known),
        }
    }

    /// Makes the blocks that are not there, with something in them. Hosts, classes and switches are not made so.
    pub(super) fn create(&self, tree: &Tree, item: Item) -> Result<Fix, EditError> {
        let [first, rest @ ..] = self.rest.as_slice() else { return Err(self.missing(tree)) };
        let is_made = matches!(first.keyword, "global" | "network" | "ec2" | "policy");
        if !is_made || rest.iter().any(|step| step.keyword == "autoenum") {
            return Err(self.missing(tree));
        }
        let mut made = Item::block(first.head());
        made.add(rest, item);
        match self.blocks.first() {
            Some(block) => Ok(splice::into_block(tree, block, &made)),
            None => Ok(splice::at_end_of_file(tree, &made)),
        }
    }

    /// Returns what the blocks say with keywords that fit, in order, the last one being the one that counts.
    pub(super) fn entries(
        &self,
        tree: &'a Tree,
        fits: impl Fn(&Keyword) -> bool,
    ) -> Vec<(&'static Keyword, &'a Node)> {
        let mut entries = Vec::new();
        for block in &self.blocks {
            let Body::Keywords(context) = block.body else { continue };
            for node in tree.through_includes(&block.nodes) {
                let keyword = node.first_word().and_then(|word| grammar::keyword(context, tree.word(word)));
                entries.extend(keyword.filter(|keyword| fits(keyword)).map(|keyword| (keyword, node)));
            }
        }
        entries
    }

    /// Returns where the blocks define a variable.
    pub(super) fn variables(&self, tree: &'a Tree, name: &str) -> Vec<&'a Statement> {
        let nodes = self.blocks.iter().flat_map(|block| tree.through_includes(&block.nodes));
        let statements = nodes.filter_map(|node| match node {
            Node::Statement(statement) => Some(statement),
            _ => None,
        });
        let defines = |statement: &&Statement| {
            let defined =
                tree.sources().slice(statement.span).strip_prefix('$').and_then(|text| text.split_once('='));
            defined.is_some_and(|(defined, _)| defined.trim_end() == name)
        };
        statements.filter(defines).collect()
    }

    /// Adds a statement to the first of the blocks.
    pub(super) fn add_statement(&self, tree: &Tree, text: &str) -> Option<Fix> {
        let block = self.blocks.first()?;
        Some(splice::into_block(tree, block, &Item::Statement(text.to_owned())))
    }
}

fn blocks_of_step<'a>(tree: &'a Tree, nodes: &'a [Node], step: Option<&Step<'_>>) -> Vec<&'a Block> {
    let Some(step) = step else { return Vec::new() };
    let mut found = blocks(tree, nodes, step.keyword, step.name);
    if step.keyword == "host" && step.name.is_some() {
        // What amends a host is nearer than its own block, wherever it stands.
        found.extend(blocks(tree, nodes, "amend", step.name));
    }
    // An enumeration without a name is called by its number.
    if found.is_empty() && step.keyword == "autoenum" {
        let number =
            step.name.and_then(|name| name.parse::<usize>().ok()).and_then(|number| number.checked_sub(1));
        let all = blocks(tree, nodes, step.keyword, None);
        return all
            .into_iter()
            .skip(number.unwrap_or(usize::MAX))
            .take(1)
            .filter(|block| name(tree, block).is_none())
            .collect();
    }
    found
}

/// Returns the blocks of one keyword, and of one name unless there is none.
pub(super) fn blocks<'a>(
    tree: &'a Tree,
    nodes: &'a [Node],
    keyword: &str,
    wanted: Option<&str>,
) -> Vec<&'a Block> {
    let all = tree.through_includes(nodes).filter_map(|node| match node {
        Node::Block(block) => Some(&**block),
        _ => None,
    });
    all.filter(|block| block.words.first().is_some_and(|&word| tree.word(word) == keyword))
        .filter(|block| wanted.is_none() || name(tree, block).as_deref() == wanted)
        .collect()
}

/// Returns a block's name, as it is written but for quotation marks.
pub(super) fn name(tree: &Tree, block: &Block) -> Option<String> {
    block.words.get(1).map(|&word| meant(tree.word(word)))
}
