//! What is said of several measurements of one thing: the median, the smallest, the largest.

/// Measurements of one thing, at least one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    sorted: Vec<f64>,
}

impl Sample {
    /// Takes measurements in any order; none where there are none, or where one is no number.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        if sorted.is_empty() || sorted.iter().any(|value| value.is_nan()) {
            return None;
        }
        sorted.sort_by(f64::total_cmp);
        Some(Self { sorted })
    }

    /// Takes the one measurement that there is.
    pub(crate) fn single(value: f64) -> Self {
        Self { sorted: vec![value] }
    }

    /// Returns the one in the middle, or what is between the two in the middle.
    pub(crate) fn median(&self) -> f64 {
        let middle = self.sorted.len() / 2;
        if self.sorted.len() % 2 == 1 {
            self.sorted[middle]
        } else {
            f64::midpoint(self.sorted[middle - 1], self.sorted[middle])
        }
    }

    /// Returns the smallest.
    pub(crate) fn min(&self) -> f64 {
        self.sorted[0]
    }

    /// Returns the largest.
    pub(crate) fn max(&self) -> f64 {
        self.sorted[self.sorted.len() - 1]
    }

    /// Returns how many there are.
    pub(crate) fn count(&self) -> usize {
        self.sorted.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        let odd = Sample::of([9.0, 1.0, 5.0]).expect("three numbers");
        assert_eq!((odd.min(), odd.median(), odd.max(), odd.count()), (1.0, 5.0, 9.0, 3));
        let even = Sample::of([4.0, 1.0, 3.0, 2.0]).expect("four numbers");
        assert_eq!(even.median(), 2.5);
        assert_eq!(Sample::single(7.0).median(), 7.0);
    }

    #[test]
    fn nothing_and_what_is_no_number_are_no_sample() {
        assert_eq!(Sample::of([]), None);
        assert_eq!(Sample::of([1.0, f64::NAN]), None);
    }
}
