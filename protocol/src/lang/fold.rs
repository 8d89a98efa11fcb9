//! One text out of many: included files in the place of their `#include`.

use super::source::SourceId;
use super::tree::{Node, Tree};

/// Returns the project's text with every included file put in: what is signed and sent, since peers cannot see
/// the files. Parsing it gives the same project. An `#include` that failed stays as it is.
pub fn fold(tree: &Tree) -> String {
    let mut text = String::with_capacity(tree.sources().bytes());
    fold_nodes(tree, tree.nodes(SourceId::ROOT), &mut text);
    text
}

fn fold_nodes(tree: &Tree, nodes: &[Node], text: &mut String) {
    for node in nodes {
        match node {
            Node::Include(include) => match include.target {
                Some(target) => {
                    end_line(text);
                    fold_nodes(tree, tree.nodes(target), text);
                    // The last line may be a comment without an end, which would swallow what follows.
                    end_line(text);
                }
                None => text.push_str(tree.sources().slice(include.span)),
            },
            Node::Block(block) => {
                text.push_str(tree.sources().slice(block.head));
                fold_nodes(tree, &block.nodes, text);
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
