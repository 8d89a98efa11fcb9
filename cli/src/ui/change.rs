//! Plans and revisions as hosts tell of them, for people and for programs.

use mln_link::message::{
    Plan, PlanRow, PlanSign, Revised, RevisionRef, RevisionRow, RevisionStanding, UnsettledRow,
};
use serde_json::{Value, json};

use super::rows::Layout;
use super::table::{self, Spacing};
use crate::quantity::date_time;

/// How wide the lines of a plan are, in characters.
const COLUMNS: usize = 80;

/// What is done about a machine that comes back with its disk.
const RETURN: &str = "return";

/// What is done about what stays as it is.
const KEPT: &str = "kept";

/// How many digits of a digest are shown.
const DIGITS: usize = 8;

fn short(digest: &str) -> &str {
    digest.get(..DIGITS).unwrap_or(digest)
}

fn sign(sign: PlanSign) -> char {
    match sign {
        PlanSign::Added => '+',
        PlanSign::Removed => '-',
        PlanSign::Changed => '~',
        PlanSign::Moved => '>',
    }
}

fn hosts(row: &PlanRow) -> String {
    row.hosts.iter().map(|host| host.as_str()).collect::<Vec<_>>().join(",")
}

/// Returns what would change as lines: what, what it costs, who answers for it; why, where it costs something; and counts.
pub fn plan(plan: &Plan, rows: &[PlanRow]) -> String {
    if plan.hosts.is_empty() {
        return "no changes\n".to_owned();
    }
    let columns = [table::name(""), table::text(""), table::name(""), table::name("")];
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let name = row.name.as_ref().map_or(String::new(), |name| format!(" {name}"));
            let what = match (&row.key, &row.from, &row.to) {
                (None, _, _) => String::new(),
                (Some(key), Some(from), Some(to)) => format!("{key}: {from} → {to}"),
                (Some(key), Some(one), None) | (Some(key), None, Some(one)) => format!("{key}: {one}"),
                (Some(key), None, None) => key.clone(),
            };
            vec![format!("{} {}{name}", sign(row.sign), row.kind), what, row.act.clone(), hosts(row)]
        })
        .collect();
    let lines = table::without_titles(&columns, cells, Spacing::Aligned, COLUMNS);
    let mut text = String::new();
    let next = rows.iter().skip(1).map(Some).chain([None]);
    for ((line, row), next) in lines.lines().zip(rows).zip(next) {
        text += &format!("{line}\n");
        let is_kept = row.act == "remove" && row.why.contains("disk is kept");
        // What several lines in a row have in common is said once.
        let is_said_later =
            row.act == KEPT && next.is_some_and(|next| next.act == KEPT && next.why == row.why);
        let is_told =
            matches!(row.act.as_str(), "live-or-reboot" | "reboot" | "rebuild" | "move" | RETURN | KEPT)
                || is_kept;
        if is_told && !is_said_later {
            text += &format!("      {}\n", super::text::printable(&row.why));
        }
    }
    let at = match &plan.head {
        Some(head) => format!("{} at revision {} ({})", plan.project, head.number, short(&head.digest)),
        None => format!("{} is not built", plan.project),
    };
    let asked: Vec<&str> = plan.hosts.iter().map(|host| host.as_str()).collect();
    text + &format!("{}; {at}; asked: {}\n", counted(rows), asked.join(", "))
}

/// What becomes of a thing in all its lines, the least telling first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Changed,
    Removed,
    Added,
    /// It comes back with its disk.
    Returned,
    Moved,
}

