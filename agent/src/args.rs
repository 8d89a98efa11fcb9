//! The command line of the host's agent.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use libp2p::Multiaddr;

/// The MLN agent: one on every service host
#[derive(Debug, Parser)]
#[command(name = "mlnd", version = crate::version::VERSION)]
pub(crate) struct Arguments {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a new mesh, with this host as its first member
    Init {
        /// What the mesh is called, on this host; its identity is its root key
        mesh: String,
        #[command(flatten)]
        host: HostArguments,
        #[command(flatten)]
        recovery: RecoveryArguments,
    },
    /// Join a mesh with a token from `mlnctl token new`; repeating it is harmless
    Join {
        /// The token
        #[arg(env = "MLN_TOKEN", hide_env_values = true)]
        token: String,
        #[command(flatten)]
        host: HostArguments,
    },
    /// Run the agent
    Run(RunArguments),
    /// Leave the mesh; refused while this host carries virtual machines, and while its agent runs
    Leave(DataArguments),
    /// Say that this data folder is the right one, after it was moved or put back: no other host runs with its key
    Confirm(DataArguments),
    /// Look for what is wrong with this machine, without an agent: a line of JSON per check
    Doctor(DataArguments),
    /// Write the manual page of this program
    #[command(hide = true)]
    Manual {
        /// The folder that it goes to
        into: PathBuf,
    },
}

/// How a mesh gets a first host again, after all that could let others in are gone.
#[derive(Debug, Args)]
pub(crate) struct RecoveryArguments {
    /// The kept root key of a mesh that there is: this host becomes a first host of it, instead of a new mesh
    #[arg(long, env = "MLN_ROOT_KEY", value_name = "FILE")]
    pub root_key: Option<PathBuf>,
    /// The file `peers` of any member of that mesh: whom to call
    #[arg(long, value_name = "FILE", requires = "root_key")]
    pub peers: Option<PathBuf>,
}

/// Which host this is.
#[derive(Debug, Args)]
pub(crate) struct HostArguments {
    /// This host's name in the mesh: its `service_host` name in project files
    #[arg(long, env = "MLN_NAME")]
    pub name: String,
    #[command(flatten)]
    pub data: DataArguments,
}

/// Where the agent's state is.
#[derive(Debug, Args)]
pub(crate) struct DataArguments {
    /// The folder with all of the agent's state [default: /var/lib/mln for root, else ~/.local/share/mln]
    #[arg(long, env = "MLN_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// How to run.
#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    #[command(flatten)]
    pub data: DataArguments,
    /// The configuration file [default: config.toml in the data folder]
    #[arg(long, env = "MLN_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where to listen, in place of what the configuration says
    #[arg(long, env = "MLN_LISTEN", value_name = "MULTIADDR", value_delimiter = ',')]
    pub listen: Vec<Multiaddr>,
}
