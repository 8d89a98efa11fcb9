//! Running a project's hooks: shell lines on this host, for owners whom its configuration names.
//!
//! Each project has a folder of its own, in which they run, and which keeps what each of them printed last. Whether one is
//! to be run was decided before.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mln_protocol::id::{Label, Name};
use mln_protocol::model::HookPoint;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::sync::Semaphore;
use tracing::{info, warn};

use crate::holder::files::{PRIVATE_FOLDER, create};
use crate::process_end::end_of;

/// How long a hook may take.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// How many hooks run at once; others wait for them.
const RUNNING_MAX: usize = 4;
/// What is kept of a hook's output, in bytes.
const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// How many of its last lines go with a failure.
const LINES_TOLD: usize = 5;
/// How long the output of a shell that has ended is waited for: what it left in the background may keep it open.
const OUTPUT_GRACE: Duration = Duration::from_millis(200);
/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a hook failed. What it did before that is done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    /// It could not be run.
    #[error("it can't be run in {}", folder.display())]
    Run {
        /// Its folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It took too long, and was killed.
    #[error("it did not end within {} s, and was killed{}", limit.as_secs(), told(last))]
    TimeLimit {
        /// How long it may take.
        limit: Duration,
        /// The last that it printed.
        last: String,
    },
    /// It said that it failed.
    #[error("it ended with {end}{}", told(last))]
    Ended {
        /// How.
        end: String,
        /// The last that it printed.
        last: String,
    },
}

fn told(last: &str) -> String {
    if last.is_empty() { String::new() } else { format!(": {last}") }
}

/// Runs hooks.
#[derive(Clone, Debug)]
pub(crate) struct HookRunner {
    folder: PathBuf,
    host: Name,
    time_limit: Duration,
    running: Arc<Semaphore>,
}

impl HookRunner {
    /// Makes one that keeps its folders in an agent's data folder.
    pub(crate) fn new(data: &Path, host: Name) -> Self {
        let running = Arc::new(Semaphore::new(RUNNING_MAX));
        Self { folder: data.join("hooks"), host, time_limit: TIME_LIMIT, running }
    }

    /// Runs lines as one script; its status is that of the last command, or of `exit`.
    pub(crate) async fn run(
        &self,
        label: &Label,
        point: HookPoint,
        lines: &[String],
    ) -> Result<(), HookError> {
        // It is never closed.
        let _turn = self.running.acquire().await;
        let folder = self.folder.join(label.owner.as_str()).join(label.project.as_str());
        info!(%label, hook = point.keyword(), "is run");
        let failed = |source| HookError::Run { folder: folder.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(PRIVATE_FOLDER).create(&folder).map_err(failed)?;
        let (reader, writer) = io::pipe().map_err(failed)?;
        let mut child = Command::new("/bin/sh")
            .args(["-c", &lines.join("\n"), point.keyword()])
            .current_dir(&folder)
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", &folder)
            .env("LC_ALL", "C.UTF-8")
            .env("MLN_PROJECT", label.project.as_str())
            .env("MLN_OWNER", label.owner.as_str())
            .env("MLN_HOST", self.host.as_str())
            .env("MLN_HOOK", point.keyword())
            .stdin(Stdio::null())
            .stdout(writer.try_clone().map_err(failed)?)
            .stderr(writer)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let output = Arc::new(Mutex::new(Vec::new()));
        let mut reading = tokio::spawn(read(reader, output.clone()));
        let status = match tokio::time::timeout(self.time_limit, child.wait()).await {
            Ok(status) => Some(status.map_err(failed)?),
            Err(_) => {
                if let Some(group) = group {
                    // Its leader is not waited for yet, so the number is still its own.
                    let _ = kill_process_group(group, Signal::KILL);
                }
                let _ = child.wait().await;
                None
            }
        };
        if tokio::time::timeout(OUTPUT_GRACE, &mut reading).await.is_err() {
            // What it left in the background is heard no longer, and what was said until now is kept.
            reading.abort();
        }
        let output = std::mem::take(&mut *output.lock().unwrap_or_else(PoisonError::into_inner));
        let log = folder.join(format!("{}.log", point.keyword()));
        if let Err(error) = create(&log).and_then(|mut file| io::Write::write_all(&mut file, &output)) {
            warn!(log = %log.display(), %error, "the output of a hook is not kept");
        }
        let last = last_lines(&output);
        match status {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(HookError::Ended { end: ending(status), last }),
            None => Err(HookError::TimeLimit { limit: self.time_limit, last }),
        }
    }
}

fn ending(status: std::process::ExitStatus) -> String {
    match end_of(status) {
        mln_protocol::wire::line::EndWire::Exited(code) => format!("status {code}"),
        mln_protocol::wire::line::EndWire::Signalled(signal) => format!("signal {signal}"),
    }
}

/// Reads all output; what is more than is kept is read and dropped, so that nobody waits.
async fn read(pipe: io::PipeReader, output: Arc<Mutex<Vec<u8>>>) {
    let Ok(mut pipe) = tokio::net::unix::pipe::Receiver::from_owned_fd(pipe.into()) else { return };
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
        let room = OUTPUT_BYTES_MAX.saturating_sub(output.len());
        output.extend_from_slice(&buffer[..count.min(room)]);
    }
}

