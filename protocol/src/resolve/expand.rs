//! Words to text: variables are put in, quotation marks and backslashes taken out.

use std::collections::{BTreeMap, BTreeSet};

use super::definitions::{Line, Value};
use super::report::Report;
use super::{Limits, Options};
use crate::id::{Name, NameError};
use crate::lang::{Code, Diagnostic, SourceId, Span, Tree, Word};

/// The longest value, in bytes, with its variables put in.
const VALUE_BYTES_MAX: usize = 64 << 10;
/// How many variables may be put in for one value, those within variables included.
const LOOKUPS_MAX: usize = 4_096;
/// How deeply variables may be within variables.
const VARIABLE_DEPTH_MAX: usize = 32;
/// Variables that nobody defines.
const BUILT_IN: [&str; 3] = ["hostname", "owner", "project"];

/// The variables that one block defines.
pub(super) type Variables<'a> = BTreeMap<&'a str, Value<'a>>;

/// Where a variable is looked up: from the using block outwards.
#[derive(Clone, Copy)]
pub(super) struct Scope<'s, 'a> {
    frames: [Option<&'s Variables<'a>>; 3],
    hostname: Option<&'s str>,
    lenient: bool,
}

impl<'s, 'a> Scope<'s, 'a> {
    /// Returns the scope of `global`, and of what stands outside of hosts.
    pub(super) fn global(global: &'s Variables<'a>) -> Self {
        Self { frames: [None, None, Some(global)], hostname: None, lenient: false }
    }

    /// Returns the scope of a host, or of an enumeration, with the variables that it and its chain define.
    pub(super) fn host(self, variables: &'s Variables<'a>, hostname: Option<&'s str>, lenient: bool) -> Self {
        Self { frames: [None, Some(variables), self.frames[2]], hostname, lenient }
    }

    /// Returns the scope of a block within a host.
    pub(super) fn block(self, variables: &'s Variables<'a>) -> Self {
        Self { frames: [Some(variables), self.frames[1], self.frames[2]], ..self }
    }
}

/// A variable's value where it was found.
enum Found<'a> {
    Text(String),
    Written(Value<'a>),
    /// Whose project it is, is not known here.
    OwnerLater,
}

/// Puts variables in. Everything that reads a value holds it, so it also carries the report.
pub(super) struct Expander<'a> {
    pub(super) tree: &'a Tree,
    pub(super) report: Report,
    pub(super) project: Option<String>,
    pub(super) limits: Limits,
    options: &'a Options,
    used: BTreeSet<&'a str>,
    active: Vec<String>,
    lookups: usize,
    bytes: usize,
}

impl<'a> Expander<'a> {
    pub(super) fn new(tree: &'a Tree, options: &'a Options, limits: Limits) -> Self {
        Self {
            tree,
            report: Report::default(),
            project: None,
            limits,
            options,
            used: BTreeSet::new(),
            active: Vec::new(),
            lookups: 0,
            bytes: 0,
        }
    }

    /// Returns whether the values of all hosts together have become too long; then no more hosts are made.
    pub(super) fn is_exhausted(&self) -> bool {
        self.bytes > self.limits.values_bytes
    }

    /// Counts things that are merged, looked up or put in against what the values of all hosts may have.
    pub(super) fn spend(&mut self, items: usize) {
        self.bytes = self.bytes.saturating_add(items.saturating_mul(self.limits.item_bytes));
    }

    /// Reports that the values of all hosts together have become too long.
    pub(super) fn report_exhausted(&mut self, span: Span) {
        if self.report.has(Code::ProjectLarge) {
            return;
        }
        let most = self.limits.values_bytes;
        let message = format!("the values of all hosts together have more than {most} bytes");
        self.report.push(Diagnostic::new(Code::ProjectLarge, span, message));
    }

    /// Returns a value's text; none if something in it is wrong, which is then reported.
    pub(super) fn expand(&mut self, value: &Value<'a>, scope: Scope<'_, 'a>) -> Option<String> {
        self.begin();
        let mut text = String::new();
        self.value_into(value, scope, &mut text)?;
        self.finish(text, value.span())
    }

    /// Returns a word's text.
    pub(super) fn expand_word(&mut self, word: Word, scope: Scope<'_, 'a>) -> Option<String> {
        self.begin();
        let mut text = String::new();
        self.word_into(self.tree.word(word), word.span, scope, &mut text)?;
        self.finish(text, word.span)
    }

    /// Returns a line of a raw block: `$[name]` is put in, and `$name` where such a variable is defined.
    pub(super) fn expand_raw(&mut self, span: Span, scope: Scope<'_, 'a>) -> Option<String> {
        self.begin();
        let mut text = String::new();
        self.raw_into(self.tree.sources().slice(span), span, scope, &mut text)?;
        self.finish(text, span)
    }

