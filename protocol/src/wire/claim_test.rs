use super::*;
use crate::id::Name;
use crate::trust::{Grant, KeyPair, Verb, mesh_of};
use crate::wire::{sign_record, verify_record};

fn keys(host: u8) -> KeyPair {
    KeyPair::from_secret([host; 32])
}

fn vm() -> VmId {
    VmId { birth: Digest([3; 32]), name: Name::parse("router1").expect("a valid name") }
}

fn release(by: u8, to: u8) -> Verified<Release> {
    let release = Release {
        vm: vm(),
        epoch: Epoch { term: 2, n: 5 },
        to: keys(to).public(),
        disk: ReleasedDisk::Root(Digest([7; 32])),
        run: RunState::Up,
        run_counter: 3,
        run_by: keys(9).public(),
    };
    let record = sign_record(&keys(by), Record::Link(Link::Release(release.clone())));
    (*record).clone().map(|_| release)
}

fn decline(release: Verified<Release>) -> Decline {
    Decline { vm: vm(), epoch: Epoch { term: 2, n: 6 }, release: Box::new(release), reason: "no room".into() }
}

fn takeover(by: u8, verbs: &[Verb]) -> Takeover {
    let grant = Grant {
        mesh: mesh_of(keys(0).public()),
        subject: keys(by).public(),
        name: Some(Name::parse("oslo").expect("a valid name")),
        verbs: verbs.iter().copied().collect(),
        passes: 1,
        not_after_unix_ms: Some(1),
        scope: crate::trust::Scope::default(),
    };
    Takeover {
        seen: Some(Epoch { term: 2, n: 6 }),
        copy: Some(Digest([7; 32])),
        chain: vec![keys(0).sign(Domain::Grant, grant.to_bytes())],
        author: "root at oslo".into(),
        made_unix_ms: 5,
    }
}

fn claim(term: u64, n: u64, basis: ClaimBasis) -> Link {
    Link::Claim(Claim { vm: vm(), epoch: Epoch { term, n }, basis })
}

#[track_caller]
fn check(link: Link, author: u8, expect: Result<(), &'static str>) {
    let record = sign_record(&keys(author), Record::Link(link));
    let found = verify_record(record.signed().clone(), keys(0).public());
    let expect = expect.map(|()| record).map_err(|what| RecordError::Unproven { what });
    assert_eq!(found, expect);
}

#[test]
fn who_may_claim_is_named_by_the_epoch_before() {
    let wrong = Err("the claim of an epoch");
    check(claim(1, 1, ClaimBasis::Birth), 1, Ok(()));
    check(claim(1, 2, ClaimBasis::Birth), 1, wrong);
    let given = || ClaimBasis::Release(Box::new(release(1, 2)));
    check(claim(2, 6, given()), 2, Ok(()));
    check(claim(2, 6, given()), 3, wrong);
    check(claim(2, 5, given()), 2, wrong);
    check(claim(2, 7, given()), 2, wrong);
    check(claim(3, 6, given()), 2, wrong);
    let other = VmId { name: Name::parse("router2").expect("a valid name"), ..vm() };
    check(Link::Claim(Claim { vm: other, epoch: Epoch { term: 2, n: 6 }, basis: given() }), 2, wrong);
    check(claim(2, 6, ClaimBasis::Release(Box::new(release(2, 2)))), 2, Err("a release to another host"));
}

#[test]
fn a_decline_names_a_release_and_gives_back_to_its_author() {
    check(Link::Decline(decline(release(1, 2))), 2, Ok(()));
    check(Link::Decline(decline(release(1, 2))), 3, Err("the decline of an epoch"));
    let back = |by: u8| {
        let decline = decline(release(1, 2));
        let record = sign_record(&keys(by), Record::Link(Link::Decline(decline.clone())));
        ClaimBasis::Declined(Box::new((*record).clone().map(|_| decline)))
    };
    check(claim(2, 7, back(2)), 1, Ok(()));
    check(claim(2, 6, back(2)), 1, Err("the claim of an epoch"));
    check(claim(2, 7, back(2)), 3, Err("the claim of an epoch"));
    check(claim(2, 7, back(3)), 1, Err("the decline of an epoch"));
}

#[test]
fn a_takeover_needs_its_grant_and_raises_the_term_by_one() {
    let over = |verbs| ClaimBasis::Takeover(takeover(1, verbs));
    check(claim(3, 1, over(&[Verb::Join, Verb::Takeover])), 1, Ok(()));
    check(claim(2, 7, over(&[Verb::Join, Verb::Takeover])), 1, Err("the claim of an epoch"));
    check(claim(4, 1, over(&[Verb::Join, Verb::Takeover])), 1, Err("the claim of an epoch"));
    check(claim(3, 1, over(&[Verb::Join])), 1, Err("the right to take over"));
    check(claim(3, 1, over(&[Verb::Join, Verb::Takeover])), 2, Err("the right to take over"));
}

#[test]
fn nothing_but_a_release_is_read_inside_a_claim() {
    let status = sign_record(&keys(1), Record::Link(claim(1, 1, ClaimBasis::Birth)));
    let wire = ClaimWire {
        vm: (&vm()).into(),
        epoch: Epoch { term: 1, n: 2 }.into(),
        basis: BasisWire::Release(status.signed().into()),
    };
    assert_eq!(Claim::try_from(wire), Err(RecordError::Unproven { what: "the epoch before" }));
    let mut forged = release(1, 2).signed().clone();
    forged.payload[9] ^= 1;
    assert_eq!(verify_release(forged).map(|_| ()), Err(RecordError::Signature));
}

#[test]
fn notes_of_ownership_come_back_as_they_were() {
    let claim = sign_record(&keys(1), Record::Link(claim(1, 1, ClaimBasis::Birth)));
    let given = release(1, 2).map(|release| Record::Link(Link::Release(release)));
    let no = sign_record(&keys(2), Record::Link(Link::Decline(decline(release(1, 2)))));
    let (epoch, from, root) = (Epoch { term: 1, n: 2 }, keys(3).public(), Digest([5; 32]));
    let fragment = Digest([6; 32]);
    for holding in [
        Holding::Claimed { claim: claim.clone(), fragment, made: true },
        Holding::Arriving { epoch, from },
        Holding::Arrived { epoch, from, root },
        Holding::Released { release: std::sync::Arc::new(given), fragment, made: true },
        Holding::Declined { decline: no },
        Holding::Shadow { epoch, root, fragment },
    ] {
        let bytes = encode_holding(&vm(), &holding);
        assert_eq!(decode_holding(&bytes, keys(0).public()), Ok((vm(), holding)));
        for end in 0..bytes.len() {
            assert!(decode_holding(&bytes[..end], keys(0).public()).is_err(), "{end} bytes");
        }
    }
    let lied = Holding::Claimed {
        claim: std::sync::Arc::new(release(1, 2).map(|release| Record::Link(Link::Release(release)))),
        fragment,
        made: false,
    };
    assert!(decode_holding(&encode_holding(&vm(), &lied), keys(0).public()).is_err());
}

#[test]
fn the_bytes_of_a_claim_stay_the_same() {
    let record =
        sign_record(&keys(2), Record::Link(claim(2, 6, ClaimBasis::Release(Box::new(release(1, 2))))));
    let bytes = crate::id::hex(&record.signed().payload);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/wire/golden/claim_2.hex");
    assert_eq!(
        bytes,
        include_str!("golden/claim_2.hex").trim_end(),
        "{path}: version 2 is fixed, add version 3"
    );
}
