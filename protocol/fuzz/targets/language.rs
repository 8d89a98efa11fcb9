//! Whatever the text: it is parsed, resolved, folded and laid out without a panic, and laying out is final.
//!
//! `make fuzz RUNS=1000000` runs it, `make fuzz-canary` proves that it finds what is hidden.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use mln_protocol::lang::grammar::{Context, Keyword, keywords};
use mln_protocol::lang::{
    self, Claim, ClaimForm, Diagnostic, LoadError, Manifest, ManifestError, ManifestLoader, Plugged, SourceLoader, Tree,
};
use mln_protocol::plan;
use mln_protocol::resolve::{self, Options, Resolved};

/// What every `#include` finds: a file that goes on into another one, one that is cut off, and itself.
struct Included;

impl SourceLoader for Included {
    fn load(&self, path: &str) -> Result<String, LoadError> {
        match path.bytes().last() {
            Some(b'a') => Ok("memory 64M\n#include b".to_owned()),
            Some(b'b') => Ok("startup { echo $[hostname]".to_owned()),
            Some(b'c') => Ok("#include c".to_owned()),
            Some(_) | None => Err(LoadError::NotFound),
        }
    }
}

/// What every plugin claims, told apart by the first letter of its name; those of a digit are not there.
#[derive(Debug)]
struct Claiming;

impl ManifestLoader for Claiming {
    fn manifest(&self, name: &str) -> Result<Manifest, ManifestError> {
        let letter = name.chars().next().filter(char::is_ascii_lowercase).ok_or(ManifestError::NotHere)?;
        let claim = |word: &str, form: ClaimForm| Claim { word: format!("{letter}{word}"), form };
        let inner = vec![claim("f", ClaimForm::Flag), claim("p", ClaimForm::Pair), claim("l", ClaimForm::Lines)];
        let places = vec![Context::Global, Context::Host, Context::Network, Context::Switch];
        let claims = [
            claim("f", ClaimForm::Flag),
            claim("p", ClaimForm::Pair),
            claim("s", ClaimForm::Pairs),
            claim("l", ClaimForm::Lines),
            claim("b", ClaimForm::Block(inner.clone())),
            claim("n", ClaimForm::Blocks(inner.clone())),
        ];
        Ok(Manifest { claims: claims.map(|claim| (places.clone(), claim)).to_vec(), settings: inner })
    }
}

/// Enumerations that make more hosts than this are not resolved: their time goes with the number of hosts, which
/// the text gives in a few digits.
const HOSTS_MAX: u64 = 2_000;

fn makes_many(text: &str) -> bool {
    let digits = text.split(|c: char| !c.is_ascii_digit());
    text.contains("numhosts")
        && digits.filter_map(|run| run.parse::<u64>().ok()).any(|number| number > HOSTS_MAX)
}

/// Folding, laying out and reading again takes three times as long as understanding: one text in 32, the same
/// ones each time, gets all of it.
fn is_laid_out(text: &str) -> bool {
    text.bytes().fold(0_u8, u8::wrapping_add).is_multiple_of(32)
}

const CONTEXTS: [Context; 8] = [
    Context::Top,
    Context::Global,
    Context::Autoenum,
    Context::Host,
    Context::Network,
    Context::Ec2,
    Context::Policy,
    Context::Switch,
];

/// Draws numbers from what libFuzzer gives: the same ones each time.
struct Lot(u64);

