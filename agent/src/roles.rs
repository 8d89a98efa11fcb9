//! Which role this program plays: the agent of a host, the holder of one VM, or the agent in a guest.
//!
//! Holder and guest are told apart before anything of the host's agent is touched: there may be hundreds of
//! them on one machine, so they start small.

use std::ffi::OsString;
use std::process::ExitCode;

use tracing_subscriber::filter::LevelFilter;

/// A role that needs nothing of the host's agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// The agent of a service host, with the arguments for it.
    Host,
    /// The holder of the VM in this folder.
    Holder(OsString),
    /// The agent inside a virtual machine.
    Guest,
    /// A command inside a virtual machine that its host runs: the word for it and its arguments.
    GuestVerb(Vec<OsString>),
    /// `mlnctl` inside a virtual machine, with its arguments.
    GuestCtl(Vec<OsString>),
}

/// Finds the role from the arguments, of which the first is the program's name.
pub fn role(args: &[OsString]) -> Role {
    let name = args.first().and_then(|a| std::path::Path::new(a).file_name());
    if name.is_some_and(|n| n == "mlnd-guest") && args.len() == 1 {
        return Role::Guest;
    }
    if name.is_some_and(|n| n == crate::guest::me::PROGRAM) {
        return Role::GuestCtl(args[1..].to_vec());
    }
    match args.get(1).and_then(|word| word.to_str()) {
        Some("guest") => Role::Guest,
        Some(crate::guest::verb::COPY | crate::guest::verb::SSH | crate::guest::verb::APPLY) => {
            Role::GuestVerb(args[1..].to_vec())
        }
        Some("holder") if args.len() == 3 => Role::Holder(args[2].clone()),
        Some(_) | None => Role::Host,
    }
}

/// Plays the role of a holder or a guest; returns none where the host's agent is wanted.
pub fn run_small(args: &[OsString]) -> Option<ExitCode> {
    match role(args) {
        Role::Host => None,
        Role::Holder(folder) => {
            log_to_stderr();
            Some(run_holder(&folder))
        }
        Role::GuestCtl(words) => Some(ExitCode::from(crate::guest::me::run(&words))),
        Role::GuestVerb(words) => Some(ExitCode::from(crate::guest::verb::run(&words))),
        Role::Guest => {
            log_to_stderr();
            Some(exit_code(crate::guest::run()))
        }
    }
}

#[cfg(feature = "uml")]
fn run_holder(folder: &std::ffi::OsStr) -> ExitCode {
    exit_code(crate::holder::run(std::path::Path::new(folder)))
}

#[cfg(not(feature = "uml"))]
fn run_holder(_: &std::ffi::OsStr) -> ExitCode {
    tracing::error!("this mlnd is built without the platform `uml`");
    ExitCode::FAILURE
}

fn exit_code<E: std::error::Error + 'static>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "ended");
            ExitCode::FAILURE
        }
    }
}

fn log_to_stderr() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(LevelFilter::INFO)
        .with_ansi(false)
        .without_time()
        .init();
}
