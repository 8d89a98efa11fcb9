//! Labs that are made from a text. What stands in it this program knows by itself, without reading it: it has written it.
//!
//! Each has a class whose members an enumeration makes, two VMs of their own, and two envelopes: one of a single VM, and one
//! of the class, whose members share what it allows.

use std::collections::BTreeMap;
use std::sync::Arc;

use mln_protocol::id::{Digest, Name};
use mln_protocol::lang::{self, NoIncludes, Severity};
use mln_protocol::model::{Blob, Definition, Project};
use mln_protocol::trust::Wanted;
use mln_protocol::{resolve, wire};

use crate::lot::Lot;
use crate::workload::name;

/// The VM that has an envelope of its own, and the one that may decide nothing.
pub(crate) const BALANCER: &str = "balancer";
pub(crate) const PLAIN: &str = "plain";

/// The enumeration, and what the names of its VMs begin with.
pub(crate) const SERVERS: &str = "servers";
const PREFIX: &str = "server";

/// The policies: of the one VM, and of the class.
const OWN: &str = "grow";
const SHARED: &str = "share";

/// The most of a class that anybody wants: with ten they would all be called otherwise.
const SERVERS_MAX: u32 = 9;

/// How long nothing may be decided after a decision, in milliseconds, by lot.
const GRACES_MS: [u64; 3] = [4_000, 10_000, 25_000];

/// How far VMs may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Envelope {
    /// The hosts that one may move to.
    pub(crate) hosts: Vec<Name>,
    /// How few of the class there may be, and how many.
    pub(crate) least: u32,
    pub(crate) most: u32,
    pub(crate) grace_ms: u64,
}

/// What is in a lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sketch {
    pub(crate) project: Name,
    /// Where the VM is that has an envelope of its own.
    pub(crate) balancer: Name,
    /// Where the VM is that may decide nothing.
    pub(crate) plain: Name,
    /// Where those of the class are, in turn.
    pub(crate) places: Vec<Name>,
    /// How many of the class there are.
    pub(crate) count: u32,
    /// Those of the class that have gone elsewhere by themselves.
    pub(crate) moved: BTreeMap<Name, Name>,
    pub(crate) own: Envelope,
    pub(crate) shared: Envelope,
    /// What the VM does at its start that may decide nothing.
    pub(crate) mark: u64,
}

/// Whose decisions count together: those by one policy, wherever it was inherited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Budget {
    Own,
    Shared,
}

impl Budget {
    /// Returns the one that a VM decides by; none where it may decide nothing.
    pub(crate) fn of(vm: &Name) -> Option<Self> {
        match vm.as_str() {
            BALANCER => Some(Self::Own),
            other if other.starts_with(PREFIX) => Some(Self::Shared),
            _ => None,
        }
    }

    /// Returns whose block its policy is in.
    pub(crate) fn origin(self) -> Name {
        name(match self {
            Self::Own => BALANCER,
            Self::Shared => "webserver",
        })
    }

    /// Returns the name of its policy.
    pub(crate) fn policy(self) -> Name {
        name(match self {
            Self::Own => OWN,
            Self::Shared => SHARED,
        })
    }
}

impl Envelope {
    fn draw(hosts: &[Name], lot: &mut Lot) -> Self {
        let mut to: Vec<Name> = hosts.iter().filter(|_| lot.chance(500)).cloned().collect();
        if to.is_empty() {
            to.push(hosts[lot.index(hosts.len())].clone());
        }
        let (least, most) = (lot.between(0, 2) as u32, lot.between(2, 4) as u32);
        Self { hosts: to, least, most, grace_ms: GRACES_MS[lot.index(GRACES_MS.len())] }
    }

    fn text(&self, policy: &str) -> String {
        let hosts: Vec<&str> = self.hosts.iter().map(Name::as_str).collect();
        format!(
            "    policy {policy} {{\n        grace {}s\n        may move {}\n        may scale {SERVERS} {}..{}\n    }}\n",
            self.grace_ms / 1_000,
            hosts.join(" "),
            self.least,
            self.most
        )
    }

    /// Returns one that allows more.
    pub(crate) fn wider(&self) -> Self {
        Self { most: SERVERS_MAX, grace_ms: 0, ..self.clone() }
    }
}

impl Sketch {
    /// Draws one whose VMs are on some of the hosts, and may go to any.
    pub(crate) fn draw(project: &Name, at: &[Name], hosts: &[Name], lot: &mut Lot) -> Self {
        let mut host = || at[lot.index(at.len())].clone();
        let (balancer, plain) = (host(), host());
        let places = vec![host(), host()];
        Self {
            project: project.clone(),
            balancer,
            plain,
            places,
            count: lot.between(1, 3) as u32,
            moved: BTreeMap::new(),
            own: Envelope::draw(hosts, lot),
            shared: Envelope::draw(hosts, lot),
            mark: 0,
        }
    }

