//! Edits of a project file that leave every byte alone that they are not about.
//!
//! ```text
//! path ──path──▶ blocks to go through and a keyword ──place──▶ nodes of the tree ──splice──▶ changes of the text
//! ```
//!
//! An edit is worked out as changes of spans, which [`super::rewrite`] puts in. Names are compared as they are
//! written: the blocks of the file are edited, not the hosts that come of them. What a value means is not looked
//! at; whoever edits resolves the new text and judges.

mod path;
mod place;
mod splice;
mod value;

use super::diagnostic::Fix;
use super::grammar::{self, Keyword};
use super::nearest::nearest;
use super::source::{SourceId, Span};
use super::tree::{Block, Node, Statement, Tree};
use path::{Leaf, Path};
use place::Place;
pub(super) use value::{written, written_word};

/// An edit of a project file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Gives a keyword or a variable its value; a flag has none.
    Set(Setting),
    /// Takes out what a block says about a keyword, or a whole block.
    Unset {
        /// What, as in `query`: `/host/web/memory`, `/host/web`.
        path: String,
    },
    /// Adds a host at the end of the file.
    AddHost {
        /// Its name.
        name: String,
        /// What it has, by paths within the host: `memory`, `network/eth0/switch`.
        settings: Vec<Setting>,
    },
    /// Says how many hosts an enumeration makes.
    Scale {
        /// The enumeration's name, or its superclass.
        class: String,
        /// How many.
        count: u32,
    },
    /// Says on which service host a host runs: in its own block, or in one that amends it, where an enumeration makes it.
    Place {
        /// Its name; that there is such a host is for whoever resolves the text to say.
        host: String,
        /// The service host.
        service_host: String,
    },
}

/// A keyword or a variable, and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Where, as in `query`: `/host/web/memory`, `/global/$net`.
    pub path: String,
    /// What it is to be; a word `$name`, and `$[name]` anywhere, are variables. None for a flag.
    pub value: Option<String>,
}

/// Why an edit cannot be made. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The path is too short, or too long, for what it names.
    #[error("`{path}` leads to no keyword: expected a path such as {expected}")]
    PathIncomplete {
        /// The path.
        path: String,
        /// One that would do.
        expected: &'static str,
    },
    /// There is no such keyword in that kind of block.
    #[error("`{word}` means nothing {place}{}", meant.map_or(String::new(), |meant| format!("; did you mean `{meant}`?")))]
    KeywordUnknown {
        /// The word.
        word: String,
        /// The kind of block, in words.
        place: &'static str,
        /// The nearest keyword.
        meant: Option<&'static str>,
    },
    /// The keyword's block is a list or a plugin's, whose lines have no paths.
    #[error("`{word}` is a list of lines: edit them in the file")]
    List {
        /// The keyword.
        word: &'static str,
    },
    /// The keyword needs a value.
    #[error("`{word}` lacks its value")]
    ValueMissing {
        /// The keyword.
        word: String,
    },
    /// The keyword takes no value, or not this one.
    #[error("`{word}` does not take the value `{value}`")]
    ValueUnexpected {
        /// The keyword.
        word: String,
        /// The value.
        value: String,
    },
    /// A value is one line.
    #[error("a value cannot have several lines")]
    ValueLines,
    /// The file has no such block.
    #[error("there is no block `{block}` in the file{}", meant.as_ref().map_or(String::new(), |meant| format!("; did you mean `{meant}`?")))]
    BlockMissing {
        /// Its head.
        block: String,
        /// The nearest name.
        meant: Option<String>,
    },
    /// The block says nothing about the keyword.
    #[error("`{path}` is not set there")]
    NothingThere {
        /// The path.
        path: String,
    },
    /// There is one of that name.
    #[error("there is a host `{name}` already")]
    HostThere {
        /// Its name.
        name: String,
    },
    /// No enumeration has that name or superclass.
    #[error("no enumeration is named `{class}` or has that superclass; {}", match (meant, known.as_slice()) {
        (Some(meant), _) => format!("did you mean `{meant}`?"),
        (None, []) => "there is none (a block `autoenum` makes one)".to_owned(),
        (None, known) => format!("there are: {}", known.join(", ")),
    })]
    NotEnumerated {
        /// The name.
        class: String,
        /// The names and superclasses of those that there are.
        known: Vec<String>,
        /// The one of them that may be meant.
        meant: Option<String>,
    },
    /// Several enumerations have that superclass.
    #[error("{count} enumerations have the superclass `{class}`: name the enumeration")]
    EnumeratedOften {
        /// The superclass.
        class: String,
        /// How many there are.
        count: usize,
    },
    /// The text to be changed is in several places of the project at once.
    #[error("it stands in {path}, which is included several times: edit that file")]
    IncludedOften {
        /// The included file.
        path: String,
    },
}

