//! `mlnctl grant` and `mlnctl revoke`.
//!
//! A user of a host has the host sign. Whoever comes over the network signs here, with their own key and behind their own
//! grants: what they give is never more than what they have, and goes when that goes.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use mln_link::Request;
use mln_link::message::{GrantOrder, GrantRow, Granted, Revoke as RevokeOrder};
use mln_protocol::id::{Name, PublicKey, unhex};
use mln_protocol::record::Record;
use mln_protocol::trust::{
    GrantOrder as Order, HostPattern, KeyPair, Limits, ProjectPattern, Revocation, Scope, Signed, Verb,
    issue, standing_of,
};
use mln_protocol::wire::{self, GrantText, decode_chain};

use super::token::verbs;
use crate::context::{Context, Home, now};
use crate::conversation::{Agent, Answer};
use crate::error::{CommandError, UsageError};
use crate::exit::Exit;
use crate::quantity::parse_duration_ms;
use crate::ui::screen::Screen;
use crate::ui::{json, rows};

/// The arguments of `grant`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  mlnctl key                                        # there: prints the key\n  mlnctl grant --to KEY --name anna --may control   # here: prints what `mlnctl ctx join` takes there\n  mlnctl grant --to anna --may all --projects 'anna/*' --memory 4096 --vms 8 --valid 30d\n  mlnctl grant list"
)]
pub struct Grant {
    #[command(subcommand)]
    list: Option<List>,
    /// To whom: the key that `mlnctl key` prints there, or the name of somebody who has a grant already
    #[arg(long, env = "MLN_TO", value_name = "KEY|NAME", required = true)]
    to: Option<String>,
    /// Under which name: the owner of what they build [default: the one that they have]
    #[arg(long, env = "MLN_GRANTEE", value_name = "OWNER", value_parser = Name::parse)]
    name: Option<Name>,
    /// What they may do: read, control, use, all, or verbs such as build,start,exec [default: all but grant]
    #[arg(long, visible_alias = "verbs", env = "MLN_MAY", value_name = "WORDS", value_delimiter = ',')]
    may: Vec<String>,
    /// With which projects: OWNER/PROJECT, `*` for any characters [default: all]
    #[arg(long, env = "MLN_PROJECTS", value_name = "PATTERNS", value_delimiter = ',', value_parser = ProjectPattern::parse)]
    projects: Vec<ProjectPattern>,
    /// On which hosts: names, `*` for any characters, or @GROUP [default: all]
    #[arg(long, env = "MLN_HOSTS", value_name = "PATTERNS", value_delimiter = ',', value_parser = HostPattern::parse)]
    hosts: Vec<HostPattern>,
    /// How much memory all VMs that are built with it may have together, in MiB
    #[arg(long, env = "MLN_MEMORY", value_name = "MIB")]
    memory: Option<u64>,
    /// How many VMs there may be
    #[arg(long, env = "MLN_VMS", value_name = "COUNT")]
    vms: Option<u64>,
    /// How large their disks may be together, in GiB; a disk of the template's size counts nothing
    #[arg(long, env = "MLN_DISK", value_name = "GIB")]
    disk: Option<u64>,
    /// For how long it holds [default: 90d, and never longer than your own]
    #[arg(long, env = "MLN_VALID", value_name = "TIME", value_parser = some_time)]
    valid: Option<u64>,
    /// How many further grants may follow it, one after the other; needs the verb grant
    #[arg(long, env = "MLN_PASS_ON", value_name = "COUNT", default_value_t = 0)]
    pass_on: u8,
}

/// What else there is to do about grants.
#[derive(Debug, Subcommand)]
enum List {
    /// List the grants of people: those that were given here, and those that were used
    List,
}

/// The arguments of `revoke`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mlnctl revoke anna --reason 'lost her laptop'\n  mlnctl revoke 1f2e3d4c                       # one grant, by the beginning of its id: mlnctl grant list\n  mlnctl revoke bergen --root-key root-1f2e.key  # with the mesh's root key: any grant, a host's too\n\nA grant ends at a host when the revocation reaches it; what was built with it stays."
)]
pub struct Revoke {
    /// Whose grants: a name, a key, or the beginning of a grant's id
    #[arg(value_name = "NAME|KEY|ID")]
    whom: String,
    /// Why, for people
    #[arg(long, env = "MLN_REASON", value_name = "TEXT", default_value = "")]
    reason: String,
    /// Sign with the mesh's root key, which is in this file
    #[arg(long, env = "MLN_ROOT_KEY", value_name = "FILE")]
    root_key: Option<PathBuf>,
}

