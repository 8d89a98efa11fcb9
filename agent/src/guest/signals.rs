//! What signals do to the processes that the guest agent starts.

use nix::sys::signal::{SigHandler, Signal, signal};

/// The signals that a terminal sends for its keys, and that a shell has what it puts in the background ignore.
const OF_KEYS: [Signal; 2] = [Signal::SIGINT, Signal::SIGQUIT];

/// Lets interrupt and quit do what they usually do, in this process and so in those that it starts.
///
/// An init that is a shell script starts the agent in the background, where POSIX has both ignored (Shell Command
/// Language, 2.12); what is ignored stays so over exec, and no Ctrl-C would end anything on a guest's terminal.
pub(super) fn obey_keys() -> nix::Result<()> {
    for key in OF_KEYS {
        // SAFETY: the default action is no function of ours that could be run at a bad moment.
        unsafe { signal(key, SigHandler::SigDfl) }?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn what_is_started_can_be_interrupted_although_this_could_not() {
        for key in OF_KEYS {
            // SAFETY: as above.
            unsafe { signal(key, SigHandler::SigIgn) }.expect("both can be ignored");
        }
        obey_keys().expect("both have a usual action");
        let status = Command::new("sh").args(["-c", "kill -INT $$; exit 3"]).status().expect("a shell");
        assert_eq!(status.code(), None, "it ended by the signal");
    }
}
