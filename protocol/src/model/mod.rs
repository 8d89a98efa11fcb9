//! Resolved nouns: what a project is once variables, classes and enumerations are worked out.
//!
//! Made by `resolve` alone; read by `plan`, `node`, the platforms and the guest. Nothing here knows the text
//! that it came from, nor any bytes.

mod claimed;
mod definition;
mod hooks;
mod impairment;
mod kept;
mod nat;
mod network;
mod policy;
mod project;
mod setup;
mod size;
mod vm;

pub use claimed::{Claimed, ClaimedPlace, ClaimedValue};
pub use definition::{Definition, PinnedTemplate};
pub use hooks::{HookPoint, Hooks};
pub use impairment::{Delay, Impairment, Loss, Rate};
pub use kept::{Kept, Section};
pub use nat::NatPlan;
pub use network::{
    AddressPlan, Attachment, Forward, InterfaceAddress, Mac, Network, Switch, SwitchKind, SwitchMember,
    SwitchSettings, Transport, Uplink,
};
pub use policy::{BuiltinName, Decider, Mandate, May, Policy, Tuning};
pub use project::{Blob, Fragment, HostAddress, Placement, Project};
pub use setup::{Group, GuestSetup, Mount, MountSource, Scheduling};
pub use size::{DiskBytes, MemoryMib};
pub use vm::{BootOrder, DiskSize, GuestFile, Platform, TemplateRef, User, Vm};
