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
    /// A host forgets what it promised when it has heard of no decision for a while.
    PromiseLapses,
    /// A coordinator puts a child forward without having asked for a ballot.
    AskRoundSkipped,
    /// A child is promised before every host that it changes has reserved.
    PromiseBeforeAllReserved,
    /// A coordinator puts its own child forward whatever was promised before.
    HighestPromiseIgnored,
    /// Majorities are counted over the hosts that are connected.
    MajorityOverLive,
    /// A commit is judged again by the clock and its hosts' grants by whoever hears of it.
    CommitJudgedAgain,
    /// The hosts that a revision leaves out are not asked.
    ChangedHostsFromCommit,
    /// What only a losing head has is removed.
    StrandedDeleted,
    /// A partial commit goes before one by majority.
    PartialBeatsMajority,
    /// A VM's name that was removed and comes back is taken for the old VM.
    IdentityWithoutBirth,
}

impl Mutation {
    /// Every mutation with its name on the command line.
    pub const ALL: [(&'static str, Self); 17] = [
        ("merge-keeps-first", Self::MergeKeepsFirst),
        ("no-anti-entropy", Self::NoAntiEntropy),
        ("reservation-not-counted", Self::ReservationNotCounted),
        ("run-request-without-counter", Self::RunRequestWithoutCounter),
        ("commit-before-all-reserved", Self::CommitBeforeAllReserved),
        ("output-before-persisted", Self::OutputBeforePersisted),
        ("label-not-checked", Self::LabelNotChecked),
        ("promise-lapses", Self::PromiseLapses),
        ("ask-round-skipped", Self::AskRoundSkipped),
        ("promise-before-all-reserved", Self::PromiseBeforeAllReserved),
        ("highest-promise-ignored", Self::HighestPromiseIgnored),
        ("majority-over-live", Self::MajorityOverLive),
        ("commit-judged-again", Self::CommitJudgedAgain),
        ("changed-hosts-from-commit", Self::ChangedHostsFromCommit),
        ("stranded-deleted", Self::StrandedDeleted),
        ("partial-beats-majority", Self::PartialBeatsMajority),
        ("identity-without-birth", Self::IdentityWithoutBirth),
    ];
}
