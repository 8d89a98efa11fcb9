//! Worlds that are made for one rule: a few hosts, one project, and a script of what people do and what goes wrong.
//!
//! Where a rule matters for a few milliseconds in a world's life, chance alone takes long to find them. A scene goes
//! there: who has which part, how long everything takes and which small faults there are besides is still drawn from
//! the seed. With every rule in force nothing goes wrong in any of them.

use std::sync::Arc;

use mln_protocol::id::Label;
use mln_protocol::model::Project;
use mln_protocol::node::limits::RESERVATION_MS;
use mln_protocol::node::{OpId, OwnerHeard, Rule};

use crate::ambush::{Ambush, Blow, Moment, Whom};
use crate::forgery::Forgery;
use crate::guest_lies::GuestForgery;
use crate::holder::Holder;
use crate::lot::Lot;
use crate::options::FAULTS_MS;
use crate::sketch::Text;

/// How many hosts a scene has.
pub(crate) const SCENE_HOSTS: usize = 6;

/// How many of them lie where any do, the last ones.
pub(crate) const LIARS: usize = 2;

/// A world that is made for one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scene {
    /// A new host finds its copy gone once it is released to it.
    Decline,
    /// And meanwhile a request to stop the VM is on its way.
    LateRun,
    /// A new host goes down between release and claim, and the old one has little space.
    Unpinned,
    /// A new host ends just as it says that it has claimed a VM.
    ClaimCut,
    /// An owner ends just as it says that it has released a VM.
    ReleaseCut,
    /// An owner is cut off, restarts, and is taken over from.
    Takeover,
    /// Two take over one VM at once.
    TwoTakeovers,
    /// Somebody wants to take over from an owner that is well.
    Unasked,
    /// Somebody wants to take over with a copy that is damaged.
    Damaged,
    /// Whoever has decided a change is cut off before anybody hears of it.
    LostDecision,
    /// And two hosts lose their journals.
    Amnesia,
    /// A host has lost its journal, and the others go on without it.
    Forgotten,
    /// A project on two hosts, one of which is off or cut off.
    Pair,
    /// A VM moves to a host that never heard who has claimed it.
    Stranger,
    /// Some grants end soon, and some clocks are a day ahead.
    ShortGrants,
    /// A VM is left out and comes back.
    Comeback,
    /// A host is away until all others have restarted.
    AllRestart,
    /// What is asked for can't be had.
    Refusal,
    /// A host that is alone restarts.
    Alone,
    /// Two members lie.
    Liars,
    /// Operators ask for more than their grants allow, hosts for more than theirs, and strangers for anything.
    Holders,
    /// A grant is taken back, and whoever has it goes on asking.
    Revoked,
    /// Whoever has asked for much of some hosts' room is gone before it is decided.
    Lapse,
    /// Two build at once what only one of them has room for, or under one name.
    Crowd,
    /// A VM moves from host to host, and everything goes wrong that can.
    Moves,
    /// The agent of a VM that is changed as it runs ends just as it does so.
    ApplyCut,
    /// A VM is left out for a while and comes back with its disk, just when the time ends.
    Kept,
    /// A host restarts just as it has said yes to a build, and is asked for another one.
    Forgetful,
    /// A host with a copy has no memory left, and is to take over.
    Full,
    /// A host that may look at nothing asks for parts of a project.
    Curious,
    /// Whoever keeps the disk of a VM wants it back, and hears nothing of what the others have promised.
    PutForward,
    /// Guests ask for anything, without end, as people change the same project.
    Guests,
    /// And somebody speaks in their names.
    Forged,
    /// Guests ask for anything in a project that was made on grants, and these are taken back.
    Granted,
}

