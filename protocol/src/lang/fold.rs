//! One text out of many: included files in the place of their `#include`, what plugins have made instead of what was
//! said to them.

use super::grammar::{Body, Context};
use super::source::SourceId;
use super::tree::{Node, Tree, Word};

/// Returns the project's text with every included file put in: what is signed and sent, since peers cannot see
/// the files, and run no plugins. Parsing it gives the same project. An `#include` that failed stays as it is; what
/// stands there for plugins is left out.
pub fn fold(tree: &Tree) -> String {
    let mut text = String::with_capacity(tree.sources().bytes());
    fold_nodes(tree, tree.nodes(SourceId::ROOT), Body::Keywords(Context::Top), &mut text);
    text
}

fn fold_nodes(tree: &Tree, nodes: &[Node], body: Body, text: &mut String) {
    for node in nodes {
        match node {
            Node::Include(include) => match include.target {
                Some(target) => {
                    end_line(text);
                    fold_nodes(tree, tree.nodes(target), body, text);
                    // The last line may be a comment without an end, which would swallow what follows.
                    end_line(text);
                }
                None => text.push_str(tree.sources().slice(include.span)),
            },
            Node::Block(block) if is_plugins(tree, body, &block.words) => {}
            Node::Statement(statement) if is_plugins(tree, body, &statement.words) => {}
            Node::Block(block) => {
                text.push_str(tree.sources().slice(block.head));
                fold_nodes(tree, &block.nodes, block.body, text);
                text.push_str(block.close.map_or("", |span| tree.sources().slice(span)));
            }
            leaf => text.push_str(tree.sources().slice(leaf.span())),
        }
    }
}

fn end_line(text: &mut String) {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
}

/// Returns whether a statement or a block is there for plugins alone.
fn is_plugins(tree: &Tree, body: Body, words: &[Word]) -> bool {
    let Body::Keywords(context) = body else { return false };
    let text = |at: usize| words.get(at).map_or("", |&word| tree.word(word));
    let word = if text(0) == "no" { text(1) } else { text(0) };
    let names_them = match context {
        Context::Global => matches!(word, "plugin" | "plugins"),
        Context::Top | Context::Host => word == "plugin",
        Context::Autoenum | Context::Network | Context::Ec2 | Context::Policy | Context::Switch => false,
    };
    names_them || tree.claims().find(context, word).is_some()
}
