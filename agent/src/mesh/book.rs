//! The address book: which members there are, where they were last reached, and when to dial them again.
//!
//! Pure: time and randomness are arguments. Peers are dialled for ever, with pauses that double up to a limit
//! and differ at random, so that a mesh that was off doesn't dial in step. Only what was admitted at least once
//! is told to others and stored; what others say of a peer is tried, and forgotten first when room is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use mln_protocol::id::PublicKey;
use mln_protocol::wire::{ADDRESS_BYTES_MAX, HELLO_ADDRESSES_MAX, HELLO_PEERS_MAX, PeerAddresses};
use tokio::time::Instant;

use super::limits::{
    BOOK_PEERS_MAX, PEERS_DIALLED_MAX, PEERS_WANTED_MAX, REDIAL_HURRIED_MIN, REDIAL_MAX, REDIAL_MIN,
    REDIAL_REFUSED_MIN,
};

/// All peers that this host knows of, but itself.
#[derive(Debug)]
pub(super) struct Book {
    own: PublicKey,
    entries: BTreeMap<PublicKey, Entry>,
    /// Idle entries by the time of their next dial.
    schedule: BTreeSet<(Instant, PublicKey)>,
    /// How many are dialled or connected.
    busy: usize,
    /// Peers that something is to be sent to, until they were tried.
    wanted: BTreeSet<PublicKey>,
    changed: bool,
}

#[derive(Debug)]
struct Entry {
    addresses: Vec<Multiaddr>,
    origin: Origin,
    failures: u32,
    link: Link,
    /// When the last attempt ended.
    tried: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// It was admitted, now or before.
    Member,
    /// Somebody says that it exists.
    Hearsay,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Idle(Instant),
    Dialling,
    Connected,
}

/// Why a peer is not connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setback {
    /// The connection ended; it was fine before.
    Lost,
    /// It could not be reached.
    Unreachable,
    /// It does not want us.
    Refused,
}

impl Book {
    /// A book of known members, each to be dialled at once.
    pub(super) fn new(own: PublicKey, known: Vec<(PublicKey, Vec<Multiaddr>)>, now: Instant) -> Self {
        let mut book = Self {
            own,
            entries: BTreeMap::new(),
            schedule: BTreeSet::new(),
            busy: 0,
            wanted: BTreeSet::new(),
            changed: false,
        };
        for (key, addresses) in known {
            book.learn_as(key, addresses, Origin::Member, now);
        }
        book.changed = false;
        book
    }

    /// Notes what somebody says about a peer.
    pub(super) fn learn(&mut self, key: PublicKey, addresses: Vec<Multiaddr>, now: Instant) {
        self.learn_as(key, addresses, Origin::Hearsay, now);
    }

