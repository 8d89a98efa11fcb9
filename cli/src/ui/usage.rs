//! What the parser of the command line says, in the words of this program: which command somebody may have meant, and how what
//! they wrote without a flag is said. Pure; [`super::screen::usage`] writes it.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};
use mln_link::message::ProjectRef;
use mln_protocol::id::Name;
use mln_protocol::lang::nearest;

use super::text::printable;

/// Words of other programs, and ours among them: each line means the same.
const ALIKE: &[&[&str]] = &[
    &["remove", "rm", "delete", "destroy", "purge", "undeploy"],
    &["list", "ls"],
    &["status", "ps", "state", "top"],
    &["start", "up", "boot", "poweron", "resume"],
    &["stop", "down", "halt", "shutdown", "poweroff"],
    &["build", "deploy", "define", "create", "new", "take", "add"],
    &["upgrade", "apply", "update", "change", "sync"],
    &["migrate", "move", "mv"],
    &["exec", "shell", "sh", "run"],
    &["console", "attach", "connect"],
    &["rollback", "undo", "revert"],
    &["validate", "check", "lint"],
    &["restore", "revert"],
    &["version", "about"],
];

/// Puts our suggestion in the place of the parser's, and returns hints that go with the error. `root` is the command line as it
/// is defined, `line` what was typed.
pub(super) fn explain(error: &mut clap::Error, root: &Command, line: &[OsString]) -> Vec<String> {
    let word = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let Some(word) = word(ContextKind::InvalidSubcommand) else { return Vec::new() };
            let meant = meant(&word, command(root, line, &word));
            error.remove(ContextKind::SuggestedSubcommand);
            error.remove(ContextKind::Suggested);
            if let Some(meant) = meant {
                error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![meant]));
            }
            Vec::new()
        }
        ErrorKind::UnknownArgument => match word(ContextKind::InvalidArg) {
            Some(word) if word == "-h" => vec![
                "-h is a host of a project, as ever; `mlnctl --help` and `mlnctl COMMAND --help` print help".to_owned(),
            ],
            Some(word) if !word.starts_with('-') => {
                let Some(right) = right(root, line) else { return Vec::new() };
                // Its own tip, to write `-- WORD`, leads nowhere.
                error.remove(ContextKind::Suggested);
                vec![format!("a project is named by -p: `{right}`")]
            }
            _ => Vec::new(),
        },
        ErrorKind::ValueValidation => match (word(ContextKind::InvalidArg), word(ContextKind::InvalidValue)) {
            // What is no name is no half of it either, and the error says why.
            (Some(argument), Some(value))
                if argument.contains("PROJECT/HOST") && Name::parse(&value).is_ok() =>
            {
                vec![format!("say PROJECT/{value}, or {value}/HOST; `mlnctl status` lists projects with their hosts")]
            }
            _ => Vec::new(),
        },
        ErrorKind::MissingRequiredArgument if command(root, line, "").get_name() == "grant" => vec![
            "`mlnctl grant list` says who may do what".to_owned(),
            "to let somebody in: `mlnctl key` on their machine prints KEY, then `mlnctl grant --to KEY --name THEM` here".to_owned(),
        ],
        // A word that is taken for something else, as `export ring`.
        ErrorKind::MissingRequiredArgument => {
            let right = right(root, line);
            right.map(|right| format!("a project is named by -p: `{right}`")).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// Returns a line as it would be right with its project named by -p, to be typed to a shell; none where it would still be wrong.
fn right(root: &Command, line: &[OsString]) -> Option<String> {
    let right = Typed::read(root, line)?.with_project()?;
    // Whatever stands where something is missing, the parser takes the rest.
    let filled = right.iter().map(|word| match word {
        Word::Said(word) => word.as_str(),
        Word::Missing(_) => FILLING,
    });
    root.clone().try_get_matches_from(filled).ok()?;
    let shown = right.iter().map(|word| match word {
        Word::Said(word) => shell_word(word),
        Word::Missing(name) => name.clone(),
    });
    Some(shown.collect::<Vec<_>>().join(" "))
}

/// What every argument takes that may be missing: a name, a number and a file's path.
const FILLING: &str = "1";

/// A word of a line as it would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    /// As it is.
    Said(String),
    /// Something stands there that wasn't typed; this is what help calls it.
    Missing(String),
}

impl Word {
    fn said(word: &str) -> Self {
        Self::Said(word.to_owned())
    }

