//! One value of a project by its path, after inheritance and variables: `/host/web1/network/eth0/address`.

use super::claimed;
use super::definitions::{Definitions, Guest, Line, Member};
use super::expand::{Expander, Scope};
use super::host::{self, MergedHost};
use super::inherit::{Inheritance, Merged, MergedContent};
use super::{Limits, Options, autoenum, project_name};
use crate::id::Name;
use crate::lang::grammar::{self, Context};
use crate::lang::{Block, Node, Tree};

/// Returns what a path leads to: a pair's value, a flag's keyword, a list's lines, or the keywords of a block or
/// the names of its blocks. None if nothing is there; empty if what is there says nothing.
pub fn query(tree: &Tree, options: &Options, path: &str) -> Option<Vec<String>> {
    let mut expander = Expander::new(tree, options, Limits::default());
    let definitions = Definitions::collect(tree, &mut expander);
    expander.project = project_name(&definitions, &mut expander).map(|name| name.as_str().to_owned());
    let guests = autoenum::guests(&definitions, &mut expander);
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        [] => Some(["global", "superclass", "switch", "host"].map(str::to_owned).to_vec()),
        ["global", "autoenum", rest @ ..] => of_enumerations(&definitions, rest, &mut expander),
        ["global", rest @ ..] => {
            let merged = Merged::of(
                &[&definitions.global],
                Scope::global(&definitions.global.variables),
                &mut expander,
            );
            block(&merged, Scope::global(&definitions.global.variables), Context::Global, rest, &mut expander)
        }
        ["host"] => Some(guests.iter().map(|guest| guest.name.clone()).collect()),
        ["superclass"] => Some(definitions.superclasses.keys().cloned().collect()),
        ["switch"] => Some(definitions.switches.iter().map(|(name, _)| name.clone()).collect()),
        ["host", name, rest @ ..] => {
            let guest = guests.iter().find(|guest| guest.name == *name)?;
            of_guest(&definitions, guest, rest, &mut expander)
        }
        ["superclass", name, rest @ ..] => {
            let (name, class) = definitions.superclasses.get_key_value(*name)?;
            of_guest(&definitions, &Guest::of_class(name, class), rest, &mut expander)
        }
        ["switch", name, rest @ ..] => {
            let (_, named) = &definitions.switches[*definitions.switch_places.get(*name)?];
            let scope = Scope::global(&definitions.global.variables);
            let merged = Merged::of(&[&named.body], scope, &mut expander);
            block(&merged, scope.block(&merged.variables), Context::Switch, rest, &mut expander)
        }
        _ => None,
    }
}

/// Enumerations by name; one without a name is called by its number, the first being 1.
fn of_enumerations<'a>(
    definitions: &'a Definitions<'a>,
    rest: &[&str],
    expander: &mut Expander<'a>,
) -> Option<Vec<String>> {
    let enumerations = definitions.members.iter().filter_map(|member| match member {
        Member::Enumeration(name, named) => Some((name.clone(), named)),
        Member::Host(..) => None,
    });
    let mut called = enumerations
        .enumerate()
        .map(|(index, (name, named))| (name.unwrap_or_else(|| (index + 1).to_string()), named));
    let [name, rest @ ..] = rest else {
        return Some(called.map(|(name, _)| name).collect::<Vec<_>>()).filter(|names| !names.is_empty());
    };
    let (_, named) = called.find(|(called, _)| called == name)?;
    let scope = Scope::global(&definitions.global.variables).block(&named.body.variables);
    let merged = Merged::of(&[&named.body], scope, expander);
    block(&merged, scope, Context::Autoenum, rest, expander)
}

fn of_guest<'a>(
    definitions: &'a Definitions<'a>,
    guest: &Guest<'a>,
    rest: &[&str],
    expander: &mut Expander<'a>,
) -> Option<Vec<String>> {
    let chain = Inheritance::new(definitions).chain(guest, expander);
    let scope = host::scope(definitions, guest, &chain);
    let MergedHost { body, networks } = MergedHost::of(guest, &chain, scope, expander);
    match rest {
        [] => {
            let mut keywords = keywords(&body);
            if !networks.is_empty() && !keywords.contains(&"network".to_owned()) {
                keywords.push("network".to_owned());
            }
            Some(keywords)
        }
        ["network"] if networks.is_empty() => None,
        ["network"] => Some(networks.into_iter().map(|network| network.name).collect()),
        ["network", name, rest @ ..] => {
            let network = networks.iter().find(|network| network.name == *name)?;
            let scope = scope.block(&network.body.variables);
            block(&network.body, scope, Context::Network, rest, expander)
        }
        [word, rest @ ..] if claimed::is_claimed(expander, Context::Host, word) => {
            let mut claimed = Vec::new();
            let mut gatherer = claimed::Gatherer { expander, claimed: &mut claimed };
            gatherer.add(&chain.bodies, scope, claimed::host_place(&Name::parse(&guest.name).ok()?));
            claimed::query(&claimed, word, rest)
        }
        _ => block(&body, scope, Context::Host, rest, expander),
    }
}

