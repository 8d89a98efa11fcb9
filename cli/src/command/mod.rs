//! A file per command: its arguments, its request, and what its answer is shown as.

pub mod build;
pub mod change;
pub mod completions;
mod confirm;
pub mod console;
pub mod cp;
pub mod ctx;
pub mod daemon_status;
pub mod doctor;
pub mod evacuate;
pub mod events;
pub mod exec;
pub mod export;
pub mod gc;
pub mod grant;
pub mod import;
pub mod key;
pub mod list;
pub mod log;
pub mod logs;
pub mod manual;
pub mod migrate;
pub mod peers;
pub mod plan;
pub mod remove;
pub mod resolve;
pub mod rollback;
pub mod scale;
pub mod show;
pub mod snapshot;
pub mod ssh;
pub mod start;
pub mod status;
pub mod stop;
pub mod takeover;
pub mod target;
pub mod template;
mod terminal;
pub mod token;
pub mod upgrade;
pub mod version;

use std::path::Path;

use mln_link::message::ProjectRef;

use crate::args::{Args, Command, Online, Output};
use crate::conversation::Agent;
use crate::error::{CommandError, UsageError};
use crate::exit::Exit;
use crate::offline;
use crate::ui::screen::Screen;

/// Carries out a command and returns how `mlnctl` ends.
pub fn run(args: Args) -> Exit {
    let Args { command, global } = args;
    let screen = Screen::open(global.output());
    if let Some(folder) = global.projects_folder {
        return report(&screen, &CommandError::Usage(UsageError::ProjectsFolder(folder)));
    }
    let command = match command {
        Command::Offline(offline) => match offline.of_mesh() {
            Some((project, form)) => Asking::Show(project, form),
            None if matches!(global.output(), Output::Yaml | Output::Csv) => {
                return report(&screen, &CommandError::Usage(UsageError::FormOfAgents));
            }
            None => return Exit::of_offline(offline::run(&offline, global.output() == Output::Json)),
        },
        Command::Completions(args) => return completions::run(&args),
        Command::Manual(args) => return manual::run(&args),
        Command::Key(args) if args.is_of_host() => Asking::ConfirmKey,
        Command::Key(args) => {
            return key::run(&args, &screen).unwrap_or_else(|error| report(&screen, &error));
        }
        Command::Online(Online::Import(args)) if args.only_checks() => {
            return import::check(&args, &screen).unwrap_or_else(|error| report(&screen, &error));
        }
        Command::Ctx(ctx) => Asking::Ctx(ctx),
        Command::Online(online) => Asking::Agent(Box::new(online)),
    };
    // One connection is served: more threads than this one would only cost time to start.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&screen, &CommandError::Terminal(error)),
    };
    let exit = match command {
        Asking::Ctx(ctx) => runtime.block_on(ctx::run(ctx, &screen)),
        Asking::Show(project, form) => match Agent::at(global.peer.clone()) {
            Ok(agent) => runtime.block_on(show::run(project, form, &agent, &screen)),
            Err(error) => Err(error),
        },
        Asking::ConfirmKey => match Agent::at(global.peer.clone()) {
            Ok(agent) => runtime.block_on(confirm::run(&agent, &screen)),
            Err(error) => Err(error),
        },
        Asking::Agent(online) => match Agent::at(global.peer.clone()) {
            Ok(agent) => runtime.block_on(dispatch(*online, global.peer.as_deref(), &agent, &screen)),
            Err(error) => Err(error),
        },
    };
    // A read of standard input may be under way; nobody waits for it any more.
    runtime.shutdown_background();
    exit.unwrap_or_else(|error| report(&screen, &error))
}

/// What is asked of somebody else.
enum Asking {
    /// For a grant, with a token; or about contexts.
    Ctx(ctx::Ctx),
    /// An agent, for what a project was submitted as.
    Show(ProjectRef, offline::ShowForm),
    /// An agent, to go on as the right one of those with its host's key.
    ConfirmKey,
    /// An agent, for anything.
    Agent(Box<Online>),
}

fn report(screen: &Screen, error: &CommandError) -> Exit {
    screen.error(error);
    error.exit()
}

async fn dispatch(
    command: Online,
    peer: Option<&Path>,
    agent: &Agent,
    screen: &Screen,
) -> Result<Exit, CommandError> {
    match command {
        Online::Build(args) => build::run(args, agent, screen).await,
        Online::Plan(args) => plan::run(args, agent, screen).await,
        Online::Upgrade(args) => upgrade::run(args, agent, screen).await,
        Online::Scale(args) => scale::run(args, agent, screen).await,
        Online::Migrate(args) => migrate::run(args, agent, screen).await,
        Online::Evacuate(args) => evacuate::run(args, agent, screen).await,
        Online::Takeover(args) => takeover::run(args, agent, screen).await,
        Online::Rollback(args) => rollback::run(args, agent, screen).await,
        Online::Resolve(args) => resolve::run(args, agent, screen).await,
        Online::Log(args) => log::run(args, agent, screen).await,
        Online::Start(args) => start::run(args, agent, screen).await,
        Online::Stop(args) => stop::run(args, agent, screen).await,
        Online::Remove(args) => remove::run(args, agent, screen).await,
        Online::Status(args) => status::run(args, agent, screen).await,
        Online::DaemonStatus(args) => daemon_status::run(args, agent, screen).await,
        Online::List => list::run(agent, screen).await,
        Online::Exec(args) => exec::run(args, agent, screen).await,
        Online::Console(args) => console::run(args, agent, screen).await,
        Online::Logs(args) => logs::run(args, agent, screen).await,
        Online::Cp(args) => cp::run(args, agent, screen).await,
        Online::Ssh(args) => ssh::run(args, peer, agent, screen).await,
        Online::Peers(args) => peers::run(args, agent, screen).await,
        Online::Token(args) => token::run(args, agent, screen).await,
        Online::Grant(args) => grant::run(*args, agent, screen).await,
        Online::Revoke(args) => grant::revoke(args, agent, screen).await,
        Online::Template(args) => template::run(args, agent, screen).await,
        Online::Gc(args) => gc::run(args, agent, screen).await,
        Online::Snapshot(args) => snapshot::run(args, agent, screen).await,
        Online::Export(args) => export::run(args, agent, screen).await,
        Online::Import(args) => import::run(args, agent, screen).await,
        Online::Version => version::run(agent, screen).await,
        Online::Events(args) => events::run(args, agent, screen).await,
        Online::Doctor(args) => doctor::run(args, peer, agent, screen).await,
    }
}
