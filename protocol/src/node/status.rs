//! What a host says of itself to everybody.

use super::timers::Timer;
use super::{Node, limits};
use crate::model::MemoryMib;
use crate::record::{HostStatus, Member, Record};
use crate::time::Now;

/// When the host's status was last published.
#[derive(Clone, Debug, Default)]
pub(super) struct StatusClock {
    last_ms: Option<u64>,
}

impl Node {
    /// Publishes the grants that make this host a member, unless they are known already.
    pub(super) fn publish_member(&mut self, now: Now) {
        let known = self.records.member(self.me);
        if known.is_some_and(|m| m.name == self.config.name && m.chain == self.config.chain) {
            return;
        }
        let counter = known.map_or(1, |member| member.counter.saturating_add(1));
        let member = Member { counter, name: self.config.name.clone(), chain: self.config.chain.clone() };
        self.publish(now, Record::Member(member));
    }

    /// Publishes what this host carries and has left, and sets the time of the next repetition.
    pub(super) fn publish_host(&mut self, now: Now) {
        let counter = self.records.host(self.me).map_or(1, |status| status.counter.saturating_add(1));
        let status = HostStatus { counter, measured_unix_ms: now.unix_ms, ..self.measure() };
        self.status.last_ms = Some(now.mono_ms);
        self.timers.cancel(&Timer::StatusChange);
        let period = self.status_period_ms();
        // By lot, so that hosts that were started together don't speak together for ever.
        let spread = self.draw() % (period / 4);
        self.timers.set(Timer::Status, now.mono_ms + period - spread);
        self.publish(now, Record::Host(status));
    }

    /// Goes on with what this host has published before its agent was started anew, where that is still so and isn't
    /// due to be repeated: where power comes back, thousands would speak at once. In a small mesh it is repeated.
    pub(super) fn resume_host(&mut self, now: Now) {
        let period = self.status_period_ms();
        let current = self.measure();
        let still_so = |held: &&HostStatus| {
            let blank = HostStatus { counter: 0, measured_unix_ms: 0, ..(*held).clone() };
            self.records.member_count() > limits::STATUS_PEERS && blank == current
        };
        let held = self.records.host(self.me).filter(still_so);
        let age = held.and_then(|held| now.unix_ms.checked_sub(held.measured_unix_ms));
        match age.filter(|age| *age < period) {
            Some(age) => {
                self.status.last_ms = Some(now.mono_ms.saturating_sub(age));
                self.timers.set(Timer::Status, now.mono_ms + period - age);
            }
            None => self.publish_host(now),
        }
    }

    /// After how long, in milliseconds, a status is repeated: so long that what all say together has a fixed rate.
    fn status_period_ms(&self) -> u64 {
        let hosts = self.records.member_count().max(1);
        limits::STATUS_MS * hosts.div_ceil(limits::STATUS_PEERS) as u64
    }

    /// Publishes a change of what this host carries: at once, or as soon as the last one is old enough.
    pub(super) fn host_changed(&mut self, now: Now) {
        let Some(last_ms) = self.status.last_ms else { return };
        let current = self.measure();
        let same = self.records.host(self.me).is_some_and(|published| {
            (published.projects, published.vms, published.memory_used)
                == (current.projects, current.vms, current.memory_used)
        });
        if same {
            return;
        }
        let due = last_ms + limits::STATUS_MS_MIN;
        if now.mono_ms >= due {
            self.publish_host(now);
        } else if !self.timers.is_set(&Timer::StatusChange) {
            self.timers.set(Timer::StatusChange, due);
        }
    }

    pub(super) fn measure(&self) -> HostStatus {
        HostStatus {
            counter: 0,
            groups: self.config.groups.clone(),
            platforms: self.config.platforms.clone(),
            projects: u32::try_from(self.vms.projects().len()).unwrap_or(u32::MAX),
            vms: u32::try_from(self.vms.len()).unwrap_or(u32::MAX),
            memory_used: MemoryMib(self.vms.memory_mib()),
            memory_limit: self.config.memory_limit,
            agent_version: self.config.agent_version.clone(),
            measured_unix_ms: 0,
        }
    }
}
