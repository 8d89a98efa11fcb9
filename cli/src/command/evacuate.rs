//! `mlnctl evacuate`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::path::Path;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args};
use mln_link::Request;
use mln_link::message::{
    self, Change, ChangeConsent, ChangeContent, EvacuateBut, Evacuation, EvacuationRefused, EvacuationRow,
    KEEP_REMOVED_MS, LeftOut, ProjectRef,
};
use mln_protocol::id::Name;
use mln_protocol::model::Rate;
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
    /// How fast the disks that move may leave their hosts, such as 10Mbit; the hosts' own limits hold besides
    #[arg(long, env = "MLN_BANDWIDTH", value_name = "RATE", value_parser = change::parse_rate)]
    bandwidth: Option<Rate>,
    /// Why, for those who read the log
    #[arg(long, env = "MLN_REASON", value_name = "TEXT")]
    reason: Option<String>,
}

/// How often hosts that say no are passed over, and others are tried.
const ROUNDS_MAX: usize = 8;

/// One project's part of it.
struct Part {
    project: ProjectRef,
    change: Change,
    /// Where its VMs go.
    targets: BTreeSet<Name>,
    /// What would come of it.
    plan: Answer,
}

/// What one round of planning has led to.
#[derive(Default)]
struct Round {
    /// The projects that can be moved.
    planned: Vec<Part>,
    /// What else was said.
    said: Answer,
    /// The hosts that have said no.
    refused: BTreeSet<EvacuationRefused>,
}

/// Moves all that a service host carries to others, or back: a change for each project.
///
/// A host that says no to its part is passed over, and another one is tried for that project.
pub async fn run(args: Evacuate, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let can_ask = std::io::stdin().is_terminal() && screen.asks();
    if !args.yes && !can_ask {
        return Err(CommandError::Usage(UsageError::NoTerminal { instead: "--yes" }));
    }
    let mut refused = BTreeSet::new();
    let mut all = Answer::default();
    let mut any = false;
    for round in 1..=ROUNDS_MAX {
        let Round { planned, said, refused: more } = args.plan(&refused, agent, screen).await?;
        if is_new(&more, &refused) && round < ROUNDS_MAX {
            say_passed_over(&said, screen);
            refused.extend(more);
            continue;
        }
        add(&mut all, said);
        if planned.is_empty() {
            break;
        }
        any = true;
        for part in &planned {
            screen.plan(&part.plan);
            all.warnings.extend(part.plan.warnings.iter().cloned());
        }
        let question = format!("make these changes, to {} projects?", planned.len());
        if !args.yes && !screen.ask(&question).map_err(CommandError::Terminal)? {
            screen.notice("nothing was changed");
            return Ok(Exit::Failed);
        }
        let mut late = Answer::default();
        let mut more = BTreeSet::new();
        for part in planned {
            screen.notice(&format!("{}:", part.project));
            let request = Request::Upgrade(part.change.clone());
            let made = send(&request, &part.change, agent, screen);
            let answer = change::make_at(args.bandwidth, &part.plan, made, agent, screen).await?;
            if let Some(revised) = &answer.revised {
                screen.revised(revised);
            }
            more.extend(args.passed_over(&part.project, &part.targets, &answer));
            add(&mut late, answer);
        }
        // What has moved is no longer on the host: the next round is about the rest.
        if !is_new(&more, &refused) || round == ROUNDS_MAX {
            add(&mut all, late);
            break;
        }
        say_passed_over(&late, screen);
        refused.extend(more);
        all = Answer::default();
    }
    if !any && is_well(&all) {
        let what = if args.undo { "nothing was moved away from it" } else { "nothing is on it" };
        screen.notice(&format!("{}: {what}", args.host));
    }
    Ok(screen.outcome(&all))
}

fn is_new(more: &BTreeSet<EvacuationRefused>, known: &BTreeSet<EvacuationRefused>) -> bool {
    more.iter().any(|refused| !known.contains(refused))
}

/// Says who has said no, and that another host is tried.
fn say_passed_over(said: &Answer, screen: &Screen) {
    for (host, why) in objections(said) {
        screen.notice(&format!("{host}: {why}; another host is tried"));
    }
}

/// Returns the hosts that have said no, or nothing, each with why.
fn objections(answer: &Answer) -> impl Iterator<Item = (&Name, &str)> {
    let refusals = answer.refusals.iter().filter_map(|said| Some((said.host.as_ref()?, said.text.as_str())));
    refusals.chain(answer.silences.iter().map(|silence| (&silence.host, silence.text.as_str())))
}

impl Evacuate {
    /// Has every project planned on its own.
    async fn plan(
        &self,
        refused: &BTreeSet<EvacuationRefused>,
        agent: &Agent,
        screen: &Screen,
    ) -> Result<Round, CommandError> {
        let host = self.host.clone();
        let request = if self.undo {
            Request::Evacuate(message::Evacuate { host, direction: Evacuation::Back })
        } else if refused.is_empty() {
            Request::Evacuate(message::Evacuate { host, direction: Evacuation::Away })
        } else {
            Request::EvacuateBut(EvacuateBut { host, refused: refused.iter().cloned().collect() })
        };
        let mut round = Round { said: agent.ask(&request, screen).await?, ..Round::default() };
        let mut projects: BTreeMap<(Name, Name), Vec<EvacuationRow>> = BTreeMap::new();
        for row in std::mem::take(&mut round.said.evacuation) {
            projects.entry((row.owner.clone(), row.project.clone())).or_default().push(row);
        }
        for ((owner, name), rows) in projects {
            let project = ProjectRef { owner: Some(owner), project: name };
            let Some(content) = content(&project, &rows, agent, screen, &mut round.said).await? else {
                continue;
            };
            let change = self.change(&project, content);
            let answer = send(&Request::Plan(change.clone()), &change, agent, screen).await?;
            let targets: BTreeSet<Name> = rows.into_iter().map(|row| row.to).collect();
            round.refused.extend(self.passed_over(&project, &targets, &answer));
            let plan = answer.plan.as_ref().filter(|plan| !plan.hosts.is_empty());
            match plan.filter(|_| is_well(&answer)) {
                Some(plan) => {
                    let seen = plan.head.as_ref().map(|head| head.digest.clone());
                    let change = Change { seen, ..change };
                    round.planned.push(Part { project, change, targets, plan: answer });
                }
                None => add(&mut round.said, answer),
            }
        }
        Ok(round)
    }

    /// Returns the hosts that have said no to what of a project was to come to them.
    fn passed_over(
        &self,
        project: &ProjectRef,
        targets: &BTreeSet<Name>,
        answer: &Answer,
    ) -> Vec<EvacuationRefused> {
        let Some(owner) = project.owner.as_ref().filter(|_| !self.undo) else { return Vec::new() };
        let by = objections(answer).map(|(host, _)| host).filter(|host| targets.contains(*host));
        by.map(|by| EvacuationRefused {
            owner: owner.clone(),
            project: project.project.clone(),
            by: by.clone(),
        })
        .collect()
    }

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
