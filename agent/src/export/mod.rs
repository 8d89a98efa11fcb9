//! Whole projects as one file: reading it off disks, taking it in, and building VMs that begin with it.
//!
//! ```text
//!   snapshot's copies ──read──► records ──► other agent ──► whoever wants the file
//!   file ──► Staging: verified and kept, whole or not at all ──► contents of the project, one for each VM's disk
//!                                                                  │ fetched by the VM's owner when it builds
//!                                                                  ▼
//!                                                ImportedDisk: written to the new drives before the VM is there
//! ```
//!
//! What the records are like is `protocol::wire`'s business, and what may be asked for is that of `request`.

mod brought;
mod first;
mod read;
mod stage;

use std::io::{self, Write};

pub(crate) use brought::{Brought, Imports};
pub(crate) use first::ImportedDisk;
pub(crate) use read::{ReadError, disks, image};
pub(crate) use stage::{Kept, StageError, Staged, Staging};

use mln_protocol::id::{Label, Name, PublicKey};

/// How the names of snapshots begin that are taken for an export, and go with it.
pub(crate) const EXPORTING: &str = "exporting-";

/// Returns how the names of those begin that are taken for the exports of a host; it has one of a project at a time.
pub(crate) fn snapshots_of(exporter: PublicKey) -> String {
    format!("{EXPORTING}{}-", exporter.short())
}

/// Whether a snapshot is taken by the host that began this other one before, which is over then: it was killed.
pub(crate) fn is_over(begun: &Name, next: &Name) -> bool {
    let exporter = |name: &Name| {
        let (exporter, _) = name.as_str().strip_prefix(EXPORTING)?.rsplit_once('-')?;
        Some(exporter.to_owned())
    };
    exporter(begun).is_some_and(|one| exporter(next) == Some(one))
}

/// Returns what the bytes of a VM's disk begin with where they are kept: the same disk of two VMs is two contents, each of
/// which goes when its VM is built.
fn preamble(label: &Label, vm: &Name) -> Vec<u8> {
    format!("mln disk 1\n{label}/{vm}\n").into_bytes()
}

/// Writes a frame, with its length before it.
fn write_frame(to: &mut dyn Write, frame: &[u8]) -> io::Result<()> {
    // A frame has at most DISK_FRAME_BYTES_MAX.
    to.write_all(&u32::try_from(frame.len()).unwrap_or(u32::MAX).to_le_bytes())?;
    to.write_all(frame)
}

#[cfg(test)]
#[path = "export_test.rs"]
mod tests;
