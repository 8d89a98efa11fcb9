//! What a guest has beside its disk and its interfaces, and how its process runs: values parsed and checked.

use std::collections::BTreeSet;

use super::definitions::Line;
use super::expand::Scope;
use super::inherit::{Merged, MergedContent};
use super::size;
use super::vm::Maker;
use crate::id::Name;
use crate::lang::{Code, Node, Span, nearest};
use crate::model::{
    DiskBytes, Group, GuestSetup, HookPoint, Hooks, MemoryMib, Mount, MountSource, Scheduling,
};

use super::definitions::Definitions;
use super::expand::Expander;

/// The most disks of its own that a guest may have beside the first, swap included: User-Mode Linux has eight drives,
/// of which the disk, the configuration and the guest agent are three.
pub(super) const DISKS_MAX: usize = 5;
/// The smallest disk that is made, in bytes: file systems need some room for themselves.
pub(super) const DISK_BYTES_MIN: u64 = 1 << 20;
/// The largest disk that is made, in bytes.
pub(super) const DISK_BYTES_MAX: u64 = 8 << 40;
/// The file systems that a disk can be made with.
const MADE: [&str; 3] = ["ext2", "ext3", "ext4"];
/// The type by which a folder of the service host is mounted.
const HOSTFS: &str = "hostfs";
/// The last processor that can be named.
const CPU_MAX: u16 = 1023;
/// The last display number: its port is 5900 and this.
const DISPLAY_MAX: u64 = 59_635;
/// The longest time to wait for a lock, in seconds.
const LOCK_SECONDS_MAX: u64 = 86_400;