/// How many things come, come back, go, change and move: what has several lines counts once. A name that goes at one host and
/// comes at another is one thing that comes. A switch that is only at other hosts than before counts nothing: machines move.
fn counts(rows: &[PlanRow]) -> [(usize, &'static str); 5] {
    let mut subjects: std::collections::BTreeMap<(&str, Option<&str>), Fate> = Default::default();
    for row in rows.iter().filter(|row| row.sign != PlanSign::Moved || row.kind != "switch") {
        let fate = match (row.sign, &row.key) {
            (PlanSign::Added, None) if row.act == RETURN => Fate::Returned,
            (PlanSign::Added, None) => Fate::Added,
            (PlanSign::Removed, None) => Fate::Removed,
            (PlanSign::Moved, None) => Fate::Moved,
            (_, Some(_)) | (PlanSign::Changed, None) => Fate::Changed,
        };
        let name = row.name.as_ref().map(|name| name.as_str());
        let known = subjects.entry((row.kind.as_str(), name)).or_insert(fate);
        *known = fate.max(*known);
    }
    let count = |wanted| subjects.values().filter(|fate| **fate == wanted).count();
    [
        (count(Fate::Added), "added"),
        (count(Fate::Returned), "returned"),
        (count(Fate::Removed), "removed"),
        (count(Fate::Changed), "changed"),
        (count(Fate::Moved), "moved"),
    ]
}

fn counted(rows: &[PlanRow]) -> String {
    let parts: Vec<String> = counts(rows)
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    if parts.is_empty() { "names of guests only".to_owned() } else { parts.join(", ") }
}

fn reference(revision: &RevisionRef) -> Value {
    json!({ "number": revision.number, "digest": revision.digest })
}

/// A plan as one document.
pub fn plan_json(plan: &Plan, rows: &[PlanRow]) -> Value {
    let names =
        |names: &[mln_protocol::id::Name]| -> Vec<String> { names.iter().map(ToString::to_string).collect() };
    let change = |row: &PlanRow| {
        json!({
            "sign": sign(row.sign).to_string(),
            "kind": row.kind,
            "name": row.name.as_ref().map(|name| name.as_str()),
            "key": row.key,
            "from": row.from,
            "to": row.to,
            "act": row.act,
            "why": row.why,
            "service_hosts": names(&row.hosts),
        })
    };
    let counts: serde_json::Map<String, Value> =
        counts(rows).iter().map(|(count, word)| ((*word).to_owned(), Value::from(*count))).collect();
    json!({
        "owner": plan.owner.as_str(),
        "project": plan.project.as_str(),
        "revision": plan.head.as_ref().map(reference),
        "service_hosts": names(&plan.hosts),
        "changes": rows.iter().map(change).collect::<Vec<_>>(),
        "counts": counts,
    })
}

/// Returns where a project stands after a change.
pub fn revised(revised: &Revised) -> String {
    let standing = match revised.standing {
        RevisionStanding::Decided => String::new(),
        other => format!(", {}", other.word()),
    };
    let digest = short(&revised.head.digest);
    format!("{} at revision {} ({digest}{standing})\n", revised.project, revised.head.number)
}

/// An event: a project stands elsewhere now.
pub fn revised_json(revised: &Revised) -> Value {
    json!({
        "event": "revised",
        "owner": revised.owner.as_str(),
        "project": revised.project.as_str(),
        "revision": reference(&revised.head),
        "standing": revised.standing.word(),
    })
}

/// Returns the table of `log`.
pub fn log(rows: &[RevisionRow], layout: Layout) -> String {
    let columns = [
        table::number("Rev"),
        table::name("Digest"),
        table::name("Made"),
        table::name("State"),
        table::name("Changes"),
        table::text("Hosts"),
        table::text("By"),
        table::text("Why"),
    ];
    let lines = rows.iter().map(|row| {
        vec![
            row.revision.number.to_string(),
            short(&row.revision.digest).to_owned(),
            date_time(row.made_unix_ms),
            row.standing.word().to_owned(),
            changes(row),
            row.hosts.iter().map(|host| host.as_str()).collect::<Vec<_>>().join(","),
            row.author.clone(),
            row.reason.clone(),
        ]
    });
    table::with_titles(&columns, lines.collect(), layout.columns)
}

/// What a revision changed: `+` VMs that came, `-` that went, `>` that moved, `~` hosts whose part is another one.
fn changes(row: &RevisionRow) -> String {
    let parts = [('+', row.added), ('-', row.removed), ('>', row.moved), ('~', row.changed_hosts)];
    let parts: Vec<String> =
        parts.iter().filter(|(_, count)| *count > 0).map(|(sign, count)| format!("{sign}{count}")).collect();
    parts.join(" ")
}

/// `log`: an array of revisions.
pub fn log_json(rows: &[RevisionRow]) -> Value {
    rows.iter()
        .map(|row| {
            json!({
                "number": row.revision.number,
                "digest": row.revision.digest,
                "parent": row.parent,
                "standing": row.standing.word(),
                "author": row.author,
                "publisher": row.publisher,
                "made_unix_ms": row.made_unix_ms,
                "reason": row.reason,
                "service_hosts": row.hosts.iter().map(|host| host.as_str()).collect::<Vec<_>>(),
                "vms": row.vms,
                "added": row.added,
                "removed": row.removed,
                "moved": row.moved,
                "changed_hosts": row.changed_hosts,
            })
        })
        .collect()
}

/// Returns what people should know of a project on which not all agree, a sentence each.
pub fn unsettled(row: &UnsettledRow) -> Vec<String> {
    let project = format!("{}/{}", row.owner, row.project);
    let listed = |digests: &[String]| digests.iter().map(|one| short(one)).collect::<Vec<_>>().join(", ");
    let mut text = Vec::new();
    if !row.partial.is_empty() {
        text.push(format!(
            "{project}: {} is partial: no majority of its hosts has decided on it; settle it with `mlnctl resolve -p {project} {}`",
            listed(&row.partial),
            row.partial.last().map_or("", |digest| short(digest))
        ));
    }
    if !row.contested.is_empty() {
        text.push(format!(
            "{project}: {} contradict each other; choose one with `mlnctl resolve -p {project} HEAD`",
            listed(&row.contested)
        ));
    }
    if !row.stranded.is_empty() {
        let names: Vec<&str> = row.stranded.iter().map(|name| name.as_str()).collect();
        text.push(format!(
            "{project}: only a revision that was beaten has {}: kept as it is, and never deleted by itself",
            names.join(", ")
        ));
    }
    text
}