/// Gives a grant, or lists those that there are.
pub async fn run(args: Grant, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    if let Some(List::List) = args.list {
        let mut answer = agent.ask(&Request::Grants, screen).await?;
        // Hosts are listed by `peers`.
        answer.grants.retain(|row| row.verbs & Verb::Join.bit() == 0);
        screen.answer(
            |layout| rows::grants(&answer.grants, now().unix_ms, layout),
            || json::grants(&answer.grants),
        );
        return Ok(screen.troubles(&answer));
    }
    let doubts = doubts(&args, agent, screen).await?;
    let mut answer = match agent.context().cloned() {
        None => agent.ask(&Request::Grant(order(args)?), screen).await?,
        Some(context) => {
            let granted = sign(args, &context, agent, screen).await?;
            Answer { granted: Some(granted), ..Answer::default() }
        }
    };
    if let Some(granted) = &answer.granted {
        screen.answer(|_layout| format!("{}\n", granted.text), || json::granted(granted));
        let known = agent.ask(&Request::Grants, screen).await?.grants;
        answer.warnings.extend(doubts);
        answer.warnings.extend(wider(&granted.row, &known, now().unix_ms));
    }
    Ok(screen.troubles(&answer))
}

/// Returns what about a grant is hardly meant: nothing is refused for it.
async fn doubts(args: &Grant, agent: &Agent, screen: &Screen) -> Result<Vec<String>, CommandError> {
    let mut doubts = Vec::new();
    if args.memory == Some(0) {
        doubts.push("with --memory 0 nothing can be built".to_owned());
    }
    if args.vms == Some(0) {
        doubts.push("with --vms 0 nothing can be built".to_owned());
    }
    if args.hosts.is_empty() {
        return Ok(doubts);
    }
    let hosts = agent.ask(&Request::DaemonStatus { group: None }, screen).await?.daemon_status;
    let nowhere = args
        .hosts
        .iter()
        .filter(|pattern| !hosts.iter().any(|host| pattern.matches(&host.name, &host.groups)));
    doubts.extend(nowhere.map(|pattern| {
        let known: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
        format!("--hosts {pattern}: no host is called that now (there are {})", known.join(", "))
    }));
    Ok(doubts)
}

/// Returns what is to be known of grants that somebody has besides a new one, and that allow more: they hold as before.
fn wider(new: &GrantRow, known: &[GrantRow], now_unix_ms: u64) -> Vec<String> {
    let holds = |row: &&GrantRow| {
        row.key == new.key
            && row.id != new.id
            && row.revoked.is_none()
            && row.ends_unix_ms.is_none_or(|ends| ends > now_unix_ms)
    };
    let allows_more = |row: &&GrantRow| !is_within(row, new);
    let text = |row: &GrantRow| {
        let id = row.id.get(..8).unwrap_or(&row.id);
        format!(
            "{} has a grant still that allows more, {id}: it holds besides this one; to take it back: mlnctl revoke {id}",
            row.name
        )
    };
    known.iter().filter(holds).filter(allows_more).map(text).collect()
}

/// Whether all that a grant allows is allowed by another one, but for how long. Patterns are compared as they are written.
fn is_within(row: &GrantRow, other: &GrantRow) -> bool {
    let listed = |of: &[String], all: &[String]| {
        all.is_empty() || (!of.is_empty() && of.iter().all(|pattern| all.contains(pattern)))
    };
    let limited = |of: Option<u64>, by: Option<u64>| by.is_none_or(|by| of.is_some_and(|of| of <= by));
    row.verbs & !other.verbs == 0
        && listed(&row.projects, &other.projects)
        && listed(&row.hosts, &other.hosts)
        && limited(row.memory_mib, other.memory_mib)
        && limited(row.vms, other.vms)
        && limited(row.disk_bytes, other.disk_bytes)
        && row.passes <= other.passes
}

