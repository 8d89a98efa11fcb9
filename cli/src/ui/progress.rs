//! Progress of work, per VM: what is under way and what is done.
//!
//! Time is an argument, in milliseconds since the work began, so that a test needs no clock.

use mln_link::message::{Progress, Step, StepState};

use super::text::{fitted, printable};
use crate::quantity::seconds;

/// How many steps under way are drawn at once.
const LIVE_LINES_MAX: usize = 10;

/// How long one picture of the spinner stands, in milliseconds.
pub const SPINNER_MS: u64 = 100;

const SPINNER: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

/// What is known about the work.
#[derive(Debug, Default)]
pub struct Board {
    under_way: Vec<UnderWay>,
    done: usize,
    failed: usize,
}

#[derive(Debug)]
struct UnderWay {
    progress: Progress,
    since_ms: u64,
}

/// Returns the name of a step in JSON.
pub fn step_name(step: Step) -> &'static str {
    match step {
        Step::Ask => "ask",
        Step::Publish => "publish",
        Step::Switch => "switch",
        Step::Fetch => "fetch",
        Step::Build => "build",
        Step::Start => "start",
        Step::Stop => "stop",
        Step::Remove => "remove",
        Step::Template => "template",
        Step::Move => "move",
        Step::TakeOver => "takeover",
    }
}

/// Returns what is said while a step is under way, and when it is done.
fn words(step: Step) -> (&'static str, &'static str) {
    match step {
        Step::Ask => ("asking", "agreed"),
        Step::Publish => ("publishing", "published"),
        Step::Switch => ("connecting", "connected"),
        Step::Fetch => ("fetching", "fetched"),
        Step::Build => ("building", "built"),
        Step::Start => ("starting", "started"),
        Step::Stop => ("stopping", "down"),
        Step::Remove => ("removing", "removed"),
        Step::Template => ("making", "made"),
        Step::Move => ("moving", "moved"),
        Step::TakeOver => ("taking over", "taken over"),
    }
}

/// Returns what is said of a step that wasn't needed.
fn unchanged(step: Step) -> String {
    match step {
        Step::Start => "already up".to_owned(),
        Step::Stop => "already down".to_owned(),
        Step::Ask
        | Step::Publish
        | Step::Switch
        | Step::Fetch
        | Step::Build
        | Step::Remove
        | Step::Template
        | Step::Move
        | Step::TakeOver => format!("{} already", words(step).1),
    }
}

impl Board {
    /// Takes in a step, and returns the line that says so for good, as a terminal shows it: only what has ended.
    pub fn note(&mut self, progress: &Progress, now_ms: u64) -> Option<String> {
        // What was lost is gone from the terminal with the line of what is under way.
        let begun = self.under_way.iter().find(|known| is_same_step(&known.progress, progress));
        let lost = begun.filter(|_| progress.step == Step::TakeOver && progress.state == StepState::Done);
        let detail = lost.map(|known| known.progress.detail.clone());
        let said = Progress {
            detail: detail.filter(|_| progress.detail.is_empty()).unwrap_or_else(|| progress.detail.clone()),
            ..progress.clone()
        };
        self.take_in(&said, now_ms)
    }

    fn take_in(&mut self, progress: &Progress, now_ms: u64) -> Option<String> {
        let at = self.under_way.iter().position(|known| is_same_step(&known.progress, progress));
        let since_ms = at.map_or(now_ms, |at| self.under_way[at].since_ms);
        if progress.state == StepState::Begun {
            match at {
                Some(at) => self.under_way[at].progress = progress.clone(),
                None => self.under_way.push(UnderWay { progress: progress.clone(), since_ms }),
            }
            return None;
        }
        if let Some(at) = at {
            self.under_way.remove(at);
        }
        let (doing, done) = words(progress.step);
        let (mark, what) = match progress.state {
            StepState::Done => {
                // What is fetched is a part of what is built from it.
                self.done += usize::from(progress.step != Step::Fetch);
                ('✔', done.to_owned())
            }
            StepState::Unchanged => {
                self.done += 1;
                ('✔', unchanged(progress.step))
            }
            StepState::Begun | StepState::Failed => {
                self.failed += 1;
                ('✘', format!("{doing} failed"))
            }
        };
        let took = at.map(|_| seconds(now_ms.saturating_sub(since_ms)));
        Some(line(mark, progress, &what, took.as_deref()))
    }

    /// Returns the line that a pipe gets for a step: its begin and its end, not every detail.
    pub fn plain_note(&mut self, progress: &Progress, now_ms: u64) -> Option<String> {
        let known = self.under_way.iter().any(|known| is_same_step(&known.progress, progress));
        let ended = self.take_in(progress, now_ms);
        match progress.state {
            StepState::Begun if known => None,
            StepState::Begun => Some(line('-', progress, words(progress.step).0, None)),
            StepState::Done | StepState::Unchanged | StepState::Failed => ended,
        }
    }

    /// Returns the lines of what is under way, each of at most `columns`.
    pub fn live(&self, now_ms: u64, columns: usize) -> Vec<String> {
        // The remainder is smaller than the length of the array.
        let picture = SPINNER[(now_ms / SPINNER_MS % SPINNER.len() as u64) as usize];
        let mut lines: Vec<String> = self
            .under_way
            .iter()
            .take(LIVE_LINES_MAX)
            .map(|step| {
                let took = seconds(now_ms.saturating_sub(step.since_ms));
                line(picture, &step.progress, words(step.progress.step).0, Some(&took))
            })
            .collect();
        if self.under_way.len() > LIVE_LINES_MAX {
            lines.push(format!("  and {} more", self.under_way.len() - LIVE_LINES_MAX));
        }
        lines.iter().map(|line| fitted(line, columns)).collect()
    }

    /// Returns the line that ends the work; none where there were no steps.
    pub fn summary(&self, now_ms: u64) -> Option<String> {
        let took = seconds(now_ms);
        match (self.done, self.failed) {
            (0, 0) => None,
            (done, 0) => Some(format!("{done} done in {took}")),
            (done, failed) => Some(format!("{done} done, {failed} failed in {took}")),
        }
    }
}

fn is_same_step(one: &Progress, other: &Progress) -> bool {
    (&one.project, &one.vm, &one.host, one.step) == (&other.project, &other.vm, &other.host, other.step)
}

fn line(mark: char, progress: &Progress, what: &str, took: Option<&str>) -> String {
    let subject = match (&progress.project, &progress.vm) {
        (Some(project), Some(vm)) => format!("{project}/{vm}"),
        (None, Some(name)) | (Some(name), None) => name.to_string(),
        (None, None) => String::new(),
    };
    let host = progress.host.as_ref().map(ToString::to_string).unwrap_or_default();
    let place = match (subject.is_empty(), host.is_empty()) {
        (_, true) => subject,
        (true, false) => host,
        (false, false) => format!("{subject} on {host}"),
    };
    let mut text = format!("{mark} {place:<24} {what}");
    if !progress.detail.is_empty() {
        text.push_str(&format!(": {}", printable(&progress.detail)));
    }
    if let Some(took) = took {
        text.push_str(&format!(" ({took})"));
    }
    text
}

/// Returns what a terminal is sent to replace `drawn` live lines by finished ones and the live lines of now.
pub fn redraw(drawn: usize, finished: &[String], live: &[String]) -> String {
    let mut text = String::new();
    if drawn > 0 {
        // Up to the first live line, and clear from there.
        text.push_str(&format!("\u{1b}[{drawn}A\u{1b}[J"));
    }
    for line in finished.iter().chain(live) {
        text.push_str(line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
#[path = "progress_test.rs"]
mod tests;
