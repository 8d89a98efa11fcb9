//! Judging a token: may this key become this host or operator, and what grant does it receive.

use std::collections::BTreeSet;

use super::grant::{AdmitError, CHAIN_LINKS_MAX, Grant, Role, Standing, Verb, admit, mesh_of};
use super::signed::{Domain, Signed};
use crate::id::{Name, PublicKey};
use crate::time::Now;
use crate::wire::JoinClaim;

/// How long an operator's grant holds, in milliseconds: its end limits the harm of a laptop that was lost and that
/// nobody has told of.
pub const OPERATOR_GRANT_MS: u64 = super::issue::GRANT_MS_DEFAULT;

/// What a token's holder has proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invited {
    /// What they become.
    pub role: Role,
    /// The new host's or operator's key.
    pub host: PublicKey,
    /// The name that it wants; whether it is free is for others to say.
    pub name: Name,
    /// What the token stands for.
    pub token: Standing,
}

/// Why a token lets nobody in. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The token's own chain of grants does not hold.
    #[error("the token does not hold")]
    Token(#[source] AdmitError),
    /// The claim is not signed by the token's key, or can't be read.
    #[error("the claim is not signed with the token's key")]
    Claim,
    /// The claim is for another host, mesh or challenge than this one.
    #[error("the claim was made for another occasion")]
    OtherOccasion,
    /// The introducer's own grant can't be passed on any further.
    #[error("this host's grant can't be passed on")]
    NoPasses,
    /// The token is for somebody with another name than the claim has.
    #[error("the token is for another name")]
    OtherName,
    /// Two grants behind the token are limited, and what is given for it can say only one of the limits.
    #[error("the token is limited by more than one grant")]
    Limits,
}

/// Judges a claim that arrived over a connection with `host`'s key, as the answer to `nonce`.
pub fn judge_join(
    root: PublicKey,
    chain: &[Signed],
    claim: Signed,
    host: PublicKey,
    nonce: [u8; 32],
    now: Now,
) -> Result<Invited, JoinError> {
    let token = admit(root, chain, claim.author, now).map_err(JoinError::Token)?;
    let role = Role::of(&token.verbs).ok_or(JoinError::Token(AdmitError::Verb))?;
    let claim = claim.verify(Domain::Request, JoinClaim::from_bytes).map_err(|_| JoinError::Claim)?;
    if claim.host != host || claim.nonce != nonce || claim.mesh != mesh_of(root) {
        return Err(JoinError::OtherOccasion);
    }
    if token.name.as_ref().is_some_and(|name| *name != claim.name) {
        return Err(JoinError::OtherName);
    }
    Ok(Invited { role, host, name: claim.name.clone(), token })
}

