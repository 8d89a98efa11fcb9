//! Tokens: the text that lets a new host join, to be pasted on its command line.

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::hello::{addresses_of, chain_of};
use super::{DecodeError, SignedWire, decode, encode};
use crate::id::{Digest, PublicKey};
use crate::trust::{Grant, Role, Signed};

/// What the text of a token of this version begins with.
const PREFIX: &str = "mln1_";

/// What the text of a grant of this version begins with.
const GRANT_PREFIX: &str = "mlng1_";

/// How many bytes of a digest at the end tell a mistyped token from a wrong one.
const CHECK_BYTES: usize = 4;

/// The longest text of a token, in bytes.
pub const TOKEN_TEXT_BYTES_MAX: usize = 16 << 10;

/// An invitation: whoever holds it can become a host of the mesh until its grant expires.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The mesh's root key: what the new host will trust.
    pub root: PublicKey,
    /// The chain of grants that ends in the token's own key; its last link has the expiry.
    pub chain: Vec<Signed>,
    /// The secret of the token's key.
    pub secret: [u8; 32],
    /// The host that made it.
    pub issuer: PublicKey,
    /// Where that host can be reached, multiaddrs as text; not parsed by decoding.
    pub addresses: Vec<String>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token(of {}, by {})", self.root.short(), self.issuer.short())
    }
}

#[derive(Serialize, Deserialize)]
struct TokenWire {
    root: [u8; 32],
    chain: Vec<SignedWire>,
    secret: [u8; 32],
    issuer: [u8; 32],
    addresses: Vec<String>,
}

/// Why a text is no token. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It doesn't begin as tokens do.
    #[error("a token begins with {PREFIX:?}")]
    Prefix,
    /// Longer than any token.
    #[error("{bytes} bytes, where a token has at most {TOKEN_TEXT_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A character that tokens don't have, or a piece is missing.
    #[error("the token is incomplete or mistyped")]
    Mistyped,
    /// Complete, but not readable.
    #[error("the token can't be read")]
    Content(#[source] DecodeError),
}

impl Token {
    /// Returns the token as text of letters, digits, `-` and `_`.
    pub fn to_text(&self) -> String {
        let bytes = encode(&TokenWire {
            root: self.root.0,
            chain: self.chain.iter().map(SignedWire::from).collect(),
            secret: self.secret,
            issuer: self.issuer.0,
            addresses: self.addresses.clone(),
        });
        as_text(PREFIX, bytes)
    }

    /// Returns what it says of itself, before anybody has judged it: to tell people early that they hold the wrong
    /// one. None where its last grant can't be read.
    pub fn claims(&self) -> Option<Grant> {
        self.chain.last().and_then(|link| Grant::from_bytes(&link.payload).ok())
    }

    /// Returns the role that it says it gives.
    pub fn role(&self) -> Option<Role> {
        self.claims().and_then(|grant| Role::of(&grant.verbs))
    }

    /// Parses the text of a token; white space around it doesn't matter.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let wire: TokenWire = of_text(PREFIX, text)?;
        Ok(Self {
            root: PublicKey(wire.root),
            chain: chain_of(wire.chain).map_err(TokenError::Content)?,
            secret: wire.secret,
            issuer: PublicKey(wire.issuer),
            addresses: addresses_of(wire.addresses).map_err(TokenError::Content)?,
        })
    }
}

/// A grant for a key that is known, as text: whoever has that key can use it, and it is no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantText {
    /// The mesh's root key: what its holder will trust.
    pub root: PublicKey,
    /// The chain of grants that ends in the holder's key.
    pub chain: Vec<Signed>,
    /// Where agents answer, multiaddrs as text, each with who must answer there; not parsed by decoding.
    pub addresses: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct GrantTextWire {
    root: [u8; 32],
    chain: Vec<SignedWire>,
    addresses: Vec<String>,
}

impl GrantText {
    /// Whether a text says of itself that it is one.
    pub fn is_one(text: &str) -> bool {
        text.trim().starts_with(GRANT_PREFIX)
    }

