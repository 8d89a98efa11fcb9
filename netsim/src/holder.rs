//! Operators with grants of their own: what each may do, and what it may not.

use mln_protocol::id::{Digest, Name};
use mln_protocol::record::{Record, VerifiedRecord};
use mln_protocol::time::Now;
use mln_protocol::trust::{
    Domain, Grant, HostPattern, KeyPair, Limits, Link, ProjectPattern, Revocation, Scope, Standing, Verb,
    mesh_of,
};
use mln_protocol::wire;

use crate::host::UNIX_MS;

/// Somebody who asks on grants of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Holder {
    /// May do anything with projects, and let others do it.
    Whole,
    /// Has the same from the one before.
    Passed,
    /// May look on, start and stop.
    Looker,
    /// May do anything, on hosts that there are not.
    Elsewhere,
    /// May do anything with projects of somebody else.
    OtherProject,
    /// Might do anything until ten minutes ago.
    Ended,
    /// May have four VMs, and change nothing without the majority.
    Limited,
    /// Was given more by the one who may look on than that one has.
    Widened,
    /// May do anything on the first hosts.
    Near,
    /// May do anything with six VMs: what those are given whose first grant was taken back.
    Narrowed,
}

/// How long ago [`Holder::Ended`]'s grant was over when the world began, in milliseconds.
const ENDED_MS: u64 = 600_000;

/// How many VMs [`Holder::Limited`] may have.
const VMS_MAX: u64 = 4;

/// How many VMs [`Holder::Narrowed`] may have.
const NARROWED_VMS_MAX: u64 = 6;

/// How many hosts [`Holder::Near`] may use, from the first on.
pub(crate) const NEAR_HOSTS: usize = 4;

/// What an operator may be allowed to do with projects.
const ALL: [Verb; 7] =
    [Verb::View, Verb::Build, Verb::Start, Verb::Stop, Verb::Upgrade, Verb::Remove, Verb::Partial];

impl Holder {
    /// Those on whose grants projects are made in which guests live.
    pub(crate) const GROUNDS: [Self; 5] =
        [Self::Whole, Self::Passed, Self::Limited, Self::Near, Self::Narrowed];

    fn keys(self) -> KeyPair {
        KeyPair::from_secret([100 + self as u8; 32])
    }

    /// Returns whose grant its own follows from, beside the root key's.
    fn giver(self) -> Option<Self> {
        match self {
            Self::Passed => Some(Self::Whole),
            Self::Widened => Some(Self::Looker),
            Self::Whole
            | Self::Looker
            | Self::Elsewhere
            | Self::OtherProject
            | Self::Ended
            | Self::Limited
            | Self::Near
            | Self::Narrowed => None,
        }
    }

    fn grant(self, root: &KeyPair) -> Grant {
        let mut verbs = ALL.to_vec();
        let mut scope = Scope::default();
        match self {
            Self::Looker => verbs = vec![Verb::View, Verb::Start, Verb::Stop],
            Self::Limited => {
                verbs.retain(|verb| *verb != Verb::Partial);
                scope.limits = Limits { vms: Some(VMS_MAX), ..Limits::default() };
            }
            Self::Narrowed => scope.limits = Limits { vms: Some(NARROWED_VMS_MAX), ..Limits::default() },
            Self::Near => {
                let near = (0..NEAR_HOSTS).map(|host| HostPattern::parse(&format!("host{host}")));
                scope.hosts.extend(near.flatten());
            }
            Self::Elsewhere => scope.hosts.extend(HostPattern::parse("elsewhere*")),
            Self::OtherProject => scope.projects.extend(ProjectPattern::parse("others/*")),
            Self::Whole | Self::Passed | Self::Ended | Self::Widened => {}
        }
        Grant {
            mesh: mesh_of(root.public()),
            subject: self.keys().public(),
            name: Name::parse(&format!("operator{}", self as u8)).ok(),
            verbs: verbs.into_iter().collect(),
            passes: if self.giver().is_some() { 0 } else { 1 },
            not_after_unix_ms: (self == Self::Ended).then_some(UNIX_MS - ENDED_MS),
            scope,
        }
    }

    /// Returns what its grants say, as if whoever looks at them first had found nothing wrong.
    pub(crate) fn standing(self, root: &KeyPair) -> Standing {
        let mut links: Vec<Link> =
            self.giver().map(|giver| giver.standing(root).links).into_iter().flatten().collect();
        let issuer = self.giver().map_or_else(|| root.clone(), Self::keys);
        let grant = self.grant(root);
        let signed = issuer.sign(Domain::Grant, grant.to_bytes());
        let digest = Digest::of(&signed.payload);
        links.push(Link { digest, issuer: issuer.public(), grant: grant.clone(), signed });
        Standing {
            subject: grant.subject,
            name: grant.name,
            verbs: grant.verbs,
            passes: grant.passes,
            not_after_unix_ms: grant.not_after_unix_ms,
            links,
        }
    }

    /// Returns on whose grant its own depends: its giver's, and its own.
    pub(crate) fn depends_on(self) -> impl Iterator<Item = Self> {
        self.giver().into_iter().chain([self])
    }

    /// Takes its grant back, by the root key.
    pub(crate) fn revocation(self, root: &KeyPair, now: Now) -> VerifiedRecord {
        let chain = self.standing(root).chain();
        let revocation = Revocation { chain, made_unix_ms: now.unix_ms, reason: "lost".to_owned() };
        wire::sign_record(root, Record::Revocation(revocation))
    }
}