/// Returns the changes of the text that make an edit; none if all is already so.
pub fn edit(tree: &Tree, edit: &Edit) -> Result<Vec<Fix>, EditError> {
    let changes = match edit {
        Edit::Set(setting) => set(tree, setting)?,
        Edit::Unset { path } => unset(tree, path)?,
        Edit::AddHost { name, settings } => vec![add_host(tree, name, settings)?],
        Edit::Scale { class, count } => scale(tree, class, *count)?,
        Edit::Place { host, service_host } => place_host(tree, host, service_host)?,
    };
    for change in &changes {
        let path = tree.sources().get(change.span.source).path();
        if tree.sources().iter().filter(|(_, source)| source.path() == path).count() > 1 {
            return Err(EditError::IncludedOften { path: path.to_owned() });
        }
    }
    Ok(changes.into_iter().filter(|change| tree.sources().slice(change.span) != change.replacement).collect())
}

fn set(tree: &Tree, setting: &Setting) -> Result<Vec<Fix>, EditError> {
    let path = Path::parse(&setting.path)?;
    let place = Place::find(tree, &path.steps);
    match path.leaf {
        Leaf::Block => {
            Err(EditError::PathIncomplete { path: setting.path.clone(), expected: path::EXPECTED })
        }
        Leaf::Keyword(_) | Leaf::Platform if place.is_whole() => {
            let (keyword, value) = keyword_and_value(path.leaf, setting)?;
            Ok(set_keyword(tree, &place, keyword, value.as_deref()))
        }
        Leaf::Variable(name) if place.is_whole() => {
            let value = variable_value(name, setting)?;
            Ok(vec![set_variable(tree, &place, name, &value)])
        }
        Leaf::Keyword(_) | Leaf::Platform | Leaf::Variable(_) => {
            let item = splice::Item::of(path.leaf, setting)?;
            place.create(tree, item).map(|change| vec![change])
        }
    }
}

/// Returns the keyword that a leaf is, and its value as it is to be written.
fn keyword_and_value(
    leaf: Leaf<'_>,
    setting: &Setting,
) -> Result<(&'static Keyword, Option<String>), EditError> {
    let unexpected = |word: &str, value: &str| EditError::ValueUnexpected {
        word: word.to_owned(),
        value: value.to_owned(),
    };
    match (leaf, setting.value.as_deref()) {
        (Leaf::Platform, None) => Err(EditError::ValueMissing { word: "platform".to_owned() }),
        (Leaf::Platform, Some(value)) => {
            let keyword = grammar::keyword(grammar::Context::Host, value);
            let platform = keyword.filter(|keyword| keyword.canonical == "platform");
            platform.map(|keyword| (keyword, None)).ok_or_else(|| unexpected("platform", value))
        }
        (Leaf::Keyword(keyword), None) if keyword.flag => Ok((keyword, None)),
        (Leaf::Keyword(keyword), Some(value)) if keyword.value => Ok((keyword, Some(written(value)?))),
        (Leaf::Keyword(keyword), Some(value)) if keyword.flag => Err(unexpected(keyword.word, value)),
        (Leaf::Keyword(keyword), None) if keyword.value => {
            Err(EditError::ValueMissing { word: keyword.word.to_owned() })
        }
        (Leaf::Keyword(keyword), _) => Err(EditError::List { word: keyword.word }),
        (Leaf::Variable(_) | Leaf::Block, _) => {
            Err(EditError::PathIncomplete { path: setting.path.clone(), expected: path::EXPECTED })
        }
    }
}

fn variable_value(name: &str, setting: &Setting) -> Result<String, EditError> {
    let missing = || EditError::ValueMissing { word: format!("${name}") };
    written(setting.value.as_deref().ok_or_else(missing)?)
}

/// Puts a keyword in the place of the last one that it excludes, or adds it.
fn set_keyword(tree: &Tree, place: &Place<'_>, keyword: &'static Keyword, value: Option<&str>) -> Vec<Fix> {
    let slot = grammar::slot(keyword);
    let mut there = place.entries(tree, |found| grammar::slot(found) == slot);
    let text = value.map_or(keyword.word.to_owned(), |value| format!("{} {value}", keyword.word));
    let Some((found, node)) = there.pop() else {
        return place.add_statement(tree, &text).into_iter().collect();
    };
    let mut changes = vec![match node {
        Node::Statement(statement)
            if found.canonical == keyword.canonical && keyword.canonical != "platform" =>
        {
            replace_value(statement, value)
        }
        // A platform's block may have settings.
        Node::Block(block) if found.word == keyword.word => {
            Fix { span: block.head, replacement: tree.sources().slice(block.head).to_owned() }
        }
        node => Fix { span: node.span(), replacement: text },
    }];
    if keyword.several {
        changes.extend(there.into_iter().map(|(_, node)| splice::removal(tree, node.span())));
    }
    changes
}

fn replace_value(statement: &Statement, value: Option<&str>) -> Fix {
    let [keyword, ..] = statement.words.as_slice() else {
        return Fix { span: statement.span, replacement: String::new() };
    };
    let behind = Span { start: keyword.span.end, ..statement.span };
    match (statement.words.get(1), value) {
        (Some(first), Some(value)) => {
            Fix { span: Span { start: first.span.start, ..behind }, replacement: value.to_owned() }
        }
        (None, Some(value)) => Fix { span: behind, replacement: format!(" {value}") },
        (_, None) => Fix { span: behind, replacement: String::new() },
    }
}

