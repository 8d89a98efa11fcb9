//! What a grant is limited to: to which projects, on which hosts, and how much of them.
//!
//! Nothing here is compared with what the link before it says: whoever acts asks every link of the chain, and all of
//! them must agree. So a link can't widen anything, whatever it says.

use std::fmt;

use crate::id::{Label, NAME_BYTES_MAX, Name};
use crate::model::{DiskSize, Fragment, MountSource};

/// How many patterns of projects, and how many of hosts, one grant may name.
pub const PATTERNS_MAX: usize = 4;

/// What a grant is limited to; an empty list is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The projects: one of these must match.
    pub projects: Vec<ProjectPattern>,
    /// The hosts: one of these must match.
    pub hosts: Vec<HostPattern>,
    /// How much all that is built with it may take together.
    pub limits: Limits,
}

/// A name in which `*` stands for any characters, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern(String);

/// Projects by their label: `anna/*`, `*/lab1`, `*/*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectPattern {
    owner: NamePattern,
    project: NamePattern,
}

/// Hosts by their name (`oslo`, `lab-*`) or by a group that they count themselves to (`@lab`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// Those of this name.
    Named(NamePattern),
    /// Those of this group.
    Group(Name),
}

/// The most that may be taken; none is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The memory of all VMs that are defined, in MiB.
    pub memory_mib: Option<u64>,
    /// How many VMs are defined.
    pub vms: Option<u64>,
    /// The size that definitions give disks, in bytes: what they have beside their template, or in all.
    pub disk_bytes: Option<u64>,
}

/// What VMs take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Their memory, in MiB.
    pub memory_mib: u64,
    /// How many there are.
    pub vms: u64,
    /// What their definitions say of their disks, in bytes.
    pub disk_bytes: u64,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A character that no name has, none at all, or too many.
    #[error(
        "{0:?} is no pattern: letters, digits, '-', '_', '.' and '*' for any of them, at most {NAME_BYTES_MAX} in all"
    )]
    Name(String),
    /// A project without its owner.
    #[error("{0:?} is no pattern of projects: OWNER/PROJECT, for example anna/* or */lab1")]
    Project(String),
}

impl NamePattern {
    /// Parses a pattern.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '*');
        if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.chars().all(fits) {
            return Err(PatternError::Name(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }

    /// Whether a name is one of those that are meant.
    pub fn matches(&self, name: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else { return self.0 == name };
        let Some(mut left) = name.strip_prefix(first) else { return false };
        let mut pieces = rest.split('*').peekable();
        while let Some(piece) = pieces.next() {
            if pieces.peek().is_none() {
                return left.ends_with(piece);
            }
            let Some(at) = left.find(piece) else { return false };
            left = &left[at + piece.len()..];
        }
        true
    }
}

impl ProjectPattern {
    /// Parses `OWNER/PROJECT`.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let (owner, project) = text.split_once('/').ok_or_else(|| PatternError::Project(text.to_owned()))?;
        Ok(Self { owner: NamePattern::parse(owner)?, project: NamePattern::parse(project)? })
    }

    /// Whether a project is one of those that are meant.
    pub fn matches(&self, label: &Label) -> bool {
        self.owner.matches(label.owner.as_str()) && self.project.matches(label.project.as_str())
    }
}

impl HostPattern {
    /// Parses a name, a pattern of names, or `@GROUP`.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        match text.strip_prefix('@') {
            Some(group) => {
                Name::parse(group).map(Self::Group).map_err(|_| PatternError::Name(text.to_owned()))
            }
            None => NamePattern::parse(text).map(Self::Named),
        }
    }

    /// Whether a host is one of those that are meant.
    pub fn matches(&self, name: &Name, groups: &[Name]) -> bool {
        match self {
            Self::Named(pattern) => pattern.matches(name.as_str()),
            Self::Group(group) => groups.contains(group),
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ProjectPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.project)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(pattern) => write!(f, "{pattern}"),
            Self::Group(group) => write!(f, "@{group}"),
        }
    }
}

impl Scope {
    /// Whether it limits nothing.
    pub fn is_whole(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a project is within it.
    pub fn covers_project(&self, label: &Label) -> bool {
        self.projects.is_empty() || self.projects.iter().any(|pattern| pattern.matches(label))
    }

    /// Whether a host is within it.
    pub fn covers_host(&self, name: &Name, groups: &[Name]) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|pattern| pattern.matches(name, groups))
    }
}

