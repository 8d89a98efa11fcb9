//! What happens in a world, line by line, for whoever looks into one in which a rule was broken.

use std::fmt::{Debug, Write as _};

use mln_protocol::node::{HandOver, Input, Message, Output, Write};
use mln_protocol::record::{Commit, Link, Record, VerifiedRecord};

use crate::world::World;

/// How many characters of a thing are shown.
const SHOWN_CHARS: usize = 240;

/// Returns what a record says; nothing for those that only say that somebody is there.
fn record(record: &VerifiedRecord) -> Option<String> {
    Some(match &***record {
        Record::Member(_) | Record::Host(_) | Record::Grant(_) | Record::Gauges(_) => return None,
        Record::Revocation(_) => "revocation".to_owned(),
        Record::Later(later) => format!("of kind {} #{}", later.kind, later.counter),
        Record::Commit(commit) => format!("commit {}", self::commit(commit)),
        Record::Vm(vm) => format!(
            "status {} epoch {} {:?} {:?} run counter {} #{}",
            vm.vm, vm.epoch, vm.run, vm.state, vm.run_counter, vm.counter
        ),
        Record::Link(link) => self::link(link),
    })
}

fn link(link: &Link) -> String {
    match link {
        Link::Claim(claim) => {
            let basis = short(&claim.basis);
            format!("claim {} {} by {}", claim.vm, claim.epoch, basis.split(['(', ' ']).next().unwrap_or(""))
        }
        Link::Release(release) => {
            format!("release {} {} to {} {:?}", release.vm, release.epoch, release.to.short(), release.disk)
        }
        Link::Decline(decline) => format!("decline {} {}: {}", decline.vm, decline.epoch, decline.reason),
    }
}

fn commit(commit: &Commit) -> String {
    let revision = &commit.revision;
    let mut text = format!(
        "{} of {} after {} {:?} {:?}:",
        commit.digest.short(),
        revision.label,
        revision.parent.map_or_else(|| "nothing".to_owned(), |parent| parent.short()),
        revision.consent,
        revision.reason
    );
    for host in &revision.hosts {
        let _ = write!(text, " {}(", host.name);
        for vm in &host.vms {
            let _ = write!(text, " {}", vm.id(commit.digest));
        }
        text += " )";
    }
    text
}

fn short(thing: &impl Debug) -> String {
    format!("{thing:?}").chars().take(SHOWN_CHARS).collect()
}

fn message(message: &Message) -> Option<String> {
    Some(match message {
        Message::Sync(_) | Message::Want(_) => return None,
        Message::Records(records) => {
            let said: Vec<String> = records.iter().filter_map(record).collect();
            if said.is_empty() || said.len() > 3 {
                return None;
            }
            said.join("; ")
        }
        Message::Ask { ask, .. } => format!("ask {} of {}", ask.digest.short(), ask.revision.label),
        Message::Answer { revision, verdict } => {
            let verdict = verdict.as_ref().map_or_else(short, |_| "yes".to_owned());
            format!("answer {} {verdict}", revision.short())
        }
        Message::Answered { answer, .. } => {
            format!("answered {} {} {:?}", answer.parent.short(), answer.ballot.number, answer.promised)
        }
        Message::Propose(propose) => {
            format!("propose {} {}", propose.ballot.number, commit(&propose.candidate))
        }
        Message::HandOver(HandOver::LinksTold { vms, links }) => {
            format!("tell {} links of {} VMs", links.len(), vms.len())
        }
        Message::HandOver(HandOver::LinksWanted(vms)) => format!("ask about {} VMs", vms.len()),
        Message::OwnTold { instance, other, records } => {
            format!("tells run {instance:x} beside {other:?}, {} records", records.len())
        }
        Message::FragmentFound(_) => "fragment".to_owned(),
        other => short(other),
    })
}

impl World {
    fn note_line(&mut self, node: usize, line: &str) {
        let name = &self.hosts[node].name;
        // A host and its clone have one name.
        self.told.push(format!("{:>9} {name}[{node}] {line}", self.now_ms));
    }

    /// Notes what a host is given, if anybody wants to know.
    pub(crate) fn tell_input(&mut self, node: usize, input: &Input) {
        let line = match input {
            _ if !self.options.tells => return,
            Input::Timeout | Input::Persisted(_) => return,
            Input::Message { from, message } => {
                let from = self.index.get(from).copied().unwrap_or_default();
                self::message(message).map(|text| format!("hears from [{from}]: {text}"))
            }
            Input::Record(record) => self::record(record).map(|text| format!("hears {text}")),
            other => Some(format!("has {}", short(other))),
        };
        if let Some(line) = line {
            self.note_line(node, &line);
        }
    }

    /// Notes what a host does, if anybody wants to know.
    pub(crate) fn tell_output(&mut self, node: usize, output: &Output) {
        let line = match output {
            _ if !self.options.tells => return,
            Output::Send { to, message } => {
                let to = self.index.get(to).copied().unwrap_or_default();
                self::message(message).map(|text| format!("to [{to}]: {text}"))
            }
            Output::Broadcast(record) => self::record(record).map(|text| format!("says {text}")),
            Output::Persist { id, writes } => {
                let mut text = format!("writes {}:", id.0);
                for write in writes {
                    match write {
                        Write::Record(_, record) => text += &self::record(record).unwrap_or_default(),
                        Write::Holding(vm, holding) => {
                            let kind = short(holding);
                            let kind = kind.split(['(', '{', ' ']).next().unwrap_or("").to_owned();
                            let _ = write!(text, "holding {vm} {kind}");
                        }
                        Write::Decision(note) => {
                            let promised = note.promised.as_ref().map(|(_, child)| child.digest.short());
                            let _ = write!(
                                text,
                                "note on {} answered {:?} promised {promised:?}",
                                note.parent.short(),
                                note.answered.map(|ballot| ballot.number)
                            );
                        }
                        Write::Fragment(digest, _) => {
                            let _ = write!(text, "fragment {}", digest.short());
                        }
                        other => text += &short(other),
                    }
                    text += ", ";
                }
                Some(text.chars().take(4 * SHOWN_CHARS).collect())
            }
            Output::Step { vm, step, .. } => Some(format!("does {step:?} of {vm}")),
            Output::Switches(_) | Output::Progress { .. } => None,
            Output::Check { revision, .. } => Some(format!("checks {}", revision.short())),
            other => Some(short(other)),
        };
        if let Some(line) = line {
            self.note_line(node, &line);
        }
    }

    /// Notes what goes wrong, or comes right, if anybody wants to know.
    pub(crate) fn tell_event(&mut self, what: &impl Debug) {
        if self.options.tells {
            let text: String = format!("{what:?}").chars().take(SHOWN_CHARS).collect();
            self.told.push(format!("{:>9} === {text}", self.now_ms));
        }
    }
}
