//! Answers as JSON. Field names are a promise to scripts: they don't follow the wire.

use mln_link::message::{
    AgentVersion, DaemonStatusRow, DoctorRow, Failure, ForwardRow, GarbageReport, GaugeRow, GaugeValue,
    GcMode, GrantRow, Granted, HostLiveness, KeptRow, LanRow, NatState, PeerLink, PeerRow, Progress,
    ProjectRow, Refusal, Silence, StatusRow, StepState, TemplateHostRow, TemplateRow, Token, UnsettledRow,
    VmState,
};
use mln_protocol::id::Name;
use mln_protocol::lang::{Diagnostic, Sources};
use mln_protocol::trust::Verb;
use serde_json::{Value, json};

use super::outside::Outside;
use super::progress::step_name;
use super::rows::Detail;
use crate::error::CommandError;
use crate::exit::Exit;

fn name(name: Option<&Name>) -> Value {
    name.map_or(Value::Null, |name| Value::from(name.as_str()))
}

fn forward(row: &ForwardRow) -> Value {
    json!({
        "host_port": row.host_port,
        "guest_port": row.guest_port,
        "protocol": row.protocol.word(),
    })
}

fn unsettled_of<'u>(unsettled: &'u [UnsettledRow], row: &StatusRow) -> Option<&'u UnsettledRow> {
    unsettled.iter().find(|found| (&found.owner, &found.project) == (&row.owner, &row.project))
}

/// What a VM measures, by the gauges' names, the newest value last.
fn gauges_of(gauges: &[GaugeRow], row: &StatusRow) -> Value {
    let is_its =
        |found: &&GaugeRow| (&found.owner, &found.project, &found.vm) == (&row.owner, &row.project, &row.vm);
    let value = |value: &GaugeValue| {
        // What an agent tells is a number; what isn't stays a text.
        let number = value.value.parse::<f64>().map_or_else(|_| json!(value.value), |number| json!(number));
        json!({ "value": number, "ago_ms": value.ago_ms })
    };
    let gauge =
        |found: &GaugeRow| (found.gauge.to_string(), found.values.iter().map(value).collect::<Value>());
    Value::Object(gauges.iter().filter(is_its).map(gauge).collect())
}

/// `status`: an array of VMs.
pub fn status(
    rows: &[&StatusRow],
    outside: &Outside<'_>,
    unsettled: &[UnsettledRow],
    gauges: Option<&[GaugeRow]>,
) -> Value {
    rows.iter()
        .map(|row| {
            let (reason, exit_status) = match &row.state {
                VmState::Failed { why } => (Some(why.as_str()), None),
                VmState::Down { exit_status } => (None, *exit_status),
                VmState::Up
                | VmState::Building
                | VmState::Starting
                | VmState::Stopping
                | VmState::Unknown => (None, None),
            };
            json!({
                "owner": row.owner.as_str(),
                "project": row.project.as_str(),
                "name": row.vm.as_str(),
                "state": row.state.word(),
                "up": row.state == VmState::Up,
                "address": row.address,
                "service_host": row.host.as_str(),
                "since_ms": row.since_ms,
                "age_ms": row.age_ms,
                "reason": reason,
                "exit_status": exit_status,
                "nat": outside.of_vm(row).and_then(|found| found.nat.as_ref()).map(NatState::word),
                "nat_reason": outside.why_no_nat(row),
                "startup": if outside.has_failed_startup(row) { "failed" } else { "fine" },
                "gauges": gauges.map(|gauges| gauges_of(gauges, row)),
                "partial": unsettled_of(unsettled, row).map_or(&[][..], |found| &found.partial),
                "contested": unsettled_of(unsettled, row).map_or(&[][..], |found| &found.contested),
                "stranded": unsettled_of(unsettled, row).is_some_and(|found| found.stranded.contains(&row.vm)),
                "forwards": outside.of_vm(row).map_or(&[][..], |found| &found.forwards).iter().map(forward).collect::<Value>(),
            })
        })
        .collect()
}

/// `daemon_status`: the service hosts and the total.
pub fn daemon_status(rows: &[DaemonStatusRow], detail: Detail) -> Value {
    let hosts: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "name": row.name.as_str(),
                "projects": row.projects,
                "vms": row.vms,
                "memory_used_mib": row.memory_used_mib,
                "memory_available_mib": row.memory_available_mib,
                "groups": row.groups.iter().map(Name::as_str).collect::<Vec<_>>(),
                "age_ms": row.age_ms,
                "liveness": match row.liveness {
                    HostLiveness::Alive => "alive",
                    HostLiveness::Suspect => "late",
                    HostLiveness::Gone => "off",
                },
            })
        })
        .collect();
    let total = json!({
        "projects": rows.iter().map(|row| u64::from(row.projects)).sum::<u64>(),
        "vms": rows.iter().map(|row| u64::from(row.vms)).sum::<u64>(),
        "memory_used_mib": rows.iter().map(|row| row.memory_used_mib).sum::<u64>(),
        "memory_available_mib": rows.iter().map(|row| row.memory_available_mib).sum::<u64>(),
    });
    match detail {
        Detail::Hosts => json!({ "service_hosts": hosts, "total": total }),
        Detail::TotalOnly => json!({ "total": total }),
    }
}

