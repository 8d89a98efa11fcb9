//! Writing a seed drive: a tar of the seed and of the files for the guest, as a block device holds it.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use mln_protocol::wire::encode;
use mln_protocol::wire::seed::{SeedMoreWire, SeedWire};

/// Writes the drive; the content of `seed.files[n]` is `contents[n]`.
///
/// Only its owner can read it: there are passwords in it. It is durable when this returns; its entry in the folder is not.
pub fn write(
    path: &Path,
    seed: &SeedWire,
    more: Option<&SeedMoreWire>,
    contents: &[&[u8]],
) -> io::Result<()> {
    let file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    let mut archive = tar::Builder::new(file);
    append(&mut archive, "seed", &encode(seed))?;
    if let Some(more) = more {
        append(&mut archive, "more", &encode(more))?;
    }
    for (index, content) in contents.iter().enumerate() {
        append(&mut archive, &format!("files/{index}"), content)?;
    }
    archive.into_inner()?.sync_all()
}

fn append(archive: &mut tar::Builder<File>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o600);
    header.set_mtime(0);
    header.set_cksum();
    archive.append_data(&mut header, name, bytes)
}
