//! The JSON shapes of a project and of diagnostics, for people's scripts, editors and other tools.
//!
//! The only place besides `wire` with serde structs. Field names are stable.

mod diagnostic;
mod explanation;
mod me;
mod plan;
mod plugin;
mod policy;
mod project;
mod sight;

pub use diagnostic::{diagnostics_json, rewritten_json};
pub use explanation::{explanation_json, explanations_json};
pub use me::me_json;
pub use plan::plan_json;
pub use plugin::{AnswerError, plugin_answer, plugin_request};
pub use project::{Shown, project_json};
pub use sight::{DecisionError, policy_answer, policy_request};
