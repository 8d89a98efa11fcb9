//! The account files of a guest, as texts: pure, so that adding a user twice can be seen to change nothing.

/// The texts of `/etc/passwd`, `/etc/group` and `/etc/shadow`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Accounts {
    pub(super) passwd: String,
    pub(super) group: String,
    pub(super) shadow: String,
}

/// What a guest should have for a user.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    /// As crypt(5) has it; none leaves an existing password, and locks a new account.
    pub(super) password: Option<&'a str>,
    pub(super) home: Option<&'a str>,
    pub(super) uid: Option<u32>,
    pub(super) shell: &'a str,
    /// Days since 1970, for the date of the password's change.
    pub(super) today: u64,
}

/// A user that was added, whose home folder is still to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Added {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: String,
}

/// Why a user can't be in the account files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum AccountError {
    #[error("{what} of user {name:?} has a colon or a line break")]
    Separator { name: String, what: &'static str },
    #[error("number {uid} of user {name:?} belongs to another user")]
    UidTaken { name: String, uid: u32 },
    #[error("no number is left for user {name:?}")]
    NoUidLeft { name: String },
}

const UIDS: std::ops::Range<u32> = 1000..60_000;

impl Accounts {
    /// Adds a user; one that exists only gets the password.
    pub(super) fn ensure(&mut self, wanted: Wanted<'_>) -> Result<Option<Added>, AccountError> {
        let name = wanted.name;
        let texts = [("name", Some(name)), ("password", wanted.password), ("home", wanted.home)];
        for (what, text) in texts {
            if text.is_some_and(|t| t.contains([':', '\n'])) {
                return Err(AccountError::Separator { name: name.to_owned(), what });
            }
        }
        let added = if field(&self.passwd, name, 0).is_some() { None } else { Some(self.add(wanted)?) };
        if wanted.password.is_some() || field(&self.shadow, name, 0).is_none() {
            let line = format!("{name}:{}:{}:0:99999:7:::", wanted.password.unwrap_or("!"), wanted.today);
            // The date alone is no change.
            if field(&self.shadow, name, 1) != Some(wanted.password.unwrap_or("!")) {
                set_line(&mut self.shadow, name, &line);
            }
        }
        Ok(added)
    }

    /// Adds a group, and members that it hasn't got; those that it has stay.
    pub(super) fn ensure_group(&mut self, name: &str, members: &[String]) -> Result<(), AccountError> {
        if let Some(text) = [name]
            .into_iter()
            .chain(members.iter().map(String::as_str))
            .find(|text| text.contains([':', ',', '\n']))
        {
            return Err(AccountError::Separator { name: text.to_owned(), what: "the name" });
        }
        let gid = match field(&self.group, name, 2) {
            Some(gid) => gid.to_owned(),
            None => {
                let taken = numbers(&self.group);
                let free = UIDS.clone().find(|gid| !taken.contains(gid));
                free.ok_or_else(|| AccountError::NoUidLeft { name: name.to_owned() })?.to_string()
            }
        };
        let mut all: Vec<&str> = field(&self.group, name, 3).unwrap_or_default().split(',').collect();
        all.extend(members.iter().map(String::as_str));
        let mut there = Vec::new();
        for member in all {
            if !member.is_empty() && !there.contains(&member) {
                there.push(member);
            }
        }
        let line = format!("{name}:x:{gid}:{}", there.join(","));
        set_line(&mut self.group, name, &line);
        Ok(())
    }

    fn add(&mut self, wanted: Wanted<'_>) -> Result<Added, AccountError> {
        let name = wanted.name;
        let taken = numbers(&self.passwd);
        let uid = match wanted.uid {
            Some(uid) if taken.contains(&uid) => {
                return Err(AccountError::UidTaken { name: name.to_owned(), uid });
            }
            Some(uid) => uid,
            None => UIDS
                .clone()
                .find(|uid| !taken.contains(uid))
                .ok_or_else(|| AccountError::NoUidLeft { name: name.to_owned() })?,
        };
        let gid = match field(&self.group, name, 2).and_then(|text| text.parse().ok()) {
            Some(gid) => gid,
            None => {
                let gids = numbers(&self.group);
                let gid = std::iter::once(uid)
                    .chain(UIDS)
                    .find(|gid| !gids.contains(gid))
                    .ok_or_else(|| AccountError::NoUidLeft { name: name.to_owned() })?;
                set_line(&mut self.group, name, &format!("{name}:x:{gid}:"));
                gid
            }
        };
        let home = wanted.home.map_or_else(|| format!("/home/{name}"), str::to_owned);
        set_line(&mut self.passwd, name, &format!("{name}:x:{uid}:{gid}::{home}:{}", wanted.shell));
        Ok(Added { uid, gid, home })
    }
}