    /// Notes that a peer is a member, and where it says that it listens.
    pub(super) fn admit(&mut self, key: PublicKey, addresses: Vec<Multiaddr>, now: Instant) {
        self.learn_as(key, addresses, Origin::Member, now);
        self.set_link(key, Link::Connected);
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.failures = 0;
        }
    }

    /// Notes that a peer is no longer connected, or that a dial failed; `random` spreads the next dial.
    pub(super) fn set_back(&mut self, key: PublicKey, why: Setback, now: Instant, random: u64) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if why != Setback::Lost {
            entry.failures = entry.failures.saturating_add(1);
        }
        entry.tried = Some(now);
        self.wanted.remove(&key);
        let pause = redial_pause(why, entry.failures, random);
        self.set_link(key, Link::Idle(now + pause));
    }

    /// Dials a peer soon if it is idle: somebody wants it. However often that is said, there is a pause.
    pub(super) fn hurry(&mut self, key: PublicKey, now: Instant) {
        let Some(Entry { link: Link::Idle(at), tried, .. }) = self.entries.get(&key) else { return };
        let soon = tried.map_or(now, |tried| now.max(tried + REDIAL_HURRIED_MIN));
        if soon < *at {
            self.set_link(key, Link::Idle(soon));
        }
        if self.wanted.len() < PEERS_WANTED_MAX {
            self.wanted.insert(key);
        }
    }

    /// Notes where a member says that it listens now.
    pub(super) fn relocate(&mut self, key: PublicKey, addresses: Vec<Multiaddr>, now: Instant) {
        self.learn_as(key, addresses, Origin::Member, now);
    }

    /// Takes out a peer whose dial is due.
    pub(super) fn due(&mut self, now: Instant) -> Option<(PublicKey, Vec<Multiaddr>)> {
        let (at, key) = self.next()?;
        if at > now {
            return None;
        }
        self.set_link(key, Link::Dialling);
        self.entries.get(&key).map(|entry| (key, entry.addresses.clone()))
    }

    /// Returns when [`Book::due`] has something next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.next().map(|(at, _)| at)
    }

    /// Returns who is dialled next, and when; where enough are connected, only whom something is to be sent to.
    fn next(&self) -> Option<(Instant, PublicKey)> {
        if self.busy < PEERS_DIALLED_MAX {
            return self.schedule.first().copied();
        }
        let idle = |key: &PublicKey| match self.entries.get(key)?.link {
            Link::Idle(at) => Some((at, *key)),
            Link::Dialling | Link::Connected => None,
        };
        let has_room = self.busy < PEERS_DIALLED_MAX + PEERS_WANTED_MAX;
        self.wanted.iter().filter(|_| has_room).filter_map(idle).min()
    }

    /// Whether a peer is in the book.
    pub(super) fn knows(&self, key: PublicKey) -> bool {
        self.entries.contains_key(&key)
    }

    /// Returns how often in a row a peer could not be reached.
    pub(super) fn failures(&self, key: PublicKey) -> u32 {
        self.entries.get(&key).map_or(0, |entry| entry.failures)
    }

    /// Returns a peer's addresses.
    pub(super) fn addresses(&self, key: PublicKey) -> &[Multiaddr] {
        self.entries.get(&key).map_or(&[], |entry| &entry.addresses)
    }

    /// Returns every member, to be stored, if there was a change since the last time.
    pub(super) fn take_changed(&mut self) -> Option<Vec<(PublicKey, Vec<Multiaddr>)>> {
        std::mem::take(&mut self.changed)
            .then(|| self.members().map(|(key, entry)| (*key, entry.addresses.clone())).collect())
    }

    /// Returns every known key, members first.
    pub(super) fn keys(&self) -> impl Iterator<Item = PublicKey> {
        self.entries.keys().copied()
    }

    /// Returns what another peer is told: connected members first, as many as fit.
    pub(super) fn introduction(&self) -> Vec<PeerAddresses> {
        let text = |entry: &Entry| entry.addresses.iter().map(Multiaddr::to_string).collect();
        let connected = |entry: &Entry| entry.link == Link::Connected;
        let (first, rest): (Vec<_>, Vec<_>) = self.members().partition(|(_, entry)| connected(entry));
        first
            .into_iter()
            .chain(rest)
            .take(HELLO_PEERS_MAX)
            .map(|(key, entry)| PeerAddresses { key: *key, addresses: text(entry) })
            .collect()
    }

    fn members(&self) -> impl Iterator<Item = (&PublicKey, &Entry)> {
        self.entries.iter().filter(|(_, entry)| entry.origin == Origin::Member)
    }

    fn learn_as(&mut self, key: PublicKey, addresses: Vec<Multiaddr>, origin: Origin, now: Instant) {
        if key == self.own || !self.make_room(key, origin) {
            return;
        }
        let entry = self.entries.entry(key).or_insert_with(|| {
            self.schedule.insert((now, key));
            Entry {
                addresses: Vec::new(),
                origin: Origin::Hearsay,
                failures: 0,
                link: Link::Idle(now),
                tried: None,
            }
        });
        let before = (entry.origin, entry.addresses.clone());
        match origin {
            // What the peer itself says goes before what was known; hearsay goes behind it.
            Origin::Member => {
                entry.origin = Origin::Member;
                let old = std::mem::take(&mut entry.addresses);
                entry.addresses = merged(addresses, old);
            }
            Origin::Hearsay => {
                let old = std::mem::take(&mut entry.addresses);
                entry.addresses = merged(old, addresses);
            }
        }
        let after = (entry.origin, &entry.addresses);
        self.changed |= entry.origin == Origin::Member && (before.0, &before.1) != after;
    }

    fn set_link(&mut self, key: PublicKey, link: Link) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        match entry.link {
            Link::Idle(at) => {
                self.schedule.remove(&(at, key));
            }
            Link::Dialling | Link::Connected => self.busy -= 1,
        }
        match link {
            Link::Idle(at) => {
                self.schedule.insert((at, key));
            }
            Link::Dialling | Link::Connected => self.busy += 1,
        }
        if link == Link::Connected {
            self.wanted.remove(&key);
        }
        entry.link = link;
    }

    /// Forgets an idle hearsay entry where the book is full; whether there is room then.
    fn make_room(&mut self, key: PublicKey, origin: Origin) -> bool {
        if self.entries.len() < BOOK_PEERS_MAX || self.entries.contains_key(&key) {
            return true;
        }
        if origin == Origin::Hearsay {
            return false;
        }
        let idle = |entry: &Entry| entry.origin == Origin::Hearsay && matches!(entry.link, Link::Idle(_));
        let Some(victim) = self.entries.iter().find(|(_, e)| idle(e)).map(|(key, _)| *key) else {
            return false;
        };
        if let Some(Entry { link: Link::Idle(at), .. }) = self.entries.remove(&victim) {
            self.schedule.remove(&(at, victim));
        }
        true
    }
}

