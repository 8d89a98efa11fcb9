//! Grants: a chain from the mesh's root key to whoever presents it, in which each link only narrows.

use std::collections::BTreeSet;

use super::scope::Scope;
use super::signed::{Domain, Signed};
use crate::id::{Digest, Label, Name, PublicKey};
use crate::time::Now;

/// The longest chain of grants that anybody looks at.
pub const CHAIN_LINKS_MAX: usize = 8;

/// How far two machines' wall clocks may be apart, in milliseconds.
pub(super) const CLOCK_SKEW_MS_MAX: u64 = 120_000;

/// Something that a grant allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Read status and definitions.
    View,
    /// Build and replace projects.
    Build,
    /// Start VMs.
    Start,
    /// Stop VMs.
    Stop,
    /// Change projects.
    Upgrade,
    /// Remove projects.
    Remove,
    /// Use a VM's console.
    Console,
    /// Run commands in a VM.
    Exec,
    /// Add templates.
    Template,
    /// Take over the VMs of a host that is gone.
    Takeover,
    /// Be a service host.
    Join,
    /// Invite others.
    Grant,
    /// Change projects without the majority of their hosts.
    Partial,
}

impl Verb {
    /// Every verb, in the order of its bit.
    pub const ALL: [Self; 13] = [
        Self::View,
        Self::Build,
        Self::Start,
        Self::Stop,
        Self::Upgrade,
        Self::Remove,
        Self::Console,
        Self::Exec,
        Self::Template,
        Self::Takeover,
        Self::Join,
        Self::Grant,
        Self::Partial,
    ];

    /// Returns the verb's bit on the wire.
    pub fn bit(self) -> u32 {
        1 << (self as u32)
    }

    /// Returns the word that people type for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Build => "build",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Upgrade => "upgrade",
            Self::Remove => "remove",
            Self::Console => "console",
            Self::Exec => "exec",
            Self::Template => "template",
            Self::Takeover => "takeover",
            Self::Join => "join",
            Self::Grant => "grant",
            Self::Partial => "partial",
        }
    }

    /// Returns the verb of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.word() == word)
    }
}

/// What somebody is in a mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A service host: a member, gossiped to, that may carry VMs.
    Host,
    /// A person with a key and no host: asks agents, and is asked nothing.
    Operator,
}

impl Role {
    /// Returns the role that verbs make: [`Verb::Join`] makes a host, [`Verb::View`] without it an operator.
    pub fn of(verbs: &BTreeSet<Verb>) -> Option<Self> {
        match (verbs.contains(&Verb::Join), verbs.contains(&Verb::View)) {
            (true, _) => Some(Self::Host),
            (false, true) => Some(Self::Operator),
            (false, false) => None,
        }
    }
}

/// One link: the issuer (who signs it) lets the subject do some things in one mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The mesh: the digest of its root key.
    pub mesh: Digest,
    /// Who receives it.
    pub subject: PublicKey,
    /// The name in the mesh that it gives the subject; a token's link gives none.
    pub name: Option<Name>,
    /// What it allows.
    pub verbs: BTreeSet<Verb>,
    /// How many further links may follow.
    pub passes: u8,
    /// The end of its validity, in milliseconds since 1970; none is for ever.
    pub not_after_unix_ms: Option<u64>,
    /// To which projects and hosts it is limited, and how much of them.
    pub scope: Scope,
}

/// A link of a chain that was judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The digest of the grant: by that it is revoked, and what it pays for is counted.
    pub digest: Digest,
    /// Who signed it.
    pub issuer: PublicKey,
    /// What it says.
    pub grant: Grant,
    /// What was signed.
    pub signed: Signed,
}

/// What a chain of grants proves about its last subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The subject of the last link.
    pub subject: PublicKey,
    /// Its name in the mesh, if its own link gives one.
    pub name: Option<Name>,
    /// What it may do.
    pub verbs: BTreeSet<Verb>,
    /// How many further links it may issue.
    pub passes: u8,
    /// When the first of its links ends, in milliseconds since 1970; none is never.
    pub not_after_unix_ms: Option<u64>,
    /// The links, root first.
    pub links: Vec<Link>,
}

