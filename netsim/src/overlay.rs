//! Who is connected to whom, and over which of these links gossip pushes what is new.

use std::collections::BTreeSet;

use crate::lot::Lot;

/// How many peers a host dials by itself, where links are formed.
pub(crate) const DIALLED: usize = 8;

/// Links by lot: over how many of a host's links gossip pushes, and how many there are beside.
const PUSHED_BY_LOT: usize = 6;
const OTHERS_BY_LOT: usize = 4;

/// Gossipsub's parameters, as libp2p and so the agent have them: with fewer links to push over than the least a host
/// looks for more, until it has the wanted number; with more than the most it drops all but the wanted number.
const MESH_LEAST: usize = 5;
const MESH_WANTED: usize = 6;
const MESH_MOST: usize = 12;

/// How many of the other peers are told of what is new in each heartbeat: libp2p's `gossip_lazy`.
const TOLD_PEERS: usize = 6;

/// After how many rounds of dropping and looking for links the rest stays as it is.
const ROUNDS_MAX: usize = 20;

/// Who is connected to whom.
#[derive(Debug)]
pub(crate) struct Overlay {
    /// Over which links what is new is pushed.
    mesh: Vec<Vec<usize>>,
    /// All links of each host, in the order of its peers' numbers.
    peers: Vec<Vec<usize>>,
    /// Whom a host may tell of what is new.
    others: Vec<Vec<usize>>,
    forming: Forming,
}

/// How the links came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forming {
    /// By lot: few links, all of which are told of what is new.
    Lot,
    /// As gossipsub forms them.
    Gossipsub,
}

impl Overlay {
    /// Links by lot, fewer than an agent has: where much goes wrong, gossip should not reach everybody.
    pub(crate) fn by_lot(nodes: usize, lot: &mut Lot) -> Self {
        let mesh = random_links(nodes, PUSHED_BY_LOT / 2, lot);
        let others = random_links(nodes, OTHERS_BY_LOT / 2, lot);
        let peers =
            mesh.iter().zip(&others).map(|(one, other)| one.union(other).copied().collect()).collect();
        let (mesh, others) = (mesh.iter().map(sorted).collect(), others.iter().map(sorted).collect());
        Self { mesh, peers, others, forming: Forming::Lot }
    }

    /// Links as agents make them: each of `hosts` dials some others of them, and gossip chooses among the connections.
    /// The others of `nodes` have none.
    pub(crate) fn formed(nodes: usize, hosts: &[usize], dialled: usize, lot: &mut Lot) -> Self {
        let among = random_links(hosts.len(), dialled, lot);
        let mesh = form(&among, lot);
        let none = vec![Vec::new(); nodes];
        let mut overlay =
            Self { mesh: none.clone(), peers: none.clone(), others: none, forming: Forming::Gossipsub };
        for (index, &host) in hosts.iter().enumerate() {
            overlay.peers[host] = among[index].iter().map(|&peer| hosts[peer]).collect();
            overlay.mesh[host] = mesh[index].iter().map(|&peer| hosts[peer]).collect();
            overlay.others[host] = among[index].difference(&mesh[index]).map(|&peer| hosts[peer]).collect();
        }
        overlay
    }

    /// Returns the peers to which a host passes on what is new to it.
    pub(crate) fn mesh(&self, node: usize) -> &[usize] {
        &self.mesh[node]
    }

    /// Returns the peers to which a host sends what it publishes itself: libp2p's `flood_publish`.
    pub(crate) fn audience(&self, node: usize) -> &[usize] {
        match self.forming {
            Forming::Lot => &self.mesh[node],
            Forming::Gossipsub => &self.peers[node],
        }
    }

    /// Returns every peer of a node.
    pub(crate) fn peers(&self, node: usize) -> &[usize] {
        &self.peers[node]
    }

    /// Draws whom a host tells in this heartbeat of what is new.
    pub(crate) fn told(&self, node: usize, lot: &mut Lot) -> Vec<usize> {
        let mut others = self.others[node].clone();
        if self.forming == Forming::Gossipsub {
            draw_some(&mut others, TOLD_PEERS, lot);
        }
        others
    }

