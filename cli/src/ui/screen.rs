//! The one place that writes to standard output and standard error.

use std::ffi::OsString;
use std::future::pending;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use mln_link::message::{EventRow, OutputStream, Progress, Revised};
use mln_protocol::lang::{Diagnostic, Sources};
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use super::diagnostic::Drawing;
use super::document::Form;
use super::progress::{self, Board, SPINNER_MS};
use super::report::{self, Paint};
use super::rows::{self, Layout};
use super::table::Spacing;
use super::{change, diagnostic, document, hint, json, text, usage};
use crate::args::{Args, Output};
use crate::conversation::Answer;
use crate::error::CommandError;
use crate::exit::Exit;

/// How wide a table may be on a terminal that doesn't say how wide it is. What is read by a program is cut nowhere.
const COLUMNS_USUAL: usize = 80;

/// What the user sees, and how.
#[derive(Debug)]
pub struct Screen {
    /// For people, or for programs in whichever form.
    output: Audience,
    /// How documents for programs are written.
    form: Form,
    stdout: Device,
    stderr: Device,
    paint: Paint,
}

/// Whom an answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Audience {
    Table,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Device {
    Terminal { columns: usize },
    Pipe,
}

impl Device {
    fn of(stream: impl IsTerminal + std::os::fd::AsFd) -> Self {
        if !stream.is_terminal() {
            return Self::Pipe;
        }
        let columns = rustix::termios::tcgetwinsize(stream).map(|size| usize::from(size.ws_col));
        Self::Terminal { columns: columns.ok().filter(|&columns| columns > 0).unwrap_or(COLUMNS_USUAL) }
    }
}

impl Screen {
    /// Finds out what standard output and standard error are.
    pub fn open(output: Output) -> Self {
        let (stdout, stderr) = (Device::of(io::stdout()), Device::of(io::stderr()));
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let paint = if stderr == Device::Pipe || no_colour { Paint::Plain } else { Paint::Colour };
        let (output, form) = match output {
            Output::Table => (Audience::Table, Form::Json),
            Output::Json => (Audience::Json, Form::Json),
            Output::Yaml => (Audience::Json, Form::Yaml),
            Output::Csv => (Audience::Json, Form::Csv),
        };
        Self { output, form, stdout, stderr, paint }
    }

    /// Whether answers are documents for programs.
    pub fn is_for_programs(&self) -> bool {
        self.output == Audience::Json
    }

    /// Writes the answer to a question: a table, or one JSON document.
    pub fn answer(&self, table: impl FnOnce(Layout) -> String, json: impl FnOnce() -> Value) {
        match self.output {
            Audience::Table => write_out(&table(self.layout())),
            Audience::Json => write_out(&document::written(&json(), self.form)),
        }
    }

    /// Writes an answer that is a text of its own in either form.
    pub fn answer_text(&self, table: impl FnOnce() -> String, json: impl FnOnce() -> String) {
        match self.output {
            Audience::Table => write_out(&table()),
            Audience::Json => {
                let text = json();
                let other = Some(self.form).filter(|form| *form != Form::Json);
                let document = other.and_then(|form| Some((serde_json::from_str(&text).ok()?, form)));
                let text = document.map_or(text, |(document, form)| document::written(&document, form));
                write_out(&text);
            }
        }
    }

    /// Shows what would come of a change that is about to be made: an event under JSON.
    pub fn plan(&self, answer: &Answer) {
        let Some(plan) = &answer.plan else { return };
        match self.output {
            Audience::Table => write_out(&change::plan(plan, &answer.plan_rows)),
            Audience::Json => {
                let plan = change::plan_json(plan, &answer.plan_rows);
                write_out(&format!("{}\n", serde_json::json!({ "event": "plan", "plan": plan })));
            }
        }
    }

    /// Shows where a change has led: an event under JSON.
    pub fn revised(&self, revised: &Revised) {
        match self.output {
            Audience::Table => write_out(&change::revised(revised)),
            Audience::Json => write_out(&format!("{}\n", change::revised_json(revised))),
        }
    }

    /// Whether questions can be asked: there is somebody who reads them, and no program that reads events.
    pub fn asks(&self) -> bool {
        self.output == Audience::Table && self.stderr != Device::Pipe
    }

    /// Asks a question; everything but a yes is a no.
    pub fn ask(&self, question: &str) -> io::Result<bool> {
        write_err(&format!("{question} [y/N] "));
        let mut line = String::new();
        io::stdin().read_line(&mut line)?;
        Ok(matches!(line.trim(), "y" | "Y" | "yes"))
    }

