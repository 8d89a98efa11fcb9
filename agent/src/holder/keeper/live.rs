//! Changing a guest as it runs: its memory and its interfaces, through the management console of User-Mode Linux.
//!
//! One request is with the guest's kernel at a time, and its answer decides; those that come meanwhile wait. The kernel
//! knows no other answer to a request than that it is done or refused, and says nothing of how much memory a guest has:
//! that is kept here.

use std::collections::VecDeque;
use std::path::Path;

use mln_protocol::model::Impairment;
use mln_protocol::wire::holder::{
    HolderCommandWire, HolderEventWire, HolderLiveWire, LaunchWire, MemoryFileWire, PlugWire, SlotWire,
};
use tracing::{info, warn};

use super::Keeper;
use crate::holder::{command_line, files, nat, packet};

/// Commands that wait for the guest's kernel; more are refused.
const COMMANDS_WAITING_MAX: usize = 64;
/// The most interfaces of a guest that are plugged in as it runs, beside those that it was started with.
const INTERFACES_MAX: usize = 64;

/// What of the guest can be changed, and what is being changed.
#[derive(Debug)]
pub(super) struct Live {
    state: HolderLiveWire,
    /// The one whose answer is waited for comes first.
    waiting: VecDeque<Change>,
    asked: Asked,
}

/// Whether the kernel was asked for the first of what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    NotYet,
    Waiting,
}

#[derive(Debug)]
enum Change {
    Memory {
        mib: u32,
    },
    Plug {
        index: usize,
        slot: SlotWire,
    },
    Unplug {
        index: usize,
    },
    /// What is asked elsewhere, and answered all the same.
    Other(&'static str),
}

impl Live {
    /// Returns how a guest is that is about to be started.
    pub(super) fn of(launch: &LaunchWire, plugs: &[PlugWire]) -> Self {
        let slots = launch
            .interfaces
            .iter()
            .zip(plugs)
            .map(|(interface, plug)| Some(SlotWire { interface: interface.clone(), plug: plug.clone() }));
        let memory = launch.memory_mib;
        let state = HolderLiveWire { memory_mib: memory, memory_max_mib: memory, slots: slots.collect() };
        Self { state, waiting: VecDeque::new(), asked: Asked::NotYet }
    }

    /// Returns where an interface's other end is, if there is one at that place.
    pub(super) fn plug(&self, index: usize) -> Option<&PlugWire> {
        self.state.slots.get(index)?.as_ref().map(|slot| &slot.plug)
    }
}

impl Keeper {
    /// Takes from the guest what it is to have no more of than it can have, as soon as its kernel listens.
    pub(super) fn shrink(&mut self) {
        let Ok(wanted) = files::read::<MemoryFileWire>(Path::new("."), files::MEMORY) else { return };
        // Where it isn't so, an older agent has started the guest, with the memory that it is to have.
        let is_most = wanted.memory_max_mib == self.live.state.memory_max_mib;
        if is_most && wanted.memory_mib < self.live.state.memory_mib {
            self.want(Change::Memory { mib: wanted.memory_mib });
        }
    }

    /// Says what can be changed.
    pub(super) fn tell_live(&mut self) {
        self.tell(&HolderEventWire::Live(self.live.state.clone()), None);
    }

    /// Takes a command that changes the guest as it runs.
    pub(super) fn change(&mut self, command: HolderCommandWire) {
        match command {
            HolderCommandWire::Memory { mib } => self.want(Change::Memory { mib }),
            HolderCommandWire::Plug { index, slot } => {
                self.want(Change::Plug { index: index as usize, slot });
            }
            HolderCommandWire::Unplug { index } => self.want(Change::Unplug { index: index as usize }),
            HolderCommandWire::TellInterface { index } => {
                if (index as usize) < self.interfaces.len() {
                    self.tell_interface(index as usize);
                }
            }
            HolderCommandWire::Line(_)
            | HolderCommandWire::StopClean { .. }
            | HolderCommandWire::StopNow
            | HolderCommandWire::Node(_) => {}
        }
    }

    fn want(&mut self, change: Change) {
        if self.live.waiting.len() >= COMMANDS_WAITING_MAX {
            return self.refuse("the guest's kernel does not answer");
        }
        self.live.waiting.push_back(change);
        self.ask_next();
    }

    /// Takes note that the kernel was asked for something else: its answer comes in its turn.
    pub(super) fn asked_otherwise(&mut self, what: &'static str) {
        let first = usize::from(self.live.asked == Asked::Waiting);
        self.live.waiting.insert(first.min(self.live.waiting.len()), Change::Other(what));
        if first == 0 {
            self.live.asked = Asked::Waiting;
        }
    }

