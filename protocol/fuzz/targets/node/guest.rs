//! What guests ask for, and what the last host asks in their names.

use super::*;

impl Script<'_> {
    /// Returns what one of the projects was submitted as.
    pub(super) fn blobs(&self, which: usize) -> Vec<Blob> {
        let bytes = &self.prepared.definitions[which];
        let (from, digest) = (Blob::DEFINITION.to_owned(), Digest::of(bytes));
        vec![Blob { from, digest, bytes: bytes.len() as u64, mode: 0o600 }]
    }

    fn wanted(&mut self) -> Wanted {
        match self.next() % 8 {
            0 => Wanted::Text(PROJECTS[self.next() % PROJECTS.len()].to_owned()),
            1 => Wanted::Scale { class: name("a"), to: self.next() as u32 },
            2 => Wanted::Set { path: "/host/two/memory".to_owned(), value: Some("96M".to_owned()) },
            which => Wanted::Move { to: HostAddress(format!("host{}", which % HOSTS)) },
        }
    }

    /// Attests a key for a guest; as the host does, where it owns the VM, and else as somebody who says so.
    fn attested(&mut self, whom: usize, vm: &VmId, keys: &KeyPair) -> Verified<Attestation> {
        self.boots += 1;
        let now = Now { mono_ms: self.now_ms, unix_ms: self.now_ms };
        let boot = self.boots;
        self.nodes[whom].attest(now, vm, boot, keys.public()).unwrap_or_else(|| {
            let (vm, epoch, key) = (vm.clone(), self.epoch(), keys.public());
            let attestation = Attestation { vm, epoch, boot, key, made_unix_ms: self.now_ms };
            wire::sign_attestation(&self.prepared.configs[whom].keys, attestation)
        })
    }

    /// Returns the right to something that a guest wants, by the word of a host: none where there are no VMs yet.
    pub(super) fn right(&mut self, whom: usize) -> Option<GuestRight> {
        let which = self.next();
        let vm = self.vms.get(which % self.vms.len().max(1))?.clone();
        let keys = KeyPair::from_secret([200 + self.next() as u8 % 3; 32]);
        let attestation = self.attested(whom, &vm, &keys);
        let node = &self.nodes[whom];
        let head = node.vm_project(&vm).and_then(|project| Some(node.heads(project)?.head()));
        let known = head.and_then(|head| node.revision(head)).map(|head| head.revision.definition);
        let right_one = |bytes: &&Arc<[u8]>| known.is_some_and(|known| Digest::of(bytes) == known);
        let definition = self.prepared.definitions.iter().find(right_one);
        let definition = definition.unwrap_or(&self.prepared.definitions[which % PROJECTS.len()]).clone();
        let parent = if self.next() % 8 == 7 { self.digest() } else { head? };
        self.requests += 1;
        let (number, wanted, made_unix_ms) = (self.requests, self.wanted(), self.now_ms);
        let request = GuestRequest { vm, parent, number, wanted, reason: String::new(), made_unix_ms };
        // Now and then with the key of another one.
        let by = if self.next() % 8 == 7 { KeyPair::from_secret([199; 32]) } else { keys };
        Some(GuestRight { attestation, request: wire::sign_guest_request(&by, request), definition })
    }

    /// Asks for what a guest of the last host wants, with something of it altered.
    pub(super) fn ask_as_guest(&mut self) -> Option<Message> {
        let last = HOSTS - 1;
        let right = self.right(last)?;
        let now = Now { mono_ms: self.now_ms, unix_ms: self.now_ms };
        let intention = Intention::Guest(Box::new(right));
        let inquiry = self.nodes[last].inquiries(now, &intention, None).ok()?.into_iter().next()?;
        let Message::Ask { ask, fragment } = inquiry.message else { return None };
        let mut ask = (**ask).clone();
        match self.next() % 6 {
            0 => ask.revision.decision = None,
            1 => ask.guest = None,
            2 => ask.revision.definition = self.digest(),
            3 => ask.revision.made_unix_ms = self.next() as u64,
            4 => ask.revision.hosts.truncate(1),
            _ => {}
        }
        ask.digest = Digest::of(&wire::encode_revision(&ask.revision));
        let payload = wire::encode_ask(&ask);
        let ask = Arc::new(Verified::own(self.liar(), Domain::Request, ask, payload));
        Some(Message::Ask { ask, fragment })
    }
}