    fn layout(&self) -> Layout {
        match self.stdout {
            Device::Terminal { columns } => Layout { columns, status_spacing: Spacing::Aligned },
            Device::Pipe => Layout { columns: usize::MAX, status_spacing: Spacing::Single },
        }
    }

    /// Writes to standard error what went wrong at an agent, and returns what that means for the exit code.
    pub fn troubles(&self, answer: &Answer) -> Exit {
        self.write_troubles(answer, write_err);
        exit_of(answer)
    }

    /// Ends work: writes what went wrong, and under JSON the last event. Returns how `mlnctl` ends.
    pub fn outcome(&self, answer: &Answer) -> Exit {
        let exit = exit_of(answer);
        match self.output {
            Audience::Table => self.write_troubles(answer, write_err),
            Audience::Json => {
                self.write_troubles(answer, write_out);
                write_out(&format!("{}\n", json::end(exit)));
            }
        }
        exit
    }

    /// Writes what the user should know before going on: events under JSON.
    pub fn warnings(&self, warnings: &[String]) {
        for text in warnings {
            match self.output {
                Audience::Table => write_err(&report::warning(text, self.paint)),
                Audience::Json => write_out(&format!("{}\n", json::warning(text))),
            }
        }
    }

    /// Writes to standard error what the user should know while something is waited for, whose answer is one document.
    pub fn warning_meanwhile(&self, text: &str) {
        match self.output {
            Audience::Table => write_err(&report::warning(text, self.paint)),
            Audience::Json => write_err(&format!("{}\n", json::warning(text))),
        }
    }

    fn write_troubles(&self, answer: &Answer, write: fn(&str)) {
        let Answer { warnings, silences, refusals, failures, .. } = answer;
        match self.output {
            Audience::Table => {
                warnings.iter().for_each(|text| write(&report::warning(text, self.paint)));
                silences.iter().for_each(|silence| write(&report::silence(silence, self.paint)));
                refusals.iter().for_each(|refusal| write(&report::refusal(refusal, self.paint)));
                failures.iter().for_each(|failure| write(&report::failure(failure, self.paint)));
            }
            Audience::Json => {
                let line = |event: Value| write(&format!("{event}\n"));
                warnings.iter().for_each(|text| line(json::warning(text)));
                silences.iter().for_each(|silence| line(json::silence(silence)));
                refusals.iter().for_each(|refusal| line(json::refusal(refusal)));
                failures.iter().for_each(|failure| line(json::failure(failure)));
            }
        }
    }

    /// Writes to standard error what is said about a project file, if anything.
    pub fn diagnostics(&self, diagnostics: &[Diagnostic], sources: &Sources) {
        match self.output {
            Audience::Table => {
                let drawing = match self.paint {
                    Paint::Colour => Drawing::Styled,
                    Paint::Plain => Drawing::Plain,
                };
                write_err(&diagnostic::draw(diagnostics, sources, drawing));
            }
            Audience::Json if diagnostics.is_empty() => {}
            Audience::Json => write_err(&format!("{}\n", json::diagnostics(diagnostics, sources))),
        }
    }

    /// Writes why a command could not be carried out from here.
    pub fn error(&self, error: &CommandError) {
        let hints = hint::for_error(error);
        match self.output {
            Audience::Table => write_err(&report::error(error, &hints, self.paint)),
            Audience::Json => write_err(&format!("{}\n", json::error(error, &report::causes(error), &hints))),
        }
    }

    /// Writes to standard error what the user should know meanwhile; nothing under JSON.
    pub fn notice(&self, text: &str) {
        if self.output == Audience::Table {
            write_err(&format!("{}\n", text::printable(text)));
        }
    }

