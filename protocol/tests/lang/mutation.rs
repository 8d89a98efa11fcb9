//! Damaged projects: whatever the text, parsing and resolving end, and the tree holds every byte.

use mln_protocol::lang::NoIncludes;

use crate::golden::cases;
use crate::{options, understand};

/// SplitMix64: the same numbers on every run.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % (limit.max(1) as u64)).unwrap_or(0)
    }
}

const PIECES: [&str; 28] = [
    "{",
    "}",
    "\"",
    "\\",
    "#",
    "#include x\n",
    ";",
    "\n",
    "$",
    "$[",
    "]",
    "$x = $[x]$y\n",
    "no ",
    "only ",
    "é",
    "host ",
    "superclass ",
    "startup {",
    "network ",
    "switch ",
    "autoenum {",
    "numhosts 99999999999\n",
    "/33",
    "global {",
    "'",
    "\r\n",
    "$x=\n",
    "network 0.0.0.0/0\n",
];

pub(crate) fn damaged(text: &str, numbers: &mut Numbers) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for _ in 0..=numbers.below(6) {
        let at = numbers.below(characters.len() + 1);
        match numbers.below(4) {
            0 => {
                let piece = PIECES[numbers.below(PIECES.len())];
                characters.splice(at..at, piece.chars());
            }
            1 => {
                let end = (at + numbers.below(20)).min(characters.len());
                characters.drain(at..end);
            }
            2 => {
                let end = (at + numbers.below(60)).min(characters.len());
                let copy: Vec<char> = characters[at..end].to_vec();
                let to = numbers.below(characters.len() + 1);
                characters.splice(to..to, copy);
            }
            _ => characters.truncate(at.max(characters.len() / 2)),
        }
    }
    characters.into_iter().collect()
}

#[test]
fn damaged_projects_are_understood_without_panic_and_without_loss() {
    let mut numbers = Numbers(1);
    let mut silent = 0;
    for case in cases("ok").into_iter().chain(cases("wrong")) {
        let text = std::fs::read_to_string(&case).expect("cases are text");
        for _ in 0..150 {
            let text = damaged(&text, &mut numbers);
            // Lossless trees are asserted in there.
            let (tree, resolved, diagnostics) =
                understand("x.mln", &text, &NoIncludes, &options(&[("n", "2")]));
            silent += usize::from(diagnostics.is_empty());
            for diagnostic in &diagnostics {
                let source = tree.sources().get(diagnostic.span.source).text();
                let range = diagnostic.span.start as usize..diagnostic.span.end as usize;
                assert!(source.get(range).is_some(), "{diagnostic:?} lies outside of the text");
            }
            drop(resolved);
        }
    }
    assert!(silent > 0, "not even slight damage was harmless: the test damages too much");
}

#[test]
fn deep_nesting_and_long_lines_are_bounded() {
    for (piece, count) in [("x {", 100_000), ("host a {", 20_000), ("startup {", 50_000), ("}", 50_000)] {
        let text = piece.repeat(count);
        let (_, _, diagnostics) = understand("x.mln", &text, &NoIncludes, &options(&[]));
        assert!(!diagnostics.is_empty());
    }
    let laughs: String = (0..40).map(|n| format!("$a{n} = $[a{}]$[a{}]\n", n + 1, n + 1)).collect();
    let text = format!("global {{ project x\n{laughs} $a40 = ha\n}}\nhost a {{ template $a0 }}");
    let (_, _, diagnostics) = understand("x.mln", &text, &NoIncludes, &options(&[]));
    assert_eq!(diagnostics[0].code.as_str(), "E0303");
}
