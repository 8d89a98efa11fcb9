//! What each block of the text says, before anything is inherited: keywords checked against the grammar.

use std::collections::BTreeMap;

use super::expand::{Expander, Scope, Variables, is_variable_name};
use crate::lang::grammar::{self, Body as Reading, Context, Keyword, Naming, State};
use crate::lang::{Block, Code, Diagnostic, Node, RawLine, SourceId, Span, Statement, Tree, Word, nearest};

/// A value: words of the text, or made up by an enumeration.
#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    Written {
        /// The first word, where it is only the rest of one, as in `$a=b`.
        first: Option<Word>,
        words: &'a [Word],
        span: Span,
    },
    Made {
        text: String,
        span: Span,
    },
}

impl<'a> Value<'a> {
    pub(super) fn written(first: Option<Word>, words: &'a [Word], span: Span) -> Self {
        Self::Written { first, words, span }
    }

    pub(super) fn span(&self) -> Span {
        match self {
            Self::Written { span, .. } | Self::Made { span, .. } => *span,
        }
    }

    pub(super) fn words(&self) -> impl Iterator<Item = Word> {
        let (first, words) = match self {
            Self::Written { first, words, .. } => (*first, *words),
            Self::Made { .. } => (None, [].as_slice()),
        };
        first.into_iter().chain(words.iter().copied())
    }
}

/// A line of a list block.
#[derive(Clone, Copy, Debug)]
pub(super) enum Line<'a> {
    Words(&'a Statement),
    Raw(&'a RawLine),
}

impl Line<'_> {
    pub(super) fn span(self) -> Span {
        match self {
            Self::Words(statement) => statement.span,
            Self::Raw(raw) => raw.span,
        }
    }
}

/// What follows a keyword.
#[derive(Clone, Debug)]
pub(super) enum Content<'a> {
    /// A value; without words for a flag.
    Setting(Value<'a>),
    /// A list block; `only` drops what was inherited.
    Lines { lines: Vec<Line<'a>>, only: bool },
    /// A block with keywords.
    Block(Body<'a>),
    /// A block that nobody here looks into.
    Free(&'a Block),
}

/// A keyword and what follows it.
#[derive(Clone, Debug)]
pub(super) struct Entry<'a> {
    pub(super) keyword: &'static Keyword,
    /// The keyword as written.
    pub(super) word: Word,
    /// A block's name, not yet expanded.
    pub(super) name: Option<Word>,
    pub(super) content: Content<'a>,
}

/// `no KEYWORD [NAME]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Removal {
    pub(super) keyword: &'static Keyword,
    pub(super) name: Option<Word>,
    pub(super) span: Span,
}

/// What one block says.
#[derive(Clone, Debug, Default)]
pub(super) struct Body<'a> {
    pub(super) variables: Variables<'a>,
    pub(super) entries: Vec<Entry<'a>>,
    pub(super) removals: Vec<Removal>,
    /// Where each keyword was last set.
    settings: BTreeMap<&'static str, Span>,
    /// Where each block with a name is.
    names: BTreeMap<(&'static str, &'a str), Span>,
}

impl<'a> Body<'a> {
    /// Returns the value of a keyword, and where the value is.
    pub(super) fn setting(&self, canonical: &str) -> Option<(&Value<'a>, Span)> {
        self.entries.iter().rev().find_map(|entry| match &entry.content {
            Content::Setting(value) if entry.keyword.canonical == canonical => Some((value, value.span())),
            _ => None,
        })
    }

    /// Returns the lines of a list block.
    pub(super) fn lines(&self, canonical: &str) -> impl Iterator<Item = Line<'a>> {
        self.entries
            .iter()
            .filter(move |entry| entry.keyword.canonical == canonical)
            .filter_map(|entry| match &entry.content {
                Content::Lines { lines, .. } => Some(lines.iter().copied()),
                _ => None,
            })
            .flatten()
    }
}

/// Keywords that exclude each other share a slot: the nearest of them wins.
pub(super) fn slot(keyword: &Keyword) -> &'static str {
    match keyword.canonical {
        "size" | "free_space" => "disk",
        "switch" | "bridge" | "slirp" if keyword.block.is_none() => "attachment",
        canonical => canonical,
    }
}

/// A host, class, switch or enumeration as written.
#[derive(Clone, Debug)]
pub(super) struct Named<'a> {
    /// Its name, or its keyword if it has none.
    pub(super) name_span: Span,
    pub(super) body: Body<'a>,
}

