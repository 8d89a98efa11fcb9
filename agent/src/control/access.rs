//! Who may use the control socket: pure rules over what the kernel and the account database say. And what somebody
//! may do who comes over the network.

use std::collections::BTreeSet;
use std::fmt;

use mln_link::message::Refusal;
use mln_protocol::trust::Verb;

/// What somebody may do: a set of verbs, small enough to be copied about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verbs(u32);

impl Verbs {
    /// Returns the set of these bits; what is no verb is left out.
    pub fn of_bits(bits: u32) -> Self {
        Verb::ALL.into_iter().filter(|verb| bits & verb.bit() != 0).collect()
    }

    /// Whether it holds a verb.
    pub fn contains(self, verb: Verb) -> bool {
        self.0 & verb.bit() != 0
    }

    /// Returns all of them, in their order.
    pub fn iter(self) -> impl Iterator<Item = Verb> {
        Verb::ALL.into_iter().filter(move |verb| self.contains(*verb))
    }

    /// Returns the words for them.
    pub fn words(self) -> Vec<&'static str> {
        self.iter().map(Verb::word).collect()
    }
}

impl FromIterator<Verb> for Verbs {
    fn from_iter<I: IntoIterator<Item = Verb>>(verbs: I) -> Self {
        Self(verbs.into_iter().fold(0, |bits, verb| bits | verb.bit()))
    }
}

impl fmt::Display for Verbs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().join(", "))
    }
}

/// Whom an agent lets use its control socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The owner of the data folder.
    pub owner_uid: u32,
    /// The group whose members may, with its name.
    pub group: Option<(u32, String)>,
}

/// Who is at the other end of the socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user's number, as the kernel says.
    pub uid: u32,
    /// The user's login, if it has one.
    pub login: Option<String>,
    /// The groups of the process and of the user.
    pub gids: BTreeSet<u32>,
}

const ROOT_UID: u32 = 0;

impl Access {
    /// Returns a refusal where the caller may not use the socket.
    pub fn judge(&self, caller: &Caller) -> Result<(), Box<Refusal>> {
        let member = self.group.as_ref().is_some_and(|(gid, _)| caller.gids.contains(gid));
        if caller.uid == ROOT_UID || caller.uid == self.owner_uid || member {
            Ok(())
        } else {
            Err(Box::new(self.refusal(caller)))
        }
    }

    fn refusal(&self, caller: &Caller) -> Refusal {
        let who = match &caller.login {
            Some(login) => format!("{login} (uid {})", caller.uid),
            None => format!("uid {}", caller.uid),
        };
        let owner = self.owner_uid;
        let (may, change) = match &self.group {
            Some((_, group)) => (
                format!("root, uid {owner} and members of group {group} may"),
                format!("root of this machine, by adding the user to group {group}"),
            ),
            None => (
                format!("root and uid {owner} may"),
                "whoever runs the agent, by setting control_group in its config.toml".to_owned(),
            ),
        };
        Refusal {
            host: None,
            vm: None,
            rule: "control-access".to_owned(),
            text: format!("{who} may not use this agent: {may}"),
            who_can_change: Some(change),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(uid: u32, gids: &[u32]) -> Caller {
        Caller { uid, login: Some("anna".to_owned()), gids: gids.iter().copied().collect() }
    }

    #[test]
    fn root_the_owner_and_the_group_may_and_nobody_else() {
        let private = Access { owner_uid: 1000, group: None };
        let shared = Access { owner_uid: 1000, group: Some((50, "mln".to_owned())) };
        for access in [&private, &shared] {
            assert_eq!(access.judge(&caller(0, &[0])), Ok(()));
            assert_eq!(access.judge(&caller(1000, &[1000])), Ok(()));
            assert!(access.judge(&caller(1001, &[1000, 1001])).is_err());
        }
        assert_eq!(shared.judge(&caller(1001, &[1001, 50])), Ok(()));
        assert!(private.judge(&caller(1001, &[1001, 50])).is_err());
    }

    #[test]
    fn a_refusal_says_who_may_and_who_can_change_it() {
        let shared = Access { owner_uid: 1000, group: Some((50, "mln".to_owned())) };
        let refusal = shared.judge(&caller(1001, &[])).expect_err("a stranger");
        assert_eq!(refusal.rule, "control-access");
        assert_eq!(
            refusal.text,
            "anna (uid 1001) may not use this agent: root, uid 1000 and members of group mln may"
        );
        assert!(refusal.who_can_change.expect("somebody can").contains("group mln"));
    }
}
