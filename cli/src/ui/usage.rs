//! What the parser of the command line says, in the words of this program: which command somebody may have meant, and how what
//! they wrote without a flag is said. Pure; [`super::screen::usage`] writes it.

use std::ffi::OsString;

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};
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
                let command = command(root, line, &word);
                let takes = |id: &str| command.get_arguments().any(|argument| argument.get_id() == id);
                if !takes("project") {
                    return Vec::new();
                }
                // Its own tip, to write `-- WORD`, leads nowhere.
                error.remove(ContextKind::Suggested);
                vec![format!("a project is named by -p: `mlnctl {} -p {word}`", command.get_name())]
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
        _ => Vec::new(),
    }
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
        check("exec router1 ls", "say PROJECT/router1, or router1/HOST");
        check("console ring", "`mlnctl status` lists");
        check("grant", "`mlnctl grant list`");
        check("list -h", "print help");
        assert!(!said("start ring").contains("-- ring"));
    }
}
