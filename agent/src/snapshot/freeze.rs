//! Holding a guest's file systems still for a moment, from outside and with a limit of the guest's own.

use std::time::Duration;

use mln_protocol::id::VmId;
use tokio::time::timeout;

use crate::platform::{End, ExecCommand, ExecError, ExecInput, ExecOutput, ExecOutputEvent, Platform};

/// How long a guest may take until its file systems are still: it writes all that it has in memory.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a guest may take to go on.
const THAW_TIMEOUT: Duration = Duration::from_secs(5);

/// Freezes every file system on a disk of the guest's own, says so, and thaws them when its input ends. Something in a
/// session of its own does so after 20 seconds, should this be killed.
const SCRIPT: &str = r#"
mounts=$(while read -r device at type options rest; do
    case "$device,$options," in /dev/root,*rw,*|/dev/ubd*,*rw,*) echo "$at" ;; esac
done </proc/mounts)
[ -n "$mounts" ] || { echo 'no file system of its own is mounted' >&2; exit 1; }
thaw='for at in $MOUNTS; do fsfreeze --unfreeze "$at" 2>/dev/null; done'
MOUNTS="$mounts" setsid sh -c "sleep 20; $thaw" </dev/null >/dev/null 2>&1 &
guard=$!
sync
for at in $mounts; do
    fsfreeze --freeze "$at" || { MOUNTS="$mounts"; eval "$thaw"; kill "$guard"; exit 1; }
done
echo frozen
read -r _
MOUNTS="$mounts"
eval "$thaw"
kill "$guard"
"#;

/// Why a guest could not be held still. It goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FreezeError {
    /// No command can be run in it.
    #[error("{vm} can't be held still")]
    Exec {
        /// The VM.
        vm: VmId,
        /// Why not.
        source: ExecError,
    },
    /// It said something else.
    #[error("{vm} can't be held still: {said}")]
    Said {
        /// The VM.
        vm: VmId,
        /// What it said.
        said: String,
    },
    /// It ended meanwhile, or went on.
    #[error("{vm} did not stay still while its disk was copied")]
    Ended {
        /// The VM.
        vm: VmId,
    },
    /// It took too long.
    #[error("{vm} took longer than {} s to write what it had in memory", FREEZE_TIMEOUT.as_secs())]
    Slow {
        /// The VM.
        vm: VmId,
    },
}

/// A guest whose file systems are still. Dropping it leaves it so until its own limit.
#[derive(Debug)]
pub(super) struct Frozen {
    input: ExecInput,
    output: ExecOutput,
}

impl Frozen {
    /// Holds a guest still.
    pub(super) async fn hold(platform: &dyn Platform, vm: &VmId) -> Result<Self, FreezeError> {
        let command = ExecCommand::of(["/bin/sh", "-c", SCRIPT]);
        let opened = platform.exec(vm, command).await;
        let exec = opened.map_err(|source| FreezeError::Exec { vm: vm.clone(), source })?;
        let (input, mut output) = (exec.input, exec.output);
        let hearing = async {
            let mut said = Vec::new();
            while let Some(event) = output.next().await {
                match event {
                    ExecOutputEvent::Stdout(bytes) if bytes.starts_with(b"frozen") => return Ok(()),
                    ExecOutputEvent::Stdout(bytes) | ExecOutputEvent::Stderr(bytes) => said.extend(bytes),
                    ExecOutputEvent::Ended(_) => break,
                    ExecOutputEvent::Failed(source) => {
                        return Err(FreezeError::Exec { vm: vm.clone(), source });
                    }
                }
            }
            let said = String::from_utf8_lossy(&said).trim().to_owned();
            Err(FreezeError::Said { vm: vm.clone(), said })
        };
        let heard = timeout(FREEZE_TIMEOUT, hearing).await;
        heard.unwrap_or_else(|_| Err(FreezeError::Slow { vm: vm.clone() }))?;
        Ok(Self { input, output })
    }

    /// Lets the guest go on; if that can't be said to it, it does so by itself. An error where it was not held any more: it
    /// has ended, for instance.
    pub(super) async fn let_go(self, vm: &VmId) -> Result<(), FreezeError> {
        let Self { input, mut output } = self;
        let ending = async {
            if input.close().await.is_err() {
                return false;
            }
            while let Some(event) = output.next().await {
                match event {
                    ExecOutputEvent::Ended(end) => return end == End::Exited(0),
                    ExecOutputEvent::Failed(_) => return false,
                    ExecOutputEvent::Stdout(_) | ExecOutputEvent::Stderr(_) => {}
                }
            }
            false
        };
        match timeout(THAW_TIMEOUT, ending).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(FreezeError::Ended { vm: vm.clone() }),
        }
    }
}
