use super::*;
use crate::id::Digest;
use crate::node::limits;
use crate::record::{Claim, Release, ReleasedDisk, RunState, Takeover};
use crate::sample::{first_revision, keys, name};
use crate::trust::{Domain, ProjectPattern, Scope, Verb, Verified};
use crate::wire::sign_record;

/// The revision that bears the VM on host 1.
fn birth() -> Commit {
    first_revision("router")
}

fn vm() -> VmId {
    VmId { birth: birth().digest, name: name("router") }
}

fn epoch(term: u64, n: u64) -> Epoch {
    Epoch { term, n }
}

fn claim(by: u8, epoch: Epoch, basis: ClaimBasis) -> VerifiedRecord {
    sign_record(&keys(by), Record::Link(Link::Claim(Claim { vm: vm(), epoch, basis })))
}

fn born(by: u8) -> VerifiedRecord {
    claim(by, Epoch::FIRST, ClaimBasis::Birth)
}

fn release(by: u8, epoch: Epoch, to: u8) -> VerifiedRecord {
    let release = Release {
        vm: vm(),
        epoch,
        to: keys(to).public(),
        disk: ReleasedDisk::Root(Digest([7; 32])),
        run: RunState::Up,
        run_counter: 3,
        run_by: keys(by).public(),
    };
    sign_record(&keys(by), Record::Link(Link::Release(release)))
}

fn inside<T>(record: &VerifiedRecord, pick: impl Fn(&Link) -> Option<T>) -> Box<Verified<T>> {
    let Record::Link(link) = &***record else { panic!("a link") };
    let value = pick(link).expect("of that kind");
    Box::new((**record).clone().map(|_| value))
}

fn taken(by: u8, released: &VerifiedRecord) -> VerifiedRecord {
    let release = inside(released, |link| match link {
        Link::Release(release) => Some(release.clone()),
        Link::Claim(_) | Link::Decline(_) => None,
    });
    claim(by, release.epoch.next(), ClaimBasis::Release(release))
}

fn declined(by: u8, released: &VerifiedRecord) -> VerifiedRecord {
    let release = inside(released, |link| match link {
        Link::Release(release) => Some(release.clone()),
        Link::Claim(_) | Link::Decline(_) => None,
    });
    let decline = Decline { vm: vm(), epoch: release.epoch.next(), release, reason: "no room".into() };
    sign_record(&keys(by), Record::Link(Link::Decline(decline)))
}

fn back(by: u8, declined: &VerifiedRecord) -> VerifiedRecord {
    let decline = inside(declined, |link| match link {
        Link::Decline(decline) => Some(decline.clone()),
        Link::Claim(_) | Link::Release(_) => None,
    });
    claim(by, decline.epoch.next(), ClaimBasis::Declined(decline))
}

fn takeover(by: u8, seen: Epoch) -> VerifiedRecord {
    let takeover = Takeover {
        seen: Some(seen),
        copy: Some(Digest([7; 32])),
        chain: Vec::new(),
        author: "root".into(),
        made_unix_ms: 1,
    };
    claim(by, seen.taken_over(), ClaimBasis::Takeover(takeover))
}

fn ledger(records: &[VerifiedRecord]) -> Ledger {
    let mut ledger = Ledger::default();
    ledger.born(&birth(), Rules::ALL);
    for record in records {
        ledger.insert(record, Rules::ALL);
    }
    ledger
}

/// Says who owns the VM, in which epoch, and how.
fn told(ledger: &Ledger) -> String {
    let host = |key: PublicKey| (1..9).find(|&host| keys(host).public() == key).expect("a host").to_string();
    let Some(owner) = ledger.owner(&vm()) else { return "nobody".to_owned() };
    let tenure = match &owner.tenure {
        Tenure::Held => String::new(),
        Tenure::Released { to, .. } => format!(" released to {}", host(*to)),
        Tenure::Declined { .. } => " declined".to_owned(),
        Tenure::Contested { claimants } => {
            let mut all: Vec<String> = claimants.iter().map(|key| host(*key)).collect();
            all.sort();
            return format!("{} contested by {}", owner.epoch, all.join(" and "));
        }
    };
    format!("{} in {}{tenure}", host(owner.owner), owner.epoch)
}

#[track_caller]
fn check(records: &[&VerifiedRecord], expect: &str) {
    let records: Vec<VerifiedRecord> = records.iter().map(|record| (*record).clone()).collect();
    assert_eq!(told(&ledger(&records)), expect);
}

#[test]
fn each_epoch_has_one_key_that_the_epoch_before_names() {
    let first = born(1);
    let given = release(1, epoch(1, 1), 2);
    let second = taken(2, &given);
    check(&[], "nobody");
    check(&[&first], "1 in 1.1");
    check(&[&first, &given], "1 in 1.1 released to 2");
    check(&[&first, &second], "2 in 1.2");
    check(&[&second], "nobody");
    check(&[&born(2)], "nobody");
    check(&[&first, &born(2)], "1 in 1.1");
    // Whoever doesn't own it gives nothing away.
    check(&[&first, &release(3, epoch(1, 1), 2)], "1 in 1.1");
    check(&[&first, &taken(2, &release(3, epoch(1, 1), 2))], "1 in 1.1");
    let third = taken(3, &release(2, epoch(1, 2), 3));
    check(&[&first, &third], "1 in 1.1");
    check(&[&first, &third, &second], "3 in 1.3");
}

