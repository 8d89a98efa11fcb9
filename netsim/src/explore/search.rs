//! All worlds that can be reached, breadth first: so the trace to a broken rule is one of the shortest.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Instant;

use mln_protocol::id::Digest;

use super::machine::{Act, Machine, WHOLE};

/// How many rounds in which every host does what it can a world without faults may need to come right.
const ROUNDS_MAX: usize = 40;

/// How many hosts there are in a world.
pub(super) const HOSTS: usize = 3;

/// How much goes wrong at most in one world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    /// How often an agent ends.
    pub(super) crashes: u8,
    /// How often a host is a minute late, or lets a reservation lapse.
    pub(super) lates: u8,
    /// How often the platform fails.
    pub(super) failures: u8,
}

/// All hosts, and what was sent so far: any of it may arrive, at any time, any number of times, or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Whole {
    pub(super) locals: [u32; HOSTS],
    /// The number of a set of messages.
    pub(super) sent: u32,
    pub(super) left: Budget,
    /// Which changes were asked for, a bit each.
    pub(super) asked: u8,
}

/// How a world was reached.
#[derive(Clone, Copy)]
struct From {
    world: u32,
    host: u8,
    act: u32,
    cut: u8,
}

/// What an exploration found.
pub(super) struct Found {
    pub(super) states: usize,
    pub(super) transitions: u64,
    pub(super) depth: usize,
    /// Whether there is nothing left to explore within the bounds.
    pub(super) complete: bool,
    /// Whether there is nothing left to explore in any number of steps.
    pub(super) ended: bool,
    /// How many transitions would have led beyond the bounds of ballots or contents.
    pub(super) beyond: u64,
    /// How many sets of hosts there are, and from how many of them all comes right.
    pub(super) sets: usize,
    pub(super) come_right: usize,
    /// The broken rule, and how to get there.
    pub(super) violation: Option<(String, Vec<String>)>,
    pub(super) seconds: f64,
}

/// Goes through all worlds.
pub(super) struct Search<'a> {
    machine: &'a mut Machine,
    worlds: Vec<Whole>,
    known: HashMap<Whole, u32>,
    from: Vec<From>,
    transitions: u64,
    beyond: u64,
    /// Sets of hosts from which all comes right though every message was lost.
    right: HashSet<[u32; HOSTS]>,
}

impl<'a> Search<'a> {
    pub(super) fn new(machine: &'a mut Machine) -> Self {
        Self {
            machine,
            worlds: Vec::new(),
            known: HashMap::new(),
            from: Vec::new(),
            transitions: 0,
            beyond: 0,
            right: HashSet::new(),
        }
    }

    /// Explores what can be reached in `depth_max` steps, until a rule is broken or there are `states_max` worlds.
    pub(super) fn run(mut self, first: Whole, depth_max: usize, states_max: usize) -> Found {
        let began = Instant::now();
        let nowhere = From { world: u32::MAX, host: 0, act: 0, cut: WHOLE };
        self.reach(first, nowhere);
        let (mut next, mut depth, mut layer_ends) = (0, 0, 1);
        let mut violation = None;
        while next < self.worlds.len() && violation.is_none() && self.worlds.len() < states_max {
            if next == layer_ends {
                depth += 1;
                layer_ends = self.worlds.len();
            }
            if depth == depth_max {
                break;
            }
            violation = self.expand(u32::try_from(next).unwrap_or(u32::MAX));
            next += 1;
        }
        let ended = next == self.worlds.len();
        let complete = ended || depth == depth_max;
        let mut sets = HashSet::new();
        if violation.is_none() {
            let mut stuck = None;
            for index in 0..self.worlds.len() {
                let locals = self.worlds[index].locals;
                if sets.insert(locals)
                    && let Err(why) = self.comes_right(&locals)
                {
                    stuck = stuck.or(Some((why, index)));
                }
            }
            violation = stuck.map(|(why, index)| (why, self.trace(index)));
        }
        Found {
            states: self.worlds.len(),
            transitions: self.transitions,
            depth,
            complete,
            ended,
            beyond: self.beyond,
            come_right: sets.iter().filter(|locals| self.right.contains(*locals)).count(),
            sets: sets.len(),
            violation,
            seconds: began.elapsed().as_secs_f64(),
        }
    }

    /// Takes in a world unless it is known.
    fn reach(&mut self, world: Whole, from: From) {
        let number = u32::try_from(self.worlds.len()).expect("memory ends before that");
        if let Entry::Vacant(slot) = self.known.entry(world) {
            slot.insert(number);
            self.worlds.push(world);
            self.from.push(from);
        }
    }