/// Why a chain proves nothing. Nothing changed; whoever presents it needs another one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    /// There is no link.
    #[error("the chain of grants is empty")]
    Empty,
    /// More than [`CHAIN_LINKS_MAX`] links.
    #[error("the chain has {links} grants, more than {CHAIN_LINKS_MAX}")]
    TooLong {
        /// How many.
        links: usize,
    },
    /// A link of another mesh.
    #[error("the grant is for another mesh")]
    OtherMesh,
    /// The first link is not signed by a root key of this mesh, or a later one not by the subject before it.
    #[error("grant {link} is not signed by whom it should be")]
    Issuer {
        /// Counted from 1.
        link: usize,
    },
    /// A signature or an encoding is wrong.
    #[error("grant {link} is not genuine")]
    Forged {
        /// Counted from 1.
        link: usize,
    },
    /// A link allows more than the one before it, or may not be there at all.
    #[error("grant {link} allows more than the one before it")]
    Widened {
        /// Counted from 1.
        link: usize,
    },
    /// A link's validity is over.
    #[error("grant {link} has expired")]
    Expired {
        /// Counted from 1.
        link: usize,
    },
    /// The last link is for somebody else.
    #[error("the grant is for another key")]
    OtherSubject,
    /// The chain holds, but not for this.
    #[error("the grant does not allow this")]
    Verb,
    /// A link was revoked by somebody who signed a link of the chain.
    #[error("grant {link} was revoked")]
    Revoked {
        /// Counted from 1.
        link: usize,
    },
}

/// Why a chain that holds is not good for something. Nothing changed; whoever issued one of its links can give another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// The verb is not in it.
    #[error("the grant has no {}", .0.word())]
    Verb(Verb),
    /// A link is for other projects.
    #[error("grant {link} is for projects {}, not for {label}", list(patterns))]
    Project {
        /// Counted from 1.
        link: usize,
        /// The project.
        label: Label,
        /// What the link is for.
        patterns: Vec<String>,
    },
    /// A link is for other hosts.
    #[error("grant {link} is for hosts {}, not for {host}", list(patterns))]
    Host {
        /// Counted from 1.
        link: usize,
        /// The host.
        host: Name,
        /// What the link is for.
        patterns: Vec<String>,
    },
}

fn list(patterns: &[String]) -> String {
    patterns.join(", ")
}

/// Returns the digest that names the mesh with this root key.
pub fn mesh_of(root: PublicKey) -> Digest {
    Digest::of(&[b"mln mesh 1\0".as_slice(), &root.0].concat())
}

/// Judges the chain that `subject` presents, root first, for one mesh, at one moment.
///
/// Expiry is judged with an allowance of [`CLOCK_SKEW_MS_MAX`]. The caller checks the verb that it needs.
pub fn admit(
    root: PublicKey,
    chain: &[Signed],
    subject: PublicKey,
    now: Now,
) -> Result<Standing, AdmitError> {
    let standing = follow(root, chain, now, Links::Narrow)?;
    if standing.subject == subject { Ok(standing) } else { Err(AdmitError::OtherSubject) }
}

/// Judges a chain as [`admit`] does, for whomever it is, but that a link may allow more than the one before it: only a
/// mutation does so.
#[cfg(feature = "mutants")]
pub(crate) fn admit_widened(root: PublicKey, chain: &[Signed], now: Now) -> Result<Standing, AdmitError> {
    follow(root, chain, now, Links::AsTheySay)
}

/// How each link of a chain is compared with the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Links {
    /// It must allow less.
    Narrow,
    /// It isn't.
    #[cfg(feature = "mutants")]
    AsTheySay,
}

