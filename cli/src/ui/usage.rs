//! What the parser of the command line says, in the words of this program: which command somebody may have meant, and how what
//! they wrote without a flag is said. Pure; [`super::screen::usage`] writes it.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};
use mln_link::message::ProjectRef;
use mln_protocol::lang::nearest;

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
                let Some(right) = Typed::read(root, line).with_project() else { return Vec::new() };
                // Its own tip, to write `-- WORD`, leads nowhere.
                error.remove(ContextKind::Suggested);
                vec![format!("a project is named by -p: `{right}`")]
            }
            _ => Vec::new(),
        },
        ErrorKind::ValueValidation => match (word(ContextKind::InvalidArg), word(ContextKind::InvalidValue)) {
            (Some(argument), Some(value)) if argument.contains("PROJECT/HOST") && !value.contains('/') => {
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
            let right = Typed::read(root, line).with_project();
            right.map(|right| format!("a project is named by -p: `{right}`")).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// A line as it was typed: its command, and where in it stand words that belong to no flag.
struct Typed<'a> {
    command: &'a Command,
    words: Vec<&'a str>,
    /// The places of the words of the command.
    path: Vec<usize>,
    /// The places of words without a flag.
    free: Vec<usize>,
    /// The flags.
    flags: Vec<&'a Arg>,
}

impl<'a> Typed<'a> {
    fn read(root: &'a Command, line: &'a [OsString]) -> Self {
        let words = line.iter().skip(1).map(|word| word.to_str().unwrap_or("?")).collect();
        let mut typed = Self { command: root, words, path: Vec::new(), free: Vec::new(), flags: Vec::new() };
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
                    Some(command) => {
                        typed.command = command;
                        typed.path.push(at);
                    }
                    None => typed.free.push(at),
                },
            }
        }
        typed
    }

    /// Returns the line with the first word as the project, and what follows a `/`, or the word behind it where there is one too
    /// many, as its host; none where that isn't what is wrong with it.
    fn with_project(&self) -> Option<String> {
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
        let (mut name, mut of_it, mut left) = (self.words[first], None, others);
        if is_other {
            (name, left) = ("PROJECT", &self.free[..]);
        } else if let (Some(_), Some((before, after))) = (host, name.rsplit_once('/')) {
            (name, of_it) = (before, Some(after));
        } else if let (Some(_), Some((&next, rest))) = (host, others.split_first())
            && others.len() > taken
        {
            (of_it, left) = (Some(self.words[next]), rest);
        }
        let mut right = vec!["mlnctl".to_owned()];
        for (at, word) in self.words.iter().enumerate() {
            if at == first {
                right.push(format!("-p {name}"));
                right.extend(of_it.map(|host| format!("-h {host}")));
            }
            if at == first && !is_other {
                continue;
            }
            if self.path.contains(&at) || !self.free.contains(&at) || left.contains(&at) {
                right.push((*word).to_owned());
            }
        }
        // What is still missing stands there by its name.
        if of_it.is_none() && argument("host").is_some_and(|host| host.is_required_set() && !is_typed(host)) {
            right.push("-h HOST".to_owned());
        }
        let missing = self.command.get_arguments().filter(|one| one.is_required_set() && !is_typed(one));
        for one in missing.filter(|one| one.get_id() != "project" && one.get_id() != "host") {
            right.extend(one.get_long().map(|long| format!("--{long} {}", value_name(one))));
        }
        let positionals = self.command.get_positionals().skip(left.len());
        right.extend(positionals.filter(|one| one.is_required_set()).map(|one| value_name(one).to_owned()));
        Some(right.join(" "))
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
        let line: Vec<OsString> =
            std::iter::once("mlnctl").chain(line.split_whitespace()).map(OsString::from).collect();
        let mut error = parse(line.clone()).expect_err("it is wrong");
        let hints = explain(&mut error, &Args::command(), &line);
        format!("{error}{}", hints.join("\n"))
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
}
