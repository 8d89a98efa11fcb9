//! `mlnctl daemon_status`.

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args};
use mln_link::Request;
use mln_protocol::id::Name;

use crate::conversation::Agent;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::ui::screen::Screen;
use crate::ui::{json, rows};

/// The arguments of `daemon_status`.
#[derive(Debug, Args)]
pub struct DaemonStatus {
    /// Only service hosts of this group
    #[arg(short, long, env = "MLN_GROUP", value_parser = Name::parse)]
    group: Option<Name>,
    /// Only the total
    #[arg(short, long, env = "MLN_SUMMARY", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    summary: bool,
}

/// Lists service hosts.
pub async fn run(args: DaemonStatus, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let answer = agent.ask(&Request::DaemonStatus { group: args.group }, screen).await?;
    let detail = if args.summary { rows::Detail::TotalOnly } else { rows::Detail::Hosts };
    screen.answer(
        |layout| rows::daemon_status(&answer.daemon_status, detail, layout),
        || json::daemon_status(&answer.daemon_status, detail),
    );
    Ok(screen.troubles(&answer))
}
