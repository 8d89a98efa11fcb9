//! All switches of this host.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mln_protocol::id::{Name, PublicKey, VmId};
use mln_protocol::model::{Impairment, Mac, SwitchKind};
use tokio::sync::{mpsc, oneshot};

use super::announcement::announcements;
use super::counters::LinkStatus;
use super::mover::Mover;
use super::switch::{COMMANDS_MAX, Command, Registry, Switch};
use super::trunk::TrunkStream;
use super::{LinkName, SwitchKey};

/// The handle to this host's switches; cheap to clone. A switch begins with its first link, and ends with
/// [`Fabric::remove_switch`] or the last handle.
#[derive(Clone, Debug)]
pub struct Fabric {
    switches: Arc<Mutex<BTreeMap<SwitchKey, Running>>>,
    mover: Arc<Mover>,
}

#[derive(Clone, Debug)]
struct Running {
    commands: mpsc::Sender<Command>,
    registry: Registry,
}

/// Resolves when a link is gone: its other side closed, or it was removed or replaced.
#[derive(Debug)]
pub struct LinkEnd(oneshot::Receiver<()>);

impl LinkEnd {
    /// Waits for the end of the link.
    pub async fn wait(self) {
        // The sender is dropped with the link; nothing is ever sent.
        let _ = self.0.await;
    }
}

/// Why a link was not added. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum FabricError {
    /// The socket can't be waited for; a bug of the caller, or too many files are open.
    #[error("the socket can't be watched")]
    Socket(#[source] io::Error),
    /// The switch was removed at the same moment; the caller may try again.
    #[error("the switch was just removed")]
    Removed,
}

impl Fabric {
    /// No switches yet; a thread that waits for some. Must be called within a tokio runtime.
    #[expect(clippy::new_without_default, reason = "it starts a thread, and not everywhere")]
    pub fn new() -> Self {
        Self { switches: Arc::default(), mover: Arc::new(Mover::start()) }
    }

    /// Attaches a guest's interface: a SEQPACKET socket on which one message is one Ethernet frame. One of the
    /// same name is replaced.
    pub async fn add_port(
        &self,
        switch: &SwitchKey,
        vm: VmId,
        interface: Name,
        mac: Mac,
        socket: OwnedFd,
    ) -> Result<LinkEnd, FabricError> {
        let fd = self.mover.watch(socket).map_err(FabricError::Socket)?;
        let (ended, end) = oneshot::channel();
        let name = LinkName::Port { vm, interface };
        self.command(switch, Command::AddPort { name, mac, fd, ended }).await?;
        Ok(LinkEnd(end))
    }

    /// Says to all stations of a switch where a guest's interface is by now, and to those of hosts that are attached
    /// later. What it said of that interface before no longer counts; one that isn't there is no error.
    pub async fn announce(
        &self,
        switch: &SwitchKey,
        vm: VmId,
        interface: Name,
        mac: Mac,
        addresses: &[IpAddr],
    ) -> Result<(), FabricError> {
        let (name, frames) = (LinkName::Port { vm, interface }, announcements(mac, addresses));
        self.command(switch, Command::Announce { name, frames }).await
    }

    /// Attaches another host that carries the switch, by a stream behind its header. One to the same host is
    /// replaced.
    pub async fn add_trunk(
        &self,
        switch: &SwitchKey,
        peer: PublicKey,
        stream: Box<dyn TrunkStream>,
    ) -> Result<LinkEnd, FabricError> {
        let (ended, end) = oneshot::channel();
        let name = LinkName::Trunk { peer };
        self.command(switch, Command::AddTrunk { name, stream, ended }).await?;
        Ok(LinkEnd(end))
    }

    /// Joins a switch to the network of this host, by a tap that doesn't block. One that is there is replaced.
    pub async fn add_uplink(
        &self,
        switch: &SwitchKey,
        tap: OwnedFd,
        vlan: Option<u16>,
    ) -> Result<LinkEnd, FabricError> {
        let fd = self.mover.watch(tap).map_err(FabricError::Socket)?;
        let (ended, end) = oneshot::channel();
        self.command(switch, Command::AddUplink { name: LinkName::Uplink, fd, vlan, ended }).await?;
        Ok(LinkEnd(end))
    }

    /// Says what a switch does with frames, and what is done to those that guests' interfaces send: to all others
    /// nothing. It counts at once, and for interfaces that come later.
    pub async fn configure(
        &self,
        switch: &SwitchKey,
        kind: SwitchKind,
        impaired: BTreeMap<LinkName, Impairment>,
    ) -> Result<(), FabricError> {
        self.command(switch, Command::Configure { kind, impaired }).await
    }

    /// Cuts a switch off from the network of this host; returns when that is done. It is no error that it is.
    pub async fn remove_uplink(&self, switch: &SwitchKey) {
        self.remove(switch, LinkName::Uplink).await;
    }

    /// Detaches a guest's interface; returns when that is done. One that isn't there is no error.
    pub async fn remove_port(&self, switch: &SwitchKey, vm: VmId, interface: Name) {
        self.remove(switch, LinkName::Port { vm, interface }).await;
    }

    /// Detaches another host; returns when that is done. One that isn't there is no error.
    pub async fn remove_trunk(&self, switch: &SwitchKey, peer: PublicKey) {
        self.remove(switch, LinkName::Trunk { peer }).await;
    }

    /// Ends a switch and all its links. One that isn't there is no error.
    pub fn remove_switch(&self, switch: &SwitchKey) {
        self.lock().remove(switch);
    }

    /// Returns every link of every switch and what it has carried, ordered by switch and link.
    pub fn counters(&self) -> Vec<LinkStatus> {
        let mut all = Vec::new();
        for (switch, running) in self.lock().iter() {
            let registry = running.registry.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(registry.iter().map(|(link, counters)| LinkStatus {
                switch: switch.clone(),
                link: link.clone(),
                counts: counters.counts(),
            }));
        }
        all
    }

    async fn remove(&self, switch: &SwitchKey, name: LinkName) {
        let Some(commands) = self.lock().get(switch).map(|running| running.commands.clone()) else { return };
        let (done, removed) = oneshot::channel();
        if commands.send(Command::Remove { name, done }).await.is_ok() {
            // Fails if the switch ends meanwhile, and the link with it.
            let _ = removed.await;
        }
    }

    async fn command(&self, switch: &SwitchKey, command: Command) -> Result<(), FabricError> {
        let commands = self.running(switch);
        commands.send(command).await.map_err(|_| FabricError::Removed)
    }

    /// Returns the switch's task, which is started if there is none.
    fn running(&self, switch: &SwitchKey) -> mpsc::Sender<Command> {
        let mut switches = self.lock();
        let running = switches.entry(switch.clone()).or_insert_with(|| {
            let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
            let registry = Registry::default();
            self.mover.spawn(Switch::new(receiver, registry.clone()).run());
            Running { commands, registry }
        });
        running.commands.clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SwitchKey, Running>> {
        self.switches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