/// Returns the grant of a new host or operator, to be signed by the introducer and put behind its own chain of
/// `links`.
///
/// It holds what both the token and the introducer may do. A host's is passed on less often than either, and has
/// no end: the token's expiry limits when it can be used, not for how long the host stays. An operator's can't be
/// passed on unless it has [`Verb::Grant`], and ends after [`OPERATOR_GRANT_MS`].
pub fn grant_joined(
    root: PublicKey,
    introducer: &Standing,
    links: usize,
    invited: &Invited,
    now: Now,
) -> Result<Grant, JoinError> {
    let passes = introducer.passes.min(invited.token.passes);
    if passes == 0 || links >= CHAIN_LINKS_MAX {
        return Err(JoinError::NoPasses);
    }
    let verbs: BTreeSet<Verb> = invited.token.verbs.intersection(&introducer.verbs).copied().collect();
    let end = now.unix_ms.saturating_add(OPERATOR_GRANT_MS);
    let (passes, not_after_unix_ms) = match invited.role {
        Role::Host => (passes - 1, None),
        // Who may grant signs behind this: so none of theirs is wider, or holds for longer.
        Role::Operator if verbs.contains(&Verb::Grant) => (passes - 1, Some(end)),
        Role::Operator => (0, Some(end)),
    };
    Ok(Grant {
        mesh: mesh_of(root),
        subject: invited.host,
        name: Some(invited.name.clone()),
        verbs,
        passes,
        not_after_unix_ms,
        scope: invited.token.only_scope().ok_or(JoinError::Limits)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::{KeyPair, Scope};

    const NOW: Now = Now { mono_ms: 0, unix_ms: 1_000_000_000 };
    const NONCE: [u8; 32] = [9; 32];

    fn keys(seed: u8) -> KeyPair {
        KeyPair::from_secret([seed; 32])
    }

    fn chain(verbs: &[Verb]) -> Vec<Signed> {
        let mut grant = Grant {
            mesh: mesh_of(keys(0).public()),
            subject: keys(1).public(),
            name: None,
            verbs: Verb::ALL.into_iter().collect(),
            passes: 5,
            not_after_unix_ms: None,
            scope: Scope::default(),
        };
        let first = keys(0).sign(Domain::Grant, grant.to_bytes());
        grant.subject = keys(2).public();
        grant.verbs = verbs.iter().copied().collect();
        grant.passes = 3;
        grant.not_after_unix_ms = Some(NOW.unix_ms);
        vec![first, keys(1).sign(Domain::Grant, grant.to_bytes())]
    }

    fn claim(signer: u8, nonce: [u8; 32]) -> Signed {
        let name = Name::parse("h3").expect("a valid name");
        let claim = JoinClaim { mesh: mesh_of(keys(0).public()), host: keys(3).public(), name, nonce };
        keys(signer).sign(Domain::Request, claim.to_bytes())
    }

    #[track_caller]
    fn check(verbs: &[Verb], claim: Signed, host: u8, now: Now, expect: Result<u8, JoinError>) {
        let found = judge_join(keys(0).public(), &chain(verbs), claim, keys(host).public(), NONCE, now);
        assert_eq!(found.map(|invited| invited.token.passes), expect);
    }

    #[test]
    fn only_the_token_s_key_can_claim_and_only_here_and_now() {
        let verbs = [Verb::Join, Verb::View];
        check(&verbs, claim(2, NONCE), 3, NOW, Ok(3));
        check(&verbs, claim(2, NONCE), 4, NOW, Err(JoinError::OtherOccasion));
        check(&verbs, claim(2, [8; 32]), 3, NOW, Err(JoinError::OtherOccasion));
        check(&verbs, claim(3, NONCE), 3, NOW, Err(JoinError::Token(AdmitError::OtherSubject)));
        check(&[Verb::Exec], claim(2, NONCE), 3, NOW, Err(JoinError::Token(AdmitError::Verb)));
        let mut forged = claim(2, NONCE);
        forged.payload[0] ^= 1;
        check(&verbs, forged, 3, NOW, Err(JoinError::Claim));
        let later = Now { unix_ms: NOW.unix_ms + 1_000_000, ..NOW };
        check(&verbs, claim(2, NONCE), 3, later, Err(JoinError::Token(AdmitError::Expired { link: 2 })));
    }

    #[test]
    fn a_new_host_s_grant_is_narrower_than_token_and_introducer_and_holds() {
        let verbs = [Verb::Join, Verb::View];
        let root = keys(0).public();
        let own = &chain(&verbs)[..1];
        let introducer = admit(root, own, keys(1).public(), NOW).expect("a chain of one link");
        let invited = judge_join(root, &chain(&verbs), claim(2, NONCE), keys(3).public(), NONCE, NOW)
            .expect("as in the test above");
        let grant = grant_joined(root, &introducer, 1, &invited, NOW).expect("passes are left");
        let mut longer = own.to_vec();
        longer.push(keys(1).sign(Domain::Grant, grant.to_bytes()));
        let standing = admit(root, &longer, keys(3).public(), NOW).expect("a chain of two links");
        assert_eq!((standing.passes, standing.verbs), (2, verbs.into_iter().collect()));
        let last = Standing { passes: 0, ..introducer };
        assert_eq!(grant_joined(root, &last, 1, &invited, NOW), Err(JoinError::NoPasses));
    }

    #[test]
    fn an_operator_s_grant_ends_can_t_be_passed_on_and_makes_no_host() {
        let root = keys(0).public();
        let verbs = [Verb::View, Verb::Exec];
        let own = &chain(&verbs)[..1];
        let introducer = admit(root, own, keys(1).public(), NOW).expect("a chain of one link");
        let invited = judge_join(root, &chain(&verbs), claim(2, NONCE), keys(3).public(), NONCE, NOW)
            .expect("a token without the right to be a host");
        assert_eq!(invited.role, Role::Operator);
        let grant = grant_joined(root, &introducer, 1, &invited, NOW).expect("passes are left");
        assert_eq!((grant.passes, grant.not_after_unix_ms), (0, Some(NOW.unix_ms + OPERATOR_GRANT_MS)));
        let mut longer = own.to_vec();
        longer.push(keys(1).sign(Domain::Grant, grant.to_bytes()));
        let standing = admit(root, &longer, keys(3).public(), NOW).expect("a chain of two links");
        assert!(standing.allows(Verb::Join).is_err() && standing.operator().is_ok());
        let over = Now { unix_ms: NOW.unix_ms + OPERATOR_GRANT_MS + 1_000_000, ..NOW };
        assert_eq!(admit(root, &longer, keys(3).public(), over), Err(AdmitError::Expired { link: 2 }));
        let mut narrow = invited;
        narrow.token.verbs.insert(Verb::Grant);
        let bounded = Standing { verbs: [Verb::View].into(), ..introducer };
        let grant = grant_joined(root, &bounded, 1, &narrow, NOW).expect("passes are left");
        assert_eq!(grant.verbs, [Verb::View].into(), "never more than the introducer has");
    }

    #[test]
    fn a_token_for_a_name_serves_nobody_else() {
        let root = keys(0).public();
        let mut links = chain(&[Verb::View]);
        let mut grant = Grant::from_bytes(&links[1].payload).expect("it was just encoded");
        grant.name = Some(Name::parse("anna").expect("a valid name"));
        links[1] = keys(1).sign(Domain::Grant, grant.to_bytes());
        let judged = judge_join(root, &links, claim(2, NONCE), keys(3).public(), NONCE, NOW);
        assert_eq!(judged, Err(JoinError::OtherName));
    }
}
