//! What to do next, for everything that goes wrong on this side of the connection.

use mln_link::LinkError;

use crate::error::{CommandError, UsageError};

/// Returns hints, each a sentence with the command to type.
pub fn for_error(error: &CommandError) -> Vec<String> {
    let hints: &[&str] = match error {
        CommandError::NoAgent(_) => &[
            "start the agent of this machine with `mlnd run`, or make a mesh first with `mlnd init MESH --name HOST`",
            "an agent with another data folder is asked by `--peer DIR/mlnd.sock` or MLN_PEER",
        ],
        CommandError::NotPermitted(_) => &[
            "ask whoever runs the agent to add you to its control group, or use an agent of your own: `mlnd run`",
        ],
        CommandError::NoConversation { source: LinkError::Version { .. }, .. } => &[
            "use the mlnctl that came with the agent; `mlnd --version` and `mlnctl --version` tell them apart",
        ],
        CommandError::NoConversation { .. } => &["is --peer the control socket of an agent?"],
        CommandError::BrokeOff(_) => {
            &["see what was done with `mlnctl status`; what was begun goes on without mlnctl"]
        }
        CommandError::Usage(UsageError::NoTarget) => {
            &["name it with -p PROJECT, or say -a for all; `mlnctl list` shows what there is"]
        }
        CommandError::Usage(UsageError::ProjectAndAll(_)) => &["a project may also come from MLN_PROJECT"],
        CommandError::Usage(UsageError::ProjectsFolder(_)) => {
            &["name the project with -p NAME or -p OWNER/NAME; `mlnctl list` shows what there is"]
        }
        CommandError::Usage(UsageError::PeerAddress(_)) => {
            &["any agent of the mesh answers for all of it: give the socket of one on this machine"]
        }
        CommandError::Usage(UsageError::NoTerminal { instead }) => {
            return vec![format!("without a terminal: `{instead}`")];
        }
        CommandError::Usage(UsageError::CopySides(..)) => &[
            "into a VM: `mlnctl cp FILE PROJECT/HOST:/path`; out of it: `mlnctl cp PROJECT/HOST:/path FILE`",
        ],
        CommandError::Usage(UsageError::CopyTreeOfStream) => &["leave out -r"],
        CommandError::Usage(UsageError::SshName(_) | UsageError::SshNowhere) => {
            &["`mlnctl status` lists the hosts of projects"]
        }
        CommandError::Interrupted { .. } => &["see how far it is with `mlnctl status`"],
        CommandError::TooLong { .. } => &["split the project, or move text into files that it copies"],
        CommandError::Usage(UsageError::CopyName(_))
        | CommandError::Copy(_)
        | CommandError::Guest { .. }
        | CommandError::Program { .. }
        | CommandError::ProjectFile(_)
        | CommandError::File { .. }
        | CommandError::Terminal(_) => &[],
    };
    hints.iter().map(|hint| (*hint).to_owned()).collect()
}
