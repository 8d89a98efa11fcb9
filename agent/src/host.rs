//! The agent of a service host, put together: from the command line to the running event loop.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{CommandFactory, Parser};
use libp2p::Multiaddr;
use mln_protocol::id::{Digest, Label, Name};
use mln_protocol::model::{Platform as PlatformKind, Rate};
use mln_protocol::node::{Input, Node, NodeConfig, StoredState};
use mln_protocol::record::Record;
use mln_protocol::trust::Role;
use mln_protocol::wire::Token;
use nix::unistd::{Gid, Uid};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use crate::args::{Arguments, Command, DataArguments, HostArguments, RecoveryArguments, RunArguments};
use crate::blob::Blobs;
use crate::clock::Clock;
use crate::config::{CONFIG_FILE, Config};
use crate::control::{CONTROL_COMMANDS_WAITING_MAX, ControlSocket, DataFolderLock, LockError};
use crate::departure::{self, Departure};
use crate::disk::transfer::{Transfers, Works};
use crate::doctor::{self, Place};
use crate::effect;
use crate::event_loop::{EventLoop, RESULTS_MAX, Sources};
use crate::events::{Deriver, EventLog};
use crate::export::Imports;
use crate::hook::HookRunner;
use crate::identity::{self, Identity};
use crate::image::ImageStore;
use crate::image::exchange::Exchange;
use crate::mesh::{self, MeshConfig};
use crate::moving;
use crate::operations::Operations;
use crate::owner;
use crate::platform::uml::{Uml, UmlConfig};
use crate::platform::{Observation, Platform, VmEvent};
use crate::ports::RememberedPorts;
use crate::request::{Guests, Waiters};
use crate::snapshot::Snapshots;
use crate::store::{self, AddressBook, Store, Writer};
use crate::store_health::StoreHealth;
use crate::switches::Switches;
use crate::version::VERSION;

/// The exit code for a command line that can't be understood, as of `mlnctl`.
const USAGE: u8 = 64;

/// Parses the command line and does what it says; returns the exit code.
pub fn main() -> anyhow::Result<ExitCode> {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and versions are asked for; whatever else is no command line of this program.
            let code = if error.use_stderr() { USAGE } else { 0 };
            error.print().context("nowhere to say what is wrong with the command line")?;
            return Ok(ExitCode::from(code));
        }
    };
    let usual = match arguments.command {
        // mDNS logs an error for each interface that has no multicast.
        Command::Run(_) => "info,libp2p_mdns=off",
        Command::Init { .. }
        | Command::Join { .. }
        | Command::Leave(_)
        | Command::Confirm(_)
        | Command::Doctor(_)
        | Command::Manual { .. } => "warn",
    };
    let filter = EnvFilter::try_from_env("MLN_LOG").unwrap_or_else(|_| EnvFilter::new(usual));
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).with_ansi(false).init();
    // What an agent writes holds keys, passwords and disks: it is for its owner alone, where nothing says otherwise.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    match arguments.command {
        Command::Init { mesh, host, recovery } => init(&mesh, &host, &recovery),
        Command::Join { token, host } => join(&token, &host),
        Command::Leave(data) => leave(&data),
        Command::Confirm(data) => confirm(&data),
        Command::Doctor(data) => examine(&data),
        Command::Manual { into } => manual(&into),
        Command::Run(run) => runtime()?.block_on(run_agent(run)),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("the runtime can't be started")
}

fn data_folder(arguments: &DataArguments) -> anyhow::Result<PathBuf> {
    match &arguments.data {
        Some(folder) => Ok(folder.clone()),
        None => {
            let uid = rustix::process::getuid().as_raw();
            mln_link::place::data_folder(uid, |variable| std::env::var_os(variable))
                .context("there is no home folder; say where with --data DIR")
        }
    }
}

/// Refuses that root runs the agent of somebody else: what it writes there, that one's own agent could not read.
fn refuse_as_root(folder: &Path) -> anyhow::Result<()> {
    let owner = std::fs::metadata(folder).with_context(|| folder.display().to_string())?.uid();
    if nix::unistd::geteuid().is_root() && owner != 0 {
        bail!(
            "{} belongs to the user with number {owner}, who runs the agent there: systemctl start mlnd, \
             or name another folder with --data DIR",
            folder.display()
        );
    }
    Ok(())
}

