//! What a policy's program is told on standard input, and what it answers on standard output: version 1 of their JSON.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::policy::PolicyJson;
use crate::id::Name;
use crate::model::Policy;
use crate::policy::{Decided, Decision, HostSeen, Sample, Sight, Tenure, Verdict};

/// The version of what programs are told, and of what they answer.
const VERSION: u64 = 1;
/// The longest reason, in characters; the rest is cut off.
const REASON_CHARS_MAX: usize = 500;

#[derive(Deserialize)]
#[serde(tag = "decision", rename_all = "lowercase", deny_unknown_fields)]
enum AnswerJson {
    Stay { reason: Option<String> },
    Move { to: String, reason: Option<String> },
    Scale { class: String, to: u32, reason: Option<String> },
}

/// Why an answer is none.
#[derive(Debug, thiserror::Error)]
pub enum DecisionError {
    /// It is not the JSON that is expected.
    #[error(
        "its answer is not what is expected, such as {{\"decision\": \"move\", \"to\": \"oslo\", \"reason\": \"…\"}}: {0}"
    )]
    Malformed(#[from] serde_json::Error),
    /// Something in it is no name.
    #[error("its answer names `{0}`, which can be no name")]
    Name(String),
}

/// Returns what a policy's program is told, as JSON.
pub fn policy_request(policy: &Policy, sight: &Sight) -> String {
    let classes: Map<String, Value> =
        sight.classes.iter().map(|(class, count)| (class.to_string(), json!(count))).collect();
    let gauges = gauges_json(&sight.gauges);
    let machines =
        sight.machines.iter().map(|(vm, found)| (vm.to_string(), json!({"gauges": gauges_json(found)})));
    let machines: Map<String, Value> = machines.collect();
    let request = json!({
        "version": VERSION,
        "policy": PolicyJson::from(policy),
        "now_ms": sight.now_ms,
        "vm": sight.vm.as_str(),
        "service_host": sight.host.as_str(),
        "classes": classes,
        "volumes": sight.volumes,
        "cloud_spent_ms": sight.cloud_spent_ms,
        "service_hosts": sight.hosts.iter().map(host).collect::<Vec<_>>(),
        "gauges": gauges,
        "machines": machines,
        "decided": sight.decided.iter().map(decided).collect::<Vec<_>>(),
    });
    request.to_string()
}

/// Understands what a policy's program answers. Nothing at all is [`Decision::Stay`]: it may have asked for itself.
pub fn policy_answer(text: &str) -> Result<Verdict, DecisionError> {
    if text.trim().is_empty() {
        return Ok(Verdict { decision: Decision::Stay, reason: "its program said nothing".to_owned() });
    }
    let name = |text: String| Name::parse(&text).map_err(|_| DecisionError::Name(text));
    let (decision, reason) = match serde_json::from_str(text)? {
        AnswerJson::Stay { reason } => (Decision::Stay, reason),
        AnswerJson::Move { to, reason } => (Decision::Move { to: name(to)? }, reason),
        AnswerJson::Scale { class, to, reason } => (Decision::Scale { class: name(class)?, to }, reason),
    };
    let reason = reason.unwrap_or_else(|| "its program gave no reason".to_owned());
    let reason = reason.chars().filter(|letter| !letter.is_control()).take(REASON_CHARS_MAX).collect();
    Ok(Verdict { decision, reason })
}

fn gauges_json(gauges: &BTreeMap<Name, Vec<Sample>>) -> Map<String, Value> {
    let history = |samples: &Vec<Sample>| {
        samples.iter().map(|sample| json!({"at_ms": sample.at_ms, "value": sample.value})).collect()
    };
    gauges.iter().map(|(name, samples)| (name.to_string(), history(samples))).collect()
}

fn host(host: &HostSeen) -> Value {
    let tenure = match host.tenure {
        Tenure::Owned => "owned",
        Tenure::Cloud => "cloud",
    };
    json!({
        "name": host.name.as_str(),
        "site": host.site.as_str(),
        "tenure": tenure,
        "round_trip_ms": host.round_trip_ms,
    })
}