/// Follows a chain from the root to its end.
fn follow(root: PublicKey, chain: &[Signed], now: Now, links: Links) -> Result<Standing, AdmitError> {
    if chain.len() > CHAIN_LINKS_MAX {
        return Err(AdmitError::TooLong { links: chain.len() });
    }
    let mesh = mesh_of(root);
    let mut standing = Standing {
        subject: root,
        name: None,
        verbs: Verb::ALL.into_iter().collect(),
        passes: u8::MAX,
        not_after_unix_ms: None,
        links: Vec::new(),
    };
    if chain.is_empty() {
        return Err(AdmitError::Empty);
    }
    for (index, signed) in chain.iter().enumerate() {
        let link = index + 1;
        if signed.author != standing.subject {
            return Err(AdmitError::Issuer { link });
        }
        let grant = signed
            .clone()
            .verify(Domain::Grant, Grant::from_bytes)
            .map_err(|_| AdmitError::Forged { link })?;
        if grant.mesh != mesh {
            return Err(AdmitError::OtherMesh);
        }
        let narrows = standing.passes > grant.passes && grant.verbs.is_subset(&standing.verbs);
        if links == Links::Narrow && !narrows {
            return Err(AdmitError::Widened { link });
        }
        if grant.not_after_unix_ms.is_some_and(|end| now.unix_ms > end.saturating_add(CLOCK_SKEW_MS_MAX)) {
            return Err(AdmitError::Expired { link });
        }
        let mut links = std::mem::take(&mut standing.links);
        links.push(Link {
            digest: grant.digest(),
            issuer: signed.author,
            grant: Grant::clone(&grant),
            signed: signed.clone(),
        });
        standing = Standing {
            subject: grant.subject,
            name: grant.name.clone(),
            verbs: grant.verbs.clone(),
            passes: grant.passes,
            not_after_unix_ms: [standing.not_after_unix_ms, grant.not_after_unix_ms]
                .into_iter()
                .flatten()
                .min(),
            links,
        };
    }
    Ok(standing)
}

impl Standing {
    /// Refuses where the verb is not granted.
    pub fn allows(&self, verb: Verb) -> Result<(), AdmitError> {
        if self.verbs.contains(&verb) { Ok(()) } else { Err(AdmitError::Verb) }
    }

    /// Refuses where a link was revoked.
    pub fn not_revoked(&self, is_revoked: impl Fn(Digest) -> bool) -> Result<(), AdmitError> {
        match self.links.iter().position(|link| is_revoked(link.digest)) {
            None => Ok(()),
            Some(index) => Err(AdmitError::Revoked { link: index + 1 }),
        }
    }

    /// Refuses what the verbs or a link's projects leave out.
    pub fn allows_on(&self, verb: Verb, label: &Label) -> Result<(), ScopeError> {
        if !self.verbs.contains(&verb) {
            return Err(ScopeError::Verb(verb));
        }
        self.covers(label)
    }

    /// Refuses a project that a link leaves out.
    pub fn covers(&self, label: &Label) -> Result<(), ScopeError> {
        match self.links.iter().position(|link| !link.grant.scope.covers_project(label)) {
            None => Ok(()),
            Some(index) => Err(ScopeError::Project {
                link: index + 1,
                label: label.clone(),
                patterns: self.links[index].grant.scope.projects.iter().map(ToString::to_string).collect(),
            }),
        }
    }

    /// Refuses a host that a link leaves out.
    pub fn covers_host(&self, host: &Name, groups: &[Name]) -> Result<(), ScopeError> {
        match self.links.iter().position(|link| !link.grant.scope.covers_host(host, groups)) {
            None => Ok(()),
            Some(index) => Err(ScopeError::Host {
                link: index + 1,
                host: host.clone(),
                patterns: self.links[index].grant.scope.hosts.iter().map(ToString::to_string).collect(),
            }),
        }
    }

    /// Returns the one limit of all links; none where there are several, which no single link can say.
    pub(super) fn only_scope(&self) -> Option<Scope> {
        let mut scopes = self.links.iter().map(|link| &link.grant.scope).filter(|scope| !scope.is_whole());
        let only = scopes.next().cloned().unwrap_or_default();
        scopes.next().is_none().then_some(only)
    }

    /// Returns the chain, to be presented again.
    pub fn chain(&self) -> Vec<Signed> {
        self.links.iter().map(|link| link.signed.clone()).collect()
    }