/// Returns addresses worth keeping from what a peer said: those that parse, and of a peer that is reached over
/// `via` not those that mean "this machine" unless `via` does.
pub(super) fn usable(texts: &[String], via: &Multiaddr) -> Vec<Multiaddr> {
    let near = is_loopback(via);
    let parsed = texts.iter().filter_map(|text| text.parse::<Multiaddr>().ok()).map(without_peer);
    parsed.filter(|address| is_dialable(address) && (near || !is_loopback(address))).collect()
}

/// Whether an address means this machine.
fn is_loopback(address: &Multiaddr) -> bool {
    address.iter().any(|part| match part {
        Protocol::Ip4(ip) => ip.is_loopback(),
        Protocol::Ip6(ip) => ip.is_loopback(),
        _ => false,
    })
}

/// Whether an address leads through a relay.
pub(super) fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::P2pCircuit))
}

/// Whether an address is an IP address or a name with a port that our transports know, or leads through a relay
/// that has one.
fn is_dialable(address: &Multiaddr) -> bool {
    let parts: Vec<Protocol<'_>> = address.iter().collect();
    let (machine, rest) = match parts.split_first() {
        Some((Protocol::Ip4(ip), rest)) => (!ip.is_unspecified(), rest),
        Some((Protocol::Ip6(ip), rest)) => (!ip.is_unspecified(), rest),
        Some((Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name), rest)) => {
            (!name.is_empty(), rest)
        }
        _ => (false, &[][..]),
    };
    let direct = match rest {
        [direct @ .., Protocol::P2p(_), Protocol::P2pCircuit] => direct,
        direct => direct,
    };
    let port = match direct {
        [Protocol::Tcp(port)] | [Protocol::Udp(port), Protocol::QuicV1] => *port > 0,
        _ => false,
    };
    machine && port
}

/// Returns an address without the peer id that may end it: keys are kept beside addresses.
pub(super) fn without_peer(mut address: Multiaddr) -> Multiaddr {
    if matches!(address.iter().last(), Some(Protocol::P2p(_))) {
        address.pop();
    }
    address
}

