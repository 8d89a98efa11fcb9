//! The tables of answers.

use std::collections::BTreeSet;

use mln_link::message::{
    AgentVersion, DaemonStatusRow, DoctorRow, EventRow, GarbageReport, GaugeRow, GcMode, GrantRow,
    HostLiveness, KeptRow, LanRow, PeerLink, PeerRow, ProjectRow, StatusRow, TemplateHostRow, TemplateRow,
    VmState,
};

use mln_protocol::trust::Verb;

use super::outside::Outside;
use super::table::{Spacing, name, number, text, with_titles, without_titles};
use crate::quantity::{date_time, short_bytes, short_duration};

/// Where a table goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// How wide it may be.
    pub columns: usize,
    /// How `status` is laid out; other tables are always aligned.
    pub status_spacing: Spacing,
}

/// How much of a table is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// A line per service host, and the total.
    Hosts,
    /// The total.
    TotalOnly,
}

const NOTHING: &str = "-";

/// Returns the lines of `status`: `<project> host <name> up|down <address> <service host> <since> <note>`.
///
/// The owner is shown only where there are several.
pub fn status(rows: &[&StatusRow], outside: &Outside<'_>, layout: Layout) -> String {
    let owners: BTreeSet<&str> = rows.iter().map(|row| row.owner.as_str()).collect();
    let columns = [name(""), name(""), name(""), name(""), name(""), name(""), name(""), text("")];
    let lines = rows.iter().map(|row| {
        let project = match owners.len() {
            0 | 1 => row.project.to_string(),
            _ => format!("{}/{}", row.owner, row.project),
        };
        vec![
            project,
            "host".to_owned(),
            row.vm.to_string(),
            row.state.word().to_owned(),
            row.address.map_or(NOTHING.to_owned(), |address| address.to_string()),
            row.host.to_string(),
            row.since_ms.map_or(NOTHING.to_owned(), short_duration),
            [status_note(row), outside.note(row)]
                .into_iter()
                .filter(|note| !note.is_empty())
                .collect::<Vec<_>>()
                .join("; "),
        ]
    });
    without_titles(&columns, lines.collect(), layout.status_spacing, layout.columns)
}

/// Returns the lines of `status --gauges`, below its others: `<project> gauge <host> <name> <value> <age> <values before>`. The
/// newest value has its unit where every machine measures it so.
pub fn gauges(listed: &[&StatusRow], rows: &[GaugeRow], layout: Layout) -> String {
    let is_listed = |row: &&GaugeRow| {
        let is_its =
            |vm: &&StatusRow| (&vm.owner, &vm.project, &vm.vm) == (&row.owner, &row.project, &row.vm);
        listed.iter().any(is_its)
    };
    let columns = [name(""), name(""), name(""), name(""), name(""), name(""), text("")];
    let lines = rows.iter().filter(is_listed).filter_map(|row| {
        let (newest, before) = row.values.split_last()?;
        let before: Vec<String> = before.iter().map(|value| short_number(&value.value)).collect();
        Some(vec![
            row.project.to_string(),
            "gauge".to_owned(),
            row.vm.to_string(),
            row.gauge.to_string(),
            short_number(&newest.value) + unit(row.gauge.as_str()),
            short_duration(newest.ago_ms),
            if before.is_empty() { String::new() } else { format!("before: {}", before.join(" ")) },
        ])
    });
    without_titles(&columns, lines.collect(), layout.status_spacing, layout.columns)
}

/// Returns the unit of what every machine measures of itself; nothing for what its programs tell.
fn unit(gauge: &str) -> &'static str {
    match gauge {
        "cpu" => "%",
        "memory_mib" => "MiB",
        "received" | "sent" => "B/s",
        _ => "",
    }
}

/// Says which of the machines that are up nothing is heard of yet, and when that will be; none where that is of none.
pub fn unmeasured(listed: &[&StatusRow], rows: &[GaugeRow]) -> Option<String> {
    let is_told = |vm: &StatusRow| {
        let is_its = |row: &GaugeRow| (&row.owner, &row.project, &row.vm) == (&vm.owner, &vm.project, &vm.vm);
        rows.iter().any(|row| is_its(row) && !row.values.is_empty())
    };
    let untold = listed.iter().filter(|vm| vm.state == VmState::Up && !is_told(vm));
    let names: Vec<String> = untold.map(|vm| format!("{}/{}", vm.project, vm.vm)).collect();
    let which = some_of(&names)?;
    Some(format!(
        "no values of {which}: a machine tells its host within a minute of its start, and hosts tell each other, by and by"
    ))
}

/// How many names stand in one line; the others are counted.
const NAMES_MAX: usize = 8;

