//! The hello: eight bytes from each end, so that programs of any version understand why they don't understand
//! each other.
//!
//! `mlnc`, the oldest and the newest version that the sender speaks, two bytes each, little-endian. The client
//! speaks first. Both then use the newest version that both speak.

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::LinkError;
use crate::frame::FrameReader;

/// The oldest version of the messages that this program speaks.
pub const VERSION_OLDEST: u16 = 1;

/// The newest version of the messages that this program speaks.
pub const VERSION_NEWEST: u16 = 1;

const MAGIC: [u8; 4] = *b"mlnc";

/// What one end says first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hello {
    oldest: u16,
    newest: u16,
}

impl Hello {
    const OURS: Self = Self { oldest: VERSION_OLDEST, newest: VERSION_NEWEST };

    fn to_bytes(self) -> [u8; 8] {
        let [a, b, c, d] = MAGIC;
        let ([e, f], [g, h]) = (self.oldest.to_le_bytes(), self.newest.to_le_bytes());
        [a, b, c, d, e, f, g, h]
    }

    fn from_bytes([a, b, c, d, e, f, g, h]: [u8; 8]) -> Option<Self> {
        let hello = Self { oldest: u16::from_le_bytes([e, f]), newest: u16::from_le_bytes([g, h]) };
        ([a, b, c, d] == MAGIC).then_some(hello)
    }

    /// Returns the newest version that both ends speak.
    fn agree(self, theirs: Self) -> Result<u16, LinkError> {
        let version = self.newest.min(theirs.newest);
        if version >= self.oldest.max(theirs.oldest) {
            Ok(version)
        } else {
            Err(LinkError::Version { theirs_oldest: theirs.oldest, theirs_newest: theirs.newest })
        }
    }
}

/// Greets the server and returns the version that both speak.
pub async fn greet<R, W>(reader: &mut FrameReader<R>, writer: &mut W) -> Result<u16, LinkError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    send(writer).await?;
    Hello::OURS.agree(receive(reader).await?)
}

/// Awaits the client's greeting, answers it and returns the version that both speak.
///
/// It answers also where there is no such version, so that the client can tell its user.
pub async fn welcome<R, W>(reader: &mut FrameReader<R>, writer: &mut W) -> Result<u16, LinkError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let theirs = receive(reader).await?;
    send(writer).await?;
    Hello::OURS.agree(theirs)
}

async fn send<W: AsyncWrite + Unpin>(writer: &mut W) -> Result<(), LinkError> {
    writer.write_all(&Hello::OURS.to_bytes()).await?;
    writer.flush().await?;
    Ok(())
}

async fn receive<R: AsyncRead + Unpin>(reader: &mut FrameReader<R>) -> Result<Hello, LinkError> {
    Hello::from_bytes(reader.next_bytes().await?).ok_or(LinkError::NotMln)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_of_both_is_used() {
        let hello = |oldest, newest| Hello { oldest, newest };
        assert_eq!(hello(1, 3).agree(hello(2, 5)).ok(), Some(3));
        assert_eq!(hello(2, 5).agree(hello(1, 3)).ok(), Some(3));
        let error = hello(1, 1).agree(hello(2, 4)).expect_err("nothing in common");
        assert!(matches!(error, LinkError::Version { theirs_oldest: 2, theirs_newest: 4 }), "{error}");
    }

    #[test]
    fn the_bytes_of_a_hello_never_change() {
        let bytes = Hello { oldest: 1, newest: 0x0203 }.to_bytes();
        assert_eq!(bytes, *b"mlnc\x01\x00\x03\x02");
        assert_eq!(Hello::from_bytes(bytes), Some(Hello { oldest: 1, newest: 0x0203 }));
        assert_eq!(Hello::from_bytes(*b"GET / HT"), None);
    }

    #[tokio::test]
    async fn another_program_and_another_version_are_told_apart() {
        for (said, expect_not_mln) in [(b"HTTP/1.1", true), (b"mlnc\x63\x00\x64\x00", false)] {
            let mut answer = Vec::new();
            let error =
                welcome(&mut FrameReader::new(&said[..]), &mut answer).await.expect_err("no agreement");
            assert_eq!(matches!(error, LinkError::NotMln), expect_not_mln, "{error}");
            assert_eq!(answer.is_empty(), expect_not_mln, "a client of another version is answered");
        }
    }
}
