//! What VMs measure of themselves.

use mln_protocol::id::Name;
use serde::{Deserialize, Serialize};

/// A gauge of a VM that is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GaugeRow {
    /// Whose project.
    #[serde(with = "crate::name")]
    pub owner: Name,
    /// Which project.
    #[serde(with = "crate::name")]
    pub project: Name,
    /// Which VM.
    #[serde(with = "crate::name")]
    pub vm: Name,
    /// Which gauge.
    #[serde(with = "crate::name")]
    pub gauge: Name,
    /// Its last values, the newest last.
    pub values: Vec<GaugeValue>,
}

/// One value of a gauge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GaugeValue {
    /// How long ago it was measured, by the clocks of its host and of the one that tells, in milliseconds.
    pub ago_ms: u64,
    /// The value, written as a decimal number.
    pub value: String,
}
