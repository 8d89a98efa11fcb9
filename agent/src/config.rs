//! What an agent is told: `config.toml` in its data folder, and what the command line puts in its place.

use std::path::{Path, PathBuf};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use mln_protocol::id::Name;
use mln_protocol::model::{MemoryMib, Rate};
use mln_protocol::node::{HookOwner, Vouched};
use serde::Deserialize;

use crate::mesh::Reach;

/// The configuration file's name in the data folder.
pub(crate) const CONFIG_FILE: &str = "config.toml";

/// Where an agent listens unless it is told otherwise.
const LISTEN: [&str; 2] = ["/ip4/0.0.0.0/tcp/7117", "/ip4/0.0.0.0/udp/7117/quic-v1"];

/// What is left to the host itself of its memory, in eighths.
const HOST_SHARE_EIGHTHS: u64 = 2;

/// What an agent is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// The groups that the host counts itself to.
    pub groups: Vec<Name>,
    /// The memory that VMs may have here in all; none is three quarters of the machine's.
    pub memory: Option<MemoryMib>,
    /// The group whose members may use the control socket.
    pub control_group: Option<String>,
    /// Where to listen.
    pub listen: Vec<Multiaddr>,
    /// The program that runs inside guests; none is `mlnd-guest` beside this one.
    pub guest_agent: Option<PathBuf>,
    /// The User-Mode Linux kernel; none is `linux.uml` or `linux` on the path.
    pub kernel: Option<PathBuf>,
    /// Where the files are that are guests' memory; none is `/dev/shm`.
    pub memory_folder: Option<PathBuf>,
    /// How it reaches others and is reached, beyond where it listens.
    pub reach: Reach,
    /// What the image store may take on the disk, in bytes; none is what the disk has.
    pub image_limit_bytes: Option<u64>,
    /// How fast the disks of VMs that move may leave this host, all together; none is as fast as they can.
    pub move_bandwidth: Option<Rate>,
    /// The folders whose images and folders VMs may mount.
    pub shared_folders: Vec<PathBuf>,
    /// Those whose projects' hooks are run here.
    pub hook_owners: Vec<HookOwner>,
}

/// Why there is no configuration. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file can't be read.
    #[error("can't read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it should be; the source says where.
    #[error("{} is not right", path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value is not of its kind.
    #[error("{key} in the configuration: {value:?} is not {expected}")]
    Value {
        /// Of which key.
        key: &'static str,
        /// The value.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
}

/// The file as people write it.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct ConfigFile {
    groups: Vec<String>,
    memory_mib: Option<u32>,
    control_group: Option<String>,
    listen: Vec<String>,
    guest_agent: Option<PathBuf>,
    kernel: Option<PathBuf>,
    memory_folder: Option<PathBuf>,
    mdns: Option<bool>,
    #[serde(default)]
    relay: bool,
    #[serde(default)]
    relays: Vec<String>,
    #[serde(default)]
    announce: Vec<String>,
    image_limit_mib: Option<u64>,
    move_bandwidth: Option<String>,
    share: ShareSection,
    hooks: HooksSection,
}

/// What VMs may have of the host's files.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct ShareSection {
    folders: Vec<PathBuf>,
}

/// What projects may run on the host itself.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct HooksSection {
    owners: Vec<String>,
}

