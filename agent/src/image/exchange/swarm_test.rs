//! What is asked of whom, and a model of a network in which hosts fetch from each other.

use super::*;

/// As many as 128 MiB have.
const CHUNKS: usize = 512;

fn key(byte: u8) -> PublicKey {
    PublicKey(mln_protocol::id::Digest::of(&[byte]).0)
}

fn near() -> Duration {
    Duration::from_millis(1)
}

/// Asks a source for all that it is to be asked for now.
fn picked(swarm: &mut Swarm, peer: PublicKey, now: Instant) -> Vec<u32> {
    std::iter::from_fn(|| swarm.pick(peer, now)).take(CHUNKS).collect()
}

#[test]
fn one_source_is_asked_for_everything_once() {
    let now = Instant::now();
    let mut swarm = Swarm::new(key(1), vec![false; CHUNKS]);
    swarm.add(key(9), None, near(), now);
    let mut all = picked(&mut swarm, key(9), now);
    all.sort_unstable();
    assert_eq!(all, (0..CHUNKS as u32).collect::<Vec<_>>());
    all.iter().for_each(|&position| swarm.got(key(9), position, now));
    assert!(swarm.is_whole());
}

#[test]
fn what_is_here_is_not_asked_for() {
    let now = Instant::now();
    let mut swarm = Swarm::new(key(1), (0..CHUNKS).map(|position| position != 7).collect());
    swarm.add(key(9), None, near(), now);
    assert_eq!(picked(&mut swarm, key(9), now), [7]);
}

#[test]
fn those_who_fetch_share_what_only_one_has_without_a_word() {
    let now = Instant::now();
    let fetching: Vec<PublicKey> = (1..=4).map(key).collect();
    let mut asked = vec![0; CHUNKS];
    for me in &fetching {
        let mut swarm = Swarm::new(*me, vec![false; CHUNKS]);
        swarm.add(key(9), None, near(), now);
        for other in fetching.iter().filter(|other| *other != me) {
            swarm.add(*other, Some(vec![false; CHUNKS]), near(), now);
        }
        let share = picked(&mut swarm, key(9), now);
        assert!((90..170).contains(&share.len()), "a quarter or so: {}", share.len());
        share.iter().for_each(|&position| asked[position as usize] += 1);
    }
    assert!(asked.iter().all(|&times| times == 1), "each chunk is in one share");
}

#[test]
fn the_share_of_one_who_stands_still_is_taken_over() {
    let now = Instant::now();
    let mut swarm = Swarm::new(key(1), vec![false; CHUNKS]);
    swarm.add(key(9), None, near(), now);
    swarm.add(key(2), Some(vec![false; CHUNKS]), near(), now);
    let share = picked(&mut swarm, key(9), now);
    assert!(share.len() < CHUNKS);
    let later = now + STALLED_AFTER;
    assert_eq!(picked(&mut swarm, key(9), later).len(), CHUNKS - share.len());
}

#[test]
fn who_waits_for_nothing_else_asks_for_anothers_share() {
    let now = Instant::now();
    let mut swarm = Swarm::new(key(1), vec![false; CHUNKS]);
    swarm.add(key(9), None, near(), now);
    swarm.add(key(2), Some(vec![false; CHUNKS]), near(), now);
    picked(&mut swarm, key(9), now).iter().for_each(|&position| swarm.got(key(9), position, now));
    let more = picked(&mut swarm, key(9), now);
    assert_eq!(more.len(), 1, "one after the other");
}

#[test]
fn what_few_have_is_asked_for_first() {
    let now = Instant::now();
    let mut swarm = Swarm::new(key(1), vec![false; 4]);
    swarm.add(key(2), Some(vec![true, true, true, false]), near(), now);
    swarm.add(key(3), Some(vec![true, false, true, false]), near(), now);
    assert_eq!(swarm.pick(key(2), now), Some(1));
}

#[test]
fn what_a_near_source_has_is_not_asked_of_a_far_one() {
    let now = Instant::now();
    let far = Duration::from_millis(80);
    let mut swarm = Swarm::new(key(1), vec![false; 4]);
    swarm.add(key(8), None, far, now);
    swarm.add(key(9), None, near(), now);
    assert_eq!(swarm.pick(key(8), now), None);
    assert_eq!(picked(&mut swarm, key(9), now).len(), 4);
    swarm.remove(key(9));
    assert_eq!(picked(&mut swarm, key(8), now).len(), 4, "when that one is gone it is");
}

