//! The contents of projects' files, by digest: received from operators, handed to the hosts that need them.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mln_protocol::id::{Digest, PublicKey};
use mln_protocol::model::Blob;
use tempfile::{NamedTempFile, TempPath};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::identity::replace_file;
use crate::mesh::{MeshHandle, MeshStream, StreamKind};

/// The folder in the data folder.
const BLOB_FOLDER: &str = "blobs";

/// The largest file that a project may bring, in bytes.
const BLOB_BYTES_MAX: u64 = crate::control::BUILD_FILES_BYTES_MAX;

/// How the name of a file begins that is being written.
const PART: &str = ".part-";

/// How much of a disk is read at a time, in bytes.
const PIECE_BYTES: usize = 256 << 10;

/// How long a host may be silent that sends a disk.
const PIECE_TIMEOUT: Duration = Duration::from_secs(60);

/// What must stay free beside disks that come, in bytes: the agent writes down there what it promises.
const FREE_BYTES_MIN: u64 = 64 << 20;

/// How many hosts are asked for a disk.
const HOSTS_ASKED_MAX: usize = 8;

/// How many times the hosts are asked for a disk, where a connection was lost.
const ROUNDS: u32 = 3;

/// How long is waited before they are asked again.
const ROUND_PAUSE: Duration = Duration::from_secs(5);

/// The contents that this host holds.
#[derive(Clone, Debug)]
pub(crate) struct Blobs {
    folder: PathBuf,
}

