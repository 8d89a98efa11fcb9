//! `queue`: while many jobs wait, the VM does them in the cloud, where they take half as long; then it comes home.
//!
//! It goes where that ends the work earlier, the way there counted: with 10 minutes a job at home, 5 in the cloud and 15 to
//! move, 3 jobs end at the same time, and from 4 on the cloud is faster. It doesn't ask for hours that are spent;
//! that it couldn't have them anyway is the hosts' business.

use super::{Decision, HostSeen, Memory, Sight, Tenure, Verdict};
use crate::id::Name;

/// The settings of `queue`.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    /// The gauge that counts jobs that aren't done.
    pub gauge: Name,
    /// How long a job takes on a host of the mesh's own, in milliseconds.
    pub job_ms: u64,
    /// How long a job takes in the cloud, in milliseconds.
    pub cloud_job_ms: u64,
    /// How long moving takes, in milliseconds; nothing is decided meanwhile.
    pub move_ms: u64,
    /// With so few jobs, or fewer, it comes back at once.
    pub short: u32,
    /// How long it may be in the cloud each day, in milliseconds.
    pub cloud_day_ms: u64,
    /// The host to come back to; none is the nearest of the mesh's own.
    pub home: Option<Name>,
    /// How often to look, in milliseconds.
    pub every_ms: u64,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            gauge: Name::parse("queue").expect("a literal of letters only"),
            job_ms: 10 * 60_000,
            cloud_job_ms: 5 * 60_000,
            move_ms: 15 * 60_000,
            short: 0,
            cloud_day_ms: 6 * 60 * 60_000,
            home: None,
            every_ms: 60_000,
        }
    }
}

impl Queue {
    pub(super) fn judge(&self, sight: &Sight, memory: &Memory) -> Verdict {
        let Some(own) = sight.own_host() else {
            return Verdict::stay(format!("where {} is can't be seen", sight.host));
        };
        let Some(waiting) = memory.gauge(&self.gauge).and_then(|window| window.newest()) else {
            return Verdict::stay(format!("the gauge `{}` tells nothing", self.gauge));
        };
        // Saturates: what is below 0 is none.
        let waiting = waiting.value as u64;
        let left_ms = self.cloud_day_ms.saturating_sub(sight.cloud_spent_ms);
        // A setting of 0 is taken for the shortest time there is.
        let fitting = left_ms / self.cloud_job_ms.max(1);
        match own.tenure {
            Tenure::Owned => self.leave(sight, waiting, fitting),
            Tenure::Cloud => self.come_back(sight, waiting, fitting),
        }
    }

    /// Judges from home whether it is worth the way.
    fn leave(&self, sight: &Sight, waiting: u64, fitting: u64) -> Verdict {
        let done = waiting.min(fitting);
        let gained_ms = done.saturating_mul(self.job_ms.saturating_sub(self.cloud_job_ms));
        let minutes = |ms: u64| ms / 60_000;
        let words = format!(
            "{waiting} jobs wait, today's hours in the cloud have room for {fitting}: {} minutes are gained, \
             and the way takes {}",
            minutes(gained_ms),
            minutes(self.move_ms)
        );
        if gained_ms <= self.move_ms {
            return Verdict::stay(words);
        }
        go(sight.nearest(|host| host.tenure == Tenure::Cloud), words)
    }

    /// Judges from the cloud whether there is still something to be done there.
    fn come_back(&self, sight: &Sight, waiting: u64, fitting: u64) -> Verdict {
        let words = format!("{waiting} jobs wait, today's hours in the cloud have room for {fitting}");
        if waiting > u64::from(self.short) && fitting > 0 {
            return Verdict::stay(words);
        }
        let own = |host: &HostSeen| host.tenure == Tenure::Owned;
        let home =
            sight.nearest(|host| own(host) && self.home.as_ref().is_some_and(|home| *home == host.name));
        go(home.or_else(|| sight.nearest(own)), words)
    }
}

fn go(host: Option<&HostSeen>, words: String) -> Verdict {
    match host {
        Some(host) => Verdict { decision: Decision::Move { to: host.name.clone() }, reason: words },
        None => Verdict::stay(format!("{words}, but no host can be reached for it")),
    }
}
