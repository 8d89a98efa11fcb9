//! Templates that this program knows how to make: scripts around `mmdebstrap` and `mke2fs`, without mounting anything.
//!
//! As root, or as an ordinary user under fakeroot, so that files have their owners. The mirror is the one that the
//! machine's own apt uses, by its own proxy.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use mln_protocol::id::Name;
use mln_protocol::model::MemoryMib;

use super::error::ImageError;
use super::store::{ImageStore, MEMORY_MIN, NewName, NewVersion, TOOL_PATH, Template};

/// The largest size of a disk over a template without another file below it, in bytes.
const IMAGE_BYTES: u64 = 4 << 30;
/// What is shown of the output of a script that failed, in lines.
const OUTPUT_LINES: usize = 12;

/// A template that this program knows how to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recipe {
    /// A Debian of some 20 MB without systemd.
    Mini,
    /// A Debian with systemd, apt and an ssh server.
    Debian,
}

impl Recipe {
    /// Every recipe.
    pub const ALL: [Self; 2] = [Self::Mini, Self::Debian];

    /// Returns what it is called, and its template.
    pub fn word(self) -> &'static str {
        match self {
            Self::Mini => "mini",
            Self::Debian => "debian",
        }
    }

    /// Returns the recipe of a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|recipe| recipe.word() == name)
    }

    /// Returns whether further packages can be installed: for that the packages' own scripts must run.
    pub fn takes_packages(self) -> bool {
        self == Self::Debian
    }

    fn script(self) -> &'static str {
        match self {
            Self::Mini => include_str!("mini.sh"),
            Self::Debian => include_str!("debian.sh"),
        }
    }

    /// Returns the files that the script finds in its folder.
    fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Mini => &[("init", include_str!("mini-init.sh"))],
            Self::Debian => &[("mln-agent.service", include_str!("debian-agent.service"))],
        }
    }

    /// Returns the least memory that a guest of it boots with, and shuts down cleanly (measured).
    fn memory_min(self) -> MemoryMib {
        match self {
            Self::Mini => MEMORY_MIN,
            Self::Debian => MemoryMib(64),
        }
    }
}

/// Why the template could not be built. The store is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
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

/// Builds `mini` and adds it under `name`.
pub fn build_mini(
    store: &ImageStore,
    name: &Name,
    progress: impl FnMut(&str),
) -> Result<Template, RecipeError> {
    build_recipe(store, Recipe::Mini, name, &[], progress)
}

/// Builds a template and adds it under `name`; `progress` is told of each step as it begins. `packages` are installed
/// as well, where the recipe [takes them](Recipe::takes_packages), and are names and nothing else.
///
/// Takes some seconds or minutes, most of it downloads from the Debian mirror that this machine uses. Blocks.
pub fn build_recipe(
    store: &ImageStore,
    recipe: Recipe,
    name: &Name,
    packages: &[&str],
    mut progress: impl FnMut(&str),
) -> Result<Template, RecipeError> {
    let is_root = rustix::process::geteuid().is_root();
    check_tools(recipe, is_root)?;
    let work = store.work_folder()?;
    let image = work.path().join("root.img");
    for (file, text) in recipe.files() {
        std::fs::write(work.path().join(file), text).map_err(RecipeError::Run)?;
    }
    let mut command = match (recipe, is_root) {
        (Recipe::Mini, false) => {
            let mut command = Command::new("fakeroot");
            command.arg("sh");
            command
        }
        // The other script does with fakeroot only what needs it.
        (Recipe::Mini, true) | (Recipe::Debian, _) => Command::new("sh"),
    };
    let mut child = command
        .args(["-c", recipe.script(), recipe.word()])
        .arg(work.path())
        .arg(&image)
        .arg(IMAGE_BYTES.to_string())
        .arg(packages.join(","))
        .env("PATH", TOOL_PATH)
        .env("TMPDIR", work.path())
        .env("LC_ALL", "C.UTF-8")
        .current_dir(work.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(RecipeError::Run)?;
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
    if !child.wait().map_err(RecipeError::Run)?.success() {
        return Err(RecipeError::Failed { output: Vec::from(last).join("\n") });
    }
    progress("adding it to the store");
    let new = NewName { name, version: NewVersion::Next, memory_min: recipe.memory_min() };
    Ok(store.add(&image, &new)?)
}

fn check_tools(recipe: Recipe, is_root: bool) -> Result<(), RecipeError> {
    let mut tools = vec![("mmdebstrap", "mmdebstrap"), ("mke2fs", "e2fsprogs")];
    if !is_root {
        tools.push(("fakeroot", "fakeroot"));
        if recipe == Recipe::Debian {
            // Its packages are configured, so a root of its own is needed, and user numbers for it.
            tools.push(("newuidmap", "uidmap"));
        }
    }
    let is_there = |tool: &str| TOOL_PATH.split(':').any(|folder| Path::new(folder).join(tool).exists());
    match tools.into_iter().find(|(tool, _)| !is_there(tool)) {
        Some((tool, package)) => Err(RecipeError::MissingTool { tool, package }),
        None => Ok(()),
    }
}