/// What becomes one or more VMs.
#[derive(Clone, Debug)]
pub(super) enum Member<'a> {
    Host(String, Named<'a>),
    Enumeration(Option<String>, Named<'a>),
}

/// A VM before its values are known.
#[derive(Clone, Debug)]
pub(super) struct Guest<'a> {
    pub(super) name: String,
    pub(super) name_span: Span,
    /// What its own block says; none for a VM that an enumeration makes.
    pub(super) body: Option<&'a Body<'a>>,
    /// Its superclass, for a VM that an enumeration makes.
    pub(super) superclass: Option<(String, Span)>,
    /// Settings that an enumeration makes: keyword and value.
    pub(super) service_host: Option<Value<'a>>,
    /// The interface and the address that an enumeration gives it.
    pub(super) address: Option<MadeAddress>,
    /// A class that no host has, which is only checked.
    pub(super) is_class: bool,
}

/// An address from an enumeration.
#[derive(Clone, Debug)]
pub(super) struct MadeAddress {
    pub(super) interface: String,
    pub(super) address: std::net::IpAddr,
    pub(super) prefix_bits: u8,
    /// Whether the enumeration states the length of its network's prefix.
    pub(super) prefix_is_stated: bool,
    pub(super) span: Span,
}

impl<'a> Guest<'a> {
    pub(super) fn of_host(name: &str, host: &'a Named<'a>) -> Self {
        Self {
            name: name.to_owned(),
            name_span: host.name_span,
            body: Some(&host.body),
            superclass: None,
            service_host: None,
            address: None,
            is_class: false,
        }
    }

    pub(super) fn of_class(name: &str, class: &'a Named<'a>) -> Self {
        Self { is_class: true, ..Self::of_host(name, class) }
    }
}

/// All blocks of a project.
#[derive(Debug, Default)]
pub(super) struct Definitions<'a> {
    pub(super) global: Body<'a>,
    pub(super) global_span: Option<Span>,
    pub(super) members: Vec<Member<'a>>,
    pub(super) superclasses: BTreeMap<String, Named<'a>>,
    pub(super) switches: Vec<(String, Named<'a>)>,
    pub(super) switch_places: BTreeMap<String, usize>,
}

impl<'a> Definitions<'a> {
    /// Collects what the text says, and reports what the grammar doesn't know.
    pub(super) fn collect(tree: &'a Tree, expander: &mut Expander<'a>) -> Self {
        let mut collector = Collector { tree, expander };
        let mut top = Body::default();
        collector.nodes(tree.nodes(SourceId::ROOT), Context::Top, &mut top);
        let mut definitions = Self::default();
        let mut rest = Vec::new();
        for entry in top.entries {
            match entry.content {
                Content::Block(body) if entry.keyword.word == "global" => {
                    definitions.global_span.get_or_insert(entry.word.span);
                    definitions.add_global(body, collector.expander);
                }
                _ => rest.push(entry),
            }
        }
        definitions.add_enumerations(collector.expander);
        let mut places = BTreeMap::new();
        for entry in rest {
            definitions.add_named(entry, &mut places, collector.expander);
        }
        definitions
    }

    /// Adds one of several `global` blocks: included files may have their own.
    fn add_global(&mut self, body: Body<'a>, expander: &mut Expander<'a>) {
        for (slot, span) in body.settings {
            match self.global.settings.get(slot) {
                Some(&first) => expander.report.push(set_twice(slot, span, first)),
                None => _ = self.global.settings.insert(slot, span),
            }
        }
        self.global.variables.extend(body.variables);
        self.global.entries.extend(body.entries);
    }

    fn add_enumerations(&mut self, expander: &mut Expander<'a>) {
        let mut places: BTreeMap<String, Span> = BTreeMap::new();
        let entries = std::mem::take(&mut self.global.entries);
        for mut entry in entries {
            let Content::Block(body) = &mut entry.content else {
                self.global.entries.push(entry);
                continue;
            };
            let body = std::mem::take(body);
            let name = match entry.name {
                Some(word) => expander.expand_word(word, Scope::global(&self.global.variables)),
                None => None,
            };
            let name_span = entry.name.unwrap_or(entry.word).span;
            if let Some(name) = &name {
                if let Some(&first) = places.get(name) {
                    expander.report.push(duplicate("autoenum", name, name_span, first));
                    continue;
                }
                places.insert(name.clone(), name_span);
            }
            self.members.push(Member::Enumeration(name, Named { name_span, body }));
        }
    }