impl Scene {
    pub(crate) const ALL: [(&'static str, Self); 34] = [
        ("decline", Self::Decline),
        ("late-run", Self::LateRun),
        ("unpinned", Self::Unpinned),
        ("claim-cut", Self::ClaimCut),
        ("release-cut", Self::ReleaseCut),
        ("takeover", Self::Takeover),
        ("two-takeovers", Self::TwoTakeovers),
        ("unasked", Self::Unasked),
        ("damaged", Self::Damaged),
        ("lost-decision", Self::LostDecision),
        ("amnesia", Self::Amnesia),
        ("stranger", Self::Stranger),
        ("short-grants", Self::ShortGrants),
        ("comeback", Self::Comeback),
        ("all-restart", Self::AllRestart),
        ("refusal", Self::Refusal),
        ("alone", Self::Alone),
        ("liars", Self::Liars),
        ("holders", Self::Holders),
        ("revoked", Self::Revoked),
        ("lapse", Self::Lapse),
        ("crowd", Self::Crowd),
        ("moves", Self::Moves),
        ("apply-cut", Self::ApplyCut),
        ("kept", Self::Kept),
        ("forgetful", Self::Forgetful),
        ("full", Self::Full),
        ("curious", Self::Curious),
        ("forgotten", Self::Forgotten),
        ("pair", Self::Pair),
        ("put-forward", Self::PutForward),
        ("guests", Self::Guests),
        ("forged", Self::Forged),
        ("granted", Self::Granted),
    ];

    /// Returns its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, scene)| *scene == self).map_or("", |(name, _)| name)
    }

    /// Whether its project has guests that ask for changes.
    pub(crate) fn has_guests(self) -> bool {
        matches!(self, Self::Guests | Self::Forged | Self::Granted)
    }

    /// Reads a name from the command line.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|(name, _)| *name == text);
        let names = || Self::ALL.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        known.map(|(_, scene)| *scene).ok_or_else(|| format!("there are {}", names()))
    }
}

/// What somebody asks a host for. VMs have numbers, in the order of the definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Build the project.
    Build,
    /// Build another one that fits nowhere.
    BuildTooLarge,
    /// Build another one of this name, on the same hosts, each of whose VMs has so many MiB.
    BuildOther(&'static str, u32),
    /// Build another one with one VM, which has so many MiB, on a host.
    BuildOn(usize, u32),
    /// Start all that there is.
    Up,
    /// Stop a VM.
    Down(usize),
    /// Have a VM on another host.
    Place(usize, usize),
    /// Change what a VM does when it starts.
    Change(usize),
    /// The same for this once: what others ask for later is without it.
    Try(usize),
    /// What a VM does when it starts, without the majority of the project's hosts.
    ChangePartially(usize),
    /// Leave a VM out.
    LeaveOut(usize),
    /// Leave a VM out, and keep its disk for this long, in milliseconds.
    Shelve(usize, u64),
    /// Leave all others out.
    LeaveOnly(usize),
    /// Have it again.
    TakeIn(usize),
    /// Take a VM over.
    TakeOver(usize, OwnerHeard),
    /// Have the project as this one of the script's texts.
    Write(usize),
}

/// One line of a script.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// A host is asked until it has done so, or for this long.
    Ask(usize, Order, u64),
    /// The same, and where it isn't done a rule is broken: nothing is in its way.
    Must(usize, Order, u64),
    /// A host is asked on somebody's grants until it has done so, or for this long; not at all long is once.
    For(Holder, usize, Order, u64),
    /// The root key takes a grant back, at a host.
    Revoke(usize, Holder),
    /// A host says what it must not.
    Forge(usize, Forgery),
    /// A host is asked once, and nobody waits.
    Say(usize, Order),
    /// Nothing until a host has claimed a VM, or for this long.
    Await(usize, usize, u64),
    /// Nothing for a while.
    Wait(u64),
    /// Nothing until then.
    Until(u64),
    /// A host is struck.
    Strike(usize, Blow),
    /// A blow waits for its moment.
    Lay(Ambush),
}

impl Act {
    /// Returns on whose grants a host is asked; none where it is one of its own users who asks.
    pub(crate) fn holder(&self) -> Option<Holder> {
        match self {
            Self::For(holder, ..) => Some(*holder),
            _ => None,
        }
    }
}

/// A script, and how far it has come.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) label: Label,
    pub(crate) lab: Project,
    /// What the project is written as, the first, and what people make of it then.
    pub(crate) texts: Vec<Arc<Text>>,
    /// The names of VMs that are left out for now.
    pub(crate) left_out: Vec<usize>,
    acts: std::collections::VecDeque<Act>,
    /// Since when the first of them is being done.
    pub(crate) since_ms: Option<u64>,
    pub(crate) waiting: Option<Waiting>,
}