    fn ask_next(&mut self) {
        while self.live.asked == Asked::NotYet
            && self.listening
            && let Some(change) = self.live.waiting.front()
        {
            let request = match change {
                Change::Other(_) => None,
                Change::Memory { mib } => memory_request(self.live.state.memory_mib, *mib),
                Change::Plug { index, slot } => {
                    let (index, slot) = (*index, slot.clone());
                    match self.prepare_port(index, &slot) {
                        Ok(()) => Some(format!(
                            "config {}",
                            command_line::vector(index, &slot.interface, &slot.plug)
                        )),
                        Err(text) => {
                            self.live.waiting.pop_front();
                            self.refuse(&text);
                            continue;
                        }
                    }
                }
                Change::Unplug { index } if self.live.plug(*index).is_some() => {
                    Some(format!("remove vec{index}"))
                }
                Change::Unplug { .. } => None,
            };
            let Some(request) = request else {
                // There is nothing to change.
                self.live.waiting.pop_front();
                self.tell_live();
                continue;
            };
            let socket = format!("{}{}/mconsole", files::UML_FOLDER, files::UML_ID);
            match self.parts.console.request(Path::new(&socket), &request) {
                Ok(()) => self.live.asked = Asked::Waiting,
                Err(error) => {
                    self.live.waiting.pop_front();
                    self.refuse(&format!("asking the guest's kernel: {error}"));
                }
            }
        }
    }

    /// Takes the answer of the guest's kernel to what it was asked for.
    pub(super) fn answered(&mut self, error: u32, text: &str) {
        if self.live.asked == Asked::NotYet {
            return warn!(error, text, "the guest's kernel answers what it was not asked");
        }
        self.live.asked = Asked::NotYet;
        let change = self.live.waiting.pop_front();
        match change {
            Some(Change::Other(what)) if error != 0 => warn!(what, error, text, "the guest's kernel refuses"),
            None | Some(Change::Other(_)) => {}
            Some(change) if error != 0 => {
                warn!(?change, error, text, "the guest's kernel refuses");
                if let Change::Plug { index, .. } = change {
                    self.forget_port(index);
                }
                let code = (error as i32).wrapping_neg();
                self.refuse(&format!("{} (error {code})", text.trim()));
            }
            Some(Change::Memory { mib }) => {
                info!(mib, "the guest has another amount of memory");
                self.live.state.memory_mib = mib;
                self.tell_live();
            }
            Some(Change::Plug { index, slot }) => {
                info!(index, interface = slot.interface.name, "an interface is plugged in");
                self.live.state.slots.resize_with(self.live.state.slots.len().max(index + 1), || None);
                self.live.state.slots[index] = Some(slot);
                self.tell_live();
            }
            Some(Change::Unplug { index }) => {
                info!(index, "an interface is unplugged");
                self.interface_down(index);
                self.forget_port(index);
                self.live.state.slots[index] = None;
                self.tell_live();
            }
        }
        self.ask_next();
    }

    /// Makes what an interface leads to, so that it is there when the guest brings it up.
    fn prepare_port(&mut self, index: usize, slot: &SlotWire) -> Result<(), String> {
        if index >= self.parts.launch.interfaces.len() + INTERFACES_MAX || self.live.plug(index).is_some() {
            return Err(format!("there is no free place {index} for an interface"));
        }
        while self.parts.ports.len() <= index {
            let path = files::port_socket(self.parts.ports.len());
            let port =
                packet::listen(Path::new(&path)).map_err(|error| format!("listening at {path}: {error}"))?;
            self.parts.ports.push(port);
            self.interfaces.push(None);
            self.parts.guest.nats.push(None);
        }
        let nat = match &slot.plug {
            PlugWire::Socket => None,
            PlugWire::Nat(wire) => Some(nat::Nat::start(wire.clone(), Impairment::default(), self.group)),
            PlugWire::ImpairedNat { nat, impairment } => {
                let impairment = Impairment::try_from(*impairment).map_err(|error| error.to_string())?;
                Some(nat::Nat::start(nat.clone(), impairment, self.group))
            }
            PlugWire::Tap { .. } | PlugWire::AddressedTap { .. } => {
                return Err("an interface with a tap is there from the start on".to_owned());
            }
        };
        let has_nat = nat.is_some();
        self.parts.guest.nats[index] = nat;
        if has_nat {
            self.tell_nat();
        }
        Ok(())
    }

    fn forget_port(&mut self, index: usize) {
        if let Some(nat) = self.parts.guest.nats.get_mut(index) {
            *nat = None;
        }
    }

    fn refuse(&mut self, text: &str) {
        self.tell(&HolderEventWire::Refused { text: text.to_owned() }, None);
    }
}

/// Returns what the kernel is asked for to give a guest that has `from` MiB of memory `to`; none where it has that.
fn memory_request(from: u32, to: u32) -> Option<String> {
    match from.cmp(&to) {
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Less => Some(format!("config mem=+{}M", to - from)),
        std::cmp::Ordering::Greater => Some(format!("config mem=-{}M", from - to)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_asked_for_by_the_difference() {
        assert_eq!(memory_request(64, 64), None);
        assert_eq!(memory_request(64, 96).as_deref(), Some("config mem=+32M"));
        assert_eq!(memory_request(128, 96).as_deref(), Some("config mem=-32M"));
    }
}