/// Gives up root's rights for those of a folder's owner: what root makes in the folder of the system's agent, that
/// agent must be able to read.
fn become_owner(folder: &Path) -> anyhow::Result<()> {
    let Ok(owner) = std::fs::metadata(folder) else { return Ok(()) };
    let (uid, gid) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
    if !nix::unistd::geteuid().is_root() || uid.is_root() {
        return Ok(());
    }
    let become_it = || {
        nix::unistd::setgroups(&[gid])?;
        nix::unistd::setgid(gid)?;
        nix::unistd::setuid(uid)
    };
    become_it().with_context(|| format!("becoming the owner of {}", folder.display()))
}

fn host_name(host: &HostArguments) -> anyhow::Result<Name> {
    Name::parse(&host.name).with_context(|| format!("{:?} can't be a host's name", host.name))
}

fn init(mesh: &str, host: &HostArguments, recovery: &RecoveryArguments) -> anyhow::Result<()> {
    let (folder, name) = (data_folder(&host.data)?, host_name(host)?);
    let root = match &recovery.root_key {
        Some(path) => Some(identity::kept_root_key(path).context("this is no copy of a root key")?),
        None => None,
    };
    let known = recovery.peers.as_ref().map(|path| AddressBook::at(path).load());
    if known.as_ref().is_some_and(Vec::is_empty) {
        bail!("--peers names no member; give it the file `peers` from the data folder of any member");
    }
    become_owner(&folder)?;
    let is_recovered = root.is_some();
    let identity = Identity::init(&folder, mesh, &name, root)?;
    if let Some(known) = known {
        AddressBook::of(&folder).save(&known)?;
    }
    if is_recovered {
        return say(&format!(
            "{mesh}: {name} is a first host of it once more, key {}\nnext: mlnd run --data {}\n",
            identity.keys.public().short(),
            folder.display()
        ));
    }
    say(&format!(
        "{mesh}: {name} is its first host, key {}\n\
         next: mlnd run --data {folder}\n\
         then, for each further host: mlnctl --peer {folder}/mlnd.sock token new\n\
         keep a copy of {folder}/root.key in a safe place: whoever has it owns the mesh\n",
        identity.keys.public().short(),
        folder = folder.display(),
    ))
}

fn join(token: &str, host: &HostArguments) -> anyhow::Result<()> {
    let (folder, name) = (data_folder(&host.data)?, host_name(host)?);
    become_owner(&folder)?;
    let token =
        Token::parse(token.trim()).context("this is not a token; make one with `mlnctl token new`")?;
    if let Some(known) = Identity::known(&folder, &name)? {
        if known.root != token.root {
            bail!("{} belongs to another mesh already; nothing was changed", folder.display());
        }
        let what = match heed_addresses(&folder, &token)? {
            Addresses::Known => "",
            Addresses::TakenUp => "; where to reach the host that made the token is taken up",
            Addresses::AgentRuns => {
                "; its agent runs, so where to reach the host that made the token is not taken up: stop it, and say this again"
            }
        };
        return say(&format!(
            "{name} belongs to this mesh already{what}\nnext: mlnd run --data {}\n",
            folder.display()
        ));
    }
    identity::make_folder(&folder)?;
    let keys = identity::host_key(&folder)?;
    let joining = mesh::join(&token, Role::Host, &name, &keys);
    let membership = runtime()?.block_on(joining).map_err(|error| {
        let hint = match &error {
            mesh::JoinError::OtherRole { .. } => {
                "a token for a host comes from: mlnctl token new; one for an operator \
                 is redeemed by: mlnctl ctx join TOKEN"
            }
            mesh::JoinError::Refused(mln_protocol::wire::Refusal::Expired) => {
                "make a new one: mlnctl token new"
            }
            _ => "",
        };
        let error = anyhow::Error::new(error).context("joining did not work");
        if hint.is_empty() { error } else { error.context(hint) }
    })?;
    // The addresses first: a host with a membership and nobody to call would wait for ever.
    AddressBook::of(&folder).save(&membership.known)?;
    let identity = Identity { keys, name, root: membership.root, chain: membership.chain, mesh: None };
    identity.save(&folder)?;
    say(&format!(
        "{} has joined, key {}\nnext: mlnd run --data {}\n",
        identity.name,
        identity.keys.public().short(),
        folder.display()
    ))
}

