//! What nobody uses: found, and freed, oldest first.
//!
//! A named template is never garbage. What VMs use is for their platform to say; whoever collects keeps new uses from
//! beginning meanwhile ([`ImageStore::exclusive`]).

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mln_protocol::id::{Digest, Label, VmId};

use super::error::ImageError;
use super::store::{Exclusive, ImageStore};

/// A VM's use of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUse {
    /// Which VM.
    pub vm: VmId,
    /// Its project.
    pub label: Label,
    /// The template that its disk is a layer over.
    pub template: Digest,
    /// The file below its layer.
    pub backing: PathBuf,
    /// The drive with the guest agent that it was last started with.
    pub agent_drive: Option<PathBuf>,
}

/// What to do with what nobody uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sweep {
    /// Only say what it is.
    Show,
    /// Remove it.
    Remove,
}

/// A file that nobody uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Garbage {
    /// What it is.
    pub kind: GarbageKind,
    /// Its name in the store's folder.
    pub file: String,
    /// What it takes on the disk, in bytes.
    pub bytes: u64,
    /// When it was put there, in milliseconds since 1970.
    pub since_unix_ms: u64,
}

/// What a file is that nobody uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GarbageKind {
    /// An image without a name.
    Image,
    /// A template's bytes in a longer file.
    LongerImage,
    /// A drive with another version of the guest agent.
    AgentDrive,
    /// An image that was only fetched in part.
    Part,
}

/// What a collection has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collected {
    /// What was removed, or would be, oldest first.
    pub garbage: Vec<Garbage>,
    /// What the store takes on the disk after that, in bytes.
    pub bytes_left: u64,
}

impl ImageStore {
    /// Finds what no name and no VM uses, and removes it, oldest first: all of it, or with a limit only as much as it
    /// takes to get below that many bytes. `uses` must be complete, and is as long as `exclusive` exists.
    pub fn collect(
        &self,
        _exclusive: &Exclusive<'_>,
        uses: &[ImageUse],
        guest_agent: &Path,
        limit_bytes: Option<u64>,
        sweep: Sweep,
    ) -> Result<Collected, ImageError> {
        let mut kept: BTreeSet<PathBuf> = BTreeSet::new();
        kept.extend(self.list().into_iter().map(|template| self.path(&template.digest)));
        for used in uses {
            kept.extend([self.path(&used.template), used.backing.clone()]);
            kept.extend(used.agent_drive.clone());
        }
        // Where there is no guest agent, no guest starts, and its drive can be made again.
        kept.extend(self.agent_drive_path(guest_agent).ok());
        let mut left = self.bytes_on_disk();
        let mut garbage = Vec::new();
        for candidate in self.candidates(&kept) {
            if limit_bytes.is_some_and(|limit| left <= limit) {
                break;
            }
            if sweep == Sweep::Remove {
                self.discard(&candidate)?;
            }
            left = left.saturating_sub(candidate.bytes);
            garbage.push(candidate);
        }
        // What was only shown is an estimate: manifests go as well.
        let bytes_left = if sweep == Sweep::Remove { self.bytes_on_disk() } else { left };
        Ok(Collected { garbage, bytes_left })
    }

    /// Removes an image and its longer files, where it has no name and no VM uses it.
    pub fn drop_unused(
        &self,
        _exclusive: &Exclusive<'_>,
        digest: &Digest,
        uses: &[ImageUse],
    ) -> Result<(), ImageError> {
        let is_named = self.list().iter().any(|template| template.digest == *digest);
        if is_named || uses.iter().any(|used| used.template == *digest) {
            return Ok(());
        }
        let kept = uses.iter().map(|used| used.backing.clone()).collect();
        let of_image = |garbage: &Garbage| garbage.file.starts_with(&digest.to_string());
        self.candidates(&kept).iter().filter(|garbage| of_image(garbage)).try_for_each(|g| self.discard(g))
    }

    /// Returns what the store takes on the disk, in bytes. A file under two names counts once.
    pub fn bytes_on_disk(&self) -> u64 {
        let entries = fs::read_dir(self.folder()).into_iter().flatten().flatten();
        let mut seen = BTreeSet::new();
        let metadata = entries.filter_map(|entry| entry.metadata().ok()).filter(|data| data.is_file());
        metadata.filter(|data| seen.insert(data.ino())).map(|data| data.blocks() * 512).sum()
    }

    /// Returns the files that are not kept, oldest first.
    fn candidates(&self, kept: &BTreeSet<PathBuf>) -> Vec<Garbage> {
        let fetching = self.fetching().lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let entries = fs::read_dir(self.folder()).into_iter().flatten().flatten();
        let mut found: Vec<Garbage> = entries
            .filter_map(|entry| {
                let file = entry.file_name().to_str()?.to_owned();
                let kind = kind_of(&file, &fetching)?;
                let metadata = entry.metadata().ok().filter(|data| data.is_file())?;
                if kept.contains(&entry.path()) {
                    return None;
                }
                // One of two names of a file frees nothing.
                let bytes = if metadata.nlink() > 1 { 0 } else { metadata.blocks() * 512 };
                let since_unix_ms = u64::try_from(metadata.ctime()).unwrap_or(0) * 1000;
                Some(Garbage { kind, file, bytes, since_unix_ms })
            })
            .collect();
        found.sort_by(|a, b| (a.since_unix_ms, &a.file).cmp(&(b.since_unix_ms, &b.file)));
        found
    }

    fn discard(&self, garbage: &Garbage) -> Result<(), ImageError> {
        let path = self.folder().join(&garbage.file);
        fs::remove_file(&path).map_err(|source| ImageError::write(&path, source))?;
        if let Some(digest) = garbage.file.strip_suffix(".img").and_then(Digest::from_hex) {
            // One that stays is some bytes, and describes what isn't there.
            let _ = fs::remove_file(self.manifest_path(&digest));
        }
        Ok(())
    }
}

/// Returns what a file of the store's folder is; none is something that is never garbage.
fn kind_of(file: &str, fetching: &BTreeSet<Digest>) -> Option<GarbageKind> {
    if let Some(digest) = file.strip_suffix(".part").and_then(Digest::from_hex) {
        return (!fetching.contains(&digest)).then_some(GarbageKind::Part);
    }
    let stem = file.strip_suffix(".img")?;
    if Digest::from_hex(stem).is_some() {
        return Some(GarbageKind::Image);
    }
    let (first, second) = stem.split_once('-')?;
    if first == "agent" && Digest::from_hex(second).is_some() {
        return Some(GarbageKind::AgentDrive);
    }
    let is_longer = Digest::from_hex(first).is_some() && second.parse::<u64>().is_ok();
    is_longer.then_some(GarbageKind::LongerImage)
}
