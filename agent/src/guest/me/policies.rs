//! The policies of this VM: looked up at the host, asked when they are due, and what they want signed and sent.
//!
//! ```text
//!   due ── Sight ──► host ──► policies, and what they see ──► built-in: at once   ──► wants ──► signed, sent
//!                                                         └─► program: when it ends ─┘
//! ```
//!
//! What a policy is, and when it is asked, is [`Runner`]'s; here are its clock, its programs and its way to the host.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use mln_protocol::convert::{policy_answer, policy_request};
use mln_protocol::id::Name;
use mln_protocol::model::Policy;
use mln_protocol::policy::{Decision, Granted, Runner, Sample, Told, Turn, Verdict};
use mln_protocol::record::TOLD_GAUGES_MAX;
use mln_protocol::wire::me::{MeAnswer, MeAsk, MeGauge, MeRun, MeValue, MeWant};
use tracing::{info, warn};

use super::measure::{GAUGES, Meter};
use super::program::Programs;
use super::speaker::{Asker, Call};

/// How often the host is told what is measured where somebody in the machine measures something, in milliseconds.
const TELL_MS: u64 = 10_000;
/// How often the host is asked whether there are other policies, in milliseconds.
const LOOK_MS: u64 = 60_000;
/// After how long it is asked again where it didn't answer well, in milliseconds.
const LOOK_AGAIN_MS: u64 = 5_000;
/// After how long an answer isn't waited for any more, in milliseconds: the one, or what became of a change.
const LOOK_LOST_MS: u64 = 30_000;
/// How long a program may take, in milliseconds: as long as it is until it is asked again, but no longer than the one and at
/// least the other.
const PROGRAM_MS_MAX: u64 = 60_000;
const PROGRAM_MS_MIN: u64 = 1_000;

/// The policies of this VM.
#[derive(Debug)]
pub(super) struct Policies {
    begun: Instant,
    runner: Runner,
    /// What the host has told last.
    known: Option<(Vec<Policy>, Told)>,
    look: Look,
    /// When the host was asked last, in milliseconds.
    looked_ms: u64,
    age: HostAge,
    measures: Measures,
    meter: Meter,
    programs: Option<Programs>,
    /// What came of each policy when it was last asked, and when.
    said: BTreeMap<Name, (String, u64)>,
}

/// What the host's agent can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HostAge {
    /// All that is known here, or it isn't known yet what.
    Current,
    /// Nothing of gauges: it is from before that.
    Older,
}

/// Who measures something in this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measures {
    /// The guest agent alone.
    Usual,
    /// Somebody by `mlnctl me gauge`, too.
    Own,
}

/// When the host is to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// It doesn't listen.
    Deaf,
    /// At this time, in milliseconds.
    At { ms: u64 },
    /// It was asked at this time, in milliseconds.
    Open { since_ms: u64 },
}