/// An answer that is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) node: usize,
    pub(crate) op: OpId,
    pub(crate) since_ms: u64,
}

impl Script {
    /// Writes the script of a scene; `lab` has one VM on each of the first three `hosts`.
    pub(crate) fn new(scene: Scene, hosts: &[usize], label: Label, lab: Project, lot: &mut Lot) -> Self {
        let acts = acts(scene, hosts, lot).into();
        Self { label, lab, texts: Vec::new(), left_out: Vec::new(), acts, since_ms: None, waiting: None }
    }

    pub(crate) fn act(&self) -> Option<&Act> {
        self.acts.front()
    }

    /// Goes on to the next line.
    pub(crate) fn next(&mut self) {
        self.acts.pop_front();
        self.since_ms = None;
        self.waiting = None;
    }

    /// Leaves out all that is still to come.
    pub(crate) fn end(&mut self) {
        self.acts.clear();
        self.since_ms = None;
        self.waiting = None;
    }

    pub(crate) fn is_over(&self) -> bool {
        self.acts.is_empty()
    }

    /// Whether a refusal says nothing that could help: of a host that is there, when nothing is wrong any more.
    pub(crate) fn is_mute(&self, rule: Rule, since_ms: u64) -> bool {
        since_ms > FAULTS_MS + 5_000 && matches!(rule, Rule::NoAnswer | Rule::HostOff)
    }
}