fn decided(decided: &Decided) -> Value {
    let mut what = match &decided.decision {
        Decision::Stay => json!({"decision": "stay"}),
        Decision::Move { to } => json!({"decision": "move", "to": to.as_str()}),
        Decision::Scale { class, to } => json!({"decision": "scale", "class": class.as_str(), "to": to}),
        Decision::AddVolume => json!({"decision": "volume"}),
    };
    what["at_ms"] = json!(decided.at_ms);
    what
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Decider, HostAddress, May, Tuning};
    use crate::sample::name;

    #[test]
    fn a_program_is_told_what_there_is_in_stable_words() {
        let policy = Policy {
            name: name("walk"),
            origin: name("wanderer"),
            tuning: Tuning::default(),
            decider: Some(Decider::Run(vec!["/usr/local/bin/decide".to_owned(), "-v".to_owned()])),
            every_ms: 5_000,
            grace_ms: 15_000,
            may: vec![May::Move(vec![HostAddress("oslo".to_owned()), HostAddress("@us".to_owned())])],
        };
        let sight = Sight {
            now_ms: 70_000,
            vm: name("wanderer"),
            host: name("oslo"),
            classes: [(name("web"), 2)].into(),
            volumes: 0,
            hosts: vec![HostSeen {
                name: name("oslo"),
                site: name("oslo"),
                tenure: Tenure::Owned,
                round_trip_ms: Some(3),
            }],
            cloud_spent_ms: 0,
            gauges: [(name("load"), vec![Sample { at_ms: 69_000, value: 1.5 }])].into(),
            machines: [(name("web1"), [(name("cpu"), vec![Sample { at_ms: 68_000, value: 12.5 }])].into())]
                .into(),
            decided: vec![Decided { at_ms: 9_000, decision: Decision::Move { to: name("oslo") } }],
        };
        let told: Value = serde_json::from_str(&policy_request(&policy, &sight)).expect("JSON");
        let expect = json!({
            "version": 1,
            "policy": {
                "name": "walk",
                "run": ["/usr/local/bin/decide", "-v"],
                "builtin": null,
                "gauge": null,
                "quota": null,
                "window_ms": null,
                "every_ms": 5000,
                "grace_ms": 15000,
                "may_move": ["oslo", "@us"],
                "may_scale": [],
                "may_cloud_hours_per_day": null,
                "may_volumes": null,
            },
            "now_ms": 70000,
            "vm": "wanderer",
            "service_host": "oslo",
            "classes": {"web": 2},
            "volumes": 0,
            "cloud_spent_ms": 0,
            "service_hosts": [{"name": "oslo", "site": "oslo", "tenure": "owned", "round_trip_ms": 3}],
            "gauges": {"load": [{"at_ms": 69000, "value": 1.5}]},
            "machines": {"web1": {"gauges": {"cpu": [{"at_ms": 68000, "value": 12.5}]}}},
            "decided": [{"at_ms": 9000, "decision": "move", "to": "oslo"}],
        });
        assert_eq!(told, expect);
    }

    #[track_caller]
    fn check(answer: &str, expect: Result<(Decision, &str), &str>) {
        match (policy_answer(answer), expect) {
            (Ok(verdict), Ok((decision, reason))) => {
                assert_eq!((verdict.decision, verdict.reason.as_str()), (decision, reason), "{answer}");
            }
            (Err(error), Err(expect)) => {
                let error = error.to_string();
                assert!(error.contains(expect), "{answer}: {error}");
            }
            (verdict, expect) => panic!("{answer}: {verdict:?}, where {expect:?} was expected"),
        }
    }

    #[test]
    fn an_answer_is_a_decision_and_its_reason() {
        let to = |to: &str| Decision::Move { to: name(to) };
        check(r#"{"decision":"stay"}"#, Ok((Decision::Stay, "its program gave no reason")));
        check(" \n", Ok((Decision::Stay, "its program said nothing")));
        check(r#"{"decision":"move","to":"oslo","reason":"near\n"}"#, Ok((to("oslo"), "near")));
        let scaled = Decision::Scale { class: name("web"), to: 3 };
        check(r#"{"decision":"scale","class":"web","to":3,"reason":"r"}"#, Ok((scaled, "r")));
        check(r#"{"decision":"move","to":"-"}"#, Err("`-`"));
        check(r#"{"decision":"fly"}"#, Err("fly"));
        check(r#"{"decision":"stay","also":1}"#, Err("also"));
        check(r#"{"decision":"scale","class":"web","to":-3}"#, Err("-3"));
        check("yes", Err("such as"));
        let (long, cut) = ("x".repeat(600), "x".repeat(500));
        check(&format!(r#"{{"decision":"stay","reason":"{long}"}}"#), Ok((Decision::Stay, &cut)));
    }
}