/// What became of the addresses in a token for a mesh that a host belongs to already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Addresses {
    Known,
    TakenUp,
    /// Its address book is in use.
    AgentRuns,
}

/// Notes where the host that made a token says that it is: the members may have moved since, all of them. Whether it is a
/// member is seen when it is called.
fn heed_addresses(folder: &Path, token: &Token) -> anyhow::Result<Addresses> {
    let book = AddressBook::of(folder);
    let mut known = book.load();
    let at = known.iter().position(|(key, _)| *key == token.issuer);
    let before = at.map(|at| known.remove(at).1).unwrap_or_default();
    let new: Vec<Multiaddr> = token.addresses.iter().filter_map(|text| text.parse().ok()).collect();
    if new.iter().all(|address| before.contains(address)) {
        return Ok(Addresses::Known);
    }
    let _lock = match DataFolderLock::take(folder) {
        Ok(lock) => lock,
        Err(LockError::Taken(_)) => return Ok(Addresses::AgentRuns),
        Err(error) => return Err(error.into()),
    };
    let before = before.into_iter().filter(|address| !new.contains(address)).collect::<Vec<_>>();
    known.push((token.issuer, new.into_iter().chain(before).collect()));
    book.save(&known)?;
    Ok(Addresses::TakenUp)
}

fn leave(arguments: &DataArguments) -> anyhow::Result<()> {
    let folder = data_folder(arguments)?;
    become_owner(&folder)?;
    match departure::leave(&folder)? {
        Departure::NoMember => say(&format!("{} belongs to no mesh\n", folder.display())),
        Departure::Left { root_key: None } => say(&format!(
            "{} belongs to no mesh any more; the others show this host as off\n",
            folder.display()
        )),
        Departure::Left { root_key: Some(path) } => say(&format!(
            "{} belongs to no mesh any more; the others show this host as off\n\
             {} is the root key of the mesh: keep it in a safe place, or remove it if there are copies\n",
            folder.display(),
            path.display()
        )),
    }
}

fn confirm(arguments: &DataArguments) -> anyhow::Result<()> {
    let folder = data_folder(arguments)?;
    become_owner(&folder)?;
    let identity = Identity::load(&folder)?;
    let _lock = DataFolderLock::take(&folder).context("the agent must be stopped first")?;
    owner::confirm(&folder)?;
    say(&format!(
        "{} is {} from now on, key {}\nnext: mlnd run --data {}\n",
        folder.display(),
        identity.name,
        identity.keys.public().short(),
        folder.display()
    ))
}

fn examine(arguments: &DataArguments) -> anyhow::Result<()> {
    let rows = doctor::examine_alone(&data_folder(arguments)?);
    let lines: String = rows.iter().map(|row| row.to_json_line() + "\n").collect();
    say(&lines)
}

fn manual(into: &Path) -> anyhow::Result<()> {
    clap_mangen::generate_to(Arguments::command(), into).with_context(|| into.display().to_string())
}

fn say(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("standard output")
}