impl Config {
    /// Reads the configuration file at `path`; a data folder without one has all defaults.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::parse(path, ""),
            Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
        }
    }

    /// Returns what counts where nothing is said.
    pub(crate) fn usual() -> Self {
        Self::parse(Path::new(CONFIG_FILE), "").expect("the defaults are addresses that parse")
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let file: ConfigFile = toml::from_str(text)
            .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        let group = |text: String| {
            Name::parse(&text).map_err(|_| ConfigError::Value {
                key: "groups",
                value: text,
                expected: "a name",
            })
        };
        let address = |text: String| {
            let expected = "a multiaddress such as /ip4/0.0.0.0/tcp/7117";
            text.parse().map_err(|_| ConfigError::Value { key: "listen", value: text, expected })
        };
        let relay = |text: String| {
            let address: Option<Multiaddr> = text.parse().ok();
            let ends_with_peer = |a: &Multiaddr| matches!(a.iter().last(), Some(Protocol::P2p(_)));
            let expected =
                "an address with the relay's peer id at its end: /ip4/192.0.2.1/tcp/7117/p2p/12D3Koo…";
            address.filter(ends_with_peer).ok_or(ConfigError::Value { key: "relays", value: text, expected })
        };
        let announced = |text: String| {
            let expected = "an address such as /dns4/host.example/tcp/7117";
            text.parse().map_err(|_| ConfigError::Value { key: "announce", value: text, expected })
        };
        let shared = |path: PathBuf| {
            let is_plain = path.is_absolute()
                && path.components().all(|part| part != std::path::Component::ParentDir)
                && path != Path::new("/");
            let expected = "the absolute path of a folder";
            let value = path.display().to_string();
            if is_plain {
                Ok(path)
            } else {
                Err(ConfigError::Value { key: "share.folders", value, expected })
            }
        };
        let owner = |text: String| {
            let expected =
                "an owner as this host knows them (anna), or as another one does (anna@oslo, anna@*)";
            hook_owner(&text).ok_or(ConfigError::Value { key: "hooks.owners", value: text, expected })
        };
        let bandwidth = |text: String| {
            let expected = "a rate such as 50Mbit";
            Rate::parse(&text).ok_or(ConfigError::Value { key: "move_bandwidth", value: text, expected })
        };
        let listen = if file.listen.is_empty() { LISTEN.map(str::to_owned).to_vec() } else { file.listen };
        Ok(Self {
            groups: file.groups.into_iter().map(group).collect::<Result<_, _>>()?,
            memory: file.memory_mib.map(MemoryMib),
            control_group: file.control_group,
            listen: listen.into_iter().map(address).collect::<Result<_, _>>()?,
            guest_agent: file.guest_agent,
            kernel: file.kernel,
            memory_folder: file.memory_folder,
            reach: Reach {
                mdns: file.mdns.unwrap_or(true),
                relay: file.relay,
                relays: file.relays.into_iter().map(relay).collect::<Result<_, _>>()?,
                announce: file.announce.into_iter().map(announced).collect::<Result<_, _>>()?,
            },
            image_limit_bytes: file.image_limit_mib.map(|mib| mib.saturating_mul(1 << 20)),
            move_bandwidth: file.move_bandwidth.map(bandwidth).transpose()?,
            shared_folders: file.share.folders.into_iter().map(shared).collect::<Result<_, _>>()?,
            hook_owners: file.hooks.owners.into_iter().map(owner).collect::<Result<_, _>>()?,
        })
    }

    /// Returns the memory that VMs may have, on a machine with this much of it.
    pub(crate) fn memory_limit(&self, machine: MemoryMib) -> MemoryMib {
        self.memory.unwrap_or_else(|| {
            let share = u64::from(machine.0) * (8 - HOST_SHARE_EIGHTHS) / 8;
            MemoryMib(u32::try_from(share).unwrap_or(u32::MAX))
        })
    }
}

/// Parses an owner whose hooks are run, and whose word it is that they are the one.
fn hook_owner(text: &str) -> Option<HookOwner> {
    let (owner, host) = text.split_once('@').map_or((text, None), |(owner, host)| (owner, Some(host)));
    let vouched = match host {
        None => Vouched::Here,
        Some("*") => Vouched::ByAnybody,
        Some(host) => Vouched::By(Name::parse(host).ok()?),
    };
    Some(HookOwner { owner: Name::parse(owner).ok()?, vouched })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(Path::new("config.toml"), text)
    }

    #[test]
    fn an_empty_file_has_every_default() {
        let config = parse("").expect("nothing is wrong with nothing");
        assert_eq!(config.listen.len(), LISTEN.len());
        assert!(config.reach.mdns && !config.reach.relay);
        assert_eq!(config.memory_limit(MemoryMib(1024)), MemoryMib(768));
    }

    #[test]
    fn an_unknown_key_and_a_wrong_value_are_errors() {
        assert!(matches!(parse("memroy_mib = 5"), Err(ConfigError::Parse { .. })));
        assert!(matches!(parse("groups = ['a b']"), Err(ConfigError::Value { key: "groups", .. })));
        assert!(matches!(parse("listen = ['here']"), Err(ConfigError::Value { key: "listen", .. })));
        assert!(matches!(
            parse("relays = ['/ip4/10.0.0.1/tcp/1']"),
            Err(ConfigError::Value { key: "relays", .. })
        ));
        assert!(matches!(parse("announce = ['me']"), Err(ConfigError::Value { key: "announce", .. })));
        let config = parse("mdns = false\nrelay = true").expect("both are known");
        assert_eq!((config.reach.mdns, config.reach.relay), (false, true));
        for wrong in ["'srv'", "'/'", "'/srv/../etc'"] {
            let parsed = parse(&format!("[share]\nfolders = [{wrong}]"));
            assert!(matches!(parsed, Err(ConfigError::Value { key: "share.folders", .. })), "{wrong}");
        }
        assert!(matches!(
            parse("[hooks]\nowners = ['a b']"),
            Err(ConfigError::Value { key: "hooks.owners", .. })
        ));
        for (text, vouched) in [
            ("anna", Some(Vouched::Here)),
            ("anna@oslo", Name::parse("oslo").ok().map(Vouched::By)),
            ("anna@*", Some(Vouched::ByAnybody)),
            ("anna@", None),
            ("@oslo", None),
        ] {
            assert_eq!(hook_owner(text).map(|owner| owner.vouched), vouched, "{text}");
        }
        let config =
            parse("[share]\nfolders = ['/srv/mln']\n[hooks]\nowners = ['root']").expect("both are known");
        assert_eq!((config.shared_folders.len(), config.hook_owners.len()), (1, 1));
        let config = parse("memory_mib = 640\ngroups = ['lab']").expect("both are known");
        assert_eq!(config.memory_limit(MemoryMib(1024)), MemoryMib(640));
    }
}
