//! The files of a build: received before the event loop sees the request, so that it gets a whole one.

use mln_link::message::{FileHead, Refusal, Reply};
use mln_link::{Connection, Input, LinkError};
use tokio::io::{AsyncRead, AsyncWrite};

/// How many files one build may bring.
pub const BUILD_FILES_MAX: usize = 4096;

/// How many bytes the files of one build may have together.
pub const BUILD_FILES_BYTES_MAX: u64 = 64 << 20;

/// A file of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmittedFile {
    /// Its path as the project file has it.
    pub from: String,
    /// Its permission bits.
    pub mode: u32,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Why the files of a build are not there. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    /// There are too many, or they are too large: nothing was received.
    #[error("{}", .0.text)]
    Limit(Box<Refusal>),
    /// The client sent other bytes than it announced.
    #[error("{received} bytes of files arrived where {announced} were announced")]
    Length {
        /// What arrived; one more than announced stands for any excess.
        received: u64,
        /// What was announced.
        announced: u64,
    },
    /// The connection failed.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// Receives the files that `heads` announce; their bytes come in one row, then the end of input.
pub(super) async fn receive<S>(
    connection: &mut Connection<S>,
    heads: &[FileHead],
) -> Result<Vec<SubmittedFile>, UploadError>
where
    S: AsyncRead + AsyncWrite,
{
    let announced = judge(heads).map_err(UploadError::Limit)?;
    let mut all = Vec::new();
    loop {
        match connection.input().await? {
            Some(Input::Bytes(bytes)) => {
                let received = (all.len() + bytes.len()) as u64;
                if received > announced {
                    return Err(UploadError::Length { received: announced + 1, announced });
                }
                let count = u32::try_from(bytes.len()).expect("a message has at most 4 MiB");
                all.extend(bytes);
                connection.reply(&Reply::Window { bytes: count }).await?;
            }
            Some(Input::End) => break,
            // A signal means nothing before there is a command.
            Some(Input::Signal(_) | Input::Resize(_)) => {}
            None => return Err(LinkError::ClosedEarly.into()),
        }
    }
    split(&all, heads).ok_or(UploadError::Length { received: all.len() as u64, announced })
}

/// Returns how many bytes the files have together.
fn judge(heads: &[FileHead]) -> Result<u64, Box<Refusal>> {
    let refuse = |text: String| {
        Err(Box::new(Refusal {
            host: None,
            vm: None,
            rule: "build-files".to_owned(),
            text,
            who_can_change: Some("the author of the project: put large content into a template".to_owned()),
        }))
    };
    if heads.len() > BUILD_FILES_MAX {
        return refuse(format!("the build brings {} files, more than {BUILD_FILES_MAX}", heads.len()));
    }
    let total = heads.iter().fold(0_u64, |sum, head| sum.saturating_add(head.bytes));
    if total > BUILD_FILES_BYTES_MAX {
        let limit_mib = BUILD_FILES_BYTES_MAX >> 20;
        return refuse(format!("the build's files have {total} bytes together, more than {limit_mib} MiB"));
    }
    Ok(total)
}

/// Cuts the bytes into files; none where they are fewer or more than announced.
fn split(mut all: &[u8], heads: &[FileHead]) -> Option<Vec<SubmittedFile>> {
    let mut files = Vec::with_capacity(heads.len());
    for head in heads {
        let (bytes, rest) = all.split_at_checked(usize::try_from(head.bytes).ok()?)?;
        files.push(SubmittedFile { from: head.from.clone(), mode: head.mode, bytes: bytes.to_vec() });
        all = rest;
    }
    all.is_empty().then_some(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads(lengths: &[u64]) -> Vec<FileHead> {
        lengths.iter().map(|&bytes| FileHead { from: format!("f{bytes}"), mode: 0o644, bytes }).collect()
    }

    #[test]
    fn bytes_are_cut_where_the_files_end() {
        let files = split(b"abcde", &heads(&[2, 0, 3])).expect("as announced");
        assert_eq!(files.iter().map(|f| f.bytes.as_slice()).collect::<Vec<_>>(), [&b"ab"[..], b"", b"cde"]);
        assert_eq!(split(b"abcd", &heads(&[2, 3])), None);
        assert_eq!(split(b"abcdef", &heads(&[2, 3])), None);
    }

    #[test]
    fn too_much_is_refused_before_it_is_received() {
        assert_eq!(judge(&heads(&[1, 2])), Ok(3));
        assert_eq!(judge(&heads(&[BUILD_FILES_BYTES_MAX, 1])).expect_err("too much").rule, "build-files");
        assert!(judge(&heads(&[u64::MAX, u64::MAX])).is_err());
        assert!(judge(&heads(&vec![0; BUILD_FILES_MAX + 1])).is_err());
    }
}
