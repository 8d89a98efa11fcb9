//! What is run: the programs that `make test` sets apart, and the template that guests start from.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use mln_protocol::id::Digest;

use crate::answer::Answer;
use crate::host::LIMIT;
use crate::site::Site;

/// Where other programs than the stories' own are, and where their template is kept.
static OTHERS: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();

/// Runs the programs of another folder, and keeps the template in `cache`; the first call counts.
pub fn run_programs_of(folder: PathBuf, cache: PathBuf) {
    // A second call would be for programs that may already run.
    let _ = OTHERS.set((folder, cache));
}

/// Returns the folder with the programs that stories run.
///
/// The programs of the whole workspace's test build won't do: in that one the core's rules can be switched off.
pub(crate) fn folder() -> PathBuf {
    OTHERS.get().map_or_else(|| target_folder().join("stories/bin"), |(folder, _)| folder.clone())
}

/// Returns the path of one of the programs that stories run.
pub fn program(name: &str) -> PathBuf {
    program_in(&folder(), name)
}

/// Returns the path of a program in a folder of programs.
pub(crate) fn program_in(folder: &Path, name: &str) -> PathBuf {
    // A release's tests name the program of the release before.
    let given = std::env::var_os("MLN_MLND_BEFORE").filter(|_| name == "mlnd-before");
    let path = given.map_or_else(|| folder.join(name), PathBuf::from);
    assert!(path.is_file(), "{} is not there: `make binaries` builds it", path.display());
    path
}

/// Returns the folder that this test was built into.
fn target_folder() -> PathBuf {
    let this = std::env::current_exe().expect("a test knows its own path");
    // TARGET/PROFILE/deps/TEST
    this.ancestors().nth(3).expect("cargo puts tests three folders below its target folder").to_owned()
}

/// Returns a folder of images with the template `mini`, made by `mlnctl template build` if it isn't there yet.
pub(crate) fn images() -> &'static Path {
    static IMAGES: OnceLock<PathBuf> = OnceLock::new();
    IMAGES.get_or_init(|| {
        let cache = std::env::var_os("MLN_TEST_CACHE").map(PathBuf::from);
        let cache = cache.or_else(|| OTHERS.get().map(|(_, cache)| cache.clone()));
        let cache = cache.unwrap_or_else(|| target_folder().join("stories/cache"));
        fs::create_dir_all(&cache).expect("a folder for the template");
        let folder = cache.join(format!("images-{}", recipe().short()));
        // Another test process may be making it.
        let lock = File::create(cache.join("lock")).expect("a lock file");
        lock.lock().expect("a lock");
        if !folder.join("names/mini").exists() {
            make_images(&folder);
        }
        folder
    })
}

/// Returns what the template is made from.
fn recipe() -> Digest {
    let script = include_str!("../../agent/src/image/mini.sh");
    let init = include_str!("../../agent/src/image/mini-init.sh");
    Digest::of(format!("{script}{init}").as_bytes())
}

fn make_images(folder: &Path) {
    let mut site = Site::bare();
    // From the hosts' own networks no way leads to a mirror of Debian.
    site.settle_outside("maker");
    site.host("maker").ctl(&["template", "build", "mini"]).done();
    site.host("maker").kill();
    copy(&site.host("maker").folder().join("images"), folder);
}

/// Gives a folder with all that is in it to a user.
pub(crate) fn give(folder: &Path, uid: u32) {
    let mut command = Command::new("chown");
    command.arg("-R").arg(format!("{uid}:{uid}")).arg(folder);
    Answer::of(command, &[], LIMIT).done();
}

/// Copies a folder of images as they are: holes as holes, and with their times, which layers rely on.
pub(crate) fn copy(from: &Path, to: &Path) {
    let part = to.with_extension("part");
    let _ = fs::remove_dir_all(&part);
    let mut command = Command::new("cp");
    command.args(["-a", "--sparse=always"]).arg(from).arg(&part);
    Answer::of(command, &[], LIMIT).done();
    fs::rename(&part, to).expect("nothing is in the way");
}
