//! Blows that fall at the worst moment: not at a time, but when a host says something.
//!
//! A crash at a time of its own rarely meets the few milliseconds between a release and its claim. An ambush waits for
//! the message and strikes whoever sent it, or whoever it is for.

use mln_protocol::id::PublicKey;
use mln_protocol::node::{HandOver, Input, Message, Output};
use mln_protocol::plan::Step;
use mln_protocol::record::{ClaimBasis, Link, Record, VerifiedRecord};

use crate::fault::Fault;
use crate::lot::Lot;
use crate::mishap::{Mishap, Shape};
use crate::options::FAULTS_MS;
use crate::transport::Packet;
use crate::world::{Event, World};

/// What a host says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// It asks the owner of a VM to stop it.
    Halt,
    /// It has stopped a VM for its new host.
    Halted,
    /// A disk lies complete with it.
    Ready,
    /// It gives a VM away.
    Released,
    /// It takes a VM that was born there.
    Born,
    /// It takes a VM that was released to it.
    Claimed,
    /// It gives such a VM back.
    Declined,
    /// It keeps room for a revision.
    Reserved,
    /// It promises a child of a revision.
    Promised,
    /// A change is decided.
    Decided,
    /// It gives a VM that runs its definition.
    Applying,
}

impl Moment {
    pub(crate) const ALL: [Self; 9] = [
        Self::Born,
        Self::Halt,
        Self::Halted,
        Self::Ready,
        Self::Released,
        Self::Claimed,
        Self::Declined,
        Self::Promised,
        Self::Decided,
    ];
}

/// Whom a blow meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// This host.
    Host(usize),
    /// Who has just said something.
    Author,
    /// Who it was said to, where that is one host.
    Other,
}

/// What befalls a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blow {
    /// Its agent ends, and starts again after this time.
    Crash(u64),
    /// It reaches nobody for this time, not even with what it is just saying.
    Isolated(u64),
    /// Its copies of disks are damaged, unnoticed.
    Damaged,
    /// Its copies of disks are gone.
    Lost,
    /// Its disk has too little room.
    SpaceShort,
    /// Its wall clock is set forward by this, in milliseconds.
    ClockSet(i64),
    /// It loses the journals of its projects, and its agent starts again after this time.
    Amnesia(u64),
    /// Everything from another host to it is held back for this time.
    Clogged {
        /// From which host.
        from: usize,
        /// For how long, in milliseconds.
        ms: u64,
    },
    /// Packets to it that hold links are lost for this time.
    DeafToLinks(u64),
    /// It is asked to do what a host that is alone must be able to do.
    AskedAlone,
}

/// A blow that waits for its moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ambush {
    /// For what it waits.
    pub(crate) moment: Moment,
    /// What falls then.
    pub(crate) blows: Vec<(Whom, Blow)>,
}

impl Ambush {
    /// Draws one, as worlds have them that are not made for one rule.
    pub(crate) fn draw(lot: &mut Lot) -> Self {
        let moment = Moment::ALL[lot.index(Moment::ALL.len())];
        let whom = [Whom::Author, Whom::Other][lot.index(2)];
        let ms = lot.between(500, 15_000);
        let blows = match lot.index(4) {
            0 | 1 => vec![(whom, Blow::Crash(ms))],
            2 => vec![(whom, Blow::Isolated(2 * ms))],
            _ => vec![(whom, Blow::Crash(ms)), (Whom::Author, Blow::SpaceShort)],
        };
        Self { moment, blows }
    }
}

/// Returns what an output says, and to whom.
fn moment_of(output: &Output) -> Option<(Moment, Option<PublicKey>)> {
    let said = |record: &VerifiedRecord| match &***record {
        Record::Commit(commit) if commit.revision.parent.is_some() => Some((Moment::Decided, None)),
        Record::Link(Link::Release(release)) => Some((Moment::Released, Some(release.to))),
        Record::Link(Link::Decline(decline)) => Some((Moment::Declined, Some(decline.release.author()))),
        Record::Link(Link::Claim(claim)) => match &claim.basis {
            ClaimBasis::Release(release) => Some((Moment::Claimed, Some(release.author()))),
            ClaimBasis::Birth => Some((Moment::Born, None)),
            ClaimBasis::Declined(_) | ClaimBasis::Takeover(_) => None,
        },
        Record::Commit(_)
        | Record::Member(_)
        | Record::Host(_)
        | Record::Vm(_)
        | Record::Grant(_)
        | Record::Revocation(_)
        | Record::Gauges(_)
        | Record::Later(_) => None,
    };
    match output {
        Output::Broadcast(record) => said(record),
        Output::Send { to, message } => match message {
            Message::HandOver(HandOver::Halt { .. }) => Some((Moment::Halt, Some(*to))),
            Message::HandOver(HandOver::Halted { .. }) => Some((Moment::Halted, Some(*to))),
            Message::HandOver(HandOver::Ready(_)) => Some((Moment::Ready, Some(*to))),
            Message::Answer { verdict: Ok(_), .. } => Some((Moment::Reserved, Some(*to))),
            Message::Promised(_) => Some((Moment::Promised, Some(*to))),
            _ => None,
        },
        Output::Step { step: Step::Apply, .. } => Some((Moment::Applying, None)),
        _ => None,
    }
}

