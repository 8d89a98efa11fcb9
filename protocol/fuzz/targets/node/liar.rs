//! What the last host says beside what its node says.

use super::*;

impl Script<'_> {
    /// A record that a liar makes from what somebody else has said, signed with its own key.
    pub(super) fn forge(&mut self, to: usize) {
        let which = self.next();
        let Some(record) = self.heard.get(which % self.heard.len().max(1)).cloned() else { return };
        let payload = self.spoil(record.signed().payload.clone());
        let signed = self.liar().sign(Domain::Record, payload);
        if let Ok(record) = wire::verify_record(signed, self.prepared.root) {
            self.signed.insert(record.digest());
            self.heard.push(record.clone());
            self.input(to, Input::Record(record));
        }
    }

    pub(super) fn digest(&mut self) -> Digest {
        let which = self.next();
        self.digests.get(which % self.digests.len().max(1)).copied().unwrap_or(Digest([which as u8; 32]))
    }

    pub(super) fn key(&mut self) -> PublicKey {
        let which = self.next() % HOSTS;
        self.key_of(which)
    }

    pub(super) fn ballot(&mut self) -> Ballot {
        Ballot { number: [1, 2, 3, u64::MAX][self.next() % 4], coordinator: self.key() }
    }

    pub(super) fn vm(&mut self) -> VmId {
        let which = self.next();
        let unknown = || VmId { birth: Digest([1; 32]), name: name("one") };
        self.vms.get(which % self.vms.len().max(1)).cloned().unwrap_or_else(unknown)
    }

    pub(super) fn epoch(&mut self) -> Epoch {
        Epoch { term: [0, 1, 2, u64::MAX][self.next() % 4], n: [0, 1, 2, u64::MAX][self.next() % 4] }
    }

    pub(super) fn record_key(&mut self) -> RecordKey {
        match self.next() % 4 {
            0 => RecordKey::Member(self.key()),
            1 => RecordKey::Host(self.key()),
            2 => RecordKey::Commit(self.digest()),
            _ => {
                let vm = VmId { birth: self.digest(), name: name(["one", "two", "x"][self.next() % 3]) };
                RecordKey::Vm(vm, self.key())
            }
        }
    }

    /// What the last host says beside what its node says.
    pub(super) fn lie(&mut self) -> Message {
        let liar = self.liar();
        match self.next() % 16 {
            0 => Message::Answer {
                revision: self.digest(),
                verdict: Ok(wire::sign_reservation(liar, self.digest())),
            },
            1 => Message::Withdraw { revision: self.digest() },
            2 => Message::RunAnswer { request: self.digest(), verdict: RunVerdict::Applied },
            3 => Message::RunAnswer {
                request: self.digest(),
                verdict: RunVerdict::Stale { counter: self.next() as u64, by: self.key() },
            },
            4 => Message::Want((0..self.next()).map(|_| self.record_key()).collect()),
            5 => {
                let ranges = (0..self.next() % 20).map(|_| {
                    let content = if self.next() % 2 == 0 {
                        SyncContent::Sum { records: self.next() as u64, fingerprint: self.digest() }
                    } else {
                        SyncContent::List(
                            (0..self.next() % 20).map(|_| (self.record_key(), self.digest())).collect(),
                        )
                    };
                    let bound = |script: &mut Self| (script.next() % 2 == 0).then(|| script.record_key());
                    SyncRange { from: bound(self), until: bound(self), content }
                });
                Message::Sync(ranges.collect())
            }
            6 => Message::FragmentWanted(self.digest()),
            7 => match self.ask_as_guest() {
                Some(ask) => ask,
                None => Message::FragmentFound(Arc::new(Fragment::default())),
            },
            8 => Message::Ballot { parent: self.digest(), ballot: self.ballot() },
            9 => {
                let promised = (self.next() % 2 == 1).then(|| (self.ballot(), self.digest()));
                let answered = Answered { parent: self.digest(), ballot: self.ballot(), promised };
                Message::Answered { answer: Box::new(wire::sign_answered(liar, answered)), candidate: None }
            }
            10 => {
                let promise = Promise { parent: self.digest(), child: self.digest(), ballot: self.ballot() };
                Message::Promised(Box::new(wire::sign_promise(liar, promise)))
            }
            11 => {
                Message::Outbid { parent: self.digest(), ballot: self.ballot(), number: self.ballot().number }
            }
            12 => Message::HandOver(HandOver::Halt { vm: self.vm(), epoch: self.epoch() }),
            13 => {
                let root = Digest([self.next() as u8 % 2; 32]);
                Message::HandOver(HandOver::Halted { vm: self.vm(), epoch: self.epoch(), root })
            }
            14 => Message::HandOver(match self.next() % 4 {
                0 => HandOver::NotNow { vm: self.vm(), epoch: self.epoch(), reason: "not you".to_owned() },
                1 => HandOver::LinksWanted((0..self.next()).map(|_| self.vm()).collect()),
                2 => HandOver::HeardWanted { host: self.key() },
                _ => HandOver::HeardTold { host: self.key(), ago_ms: Some(self.next() as u64) },
            }),
            _ => {
                let count = self.next() % 8;
                let some = self.heard.iter().rev().take(count).cloned().collect();
                Message::Records(some)
            }
        }
    }
}