    /// Returns over how many links what is new is pushed, on average.
    pub(crate) fn mesh_degree(&self) -> f64 {
        let links: usize = self.mesh.iter().map(Vec::len).sum();
        links as f64 / self.mesh.len() as f64
    }
}

/// A ring, so that nobody is cut off, and links by lot until everybody has made `made`.
fn random_links(nodes: usize, made: usize, lot: &mut Lot) -> Vec<BTreeSet<usize>> {
    let mut links = vec![BTreeSet::new(); nodes];
    for node in 0..nodes {
        let mut wanted = vec![(node + 1) % nodes];
        wanted.extend((1..made).map(|_| lot.index(nodes)));
        for peer in wanted {
            if peer != node {
                links[node].insert(peer);
                links[peer].insert(node);
            }
        }
    }
    links
}

/// Chooses the links to push over: when a connection is made, whoever has too few takes it in; then, heartbeat by
/// heartbeat, who has too few looks for more, and who has too many drops some.
fn form(peers: &[BTreeSet<usize>], lot: &mut Lot) -> Vec<BTreeSet<usize>> {
    let mut mesh = vec![BTreeSet::new(); peers.len()];
    let mut connections: Vec<(usize, usize)> = peers
        .iter()
        .enumerate()
        .flat_map(|(node, peers)| {
            peers.iter().filter(move |&&peer| node < peer).map(move |&peer| (node, peer))
        })
        .collect();
    let all = connections.len();
    draw_some(&mut connections, all, lot);
    for (one, other) in connections {
        if mesh[one].len() < MESH_LEAST || mesh[other].len() < MESH_LEAST {
            graft(&mut mesh, one, other);
        }
    }
    for _ in 0..ROUNDS_MAX {
        let mut calm = true;
        for node in 0..peers.len() {
            if mesh[node].len() > MESH_MOST {
                calm = false;
                let mut dropped = sorted(&mesh[node]);
                let surplus = dropped.len() - MESH_WANTED;
                draw_some(&mut dropped, surplus, lot);
                for peer in dropped {
                    mesh[node].remove(&peer);
                    mesh[peer].remove(&node);
                }
            } else if mesh[node].len() < MESH_LEAST && mesh[node].len() < peers[node].len() {
                calm = false;
                let mut more: Vec<usize> = peers[node].difference(&mesh[node]).copied().collect();
                let wanted = MESH_WANTED - mesh[node].len();
                draw_some(&mut more, wanted, lot);
                for peer in more {
                    graft(&mut mesh, node, peer);
                }
            }
        }
        if calm {
            break;
        }
    }
    mesh
}

fn graft(mesh: &mut [BTreeSet<usize>], one: usize, other: usize) {
    if mesh[one].len() < MESH_MOST && mesh[other].len() < MESH_MOST {
        mesh[one].insert(other);
        mesh[other].insert(one);
    }
}

/// Keeps this many, drawn by lot and in an order by lot.
fn draw_some<T>(from: &mut Vec<T>, count: usize, lot: &mut Lot) {
    let count = count.min(from.len());
    for index in 0..count {
        let drawn = index + lot.index(from.len() - index);
        from.swap(index, drawn);
    }
    from.truncate(count);
}

fn sorted(set: &BTreeSet<usize>) -> Vec<usize> {
    set.iter().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formed_links_go_both_ways_and_none_has_too_few_or_too_many() {
        let hosts: Vec<usize> = (0..300).filter(|host| host % 3 != 0).collect();
        let overlay = Overlay::formed(300, &hosts, DIALLED, &mut Lot::of(1, "test"));
        for &host in &hosts {
            let pushed = overlay.mesh(host);
            assert!((MESH_LEAST..=MESH_MOST).contains(&pushed.len()), "{host}: {pushed:?}");
            assert!(pushed.iter().all(|&peer| overlay.mesh(peer).contains(&host)), "{host}: {pushed:?}");
            assert!(
                overlay.peers(host).iter().all(|&peer| overlay.peers(peer).contains(&host) && peer % 3 != 0)
            );
            let told = overlay.told(host, &mut Lot::of(2, "test"));
            assert!(told.len() <= TOLD_PEERS && told.iter().all(|peer| !pushed.contains(peer)));
        }
        assert!(overlay.peers(0).is_empty());
    }
}
