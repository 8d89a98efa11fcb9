//! `mlnctl cp`: files into a VM and out of it, over the same way as `exec`.
//!
//! The agent in the VM does the VM's part, so that it needs no tools. Files are packed and unpacked by threads of
//! their own; this side only carries pieces.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args};
use mln_copy::{CopyError, Depth, Form, GREETING, Seal, Sealing, Unsealing};
use mln_link::message::{ExecExit, OutputStream, VmRef};
use mln_link::{LinkError, Reply, Request};
use tokio::sync::mpsc;

use crate::conversation::{Agent, Answer, Signals};
use crate::error::{CommandError, UsageError};
use crate::exit::Exit;
use crate::quantity::{seconds, short_bytes, short_duration};
use crate::ui::json;
use crate::ui::screen::Screen;
use crate::ui::text::printable;

/// Pieces that wait to be sent, or to be written.
const PIECES_MAX: usize = 8;
/// What of a guest's complaints is kept, in bytes.
const COMPLAINT_BYTES_MAX: usize = 4 << 10;
/// How often it is shown how far the copy is.
const SHOW_PAUSE: Duration = Duration::from_millis(200);
/// The program of the guest agent, as seen from itself.
const GUEST_PROGRAM: &str = "/proc/self/exe";

/// The arguments of `cp`.
#[derive(Debug, Args)]
#[command(after_help = "Examples: mlnctl cp site.conf ring/router1:/etc/\n          \
    mlnctl cp -r ring/router1:/var/log ./logs\n          mlnctl cp - ring/router1:/root/note < note")]
pub struct Cp {
    /// What to copy: a path here, PROJECT/HOST:PATH, or - for standard input
    #[arg(value_name = "SOURCE")]
    source: String,
    /// Where to: PROJECT/HOST:PATH, a path here, or - for standard output
    #[arg(value_name = "DESTINATION")]
    destination: String,
    /// Folders with all that is in them
    #[arg(short, long, env = "MLN_RECURSIVE", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    recursive: bool,
}

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side {
    Here(PathBuf),
    Stream,
    Vm(VmRef, String),
}

impl Side {
    fn parse(text: &str) -> Self {
        if text == "-" {
            return Self::Stream;
        }
        if let Some((vm, path)) = text.split_once(':')
            && let Ok(vm) = VmRef::parse(vm)
        {
            return Self::Vm(vm, if path.is_empty() { ".".to_owned() } else { path.to_owned() });
        }
        Self::Here(text.into())
    }
}

/// What is copied, and how far it is.
struct Copying<'a> {
    screen: &'a Screen,
    vm: String,
    began: Instant,
    shown: Instant,
    bytes: u64,
    total: Option<u64>,
}

impl Copying<'_> {
    fn moved(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if self.shown.elapsed() >= SHOW_PAUSE {
            self.shown = Instant::now();
            self.screen.copying(&progress(self.bytes, self.total, self.began.elapsed()));
        }
    }
}

/// Copies.
pub async fn run(args: Cp, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let depth = if args.recursive { Depth::Tree } else { Depth::File };
    let (source, destination) = (Side::parse(&args.source), Side::parse(&args.destination));
    if args.recursive && (source == Side::Stream || destination == Side::Stream) {
        return Err(CommandError::Usage(UsageError::CopyTreeOfStream));
    }
    let now = Instant::now();
    let copying =
        |vm: &VmRef| Copying { screen, vm: vm.to_string(), began: now, shown: now, bytes: 0, total: None };
    let copied = match (source, destination) {
        (Side::Here(path), Side::Vm(vm, wanted)) => {
            into_vm(Some((path, depth)), &wanted, vm.clone(), copying(&vm), agent).await?
        }
        (Side::Stream, Side::Vm(vm, wanted)) => {
            into_vm(None, &wanted, vm.clone(), copying(&vm), agent).await?
        }
        (Side::Vm(vm, path), Side::Here(wanted)) => {
            out_of_vm(&path, Some((wanted, depth)), vm.clone(), copying(&vm), agent).await?
        }
        (Side::Vm(vm, path), Side::Stream) => out_of_vm(&path, None, vm.clone(), copying(&vm), agent).await?,
        (Side::Here(_) | Side::Stream, Side::Here(_) | Side::Stream) | (Side::Vm(..), Side::Vm(..)) => {
            return Err(CommandError::Usage(UsageError::CopySides(args.source, args.destination)));
        }
    };
    let seal = match copied {
        Copied::Whole(seal) => seal,
        Copied::Not(answer) => return Ok(screen.troubles(&answer)),
    };
    let ms = u64::try_from(now.elapsed().as_millis()).unwrap_or(u64::MAX);
    let words = format!(
        "copied {} in {}, {}/s",
        short_bytes(seal.bytes),
        seconds(ms),
        short_bytes(rate(seal.bytes, now.elapsed()))
    );
    screen.copied(&words, || json::copied(&args.source, &args.destination, seal.bytes, &seal.hex(), ms));
    Ok(Exit::Done)
}

