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
        let mut held = vec![false; self.chunks()];
        for &position in self.here.borrow().iter() {
            held[position as usize] = true;
        }
        held
    }

    /// Returns what is here and hears of what comes: at first, nothing is news.
    pub(super) fn follow(&self) -> (Inventory, News) {
        self.asked.notify_one();
        let mut changes = self.here.subscribe();
        let told = changes.borrow_and_update().len();
        let held = self.held();
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
