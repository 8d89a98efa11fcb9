//! Outputs, held back until what they depend on is durable.

use std::collections::{BTreeMap, VecDeque};

use super::io::{Output, Write, WriteId};

/// What a node wants done.
///
/// While an input is handled, writes and outputs are collected. [`Outbox::close`] then emits the writes, if any,
/// and keeps every output of that input, and of later ones, until they are durable: nothing that was said may be
/// forgotten, and nothing may be done that follows from what could be.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbox {
    writes: Vec<Write>,
    outputs: Vec<Output>,
    late: Vec<Write>,
    ready: VecDeque<Output>,
    held: BTreeMap<WriteId, Vec<Output>>,
    last_write: u64,
}

impl Outbox {
    pub(super) fn write(&mut self, write: Write) {
        self.writes.push(write);
    }

    /// Writes after everything else of the input: a mutation.
    pub(super) fn write_late(&mut self, write: Write) {
        self.late.push(write);
    }

    /// Lets an output leave before anything is durable: a mutation.
    pub(super) fn push_unheld(&mut self, output: Output) {
        self.ready.push_back(output);
    }

    pub(super) fn push(&mut self, output: Output) {
        self.outputs.push(output);
    }

    /// Ends the handling of one input.
    pub(super) fn close(&mut self, order: WriteOrder) {
        let mut outputs = std::mem::take(&mut self.outputs);
        if !self.late.is_empty() {
            self.last_write += 1;
            let writes = std::mem::take(&mut self.late);
            outputs.push(Output::Persist { id: WriteId(self.last_write), writes });
        }
        if self.writes.is_empty() {
            // It may follow from what an earlier input wrote and the disk doesn't have yet.
            match self.held.last_entry() {
                Some(mut last) => last.get_mut().extend(outputs),
                None => self.ready.extend(outputs),
            }
            return;
        }
        self.last_write += 1;
        let id = WriteId(self.last_write);
        let persist = Output::Persist { id, writes: std::mem::take(&mut self.writes) };
        match order {
            WriteOrder::BeforeOutputs => {
                self.ready.push_back(persist);
                self.held.insert(id, outputs);
            }
            WriteOrder::AfterOutputs => {
                self.ready.extend(outputs);
                self.ready.push_back(persist);
            }
        }
    }

    /// Lets go of what waited for a write, and for all before it: writes become durable in their order.
    pub(super) fn persisted(&mut self, id: WriteId) {
        while let Some(first) = self.held.first_entry().filter(|first| *first.key() <= id) {
            self.ready.extend(first.remove());
        }
    }

    /// Returns the number of the last write.
    pub(super) fn last_write(&self) -> WriteId {
        WriteId(self.last_write)
    }

    /// Whether a write and all before it are durable.
    pub(super) fn has_written(&self, id: WriteId) -> bool {
        self.held.first_key_value().is_none_or(|(first, _)| *first > id)
    }

    /// Returns what is held back and what is ready, without the numbers of the writes.
    #[cfg(feature = "mutants")]
    pub(super) fn state(&self) -> (Vec<&Vec<Output>>, &VecDeque<Output>) {
        (self.held.values().collect(), &self.ready)
    }

    pub(super) fn pop(&mut self) -> Option<Output> {
        self.ready.pop_front()
    }
}

/// Whether outputs wait for the writes of the same input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteOrder {
    /// They do.
    BeforeOutputs,
    /// They don't: a mutation.
    AfterOutputs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_been_written_is_known_when_it_and_all_before_it_are_durable() {
        let mut outbox = Outbox::default();
        let mut write = || {
            outbox.write(Write::Join(crate::id::ProjectId(crate::id::Digest([1; 32]))));
            outbox.close(WriteOrder::BeforeOutputs);
            outbox.last_write()
        };
        let (first, second) = (write(), write());
        assert!(!outbox.has_written(first) && !outbox.has_written(second));
        // What says nothing new about the disk changes nothing of it.
        outbox.close(WriteOrder::BeforeOutputs);
        assert_eq!(outbox.last_write(), second);
        outbox.persisted(first);
        assert!(outbox.has_written(first) && !outbox.has_written(second));
        outbox.persisted(second);
        assert!(outbox.has_written(second));
    }
}