async fn run_agent(arguments: RunArguments) -> anyhow::Result<()> {
    let folder = data_folder(&arguments.data)?;
    let identity = Arc::new(Identity::load(&folder).map_err(|error| {
        let next = error.next_step();
        anyhow::Error::new(error).context(next)
    })?);
    let folder = folder.canonicalize().with_context(|| folder.display().to_string())?;
    refuse_as_root(&folder)?;
    let mut config = Config::read(&arguments.config.unwrap_or_else(|| folder.join(CONFIG_FILE)))?;
    if !arguments.listen.is_empty() {
        config.listen = arguments.listen;
    }
    let lock = DataFolderLock::take(&folder)?;
    owner::check(&folder)?;
    let opened = Store::open(&folder, identity.keys.public(), identity.root).map_err(|error| {
        let next = error.next_step();
        anyhow::Error::new(error).context(next)
    })?;
    let store::Opened { store, state: stored, findings } = opened;
    let blobs = Blobs::open(&folder)?;
    let images = ImageStore::open(&folder.join("images"))?;
    let imports = imports(&folder, &stored, &images);
    blobs.retain(&used_blobs(&stored).into_iter().chain(imports.disks()).collect());
    let uml = uml_config(&folder, &config)?;
    let place = Place {
        data: folder.clone(),
        uml: uml.clone(),
        control_group: config.control_group.clone(),
        config_error: None,
    };
    let (platform, mut platform_events) = Uml::open(uml, images.clone())?;
    let platform: Arc<dyn Platform> = Arc::new(platform);
    let deriver = Deriver::new(identity.keys.public(), identity.name.clone(), &stored.records);
    let node = node(&identity, &config, &*platform, stored).await?;

    let (results, results_receiver) = mpsc::channel(RESULTS_MAX);
    let writer = Writer::start(store, results.clone()).context("a thread can't be started")?;
    let book = AddressBook::of(&folder);
    let (listen, named) = resolve_listen(&config.listen).await?;
    let listen = RememberedPorts::of(&folder).settle(listen);
    let mut reach = config.reach.clone();
    // Who says where it listens by a name wants to be known by it.
    reach.announce.extend(named);
    let (mesh, mesh_events) = mesh::start(MeshConfig {
        keys: identity.keys.clone(),
        root: identity.root,
        chain: identity.chain.clone(),
        listen,
        known: book.load(),
        reach,
    })
    .context("a host has one agent for each port; see `listen` in config.toml, or --listen")?;
    let (observations, early) = observe(&*platform, &mut platform_events).await?;
    moving::drop_incomplete(&node, &*platform).await;
    let first = Input::Start { found: observations.into_iter().map(effect::found).collect() };

    let socket = ControlSocket::bind(&lock, config.control_group.as_deref()).await?;
    info!(host = %identity.name, socket = %socket.path().display(), "started");
    let (commands, commands_receiver) = mpsc::channel(CONTROL_COMMANDS_WAITING_MAX);
    tokio::spawn(socket.run(commands.clone()));
    let sources = Sources {
        commands: commands_receiver,
        mesh: mesh_events,
        platform: platform_events,
        results: results_receiver,
        stop: signal(SignalKind::terminate()).context("signals")?,
        interrupt: signal(SignalKind::interrupt()).context("signals")?,
    };
    let exchange = Exchange::new(
        identity.keys.public(),
        images,
        mesh.clone(),
        platform.clone(),
        config.image_limit_bytes,
    );
    let snapshots = Snapshots::open(&folder, platform.clone());
    let bits_per_s = config.move_bandwidth.map(Rate::bits_per_s);
    let transfers = Transfers::new(mesh.clone(), platform.clone(), exchange.clone(), bits_per_s);
    let host_name = identity.name.clone();
    let event_loop = EventLoop {
        switches: Switches::start(node.key(), mesh.clone()),
        node,
        clock: Clock::start(),
        identity,
        mesh,
        book,
        writer,
        platform,
        exchange,
        transfers,
        works: Works::default(),
        snapshots,
        blobs,
        hooks: HookRunner::new(&folder, host_name),
        operations: Operations::default(),
        deriver,
        events: EventLog::open(&folder),
        place,
        store: StoreHealth::new(findings),
        preparing: 0,
        imports,
        waiters: Waiters::default(),
        guests: Guests::default(),
        connected: BTreeSet::new(),
        standings: BTreeMap::new(),
        results,
        commands,
        own: std::collections::VecDeque::new(),
    };
    event_loop.run(sources, first, early).await.context("the agent has stopped")
}

