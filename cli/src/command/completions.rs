//! Completions: `mlnctl completions SHELL` prints what a shell reads once; then it asks `mlnctl` for every word.
//!
//! So names are live: projects, VMs, hosts, groups and templates come from the agent that would be asked. Where
//! there is none, or it is slow, there are no names, and nothing is said about it. Which argument takes what is told
//! by its value's name, in one place, so that a new command has names without doing anything.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory, ValueEnum};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};
use mln_link::Request;
use mln_link::message::{ProjectSelection, Status, Target};

use crate::args::{Args, Output};
use crate::conversation::{Agent, Answer};
use crate::exit::Exit;
use crate::ui::outcome::Outcome;
use crate::ui::screen::Screen;

/// The variable by which a shell says that it wants words.
const VARIABLE: &str = "MLN_COMPLETE";

/// How long somebody who pressed Tab waits for names.
const NAMES_TIMEOUT: Duration = Duration::from_millis(800);

/// The arguments of `completions`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example: mlnctl completions bash >~/.local/share/bash-completion/completions/mlnctl")]
pub struct Completions {
    /// For which shell
    #[arg(value_enum)]
    shell: Shell,
}

/// The shells that have completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Prints what a shell reads.
pub fn run(args: &Completions) -> Exit {
    let name = match args.shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
    };
    let mut script = Vec::new();
    let written = Shells::builtins()
        .completer(name)
        .map(|shell| shell.write_registration(VARIABLE, "mlnctl", "mlnctl", "mlnctl", &mut script));
    let outcome = match written {
        Some(Ok(())) => {
            Outcome { answer: String::from_utf8_lossy(&script).into_owned(), ..Outcome::default() }
        }
        Some(Err(_)) | None => Outcome {
            complaint: format!("error: no completions for {name}\n"),
            code: 1,
            ..Outcome::default()
        },
    };
    Exit::of_offline(outcome.write())
}

/// Writes the words that a shell asked for; returns whether it did.
pub fn answer_shell(line: &[OsString]) -> bool {
    if std::env::var_os(VARIABLE).is_none() {
        return false;
    }
    let completer = CompleteEnv::with_factory(|| with_names(Args::command())).var(VARIABLE);
    // Whatever goes wrong, nobody who pressed Tab wants to read about it.
    completer.try_complete(line.iter().cloned(), None).unwrap_or(true)
}

/// What can be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    Projects,
    Vms,
    VmsOfProjects,
    Hosts,
    Groups,
    Templates,
}

impl Names {
    /// Returns what an argument takes, by the name of its value; that of a bare name by the command around it.
    fn of_value(name: &str, around: &str) -> Option<Self> {
        match name {
            "NAME" if around == "template" => Some(Self::Templates),
            "PROJECT" | "OWNER/PROJECT" => Some(Self::Projects),
            "HOST" => Some(Self::Vms),
            "PROJECT/HOST" | "PROJECT/VM" | "P/VM" => Some(Self::VmsOfProjects),
            "SERVICE_HOST" => Some(Self::Hosts),
            "GROUP" => Some(Self::Groups),
            "TEMPLATE" => Some(Self::Templates),
            _ => None,
        }
    }

    fn request(self) -> Request {
        match self {
            Self::Projects => Request::List,
            Self::Vms | Self::VmsOfProjects => {
                let target = Target { projects: ProjectSelection::All, vms: Vec::new() };
                Request::Status(Status { target, wait: None })
            }
            Self::Hosts | Self::Groups => Request::DaemonStatus { group: None },
            Self::Templates => Request::TemplateList,
        }
    }

    fn in_answer(self, answer: &Answer) -> Vec<String> {
        let mut names: Vec<String> = match self {
            Self::Projects => answer.projects.iter().map(|row| row.project.to_string()).collect(),
            Self::Vms => answer.status.iter().map(|row| row.vm.to_string()).collect(),
            Self::VmsOfProjects => {
                answer.status.iter().map(|row| format!("{}/{}", row.project, row.vm)).collect()
            }
            Self::Hosts => answer.daemon_status.iter().map(|row| row.name.to_string()).collect(),
            Self::Groups => {
                let groups = answer.daemon_status.iter().flat_map(|row| &row.groups);
                groups.map(ToString::to_string).collect()
            }
            Self::Templates => answer.templates.iter().map(|row| row.name.to_string()).collect(),
        };
        names.sort();
        names.dedup();
        names
    }
}

/// Lets every argument know where its names come from.
fn with_names(command: clap::Command) -> clap::Command {
    named(command, "")
}

fn named(command: clap::Command, around: &str) -> clap::Command {
    let with_candidates = |arg: clap::Arg| {
        let value = arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
        match value.as_deref().and_then(|value| Names::of_value(value, around)) {
            Some(names) => arg.add(ArgValueCandidates::new(move || candidates(names))),
            None => arg,
        }
    };
    let own = command.get_name().to_owned();
    command.mut_args(with_candidates).mut_subcommands(|inner| named(inner, &own))
}

fn candidates(names: Names) -> Vec<CompletionCandidate> {
    let peer = peer_of(std::env::args_os()).or_else(|| std::env::var_os("MLN_PEER").map(PathBuf::from));
    ask(names, peer).unwrap_or_default().into_iter().map(CompletionCandidate::new).collect()
}

/// Finds `--peer` on the line that is completed.
fn peer_of(line: impl IntoIterator<Item = OsString>) -> Option<PathBuf> {
    let mut words = line.into_iter();
    while let Some(word) = words.next() {
        if word == "--peer" {
            return words.next().map(PathBuf::from);
        }
        if let Some(path) = word.to_str().and_then(|word| word.strip_prefix("--peer=")) {
            return Some(PathBuf::from(path));
        }
    }
    None
}

fn ask(names: Names, peer: Option<PathBuf>) -> Option<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let agent = Agent::at(peer).ok()?;
    let screen = Screen::open(Output::Json);
    let request = names.request();
    let answer = runtime
        .block_on(async { tokio::time::timeout(NAMES_TIMEOUT, agent.ask(&request, &screen)).await })
        .ok()?
        .ok()?;
    Some(names.in_answer(&answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_that_is_asked_is_the_one_that_the_line_names() {
        let peer = |line: &str| peer_of(line.split(' ').map(OsString::from));
        assert_eq!(peer("mlnctl --peer /a/mlnd.sock start -p"), Some("/a/mlnd.sock".into()));
        assert_eq!(peer("mlnctl start --peer=/b/mlnd.sock -p"), Some("/b/mlnd.sock".into()));
        assert_eq!(peer("mlnctl start -p"), None);
    }

    #[test]
    fn arguments_that_take_names_are_known_by_their_values() {
        let command = with_names(Args::command());
        let start = command.find_subcommand("start").expect("a command");
        for (id, there) in [("project", true), ("host", true), ("pause_ms", false)] {
            let arg = start.get_arguments().find(|arg| arg.get_id() == id).expect("an argument");
            assert_eq!(arg.get::<ArgValueCandidates>().is_some(), there, "{id}");
        }
    }
}
