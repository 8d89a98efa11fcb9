//! The walk over the tree that collects what each block says, and reports what the grammar doesn't know.

use super::definitions::{Body, Content, Entry, Line, Removal, Value, slot};
use super::expand::{Expander, is_variable_name};
use crate::lang::grammar::{self, Body as Reading, Context, Keyword, Naming, State};
use crate::lang::{
    Block, CLAIM_CONTEXTS, Code, Diagnostic, Node, Span, Statement, Tree, Word, why_without_effect,
};

/// Walks the tree.
pub(super) struct Collector<'e, 'a> {
    pub(super) tree: &'a Tree,
    pub(super) expander: &'e mut Expander<'a>,
}

impl<'a> Collector<'_, 'a> {
    /// Adds what a block's nodes say to its body.
    pub(super) fn nodes(&mut self, nodes: &'a [Node], context: Context, body: &mut Body<'a>) {
        for node in self.tree.through_includes(nodes) {
            match node {
                Node::Statement(statement) => self.statement(statement, context, body),
                Node::Block(block) => self.block(block, context, body),
                Node::Blank(_)
                | Node::Comment(_)
                | Node::Include(_)
                | Node::RawLine(_)
                | Node::Skipped(_) => {}
            }
        }
    }

    fn statement(&mut self, statement: &'a Statement, context: Context, body: &mut Body<'a>) {
        let Some((&first, rest)) = statement.words.split_first() else { return };
        let word = self.tree.word(first);
        if word.starts_with('$') {
            if context == Context::Top {
                let message = "a variable is defined outside of all blocks";
                let diagnostic = Diagnostic::new(Code::KeywordElsewhere, statement.span, message)
                    .label("expected in a block, such as `global { }`");
                return self.expander.report.push(diagnostic);
            }
            return self.variable(statement, body);
        }
        if word == "no" {
            return self.removal(statement, context, body);
        }
        if let Some(claim) = self.tree.claims().find(context, word) {
            return self.claimed_statement(claim, statement, body.claimed.get_or_insert_default());
        }
        let Some(keyword) = self.keyword(first, statement.span, context) else { return };
        if keyword.word == "plugins" {
            self.check_named(rest);
        }
        let is_flag = rest.is_empty();
        if is_flag && !keyword.flag {
            body.misshapen.push(keyword.canonical);
            return self.report_shape(keyword, first, statement.span, Code::ValueMissing);
        }
        if !is_flag && !keyword.value {
            body.misshapen.push(keyword.canonical);
            return self.report_shape(keyword, first, statement.span, Code::ValueUnexpected);
        }
        self.report_state(keyword, statement.span);
        let span = match (rest.first(), rest.last()) {
            (Some(first), Some(last)) => first.span.to(last.span),
            _ => first.span,
        };
        self.note_setting(keyword, statement.span, body);
        let content = Content::Setting(Value::written(None, rest, span));
        body.entries.push(Entry { keyword, word: first, name: None, content });
    }

    fn note_setting(&mut self, keyword: &'static Keyword, span: Span, body: &mut Body<'a>) {
        if keyword.several {
            return;
        }
        if let Some(first) = body.settings.insert(slot(keyword), span) {
            self.expander.report.push(set_twice(slot(keyword), span, first));
        }
    }

    /// `$name = value`, with or without blanks around the `=`.
    fn variable(&mut self, statement: &'a Statement, body: &mut Body<'a>) {
        let [first, rest @ ..] = statement.words.as_slice() else { return };
        let word = self.tree.word(*first);
        let (name, value_words, glued) = match (word.split_once('='), rest) {
            (Some((name, after)), rest) => (name, rest, (!after.is_empty()).then_some((*first, after.len()))),
            (None, [second, rest @ ..]) => match self.tree.word(*second).strip_prefix('=') {
                Some(after) => (word, rest, (!after.is_empty()).then_some((*second, after.len()))),
                None => (word, [].as_slice(), None),
            },
            (None, []) => (word, [].as_slice(), None),
        };
        let name = name.trim_start_matches('$');
        let is_assignment =
            word.contains('=') || rest.first().is_some_and(|&w| self.tree.word(w).starts_with('='));
        if !is_assignment || !is_variable_name(name) {
            let message =
                format!("`{}` does not define a variable", self.tree.sources().slice(statement.span));
            let diagnostic = Diagnostic::new(Code::VariableMalformed, statement.span, message)
                .label("expected `$name = value`, the name of letters, digits and `_`");
            return self.expander.report.push(diagnostic);
        }
        let glued = glued.map(|(word, length)| {
            let length = u32::try_from(length).unwrap_or(0);
            Word { span: Span { start: word.span.end - length, ..word.span } }
        });
        let value = Value::written(glued, value_words, statement.span);
        if let Some(first) = body.variables.insert(name, value) {
            self.expander.report.push(set_twice(&format!("${name}"), statement.span, first.span()));
        }
    }

    fn removal(&mut self, statement: &'a Statement, context: Context, body: &mut Body<'a>) {
        let place = statement.span;
        if !matches!(context, Context::Host | Context::Network | Context::Ec2 | Context::Policy) {
            let message = "`no` removes what was inherited, and nothing is inherited here";
            let diagnostic = Diagnostic::new(Code::KeywordElsewhere, place, message)
                .label("expected in a host, a superclass, or a block within");
            return self.expander.report.push(diagnostic);
        }
        let [_, word, rest @ ..] = statement.words.as_slice() else {
            let diagnostic = Diagnostic::new(Code::ValueMissing, place, "`no` lacks what it removes")
                .label("expected `no KEYWORD`, such as `no swap` or `no network eth1`");
            return self.expander.report.push(diagnostic);
        };
        if let Some(claim) = self.tree.claims().find(context, self.tree.word(*word)) {
            return self.claimed_removal(claim, body.claimed.get_or_insert_default());
        }
        let Some(keyword) = self.keyword(*word, word.span, context) else { return };
        let named = keyword.block.is_some_and(|form| form.naming != Naming::None);
        match rest {
            [] => {}
            [_] if named => {}
            [extra, ..] => {
                let message = format!("`no {}` takes no more words", keyword.word);
                self.expander.report.push(Diagnostic::new(Code::ValueUnexpected, extra.span, message));
            }
        }
        let name = rest.first().copied().filter(|_| named);
        body.removals.push(Removal { keyword, name, span: place });
    }

    fn block(&mut self, block: &'a Block, context: Context, body: &mut Body<'a>) {
        // A block without a keyword was reported by the parser.
        let Some((&word, rest)) = block.words.split_first() else { return };
        if let Some(claim) = self.tree.claims().find(context, self.tree.word(word)) {
            return self.claimed_block(claim, block, body.claimed.get_or_insert_default());
        }
        let Some(keyword) = self.keyword(word, block.head, context) else { return };
        let Some(form) = keyword.block else {
            body.misshapen.push(keyword.canonical);
            return self.report_shape(keyword, word, block.head, Code::BlockUnexpected);
        };
        self.report_state(keyword, word.span);
        let is_list = matches!(form.body, Reading::Lines | Reading::Raw);
        let only = is_list && rest.len() == 1 && self.tree.word(rest[0]) == "only";
        let rest = if only { &[] } else { rest };
        let Some(name) = self.block_name(keyword, form.naming, block, rest) else { return };
        if let (true, Some(name)) = (keyword.word == "plugin", name) {
            return self.settings(name, block, body);
        }
        let content = match form.body {
            Reading::Keywords(inner) => {
                let mut inside = Body::default();
                self.nodes(&block.nodes, inner, &mut inside);
                self.report_inner_duplicates(context, keyword, name, body);
                Content::Block(Box::new(inside))
            }
            Reading::Lines | Reading::Raw => Content::Lines { lines: self.lines(keyword, block), only },
            Reading::Lists | Reading::Claimed(_) | Reading::Free => Content::Free(block),
        };
        if keyword.canonical == "platform" {
            self.note_setting(keyword, block.head, body);
        }
        body.entries.push(Entry { keyword, word, name, content });
    }

    /// Returns a block's name, or none if it has the wrong number of words, which is reported.
    fn block_name(
        &mut self,
        keyword: &Keyword,
        naming: Naming,
        block: &Block,
        rest: &[Word],
    ) -> Option<Option<Word>> {
        match (naming, rest) {
            (Naming::None | Naming::Optional, []) => Some(None),
            (Naming::Optional | Naming::Required, [name]) => Some(Some(*name)),
            (Naming::Required, []) => {
                let message = format!("`{}` lacks its name", keyword.word);
                let diagnostic = Diagnostic::new(Code::NameMissing, block.head, message)
                    .label(format!("expected `{} NAME {{`", keyword.word));
                self.expander.report.push(diagnostic);
                None
            }
            (Naming::None, [first, ..]) | (Naming::Optional | Naming::Required, [_, first, ..]) => {
                let (takes, expected) = match naming {
                    Naming::None => ("no name", format!("expected `{} {{`", keyword.word)),
                    Naming::Optional | Naming::Required => {
                        ("a name of one word", format!("expected `{} NAME {{`", keyword.word))
                    }
                };
                let message = format!("`{}` takes {takes}", keyword.word);
                let diagnostic = Diagnostic::new(Code::NameUnexpected, first.span, message).label(expected);
                self.expander.report.push(diagnostic);
                // What is meant is clear enough to go on.
                Some(rest.first().copied().filter(|_| naming != Naming::None))
            }
        }
    }

    /// Takes `plugin NAME { }`.
    fn settings(&mut self, name: Word, block: &'a Block, body: &mut Body<'a>) {
        let (text, claims) = (self.tree.word(name), self.tree.claims());
        match claims.settings(text) {
            Some(Some(claim)) => self.settings_block(claim, block, body.claimed.get_or_insert_default()),
            // Its manifest could not be read, which is reported where it is named.
            Some(None) => {}
            None => {
                let message = format!("these are settings of `{text}`, which the project does not name");
                let diagnostic = Diagnostic::new(Code::PluginIdle, name.span, message)
                    .label(format!("expected `plugins {text}` in `global {{ }}`"));
                let named = claims.plugins().iter().map(|plugin| plugin.name.as_str());
                self.expander.report.push_unknown(diagnostic, name.span, text, named);
            }
        }
    }

    /// Reports plugins that are named in vain: in a text that a plugin has made.
    fn check_named(&mut self, names: &[Word]) {
        let claims = self.tree.claims();
        for &word in names {
            if claims.plugins().iter().all(|plugin| plugin.name != self.tree.word(word)) {
                let message = format!("the plugin `{}` is not run", self.tree.word(word));
                let diagnostic = Diagnostic::new(Code::KeywordElsewhere, word.span, message)
                    .label("plugins are named in the project file, not by plugins");
                self.expander.report.push(diagnostic);
            }
        }
    }

    /// Reports a second block of one name within a host; those outside of all blocks are looked at later.
    fn report_inner_duplicates(
        &mut self,
        context: Context,
        keyword: &'static Keyword,
        name: Option<Word>,
        body: &mut Body<'a>,
    ) {
        let Some(name) = name.filter(|_| context == Context::Host) else { return };
        let text = self.tree.word(name);
        // Names with variables are compared when they are known.
        let key = (keyword.word, text);
        if let Some(&first) = body.names.get(&key) {
            self.expander.report.push(duplicate(keyword.word, text, name.span, first));
        }
        body.names.insert(key, name.span);
    }

    fn lines(&mut self, keyword: &Keyword, block: &'a Block) -> Vec<Line<'a>> {
        let mut lines = Vec::new();
        for node in self.tree.through_includes(&block.nodes) {
            match node {
                Node::Statement(statement) => lines.push(Line::Words(statement)),
                Node::RawLine(raw) => lines.push(Line::Raw(raw)),
                Node::Block(inner) => {
                    let message = format!("`{}` has lines, and no blocks", keyword.word);
                    let diagnostic = Diagnostic::new(Code::BlockUnexpected, inner.head, message)
                        .label("is a `}` missing before this?");
                    self.expander.report.push(diagnostic);
                }
                Node::Blank(_) | Node::Comment(_) | Node::Include(_) | Node::Skipped(_) => {}
            }
        }
        lines
    }

    fn report_state(&mut self, keyword: &Keyword, span: Span) {
        let diagnostic = match keyword.state {
            // What is refused, and what has no effect, may depend on the platform and the value: `vm` looks at both.
            State::CarriedOut | State::Refused | State::WithBlock => return,
            State::NoEffect => {
                let Some(why) = why_without_effect(keyword.word) else { return };
                Diagnostic::new(Code::NoEffect, span, format!("`{}` has no effect on uml", keyword.word))
                    .label(why)
            }
            State::NotYet => {
                Diagnostic::new(Code::NotYet, span, format!("not carried out yet: `{}`", keyword.word))
                    .label("understood and kept, but without effect in this version")
            }
            State::Replaced(by) => {
                Diagnostic::new(Code::Replaced, span, format!("`{}` has no effect", keyword.word))
                    .label(format!("{by} replace it"))
            }
        };
        self.expander.report.push(diagnostic);
    }

    /// Reports a known keyword in the wrong shape.
    fn report_shape(&mut self, keyword: &Keyword, word: Word, span: Span, found: Code) {
        let name =
            keyword.block.map_or("", |form| if form.naming == Naming::Required { " NAME" } else { "" });
        let expected = match (keyword.value, keyword.block, keyword.flag) {
            (true, ..) => format!("expected `{} VALUE`", keyword.word),
            (false, _, true) => format!("expected `{}` alone", keyword.word),
            (false, _, false) => format!("expected `{}{name} {{ … }}`", keyword.word),
        };
        let (code, message) = match (found, keyword.block) {
            (Code::BlockUnexpected, _) => (found, format!("`{}` takes no block", keyword.word)),
            (_, Some(_)) if !keyword.value && !keyword.flag => {
                (Code::BlockExpected, format!("`{}` is a block, and this has no braces", keyword.word))
            }
            (Code::ValueMissing, _) => (found, format!("`{}` lacks its value", keyword.word)),
            _ => (found, format!("`{}` takes no value", keyword.word)),
        };
        let diagnostic = Diagnostic::new(code, span.to(word.span), message).label(expected);
        self.expander.report.push(diagnostic);
    }

    /// Returns the keyword that a word is, or, once that is reported, the one that it is meant to be.
    fn keyword(&mut self, word: Word, whole: Span, context: Context) -> Option<&'static Keyword> {
        let text = self.tree.word(word);
        if let Some(keyword) = grammar::keyword(context, text) {
            return Some(keyword);
        }
        if context == Context::Network && looks_like_address(text) {
            let diagnostic =
                Diagnostic::new(Code::AddressBare, whole, "an address stands alone, without its keyword")
                    .label(format!("did you mean `address {text}`?"))
                    .fix(Span { end: word.span.start, ..word.span }, "address ");
            self.expander.report.push(diagnostic);
            return None;
        }
        let is_block = self.tree.sources().slice(whole).ends_with('{');
        let elsewhere = PLACES.into_iter().find(|&other| {
            grammar::keyword(other, text).is_some_and(|keyword| {
                if is_block { keyword.block.is_some() } else { keyword.value || keyword.flag }
            })
        });
        if let Some(other) = elsewhere {
            let message = format!("`{text}` means nothing {}", context.place());
            let diagnostic = Diagnostic::new(Code::KeywordElsewhere, word.span, message)
                .label(format!("`{text}` stands {}", other.place()));
            self.expander.report.push(diagnostic);
            return None;
        }
        let claims = self.tree.claims();
        if let Some(other) =
            CLAIM_CONTEXTS.into_iter().find(|&other| other != context && claims.find(other, text).is_some())
        {
            let message = format!("`{text}` means nothing {}", context.place());
            let diagnostic = Diagnostic::new(Code::KeywordElsewhere, word.span, message)
                .label(format!("`{text}`, which is a plugin's, stands {}", other.place()));
            self.expander.report.push(diagnostic);
            return None;
        }
        let diagnostic =
            Diagnostic::new(Code::KeywordUnknown, word.span, format!("unknown keyword `{text}`"));
        if let Some(meant) = claims.meant(context, text) {
            let diagnostic = diagnostic.label(format!("did you mean `{meant}`?")).fix(word.span, meant);
            self.expander.report.push(diagnostic);
            return None;
        }
        let meant = grammar::nearest_keyword(context, text, is_block)
            .or_else(|| grammar::nearest_keyword(context, text, !is_block));
        let known = grammar::keywords(context);
        if meant.is_none() && claims.is_incomplete() {
            // It may be a word of a plugin whose manifest could not be read: that is reported, and is enough.
            return None;
        }
        self.expander.report.push(match meant {
            Some(meant) => {
                diagnostic.label(format!("did you mean `{}`?", meant.word)).fix(word.span, meant.word)
            }
            None if known.len() <= KEYWORDS_LISTED_MAX => {
                let known: Vec<&str> = known.iter().map(|keyword| keyword.word).collect();
                diagnostic.label(format!("expected one of `{}`", known.join("`, `")))
            }
            None => diagnostic.label(format!("no keyword {} is like it", context.place())),
        });
        meant
    }
}

