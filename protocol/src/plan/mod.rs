//! From what is wanted and what is there to what is to be done: pure, and it cannot fail.
//!
//! ```text
//! two projects ──difference──▶ changes ──impact──▶ live | reboot | rebuild | move ──sequence──▶ plan ──row──▶ people
//! a project, and what hosts observe ──observed──▶ the same, from what is there
//! one VM, wanted and observed ──step──▶ its next step
//! one project ──choose──▶ hosts for what names a group ──fragment──▶ each host's part
//! one project and a host that is to be empty ──evacuation──▶ other hosts for what is there
//! one VM that moves, in both texts ──moved──▶ what else changes of it
//! one host's part, before and after ──carry──▶ what it costs there, and what can't be carried out yet
//! ```

mod carry;
mod choose;
mod difference;
mod evacuation;
mod fragment;
mod impact;
mod kept;
mod keyed;
mod moved;
mod observed;
mod policy;
mod row;
mod sequence;
mod setup;
mod step;

pub use carry::{Carry, DiskRoom, Limits, Obstacle, PartChange, carry};
pub use choose::{Candidate, Lack, Presence, Unplaced, choose};
pub use difference::{Change, InterfaceChange, Replaced, SwitchChange, VmChange, apply, difference};
pub use evacuation::{NoRoom, evacuate, evacuation_reason, is_evacuation};
pub use fragment::{PlacedHost, PlacementError, fragments, guest_address};
pub use impact::{Act, Effect, Impact, Loss, impact};
pub use kept::kept_rows;
pub use moved::moved_rows;
pub use observed::{Condition, Places, Sighting, found, plan_observed, settled};
pub use row::{Counts, Row, Sign, Subject, counts, rows};
pub use sequence::{Permission, PlannedChange, plan};
pub use setup::SetupChange;
pub use step::{Existence, Observed, RunPhase, Step, StopLimit, next_step};
