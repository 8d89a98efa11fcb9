//! What projects were submitted as: made when a project is, kept among the contents, fetched from the hosts that have it.

use mln_protocol::id::{Digest, PublicKey};
use mln_protocol::lang::{Node, SourceId, Tree, Word};
use mln_protocol::model::{Blob, Definition, PinnedTemplate, Project, TemplateRef};
use mln_protocol::wire::{DEFINITION_BYTES_MAX, decode_definition, encode_definition};
use tracing::debug;

use crate::blob::{BlobError, Blobs};
use crate::causes::chain;
use crate::control::{PasswordForm, form_of};
use crate::mesh::MeshHandle;

/// How many hosts are asked for a definition.
const HOSTS_ASKED_MAX: usize = 8;

/// Returns what a project was submitted as, to be kept. Its templates must be settled.
pub(crate) fn define(
    source: Option<String>,
    variables: Vec<(String, String)>,
    files: &[Blob],
    project: &Project,
) -> Definition {
    let templates = project.vms.iter().filter_map(|vm| match &vm.template {
        Some(TemplateRef::Exact(template, digest)) => {
            Some(PinnedTemplate { vm: vm.name.clone(), template: template.clone(), digest: *digest })
        }
        Some(TemplateRef::Newest(_) | TemplateRef::Version(..)) | None => None,
    });
    Definition { source, variables, files: files.to_vec(), templates: templates.collect() }
}

/// Stores a definition; returns it as one of the project's contents. A text that is too long isn't kept.
pub(crate) fn store(blobs: &Blobs, definition: &Definition) -> Result<Blob, BlobError> {
    let mut bytes = encode_definition(definition);
    if bytes.len() > DEFINITION_BYTES_MAX {
        bytes = encode_definition(&Definition { source: None, ..definition.clone() });
    }
    let digest = blobs.put(&bytes)?;
    Ok(Blob { from: Blob::DEFINITION.to_owned(), digest, bytes: bytes.len() as u64, mode: 0o600 })
}

/// Finds the first of these definitions that is here, or that one of these hosts has.
pub(crate) async fn find(
    blobs: &Blobs,
    mesh: &MeshHandle,
    wanted: &[Digest],
    hosts: &[PublicKey],
) -> Option<(Digest, Definition)> {
    for digest in wanted {
        for host in std::iter::once(None).chain(hosts.iter().copied().map(Some)).take(HOSTS_ASKED_MAX) {
            match blobs.fetch(mesh, host, *digest).await {
                Ok(()) => break,
                Err(error) => debug!(%digest, error = chain(&error), "a definition is not there"),
            }
        }
        let found = blobs.get(*digest).ok().and_then(|bytes| decode_definition(&bytes).ok());
        if let Some(definition) = found {
            return Some((*digest, definition));
        }
    }
    None
}

/// Whether a password stands in a text in plain, or might: behind a variable nothing is told from anything.
pub(crate) fn has_plain_password(tree: &Tree) -> bool {
    in_nodes(tree, tree.nodes(SourceId::ROOT))
}

fn in_nodes(tree: &Tree, nodes: &[Node]) -> bool {
    let text = |word: &Word| tree.word(*word).trim_matches('"');
    let is_plain = |word: Option<&Word>| word.is_some_and(|word| form_of(text(word)) == PasswordForm::Plain);
    tree.through_includes(nodes).any(|node| match node {
        Node::Statement(statement) => {
            let keyword = statement.words.first().map(text);
            let is_password = matches!(keyword, Some("root_password" | "root_passwd" | "project_password"));
            is_password && is_plain(statement.words.get(1))
        }
        Node::Block(block) if block.words.first().map(text) == Some("users") => {
            tree.through_includes(&block.nodes).any(|line| match line {
                Node::Statement(statement) => is_plain(statement.words.get(1)),
                Node::RawLine(_) => true,
                _ => false,
            })
        }
        Node::Block(block) => in_nodes(tree, &block.nodes),
        Node::Blank(_) | Node::Comment(_) | Node::Include(_) | Node::RawLine(_) | Node::Skipped(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mln_protocol::lang::{self, NoIncludes};

    #[track_caller]
    fn check(text: &str, expect: bool) {
        let (tree, _) = lang::parse("p.mln", text.to_owned(), &NoIncludes);
        assert_eq!(has_plain_password(&tree), expect, "{text}");
    }

    #[test]
    fn a_password_in_plain_is_found_wherever_it_stands() {
        check("host a { memory 64M }\n", false);
        check("host a { root_password secret }\n", true);
        check("superclass unused { root_password \"secret\" }\n", true);
        check("global { $pw = secret }\nhost a { root_password $pw }\n", true);
        check("host a { root_password $6$salt$hash }\n", false);
        check("host a { users {\n anna secret /home/anna\n } }\n", true);
        check("host a { users {\n anna * /home/anna\n bob\n } }\n", false);
        check("switch s { hosts {\n a eth0\n } }\n", false);
    }
}
