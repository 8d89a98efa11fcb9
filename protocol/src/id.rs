//! Identities: what things of the mesh are called, each as a type that is parsed once.

use std::fmt;

/// A BLAKE3 digest of canonical bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Returns the digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Returns the first eight hexadecimal digits: for people and for folder names, never for comparing.
    pub fn short(&self) -> String {
        hex(&self.0[..4])
    }

    /// Parses 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        parse_hex_32(text).map(Self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}

/// An ed25519 public key: the identity of a host, a principal or the mesh's root.
///
/// A host's libp2p `PeerId` is derived from the same key. Holding one does not prove that its bytes are a
/// point of the curve: that is found out when a signature is verified.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// Returns the first eight hexadecimal digits: for people, never for comparing.
    pub fn short(&self) -> String {
        hex(&self.0[..4])
    }

    /// Parses 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        parse_hex_32(text).map(Self)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.short())
    }
}

/// A name in the mesh or in a project: of a host, a project, a VM, a switch, an interface, a user.
///
/// One to 63 characters; letters, digits, `-`, `_` and `.`, beginning with a letter or a digit. So it is safe
/// as a file name, as a host name and on a command line.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// The longest [`Name`], in bytes: a DNS label (RFC 1035, 2.3.4).
pub const NAME_BYTES_MAX: usize = 63;

impl Name {
    /// Parses a name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong { bytes: text.len() });
        }
        let wrong = text.char_indices().find(|&(i, c)| {
            let inside = matches!(c, '-' | '_' | '.');
            !(c.is_ascii_alphanumeric() || (inside && i > 0))
        });
        match wrong {
            Some((_, found)) => Err(NameError::Character { found }),
            None => Ok(Self(text.to_owned())),
        }
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// Why a text is no [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is no text.
    #[error("a name has at least one character")]
    Empty,
    /// The text is longer than [`NAME_BYTES_MAX`].
    #[error("a name has at most {NAME_BYTES_MAX} characters, this one has {bytes}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A character that names don't have, or `-`, `_` or `.` at the beginning.
    #[error(
        "a name has letters, digits, '-', '_' and '.', and begins with a letter or a digit: {found:?} is wrong"
    )]
    Character {
        /// The first wrong character.
        found: char,
    },
}

/// What people call a project: unique per owner.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label {
    /// Whose it is.
    pub owner: Name,
    /// Its name in the project file.
    pub project: Name,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.project)
    }
}

/// A project: the digest of its first revision.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ProjectId(pub Digest);

/// A virtual machine: the revision in which it first appeared, and its name there.
///
/// A name that is removed and comes back is another VM.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct VmId {
    /// Digest of the revision in which it first appears.
    pub birth: Digest,
    /// Its name in the project.
    pub name: Name,
}

impl fmt::Display for VmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.birth.short())
    }
}

/// Returns `bytes` as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// Reads hexadecimal digits, two for each byte, in either case; none where it is something else.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()
}

fn parse_hex_32(text: &str) -> Option<[u8; 32]> {
    unhex(text)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_as_file_names() {
        for good in ["a", "web-1", "node_2", "R2.lab", "9"] {
            assert_eq!(Name::parse(good).map(|n| n.as_str().to_owned()), Ok(good.to_owned()));
        }
        assert_eq!(Name::parse(""), Err(NameError::Empty));
        assert_eq!(Name::parse(&"a".repeat(64)), Err(NameError::TooLong { bytes: 64 }));
        for (bad, found) in [("..", '.'), ("-x", '-'), ("a/b", '/'), ("a b", ' '), ("é", 'é')] {
            assert_eq!(Name::parse(bad), Err(NameError::Character { found }), "{bad}");
        }
    }

    #[test]
    fn hex_of_a_digest_parses_back() {
        let digest = Digest::of(b"mln");
        assert_eq!(Digest::from_hex(&digest.to_string()), Some(digest));
        assert_eq!(Digest::from_hex("zz"), None);
    }
}
