//! `mlnctl` inside a guest: few words, and no more than the host's `mlnctl` has under the same names.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mln_protocol::lang::{did_you_mean, nearest};
use mln_protocol::trust::GUEST_TEXT_BYTES_MAX;
use mln_protocol::wire::DecodeError;
use mln_protocol::wire::me::{ME_BYTES_MAX, MeAnswer, MeCall, MeWant, decode_me_answer, encode_me_call};

use super::desk::frame;
use super::{SOCKET, show};
use crate::causes::chain;

/// What this program is called where it is `mlnctl`.
pub(crate) const PROGRAM: &str = "mlnctl";

/// How long the answer may take: hosts that have to agree may be far away, or busy.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

const FAILED: u8 = 1;
const CHANGES: u8 = 2;
const REFUSED: u8 = 3;
const NO_AGENT: u8 = 4;
const USAGE: u8 = 64;

const HELP: &str = "\
mlnctl inside a machine: what it is in its project, and what it may change of that by itself

Usage: mlnctl me [--json]                            who am I, where, what may I do
       mlnctl me move --to HOST [--reason TEXT]      go to another service host
       mlnctl me scale CLASS N [--reason TEXT]       have N of a class
       mlnctl me set PATH [VALUE] [--reason TEXT]    another value of a keyword
       mlnctl me upgrade -f FILE [--reason TEXT]     a whole new text of the project; - is standard input
       mlnctl me gauge NAME VALUE                    a number that policies look at
       mlnctl me gauge [--json]                      such numbers, and what the policies did last
       mlnctl plan move|scale|set|upgrade …          what would come of one of those; nothing is done
       mlnctl status [--json]                        how the machines of the project are
       mlnctl log [--json]                           its revisions, and who made them
       mlnctl --help | --version

What may be changed is what a `policy` block of the project allows this machine; everything else is refused, by every host
that it concerns. Root alone may ask.

Examples: mlnctl me move --to bergen --reason 'the clients are there'
          mlnctl me scale web 3
          mlnctl me gauge load 17.5

Exit status: 0 done, 1 failed, 2 changes (`plan` only), 3 refused, 4 no host listens, 64 usage
";

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Order {
    Help,
    Version,
    Call { call: Call, form: Form },
}

/// What is to be asked; a file isn't read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Call {
    Ready(MeCall),
    Upgrade { file: PathBuf, purpose: Purpose },
}

/// Whether a change is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Purpose {
    /// It is, and why.
    Make { reason: String },
    /// It is asked what would come of it.
    Plan,
}

impl Purpose {
    fn call(self, want: MeWant) -> MeCall {
        match self {
            Self::Make { reason } => MeCall::Want { want, reason },
            Self::Plan => MeCall::Plan(want),
        }
    }
}

/// How the answer is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Json,
}

