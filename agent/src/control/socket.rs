//! The unix socket in the data folder.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mln_link::message::Refusal;
use mln_link::place;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tracing::warn;

use super::access::Access;
use super::account::{self, AccountError};
use super::lock::DataFolderLock;
use super::serve::{Verdict, converse};
use super::{ControlCommand, Operator, Origin};

/// How many operators may be connected at once.
const CONNECTIONS_MAX: usize = 128;

/// How many further connections are told that there are too many, at once.
const REFUSALS_MAX: usize = 16;

/// The owner and the group may connect; who of them may ask is judged by [`Access`].
const SOCKET_MODE: u32 = 0o660;

/// How long the listener rests when the system gives it no connection, as when there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The listening control socket. Dropping it removes the socket's file.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    access: Arc<Access>,
}

/// Why there is no control socket. Nothing that was there changed.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// An agent answers on it.
    #[error("an agent answers on {0} already")]
    Answered(PathBuf),
    /// The configured group can't be looked up.
    #[error("the control group can't be used")]
    Group(#[source] AccountError),
    /// A file operation failed.
    #[error("the control socket {path} can't be made")]
    File {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ControlSocket {
    /// Listens in the locked data folder, for its owner, root, and the members of `group`.
    ///
    /// A socket that an earlier agent left there is replaced in one step, so that clients find the old or the
    /// new one, and with its mode and group already set.
    pub async fn bind(lock: &DataFolderLock, group: Option<&str>) -> Result<Self, BindError> {
        let path = place::socket_in(lock.folder());
        let failed = |source: io::Error| BindError::File { path: path.clone(), source };
        if answers(&path).await {
            return Err(BindError::Answered(path));
        }
        let owner_uid = std::fs::metadata(lock.folder()).map_err(failed)?.uid();
        let group = match group {
            Some(group) => Some((account::gid_of(group).map_err(BindError::Group)?, group.to_owned())),
            None => None,
        };
        // Only the holder of the lock comes here, so one name is enough; a crash may have left it.
        let fresh = path.with_extension("new");
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&fresh).map_err(failed)?;
        if let Some((gid, _)) = &group {
            chown(&fresh, None, Some(*gid)).map_err(failed)?;
        }
        std::fs::set_permissions(&fresh, Permissions::from_mode(SOCKET_MODE)).map_err(failed)?;
        std::fs::rename(&fresh, &path).map_err(failed)?;
        Ok(Self { listener, path, access: Arc::new(Access { owner_uid, group }) })
    }

    /// Returns where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Serves every connection in a task of its own, until it is dropped.
    pub async fn run(self, commands: mpsc::Sender<ControlCommand>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "the control socket accepts no connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let commands = commands.clone();
            if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
                let access = Arc::clone(&self.access);
                tokio::spawn(async move {
                    match identify(&stream, access).await {
                        Ok(verdict) => converse(stream, verdict, commands).await,
                        Err(error) => warn!(%error, "who is at the control socket is not known"),
                    }
                    drop(place);
                });
            } else if let Ok(refusal) = Arc::clone(&refusals).try_acquire_owned() {
                tokio::spawn(async move {
                    converse(stream, Verdict::Refused(Box::new(too_many())), commands).await;
                    drop(refusal);
                });
            }
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // The lock is still held, so it is ours. If it can't be removed, the next agent replaces it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether somebody listens on the socket.
async fn answers(path: &Path) -> bool {
    match UnixStream::connect(path).await {
        Ok(_) => true,
        // Its queue is full, so there is a listener.
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

/// Finds out who is at the other end, and whether they may ask.
async fn identify(stream: &UnixStream, access: Arc<Access>) -> io::Result<Verdict> {
    let credentials = stream.peer_cred()?;
    let (uid, gid) = (credentials.uid(), credentials.gid());
    let caller = tokio::task::spawn_blocking(move || account::caller_of(uid, gid))
        .await
        .map_err(io::Error::other)?
        .map_err(io::Error::other)?;
    Ok(match access.judge(&caller) {
        Ok(()) => Verdict::Admitted(Operator::of_host(account::owner_name(&caller), Origin::Socket { uid })),
        Err(refusal) => Verdict::Refused(refusal),
    })
}

fn too_many() -> Refusal {
    Refusal {
        host: None,
        vm: None,
        rule: "control-connections".to_owned(),
        text: format!("{CONNECTIONS_MAX} operators are connected to this agent already"),
        who_can_change: Some("whoever ends one of them".to_owned()),
    }
}

#[cfg(test)]
#[path = "socket_test.rs"]
mod tests;
