//! `/mln/image/1`: what hosts say to each other about images. Enumerations grow at their end only.
//!
//! The header of a stream is a [`ImageAsk`]; an [`ImageAnswer`] follows in a block. After [`ImageAnswer::Manifest`] the
//! asking side sends places of chunks, each as four bytes, big-endian, and gets a block for each in the same order: a
//! byte that says how it is packed ([`ChunkPacking`]), and the chunk.

use serde::{Deserialize, Serialize};

use super::{DecodeError, decode, encode, name};
use crate::id::{Digest, Name};
use crate::model::TemplateRef;

/// The longest header of an image stream, in bytes.
pub const IMAGE_ASK_BYTES_MAX: usize = 512;

/// The longest answer, in bytes: a manifest and what is around it.
pub const IMAGE_ANSWER_BYTES_MAX: usize = super::MESSAGE_BYTES_MAX;

/// The most templates that one answer names.
pub const IMAGE_OFFERS_MAX: usize = 1024;

/// What a host asks another about images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageAsk {
    /// Which templates it has.
    List,
    /// Whether it has this template.
    Find(TemplateRef),
    /// The manifest of an image, and then its chunks.
    Fetch(Digest),
}

/// A template that a host has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageOffer {
    /// What it is called there.
    pub name: Name,
    /// Which one of that name.
    pub version: String,
    /// The digest of its manifest.
    pub digest: Digest,
    /// The length of its file, holes included, in bytes.
    pub bytes: u64,
    /// The size of its file system, in bytes.
    pub file_system_bytes: u64,
    /// What of it is not a hole, in bytes.
    pub data_bytes: u64,
    /// When it was made, in milliseconds since 1970.
    pub added_unix_ms: u64,
    /// The least memory that a guest of it boots with, in MiB.
    pub memory_mib_min: u32,
}

/// What a host answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageAnswer {
    /// To [`ImageAsk::List`] and [`ImageAsk::Find`]: what it has; may be nothing.
    Offers(Vec<ImageOffer>),
    /// To [`ImageAsk::Fetch`]: the manifest's bytes, to be verified.
    Manifest(Vec<u8>),
    /// It doesn't have that image.
    Missing,
    /// It hands over as much as it may already; ask again later, or somebody else.
    Busy,
}

/// All of the block where a chunk isn't there: only of an image that is not whole there, and who asks for those reads it.
pub const CHUNK_ABSENT: u8 = 2;

/// How a chunk is packed: the first byte of its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkPacking {
    /// As it is.
    Plain,
    /// By zstd.
    Zstd,
}

impl ChunkPacking {
    /// Returns its byte.
    pub fn byte(self) -> u8 {
        match self {
            Self::Plain => 0,
            Self::Zstd => 1,
        }
    }

    /// Returns what a byte stands for.
    pub fn of(byte: u8) -> Result<Self, DecodeError> {
        match byte {
            0 => Ok(Self::Plain),
            1 => Ok(Self::Zstd),
            found => Err(DecodeError::Unknown { what: "packing of a chunk", found: found.into() }),
        }
    }
}

#[derive(Serialize, Deserialize)]
enum AskWire {
    List,
    Newest(String),
    Version(String, String),
    Exact(String, [u8; 32]),
    Fetch([u8; 32]),
}

#[derive(Serialize, Deserialize)]
enum AnswerWire {
    Offers(Vec<OfferWire>),
    Manifest(Vec<u8>),
    Missing,
    Busy,
}

#[derive(Serialize, Deserialize)]
struct OfferWire {
    name: String,
    version: String,
    digest: [u8; 32],
    bytes: u64,
    file_system_bytes: u64,
    data_bytes: u64,
    added_unix_ms: u64,
    memory_mib_min: u32,
}

impl ImageAsk {
    /// Encodes it.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(&match self {
            Self::List => AskWire::List,
            Self::Find(TemplateRef::Newest(name)) => AskWire::Newest(name.to_string()),
            Self::Find(TemplateRef::Version(name, version)) => {
                AskWire::Version(name.to_string(), version.clone())
            }
            Self::Find(TemplateRef::Exact(name, digest)) => AskWire::Exact(name.to_string(), digest.0),
            Self::Fetch(digest) => AskWire::Fetch(digest.0),
        })
    }

    /// Decodes it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(match decode(bytes, IMAGE_ASK_BYTES_MAX)? {
            AskWire::List => Self::List,
            AskWire::Newest(found) => Self::Find(TemplateRef::Newest(name(&found)?)),
            AskWire::Version(found, version) => {
                Self::Find(TemplateRef::Version(name(&found)?, name(&version)?.to_string()))
            }
            AskWire::Exact(found, digest) => Self::Find(TemplateRef::Exact(name(&found)?, Digest(digest))),
            AskWire::Fetch(digest) => Self::Fetch(Digest(digest)),
        })
    }
}

