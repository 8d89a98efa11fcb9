//! A guest agent of this version meets hosts of the version before and after: the bytes of version 1 never change, and what
//! is new comes at the end of an enumeration.

use super::*;
use crate::id::hex;
use crate::wire::sight::tests::{sight, view};

const GOLDEN: &str = include_str!("golden/me_1.txt");

fn vm() -> MeVm {
    MeVm {
        birth: [1; 32],
        name: "v".to_owned(),
        owner: "o".to_owned(),
        project: "p".to_owned(),
        service_host: "h".to_owned(),
        term: 2,
        n: 3,
        head: [4; 32],
    }
}

fn revision() -> MeRevision {
    MeRevision {
        number: 1,
        digest: [2; 32],
        standing: "decided".to_owned(),
        author: "a".to_owned(),
        made_unix_ms: 3,
        reason: "r".to_owned(),
    }
}

fn asks() -> Vec<MeAsk> {
    let value = MeValue { name: "g".to_owned(), value: "1.5".to_owned() };
    let first =
        [MeAsk::Key([1; 32]), MeAsk::Request(vec![2]), MeAsk::Me, MeAsk::Status, MeAsk::Log, MeAsk::Sight];
    first.into_iter().chain([MeAsk::Look(vec![value]), MeAsk::Plan(vec![3])]).collect()
}

fn answers() -> Vec<MeAnswer> {
    let refusal = MeRefusal {
        host: "h".to_owned(),
        rule: "r".to_owned(),
        text: "t".to_owned(),
        who_can_change: "w".to_owned(),
    };
    let machine = MeMachine { name: "m".to_owned(), service_host: "h".to_owned(), state: "up".to_owned() };
    let policy = MePolicy { name: "p".to_owned(), may: vec!["may move h".to_owned()], grace_ms: 5 };
    let (policies, told) = sight();
    let (seen, seen_told) = view();
    let row = MePlanRow {
        service_hosts: vec!["h".to_owned()],
        sign: ">".to_owned(),
        kind: "host".to_owned(),
        name: Some("n".to_owned()),
        key: None,
        from: Some("f".to_owned()),
        to: Some("t".to_owned()),
        act: "move".to_owned(),
        why: "w".to_owned(),
    };
    let me = MeSelf { vm: vm(), revision: revision(), policies: vec![policy] };
    vec![
        MeAnswer::Attested(Box::new(vm())),
        MeAnswer::Away,
        MeAnswer::Refused(vec![refusal]),
        MeAnswer::Failed { text: "t".to_owned() },
        MeAnswer::Done(Box::new(revision())),
        MeAnswer::Me(Box::new(me)),
        MeAnswer::Status { rows: vec![machine], more: 6 },
        MeAnswer::Log { rows: vec![revision()], more: 7 },
        MeAnswer::Unknown,
        MeAnswer::Sight(Box::new(MeSight::new(&policies, &told, 100_000))),
        MeAnswer::Own {
            gauges: vec![MeGauge { name: "g".to_owned(), value: "1.5".to_owned(), ago_ms: 2 }],
            policies: vec![MeRun { policy: "p".to_owned(), said: "s".to_owned(), ago_ms: 3 }],
        },
        MeAnswer::View(Box::new(MeView::new(&seen, &seen_told, 100_000))),
        MeAnswer::Plan { rows: vec![row], more: 8 },
    ]
}

fn calls() -> Vec<MeCall> {
    let reason = "r".to_owned();
    let wants = [
        MeWant::Scale { class: "c".to_owned(), to: 2 },
        MeWant::Move { to: "h".to_owned() },
        MeWant::Set { path: "/p".to_owned(), value: Some("v".to_owned()) },
        MeWant::Text("t".to_owned()),
    ];
    let wants = wants.into_iter().map(|want| MeCall::Want { want, reason: reason.clone() });
    let gauge = MeCall::Gauge { name: "g".to_owned(), value: "1.5".to_owned() };
    let plan = MeCall::Plan(MeWant::Move { to: "h".to_owned() });
    let asks = [MeCall::Me, MeCall::Status, MeCall::Log];
    asks.into_iter().chain(wants).chain([gauge, MeCall::Own, plan]).collect()
}

#[test]
fn the_bytes_between_a_guest_and_its_host_never_change() {
    let mut now = String::new();
    for (at, ask) in asks().into_iter().enumerate() {
        let bytes = encode_me_ask(9, ask.clone());
        assert_eq!(decode_me_ask(&bytes).map(|wire| (wire.number, wire.ask)), Ok((9, ask)));
        assert_eq!(me_number(&bytes), Some(9));
        now += &format!("ask {at} {}\n", hex(&bytes));
    }
    for (at, answer) in answers().into_iter().enumerate() {
        let bytes = encode_me_answer(9, answer.clone());
        assert_eq!(decode_me_answer(&bytes).map(|wire| (wire.number, wire.answer)), Ok((9, answer)));
        assert_eq!(me_number(&bytes), Some(9));
        now += &format!("answer {at} {}\n", hex(&bytes));
    }
    for (at, call) in calls().into_iter().enumerate() {
        let bytes = encode_me_call(call.clone());
        assert_eq!(decode_me_call(&bytes), Ok(call));
        now += &format!("call {at} {}\n", hex(&bytes));
    }
    assert_eq!(GOLDEN, now, "version 1 is fixed: append, or add a version");
}

#[test]
fn what_is_of_another_version_has_a_number_still() {
    let mut bytes = encode_me_ask(7, MeAsk::Me);
    bytes[0] = 2;
    assert!(matches!(decode_me_ask(&bytes), Err(DecodeError::Unknown { found: 2, .. })));
    assert_eq!(me_number(&bytes), Some(7));
    assert_eq!(me_number(&bytes[..9]), None);
    assert!(decode_me_answer(&[]).is_err() && decode_me_call(&[1]).is_err());
}
