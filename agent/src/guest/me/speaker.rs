//! What the guest says to its host, and what it makes of the answers. Pure: no socket, no clock, no randomness.
//!
//! What somebody wants is signed, and what is signed names the revision that it begins from. So it takes two questions:
//!
//! ```text
//!   call ── Key ──► Attested, with the head ── Request, signed ──► Done | Refused | Failed
//!   call ── Key ──► Attested, with the head ── Plan, signed ──► Plan | Refused | Failed
//!   call ── Me | Status | Log ──► the same
//! ```

use std::collections::{BTreeMap, VecDeque};

use mln_protocol::id::{Digest, Name, VmId};
use mln_protocol::model::HostAddress;
use mln_protocol::trust::{GUEST_REASON_BYTES_MAX, GuestRequest, KeyPair, Wanted};
use mln_protocol::wire;
use mln_protocol::wire::me::{MeAnswer, MeAsk, MeVm, MeWant, decode_me_answer, encode_me_ask};

use super::desk::Client;

/// How many questions may be open at a time.
const OPEN_MAX: usize = 8;

/// Who wants an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asker {
    /// Somebody who has called.
    Desk(Client),
    /// A policy of this VM.
    Policy(Name),
    /// The policies, which want to see what there is.
    Look,
}

/// What the guest says to its host.
#[derive(Debug)]
pub(super) struct Speaker {
    keys: Option<KeyPair>,
    /// The number of the newest question; that of a request rises with it.
    last: u64,
    open: BTreeMap<u64, Open>,
    host: Host,
    output: VecDeque<Vec<u8>>,
}

/// Whether the host listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Host {
    Listens,
    Deaf,
}

/// A question that is not answered yet.
#[derive(Debug)]
struct Open {
    asker: Asker,
    then: Then,
}

/// What is to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Call {
    /// Just this.
    Ask(MeAsk),
    /// A change, which is to be signed first.
    Want {
        /// Which.
        want: MeWant,
        /// Why, for people.
        reason: String,
    },
    /// What would come of one, which is signed as well.
    Plan(MeWant),
}

/// What follows from its answer.
#[derive(Debug)]
enum Then {
    /// Whoever asked is told.
    Tell,
    /// The request is signed and sent.
    Sign { want: MeWant, reason: String, signed: fn(Vec<u8>) -> MeAsk },
}

impl Speaker {
    /// Returns one whom nobody hears yet.
    pub(super) fn new() -> Self {
        Self { keys: None, last: 0, open: BTreeMap::new(), host: Host::Deaf, output: VecDeque::new() }
    }

    /// Takes note that the host listens.
    pub(super) fn listens(&mut self) {
        self.host = Host::Listens;
    }

    /// Takes note that the host doesn't listen any more; returns who waits in vain.
    pub(super) fn cut_off(&mut self) -> Vec<Asker> {
        self.host = Host::Deaf;
        self.output.clear();
        std::mem::take(&mut self.open).into_values().map(|open| open.asker).collect()
    }

    /// Forgets what those wanted who have gone.
    pub(super) fn forget(&mut self, waits: impl Fn(Client) -> bool) {
        self.open.retain(|_, open| match open.asker {
            Asker::Desk(client) => waits(client),
            Asker::Policy(_) | Asker::Look => true,
        });
    }

    /// Returns the next thing to be said.
    pub(super) fn poll_output(&mut self) -> Option<Vec<u8>> {
        self.output.pop_front()
    }

    /// Asks what somebody wants asked; an answer at once where that can't be. `draw` gives the secret of a key.
    pub(super) fn call(
        &mut self,
        asker: Asker,
        call: Call,
        draw: impl FnOnce() -> Result<[u8; 32], String>,
    ) -> Result<(), MeAnswer> {
        if self.host == Host::Deaf {
            return Err(MeAnswer::Away);
        }
        let called = self.open.values().filter(|open| matches!(open.asker, Asker::Desk(_))).count();
        if called >= OPEN_MAX && matches!(asker, Asker::Desk(_)) {
            let text = format!("{OPEN_MAX} others in this machine wait for an answer: try again");
            return Err(MeAnswer::Failed { text });
        }
        let (want, reason, signed): (_, _, fn(Vec<u8>) -> MeAsk) = match call {
            Call::Ask(ask) => {
                self.ask(asker, ask, Then::Tell);
                return Ok(());
            }
            Call::Want { want, reason } => (want, reason, MeAsk::Request),
            Call::Plan(want) => (want, String::new(), MeAsk::Plan),
        };
        if self.keys.is_none() {
            let secret = draw().map_err(|text| MeAnswer::Failed { text })?;
            self.keys = Some(KeyPair::from_secret(secret));
        }
        let key = self.keys.as_ref().map_or([0; 32], |keys| keys.public().0);
        let mut reason: String = reason.chars().filter(|c| !c.is_control()).collect();
        reason.truncate(reason.floor_char_boundary(GUEST_REASON_BYTES_MAX));
        self.ask(asker, MeAsk::Key(key), Then::Sign { want, reason, signed });
        Ok(())
    }