    /// Returns a line of a list as one text.
    pub(super) fn expand_line(&mut self, line: Line<'a>, scope: Scope<'_, 'a>) -> Option<String> {
        match line {
            Line::Words(statement) => {
                self.expand(&Value::written(None, &statement.words, statement.span), scope)
            }
            Line::Raw(raw) => self.expand_raw(raw.span, scope),
        }
    }

    fn begin(&mut self) {
        self.active.clear();
        self.lookups = 0;
        self.spend(1);
    }

    fn finish(&mut self, text: String, span: Span) -> Option<String> {
        self.bytes = self.bytes.saturating_add(text.len());
        if self.is_exhausted() {
            self.report_exhausted(span);
            return None;
        }
        Some(text)
    }

    fn value_into(&mut self, value: &Value<'a>, scope: Scope<'_, 'a>, text: &mut String) -> Option<()> {
        match value {
            Value::Made { text: made, .. } => text.push_str(made),
            Value::Written { .. } => {
                for (index, word) in value.words().enumerate() {
                    if index > 0 {
                        text.push(' ');
                    }
                    self.word_into(self.tree.word(word), word.span, scope, text)?;
                }
            }
        }
        Some(())
    }

    fn word_into(&mut self, raw: &'a str, span: Span, scope: Scope<'_, 'a>, text: &mut String) -> Option<()> {
        if !raw.contains(['$', '\\', '"']) {
            text.push_str(raw);
            return Some(());
        }
        if let Some(name) = raw.strip_prefix('$').filter(|name| is_variable_name(name)) {
            return self.variable_into(name, span, scope, text);
        }
        let mut rest = raw;
        while let Some(at) = rest.find(['$', '\\', '"']) {
            text.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(name) = bracketed(rest) {
                self.variable_into(name, span, scope, text)?;
                rest = &rest[name.len() + 3..];
            } else if rest.starts_with('\\') {
                let next = rest[1..].chars().next();
                text.extend(next);
                rest = &rest[1 + next.map_or(0, char::len_utf8)..];
            } else if rest.starts_with('"') {
                rest = &rest[1..];
            } else {
                self.warn_if_meant(rest, span, scope);
                text.push('$');
                rest = &rest[1..];
            }
        }
        text.push_str(rest);
        Some(())
    }

    /// Warns where `$name` stands in a longer word, if there is a variable of that name.
    fn warn_if_meant(&mut self, rest: &'a str, span: Span, scope: Scope<'_, 'a>) {
        let name = leading_name(&rest[1..]);
        if name.is_empty() || self.find(name, scope).is_none() {
            return;
        }
        let message = format!("`${name}` is not put in here, because it is only a part of the value");
        let raw = self.tree.sources().slice(span);
        let mut diagnostic = Diagnostic::new(Code::VariableInside, span, message)
            .label(format!("write `$[{name}]` inside a value"));
        let at = raw.len() - rest.len();
        if let (Ok(start), Ok(length)) = (u32::try_from(at), u32::try_from(name.len() + 1)) {
            let start = span.start + start;
            diagnostic = diagnostic.fix(Span { start, end: start + length, ..span }, format!("$[{name}]"));
        }
        self.report.push(diagnostic);
    }

    fn raw_into(&mut self, line: &'a str, span: Span, scope: Scope<'_, 'a>, text: &mut String) -> Option<()> {
        let mut rest = line;
        while let Some(at) = rest.find(['$', '\\']) {
            text.push_str(&rest[..at]);
            rest = &rest[at..];
            let name = leading_name(&rest[1..]);
            if let Some(name) = bracketed(rest) {
                self.variable_into(name, span, scope, text)?;
                rest = &rest[name.len() + 3..];
            } else if rest.starts_with('$') && !name.is_empty() && self.find(name, scope).is_some() {
                self.variable_into(name, span, scope, text)?;
                rest = &rest[name.len() + 1..];
            } else {
                // A backslash, `$1`, `$$`, `${x}`: with the character behind it, all the shell's.
                let kept = rest.char_indices().nth(2).map_or(rest.len(), |(at, _)| at);
                text.push_str(&rest[..kept]);
                rest = &rest[kept..];
            }
        }
        text.push_str(rest);
        Some(())
    }