enum Copied {
    Whole(Seal),
    /// Somebody on the way said no.
    Not(Box<Answer>),
}

/// What came of the guest's part.
struct Part {
    answer: Answer,
    complaint: Vec<u8>,
    said: Vec<u8>,
}

impl Part {
    /// Returns what the guest said after its greeting; what is wrong where it didn't do its part.
    fn words(&self, copying: &Copying<'_>) -> Result<Result<&str, ()>, CommandError> {
        let guest = |text: String| CommandError::Guest { what: format!("in {}", copying.vm), text };
        if !self.answer.refusals.is_empty()
            || !self.answer.failures.is_empty()
            || !self.answer.silences.is_empty()
        {
            return Ok(Err(()));
        }
        let Some(words) = self.said.strip_prefix(GREETING.as_bytes()) else {
            return Err(guest(
                "the guest agent of this VM is older and can't copy: restart the VM".to_owned(),
            ));
        };
        if self.answer.exited != Some(ExecExit::Status(0)) {
            let text = String::from_utf8_lossy(&self.complaint);
            let text = printable(text.trim());
            return Err(guest(if text.is_empty() { "it ended early".to_owned() } else { text }));
        }
        Ok(std::str::from_utf8(words).map_err(|_| ()))
    }
}

async fn into_vm(
    source: Option<(PathBuf, Depth)>,
    wanted: &str,
    vm: VmRef,
    mut copying: Copying<'_>,
    agent: &Agent,
) -> Result<Copied, CommandError> {
    let mut words = vec!["receive".to_owned()];
    match &source {
        Some((path, depth)) => {
            copying.total = Some(mln_copy::measure(path, *depth)?);
            let name = path.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
            let named = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
            let name = named.or(name);
            let name =
                name.ok_or_else(|| CommandError::Usage(UsageError::CopyName(path.display().to_string())))?;
            words.extend(["archive".to_owned(), wanted.to_owned(), name]);
        }
        None => words.extend(["content".to_owned(), wanted.to_owned()]),
    }
    let (pieces, mut waiting) = mpsc::channel(PIECES_MAX);
    let begin = std::sync::mpsc::channel::<()>();
    let packing = std::thread::spawn(move || -> Result<Seal, CopyError> {
        // Only once the guest has said that it can be.
        if begin.1.recv().is_err() {
            return Err(CopyError::Stream(io::ErrorKind::Interrupted.into()));
        }
        let mut sealing = Sealing::new(Pieces { pieces });
        match source {
            Some((path, depth)) => drop(mln_copy::pack(&path, depth, &mut sealing)?),
            None => drop(io::copy(&mut io::stdin().lock(), &mut sealing).map_err(CopyError::Stream)?),
        }
        sealing.finish().map_err(CopyError::Stream)
    });
    let mut begin = Some(begin.0);
    let mut signals = Signals::listen().map_err(CommandError::Terminal)?;
    let (mut input, mut replies) = agent.begin(&request(vm, words)).await?;
    let mut part = Part { answer: Answer::default(), complaint: Vec::new(), said: Vec::new() };
    let (mut is_sending, mut pending) = (true, Vec::new());
    loop {
        tokio::select! {
            // All arms are cancel-safe: they take nothing unless they are chosen.
            reply = replies.next() => {
                match reply.map_err(CommandError::BrokeOff)? {
                    None => break,
                    Some(Reply::Output { stream: OutputStream::Stdout, bytes }) => part.said.extend(bytes),
                    Some(reply) => part.note(reply),
                }
                if part.said.len() > COMPLAINT_BYTES_MAX {
                    break;
                }
                if part.said.ends_with(b"ready\n") && let Some(begin) = begin.take() {
                    // A thread that has ended is seen below.
                    let _ = begin.send(());
                }
            }
            piece = waiting.recv(), if is_sending && begin.is_none() && pending.is_empty() => {
                copying.moved(piece.as_ref().map_or(0, Vec::len));
                match piece {
                    Some(piece) => pending = piece,
                    None => {
                        is_sending = false;
                        // Without a seal where packing failed: then the guest clears away what it has.
                        taken(input.end().await)?;
                    }
                }
            }
            // Only what there is room for: more is granted among the replies.
            credit = input.ready(), if is_sending && !pending.is_empty() => match credit {
                Some(credit) => {
                    let now: Vec<u8> = pending.drain(..credit.min(pending.len())).collect();
                    is_sending = taken(input.bytes(&now).await)?;
                }
                None => is_sending = false,
            },
            signal = signals.next() => {
                // The guest hears that the stream broke off, and leaves nothing.
                let _ = input.end().await;
                return Err(CommandError::Guest {
                    what: format!("in {}", copying.vm),
                    text: format!("interrupted by signal {signal}: nothing was copied"),
                });
            }
        }
    }
    drop((begin, waiting));
    let packed = packing.join().unwrap_or_else(|_| Err(CopyError::Stream(io::ErrorKind::Interrupted.into())));
    // What is wrong on this side is the reason, whatever the guest says about a stream that broke off. A stream that
    // the guest didn't take is its reason.
    let seal = match packed {
        Err(CopyError::Stream(_)) => None,
        packed => Some(packed?),
    };
    let said = match part.words(&copying)? {
        Ok(words) => words.trim().trim_start_matches("ready").trim().to_owned(),
        Err(()) => return Ok(Copied::Not(Box::new(part.answer))),
    };
    match seal {
        Some(seal) if said == seal.to_string() => Ok(Copied::Whole(seal)),
        Some(_) | None => {
            let text = format!("it says that it has received something else: {}", printable(&said));
            Err(CommandError::Guest { what: format!("in {}", copying.vm), text })
        }
    }
}

