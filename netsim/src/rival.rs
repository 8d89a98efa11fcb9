//! Those who ask for two children of one revision: guests, and people who change the same project. "One Paxos decision per
//! parent", so one of them wins; the coordinator "tells its own author who won".
//!
//! That no two children count is looked at for all commits. Here it is looked at whether each who asked is told, and told what
//! is so; and what becomes of what a guest has asked for whose host ends in the middle of it.

use std::collections::{BTreeMap, BTreeSet};

use mln_protocol::id::Digest;
use mln_protocol::node::{OpId, Outcome, Proposed, ProposedStage, Rule};

use crate::ambush::Blow;
use crate::host::{Honesty, Presence};
use crate::options::Setting;
use crate::world::{Event, World};

/// Who asks for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Author {
    Guest,
    People,
}

/// A change that somebody waits for.
#[derive(Debug)]
struct Rival {
    author: Author,
    life: u32,
    parent: Option<Digest>,
    /// What it makes of that; a change that is partial is drafted anew without those that refuse.
    children: BTreeSet<Digest>,
    stage: ProposedStage,
    removes: bool,
}

/// A blow for a host just when what its guest has asked for is so far.
#[derive(Clone, Copy, Debug)]
struct Aimed {
    node: usize,
    op: OpId,
    stage: ProposedStage,
    down_ms: u64,
}

/// Everybody who waits for a change.
#[derive(Debug, Default)]
pub(crate) struct Rivals {
    open: BTreeMap<(usize, OpId), Rival>,
    /// The revisions of which guests and people have wanted children at the same time.
    met: BTreeSet<Digest>,
    /// What guests had asked for whose hosts have ended: how far it was, and what would have come of it.
    cut: Vec<(ProposedStage, BTreeSet<Digest>)>,
    aimed: Vec<Aimed>,
    told: BTreeMap<Author, u64>,
}

/// What became of those who have asked at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RivalCount {
    /// Of how many revisions a guest and somebody else wanted a child at the same time.
    met: u64,
    /// Of those, the ones whose child is a guest's, and the ones whose child is people's.
    guests: u64,
    people: u64,
    /// How many guests, and how many others, were told that something else was decided first.
    guests_told: u64,
    people_told: u64,
    /// How many hosts have ended while others were asked for what their guest wanted, between that and the decision, and as
    /// it was carried out.
    cut_asking: u64,
    cut_promising: u64,
    cut_decided: u64,
    /// How many of the first two were decided all the same, by those who had promised it.
    survived: u64,
}

impl RivalCount {
    pub(crate) fn merge(&mut self, other: &Self) {
        self.met += other.met;
        self.guests += other.guests;
        self.people += other.people;
        self.guests_told += other.guests_told;
        self.people_told += other.people_told;
        self.cut_asking += other.cut_asking;
        self.cut_promising += other.cut_promising;
        self.cut_decided += other.cut_decided;
        self.survived += other.survived;
    }

    /// Says it in two lines.
    pub(crate) fn lines(&self) -> String {
        format!(
            "rivals: {} revisions changed by a guest and by people at once: {} times the guest won, {} times they; overtaken were \
             told {} guests and {} people\n\
             guests' hosts ended: {} while others were asked, {} before the decision, {} after it; {} of the first two were \
             decided all the same",
            self.met,
            self.guests,
            self.people,
            self.guests_told,
            self.people_told,
            self.cut_asking,
            self.cut_promising,
            self.cut_decided,
            self.survived
        )
    }
}

impl Rivals {
    /// Takes in how far a change is.
    fn note(&mut self, node: usize, life: u32, proposed: Proposed) {
        let author = if proposed.is_guests { Author::Guest } else { Author::People };
        let Proposed { op, parent, child, stage, removes, .. } = proposed;
        let is_new = !self.open.contains_key(&(node, op));
        if let (true, Some(parent)) = (is_new, parent)
            && self.open.values().any(|other| {
                other.parent == Some(parent)
                    && other.author != author
                    && other.stage != ProposedStage::Decided
            })
        {
            self.met.insert(parent);
        }
        let children = BTreeSet::new();
        let rival =
            self.open.entry((node, op)).or_insert(Rival { author, life, parent, children, stage, removes });
        // What replaces something is asked about with the removal of that.
        rival.parent = parent;
        rival.stage = stage;
        rival.children.insert(child);
    }
}

impl World {
    /// Looks at the changes that a host coordinates.
    pub(crate) fn note_rivals(&mut self, node: usize) {
        let host = &self.hosts[node];
        if self.options.setting != Setting::Trouble || host.honesty == Honesty::Hostile {
            return;
        }
        let Some(machine) = &host.node else { return };
        for proposed in machine.proposed() {
            self.rivals.note(node, host.life, proposed);
        }
        self.strike_aimed(node);
    }

