//! An image that is being fetched, as others may have of it meanwhile.

use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use mln_protocol::wire::{Inventory, Manifest};
use tokio::sync::{Notify, watch};

use crate::image::ImageError;
use crate::image::part::Part;

/// A part that one fetch writes to and others read from. What was put there is verified.
#[derive(Debug)]
pub(super) struct OpenPart {
    /// None once the fetch is over.
    part: Mutex<Option<Part>>,
    manifest: Manifest,
    file: Arc<File>,
    /// The positions of the chunks that are here, in the order in which they came.
    here: watch::Sender<Vec<u32>>,
    /// Somebody has asked what is here: most likely it fetches the same.
    asked: Notify,
}

impl OpenPart {
    pub(super) fn new(part: Part) -> Result<Self, ImageError> {
        let manifest = part.manifest().clone();
        let file = Arc::new(part.reader()?);
        let missing = part.missing();
        let here = manifest.chunks().iter().enumerate();
        let here = here.filter(|(_, chunk)| !missing.contains(&chunk.index));
        let here = here.filter_map(|(position, _)| u32::try_from(position).ok()).collect();
        let (here, asked) = (watch::Sender::new(here), Notify::new());
        Ok(Self { part: Mutex::new(Some(part)), manifest, file, here, asked })
    }

    pub(super) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns the file, of which only that may be read which is here.
    pub(super) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Returns how many chunks there are.
    pub(super) fn chunks(&self) -> usize {
        self.manifest.chunks().len()
    }

    /// Returns what is here, for each position whether it is.
    pub(super) fn held(&self) -> Vec<bool> {
        self.among(&self.here.borrow())
    }

    fn among(&self, here: &[u32]) -> Vec<bool> {
        let mut held = vec![false; self.chunks()];
        for &position in here {
            held[position as usize] = true;
        }
        held
    }

    /// Returns what is here and hears of what comes: at first, nothing is news, and nothing is told twice. Whoever
    /// counts what was told knows by that when all was.
    pub(super) fn follow(&self) -> (Inventory, News) {
        self.asked.notify_one();
        let mut changes = self.here.subscribe();
        let (told, held) = {
            let here = changes.borrow_and_update();
            (here.len(), self.among(&here))
        };
        (Inventory::part(self.chunks(), |position| held[position]), News { changes, told })
    }

    /// Waits until somebody has asked what is here since the last time. Cancel-safe.
    pub(super) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Whether a chunk, by its place, is here.
    pub(super) fn has(&self, index: u32) -> bool {
        let at = self.manifest.chunks().binary_search_by_key(&index, |chunk| chunk.index);
        at.is_ok_and(|at| self.here.borrow().iter().any(|&position| position as usize == at))
    }

    /// Puts a chunk in its place, if it is the one that belongs there; false, and nothing is changed, if it isn't.
    pub(super) fn put(&self, position: u32, bytes: &[u8]) -> Result<bool, ImageError> {
        let Some(chunk) = self.manifest.chunks().get(position as usize) else { return Ok(false) };
        let mut part = self.part.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(part) = part.as_mut() else { return Ok(true) };
        let was_missing = part.missing().contains(&chunk.index);
        if !part.put(chunk.index, bytes)? {
            return Ok(false);
        }
        if was_missing {
            self.here.send_modify(|here| here.push(position));
        }
        Ok(true)
    }

    /// Returns how many bytes of data are missing.
    pub(super) fn missing_bytes(&self) -> u64 {
        let part = self.part.lock().unwrap_or_else(PoisonError::into_inner);
        part.as_ref().map_or(0, Part::missing_bytes)
    }

    /// Ends the fetch; returns the part, to be finished or dropped.
    pub(super) fn take(&self) -> Option<Part> {
        self.part.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What has come since.
pub(super) struct News {
    changes: watch::Receiver<Vec<u32>>,
    told: usize,
}

impl News {
    /// Waits until there is something; none where the fetch is over. Cancel-safe.
    pub(super) async fn next(&mut self, most: usize) -> Option<Vec<u32>> {
        loop {
            let news: Vec<u32> = {
                let here = self.changes.borrow_and_update();
                here.iter().skip(self.told).take(most).copied().collect()
            };
            if !news.is_empty() {
                self.told += news.len();
                return Some(news);
            }
            self.changes.changed().await.ok()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::FileExt;

    use mln_protocol::id::Name;

    use super::*;
    use crate::ext4::SUPERBLOCK_OFFSET;
    use crate::image::store::{ImageStore, MEMORY_MIN, NewName, NewVersion};

    /// How many chunks come, and how many begin to follow while they do.
    const CHUNKS: u32 = 16;
    const FOLLOWERS: usize = 2_000;

    #[tokio::test]
    async fn each_chunk_is_told_once_to_whoever_begins_to_follow_as_it_comes() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = |name: &str| ImageStore::open(&folder.path().join(name)).expect("opens");
        let (from, to) = (store("from"), store("to"));
        let image = folder.path().join("image");
        let file = File::create(&image).expect("creates");
        file.set_len(8 << 20).expect("long");
        let mut superblock = [0; 1024];
        superblock[0x38..0x3a].copy_from_slice(&0xef53u16.to_le_bytes());
        superblock[0x4..0x8].copy_from_slice(&2048u32.to_le_bytes());
        file.write_all_at(&superblock, SUPERBLOCK_OFFSET).expect("writes");
        for place in 1..u64::from(CHUNKS) {
            file.write_all_at(&place.to_le_bytes(), place << 18).expect("writes");
        }
        let name = Name::parse("mini").expect("a valid name");
        let new = NewName { name: &name, version: NewVersion::Next, memory_min: MEMORY_MIN };
        let template = from.add(&image, &new).expect("adds");
        let manifest = from.manifest(&template.digest).expect("has one");
        let bytes = fs::read(from.path(&template.digest)).expect("reads");
        let part = Part::open(&to, template.digest, manifest.clone()).expect("opens");
        let open = Arc::new(OpenPart::new(part).expect("reads"));
        assert_eq!(open.chunks(), CHUNKS as usize);

        let comes = open.clone();
        let coming = std::thread::spawn(move || {
            for (position, chunk) in (0..).zip(manifest.chunks()) {
                let at = (chunk.index as usize) << 18;
                let bytes = &bytes[at..at + manifest.chunk_len(chunk.index)];
                assert!(comes.put(position, bytes).expect("writes"));
            }
        });
        let followed: Vec<(Inventory, News)> = (0..FOLLOWERS).map(|_| open.follow()).collect();
        coming.join().expect("all has come");
        let chunks = open.chunks();
        drop(open);
        for (inventory, mut news) in followed {
            let mut told: Vec<u32> =
                (0..CHUNKS).filter(|&position| inventory.has(position as usize)).collect();
            while told.len() < chunks {
                told.extend(news.next(3).await.expect("there is more to tell"));
            }
            told.sort_unstable();
            assert_eq!(told, (0..CHUNKS).collect::<Vec<u32>>());
        }
    }
}
