//! Every bound of a node, by name.

/// How many records a node keeps; above it new slots are refused.
pub const RECORDS_MAX: usize = 200_000;

/// How many records of kinds that it doesn't know a node keeps of one author.
pub const LATER_RECORDS_MAX: usize = 1024;

/// How many questions about revisions a host considers at once.
pub const RESERVATIONS_MAX: usize = 256;

/// How many words a host remembers that it has given to projects that it has no journal of, and for which no room is kept
/// any more: the newest ones. One of them may still be committed.
pub const LAPSED_MAX: usize = 256;

/// How many operations a node coordinates at once.
pub const OPERATIONS_MAX: usize = 256;

/// How many steps a host carries out at once.
pub const STEPS_RUNNING_MAX: usize = 4;

/// How long a host keeps room for a revision that is not committed, in milliseconds: longer than a coordinator may
/// wait for two rounds of answers, one for what is built and one for what it replaces.
pub const RESERVATION_MS: u64 = 120_000;

/// How much longer a host keeps room for a revision whose coordinator was started anew, in milliseconds: long enough for
/// that one to tell what it had decided on before.
pub const RESERVATION_ORPHANED_MS: u64 = 5_000;

/// How long a coordinator waits for answers, in milliseconds.
pub const ANSWER_MS_MAX: u64 = 30_000;

/// How long a coordinator watches a build, a start or a stop that it was asked for, in milliseconds.
pub const WATCH_MS_MAX: u64 = 600_000;

/// After how long, in milliseconds, whoever waits for what a host has agreed to do looks whether that host is
/// still there.
pub const PROBE_MS: u64 = 10_000;

/// After which time an unanswered message is sent again, in milliseconds.
pub const RESEND_MS: u64 = 1_000;

/// The shortest time between two records of a host's status, in milliseconds.
pub const STATUS_MS_MIN: u64 = 200;

/// How often a host repeats its status without a change, in milliseconds, in a mesh of up to
/// [`STATUS_PEERS`] hosts; in larger ones in proportion less often.
pub const STATUS_MS: u64 = 30_000;

/// See [`STATUS_MS`]: so each host hears less than one repeated status a second, however large the mesh is.
pub const STATUS_PEERS: usize = 20;

/// How often a node compares its records with a peer, in milliseconds.
pub const SYNC_MS: u64 = 10_000;

/// How many records go into one message.
pub const SYNC_RECORDS_MAX: usize = 256;

/// How many bytes of records go into one message.
pub const SYNC_BYTES_MAX: usize = 1 << 20;

/// How many ranges go into one message.
pub const SYNC_RANGES_MAX: usize = 1024;

/// In ranges of at most this many records, keys are listed instead of being summed up.
pub const SYNC_LIST_MAX: usize = 32;

/// Into how many parts a differing range is split.
pub const SYNC_SPLIT: usize = 8;

/// How many ranges an answer has when ranges of it are split: a comparison is as deep as it must be, but not broad. All of
/// those together list about as many keys as records go into one message.
pub const SYNC_SPLITS_MAX: usize = 64;

/// How long a host that lacks much looks at one peer's records alone after each message that was full, in milliseconds.
pub const CATCH_UP_MS: u64 = 2_000;

/// How long a host waits for further orders to stop VMs of a project that has hooks, in milliseconds, so that what was
/// asked for together counts as one stop.
pub const HOOKS_GATHER_MS: u64 = 250;

/// The first pause after a failed step, in milliseconds; each further one is twice as long.
pub const RETRY_MS_MIN: u64 = 5_000;

/// The longest pause after a failed step, in milliseconds.
pub const RETRY_MS_MAX: u64 = 300_000;

/// How long a build waits for the removal of a project of the same name, which it may replace, to be heard of.
pub const REPLACED_HEARD_MS: u64 = 30_000;

/// How far apart the values of a gauge are of which a host tells others, in milliseconds; and how often it tells them at most.
pub const GAUGE_APART_MS: u64 = 10_000;

/// How long a host waits for what other guests measure before it tells, in milliseconds.
pub const GAUGES_GATHER_MS: u64 = 1_000;

/// After how long a host that told gauges, and does so no more, counts no longer among those who share the rate, in
/// milliseconds: longer than any weekend, so that it is shared at once when many come back together.
pub const GAUGES_GONE_MS: u64 = 7 * 24 * 3_600_000;

/// How many bytes of gauges all hosts of a mesh tell each other in a second, together.
pub const GAUGES_BYTES_PER_S: u64 = 256;

/// How long a record of gauges is at most, in bytes: less than what agents keep that don't know it.
pub const GAUGES_BYTES_MAX: usize = 15 << 10;

/// How many VMs one question about ownership names.
pub const LINKS_WANTED_MAX: usize = 256;

/// How long a host that has just started waits for somebody to tell it whether the VMs that it owned are still its
/// own, in milliseconds.
pub const CONFIRM_MS: u64 = 3_000;

/// How often it asks while it reaches somebody who doesn't tell, and how many peers at a time.
pub const CONFIRM_TRIES_MAX: u32 = 4;