    /// Draws what people make of it.
    pub(crate) fn changed(&self, hosts: &[Name], lot: &mut Lot) -> Self {
        let mut child = self.clone();
        let host = hosts[lot.index(hosts.len())].clone();
        match lot.index(6) {
            0 => child.balancer = host,
            1 => child.plain = host,
            2 => child.count = lot.between(1, 4) as u32,
            3 => child.own = Envelope::draw(hosts, lot),
            4 => child.shared = Envelope::draw(hosts, lot),
            _ => child.mark = lot.between(1, 1_000),
        }
        child
    }

    /// Writes it down.
    pub(crate) fn text(&self) -> String {
        let places: Vec<&str> = self.places.iter().map(Name::as_str).collect();
        let mut text = format!(
            "global {{\n    project {}\n    autoenum {SERVERS} {{\n        numhosts {}\n        hostprefix {PREFIX}\n        \
             superclass webserver\n        service_hosts {{\n            {}\n        }}\n    }}\n}}\nswitch lan {{ }}\n\
             superclass machine {{\n    memory 64M\n    network eth0 {{\n        switch lan\n    }}\n}}\n",
            self.project,
            self.count,
            places.join("\n            ")
        );
        text += &format!("superclass webserver {{\n    superclass machine\n{}}}\n", self.shared.text(SHARED));
        text += &format!(
            "host {BALANCER} {{\n    superclass machine\n    service_host {}\n{}}}\n",
            self.balancer,
            self.own.text(OWN)
        );
        text += &format!(
            "host {PLAIN} {{\n    superclass machine\n    service_host {}\n    startup {{\n        echo {}\n    }}\n}}\n",
            self.plain, self.mark
        );
        for (vm, to) in &self.moved {
            text += &format!("amend {vm} {{\n    service_host {to}\n}}\n");
        }
        text
    }

    /// Returns its VMs, each with where it is.
    pub(crate) fn vms(&self) -> BTreeMap<Name, Name> {
        let mut vms =
            BTreeMap::from([(name(BALANCER), self.balancer.clone()), (name(PLAIN), self.plain.clone())]);
        for index in 0..self.count as usize {
            let vm = name(&format!("{PREFIX}{}", index + 1));
            let place = self.moved.get(&vm).unwrap_or(&self.places[index % self.places.len()]);
            vms.insert(vm, place.clone());
        }
        vms
    }

    /// Returns how far a VM may go; none where it may do nothing.
    pub(crate) fn envelope(&self, vm: &Name) -> Option<&Envelope> {
        Some(match Budget::of(vm)? {
            Budget::Own => &self.own,
            Budget::Shared => &self.shared,
        })
    }

    /// Returns what a VM asks for, if that is to have more or fewer, or to be elsewhere.
    pub(crate) fn with(&self, vm: &Name, wanted: &Wanted) -> Option<Self> {
        let mut child = self.clone();
        match wanted {
            Wanted::Scale { class, to } if class.as_str() == SERVERS => child.count = *to,
            Wanted::Move { to } => child.place(vm, name(&to.0)),
            Wanted::Scale { .. } | Wanted::Set { .. } | Wanted::Text(_) => return None,
        }
        Some(child)
    }

    /// Returns one in which a VM may go where it may not, and has gone there.
    pub(crate) fn reaching(&self, vm: &Name, to: &Name) -> Self {
        let mut child = self.clone();
        let envelope = match Budget::of(vm) {
            Some(Budget::Shared) => &mut child.shared,
            Some(Budget::Own) | None => &mut child.own,
        };
        envelope.hosts.push(to.clone());
        child.place(vm, to.clone());
        child
    }

    fn place(&mut self, vm: &Name, to: Name) {
        match vm.as_str() {
            BALANCER => self.balancer = to,
            PLAIN => self.plain = to,
            _ => {
                self.moved.insert(vm.clone(), to);
            }
        }
    }

    /// S4: says what is wrong with a change that a VM has asked for, by what this one allows it: "only members of the class
    /// come or go", within the range; only the VM that asks goes elsewhere, and only where it may; and what any VM may
    /// decide stays as it is.
    pub(crate) fn against(&self, vm: &Name, child: &Self) -> Option<String> {
        let Some(envelope) = self.envelope(vm).filter(|_| self.vms().contains_key(vm)) else {
            return Some(format!("{vm} may decide nothing"));
        };
        if (&self.own, &self.shared) != (&child.own, &child.shared) {
            return Some("what VMs may decide is another".to_owned());
        }
        if child.count != self.count && !(envelope.least..=envelope.most).contains(&child.count) {
            let (least, most) = (envelope.least, envelope.most);
            return Some(format!("{} of the class are not {least} to {most}", child.count));
        }
        let (before, after) = (self.vms(), child.vms());
        for (other, to) in &after {
            let Some(from) = before.get(other).filter(|from| *from != to) else { continue };
            if other != vm {
                return Some(format!("{other} goes from {from} to {to}, and {vm} has asked"));
            }
            if !envelope.hosts.contains(to) {
                return Some(format!("{vm} goes to {to}, where it may not"));
            }
        }
        // Where a text puts those that come is the text's, and it stays as it is.
        let rest = Self {
            count: self.count,
            balancer: self.balancer.clone(),
            moved: self.moved.clone(),
            ..child.clone()
        };
        (rest != *self).then(|| "something is another that no policy is about".to_owned())
    }
}

