//! What a guest asks about its project, passed on to the agent, and answered here where it can't be: no agent is attached, or
//! the guest asks too often.
//!
//! A guest may say whatever it likes: what is over the rate costs its host the reading of it and nothing more. It isn't
//! passed on, and the log has one line a minute with the number.

use std::time::{Duration, Instant};

use mln_protocol::wire::holder::HolderEventWire;
use mln_protocol::wire::me::{ME_BYTES_MAX, MeAnswer, MeRefusal, encode_me_answer, me_number};
use tracing::warn;

use super::{AGENT_QUEUE_MAX, Keeper};
use crate::line::{Kind, Message};

/// How many questions may come at once.
const BURST_MAX: u32 = 20;
/// How long it takes until one more may come.
const REFILL: Duration = Duration::from_millis(250);
/// How often it is logged that a guest asks too often.
const LOG_PAUSE: Duration = Duration::from_secs(60);
/// Bytes that wait for the guest; when there are more, answers are dropped: it takes nothing anyway.
const ANSWERS_WAITING_BYTES_MAX: usize = 256 << 10;
/// Bytes that wait for the guest; when there are more, it isn't even told that it asks too often.
const EXCUSES_WAITING_BYTES_MAX: usize = 1 << 10;

/// How often a guest asks.
#[derive(Debug)]
pub(super) struct Questions {
    left: u32,
    filled: Instant,
    dropped: u64,
    logged: Option<Instant>,
}

impl Questions {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: BURST_MAX, filled: now, dropped: 0, logged: None }
    }

    /// Whether one more may come now.
    fn take(&mut self, now: Instant) -> bool {
        let refills = now.saturating_duration_since(self.filled).as_millis() / REFILL.as_millis();
        let refills = u32::try_from(refills).unwrap_or(u32::MAX);
        if refills > 0 {
            self.left = self.left.saturating_add(refills).min(BURST_MAX);
            self.filled = if self.left == BURST_MAX { now } else { self.filled + REFILL * refills };
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }

    /// Counts a question that is dropped; returns how many those are, where it is time to say so.
    fn drop_one(&mut self, now: Instant) -> Option<u64> {
        self.dropped += 1;
        let is_time = self.logged.is_none_or(|then| now.saturating_duration_since(then) >= LOG_PAUSE);
        is_time.then(|| {
            self.logged = Some(now);
            std::mem::take(&mut self.dropped)
        })
    }
}

impl Keeper {
    /// Takes a question of the guest.
    pub(super) fn question(&mut self, payload: Vec<u8>) {
        let now = Instant::now();
        if !self.questions.take(now) || payload.len() > ME_BYTES_MAX {
            if let Some(count) = self.questions.drop_one(now) {
                warn!(
                    count,
                    rule = "guest-rate",
                    "the guest asks too often about its project: not passed on"
                );
            }
            let refusal = MeRefusal {
                host: String::new(),
                rule: "guest-rate".to_owned(),
                text: format!(
                    "a machine may ask {BURST_MAX} times at once, and once more every {} ms; and {ME_BYTES_MAX} bytes at a time",
                    REFILL.as_millis()
                ),
                who_can_change: "you: ask less often".to_owned(),
            };
            return self.excuse(&payload, MeAnswer::Refused(vec![refusal]));
        }
        match &self.agent {
            Some(agent) if agent.queue.len() < AGENT_QUEUE_MAX => {
                self.tell(&HolderEventWire::Node(payload), None);
            }
            Some(_) | None => self.excuse(&payload, MeAnswer::Away),
        }
    }

    /// Answers in place of the agent.
    fn excuse(&mut self, question: &[u8], answer: MeAnswer) {
        let Some(number) = me_number(question) else { return };
        if self.line.waiting_bytes() <= EXCUSES_WAITING_BYTES_MAX {
            let payload = encode_me_answer(number, answer);
            self.line.send(&Message::line(Kind::Node, payload));
        }
    }

    /// Passes an answer of the agent on.
    pub(super) fn answer(&mut self, payload: Vec<u8>) {
        if payload.len() <= ME_BYTES_MAX && self.line.waiting_bytes() <= ANSWERS_WAITING_BYTES_MAX {
            self.line.send(&Message::line(Kind::Node, payload));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_asks_all_the_time_is_heard_at_its_rate_and_logged_once_a_minute() {
        let begin = Instant::now();
        let mut questions = Questions::new(begin);
        let mut logged = Vec::new();
        let mut heard = 0;
        // A thousand a second, for two minutes.
        for ms in 0..120_000 {
            let now = begin + Duration::from_millis(ms);
            match questions.take(now) {
                true => heard += 1,
                false => logged.extend(questions.drop_one(now)),
            }
        }
        assert_eq!(heard, 20 + 120_000 / 250 - 1);
        assert_eq!(logged.len(), 2, "{logged:?}");
        assert_eq!(logged[0], 1);
        let mut rested = Questions { left: 0, ..questions };
        let later = begin + Duration::from_secs(600);
        assert_eq!((0..30).filter(|_| rested.take(later)).count(), 20, "no more than at once");
    }
}
