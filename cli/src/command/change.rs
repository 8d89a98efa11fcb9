//! What `upgrade`, `scale`, `rollback` and `resolve` have in common: the plan is shown, the question asked, then it is done.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args};
use mln_link::Request;
use mln_link::message::{
    Change, ChangeConsent, ChangeContent, KEEP_REMOVED_MS, LeftOut, PlanSign, ProjectRef, ProjectSelection,
    Start, Target,
};
use mln_protocol::id::Name;

use crate::conversation::{Agent, Answer};
use crate::error::{CommandError, UsageError};
use crate::exit::Exit;
use crate::quantity::parse_duration_ms;
use crate::ui::screen::Screen;

/// What is done to machines that stay, and stops them.
const STOPS: [&str; 3] = ["reboot", "rebuild", "move"];

/// How a change is made.
#[derive(Debug, Args)]
pub struct ChangeArgs {
    /// Don't ask whether to do it
    #[arg(short, long, env = "MLN_YES", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    yes: bool,
    /// Change what is there, also while most of the project's hosts are away; a change by most of them goes before it
    #[arg(long, env = "MLN_PARTIAL", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    partial: bool,
    /// Also if machines run that are left out: they are stopped
    #[arg(long, env = "MLN_FORCE", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    force: bool,
    /// Start the machines that are new
    #[arg(short = 'S', long = "start", env = "MLN_START", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    start: bool,
    /// Machines that must not be stopped: refuse what would do it
    #[arg(short, long, env = "MLN_LIVE", value_name = "HOST", value_delimiter = ':', value_parser = Name::parse)]
    live: Vec<Name>,
    /// For how long the disks of machines that are left out are kept: they come back with them, by rollback or when they
    /// are named again. 0 deletes them at once. What is left out already keeps the time that it was given [default: 7d]
    #[arg(long = "keep-removed", env = "MLN_KEEP_REMOVED", value_name = "TIME", value_parser = parse_duration_ms)]
    keep_removed_ms: Option<u64>,
    /// Why, for those who read the log
    #[arg(long, env = "MLN_REASON", value_name = "TEXT")]
    reason: Option<String>,
}

/// What is to be changed into what.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Which project; none is the one that the text names.
    pub project: Option<ProjectRef>,
    /// What it is to be.
    pub content: ChangeContent,
    /// Whose machines it goes on with.
    pub from_head: Option<String>,
    /// Why, where nobody says.
    pub reason: &'static str,
    /// The bytes of its files.
    pub bytes: &'a [u8],
    /// The file that they came with.
    pub path: PathBuf,
}

impl ChangeArgs {
    fn change(&self, wanted: &Wanted<'_>) -> Change {
        Change {
            project: wanted.project.clone(),
            content: wanted.content.clone(),
            consent: if self.partial { ChangeConsent::Partial } else { ChangeConsent::Majority },
            left_out: if self.force { LeftOut::Stop } else { LeftOut::Refuse },
            from_head: wanted.from_head.clone(),
            seen: None,
            reason: self.reason.clone().unwrap_or_else(|| wanted.reason.to_owned()),
            keep_removed_ms: self.keep_removed_ms.unwrap_or(KEEP_REMOVED_MS),
        }
    }
}

/// Shows what would come of a change, asks, and makes it.
pub async fn run(
    args: &ChangeArgs,
    wanted: Wanted<'_>,
    agent: &Agent,
    screen: &Screen,
) -> Result<Exit, CommandError> {
    let can_ask = std::io::stdin().is_terminal() && screen.asks();
    if !args.yes && !can_ask {
        return Err(CommandError::Usage(UsageError::NoTerminal { instead: "--yes" }));
    }
    let change = args.change(&wanted);
    let planned = send(&Request::Plan(change.clone()), &wanted, agent, screen).await?;
    screen.plan(&planned);
    let Some(plan) = &planned.plan else { return Ok(screen.outcome(&planned)) };
    if !planned.refusals.is_empty() || !planned.failures.is_empty() || !planned.silences.is_empty() {
        return Ok(screen.outcome(&planned));
    }
    if plan.hosts.is_empty() {
        if args.keep_removed_ms.is_some() {
            screen.notice(
                "--keep-removed is for what this change leaves out, which is nothing: a disk that is kept already keeps the \
                 time that it was given. `mlnctl gc` lists those; to give one another, name its machine again (upgrade), and \
                 leave it out anew",
            );
        }
        return Ok(screen.outcome(&planned));
    }
    let stopped = planned.plan_rows.iter().find(|row| {
        let goes = row.sign == PlanSign::Removed && row.key.is_none()
            || row.sign == PlanSign::Moved
            || STOPS.contains(&row.act.as_str());
        goes && row.kind == "host" && row.name.as_ref().is_some_and(|name| args.live.contains(name))
    });
    if let Some(name) = stopped.and_then(|row| row.name.clone()) {
        return Err(CommandError::NotLive { vm: name.to_string() });
    }
    if !args.yes && !screen.ask("make these changes?").map_err(CommandError::Terminal)? {
        screen.notice("nothing was changed");
        return Ok(Exit::Failed);
    }
    let seen = plan.head.as_ref().map(|head| head.digest.clone());
    let request = Request::Upgrade(Change { seen, ..change });
    let answer = send(&request, &wanted, agent, screen).await?;
    if let Some(revised) = &answer.revised {
        screen.revised(revised);
    }
    let new: Vec<Name> = planned
        .plan_rows
        .iter()
        .filter(|row| row.kind == "host" && row.key.is_none() && row.sign == PlanSign::Added)
        .filter_map(|row| row.name.clone())
        .collect();
    let is_done = answer.refusals.is_empty() && answer.failures.is_empty() && answer.silences.is_empty();
    if !(args.start && is_done) || new.is_empty() {
        return Ok(screen.outcome(&answer));
    }
    screen.troubles(&answer);
    let project = ProjectRef { owner: Some(plan.owner.clone()), project: plan.project.clone() };
    let target = Target { projects: ProjectSelection::One(project), vms: new };
    let started = agent.ask(&Request::Start(Start { target, pause_ms: 0 }), screen).await?;
    Ok(screen.outcome(&started))
}

async fn send(
    request: &Request,
    wanted: &Wanted<'_>,
    agent: &Agent,
    screen: &Screen,
) -> Result<Answer, CommandError> {
    send_with(request, &wanted.content, wanted.bytes, &wanted.path, agent, screen).await
}

/// Asks for something with the files that its content announces, if it does.
pub(super) async fn send_with(
    request: &Request,
    content: &ChangeContent,
    bytes: &[u8],
    path: &Path,
    agent: &Agent,
    screen: &Screen,
) -> Result<Answer, CommandError> {
    match content {
        ChangeContent::Text { .. } => agent.ask_with_file(request, bytes, path, screen).await,
        ChangeContent::Edited { .. } | ChangeContent::Revision(_) | ChangeContent::Head(_) => {
            agent.ask(request, screen).await
        }
    }
}
