//! `mlnctl snapshot`.

use clap::{Args, Subcommand};
use mln_link::Request;
use mln_link::message::{self, ProjectRef, SnapshotOrder};
use mln_protocol::id::Name;

use crate::conversation::Agent;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::ui::screen::Screen;
use crate::ui::snapshots;

/// The disks of a project's hosts at one instant.
#[derive(Debug, Subcommand)]
pub enum Snapshot {
    /// Take a snapshot: hosts that run are held still for a moment, and go on
    #[command(after_help = "Example: mlnctl snapshot take -p ring before-lab3")]
    Take(Named),
    /// List a project's snapshots
    #[command(after_help = "Example: mlnctl snapshot list -p ring")]
    List(Of),
    /// Give the hosts of a project the disks of a snapshot; they must be down
    #[command(after_help = "Example: mlnctl stop -p ring; mlnctl snapshot restore -p ring before-lab3")]
    Restore(Named),
    /// Remove a snapshot
    #[command(after_help = "Example: mlnctl snapshot rm -p ring before-lab3")]
    Rm(Named),
}

/// A project.
#[derive(Debug, Args)]
pub struct Of {
    /// The project: NAME, or OWNER/NAME
    #[arg(short, long, env = "MLN_PROJECT", value_parser = ProjectRef::parse)]
    project: ProjectRef,
}

/// A snapshot of a project.
#[derive(Debug, Args)]
pub struct Named {
    /// The project: NAME, or OWNER/NAME
    #[arg(short, long, env = "MLN_PROJECT", value_parser = ProjectRef::parse)]
    project: ProjectRef,
    /// The snapshot's name
    #[arg(value_name = "NAME", value_parser = Name::parse)]
    name: Name,
}

/// Takes, lists, restores or removes.
pub async fn run(args: Snapshot, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let (project, order) = match args {
        Snapshot::Take(Named { project, name }) => (project, SnapshotOrder::Take(name)),
        Snapshot::List(Of { project }) => (project, SnapshotOrder::List),
        Snapshot::Restore(Named { project, name }) => (project, SnapshotOrder::Restore(name)),
        Snapshot::Rm(Named { project, name }) => (project, SnapshotOrder::Remove(name)),
    };
    let done = match &order {
        SnapshotOrder::List => None,
        SnapshotOrder::Take(name) => Some(format!("{project}: snapshot {name} is taken")),
        SnapshotOrder::Restore(name) => {
            Some(format!("{project} has the disks of snapshot {name}; it is down still"))
        }
        SnapshotOrder::Remove(name) => Some(format!("{project}: snapshot {name} is removed")),
    };
    let answer = agent.ask(&Request::Snapshot(message::Snapshot { project, order }), screen).await?;
    let Some(done) = done else {
        let rows = &answer.snapshots;
        let is_known = answer.silences.is_empty() && answer.refusals.is_empty() && answer.failures.is_empty();
        // No line at all would say that there is no snapshot.
        let table = |layout| {
            if rows.is_empty() && !is_known { String::new() } else { snapshots::table(rows, layout) }
        };
        screen.answer(table, || snapshots::json(rows));
        return Ok(screen.troubles(&answer));
    };
    let exit = screen.outcome(&answer);
    if exit == Exit::Done {
        screen.notice(&done);
    }
    Ok(exit)
}
