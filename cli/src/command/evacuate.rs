//! `mlnctl evacuate`.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::Path;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args};
use mln_link::Request;
use mln_link::message::{
    self, Change, ChangeConsent, ChangeContent, Evacuation, EvacuationRow, KEEP_REMOVED_MS, LeftOut,
    ProjectRef,
};
use mln_protocol::id::Name;
use mln_protocol::plan::evacuation_reason;

use super::{change, migrate};
use crate::conversation::{Agent, Answer};
use crate::error::{CommandError, UsageError};
use crate::exit::Exit;
use crate::ui::screen::Screen;

/// The arguments of `evacuate`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples: mlnctl evacuate oslo\n          mlnctl evacuate oslo --yes --reason 'new disks'\n          mlnctl evacuate oslo --undo"
)]
pub struct Evacuate {
    /// The service host
    #[arg(value_name = "SERVICE_HOST", env = "MLN_SERVICE_HOST", value_parser = Name::parse)]
    host: Name,
    /// Bring back what was moved away from it
    #[arg(long, env = "MLN_UNDO", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    undo: bool,
    /// Don't ask whether to do it
    #[arg(short, long, env = "MLN_YES", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    yes: bool,
    /// Why, for those who read the log
    #[arg(long, env = "MLN_REASON", value_name = "TEXT")]
    reason: Option<String>,
}

/// One project's part of it.
struct Part {
    project: ProjectRef,
    change: Change,
}

/// Moves all that a service host carries to others, or back: a change for each project.
pub async fn run(args: Evacuate, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let can_ask = std::io::stdin().is_terminal() && screen.asks();
    if !args.yes && !can_ask {
        return Err(CommandError::Usage(UsageError::NoTerminal { instead: "--yes" }));
    }
    let direction = if args.undo { Evacuation::Back } else { Evacuation::Away };
    let request = Request::Evacuate(message::Evacuate { host: args.host.clone(), direction });
    let mut all = agent.ask(&request, screen).await?;
    let mut projects: BTreeMap<(Name, Name), Vec<EvacuationRow>> = BTreeMap::new();
    for row in std::mem::take(&mut all.evacuation) {
        projects.entry((row.owner.clone(), row.project.clone())).or_default().push(row);
    }
    let mut planned: Vec<Part> = Vec::new();
    for ((owner, name), rows) in projects {
        let project = ProjectRef { owner: Some(owner), project: name };
        let Some(content) = content(&project, &rows, agent, screen, &mut all).await? else { continue };
        let change = args.change(&project, content);
        let answer = send(&Request::Plan(change.clone()), &change, agent, screen).await?;
        screen.plan(&answer);
        let concerned = answer.plan.as_ref().is_some_and(|plan| !plan.hosts.is_empty());
        let seen = answer.plan.as_ref().and_then(|plan| plan.head.as_ref()).map(|head| head.digest.clone());
        if concerned && is_well(&answer) {
            planned.push(Part { project, change: Change { seen, ..change } });
        }
        add(&mut all, answer);
    }
    if planned.is_empty() {
        if is_well(&all) {
            let what = if args.undo { "nothing was moved away from it" } else { "nothing is on it" };
            screen.notice(&format!("{}: {what}", args.host));
        }
        return Ok(screen.outcome(&all));
    }
    let question = format!("make these changes, to {} projects?", planned.len());
    if !args.yes && !screen.ask(&question).map_err(CommandError::Terminal)? {
        screen.notice("nothing was changed");
        return Ok(Exit::Failed);
    }
    for part in planned {
        screen.notice(&format!("{}:", part.project));
        let answer = send(&Request::Upgrade(part.change.clone()), &part.change, agent, screen).await?;
        if let Some(revised) = &answer.revised {
            screen.revised(revised);
        }
        add(&mut all, answer);
    }
    Ok(screen.outcome(&all))
}

impl Evacuate {
    fn change(&self, project: &ProjectRef, content: ChangeContent) -> Change {
        let mut reason = evacuation_reason(&self.host);
        if self.undo {
            reason += " --undo";
        }
        if let Some(why) = &self.reason {
            reason += &format!(": {why}");
        }
        Change {
            project: Some(project.clone()),
            content,
            consent: ChangeConsent::Majority,
            left_out: LeftOut::Refuse,
            from_head: None,
            seen: None,
            reason,
            // It leaves none out.
            keep_removed_ms: KEEP_REMOVED_MS,
        }
    }
}

/// Returns what a project is to be: the revision before where that alone brings its hosts back, and else its text with
/// them elsewhere. None where the text can't be had, which is noted.
async fn content(
    project: &ProjectRef,
    rows: &[EvacuationRow],
    agent: &Agent,
    screen: &Screen,
    all: &mut Answer,
) -> Result<Option<ChangeContent>, CommandError> {
    if let Some(revision) = rows.first().and_then(|row| row.back_to.clone()) {
        return Ok(Some(ChangeContent::Revision(Some(revision))));
    }
    let answer = agent.ask(&Request::Definition(project.clone()), screen).await?;
    let Some(definition) = &answer.definition else {
        add(all, answer);
        return Ok(None);
    };
    let places: Vec<(&str, &str)> = rows.iter().map(|row| (row.vm.as_str(), row.to.as_str())).collect();
    let source = migrate::placed(definition, &places)?;
    Ok(Some(ChangeContent::Edited { source }))
}

async fn send(
    request: &Request,
    change: &Change,
    agent: &Agent,
    screen: &Screen,
) -> Result<Answer, CommandError> {
    change::send_with(request, &change.content, &[], Path::new(""), agent, screen).await
}

fn is_well(answer: &Answer) -> bool {
    answer.refusals.is_empty() && answer.failures.is_empty() && answer.silences.is_empty()
}

/// Adds what went wrong to what went wrong before.
fn add(all: &mut Answer, answer: Answer) {
    all.warnings.extend(answer.warnings);
    all.refusals.extend(answer.refusals);
    all.failures.extend(answer.failures);
    all.silences.extend(answer.silences);
}
