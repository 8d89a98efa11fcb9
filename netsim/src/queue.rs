//! What happens when: events in the order of their times, and of one time in the order in which they were planned.

use std::collections::{BTreeMap, VecDeque};

use crate::world::Event;

/// Everything that is yet to happen.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// By the millisecond; none of them is empty.
    due: BTreeMap<u64, VecDeque<Event>>,
}

impl Queue {
    pub(crate) fn push(&mut self, at_ms: u64, event: Event) {
        self.due.entry(at_ms).or_default().push_back(event);
    }

    /// Returns when the next event happens.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.due.first_key_value().map(|(at_ms, _)| *at_ms)
    }

    /// Takes the next event, with its time.
    pub(crate) fn pop(&mut self) -> Option<(u64, Event)> {
        let mut first = self.due.first_entry()?;
        let at_ms = *first.key();
        let event = first.get_mut().pop_front();
        if first.get().is_empty() {
            first.remove();
        }
        event.map(|event| (at_ms, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_one_time_what_was_planned_first_happens_first() {
        let mut queue = Queue::default();
        for (at_ms, index) in [(7, 0), (5, 1), (7, 2), (5, 3)] {
            queue.push(at_ms, Event::Mishap { index });
        }
        let order: Vec<(u64, usize)> = std::iter::from_fn(|| queue.pop())
            .map(|(at_ms, event)| match event {
                Event::Mishap { index } => (at_ms, index),
                other => panic!("{other:?} was not planned"),
            })
            .collect();
        assert_eq!(order, [(5, 1), (5, 3), (7, 0), (7, 2)]);
    }
}
