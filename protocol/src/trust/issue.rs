//! Signing a further link: what somebody who may pass a grant on gives to a key.

use std::collections::BTreeSet;

use super::grant::{AdmitError, CHAIN_LINKS_MAX, Grant, Role, Standing, Verb, admit, mesh_of};
use super::scope::Scope;
use super::signed::{Domain, KeyPair, Signed};
use crate::id::{Name, PublicKey};
use crate::time::Now;

/// How long a grant holds where nobody says, in milliseconds.
pub const GRANT_MS_DEFAULT: u64 = 90 * 24 * 3_600_000;

/// What is to be granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// To whom.
    pub subject: PublicKey,
    /// Under which name.
    pub name: Name,
    /// What they may do.
    pub verbs: BTreeSet<Verb>,
    /// How many further links they may sign.
    pub passes: u8,
    /// For how long, in milliseconds; none is [`GRANT_MS_DEFAULT`], or as long as one's own holds.
    pub valid_ms: Option<u64>,
    /// What it is limited to, beside what one's own is.
    pub scope: Scope,
}

/// Why nothing was granted. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// One's own grant doesn't hold.
    #[error("your own grant does not hold")]
    Own(#[source] AdmitError),
    /// One's own grant lacks something.
    #[error("your own grant has no {}, so you can't let others do it", .0.word())]
    Verb(Verb),
    /// It makes neither an operator nor anybody.
    #[error("an operator may view, and is no host (join)")]
    Role,
    /// It can't be passed on, or not so often.
    #[error(
        "your own grant can be passed on {own} times: give one that can be passed on less often than that"
    )]
    Passes {
        /// How often one's own may be.
        own: u8,
    },
    /// The chain would be too long.
    #[error("the chain would have more than {CHAIN_LINKS_MAX} grants")]
    TooLong,
    /// It would end after one's own.
    #[error("your own grant ends before that, at {end_unix_ms} ms since 1970")]
    Outlives {
        /// When one's own ends.
        end_unix_ms: u64,
    },
}

/// Signs a grant behind one's own chain; returns the chain of the new one.
///
/// Whatever it says, the chain allows no more than each of its links, and ends with the first that ends.
pub fn issue(
    keys: &KeyPair,
    root: PublicKey,
    chain: &[Signed],
    order: &Order,
    now: Now,
) -> Result<Vec<Signed>, IssueError> {
    let own = admit(root, chain, keys.public(), now).map_err(IssueError::Own)?;
    let end = judge(&own, chain.len(), order, now)?;
    let grant = Grant {
        mesh: mesh_of(root),
        subject: order.subject,
        name: Some(order.name.clone()),
        verbs: order.verbs.clone(),
        passes: order.passes,
        not_after_unix_ms: Some(end),
        scope: order.scope.clone(),
    };
    let mut longer = chain.to_vec();
    longer.push(keys.sign(Domain::Grant, grant.to_bytes()));
    Ok(longer)
}

/// Returns when the grant ends, in milliseconds since 1970.
fn judge(own: &Standing, links: usize, order: &Order, now: Now) -> Result<u64, IssueError> {
    if !own.verbs.contains(&Verb::Grant) {
        return Err(IssueError::Verb(Verb::Grant));
    }
    if Role::of(&order.verbs) != Some(Role::Operator) {
        return Err(IssueError::Role);
    }
    if let Some(verb) = order.verbs.difference(&own.verbs).next() {
        return Err(IssueError::Verb(*verb));
    }
    if order.passes >= own.passes {
        return Err(IssueError::Passes { own: own.passes });
    }
    if links >= CHAIN_LINKS_MAX {
        return Err(IssueError::TooLong);
    }
    let wanted = now.unix_ms.saturating_add(order.valid_ms.unwrap_or(GRANT_MS_DEFAULT));
    match own.not_after_unix_ms {
        Some(end_unix_ms) if wanted > end_unix_ms && order.valid_ms.is_some() => {
            Err(IssueError::Outlives { end_unix_ms })
        }
        Some(end) => Ok(wanted.min(end)),
        None => Ok(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { mono_ms: 0, unix_ms: 1_000_000 };

    fn keys(seed: u8) -> KeyPair {
        KeyPair::from_secret([seed; 32])
    }

    fn order(verbs: &[Verb], passes: u8, valid_ms: Option<u64>) -> Order {
        Order {
            subject: keys(9).public(),
            name: Name::parse("bob").expect("a name"),
            verbs: verbs.iter().copied().collect(),
            passes,
            valid_ms,
            scope: Scope::default(),
        }
    }

    /// Anna's own chain: she may look, start and pass that on, once, for a second.
    fn own(verbs: &[Verb]) -> Vec<Signed> {
        let grant = Grant {
            mesh: mesh_of(keys(0).public()),
            subject: keys(1).public(),
            name: Name::parse("anna").ok(),
            verbs: verbs.iter().copied().collect(),
            passes: 1,
            not_after_unix_ms: Some(NOW.unix_ms + 1000),
            scope: Scope::default(),
        };
        vec![keys(0).sign(Domain::Grant, grant.to_bytes())]
    }

    #[track_caller]
    fn check(own_verbs: &[Verb], order: &Order, expect: Result<u64, IssueError>) {
        let root = keys(0).public();
        let issued = issue(&keys(1), root, &own(own_verbs), order, NOW);
        let ends = issued.map(|chain| {
            let standing = admit(root, &chain, keys(9).public(), NOW).expect("what is issued holds");
            standing.not_after_unix_ms.expect("every grant has an end")
        });
        assert_eq!(ends, expect);
    }

    #[test]
    fn a_grant_gives_no_more_and_for_no_longer_than_one_s_own() {
        use Verb::{Exec, Grant, Join, Start, View};
        let all = [View, Start, Grant];
        let end = NOW.unix_ms + 1000;
        check(&all, &order(&[View, Start], 0, Some(500)), Ok(NOW.unix_ms + 500));
        check(&all, &order(&[View], 0, None), Ok(end));
        check(&all, &order(&[View], 0, Some(1001)), Err(IssueError::Outlives { end_unix_ms: end }));
        check(&all, &order(&[View, Exec], 0, None), Err(IssueError::Verb(Exec)));
        check(&all, &order(&[View], 1, None), Err(IssueError::Passes { own: 1 }));
        check(&all, &order(&[Start], 0, None), Err(IssueError::Role));
        check(&all, &order(&[View, Join], 0, None), Err(IssueError::Role));
        check(&[View, Start], &order(&[View], 0, None), Err(IssueError::Verb(Grant)));
        let long_after = Now { unix_ms: NOW.unix_ms + 10_000_000, ..NOW };
        let late = issue(&keys(1), keys(0).public(), &own(&all), &order(&[View], 0, None), long_after);
        assert_eq!(late, Err(IssueError::Own(AdmitError::Expired { link: 1 })));
    }
}