    /// Does everything that can happen in one world; returns the rule that is broken by it, and how.
    fn expand(&mut self, index: u32) -> Option<(String, Vec<String>)> {
        let world = self.worlds[index as usize];
        for host in 0..world.locals.len() {
            for act in self.acts(&world, host) {
                let whole = self.machine.effect(host, world.locals[host], act, WHOLE);
                let crashing = if world.left.crashes > 0 { whole.writes } else { 0 };
                for cut in (0..crashing).chain([WHOLE]) {
                    let from = From { world: index, host: host as u8, act, cut };
                    if let Some(rule) = self.follow(&world, host, act, cut, from) {
                        let mut trace = self.trace(index as usize);
                        trace.push(self.machine.describe(host, act, cut));
                        return Some((rule, trace));
                    }
                }
            }
        }
        None
    }

    fn follow(&mut self, world: &Whole, host: usize, act: u32, cut: u8, from: From) -> Option<String> {
        self.transitions += 1;
        let effect = self.machine.effect(host, world.locals[host], act, cut);
        if let Some(rule) = &effect.broken {
            return Some(rule.clone());
        }
        if effect.beyond {
            self.beyond += 1;
            return None;
        }
        let mut after = *world;
        after.locals[host] = effect.local;
        after.sent = self.machine.sent_with(&after.locals, world.sent, &effect.sent);
        match self.machine.act(act) {
            Act::Late => after.left.lates -= 1,
            Act::Fails(_) => after.left.failures -= 1,
            Act::Operate(which) => after.asked |= 1 << which,
            Act::Crash => after.left.crashes -= 1,
            Act::Fire(timer) if timer.is_lapse() => after.left.lates -= 1,
            Act::Deliver(_) | Act::Fire(_) | Act::Done(..) => {}
        }
        if cut != WHOLE {
            after.left.crashes -= 1;
        }
        if after == *world {
            return None;
        }
        let broken = self.judge(world, &after);
        self.reach(after, from);
        broken
    }

    /// All that can happen to one host of a world.
    fn acts(&mut self, world: &Whole, host: usize) -> Vec<u32> {
        let local = world.locals[host];
        let for_host = self.machine.set(world.sent).iter().filter(|id| self.machine.sent(**id).to == host);
        let mut acts: Vec<Act> = for_host.map(|id| Act::Deliver(*id)).collect();
        let facts = self.machine.facts(local);
        let lapses = |act: &&u32| matches!(self.machine.act(**act), Act::Fire(timer) if timer.is_lapse());
        let mut ids: Vec<u32> =
            facts.timers.iter().filter(|act| world.left.lates > 0 || !lapses(act)).copied().collect();
        for (name, from) in &facts.jobs {
            let content = from.and_then(|from| self.machine.facts(world.locals[from]).content);
            acts.push(Act::Done(name.clone(), content));
            if world.left.failures > 0 {
                acts.push(Act::Fails(name.clone()));
            }
        }
        if world.left.lates > 0 {
            acts.push(Act::Late);
        }
        if world.left.crashes > 0 {
            acts.push(Act::Crash);
        }
        for (which, (at, _)) in self.machine.scope.operations.iter().enumerate() {
            if *at == host && world.asked & (1 << which) == 0 && self.machine.scope.spare != Some(which) {
                acts.push(Act::Operate(which));
            }
        }
        ids.extend(acts.into_iter().map(|act| self.machine.act_id(act)).collect::<Vec<_>>());
        ids
    }

    /// Says which rule a world breaks.
    fn judge(&self, before: &Whole, after: &Whole) -> Option<String> {
        let committed = self.machine.committed(&after.locals, self.machine.set(after.sent));
        if committed.len() > 1 {
            let names: Vec<String> = committed.iter().map(Digest::short).collect();
            return Some(format!("S2: two children of one revision are committed: {}", names.join(" and ")));
        }
        let facts = |locals: &[u32]| -> Vec<_> { locals.iter().map(|l| self.machine.facts(*l)).collect() };
        let (old, new) = (facts(&before.locals), facts(&after.locals));
        let newest = |facts: &[&super::machine::Facts]| facts.iter().filter_map(|fact| fact.content).max();
        if newest(&new) < newest(&old) {
            return Some("S3: the newest state of the disk is gone".to_owned());
        }
        let taken_over = self.machine.scope.takeover.is_some_and(|which| after.asked & (1 << which) != 0);
        if taken_over {
            // Until the old owner hears of it both may: the rule says so.
            return None;
        }
        let which = |is: fn(&super::machine::Facts) -> bool| -> Vec<usize> {
            (0..new.len()).filter(|&host| is(new[host])).collect()
        };
        let running = which(|facts| facts.runs);
        if running.len() > 1 {
            return Some(format!("S1: the VM runs on hosts {running:?}"));
        }
        let owners = which(|facts| facts.owns);
        (owners.len() > 1).then(|| format!("S1: hosts {owners:?} own the VM"))
    }

