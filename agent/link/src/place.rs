//! Where an agent keeps its state and listens, unless it is told otherwise.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The name of the control socket in an agent's data folder.
pub const SOCKET_NAME: &str = "mlnd.sock";

/// The data folder of the agent that belongs to the machine.
pub const SYSTEM_DATA_FOLDER: &str = "/var/lib/mln";

/// Returns the data folder of the agent that the user `uid` runs; `env` looks up a variable.
///
/// Root's is [`SYSTEM_DATA_FOLDER`], another user's is `mln` in `XDG_DATA_HOME`, which is `~/.local/share`
/// unless set. None where the user has no home.
pub fn data_folder(uid: u32, env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if uid == 0 {
        return Some(PathBuf::from(SYSTEM_DATA_FOLDER));
    }
    // The XDG base directory specification has it that relative paths are ignored.
    let folder = |variable| env(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let share = folder("XDG_DATA_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/share")))?;
    Some(share.join("mln"))
}

/// Returns where the socket of the user's agent may be, likeliest first: the user's own agent, then the
/// machine's.
pub fn socket_candidates(uid: u32, env: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let system = PathBuf::from(SYSTEM_DATA_FOLDER);
    let mut folders: Vec<PathBuf> = data_folder(uid, env).into_iter().collect();
    if !folders.contains(&system) {
        folders.push(system);
    }
    folders.iter().map(|folder| socket_in(folder)).collect()
}

/// Returns the path of the control socket of the agent whose data folder this is.
pub fn socket_in(data_folder: &Path) -> PathBuf {
    data_folder.join(SOCKET_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(uid: u32, env: &[(&str, &str)], expect: &[&str]) {
        let lookup =
            |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
        let expect: Vec<PathBuf> = expect.iter().map(PathBuf::from).collect();
        assert_eq!(socket_candidates(uid, lookup), expect);
    }

    #[test]
    fn the_socket_is_looked_for_at_the_users_agent_and_then_at_the_machines() {
        let system = "/var/lib/mln/mlnd.sock";
        check(0, &[("HOME", "/root")], &[system]);
        check(1000, &[("HOME", "/home/u")], &["/home/u/.local/share/mln/mlnd.sock", system]);
        check(1000, &[("HOME", "/home/u"), ("XDG_DATA_HOME", "/d")], &["/d/mln/mlnd.sock", system]);
        check(1000, &[("HOME", "/h"), ("XDG_DATA_HOME", "d")], &["/h/.local/share/mln/mlnd.sock", system]);
        check(1000, &[], &[system]);
    }
}