fn acts(scene: Scene, hosts: &[usize], lot: &mut Lot) -> Vec<Act> {
    // A, B and C have a VM each and decide on it; D and E ask, F looks on.
    let &[a, b, c, d, e, f] = hosts else { return Vec::new() };
    let place = |host| [Act::Ask(d, Order::Place(0, host), 20_000), Act::Await(0, host, 20_000)];
    let gone = Act::Lay(Ambush {
        moment: Moment::Ready,
        blows: vec![(Whom::Host(b), Blow::Crash(1_500)), (Whom::Host(b), Blow::Lost)],
    });
    let cut = |moment, node| Act::Lay(Ambush { moment, blows: vec![(Whom::Host(node), Blow::Crash(1_000))] });
    let lost =
        Act::Lay(Ambush { moment: Moment::Decided, blows: vec![(Whom::Host(d), Blow::Isolated(FAULTS_MS))] });
    let mut acts = vec![Act::Wait(lot.between(500, 2_000))];
    if scene == Scene::AllRestart {
        acts.push(Act::Strike(f, Blow::Crash(25_000)));
    }
    if scene == Scene::Stranger {
        acts.push(Act::Strike(b, Blow::DeafToLinks(25_000)));
    }
    let grounds = Holder::GROUNDS.map(Some).into_iter().chain([None]).collect::<Vec<_>>();
    let ground = if scene == Scene::Granted { grounds[lot.index(grounds.len())] } else { None };
    acts.extend(match (scene, ground) {
        (_, Some(ground)) => {
            [Act::For(ground, e, Order::Build, 15_000), Act::For(ground, d, Order::Up, 15_000)]
        }
        (Scene::Holders, None) => [
            Act::For(Holder::Limited, e, Order::Build, 15_000),
            Act::For(Holder::Limited, d, Order::Up, 15_000),
        ],
        (Scene::Revoked, None) => {
            [Act::For(Holder::Passed, e, Order::Build, 15_000), Act::For(Holder::Whole, d, Order::Up, 15_000)]
        }
        (_, None) => [Act::Ask(e, Order::Build, 15_000), Act::Ask(e, Order::Up, 15_000)],
    });
    // Most of them need the copy that a move leaves behind.
    if matches!(scene, Scene::Takeover | Scene::TwoTakeovers | Scene::Unasked | Scene::Damaged | Scene::Full)
    {
        acts.extend(place(b));
    }
    acts.extend(match scene {
        Scene::Decline => [vec![gone], place(b).to_vec()].concat(),
        Scene::LateRun => vec![
            gone,
            // It doesn't come back for the VM before the request has arrived.
            Act::Lay(Ambush { moment: Moment::Declined, blows: vec![(Whom::Host(b), Blow::Crash(30_000))] }),
            Act::Strike(a, Blow::Clogged { from: c, ms: 26_000 }),
            Act::Say(c, Order::Down(0)),
            Act::Wait(300),
            Act::Ask(d, Order::Place(0, b), 30_000),
        ],
        Scene::Unpinned => vec![
            Act::Lay(Ambush {
                moment: Moment::Released,
                blows: vec![(Whom::Host(a), Blow::SpaceShort), (Whom::Host(b), Blow::Crash(4_000))],
            }),
            Act::Ask(d, Order::Place(0, b), 20_000),
        ],
        Scene::ClaimCut => [vec![cut(Moment::Claimed, b)], place(b).to_vec()].concat(),
        Scene::ApplyCut => (0..3)
            .flat_map(|vm| [cut(Moment::Applying, [a, b, c][vm]), Act::Ask(d, Order::Change(vm), 15_000)])
            .collect(),
        Scene::ReleaseCut => [vec![cut(Moment::Released, a)], place(b).to_vec()].concat(),
        Scene::Takeover if lot.chance(500) => vec![
            Act::Strike(b, Blow::Isolated(8_000)),
            Act::Strike(b, Blow::Crash(500)),
            Act::Ask(a, Order::TakeOver(0, OwnerHeard::Force), 8_000),
            // What was taken over from it is not a copy to be dropped.
            Act::Wait(12_000),
            Act::Strike(b, Blow::SpaceShort),
        ],
        Scene::Takeover => vec![
            Act::Strike(b, Blow::Isolated(FAULTS_MS)),
            Act::Wait(12_000),
            Act::Strike(b, Blow::Crash(500)),
            Act::Ask(a, Order::TakeOver(0, OwnerHeard::Refuse), 40_000),
            Act::Wait(20_000),
            Act::Ask(d, Order::Place(0, a), 10_000),
        ],
        Scene::TwoTakeovers => {
            let mut acts = place(c).to_vec();
            acts.extend([
                Act::Strike(a, Blow::Isolated(4_000)),
                Act::Say(a, Order::TakeOver(0, OwnerHeard::Force)),
                Act::Say(b, Order::TakeOver(0, OwnerHeard::Force)),
                Act::Wait(20_000),
            ]);
            if lot.chance(500) {
                acts.push(Act::Ask(a, Order::TakeOver(0, OwnerHeard::Force), 20_000));
            }
            acts
        }
        Scene::Unasked => {
            // Of each that has a copy one may hear the owner by itself.
            let taken = |host| Act::Ask(host, Order::TakeOver(0, OwnerHeard::Refuse), 5_000);
            [place(c).to_vec(), vec![taken(a), taken(b), taken(c), taken(a)]].concat()
        }
        Scene::Damaged => {
            vec![Act::Strike(a, Blow::Damaged), Act::Ask(a, Order::TakeOver(0, OwnerHeard::Force), 3_000)]
        }
        Scene::LostDecision => vec![
            lost,
            Act::Ask(d, Order::Change(0), 3_000),
            Act::Until(51_000),
            Act::Ask(e, Order::Change(1), 8_000),
        ],
        Scene::Amnesia => vec![
            lost,
            Act::Ask(d, Order::Change(0), 3_000),
            Act::Strike(a, Blow::Amnesia(500)),
            Act::Strike(b, Blow::Amnesia(700)),
            Act::Strike(c, Blow::Crash(25_000)),
            Act::Wait(4_000),
            Act::Ask(e, Order::Change(1), 20_000),
        ],
        Scene::Stranger => place(b).to_vec(),
        Scene::Liars => {
            let honest = |host: &usize| *host < SCENE_HOSTS - LIARS;
            let vm = [a, b, c].iter().position(honest).unwrap_or(0);
            let asked = [d, e, f].into_iter().find(honest).unwrap_or(a);
            vec![Act::Until(FAULTS_MS), Act::Must(asked, Order::Try(vm), 60_000)]
        }
        // Nobody who is left remembers what was decided, and who has lost it must not speak as if it did.
        Scene::Forgotten if lot.chance(500) => vec![
            Act::Strike(c, Blow::Crash(8_000)),
            Act::Wait(300),
            lost,
            Act::Ask(d, Order::Change(0), 5_000),
            Act::Strike(a, Blow::Amnesia(500)),
            Act::Strike(b, Blow::Amnesia(700)),
            Act::Wait(9_000),
            Act::Ask(e, Order::LeaveOnly(2), 10_000),
        ],
        Scene::Forgotten => vec![
            Act::Strike(a, Blow::Amnesia(500)),
            Act::Wait(4_000),
            Act::Must(e, Order::LeaveOut(0), 20_000),
            Act::Must(d, Order::Change(1), 20_000),
        ],
        Scene::Pair => {
            // The first in the list is the one whose name sorts first.
            let (first, second) = if a < b { ((a, 0), (b, 1)) } else { ((b, 1), (a, 0)) };
            let rest = if lot.chance(500) {
                vec![Act::Strike(second.0, Blow::Crash(25_000)), Act::Must(d, Order::Change(first.1), 15_000)]
            } else {
                vec![
                    Act::Strike(first.0, Blow::Isolated(20_000)),
                    Act::Say(first.0, Order::Try(first.1)),
                    Act::Say(d, Order::Try(second.1)),
                    Act::Wait(20_000),
                ]
            };
            [vec![Act::Must(e, Order::LeaveOut(2), 20_000)], rest].concat()
        }
        Scene::Moves => moves(&[b, c, a], &[d, e], lot),
        Scene::ShortGrants => vec![Act::Ask(f, Order::Change(0), 10_000)],
        Scene::Comeback => {
            vec![Act::Ask(d, Order::LeaveOut(2), 15_000), Act::Ask(e, Order::TakeIn(2), 15_000)]
        }
        Scene::Kept => {
            let keep_ms = lot.between(4_000, 9_000);
            let mut acts = vec![Act::Ask(d, Order::Shelve(2, keep_ms), 15_000)];
            if lot.chance(500) {
                acts.push(Act::Strike(c, Blow::Crash(lot.between(500, 2_000))));
            }
            if lot.chance(500) {
                // It is a week later all at once, for all that its host knows.
                acts.push(Act::Strike(c, Blow::ClockSet(WEEK_MS)));
            }
            // How long a change takes, or less; or its host has reserved for it, and those who decide on it are heard when
            // the time is over.
            let slow = lot.chance(500);
            let lead_ms = if slow { lot.between(1_500, 3_000) } else { lot.between(0, 800) };
            acts.push(Act::Wait(keep_ms - lead_ms));
            if slow {
                let ms = lead_ms + lot.between(1_500, 4_000);
                acts.extend([a, b].map(|from| Act::Strike(e, Blow::Clogged { from, ms })));
            }
            acts.push(Act::Ask(e, Order::TakeIn(2), 15_000));
            acts
        }
        Scene::AllRestart => hosts[..5].iter().map(|&host| Act::Strike(host, Blow::Crash(500))).collect(),
        Scene::Refusal => {
            vec![Act::Until(FAULTS_MS + 8_000), Act::Say(e, Order::BuildTooLarge), Act::Wait(40_000)]
        }
        Scene::Holders => holders(hosts, lot),
        Scene::Revoked => revoked(hosts, lot),
        Scene::Lapse => vec![
            Act::Lay(Ambush {
                moment: Moment::Reserved,
                blows: vec![(Whom::Host(d), Blow::Isolated(FAULTS_MS)), (Whom::Host(d), Blow::Crash(20_000))],
            }),
            Act::Say(d, Order::BuildOther("gone", 400)),
            Act::Until(FAULTS_MS + RESERVATION_MS + 20_000),
            Act::Must(e, Order::BuildOther("roomy", 400), 40_000),
        ],
        Scene::Crowd => {
            // At the very same moment they would be one project.
            vec![
                Act::Say(d, Order::BuildOther("both", 64)),
                Act::Wait(1),
                Act::Say(e, Order::BuildOther("both", 64)),
                Act::Wait(8_000),
                Act::Say(d, Order::BuildOther("one", 300)),
                Act::Say(e, Order::BuildOther("other", 300)),
                Act::Wait(8_000),
            ]
        }
        Scene::Forgetful => vec![
            // It is a while until all have said yes to the first one.
            Act::Strike(c, Blow::Clogged { from: d, ms: 14_000 }),
            Act::Say(d, Order::BuildOther("one", 300)),
            Act::Wait(lot.between(1_500, 2_500)),
            Act::Strike(a, Blow::Crash(500)),
            Act::Wait(lot.between(4_000, 6_000)),
            Act::Say(e, Order::BuildOn(a, 300)),
            Act::Wait(25_000),
        ],
        Scene::Full => vec![
            Act::Ask(e, Order::BuildOn(a, 480), 15_000),
            Act::Strike(b, Blow::Isolated(8_000)),
            Act::Say(a, Order::TakeOver(0, OwnerHeard::Force)),
            Act::Wait(12_000),
        ],
        Scene::Curious => {
            let asked = || [Act::Forge(f, Forgery::PartsWanted), Act::Wait(3_000)];
            let mut acts = asked().to_vec();
            acts.push(Act::Ask(d, Order::Change(0), 10_000));
            acts.extend([Act::Forge(f, Forgery::PartNamed), Act::Wait(4_000)]);
            acts.extend(asked());
            acts
        }
        Scene::Guests => {
            let mut acts = Vec::new();
            for round in 0..4 {
                if lot.chance(500) {
                    acts.push(Act::Lay(Ambush::draw(lot)));
                }
                let by = [d, e][lot.index(2)];
                acts.extend([
                    Act::Wait(lot.between(4_000, 9_000)),
                    Act::Ask(by, Order::Write(round % 3 + 1), 4_000),
                ]);
            }
            acts
        }
        Scene::Forged => {
            let mut acts = vec![Act::Wait(5_000)];
            for round in 0..3 {
                let mut left = GuestForgery::ALL.to_vec();
                while !left.is_empty() {
                    let forgery = left.swap_remove(lot.index(left.len()));
                    let by = [e, f][lot.index(2)];
                    acts.extend([Act::Forge(by, Forgery::Guest(forgery)), Act::Wait(lot.between(100, 700))]);
                }
                acts.extend([
                    Act::Ask(d, Order::Write(round + 1), 4_000),
                    Act::Wait(lot.between(2_000, 5_000)),
                ]);
            }
            acts
        }
        Scene::Granted => granted(ground, hosts, lot),
        Scene::PutForward => {
            let keep_ms = lot.between(8_000, 20_000);
            vec![
                Act::Ask(d, Order::Shelve(2, keep_ms), 15_000),
                Act::Wait(keep_ms - lot.between(3_000, 6_000)),
                Act::Lay(Ambush {
                    moment: Moment::Promised,
                    blows: vec![(Whom::Host(c), Blow::Isolated(FAULTS_MS))],
                }),
                Act::Say(c, Order::TakeIn(2)),
                Act::Wait(55_000),
            ]
        }
        Scene::Alone => vec![
            Act::Strike(a, Blow::Isolated(FAULTS_MS)),
            Act::Wait(2_000),
            Act::Strike(a, Blow::Crash(500)),
            Act::Wait(8_000),
            Act::Strike(a, Blow::AskedAlone),
        ],
    });
    acts
}