/// Parses how long a grant holds: what holds for no time at all is nothing that anybody means.
fn some_time(text: &str) -> Result<u64, String> {
    match parse_duration_ms(text) {
        Ok(0) => {
            Err("a grant that holds for no time is none; without --valid it holds for 90 days".to_owned())
        }
        Ok(ms) => Ok(ms),
        Err(error) => Err(error.to_string()),
    }
}

fn order(args: Grant) -> Result<GrantOrder, CommandError> {
    Ok(GrantOrder {
        to: args.to.unwrap_or_default(),
        name: args.name,
        verbs: verbs(&args.may).map_err(CommandError::Usage)?,
        projects: args.projects.iter().map(ToString::to_string).collect(),
        hosts: args.hosts.iter().map(ToString::to_string).collect(),
        memory_mib: args.memory,
        vms: args.vms,
        disk_bytes: args.disk.map(|gib| gib.saturating_mul(1 << 30)),
        valid_ms: args.valid,
        passes: args.pass_on,
    })
}

/// Signs a grant with this user's key, behind the grants of a context.
async fn sign(
    args: Grant,
    context: &Context,
    agent: &Agent,
    screen: &Screen,
) -> Result<Granted, CommandError> {
    let to = args.to.clone().unwrap_or_default();
    let known = agent.ask(&Request::Grants, screen).await?.grants;
    let meant: Vec<&GrantRow> = known.iter().filter(|row| row.name == to || row.key == to).collect();
    let key = PublicKey::from_hex(&to).or_else(|| {
        let first = meant.first()?;
        let same = meant.iter().all(|row| row.key == first.key);
        PublicKey::from_hex(&first.key).filter(|_| same)
    });
    let subject = key.ok_or_else(|| CommandError::Usage(UsageError::Grantee(to.clone())))?;
    let held = || meant.first().and_then(|row| Name::parse(&row.name).ok());
    let name = args.name.clone().or_else(held).ok_or(CommandError::Usage(UsageError::NoGranteeName))?;
    let wanted = order(args)?;
    let pattern = |_| CommandError::Usage(UsageError::Grantee(to.clone()));
    let projects = wanted.projects.iter().map(|text| ProjectPattern::parse(text));
    let hosts = wanted.hosts.iter().map(|text| HostPattern::parse(text));
    let order = Order {
        subject,
        name,
        verbs: Verb::ALL.into_iter().filter(|verb| wanted.verbs & verb.bit() != 0).collect(),
        passes: wanted.passes,
        valid_ms: wanted.valid_ms,
        scope: Scope {
            projects: projects.collect::<Result<_, _>>().map_err(pattern)?,
            hosts: hosts.collect::<Result<_, _>>().map_err(pattern)?,
            limits: Limits { memory_mib: wanted.memory_mib, vms: wanted.vms, disk_bytes: wanted.disk_bytes },
        },
    };
    let keys = Home::of_user()?.key()?;
    let chain =
        issue(&keys, context.root, &context.chain, &order, now()).map_err(CommandError::NotGranted)?;
    let addresses = context.addresses.clone();
    let standing = standing_of(context.root, &chain).map_err(CommandError::Chain)?;
    let text = GrantText { root: context.root, chain: chain.clone(), addresses }.to_text();
    let row = GrantRow {
        id: standing.links.last().map(|link| link.digest.to_string()).unwrap_or_default(),
        name: order.name.to_string(),
        key: subject.to_string(),
        issuer: keys.public().to_string(),
        verbs: wanted.verbs,
        projects: wanted.projects,
        hosts: wanted.hosts,
        memory_mib: wanted.memory_mib,
        vms: wanted.vms,
        disk_bytes: wanted.disk_bytes,
        ends_unix_ms: standing.not_after_unix_ms,
        passes: order.passes,
        revoked: None,
        chain: wire::encode_chain(&chain),
    };
    Ok(Granted { text, row })
}

