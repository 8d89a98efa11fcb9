//! `mlnctl key`.

use serde_json::json;

use crate::context::Home;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::ui::screen::Screen;

/// Prints the public half of the user's key, which is made if there is none yet.
pub fn run(screen: &Screen) -> Result<Exit, CommandError> {
    let home = Home::of_user()?;
    let key = home.key()?.public();
    let folder = home.folder().display().to_string();
    screen.answer(|_layout| format!("{key}\n"), || json!({ "key": key.to_string(), "folder": folder }));
    Ok(Exit::Done)
}
