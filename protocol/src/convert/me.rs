//! What a machine is told about itself and its project, in the shape that scripts in it read.

use serde_json::{Value, json};

use crate::id::{Digest, hex};
use crate::wire::me::{
    MeAnswer, MeGauge, MeMachine, MePlanRow, MePolicy, MeRefusal, MeRevision, MeRun, MeVm,
};

/// Returns an answer as JSON, on several lines: an object, or an array of machines, revisions or changes.
pub fn me_json(answer: &MeAnswer) -> String {
    let value = match answer {
        MeAnswer::Me(me) => {
            let mut value = vm(&me.vm);
            value["revision"] = revision(&me.revision);
            value["policies"] = me.policies.iter().map(policy).collect();
            value
        }
        MeAnswer::Attested(attested) => vm(attested),
        MeAnswer::Status { rows, .. } => rows.iter().map(machine).collect(),
        MeAnswer::Log { rows, .. } => rows.iter().map(revision).collect(),
        MeAnswer::Done(done) => json!({ "event": "done", "revision": revision(done) }),
        MeAnswer::Refused(refusals) => refusals.iter().map(refusal).collect(),
        MeAnswer::Failed { text } => json!({ "event": "failed", "text": text }),
        MeAnswer::Away => json!({ "event": "away" }),
        MeAnswer::Unknown => json!({ "event": "unknown" }),
        MeAnswer::Own { gauges, policies } => json!({
            "gauges": gauges.iter().map(gauge).collect::<Vec<_>>(),
            "policies": policies.iter().map(run).collect::<Vec<_>>(),
        }),
        MeAnswer::Plan { rows, .. } => rows.iter().map(plan_row).collect(),
        // It is for the guest agent alone: nobody in the guest can ask for it.
        MeAnswer::Sight(_) | MeAnswer::View(_) => json!({ "event": "sight" }),
    };
    serde_json::to_string_pretty(&value).expect("strings, numbers and lists of them always serialize")
}

fn vm(vm: &MeVm) -> Value {
    json!({
        "name": vm.name,
        "birth": hex(&vm.birth),
        "owner": vm.owner,
        "project": vm.project,
        "service_host": vm.service_host,
        "epoch": format!("{}.{}", vm.term, vm.n),
        "head": hex(&vm.head),
    })
}

fn policy(policy: &MePolicy) -> Value {
    json!({ "name": policy.name, "may": policy.may, "grace_ms": policy.grace_ms })
}

fn gauge(gauge: &MeGauge) -> Value {
    // What the guest agent writes is a number; what isn't stays a text.
    let value = gauge.value.parse::<f64>().map_or_else(|_| json!(gauge.value), |value| json!(value));
    json!({ "name": gauge.name, "value": value, "ago_ms": gauge.ago_ms })
}

fn run(run: &MeRun) -> Value {
    json!({ "policy": run.policy, "said": run.said, "ago_ms": run.ago_ms })
}

fn plan_row(row: &MePlanRow) -> Value {
    json!({
        "sign": row.sign,
        "kind": row.kind,
        "name": row.name,
        "key": row.key,
        "from": row.from,
        "to": row.to,
        "act": row.act,
        "why": row.why,
        "service_hosts": row.service_hosts,
    })
}

fn machine(machine: &MeMachine) -> Value {
    json!({
        "name": machine.name,
        "service_host": machine.service_host,
        "state": machine.state,
        "up": machine.state == "up",
    })
}

fn revision(revision: &MeRevision) -> Value {
    json!({
        "number": revision.number,
        "digest": Digest(revision.digest).to_string(),
        "standing": revision.standing,
        "author": revision.author,
        "made_unix_ms": revision.made_unix_ms,
        "reason": revision.reason,
    })
}

fn refusal(refusal: &MeRefusal) -> Value {
    let said = |text: &str| Value::from((!text.is_empty()).then_some(text));
    json!({
        "event": "refused",
        "service_host": said(&refusal.host),
        "rule": refusal.rule,
        "text": refusal.text,
        "who_can_change": said(&refusal.who_can_change),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_as_the_host_s_program_has_it() {
        let refused = MeRefusal {
            host: String::new(),
            rule: "envelope".to_owned(),
            text: "no".to_owned(),
            who_can_change: "anna".to_owned(),
        };
        let found: Value = serde_json::from_str(&me_json(&MeAnswer::Refused(vec![refused]))).expect("JSON");
        let expect = json!([{
            "event": "refused",
            "service_host": null,
            "rule": "envelope",
            "text": "no",
            "who_can_change": "anna",
        }]);
        assert_eq!(found, expect);
    }
}