/// Why there is no answer. Where a change was asked for, it may have been made.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("{0}")]
    Usage(String),
    #[error("reading {path}")]
    File { path: String, source: io::Error },
    #[error(
        "the text has {bytes} bytes, and {GUEST_TEXT_BYTES_MAX} are what a machine may send: from outside, mlnctl upgrade takes it"
    )]
    TextLong { bytes: usize },
    #[error("the agent of this machine can't be reached at {SOCKET}; root alone may")]
    Agent(#[source] io::Error),
    #[error("there is no answer; whether anything was changed: mlnctl log")]
    Answer(#[source] io::Error),
    #[error("the answer can't be read")]
    Unreadable(#[source] DecodeError),
}

impl CallError {
    fn exit(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Agent(_) => NO_AGENT,
            Self::File { .. } | Self::TextLong { .. } | Self::Answer(_) | Self::Unreadable(_) => FAILED,
        }
    }
}

/// Does what the arguments after the program's name say; returns the exit status.
pub(crate) fn run(words: &[OsString]) -> u8 {
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    let told = match parse(&words) {
        Ok(Order::Help) => out.write_all(HELP.as_bytes()).map(|()| 0),
        Ok(Order::Version) => writeln!(out, "{PROGRAM} {}", crate::version::VERSION).map(|()| 0),
        Ok(Order::Call { call, form }) => match ready(call).and_then(|call| ask(Path::new(SOCKET), call)) {
            Ok(answer) => show::answer(&answer, form, &mut out, &mut err).map(|()| status_of(&answer)),
            Err(error) => writeln!(err, "{PROGRAM}: {}", chain(&error)).map(|()| error.exit()),
        },
        Err(error) => writeln!(err, "{PROGRAM}: {error}\nsee: {PROGRAM} --help").map(|()| error.exit()),
    };
    // Whoever doesn't listen needs no more than the status.
    told.and_then(|status| out.flush().map(|()| status)).unwrap_or(FAILED)
}

fn status_of(answer: &MeAnswer) -> u8 {
    match answer {
        MeAnswer::Done(_) | MeAnswer::Me(_) | MeAnswer::Status { .. } | MeAnswer::Log { .. } => 0,
        MeAnswer::Attested(_) | MeAnswer::Sight(_) | MeAnswer::View(_) | MeAnswer::Own { .. } => 0,
        MeAnswer::Plan { rows, .. } if rows.is_empty() => 0,
        MeAnswer::Plan { .. } => CHANGES,
        MeAnswer::Refused(_) => REFUSED,
        MeAnswer::Away => NO_AGENT,
        MeAnswer::Failed { .. } | MeAnswer::Unknown => FAILED,
    }
}

/// Takes the options out of the words, wherever they stand.
fn parse(words: &[String]) -> Result<Order, CallError> {
    let usage = |text: String| CallError::Usage(text);
    let (mut form, mut reason, mut to, mut file) = (Form::Text, None, None, None);
    let mut rest: Vec<&str> = Vec::new();
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let (key, joined) = match word.split_once('=') {
            Some((key, value)) if key.starts_with("--") => (key, Some(value)),
            _ => (word, None),
        };
        let mut value = |slot: &mut Option<String>| {
            let given = joined.or_else(|| words.next());
            *slot = Some(given.ok_or_else(|| usage(format!("{key} lacks its value")))?.to_owned());
            Ok::<(), CallError>(())
        };
        match key {
            "--help" => return Ok(Order::Help),
            "--version" => return Ok(Order::Version),
            "--json" => form = Form::Json,
            "--reason" => value(&mut reason)?,
            "--to" => value(&mut to)?,
            "-f" | "--file" => value(&mut file)?,
            "--" => rest.extend(words.by_ref()),
            // A path begins with a slash, and a value may be a negative number.
            _ if key.starts_with("--") => {
                return Err(usage(format!("{key} means nothing here{}", did_you_mean(key, OPTIONS))));
            }
            _ => rest.push(word),
        }
    }
    let given = [("--to", to.is_some()), ("-f", file.is_some()), ("--reason", reason.is_some())];
    let only = |allowed: &[&str]| only(&given, allowed);
    let call = match rest.as_slice() {
        [] => return Ok(Order::Help),
        ["me"] => only(&[]).map(|()| Call::Ready(MeCall::Me))?,
        ["status"] => only(&[]).map(|()| Call::Ready(MeCall::Status))?,
        ["log"] => only(&[]).map(|()| Call::Ready(MeCall::Log))?,
        ["me", "gauge"] => only(&[]).map(|()| Call::Ready(MeCall::Own))?,
        ["me", "gauge", name, value] => {
            only(&[])?;
            let (name, value) = ((*name).to_owned(), (*value).to_owned());
            Call::Ready(MeCall::Gauge { name, value })
        }
        ["me", words @ ..] => {
            let purpose = Purpose::Make { reason: reason.unwrap_or_default() };
            change("me", words, purpose, &given, to, file)?
        }
        ["plan", words @ ..] => {
            if reason.is_some() {
                return Err(usage("--reason means nothing here".to_owned()));
            }
            change("plan", words, Purpose::Plan, &given, to, file)?
        }
        words => return Err(unknown("", words)),
    };
    Ok(Order::Call { call, form })
}

