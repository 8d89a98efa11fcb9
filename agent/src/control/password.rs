//! Passwords of guests' users: what is in plain becomes crypt(5) before anything is signed or stored.

use sha_crypt::{CustomizedPasswordHasher, Params, ShaCrypt};

/// How a password is written in a project file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordForm {
    /// As crypt(5) has it, or locked (`*`, `!`): taken as it is.
    Crypt,
    /// In plain.
    Plain,
}

/// Why a password could not be hashed. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The system gave no randomness for a salt.
    #[error("no randomness to be had for a password's salt: {0}")]
    Randomness(getrandom::Error),
    /// The hash function refused.
    #[error("the password can't be hashed: {0}")]
    Hash(sha_crypt::password_hash::Error),
}

/// The bytes of a salt: 16 characters once encoded, the most that SHA-crypt uses.
const SALT_BYTES: usize = 12;

/// Returns how a password is written.
///
/// Crypt is `$ID$…`, a locked `*` or `!…`, and the 13 characters that DES gave, since MLN's files have them; a
/// plain password of exactly that shape must be written as crypt.
pub fn form_of(password: &str) -> PasswordForm {
    let modular = password.strip_prefix('$').is_some_and(|rest| match rest.split_once('$') {
        Some((id, hash)) => {
            !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && hash.contains('$')
        }
        None => false,
    });
    let locked = password == "*" || password.starts_with('!');
    let des =
        password.len() == 13 && password.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'/');
    if modular || locked || des { PasswordForm::Crypt } else { PasswordForm::Plain }
}

/// Returns the password as crypt(5) has it: as it is, or hashed with sha512-crypt and a random salt.
///
/// It takes milliseconds: for many users, off the event loop.
pub fn crypt_password(password: &str) -> Result<String, PasswordError> {
    match form_of(password) {
        PasswordForm::Crypt => Ok(password.to_owned()),
        PasswordForm::Plain => {
            let mut salt = [0; SALT_BYTES];
            getrandom::fill(&mut salt).map_err(PasswordError::Randomness)?;
            let hash = ShaCrypt::SHA512
                .hash_password_customized(password.as_bytes(), &salt, None, None, Params::RECOMMENDED)
                .map_err(PasswordError::Hash)?;
            Ok(hash.as_str().to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use sha_crypt::{PasswordHash, PasswordVerifier};

    use super::*;

    #[test]
    fn crypt_is_told_from_plain() {
        let crypt =
            ["$6$salt$hash", "$6$rounds=5000$salt$hash", "$y$j9T$salt$hash", "*", "!", "!!", "2GKAZiuHfBRXo"];
        for text in crypt {
            assert_eq!(form_of(text), PasswordForm::Crypt, "{text}");
        }
        for text in ["", "secret", "$", "$6$", "$money$", "$ $x$y", "correct horse", "thirteen-char"] {
            assert_eq!(form_of(text), PasswordForm::Plain, "{text}");
        }
    }

    #[test]
    fn a_plain_password_is_hashed_with_a_salt_of_its_own() {
        let first = crypt_password("secret").expect("hashed");
        let second = crypt_password("secret").expect("hashed");
        assert_ne!(first, second);
        assert_eq!(crypt_password(&first).expect("as it is"), first);
        let salt = first.rsplit('$').nth(1).expect("a salt");
        assert_eq!(salt.len(), 16, "{first}");
        let hash = PasswordHash::new(&first).expect("modular crypt format");
        ShaCrypt::SHA512.verify_password(b"secret", &hash).expect("the same password");
    }

    #[test]
    fn the_hash_is_the_one_that_guests_know() {
        // The first test vector of "Unix crypt using SHA-256 and SHA-512", which openssl and glibc give too.
        let vector = "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1";
        let hash = PasswordHash::new(vector).expect("modular crypt format");
        ShaCrypt::SHA512.verify_password(b"Hello world!", &hash).expect("the same password");
    }
}
