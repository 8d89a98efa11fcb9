//! The lines that a guest runs when it shuts down, before anything in it is stopped.
//!
//! They are run by its init, which is the one that knows: that of `mini` looks for the script; systemd has a unit for it,
//! which is started last, and so stopped first.

use std::fs;
use std::io;
use std::path::Path;

use super::apply::{ApplyError, run, write_file};

/// The script.
const SCRIPT: &str = "/run/mln/shutdown";
/// There where systemd is the init.
const SYSTEMD: &str = "/run/systemd/system";
/// Its unit.
const UNIT: &str = "mln-shutdown.service";
/// The text of the unit. The lines have half a minute, as in `mini`: half of what a stop takes where nobody says how long.
const UNIT_TEXT: &str = "[Unit]
Description=Shutdown lines of the MLN project
After=multi-user.target network.target mln-agent.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=/bin/sh /run/mln/shutdown
TimeoutStopSec=30
TimeoutStopFailureMode=kill
StandardOutput=journal+console
StandardError=journal+console
";

/// Puts the lines where the init finds them; where there are none, nothing is left of earlier ones.
pub(super) fn prepare(lines: &[String]) -> Result<(), ApplyError> {
    if lines.is_empty() {
        return match fs::remove_file(SCRIPT) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(ApplyError::File { what: "removing", path: SCRIPT.to_owned(), source })
            }
            Ok(()) | Err(_) => Ok(()),
        };
    }
    let text = lines.join("\n") + "\n";
    write_file(Path::new(SCRIPT), text.as_bytes(), 0o700)?;
    let systemd = Path::new(SYSTEMD);
    if systemd.is_dir() {
        write_file(&systemd.join(UNIT), UNIT_TEXT.as_bytes(), 0o644)?;
        // It is not waited for: it comes after what waits for us.
        run("systemctl", &["start", "--no-block", UNIT])?;
    }
    Ok(())
}