/// Which options are there.
type Given = [(&'static str, bool); 3];

/// Refuses an option that means nothing.
fn only(given: &Given, allowed: &[&str]) -> Result<(), CallError> {
    match given.iter().find(|(key, is)| *is && !allowed.contains(key)) {
        Some((key, _)) => Err(CallError::Usage(format!("{key} means nothing here"))),
        None => Ok(()),
    }
}

/// What stands first on a line, and what may follow it.
const FIRST: [(&str, &str); 4] =
    [("me", ""), ("status", ""), ("log", ""), ("plan", "move|scale|set|upgrade …")];
/// What stands after `me`, and what follows it.
const WANTS: [(&str, &str); 5] = [
    ("move", "--to HOST"),
    ("scale", "CLASS N"),
    ("set", "PATH [VALUE]"),
    ("upgrade", "-f FILE"),
    // The last, since it can't be planned.
    ("gauge", "NAME VALUE"),
];
const OPTIONS: [&str; 6] = ["--help", "--version", "--json", "--reason", "--to", "--file"];

/// Says what is wrong with words that are none, or not all that is needed; `after` is the word before them.
fn unknown(after: &str, words: &[&str]) -> CallError {
    let Some(first) = words.first() else {
        return CallError::Usage(format!("`{after}` lacks what it is about: {PROGRAM} plan {}", FIRST[3].1));
    };
    let wants = if after == "plan" { &WANTS[..4] } else { &WANTS[..] };
    let line = |after: &str, (word, rest): &(&str, &str)| {
        [PROGRAM, after, word, rest]
            .iter()
            .copied()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let named = |list: &[(&str, &str)], after: &str| {
        list.iter().find(|(word, _)| word == first).map(|found| line(after, found))
    };
    let near = |list: &[(&'static str, &str)], after: &str| {
        let meant = nearest(first, list.iter().map(|(word, _)| *word))?;
        Some(line(after, &(meant, "")))
    };
    let whole = [&[after][..], words].concat().join(" ");
    let whole = whole.trim_start();
    // Right, but for what follows it.
    let right = if after.is_empty() { named(&FIRST, "") } else { named(wants, after) };
    let meant = if after.is_empty() {
        named(&WANTS, "me").or_else(|| near(&FIRST, "")).or_else(|| near(&WANTS, "me"))
    } else {
        near(wants, after).or_else(|| named(&FIRST, "")).or_else(|| near(&FIRST, ""))
    };
    CallError::Usage(match (right, meant) {
        (Some(line), _) => format!("`{whole}` isn't how it is said: {line}"),
        (None, Some(line)) => format!("`{whole}` is nothing that a machine can ask; did you mean `{line}`?"),
        (None, None) => format!("`{whole}` is nothing that a machine can ask"),
    })
}

/// Understands the words of a change, which are the same where it is only thought of.
fn change(
    after: &str,
    words: &[&str],
    purpose: Purpose,
    given: &Given,
    to: Option<String>,
    file: Option<String>,
) -> Result<Call, CallError> {
    let usage = |text: String| CallError::Usage(text);
    let want = match words {
        ["move"] => {
            only(given, &["--to", "--reason"])?;
            MeWant::Move { to: to.ok_or_else(|| usage("where to? --to HOST".to_owned()))? }
        }
        ["scale", class, count] => {
            only(given, &["--reason"])?;
            let to = count.parse().map_err(|_| usage(format!("`{count}` is no number")))?;
            MeWant::Scale { class: (*class).to_owned(), to }
        }
        ["set", path] => {
            only(given, &["--reason"])?;
            MeWant::Set { path: (*path).to_owned(), value: None }
        }
        ["set", path, value] => {
            only(given, &["--reason"])?;
            MeWant::Set { path: (*path).to_owned(), value: Some((*value).to_owned()) }
        }
        ["upgrade"] => {
            only(given, &["-f", "--reason"])?;
            let file = file.ok_or_else(|| usage("which file? -f FILE".to_owned()))?;
            return Ok(Call::Upgrade { file: file.into(), purpose });
        }
        words => return Err(unknown(after, words)),
    };
    Ok(Call::Ready(purpose.call(want)))
}

/// Reads the file that a call needs.
fn ready(call: Call) -> Result<MeCall, CallError> {
    let (file, purpose) = match call {
        Call::Ready(call) => return Ok(call),
        Call::Upgrade { file, purpose } => (file, purpose),
    };
    let failed = |source| CallError::File { path: file.display().to_string(), source };
    let mut bytes = Vec::new();
    let limit = GUEST_TEXT_BYTES_MAX as u64 + 1;
    if file.as_os_str() == "-" {
        io::stdin().take(limit).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        std::fs::File::open(&file)
            .and_then(|file| file.take(limit).read_to_end(&mut bytes))
            .map_err(failed)?;
    }
    if bytes.len() > GUEST_TEXT_BYTES_MAX {
        return Err(CallError::TextLong { bytes: bytes.len() });
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| failed(io::Error::new(ErrorKind::InvalidData, "the text is not UTF-8")))?;
    Ok(purpose.call(MeWant::Text(text)))
}

/// Asks the guest agent, and waits for the answer.
fn ask(socket: &Path, call: MeCall) -> Result<MeAnswer, CallError> {
    let mut stream = UnixStream::connect(socket).map_err(CallError::Agent)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT)).map_err(CallError::Agent)?;
    stream.write_all(&frame(&encode_me_call(call))).map_err(CallError::Agent)?;
    let mut answer = Vec::new();
    stream.take(ME_BYTES_MAX as u64 + 4).read_to_end(&mut answer).map_err(CallError::Answer)?;
    let bytes = answer.get(4..).filter(|bytes| !bytes.is_empty());
    let bytes = bytes.ok_or_else(|| CallError::Answer(ErrorKind::UnexpectedEof.into()))?;
    decode_me_answer(bytes).map(|wire| wire.answer).map_err(CallError::Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expect: Call) {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let order = parse(&words).unwrap_or_else(|error| panic!("{line}: {error}"));
        let form = if line.contains("--json") { Form::Json } else { Form::Text };
        assert_eq!(order, Order::Call { call: expect, form }, "{line}");
    }

    fn want(want: MeWant, reason: &str) -> Call {
        Call::Ready(MeCall::Want { want, reason: reason.to_owned() })
    }

    #[test]
    fn the_words_are_those_of_the_host_s_program() {
        check("me", Call::Ready(MeCall::Me));
        check("me --json", Call::Ready(MeCall::Me));
        check("--json status", Call::Ready(MeCall::Status));
        check("log", Call::Ready(MeCall::Log));
        let bergen = || MeWant::Move { to: "bergen".to_owned() };
        check("me move --to bergen", want(bergen(), ""));
        check("me move --reason near --to=bergen", want(bergen(), "near"));
        check("me scale web 3", want(MeWant::Scale { class: "web".to_owned(), to: 3 }, ""));
        let path = "/host/a/memory".to_owned();
        check("me set /host/a/memory 64M", want(MeWant::Set { path, value: Some("64M".to_owned()) }, ""));
        let gauge =
            |name: &str, value: &str| MeCall::Gauge { name: name.to_owned(), value: value.to_owned() };
        check("me gauge load -1.5", Call::Ready(gauge("load", "-1.5")));
        check("me gauge --json", Call::Ready(MeCall::Own));
        check("me upgrade -f p.mln", Call::Upgrade { file: "p.mln".into(), purpose: making() });
        check("plan move --to bergen", Call::Ready(MeCall::Plan(bergen())));
        check(
            "plan scale web 3 --json",
            Call::Ready(MeCall::Plan(MeWant::Scale { class: "web".to_owned(), to: 3 })),
        );
        check("plan upgrade -f p.mln", Call::Upgrade { file: "p.mln".into(), purpose: Purpose::Plan });
    }

    fn making() -> Purpose {
        Purpose::Make { reason: String::new() }
    }

    #[test]
    fn what_means_nothing_is_a_wrong_command_line() {
        for line in [
            "me move",
            "me move --to",
            "me move bergen",
            "me scale web",
            "me scale web many",
            "me scale web 1 --to oslo",
            "me upgrade",
            "me gauge load",
            "me --to oslo",
            "build -f p.mln",
            "me --nothing",
            "plan",
            "plan gauge load 1",
            "plan move",
            "plan move --to oslo --reason why",
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(parse(&words).map_err(|error| error.exit()), Err(USAGE), "{line}");
        }
        assert_eq!(parse(&[]).ok(), Some(Order::Help));
        assert_eq!(parse(&["me".to_owned(), "--help".to_owned()]).ok(), Some(Order::Help));
    }

    #[test]
    fn a_mistyped_word_is_told_with_the_one_that_was_meant() {
        let said = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            parse(&words).expect_err(line).to_string()
        };
        let nothing = "is nothing that a machine can ask";
        let meant = |line: &str, meant: &str| format!("`{line}` {nothing}; did you mean `mlnctl {meant}`?");
        assert_eq!(said("me mvoe --to bergen"), meant("me mvoe", "me move"));
        assert_eq!(said("sttus"), meant("sttus", "status"));
        assert_eq!(said("move --to bergen"), meant("move", "me move --to HOST"));
        assert_eq!(said("scael web 3"), meant("scael web 3", "me scale"));
        assert_eq!(said("plan scal web 3"), meant("plan scal web 3", "plan scale"));
        assert_eq!(said("me log"), meant("me log", "log"));
        assert_eq!(said("me scale web"), "`me scale web` isn't how it is said: mlnctl me scale CLASS N");
        assert_eq!(said("status now"), "`status now` isn't how it is said: mlnctl status");
        assert_eq!(said("plan"), "`plan` lacks what it is about: mlnctl plan move|scale|set|upgrade …");
        assert_eq!(said("plan gauge load 1"), format!("`plan gauge load 1` {nothing}"));
        assert_eq!(said("build -f p.mln"), format!("`build` {nothing}"));
        assert_eq!(said("me --raeson x"), "--raeson means nothing here; did you mean --reason?");
        assert_eq!(said("me --nothing"), "--nothing means nothing here");
    }

    #[test]
    fn where_no_guest_agent_is_no_host_listens() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = ask(&folder.path().join("none"), MeCall::Me).expect_err("nobody is there");
        assert_eq!(error.exit(), NO_AGENT);
        let file = folder.path().join("long");
        std::fs::write(&file, vec![b' '; GUEST_TEXT_BYTES_MAX + 1]).expect("the folder is ours");
        let error = ready(Call::Upgrade { file, purpose: making() }).expect_err("it is too long");
        assert!(matches!(error, CallError::TextLong { .. }), "{error}");
    }
}
