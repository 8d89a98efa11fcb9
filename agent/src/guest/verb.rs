//! What the guest agent's program does when the host runs it as a command: copies, an ssh server, and what its definition
//! says by now.
//!
//! Each is one process with its three streams, like any other command; the agent itself isn't concerned. The host
//! names the program `/proc/self/exe`, which is the guest agent's own, wherever a template has it.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;

use mln_copy::{CopyError, Depth, Form, GREETING, Sealing, Unsealing};

use super::live::{self, LiveError};
use super::ssh::{self, SshError};
use crate::causes::chain;

/// The word for [`Verb::Receive`] and [`Verb::Send`].
pub const COPY: &str = "guest-copy";
/// The word for [`Verb::HostKey`] and [`Verb::Ssh`].
pub const SSH: &str = "guest-ssh";

/// The word for [`Verb::Apply`], [`Verb::Memory`], [`Verb::Available`] and [`Verb::Probe`].
pub const APPLY: &str = "guest-apply";
/// The exit status of a guest agent from before there was a verb.
pub const OLDER: i32 = 64;

/// What to do, with its arguments.
#[derive(Debug, PartialEq, Eq)]
enum Verb<'a> {
    /// Put what comes on standard input into a file or folder.
    Receive { form: Form, wanted: &'a Path, name: Option<&'a OsStr> },
    /// Write a file or folder to standard output.
    Send { form: Form, depth: Depth, source: &'a Path },
    /// Print the public key of this guest.
    HostKey,
    /// Be an ssh server for one connection, which is standard input and output.
    Ssh { user: &'a str, key: &'a str },
    /// Take back what was authorised for a connection, once that is over.
    Clear { user: &'a str, process: u32 },
    /// Apply the seed that comes on standard input, as at a boot.
    Apply,
    /// Nothing: that it is known is what the host asks.
    Probe,
    /// Let go of memory that holds what can be read again, and say how much is free, in KiB.
    Memory,
    /// Say how much memory could be free, in KiB, and change nothing.
    Available,
}

#[derive(Debug, thiserror::Error)]
enum VerbError {
    #[error("this guest agent doesn't know what it is asked for; is mlnctl newer? restart the VM")]
    Unknown,
    #[error(transparent)]
    Copy(#[from] CopyError),
    #[error(transparent)]
    Ssh(#[from] SshError),
    #[error(transparent)]
    Live(#[from] LiveError),
    #[error("answering")]
    Answer(#[source] io::Error),
}

/// Does what the arguments after the program's name say; returns the exit status.
pub fn run(words: &[OsString]) -> u8 {
    let done = parse(words).ok_or(VerbError::Unknown).and_then(carry_out);
    match done {
        Ok(()) => 0,
        Err(error) => {
            // The host shows it, and it is all that it can show.
            let _ = writeln!(io::stderr(), "{}", chain(&error));
            1
        }
    }
}

fn parse(words: &[OsString]) -> Option<Verb<'_>> {
    let (verb, rest) = words.split_first()?;
    let text: Vec<&str> = rest.iter().map(|word| word.to_str().unwrap_or_default()).collect();
    match (verb.to_str()?, &text[..], rest) {
        (COPY, ["receive", "archive", ..], [_, _, wanted, name]) => {
            Some(Verb::Receive { form: Form::Archive, wanted: Path::new(wanted), name: Some(name) })
        }
        (COPY, ["receive", "content", ..], [_, _, wanted]) => {
            Some(Verb::Receive { form: Form::Content, wanted: Path::new(wanted), name: None })
        }
        (COPY, ["send", "file", ..], [_, _, source]) => {
            Some(Verb::Send { form: Form::Archive, depth: Depth::File, source: Path::new(source) })
        }
        (COPY, ["send", "tree", ..], [_, _, source]) => {
            Some(Verb::Send { form: Form::Archive, depth: Depth::Tree, source: Path::new(source) })
        }
        (COPY, ["send", "content", ..], [_, _, source]) => {
            Some(Verb::Send { form: Form::Content, depth: Depth::File, source: Path::new(source) })
        }
        (SSH, ["host-key"], _) => Some(Verb::HostKey),
        (SSH, ["serve", user, key], _) => Some(Verb::Ssh { user, key }),
        (APPLY, ["seed"], _) => Some(Verb::Apply),
        (APPLY, ["memory"], _) => Some(Verb::Memory),
        (APPLY, ["available"], _) => Some(Verb::Available),
        (APPLY, ["probe"], _) => Some(Verb::Probe),
        (SSH, ["clear", user, process], _) => Some(Verb::Clear { user, process: process.parse().ok()? }),
        _ => None,
    }
}

fn carry_out(verb: Verb<'_>) -> Result<(), VerbError> {
    let mut out = io::stdout().lock();
    let mut say =
        |text: &str| out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(VerbError::Answer);
    match verb {
        Verb::Receive { form, wanted, name } => {
            say(GREETING)?;
            let target = mln_copy::destination(wanted, name)?;
            say("ready\n")?;
            let seal = mln_copy::unpack(Unsealing::new(io::stdin().lock()), form, &target)?;
            say(&format!("{seal}\n"))
        }
        Verb::Send { form, depth, source } => {
            say(GREETING)?;
            let bytes = mln_copy::measure(source, depth)?;
            say(&format!("{bytes}\n"))?;
            let mut sealing = Sealing::new(&mut out);
            match form {
                Form::Archive | Form::OneFile => drop(mln_copy::pack(source, depth, &mut sealing)?),
                Form::Content => {
                    let reading =
                        |error| CopyError::Disk { what: "reading", path: source.to_owned(), source: error };
                    let mut file = std::fs::File::open(source).map_err(reading)?;
                    io::copy(&mut file, &mut sealing).map_err(reading)?;
                }
            }
            sealing.finish().map_err(VerbError::Answer)?;
            Ok(())
        }
        Verb::HostKey => say(&format!("{}\n", ssh::host_key()?)),
        Verb::Clear { user, process } => Ok(ssh::clear(user, process)?),
        Verb::Apply => Ok(live::run(io::stdin().lock())?),
        Verb::Probe => Ok(()),
        Verb::Memory => say(&format!("{}\n", live::free_memory_kib()?)),
        Verb::Available => say(&format!("{}\n", live::available_memory_kib()?)),
        Verb::Ssh { user, key } => Ok(ssh::serve(user, key)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_requests_are_understood() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        let copy = words("guest-copy receive archive /to name");
        assert_eq!(parse(&words("guest-apply available")), Some(Verb::Available));
        let name = Some(OsStr::new("name"));
        let wanted = Path::new("/to");
        assert_eq!(parse(&copy), Some(Verb::Receive { form: Form::Archive, wanted, name }));
        assert_eq!(parse(&words("guest-ssh host-key")), Some(Verb::HostKey));
        for line in
            ["guest-copy", "guest-copy receive", "guest-copy send tree", "guest-ssh serve", "guest-x y"]
        {
            assert_eq!(parse(&words(line)), None, "{line}");
        }
    }
}