/// So many keywords are listed where none is like the one that was found.
const KEYWORDS_LISTED_MAX: usize = 15;

/// Where a misplaced keyword is looked for, the likeliest first.
const PLACES: [Context; 8] = [
    Context::Top,
    Context::Global,
    Context::Host,
    Context::Network,
    Context::Switch,
    Context::Autoenum,
    Context::Ec2,
    Context::Policy,
];

fn looks_like_address(text: &str) -> bool {
    let address = text.split('/').next().unwrap_or(text);
    address.parse::<std::net::IpAddr>().is_ok()
}

/// Makes the report that two blocks have one name.
pub(super) fn duplicate(kind: &str, name: &str, span: Span, first: Span) -> Diagnostic {
    Diagnostic::new(Code::Duplicate, span, format!("there are two of `{kind} {name}`"))
        .label("the second one")
        .other(first, "the first one")
}

/// Makes the report that a keyword is set twice.
pub(super) fn set_twice(slot: &str, span: Span, first: Span) -> Diagnostic {
    if slot == "attachment" {
        let message = "an interface is attached to one thing only: `switch`, `bridge` or `slirp`";
        return Diagnostic::new(Code::AttachedTwice, span, message)
            .label("the second one")
            .other(first, "the first one");
    }
    let what = match slot {
        "disk" => "`size` and `free_space` are the same disk's".to_owned(),
        "platform" => "the platform is given twice".to_owned(),
        slot => format!("`{slot}` is set twice"),
    };
    Diagnostic::new(Code::SetTwice, span, format!("{what}: the last one counts"))
        .label("this one counts")
        .other(first, "this one does not")
}

/// Makes the report that a plugin's word is set twice.
pub(super) fn set_twice_of_plugin(word: &str, span: Span, first: Span) -> Diagnostic {
    Diagnostic::new(Code::SetTwice, span, format!("`{word}` is set twice: the last one counts"))
        .label("this one counts")
        .other(first, "this one does not")
}
