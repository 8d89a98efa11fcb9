//! Writing a seed drive: a tar of the seed and of the files for the guest, as a block device holds it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use mln_protocol::wire::seed::{SEED_BYTES_MAX, SeedMoreWire, SeedWire};
use mln_protocol::wire::{decode, encode};

/// What the seed itself is called on its drive.
const SEED: &str = "seed";
/// What else the guest is told.
const MORE: &str = "more";

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
    append(&mut archive, SEED, &encode(seed))?;
    if let Some(more) = more {
        append(&mut archive, MORE, &encode(more))?;
    }
    for (index, content) in contents.iter().enumerate() {
        append(&mut archive, &format!("files/{index}"), content)?;
    }
    archive.into_inner()?.sync_all()
}

/// Whether two drives that are not the same differ only in names of other guests and in what is run at the next boot.
pub fn differ_in_words_alone(one: &[u8], other: &[u8]) -> bool {
    let (Some(mut one), Some(mut other)) = (entries(one), entries(other)) else { return false };
    let quiet = |entries: &mut BTreeMap<Vec<u8>, Vec<u8>>| -> Option<SeedWire> {
        let seed: SeedWire = decode(&entries.remove(SEED.as_bytes())?, SEED_BYTES_MAX).ok()?;
        Some(SeedWire { guest_names: Vec::new(), startup: Vec::new(), ..seed })
    };
    let (first, second) = (quiet(&mut one), quiet(&mut other));
    first.is_some() && first == second && one == other
}

/// Returns what a drive says besides; none where there is nothing, or it can't be read.
pub fn more(drive: &[u8]) -> Option<SeedMoreWire> {
    decode(&entries(drive)?.remove(MORE.as_bytes())?, SEED_BYTES_MAX).ok()
}

/// Returns what is on a drive, by name; none where that can't be read.
fn entries(drive: &[u8]) -> Option<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut archive = tar::Archive::new(drive);
    let read = |entry: io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.ok()?;
        let name = entry.path_bytes().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).ok()?;
        Some((name, bytes))
    };
    archive.entries().ok()?.map(read).collect()
}

fn append(archive: &mut tar::Builder<File>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o600);
    header.set_mtime(0);
    header.set_cksum();
    archive.append_data(&mut header, name, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mln_protocol::wire::seed::{SEED_VERSION, SeedFileWire};

    #[test]
    fn names_of_others_and_startup_lines_are_only_words() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut count = 0;
        let mut drive = |change: &dyn Fn(&mut SeedWire), content: &[u8]| {
            let file = SeedFileWire { path: "/etc/motd".into(), mode: 0o644 };
            let mut seed = SeedWire {
                version: SEED_VERSION,
                hostname: "a".into(),
                interfaces: Vec::new(),
                guest_names: Vec::new(),
                users: Vec::new(),
                files: vec![file],
                startup: Vec::new(),
                disk_bytes: None,
            };
            change(&mut seed);
            count += 1;
            let path = folder.path().join(count.to_string());
            write(&path, &seed, None, &[content]).expect("is written");
            std::fs::read(path).expect("is there")
        };
        let first = drive(&|_| {}, b"hi");
        let name = ("b".to_owned(), std::net::IpAddr::from([10, 0, 0, 1]));
        let named = drive(&|seed| seed.guest_names = vec![name.clone()], b"hi");
        let started = drive(&|seed| seed.startup = vec!["date".into()], b"hi");
        let called = drive(&|seed| seed.hostname = "b".into(), b"hi");
        let other = drive(&|_| {}, b"ho");
        assert!(differ_in_words_alone(&first, &named) && differ_in_words_alone(&named, &started));
        assert!(!differ_in_words_alone(&first, &called) && !differ_in_words_alone(&first, &other));
        assert!(!differ_in_words_alone(&[], &first), "what can't be read is another");
    }
}
