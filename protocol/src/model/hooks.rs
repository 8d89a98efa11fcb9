//! Shell lines that service hosts run around the start and the stop of a project.

use std::collections::BTreeMap;

/// When a hook is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HookPoint {
    /// Before the first VM of the project is started, where none runs on the host.
    BeforeProjectStart,
    /// Before VMs of the project are started.
    BeforeHostsStart,
    /// When all that were to be started are up.
    AfterHostsStart,
    /// When all VMs of the project on the host are up.
    AfterProjectStart,
    /// Before VMs are stopped, where none of the project is to go on running on the host.
    BeforeProjectStop,
    /// Before VMs of the project are stopped.
    BeforeHostsStop,
    /// When all that were to be stopped are down.
    AfterHostsStop,
    /// When no VM of the project runs on the host any more.
    AfterProjectStop,
}

impl HookPoint {
    /// Every moment, in the order in which they come.
    pub const ALL: [Self; 8] = [
        Self::BeforeProjectStart,
        Self::BeforeHostsStart,
        Self::AfterHostsStart,
        Self::AfterProjectStart,
        Self::BeforeProjectStop,
        Self::BeforeHostsStop,
        Self::AfterHostsStop,
        Self::AfterProjectStop,
    ];

    /// Returns its keyword in the project language.
    pub fn keyword(self) -> &'static str {
        match self {
            Self::BeforeProjectStart => "beforeProjectStart",
            Self::BeforeHostsStart => "beforeHostsStart",
            Self::AfterHostsStart => "afterHostsStart",
            Self::AfterProjectStart => "afterProjectStart",
            Self::BeforeProjectStop => "beforeProjectStop",
            Self::BeforeHostsStop => "beforeHostsStop",
            Self::AfterHostsStop => "afterHostsStop",
            Self::AfterProjectStop => "afterProjectStop",
        }
    }
}

/// The hooks of a project: shell lines by the moment at which they are run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks(pub BTreeMap<HookPoint, Vec<String>>);

impl Hooks {
    /// Returns the lines of a moment, if there are any.
    pub fn lines(&self, point: HookPoint) -> Option<&[String]> {
        self.0.get(&point).map(Vec::as_slice).filter(|lines| !lines.is_empty())
    }

    /// Returns whether there is nothing to run at all.
    pub fn is_empty(&self) -> bool {
        HookPoint::ALL.iter().all(|&point| self.lines(point).is_none())
    }
}
