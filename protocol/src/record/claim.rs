//! Who owns a VM: claims, releases and declines, one epoch after the other.
//!
//! ```text
//!  (1,1) Birth ──Release──► (1,2) Claim ──Release──► (1,3) Decline ──► (1,4) Claim, by whom (1,2) was
//!                              │
//!                              └── Takeover, by whoever has a copy ──► (2,1) Claim ──► …
//! ```
//!
//! Every record here is judged by its own bytes: who may claim an epoch is named by the record of the epoch before,
//! which travels inside. What a whole chain of them means is for the ledger of a node to say.

use crate::id::{Digest, PublicKey, VmId};
use crate::record::RunState;
use crate::trust::{Signed, Verified};

/// One link of a VM's chain of ownership. Later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch {
    /// How often the VM was taken over, and one more.
    pub term: u64,
    /// The number of the link within the term; hand-overs and declines raise it.
    pub n: u64,
}

impl Epoch {
    /// The epoch of a VM's birth.
    pub const FIRST: Self = Self { term: 1, n: 1 };

    /// Returns the epoch after a release or a decline of this one.
    pub fn next(self) -> Self {
        Self { term: self.term, n: self.n.saturating_add(1) }
    }

    /// Returns the epoch after a takeover of this one.
    pub fn taken_over(self) -> Self {
        Self { term: self.term.saturating_add(1), n: 1 }
    }
}

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.term, self.n)
    }
}

/// The author owns the VM from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Which VM.
    pub vm: VmId,
    /// Its epoch.
    pub epoch: Epoch,
    /// By what right.
    pub basis: ClaimBasis,
}

/// By what right somebody claims a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimBasis {
    /// The revision in which the VM was born places it on the author: the one that the VM is named by.
    Birth,
    /// The owner of the epoch before has released it to the author.
    Release(Box<Verified<Release>>),
    /// Whom the author had released it to has declined.
    Declined(Box<Verified<Decline>>),
    /// Somebody has said so, since the owner is gone.
    Takeover(Takeover),
}

/// A host takes over a VM whose owner is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Takeover {
    /// The newest epoch that the author knew.
    pub seen: Option<Epoch>,
    /// The digest of the author's copy of the disk, the whole of which it has read; none where there was no disk.
    pub copy: Option<Digest>,
    /// The grants by which the author may take over, root first.
    pub chain: Vec<Signed>,
    /// Who asked for it, for people.
    pub author: String,
    /// When, by the author's clock, in milliseconds since 1970.
    pub made_unix_ms: u64,
}

/// The owner gives a VM away: from now on it never starts it by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Which VM.
    pub vm: VmId,
    /// The epoch that ends.
    pub epoch: Epoch,
    /// Who alone may claim or decline the next one.
    pub to: PublicKey,
    /// The disk that goes with it.
    pub disk: ReleasedDisk,
    /// What the VM should be doing.
    pub run: RunState,
    /// How often that has changed.
    pub run_counter: u64,
    /// Who changed it last.
    pub run_by: PublicKey,
}

/// What a release says of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReleasedDisk {
    /// There never was one: whoever claims the VM makes it.
    NeverBuilt,
    /// It has this root digest.
    Root(Digest),
}

/// The author claims an epoch and gives the VM back, both at once: the epoch is used up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decline {
    /// Which VM.
    pub vm: VmId,
    /// The epoch that is used up.
    pub epoch: Epoch,
    /// The release that is declined.
    pub release: Box<Verified<Release>>,
    /// Why, for people.
    pub reason: String,
}

/// A new owner's word that the disk lies complete on its own disk. It is for the old owner alone and no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Which VM.
    pub vm: VmId,
    /// The epoch of the old owner.
    pub epoch: Epoch,
    /// The root digest that was read back.
    pub root: Digest,
}

/// One link of a VM's chain of ownership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Somebody owns the VM from now on.
    Claim(Claim),
    /// Somebody to whom it was released gives it back.
    Decline(Decline),
    /// Its owner gives it away.
    Release(Release),
}

/// The kinds of links, each a slot of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkKind {
    /// A claim.
    Claim,
    /// A decline.
    Decline,
    /// A release.
    Release,
}

impl Link {
    /// Returns which VM it is about.
    pub fn vm(&self) -> &VmId {
        match self {
            Self::Claim(claim) => &claim.vm,
            Self::Decline(decline) => &decline.vm,
            Self::Release(release) => &release.vm,
        }
    }

    /// Returns the epoch that it takes, or ends.
    pub fn epoch(&self) -> Epoch {
        match self {
            Self::Claim(claim) => claim.epoch,
            Self::Decline(decline) => decline.epoch,
            Self::Release(release) => release.epoch,
        }
    }

    /// Returns its kind.
    pub fn kind(&self) -> LinkKind {
        match self {
            Self::Claim(_) => LinkKind::Claim,
            Self::Decline(_) => LinkKind::Decline,
            Self::Release(_) => LinkKind::Release,
        }
    }

    /// Judges by the link alone whether `author` may make it; a takeover's grants are judged by the caller.
    pub(crate) fn judge(&self, author: PublicKey) -> Result<(), Unproven> {
        match self {
            Self::Claim(claim) => claim.judge(author),
            Self::Decline(decline) => decline.judge(author),
            Self::Release(release) => release.judge(author),
        }
    }
}

/// Why a record of ownership proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unproven(pub(crate) &'static str);

impl Claim {
    /// Judges by the claim alone whether `author` may make it; a takeover's grants are judged by the caller.
    pub(crate) fn judge(&self, author: PublicKey) -> Result<(), Unproven> {
        let proven = match &self.basis {
            ClaimBasis::Birth => self.epoch == Epoch::FIRST,
            ClaimBasis::Release(release) => {
                release.judge(release.author())?;
                release.vm == self.vm && release.to == author && self.epoch == release.epoch.next()
            }
            ClaimBasis::Declined(decline) => {
                decline.judge(decline.author())?;
                decline.vm == self.vm
                    && decline.release.author() == author
                    && self.epoch == decline.epoch.next()
            }
            ClaimBasis::Takeover(takeover) => {
                self.epoch == takeover.seen.unwrap_or(Epoch::FIRST).taken_over()
            }
        };
        if proven { Ok(()) } else { Err(Unproven("the claim of an epoch")) }
    }
}

impl Decline {
    pub(crate) fn judge(&self, author: PublicKey) -> Result<(), Unproven> {
        self.release.judge(self.release.author())?;
        let named = self.release.vm == self.vm
            && self.release.to == author
            && self.epoch == self.release.epoch.next();
        if named { Ok(()) } else { Err(Unproven("the decline of an epoch")) }
    }
}

impl Release {
    pub(crate) fn judge(&self, author: PublicKey) -> Result<(), Unproven> {
        if self.to != author && self.epoch.term >= 1 && self.epoch.n >= 1 {
            Ok(())
        } else {
            Err(Unproven("a release to another host"))
        }
    }
}