    /// Has a host end when what its guest asks for is so far.
    pub(crate) fn aim(&mut self, node: usize, op: OpId, stage: ProposedStage, down_ms: u64) {
        self.rivals.aimed.push(Aimed { node, op, stage, down_ms });
        self.strike_aimed(node);
    }

    fn strike_aimed(&mut self, node: usize) {
        let Rivals { open, aimed, .. } = &self.rivals;
        let is_due = |one: &Aimed| {
            one.node == node && open.get(&(node, one.op)).is_some_and(|rival| rival.stage >= one.stage)
        };
        let Some(due) = aimed.iter().position(is_due) else { return };
        let Aimed { down_ms, .. } = self.rivals.aimed.remove(due);
        self.at(self.now_ms, Event::Struck { node, blow: Blow::Crash(down_ms) });
    }

    /// Whoever has asked this host for something will hear nothing more of it: it ends.
    pub(crate) fn rivals_cut(&mut self, node: usize) {
        let open = std::mem::take(&mut self.rivals.open);
        for ((at, op), rival) in open {
            if at != node {
                self.rivals.open.insert((at, op), rival);
            } else if rival.author == Author::Guest {
                self.rivals.cut.push((rival.stage, rival.children));
            }
        }
        self.rivals.aimed.retain(|aimed| aimed.node != node);
    }

    /// S2: whoever is told that a change is done is told of one that counts, and nobody that something else was decided first
    /// where nothing else was.
    pub(crate) fn rival_told(&mut self, node: usize, op: OpId, outcome: &Outcome) {
        self.rivals.aimed.retain(|aimed| (aimed.node, aimed.op) != (node, op));
        let Some(rival) = self.rivals.open.remove(&(node, op)) else { return };
        let overtaken = matches!(outcome, Outcome::Refused(refusals)
            if refusals.iter().any(|refused| refused.refusal.rule == Rule::Overtaken));
        if overtaken {
            *self.rivals.told.entry(rival.author).or_default() += 1;
        }
        if self.oracle.is_doubtful() {
            return;
        }
        let counts = rival.children.iter().any(|child| self.oracle.revision(*child).is_some());
        let lost = rival.parent.is_some_and(|parent| {
            self.oracle.children(parent).any(|child| !rival.children.contains(&child.digest))
        });
        let host = &self.hosts[node].name;
        let wrong = match outcome {
            // Somebody else may have removed it.
            Outcome::Done if !counts && !rival.removes => "is done, and nothing that counts came of it",
            Outcome::Refused(_) if overtaken && !lost => "was overtaken, and nothing else was decided",
            Outcome::Refused(_) if overtaken && counts => "was overtaken, and it counts",
            Outcome::Done | Outcome::Refused(_) | Outcome::Failed(_) => return,
        };
        let rule = format!("S2: {host} says that what {:?} asked for {wrong}", rival.author);
        self.oracle.broken(rule);
    }

    /// L1: says whom nobody has told what became of a change.
    pub(crate) fn untold_rivals(&self) -> Vec<String> {
        let untold = self.rivals.open.iter().filter_map(|((node, op), rival)| {
            let host = &self.hosts[*node];
            if host.presence == Presence::Gone || host.honesty == Honesty::Hostile || host.life != rival.life
            {
                return None;
            }
            let name = &host.name;
            let mut proposed = host.node.as_ref()?.proposed();
            let Some(now) = proposed.find(|proposed| proposed.op == *op) else {
                return Some(format!("L1: {name} has told nobody what became of a change"));
            };
            let decided = now.parent.and_then(|parent| self.oracle.decided(parent));
            let lost = now.stage != ProposedStage::Decided
                && decided.is_some_and(|decided| decided.digest != now.child);
            lost.then(|| format!("L1: {name} asks for a change, and another was decided"))
        });
        untold.take(3).collect()
    }

    /// Counts what became of all of them, at the end.
    pub(crate) fn count_rivals(&mut self) {
        let Rivals { met, cut, told, .. } = &self.rivals;
        let mut count = RivalCount {
            met: met.len() as u64,
            guests_told: told.get(&Author::Guest).copied().unwrap_or_default(),
            people_told: told.get(&Author::People).copied().unwrap_or_default(),
            ..RivalCount::default()
        };
        for winner in met.iter().filter_map(|parent| self.oracle.decided(*parent)) {
            let won = if winner.revision.decision.is_some() { &mut count.guests } else { &mut count.people };
            *won += 1;
        }
        for (stage, children) in cut {
            let stages = match stage {
                ProposedStage::Asking => &mut count.cut_asking,
                ProposedStage::Promising => &mut count.cut_promising,
                ProposedStage::Decided => &mut count.cut_decided,
            };
            *stages += 1;
            let counts = children.iter().any(|child| self.oracle.revision(*child).is_some());
            count.survived += u64::from(counts && *stage != ProposedStage::Decided);
        }
        self.tally.rivals = count;
    }
}