/// Returns the addresses of both, without duplicates, up to the limit.
fn merged(first: Vec<Multiaddr>, then: Vec<Multiaddr>) -> Vec<Multiaddr> {
    let mut all = Vec::new();
    for address in first.into_iter().chain(then).map(without_peer) {
        if all.len() < HELLO_ADDRESSES_MAX
            && address.to_string().len() <= ADDRESS_BYTES_MAX
            && !all.contains(&address)
        {
            all.push(address);
        }
    }
    all
}

/// Returns how long to wait before dialling again, from half of the pause to all of it.
fn redial_pause(why: Setback, failures: u32, random: u64) -> Duration {
    let doubled = REDIAL_MIN.saturating_mul(1 << failures.min(16)).min(REDIAL_MAX);
    let pause = match why {
        Setback::Lost => REDIAL_MIN,
        Setback::Unreachable => doubled,
        Setback::Refused => doubled.max(REDIAL_REFUSED_MIN),
    };
    let part = u32::try_from(random % 1000).unwrap_or(0);
    pause / 2 + pause / 2 * part / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> PublicKey {
        PublicKey([n; 32])
    }

    fn at(port: u16) -> Multiaddr {
        format!("/ip4/10.0.0.1/tcp/{port}").parse().expect("a valid address")
    }

    fn book(now: Instant) -> Book {
        Book::new(key(0), vec![(key(1), vec![at(1)]), (key(0), vec![at(9)])], now)
    }

    #[test]
    fn a_known_peer_is_dialled_at_once_and_for_ever_with_growing_pauses() {
        let mut now = Instant::now();
        let mut book = book(now);
        let mut pauses = Vec::new();
        for _ in 0..20 {
            assert_eq!(book.due(now), Some((key(1), vec![at(1)])));
            assert_eq!(book.due(now + REDIAL_MAX), None, "not twice at a time");
            book.set_back(key(1), Setback::Unreachable, now, 999);
            let next = book.next_due().expect("it is dialled again");
            assert_eq!(book.due(next - Duration::from_millis(1)), None);
            pauses.push(next - now);
            now = next;
        }
        assert!(pauses.is_sorted() && pauses[0] < REDIAL_MIN * 2 && pauses[19] <= REDIAL_MAX, "{pauses:?}");
        assert!(pauses[19] > REDIAL_MAX / 2);
        assert_eq!(book.due(now), Some((key(1), vec![at(1)])));
        book.admit(key(1), vec![], now);
        book.set_back(key(1), Setback::Lost, now, 0);
        assert!(book.next_due().expect("it is dialled again") <= now + REDIAL_MIN);
        book.set_back(key(1), Setback::Refused, now, 0);
        assert!(book.next_due().expect("it is dialled again") >= now + REDIAL_REFUSED_MIN / 2);
        book.hurry(key(1), now);
        assert_eq!(book.next_due(), Some(now + REDIAL_HURRIED_MIN));
    }

    #[test]
    fn in_a_mesh_too_large_for_all_to_be_connected_only_those_are_dialled_that_are_wanted() {
        let now = Instant::now();
        let number = |n: usize| {
            let mut bytes = [7; 32];
            bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
            PublicKey(bytes)
        };
        let known = (0..PEERS_DIALLED_MAX + 200).map(|n| (number(n), vec![at(1)])).collect();
        let mut book = Book::new(key(0), known, now);
        for _ in 0..PEERS_DIALLED_MAX {
            let (peer, _) = book.due(now).expect("there is room");
            book.admit(peer, vec![], now);
        }
        assert_eq!((book.due(now), book.next_due()), (None, None));
        let others: Vec<PublicKey> = (PEERS_DIALLED_MAX..PEERS_DIALLED_MAX + 200).map(number).collect();
        book.hurry(others[5], now);
        assert_eq!(book.due(now).map(|(peer, _)| peer), Some(others[5]));
        assert_eq!(book.due(now), None, "nobody else");
        // Who can't be reached is left alone until it is wanted again.
        book.set_back(others[5], Setback::Unreachable, now, 0);
        assert_eq!(book.next_due(), None);
        let later = now + REDIAL_MAX;
        for peer in &others {
            book.hurry(*peer, later);
        }
        let dialled =
            std::iter::from_fn(|| book.due(later)).inspect(|(_, to)| assert_eq!(to, &[at(1)])).count();
        assert_eq!(dialled, PEERS_WANTED_MAX, "and they are few, too");
    }

    /// An hour in which a peer says again and again that our grants are over: what that costs the link, and that those
    /// who hear it together don't come again together.
    #[test]
    fn who_is_refused_for_expired_grants_comes_again_with_pauses_and_not_in_step_with_others() {
        let began = Instant::now();
        let dials = |lot: u64| {
            let (mut now, mut random, mut book) = (began, lot, book(began));
            let mut dials = Vec::new();
            while now < began + Duration::from_secs(3600) {
                assert!(book.due(now).is_some());
                dials.push(now);
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                book.set_back(key(1), Setback::Refused, now, random >> 33);
                now = book.next_due().expect("it is dialled for ever");
            }
            dials
        };
        let (one, other) = (dials(1), dials(2));
        assert!((100..=400).contains(&one.len()), "{} dials in an hour", one.len());
        assert!(one.windows(2).all(|two| two[1] - two[0] >= REDIAL_REFUSED_MIN / 2));
        let together = one.iter().skip(1).filter(|at| other.contains(at)).count();
        assert!(together < one.len() / 20, "{together} of {} dials are in step", one.len());
    }

    #[test]
    fn hearsay_is_tried_but_neither_stored_nor_passed_on_before_it_is_admitted() {
        let now = Instant::now();
        let mut book = book(now);
        book.learn(key(2), vec![at(2)], now);
        book.learn(key(0), vec![at(3)], now);
        assert_eq!(book.take_changed(), None);
        assert_eq!(book.introduction().len(), 1);
        book.admit(key(2), vec![at(4)], now);
        let told = PeerAddresses { key: key(2), addresses: vec![at(4).to_string(), at(2).to_string()] };
        assert_eq!(book.introduction()[0], told, "connected members come first");
        let stored = book.take_changed().expect("a member was added");
        assert_eq!(stored, vec![(key(1), vec![at(1)]), (key(2), vec![at(4), at(2)])]);
        book.admit(key(2), vec![at(4)], now);
        assert_eq!(book.take_changed(), None);
        assert_eq!(book.keys().count(), 2);
    }

    #[test]
    fn only_addresses_that_can_be_dialled_from_here_are_kept() {
        let texts = [
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/10.0.0.1/tcp/1",
            "/ip4/10.0.0.1/udp/1/quic-v1",
            "/ip4/0.0.0.0/tcp/1",
            "/ip4/10.0.0.1/tcp/0",
            "/dns4/example.org/tcp/1",
            "/ip4/10.0.0.1/tcp/1/p2p/12D3KooWGQmdpzHXCqLno4mMxWXKNFQHASBeF99gTm2JR8Vu5Bdc/p2p-circuit",
            "/memory/1",
            "nonsense",
        ]
        .map(String::from);
        let far =
            |texts: &[String]| usable(texts, &at(7)).iter().map(Multiaddr::to_string).collect::<Vec<_>>();
        assert_eq!(far(&texts), [&texts[1], &texts[2], &texts[5], &texts[6]].map(String::clone));
        let near = "/ip4/127.0.0.1/tcp/9".parse().expect("a valid address");
        assert_eq!(usable(&texts, &near).len(), 5);
        let many = (1..30).map(at).collect();
        assert_eq!(merged(many, vec![]).len(), HELLO_ADDRESSES_MAX);
    }
}