/// See [`CONFIRM_TRIES_MAX`].
pub const CONFIRM_PEERS_MAX: usize = 8;

/// How long a host that was told of a second run of its key does nothing more about it, in milliseconds: a peer's
/// word costs a question and a status, and no more often than this.
pub const OTHER_RUN_MS: u64 = 30_000;

/// How many terms may be missing before a takeover: records of them may be lost with their authors, and it still takes
/// as many signatures as there are terms to come to the end of them.
pub const TERM_JUMP_MAX: u64 = 16;

/// How many runs of a peer's agent a host remembers.
pub const RUNS_KEPT: usize = 8;

/// How long a host must not have been heard to be taken for failed, in milliseconds.
pub const FAILURE_MS: u64 = 15_000;

/// How long whoever takes over a VM waits for peers to say when they heard its owner, in milliseconds.
pub const HEARD_MS: u64 = 3_000;

/// How many rounds of copying a running VM's disk there are before it is stopped.
pub const PULL_ROUNDS_MAX: u32 = 8;

/// A running VM is stopped for the last round when at most this many bytes had changed in the one before.
pub const PULL_BYTES_LEFT: u64 = 16 << 20;

/// How many VMs arrive on a host at once; others wait.
pub const ARRIVALS_MAX: usize = 4;

/// After how long without a word of the new host a VM that was stopped for it goes on, in milliseconds.
pub const HALT_QUIET_MS: u64 = 30_000;

/// How often a host that has released a VM says so again to whom it was released, in milliseconds.
pub const RELEASE_MS: u64 = 2_000;

/// How many authors of two links in one slot are kept as evidence.
pub const FORKS_MAX: usize = 1024;

/// How many hosts a project may span: its commit carries a signature of each, and goes to everybody.
pub const PROJECT_HOSTS_MAX: usize = 200;

/// How large one host's part of a project may be, in bytes: it travels in one message.
pub const FRAGMENT_BYTES_MAX: usize = 3 << 20;

/// How many ballots a coordinator tries for one change before it gives up: others are as eager, or a host lies.
pub const BALLOTS_MAX: u32 = 12;

/// How far the number of a ballot may be above what was answered or called here: whoever counts up one by one never
/// comes near, and a number at the end of all would leave none for others.
pub const BALLOT_JUMP_MAX: u64 = 1 << 32;

/// After how long, in milliseconds, a host that has promised a child sees to it that it is decided: longer than a
/// coordinator needs that is still there. By lot, up to twice as long.
pub const UNDECIDED_MS: u64 = 20_000;

/// How many parts a host remembers that it has reserved for one parent's children: one of them may still be committed.
/// Of those that it keeps no room for any more, and that bring no kept disk back, the oldest is forgotten for one more;
/// where there is none, it says no.
pub const RESERVED_PARTS_MAX: usize = 8;

/// How often a partial change is asked about anew without the hosts that did not reserve.
pub const PARTIAL_ROUNDS_MAX: u32 = 3;

/// How many of a project's last revisions a host keeps its parts of, so that they can be gone back to.
pub const REVISIONS_KEPT: usize = 8;

/// How often at least, in milliseconds, a host looks whether the time is over for which it keeps the disk of a VM, and
/// notes how much of it has passed.
pub const KEPT_LOOK_MS: u64 = 3_600_000;

/// How often at most, in milliseconds.
pub const KEPT_LOOK_MS_MIN: u64 = 1_000;

/// In how many parts that time is noted where the two above allow it. Of the time in which the host's agent was off no more
/// than one counts for each of its starts.
pub const KEPT_NOTES: u64 = 8;

/// How often it looks where only a change that is not decided holds a disk, in milliseconds.
pub const KEPT_HELD_MS: u64 = 10_000;

/// How many requests of one guest a host looks at at once.
pub const GUEST_REQUESTS_MAX: u32 = 6;

/// How often it looks at one more of the same guest, in milliseconds.
pub const GUEST_REQUEST_MS: u64 = 10_000;

/// How many questions about what guests want, of one coordinator, a host judges at once that it hasn't judged before: each
/// makes it read and make the whole project again.
pub const GUEST_QUESTIONS_MAX: u32 = 60;

/// How often it judges one more of the same coordinator, in milliseconds.
pub const GUEST_QUESTION_MS: u64 = 1_000;

/// Of how many coordinators it counts them one by one; those that have asked least lately are counted anew.
pub const GUEST_COORDINATORS_MAX: usize = 1_024;

/// How many of its refusals of such questions it remembers, to answer them again without work.
pub const GUEST_REFUSALS_KEPT: usize = 64;

/// How far ahead of a host's wall clock a revision may be made that a VM decided on, in milliseconds: graces are counted
/// by when revisions are made.
pub const GUEST_AHEAD_MS_MAX: u64 = 120_000;

/// For how long the disks of VMs are kept that a VM leaves out of its project, in milliseconds.
pub const GUEST_KEEP_REMOVED_MS: u64 = 86_400_000;
