//! Makes a failing world smaller: kinds of faults, single faults and customers are left out, as long as it still fails
//! in the same way.

use std::time::{Duration, Instant};

use crate::options::Options;
use crate::world::{Ending, World};

/// How long this may take: what is found by then is printed.
pub(crate) const MINIMISE_SECONDS: u64 = 30;

/// Returns the rule that a violation is about: what stands before the colon.
pub(crate) fn rule(violation: &str) -> &str {
    violation.split(':').next().unwrap_or(violation)
}

/// Returns the smallest world that was found in which the same rule is broken, and how it ends.
pub(crate) fn minimise(options: Options, ending: Ending) -> (Options, Ending) {
    let until = Instant::now() + Duration::from_secs(MINIMISE_SECONDS);
    let Some(broken) = ending.violations.first().map(|violation| rule(violation).to_owned()) else {
        return (options, ending);
    };
    let mut search = Search { best: options, ending, broken, until };
    let kinds: Vec<_> = search.best.rates.keys().copied().collect();
    for kind in kinds {
        search.attempt(|options| {
            options.rates.remove(&kind);
        });
    }
    let everybody = search.best.customers.clone().unwrap_or_else(|| (0..search.best.projects).collect());
    search.best.customers = Some(everybody.clone());
    let everybody: Vec<usize> = everybody.into_iter().collect();
    search.leave_out(&everybody, |options, some| {
        if let Some(customers) = &mut options.customers {
            customers.retain(|customer| !some.contains(customer));
        }
    });
    let planned: Vec<usize> = (0..search.ending.planned).collect();
    search.leave_out(&planned, |options, some| options.skipped.extend(some));
    (search.best, search.ending)
}

struct Search {
    best: Options,
    ending: Ending,
    broken: String,
    until: Instant,
}

impl Search {
    /// Keeps a change if the world still fails in the same way.
    fn attempt(&mut self, change: impl FnOnce(&mut Options)) -> bool {
        if Instant::now() >= self.until {
            return false;
        }
        let mut options = self.best.clone();
        change(&mut options);
        let ending = World::new(options.clone()).run();
        let same = ending.violations.first().is_some_and(|violation| rule(violation) == self.broken);
        if same {
            (self.best, self.ending) = (options, ending);
        }
        same
    }

    /// Leaves out halves, quarters, and so on down to single ones (delta debugging: Zeller, 1999).
    fn leave_out(&mut self, all: &[usize], without: impl Fn(&mut Options, &[usize])) {
        let mut left = all.to_vec();
        let mut size = left.len().div_ceil(2);
        while size > 0 && !left.is_empty() {
            let mut from = 0;
            while from < left.len() {
                let some: Vec<usize> = left[from..(from + size).min(left.len())].to_vec();
                if self.attempt(|options| without(options, &some)) {
                    left.drain(from..from + some.len());
                } else {
                    from += some.len();
                }
            }
            size /= 2;
        }
    }
}