fn last_lines(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LINES_TOLD)..].join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runner(data: &Path, time_limit: Duration) -> HookRunner {
        let host = Name::parse("oslo").expect("a name");
        HookRunner { time_limit, ..HookRunner::new(data, host) }
    }

    async fn run(runner: &HookRunner, lines: &[&str]) -> Result<(), String> {
        let name = |text| Name::parse(text).expect("a name");
        let label = Label { owner: name("anna"), project: name("shop") };
        let lines: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
        let result = runner.run(&label, HookPoint::BeforeProjectStart, &lines).await;
        result.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_hook_knows_what_it_is_run_for_and_what_it_prints_is_kept() {
        let data = tempfile::tempdir().expect("a folder");
        let runner = runner(data.path(), TIME_LIMIT);
        let lines = ["X=1", "echo $MLN_OWNER/$MLN_PROJECT on $MLN_HOST $MLN_HOOK $X", "pwd >here"];
        assert_eq!(run(&runner, &lines).await, Ok(()));
        let folder = data.path().join("hooks/anna/shop");
        let log = fs::read_to_string(folder.join("beforeProjectStart.log")).expect("is kept");
        assert_eq!(log, "anna/shop on oslo beforeProjectStart 1\n");
        assert!(folder.join("here").exists());
    }

    #[tokio::test]
    async fn a_hook_that_fails_says_how_and_what_it_said_last() {
        let data = tempfile::tempdir().expect("a folder");
        let runner = runner(data.path(), TIME_LIMIT);
        let failed = run(&runner, &["echo out; echo no bridge >&2", "exit 3", "echo never"]).await;
        assert_eq!(failed, Err("it ended with status 3: out / no bridge".to_owned()));
    }

    #[tokio::test]
    async fn a_hook_that_does_not_end_is_killed_with_all_that_it_has_started() {
        let data = tempfile::tempdir().expect("a folder");
        let runner = runner(data.path(), Duration::from_millis(200));
        let failed = run(&runner, &["echo waiting; sleep 1000; true"]).await;
        assert!(failed.expect_err("is killed").contains("and was killed: waiting"));
    }

    #[tokio::test]
    async fn output_without_end_holds_up_nobody() {
        let data = tempfile::tempdir().expect("a folder");
        let runner = runner(data.path(), TIME_LIMIT);
        assert_eq!(run(&runner, &["head -c 1000000 /dev/zero"]).await, Ok(()));
        let log = data.path().join("hooks/anna/shop/beforeProjectStart.log");
        assert_eq!(fs::metadata(log).expect("is kept").len(), OUTPUT_BYTES_MAX as u64);
    }

    #[tokio::test]
    async fn what_is_left_in_the_background_takes_nothing_of_what_was_said() {
        let data = tempfile::tempdir().expect("a folder");
        let runner = runner(data.path(), TIME_LIMIT);
        // It outlives the shell, and then goes by itself.
        let failed = run(&runner, &["sleep 2 &", "echo no bridge; exit 1"]).await;
        assert_eq!(failed, Err("it ended with status 1: no bridge".to_owned()));
    }

    #[tokio::test]
    async fn two_projects_never_share_a_folder() {
        let data = tempfile::tempdir().expect("a folder");
        let runner = runner(data.path(), TIME_LIMIT);
        let name = |text| Name::parse(text).expect("a name");
        for (owner, project) in [("a", "b-c"), ("a-b", "c")] {
            let label = Label { owner: name(owner), project: name(project) };
            let lines = ["[ ! -e mine ] && touch mine".to_owned()];
            runner.run(&label, HookPoint::BeforeProjectStart, &lines).await.expect("it is the first here");
        }
    }
}