/// Returns the first of some names, and how many more there are; none where there are no names.
pub fn some_of(names: &[String]) -> Option<String> {
    let more = names.len().saturating_sub(NAMES_MAX);
    let named = names.get(..names.len() - more).filter(|named| !named.is_empty())?.join(", ");
    Some(if more == 0 { named } else { format!("{named} and {more} more") })
}

/// Returns a number with at most one decimal where it is large, and as it is where it is no number.
fn short_number(text: &str) -> String {
    match text.parse::<f64>() {
        Ok(number) if number.abs() >= 10.0 => format!("{}", (number * 10.0).round() / 10.0),
        Ok(number) => format!("{}", (number * 1000.0).round() / 1000.0),
        Err(_) => text.chars().filter(|letter| !letter.is_control()).collect(),
    }
}

fn status_note(row: &StatusRow) -> String {
    match &row.state {
        VmState::Failed { why } => why.clone(),
        VmState::Down { exit_status: Some(status) } if *status != 0 => format!("ended with status {status}"),
        VmState::Unknown => format!("{} last heard {} ago", row.host, short_duration(row.age_ms)),
        VmState::Up | VmState::Down { .. } | VmState::Building | VmState::Starting | VmState::Stopping => {
            String::new()
        }
    }
}

/// Returns the table of `daemon_status`: MLN's columns, and where a host is late or off also how old each line is.
pub fn daemon_status(rows: &[DaemonStatusRow], detail: Detail, layout: Layout) -> String {
    let mut columns = vec![
        name("Server"),
        number("#Projs"),
        number("#vms"),
        number("Mem.Used"),
        number("Mem.Ava"),
        text("Groups"),
    ];
    let is_old = |row: &DaemonStatusRow| row.liveness != HostLiveness::Alive;
    if detail == Detail::Hosts && rows.iter().any(is_old) {
        columns.push(number("Age"));
    }
    let total = vec![
        "Total".to_owned(),
        rows.iter().map(|row| u64::from(row.projects)).sum::<u64>().to_string(),
        rows.iter().map(|row| u64::from(row.vms)).sum::<u64>().to_string(),
        rows.iter().map(|row| row.memory_used_mib).sum::<u64>().to_string(),
        rows.iter().map(|row| row.memory_available_mib).sum::<u64>().to_string(),
    ];
    let hosts = rows.iter().map(|row| {
        vec![
            row.name.to_string(),
            row.projects.to_string(),
            row.vms.to_string(),
            row.memory_used_mib.to_string(),
            row.memory_available_mib.to_string(),
            row.groups.iter().map(|group| group.as_str()).collect::<Vec<_>>().join(","),
            age(row),
        ]
    });
    let lines = match detail {
        Detail::Hosts => hosts.chain(std::iter::once(total)).collect(),
        Detail::TotalOnly => vec![total],
    };
    with_titles(&columns, lines, layout.columns)
}

fn age(row: &DaemonStatusRow) -> String {
    let age = short_duration(row.age_ms);
    match row.liveness {
        HostLiveness::Alive => age,
        HostLiveness::Suspect => format!("late {age}"),
        HostLiveness::Gone => format!("off {age}"),
    }
}

/// Returns the table of `list`.
pub fn projects(rows: &[ProjectRow], layout: Layout) -> String {
    let columns = [
        name("Owner"),
        name("Project"),
        number("Hosts"),
        number("#vms"),
        number("Up"),
        number("Revisions"),
        name("Id"),
    ];
    let lines = rows.iter().map(|row| {
        vec![
            row.owner.to_string(),
            row.project.to_string(),
            row.hosts.to_string(),
            row.vms.to_string(),
            row.vms_up.to_string(),
            row.revisions.to_string(),
            short_digest(&row.id),
        ]
    });
    with_titles(&columns, lines.collect(), layout.columns)
}

/// Returns the table of `grant list`.
pub fn grants(rows: &[GrantRow], now_unix_ms: u64, layout: Layout) -> String {
    let columns = [
        name("Name"),
        name("Id"),
        name("By"),
        name("Until"),
        name("Revoked"),
        text("May, with what and where"),
    ];
    let lines = rows.iter().map(|row| {
        let verbs: Vec<&str> =
            Verb::ALL.into_iter().filter(|verb| row.verbs & verb.bit() != 0).map(Verb::word).collect();
        let limit = |value: Option<u64>, unit: &str| value.map(|value| format!("{value} {unit}"));
        let limits = [
            Some(verbs.join(",")),
            (!row.projects.is_empty()).then(|| row.projects.join(",")),
            (!row.hosts.is_empty()).then(|| format!("on {}", row.hosts.join(","))),
            limit(row.memory_mib, "MiB"),
            limit(row.vms, "VMs"),
            row.disk_bytes.map(|bytes| format!("disk {}", short_bytes(bytes))),
            (row.passes > 0).then(|| format!("passed on {}x", row.passes)),
        ];
        vec![
            row.name.clone(),
            short_digest(&row.id),
            if row.issuer.len() == 64 { short_digest(&row.issuer) } else { row.issuer.clone() },
            match row.ends_unix_ms {
                None => NOTHING.to_owned(),
                Some(ends) if ends <= now_unix_ms => format!("ended {}", date_time(ends)),
                Some(ends) => date_time(ends),
            },
            row.revoked.as_ref().map_or(NOTHING.to_owned(), |revoked| date_time(revoked.unix_ms)),
            limits.into_iter().flatten().collect::<Vec<_>>().join("; "),
        ]
    });
    with_titles(&columns, lines.collect(), layout.columns)
}