/// Returns where to listen with names looked up, and the addresses that had one.
async fn resolve_listen(listen: &[Multiaddr]) -> anyhow::Result<(Vec<Multiaddr>, Vec<Multiaddr>)> {
    let mut addresses = Vec::new();
    for address in listen {
        addresses.extend(mln_door::names::resolve(address).await.context("where to listen")?);
    }
    let named = listen.iter().filter(|address| mln_door::names::has_name(address)).cloned().collect();
    Ok((addresses, named))
}

/// Finds this host's VMs, before anybody can ask for anything; returns also what those that run said meanwhile.
async fn observe(
    platform: &dyn Platform,
    events: &mut mpsc::Receiver<VmEvent>,
) -> anyhow::Result<(Vec<Observation>, Vec<VmEvent>)> {
    let mut early = Vec::new();
    let observing = platform.observe_all();
    tokio::pin!(observing);
    loop {
        // The platform waits for its events to be taken, so they are taken while it looks. Both arms are
        // cancel-safe: the one future is kept, and a channel's receive loses nothing.
        tokio::select! {
            found = &mut observing => {
                return Ok((found.context("the virtual machines of this host")?, early));
            }
            Some(event) = events.recv() => early.push(event),
        }
    }
}

async fn node(
    identity: &Identity,
    config: &Config,
    platform: &dyn Platform,
    stored: StoredState,
) -> anyhow::Result<Node> {
    let probe = platform.probe().await;
    let platforms = match &probe.obstacle {
        None => vec![PlatformKind::Uml],
        Some(obstacle) => {
            warn!(obstacle, "this host can't run User-Mode Linux");
            Vec::new()
        }
    };
    let seed = identity::random()?;
    let node_config = NodeConfig {
        groups: config.groups.clone(),
        platforms,
        memory_limit: config.memory_limit(probe.memory_total),
        hook_owners: config.hook_owners.clone(),
        agent_version: VERSION.to_owned(),
        seed: u64::from_le_bytes(seed[..8].try_into().expect("eight bytes")),
        ..NodeConfig::new(identity.keys.clone(), identity.name.clone(), identity.chain.clone())
    };
    Ok(Node::new(node_config, stored))
}

/// Returns what guests of an agent with this folder and configuration run with.
pub(crate) fn uml_config(folder: &Path, config: &Config) -> anyhow::Result<UmlConfig> {
    let mut uml = UmlConfig::usual(folder).context("the path of this program")?;
    if let Some(kernel) = &config.kernel {
        uml.kernel.clone_from(kernel);
    }
    if let Some(guest_agent) = &config.guest_agent {
        uml.guest_agent.clone_from(guest_agent);
    }
    uml.shared_folders.clone_from(&config.shared_folders);
    if let Some(memory_folder) = &config.memory_folder {
        uml.memory_folders = vec![memory_folder.clone()];
    }
    Ok(uml)
}

/// Returns what imports have brought that other hosts may still want. Of one whose project was never decided nothing has left
/// this host, and nothing stays.
fn imports(folder: &Path, stored: &StoredState, images: &ImageStore) -> Imports {
    let mut imports = Imports::open(folder);
    let decided: BTreeSet<&Label> = stored
        .records
        .iter()
        .filter_map(|record| match &***record {
            Record::Commit(commit) => Some(&commit.revision.label),
            _ => None,
        })
        .collect();
    let undecided: Vec<Label> =
        imports.projects().filter(|label| !decided.contains(label)).cloned().collect();
    for label in undecided {
        info!(%label, "nothing came of its import, and nothing is kept of it");
        imports.failed(&label, images);
    }
    imports
}

/// Returns the contents that may be wanted: of files, and what projects were submitted as. The node knows better later.
fn used_blobs(stored: &StoredState) -> BTreeSet<Digest> {
    let files =
        stored.fragments.iter().flat_map(|(_, fragment)| fragment.blobs.iter().map(|blob| blob.digest));
    let submitted = stored.records.iter().filter_map(|record| match &***record {
        Record::Commit(commit) => Some(commit.revision.definition),
        _ => None,
    });
    files.chain(submitted).collect()
}