fn set_variable(tree: &Tree, place: &Place<'_>, name: &str, value: &str) -> Fix {
    let Some(statement) = place.variables(tree, name).pop() else {
        let text = format!("${name} = {value}");
        let nowhere = Span::start_of(SourceId::ROOT);
        return place.add_statement(tree, &text).unwrap_or(Fix { span: nowhere, replacement: String::new() });
    };
    let text = tree.sources().slice(statement.span);
    let behind = text.find('=').map_or(text.len(), |at| at + 1);
    let blanks = text[behind..].len() - text[behind..].trim_start().len();
    let start = statement.span.start + u32::try_from(behind + blanks).unwrap_or(0);
    let is_empty = behind + blanks == text.len();
    let replacement = if is_empty { format!(" {value}") } else { value.to_owned() };
    Fix { span: Span { start, ..statement.span }, replacement }
}

fn unset(tree: &Tree, text: &str) -> Result<Vec<Fix>, EditError> {
    let path = Path::parse(text)?;
    let place = Place::find(tree, &path.steps);
    if !place.is_whole() {
        return Err(place.missing(tree));
    }
    let spans: Vec<Span> = match path.leaf {
        Leaf::Block => place.blocks.iter().map(|block| block.span).collect(),
        Leaf::Variable(name) => place.variables(tree, name).iter().map(|found| found.span).collect(),
        Leaf::Keyword(keyword) => {
            let found = place.entries(tree, |found| found.canonical == keyword.canonical);
            found.iter().map(|(_, node)| node.span()).collect()
        }
        Leaf::Platform => {
            let found = place.entries(tree, |found| found.canonical == "platform");
            found.iter().map(|(_, node)| node.span()).collect()
        }
    };
    if spans.is_empty() {
        return Err(EditError::NothingThere { path: text.to_owned() });
    }
    Ok(spans.into_iter().map(|span| splice::removal(tree, span)).collect())
}

fn add_host(tree: &Tree, name: &str, settings: &[Setting]) -> Result<Fix, EditError> {
    if name.contains('\n') {
        return Err(EditError::ValueLines);
    }
    let steps = [path::Step::host(name)];
    if Place::find(tree, &steps).is_whole() {
        return Err(EditError::HostThere { name: name.to_owned() });
    }
    let mut host = splice::Item::block(steps[0].head());
    for setting in settings {
        let path = Path::within_host(&setting.path)?;
        host.add(&path.steps, splice::Item::of(path.leaf, setting)?);
    }
    Ok(splice::at_end_of_file(tree, &host))
}

fn place_host(tree: &Tree, host: &str, service_host: &str) -> Result<Vec<Fix>, EditError> {
    let setting =
        Setting { path: format!("/host/{host}/service_host"), value: Some(service_host.to_owned()) };
    if Place::find(tree, &[path::Step::host(host)]).is_whole() {
        return set(tree, &setting);
    }
    let path = Path::parse(&setting.path)?;
    let mut amendment = splice::Item::block(path::Step::amend(host).head());
    amendment.add(&[], splice::Item::of(path.leaf, &setting)?);
    Ok(vec![splice::at_end_of_file(tree, &amendment)])
}

fn scale(tree: &Tree, class: &str, count: u32) -> Result<Vec<Fix>, EditError> {
    let enumerations: Vec<&Block> = place::blocks(tree, tree.nodes(SourceId::ROOT), "global", None)
        .into_iter()
        .flat_map(|global| place::blocks(tree, &global.nodes, "autoenum", None))
        .collect();
    let is_named = |block: &&&Block| place::name(tree, block).as_deref() == Some(class);
    let superclass = |block: &Block| match Place::of(block)
        .entries(tree, |found| found.canonical == "superclass")
        .pop()?
    {
        (_, Node::Statement(statement)) => statement.words.get(1).map(|&word| value::meant(tree.word(word))),
        _ => None,
    };
    let is_of_class = |block: &&&Block| superclass(block).as_deref() == Some(class);
    let found = match enumerations.iter().find(is_named) {
        Some(block) => vec![*block],
        None => enumerations.iter().filter(is_of_class).copied().collect(),
    };
    match found.as_slice() {
        [block] => {
            let keyword = grammar::keyword(grammar::Context::Autoenum, "numhosts");
            let count = count.to_string();
            Ok(keyword
                .map_or_else(Vec::new, |keyword| set_keyword(tree, &Place::of(block), keyword, Some(&count))))
        }
        [] => {
            let names = enumerations.iter().filter_map(|block| place::name(tree, block));
            let mut known: Vec<String> =
                names.chain(enumerations.iter().filter_map(|block| superclass(block))).collect();
            known.sort();
            known.dedup();
            let meant = nearest_name(class, &known);
            Err(EditError::NotEnumerated { class: class.to_owned(), known, meant })
        }
        many => Err(EditError::EnumeratedOften { class: class.to_owned(), count: many.len() }),
    }
}

/// Returns the name that is nearest to one that was not found.
fn nearest_name(name: &str, known: &[String]) -> Option<String> {
    nearest(name, known.iter().map(String::as_str)).map(str::to_owned)
}
