//! The template `mini`: a Debian of some 20 MB without systemd, made without mounting anything.
//!
//! As root, or as an ordinary user under fakeroot, so that files have their owners.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use mln_protocol::id::Name;

use super::store::{ImageError, ImageStore, TOOL_PATH, Template};

/// The largest size of a disk over the template without another file below it, in bytes.
const MINI_BYTES: u64 = 4 << 30;
const SCRIPT: &str = include_str!("mini.sh");
const INIT: &str = include_str!("mini-init.sh");
/// What is shown of the output of a script that failed, in lines.
const OUTPUT_LINES: usize = 12;

/// Why the template could not be built. The store is as it was.
#[derive(Debug, thiserror::Error)]
pub enum MiniError {
    /// A program that the recipe needs isn't there.
    #[error("{tool} is not installed; try: apt-get install {package}")]
    MissingTool {
        /// The program.
        tool: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// The recipe could not be run.
    #[error("running the recipe")]
    Run(#[source] io::Error),
    /// The recipe failed.
    #[error("the recipe failed; its last words:\n{output}")]
    Failed {
        /// The last lines of its output.
        output: String,
    },
    /// The store refused the result.
    #[error(transparent)]
    Store(#[from] ImageError),
}

/// Builds the template and adds it under `name`; `progress` is told of each step as it begins.
///
/// Takes some seconds, most of it downloads from the Debian mirror that this machine uses. Blocks.
pub fn build_mini(
    store: &ImageStore,
    name: &Name,
    mut progress: impl FnMut(&str),
) -> Result<Template, MiniError> {
    let root = rustix::process::geteuid().is_root();
    let mut tools = vec![("mmdebstrap", "mmdebstrap"), ("mke2fs", "e2fsprogs")];
    if !root {
        tools.push(("fakeroot", "fakeroot"));
    }
    for (tool, package) in tools {
        if !TOOL_PATH.split(':').any(|folder| Path::new(folder).join(tool).exists()) {
            return Err(MiniError::MissingTool { tool, package });
        }
    }
    let work = store.work_folder()?;
    let image = work.path().join("mini.img");
    std::fs::write(work.path().join("init"), INIT).map_err(MiniError::Run)?;
    let mut command = if root { Command::new("sh") } else { Command::new("fakeroot") };
    if !root {
        command.arg("sh");
    }
    let mut child = command
        .args(["-c", SCRIPT, "mini"])
        .arg(work.path())
        .arg(&image)
        .arg(MINI_BYTES.to_string())
        .env("PATH", TOOL_PATH)
        .env("TMPDIR", work.path())
        .env("LC_ALL", "C.UTF-8")
        .current_dir(work.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(MiniError::Run)?;
    let mut last = VecDeque::with_capacity(OUTPUT_LINES);
    if let Some(output) = child.stderr.take() {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Some(step) = line.strip_prefix("I: ") {
                progress(step);
            }
            if last.len() == OUTPUT_LINES {
                last.pop_front();
            }
            last.push_back(line);
        }
    }
    if !child.wait().map_err(MiniError::Run)?.success() {
        return Err(MiniError::Failed { output: Vec::from(last).join("\n") });
    }
    progress("adding it to the store");
    Ok(store.add(&image, name, None)?)
}
