//! `mlnctl status`.

use std::collections::BTreeMap;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args, ValueEnum};
use mln_link::Request;
use mln_link::message::{
    Failure, GaugeRow, ProjectRef, ProjectSelection, StartupRow, StatusRow, StatusWait, Target, VmState,
    WaitFor,
};
use mln_protocol::id::Name;

use crate::conversation::Agent;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::quantity::parse_duration_ms;
use crate::ui::outside::Outside;
use crate::ui::screen::Screen;
use crate::ui::{change, json, rows};

/// The arguments of `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Only this project: NAME, or OWNER/NAME
    #[arg(short, long, env = "MLN_PROJECT", value_parser = ProjectRef::parse)]
    project: Option<ProjectRef>,
    /// Only this host of the project; may be repeated
    #[arg(short = 'h', long, env = "MLN_VM", value_name = "HOST", value_delimiter = ',', value_parser = Name::parse)]
    host: Vec<Name>,
    /// List only hosts that are up
    #[arg(short, long, env = "MLN_UP", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new(), conflicts_with = "down")]
    up: bool,
    /// List only hosts that are down
    #[arg(short, long, env = "MLN_DOWN", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    down: bool,
    /// List what the hosts measure, too: each gauge with its last values
    #[arg(long, env = "MLN_GAUGES", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    gauges: bool,
    /// Answer only once all hosts are so
    #[arg(long, env = "MLN_STATUS_WAIT", value_enum)]
    wait: Option<Wait>,
    /// How long to wait at most, in seconds
    #[arg(long = "timeout", env = "MLN_TIMEOUT", value_name = "SEC", requires = "wait", value_parser = parse_duration_ms)]
    timeout_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wait {
    Up,
    Down,
}

impl Status {
    fn target(&self) -> Target {
        let projects = match &self.project {
            Some(project) => ProjectSelection::One(project.clone()),
            None => ProjectSelection::All,
        };
        Target { projects, vms: self.host.clone() }
    }

    fn request(&self, wait: Option<Wait>) -> Request {
        let wait = wait.map(|wait| StatusWait {
            until: match wait {
                Wait::Up => WaitFor::Up,
                Wait::Down => WaitFor::Down,
            },
            timeout_ms: self.timeout_ms,
        });
        Request::Status(mln_link::message::Status { target: self.target(), wait })
    }

    /// Whether a VM is as it shall be: up, unless it was waited for the contrary.
    fn satisfied_by(&self, state: &VmState) -> bool {
        match self.wait {
            Some(Wait::Down) => matches!(state, VmState::Down { .. }),
            Some(Wait::Up) | None => matches!(state, VmState::Up),
        }
    }

    /// Whether a VM is listed. What is neither up nor down is listed as down: it doesn't serve.
    fn lists(&self, state: &VmState) -> bool {
        let is_up = matches!(state, VmState::Up);
        !(self.up && !is_up || self.down && is_up)
    }
}

/// Says which machines are waited for, and how each is; nothing where none is.
fn waited_for(args: &Status, rows: &[StatusRow]) -> Option<String> {
    let waited = rows.iter().filter(|row| !args.satisfied_by(&row.state));
    let names: Vec<String> =
        waited.map(|row| format!("{}/{} ({})", row.project, row.vm, row.state.word())).collect();
    rows::some_of(&names).map(|which| format!("waiting for {which}"))
}

/// Says which service hosts are off whose machines are waited for.
fn off(rows: &[StatusRow]) -> Vec<String> {
    let mut hosts: BTreeMap<&Name, Vec<&str>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.state == VmState::Unknown) {
        hosts.entry(&row.host).or_default().push(row.vm.as_str());
    }
    let line = |(host, vms): (&Name, Vec<&str>)| {
        format!(
            "{host} is off: nothing is heard of {} until it is back (--timeout SEC ends the wait)",
            vms.join(", ")
        )
    };
    hosts.into_iter().map(line).collect()
}