#[test]
fn a_decline_uses_up_its_epoch_and_the_old_owner_claims_the_one_after() {
    let (first, given) = (born(1), release(1, epoch(1, 1), 2));
    let no = declined(2, &given);
    check(&[&first, &given, &no], "1 in 1.2 declined");
    check(&[&first, &no, &back(1, &no)], "1 in 1.3");
    check(&[&first, &back(1, &no)], "1 in 1.1");
    // A host that claims and declines at once has signed two things for one epoch.
    check(&[&first, &no, &taken(2, &given)], "1.2 contested by 2");
}

#[test]
fn two_claims_of_one_epoch_hold_still_until_a_takeover() {
    let first = born(1);
    let (to_2, to_3) = (release(1, epoch(1, 1), 2), release(1, epoch(1, 1), 3));
    let (by_2, by_3) = (taken(2, &to_2), taken(3, &to_3));
    check(&[&first, &by_2, &by_3], "1.2 contested by 2 and 3");
    let later = taken(4, &release(2, epoch(1, 2), 4));
    check(&[&first, &by_2, &by_3, &later], "1.2 contested by 2 and 3");
    let over = takeover(3, epoch(1, 2));
    check(&[&first, &by_2, &by_3, &over], "3 in 2.1");
    check(&[&over, &takeover(2, epoch(1, 1))], "2.1 contested by 2 and 3");
    check(&[&over, &takeover(2, epoch(1, 1)), &takeover(4, epoch(2, 1))], "4 in 3.1");
}

/// One such record, of any member that may take over, would have been the last that anybody could make.
#[test]
fn a_takeover_at_the_end_of_all_terms_spoils_nothing() {
    let first = born(1);
    for term in [1 + limits::TERM_JUMP_MAX, u64::MAX - 1, u64::MAX] {
        let last = takeover(3, epoch(term, 1));
        check(&[&first, &last], "1 in 1.1");
        let over = takeover(2, epoch(1, 1));
        check(&[&first, &last, &over], if term > 17 { "2 in 2.1" } else { "3 in 18.1" });
    }
    // Some may be lost with their authors.
    check(&[&first, &takeover(3, epoch(limits::TERM_JUMP_MAX, 1))], "3 in 17.1");
}

#[test]
fn a_takeover_by_a_grant_for_another_project_is_none() {
    let by = |pattern: &str| {
        let grant = Grant {
            mesh: Digest([0; 32]),
            subject: keys(2).public(),
            name: None,
            verbs: [Verb::Takeover].into(),
            passes: 0,
            not_after_unix_ms: None,
            scope: Scope {
                projects: vec![ProjectPattern::parse(pattern).expect("a pattern")],
                ..Scope::default()
            },
        };
        let takeover = Takeover {
            seen: Some(Epoch::FIRST),
            copy: None,
            chain: vec![keys(0).sign(Domain::Grant, grant.to_bytes())],
            author: "root".into(),
            made_unix_ms: 1,
        };
        claim(2, epoch(2, 1), ClaimBasis::Takeover(takeover))
    };
    let label = birth().revision.label;
    check(&[&born(1), &by("nobody/*")], "1 in 1.1");
    check(&[&born(1), &by(&label.to_string())], "2 in 2.1");
    // Its project may be heard of later.
    let mut ledger = Ledger::default();
    for record in [by("nobody/*"), born(1)] {
        ledger.insert(&record, Rules::ALL);
    }
    ledger.born(&birth(), Rules::ALL);
    assert_eq!(told(&ledger), "1 in 1.1");
}

#[test]
fn nothing_of_an_older_term_counts_after_a_takeover() {
    let first = born(1);
    let over = takeover(2, epoch(1, 1));
    let given = release(1, epoch(1, 1), 3);
    check(&[&first, &given, &taken(3, &given), &over], "2 in 2.1");
    let on = taken(4, &release(2, epoch(2, 1), 4));
    check(&[&over, &on], "4 in 2.2");
}

#[test]
fn the_order_of_arrival_does_not_matter() {
    let (to_2, to_3) = (release(1, epoch(1, 1), 2), release(2, epoch(1, 2), 3));
    let no = declined(3, &to_3);
    let second = taken(2, &to_2);
    let forked = release(1, epoch(1, 1), 4);
    let all = [
        born(1),
        to_2,
        second,
        to_3.clone(),
        no.clone(),
        back(2, &no),
        takeover(5, epoch(1, 2)),
        takeover(6, epoch(1, 4)),
        release(6, epoch(2, 1), 1),
        forked.clone(),
        taken(4, &forked),
        born(3),
        taken(3, &to_3),
    ];
    let mut lot: u64 = 1;
    let mut draw = |below: usize| {
        lot = lot.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(lot >> 33).expect("31 bits") % below
    };
    // Every subset that is drawn gives one answer in three orders, and with the birth known first or last.
    for _ in 0..400 {
        let mut some: Vec<VerifiedRecord> = all.iter().filter(|_| draw(3) > 0).cloned().collect();
        let expect = told(&ledger(&some));
        for _ in 0..3 {
            for index in (1..some.len()).rev() {
                some.swap(index, draw(index + 1));
            }
            let mut late = Ledger::default();
            for record in &some {
                late.insert(record, Rules::ALL);
            }
            late.born(&birth(), Rules::ALL);
            // Two releases of one epoch stand in one slot: there the larger digest has won before it comes here.
            if some.iter().filter(|r| r.key(r.author()) == forked.key(forked.author())).count() < 2 {
                assert_eq!(told(&late), expect);
                assert_eq!(told(&ledger(&some)), expect);
            }
        }
    }
}