#[test]
fn a_chunk_that_is_late_is_asked_of_one_more_source() {
    let now = Instant::now();
    let mut swarm = Swarm::new(key(1), vec![false; 1]);
    swarm.add(key(8), None, near(), now);
    swarm.add(key(9), None, near(), now);
    assert_eq!((swarm.pick(key(8), now), swarm.pick(key(9), now)), (Some(0), None));
    let later = now + SLOW_AFTER;
    assert_eq!((swarm.pick(key(9), later), swarm.pick(key(8), later)), (Some(0), None));
}

#[test]
fn a_near_source_that_gives_nothing_keeps_nobody_from_a_far_one() {
    let began = Instant::now();
    let mut swarm = Swarm::new(key(1), vec![false; CHUNKS]);
    let (near_one, far_one) = (key(9), key(8));
    swarm.add(near_one, None, near(), began);
    swarm.add(far_one, None, Duration::from_millis(80), began);
    // The near one takes what it is asked for, three at a time, and gives none of it.
    let taken: Vec<u32> = std::iter::from_fn(|| swarm.pick(near_one, began)).take(3).collect();
    assert_eq!((taken.len(), swarm.pick(far_one, began)), (3, None), "at first the near one is asked");
    let (mut now, mut asked) = (began, Vec::new());
    while !swarm.is_whole() {
        now += Duration::from_millis(100);
        asked.extend(swarm.pick(far_one, now));
        for position in asked.drain(..) {
            swarm.got(far_one, position, now + Duration::from_millis(50));
        }
        assert!(now - began < Duration::from_secs(120), "{} are missing", swarm.missing);
    }
    let fair = Duration::from_millis(100) * u32::try_from(CHUNKS).expect("few chunks");
    assert!(
        now - began < fair + SLOW_AFTER * 2,
        "little longer than without the near one: {:?}",
        now - began
    );
}

#[test]
fn a_near_source_that_takes_long_is_not_the_only_one_that_is_asked() {
    let began = Instant::now();
    let mut swarm = Swarm::new(key(1), vec![false; CHUNKS]);
    swarm.add(key(8), None, Duration::from_millis(80), began);
    swarm.add(key(9), None, near(), began);
    let position = swarm.pick(key(9), began).expect("it has all");
    let mut now = began + Duration::from_millis(700);
    swarm.got(key(9), position, now);
    assert!(swarm.pick(key(8), now).is_some(), "the line to the near one is full");
    for _ in 0..20 {
        let position = swarm.pick(key(9), now).expect("it is asked as well");
        now += Duration::from_millis(10);
        swarm.got(key(9), position, now);
    }
    assert_eq!(swarm.pick(key(8), now), None, "it is prompt again");
}

#[test]
fn a_chunk_is_late_by_what_its_source_usually_takes() {
    let began = Instant::now();
    let mut swarm = Swarm::new(key(1), vec![false; 2]);
    swarm.add(key(8), None, near(), began);
    let first = swarm.pick(key(8), began).expect("it has all");
    let now = began + Duration::from_millis(200);
    swarm.got(key(8), first, now);
    let second = swarm.pick(key(8), now).expect("it has all");
    swarm.add(key(9), None, near(), now);
    assert_eq!(swarm.pick(key(9), now + Duration::from_millis(200) * (SLOW_TIMES - 1)), None);
    assert_eq!(swarm.pick(key(9), now + Duration::from_millis(200) * SLOW_TIMES), Some(second));
}

#[test]
fn those_that_have_all_are_spared_only_while_they_are_few() {
    let now = Instant::now();
    let mut swarm = Swarm::new(key(1), vec![false; CHUNKS]);
    swarm.add(key(9), None, near(), now);
    swarm.add(key(2), Some(vec![true; CHUNKS - 1].into_iter().chain([false]).collect()), near(), now);
    swarm.add(key(3), Some(vec![false; CHUNKS]), near(), now);
    assert_eq!(
        swarm.pick(key(9), now).map(|_| ()),
        Some(()),
        "where nothing is waited for, one is asked for"
    );
    assert!(picked(&mut swarm, key(9), now).len() <= 1, "two fetch, and the first of them has nearly all");
    swarm.gained(key(3), &(0..CHUNKS as u32).collect::<Vec<_>>(), now);
    assert!(picked(&mut swarm, key(9), now).len() > CHUNKS / 2, "there is another by now that has all");
}

