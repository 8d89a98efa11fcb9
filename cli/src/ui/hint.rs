//! What to do next, for everything that goes wrong on this side of the connection.

use mln_door::join::JoinError;
use mln_door::operator::EnterError;
use mln_link::LinkError;
use mln_protocol::wire::Refusal;

use crate::context::ContextError;
use crate::error::{CommandError, Stop, UsageError};

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
        CommandError::Enter { source, .. } => match &**source {
            EnterError::Refused { why: Refusal::ChainLength, .. } => &[
                "your key has no grant there: `mlnctl key` prints it; send it to somebody who is in the mesh",
                "they say `mlnctl grant --to KEY --name YOU` (or, on a host, `mlnctl token new --role operator`) and send you what it prints; you take that with `mlnctl ctx join TEXT`",
            ],
            EnterError::Refused { why: Refusal::Expired, .. } => &[
                "your grant has ended: join again with a new token, `mlnctl ctx join TOKEN`; or is a clock wrong?",
            ],
            EnterError::Refused { why: Refusal::Revoked, .. } => &[
                "your grant, or the one that it came from, was taken back; `mlnctl grant list` on a host says by whom and why",
                "who may give grants can give you a new one: `mlnctl grant --to KEY`, with what `mlnctl key` prints here; you take it with `mlnctl ctx join TEXT`",
            ],
            EnterError::Refused { .. } => &[
                "`mlnctl ctx show` says what your grants allow; a new token is redeemed with `mlnctl ctx join TOKEN`",
            ],
            EnterError::NotAHost { .. } => {
                &["it may be an agent of another mesh: `mlnctl ctx list` shows yours, `--peer NAME` uses one"]
            }
            EnterError::Connect(_) | EnterError::Timeout { .. } => &[
                "does an agent run there, and may its port (usually 7117) be reached? another one is asked by `--peer HOST[:PORT]`",
            ],
            EnterError::Closed { .. } => {
                &["an agent that has refused a key too often doesn't listen to it for a while: try later"]
            }
            EnterError::NoOperators { .. } | EnterError::Unexpected { .. } | EnterError::Decode { .. } => &[
                "is it an agent, and of a version that serves operators? `mlnd --version` on its host tells",
            ],
        },
        CommandError::Token(_) => {
            &["a token begins with mln1_ and is one line: `mlnctl token new --role operator` prints it"]
        }
        CommandError::Join(JoinError::OtherRole { .. }) => &[
            "an operator's token comes from `mlnctl token new --role operator`; a host's is redeemed by `mlnd join TOKEN --name HOST`",
        ],
        CommandError::Join(JoinError::Refused(Refusal::Expired)) => {
            &["ask for a new token: `mlnctl token new --role operator`, with --ttl for how long it is good"]
        }
        CommandError::Join(JoinError::Refused(Refusal::OtherName)) => {
            &["leave --as out: the token says for whom it is"]
        }
        CommandError::Join(_) => {
            &["the token names the host that made it: it must run, and be reachable from here"]
        }
        CommandError::NotGranted(_) => {
            &["`mlnctl ctx show` says what you have; whoever gave you that can give more: `mlnctl grant`"]
        }
        CommandError::Chain(_) => &[
            "a grant is for one key: `mlnctl key` prints yours, and `mlnctl grant --to KEY` there gives one",
        ],
        CommandError::Context(ContextError::KeyExists(_)) => {
            &["`mlnctl key` prints it; a grant for a new key comes from `mlnctl grant --to KEY`"]
        }
        CommandError::Usage(UsageError::Grantee(_) | UsageError::NoGrantOf(_)) => {
            &["`mlnctl grant list` names them; a key is what `mlnctl key` prints there"]
        }
        CommandError::Usage(UsageError::NoGranteeName) => &["add --name OWNER"],
        CommandError::Context(ContextError::Open { .. }) => {
            &["make it a secret again with `chmod 600`; if others may have read it, remove it and join again"]
        }
        CommandError::Context(ContextError::Unknown { .. }) => {
            &["`mlnctl ctx list` shows them; `local` is the agent of this machine"]
        }
        CommandError::Context(ContextError::Taken(_)) => {
            &["give it another name with --name, or remove the other one with `mlnctl ctx rm NAME`"]
        }
        CommandError::Context(_) => &[],
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
        CommandError::Usage(UsageError::PeerAddress(_)) | CommandError::UnknownPeer { .. } => &[
            "--peer takes a control socket or data folder (DIR/mlnd.sock), `local`, a context of `mlnctl ctx list`, or HOST[:PORT] as the network knows it; what hosts are called in the mesh it does not know: `mlnctl peers` has their addresses",
        ],
        CommandError::Usage(UsageError::NoContext) => {
            &["`mlnctl ctx list` shows them; `mlnctl ctx use NAME`"]
        }
        CommandError::Usage(UsageError::NoOwner) => {
            &["say it with --as NAME: what you build is yours under it"]
        }
        CommandError::Usage(UsageError::LocalIsTaken | UsageError::Right(..)) => &[],
        CommandError::Usage(UsageError::FormOfAgents) => &["use --json"],
        CommandError::Usage(UsageError::HostTokenOptions) => &["add --role operator"],
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
        CommandError::NoSuchHost { .. } => &["`mlnctl status -p PROJECT` lists its hosts"],
        CommandError::NotLive { by: Stop::MayReboot, .. } => &[
            "leave its memory as it is, or leave it out of -l: only taking memory from it tells whether it has it free",
        ],
        CommandError::NotLive { by: Stop::Reboot, .. } => &[
            "what the plan marks with `reboot` or `rebuild` costs it a start: leave that as it is, or leave it out of -l",
        ],
        CommandError::NotLive { by: Stop::Move, .. } => {
            &["leave it on its service host, or leave it out of -l"]
        }
        CommandError::NotLive { by: Stop::Removal, .. } => {
            &["leave it in the project, or leave it out of -l"]
        }
        CommandError::FileExists { .. } => &["give it another name, or replace it with --force"],
        CommandError::NoSuchPlaced { .. } => &["`mlnctl import --check FILE` lists its hosts"],
        CommandError::Misfit { .. } => &[
            "export again, without --snapshot or with one that is newer: then its disks are as its text says",
        ],
        CommandError::Edit { .. } => &["`mlnctl show -p PROJECT --source` prints the text"],
        CommandError::Export(_) => &["`mlnctl import --check FILE` says what is in one that is whole"],
        CommandError::Interrupted { .. } => &["see how far it is with `mlnctl status`"],
        CommandError::TooLong { .. } => &["split the project, or move text into files that it copies"],
        CommandError::Usage(UsageError::CopyName(_))
        | CommandError::Copy(_)
        | CommandError::Guest { .. }
        | CommandError::Program { .. }
        | CommandError::ProjectFile(_)
        | CommandError::File { .. }
        | CommandError::Write { .. }
        | CommandError::Terminal(_) => &[],
    };
    hints.iter().map(|hint| (*hint).to_owned()).collect()
}