impl ImageAnswer {
    /// Encodes it.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(&match self {
            Self::Offers(offers) => AnswerWire::Offers(offers.iter().map(OfferWire::from).collect()),
            Self::Manifest(bytes) => AnswerWire::Manifest(bytes.clone()),
            Self::Missing => AnswerWire::Missing,
            Self::Busy => AnswerWire::Busy,
        })
    }

    /// Decodes it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(match decode(bytes, IMAGE_ANSWER_BYTES_MAX)? {
            AnswerWire::Offers(offers) if offers.len() > IMAGE_OFFERS_MAX => {
                return Err(DecodeError::TooLong { bytes: offers.len(), limit: IMAGE_OFFERS_MAX });
            }
            AnswerWire::Offers(offers) => {
                Self::Offers(offers.into_iter().map(ImageOffer::try_from).collect::<Result<_, _>>()?)
            }
            AnswerWire::Manifest(bytes) => Self::Manifest(bytes),
            AnswerWire::Missing => Self::Missing,
            AnswerWire::Busy => Self::Busy,
        })
    }
}

impl From<&ImageOffer> for OfferWire {
    fn from(offer: &ImageOffer) -> Self {
        Self {
            name: offer.name.to_string(),
            version: offer.version.clone(),
            digest: offer.digest.0,
            bytes: offer.bytes,
            file_system_bytes: offer.file_system_bytes,
            data_bytes: offer.data_bytes,
            added_unix_ms: offer.added_unix_ms,
            memory_mib_min: offer.memory_mib_min,
        }
    }
}

impl TryFrom<OfferWire> for ImageOffer {
    type Error = DecodeError;

    fn try_from(wire: OfferWire) -> Result<Self, DecodeError> {
        Ok(Self {
            name: name(&wire.name)?,
            version: name(&wire.version)?.to_string(),
            digest: Digest(wire.digest),
            bytes: wire.bytes,
            file_system_bytes: wire.file_system_bytes,
            data_bytes: wire.data_bytes,
            added_unix_ms: wire.added_unix_ms,
            memory_mib_min: wire.memory_mib_min,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::hex;

    fn mini() -> Name {
        Name::parse("mini").expect("a name")
    }

    fn offer() -> ImageOffer {
        ImageOffer {
            name: mini(),
            version: "1".to_owned(),
            digest: Digest([7; 32]),
            bytes: 1,
            file_system_bytes: 2,
            data_bytes: 3,
            added_unix_ms: 4,
            memory_mib_min: 5,
        }
    }

    #[test]
    fn the_bytes_of_version_1_never_change() {
        let asks = [
            ImageAsk::List,
            ImageAsk::Find(TemplateRef::Newest(mini())),
            ImageAsk::Find(TemplateRef::Version(mini(), "1".to_owned())),
            ImageAsk::Find(TemplateRef::Exact(mini(), Digest([7; 32]))),
            ImageAsk::Fetch(Digest([7; 32])),
        ];
        let answers = [
            ImageAnswer::Offers(vec![offer()]),
            ImageAnswer::Manifest(vec![9]),
            ImageAnswer::Missing,
            ImageAnswer::Busy,
        ];
        let mut lines = String::new();
        for ask in asks {
            let bytes = ask.to_bytes();
            assert_eq!(ImageAsk::from_bytes(&bytes), Ok(ask));
            lines += &format!("{}\n", hex(&bytes));
        }
        for answer in answers {
            let bytes = answer.to_bytes();
            assert_eq!(ImageAnswer::from_bytes(&bytes), Ok(answer));
            lines += &format!("{}\n", hex(&bytes));
        }
        assert_eq!(lines, include_str!("golden/image_1.hex"));
    }

    #[test]
    fn a_name_that_leads_out_of_a_folder_is_refused() {
        let wire = OfferWire { version: "../x".to_owned(), ..OfferWire::from(&offer()) };
        let bytes = encode(&AnswerWire::Offers(vec![wire]));
        assert_eq!(ImageAnswer::from_bytes(&bytes), Err(DecodeError::Invalid { what: "name" }));
        assert!(ImageAsk::from_bytes(&encode(&AskWire::Newest("a/b".to_owned()))).is_err());
    }

    #[test]
    fn the_longest_header_fits() {
        let long = Name::parse(&"n".repeat(crate::id::NAME_BYTES_MAX)).expect("a name");
        let ask = ImageAsk::Find(TemplateRef::Exact(long, Digest([0; 32])));
        assert!(ask.to_bytes().len() <= IMAGE_ASK_BYTES_MAX);
    }
}
