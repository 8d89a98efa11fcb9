//! `mlnctl doctor`: asks the agent about its machine; where there is none, `mlnd doctor` looks instead.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use mln_link::Request;
use mln_link::message::{AgentVersion, DoctorRow, Verdict};

use crate::conversation::{Agent, Answer};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::ui::screen::Screen;
use crate::ui::{json, rows};
use crate::version::VERSION;

/// The arguments of `doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example: mlnctl doctor

Ends with 0 where all is ok or a warning, and with 1 where something fails. Each line has an entry of its name in
docs/operations.md.")]
pub struct Doctor {}

/// What every data folder of a member has.
const IDENTITY: &str = "membership.toml";

/// How long the look without an agent may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(30);

/// Shows what is wrong with this machine.
pub async fn run(
    _: Doctor,
    peer: Option<&Path>,
    agent: &Agent,
    screen: &Screen,
) -> Result<Exit, CommandError> {
    let (mut found, asked) = match agent.ask(&Request::Version, screen).await {
        Ok(answer) => (presence(&answer), true),
        Err(error @ CommandError::Usage(_)) => return Err(error),
        Err(error) => (vec![absence(&error)], false),
    };
    let looked = if asked { agent.ask(&Request::Doctor, screen).await.ok() } else { None };
    match looked {
        Some(answer) if !answer.doctor.is_empty() => found.extend(answer.doctor),
        // No agent, or one that doesn't know the question.
        Some(_) | None => found.extend(look(&mlnd(), peer.and_then(data_folder)).await),
    }
    screen.answer(|layout| rows::doctor(&found, layout), || json::doctor(&found));
    let fails = found.iter().any(|row| row.verdict == Verdict::Fail);
    Ok(if fails { Exit::Failed } else { Exit::Done })
}

fn row(name: &str, verdict: Verdict, finding: String, fix: Option<&str>) -> DoctorRow {
    DoctorRow { name: name.to_owned(), verdict, finding, fix: fix.map(str::to_owned) }
}

/// Judges an agent that answers.
fn presence(answer: &Answer) -> Vec<DoctorRow> {
    if let Some(refusal) = answer.refusals.first() {
        let fix = "usermod -aG mln USER   # the group that its config.toml names in control_group";
        return vec![row("agent", Verdict::Fail, refusal.text.clone(), Some(fix))];
    }
    let Some(version) = &answer.version else {
        let finding = "it answers, and doesn't say who it is".to_owned();
        return vec![row("agent", Verdict::Fail, finding, Some("systemctl restart mlnd"))];
    };
    vec![row("agent", Verdict::Ok, format!("{} answers", version.host), None), same_version(version)]
}

fn same_version(agent: &AgentVersion) -> DoctorRow {
    if agent.agent == VERSION {
        return row("version", Verdict::Ok, VERSION.to_owned(), None);
    }
    let finding = format!("the agent runs {}, this mlnctl is {VERSION}", agent.agent);
    row("version", Verdict::Warn, finding, Some("systemctl restart mlnd"))
}

/// Judges that no agent can be asked.
fn absence(error: &CommandError) -> DoctorRow {
    match error {
        CommandError::NoAgent(_) => row("agent", Verdict::Warn, error.to_string(), Some("mlnd run")),
        CommandError::NotPermitted(_) => {
            let fix = "usermod -aG mln USER   # then log in again";
            row("agent", Verdict::Fail, error.to_string(), Some(fix))
        }
        other => row("agent", Verdict::Fail, other.to_string(), Some("systemctl restart mlnd")),
    }
}

/// Returns where the agent's program is: beside this one, or on the path.
fn mlnd() -> PathBuf {
    let beside = std::env::current_exe().ok().map(|program| program.with_file_name("mlnd"));
    beside.filter(|program| program.is_file()).unwrap_or_else(|| PathBuf::from("mlnd"))
}

/// Returns the data folder of an agent of this machine that was named: itself, or by its socket in it.
fn data_folder(peer: &Path) -> Option<&Path> {
    if peer.is_dir() { Some(peer) } else { peer.parent().filter(|folder| folder.join(IDENTITY).exists()) }
}

/// Has the agent's program look at the machine, without an agent.
async fn look(program: &Path, data: Option<&Path>) -> Vec<DoctorRow> {
    let mut command = tokio::process::Command::new(program);
    if let Some(data) = data {
        command.env("MLN_DATA", data);
    }
    command.arg("doctor").stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let failed = |why: String| {
        let finding = format!("{} doctor: {why}", program.display());
        vec![row("configuration", Verdict::Fail, finding, Some("apt-get install mln"))]
    };
    match tokio::time::timeout(LOOK_TIMEOUT, command.output()).await {
        Err(_) => failed(format!("not within {} s", LOOK_TIMEOUT.as_secs())),
        Ok(Err(error)) => failed(error.to_string()),
        Ok(Ok(output)) => {
            let text = String::from_utf8_lossy(&output.stdout);
            let rows: Vec<DoctorRow> = text.lines().filter_map(DoctorRow::from_json_line).collect();
            if rows.is_empty() { failed(format!("ended with {}", output.status)) } else { rows }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mln_link::message::DOCTOR_CHECKS;
    use mln_protocol::id::Name;

    fn version(agent: &str) -> AgentVersion {
        let host = Name::parse("oslo").expect("a name");
        AgentVersion { agent: agent.to_owned(), host, key: String::new(), mesh: String::new() }
    }

    #[test]
    fn an_agent_of_another_version_is_a_warning() {
        assert_eq!(same_version(&version(VERSION)).verdict, Verdict::Ok);
        let other = same_version(&version("0.0.1"));
        assert_eq!(other.verdict, Verdict::Warn);
        assert!(other.finding.contains("0.0.1") && other.fix.is_some(), "{other:?}");
    }

    #[test]
    fn no_agent_is_a_warning_and_a_locked_door_a_failure() {
        let socket = PathBuf::from("/nowhere/mlnd.sock");
        let none = absence(&CommandError::NoAgent(vec![socket.clone()]));
        assert_eq!((none.verdict, none.fix.as_deref()), (Verdict::Warn, Some("mlnd run")));
        assert_eq!(absence(&CommandError::NotPermitted(socket)).verdict, Verdict::Fail);
        assert!(DOCTOR_CHECKS.contains(&none.name.as_str()) && DOCTOR_CHECKS.contains(&"version"));
    }

    #[tokio::test]
    async fn a_machine_without_the_program_is_told_so() {
        let rows = look(Path::new("/nowhere/mlnd"), None).await;
        assert!(rows.len() == 1 && rows[0].verdict == Verdict::Fail, "{rows:?}");
    }
}
