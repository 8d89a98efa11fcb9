//! Who misbehaved or was refused how often, and who is shunned for it. Pure: time is an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use mln_protocol::id::PublicKey;
use tokio::time::Instant;

use super::limits::{
    CONDUCT_KEYS_MAX, CONDUCT_WINDOW, CUT_OFF, MISBEHAVIOUR_MAX, REFUSALS_MAX, SHUN_MAX, SHUN_MIN,
};

/// What a peer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offence {
    /// It sent what nobody may send.
    Misbehaviour,
    /// It asked to be let in and was refused.
    Refusal,
    /// It has signed two things where only one can be true.
    TwoInOneSlot,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing yet.
    Tolerated,
    /// Nothing is heard from it for so long.
    Shunned(Duration),
}

/// Everybody's conduct.
#[derive(Debug, Default)]
pub(super) struct Conduct {
    records: BTreeMap<PublicKey, Record>,
}

#[derive(Debug)]
struct Record {
    misbehaviour: u32,
    refusals: u32,
    last: Instant,
    shunned_until: Option<Instant>,
    times_shunned: u32,
}

impl Conduct {
    /// Notes an offence.
    pub(super) fn note(&mut self, key: PublicKey, offence: Offence, now: Instant) -> Verdict {
        self.make_room(key);
        let record = self.records.entry(key).or_insert(Record {
            misbehaviour: 0,
            refusals: 0,
            last: now,
            shunned_until: None,
            times_shunned: 0,
        });
        if now.duration_since(record.last) > CONDUCT_WINDOW {
            (record.misbehaviour, record.refusals, record.times_shunned) = (0, 0, 0);
        }
        record.last = now;
        match offence {
            Offence::Misbehaviour => record.misbehaviour += 1,
            Offence::Refusal => record.refusals += 1,
            Offence::TwoInOneSlot => {
                record.shunned_until = Some(now + CUT_OFF);
                record.last = now + CUT_OFF;
                return Verdict::Shunned(CUT_OFF);
            }
        }
        if record.misbehaviour < MISBEHAVIOUR_MAX && record.refusals < REFUSALS_MAX {
            return Verdict::Tolerated;
        }
        let pause = SHUN_MIN.saturating_mul(1 << record.times_shunned.min(16)).min(SHUN_MAX);
        (record.misbehaviour, record.refusals) = (0, 0);
        record.times_shunned += 1;
        record.shunned_until = record.shunned_until.max(Some(now + pause));
        // Counted from the end, so that it doubles for those who go on at once.
        record.last = now + pause;
        Verdict::Shunned(pause)
    }

    /// Whether nothing is heard from a peer at the moment.
    pub(super) fn is_shunned(&self, key: PublicKey, now: Instant) -> bool {
        self.records.get(&key).and_then(|r| r.shunned_until).is_some_and(|until| now < until)
    }

    /// Returns how often a peer misbehaved lately.
    pub(super) fn misbehaviour(&self, key: PublicKey) -> u32 {
        self.records.get(&key).map_or(0, |record| record.misbehaviour)
    }

    fn make_room(&mut self, key: PublicKey) {
        if self.records.len() < CONDUCT_KEYS_MAX || self.records.contains_key(&key) {
            return;
        }
        let quietest = self.records.iter().min_by_key(|(_, record)| record.last).map(|(key, _)| *key);
        quietest.and_then(|key| self.records.remove(&key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> PublicKey {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        PublicKey(bytes)
    }

    fn offend(conduct: &mut Conduct, times: u32, now: Instant) -> Verdict {
        (0..times).map(|_| conduct.note(key(1), Offence::Refusal, now)).last().expect("at least once")
    }

    #[test]
    fn a_peer_is_shunned_at_the_limit_and_for_longer_each_time() {
        let start = Instant::now();
        let mut conduct = Conduct::default();
        assert_eq!(offend(&mut conduct, REFUSALS_MAX - 1, start), Verdict::Tolerated);
        assert!(!conduct.is_shunned(key(1), start));
        assert_eq!(offend(&mut conduct, 1, start), Verdict::Shunned(SHUN_MIN));
        assert!(conduct.is_shunned(key(1), start) && !conduct.is_shunned(key(2), start));
        let later = start + SHUN_MIN;
        assert!(!conduct.is_shunned(key(1), later));
        assert_eq!(offend(&mut conduct, REFUSALS_MAX, later), Verdict::Shunned(SHUN_MIN * 2));
        let much_later = later + SHUN_MIN * 2 + CONDUCT_WINDOW + Duration::from_secs(1);
        assert_eq!(offend(&mut conduct, REFUSALS_MAX, much_later), Verdict::Shunned(SHUN_MIN));
    }

    #[test]
    fn whoever_signs_two_things_in_one_slot_is_cut_off_whatever_else_it_does() {
        let start = Instant::now();
        let mut conduct = Conduct::default();
        assert_eq!(conduct.note(key(1), Offence::TwoInOneSlot, start), Verdict::Shunned(CUT_OFF));
        offend(&mut conduct, REFUSALS_MAX, start);
        assert!(conduct.is_shunned(key(1), start + CUT_OFF - Duration::from_secs(1)));
        assert!(!conduct.is_shunned(key(1), start + CUT_OFF));
    }

    #[test]
    fn the_quietest_is_forgotten_when_there_are_too_many() {
        let start = Instant::now();
        let mut conduct = Conduct::default();
        for n in 0..u32::try_from(CONDUCT_KEYS_MAX).expect("a small number") + 10 {
            conduct.note(key(n), Offence::Misbehaviour, start + Duration::from_millis(n.into()));
        }
        assert_eq!(conduct.records.len(), CONDUCT_KEYS_MAX);
        assert_eq!((conduct.misbehaviour(key(0)), conduct.misbehaviour(key(100))), (0, 1));
    }
}
