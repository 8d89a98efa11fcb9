//! D: before it signs anything a host asks what others have heard under its key, and where that is more than it has
//! signed it signs nothing until told otherwise. Written from what `mesh.md` says of restored backups and cloned keys.

use std::collections::BTreeMap;

use mln_protocol::id::{Digest, PublicKey};
use mln_protocol::node::limits::CONFIRM_MS;
use mln_protocol::node::{HandOver, Holding, Input, Message, Write};
use mln_protocol::record::{Record, RecordKey, VerifiedRecord};

use crate::check::Oracle;
use crate::host::{Honesty, Host};
use crate::world::World;

/// What a machine has asked and heard about its own key in this run of its agent.
#[derive(Debug, Default)]
pub(crate) struct OwnKey {
    began_ms: u64,
    /// Whether anybody has told what was heard under its key.
    was_told: bool,
    /// The counter of what it has last signed about itself, and its digest.
    signed: Option<(u64, Digest)>,
    /// The newest that it has heard under its key and has not signed.
    unknown: Option<(u64, Digest)>,
}

impl OwnKey {
    /// A run begins: what lies on the disk is known to it.
    pub(crate) fn begin(began_ms: u64, known: Option<&VerifiedRecord>) -> Self {
        let signed = known.map(|record| (record.counter(), record.digest()));
        Self { began_ms, signed, ..Self::default() }
    }

    /// Whether others have told what they have heard of it, and none of that is unknown to it.
    pub(crate) fn is_told(&self) -> bool {
        self.was_told && self.unknown.is_none()
    }

    /// Somebody says that this machine is the right one.
    pub(crate) fn told_to_go_on(&mut self) {
        self.signed = self.signed.max(self.unknown.take());
    }

    fn hear(&mut self, record: &VerifiedRecord) {
        let heard = (record.counter(), record.digest());
        let is_new = self.signed.is_none_or(|signed| heard.0 >= signed.0 && heard.1 != signed.1);
        if is_new {
            self.unknown = self.unknown.max(Some(heard));
        }
    }
}

/// Returns what a host is given of its own making, as far as it says how often it has signed.
fn own_among(input: &Input, key: PublicKey) -> Vec<&VerifiedRecord> {
    let records: Vec<&VerifiedRecord> = match input {
        Input::Record(record) => vec![record],
        Input::Message { message: Message::Records(records) | Message::OwnTold { records, .. }, .. } => {
            records.iter().collect()
        }
        Input::Message { message: Message::HandOver(HandOver::LinksTold { links, .. }), .. } => {
            links.iter().collect()
        }
        _ => Vec::new(),
    };
    let of_itself = RecordKey::Host(key);
    records.into_iter().filter(|r| r.author() == key && r.key(key) == of_itself).collect()
}

impl Oracle {
    /// L1: only what its own key has signed and it never did keeps a host still until somebody tells it to go on.
    pub(crate) fn check_silenced(&mut self, host: &Host) {
        let lied = host.honesty == Honesty::Hostile;
        if !lied && host.own_key.unknown.is_none() && !self.has_lost_state(host.keys.public()) {
            self.broken(format!("L1: {} keeps still, and nobody else has signed with its key", host.name));
        }
    }

    /// L1: nobody is cut off but "a host of the project that signs two things in one slot".
    pub(crate) fn check_cut_off(&mut self, by: &Host, author: PublicKey) {
        if !self.may_have_signed_twice(author) {
            self.broken(format!(
                "L1: {} cuts {} off, which has signed nothing twice",
                by.name,
                author.short()
            ));
        }
    }

    fn check_signing(&mut self, host: &Host, now_ms: u64, known: &BTreeMap<PublicKey, usize>) {
        // Whoever has lost everything knows of nobody to ask.
        let asks = known.len() > 1 && !self.has_lost_state(host.keys.public());
        if !host.own_key.was_told && now_ms < host.own_key.began_ms + CONFIRM_MS && asks {
            self.broken(format!("D: {} signs before it has asked what others have heard of it", host.name));
        }
        if host.own_key.unknown.is_some() {
            self.broken(format!("D: {} signs, and has heard under its key what it never signed", host.name));
        }
    }
}

impl World {
    /// Notes what a host hears about its own key.
    pub(crate) fn note_own_heard(&mut self, node: usize, input: &Input) {
        let host = &mut self.hosts[node];
        for record in own_among(input, host.keys.public()) {
            host.own_key.hear(record);
        }
        if let Input::Message { message: Message::OwnTold { .. }, .. } = input {
            host.own_key.was_told = true;
        }
    }

    /// Looks at what a host writes down, which is where it signs.
    pub(crate) fn check_writes(&mut self, node: usize, writes: &[Write]) {
        let key = self.hosts[node].keys.public();
        let mut signs = false;
        for write in writes {
            if let Write::Holding(vm, Holding::Arriving { epoch, .. }) = write
                && self.begun.insert((node, vm.clone(), *epoch))
            {
                self.tally.hand_overs.begun += 1;
            }
            let Write::Record(slot, record) = write else { continue };
            self.check_kept(node, record);
            if let Record::Commit(commit) = &***record
                && self.hosts[node].honesty == Honesty::Honest
            {
                self.check_decided(node, commit);
            }
            if self.hosts[node].honesty == Honesty::Honest {
                self.oracle.check_kept_signature(key, record);
            }
            if let Record::Vm(status) = &***record
                && record.author() == key
            {
                self.oracle.note_own_vm(key, status, self.now_ms);
            }
            let is_signed_before =
                matches!(slot, RecordKey::Commit(_)) || self.hosts[node].disk.is_noted(record);
            signs |= record.author() == key && !is_signed_before;
            if *slot == RecordKey::Host(key) {
                self.hosts[node].own_key.signed = Some((record.counter(), record.digest()));
            }
        }
        if signs {
            self.oracle.check_signing(&self.hosts[node], self.now_ms, &self.index);
        }
    }
}
