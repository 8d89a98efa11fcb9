//! How far this boot has come, on disk, so that a guest agent that is started again does nothing twice.

use std::io;
use std::path::Path;

use mln_protocol::wire::line::{LINE_MESSAGE_BYTES_MAX, ReportWire};
use mln_protocol::wire::seed::BootRecordWire;
use mln_protocol::wire::{decode, encode};

/// Returns what an earlier guest agent of this same boot reported last.
pub(super) fn read(path: &Path, boot_id: &str) -> Option<ReportWire> {
    let bytes = std::fs::read(path).ok()?;
    let record: BootRecordWire = decode(&bytes, LINE_MESSAGE_BYTES_MAX).ok()?;
    (record.boot_id == boot_id).then_some(record.report)
}

/// Notes a report.
pub(super) fn write(path: &Path, boot_id: &str, report: &ReportWire) -> io::Result<()> {
    let record = BootRecordWire { boot_id: boot_id.to_owned(), report: report.clone() };
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, encode(&record))?;
    std::fs::rename(fresh, path)
}