impl Policies {
    /// Begins with none: the host is asked for them.
    pub(super) fn new() -> Self {
        let programs = Programs::new();
        if let Err(error) = &programs {
            warn!(%error, "policies can't run programs");
        }
        Self {
            begun: Instant::now(),
            runner: Runner::new(Vec::new(), 0),
            known: None,
            look: Look::Deaf,
            looked_ms: 0,
            age: HostAge::Current,
            measures: Measures::Usual,
            meter: Meter::default(),
            programs: programs.ok(),
            said: BTreeMap::new(),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns what is to be waited for.
    pub(super) fn interest(&self) -> Option<BorrowedFd<'_>> {
        self.programs.as_ref().map(|programs| programs.bell().as_fd())
    }

    /// Returns how long there is nothing to do, if nothing else happens.
    pub(super) fn pause(&self) -> Option<Duration> {
        let at_ms = match self.look {
            Look::Deaf => return None,
            Look::At { ms } => ms,
            Look::Open { since_ms } => since_ms + LOOK_LOST_MS,
        };
        Some(Duration::from_millis(at_ms.saturating_sub(self.now_ms())))
    }

    /// Takes note that the host listens.
    pub(super) fn listens(&mut self) {
        self.look = Look::At { ms: self.now_ms() };
        // It may have been replaced.
        self.age = HostAge::Current;
    }

    /// Takes note that the host doesn't listen any more; what it was asked is lost.
    pub(super) fn cut_off(&mut self) {
        self.look = Look::Deaf;
    }

    /// Returns what is to be asked of the host now.
    pub(super) fn pump(&mut self) -> Vec<(Asker, Call)> {
        let mut asks = self.programs_ended();
        let now_ms = self.now_ms();
        match self.look {
            Look::At { ms } if ms <= now_ms => {
                self.look = Look::Open { since_ms: now_ms };
                self.looked_ms = now_ms;
                for (gauge, value) in self.meter.read(now_ms) {
                    // What the program itself measures is a number; where others fill all room it is left out.
                    let _ = self.runner.measure(&gauge, Sample { at_ms: now_ms, value });
                }
                let ask = match self.age {
                    HostAge::Current => MeAsk::Look(self.values()),
                    HostAge::Older => MeAsk::Sight,
                };
                asks.push((Asker::Look, Call::Ask(ask)));
            }
            Look::Open { since_ms } if now_ms.saturating_sub(since_ms) >= LOOK_LOST_MS => {
                self.look = Look::At { ms: now_ms + LOOK_AGAIN_MS };
            }
            Look::Deaf | Look::At { .. } | Look::Open { .. } => {}
        }
        asks
    }

    /// Takes what the host says when it was asked for the policies; returns what they want.
    pub(super) fn seen(&mut self, answer: MeAnswer) -> Vec<(Asker, Call)> {
        let now_ms = self.now_ms();
        let told = match answer {
            MeAnswer::View(view) => view.told(now_ms).map_err(|error| error.to_string()),
            MeAnswer::Sight(sight) => sight.told(now_ms).map_err(|error| error.to_string()),
            MeAnswer::Unknown if self.age == HostAge::Current => {
                self.age = HostAge::Older;
                self.look = Look::At { ms: now_ms };
                return Vec::new();
            }
            // It is older, and will not know more in a moment.
            MeAnswer::Unknown => {
                self.look = Look::At { ms: now_ms + LOOK_MS };
                return Vec::new();
            }
            _ => Err("the host doesn't say".to_owned()),
        };
        let (policies, told) = match told {
            Ok(told) => told,
            Err(_) => {
                self.look = Look::At { ms: now_ms + LOOK_AGAIN_MS };
                return Vec::new();
            }
        };
        if self.known.as_ref().is_none_or(|(known, _)| *known != policies) {
            self.runner.replace(policies.clone(), now_ms);
            self.said.retain(|policy, _| policies.iter().any(|one| one.name == *policy));
        }
        let asks = if policies.is_empty() { Vec::new() } else { self.turn(now_ms, &policies, &told) };
        self.known = Some((policies, told));
        self.look = Look::At { ms: now_ms + LOOK_MS };
        self.look_when_due(now_ms);
        asks
    }

    /// Looks again when a policy is due, or in a while; not while the host is being asked, or doesn't listen.
    fn look_when_due(&mut self, now_ms: u64) {
        if let Look::At { .. } = self.look {
            let pause_ms = match self.measures {
                Measures::Usual => LOOK_MS,
                Measures::Own => TELL_MS,
            };
            let ms = self.runner.next_ms().unwrap_or(u64::MAX).min(now_ms + pause_ms);
            self.look = Look::At { ms };
        }
    }

    fn turn(&mut self, now_ms: u64, policies: &[Policy], told: &Told) -> Vec<(Asker, Call)> {
        let mut asks = Vec::new();
        for turn in self.runner.turn(now_ms, told) {
            match turn {
                Turn::Run { policy, program, sight } => {
                    let Some(known) = policies.iter().find(|known| known.name == policy) else { continue };
                    match &self.programs {
                        Some(programs) => {
                            let limit = known.every_ms.clamp(PROGRAM_MS_MIN, PROGRAM_MS_MAX);
                            let limit = Duration::from_millis(limit);
                            programs.start(policy, program, policy_request(known, &sight), limit);
                        }
                        None => {
                            let failed = Err("this machine has no pipe for its program".to_owned());
                            let turn = self.runner.ended(&policy, now_ms, failed);
                            asks.extend(turn.and_then(|turn| self.note(now_ms, turn)));
                        }
                    }
                }
                turn @ (Turn::Ask { .. } | Turn::Stay { .. } | Turn::StandBy { .. }) => {
                    asks.extend(self.note(now_ms, turn));
                }
            }
        }
        asks
    }

    /// Takes what programs have answered.
    fn programs_ended(&mut self) -> Vec<(Asker, Call)> {
        let now_ms = self.now_ms();
        let mut asks = Vec::new();
        while let Some(ended) = self.programs.as_ref().and_then(Programs::ended) {
            let verdict =
                ended.answer.and_then(|text| policy_answer(&text).map_err(|error| error.to_string()));
            let turn = self.runner.ended(&ended.policy, now_ms, verdict);
            asks.extend(turn.and_then(|turn| self.note(now_ms, turn)));
            self.look_when_due(now_ms);
        }
        asks
    }

    /// Remembers what came of a policy; returns what it wants.
    fn note(&mut self, now_ms: u64, turn: Turn) -> Option<(Asker, Call)> {
        let (policy, said, call) = match turn {
            Turn::Ask { policy, verdict } => match want_of(&verdict) {
                Some((want, words)) => {
                    let Verdict { reason, .. } = verdict;
                    info!(%policy, wants = words, reason, "decides");
                    let said = format!("{words}: {reason}");
                    let reason = format!("policy {policy}: {reason}");
                    (policy, said, Some(Call::Want { want, reason }))
                }
                None => {
                    self.runner.answered(&policy, now_ms, Granted::No);
                    (
                        policy,
                        format!("a further disk, which can't be asked for yet: {}", verdict.reason),
                        None,
                    )
                }
            },
            Turn::Stay { policy, reason } => (policy, format!("stays as it is: {reason}"), None),
            Turn::StandBy { policy, elected } => (policy, format!("stands by: {elected} decides"), None),
            Turn::Run { policy, .. } => (policy, "its program runs".to_owned(), None),
        };
        self.said.insert(policy.clone(), (said, now_ms));
        call.map(|call| (Asker::Policy(policy), call))
    }

    /// Takes what has become of what a policy wanted.
    pub(super) fn answered(&mut self, policy: &Name, answer: &MeAnswer) {
        let now_ms = self.now_ms();
        let (granted, said) = match answer {
            MeAnswer::Done(revision) => (Granted::Yes, format!("done, revision {}", revision.number)),
            MeAnswer::Refused(refusals) => {
                let mut texts: Vec<&str> = Vec::new();
                for refusal in refusals {
                    // Several hosts may say the same.
                    if !texts.contains(&refusal.text.as_str()) {
                        texts.push(&refusal.text);
                    }
                }
                (Granted::No, format!("refused: {}", texts.join("; ")))
            }
            MeAnswer::Failed { text } => (Granted::No, format!("failed: {text}")),
            _ => (Granted::No, "no host listens".to_owned()),
        };
        info!(%policy, outcome = said, "has asked");
        self.runner.answered(policy, now_ms, granted);
        let before = self.said.get(policy).map(|(said, _)| said.as_str()).unwrap_or_default();
        let said = format!("{before}; {said}");
        self.said.insert(policy.clone(), (said, now_ms));
        self.look_when_due(now_ms);
    }

    /// Takes the value of a gauge.
    pub(super) fn measure(&mut self, gauge: &str, value: &str) -> MeAnswer {
        let at_ms = self.now_ms();
        let set = Name::parse(gauge)
            .map_err(|error| error.to_string())
            .and_then(|name| Ok((name, value.parse().map_err(|_| format!("`{value}` is no number"))?)))
            .and_then(|(name, value)| {
                self.runner.measure(&name, Sample { at_ms, value }).map_err(|error| error.to_string())
            });
        match set {
            Ok(()) => {
                self.measures = Measures::Own;
                if let Look::At { ms } = self.look {
                    self.look = Look::At { ms: ms.min((self.looked_ms + TELL_MS).max(at_ms)) };
                }
                MeAnswer::Own { gauges: Vec::new(), policies: Vec::new() }
            }
            Err(text) => MeAnswer::Failed { text },
        }
    }

    /// Returns what the host is told: what every machine measures, and of the rest the first ones by name.
    fn values(&self) -> Vec<MeValue> {
        let is_usual = |name: &Name| GAUGES.contains(&name.as_str());
        let (usual, own): (Vec<_>, Vec<_>) =
            self.runner.gauges().newest().partition(|(name, _)| is_usual(name));
        let told = usual.into_iter().chain(own).take(TOLD_GAUGES_MAX);
        told.map(|(name, sample)| MeValue { name: name.to_string(), value: sample.value.to_string() })
            .collect()
    }

    /// Says what gauges there are, and what came of the policies.
    pub(super) fn own(&self) -> MeAnswer {
        let now_ms = self.now_ms();
        let gauges = self.runner.gauges().newest().map(|(name, sample)| MeGauge {
            name: name.to_string(),
            value: sample.value.to_string(),
            ago_ms: now_ms.saturating_sub(sample.at_ms),
        });
        let policies = self.said.iter().map(|(policy, (said, at_ms))| MeRun {
            policy: policy.to_string(),
            said: said.clone(),
            ago_ms: now_ms.saturating_sub(*at_ms),
        });
        MeAnswer::Own { gauges: gauges.collect(), policies: policies.collect() }
    }
}

/// Returns what a verdict asks for, and that in words.
fn want_of(verdict: &Verdict) -> Option<(MeWant, String)> {
    match &verdict.decision {
        Decision::Move { to } => Some((MeWant::Move { to: to.to_string() }, format!("move to {to}"))),
        Decision::Scale { class, to } => {
            Some((MeWant::Scale { class: class.to_string(), to: *to }, format!("scale {class} to {to}")))
        }
        Decision::Stay | Decision::AddVolume => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mln_protocol::model::{BuiltinName, Decider, May, Tuning};
    use mln_protocol::wire::MeSight;

    fn name(text: &str) -> Name {
        Name::parse(text).expect("a name")
    }

    /// A policy that is due at once.
    fn policy(decider: Decider) -> Policy {
        Policy {
            name: name("grow"),
            origin: name("front"),
            decider: Some(decider),
            tuning: Tuning::default(),
            every_ms: 0,
            grace_ms: 0,
            may: vec![May::Scale { class: name("web"), least: 1, most: 4 }],
        }
    }

    fn sight(policies: &[Policy]) -> MeAnswer {
        let told = Told {
            vm: name("front"),
            host: name("oslo"),
            classes: [(name("web"), 1)].into(),
            volumes: 0,
            hosts: Vec::new(),
            cloud_spent_ms: 0,
            machines: BTreeMap::new(),
            shared: BTreeMap::new(),
        };
        MeAnswer::Sight(Box::new(MeSight::new(policies, &told, 0)))
    }

    fn said(policies: &Policies) -> String {
        let MeAnswer::Own { policies, .. } = policies.own() else { panic!("its own answer") };
        policies.first().map(|run| run.said.clone()).unwrap_or_default()
    }

    #[test]
    fn what_a_built_in_policy_decides_is_asked_for_with_its_reason() {
        let mut policies = Policies::new();
        assert_eq!((policies.pump(), policies.pause()), (vec![], None), "nobody listens");
        policies.listens();
        let asked = policies.pump();
        assert!(matches!(asked.as_slice(), [(Asker::Look, Call::Ask(MeAsk::Look(_)))]), "{asked:?}");
        assert_eq!(policies.pump(), [], "it is asked already");
        let set = policies.measure("load", "60");
        assert_eq!(set, MeAnswer::Own { gauges: Vec::new(), policies: Vec::new() });
        let asks = policies.seen(sight(&[policy(Decider::Builtin(BuiltinName::Scale))]));
        let [(Asker::Policy(of), Call::Want { want, reason })] = asks.as_slice() else { panic!("{asks:?}") };
        assert_eq!((of, want), (&name("grow"), &MeWant::Scale { class: "web".to_owned(), to: 3 }));
        assert!(reason.starts_with("policy grow: load 60.0"), "{reason}");
        policies.answered(&name("grow"), &MeAnswer::Failed { text: "alas".to_owned() });
        assert!(said(&policies).ends_with("; failed: alas"), "{}", said(&policies));
    }

    #[test]
    fn what_a_program_answers_is_asked_for_when_it_has_ended() {
        let mut policies = Policies::new();
        policies.listens();
        policies.pump();
        let answer =
            r#"grep -q '"web":1' && echo '{"decision":"scale","class":"web","to":2,"reason":"more"}'"#;
        let program = ["/bin/sh", "-c", answer].map(str::to_owned).to_vec();
        assert_eq!(policies.seen(sight(&[policy(Decider::Run(program))])), []);
        let mut fds = [rustix::event::PollFd::from_borrowed_fd(
            policies.interest().expect("a bell"),
            rustix::event::PollFlags::IN,
        )];
        rustix::event::poll(&mut fds, None).expect("it rings");
        let asks = policies.programs_ended();
        let [(Asker::Policy(_), Call::Want { want, reason })] = asks.as_slice() else { panic!("{asks:?}") };
        let expect = MeWant::Scale { class: "web".to_owned(), to: 2 };
        assert_eq!((want, reason.as_str()), (&expect, "policy grow: more"));
    }

    #[test]
    fn what_is_no_gauge_is_refused() {
        let mut policies = Policies::new();
        for (gauge, value) in [("-x", "1"), ("load", "many"), ("load", "inf")] {
            let answer = policies.measure(gauge, value);
            assert!(matches!(answer, MeAnswer::Failed { .. }), "{gauge} {value}: {answer:?}");
        }
    }

    #[test]
    fn the_host_is_told_the_usual_gauges_first_and_soon_where_there_are_others() {
        let mut policies = Policies::new();
        policies.listens();
        policies.pump();
        policies.seen(sight(&[]));
        assert!(policies.pause().is_some_and(|pause| pause > Duration::from_secs(50)));
        for number in 0..TOLD_GAUGES_MAX {
            policies.measure(&format!("a{number}"), "1.5");
        }
        assert!(policies.pause().is_some_and(|pause| pause <= Duration::from_millis(TELL_MS)));
        let told: Vec<String> = policies.values().into_iter().map(|value| value.name).collect();
        assert_eq!(told.len(), TOLD_GAUGES_MAX);
        assert!(told[0] == "memory_mib" && told[1] == "a0", "{told:?}");
        policies.seen(sight(&[]));
        assert!(policies.pause().is_some_and(|pause| pause <= Duration::from_millis(TELL_MS)));
    }

    #[test]
    fn a_host_that_does_not_know_or_does_not_say_is_asked_again() {
        let mut policies = Policies::new();
        policies.listens();
        policies.pump();
        assert_eq!(policies.seen(MeAnswer::Unknown), []);
        // It is asked at once what it may know.
        assert_eq!(policies.pump(), [(Asker::Look, Call::Ask(MeAsk::Sight))]);
        assert_eq!(policies.seen(MeAnswer::Unknown), []);
        assert!(policies.pause().is_some_and(|pause| pause > Duration::from_secs(50)));
        policies.seen(MeAnswer::Away);
        assert!(policies.pause().is_some_and(|pause| pause <= Duration::from_secs(5)));
        policies.seen(sight(&[]));
        assert!(policies.pause().is_some_and(|pause| pause > Duration::from_secs(50)));
        policies.cut_off();
        assert_eq!(policies.pause(), None);
    }
}
