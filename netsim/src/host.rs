//! A simulated host: its agent's process, its clocks, and its disk.

use std::collections::VecDeque;

use mln_protocol::id::Name;
use mln_protocol::node::{Node, Write, WriteId};
use mln_protocol::time::Now;
use mln_protocol::trust::{Domain, Grant, KeyPair, ProjectPattern, Scope, Signed, Verb, mesh_of};

use crate::check_standing::OwnKey;
use crate::disk::Disk;
use crate::gossip::Gossip;

/// The wall clock at the beginning of a world, in milliseconds since 1970.
pub(crate) const UNIX_MS: u64 = 1_800_000_000_000;

/// How long a short grant is good for, in milliseconds: longer than a world lasts, less than some clocks are ahead.
const SHORT_MS: u64 = 3_600_000;

/// How long the grants of hosts are good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grants {
    /// For ever.
    Endless,
    /// For an hour.
    Short,
}

/// A host of the world.
pub(crate) struct Host {
    pub(crate) keys: KeyPair,
    pub(crate) chain: Vec<Signed>,
    pub(crate) name: Name,
    /// The agent; none while it is off.
    pub(crate) node: Option<Node>,
    pub(crate) gossip: Gossip,
    pub(crate) disk: Disk,
    /// What the agent has written and the disk doesn't have yet, oldest first.
    pub(crate) unsynced: VecDeque<(WriteId, Vec<Write>)>,
    /// Counts the agent's runs: events of an earlier one are void.
    pub(crate) life: u32,
    /// When the agent's next timeout is due, by the world's time.
    pub(crate) timeout_ms: Option<u64>,
    /// When the last write becomes durable.
    pub(crate) durable_ms: u64,
    pub(crate) clock: Clock,
    /// Until when the agent's process stands still.
    pub(crate) still_until_ms: u64,
    /// Until when the machine sleeps: what is sent to it is lost.
    pub(crate) asleep_until_ms: u64,
    /// Until when nothing can be written.
    pub(crate) full_until_ms: u64,
    /// Whether it belongs to the world right now: a clone only does for a while.
    pub(crate) presence: Presence,
    pub(crate) age: Age,
    pub(crate) honesty: Honesty,
    pub(crate) backup: Option<Disk>,
    /// What this run has asked and heard about its own key.
    pub(crate) own_key: OwnKey,
}

/// Whether a host is there at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It is.
    Here,
    /// It isn't yet, or never again.
    Gone,
}

/// How old a host's agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    /// It knows all that there is.
    Current,
    /// The newest kind of record is unknown to it.
    Old,
}

/// Whether a host says what is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Honesty {
    /// It does.
    Honest,
    /// It lies now and then.
    Hostile,
}

/// A host's clocks, against the world's time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    /// Where the monotonic clock begins, in each run of the agent anew.
    pub(crate) began_ms: u64,
    /// How long it stood still.
    pub(crate) stood_ms: u64,
    /// How far the wall clock is ahead.
    pub(crate) ahead_ms: i64,
}

impl Clock {
    pub(crate) fn now(self, world_ms: u64) -> Now {
        Now {
            mono_ms: (world_ms + self.began_ms).saturating_sub(self.stood_ms),
            unix_ms: (UNIX_MS + world_ms).saturating_add_signed(self.ahead_ms),
        }
    }

    /// Returns when the monotonic clock will show this.
    pub(crate) fn world_ms(self, mono_ms: u64) -> u64 {
        (mono_ms + self.stood_ms).saturating_sub(self.began_ms)
    }
}

/// Returns the root key of the mesh.
pub(crate) fn root_key() -> KeyPair {
    KeyPair::from_secret([1; 32])
}

fn chain(
    root: &KeyPair,
    keys: &KeyPair,
    name: &Name,
    verbs: impl IntoIterator<Item = Verb>,
    not_after_unix_ms: Option<u64>,
) -> Vec<Signed> {
    let grant = Grant {
        mesh: mesh_of(root.public()),
        subject: keys.public(),
        name: Some(name.clone()),
        verbs: verbs.into_iter().collect(),
        passes: 3,
        not_after_unix_ms,
        scope: mln_protocol::trust::Scope::default(),
    };
    vec![root.sign(Domain::Grant, grant.to_bytes())]
}

impl Host {
    /// Makes a host with the name and key of this number; it isn't running.
    pub(crate) fn new(index: usize, root: &KeyPair, grants: Grants) -> Self {
        let mut secret = [2; 32];
        secret[..8].copy_from_slice(&(index as u64).to_le_bytes());
        let keys = KeyPair::from_secret(secret);
        let name = Name::parse(&format!("host{index}")).expect("letters and digits are a name");
        let not_after_unix_ms = match grants {
            Grants::Endless => None,
            Grants::Short => Some(UNIX_MS + SHORT_MS),
        };
        let chain = chain(root, &keys, &name, Verb::ALL, not_after_unix_ms);
        Self {
            keys,
            chain,
            name,
            node: None,
            gossip: Gossip::default(),
            disk: Disk::default(),
            unsynced: VecDeque::new(),
            life: 0,
            timeout_ms: None,
            durable_ms: 0,
            clock: Clock::default(),
            still_until_ms: 0,
            asleep_until_ms: 0,
            full_until_ms: 0,
            presence: Presence::Here,
            age: Age::Current,
            honesty: Honesty::Honest,
            backup: None,
            own_key: OwnKey::default(),
        }
    }

    /// Returns a chain of grants for it that allows only this.
    pub(crate) fn chain_for(&self, root: &KeyPair, verbs: impl IntoIterator<Item = Verb>) -> Vec<Signed> {
        chain(root, &self.keys, &self.name, verbs, None)
    }

    /// Returns a chain of grants for it that allows all but to change projects of others.
    pub(crate) fn chain_without_upgrade(&self, root: &KeyPair) -> Vec<Signed> {
        self.chain_for(root, Verb::ALL.into_iter().filter(|verb| *verb != Verb::Upgrade))
    }

    /// Returns a chain of grants for it that is good for projects of somebody who has none.
    pub(crate) fn chain_elsewhere(&self, root: &KeyPair) -> Vec<Signed> {
        let elsewhere = ProjectPattern::parse("nobody/*").expect("an owner and a pattern");
        let scope = Scope { projects: vec![elsewhere], ..Scope::default() };
        let grant = Grant {
            mesh: mesh_of(root.public()),
            subject: self.keys.public(),
            name: Some(self.name.clone()),
            verbs: Verb::ALL.into_iter().collect(),
            passes: 3,
            not_after_unix_ms: None,
            scope,
        };
        vec![root.sign(Domain::Grant, grant.to_bytes())]
    }

    /// Whether it can take part in the network at this time.
    pub(crate) fn is_up(&self, now_ms: u64) -> bool {
        self.node.is_some() && self.asleep_until_ms <= now_ms
    }

    /// Returns the agent, where somebody could ask it something right now.
    pub(crate) fn answering(&self, now_ms: u64) -> Option<&Node> {
        self.node.as_ref().filter(|_| self.still_until_ms <= now_ms && self.asleep_until_ms <= now_ms)
    }
}