/// Returns the n-th field of the line that begins with `name`.
fn field<'a>(text: &'a str, name: &str, n: usize) -> Option<&'a str> {
    text.lines().find(|line| line.split(':').next() == Some(name))?.split(':').nth(n)
}

fn numbers(text: &str) -> Vec<u32> {
    text.lines().filter_map(|line| line.split(':').nth(2)?.parse().ok()).collect()
}

fn set_line(text: &mut String, name: &str, line: &str) {
    let mut lines: Vec<&str> = text.lines().collect();
    match lines.iter().position(|l| l.split(':').next() == Some(name)) {
        Some(at) => lines[at] = line,
        None => lines.push(line),
    }
    *text = lines.join("\n") + "\n";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> Accounts {
        Accounts {
            passwd: "root:x:0:0:root:/root:/bin/sh\n".into(),
            group: "root:x:0:\nusers:x:100:\n".into(),
            shadow: "root:*:19000:0:99999:7:::\n".into(),
        }
    }

    fn wanted<'a>(name: &'a str, password: Option<&'a str>) -> Wanted<'a> {
        Wanted { name, password, home: None, uid: None, shell: "/bin/sh", today: 20_000 }
    }

    #[test]
    fn a_new_user_gets_a_number_a_group_and_a_home() {
        let mut accounts = fresh();
        let added = accounts.ensure(wanted("anna", Some("$6$x"))).expect("valid");
        assert_eq!(added, Some(Added { uid: 1000, gid: 1000, home: "/home/anna".into() }));
        assert!(accounts.passwd.ends_with("\nanna:x:1000:1000::/home/anna:/bin/sh\n"));
        assert!(accounts.group.ends_with("\nanna:x:1000:\n"));
        assert!(accounts.shadow.ends_with("\nanna:$6$x:20000:0:99999:7:::\n"));
    }

    #[test]
    fn a_user_that_exists_only_gets_the_password() {
        let mut accounts = fresh();
        assert_eq!(accounts.ensure(wanted("root", Some("$6$y"))), Ok(None));
        assert_eq!(accounts.passwd, fresh().passwd);
        assert_eq!(accounts.shadow, "root:$6$y:20000:0:99999:7:::\n");
        let again = accounts.clone();
        assert_eq!(accounts.ensure(Wanted { today: 20_001, ..wanted("root", Some("$6$y")) }), Ok(None));
        assert_eq!(accounts.ensure(wanted("root", None)), Ok(None));
        assert_eq!(accounts, again, "again changes nothing");
    }

    #[test]
    fn a_group_is_made_once_and_gets_the_members_that_it_lacks() {
        let mut accounts = fresh();
        let members = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        accounts.ensure_group("staff", &members(&["anna", "bo"])).expect("valid");
        assert!(accounts.group.ends_with("\nstaff:x:1000:anna,bo\n"), "{}", accounts.group);
        let once = accounts.clone();
        accounts.ensure_group("staff", &members(&["bo"])).expect("valid");
        assert_eq!(accounts, once);
        accounts.ensure_group("users", &members(&["anna"])).expect("valid");
        assert!(accounts.group.contains("\nusers:x:100:anna\n"));
        assert!(accounts.ensure_group("a", &members(&["b,c"])).is_err());
    }

    #[test]
    fn an_account_without_password_is_locked() {
        let mut accounts = fresh();
        accounts.ensure(wanted("bo", None)).expect("valid");
        assert!(accounts.shadow.ends_with("\nbo:!:20000:0:99999:7:::\n"));
    }

    #[test]
    fn what_would_break_the_files_is_refused() {
        let mut accounts = fresh();
        assert!(matches!(accounts.ensure(wanted("a:b", None)), Err(AccountError::Separator { .. })));
        assert!(matches!(accounts.ensure(wanted("a", Some("x\nroot"))), Err(AccountError::Separator { .. })));
        let taken = Wanted { uid: Some(0), ..wanted("toor", None) };
        assert_eq!(accounts.ensure(taken), Err(AccountError::UidTaken { name: "toor".into(), uid: 0 }));
        assert_eq!(accounts, fresh());
    }
}