impl World {
    /// Lets those blows fall whose moment this output is: cut off it is at once, the rest comes after it was said.
    pub(crate) fn ambush(&mut self, node: usize, output: &Output) {
        if self.ambushes.is_empty() {
            return;
        }
        let Some((moment, to)) = moment_of(output) else { return };
        let Some(index) = self.ambushes.iter().position(|ambush| ambush.moment == moment) else { return };
        let ambush = self.ambushes.remove(index);
        self.tally.faults.add(Fault::Ambush);
        let other = to.and_then(|to| self.index.get(&to).copied());
        for (whom, blow) in ambush.blows {
            let met = match whom {
                Whom::Host(host) => Some(host),
                Whom::Author => Some(node),
                Whom::Other => other,
            };
            match (met, blow) {
                (None, _) => {}
                (Some(met), Blow::Isolated(_)) => self.strike(met, blow),
                (Some(met), _) => self.at(self.now_ms, Event::Struck { node: met, blow }),
            }
        }
    }

    pub(crate) fn strike(&mut self, node: usize, blow: Blow) {
        match blow {
            Blow::Crash(down_ms) => self.mishap(Mishap::Crash { node, down_ms }),
            Blow::Isolated(ms) => {
                let others = (0..self.hosts.len()).filter(|&other| other != node);
                let cut = others.flat_map(|other| [(node, other), (other, node)]).collect();
                let until_ms = (self.now_ms + ms).min(FAULTS_MS);
                self.tally.faults.add(Fault::Partition);
                self.network.cut(cut, Shape::Isolated, until_ms);
            }
            Blow::Damaged => {
                for copy in self.hosts[node].disk.copies.values_mut() {
                    copy.damage(0);
                }
            }
            Blow::Lost => self.hosts[node].disk.copies.clear(),
            Blow::ClockSet(by_ms) => self.set_clock(node, by_ms),
            Blow::SpaceShort => self.input(node, Input::SpaceShort),
            Blow::Amnesia(down_ms) => {
                self.oracle.exempt_amnesiac(self.hosts[node].keys.public());
                self.stop(node, down_ms);
                let own = self.hosts[node].keys.public();
                self.hosts[node].disk.forget_journals(own);
            }
            Blow::Clogged { from, ms } => self.mishap(Mishap::Clog { from, to: node, ms }),
            Blow::DeafToLinks(ms) => {
                self.deaf.insert(node, self.now_ms + ms);
            }
            Blow::AskedAlone => {
                self.ask_alone(node);
                self.at(self.now_ms + ALONE_MS, Event::AloneDue { node });
            }
        }
    }

    /// Whether a packet is one of those that a host doesn't get for a while.
    pub(crate) fn is_missed(&self, to: usize, packet: &Packet) -> bool {
        if self.deaf.get(&to).is_none_or(|&until_ms| until_ms.min(FAULTS_MS) <= self.now_ms) {
            return false;
        }
        let is_link = |record: &VerifiedRecord| matches!(***record, Record::Link(_));
        match packet {
            Packet::Gossip(record) => is_link(record),
            Packet::Direct(direct) => match &direct.0 {
                Message::Records(records) => records.iter().any(is_link),
                Message::HandOver(HandOver::LinksTold { .. }) => true,
                _ => false,
            },
            Packet::Told(_) | Packet::Asked(_) => false,
        }
    }

    /// L2: by now a host that is alone has done what it was asked for.
    pub(crate) fn alone_due(&mut self, node: usize) {
        let waits = self.alone.values().any(|waiting| *waiting == node);
        if waits && self.network.is_alone(node, self.hosts.len(), self.now_ms) {
            self.oracle
                .broken(format!("L2: {}, alone, doesn't do what it was asked for", self.hosts[node].name));
        }
    }
}

/// In which time a host that is alone must have done what it was asked for, in milliseconds.
const ALONE_MS: u64 = 12_000;