    /// Takes what the host says; returns who is to be told what.
    pub(super) fn heard(&mut self, bytes: &[u8], now_unix_ms: u64) -> Option<(Asker, MeAnswer)> {
        let (number, answer) = match decode_me_answer(bytes) {
            Ok(wire) => (wire.number, wire.answer),
            // Of a newer host.
            Err(error) => {
                let number = wire::me::me_number(bytes)?;
                (number, MeAnswer::Failed { text: format!("the host's answer can't be read: {error}") })
            }
        };
        let Open { asker, then } = self.open.remove(&number)?;
        match (then, answer) {
            (Then::Sign { want, reason, signed }, MeAnswer::Attested(vm)) => {
                match self.sign(&vm, want, reason, now_unix_ms) {
                    Ok(request) => {
                        self.ask(asker, signed(request), Then::Tell);
                        None
                    }
                    Err(text) => Some((asker, MeAnswer::Failed { text })),
                }
            }
            (_, answer) => Some((asker, answer)),
        }
    }

    fn ask(&mut self, asker: Asker, ask: MeAsk, then: Then) {
        self.last += 1;
        self.open.insert(self.last, Open { asker, then });
        self.output.push_back(encode_me_ask(self.last, ask));
    }

    fn sign(&self, vm: &MeVm, want: MeWant, reason: String, now_unix_ms: u64) -> Result<Vec<u8>, String> {
        let keys = self.keys.as_ref().ok_or("there is no key")?;
        let name = |text: &str| Name::parse(text).map_err(|error| format!("`{text}`: {error}"));
        let wanted = match want {
            MeWant::Scale { class, to } => Wanted::Scale { class: name(&class)?, to },
            MeWant::Move { to } => Wanted::Move { to: HostAddress(to) },
            MeWant::Set { path, value } => Wanted::Set { path, value },
            MeWant::Text(text) => Wanted::Text(text),
        };
        let request = GuestRequest {
            vm: VmId { birth: Digest(vm.birth), name: name(&vm.name)? },
            parent: Digest(vm.head),
            number: self.last,
            wanted,
            reason,
            made_unix_ms: now_unix_ms,
        };
        Ok(wire::sign_guest_request(keys, request).signed().to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mln_protocol::trust::Signed;
    use mln_protocol::wire::me::{decode_me_ask, encode_me_answer};

    const NOBODY: fn() -> Result<[u8; 32], String> = || Err("nothing is drawn".to_owned());

    fn said(speaker: &mut Speaker) -> Vec<(u64, MeAsk)> {
        let bytes = std::iter::from_fn(|| speaker.poll_output());
        bytes
            .map(|bytes| decode_me_ask(&bytes).expect("we encoded it"))
            .map(|ask| (ask.number, ask.ask))
            .collect()
    }

    fn vm() -> MeVm {
        MeVm {
            birth: [1; 32],
            name: "web1".to_owned(),
            owner: "anna".to_owned(),
            project: "shop".to_owned(),
            service_host: "oslo".to_owned(),
            term: 1,
            n: 1,
            head: [2; 32],
        }
    }

    fn moving() -> Call {
        Call::Want { want: MeWant::Move { to: "bergen".to_owned() }, reason: "a\u{1b}why".to_owned() }
    }

    #[test]
    fn what_is_wanted_is_signed_by_the_key_that_the_host_has_attested_from_the_head_that_it_names() {
        let mut speaker = Speaker::new();
        speaker.listens();
        assert_eq!(speaker.call(Asker::Desk(5), moving(), || Ok([7; 32])), Ok(()));
        let keys = KeyPair::from_secret([7; 32]);
        assert_eq!(said(&mut speaker), [(1, MeAsk::Key(keys.public().0))]);
        assert_eq!(speaker.heard(&encode_me_answer(1, MeAnswer::Attested(Box::new(vm()))), 9), None);
        let asked = said(&mut speaker);
        let [(2, MeAsk::Request(bytes))] = asked.as_slice() else { panic!("{asked:?}") };
        let signed = Signed::from_bytes(bytes).expect("we encoded it");
        let request = wire::verify_guest_request(signed).expect("we signed it");
        assert_eq!(request.author(), keys.public());
        let expect = GuestRequest {
            vm: VmId { birth: Digest([1; 32]), name: Name::parse("web1").expect("a name") },
            parent: Digest([2; 32]),
            number: 1,
            wanted: Wanted::Move { to: HostAddress("bergen".to_owned()) },
            reason: "awhy".to_owned(),
            made_unix_ms: 9,
        };
        assert_eq!(*request, expect);
        let refused = MeAnswer::Refused(Vec::new());
        assert_eq!(speaker.heard(&encode_me_answer(2, refused.clone()), 9), Some((Asker::Desk(5), refused)));
        assert_eq!(speaker.heard(&encode_me_answer(2, MeAnswer::Away), 9), None, "it is answered");
    }

    #[test]
    fn what_is_only_thought_of_is_signed_too_and_says_that_it_is() {
        let mut speaker = Speaker::new();
        speaker.listens();
        let plan = Call::Plan(MeWant::Scale { class: "web".to_owned(), to: 3 });
        assert_eq!(speaker.call(Asker::Desk(5), plan, || Ok([7; 32])), Ok(()));
        said(&mut speaker);
        speaker.heard(&encode_me_answer(1, MeAnswer::Attested(Box::new(vm()))), 9);
        let asked = said(&mut speaker);
        let [(2, MeAsk::Plan(bytes))] = asked.as_slice() else { panic!("{asked:?}") };
        let request = Signed::from_bytes(bytes).map(wire::verify_guest_request).expect("we encoded it");
        let wanted = request.expect("we signed it").wanted.clone();
        assert_eq!(wanted, Wanted::Scale { class: Name::parse("web").expect("a name"), to: 3 });
    }

    #[test]
    fn who_may_not_have_a_key_is_told_and_signs_nothing() {
        let mut speaker = Speaker::new();
        speaker.listens();
        assert_eq!(speaker.call(Asker::Desk(5), moving(), || Ok([7; 32])), Ok(()));
        said(&mut speaker);
        let refused = MeAnswer::Refused(Vec::new());
        assert_eq!(speaker.heard(&encode_me_answer(1, refused.clone()), 9), Some((Asker::Desk(5), refused)));
        assert_eq!(said(&mut speaker), []);
    }

    #[test]
    fn nobody_waits_for_a_host_that_does_not_listen() {
        let mut speaker = Speaker::new();
        assert_eq!(speaker.call(Asker::Desk(1), Call::Ask(MeAsk::Me), NOBODY), Err(MeAnswer::Away));
        speaker.listens();
        assert_eq!(speaker.call(Asker::Desk(1), Call::Ask(MeAsk::Me), NOBODY), Ok(()));
        assert_eq!(speaker.call(Asker::Desk(2), Call::Ask(MeAsk::Log), NOBODY), Ok(()));
        speaker.forget(|client| client == 2);
        assert_eq!(speaker.cut_off(), [Asker::Desk(2)]);
        assert_eq!(said(&mut speaker), []);
        assert_eq!(speaker.call(Asker::Desk(1), Call::Ask(MeAsk::Me), NOBODY), Err(MeAnswer::Away));
    }

    #[test]
    fn so_many_questions_are_open_at_a_time() {
        let mut speaker = Speaker::new();
        speaker.listens();
        for client in 0..OPEN_MAX as Client {
            assert_eq!(speaker.call(Asker::Desk(client), Call::Ask(MeAsk::Status), NOBODY), Ok(()));
        }
        let status = || Call::Ask(MeAsk::Status);
        let refused = speaker.call(Asker::Desk(99), status(), NOBODY);
        assert!(matches!(refused, Err(MeAnswer::Failed { .. })), "{refused:?}");
        // Policies don't wait for those who call.
        assert_eq!(speaker.call(Asker::Look, status(), NOBODY), Ok(()));
    }
}
