//! The file of events: lines of JSON, in two files of limited size, written by a thread of their own.
//!
//! Nothing depends on it, so it is not synced: a power cut may take the last lines, or half of one, and readers
//! skip what is no line.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use mln_link::message::EventRow;
use tracing::warn;

/// The newer of the two files.
const FILE: &str = "events.jsonl";
/// The older one.
const FILE_BEFORE: &str = "events.1.jsonl";
/// How large the newer file becomes before it is the older one, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// How many lines may wait for the disk; past that they are not written.
const LINES_WAITING_MAX: usize = 1024;

/// Hands lines to the thread that writes them.
#[derive(Debug)]
pub(super) struct Journal {
    lines: Option<SyncSender<String>>,
}

impl Journal {
    /// Starts the thread.
    pub(super) fn start(data: &Path) -> Self {
        let (lines, waiting) = sync_channel(LINES_WAITING_MAX);
        let folder = data.to_owned();
        let work = move || write_all(folder, &waiting);
        match std::thread::Builder::new().name("events".to_owned()).spawn(work) {
            Ok(_) => Self { lines: Some(lines) },
            Err(error) => {
                warn!(%error, "events are not written to {FILE}");
                Self { lines: None }
            }
        }
    }

    /// Queues a line; it is left out where [`LINES_WAITING_MAX`] wait for the disk already.
    pub(super) fn append(&mut self, row: &EventRow) {
        let Some(lines) = &self.lines else { return };
        match lines.try_send(row.to_json_line() + "\n") {
            Ok(()) | Err(TrySendError::Full(_)) => {}
            // The thread has panicked.
            Err(TrySendError::Disconnected(_)) => self.lines = None,
        }
    }
}

fn write_all(folder: PathBuf, lines: &Receiver<String>) {
    let mut writer = Writer { folder, file: None };
    let mut is_said = false;
    while let Ok(line) = lines.recv() {
        match writer.write(&line) {
            Ok(()) => is_said = false,
            Err(_) if is_said => {}
            Err(error) => {
                warn!(%error, "events are not written to {FILE} until that is mended");
                is_said = true;
            }
        }
    }
}

/// Writes lines. A line that can't be written is lost, and the next one is tried anew: a disk that was full once does
/// not stay so.
struct Writer {
    folder: PathBuf,
    file: Option<Appended>,
}

impl Writer {
    fn write(&mut self, line: &str) -> io::Result<()> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => Appended::open(&self.folder)?,
        };
        file.append(line)?;
        self.file = Some(file);
        Ok(())
    }
}

/// The newer file, open at its end.
struct Appended {
    folder: PathBuf,
    file: File,
    bytes: u64,
}

impl Appended {
    fn open(folder: &Path) -> io::Result<Self> {
        let mut file =
            OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(folder.join(FILE))?;
        let mut bytes = file.metadata()?.len();
        if bytes > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            // A line that a power cut tore doesn't take the next one with it.
            if last != *b"\n" {
                file.write_all(b"\n")?;
                bytes += 1;
            }
        }
        Ok(Self { folder: folder.to_owned(), file, bytes })
    }

    fn append(&mut self, line: &str) -> io::Result<()> {
        if self.bytes > 0 && self.bytes + line.len() as u64 > FILE_BYTES_MAX {
            std::fs::rename(self.folder.join(FILE), self.folder.join(FILE_BEFORE))?;
            *self = Self::open(&self.folder)?;
        }
        self.file.write_all(line.as_bytes())?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}

/// Reads the newest events of a data folder, oldest first; what is no event is skipped.
pub(super) fn load(data: &Path, count: usize) -> VecDeque<EventRow> {
    let mut rows = VecDeque::with_capacity(count);
    for name in [FILE_BEFORE, FILE] {
        let mut bytes = Vec::new();
        let Ok(file) = File::open(data.join(name)) else { continue };
        // A line more than the limit is what the writer may leave.
        if file.take(FILE_BYTES_MAX * 2).read_to_end(&mut bytes).is_err() {
            continue;
        }
        for row in String::from_utf8_lossy(&bytes).lines().filter_map(EventRow::from_json_line) {
            if rows.len() == count {
                rows.pop_front();
            }
            rows.push_back(row);
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(text: &str) -> EventRow {
        EventRow {
            unix_ms: 5,
            host: "oslo".to_owned(),
            kind: "build".to_owned(),
            project: None,
            vm: None,
            rule: None,
            status: None,
            text: text.to_owned(),
        }
    }

    fn texts(folder: &Path, count: usize) -> Vec<String> {
        load(folder, count).into_iter().map(|row| row.text).collect()
    }

    #[test]
    fn a_torn_last_line_costs_that_line_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let (whole, torn) = (row("first").to_json_line(), row("second").to_json_line());
        let text = format!("{whole}\n{}", &torn[..torn.len() / 2]);
        std::fs::write(folder.path().join(FILE), text).expect("the folder is ours");
        let mut file = Appended::open(folder.path()).expect("the folder is ours");
        file.append(&(row("third").to_json_line() + "\n")).expect("there is room");
        assert_eq!(texts(folder.path(), 9), ["first", "third"]);
    }

    #[test]
    fn a_line_that_could_not_be_written_costs_that_line_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut writer = Writer { folder: folder.path().to_owned(), file: None };
        let mut write = |text: &str| writer.write(&(row(text).to_json_line() + "\n"));
        std::fs::create_dir(folder.path().join(FILE)).expect("the folder is ours");
        write("first").expect_err("something is in the way");
        std::fs::remove_dir(folder.path().join(FILE)).expect("the folder is ours");
        for text in ["second", "third"] {
            write(text).expect("nothing is in the way any more");
        }
        assert_eq!(texts(folder.path(), 9), ["second", "third"]);
    }

    #[test]
    fn two_files_of_limited_size_hold_the_newest() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut file = Appended::open(folder.path()).expect("the folder is ours");
        let long = "x".repeat(1000);
        let lines = 3 * FILE_BYTES_MAX / 1000;
        for number in 0..lines {
            file.append(&(row(&format!("{number} {long}")).to_json_line() + "\n")).expect("there is room");
        }
        for name in [FILE, FILE_BEFORE] {
            let bytes = std::fs::metadata(folder.path().join(name)).expect("it is there").len();
            assert!(bytes <= FILE_BYTES_MAX, "{name} has {bytes} bytes");
        }
        let last = texts(folder.path(), 1);
        assert!(last[0].starts_with(&format!("{} ", lines - 1)), "{last:?}");
        assert!(texts(folder.path(), 100_000).len() as u64 > FILE_BYTES_MAX / 1200);
    }
}