/// Returns the table of `peers`.
pub fn peers(rows: &[PeerRow], layout: Layout) -> String {
    let columns =
        [name("Peer"), name("Link"), number("RTT"), name("Since"), name("Version"), text("Address")];
    let lines = rows.iter().map(|row| {
        let (link, round_trip, since) = match row.link {
            PeerLink::Connected { round_trip_us, since_ms } => {
                let relayed = row.addresses.first().is_some_and(|address| address.contains("/p2p-circuit"));
                (if relayed { "relay" } else { "up" }, round_trip_us, Some(since_ms))
            }
            PeerLink::Lost { last_seen_ms } => ("lost", None, Some(last_seen_ms)),
            PeerLink::Never => ("never", None, None),
        };
        vec![
            row.name.as_ref().map_or_else(|| short_digest(&row.key), ToString::to_string),
            link.to_owned(),
            round_trip.map_or(NOTHING.to_owned(), |us| format!("{}.{} ms", us / 1000, us % 1000 / 100)),
            since.map_or(NOTHING.to_owned(), short_duration),
            row.version.clone().unwrap_or(NOTHING.to_owned()),
            row.addresses.first().cloned().unwrap_or(NOTHING.to_owned()),
        ]
    });
    with_titles(&columns, lines.collect(), layout.columns)
}

/// Returns the table of `peers --lan`.
pub fn lan(rows: &[LanRow], layout: Layout) -> String {
    let columns = [name("Seen"), name("Member"), number("Age"), text("Address")];
    let lines = rows.iter().map(|row| {
        vec![
            row.name.as_ref().map_or_else(|| short_digest(&row.key), ToString::to_string),
            if row.member { "yes" } else { "no" }.to_owned(),
            short_duration(row.age_ms),
            row.addresses.first().cloned().unwrap_or(NOTHING.to_owned()),
        ]
    });
    with_titles(&columns, lines.collect(), layout.columns)
}

/// A context, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextRow {
    /// What it is called here.
    pub name: String,
    /// Whether it is used where none is named.
    pub used: bool,
    /// The mesh's identity.
    pub mesh: String,
    /// The user's name in the mesh.
    pub owner: Option<String>,
    /// What the grants allow.
    pub may: Vec<&'static str>,
    /// When they end, in milliseconds since 1970.
    pub ends_unix_ms: Option<u64>,
    /// Where agents answer.
    pub addresses: Vec<String>,
    /// Why the grants prove nothing.
    pub problem: Option<String>,
}

/// Returns the table of `ctx list`; a star marks the context that is used.
pub fn contexts(rows: &[ContextRow], layout: Layout) -> String {
    let columns = [name(""), name("Context"), name("Mesh"), name("Owner"), name("Until"), text("May")];
    let lines = rows.iter().map(|row| {
        vec![
            if row.used { "*" } else { "" }.to_owned(),
            row.name.clone(),
            short_digest(&row.mesh),
            row.owner.clone().unwrap_or(NOTHING.to_owned()),
            row.ends_unix_ms.map_or(NOTHING.to_owned(), date_time),
            row.problem.clone().unwrap_or_else(|| row.may.join(",")),
        ]
    });
    with_titles(&columns, lines.collect(), layout.columns)
}

/// Returns the lines of `ctx show`.
pub fn context(row: &ContextRow) -> String {
    let mut text = format!(
        "context {}{}\nmesh    {}\nowner   {}\nmay     {}\nuntil   {}\n",
        row.name,
        if row.used { " (in use)" } else { "" },
        row.mesh,
        row.owner.as_deref().unwrap_or(NOTHING),
        row.problem.clone().unwrap_or_else(|| row.may.join(", ")),
        row.ends_unix_ms.map_or(NOTHING.to_owned(), date_time),
    );
    for address in &row.addresses {
        text.push_str(&format!("agent   {}\n", super::text::printable(address)));
    }
    text
}

