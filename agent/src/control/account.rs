//! The machine's account database: logins and groups by number.
//!
//! It may ask a directory server, so callers keep it off the threads that serve others.

use std::ffi::CString;

use mln_protocol::id::Name;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

use super::access::Caller;

/// Why an account could not be looked up. Nothing changed; trying again may help.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The database itself failed.
    #[error("the account database failed on {what}")]
    Database {
        /// What was looked up.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// There is no such group.
    #[error("there is no group {0:?} on this machine")]
    NoGroup(String),
}

/// Returns who a process is, with every group that it may act for.
pub(super) fn caller_of(uid: u32, gid: u32) -> Result<Caller, AccountError> {
    let failed =
        |source: nix::Error| AccountError::Database { what: format!("uid {uid}"), source: source.into() };
    let user = User::from_uid(Uid::from_raw(uid)).map_err(failed)?;
    let mut gids = std::collections::BTreeSet::from([gid]);
    let login = user.as_ref().map(|user| user.name.clone());
    if let Some((user, login)) = user.zip(login.clone().and_then(|login| CString::new(login).ok())) {
        gids.extend(getgrouplist(&login, user.gid).map_err(failed)?.into_iter().map(Gid::as_raw));
    }
    Ok(Caller { uid, login, gids })
}

/// Returns the number of a group.
pub(crate) fn gid_of(group: &str) -> Result<u32, AccountError> {
    let found = Group::from_name(group).map_err(|source| AccountError::Database {
        what: format!("group {group:?}"),
        source: source.into(),
    })?;
    found.map(|found| found.gid.as_raw()).ok_or_else(|| AccountError::NoGroup(group.to_owned()))
}

/// Returns the name under which a caller owns projects: the login, or the number where that is no name.
pub(super) fn owner_name(caller: &Caller) -> Name {
    let login = caller.login.as_deref().and_then(|login| Name::parse(login).ok());
    login.unwrap_or_else(|| {
        Name::parse(&format!("uid{}", caller.uid)).expect("three letters and at most ten digits are a name")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_with_its_group() {
        let root = caller_of(0, 4242).expect("a machine has an account database");
        assert_eq!(root.login.as_deref(), Some("root"));
        assert!(root.gids.contains(&0) && root.gids.contains(&4242));
        assert_eq!(gid_of("root").ok(), Some(0));
        assert!(matches!(gid_of("no such group"), Err(AccountError::NoGroup(_))));
    }

    #[test]
    fn logins_that_are_no_names_own_by_number() {
        let caller = |login: Option<&str>| Caller {
            uid: 1001,
            login: login.map(str::to_owned),
            gids: std::collections::BTreeSet::new(),
        };
        assert_eq!(owner_name(&caller(Some("anna"))).as_str(), "anna");
        assert_eq!(owner_name(&caller(Some("_apt"))).as_str(), "uid1001");
        assert_eq!(owner_name(&caller(None)).as_str(), "uid1001");
    }
}