/// Takes grants back.
pub async fn revoke(args: Revoke, agent: &Agent, screen: &Screen) -> Result<Exit, CommandError> {
    let Revoke { whom, reason, root_key } = args;
    let keys = match (&root_key, agent.context()) {
        (Some(path), _) => Some(read_key(path)?),
        (None, Some(_)) => Some(Home::of_user()?.key()?),
        (None, None) => None,
    };
    let Some(keys) = keys else {
        let answer = agent.ask(&Request::Revoke(RevokeOrder { whom, reason }), screen).await?;
        show_taken(&answer.grants, screen);
        return Ok(screen.troubles(&answer));
    };
    let known = agent.ask(&Request::Grants, screen).await?;
    let meant = |row: &&GrantRow| {
        row.name == whom || row.key == whom || (whom.len() >= 8 && row.id.starts_with(&whom))
    };
    let chains: Vec<Vec<Signed>> =
        known.grants.iter().filter(meant).filter_map(|row| decode_chain(&row.chain).ok()).collect();
    if chains.is_empty() {
        return Err(CommandError::Usage(UsageError::NoGrantOf(whom)));
    }
    let mut taken = Vec::new();
    let mut exit = Exit::Done;
    for chain in chains {
        let revocation = Revocation { chain, made_unix_ms: now().unix_ms, reason: reason.clone() };
        let record = wire::sign_record(&keys, Record::Revocation(revocation));
        let answer = agent.ask(&Request::Revocation(record.signed().to_bytes()), screen).await?;
        taken.extend(answer.grants.iter().cloned());
        let ended = screen.troubles(&answer);
        if ended != Exit::Done {
            exit = ended;
        }
    }
    show_taken(&taken, screen);
    Ok(exit)
}

/// Shows the grants that were taken back; where none was, a refusal says all there is to say.
fn show_taken(taken: &[GrantRow], screen: &Screen) {
    let table =
        |layout| if taken.is_empty() { String::new() } else { rows::grants(taken, now().unix_ms, layout) };
    screen.answer(table, || json::grants(taken));
}

fn read_key(path: &PathBuf) -> Result<KeyPair, CommandError> {
    let file = |source| CommandError::File { path: path.clone(), source };
    let text = std::fs::read_to_string(path).map_err(file)?;
    let secret = unhex(text.trim()).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let damaged = || file(std::io::Error::other("it holds no key"));
    Ok(KeyPair::from_secret(secret.ok_or_else(damaged)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, verbs: u32) -> GrantRow {
        GrantRow {
            id: id.repeat(8),
            name: "anna".to_owned(),
            key: "k".to_owned(),
            issuer: "oslo".to_owned(),
            verbs,
            projects: Vec::new(),
            hosts: Vec::new(),
            memory_mib: None,
            vms: None,
            disk_bytes: None,
            ends_unix_ms: Some(1000),
            passes: 0,
            revoked: None,
            chain: Vec::new(),
        }
    }

    #[test]
    fn a_grant_that_allows_more_is_told_of_when_a_narrower_one_is_given() {
        let narrow = GrantRow { projects: vec!["anna/*".to_owned()], memory_mib: Some(64), ..row("n", 1) };
        let told = wider(&narrow, &[row("w", 3), narrow.clone()], 0);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].contains("anna has a grant still") && told[0].contains("mlnctl revoke wwwwwwww"),
            "{told:?}"
        );
        let none: [String; 0] = [];
        assert_eq!(wider(&row("n", 3), &[row("w", 1), narrow.clone()], 0), none, "they allow no more");
        assert_eq!(wider(&narrow, &[row("w", 3)], 1000), none, "it has ended");
        let other = GrantRow { key: "another".to_owned(), ..row("w", 3) };
        assert_eq!(wider(&narrow, &[other], 0), none, "it is somebody else's");
        let less = GrantRow { memory_mib: Some(32), ..narrow.clone() };
        assert_eq!(wider(&narrow, &[GrantRow { id: "l".to_owned(), ..less }], 0), none);
    }

    #[test]
    fn a_grant_for_no_time_is_refused() {
        assert_eq!(some_time("1d"), Ok(86_400_000));
        assert!(some_time("0s").is_err_and(|why| why.contains("no time")));
        assert!(some_time("soon").is_err());
    }
}