    /// Returns it as text of letters, digits, `-` and `_`.
    pub fn to_text(&self) -> String {
        let bytes = encode(&GrantTextWire {
            root: self.root.0,
            chain: self.chain.iter().map(SignedWire::from).collect(),
            addresses: self.addresses.clone(),
        });
        as_text(GRANT_PREFIX, bytes)
    }

    /// Parses the text of a grant; white space around it doesn't matter.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let wire: GrantTextWire = of_text(GRANT_PREFIX, text)?;
        Ok(Self {
            root: PublicKey(wire.root),
            chain: chain_of(wire.chain).map_err(TokenError::Content)?,
            addresses: addresses_of(wire.addresses).map_err(TokenError::Content)?,
        })
    }
}

fn as_text(prefix: &str, mut bytes: Vec<u8>) -> String {
    let check = Digest::of(&bytes);
    bytes.extend_from_slice(&check.0[..CHECK_BYTES]);
    format!("{prefix}{}", BASE64URL_NOPAD.encode(&bytes))
}

fn of_text<T: DeserializeOwned>(prefix: &str, text: &str) -> Result<T, TokenError> {
    let text = text.trim();
    if text.len() > TOKEN_TEXT_BYTES_MAX {
        return Err(TokenError::TooLong { bytes: text.len() });
    }
    let digits = text.strip_prefix(prefix).ok_or(TokenError::Prefix)?;
    let bytes = BASE64URL_NOPAD.decode(digits.as_bytes()).map_err(|_| TokenError::Mistyped)?;
    let (body, check) = bytes.split_last_chunk::<CHECK_BYTES>().ok_or(TokenError::Mistyped)?;
    if Digest::of(body).0[..CHECK_BYTES] != check[..] {
        return Err(TokenError::Mistyped);
    }
    decode(body, TOKEN_TEXT_BYTES_MAX).map_err(TokenError::Content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::{Domain, KeyPair};

    fn token() -> Token {
        let keys = KeyPair::from_secret([1; 32]);
        Token {
            root: keys.public(),
            chain: vec![keys.sign(Domain::Grant, vec![1])],
            secret: [2; 32],
            issuer: keys.public(),
            addresses: vec!["/ip4/10.0.0.1/tcp/4001".into()],
        }
    }

    #[test]
    fn a_token_survives_a_terminal() {
        let text = token().to_text();
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        assert_eq!(Token::parse(&format!("  {text}\n")), Ok(token()));
    }

    #[test]
    fn a_mistyped_token_is_told_from_a_text_that_is_none() {
        let text = token().to_text();
        assert_eq!(Token::parse("hello"), Err(TokenError::Prefix));
        assert_eq!(Token::parse(&text[..text.len() - 5]), Err(TokenError::Mistyped));
        let mut wrong = text.clone().into_bytes();
        wrong[40] = if wrong[40] == b'A' { b'B' } else { b'A' };
        let wrong = String::from_utf8(wrong).expect("one ASCII byte for another");
        assert_eq!(Token::parse(&wrong), Err(TokenError::Mistyped));
        let long = "m".repeat(TOKEN_TEXT_BYTES_MAX + 1);
        assert_eq!(Token::parse(&long), Err(TokenError::TooLong { bytes: long.len() }));
    }

    #[test]
    fn a_token_does_not_show_its_secret_when_printed() {
        assert!(!format!("{:?}", token()).contains("0202"));
    }

    #[test]
    fn a_grant_as_text_comes_back_and_is_no_token() {
        let keys = KeyPair::from_secret([1; 32]);
        let grant = GrantText {
            root: keys.public(),
            chain: vec![keys.sign(Domain::Grant, vec![1])],
            addresses: vec!["/ip4/10.0.0.1/tcp/7117".to_owned()],
        };
        let text = grant.to_text();
        assert!(GrantText::is_one(&text) && !GrantText::is_one(&token().to_text()));
        assert_eq!(GrantText::parse(&format!(" {text}\n")), Ok(grant));
        assert_eq!(Token::parse(&text), Err(TokenError::Prefix));
        assert_eq!(GrantText::parse(&text[..text.len() - 1]), Err(TokenError::Mistyped));
    }
}