impl Lot {
    /// Returns a number below `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        // Knuth's MMIX multiplier; the upper bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// Returns a keyword in one of its shapes, on lines of its own.
fn written(keyword: &Keyword, lot: &mut Lot) -> String {
    let word = keyword.word;
    match lot.below(4) {
        0 => format!("\nno {word}\n"),
        1 if keyword.flag => format!("\n{word}\n"),
        2 if keyword.block.is_none() || keyword.value => format!("\n{word} {}\n", lot.below(300)),
        _ => format!("\n{word} {} {{\n}}\n", ["a", "b", ""][lot.below(3)]),
    }
}

// Half of the changes put a keyword where one may begin: behind a brace or at the end of a line. Bytes alone seldom
// get a block into a block into a block.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut lot = Lot(u64::from(seed));
    if lot.below(2) == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    let begins: Vec<usize> = std::iter::once(0)
        .chain((0..size).filter(|&at| matches!(data[at], b'{' | b'\n' | b';')).map(|at| at + 1))
        .collect();
    let at = begins[lot.below(begins.len())];
    let table = keywords(CONTEXTS[lot.below(CONTEXTS.len())]);
    let word = written(&table[lot.below(table.len())], &mut lot);
    if size + word.len() > max_size {
        return fuzzer_mutate(data, size, max_size);
    }
    data.copy_within(at..size, at + word.len());
    data[at..at + word.len()].copy_from_slice(word.as_bytes());
    size + word.len()
});

fn understand(text: &str, options: &Options) -> (Tree, Resolved, Vec<Diagnostic>) {
    let (tree, mut diagnostics) = lang::parse_with("p.mln", text.to_owned(), &Included, &Plugged { manifests: &Claiming, made: &[] });
    let resolved = resolve::resolve(&tree, options);
    diagnostics.extend(resolved.diagnostics.iter().cloned());
    (tree, resolved, diagnostics)
}

fuzz_target!(|text: &str| {
    if makes_many(text) {
        return;
    }
    let options = Options { variables: BTreeMap::from([("n".to_owned(), "2".to_owned())]), owner: None };
    let (tree, resolved, diagnostics) = understand(text, &options);
    for (id, source) in tree.sources().iter() {
        assert_eq!(tree.text(id), source.text(), "the tree is not lossless");
    }
    for one in &diagnostics {
        let places = std::iter::once(one.span)
            .chain(one.others.iter().map(|other| other.span))
            .chain(one.fix.iter().map(|fix| fix.span));
        for span in places {
            let range = span.start as usize..span.end as usize;
            assert!(tree.sources().get(span.source).text().get(range).is_some(), "{one:?} lies outside");
        }
    }
    canary::look_at(&tree);
    if !is_laid_out(text) {
        return;
    }
    let _ = resolve::query(&tree, &options, "/host");
    let _ = lang::fold(&tree);
    assert!(plan::difference(&resolved.project, &resolved.project).is_empty());
    if let Ok(formatted) = lang::format(&tree, &diagnostics) {
        let (new_tree, new_resolved, new_diagnostics) = understand(&formatted, &options);
        assert_eq!(resolved.project, new_resolved.project, "the layout changes the project");
        assert_eq!(lang::format(&new_tree, &new_diagnostics).as_deref(), Ok(&*formatted), "not final");
    }
});

/// The planted panic: `superclass NAME { policy NAME { no KEYWORD } }`, which no seed has.
#[cfg(mln_fuzz_canary)]
mod canary {
    use mln_protocol::lang::{Block, Node, SourceId, Tree};

    fn blocks<'t>(
        tree: &'t Tree,
        nodes: &'t [Node],
        keyword: &'static str,
    ) -> impl Iterator<Item = &'t Block> {
        nodes.iter().filter_map(move |node| match node {
            Node::Block(block) if block.words.first().is_some_and(|&word| tree.word(word) == keyword) => {
                Some(&**block)
            }
            _ => None,
        })
    }

    pub(crate) fn look_at(tree: &Tree) {
        for class in blocks(tree, tree.nodes(SourceId::ROOT), "superclass") {
            for policy in blocks(tree, &class.nodes, "policy") {
                for node in &policy.nodes {
                    if let Node::Statement(statement) = node
                        && tree.word(statement.words[0]) == "no"
                    {
                        panic!("the canary was found");
                    }
                }
            }
        }
    }
}

#[cfg(not(mln_fuzz_canary))]
mod canary {
    use mln_protocol::lang::Tree;

    pub(crate) fn look_at(_: &Tree) {}
}