/// How far a wall clock is set forward, in milliseconds.
const WEEK_MS: i64 = 7 * 86_400_000;

/// What operators, hosts and strangers ask for who may not, in any order.
fn holders(hosts: &[usize], lot: &mut Lot) -> Vec<Act> {
    let &[_, _, _, d, e, f] = hosts else { return Vec::new() };
    let once = |holder, order| move |host| Act::For(holder, host, order, 0);
    let ways: [Box<dyn Fn(usize) -> Act>; 14] = [
        Box::new(once(Holder::Looker, Order::Change(0))),
        Box::new(once(Holder::Elsewhere, Order::Change(1))),
        Box::new(once(Holder::OtherProject, Order::Change(2))),
        Box::new(once(Holder::OtherProject, Order::Down(0))),
        Box::new(once(Holder::Ended, Order::Change(0))),
        Box::new(once(Holder::Ended, Order::Down(1))),
        Box::new(once(Holder::Widened, Order::Change(1))),
        Box::new(once(Holder::Limited, Order::BuildOther("more", 64))),
        Box::new(once(Holder::Limited, Order::ChangePartially(0))),
        Box::new(move |_| Act::Say(f, Order::Change(2))),
        Box::new(|host| Act::Forge(host, Forgery::StrangerAsks)),
        Box::new(|host| Act::Forge(host, Forgery::StrangerRuns)),
        Box::new(|host| Act::Forge(host, Forgery::StrangerSays)),
        Box::new(|host| Act::Forge(host, Forgery::SmallCharge)),
    ];
    let mut left: Vec<usize> = (0..ways.len()).collect();
    let mut acts = Vec::new();
    while !left.is_empty() {
        let way = &ways[left.remove(lot.index(left.len()))];
        acts.extend([way([d, e][lot.index(2)]), Act::Wait(lot.between(1_000, 2_500))]);
    }
    acts
}

