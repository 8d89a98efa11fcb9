//! A figure: what was measured, against what, and whether that is what was wanted.

use crate::statistics::Sample;

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Seconds.
    Seconds,
    /// Megabits per second.
    MegabitsPerSecond,
    /// Bytes.
    Bytes,
    /// Parts of one processor.
    Core,
    /// How many times something else.
    Times,
}

/// How ours is set beside theirs, or beside a limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    /// Theirs is so many times ours, or more: times and sizes that should be small.
    TimesLess(f64),
    /// Ours is so many times theirs, or more: rates that should be large.
    TimesMore(f64),
    /// Ours is so many times theirs, or less: times that can't be smaller than theirs.
    TimesAtMost(f64),
    /// Ours is theirs and so much, or less.
    MoreAtMost(f64),
    /// Ours is so much, or less.
    AtMost(f64),
    /// Only to be known; ours as a multiple of theirs where there are both.
    Known,
}

/// Whether a goal is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is.
    Pass,
    /// It isn't.
    Miss,
    /// There is none.
    None,
}

/// One line of the table.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    /// Which benchmark it belongs to.
    pub(crate) bench: &'static str,
    /// What was measured.
    pub(crate) what: String,
    /// In what.
    pub(crate) unit: Unit,
    /// Ours.
    pub(crate) ours: Sample,
    /// The alternative's name and measurements.
    pub(crate) theirs: Option<(String, Sample)>,
    /// What is wanted.
    pub(crate) goal: Goal,
}

impl Figure {
    /// A figure that stands alone.
    pub(crate) fn alone(bench: &'static str, what: &str, unit: Unit, ours: Sample, goal: Goal) -> Self {
        Self { bench, what: what.to_owned(), unit, ours, theirs: None, goal }
    }

    /// The same measurements beside an alternative's.
    pub(crate) fn against(mut self, name: &str, theirs: Sample) -> Self {
        self.theirs = Some((name.to_owned(), theirs));
        self
    }

    /// Returns what is compared with the goal, from the medians; none where there is nothing to compare with.
    pub(crate) fn comparison(&self) -> Option<f64> {
        let ours = self.ours.median();
        let theirs = self.theirs.as_ref().map(|(_, sample)| sample.median());
        match self.goal {
            Goal::TimesLess(_) => theirs.map(|theirs| theirs / ours),
            Goal::TimesMore(_) | Goal::TimesAtMost(_) | Goal::Known => theirs.map(|theirs| ours / theirs),
            Goal::MoreAtMost(_) => theirs.map(|theirs| ours - theirs),
            Goal::AtMost(_) => Some(ours),
        }
    }

    /// Returns whether the goal is reached.
    pub(crate) fn verdict(&self) -> Verdict {
        let reached = self.comparison().and_then(|found| match self.goal {
            Goal::TimesLess(goal) | Goal::TimesMore(goal) => Some(found >= goal),
            Goal::TimesAtMost(goal) | Goal::MoreAtMost(goal) | Goal::AtMost(goal) => Some(found <= goal),
            Goal::Known => None,
        });
        match reached {
            Some(true) => Verdict::Pass,
            Some(false) => Verdict::Miss,
            None => Verdict::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(goal: Goal, ours: f64, theirs: f64, comparison: f64, verdict: Verdict) {
        let figure = Figure::alone("b", "w", Unit::Seconds, Sample::single(ours), goal)
            .against("theirs", Sample::single(theirs));
        let found = figure.comparison().expect("there are both");
        assert!((found - comparison).abs() < 1e-9, "{goal:?}: {found}");
        assert_eq!(figure.verdict(), verdict, "{goal:?}");
    }

    #[test]
    fn a_ratio_above_one_is_in_our_favour_for_what_should_be_small_and_for_what_should_be_large() {
        check(Goal::TimesLess(20.0), 0.5, 10.0, 20.0, Verdict::Pass);
        check(Goal::TimesLess(20.0), 0.5, 9.0, 18.0, Verdict::Miss);
        check(Goal::TimesMore(2.0), 500.0, 250.0, 2.0, Verdict::Pass);
        check(Goal::TimesMore(2.0), 499.0, 250.0, 1.996, Verdict::Miss);
    }

    #[test]
    fn a_cost_may_be_a_multiple_or_a_surplus_or_absolute() {
        check(Goal::TimesAtMost(1.15), 1.1, 1.0, 1.1, Verdict::Pass);
        check(Goal::TimesAtMost(1.15), 1.2, 1.0, 1.2, Verdict::Miss);
        check(Goal::MoreAtMost(0.25), 1.2, 1.0, 0.2, Verdict::Pass);
        check(Goal::AtMost(30.0), 31.0, 1.0, 31.0, Verdict::Miss);
        check(Goal::Known, 3.0, 2.0, 1.5, Verdict::None);
    }

    #[test]
    fn without_an_alternative_there_is_no_ratio() {
        let figure = Figure::alone("b", "w", Unit::Bytes, Sample::single(1.0), Goal::TimesLess(2.0));
        assert_eq!((figure.comparison(), figure.verdict()), (None, Verdict::None));
    }
}
