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
    /// A host that declines a VM doesn't use up the epoch: both it and the old owner may claim it.
    DeclineWithoutEpoch,
    /// After a decline the old owner goes on without claiming the next epoch.
    ResumeWithoutClaim,
    /// A takeover raises the number of the epoch and not its term.
    TakeoverKeepsTerm,
    /// Any host on which the head places a VM may claim its first epoch.
    FirstEpochByAnother,
    /// A VM is released before its new host has said that the disk is complete there.
    ReleaseBeforeReady,
    /// Whoever has released a VM may drop its copy before somebody has claimed it.
    ShadowUnpinned,
    /// A claim leaves before it is durable.
    ClaimBeforeFsync,
    /// What a host has signed about a VM is written down after it has left.
    NoteAfterSend,
    /// A host doesn't write down that a disk lies complete there before it says so.
    ReadyNotNoted,
    /// A host doesn't write down that it has released a VM.
    ReleaseNotNoted,
    /// A host doesn't write down that it has claimed a VM.
    ClaimNotNoted,
    /// A host doesn't write down that it has declined a VM.
    DeclineNotNoted,
    /// After a restart a host takes its note for the newest epoch.
    EpochNotCompared,
    /// A request to start or stop is applied whatever epoch its author saw.
    RunRequestWithoutEpoch,
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
    /// A host that has lost its journal of a project goes on as if it remembered everything.
    JournalNotNeeded,
    /// A record is not kept where its author's grant has expired by the receiver's clock.
    MergeRefusesExpired,
    /// Whoever is refused is not told.
    RefusedNotTold,
    /// What arrives counts whoever has signed it. The simulator's codec switches this one.
    UnsignedAccepted,
    /// Of two records in a slot, the one that arrives last is kept, also if it is older.
    ReplayAccepted,
    /// Peers are compared with what was heard since the start, not with what is in the store.
    SyncFromSeenCache,
    /// A VM is taken over with a copy that nobody has read.
    TakeoverUnread,
    /// A VM is taken over although its owner is there.
    TakeoverUnasked,
    /// An owner goes on although it has heard that its VM was taken over.
    TakeoverNotHeeded,
    /// Two that have taken over one VM both go on.
    ContestedGoesOn,
    /// What a partial revision leaves out is removed.
    KeptDeleted,
    /// A new host says that a disk lies complete there without having read it back.
    ReadyUnread,
    /// A host that has restarted does nothing before somebody has confirmed what it owns.
    ConfirmedByOthersOnly,
    /// A grant that was taken back is as good as before.
    RevocationIgnored,
    /// A host signs before it has asked what others have heard under its key.
    OwnKeyNotAsked,
    /// A host goes on although its key has signed what it doesn't know of.
    SecondRunIgnored,
    /// A host says yes to more than it lends.
    RoomNotCounted,
    /// A host keeps room for ever for what was asked for and never decided.
    ReservationNeverLapses,
    /// A revision may be older than the one that it follows.
    TimesGoBack,
    /// Requests count also where nobody knows who has signed them.
    StrangersHeard,
    /// Records of strangers are kept and passed on.
    StrangersKept,
    /// Whoever passes a request on may do so whatever its own grants say.
    MemberNotJudged,
    /// Whoever a request is passed on for may ask for anything that the one who passes it on may.
    AskerNotJudged,
    /// A grant is good for anything, whatever it allows.
    GrantVerbIgnored,
    /// A grant is good for any project.
    GrantProjectsIgnored,
    /// A grant is good on any host.
    GrantHostsIgnored,
    /// A grant never ends.
    GrantExpiryIgnored,
    /// As much may be made on a grant as hosts have room for.
    GrantLimitIgnored,
    /// A link of a chain may allow more than the one before it.
    GrantWidened,
    /// Whoever may change a project may do so without the majority of its hosts.
    PartialForAnybody,
    /// A revision may take more than it says that it takes.
    ChargeNotCompared,
    /// A host signs nothing more once a peer says that another run of its key is alive, whoever that peer is.
    OwnToldUnsignedBelieved,
    /// After a restart a host takes it that guests that run have the definitions that it was to give them.
    AppliedForgotten,
    /// The disk of a VM that is left out goes at once.
    KeptDiskDeletedEarly,
    /// The time for which a disk is kept goes by its host's wall clock.
    KeptByWallClock,
    /// A disk goes when its time is over though its host has reserved for a revision that brings the VM back.
    KeptDiskNotHeld,
    /// A host that has restarted keeps no room for what it had said yes to.
    ReservationForgotten,
    /// A host has a journal of whatever it has said yes to, whether it ever comes to be or not.
    JoinedWhenAsked,
    /// A VM is taken over by a host that has no memory for it.
    TakeoverWithoutRoom,
    /// A part of a project is handed to any member that asks for it.
    FragmentForAnybody,
    /// A part goes to whoever names it in a project of their own.
    FragmentByOwnName,
    /// Whoever gives a change up withdraws it, though it was put forward and may still be decided.
    PutForwardWithdrawn,
    /// A host that has lost its journal of a project says no even to being left out of it.
    ForgottenNotLetGo,
    /// A host that has lost its journal promises again once it was asked to be left out.
    LeftOutRemembers,
    /// A takeover may begin any term.
    TakeoverTermUnbounded,
    /// A takeover counts whatever projects its grants are for.
    TakeoverScopeIgnored,
    /// A takeover counts that no grant allows. The simulator's codec switches this one and the next.
    TakeoverUngranted,
    /// A grant is taken back by whoever says so.
    RevocationByAnybody,
    /// Where space is short, a host drops its disk of a VM that somebody has taken over.
    QuarantinedDropped,
    /// A ballot may have any number.
    BallotJumpUnbounded,
    /// Of an even number of hosts any half is a majority.
    HalfSuffices,
    /// Of an even number of hosts no half is a majority.
    FirstCountsOnce,
    /// The key of a guest is as good after its VM was handed over as before.
    GuestKeyKeptOverAnEpoch,
    /// Each VM has the budget of a policy for itself that several share.
    BudgetPerVm,
    /// What a VM may decide is read from what it asks for.
    EnvelopeReadFromChild,
    /// A VM may decide anything about its project.
    EnvelopeIgnored,
    /// A host takes its part from whoever coordinates what a VM wants.
    GuestPartNotRemade,
    /// A request counts whoever has signed it for a VM.
    GuestSignatureIgnored,
    /// A VM gets more on grants that were taken back.
    GuestGrantRevokedPasses,
    /// A host brings VMs of its own project to others for a guest, whether it may upgrade the project there or not.
    GuestVerbUnchecked,
    /// What comes of a VM's request says nothing of the grants on which its project was made.
    GuestChargeForgotten,
    /// What VMs get is not held against the limits of the grants on which their project was made.
    GuestLimitUnchecked,
    /// A VM may bring its project to hosts for which its grants are not.
    GuestHostsUnchecked,
    /// Whoever wants a change is not told that another one was decided first.
    OvertakenNotTold,
}

