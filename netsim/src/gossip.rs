//! A model of gossipsub (libp2p gossipsub v1.1): each node pushes what is new to the peers of its mesh at once, and
//! tells its other peers by name, once a heartbeat, so that they can ask for what they lack.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mln_protocol::id::Digest;
use mln_protocol::record::VerifiedRecord;

use crate::lot::Lot;

/// How many peers get everything at once: D of the specification.
pub(crate) const MESH_DEGREE: usize = 6;

/// How many further peers a node is connected to: they are only told what there is.
pub(crate) const LAZY_DEGREE: usize = 4;

/// How often names are told, in milliseconds.
pub(crate) const HEARTBEAT_MS: u64 = 1_000;

/// For how many heartbeats a record can be asked for, and for how many it is told about: libp2p's `history_length` and
/// `history_gossip`, as the agent has them.
const HISTORY: usize = 5;
const TOLD: usize = 3;

/// One node's side of it; all is lost when the node crashes.
#[derive(Debug, Default)]
pub(crate) struct Gossip {
    seen: BTreeSet<Digest>,
    recent: VecDeque<Vec<VerifiedRecord>>,
}

/// Who is connected to whom, and which of these links are pushed over.
#[derive(Debug)]
pub(crate) struct Overlay {
    mesh: Vec<BTreeSet<usize>>,
    lazy: Vec<BTreeSet<usize>>,
}

impl Overlay {
    pub(crate) fn new(nodes: usize, lot: &mut Lot) -> Self {
        let mesh = random_links(nodes, MESH_DEGREE, lot);
        let lazy = random_links(nodes, LAZY_DEGREE, lot);
        Self { mesh, lazy }
    }

    pub(crate) fn mesh(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        self.mesh[node].iter().copied()
    }

    pub(crate) fn lazy(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        self.lazy[node].iter().copied()
    }

    /// Returns every peer of a node, once.
    pub(crate) fn peers(&self, node: usize) -> BTreeSet<usize> {
        self.mesh[node].union(&self.lazy[node]).copied().collect()
    }
}

/// A ring, so that nobody is cut off, and links by lot until everybody has about `degree`.
fn random_links(nodes: usize, degree: usize, lot: &mut Lot) -> Vec<BTreeSet<usize>> {
    let mut links = vec![BTreeSet::new(); nodes];
    for node in 0..nodes {
        let mut wanted = vec![(node + 1) % nodes];
        wanted.extend((1..degree / 2).map(|_| lot.index(nodes)));
        for peer in wanted {
            if peer != node {
                links[node].insert(peer);
                links[peer].insert(node);
            }
        }
    }
    links
}

impl Gossip {
    /// Takes note of a record; false where it was seen before.
    pub(crate) fn note(&mut self, record: &VerifiedRecord) -> bool {
        if !self.seen.insert(record.digest()) {
            return false;
        }
        match self.recent.front_mut() {
            Some(newest) => newest.push(record.clone()),
            None => self.recent.push_front(vec![record.clone()]),
        }
        true
    }

    /// Ends a heartbeat; returns what was new in the last few.
    pub(crate) fn heartbeat(&mut self) -> Vec<Digest> {
        let told = self.recent.iter().take(TOLD).flatten().map(|record| record.digest()).collect();
        self.recent.push_front(Vec::new());
        self.recent.truncate(HISTORY);
        told
    }

    /// Returns which of these the node has not seen.
    pub(crate) fn lacking(&self, told: &[Digest]) -> Vec<Digest> {
        told.iter().filter(|digest| !self.seen.contains(digest)).copied().collect()
    }

    /// Returns the records that a peer asks for, as far as they are still remembered.
    pub(crate) fn remembered(&self, wanted: &[Digest]) -> Vec<VerifiedRecord> {
        let recent: BTreeMap<Digest, &VerifiedRecord> =
            self.recent.iter().flatten().map(|record| (record.digest(), record)).collect();
        wanted.iter().filter_map(|digest| recent.get(digest).map(|&record| record.clone())).collect()
    }
}