async fn out_of_vm(
    source: &str,
    wanted: Option<(PathBuf, Depth)>,
    vm: VmRef,
    mut copying: Copying<'_>,
    agent: &Agent,
) -> Result<Copied, CommandError> {
    let (kind, target) = match wanted {
        Some((wanted, depth)) => {
            let name = Path::new(source).file_name();
            let target = mln_copy::destination(&wanted, name)?;
            match depth {
                Depth::Tree => ("tree", Some((target, Form::Archive))),
                Depth::File => ("file", Some((target, Form::OneFile))),
            }
        }
        None => ("content", None),
    };
    let words = ["send", kind, source].map(str::to_owned).to_vec();
    let (pieces, waiting) = mpsc::channel(PIECES_MAX);
    let writing = std::thread::spawn(move || -> Result<Seal, CopyError> {
        let mut stream = Unsealing::new(Arriving { waiting, piece: Vec::new(), at: 0 });
        match target {
            Some((target, form)) => mln_copy::unpack(stream, form, &target),
            None => {
                io::copy(&mut stream, &mut io::stdout().lock()).map_err(CopyError::Stream)?;
                stream.finish().map_err(CopyError::Stream)
            }
        }
    });
    let mut pieces = Some(pieces);
    let mut signals = Signals::listen().map_err(CommandError::Terminal)?;
    let (mut input, mut replies) = agent.begin(&request(vm, words)).await?;
    input.end().await.map_err(CommandError::BrokeOff)?;
    let mut part = Part { answer: Answer::default(), complaint: Vec::new(), said: Vec::new() };
    loop {
        // Both arms are cancel-safe: a reply that isn't whole stays in its reader.
        let reply = tokio::select! {
            reply = replies.next() => reply.map_err(CommandError::BrokeOff)?,
            signal = signals.next() => {
                drop(pieces);
                let _ = writing.join();
                return Err(CommandError::Guest {
                    what: format!("from {}", copying.vm),
                    text: format!("interrupted by signal {signal}: nothing was copied"),
                });
            }
        };
        match reply {
            None => break,
            Some(Reply::Output { stream: OutputStream::Stdout, bytes }) => {
                let mut content = bytes;
                if copying.total.is_none() {
                    part.said.extend_from_slice(&content);
                    let Some((total, rest)) = header(&part.said) else {
                        if part.said.len() > COMPLAINT_BYTES_MAX {
                            break;
                        }
                        continue;
                    };
                    copying.total = Some(total);
                    content = rest.to_vec();
                    part.said.truncate(GREETING.len());
                }
                copying.moved(content.len());
                if let Some(to) = pieces.as_ref().filter(|_| !content.is_empty())
                    && to.send(content).await.is_err()
                {
                    // It can't be written here: why, is said below.
                    pieces = None;
                    break;
                }
            }
            Some(reply) => part.note(reply),
        }
    }
    drop(pieces);
    let written =
        writing.join().unwrap_or_else(|_| Err(CopyError::Stream(io::ErrorKind::Interrupted.into())));
    match written {
        Ok(seal) => Ok(Copied::Whole(seal)),
        // Where the stream broke off, the guest says why.
        Err(error @ CopyError::Stream(_)) => match part.words(&copying)? {
            Ok(_) => Err(error.into()),
            Err(()) => Ok(Copied::Not(Box::new(part.answer))),
        },
        Err(error) => Err(error.into()),
    }
}

