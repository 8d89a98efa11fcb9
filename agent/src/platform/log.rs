//! The log of a VM's console, from its last lines on and as it grows.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::holder::files::{CONSOLE, CONSOLE_OLDER};

/// How much is returned at a time, in bytes.
const READ_BYTES: usize = 32 << 10;

/// The log of a VM's console. It survives that the log is put aside and begun again, and waits without looking.
#[derive(Debug)]
pub struct ConsoleLog {
    folder: PathBuf,
    /// What is told first.
    last_lines: Vec<u8>,
    /// What is told next, of a file that was put aside.
    rest: Vec<u8>,
    /// None where nothing has been written yet.
    file: Option<File>,
    changes: AsyncFd<OwnedFd>,
}

impl ConsoleLog {
    /// Opens the log in a VM's folder.
    pub(super) fn open(folder: &Path, lines: usize) -> io::Result<Self> {
        let changes = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        // Before the first look, so that nothing comes between. Not what is written to other files: the disk is here.
        let other =
            WatchFlags::CREATE | WatchFlags::MOVED_FROM | WatchFlags::DELETE_SELF | WatchFlags::ONLYDIR;
        inotify::add_watch(&changes, folder, other)?;
        // SAFETY: an `OwnedFd` is open, stays open and is the same descriptor until it is dropped.
        let changes = unsafe { AsyncFd::register(changes) }?;
        let mut log =
            Self { folder: folder.to_owned(), last_lines: Vec::new(), rest: Vec::new(), file: None, changes };
        let mut text = std::fs::read(folder.join(CONSOLE_OLDER)).unwrap_or_default();
        if log.reopen()?
            && let Some(file) = &mut log.file
        {
            file.read_to_end(&mut text)?;
        }
        log.last_lines = text.split_off(start_of_last(&text, lines));
        Ok(log)
    }

    /// Returns the last lines that were there when it was opened; nothing the second time.
    pub fn last_lines(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.last_lines)
    }

    /// Waits for more, and returns it; none when the VM is removed. Cancel-safe.
    pub async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(bytes) = self.read()? {
                return Ok(Some(bytes));
            }
            if !self.folder.is_dir() {
                return Ok(None);
            }
            if self.reopen()? {
                continue;
            }
            let drain = |fd: &OwnedFd| {
                let mut events = [0; 4096];
                rustix::io::read(fd.as_fd(), &mut events).map_err(io::Error::from)
            };
            self.changes.async_io(Interest::READABLE, drain).await?;
        }
    }

    /// Reads what is there and was not returned yet.
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        if !self.rest.is_empty() {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        let Some(file) = &mut self.file else { return Ok(None) };
        let mut bytes = vec![0; READ_BYTES];
        let count = file.read(&mut bytes)?;
        bytes.truncate(count);
        Ok((count > 0).then_some(bytes))
    }

    /// Opens the file that has the log's name if it is another than the one that is open; says whether it was.
    fn reopen(&mut self) -> io::Result<bool> {
        let path = self.folder.join(CONSOLE);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => opened?,
        };
        let (found, open) = (file.metadata()?, self.file.as_ref().map(File::metadata).transpose()?);
        if open.is_some_and(|open| (open.dev(), open.ino()) == (found.dev(), found.ino())) {
            return Ok(false);
        }
        match inotify::add_watch(self.changes.get_ref(), &path, WatchFlags::MODIFY) {
            // Put aside meanwhile: that is a change too.
            Ok(_) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        // What was written to the one before after we read it; it was put aside, and is not written any more.
        if let Some(before) = &mut self.file {
            before.read_to_end(&mut self.rest)?;
        }
        self.file = Some(file);
        Ok(true)
    }
}

/// Returns where the last `lines` lines begin.
fn start_of_last(text: &[u8], lines: usize) -> usize {
    if lines == 0 {
        return text.len();
    }
    // The end of the text is the end of its last line, whether it says so or not.
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    body.iter()
        .rev()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n')
        .nth(lines - 1)
        .map_or(0, |(at, _)| body.len() - at)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    fn append(folder: &Path, text: &str) {
        let mut file = File::options().create(true).append(true).open(folder.join(CONSOLE)).expect("opens");
        file.write_all(text.as_bytes()).expect("writes");
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).expect("text")
    }

    #[tokio::test]
    async fn the_last_lines_come_from_both_files() {
        let folder = folder();
        std::fs::write(folder.path().join(CONSOLE_OLDER), "one\ntwo\n").expect("writes");
        append(folder.path(), "three\nfo");
        for (lines, want) in [(0, ""), (1, "fo"), (3, "two\nthree\nfo"), (9, "one\ntwo\nthree\nfo")] {
            let mut log = ConsoleLog::open(folder.path(), lines).expect("opens");
            assert_eq!(text(log.last_lines()), want, "{lines} lines");
            assert_eq!(log.last_lines(), b"");
        }
    }

    #[tokio::test]
    async fn what_is_written_later_comes_also_after_the_log_was_put_aside() {
        let folder = folder();
        let path = folder.path();
        let mut log = ConsoleLog::open(path, 10).expect("opens");
        assert_eq!(log.last_lines(), b"");
        let mut seen = String::new();
        let mut until = async |log: &mut ConsoleLog, want: &str| {
            while !seen.ends_with(want) {
                seen += &text(log.next().await.expect("reads").expect("it goes on"));
            }
        };
        append(path, "first\n");
        until(&mut log, "first\n").await;
        let (waited, ()) = tokio::join!(log.next(), async { append(path, "second\n") });
        assert_eq!(text(waited.expect("reads").expect("it goes on")), "second\n");
        append(path, "unread\n");
        std::fs::rename(path.join(CONSOLE), path.join(CONSOLE_OLDER)).expect("renames");
        append(path, "third\n");
        until(&mut log, "unread\nthird\n").await;
        let (waited, ()) = tokio::join!(log.next(), async { append(path, "fourth\n") });
        assert_eq!(text(waited.expect("reads").expect("it goes on")), "fourth\n");
        let removed = folder.path().to_owned();
        folder.close().expect("removes");
        assert!(log.next().await.expect("reads").is_none(), "{} is gone", removed.display());
    }
}
