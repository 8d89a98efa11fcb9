//! Paths: which blocks to go through, and what is at the end.

use super::EditError;
use super::value::written_word;
use crate::lang::grammar::{self, Body, Context, Keyword, Naming};

/// Paths that would do, for messages.
pub(super) const EXPECTED: &str = "/host/NAME/memory, /host/NAME/network/eth0/address or /global/$name";

/// A path, as far as the grammar knows what it may be.
#[derive(Clone, Debug)]
pub(super) struct Path<'p> {
    pub(super) steps: Vec<Step<'p>>,
    pub(super) leaf: Leaf<'p>,
}

/// A block to go through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step<'p> {
    pub(super) keyword: &'static str,
    /// Its name; none for a block that has none.
    pub(super) name: Option<&'p str>,
}

/// What is at the end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Leaf<'p> {
    Keyword(&'static Keyword),
    /// Whichever platform there is.
    Platform,
    Variable(&'p str),
    /// The block that the last step leads to.
    Block,
}

impl<'p> Step<'p> {
    pub(super) fn host(name: &'p str) -> Self {
        Self { keyword: "host", name: Some(name) }
    }

    pub(super) fn amend(name: &'p str) -> Self {
        Self { keyword: "amend", name: Some(name) }
    }

    /// Returns the head of the block, without its brace.
    pub(super) fn head(&self) -> String {
        match self.name {
            Some(name) => format!("{} {}", self.keyword, written_word(name)),
            None => self.keyword.to_owned(),
        }
    }
}

impl<'p> Path<'p> {
    /// Parses a path from the outermost blocks.
    pub(super) fn parse(text: &'p str) -> Result<Self, EditError> {
        Self::from(text, Context::Top)
    }

    /// Parses a path from within a host.
    pub(super) fn within_host(text: &'p str) -> Result<Self, EditError> {
        Self::from(text, Context::Host)
    }

    fn from(text: &'p str, mut context: Context) -> Result<Self, EditError> {
        if text.contains('\n') {
            return Err(EditError::ValueLines);
        }
        let mut parts = text.split('/').filter(|part| !part.is_empty());
        let mut steps = Vec::new();
        let incomplete = || EditError::PathIncomplete { path: text.to_owned(), expected: EXPECTED };
        let leaf = loop {
            let Some(word) = parts.next() else { break Leaf::Block };
            if let Some(name) = word.strip_prefix('$').filter(|_| context != Context::Top) {
                break Leaf::Variable(name);
            }
            if word == "platform" && context == Context::Host {
                break Leaf::Platform;
            }
            let Some(keyword) = grammar::keyword(context, word) else {
                let meant = grammar::nearest_keyword(context, word, context == Context::Top);
                let (word, place) = (word.to_owned(), context.place());
                return Err(EditError::KeywordUnknown { word, place, meant: meant.map(|meant| meant.word) });
            };
            let Some(form) = keyword.block.filter(|form| matches!(form.body, Body::Keywords(_))) else {
                break Leaf::Keyword(keyword);
            };
            let name =
                if form.naming == Naming::None { None } else { Some(parts.next().ok_or_else(incomplete)?) };
            steps.push(Step { keyword: keyword.word, name });
            if let Body::Keywords(inner) = form.body {
                context = inner;
            }
        };
        if parts.next().is_some() || (steps.is_empty() && matches!(leaf, Leaf::Block)) {
            return Err(incomplete());
        }
        Ok(Self { steps, leaf })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_go_through_blocks_to_a_keyword() {
        let check = |text: &str, expect: &str| {
            let path = Path::parse(text).expect(text);
            let heads: Vec<String> = path.steps.iter().map(Step::head).collect();
            let leaf = match path.leaf {
                Leaf::Keyword(keyword) => keyword.word,
                Leaf::Platform => "platform",
                Leaf::Variable(name) => name,
                Leaf::Block => "{}",
            };
            assert_eq!(format!("{} {leaf}", heads.join(" | ")), expect);
        };
        check("/host/a/memory", "host a memory");
        check("host/a/network/eth0/switch", "host a | network eth0 switch");
        check("/global/autoenum/1/network", "global | autoenum 1 network");
        check("/global/$net", "global net");
        check("/host/a/ec2/type", "host a | ec2 type");
        check("/host/a/platform", "host a platform");
        check("/switch/lan", "switch lan {}");
        for wrong in ["", "/", "/host", "/host/a/memory/x", "/host/a/memroy", "/$x", "/memory"] {
            assert!(Path::parse(wrong).is_err(), "{wrong}");
        }
    }
}
