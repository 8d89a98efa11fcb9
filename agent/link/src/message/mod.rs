//! The messages of a control connection, as wire structs.
//!
//! Names are parsed while they are decoded, so whoever holds a request holds valid names. Free text (reasons,
//! console lines) may hold anything: whoever shows it to a terminal must make it harmless first.

mod bandwidth;
mod change;
mod doctor;
mod event;
mod export;
mod gauge;
mod grant;
mod image;
mod inside;
mod kept;
mod mesh;
mod moving;
mod outside;
mod recipe;
mod reply;
mod request;
mod row;
mod snapshot;
mod startup;

pub use bandwidth::Bandwidth;
pub use change::{
    Change, ChangeConsent, ChangeContent, Consider, Definition, LeftOut, Plan, PlanRow, PlanSign, Revised,
    RevisionRef, RevisionRow, RevisionStanding, UnsettledRow,
};
pub use doctor::{DOCTOR_CHECKS, DoctorRow, Verdict};
pub use event::{EVENTS_ASKED_MAX, EventReading, EventRow, Events, SKIPPED_KIND, rfc3339};
pub use export::{Export, ExportImages, ExportPart, Import};
pub use gauge::{GaugeRow, GaugeValue};
pub use grant::{GrantOrder, GrantRow, Granted, Revoke, RevokedRow};
pub use image::{
    GarbageKind, GarbageReport, GarbageRow, GcMode, TemplateChoice, TemplateChoiceError, TemplateHostRow,
    TemplatePull, TemplatePush, TemplateRemoval, TemplateRemove,
};
pub use inside::{Console, LogExtent, Logs, Terminal, TerminalSize};
pub use kept::{KEEP_REMOVED_MS, KeptRow};
pub use mesh::{LanRow, OperatorToken};
pub use moving::{
    Evacuate, EvacuateBut, Evacuation, EvacuationRefused, EvacuationRow, OwnerHeard, Room, TakeOver,
};
pub use outside::{ForwardRow, NatState, OutsideRow, PortProtocol};
pub use recipe::{PACKAGES_MAX, Package, PackageError, TemplateRecipe};
pub use reply::{ExecExit, Failure, OutputStream, Progress, Refusal, Reply, Silence, Step, StepState};
pub use request::{
    Build, Exec, Existing, FileHead, Input, OnFailure, ProjectRef, ProjectSelection, RefError, Removal,
    Remove, Request, Role, Start, Status, StatusWait, Stop, StopManner, Target, VmRef, WaitFor,
};
pub use row::{
    AgentVersion, DaemonStatusRow, HostLiveness, PeerLink, PeerRow, ProjectRow, StatusRow, TemplateRow,
    Token, VmState,
};
pub use snapshot::{Snapshot, SnapshotOrder, SnapshotPart, SnapshotRow, SnapshotStep};
pub use startup::StartupRow;
