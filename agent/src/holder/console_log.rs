//! What a guest writes to its console: kept within a limit, and watched for the kernel's last words.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::files::{CONSOLE, CONSOLE_OLDER};

/// The size at which a log is put aside, in bytes; the one put aside before is then gone.
pub const CONSOLE_BYTES_MAX: u64 = 256 << 10;
/// The longest line that is looked at, in bytes.
const LINE_BYTES_MAX: usize = 512;
const PANIC: &str = "Kernel panic - not syncing: ";

/// The console log of a guest.
#[derive(Debug)]
pub(super) struct ConsoleLog {
    folder: PathBuf,
    file: File,
    bytes: u64,
    line: Vec<u8>,
}

impl ConsoleLog {
    /// Opens the log for another boot; what is there is kept.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(folder.join(CONSOLE))?;
        let bytes = file.metadata()?.len();
        Ok(Self { folder: folder.to_owned(), file, bytes, line: Vec::new() })
    }

    /// Appends to the log; returns why the kernel gave up, if that is in there.
    ///
    /// A log that can't be written (the disk is full) loses lines, and the guest runs on.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Option<String> {
        if self.bytes + bytes.len() as u64 > CONSOLE_BYTES_MAX {
            let _ = self.rotate();
        }
        if self.file.write_all(bytes).is_ok() {
            self.bytes += bytes.len() as u64;
        }
        let mut panic = None;
        for &byte in bytes {
            if byte == b'\n' {
                let line = String::from_utf8_lossy(&self.line);
                if let Some((_, words)) = line.split_once(PANIC) {
                    panic = Some(words.trim().to_owned());
                }
                self.line.clear();
            } else if self.line.len() < LINE_BYTES_MAX {
                self.line.push(byte);
            }
        }
        panic
    }

    fn rotate(&mut self) -> io::Result<()> {
        std::fs::rename(self.folder.join(CONSOLE), self.folder.join(CONSOLE_OLDER))?;
        self.file = OpenOptions::new().create(true).append(true).open(self.folder.join(CONSOLE))?;
        self.bytes = 0;
        Ok(())
    }
}

/// Returns the last lines of a guest's console, oldest first.
pub fn tail(folder: &Path, lines: usize) -> Vec<String> {
    let mut text = Vec::new();
    for name in [CONSOLE_OLDER, CONSOLE] {
        text.extend(std::fs::read(folder.join(name)).unwrap_or_default());
    }
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].iter().map(|line| line.trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_stays_within_its_limit_and_keeps_the_newest() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut log = ConsoleLog::open(folder.path()).expect("opens");
        let count = 3 * CONSOLE_BYTES_MAX / 10;
        for n in 0..count {
            assert_eq!(log.append(format!("{n:09}\n").as_bytes()), None);
        }
        let size = |name| std::fs::metadata(folder.path().join(name)).expect("is there").len();
        assert!(size(CONSOLE) <= CONSOLE_BYTES_MAX && size(CONSOLE_OLDER) <= CONSOLE_BYTES_MAX);
        let want = [format!("{:09}", count - 2), format!("{:09}", count - 1)];
        assert_eq!(tail(folder.path(), 2), want);
    }

    #[test]
    fn the_kernels_last_words_are_noticed_in_pieces() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut log = ConsoleLog::open(folder.path()).expect("opens");
        assert_eq!(log.append(b"fine\nKernel panic - not sync"), None);
        assert_eq!(log.append(b"ing: sysrq triggered crash\r\nmore"), Some("sysrq triggered crash".into()));
    }
}