impl Mutation {
    /// Every mutation with its name on the command line.
    pub const ALL: &'static [(&'static str, Self)] = &[
        ("merge-keeps-first", Self::MergeKeepsFirst),
        ("no-anti-entropy", Self::NoAntiEntropy),
        ("reservation-not-counted", Self::ReservationNotCounted),
        ("run-request-without-counter", Self::RunRequestWithoutCounter),
        ("commit-before-all-reserved", Self::CommitBeforeAllReserved),
        ("output-before-persisted", Self::OutputBeforePersisted),
        ("label-not-checked", Self::LabelNotChecked),
        ("decline-without-epoch", Self::DeclineWithoutEpoch),
        ("resume-without-claim", Self::ResumeWithoutClaim),
        ("takeover-keeps-term", Self::TakeoverKeepsTerm),
        ("first-epoch-by-another", Self::FirstEpochByAnother),
        ("release-before-ready", Self::ReleaseBeforeReady),
        ("shadow-unpinned", Self::ShadowUnpinned),
        ("claim-before-fsync", Self::ClaimBeforeFsync),
        ("note-after-send", Self::NoteAfterSend),
        ("ready-not-noted", Self::ReadyNotNoted),
        ("release-not-noted", Self::ReleaseNotNoted),
        ("claim-not-noted", Self::ClaimNotNoted),
        ("decline-not-noted", Self::DeclineNotNoted),
        ("fragment-by-own-name", Self::FragmentByOwnName),
        ("put-forward-withdrawn", Self::PutForwardWithdrawn),
        ("epoch-not-compared", Self::EpochNotCompared),
        ("run-request-without-epoch", Self::RunRequestWithoutEpoch),
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
        ("journal-not-needed", Self::JournalNotNeeded),
        ("merge-refuses-expired", Self::MergeRefusesExpired),
        ("refused-not-told", Self::RefusedNotTold),
        ("unsigned-accepted", Self::UnsignedAccepted),
        ("replay-accepted", Self::ReplayAccepted),
        ("sync-from-seen-cache", Self::SyncFromSeenCache),
        ("takeover-unread", Self::TakeoverUnread),
        ("takeover-unasked", Self::TakeoverUnasked),
        ("takeover-not-heeded", Self::TakeoverNotHeeded),
        ("contested-goes-on", Self::ContestedGoesOn),
        ("kept-deleted", Self::KeptDeleted),
        ("ready-unread", Self::ReadyUnread),
        ("confirmed-by-others-only", Self::ConfirmedByOthersOnly),
        ("revocation-ignored", Self::RevocationIgnored),
        ("own-key-not-asked", Self::OwnKeyNotAsked),
        ("second-run-ignored", Self::SecondRunIgnored),
        ("room-not-counted", Self::RoomNotCounted),
        ("reservation-never-lapses", Self::ReservationNeverLapses),
        ("times-go-back", Self::TimesGoBack),
        ("strangers-heard", Self::StrangersHeard),
        ("strangers-kept", Self::StrangersKept),
        ("member-not-judged", Self::MemberNotJudged),
        ("asker-not-judged", Self::AskerNotJudged),
        ("grant-verb-ignored", Self::GrantVerbIgnored),
        ("grant-projects-ignored", Self::GrantProjectsIgnored),
        ("grant-hosts-ignored", Self::GrantHostsIgnored),
        ("grant-expiry-ignored", Self::GrantExpiryIgnored),
        ("grant-limit-ignored", Self::GrantLimitIgnored),
        ("grant-widened", Self::GrantWidened),
        ("partial-for-anybody", Self::PartialForAnybody),
        ("charge-not-compared", Self::ChargeNotCompared),
        ("own-told-unsigned-believed", Self::OwnToldUnsignedBelieved),
        ("applied-forgotten", Self::AppliedForgotten),
        ("kept-disk-deleted-early", Self::KeptDiskDeletedEarly),
        ("kept-by-wall-clock", Self::KeptByWallClock),
        ("kept-disk-not-held", Self::KeptDiskNotHeld),
        ("reservation-forgotten", Self::ReservationForgotten),
        ("joined-when-asked", Self::JoinedWhenAsked),
        ("takeover-without-room", Self::TakeoverWithoutRoom),
        ("fragment-for-anybody", Self::FragmentForAnybody),
        ("forgotten-not-let-go", Self::ForgottenNotLetGo),
        ("left-out-remembers", Self::LeftOutRemembers),
        ("takeover-term-unbounded", Self::TakeoverTermUnbounded),
        ("takeover-scope-ignored", Self::TakeoverScopeIgnored),
        ("takeover-ungranted", Self::TakeoverUngranted),
        ("revocation-by-anybody", Self::RevocationByAnybody),
        ("quarantined-dropped", Self::QuarantinedDropped),
        ("ballot-jump-unbounded", Self::BallotJumpUnbounded),
        ("half-suffices", Self::HalfSuffices),
        ("first-counts-once", Self::FirstCountsOnce),
        ("guest-key-kept-over-an-epoch", Self::GuestKeyKeptOverAnEpoch),
        ("budget-per-vm", Self::BudgetPerVm),
        ("envelope-read-from-child", Self::EnvelopeReadFromChild),
        ("envelope-ignored", Self::EnvelopeIgnored),
        ("guest-part-not-remade", Self::GuestPartNotRemade),
        ("guest-signature-ignored", Self::GuestSignatureIgnored),
        ("guest-grant-revoked-passes", Self::GuestGrantRevokedPasses),
        ("guest-verb-unchecked", Self::GuestVerbUnchecked),
        ("guest-charge-forgotten", Self::GuestChargeForgotten),
        ("guest-limit-unchecked", Self::GuestLimitUnchecked),
        ("guest-hosts-unchecked", Self::GuestHostsUnchecked),
        ("overtaken-not-told", Self::OvertakenNotTold),
    ];
}
