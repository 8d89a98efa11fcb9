//! Asks whether a rule is in force, where the node acts on it: in all builds but the simulator's, each is.

use super::Node;
use super::io::Holding;

/// Whether a rule is switched off; always false where the feature `mutants` is.
macro_rules! mutations {
    ($($name:ident => $variant:ident),* $(,)?) => {
        #[cfg(feature = "mutants")]
        impl Node {
            $(pub(super) fn $name(&self) -> bool { self.config.mutation == Some(super::Mutation::$variant) })*
        }
        #[cfg(not(feature = "mutants"))]
        impl Node {
            $(pub(super) fn $name(&self) -> bool { false })*
        }
    };
}

mutations! {
    mutated_merge_keeps_first => MergeKeepsFirst,
    mutated_no_anti_entropy => NoAntiEntropy,
    mutated_reservation_not_counted => ReservationNotCounted,
    mutated_run_request_without_counter => RunRequestWithoutCounter,
    mutated_commit_before_all_reserved => CommitBeforeAllReserved,
    mutated_output_before_persisted => OutputBeforePersisted,
    mutated_label_not_checked => LabelNotChecked,
    mutated_decline_without_epoch => DeclineWithoutEpoch,
    mutated_resume_without_claim => ResumeWithoutClaim,
    mutated_takeover_keeps_term => TakeoverKeepsTerm,
    mutated_first_epoch_by_another => FirstEpochByAnother,
    mutated_release_before_ready => ReleaseBeforeReady,
    mutated_shadow_unpinned => ShadowUnpinned,
    mutated_claim_before_fsync => ClaimBeforeFsync,
    mutated_note_after_send => NoteAfterSend,
    mutated_ready_not_noted => ReadyNotNoted,
    mutated_release_not_noted => ReleaseNotNoted,
    mutated_claim_not_noted => ClaimNotNoted,
    mutated_decline_not_noted => DeclineNotNoted,
    mutated_fragment_by_own_name => FragmentByOwnName,
    mutated_put_forward_withdrawn => PutForwardWithdrawn,
    mutated_epoch_not_compared => EpochNotCompared,
    mutated_run_request_without_epoch => RunRequestWithoutEpoch,
    mutated_promise_lapses => PromiseLapses,
    mutated_ask_round_skipped => AskRoundSkipped,
    mutated_promise_before_all_reserved => PromiseBeforeAllReserved,
    mutated_highest_promise_ignored => HighestPromiseIgnored,
    mutated_majority_over_live => MajorityOverLive,
    mutated_commit_judged_again => CommitJudgedAgain,
    mutated_changed_hosts_from_commit => ChangedHostsFromCommit,
    mutated_stranded_deleted => StrandedDeleted,
    mutated_partial_beats_majority => PartialBeatsMajority,
    mutated_identity_without_birth => IdentityWithoutBirth,
    mutated_journal_not_needed => JournalNotNeeded,
    mutated_merge_refuses_expired => MergeRefusesExpired,
    mutated_refused_not_told => RefusedNotTold,
    mutated_replay_accepted => ReplayAccepted,
    mutated_takeover_unread => TakeoverUnread,
    mutated_takeover_unasked => TakeoverUnasked,
    mutated_takeover_not_heeded => TakeoverNotHeeded,
    mutated_contested_goes_on => ContestedGoesOn,
    mutated_kept_deleted => KeptDeleted,
    mutated_ready_unread => ReadyUnread,
    mutated_confirmed_by_others_only => ConfirmedByOthersOnly,
    mutated_revocation_ignored => RevocationIgnored,
    mutated_own_key_not_asked => OwnKeyNotAsked,
    mutated_second_run_ignored => SecondRunIgnored,
    mutated_applied_forgotten => AppliedForgotten,
    mutated_kept_disk_deleted_early => KeptDiskDeletedEarly,
    mutated_kept_by_wall_clock => KeptByWallClock,
    mutated_kept_disk_not_held => KeptDiskNotHeld,
    mutated_room_not_counted => RoomNotCounted,
    mutated_reservation_never_lapses => ReservationNeverLapses,
    mutated_times_go_back => TimesGoBack,
    mutated_strangers_heard => StrangersHeard,
    mutated_strangers_kept => StrangersKept,
    mutated_member_not_judged => MemberNotJudged,
    mutated_asker_not_judged => AskerNotJudged,
    mutated_grant_verb_ignored => GrantVerbIgnored,
    mutated_grant_projects_ignored => GrantProjectsIgnored,
    mutated_grant_hosts_ignored => GrantHostsIgnored,
    mutated_grant_expiry_ignored => GrantExpiryIgnored,
    mutated_grant_limit_ignored => GrantLimitIgnored,
    mutated_partial_for_anybody => PartialForAnybody,
    mutated_charge_not_compared => ChargeNotCompared,
    mutated_own_told_unsigned_believed => OwnToldUnsignedBelieved,
    mutated_reservation_forgotten => ReservationForgotten,
    mutated_joined_when_asked => JoinedWhenAsked,
    mutated_takeover_without_room => TakeoverWithoutRoom,
    mutated_fragment_for_anybody => FragmentForAnybody,
    mutated_forgotten_not_let_go => ForgottenNotLetGo,
    mutated_left_out_remembers => LeftOutRemembers,
    mutated_takeover_term_unbounded => TakeoverTermUnbounded,
    mutated_takeover_scope_ignored => TakeoverScopeIgnored,
    mutated_quarantined_dropped => QuarantinedDropped,
    mutated_ballot_jump_unbounded => BallotJumpUnbounded,
    mutated_half_suffices => HalfSuffices,
    mutated_first_counts_once => FirstCountsOnce,
    mutated_guest_key_kept_over_an_epoch => GuestKeyKeptOverAnEpoch,
    mutated_budget_per_vm => BudgetPerVm,
    mutated_envelope_read_from_child => EnvelopeReadFromChild,
    mutated_envelope_ignored => EnvelopeIgnored,
    mutated_guest_part_not_remade => GuestPartNotRemade,
    mutated_guest_signature_ignored => GuestSignatureIgnored,
    mutated_guest_grant_revoked_passes => GuestGrantRevokedPasses,
    mutated_guest_verb_unchecked => GuestVerbUnchecked,
    mutated_guest_charge_forgotten => GuestChargeForgotten,
    mutated_guest_limit_unchecked => GuestLimitUnchecked,
    mutated_guest_hosts_unchecked => GuestHostsUnchecked,
    mutated_overtaken_not_told => OvertakenNotTold,
}

impl Node {
    /// Whether a step of a hand-over is not written down, for a mutation.
    pub(super) fn mutated_not_noted(&self, step: &Holding) -> bool {
        match step {
            Holding::Arrived { .. } => self.mutated_ready_not_noted(),
            Holding::Released { .. } => self.mutated_release_not_noted(),
            Holding::Claimed { .. } => self.mutated_claim_not_noted(),
            Holding::Declined { .. } => self.mutated_decline_not_noted(),
            // The one gives no right but to say no, the other takes none away that the claim of another doesn't.
            Holding::Arriving { .. } | Holding::Shadow { .. } => false,
        }
    }
}