    fn missing(word: &str) -> Self {
        Self::Missing(word.to_owned())
    }
}

/// Returns a word as a shell takes it for one.
fn shell_word(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@%+,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A line as it was typed: its command, and where in it stand words that belong to no flag, and to no command.
struct Typed<'a> {
    command: &'a Command,
    words: Vec<&'a str>,
    /// The places of words without a flag.
    free: Vec<usize>,
    /// The flags.
    flags: Vec<&'a Arg>,
}

impl<'a> Typed<'a> {
    /// Returns none where a word can't be shown as it was typed.
    fn read(root: &'a Command, line: &'a [OsString]) -> Option<Self> {
        let shown = |word: &'a OsString| word.to_str().filter(|word| printable(word) == **word);
        let words = line.iter().skip(1).map(shown).collect::<Option<_>>()?;
        let mut typed = Self { command: root, words, free: Vec::new(), flags: Vec::new() };
        let mut is_value = false;
        for (at, word) in typed.words.iter().copied().enumerate() {
            if std::mem::take(&mut is_value) {
                continue;
            }
            let mut of_all = typed.command.get_arguments().chain(root.get_arguments());
            match (word.strip_prefix("--"), word.strip_prefix('-')) {
                (Some(long), _) => {
                    let (name, value) = long.split_once('=').map_or((long, None), |(n, v)| (n, Some(v)));
                    let found = of_all.find(|one| one.get_long() == Some(name));
                    is_value = value.is_none() && found.is_some_and(|one| one.get_action().takes_values());
                    typed.flags.extend(found);
                }
                (None, Some(short)) if !short.is_empty() => {
                    let found = of_all.find(|one| one.get_short() == short.chars().next());
                    is_value = short.len() == 1 && found.is_some_and(|one| one.get_action().takes_values());
                    typed.flags.extend(found);
                }
                _ => match typed.command.find_subcommand(word) {
                    Some(command) => typed.command = command,
                    None => typed.free.push(at),
                },
            }
        }
        Some(typed)
    }

    /// Returns the line with the first word as the project, and what follows a `/`, or the word behind it where there is one too
    /// many, as its host; none where that isn't what is wrong with it. All words of the line are in it.
    fn with_project(&self) -> Option<Vec<Word>> {
        let argument = |id: &str| self.command.get_arguments().find(|one| one.get_id() == id);
        let is_typed = |one: &Arg| self.flags.iter().any(|flag| flag.get_id() == one.get_id());
        let project = argument("project")?;
        let (&first, others) = self.free.split_first()?;
        if is_typed(project) {
            return None;
        }
        let host = argument("host").filter(|host| host.get_short() == Some('h') && !is_typed(host));
        let taken = self.command.get_positionals().count();
        // A command that takes no more words than there are has one that means something else, unless a file is called like a
        // project.
        let is_file = |one: &Arg| value_name(one) == "FILE";
        let is_other = self.free.len() <= taken
            && !(self.command.get_positionals().next().is_some_and(is_file)
                && !self.words[first].contains('.')
                && ProjectRef::parse(self.words[first]).is_ok());
        let (mut name, mut of_it, mut left) = (Word::said(self.words[first]), None, others);
        if is_other {
            (name, left) = (Word::missing("PROJECT"), &self.free[..]);
        } else if let (Some(_), Some((before, after))) = (host, self.words[first].rsplit_once('/')) {
            (name, of_it) = (Word::said(before), Some(after));
        } else if let (Some(_), Some((&next, rest))) = (host, others.split_first())
            && others.len() > taken
        {
            (of_it, left) = (Some(self.words[next]), rest);
        }
        let mut right = vec![Word::said("mlnctl")];
        for (at, word) in self.words.iter().enumerate() {
            if at == first {
                right.extend([Word::said("-p"), name.clone()]);
                right.extend(of_it.iter().flat_map(|host| [Word::said("-h"), Word::said(host)]));
            }
            if at == first && !is_other {
                continue;
            }
            if !self.free.contains(&at) || left.contains(&at) {
                right.push(Word::said(word));
            }
        }
        // What is still missing stands there by its name.
        if of_it.is_none() && argument("host").is_some_and(|host| host.is_required_set() && !is_typed(host)) {
            right.extend([Word::said("-h"), Word::missing("HOST")]);
        }
        let missing = self.command.get_arguments().filter(|one| one.is_required_set() && !is_typed(one));
        for one in missing.filter(|one| one.get_id() != "project" && one.get_id() != "host") {
            let Some(long) = one.get_long() else { continue };
            right.extend([Word::Said(format!("--{long}")), Word::missing(value_name(one))]);
        }
        let positionals = self.command.get_positionals().skip(left.len());
        right.extend(
            positionals.filter(|one| one.is_required_set()).map(|one| Word::missing(value_name(one))),
        );
        Some(right)
    }
}

