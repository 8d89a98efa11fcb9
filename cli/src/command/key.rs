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
    after_help = "Examples:\n  mlnctl key             # for whoever gives you a grant: mlnctl grant --to KEY\n  mlnctl key new --replace"
)]
pub struct Key {
    #[command(subcommand)]
    what: Option<What>,
}

/// What to do with the key.
#[derive(Debug, Subcommand)]
enum What {
    /// Print its public half, as without a word
    Show,
    /// Make one
    New {
        /// Also where there is one: that is put aside, and grants for it are good for nothing without it
        #[arg(long)]
        replace: bool,
    },
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