/// Returns the keywords of a block, each once.
fn keywords(merged: &Merged<'_>) -> Vec<String> {
    let mut keywords: Vec<String> = Vec::new();
    for entry in merged.entries() {
        if !keywords.iter().any(|keyword| keyword == entry.keyword.word) {
            keywords.push(entry.keyword.word.to_owned());
        }
    }
    keywords
}

fn block<'a>(
    merged: &Merged<'a>,
    scope: Scope<'_, 'a>,
    context: Context,
    rest: &[&str],
    expander: &mut Expander<'a>,
) -> Option<Vec<String>> {
    let [word, rest @ ..] = rest else { return Some(keywords(merged)) };
    if let Some(name) = word.strip_prefix('$').filter(|_| rest.is_empty()) {
        let value = merged.variables.get(name)?;
        return Some(vec![expander.expand(value, scope)?]);
    }
    let canonical = match *word {
        "platform" => "platform",
        word => grammar::keyword(context, word)?.canonical,
    };
    let mut found = merged.entries().filter(|entry| {
        entry.keyword.canonical == canonical
            && (canonical != "platform" || ["platform", entry.keyword.word].contains(word))
    });
    let first = found.next()?;
    match (&first.content, rest) {
        (MergedContent::Setting(value), []) => {
            let text = expander.expand(value, scope)?;
            let is_flag = text.is_empty() && value.words().next().is_none();
            Some(vec![if is_flag { first.keyword.word.to_owned() } else { text }])
        }
        (MergedContent::Several(values), []) => {
            values.iter().map(|value| expander.expand(value, scope)).collect()
        }
        (MergedContent::Lines(lines), []) => {
            lines.iter().map(|&line| expander.expand_line(line, scope)).collect()
        }
        (MergedContent::Free(block), rest) => free(&block.nodes, scope, rest, expander),
        (MergedContent::Blocks(_), []) if first.name.is_some() => {
            Some(std::iter::once(first).chain(found).filter_map(|entry| entry.name.clone()).collect())
        }
        (MergedContent::Blocks(bodies), rest) if first.name.is_none() => {
            inner(bodies, scope, first.keyword.word, rest, expander)
        }
        (MergedContent::Blocks(_), [name, rest @ ..]) => {
            let entry =
                std::iter::once(first).chain(found).find(|entry| entry.name.as_deref() == Some(*name))?;
            let MergedContent::Blocks(bodies) = &entry.content else { return None };
            inner(bodies, scope, entry.keyword.word, rest, expander)
        }
        _ => None,
    }
}

/// A block that has no keywords of ours: its lines, and the names of the blocks in it.
fn free<'a>(
    nodes: &'a [Node],
    scope: Scope<'_, 'a>,
    rest: &[&str],
    expander: &mut Expander<'a>,
) -> Option<Vec<String>> {
    let tree = expander.tree;
    let name = |block: &Block| block.words.last().map_or("", |&word| tree.word(word)).to_owned();
    let mut nodes = tree.through_includes(nodes);
    let [wanted, rest @ ..] = rest else {
        return nodes
            .filter_map(|node| match node {
                Node::Statement(statement) => Some(expander.expand_line(Line::Words(statement), scope)),
                Node::RawLine(raw) => Some(expander.expand_line(Line::Raw(raw), scope)),
                Node::Block(block) => Some(Some(name(block))),
                Node::Blank(_) | Node::Comment(_) | Node::Include(_) | Node::Skipped(_) => None,
            })
            .collect();
    };
    let inside = nodes.find_map(|node| match node {
        Node::Block(block) if name(block) == *wanted => Some(&block.nodes),
        _ => None,
    })?;
    free(inside, scope, rest, expander)
}

fn inner<'a>(
    bodies: &[&'a super::definitions::Body<'a>],
    scope: Scope<'_, 'a>,
    keyword: &str,
    rest: &[&str],
    expander: &mut Expander<'a>,
) -> Option<Vec<String>> {
    let context = match keyword {
        "ec2" => Context::Ec2,
        "policy" => Context::Policy,
        "network" => Context::Network,
        _ => return None,
    };
    let merged = Merged::of(bodies, scope, expander);
    block(&merged, scope.block(&merged.variables), context, rest, expander)
}
