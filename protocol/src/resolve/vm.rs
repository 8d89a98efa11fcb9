//! A merged host to a [`Vm`]: each keyword's value parsed and checked.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::claimed::{self, Gatherer};
use super::definitions::{Definitions, Guest};
use super::expand::{Expander, Scope};
use super::host::{self, MergedHost};
use super::inherit::{Chain, Merged, MergedContent};
use super::kept::Keeper;
use super::network::{NetworkMaker, Segments};
use super::policy::policies;
use super::size::{self, SizeError};
use crate::id::{Digest, Name};
use crate::lang::{Code, Diagnostic, Node, Span};
use crate::model::{
    BootOrder, Claimed, ClaimedPlace, DiskSize, GuestFile, GuestSetup, HostAddress, Kept, Mandate, MemoryMib,
    Platform, Section, TemplateRef, User, Vm,
};

/// The memory of a VM whose file gives none.
const MEMORY_DEFAULT: MemoryMib = MemoryMib(64);
/// The most processors that a VM may have.
const VCPUS_MAX: u64 = 512;
/// The last place in the order of starting.
const BOOT_ORDER_MAX: u64 = 99;

/// Makes VMs; holds what all VMs of a project share.
pub(super) struct Maker<'m, 'a> {
    pub(super) expander: &'m mut Expander<'a>,
    pub(super) segments: &'m mut Segments<'a>,
    pub(super) file_places: &'m mut BTreeMap<String, Span>,
    pub(super) kept: &'m mut Vec<Kept>,
    pub(super) mandates: &'m mut BTreeMap<Name, Mandate>,
    pub(super) claimed: &'m mut Vec<Claimed>,
}