#[test]
fn a_source_that_lacks_what_it_promised_is_not_asked_for_it_again() {
    let now = Instant::now();
    let mut swarm = Swarm::new(key(1), vec![false; 2]);
    swarm.add(key(2), Some(vec![true, false]), near(), now);
    assert_eq!(swarm.pick(key(2), now), Some(0));
    assert!(swarm.may_lack(key(2)));
    swarm.lacks(key(2), 0);
    assert_eq!(swarm.pick(key(2), now), None);
    swarm.gained(key(2), &[0, 1, 99], now);
    assert_eq!(picked(&mut swarm, key(2), now).len(), 2);
}

/// Lets hosts fetch from one that has all and from each other, in rounds; in each, every host sends as many chunks as it
/// may. Returns the number of rounds, and how many chunks left the first. `round_trip` is what the first host that is named
/// has measured to the second.
fn simulate(hosts: u8, per_round: usize, round_trip: fn(PublicKey, PublicKey) -> Duration) -> (usize, usize) {
    let began = Instant::now();
    let seed = key(200);
    let everybody: Vec<PublicKey> = (1..=hosts).map(key).collect();
    let mut swarms: BTreeMap<PublicKey, Swarm> = BTreeMap::new();
    for &me in &everybody {
        let mut swarm = Swarm::new(me, vec![false; CHUNKS]);
        swarm.add(seed, None, round_trip(me, seed), began);
        for &other in everybody.iter().filter(|&&other| other != me) {
            swarm.add(other, Some(vec![false; CHUNKS]), round_trip(me, other), began);
        }
        swarms.insert(me, swarm);
    }
    let (mut rounds, mut sent_by_seed) = (0, 0);
    // What each sender has been asked for, oldest first, and by whom.
    let mut queues: BTreeMap<PublicKey, std::collections::VecDeque<(PublicKey, u32)>> = BTreeMap::new();
    while swarms.values().any(|swarm| !swarm.is_whole()) {
        let now = began + Duration::from_millis(100) * u32::try_from(rounds).expect("few rounds");
        for (&me, swarm) in &mut swarms {
            for sender in std::iter::once(seed).chain(everybody.iter().copied().filter(|&one| one != me)) {
                let queue = queues.entry(sender).or_default();
                // As a fetch does: one source alone is asked for more at a time.
                let ahead = match swarm.sources() {
                    1 => 8,
                    several => (16 / several).clamp(1, 3),
                };
                while queue.iter().filter(|(by, _)| *by == me).count() < ahead
                    && let Some(position) = swarm.pick(sender, now)
                {
                    queue.push_back((me, position));
                }
            }
        }
        let mut news: Vec<(PublicKey, u32)> = Vec::new();
        for (sender, queue) in &mut queues {
            for _ in 0..per_round {
                let Some((to, position)) = queue.pop_front() else { break };
                sent_by_seed += usize::from(*sender == seed);
                swarms.get_mut(&to).expect("it asked").got(*sender, position, now);
                news.push((to, position));
            }
        }
        for (of, position) in news {
            for (_, swarm) in swarms.iter_mut().filter(|(me, _)| **me != of) {
                swarm.gained(of, &[position], now);
            }
        }
        rounds += 1;
        assert!(rounds < 10_000, "it comes to an end");
    }
    (rounds, sent_by_seed)
}

#[test]
fn many_take_little_longer_than_one_and_the_first_gives_little_more_than_once() {
    let per_round = 4;
    let alone = CHUNKS / per_round;
    for hosts in [1, 2, 8, 16] {
        let (rounds, sent) = simulate(hosts, per_round, |_, _| near());
        assert!(rounds * 10 <= alone * 13, "{hosts} hosts took {rounds} rounds, one takes {alone}");
        assert!(sent * 10 <= CHUNKS * 13, "{hosts} hosts had {sent} chunks of the first, of {CHUNKS}");
    }
}

#[test]
fn a_line_that_was_busy_when_it_was_measured_makes_nobody_slow() {
    // What each has measured to the others depends on what was on the lines at that moment: most are far.
    let per_round = 4;
    let round_trip = |me: PublicKey, other: PublicKey| match (me.0[0] ^ other.0[1]) % 8 {
        0 => near(),
        _ => Duration::from_millis(120),
    };
    for hosts in [8, 16] {
        let (rounds, _) = simulate(hosts, per_round, round_trip);
        let alone = CHUNKS / per_round;
        assert!(rounds * 10 <= alone * 13, "{hosts} hosts took {rounds} rounds, one takes {alone}");
    }
}