/// Whether the agent still takes what it is sent; one that has left says why among its replies.
fn taken(sent: Result<(), LinkError>) -> Result<bool, CommandError> {
    match sent {
        Ok(()) => Ok(true),
        Err(LinkError::Io(source)) if mln_link::client::has_left(&source) => Ok(false),
        Err(error) => Err(CommandError::BrokeOff(error)),
    }
}

impl Part {
    fn note(&mut self, reply: Reply) {
        match reply {
            Reply::Output { bytes, .. } => {
                let room = COMPLAINT_BYTES_MAX.saturating_sub(self.complaint.len());
                self.complaint.extend(bytes.into_iter().take(room));
            }
            reply => self.answer.note(reply),
        }
    }
}

fn request(vm: VmRef, words: Vec<String>) -> Request {
    let argv = [GUEST_PROGRAM, "guest-copy"].map(str::to_owned).into_iter().chain(words).collect();
    Request::Exec(mln_link::message::Exec { vm, argv })
}

/// Returns what a guest announces before it sends, and what it has sent.
fn header(said: &[u8]) -> Option<(u64, &[u8])> {
    let rest = said.strip_prefix(GREETING.as_bytes())?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let total = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    Some((total, &rest[end + 1..]))
}

fn rate(bytes: u64, elapsed: Duration) -> u64 {
    // A length of time that is not zero makes a number that is finite.
    (bytes as f64 / elapsed.as_secs_f64().max(0.001)) as u64
}

fn progress(bytes: u64, total: Option<u64>, elapsed: Duration) -> String {
    let rate = rate(bytes, elapsed);
    let mut words = format!("{}  {}/s", short_bytes(bytes), short_bytes(rate));
    if let Some(total) = total.filter(|total| *total > 0) {
        let left_ms = total.saturating_sub(bytes).saturating_mul(1000) / rate.max(1);
        words += &format!("  {} %  {} left", (bytes * 100 / total).min(100), short_duration(left_ms));
    }
    words
}

/// What is packed, on its way to the agent.
struct Pieces {
    pieces: mpsc::Sender<Vec<u8>>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.pieces.blocking_send(bytes.to_vec());
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What arrives from the agent.
struct Arriving {
    waiting: mpsc::Receiver<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Arriving {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            let Some(piece) = self.waiting.blocking_recv() else { return Ok(0) };
            (self.piece, self.at) = (piece, 0);
        }
        let count = bytes.len().min(self.piece.len() - self.at);
        bytes[..count].copy_from_slice(&self.piece[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_is_told_from_a_path() {
        let vm = |vm: &str, path: &str| Side::Vm(VmRef::parse(vm).expect("a VM"), path.to_owned());
        assert_eq!(Side::parse("ring/r1:/etc/x:y"), vm("ring/r1", "/etc/x:y"));
        assert_eq!(Side::parse("anna/ring/r1:"), vm("anna/ring/r1", "."));
        for path in ["file", "./ring/r1:x", "/ring/r1:x", "a:b", "ring/r1"] {
            assert_eq!(Side::parse(path), Side::Here(path.into()));
        }
        assert_eq!(Side::parse("-"), Side::Stream);
    }

    #[test]
    fn progress_tells_rate_and_time_left() {
        let second = Duration::from_secs(1);
        assert_eq!(progress(1 << 20, Some(5 << 20), second), "1 MiB  1 MiB/s  20 %  4s left");
        assert_eq!(progress(0, None, Duration::ZERO), "0 B  0 B/s");
    }

    #[test]
    fn what_a_guest_announces_is_told_from_what_it_sends() {
        assert_eq!(header(b"mln-copy 1\n12\nrest"), Some((12, &b"rest"[..])));
        assert_eq!(header(b"mln-copy 1\n1"), None);
        assert_eq!(header(b"sh: no such thing\n"), None);
    }
}
