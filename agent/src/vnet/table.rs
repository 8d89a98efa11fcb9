//! Which station is behind which link: a fixed table that forgets. Pure.
//!
//! Like the memory of a hardware switch it is set-associative: an address can stand in a few places only, and
//! pushes out the one that was longest quiet. So it is bounded without any bookkeeping, and a guest that makes
//! up addresses only causes flooding.

use mln_protocol::model::Mac;

/// How many addresses share their places.
const WAYS: usize = 4;

/// How many sets of places there are; a power of two.
const SETS: usize = 1024;

/// How many addresses a switch remembers at most.
#[cfg(test)]
pub(super) const STATIONS_MAX: usize = WAYS * SETS;

/// After how many seconds a quiet station is forgotten (IEEE 802.1Q, 8.8.3).
pub(super) const AGEING_S: u32 = 300;

/// A link's number in its switch.
pub(super) type LinkId = u32;

/// The table of one switch.
#[derive(Debug)]
pub(super) struct MacTable {
    sets: Box<[[Place; WAYS]]>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    /// The address; [`EMPTY`] where there is none.
    mac: u64,
    link: LinkId,
    seen_s: u32,
}

/// Not an address: those have 48 bits.
const EMPTY: u64 = u64::MAX;

impl MacTable {
    /// An empty table.
    pub(super) fn new() -> Self {
        let empty = Place { mac: EMPTY, link: 0, seen_s: 0 };
        Self { sets: vec![[empty; WAYS]; SETS].into_boxed_slice() }
    }

    /// Notes that a station is behind a link.
    pub(super) fn learn(&mut self, mac: Mac, link: LinkId, now_s: u32) {
        let mac = number(mac);
        let set = &mut self.sets[set_of(mac)];
        let known = set.iter().position(|place| place.mac == mac);
        let place = known.unwrap_or_else(|| {
            let rank = |place: &Place| if place.mac == EMPTY { (0, 0) } else { (1, place.seen_s) };
            (0..WAYS).min_by_key(|way| rank(&set[*way])).unwrap_or(0)
        });
        set[place] = Place { mac, link, seen_s: now_s };
    }

    /// Returns behind which link a station is, if it was heard lately.
    pub(super) fn find(&self, mac: Mac, now_s: u32) -> Option<LinkId> {
        let mac = number(mac);
        let place = self.sets[set_of(mac)].iter().find(|place| place.mac == mac)?;
        (now_s.saturating_sub(place.seen_s) < AGEING_S).then_some(place.link)
    }

    /// Forgets all stations behind a link.
    pub(super) fn forget(&mut self, link: LinkId) {
        for place in self.sets.iter_mut().flatten().filter(|place| place.link == link) {
            place.mac = EMPTY;
        }
    }
}

fn number(mac: Mac) -> u64 {
    let [a, b, c, d, e, f] = mac.0;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

/// Spreads addresses that differ in few bits (Fibonacci hashing).
fn set_of(mac: u64) -> usize {
    let spread = mac.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from(spread >> (64 - SETS.trailing_zeros())).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(n: u32) -> Mac {
        let [a, b, c, d] = n.to_be_bytes();
        Mac([2, 0, a, b, c, d])
    }

    #[test]
    fn a_station_is_found_where_it_was_heard_last_until_it_ages() {
        let mut table = MacTable::new();
        assert_eq!(table.find(mac(1), 0), None);
        table.learn(mac(1), 5, 10);
        assert_eq!(table.find(mac(1), 10 + AGEING_S - 1), Some(5));
        assert_eq!(table.find(mac(1), 10 + AGEING_S), None);
        table.learn(mac(1), 6, 20);
        assert_eq!(table.find(mac(1), 20), Some(6));
        table.forget(6);
        assert_eq!(table.find(mac(1), 20), None);
    }

    #[test]
    fn made_up_addresses_neither_grow_the_table_nor_lose_a_busy_station_among_few() {
        let mut table = MacTable::new();
        for n in 0..1000 {
            table.learn(mac(n), n, 0);
        }
        let kept = (0..1000).filter(|n| table.find(mac(*n), 0) == Some(*n)).count();
        assert!(kept > 950, "{kept} of 1000 stations are remembered");
        for n in 0..100_000 {
            table.learn(mac(n), 1, 1);
        }
        let known = (0..100_000).filter(|n| table.find(mac(*n), 1).is_some()).count();
        assert!(known <= STATIONS_MAX, "{known}");
    }
}
