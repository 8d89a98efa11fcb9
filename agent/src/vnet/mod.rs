//! Virtual switches: one learning segment over all hosts that carry a member.
//!
//! ```text
//!   guest ──SEQPACKET──┐                              ┌──SEQPACKET── guest
//!   guest ──SEQPACKET──┤ switch ═══ trunk ═══ switch  ├──SEQPACKET── guest
//!          (port)      └────╥──── (libp2p stream) ─╥──┘
//!                           ╚═══ trunk to a third host ═══╝
//! ```
//! The hosts of a switch are joined by a full mesh of trunks, and a frame that came over a trunk goes to local
//! ports only (split horizon), so there are no loops and no spanning tree.
//!
//! Each switch on a host is one task that owns its ports and trunks and moves frames from buffer to socket
//! without another task, queue or allocation in between; only a port or a trunk that is behind gets a queue,
//! with a limit, beyond which its frames are dropped and counted. What a frame says above Ethernet, and which
//! VM may be on which switch, is not known here.
//!
//! - `announcement`: what a station says of itself when it is somewhere else (pure)
//! - `table`: which station is where (pure)
//! - `port`, `trunk`, `uplink`: the kinds of links; `tap_device`: what an uplink is made of
//! - `timer`: wakes a switch for frames that were held back, by `shaper` outside of here
//! - `switch`: the task
//! - `mover`: the thread that runs all switches of this host, and nothing else
//! - `fabric`: the handle to all switches of this host
//! - `trunks`: which trunks there should be, opened again when they are lost

mod announcement;
mod counters;
mod fabric;
mod mover;
mod port;
mod switch;
mod table;
pub mod tap_device;
mod timer;
mod trunk;
mod trunks;
mod uplink;

#[cfg(test)]
mod fabric_test;
#[cfg(test)]
mod impairment_test;
#[cfg(test)]
mod moving_test;
#[cfg(test)]
mod trunks_test;

use mln_protocol::id::{Name, ProjectId, PublicKey, VmId};
use mln_protocol::wire::TrunkHeader;

pub use counters::{Counts, LinkStatus};
pub use fabric::{Fabric, FabricError, LinkEnd};
pub use trunk::TrunkStream;
pub use trunks::{OpenTrunk, TrunkState, TrunkStatus, Trunks, TrunksStopped};

/// The longest frame, in bytes; a length of two bytes can't say more.
pub const FRAME_BYTES_MAX: usize = u16::MAX as usize;

/// The shortest frame that makes sense: an Ethernet header.
pub const FRAME_BYTES_MIN: usize = 14;

/// A switch of a project.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SwitchKey {
    /// The project.
    pub project: ProjectId,
    /// The switch's name in it.
    pub name: Name,
}

impl From<&SwitchKey> for TrunkHeader {
    fn from(key: &SwitchKey) -> Self {
        Self { project: key.project, switch: key.name.clone() }
    }
}

impl From<TrunkHeader> for SwitchKey {
    fn from(header: TrunkHeader) -> Self {
        Self { project: header.project, name: header.switch }
    }
}

/// One end of a switch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkName {
    /// An interface of a VM on this host.
    Port {
        /// The VM.
        vm: VmId,
        /// Its interface.
        interface: Name,
    },
    /// The same switch on another host.
    Trunk {
        /// The host.
        peer: PublicKey,
    },
    /// The network of this host.
    Uplink,
}