impl Amount {
    /// Returns what a part of a project takes.
    pub fn of(fragment: &Fragment) -> Self {
        let mut amount = Self::default();
        for vm in &fragment.vms {
            let disk_bytes = match vm.disk {
                DiskSize::Template => 0,
                DiskSize::Whole(bytes) | DiskSize::Free(bytes) => bytes.0,
            };
            let others = vm.setup.mounts.iter().map(|mount| match mount.source {
                MountSource::Disk(bytes) => bytes.0,
                MountSource::Image(_) | MountSource::Folder(_) => 0,
            });
            let swap = vm.setup.swap.map_or(0, |bytes| bytes.0);
            let disk_bytes = others.chain([swap]).fold(disk_bytes, u64::saturating_add);
            amount = amount.and(Self { memory_mib: vm.memory.0.into(), vms: 1, disk_bytes });
        }
        amount
    }

    /// Returns both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            memory_mib: self.memory_mib.saturating_add(other.memory_mib),
            vms: self.vms.saturating_add(other.vms),
            disk_bytes: self.disk_bytes.saturating_add(other.disk_bytes),
        }
    }

    /// Whether it is at least as much as another of everything.
    pub fn holds(self, other: Self) -> bool {
        self.memory_mib >= other.memory_mib && self.vms >= other.vms && self.disk_bytes >= other.disk_bytes
    }
}

impl Limits {
    /// Returns what doesn't fit, in words, where `more` comes to what is `taken` already; none where all fits.
    pub fn excess(self, taken: Amount, more: Amount) -> Option<String> {
        let over = |limit: Option<u64>, taken: u64, more: u64, unit: &str| {
            let limit = limit?;
            (more > 0 && taken.saturating_add(more) > limit)
                .then(|| format!("{more} {unit} wanted, {} of {limit} left", limit.saturating_sub(taken)))
        };
        over(self.memory_mib, taken.memory_mib, more.memory_mib, "MiB of memory")
            .or_else(|| over(self.vms, taken.vms, more.vms, "VMs"))
            .or_else(|| over(self.disk_bytes, taken.disk_bytes, more.disk_bytes, "bytes of disk"))
    }

    /// Whether there is no limit at all.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).expect("a name")
    }

    #[track_caller]
    fn check(pattern: &str, name: &str, expect: bool) {
        let parsed = NamePattern::parse(pattern).expect("a pattern");
        assert_eq!(parsed.matches(name), expect, "{pattern} {name}");
    }

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        for (pattern, name, expect) in [
            ("lab", "lab", true),
            ("lab", "lab1", false),
            ("lab*", "lab1", true),
            ("lab*", "lab", true),
            ("*", "anything", true),
            ("*1", "lab1", true),
            ("*1", "lab12", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("a**a", "aa", true),
            ("lab*", "alab", false),
        ] {
            check(pattern, name, expect);
        }
    }

    #[test]
    fn patterns_are_of_what_names_are_of() {
        for wrong in ["", "a b", "å", "a/b/c", &"x".repeat(64)] {
            assert!(NamePattern::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(ProjectPattern::parse("lab1"), Err(PatternError::Project("lab1".to_owned())));
        assert!(HostPattern::parse("@").is_err() && HostPattern::parse("@lab*").is_err());
        for text in ["anna/*", "*/lab1", "a-b.c/x_*"] {
            assert_eq!(ProjectPattern::parse(text).map(|pattern| pattern.to_string()), Ok(text.to_owned()));
        }
        for text in ["oslo", "lab-*", "@uni"] {
            assert_eq!(HostPattern::parse(text).map(|pattern| pattern.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn a_scope_without_patterns_covers_everything() {
        let label = Label { owner: name("anna"), project: name("lab1") };
        let scope = Scope::default();
        assert!(scope.is_whole() && scope.covers_project(&label) && scope.covers_host(&name("oslo"), &[]));
        let scope = Scope {
            projects: vec![ProjectPattern::parse("anna/*").expect("a pattern")],
            hosts: vec![HostPattern::parse("@lab").expect("a pattern")],
            limits: Limits::default(),
        };
        assert!(scope.covers_project(&label));
        assert!(!scope.covers_project(&Label { owner: name("bob"), ..label }));
        assert!(scope.covers_host(&name("oslo"), &[name("lab")]));
        assert!(!scope.covers_host(&name("lab"), &[]), "a group is no name");
    }

    #[test]
    fn what_does_not_fit_is_said_with_what_is_left() {
        let limits = Limits { memory_mib: Some(256), vms: Some(3), disk_bytes: None };
        let amount = |memory_mib, vms| Amount { memory_mib, vms, disk_bytes: 1 << 40 };
        assert_eq!(limits.excess(amount(128, 1), amount(128, 2)), None);
        assert_eq!(
            limits.excess(amount(192, 1), amount(128, 1)).as_deref(),
            Some("128 MiB of memory wanted, 64 of 256 left")
        );
        assert_eq!(limits.excess(amount(0, 3), amount(8, 1)).as_deref(), Some("1 VMs wanted, 0 of 3 left"));
        assert_eq!(limits.excess(amount(u64::MAX, 9), Amount::default()), None, "what takes nothing fits");
    }
}