/// Returns the table of `template list`.
pub fn templates(rows: &[TemplateRow], layout: Layout) -> String {
    let columns =
        [name("Template"), text("Version"), number("Size"), number("On disk"), name("Made"), name("Digest")];
    let lines = rows.iter().map(|row| {
        vec![
            row.name.to_string(),
            row.version.clone(),
            short_bytes(row.bytes),
            short_bytes(row.bytes_on_disk),
            date_time(row.created_unix_ms),
            short_digest(&row.digest),
        ]
    });
    with_titles(&columns, lines.collect(), layout.columns)
}

/// Returns the table of `template list --peers`.
pub fn template_hosts(rows: &[TemplateHostRow], layout: Layout) -> String {
    let columns =
        [name("Server"), name("Template"), text("Version"), number("Data"), name("Made"), name("Digest")];
    let lines = rows.iter().map(|TemplateHostRow { host, template }| {
        vec![
            host.clone(),
            template.name.to_string(),
            template.version.clone(),
            short_bytes(template.bytes_on_disk),
            date_time(template.created_unix_ms),
            short_digest(&template.digest),
        ]
    });
    with_titles(&columns, lines.collect(), layout.columns)
}

/// Says that a VM is left out, for how long its disk is kept, and how it comes back.
pub fn kept_line(row: &KeptRow) -> String {
    let KeptRow { owner, project, vm, host, left_ms, .. } = row;
    format!(
        "{owner}/{project}: {vm} is left out; its disk is kept on {host} for {}, and it comes back with that by rollback, or \
         when it is named again",
        short_duration(*left_ms)
    )
}

/// Returns the table of `gc`, what is left, and what is kept.
pub fn garbage(report: &GarbageReport, kept: &[KeptRow], mode: GcMode, layout: Layout) -> String {
    let columns = [name("What"), number("Size"), name("Since"), text("File")];
    let lines = report.rows.iter().map(|row| {
        vec![
            row.kind.word().to_owned(),
            short_bytes(row.bytes),
            date_time(row.since_unix_ms),
            row.file.clone(),
        ]
    });
    let freed = short_bytes(report.rows.iter().map(|row| row.bytes).sum());
    let done = match mode {
        GcMode::Show => "can be freed",
        GcMode::Free => "freed",
    };
    let limit = report.limit_bytes.map(|limit| format!(" of {}", short_bytes(limit))).unwrap_or_default();
    let table = if report.rows.is_empty() {
        String::new()
    } else {
        with_titles(&columns, lines.collect(), layout.columns)
    };
    let kept: String = kept.iter().map(|row| kept_line(row) + "\n").collect();
    format!("{table}{freed} {done}, {}{limit} in use\n{kept}", short_bytes(report.bytes_left))
}

/// Returns the line of an event: when, where, what, whose, and in words.
pub fn event(row: &EventRow) -> String {
    let (date, time) = (date_time(row.unix_ms), row.unix_ms / 1000 % 60);
    let about = match (&row.project, &row.vm) {
        (Some(project), Some(vm)) => format!("{project}/{vm} "),
        (Some(project), None) => format!("{project} "),
        (None, Some(vm)) => format!("{vm} "),
        (None, None) => String::new(),
    };
    let rule = row.rule.as_ref().map(|rule| format!(" (rule {rule})")).unwrap_or_default();
    let text = super::text::printable(&format!("{about}{}{rule}", row.text));
    let (host, kind) = (super::text::printable(&row.host), super::text::printable(&row.kind));
    format!("{date}:{time:02} {host:<10} {kind:<8} {text}\n")
}

/// Returns the lines of `doctor`, each with what to type below it where something is to be done.
pub fn doctor(rows: &[DoctorRow], layout: Layout) -> String {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for row in rows {
        let (name, finding) = (super::text::printable(&row.name), super::text::printable(&row.finding));
        let indent = width + 7;
        let lines = super::text::wrapped(&finding, layout.columns.saturating_sub(indent).max(20));
        let lines = lines.trim_end().replace('\n', &format!("\n{:indent$}", ""));
        text.push_str(&format!("{name:<width$} {:<5} {lines}\n", row.verdict.word()));
        if let Some(fix) = &row.fix {
            text.push_str(&format!("{:indent$}→ {}\n", "", super::text::printable(fix)));
        }
    }
    text
}

/// Returns the lines of `version`.
pub fn version(agent: Option<&AgentVersion>) -> String {
    let ours = format!("mlnctl {}\n", crate::version::VERSION);
    match agent {
        Some(agent) => format!(
            "{ours}mlnd {}\nhost {}\npeer {}\nmesh {}\n",
            super::text::printable(&agent.agent),
            agent.host,
            super::json::peer_id(agent).unwrap_or(NOTHING.to_owned()),
            short_digest(&agent.mesh)
        ),
        None => ours,
    }
}

fn short_digest(digest: &str) -> String {
    super::text::printable(&digest.chars().take(8).collect::<String>())
}

#[cfg(test)]
#[path = "rows_test.rs"]
mod tests;