    /// Refuses whoever is not an operator under a name of their own: a host, or the mere holder of a token.
    pub fn operator(&self) -> Result<&Name, AdmitError> {
        match (Role::of(&self.verbs), &self.name) {
            (Some(Role::Operator), Some(name)) => Ok(name),
            (Some(Role::Operator | Role::Host) | None, _) => Err(AdmitError::Verb),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::KeyPair;

    const NOW: Now = Now { mono_ms: 0, unix_ms: 1_000_000_000 };

    fn keys(seed: u8) -> KeyPair {
        KeyPair::from_secret([seed; 32])
    }

    fn grant(subject: u8, verbs: &[Verb], passes: u8) -> Grant {
        Grant {
            mesh: mesh_of(keys(0).public()),
            subject: keys(subject).public(),
            name: None,
            verbs: verbs.iter().copied().collect(),
            passes,
            not_after_unix_ms: None,
            scope: Scope::default(),
        }
    }

    fn link(issuer: u8, grant: &Grant) -> Signed {
        keys(issuer).sign(Domain::Grant, grant.to_bytes())
    }

    #[track_caller]
    fn check(chain: &[Signed], subject: u8, expect: Result<&[Verb], AdmitError>) {
        let found = admit(keys(0).public(), chain, keys(subject).public(), NOW);
        assert_eq!(found.map(|s| s.verbs), expect.map(|v| v.iter().copied().collect()));
    }

    #[test]
    fn a_chain_narrows_from_the_root() {
        let first = link(0, &grant(1, &[Verb::Join, Verb::View, Verb::Grant], 2));
        let second = link(1, &grant(2, &[Verb::Join], 1));
        check(&[first.clone(), second.clone()], 2, Ok(&[Verb::Join]));
        check(&[first.clone(), second.clone()], 3, Err(AdmitError::OtherSubject));
        check(&[second], 2, Err(AdmitError::Issuer { link: 1 }));
        check(&[], 1, Err(AdmitError::Empty));
        let wider = link(1, &grant(2, &[Verb::Join, Verb::Build], 1));
        check(&[first.clone(), wider], 2, Err(AdmitError::Widened { link: 2 }));
        let longer = link(1, &grant(2, &[Verb::Join], 2));
        check(&[first, longer], 2, Err(AdmitError::Widened { link: 2 }));
    }

    #[test]
    fn an_operator_is_whoever_may_look_and_not_carry_and_has_a_name() {
        let standing = |verbs: &[Verb], name: Option<&str>| Standing {
            subject: keys(1).public(),
            name: name.map(|name| Name::parse(name).expect("a valid name")),
            verbs: verbs.iter().copied().collect(),
            passes: 0,
            not_after_unix_ms: None,
            links: Vec::new(),
        };
        assert!(standing(&[Verb::View, Verb::Exec], Some("anna")).operator().is_ok());
        assert_eq!(standing(&[Verb::View], None).operator(), Err(AdmitError::Verb));
        assert_eq!(standing(&[Verb::View, Verb::Join], Some("oslo")).operator(), Err(AdmitError::Verb));
        assert_eq!(standing(&[Verb::Exec], Some("anna")).operator(), Err(AdmitError::Verb));
    }

    #[test]
    fn verbs_have_words_and_a_chain_ends_with_its_first_end() {
        for verb in Verb::ALL {
            assert_eq!(Verb::parse(verb.word()), Some(verb));
        }
        let (mut first, mut second) = (grant(1, &[Verb::View], 2), grant(2, &[Verb::View], 1));
        (first.not_after_unix_ms, second.not_after_unix_ms) = (Some(NOW.unix_ms), Some(NOW.unix_ms + 5));
        let chain = [link(0, &first), link(1, &second)];
        let standing = admit(keys(0).public(), &chain, keys(2).public(), NOW).expect("it holds");
        assert_eq!(standing.not_after_unix_ms, Some(NOW.unix_ms));
    }

    #[test]
    fn an_expired_link_and_a_forged_one_are_named() {
        let mut old = grant(1, &[Verb::Join], 1);
        old.not_after_unix_ms = Some(NOW.unix_ms - CLOCK_SKEW_MS_MAX - 1);
        check(&[link(0, &old)], 1, Err(AdmitError::Expired { link: 1 }));
        old.not_after_unix_ms = Some(NOW.unix_ms - CLOCK_SKEW_MS_MAX);
        check(&[link(0, &old)], 1, Ok(&[Verb::Join]));
        let mut forged = link(0, &grant(1, &[Verb::Join], 1));
        forged.signature[5] ^= 1;
        check(&[forged], 1, Err(AdmitError::Forged { link: 1 }));
        let mut elsewhere = grant(1, &[Verb::Join], 1);
        elsewhere.mesh = Digest::of(b"another");
        check(&[link(0, &elsewhere)], 1, Err(AdmitError::OtherMesh));
    }
}