/// A grant is taken back, and both who has it and who has one from them go on.
fn revoked(hosts: &[usize], lot: &mut Lot) -> Vec<Act> {
    let &[a, _, _, d, e, f] = hosts else { return Vec::new() };
    let mut acts = vec![Act::Revoke(f, Holder::Whole), Act::Wait(lot.between(500, 6_000))];
    for round in 0..3 {
        let by = [d, e][lot.index(2)];
        let holder = [Holder::Whole, Holder::Passed][lot.index(2)];
        acts.extend([
            Act::For(holder, by, Order::Change(round), 0),
            Act::Wait(2_000),
            Act::For(holder, by, Order::Down(round), 0),
            Act::Wait(1_000),
        ]);
        if round == 1 {
            acts.extend([Act::Strike(a, Blow::Crash(500)), Act::Wait(6_000)]);
        }
    }
    acts
}

/// Guests live on grants that are taken back, then on narrower ones, on others, and on nobody's.
fn granted(ground: Option<Holder>, hosts: &[usize], lot: &mut Lot) -> Vec<Act> {
    let &[_, _, _, d, e, f] = hosts else { return Vec::new() };
    let mut acts = vec![Act::Wait(lot.between(7_000, 12_000))];
    if let Some(ground) = ground {
        let link = ground.depends_on().next().unwrap_or(ground);
        acts.extend([Act::Revoke(f, link), Act::Wait(lot.between(6_000, 9_000))]);
    }
    let next = [Holder::Narrowed, Holder::Limited, Holder::Near];
    let mut left: Vec<Holder> = next.into_iter().filter(|holder| Some(*holder) != ground).collect();
    // Of the texts, those that put nothing on the host that not all grants are for.
    for text in [1, 3] {
        let holder = left.remove(lot.index(left.len()));
        acts.push(Act::For(holder, [d, e][lot.index(2)], Order::Write(text), 5_000));
        for forgery in [GuestForgery::Groundless, GuestForgery::Cheap] {
            acts.extend([Act::Wait(lot.between(2_000, 4_000)), Act::Forge(e, Forgery::Guest(forgery))]);
        }
    }
    acts.extend([Act::Wait(lot.between(2_000, 4_000)), Act::Ask(e, Order::Write(2), 4_000)]);
    acts
}

/// How often a VM moves at most in the scene that is about nothing else, how long somebody asks for a move, and how long it may
/// take. It ends with the faults.
const MOVES: usize = 24;
const ASK_MS: u64 = 1_500;
const MOVE_MS: u64 = 12_000;

/// A VM goes round and round; somebody may lie in wait for each hand-over.
fn moves(round: &[usize], asked: &[usize], lot: &mut Lot) -> Vec<Act> {
    let mut acts = Vec::new();
    for n in 0..MOVES {
        let to = round[n % round.len()];
        if lot.chance(400) {
            acts.push(Act::Lay(Ambush::draw(lot)));
        }
        acts.push(Act::Ask(asked[lot.index(asked.len())], Order::Place(0, to), ASK_MS));
        acts.push(Act::Await(0, to, MOVE_MS));
    }
    acts
}