    fn trace(&self, index: usize) -> Vec<String> {
        let mut steps = Vec::new();
        let mut at = index;
        while let Some(from) = self.from.get(at).filter(|from| from.world != u32::MAX) {
            steps.push(self.machine.describe(from.host.into(), from.act, from.cut));
            at = from.world as usize;
        }
        steps.reverse();
        steps
    }

    /// Whether all comes right from here without further faults, though every message that was on its way is lost.
    fn comes_right(&mut self, locals: &[u32; HOSTS]) -> Result<(), String> {
        let mut at = *locals;
        let mut path = vec![at];
        let mut asked_again = false;
        for _ in 0..ROUNDS_MAX {
            if self.right.contains(&at) || self.is_right(&at) {
                self.right.extend(path);
                return Ok(());
            }
            let before = at;
            self.compare(&mut at);
            self.round(&mut at, false);
            if at == before {
                self.round(&mut at, true);
            }
            if at == before && !self.is_right(&at) && !asked_again {
                // Nobody wants anything any more: somebody does again.
                asked_again = true;
                if let Some(which) = self.machine.scope.spare {
                    let host = self.machine.scope.operations[which].0;
                    let act = self.machine.act_id(Act::Operate(which));
                    self.happens(&mut at, host, act);
                }
            }
            path.push(at);
        }
        let hosts: Vec<String> =
            at.iter().enumerate().map(|(host, local)| self.machine.describe_host(host, *local)).collect();
        Err(format!("L1: it never comes right from here; in the end {}", hosts.join("; ")))
    }

    /// All hosts tell each other what they know: what anti-entropy does.
    fn compare(&mut self, at: &mut [u32; HOSTS]) {
        for from in 0..at.len() {
            for to in (0..at.len()).filter(|&to| to != from) {
                let message = self.machine.knows(at[from]);
                let (id, _) = self.machine.send(from, to, message);
                let act = self.machine.act_id(Act::Deliver(id));
                self.happens(at, to, act);
            }
        }
    }

    /// Each host does its jobs, and lets its timers fire, one after the other.
    fn round(&mut self, at: &mut [u32; HOSTS], slow: bool) {
        for host in 0..at.len() {
            while let Some((name, from)) = self.machine.facts(at[host]).jobs.first().cloned() {
                let content = from.and_then(|from| self.machine.facts(at[from]).content);
                let act = self.machine.act_id(Act::Done(name, content));
                self.happens(at, host, act);
            }
            for act in self.machine.facts(at[host]).timers.clone() {
                let fires = match self.machine.act(act) {
                    Act::Fire(timer) => timer.is_last_resort() == slow,
                    _ => false,
                };
                if fires {
                    self.happens(at, host, act);
                }
            }
        }
    }

    /// Something happens, and all messages that follow from it arrive, in their order.
    fn happens(&mut self, at: &mut [u32; HOSTS], host: usize, act: u32) {
        let mut due = VecDeque::from([(host, act)]);
        while let Some((host, act)) = due.pop_front() {
            let effect = self.machine.effect_unbounded(host, at[host], act);
            at[host] = effect.local;
            for &id in &effect.sent {
                let act = self.machine.act_id(Act::Deliver(id));
                due.push_back((self.machine.sent(id).to, act));
            }
        }
    }

    fn is_right(&self, locals: &[u32]) -> bool {
        let facts: Vec<_> = locals.iter().map(|local| self.machine.facts(*local)).collect();
        if self.machine.scope.vm.is_none() {
            return !self.machine.committed(locals, &[]).is_empty();
        }
        let owners: Vec<usize> = (0..facts.len()).filter(|&host| facts[host].owns).collect();
        let same_head = facts.iter().all(|fact| fact.head == facts[0].head);
        let runs = |host: usize| facts[host].runs;
        // What is taken over may have been down for all that its new owner knew.
        let taken = self.machine.scope.takeover.is_some();
        same_head
            && owners.len() == 1
            && (0..facts.len()).all(|host| runs(host) == (host == owners[0]) || (taken && !runs(host)))
    }
}
