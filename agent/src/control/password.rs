//! Passwords of guests' users: what is in plain becomes crypt(5) before anything is signed or stored.

use mln_protocol::id::{Digest, Label, Name, PublicKey};
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
    /// The hash function refused.
    #[error("the password can't be hashed: {0}")]
    Hash(sha_crypt::password_hash::Error),
}

/// The bytes of a salt: 16 characters once encoded, the most that SHA-crypt uses.
const SALT_BYTES: usize = 12;
/// What a salt is derived for, so that it is no other digest.
const SALT_DOMAIN: &str = "mln password salt 1";

/// Whose password it is.
#[derive(Debug, Clone, Copy)]
pub struct Account<'a> {
    /// The mesh's root key: other meshes have other salts.
    pub mesh: PublicKey,
    /// The project.
    pub label: &'a Label,
    /// The VM.
    pub vm: &'a Name,
    /// The user in the VM.
    pub user: &'a str,
}

impl Account<'_> {
    /// Returns the account's salt: the same at each submission and at every peer, and another one for every account.
    ///
    /// The password is no part of it. A salt stands in the open beside the hash, so it would be a fast digest of the
    /// password, by which guesses could be tried without the slow one.
    fn salt(&self) -> [u8; SALT_BYTES] {
        let Label { owner, project } = self.label;
        let words = [SALT_DOMAIN, owner.as_str(), project.as_str(), self.vm.as_str(), self.user];
        let mut bytes = self.mesh.0.to_vec();
        for word in words {
            // The lengths keep words apart that are equal once joined.
            bytes.extend_from_slice(&(word.len() as u64).to_le_bytes());
            bytes.extend_from_slice(word.as_bytes());
        }
        let mut salt = [0; SALT_BYTES];
        salt.copy_from_slice(&Digest::of(&bytes).0[..SALT_BYTES]);
        salt
    }
}

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

/// Returns the password as crypt(5) has it: as it is, or hashed with sha512-crypt and the account's salt, so that an
/// unchanged file makes an unchanged definition.
///
/// It takes milliseconds: for many users, off the event loop.
pub fn crypt_password(password: &str, account: Account<'_>) -> Result<String, PasswordError> {
    match form_of(password) {
        PasswordForm::Crypt => Ok(password.to_owned()),
        PasswordForm::Plain => {
            let salt = account.salt();
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

    fn name(text: &str) -> Name {
        Name::parse(text).expect("a valid name")
    }

    #[test]
    fn an_accounts_password_has_the_same_hash_each_time_and_no_other_accounts() {
        let label = |owner: &str, project: &str| Label { owner: name(owner), project: name(project) };
        let (lab, other_lab, annas) = (label("berta", "lab"), label("berta", "labw"), label("anna", "lab"));
        let (web, eb) = (name("web"), name("eb"));
        let mesh = PublicKey([1; 32]);
        let account = Account { mesh, label: &lab, vm: &web, user: "root" };
        let hashed = |password: &str, account| crypt_password(password, account).expect("hashed");
        let first = hashed("secret", account);
        assert_eq!(hashed("secret", account), first);
        assert_eq!(hashed(&first, account), first, "as it is");
        let others = [
            Account { mesh: PublicKey([2; 32]), ..account },
            Account { label: &annas, ..account },
            Account { label: &other_lab, vm: &eb, ..account },
            Account { vm: &eb, ..account },
            Account { user: "toor", ..account },
        ];
        let salt = |hash: &str| hash.rsplit('$').nth(1).expect("a salt").to_owned();
        for other in others {
            assert_ne!(salt(&hashed("secret", other)), salt(&first), "{other:?}");
        }
        assert_eq!(salt(&hashed("another", account)), salt(&first), "nothing of the password is in the open");
        assert_eq!(salt(&first).len(), 16, "{first}");
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