    fn variable_into(
        &mut self,
        name: &'a str,
        span: Span,
        scope: Scope<'_, 'a>,
        text: &mut String,
    ) -> Option<()> {
        self.lookups += 1;
        self.spend(1);
        let deep = self.active.len() >= VARIABLE_DEPTH_MAX;
        if deep || self.lookups > LOOKUPS_MAX || text.len() > VALUE_BYTES_MAX {
            let message = format!(
                "with its variables, this has more than {VALUE_BYTES_MAX} bytes or {LOOKUPS_MAX} variables"
            );
            self.report.push(Diagnostic::new(Code::VariableLong, span, message));
            return None;
        }
        if self.active.iter().any(|active| active == name) {
            let message = format!("the variable `${name}` is defined by itself");
            self.report.push(Diagnostic::new(Code::VariableCycle, span, message));
            return None;
        }
        match self.find(name, scope) {
            Some(Found::Text(found)) => text.push_str(&found),
            Some(Found::OwnerLater) => text.push_str("$owner"),
            Some(Found::Written(value)) => {
                self.active.push(name.to_owned());
                self.value_into(&value, scope, text)?;
                self.active.pop();
            }
            None => {
                self.report_unknown(name, span, scope);
                return None;
            }
        }
        Some(())
    }

    fn find(&mut self, name: &str, scope: Scope<'_, 'a>) -> Option<Found<'a>> {
        if let Some((name, value)) = self.options.variables.get_key_value(name) {
            self.used.insert(name);
            return Some(Found::Text(value.clone()));
        }
        if let Some(value) = scope.frames.into_iter().flatten().find_map(|frame| frame.get(name)) {
            return Some(Found::Written(value.clone()));
        }
        match name {
            "hostname" => scope.hostname.map(|name| Found::Text(name.to_owned())),
            "project" => self.project.clone().map(Found::Text),
            "owner" => Some(match &self.options.owner {
                Some(owner) => Found::Text(owner.as_str().to_owned()),
                None => Found::OwnerLater,
            }),
            _ => None,
        }
    }

    fn report_unknown(&mut self, name: &str, span: Span, scope: Scope<'_, 'a>) {
        if scope.lenient || (name == "project" && self.project.is_none()) {
            return;
        }
        let raw = self.tree.sources().slice(span);
        let forms = [format!("$[{name}]"), format!("${name}")];
        // Where in the word the name itself stands, for the fix.
        let place = forms.iter().zip([2, 1]).find_map(|(form, before)| {
            let start = span.start + u32::try_from(raw.find(form)? + before).ok()?;
            Some(Span { start, end: start + u32::try_from(name.len()).ok()?, ..span })
        });
        let diagnostic =
            Diagnostic::new(Code::VariableUnknown, span, format!("the variable `${name}` is not defined"))
                .label("expected `$name = value` in this block, a superclass or `global`, or `--var`");
        let Some(place) = place else {
            return self.report.push(diagnostic);
        };
        let options = self.options;
        let defined = scope
            .frames
            .into_iter()
            .flatten()
            .flat_map(|frame| frame.keys().copied())
            .chain(options.variables.keys().map(String::as_str))
            .chain(BUILT_IN);
        self.report.push_unknown(diagnostic, place, name, defined);
    }

    /// Parses a name, and reports if it is none.
    pub(super) fn name(&mut self, text: &str, span: Span, what: &str) -> Option<Name> {
        let error: NameError = match Name::parse(text) {
            Ok(name) => return Some(name),
            Err(error) => error,
        };
        let diagnostic = Diagnostic::new(Code::NameInvalid, span, format!("`{text}` cannot be {what}"))
            .label(error.to_string());
        self.report.push(diagnostic);
        None
    }

    /// Warns of variables of the command line that nothing uses.
    pub(super) fn report_unused(&mut self, options: &Options) {
        let unused: Vec<&str> =
            options.variables.keys().map(String::as_str).filter(|name| !self.used.contains(name)).collect();
        if !unused.is_empty() {
            let message = format!("nothing uses `{}`, which the command line defines", unused.join("`, `"));
            let span = Span::start_of(SourceId::ROOT);
            self.report.push(Diagnostic::new(Code::VariableUnused, span, message));
        }
    }
}

/// Returns the name in `$[name]`, if the text begins so.
fn bracketed(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("$[")?;
    let name = &rest[..rest.find(']')?];
    is_variable_name(name).then_some(name)
}

fn leading_name(text: &str) -> &str {
    let end = text.bytes().position(|b| !is_variable_byte(b)).unwrap_or(text.len());
    if text.starts_with(|c: char| c.is_ascii_digit()) { "" } else { &text[..end] }
}

/// Returns whether a text can be a variable's name: letters, digits and `_`, not beginning with a digit.
pub fn is_variable_name(text: &str) -> bool {
    !text.is_empty() && leading_name(text).len() == text.len()
}

fn is_variable_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}
