//! `mlnctl plan`.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args};
use mln_link::Request;
use mln_link::message::{Change, ChangeConsent, KEEP_REMOVED_MS, LeftOut};

use super::{change, upgrade};
use crate::conversation::Agent;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::offline::Variables;
use crate::ui::change as shown;
use crate::ui::screen::Screen;

/// The arguments of `plan`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: mlnctl plan -f ring.mln; echo $?\nExit code 0: nothing to do, 2: changes, 3: a host would refuse them."
)]
pub struct Plan {
    /// The project file
    #[arg(short, long, env = "MLN_FILE")]
    file: PathBuf,
    /// What could be changed without those hosts that are away
    #[arg(long, env = "MLN_PARTIAL", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    partial: bool,
    /// As if machines that run might be left out
    #[arg(long, env = "MLN_FORCE", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    force: bool,
    #[command(flatten)]
    variables: Variables,
}

/// Says what would change, as the hosts see it.
pub async fn run(args: Plan, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let Some((content, bytes)) = upgrade::read(&args.file, &args.variables, screen)? else {
        return Ok(Exit::Failed);
    };
    let request = Request::Plan(Change {
        project: None,
        content: content.clone(),
        consent: if args.partial { ChangeConsent::Partial } else { ChangeConsent::Majority },
        left_out: if args.force { LeftOut::Stop } else { LeftOut::Refuse },
        from_head: None,
        seen: None,
        reason: "plan".to_owned(),
        keep_removed_ms: KEEP_REMOVED_MS,
    });
    let answer = change::send_with(&request, &content, &bytes, &args.file, agent, screen).await?;
    if let Some(plan) = &answer.plan {
        screen.answer(|_| shown::plan(plan, &answer.plan_rows), || shown::plan_json(plan, &answer.plan_rows));
    }
    let changes = answer.plan.as_ref().is_some_and(|plan| !plan.hosts.is_empty());
    Ok(match screen.troubles(&answer) {
        Exit::Done if changes => Exit::Changes,
        exit => exit,
    })
}