    fn add_named(
        &mut self,
        entry: Entry<'a>,
        places: &mut BTreeMap<(&'static str, String), Span>,
        expander: &mut Expander<'a>,
    ) {
        let (Content::Block(body), Some(word)) = (entry.content, entry.name) else { return };
        let Some(name) = expander.expand_word(word, Scope::global(&self.global.variables)) else { return };
        let kind = entry.keyword.word;
        let name_span = word.span;
        if let Some(&first) = places.get(&(kind, name.clone())) {
            expander.report.push(duplicate(kind, &name, name_span, first));
            return;
        }
        places.insert((kind, name.clone()), name_span);
        let named = Named { name_span, body };
        match kind {
            "host" => self.members.push(Member::Host(name, named)),
            "superclass" => _ = self.superclasses.insert(name, named),
            "switch" => {
                self.switch_places.insert(name.clone(), self.switches.len());
                self.switches.push((name, named));
            }
            _ => {}
        }
    }
}

pub(super) fn duplicate(kind: &str, name: &str, span: Span, first: Span) -> Diagnostic {
    Diagnostic::new(Code::Duplicate, span, format!("there are two of `{kind} {name}`"))
        .label("the second one")
        .other(first, "the first one")
}

fn set_twice(slot: &str, span: Span, first: Span) -> Diagnostic {
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

/// Walks the tree.
struct Collector<'e, 'a> {
    tree: &'a Tree,
    expander: &'e mut Expander<'a>,
}

impl<'a> Collector<'_, 'a> {
    fn nodes(&mut self, nodes: &'a [Node], context: Context, body: &mut Body<'a>) {
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
        let Some(keyword) = grammar::keyword(context, word) else {
            return self.unknown(first, statement.span, context);
        };
        self.report_state(keyword, statement.span);
        let is_flag = rest.is_empty();
        if is_flag && !keyword.flag {
            return self.report_shape(keyword, first, statement.span, Code::ValueMissing);
        }
        if !is_flag && !keyword.value {
            return self.report_shape(keyword, first, statement.span, Code::ValueUnexpected);
        }
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
        let Some(keyword) = grammar::keyword(context, self.tree.word(*word)) else {
            return self.unknown(*word, word.span, context);
        };
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
        let Some(keyword) = grammar::keyword(context, self.tree.word(word)) else {
            return self.unknown(word, block.head, context);
        };
        self.report_state(keyword, word.span);
        let Some(form) = keyword.block else {
            return self.report_shape(keyword, word, block.head, Code::BlockUnexpected);
        };
        let is_list = matches!(form.body, Reading::Lines | Reading::Raw);
        let only = is_list && rest.len() == 1 && self.tree.word(rest[0]) == "only";
        let rest = if only { &[] } else { rest };
        let Some(name) = self.block_name(keyword, form.naming, block, rest) else { return };
        let content = match form.body {
            Reading::Keywords(inner) => {
                let mut inside = Body::default();
                self.nodes(&block.nodes, inner, &mut inside);
                self.report_inner_duplicates(context, keyword, name, body);
                Content::Block(inside)
            }
            Reading::Lines | Reading::Raw => Content::Lines { lines: self.lines(keyword, block), only },
            Reading::Lists | Reading::Free => Content::Free(block),
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
            State::CarriedOut => return,
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

    /// Reports a word that is no keyword of this kind of block.
    fn unknown(&mut self, word: Word, whole: Span, context: Context) {
        let text = self.tree.word(word);
        if context == Context::Network && looks_like_address(text) {
            let diagnostic =
                Diagnostic::new(Code::AddressBare, whole, "an address stands alone, without its keyword")
                    .label(format!("did you mean `address {text}`?"))
                    .fix(Span { end: word.span.start, ..word.span }, "address ");
            return self.expander.report.push(diagnostic);
        }
        let near = nearest(text, grammar::keywords(context).iter().map(|keyword| keyword.word));
        let is_block = self.tree.sources().slice(whole).ends_with('{');
        let elsewhere = PLACES.into_iter().find(|&other| {
            grammar::keyword(other, text).is_some_and(|keyword| {
                if is_block { keyword.block.is_some() } else { keyword.value || keyword.flag }
            })
        });
        let diagnostic = match (near, elsewhere) {
            (_, Some(other)) => {
                let message = format!("`{text}` means nothing {}", context.place());
                Diagnostic::new(Code::KeywordElsewhere, word.span, message)
                    .label(format!("`{text}` stands {}", other.place()))
            }
            (Some(near), None) => {
                Diagnostic::new(Code::KeywordUnknown, word.span, format!("unknown keyword `{text}`"))
                    .label(format!("did you mean `{near}`?"))
                    .fix(word.span, near)
            }
            (None, None) => {
                let known: Vec<&str> = grammar::keywords(context).iter().map(|k| k.word).collect();
                let label = if known.len() <= 8 {
                    format!("expected one of `{}`", known.join("`, `"))
                } else {
                    format!("no keyword {} is like it", context.place())
                };
                Diagnostic::new(Code::KeywordUnknown, word.span, format!("unknown keyword `{text}`"))
                    .label(label)
            }
        };
        self.expander.report.push(diagnostic);
    }
}

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