/// `doctor`: an array of checks.
pub fn doctor(rows: &[DoctorRow]) -> Value {
    rows.iter()
        .map(|row| {
            json!({
                "name": row.name,
                "verdict": row.verdict.word(),
                "finding": row.finding,
                "fix": row.fix,
            })
        })
        .collect()
}

/// `list`: an array of projects.
pub fn projects(rows: &[ProjectRow]) -> Value {
    rows.iter()
        .map(|row| {
            json!({
                "owner": row.owner.as_str(),
                "name": row.project.as_str(),
                "id": row.id,
                "revisions": row.revisions,
                "service_hosts": row.hosts,
                "vms": row.vms,
                "vms_up": row.vms_up,
            })
        })
        .collect()
}

/// Whether the address in use, which is the first, leads through a relay.
fn is_relayed(row: &PeerRow) -> bool {
    row.addresses.first().is_some_and(|address| address.contains("/p2p-circuit"))
}

/// `peers`: an array of peers.
pub fn peers(rows: &[PeerRow]) -> Value {
    rows.iter()
        .map(|row| {
            let (link, round_trip_us, since_ms, last_seen_ms) = match row.link {
                PeerLink::Connected { round_trip_us, since_ms } => {
                    ("up", round_trip_us, Some(since_ms), None)
                }
                PeerLink::Lost { last_seen_ms } => ("lost", None, None, Some(last_seen_ms)),
                PeerLink::Never => ("never", None, None, None),
            };
            json!({
                "name": name(row.name.as_ref()),
                "key": row.key,
                "link": link,
                "round_trip_us": round_trip_us,
                "since_ms": since_ms,
                "last_seen_ms": last_seen_ms,
                "version": row.version,
                "relayed": link == "up" && is_relayed(row),
                "addresses": row.addresses,
            })
        })
        .collect()
}

/// `peers --lan`: an array of whom was seen.
pub fn lan(rows: &[LanRow]) -> Value {
    rows.iter()
        .map(|row| {
            json!({
                "name": name(row.name.as_ref()),
                "key": row.key,
                "member": row.member,
                "addresses": row.addresses,
                "age_ms": row.age_ms,
            })
        })
        .collect()
}

/// `template list`: an array of templates.
pub fn templates(rows: &[TemplateRow]) -> Value {
    rows.iter().map(template).collect()
}

fn template(row: &TemplateRow) -> Value {
    json!({
        "name": row.name.as_str(),
        "version": row.version,
        "digest": row.digest,
        "bytes": row.bytes,
        "bytes_on_disk": row.bytes_on_disk,
        "created_unix_ms": row.created_unix_ms,
    })
}

/// `template list --peers`: an array of templates, each with its host.
pub fn template_hosts(rows: &[TemplateHostRow]) -> Value {
    rows.iter()
        .map(|row| {
            let mut value = template(&row.template);
            value["service_host"] = Value::from(row.host.as_str());
            value
        })
        .collect()
}

/// `gc`: the files, what is left, and the disks that are kept.
pub fn garbage(report: &GarbageReport, kept: &[KeptRow], mode: GcMode) -> Value {
    let kept: Vec<Value> = kept
        .iter()
        .map(|row| {
            json!({
                "owner": row.owner.as_str(),
                "project": row.project.as_str(),
                "name": row.vm.as_str(),
                "service_host": row.host.as_str(),
                "age_ms": row.age_ms,
                "left_ms": row.left_ms,
            })
        })
        .collect();
    let files: Vec<Value> = report
        .rows
        .iter()
        .map(|row| {
            json!({
                "kind": row.kind.word(),
                "file": row.file,
                "bytes": row.bytes,
                "since_unix_ms": row.since_unix_ms,
            })
        })
        .collect();
    json!({
        "freed": mode == GcMode::Free,
        "files": files,
        "bytes": report.rows.iter().map(|row| row.bytes).sum::<u64>(),
        "bytes_left": report.bytes_left,
        "limit_bytes": report.limit_bytes,
        "kept": kept,
    })
}

