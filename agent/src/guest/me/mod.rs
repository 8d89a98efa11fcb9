//! What somebody in the guest asks about its project, and wants of it: `mlnctl`, which is this program under another name.
//!
//! `mlnctl` speaks with the guest agent over a socket that root alone may use, and the guest agent with the host's agent over
//! the line: no network takes part. The key with which the guest signs what it wants is made here when it is first needed,
//! is in this process's memory and nowhere else, and is another one after each start.
//!
//! ```text
//!   mlnctl ── socket ──► desk ──┬──► speaker ── line ──► holder ──► the agent of the host
//!   programs, gauges ──► policies ──┘
//! ```

mod command;
mod desk;
mod measure;
mod policies;
mod program;
mod show;
mod speaker;

use std::fs;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

use mln_protocol::wire::me::{MeAnswer, MeAsk, MeCall};
use tracing::{info, warn};

pub(crate) use command::{PROGRAM, run};
use desk::{Client, Desk};
use policies::Policies;
use speaker::{Asker, Call, Speaker};

/// Where the guest agent listens.
const SOCKET: &str = "/run/mln/me.sock";
/// Where people find the program.
const LINK: &str = "/usr/local/bin/mlnctl";

/// The guest agent's part in it.
#[derive(Debug)]
pub(super) struct Me {
    desk: Desk,
    speaker: Speaker,
    policies: Policies,
}

impl Me {
    /// Listens where `mlnctl` calls, and puts that where people find it. What can't be had is logged, and left out.
    pub(super) fn open() -> Self {
        link(Path::new(LINK));
        let desk = Desk::open(Path::new(SOCKET)).unwrap_or_else(|error| {
            warn!(%error, socket = SOCKET, "nobody in this machine can ask anything about its project");
            Desk::closed()
        });
        Self { desk, speaker: Speaker::new(), policies: Policies::new() }
    }

    /// Returns what is to be waited for: true is room to write, false is something to read.
    pub(super) fn interests(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        self.desk.interests().chain(self.policies.interest().map(|bell| (bell, false)))
    }

    /// Returns how long there is nothing to do, if nothing else happens.
    pub(super) fn pause(&self) -> Option<Duration> {
        self.policies.pause()
    }

    /// Takes note that the host listens.
    pub(super) fn welcomed(&mut self) {
        self.speaker.listens();
        self.policies.listens();
    }

    /// Takes note that the host doesn't listen any more, and may have heard nothing of what was said last.
    pub(super) fn session_over(&mut self) {
        self.policies.cut_off();
        for asker in self.speaker.cut_off() {
            let text = "the line to the host was cut; whether anything was changed: mlnctl log".to_owned();
            self.tell(asker, MeAnswer::Failed { text });
        }
    }

    /// Takes what the host says.
    pub(super) fn heard(&mut self, bytes: &[u8]) {
        if let Some((asker, answer)) = self.speaker.heard(bytes, unix_ms()) {
            self.tell(asker, answer);
        }
    }

    /// Tells whoever asked, and asks what follows from that.
    fn tell(&mut self, asker: Asker, answer: MeAnswer) {
        let asks = match asker {
            Asker::Desk(client) => {
                self.desk.answer(client, &answer);
                return;
            }
            Asker::Policy(policy) => return self.policies.answered(&policy, &answer),
            Asker::Look => self.policies.seen(answer),
        };
        self.ask(asks);
    }

    /// Asks the host; where that can't be, whoever asks is told at once.
    fn ask(&mut self, asks: Vec<(Asker, Call)>) {
        for (asker, call) in asks {
            if let Err(answer) = self.speaker.call(asker.clone(), call, draw) {
                self.tell(asker, answer);
            }
        }
    }

    /// Serves somebody who has called.
    fn serve(&mut self, client: Client, call: MeCall) {
        let call = match call {
            MeCall::Me => Call::Ask(MeAsk::Me),
            MeCall::Status => Call::Ask(MeAsk::Status),
            MeCall::Log => Call::Ask(MeAsk::Log),
            MeCall::Want { want, reason } => Call::Want { want, reason },
            MeCall::Plan(want) => Call::Plan(want),
            MeCall::Gauge { name, value } => {
                let answer = self.policies.measure(&name, &value);
                return self.desk.answer(client, &answer);
            }
            MeCall::Own => return self.desk.answer(client, &self.policies.own()),
        };
        self.ask(vec![(Asker::Desk(client), call)]);
    }

    /// Serves those who call, and sends what there is to be said to the host.
    pub(super) fn pump(&mut self, mut send: impl FnMut(Vec<u8>)) {
        for (client, call) in self.desk.pump() {
            self.serve(client, call);
        }
        let asks = self.policies.pump();
        self.ask(asks);
        let desk = &self.desk;
        self.speaker.forget(|client| desk.has(client));
        while let Some(bytes) = self.speaker.poll_output() {
            send(bytes);
        }
    }
}

/// Draws the secret of a key.
fn draw() -> Result<[u8; 32], String> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| format!("there is no randomness for a key: {error}"))?;
    Ok(secret)
}

fn unix_ms() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64)
}

/// Puts the program where people find it, unless there is something else.
fn link(at: &Path) {
    let Ok(program) = fs::read_link("/proc/self/exe") else { return };
    match fs::symlink_metadata(at) {
        Ok(found) if !found.is_symlink() => return info!(at = %at.display(), "is there already"),
        Ok(_) if fs::read_link(at).is_ok_and(|to| to == program) => return,
        // Of an earlier guest agent, which had another place.
        Ok(_) => drop(fs::remove_file(at)),
        Err(_) => drop(at.parent().map(fs::create_dir_all)),
    }
    if let Err(error) = std::os::unix::fs::symlink(program, at) {
        warn!(%error, at = %at.display(), "there is no `mlnctl` in this machine");
    }
}