/// A lab's text, and all that follows from it.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) sketch: Sketch,
    pub(crate) definition: Definition,
    /// Its bytes, whose digest stands in revisions.
    pub(crate) bytes: Arc<[u8]>,
    pub(crate) digest: Digest,
    pub(crate) project: Project,
}

impl Text {
    /// Writes a sketch down; says what is wrong where the text can't be understood.
    fn of(sketch: Sketch) -> Result<Self, String> {
        let source = sketch.text();
        let (tree, mut diagnostics) = lang::parse("lab.mln", source.clone(), &NoIncludes);
        let resolved = resolve::resolve(&tree, &resolve::Options::default());
        diagnostics.extend(resolved.diagnostics);
        if let Some(wrong) = diagnostics.iter().find(|one| one.severity() == Severity::Error) {
            return Err(format!("{}:\n{source}", wrong.message));
        }
        let definition = Definition {
            source: Some(source),
            variables: Vec::new(),
            files: Vec::new(),
            templates: Vec::new(),
        };
        Ok(Self::with(sketch, definition, resolved.project))
    }

    pub(crate) fn with(sketch: Sketch, definition: Definition, project: Project) -> Self {
        let bytes: Arc<[u8]> = wire::encode_definition(&definition).into();
        Self { sketch, definition, digest: Digest::of(&bytes), bytes, project }
    }

    /// Returns what goes with a project that is submitted as this.
    pub(crate) fn blobs(&self) -> Vec<Blob> {
        let (from, bytes) = (Blob::DEFINITION.to_owned(), self.bytes.len() as u64);
        vec![Blob { from, digest: self.digest, bytes, mode: 0o600 }]
    }
}

/// All texts that anybody has written, by their digest.
#[derive(Debug, Default)]
pub(crate) struct Texts(BTreeMap<Digest, Arc<Text>>);

impl Texts {
    /// Writes a sketch down.
    pub(crate) fn write(&mut self, sketch: Sketch) -> Option<Arc<Text>> {
        Text::of(sketch).ok().map(|text| self.add(text))
    }

    pub(crate) fn add(&mut self, text: Text) -> Arc<Text> {
        self.0.entry(text.digest).or_insert_with(|| Arc::new(text)).clone()
    }

    pub(crate) fn get(&self, digest: Digest) -> Option<&Arc<Text>> {
        self.0.get(&digest)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_is_what_is_understood() {
        let hosts: Vec<Name> = (0..5).map(|host| name(&format!("host{host}"))).collect();
        let mut lot = Lot::of(1, "sketches");
        for _ in 0..40 {
            let mut sketch = Sketch::draw(&name("lab"), &hosts, &hosts, &mut lot);
            if lot.chance(500) {
                sketch.moved.insert(name("server1"), hosts[lot.index(5)].clone());
            }
            let sketch = sketch.changed(&hosts, &mut lot);
            let text = Text::of(sketch.clone()).expect("what is written is understood");
            let at = |vm: &mln_protocol::model::Vm| {
                (vm.name.clone(), name(&vm.service_host.as_ref().expect("each has one").0))
            };
            assert_eq!(text.project.vms.iter().map(at).collect::<BTreeMap<_, _>>(), sketch.vms());
            assert_eq!(wire::decode_definition(&text.bytes).as_ref(), Ok(&text.definition));
        }
    }

    #[test]
    fn nothing_is_allowed_but_what_the_envelope_says() {
        let hosts: Vec<Name> = (0..4).map(|host| name(&format!("host{host}"))).collect();
        let envelope = Envelope { hosts: vec![hosts[3].clone()], least: 1, most: 3, grace_ms: 0 };
        let parent = Sketch {
            balancer: hosts[0].clone(),
            plain: hosts[1].clone(),
            places: hosts[..2].to_vec(),
            count: 2,
            own: envelope.clone(),
            shared: envelope.clone(),
            ..Sketch::draw(&name("lab"), &hosts, &hosts, &mut Lot::of(1, "sketch"))
        };
        let may = |vm: &str, child: &Sketch| parent.against(&name(vm), child).is_none();
        let scaled = |count| Sketch { count, ..parent.clone() };
        assert!(may(BALANCER, &scaled(3)) && may("server1", &scaled(1)));
        assert!(!may(BALANCER, &scaled(4)) && !may("server2", &scaled(0)) && !may(PLAIN, &scaled(3)));
        let moved = |to: usize| Sketch { balancer: hosts[to].clone(), ..parent.clone() };
        assert!(may(BALANCER, &moved(3)) && !may(BALANCER, &moved(2)) && !may("server1", &moved(3)));
        assert!(!may(BALANCER, &Sketch { own: envelope.wider(), ..parent.clone() }));
        assert!(!may(BALANCER, &Sketch { mark: 1, ..parent.clone() }));
    }
}