fn value_name(argument: &Arg) -> &str {
    argument.get_value_names().and_then(|names| names.first()).map_or("VALUE", |name| name.as_str())
}

/// Returns the command that a line has reached before a word.
fn command<'c>(root: &'c Command, line: &[OsString], word: &str) -> &'c Command {
    let words = line.iter().skip(1).filter_map(|one| one.to_str()).take_while(|one| *one != word);
    words.fold(root, |command, one| command.find_subcommand(one).unwrap_or(command))
}

/// Returns the command that somebody may have meant: one that other programs call so, or the nearest one.
fn meant(word: &str, command: &Command) -> Option<String> {
    let there: Vec<&str> =
        command.get_subcommands().filter(|one| !one.is_hide_set()).map(Command::get_name).collect();
    let alike = ALIKE.iter().filter(|words| words.contains(&word)).flat_map(|words| words.iter());
    let alike = alike.copied().find(|other| there.contains(other));
    alike.or_else(|| nearest(word, there.iter().copied())).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::args::{Args, parse};

    /// Returns what is written about a line that is wrong.
    fn said(line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (error, hints) = told(&words).expect("it is wrong");
        format!("{error}{}", hints.join("\n"))
    }

    /// Returns the parser's error about a line that is wrong, and our hints.
    fn told(words: &[&str]) -> Option<(clap::Error, Vec<String>)> {
        let line: Vec<OsString> =
            std::iter::once("mlnctl").chain(words.iter().copied()).map(OsString::from).collect();
        let mut error = parse(line.clone()).err()?;
        let hints = explain(&mut error, &Args::command(), &line);
        Some((error, hints))
    }

    #[track_caller]
    fn check(line: &str, expect: &str) {
        let said = said(line);
        assert!(said.contains(expect), "{line}: {expect:?} is not in {said}");
    }

    #[test]
    fn a_mistyped_command_or_one_of_another_program_is_told_once() {
        check("snapshots", "'snapshot'");
        check("strat", "'start'");
        check("destroy", "'remove'");
        check("ls", "'list'");
        check("up", "'start'");
        check("snapshot create", "'take'");
        check("snapshot delete", "'rm'");
        check("template lst", "'list'");
        let unknown = said("frobnicate");
        assert!(!unknown.contains("similar"), "{unknown}");
        assert_eq!(said("strat").matches("tip").count(), 1);
    }

    #[test]
    fn what_is_written_without_a_flag_is_told_how_it_is_said() {
        check("start ring", "`mlnctl start -p ring`");
        check("start ring router1 -s 3", "`mlnctl start -p ring -h router1 -s 3`");
        check("export ring ring.mlnx", "`mlnctl export -p ring ring.mlnx`");
        check("export ring", "`mlnctl export -p ring FILE`");
        check("export ring.mlnx", "`mlnctl export -p PROJECT ring.mlnx`");
        check("scale node 5", "`mlnctl scale -p PROJECT node 5`");
        check("scale farm node 5", "`mlnctl scale -p farm node 5`");
        check("export --force anna/ring x", "`mlnctl export --force -p anna/ring x`");
        check("migrate ring/router3", "`mlnctl migrate -p ring -h router3 --to SERVICE_HOST`");
        check("migrate ring router3 --to oslo", "`mlnctl migrate -p ring -h router3 --to oslo`");
        check("migrate anna/ring/router3 --to=oslo", "`mlnctl migrate -p anna/ring -h router3 --to=oslo`");
        assert!(!said("export -p ring x y").contains("named by -p"), "it is named");
        check("exec router1 ls", "say PROJECT/router1, or router1/HOST");
        check("console ring", "`mlnctl status` lists");
        check("grant", "`mlnctl grant list`");
        check("list -h", "print help");
        assert!(!said("start ring").contains("-- ring"));
    }

    #[test]
    fn what_a_shell_would_take_apart_is_quoted_and_what_is_no_project_is_not_called_one() {
        let hints = |words: &[&str]| told(words).expect("it is wrong").1;
        assert_eq!(
            hints(&["export", "ring", "my disks.mlnx"]),
            ["a project is named by -p: `mlnctl export -p ring 'my disks.mlnx'`"]
        );
        assert_eq!(
            hints(&["export", "--peer", "$X", "ring", "it's"]),
            [r"a project is named by -p: `mlnctl export --peer '$X' -p ring 'it'\''s'`"]
        );
        for words in [
            &["start", "my ring"][..],
            &["start", "../ring"],
            &["start", "ring", "r1", "r2"],
            &["log", "ring", "r1"],
            &["start", "ring/\u{1b}[2J"],
            &["console", "my ring"],
        ] {
            assert_eq!(hints(words), [""; 0], "{words:?}");
        }
    }

    /// Returns all commands that take a project by -p, each with the words that lead to it.
    fn with_projects(command: &Command, path: &[String]) -> Vec<Vec<String>> {
        let takes_one =
            command.get_arguments().any(|one| one.get_id() == "project" && one.get_short().is_some());
        let here = takes_one.then(|| path.to_vec());
        let below = command.get_subcommands().flat_map(|one| {
            let path: Vec<String> = path.iter().cloned().chain([one.get_name().to_owned()]).collect();
            with_projects(one, &path)
        });
        here.into_iter().chain(below).collect()
    }

    /// Returns the words of lines, as a shell takes them apart.
    fn taken_apart(lines: &[String]) -> Vec<Vec<String>> {
        let script: String = lines
            .iter()
            .map(|line| format!("set -- {line}\nprintf '%s\\0' \"$@\"; printf '\\1\\0'\n"))
            .collect();
        let run =
            std::process::Command::new("/bin/sh").arg("-c").arg(script).output().expect("there is a shell");
        assert!(run.status.success(), "{run:?}");
        let text = String::from_utf8(run.stdout).expect("it was UTF-8");
        let mut apart = vec![Vec::new()];
        for word in text.split_terminator('\0') {
            match (word, apart.last_mut()) {
                ("\u{1}", _) => apart.push(Vec::new()),
                (word, Some(line)) => line.push(word.to_owned()),
                (_, None) => {}
            }
        }
        apart.pop();
        apart
    }

    /// Hints were given that the same parser refuses, and that lacked words.
    #[test]
    fn every_line_that_a_hint_names_is_understood_and_has_all_words_of_the_one_that_was_typed() {
        let words = ["ring", "anna/ring", "r.mlnx", "5", "a b", "it's $X", "a/b/c/d", "-"];
        let pairs = words.iter().flat_map(|one| words.iter().map(|other| vec![*one, *other]));
        let tails = words.iter().map(|one| vec![*one]).chain(pairs);
        let tails =
            tails.chain([vec!["ring", "r1", "5"], vec!["ring", "node", "5", "6"], vec!["ring", "-h", "r1"]]);
        let tails: Vec<Vec<&str>> =
            tails.chain([vec!["ring", "--yes", "x"], vec!["--json", "ring", "x"]]).collect();
        let (mut typed, mut hinted) = (Vec::new(), Vec::new());
        for path in with_projects(&Args::command(), &[]) {
            for tail in &tails {
                let line: Vec<&str> = path.iter().map(String::as_str).chain(tail.iter().copied()).collect();
                let Some((_, hints)) = told(&line) else { continue };
                for hint in hints {
                    let Some(named) = hint.strip_prefix("a project is named by -p: `") else { continue };
                    hinted.push(named.strip_suffix('`').expect("it ends so").to_owned());
                    typed.push(line.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
                }
            }
        }
        assert!(hinted.len() > 200, "{} hints", hinted.len());
        let apart = taken_apart(&hinted);
        assert_eq!(apart.len(), hinted.len());
        for ((typed, hinted), named) in typed.iter().zip(&hinted).zip(&apart) {
            let is_open = |word: &str| word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            let filled = named.iter().map(|word| if is_open(word) { "1" } else { word.as_str() });
            let understood = parse(filled.map(OsString::from));
            assert!(understood.is_ok(), "{typed:?}: {hinted}: {understood:?}");
            for word in typed {
                let has = |word: &str| named.iter().any(|one| one == word);
                let is_there =
                    has(word) || word.rsplit_once('/').is_some_and(|(of, name)| has(of) && has(name));
                assert!(is_there, "{typed:?}: {word:?} is not in {hinted}");
            }
        }
    }
}
