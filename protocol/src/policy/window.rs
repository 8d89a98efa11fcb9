//! The last values of a gauge, and what can be read from them.

use std::collections::VecDeque;

use super::Sample;

/// How many values a window holds; the oldest go first.
pub const SAMPLES_MAX: usize = 1024;

/// Values in the order in which they were measured, the last ones of some time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    samples: VecDeque<Sample>,
}

/// A straight line through values, by least squares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Line {
    /// Its value at the newest sample.
    pub(super) newest: f64,
    /// By how much it rises in a second.
    pub(super) per_s: f64,
}

impl Window {
    /// Adds a value; nothing changes if it is no number, or not newer than what is there.
    pub fn push(&mut self, sample: Sample) {
        let is_newer = self.samples.back().is_none_or(|newest| newest.at_ms < sample.at_ms);
        if !sample.value.is_finite() || !is_newer {
            return;
        }
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// Forgets all but what was measured in so long a time until now.
    pub fn keep_last(&mut self, now_ms: u64, window_ms: u64) {
        let Some(until_ms) = now_ms.checked_sub(window_ms) else { return };
        while self.samples.front().is_some_and(|oldest| oldest.at_ms <= until_ms) {
            self.samples.pop_front();
        }
    }

    /// Forgets all but the newest so many.
    pub fn keep_newest(&mut self, count: usize) {
        let surplus = self.samples.len().saturating_sub(count);
        self.samples.drain(..surplus);
    }

    /// Returns the values, the oldest first.
    pub fn samples(&self) -> impl Iterator<Item = Sample> {
        self.samples.iter().copied()
    }

    pub(super) fn newest(&self) -> Option<Sample> {
        self.samples.back().copied()
    }

    pub(super) fn span_ms(&self) -> u64 {
        match (self.samples.front(), self.samples.back()) {
            (Some(oldest), Some(newest)) => newest.at_ms - oldest.at_ms,
            (None, _) | (_, None) => 0,
        }
    }

    pub(super) fn mean(&self) -> Option<f64> {
        mean(self.samples.iter())
    }

    /// Returns the newest value, the one before, and the mean of all but the newest.
    pub(super) fn step(&self) -> Option<(Sample, Sample, f64)> {
        let newest = *self.samples.back()?;
        let before = self.samples.iter().rev().skip(1);
        let mean = mean(before.clone())?;
        Some((newest, *before.clone().next()?, mean))
    }

    /// Returns the largest value.
    pub(super) fn most(&self) -> Option<f64> {
        self.samples.iter().map(|sample| sample.value).reduce(f64::max)
    }

    /// Returns the line through the values; none for fewer than three.
    pub(super) fn line(&self) -> Option<Line> {
        let newest_ms = self.samples.back().filter(|_| self.samples.len() >= 3)?.at_ms;
        let seconds = |sample: &Sample| -((newest_ms - sample.at_ms) as f64) / 1000.0;
        let count = self.samples.len() as f64;
        let middle = self.samples.iter().map(seconds).sum::<f64>() / count;
        let mean = self.mean()?;
        let (mut product, mut square) = (0.0, 0.0);
        for sample in &self.samples {
            let apart = seconds(sample) - middle;
            product += apart * (sample.value - mean);
            square += apart * apart;
        }
        // Three different times are never all in the middle.
        let per_s = product / square;
        Some(Line { newest: mean - per_s * middle, per_s })
    }
}

fn mean<'s>(samples: impl Iterator<Item = &'s Sample>) -> Option<f64> {
    let (sum, count) = samples.fold((0.0, 0u32), |(sum, count), sample| (sum + sample.value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(values: &[f64]) -> Window {
        let mut window = Window::default();
        for (at, value) in values.iter().enumerate() {
            window.push(Sample { at_ms: at as u64 * 5_000, value: *value });
        }
        window
    }

    #[test]
    fn a_line_goes_through_values_that_lie_on_one() {
        let line = window(&[10.0, 15.0, 20.0, 25.0]).line().expect("four values");
        assert!((line.newest - 25.0).abs() < 1e-9 && (line.per_s - 1.0).abs() < 1e-9, "{line:?}");
        assert_eq!(window(&[1.0, 2.0]).line(), None);
    }

    #[test]
    fn what_is_no_number_or_not_newer_is_left_out() {
        let mut window = window(&[1.0, 2.0]);
        let before = window.clone();
        for (at_ms, value) in [(5_000, 9.0), (4_000, 9.0), (9_000, f64::NAN), (9_000, f64::INFINITY)] {
            window.push(Sample { at_ms, value });
        }
        assert_eq!(window, before);
    }

    #[test]
    fn a_window_holds_so_many_values() {
        let mut window = window(&vec![1.0; SAMPLES_MAX + 5]);
        assert_eq!(window.samples.len(), SAMPLES_MAX);
        let newest_ms = window.newest().expect("it is full").at_ms;
        // The time just gone is in it, and what is as old as the window is not.
        window.keep_last(newest_ms, 60_000);
        assert_eq!(window.samples.len(), 12);
    }
}