impl<'a> Maker<'_, 'a> {
    /// Returns what a guest has beside its disk and its interfaces.
    pub(super) fn setup(&mut self, body: &Merged<'a>, scope: Scope<'_, 'a>, memory: MemoryMib) -> GuestSetup {
        let setup = GuestSetup {
            groups: self.groups(body, scope),
            swap: self.swap(body, scope),
            mounts: self.mounts(body, scope),
            shutdown: self.raw_lines(body, scope, "shutdown"),
            memory_max: self.memory_max(body, scope, memory),
            policies: Vec::new(),
        };
        let drives = setup.mounts.iter().filter(|mount| !matches!(mount.source, MountSource::Folder(_)));
        let drives = drives.count() + usize::from(setup.swap.is_some());
        if drives > DISKS_MAX
            && let Some(entry) = body.entry("mount")
        {
            let message = format!("{drives} further disks are more than {DISKS_MAX}");
            let label = "User-Mode Linux has no more drives; `swap` is one of them";
            self.report(Code::MountInvalid, entry.word, message, label);
        }
        setup
    }

    /// Returns how its process runs.
    pub(super) fn scheduling(&mut self, body: &Merged<'a>, scope: Scope<'_, 'a>) -> Scheduling {
        Scheduling { nice: self.nice(body, scope), cpus: self.cpus(body, scope) }
    }

    /// Checks values that have no effect: what cannot be one is wrong all the same.
    pub(super) fn without_effect(&mut self, body: &Merged<'a>, scope: Scope<'_, 'a>) {
        self.number(body, scope, "lock_timeout", 0..=LOCK_SECONDS_MAX);
        self.number(body, scope, "vncdisplay", 0..=DISPLAY_MAX);
    }

    /// Returns the most memory that a guest can be given as it runs.
    fn memory_max(
        &mut self,
        body: &Merged<'a>,
        scope: Scope<'_, 'a>,
        memory: MemoryMib,
    ) -> Option<MemoryMib> {
        let (text, span) = self.setting(body, scope, "memory_max")?;
        match size::memory(&text) {
            Ok(most) if most < memory => {
                let message = format!("`memory_max` {most} is less than the memory, {memory}");
                self.report(Code::SizeInvalid, span, message, "expected at least as much");
                None
            }
            Ok(most) => Some(most),
            Err(error) => {
                self.report_size(&text, span, error);
                None
            }
        }
    }

    /// Returns the lines of a shell.
    pub(super) fn raw_lines(
        &mut self,
        body: &Merged<'a>,
        scope: Scope<'_, 'a>,
        slot: &'static str,
    ) -> Vec<String> {
        body.lines(slot).iter().filter_map(|&line| self.expander.expand_line(line, scope)).collect()
    }

    fn swap(&mut self, body: &Merged<'a>, scope: Scope<'_, 'a>) -> Option<DiskBytes> {
        let (text, span) = self.setting(body, scope, "swap")?;
        match size::disk(&text) {
            Ok(bytes) => self.made_disk(bytes, span),
            Err(error) => {
                self.report_size(&text, span, error);
                None
            }
        }
    }

    fn made_disk(&mut self, bytes: DiskBytes, span: Span) -> Option<DiskBytes> {
        if (DISK_BYTES_MIN..=DISK_BYTES_MAX).contains(&bytes.0) {
            return Some(bytes);
        }
        let message = format!("a disk of {bytes} can't be made");
        self.report(Code::SizeInvalid, span, message, "expected 1M to 8T");
        None
    }

    fn nice(&mut self, body: &Merged<'a>, scope: Scope<'_, 'a>) -> Option<i8> {
        let (text, span) = self.setting(body, scope, "nice")?;
        let nice = text.parse().ok().filter(|nice| (-20..=19).contains(nice));
        if nice.is_none() {
            let message = format!("`{text}` cannot be `nice`");
            self.report(Code::NumberInvalid, span, message, "expected a whole number from -20 to 19");
        }
        nice
    }

    /// `cpus 0-1,3`: processors of the service host.
    fn cpus(&mut self, body: &Merged<'a>, scope: Scope<'_, 'a>) -> Vec<u16> {
        let Some((text, span)) = self.setting(body, scope, "cpus") else { return Vec::new() };
        let mut cpus = BTreeSet::new();
        for part in text.split([',', ' ']).filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (first.parse::<u16>(), last.parse::<u16>()) {
                (Ok(first), Ok(last)) if first <= last && last <= CPU_MAX => cpus.extend(first..=last),
                _ => {
                    let message = format!("`{part}` are no processors");
                    let label = "expected numbers from 0 on, such as `0`, `0-1` or `0,2-3`";
                    self.report(Code::NumberInvalid, span, message, label);
                }
            }
        }
        cpus.into_iter().collect()
    }

    fn groups(&mut self, body: &Merged<'a>, scope: Scope<'_, 'a>) -> Vec<Group> {
        let Some(MergedContent::Free(block)) = body.entry("groups").map(|entry| &entry.content) else {
            return Vec::new();
        };
        let mut groups: Vec<Group> = Vec::new();
        let mut names: BTreeSet<Name> = BTreeSet::new();
        let tree = self.expander.tree;
        for node in tree.through_includes(&block.nodes) {
            let inner = match node {
                Node::Block(inner) => inner,
                Node::Statement(statement) => {
                    let message = "a group lacks its block".to_owned();
                    let label = "expected `GROUP { USER USER }`";
                    self.report(Code::BlockExpected, statement.span, message, label);
                    continue;
                }
                Node::Blank(_)
                | Node::Comment(_)
                | Node::Include(_)
                | Node::RawLine(_)
                | Node::Skipped(_) => continue,
            };
            let [word] = inner.words.as_slice() else {
                let message = "a group has one name".to_owned();
                self.report(Code::NameUnexpected, inner.head, message, "expected `GROUP { USER USER }`");
                continue;
            };
            let Some(text) = self.expander.expand_word(*word, scope) else { continue };
            let Some(name) = self.expander.name(&text, word.span, "a group's name") else { continue };
            let mut members = Vec::new();
            for node in tree.through_includes(&inner.nodes) {
                let Node::Statement(statement) = node else { continue };
                for &word in &statement.words {
                    let Some(text) = self.expander.expand_word(word, scope) else { continue };
                    members.extend(self.expander.name(&text, word.span, "a user's name"));
                }
            }
            if names.insert(name.clone()) {
                groups.push(Group { name, members });
            } else {
                let message = format!("the group `{name}` is there twice");
                self.report(Code::Duplicate, word.span, message, "expected each group once");
            }
        }
        groups
    }

    fn mounts(&mut self, body: &Merged<'a>, scope: Scope<'_, 'a>) -> Vec<Mount> {
        let mut mounts: Vec<Mount> = Vec::new();
        for (words, span) in self.rows(body, scope, "mount") {
            let Some(mount) = self.mount(&words, span) else { continue };
            if mounts.iter().any(|there| there.at == mount.at) {
                let message = format!("two things are mounted on {}", mount.at);
                self.report(Code::MountInvalid, span, message, "expected another folder");
                continue;
            }
            mounts.push(mount);
        }
        mounts
    }

    fn mount(&mut self, words: &[String], span: Span) -> Option<Mount> {
        let (from, at, file_system, options) = match words {
            [from, at, file_system] => (from, at, file_system, None),
            [from, at, file_system, options] => (from, at, file_system, Some(options)),
            [] | [_] | [_, _] | [_, _, _, _, _, ..] => {
                let message = "a line of `mount` has three words or four".to_owned();
                self.report(Code::MountInvalid, span, message, "expected `SRC DEST TYPE [OPTS]`");
                return None;
            }
        };
        let refused = |maker: &mut Self, message: String, label: &str| {
            maker.report(Code::MountInvalid, span, message, label);
            None
        };
        if !is_folder(at) {
            let label = "expected an absolute path below `/`, without `..`";
            return refused(self, format!("nothing can be mounted on `{at}`"), label);
        }
        let is_word = |text: &str| {
            !text.is_empty() && !text.starts_with('-') && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if !is_word(file_system) || options.is_some_and(|options| !is_word(options)) {
            return refused(
                self,
                "the type or the options are no words".to_owned(),
                "expected such as `ext4 noatime`",
            );
        }
        let source = if from.starts_with('/') {
            if !is_folder(from) || from.contains([',', ':']) {
                let label = "expected a path without `..`, `,` and `:`";
                return refused(self, format!("`{from}` can't be mounted"), label);
            }
            if nearest(file_system, [HOSTFS]).is_some() {
                let label = format!("did you mean `{HOSTFS}`?");
                return refused(self, format!("`{file_system}` is no type of a file system"), &label);
            }
            match file_system.as_str() {
                HOSTFS => MountSource::Folder(from.clone()),
                _ => MountSource::Image(from.clone()),
            }
        } else {
            let bytes = match size::disk(from) {
                Ok(bytes) => self.made_disk(bytes, span)?,
                Err(_) => {
                    let label =
                        "expected the size of a disk, such as `1G`, or an absolute path of the service host";
                    return refused(self, format!("`{from}` can't be mounted"), label);
                }
            };
            if !MADE.contains(&file_system.as_str()) {
                let label = "expected ext2, ext3 or ext4";
                return refused(self, format!("no disk is made with the file system `{file_system}`"), label);
            }
            MountSource::Disk(bytes)
        };
        let (at, file_system, options) = (at.clone(), file_system.clone(), options.cloned());
        Some(Mount { source, at, file_system, options })
    }
}

/// Returns whether a text is an absolute path that leads somewhere below the root, the same everywhere.
fn is_folder(path: &str) -> bool {
    let parts = path.split('/').filter(|part| !part.is_empty());
    path.starts_with('/')
        && parts.clone().next().is_some()
        && parts.clone().all(|part| part != "." && part != "..")
        && !path.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// Returns what `global` has to run around the start and the stop of the project.
pub(super) fn hooks<'a>(definitions: &'a Definitions<'a>, expander: &mut Expander<'a>) -> Hooks {
    let scope = Scope::global(&definitions.global.variables);
    let mut hooks = Hooks::default();
    for point in HookPoint::ALL {
        let lines: Vec<Line<'a>> = definitions.global.lines(point.keyword()).collect();
        let lines: Vec<String> =
            lines.into_iter().filter_map(|line| expander.expand_line(line, scope)).collect();
        if !lines.is_empty() {
            hooks.0.insert(point, lines);
        }
    }
    hooks
}