/// `token new`.
pub fn token(token: &Token) -> Value {
    json!({ "token": token.text, "expires_unix_ms": token.expires_unix_ms })
}

/// `grant`: the text to pass on, and what it gives.
pub fn granted(granted: &Granted) -> Value {
    json!({ "text": granted.text, "grant": grant(&granted.row) })
}

/// `grant list` and `revoke`: an array of grants.
pub fn grants(rows: &[GrantRow]) -> Value {
    rows.iter().map(grant).collect()
}

fn grant(row: &GrantRow) -> Value {
    let verbs: Vec<&str> =
        Verb::ALL.into_iter().filter(|verb| row.verbs & verb.bit() != 0).map(Verb::word).collect();
    let revoked = row
        .revoked
        .as_ref()
        .map(|revoked| json!({ "by": revoked.by, "unix_ms": revoked.unix_ms, "reason": revoked.reason }));
    json!({
        "id": row.id,
        "name": row.name,
        "key": row.key,
        "issuer": row.issuer,
        "verbs": verbs,
        "projects": row.projects,
        "hosts": row.hosts,
        "memory_mib": row.memory_mib,
        "vms": row.vms,
        "disk_bytes": row.disk_bytes,
        "ends_unix_ms": row.ends_unix_ms,
        "pass_on": row.passes,
        "revoked": revoked,
    })
}

/// `version`.
pub fn version(agent: Option<&AgentVersion>) -> Value {
    let agent = agent.map(|agent| {
        json!({
            "version": agent.agent,
            "host": agent.host.as_str(),
            "key": agent.key,
            "peer_id": peer_id(agent),
            "mesh": agent.mesh,
        })
    });
    json!({ "mlnctl": crate::version::VERSION, "agent": agent })
}

/// Returns how addresses name an agent's host, as in `/p2p/12D3Koo…`; none where its key is none.
pub fn peer_id(agent: &AgentVersion) -> Option<String> {
    let key = mln_protocol::id::PublicKey::from_hex(&agent.key)?;
    Some(mln_door::key::peer_id_of(key)?.to_string())
}

/// An event: a step of the work.
pub fn progress(progress: &Progress) -> Value {
    json!({
        "event": "progress",
        "project": name(progress.project.as_ref()),
        "name": name(progress.vm.as_ref()),
        "service_host": name(progress.host.as_ref()),
        "step": step_name(progress.step),
        "state": match progress.state {
            StepState::Begun => "begun",
            StepState::Done => "done",
            StepState::Unchanged => "unchanged",
            StepState::Failed => "failed",
        },
        "detail": progress.detail,
    })
}

/// An event: somebody said no.
pub fn refusal(refusal: &Refusal) -> Value {
    json!({
        "event": "refused",
        "service_host": name(refusal.host.as_ref()),
        "name": name(refusal.vm.as_ref()),
        "rule": refusal.rule,
        "text": refusal.text,
        "who_can_change": refusal.who_can_change,
    })
}

/// An event: something didn't work.
pub fn failure(failure: &Failure) -> Value {
    json!({
        "event": "failed",
        "what": failure.what,
        "service_host": name(failure.host.as_ref()),
        "name": name(failure.vm.as_ref()),
        "why": failure.why,
        "console_tail": failure.console_tail,
        "next": failure.next,
    })
}

/// An event: somebody didn't answer.
pub fn silence(silence: &Silence) -> Value {
    json!({ "event": "silent", "service_host": silence.host.as_str(), "text": silence.text })
}

/// An event: something to know.
pub fn warning(text: &str) -> Value {
    json!({ "event": "warning", "text": text })
}

/// An event: what is said about a project file, each in the shape of `validate --json`.
pub fn diagnostics(diagnostics: &[Diagnostic], sources: &Sources) -> Value {
    let text = mln_protocol::convert::diagnostics_json(diagnostics, sources);
    let shape: Value = serde_json::from_str(&text).expect("what serde_json wrote, it reads");
    json!({ "event": "diagnostics", "diagnostics": shape["diagnostics"] })
}

/// An event: `mlnctl` itself can't go on.
pub fn error(error: &CommandError, causes: &[String], hints: &[String]) -> Value {
    json!({ "event": "error", "text": error.to_string(), "causes": causes, "hints": hints })
}

/// A line of a VM's log.
pub fn log_line(line: &str) -> Value {
    json!({ "line": line })
}

/// What was copied.
pub fn copied(from: &str, to: &str, bytes: u64, digest: &str, ms: u64) -> Value {
    json!({ "event": "copied", "from": from, "to": to, "bytes": bytes, "digest": digest, "ms": ms })
}

/// The last event.
pub fn end(exit: Exit) -> Value {
    json!({ "event": "end", "exit_code": exit.code() })
}