impl<'a> Maker<'_, 'a> {
    /// Returns the VM, with what is wrong left out; none if it cannot even have its name.
    pub(super) fn vm(
        &mut self,
        definitions: &Definitions<'a>,
        guest: &Guest<'a>,
        chain: &Chain<'a>,
    ) -> Option<Vm> {
        let name = self.expander.name(&guest.name, guest.name_span, "a host's name")?;
        let scope = host::scope(definitions, guest, chain);
        let MergedHost { body, networks } = MergedHost::of(guest, chain, scope, self.expander);
        let platform = self.platform(&body);
        let policies =
            policies(&body, |level| chain.name_of(level, guest), scope, definitions, self.expander);
        let classes = chain.classes.iter().copied().chain(guest.enumeration);
        let mandate = Mandate {
            classes: classes.filter_map(|class| Name::parse(class).ok()).collect(),
            policies: policies.clone(),
        };
        if mandate != Mandate::default() {
            self.mandates.insert(name.clone(), mandate);
        }
        let section = Section::Host(name.clone());
        let mut gatherer = Gatherer { expander: self.expander, claimed: self.claimed };
        gatherer.add(&chain.bodies, scope, claimed::host_place(&name));
        for network in &networks {
            let place = |_| ClaimedPlace::Network(name.clone(), network.name.clone());
            gatherer.add(&network.bodies, scope.block(&network.body.variables), place);
        }
        let mut keeper = Keeper { expander: self.expander, kept: self.kept };
        keeper.entries(&body, scope, &section, "");
        for network in &networks {
            let within = format!("network {} ", network.name);
            keeper.entries(&network.body, scope.block(&network.body.variables), &section, &within);
        }
        let service_host = self.service_host(&body, scope);
        let memory = self.memory(&body, scope);
        self.without_effect(&body, scope);
        Some(Vm {
            platform,
            template: self.template(&body, scope),
            memory,
            vcpus: self.vcpus(&body, scope, platform),
            disk: self.disk(&body, scope),
            boot_order: self
                .number(&body, scope, "boot_order", 0..=BOOT_ORDER_MAX)
                .and_then(|number| u8::try_from(number).ok())
                .map_or_else(BootOrder::default, BootOrder),
            networks: {
                let (expander, segments) = (&mut *self.expander, &mut *self.segments);
                let mut maker = NetworkMaker { expander, segments, vm: &name, service_host: &service_host };
                networks.iter().filter_map(|network| maker.network(network, scope)).collect()
            },
            users: self.users(&body, scope),
            files: self.files(&body, scope),
            startup: self.raw_lines(&body, scope, "startup"),
            nameservers: self.nameservers(&body, scope),
            modules: self.modules(&body, scope),
            setup: GuestSetup { policies, ..self.setup(&body, scope, memory) },
            scheduling: self.scheduling(&body, scope),
            service_host,
            name,
        })
    }

    pub(super) fn setting(
        &mut self,
        body: &Merged<'a>,
        scope: Scope<'_, 'a>,
        slot: &'static str,
    ) -> Option<(String, Span)> {
        let (value, _) = body.setting(slot)?;
        Some((self.expander.expand(value, scope)?, value.span()))
    }

    pub(super) fn report(&mut self, code: Code, span: Span, message: String, label: &str) {
        self.expander.report.push(Diagnostic::new(code, span, message).label(label));
    }

    fn platform(&mut self, body: &Merged<'a>) -> Platform {
        let Some(entry) = body.entry("platform") else { return Platform::Uml };
        let word = entry.keyword.word;
        if Platform::ALL.iter().all(|platform| platform.keyword() != word) {
            let message = format!("not carried out yet: the platform `{word}`");
            self.report(Code::PlatformNotYet, entry.word, message, "expected `uml`, or no platform at all");
        }
        if let MergedContent::Free(block) = &entry.content
            && block.nodes.iter().any(|node| !matches!(node, Node::Blank(_) | Node::Comment(_)))
        {
            let message = format!("not carried out yet: settings in `{word} {{ }}`");
            self.report(Code::NotYet, block.head, message, "kept, but without effect in this version");
        }
        Platform::Uml
    }

    fn service_host(&mut self, body: &Merged<'a>, scope: Scope<'_, 'a>) -> Option<HostAddress> {
        let (text, span) = self.setting(body, scope, "service_host")?;
        if text.is_empty() || text.contains(char::is_whitespace) {
            let message = format!("`{text}` is no service host");
            self.report(Code::ValueInvalid, span, message, "expected one name, address or `@group`");
            return None;
        }
        let host = HostAddress(text);
        if host.0.starts_with('@') && host.group().is_none() {
            let message = format!("`{host}` is no group of service hosts");
            self.report(
                Code::ValueInvalid,
                span,
                message,
                "expected `@` and the group's name, such as `@lab`",
            );
            return None;
        }
        Some(host)
    }

    fn template(&mut self, body: &Merged<'a>, scope: Scope<'_, 'a>) -> Option<TemplateRef> {
        let (text, span) = self.setting(body, scope, "template")?;
        let (name, which) = text.split_once('@').map_or((text.as_str(), None), |(n, w)| (n, Some(w)));
        let template = Name::parse(name).ok().and_then(|name| match which {
            None => Some(TemplateRef::Newest(name)),
            Some(which) => match Digest::from_hex(which) {
                Some(digest) => Some(TemplateRef::Exact(name, digest)),
                None => Name::parse(which).ok().map(|_| TemplateRef::Version(name, which.to_owned())),
            },
        });
        if template.is_none() {
            let message = format!("`{text}` is no template's name");
            self.report(
                Code::TemplateInvalid,
                span,
                message,
                "expected `NAME`, `NAME@VERSION` or `NAME@DIGEST`",
            );
        }
        template
    }

    fn memory(&mut self, body: &Merged<'a>, scope: Scope<'_, 'a>) -> MemoryMib {
        let Some((text, span)) = self.setting(body, scope, "memory") else { return MEMORY_DEFAULT };
        size::memory(&text).unwrap_or_else(|error| {
            self.report_size(&text, span, error);
            MEMORY_DEFAULT
        })
    }

    fn disk(&mut self, body: &Merged<'a>, scope: Scope<'_, 'a>) -> DiskSize {
        let Some(entry) = body.entry("disk") else { return DiskSize::Template };
        let Some((text, span)) = self.setting(body, scope, "disk") else { return DiskSize::Template };
        match (size::disk(&text), entry.keyword.canonical) {
            (Ok(bytes), "free_space") => DiskSize::Free(bytes),
            (Ok(bytes), _) => DiskSize::Whole(bytes),
            (Err(error), _) => {
                self.report_size(&text, span, error);
                DiskSize::Template
            }
        }
    }

    pub(super) fn report_size(&mut self, text: &str, span: Span, error: SizeError) {
        let diagnostic = match error {
            SizeError::Unitless { number } => {
                let diagnostic =
                    Diagnostic::new(Code::SizeUnitless, span, format!("the disk size `{text}` has no unit"))
                        .label(format!("expected one of {}", size::UNITS));
                // It used to mean bytes; nobody has a disk of a few bytes, so there a unit was forgotten.
                let is_plain = self.expander.tree.sources().slice(span) == text;
                match number.div_ceil(1 << 20) {
                    mib if is_plain && number >= 1 << 20 => diagnostic.fix(span, format!("{mib}M")),
                    _ if is_plain => diagnostic.fix(span, format!("{number}M")),
                    _ => diagnostic,
                }
            }
            SizeError::Malformed => Diagnostic::new(Code::SizeInvalid, span, format!("`{text}` is no size"))
                .label(format!("expected a whole number and one of {}", size::UNITS)),
            SizeError::OutOfRange => {
                Diagnostic::new(Code::SizeInvalid, span, format!("`{text}` is nothing, or too much"))
                    .label("expected a size that a machine can have")
            }
        };
        self.expander.report.push(diagnostic);
    }

    fn vcpus(&mut self, body: &Merged<'a>, scope: Scope<'_, 'a>, platform: Platform) -> u16 {
        let vcpus = self
            .number(body, scope, "vcpus", 1..=VCPUS_MAX)
            .and_then(|number| u16::try_from(number).ok())
            .unwrap_or(1);
        if let (Platform::Uml, true, Some((value, _))) = (platform, vcpus > 1, body.setting("vcpus")) {
            let message = format!("`vcpus {vcpus}` has no effect on uml");
            self.report(Code::NoEffect, value.span(), message, "User-Mode Linux has one processor");
        }
        vcpus
    }

    pub(super) fn number(
        &mut self,
        body: &Merged<'a>,
        scope: Scope<'_, 'a>,
        slot: &'static str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Option<u64> {
        let (text, span) = self.setting(body, scope, slot)?;
        let number = text.parse().ok().filter(|number| range.contains(number));
        if number.is_none() {
            let message = format!("`{text}` cannot be `{slot}`");
            let label = format!("expected a whole number from {} to {}", range.start(), range.end());
            self.report(Code::NumberInvalid, span, message, &label);
        }
        number
    }

    /// Returns the words of each line of a list, with the line's place.
    pub(super) fn rows(
        &mut self,
        body: &Merged<'a>,
        scope: Scope<'_, 'a>,
        slot: &'static str,
    ) -> Vec<(Vec<String>, Span)> {
        let mut rows = Vec::new();
        for line in body.lines(slot) {
            if let super::definitions::Line::Words(statement) = line {
                let words: Option<Vec<String>> =
                    statement.words.iter().map(|&word| self.expander.expand_word(word, scope)).collect();
                rows.extend(words.map(|words| (words, statement.span)));
            }
        }
        rows
    }

    /// Returns the accounts; a later line for the same name takes the place of the earlier one.
    fn users(&mut self, body: &Merged<'a>, scope: Scope<'_, 'a>) -> Vec<User> {
        let mut users: Vec<User> = Vec::new();
        let mut places: BTreeMap<Name, usize> = BTreeMap::new();
        let root = self.setting(body, scope, "root_password");
        let root = root.map(|(password, span)| (vec!["root".to_owned(), password], span));
        let rows = self.rows(body, scope, "users");
        for (words, span) in root.into_iter().chain(rows) {
            let Some(user) = self.user(&words, span) else { continue };
            match places.get(&user.name) {
                Some(&at) => users[at] = user,
                None => {
                    places.insert(user.name.clone(), users.len());
                    users.push(user);
                }
            }
        }
        users
    }

    fn user(&mut self, words: &[String], span: Span) -> Option<User> {
        let expected = "expected `NAME CRYPT [HOME] [UID]`";
        let mut rest = words.iter();
        let name = self.expander.name(rest.next()?, span, "a user's name")?;
        let password = rest.next().cloned();
        let mut next = rest.next();
        let home = next.filter(|word| word.starts_with('/')).cloned();
        if home.is_some() {
            next = rest.next();
        }
        let uid = match next.map(|word| word.parse::<u32>()) {
            None => None,
            Some(Ok(uid)) => Some(uid),
            Some(Err(_)) => {
                let message = format!("the home folder or the number of `{name}` is wrong");
                self.report(Code::UserInvalid, span, message, expected);
                return None;
            }
        };
        if rest.next().is_some() {
            self.report(Code::UserInvalid, span, format!("too many words for the user `{name}`"), expected);
            return None;
        }
        Some(User { name, password, home, uid })
    }

    fn nameservers(&mut self, body: &Merged<'a>, scope: Scope<'_, 'a>) -> Vec<IpAddr> {
        let Some(MergedContent::Several(values)) = body.entry("nameserver").map(|entry| &entry.content)
        else {
            return Vec::new();
        };
        let mut servers = Vec::new();
        for value in values {
            let Some(text) = self.expander.expand(value, scope) else { continue };
            for word in text.split_whitespace() {
                match word.parse() {
                    Ok(address) => servers.push(address),
                    Err(_) => {
                        let message = format!("`{word}` is no address");
                        let label = "expected the address of a name server, such as 10.0.0.1";
                        self.report(Code::AddressInvalid, value.span(), message, label);
                    }
                }
            }
        }
        servers
    }

    fn modules(&mut self, body: &Merged<'a>, scope: Scope<'_, 'a>) -> Vec<String> {
        let mut modules = Vec::new();
        for (words, span) in self.rows(body, scope, "modules") {
            let is_name = |word: &String| {
                word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
            };
            match words.iter().find(|word| !is_name(word)) {
                Some(word) => {
                    let message = format!("`{word}` is no module of a kernel");
                    self.report(
                        Code::ValueInvalid,
                        span,
                        message,
                        "expected its name, without folder and `.ko`",
                    );
                }
                None => modules.extend(words),
            }
        }
        modules
    }

    fn files(&mut self, body: &Merged<'a>, scope: Scope<'_, 'a>) -> Vec<GuestFile> {
        let rows = self.rows(body, scope, "files");
        rows.into_iter().filter_map(|(words, span)| self.file(&words, span)).collect()
    }

    fn file(&mut self, words: &[String], span: Span) -> Option<GuestFile> {
        let (from, to, mode) = match words {
            [from, to] => (from, to, None),
            [from, to, mode] => (from, to, Some(mode)),
            [_] | [] | [_, _, _, ..] => {
                let message = "a line of `files` has two words or three".to_owned();
                self.report(Code::FileInvalid, span, message, "expected `FROM TO [MODE]`");
                return None;
            }
        };
        if !to.starts_with('/') {
            let message = format!("`{to}` is not an absolute path in the guest");
            self.report(Code::FileInvalid, span, message, &format!("did you mean `/{to}`?"));
            return None;
        }
        let mode = match mode.map(|mode| u32::from_str_radix(mode, 8).map_err(|_| mode)) {
            None => None,
            Some(Ok(mode)) if mode <= 0o7777 => Some(mode),
            Some(Ok(_) | Err(_)) => {
                let message = "the permission bits are wrong".to_owned();
                self.report(Code::FileInvalid, span, message, "expected octal digits, such as 0644");
                return None;
            }
        };
        let to = if to.ends_with('/') {
            format!("{to}{}", from.rsplit('/').next().unwrap_or(from))
        } else {
            to.clone()
        };
        self.file_places.entry(from.clone()).or_insert(span);
        Some(GuestFile { from: from.clone(), to, mode })
    }
}
