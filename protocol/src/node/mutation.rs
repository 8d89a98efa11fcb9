//! Rules that can be switched off, to prove that the simulator notices.

/// A rule of the core that is broken on purpose. Only builds with the feature `mutants` know any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutation {
    /// Of two records in a slot, the one that came first is kept, not the newer one.
    MergeKeepsFirst,
    /// Records are not compared with peers: what gossip loses stays lost.
    NoAntiEntropy,
    /// A host that is asked doesn't count the memory that it has reserved for others.
    ReservationNotCounted,
    /// A request to start or stop is applied whatever its author saw.
    RunRequestWithoutCounter,
    /// A revision is committed when the first host has reserved.
    CommitBeforeAllReserved,
    /// Outputs leave before the writes that they depend on are durable.
    OutputBeforePersisted,
    /// Two projects may have one label.
    LabelNotChecked,
    /// A host that has lost its journal of a project goes on as if it remembered everything.
    JournalNotNeeded,
}

impl Mutation {
    /// Every mutation with its name on the command line.
    pub const ALL: [(&'static str, Self); 8] = [
        ("merge-keeps-first", Self::MergeKeepsFirst),
        ("no-anti-entropy", Self::NoAntiEntropy),
        ("reservation-not-counted", Self::ReservationNotCounted),
        ("run-request-without-counter", Self::RunRequestWithoutCounter),
        ("commit-before-all-reserved", Self::CommitBeforeAllReserved),
        ("output-before-persisted", Self::OutputBeforePersisted),
        ("label-not-checked", Self::LabelNotChecked),
        ("journal-not-needed", Self::JournalNotNeeded),
    ];
}
