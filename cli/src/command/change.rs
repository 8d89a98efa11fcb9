//! What `upgrade`, `scale`, `rollback` and `resolve` have in common: the plan is shown, the question asked, then it is done.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args};
use mln_link::Request;
use mln_link::message::{
    Bandwidth, Change, ChangeConsent, ChangeContent, KEEP_REMOVED_MS, LeftOut, PlanRow, PlanSign, ProjectRef,
    ProjectSelection, Start, Target,
};
use mln_protocol::id::Name;
use mln_protocol::model::Rate;

use crate::conversation::{Agent, Answer};
use crate::error::{CommandError, Stop, UsageError};
use crate::exit::Exit;
use crate::quantity::parse_duration_ms;
use crate::ui::screen::Screen;

/// What is done to machines that stay, and stops them, or may.
const STOPS: [&str; 4] = [UNSURE, "reboot", "rebuild", MOVE];
/// What may stop one, or not: only doing it tells.
const UNSURE: &str = "live-or-reboot";
/// What takes one to another host.
const MOVE: &str = "move";

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
    /// Machines that must not be stopped: refuse what would do it, or may
    #[arg(short, long, env = "MLN_LIVE", value_name = "HOST", value_delimiter = ':', value_parser = Name::parse)]
    live: Vec<Name>,
    /// For how long the disks of machines that are left out are kept: they come back with them, by rollback or when they
    /// are named again. 0 deletes them at once. What is left out already keeps the time that it was given [default: 7d]
    #[arg(long = "keep-removed", env = "MLN_KEEP_REMOVED", value_name = "TIME", value_parser = parse_duration_ms)]
    keep_removed_ms: Option<u64>,
    /// How fast the disks that move may leave their hosts, such as 10Mbit; the hosts' own limits hold besides. It is told to the
    /// agents that have them, and forgotten where one is restarted
    #[arg(long, env = "MLN_BANDWIDTH", value_name = "RATE", value_parser = parse_rate)]
    bandwidth: Option<Rate>,
    /// Why, for those who read the log
    #[arg(long, env = "MLN_REASON", value_name = "TEXT")]
    reason: Option<String>,
}

/// Parses a rate of the command line.
pub fn parse_rate(text: &str) -> Result<Rate, String> {
    Rate::parse(text)
        .ok_or_else(|| format!("expected a rate such as 10Mbit, from {} to {}", Rate::MIN, Rate::MAX))
}

/// Tells the hosts that have the disks how fast these may leave, or that this is over; a change that moves none has nobody to
/// tell.
async fn tell_bandwidth(
    rate: Option<Rate>,
    planned: &Answer,
    agent: &Agent,
    screen: &Screen,
) -> Result<Answer, CommandError> {
    let moved = |row: &&PlanRow| row.sign == PlanSign::Moved && row.kind == "host";
    let vms: BTreeSet<Name> =
        planned.plan_rows.iter().filter(moved).filter_map(|row| row.name.clone()).collect();
    let (Some(plan), false) = (&planned.plan, vms.is_empty()) else { return Ok(Answer::default()) };
    let project = ProjectRef { owner: Some(plan.owner.clone()), project: plan.project.clone() };
    let bits_per_s = rate.map(Rate::bits_per_s);
    let wanted = Bandwidth { project, vms: vms.into_iter().collect(), bits_per_s };
    agent.ask(&Request::Bandwidth(wanted), screen).await
}

/// Makes a change that was planned, having told the hosts how fast disks may leave them; they forget it where it comes to
/// nothing.
pub(super) async fn make_at(
    rate: Option<Rate>,
    planned: &Answer,
    change: impl Future<Output = Result<Answer, CommandError>>,
    agent: &Agent,
    screen: &Screen,
) -> Result<Answer, CommandError> {
    if rate.is_none() {
        return change.await;
    }
    let told = tell_bandwidth(rate, planned, agent, screen).await?;
    if !told.refusals.is_empty() || !told.failures.is_empty() {
        return Ok(told);
    }
    told.warnings.iter().for_each(|text| screen.notice(text));
    let answer = change.await?;
    if !answer.refusals.is_empty() {
        // Where that can't be said, it holds until they move, or an agent is restarted.
        let _ = tell_bandwidth(None, planned, agent, screen).await;
    }
    Ok(answer)
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
    if let Some((row, name)) = stopped.and_then(|row| Some((row, row.name.as_ref()?))) {
        let by = match (row.sign, row.act.as_str()) {
            (_, UNSURE) => Stop::MayReboot,
            (PlanSign::Removed, _) if row.key.is_none() => Stop::Removal,
            (PlanSign::Moved, _) | (_, MOVE) => Stop::Move,
            (PlanSign::Added | PlanSign::Removed | PlanSign::Changed, _) => Stop::Reboot,
        };
        return Err(CommandError::NotLive { vm: name.to_string(), by });
    }
    // Before the question: whoever says yes has read them.
    screen.warnings(&planned.warnings);
    if !args.yes && !screen.ask("make these changes?").map_err(CommandError::Terminal)? {
        screen.notice("nothing was changed");
        return Ok(Exit::Failed);
    }
    let seen = plan.head.as_ref().map(|head| head.digest.clone());
    let request = Request::Upgrade(Change { seen, ..change });
    let made = send(&request, &wanted, agent, screen);
    let mut answer = make_at(args.bandwidth, &planned, made, agent, screen).await?;
    answer.warnings.retain(|text| !planned.warnings.contains(text));
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
