//! Which rules of the mesh a broken rule of the core must break: what is noticed for another reason was noticed by luck.

use mln_protocol::node::Mutation;

/// A mutation without an entry counts as not noticed, whatever is.
const EXPECTED: &[(Mutation, &[&str])] = &[
    (Mutation::MergeKeepsFirst, &["L1"]),
    (Mutation::NoAntiEntropy, &["L1"]),
    (Mutation::ReservationNotCounted, &["S5", "S4"]),
    (Mutation::RunRequestWithoutCounter, &["S4"]),
    (Mutation::CommitBeforeAllReserved, &["S2"]),
    (Mutation::OutputBeforePersisted, &["D", "S1"]),
    (Mutation::LabelNotChecked, &["S2"]),
    (Mutation::DeclineWithoutEpoch, &["S1", "D"]),
    (Mutation::ResumeWithoutClaim, &["S1"]),
    (Mutation::TakeoverKeepsTerm, &["S1"]),
    (Mutation::FirstEpochByAnother, &["S1"]),
    (Mutation::ReleaseBeforeReady, &["S3"]),
    (Mutation::ShadowUnpinned, &["S3"]),
    (Mutation::ClaimBeforeFsync, &["D", "S1"]),
    (Mutation::NoteAfterSend, &["D", "S1"]),
    (Mutation::ReadyNotNoted, &["D"]),
    (Mutation::ReleaseNotNoted, &["S1", "D"]),
    (Mutation::ClaimNotNoted, &["S1", "D"]),
    (Mutation::DeclineNotNoted, &["D"]),
    (Mutation::FragmentByOwnName, &["S4"]),
    (Mutation::PutForwardWithdrawn, &["S3"]),
    (Mutation::EpochNotCompared, &["S1"]),
    (Mutation::RunRequestWithoutEpoch, &["S4"]),
    (Mutation::PromiseLapses, &["S2"]),
    (Mutation::AskRoundSkipped, &["S2"]),
    (Mutation::PromiseBeforeAllReserved, &["S2"]),
    (Mutation::HighestPromiseIgnored, &["S2"]),
    (Mutation::MajorityOverLive, &["S2"]),
    (Mutation::CommitJudgedAgain, &["L1"]),
    (Mutation::ChangedHostsFromCommit, &["S2"]),
    (Mutation::StrandedDeleted, &["S2"]),
    (Mutation::PartialBeatsMajority, &["S2", "L1"]),
    (Mutation::IdentityWithoutBirth, &["S2"]),
    (Mutation::JournalNotNeeded, &["S1", "S2"]),
    (Mutation::MergeRefusesExpired, &["L1"]),
    (Mutation::RefusedNotTold, &["L1"]),
    (Mutation::UnsignedAccepted, &["S4"]),
    (Mutation::ReplayAccepted, &["D", "L1", "S4"]),
    (Mutation::SyncFromSeenCache, &["L1"]),
    (Mutation::TakeoverUnread, &["S3"]),
    (Mutation::TakeoverUnasked, &["S1"]),
    (Mutation::TakeoverNotHeeded, &["S1"]),
    (Mutation::ContestedGoesOn, &["S1"]),
    (Mutation::KeptDeleted, &["S2"]),
    (Mutation::ReadyUnread, &["S3"]),
    (Mutation::ConfirmedByOthersOnly, &["L2"]),
    (Mutation::RevocationIgnored, &["S4"]),
    (Mutation::OwnKeyNotAsked, &["D"]),
    (Mutation::SecondRunIgnored, &["D", "S1"]),
    (Mutation::RoomNotCounted, &["S5"]),
    (Mutation::ReservationNeverLapses, &["L1"]),
    (Mutation::TimesGoBack, &["S2"]),
    (Mutation::StrangersHeard, &["S4"]),
    (Mutation::StrangersKept, &["S4"]),
    (Mutation::MemberNotJudged, &["S4"]),
    (Mutation::AskerNotJudged, &["S4"]),
    (Mutation::GrantVerbIgnored, &["S4"]),
    (Mutation::GrantProjectsIgnored, &["S4"]),
    (Mutation::GrantHostsIgnored, &["S4"]),
    (Mutation::GrantExpiryIgnored, &["S4"]),
    (Mutation::GrantLimitIgnored, &["S4"]),
    (Mutation::GrantWidened, &["S4"]),
    (Mutation::PartialForAnybody, &["S4"]),
    (Mutation::ChargeNotCompared, &["S4"]),
    (Mutation::OwnToldUnsignedBelieved, &["L1", "L2"]),
    (Mutation::AppliedForgotten, &["L1"]),
    (Mutation::KeptDiskDeletedEarly, &["S3"]),
    (Mutation::KeptByWallClock, &["S3"]),
    (Mutation::KeptDiskNotHeld, &["S3"]),
    (Mutation::ReservationForgotten, &["S5", "S2"]),
    (Mutation::JoinedWhenAsked, &["S6"]),
    (Mutation::TakeoverWithoutRoom, &["S5"]),
    (Mutation::FragmentForAnybody, &["S4"]),
    (Mutation::ForgottenNotLetGo, &["L1"]),
    (Mutation::LeftOutRemembers, &["S2", "S6"]),
    (Mutation::TakeoverTermUnbounded, &["L1"]),
    (Mutation::TakeoverScopeIgnored, &["S1", "L1"]),
    (Mutation::TakeoverUngranted, &["S4"]),
    (Mutation::RevocationByAnybody, &["S4"]),
    (Mutation::QuarantinedDropped, &["S3"]),
    (Mutation::BallotJumpUnbounded, &["L1"]),
    (Mutation::HalfSuffices, &["S2"]),
    (Mutation::FirstCountsOnce, &["L1", "L2"]),
    (Mutation::GuestKeyKeptOverAnEpoch, &["S4"]),
    (Mutation::BudgetPerVm, &["S4"]),
    (Mutation::EnvelopeReadFromChild, &["S4"]),
    (Mutation::EnvelopeIgnored, &["S4"]),
    (Mutation::GuestPartNotRemade, &["S4"]),
    (Mutation::GuestSignatureIgnored, &["S4"]),
    (Mutation::GuestGrantRevokedPasses, &["S4"]),
    (Mutation::GuestVerbUnchecked, &["S4"]),
    (Mutation::GuestChargeForgotten, &["S4"]),
    (Mutation::GuestLimitUnchecked, &["S4"]),
    (Mutation::GuestHostsUnchecked, &["S4"]),
    (Mutation::OvertakenNotTold, &["L1"]),
];

/// Returns by which rules a mutation must be noticed.
pub(crate) fn rules(mutation: Mutation) -> &'static [&'static str] {
    EXPECTED.iter().find(|(known, _)| *known == mutation).map_or(&[], |(_, rules)| *rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mutation_says_by_which_rules_it_must_be_noticed() {
        let silent: Vec<&str> =
            Mutation::ALL.iter().filter(|(_, m)| rules(*m).is_empty()).map(|(name, _)| *name).collect();
        assert_eq!(silent, [""; 0], "each has an entry in this file");
    }
}
