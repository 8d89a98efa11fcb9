//! The bytes of what owners attest and guests sign.

use super::*;
use crate::id::hex;
use crate::record::Epoch;
use crate::sample;
use crate::wire::{decode_revision, encode_revision};

fn attestation() -> Attestation {
    Attestation {
        vm: VmId { birth: Digest([1; 32]), name: sample::name("web") },
        epoch: Epoch { term: 1, n: 2 },
        boot: 3,
        key: PublicKey([4; 32]),
        made_unix_ms: 5,
    }
}

fn request(wanted: Wanted) -> GuestRequest {
    GuestRequest {
        vm: VmId { birth: Digest([1; 32]), name: sample::name("web") },
        parent: Digest([2; 32]),
        number: 3,
        wanted,
        reason: "r".to_owned(),
        made_unix_ms: 4,
    }
}

fn decision() -> Decision {
    let kind = UseKind::Scale { class: sample::name("c"), to: 2 };
    Decision {
        vm: VmId { birth: Digest([1; 32]), name: sample::name("web") },
        request: Digest([2; 32]),
        uses: vec![Use { origin: sample::name("o"), policy: sample::name("p"), kind }],
    }
}

#[test]
fn an_attestation_has_the_bytes_of_version_1_and_is_nothing_else() {
    let signed = sign_attestation(&sample::keys(7), attestation());
    let web = "0300000000000000776562";
    let expect = format!(
        "0100{}{web}0100000000000000020000000000000003000000000000{}{}0500000000000000",
        "01".repeat(32),
        "00",
        "04".repeat(32)
    );
    assert_eq!(hex(&signed.signed().payload), expect);
    assert_eq!(verify_attestation(signed.signed().clone()).as_deref(), Ok(&attestation()));
    assert!(verify_guest_request(signed.signed().clone()).is_err(), "it is signed for one use");
    let mut other = signed.signed().clone();
    other.author = sample::keys(8).public();
    assert!(verify_attestation(other).is_err());
}

#[test]
fn a_request_has_the_bytes_of_version_1() {
    let behind = format!("{}0300000000000000776562{}", "01".repeat(32), "02".repeat(32))
        + "0300000000000000"
        + "010000000000000072"
        + "0400000000000000";
    let class = sample::name("c");
    for (wanted, expect) in [
        (Wanted::Scale { class, to: 2 }, "00000000010000000000000063".to_owned() + "02000000"),
        (Wanted::Move { to: HostAddress("@b".to_owned()) }, "0100000002000000000000004062".to_owned()),
        (
            Wanted::Set { path: "/".to_owned(), value: Some("v".to_owned()) },
            "0200000001000000000000002f".to_owned() + "01010000000000000076",
        ),
        (Wanted::Text("t".to_owned()), "03000000010000000000000074".to_owned()),
    ] {
        let signed = sign_guest_request(&sample::keys(7), request(wanted.clone()));
        assert_eq!(hex(&signed.signed().payload), format!("0100{expect}{behind}"));
        assert_eq!(verify_guest_request(signed.signed().clone()).as_deref(), Ok(&request(wanted)));
    }
}

#[test]
fn what_is_too_long_or_would_break_a_line_is_no_request() {
    let long = request(Wanted::Text("x".repeat(GUEST_TEXT_BYTES_MAX + 1)));
    let lines = GuestRequest { reason: "a\nb".to_owned(), ..request(Wanted::Text(String::new())) };
    let wordy = GuestRequest { reason: "x".repeat(GUEST_REASON_BYTES_MAX + 1), ..lines.clone() };
    for wrong in [long, lines, wordy] {
        let signed = sign_guest_request(&sample::keys(7), wrong);
        assert!(matches!(verify_guest_request(signed.signed().clone()), Err(RecordError::Decode(_))));
    }
}

#[test]
fn a_revision_says_who_decided_behind_what_it_always_said() {
    let people = sample::first_revision("web").revision;
    let bytes = encode_revision(&people);
    let mut decided = people.clone();
    decided.decision = Some(decision());
    let with_decision = encode_revision(&decided);
    let behind = with_decision.strip_prefix(bytes.as_slice()).expect("what was there stays");
    let expect = hex(b"mln decision 1\0\0")
        + "00"
        + "0000000000000000"
        + &"01".repeat(32)
        + "0300000000000000776562"
        + &"02".repeat(32)
        + "0100000000000000"
        + "01000000000000006f"
        + "010000000000000070"
        + "01000000"
        + "010000000000000063"
        + "02000000";
    assert_eq!(hex(behind), expect);
    let charge = crate::record::Charge {
        principal: PublicKey([5; 32]),
        grants: vec![Digest([6; 32])],
        amount: crate::trust::Amount { memory_mib: 1, vms: 2, disk_bytes: 3 },
    };
    for keep_removed_ms in [0, 9] {
        for charge in [None, Some(charge.clone())] {
            for decision in [None, Some(decision())] {
                let revision = crate::record::Revision {
                    charge: charge.clone(),
                    keep_removed_ms,
                    decision,
                    ..people.clone()
                };
                assert_eq!(decode_revision(&encode_revision(&revision)), Ok(revision));
            }
        }
    }
    let mut many = decided;
    many.decision.as_mut().expect("it has one").uses = vec![decision().uses[0].clone(); GUEST_USES_MAX + 1];
    assert!(matches!(decode_revision(&encode_revision(&many)), Err(DecodeError::TooLong { .. })));
    assert!(decode_revision(&with_decision[..with_decision.len() - 1]).is_err());
}