    /// Writes a line of a VM's log: on a terminal with nothing in it that would be obeyed.
    pub fn log_line(&self, line: &str) -> io::Result<()> {
        let text = match (self.output, self.stdout) {
            (Audience::Json, _) => format!("{}\n", json::log_line(line)),
            (Audience::Table, Device::Terminal { .. }) => format!("{}\n", text::printable(line)),
            (Audience::Table, Device::Pipe) => format!("{line}\n"),
        };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush())
    }

    /// Shows how far a copy is, on a terminal; what was shown before goes.
    pub fn copying(&self, words: &str) {
        if self.output == Audience::Table && self.stderr != Device::Pipe {
            write_err(&format!("\r\x1b[K{words}"));
        }
    }

    /// Ends a copy: what was shown of it goes, and the words stay.
    pub fn copied(&self, words: &str, json: impl FnOnce() -> Value) {
        match (self.output, self.stderr) {
            (Audience::Json, _) => write_out(&format!("{}\n", json())),
            (Audience::Table, Device::Terminal { .. }) => write_err(&format!("\r\x1b[K{words}\n")),
            (Audience::Table, Device::Pipe) => {}
        }
    }

    /// Writes text that another program is to read, to standard output.
    pub fn text(&self, text: &str) {
        write_out(text);
    }

    /// Writes what a command in a VM wrote, as it is.
    pub async fn pass_through(&self, stream: OutputStream, bytes: &[u8]) -> io::Result<()> {
        match stream {
            OutputStream::Stdout => {
                let mut out = tokio::io::stdout();
                out.write_all(bytes).await?;
                out.flush().await
            }
            OutputStream::Stderr => {
                let mut err = tokio::io::stderr();
                err.write_all(bytes).await?;
                err.flush().await
            }
        }
    }

    /// Writes events, a line for each. Fails where nobody reads any more.
    pub fn events(&self, rows: &[EventRow]) -> io::Result<()> {
        let lines: String = rows
            .iter()
            .map(|row| match self.output {
                Audience::Table => rows::event(row),
                Audience::Json => row.to_json_line() + "\n",
            })
            .collect();
        let mut out = io::stdout().lock();
        out.write_all(lines.as_bytes())?;
        out.flush()
    }

    /// Begins to show the progress of work.
    pub fn progress(&self) -> LiveProgress<'_> {
        LiveProgress { screen: self, board: Board::default(), began: Instant::now(), drawn: 0 }
    }
}

/// The progress of work: events under JSON, moving lines on a terminal, and otherwise a line per step.
#[derive(Debug)]
pub struct LiveProgress<'a> {
    screen: &'a Screen,
    board: Board,
    began: Instant,
    /// How many lines of what is under way stand on the terminal.
    drawn: usize,
}

impl<'a> LiveProgress<'a> {
    /// Returns the screen that it is shown on.
    pub fn screen(&self) -> &'a Screen {
        self.screen
    }

    /// Shows a step.
    pub fn note(&mut self, progress: &Progress) {
        let now_ms = self.now_ms();
        match (self.screen.output, self.screen.stderr) {
            (Audience::Json, _) => write_out(&format!("{}\n", json::progress(progress))),
            (Audience::Table, Device::Pipe) => {
                if let Some(line) = self.board.plain_note(progress, now_ms) {
                    write_err(&format!("{line}\n"));
                }
            }
            (Audience::Table, Device::Terminal { columns }) => {
                let finished: Vec<String> = self.board.note(progress, now_ms).into_iter().collect();
                self.draw(&finished, columns);
            }
        }
    }

    /// Waits until the spinner moves, and moves it; for ever where nothing moves. Cancel-safe.
    pub async fn tick(&mut self) {
        match self.screen.stderr {
            Device::Terminal { columns } if self.drawn > 0 => {
                tokio::time::sleep(Duration::from_millis(SPINNER_MS)).await;
                self.draw(&[], columns);
            }
            Device::Terminal { .. } | Device::Pipe => pending().await,
        }
    }

    fn draw(&mut self, finished: &[String], columns: usize) {
        let live = self.board.live(self.now_ms(), columns);
        write_err(&progress::redraw(self.drawn, finished, &live));
        self.drawn = live.len();
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Drop for LiveProgress<'_> {
    /// What is still under way when the work ends is no news any more; how much was done is.
    fn drop(&mut self) {
        if self.screen.output == Audience::Table {
            let summary: Vec<String> = self.board.summary(self.now_ms()).into_iter().collect();
            write_err(&progress::redraw(self.drawn, &summary, &[]));
        }
    }
}

/// Returns what an answer means: what failed weighs more than a refusal, and that more than a silent host.
fn exit_of(answer: &Answer) -> Exit {
    if !answer.failures.is_empty() {
        Exit::Failed
    } else if !answer.refusals.is_empty() {
        Exit::Refused
    } else if !answer.silences.is_empty() {
        Exit::Silent
    } else {
        Exit::Done
    }
}

/// Writes what the parser of the command line has to say: an error, help or the version.
pub fn usage(mut error: clap::Error, line: &[OsString]) -> Exit {
    let hints = usage::explain(&mut error, &<Args as clap::CommandFactory>::command(), line);
    // A closed pipe is no reason to complain about the command line.
    let _ = error.print();
    hints.iter().for_each(|hint| write_err(&format!("hint: {}\n", text::printable(hint))));
    if error.use_stderr() { Exit::Usage } else { Exit::Done }
}

/// Writes to standard output; whoever closed it doesn't want to read more.
fn write_out(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes to standard error; there is nobody to tell when that fails.
fn write_err(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
