//! The contents of projects' files, by digest: received from operators, handed to the hosts that need them.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use mln_protocol::id::Digest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::identity::replace_file;
use crate::mesh::{MeshHandle, MeshStream, StreamKind};

/// The folder in the data folder.
const BLOB_FOLDER: &str = "blobs";

/// The largest file that a project may bring, in bytes.
const BLOB_BYTES_MAX: u64 = crate::control::BUILD_FILES_BYTES_MAX;

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

impl Blobs {
    /// Opens the store of a data folder.
    pub(crate) fn open(data: &Path) -> Result<Self, BlobError> {
        let folder = data.join(BLOB_FOLDER);
        std::fs::create_dir_all(&folder)
            .map_err(|source| BlobError::File { path: folder.clone(), source })?;
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            // What a killed agent was writing; one that stays only takes room.
            if entry.file_name().as_encoded_bytes().starts_with(b".part-") {
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

    /// Answers another host that asks for contents: their length and them, or nothing.
    pub(crate) async fn serve(&self, header: &[u8], mut stream: MeshStream) -> io::Result<()> {
        let digest = <[u8; 32]>::try_from(header).map(Digest);
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
