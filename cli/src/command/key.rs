//! `mlnctl key`.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::context::{Home, ReplacedKey};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::ui::screen::Screen;

/// The arguments of `key`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mlnctl key             # for whoever gives you a grant: mlnctl grant --to KEY\n  mlnctl key new --replace\n  mlnctl key confirm     # the host's key, not yours: this host is the right one"
)]
pub struct Key {
    #[command(subcommand)]
    what: Option<What>,
}

/// What to do with the key.
#[derive(Debug, Subcommand)]
enum What {
    /// Say that the agent's host is the right one of those with its key, and that the others are switched off
    #[command(
        after_help = "A host that hears under its own key what it never signed was put back to an older state, or a copy of it \
                      runs. It signs and starts nothing until this is said. Switch the copy off first, or disks are lost.\n\n\
                      Example: mlnctl --peer oslo key confirm"
    )]
    Confirm,
    /// Print its public half, as without a word
    Show,
    /// Make one
    New {
        /// Also where there is one: that is put aside, and grants for it are good for nothing without it
        #[arg(long)]
        replace: bool,
    },
}

impl Key {
    /// Whether it is about the key of the agent's host.
    pub fn is_of_host(&self) -> bool {
        matches!(self.what, Some(What::Confirm))
    }
}

/// Prints the public half of the user's key, which is made if there is none yet.
pub fn run(args: &Key, screen: &Screen) -> Result<Exit, CommandError> {
    let home = Home::of_user()?;
    if let Some(What::New { replace }) = args.what {
        let existing = if replace { ReplacedKey::PutAside } else { ReplacedKey::Refuse };
        home.new_key(existing)?;
    }
    let key = home.key()?.public();
    let folder = home.folder().display().to_string();
    screen.answer(|_layout| format!("{key}\n"), || json!({ "key": key.to_string(), "folder": folder }));
    Ok(Exit::Done)
}