/// Says which of the machines that were waited for are up and not what they should be.
fn unready(rows: &[StartupRow]) -> Vec<Failure> {
    let failure = |row: &StartupRow| Failure {
        what: "waiting".to_owned(),
        host: None,
        vm: Some(row.vm.clone()),
        why: "it is up, and its startup lines failed".to_owned(),
        console_tail: Vec::new(),
        next: vec![format!("mlnctl logs {}/{}/{}", row.owner, row.project, row.vm)],
    };
    rows.iter().map(failure).collect()
}

/// Asks what the VMs measure that are listed: for people only where they want to see it. None where an agent is too old to
/// say.
async fn gauges(
    args: &Status,
    listed: &[&StatusRow],
    agent: &Agent,
    screen: &Screen,
) -> Result<Option<Vec<GaugeRow>>, CommandError> {
    if !args.gauges && !screen.is_for_programs() {
        return Ok(None);
    }
    if listed.iter().all(|row| row.state != VmState::Up) {
        return Ok(Some(Vec::new()));
    }
    match agent.ask(&Request::Gauges(args.target()), screen).await {
        Ok(answer) if answer.refusals.is_empty() && answer.failures.is_empty() => Ok(Some(answer.gauges)),
        // What was asked for is known; programs see that this isn't.
        Ok(_) | Err(_) if !args.gauges => Ok(None),
        Ok(answer) => {
            screen.troubles(&answer);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Lists VMs.
pub async fn run(args: Status, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let mut answer = match args.wait {
        None => agent.ask(&args.request(None), screen).await?,
        Some(wait) => {
            // For people: a program sees it in the answer.
            if !screen.is_for_programs() {
                let now = agent.ask(&args.request(None), screen).await?;
                waited_for(&args, &now.status).iter().for_each(|text| screen.notice(text));
                if wait == Wait::Up {
                    off(&now.status).iter().for_each(|text| screen.notice(text));
                }
            }
            agent.ask_told_at_once(&args.request(args.wait), screen).await?
        }
    };
    let satisfied = answer.status.iter().all(|row| args.satisfied_by(&row.state));
    let listed: Vec<&StatusRow> = answer.status.iter().filter(|row| args.lists(&row.state)).collect();
    let outside = Outside::of(&answer.outside).and_startup(&answer.startup);
    let unsettled = &answer.unsettled;
    let gauges = gauges(&args, &listed, agent, screen).await?;
    let known = gauges.as_deref();
    screen.answer(
        |layout| {
            rows::status(&listed, &outside, layout) + &rows::gauges(&listed, known.unwrap_or(&[]), layout)
        },
        || json::status(&listed, &outside, unsettled, known),
    );
    if args.gauges
        && let Some(text) = known.and_then(|known| rows::unmeasured(&listed, known))
    {
        screen.notice(&text);
    }
    answer.kept.iter().for_each(|row| screen.notice(&rows::kept_line(row)));
    let warnings: Vec<String> = unsettled.iter().flat_map(change::unsettled).collect();
    drop(listed);
    answer.warnings.extend(warnings);
    if args.wait == Some(Wait::Up) {
        answer.failures.extend(unready(&answer.startup));
    }
    Ok(match screen.troubles(&answer) {
        Exit::Done if !satisfied => Exit::Failed,
        exit => exit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It ended with 0, and only the table said so.
    #[test]
    fn who_waits_until_machines_are_up_is_told_of_startup_lines_that_failed() {
        let name = |text: &str| Name::parse(text).expect("a name");
        let row = StartupRow { owner: name("anna"), project: name("ring"), vm: name("router1") };
        assert_eq!(unready(&[]), []);
        let told = unready(&[row]);
        assert_eq!((told.len(), told[0].vm.as_ref()), (1, Some(&name("router1"))));
        assert_eq!(told[0].next, ["mlnctl logs anna/ring/router1"]);
        assert!(told[0].why.contains("startup lines failed"), "{}", told[0].why);
    }
}
