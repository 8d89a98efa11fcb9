//! What can go wrong, kind by kind: each world draws which of them it has, and how often.

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// A packet is lost.
    Loss,
    /// A packet arrives twice.
    Repeat,
    /// A packet is overtaken by others.
    Late,
    /// A link holds back everything for a while, then lets it go at once.
    Clog,
    /// Some hosts can't reach some others.
    Partition,
    /// The agent ends without warning: what wasn't durable is gone.
    Crash,
    /// A crash leaves half of a group of writes on the disk.
    TornWrite,
    /// Writes fail; the agent ends, and can't start before there is room.
    DiskFull,
    /// Writes take long.
    SlowDisk,
    /// A wall clock is wrong from the beginning.
    ClockSkew,
    /// A wall clock jumps.
    ClockJump,
    /// The process stands still; its host's clocks go on.
    Pause,
    /// The whole machine sleeps: guests, network and all.
    Suspend,
    /// The agent's database is put back to what it was some time ago.
    Backup,
    /// A second agent runs with the same key, on a copy of the disk.
    CloneKey,
    /// An agent that doesn't know the newest kind of record.
    OldAgent,
    /// A member lies: it says two things at once, repeats what others said, floods, and sends garbage.
    Hostile,
    /// A step on the platform fails.
    StepFails,
    /// A guest shuts itself down.
    GuestEnds,
    /// A build is cut off by the crash of its agent.
    CutBuild,
    /// An operator takes a VM over, whether its owner is gone or not.
    Takeover,
    /// A blow falls just when a host says something.
    Ambush,
    /// The whole machine loses its power: its guests end with its agent.
    PowerCut,
    /// The disk of a VM is gone after a crash.
    LostDisk,
    /// A grant is taken back on which projects were made; whoever had it goes on with a narrower one.
    Revoked,
}

impl Fault {
    /// Every kind with its name on the command line.
    pub(crate) const ALL: [(&'static str, Self); 25] = [
        ("loss", Self::Loss),
        ("repeat", Self::Repeat),
        ("late", Self::Late),
        ("clog", Self::Clog),
        ("partition", Self::Partition),
        ("crash", Self::Crash),
        ("torn-write", Self::TornWrite),
        ("disk-full", Self::DiskFull),
        ("slow-disk", Self::SlowDisk),
        ("clock-skew", Self::ClockSkew),
        ("clock-jump", Self::ClockJump),
        ("pause", Self::Pause),
        ("suspend", Self::Suspend),
        ("backup", Self::Backup),
        ("clone-key", Self::CloneKey),
        ("old-agent", Self::OldAgent),
        ("hostile", Self::Hostile),
        ("step-fails", Self::StepFails),
        ("guest-ends", Self::GuestEnds),
        ("cut-build", Self::CutBuild),
        ("takeover", Self::Takeover),
        ("ambush", Self::Ambush),
        ("power-cut", Self::PowerCut),
        ("lost-disk", Self::LostDisk),
        ("revoked", Self::Revoked),
    ];

    /// Returns its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, fault)| *fault == self).map_or("", |(name, _)| name)
    }

    /// Reads a name from the command line.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|(name, _)| *name == text);
        let names = || Self::ALL.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        known.map(|(_, fault)| *fault).ok_or_else(|| format!("there are {}", names()))
    }
}

/// How often each kind of fault happened: a world without any proves little.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FaultCount([u64; Fault::ALL.len()]);

impl FaultCount {
    pub(crate) fn add(&mut self, fault: Fault) {
        self.0[fault as usize] += 1;
    }

    pub(crate) fn of(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }

    /// Adds what happened in another world.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum += more;
        }
    }
}