/// Why a file's contents are not here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlobError {
    /// A file operation failed.
    #[error("{}", path.display())]
    File {
        /// On which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The host that should have it could not be asked, or stopped in the middle.
    #[error("the host that has it can't be asked")]
    Stream(#[source] io::Error),
    /// It doesn't have it.
    #[error("the host that should have it does not")]
    Missing,
    /// What was sent, or what is on the disk, is something else.
    #[error("what was found under its digest is something else")]
    Forged,
}

impl BlobError {
    /// Whether another try may go otherwise: a connection was lost, and comes back.
    fn may_pass(&self) -> bool {
        matches!(self, Self::Stream(_))
    }
}

/// Returns which of two failures says more: that a host doesn't have it says least, since most don't.
fn most_telling(one: BlobError, other: BlobError) -> BlobError {
    let rank = |error: &BlobError| match error {
        BlobError::Missing => 0,
        BlobError::Forged => 1,
        BlobError::Stream(_) | BlobError::File { .. } => 2,
    };
    if rank(&other) >= rank(&one) { other } else { one }
}

impl Blobs {
    /// Opens the store of a data folder.
    pub(crate) fn open(data: &Path) -> Result<Self, BlobError> {
        let folder = data.join(BLOB_FOLDER);
        std::fs::create_dir_all(&folder)
            .map_err(|source| BlobError::File { path: folder.clone(), source })?;
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            // What a killed agent was writing; one that stays only takes room.
            if entry.file_name().as_encoded_bytes().starts_with(PART.as_bytes()) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        Ok(Self { folder })
    }

    /// Stores contents, durably.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<Digest, BlobError> {
        let digest = Digest::of(bytes);
        let path = self.path(digest);
        if self.get(digest).is_err() {
            replace_file(&path, bytes, 0o600)
                .map_err(|error| BlobError::File { path, source: io::Error::other(error) })?;
        }
        Ok(digest)
    }

    /// Returns contents that are here; what the disk has changed is not them.
    pub(crate) fn get(&self, digest: Digest) -> Result<Vec<u8>, BlobError> {
        let path = self.path(digest);
        let bytes = std::fs::read(&path).map_err(|source| BlobError::File { path, source })?;
        if Digest::of(&bytes) == digest { Ok(bytes) } else { Err(BlobError::Forged) }
    }

    /// Removes what no project names any more.
    pub(crate) fn retain(&self, used: &BTreeSet<Digest>) {
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let digest = name.to_str().and_then(Digest::from_hex);
            if digest.is_some_and(|digest| !used.contains(&digest)) {
                // One that stays only takes room until the next start.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// Makes sure that contents are here, fetching them from another host if need be.
    pub(crate) async fn fetch(
        &self,
        mesh: &MeshHandle,
        from: Option<mln_protocol::id::PublicKey>,
        digest: Digest,
    ) -> Result<(), BlobError> {
        if self.get(digest).is_ok() {
            return Ok(());
        }
        let from = from.ok_or(BlobError::Missing)?;
        let mut stream = mesh
            .open_stream(from, StreamKind::Bulk, &digest.0)
            .await
            .map_err(|error| BlobError::Stream(io::Error::other(error)))?;
        let bytes = receive(&mut stream).await.map_err(BlobError::Stream)?.ok_or(BlobError::Missing)?;
        if Digest::of(&bytes) != digest {
            return Err(BlobError::Forged);
        }
        self.put(&bytes).map(|_| ())
    }

    /// Returns an empty file to be filled and adopted; else it goes with the value, or when the agent starts.
    pub(crate) fn stage(&self) -> io::Result<NamedTempFile> {
        tempfile::Builder::new().prefix(PART).tempfile_in(&self.folder)
    }

    /// Fails where there is no room for so many bytes of a disk beside what must stay free.
    pub(crate) fn room_for(&self, bytes: u64) -> io::Result<()> {
        let found = rustix::fs::statvfs(&self.folder)?;
        let free = found.f_bavail.saturating_mul(found.f_frsize).saturating_sub(FREE_BYTES_MIN);
        if bytes <= free {
            return Ok(());
        }
        let text = format!(
            "there is no room for {bytes} bytes more in {} beside what must stay free",
            self.folder.display()
        );
        Err(io::Error::new(io::ErrorKind::StorageFull, text))
    }

    /// Stores a staged file, durably. That it has this digest is the caller's word.
    pub(crate) fn adopt(&self, file: TempPath, digest: Digest) -> Result<(), BlobError> {
        let path = self.path(digest);
        let failed = |source| BlobError::File { path: path.clone(), source };
        std::fs::File::open(&file).and_then(|file| file.sync_all()).map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        std::fs::File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }

    /// Makes sure that the disk of a VM is here, fetching it from one of these hosts if need be; returns where it is.
    pub(crate) async fn fetch_disk(
        &self,
        mesh: &MeshHandle,
        hosts: &[PublicKey],
        disk: &Blob,
    ) -> Result<PathBuf, BlobError> {
        let path = self.path(disk.digest);
        if path.metadata().is_ok_and(|found| found.len() == disk.bytes) {
            return Ok(path);
        }
        let mut last = BlobError::Missing;
        for round in 0..ROUNDS {
            if round > 0 {
                tokio::time::sleep(ROUND_PAUSE).await;
            }
            for host in hosts.iter().take(HOSTS_ASKED_MAX) {
                match self.fetch_disk_from(mesh, *host, disk).await {
                    Ok(()) => return Ok(path),
                    // Nobody else has more room for it.
                    Err(error @ BlobError::File { .. }) => return Err(error),
                    Err(error) => last = most_telling(last, error),
                }
            }
            if !last.may_pass() {
                break;
            }
        }
        Err(last)
    }

    async fn fetch_disk_from(
        &self,
        mesh: &MeshHandle,
        host: PublicKey,
        disk: &Blob,
    ) -> Result<(), BlobError> {
        let staged = self.room_for(disk.bytes).and_then(|()| self.stage());
        let staged = staged.map_err(|source| BlobError::File { path: self.folder.clone(), source })?;
        let to = staged.reopen().map_err(|source| BlobError::File { path: self.folder.clone(), source })?;
        let mut to = tokio::fs::File::from_std(to);
        let opened = mesh.open_stream(host, StreamKind::Bulk, &disk.digest.0).await;
        let mut stream = opened.map_err(|error| BlobError::Stream(io::Error::other(error)))?;
        let mut length = [0; 8];
        let read = tokio::time::timeout(PIECE_TIMEOUT, stream.read_exact(&mut length)).await;
        match read.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(_) if u64::from_le_bytes(length) == disk.bytes => {}
            Ok(_) => return Err(BlobError::Forged),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(BlobError::Missing),
            Err(error) => return Err(BlobError::Stream(error)),
        }
        let (mut hasher, mut left) = (blake3::Hasher::new(), disk.bytes);
        let mut piece = vec![0; PIECE_BYTES];
        while left > 0 {
            let wanted = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = tokio::time::timeout(PIECE_TIMEOUT, stream.read(&mut piece[..wanted])).await;
            let count =
                read.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(BlobError::Stream)?;
            if count == 0 {
                return Err(BlobError::Stream(io::ErrorKind::UnexpectedEof.into()));
            }
            hasher.update(&piece[..count]);
            let written = to.write_all(&piece[..count]).await;
            written.map_err(|source| BlobError::File { path: self.folder.clone(), source })?;
            left -= count as u64;
        }
        to.flush().await.map_err(|source| BlobError::File { path: self.folder.clone(), source })?;
        if Digest(*hasher.finalize().as_bytes()) != disk.digest {
            return Err(BlobError::Forged);
        }
        let (blobs, digest) = (self.clone(), disk.digest);
        let adopted = tokio::task::spawn_blocking(move || blobs.adopt(staged.into_temp_path(), digest));
        adopted.await.map_err(|_| BlobError::Missing)?
    }

    /// Forgets the disk of a VM that is built: it has it.
    pub(crate) fn forget_disk(&self, disk: &Blob) {
        // One that stays only takes room until nobody names it.
        let _ = std::fs::remove_file(self.path(disk.digest));
    }

    /// Answers another host that asks for contents: their length and them, or nothing.
    pub(crate) async fn serve(&self, header: &[u8], mut stream: MeshStream) -> io::Result<()> {
        let digest = <[u8; 32]>::try_from(header).map(Digest);
        if let Ok(digest) = digest
            && let Ok(mut file) = tokio::fs::File::open(self.path(digest)).await
            && let length = file.metadata().await?.len()
            && length > BLOB_BYTES_MAX
        {
            // A disk: whoever gets it sees whether it is the right one.
            stream.write_all(&length.to_le_bytes()).await?;
            tokio::io::copy(&mut file, &mut stream).await?;
            return stream.shutdown().await;
        }
        if let Some(bytes) = digest.ok().and_then(|digest| self.get(digest).ok()) {
            stream.write_all(&(bytes.len() as u64).to_le_bytes()).await?;
            stream.write_all(&bytes).await?;
        }
        stream.shutdown().await
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.folder.join(digest.to_string())
    }
}

async fn receive(stream: &mut MeshStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 8];
    match stream.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u64::from_le_bytes(length);
    if length > BLOB_BYTES_MAX {
        return Err(io::Error::other(format!("{length} bytes, where at most {BLOB_BYTES_MAX} are allowed")));
    }
    let mut bytes = Vec::new();
    stream.take(length).read_to_end(&mut bytes).await?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_connection_is_tried_again_and_that_most_hosts_have_nothing_is_not_what_is_said() {
        let lost = || BlobError::Stream(io::ErrorKind::TimedOut.into());
        for (one, other) in [(lost(), BlobError::Missing), (BlobError::Missing, lost())] {
            let told = most_telling(one, other);
            assert!(told.may_pass(), "{told}");
        }
        let told = most_telling(BlobError::Missing, BlobError::Forged);
        assert!(!told.may_pass() && matches!(told, BlobError::Forged), "{told}");
    }
}
