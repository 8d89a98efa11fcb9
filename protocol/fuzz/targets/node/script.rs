//! What the bytes of a script mean.

use super::*;

impl<'a> Script<'a> {
    pub(super) fn new(prepared: &'a Prepared, bytes: &'a [u8]) -> Self {
        let mut script = Self {
            prepared,
            bytes,
            as_bytes: false,
            nodes: prepared.nodes.clone(),
            disks: prepared.disks.clone(),
            pending: VecDeque::new(),
            heard: prepared.heard.clone(),
            signed: prepared.heard.iter().map(|record| record.digest()).collect(),
            digests: Vec::new(),
            vms: Vec::new(),
            now_ms: 0,
            op: 0,
            boots: 0,
            requests: 0,
            inputs: 0,
            spoilt: 0,
            accepted: 0,
        };
        script.as_bytes = script.next() % 2 == 1;
        script
    }

    pub(super) fn key_of(&self, index: usize) -> PublicKey {
        self.prepared.configs[index].keys.public()
    }

    pub(super) fn liar(&self) -> &'a KeyPair {
        &self.prepared.configs[HOSTS - 1].keys
    }

    pub(super) fn next(&mut self) -> usize {
        let Some((&first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        first.into()
    }

    pub(super) fn input(&mut self, index: usize, input: Input) {
        self.inputs += 1;
        let now = Now { mono_ms: self.now_ms, unix_ms: self.now_ms };
        self.nodes[index].handle(now, input);
        let mut outputs = 0;
        while let Some(output) = self.nodes[index].poll_output() {
            outputs += 1;
            assert!(outputs < OUTPUTS_MAX, "one input made a node do {OUTPUTS_MAX} things");
            self.output(index, output);
        }
    }

    pub(super) fn wait(&mut self, index: usize, due: Due) {
        if self.pending.len() >= PENDING_MAX {
            self.pending.pop_front();
        }
        self.pending.push_back((index, due));
    }

    pub(super) fn deliver(&mut self, (to, due): (usize, Due)) {
        match due {
            Due::Input(input) => self.input(to, input),
            Due::Bytes(from, bytes) => {
                let message = wire::decode_message(&bytes, self.prepared.root);
                let message = message.expect("nobody has touched what a node has encoded");
                self.input(to, Input::Message { from, message });
            }
            Due::Gossip(signed) => {
                let record = wire::verify_record(signed, self.prepared.root);
                self.input(to, Input::Record(record.expect("nobody has touched what a node has signed")));
            }
        }
    }

    /// Changes what arrives. A record is refused then; what else still has a meaning is what nobody signs.
    pub(super) fn deliver_spoilt(&mut self, (to, due): (usize, Due)) {
        match due {
            Due::Input(input) => self.input(to, input),
            Due::Bytes(from, bytes) => {
                self.spoilt += 1;
                let bytes = self.spoil(bytes);
                if let Ok(message) = wire::decode_message(&bytes, self.prepared.root) {
                    self.accepted += 1;
                    if let Message::Records(records)
                    | Message::HandOver(HandOver::LinksTold { links: records, .. }) = &message
                    {
                        let known = |record: &VerifiedRecord| self.signed.contains(&record.digest());
                        assert!(records.iter().all(known), "a record that nobody signed was verified");
                    }
                    self.input(to, Input::Message { from, message });
                }
            }
            Due::Gossip(mut signed) => {
                self.spoilt += 1;
                let before = signed.clone();
                match self.next() % 3 {
                    0 => signed.payload = self.spoil(signed.payload),
                    1 => signed.signature[self.next() % 64] ^= self.next() as u8,
                    _ => signed.author = self.key(),
                }
                let touched = signed != before;
                let verified = wire::verify_record(signed, self.prepared.root);
                assert_eq!(verified.is_err(), touched, "what was signed is accepted, and nothing else");
                if let Ok(record) = verified {
                    self.input(to, Input::Record(record));
                }
            }
        }
    }

    /// Changes bytes in one to four places, or cuts them off, or has more of them.
    pub(super) fn spoil(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        let how = self.next();
        let places = if how < 128 { how % 4 + 1 } else { 0 };
        for _ in 0..places {
            let at = self.next() | self.next() << 8;
            let with = self.next() as u8;
            if let Some(length) = std::num::NonZeroUsize::new(bytes.len()) {
                bytes[at % length] ^= with;
            }
        }
        match how {
            128..192 => bytes.truncate(bytes.len().saturating_sub(how - 127)),
            192.. => bytes.extend((0..how - 191).map(|_| self.next() as u8)),
            _ => {}
        }
        bytes
    }

    pub(super) fn output(&mut self, from: usize, output: Output) {
        match output {
            Output::Send { to, message } => {
                let own = self.key_of(from);
                if let Message::Records(records)
                | Message::HandOver(HandOver::LinksTold { links: records, .. }) = &message
                    && self.as_bytes
                {
                    self.signed.extend(records.iter().map(|record| record.digest()));
                }
                let due = if self.as_bytes {
                    Due::Bytes(own, wire::encode_message(&message))
                } else {
                    Due::Input(Input::Message { from: own, message })
                };
                if let Some(to) = (0..HOSTS).find(|&index| self.key_of(index) == to) {
                    self.wait(to, due);
                }
            }
            Output::Broadcast(record) => {
                self.heard.push(record.clone());
                self.digests.push(record.digest());
                self.signed.insert(record.digest());
                for to in (0..HOSTS).filter(|&to| to != from) {
                    let due = match self.as_bytes {
                        true => Due::Gossip(record.signed().clone()),
                        false => Due::Input(Input::Record(record.clone())),
                    };
                    self.wait(to, due);
                }
            }
            Output::Persist { id, writes } => {
                self.disks[from].0.extend(writes);
                self.wait(from, Due::Input(Input::Persisted(id)));
            }
            Output::Check { revision, .. } => {
                self.digests.push(revision);
                self.wait(from, Due::Input(Input::Checked { revision, verdict: Ok(()) }));
            }
            Output::Step { vm, step, .. } => {
                self.vms.push(vm.clone());
                let observed =
                    [Observed::Down { exit: None }, Observed::Running(RunPhase::Ready), Observed::Absent];
                let result = match self.next() % 4 {
                    3 => Err("it went wrong".to_owned()),
                    which => Ok(observed[which].clone()),
                };
                self.wait(from, Due::Input(Input::StepDone { vm, step, result }));
            }
            Output::Hook { project, point, .. } => {
                let result = if self.next() % 4 == 3 { Err("it went wrong".to_owned()) } else { Ok(()) };
                self.wait(from, Due::Input(Input::HookDone { project, point, result }));
            }
            Output::Pull { vm, .. } => {
                let result = self.copied(|script| (script.next() as u64) << 20);
                self.wait(from, Due::Input(Input::Pulled { vm, result }));
            }
            Output::Seal { vm } => {
                let result = self.copied(|script| Digest([script.next() as u8 % 2; 32]));
                self.wait(from, Due::Input(Input::Sealed { vm, result }));
            }
            Output::ReadCopy { vm } => {
                let result = self.copied(|script| Digest([script.next() as u8 % 2; 32]));
                self.wait(from, Due::Input(Input::CopyRead { vm, result }));
            }
            _ => {}
        }
    }

    /// What became of something about a copy; it goes wrong once in eight times.
    pub(super) fn copied<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Result<T, String> {
        if self.next() % 8 == 7 { Err("it went wrong".to_owned()) } else { Ok(value(self)) }
    }

    pub(super) fn turn(&mut self) {
        let (what, whom) = (self.next(), self.next() % HOSTS);
        match what % 16 {
            // Half of all turns bring something about that waits: now, or twice.
            0..=6 => {
                if let Some(next) = self.pending.pop_front() {
                    self.deliver(next);
                }
            }
            7 | 8 => {
                let which = self.next();
                if !self.pending.is_empty()
                    && let Some((to, due)) = self.pending.remove(which % self.pending.len())
                {
                    if what % 16 == 8 {
                        self.wait(to, due.clone());
                    }
                    self.deliver((to, due));
                }
            }
            9 => {
                if let Some(next) = self.pending.pop_front()
                    && self.as_bytes
                    && what >= 64
                {
                    self.deliver_spoilt(next);
                }
            }
            10 => {
                self.now_ms += [1, 100, 1_000, 10_000, 100_000, 1_000_000][self.next() % 6];
                self.input(whom, Input::Timeout);
            }
            11 => {
                self.nodes[whom] = Node::new(self.prepared.configs[whom].clone(), self.disks[whom].load());
                self.pending.retain(|(to, due)| {
                    *to != whom
                        || !matches!(due, Due::Input(input) if !matches!(input, Input::Message { .. }))
                });
                let count = self.next() % 4;
                let running = |vm: &VmId| (vm.clone(), Observed::Running(RunPhase::Ready));
                let found = self.vms.iter().take(count).map(running).collect();
                self.input(whom, Input::Start { found });
            }
            12 => self.operate(whom),
            13 => {
                let input = self.happens();
                self.input(whom, input);
            }
            14 => {
                let liar = self.key_of(HOSTS - 1);
                if what >= 128 {
                    self.forge(whom % (HOSTS - 1));
                } else {
                    let message = self.lie();
                    self.input(whom % (HOSTS - 1), Input::Message { from: liar, message });
                }
            }
            _ => {
                let which = self.next();
                if let Some(record) = self.heard.get(which % self.heard.len().max(1)).cloned() {
                    self.input(whom, Input::Record(record));
                }
            }
        }
    }

    /// Something that happens to a host by itself.
    pub(super) fn happens(&mut self) -> Input {
        let peer = self.key();
        let which = self.next();
        let vm = self.vms.get(which % self.vms.len().max(1)).cloned();
        match (self.next() % 10, vm) {
            (0 | 1, _) => Input::Connected(peer),
            (2, _) => Input::Disconnected(peer),
            (3, _) => Input::Unreachable(peer),
            (4, Some(vm)) => Input::Observed { vm, observed: Observed::Down { exit: None } },
            (5, Some(vm)) => Input::Observed { vm, observed: Observed::Running(RunPhase::Ready) },
            (6, Some(vm)) => Input::Nat { vm, nat: Nat::Up },
            (7, _) => Input::SpaceShort,
            (8, _) => Input::Room([Room::Ample, Room::Full][which % 2]),
            _ => Input::Abandon(OpId(which as u64 % (self.op + 1))),
        }
    }

    pub(super) fn operate(&mut self, whom: usize) {
        self.op += 1;
        let op = OpId(self.op);
        let running = [RunningVms::Stop, RunningVms::Refuse][self.next() % 2];
        let projects: Vec<_> = self.nodes[whom].projects().into_iter().map(|project| project.id).collect();
        let operation = match self.next() % 8 {
            0 | 1 => {
                let which = self.next() % PROJECTS.len();
                let project = self.prepared.projects[which].clone();
                Operation::Build(Box::new(BuildOrder {
                    label: Label { owner: name("people"), project: project.name.clone() },
                    project,
                    blobs: self.blobs(which),
                    author: "people".to_owned(),
                    existing: [ExistingProject::Refuse, ExistingProject::Replace(running)][self.next() % 2],
                    on_failure: [OnFailure::Undo, OnFailure::Keep][self.next() % 2],
                }))
            }
            3 => match self.right(whom) {
                Some(right) => Operation::Guest(Box::new(right)),
                None => return,
            },
            2 => match projects.first() {
                Some(&project) => Operation::Remove { project, running },
                None => return,
            },
            4 | 5 => match projects.first() {
                Some(&project) => {
                    let which = self.next() % PROJECTS.len();
                    let definition = self.prepared.projects[which].clone();
                    let content = match self.next() % 4 {
                        0 => ReviseContent::Revision(self.digest()),
                        _ => ReviseContent::Definition { project: definition, blobs: self.blobs(which) },
                    };
                    Operation::Revise(Box::new(ReviseOrder {
                        project,
                        content,
                        author: "people".to_owned(),
                        reason: "it moves".to_owned(),
                        consent: [Consent::Majority, Consent::Partial][self.next() % 2],
                        running,
                        from_head: (self.next() % 4 == 3).then(|| self.digest()),
                        keep_removed_ms: 0,
                    }))
                }
                None => return,
            },
            6 => match self.vms.first() {
                Some(vm) => Operation::TakeOver {
                    vm: vm.clone(),
                    owner: [OwnerHeard::Refuse, OwnerHeard::Force][self.bytes.len() % 2],
                    author: "people".to_owned(),
                },
                None => return,
            },
            _ => {
                let order =
                    [RunOrder::Up, RunOrder::Down(StopLimit::After(1_000)), RunOrder::Down(StopLimit::Now)];
                let order = order[self.next() % 3];
                let vms = projects
                    .iter()
                    .flat_map(|id| self.nodes[whom].vms(*id))
                    .map(|view| view.status.vm)
                    .collect();
                Operation::Run { vms, order, pause_ms: 0 }
            }
        };
        self.input(whom, Input::Operate { op, operation });
    }

    /// Plays the script, and goes on by itself until enough has happened.
    pub(super) fn play(&mut self) {
        while !self.bytes.is_empty() {
            self.turn();
        }
        let mut whom = 0;
        while self.inputs < INPUTS_MIN {
            if let Some(next) = self.pending.pop_front() {
                self.deliver(next);
            } else {
                self.now_ms = self.now_ms.max(self.nodes[whom].poll_timeout().unwrap_or(self.now_ms));
                self.input(whom, Input::Timeout);
                whom = (whom + 1) % HOSTS;
            }
        }
    }
}
