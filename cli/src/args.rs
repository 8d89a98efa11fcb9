//! The command line. MLN's flags keep MLN's meaning: `-h` is a host of the project, help is `--help` alone.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Parser, Subcommand, ValueEnum};

use crate::command::{
    build::Build, completions::Completions, console::Console, cp::Cp, ctx::Ctx, daemon_status::DaemonStatus,
    doctor::Doctor, evacuate::Evacuate, events::Events, exec::Exec, export::Export, gc::Gc, grant::Grant,
    grant::Revoke, import::Import, key::Key, log::Log, logs::Logs, manual::Manual, migrate::Migrate,
    peers::Peers, plan::Plan, remove::Remove, resolve::Resolve, rollback::Rollback, scale::Scale,
    snapshot::Snapshot, ssh::Ssh, start::Start, status::Status, stop::Stop, takeover::Takeover,
    template::Template, token::Token, upgrade::Upgrade,
};
use crate::offline::Offline;

/// Groups of virtual machines over many hosts, without a master.
#[derive(Debug, Parser)]
#[command(name = "mlnctl", version = crate::version::VERSION, disable_help_flag = true)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Where and how, for every command.
    #[command(flatten)]
    pub global: Global,
}

/// What every command takes.
#[derive(Debug, clap::Args)]
pub struct Global {
    /// The agent to ask: a socket or data folder, a context, HOST[:PORT], or a multiaddress [default: the context in
    /// use, else this user's agent, else this machine's]
    #[arg(long, global = true, env = "MLN_PEER", value_name = "AGENT")]
    pub peer: Option<PathBuf>,
    /// How the answer is written
    #[arg(short, long, global = true, env = "MLN_OUTPUT", value_enum, default_value = "table")]
    pub output: Output,
    /// The same as -o json
    #[arg(long, global = true, env = "MLN_JSON", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    pub json: bool,
    /// MLN's folder of projects: refused, since the mesh holds the projects
    #[arg(short = 'P', global = true, hide = true, value_name = "FOLDER")]
    pub projects_folder: Option<String>,
    /// Print help
    #[arg(long, global = true, action = ArgAction::Help)]
    pub help: Option<bool>,
}

impl Global {
    /// Returns how the answer is written.
    pub fn output(&self) -> Output {
        if self.json { Output::Json } else { self.output }
    }
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs: one document for a table, one line per event for work.
    Json,
    /// The same, with documents as YAML.
    Yaml,
    /// The same, with documents as lines of values, the names of the fields first.
    Csv,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What needs a project file alone.
    #[command(flatten)]
    Offline(Offline),
    /// What an agent is asked for.
    #[command(flatten)]
    Online(Online),
    /// The meshes that you may ask over the network
    #[command(subcommand)]
    Ctx(Ctx),
    /// Print the public half of your key, which is made on first need
    Key(Key),
    /// Print what a shell needs to complete words, names of projects and hosts among them
    Completions(Completions),
    /// Write the manual pages
    #[command(hide = true)]
    Manual(Manual),
}

/// What an agent is asked for.
#[derive(Debug, Subcommand)]
pub enum Online {
    /// Build a project from a file: all of it, or nothing
    Build(Build),
    /// Say what would change, as the hosts see it, and change nothing
    Plan(Plan),
    /// Change a project to what its file says now
    Upgrade(Upgrade),
    /// Change how many hosts an enumeration of a project makes
    Scale(Scale),
    /// Move hosts of a project to another service host
    Migrate(Migrate),
    /// Move all that a service host carries to others, or back to it
    Evacuate(Evacuate),
    /// Go on with a host whose service host is gone, from a copy of its disk
    Takeover(Takeover),
    /// Change a project to what it was in an earlier revision
    Rollback(Rollback),
    /// Choose one of the revisions of a project that were made in part
    Resolve(Resolve),
    /// List the revisions of a project: who changed what, when and why
    Log(Log),
    /// Start a project's hosts
    Start(Start),
    /// Stop a project's hosts
    Stop(Stop),
    /// Remove a project with its disks
    Remove(Remove),
    /// List hosts, one per line, and whether they are up
    Status(Status),
    /// List the service hosts with what they carry
    #[command(name = "daemon_status", alias = "hosts", alias = "daemon-status")]
    DaemonStatus(DaemonStatus),
    /// List the projects
    List,
    /// Run a command in a host of a project
    Exec(Exec),
    /// Use the console of a host of a project; Ctrl-] leaves
    Console(Console),
    /// Show what a host of a project wrote to its console
    Logs(Logs),
    /// Copy files into a host of a project, or out of it
    Cp(Cp),
    /// Log in to a host of a project by ssh, without a network
    Ssh(Ssh),
    /// List the peers that the agent knows
    Peers(Peers),
    /// Invite others
    #[command(subcommand)]
    Token(Token),
    /// Let somebody do something, with their own key; or list who may do what
    Grant(Box<Grant>),
    /// Take grants back
    Revoke(Revoke),
    /// The images that disks start from
    #[command(subcommand)]
    Template(Template),
    /// Free what of the host's images nobody uses
    Gc(Gc),
    /// The disks of a project's hosts at one instant: take, list, restore, remove
    #[command(subcommand)]
    Snapshot(Snapshot),
    /// Write a whole project into one file: its text, and all of its disks at one instant
    Export(Export),
    /// Build a project from a file that export wrote, with the disks that it had
    Import(Import),
    /// Print the versions of mlnctl and of the agent
    Version,
    /// Show what happened in the mesh, and with --follow what happens
    Events(Events),
    /// Look for what is wrong with this machine, and say how to mend it
    Doctor(Doctor),
}

/// Parses a command line, the environment included.
///
/// The error is also how `--help` and `--version` come out.
pub fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Args, clap::Error> {
    Args::try_parse_from(line)
}

#[cfg(test)]
#[path = "args_test.rs"]
mod tests;
