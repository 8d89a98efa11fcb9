//! Agents of this version meet holders and guests of the version before, and files that they left: the bytes of
//! version 1 never change, and what is new comes at the end of an enumeration or in a version of its own.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::line::{
    AckWire, ClosedWire, EndWire, ExecWire, HelloWire, KillWire, OpenWire, ReportWire, WelcomeWire,
    WindowWire,
};
use super::super::{decode, encode};
use super::*;
use crate::id::hex;

const GOLDEN: &str = include_str!("golden/holder_1.txt");

fn interfaces() -> Vec<InterfaceWire> {
    vec![InterfaceWire { name: "eth0".to_owned(), mac: [0xfe, 0xfd, 0, 0, 0, 1] }]
}

/// Returns a line: the name and the bytes of a value, which must come back from them.
fn line<T>(name: &str, value: T) -> String
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let bytes = encode(&value);
    assert_eq!(decode::<T>(&bytes, HOLDER_MESSAGE_BYTES_MAX).as_ref(), Ok(&value), "{name}");
    format!("{name} {}\n", hex(&bytes))
}

fn events() -> String {
    let state = HolderStateWire {
        version: 1,
        boot_unix_ms: 2,
        process_group: 3,
        agent_version: Some("0.1.0".to_owned()),
        report: Some(vec![4]),
        channel_next: 5,
    };
    let exit = ExitWire {
        version: 1,
        boot_unix_ms: 2,
        exit_unix_ms: 3,
        end: EndWire::Signalled(6),
        panic: Some("p".to_owned()),
        stop: Some(StopWire::LimitPassed),
    };
    let message = LineMessageWire { kind: 1, channel: 2, payload: vec![3] };
    [
        line("event State", HolderEventWire::State(state)),
        line("event SessionStarted", HolderEventWire::SessionStarted { agent_version: "0.1.0".to_owned() }),
        line("event SessionDamaged", HolderEventWire::SessionDamaged),
        line("event Report", HolderEventWire::Report(vec![1, 2])),
        line("event Line", HolderEventWire::Line(message)),
        line("event InterfaceUp", HolderEventWire::InterfaceUp { index: 1 }),
        line("event InterfaceDown", HolderEventWire::InterfaceDown { index: 1 }),
        line("event Panicked", HolderEventWire::Panicked { text: "t".to_owned() }),
        line("event Exited", HolderEventWire::Exited(exit.clone())),
        line("file exit", exit),
    ]
    .concat()
}

fn commands() -> String {
    let message = LineMessageWire { kind: 1, channel: 2, payload: vec![3] };
    [
        line("command Line", HolderCommandWire::Line(message)),
        line("command StopClean", HolderCommandWire::StopClean { limit_ms: 5 }),
        line("command StopNow", HolderCommandWire::StopNow),
    ]
    .concat()
}

fn files() -> String {
    let vm = VmFileWire {
        version: 1,
        birth: [2; 32],
        name: "n".to_owned(),
        owner: "o".to_owned(),
        project: "p".to_owned(),
        memory_mib: 64,
        template: [3; 32],
        backing_bytes: 4,
        interfaces: interfaces(),
    };
    let launch = LaunchWire {
        version: 1,
        kernel: "k".to_owned(),
        memory_mib: 64,
        backing: "b".to_owned(),
        agent_drive: "a".to_owned(),
        memory_folder: "m".to_owned(),
        interfaces: interfaces(),
    };
    let boot = BootWire { version: 1, boot_unix_ms: 2 };
    [line("file vm", vm), line("file launch", launch), line("file boot", boot)].concat()
}

fn guests() -> String {
    let failed = ReportWire::StartupFailed { end: EndWire::Exited(1), log_tail: "l".to_owned() };
    let exec = ExecWire {
        argv: vec![b"ls".to_vec()],
        environment: vec![("k".to_owned(), "v".to_owned())],
        folder: Some("/".to_owned()),
    };
    [
        line("line Hello", HelloWire { version: 1, session: 2, agent_version: "0.1.0".to_owned() }),
        line("line Welcome", WelcomeWire { version: 1, session: 2 }),
        line("line Ack", AckWire { read_bytes: 3 }),
        line("report Starting", ReportWire::Starting),
        line("report Ready", ReportWire::Ready),
        line("report SeedFailed", ReportWire::SeedFailed { text: "t".to_owned() }),
        line("report StartupFailed", failed),
        line("open Exec", OpenWire::Exec(exec)),
        line("line Window", WindowWire { stream: 1, bytes: 2 }),
        line("line Kill", KillWire { signal: 15 }),
        line("closed Ended", ClosedWire::Ended(EndWire::Exited(3))),
        line("closed NotStarted", ClosedWire::NotStarted { text: "t".to_owned(), errno: 2 }),
        line("closed TooMany", ClosedWire::TooMany { limit: 9 }),
    ]
    .concat()
}

fn plugs() -> String {
    let address = IpAddr::from([10, 0, 2, 15]);
    let nat = NatWire {
        address,
        prefix_bits: 24,
        gateway: None,
        nameserver: None,
        announced: IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1]),
        forwards: vec![(8080, 80, 6)],
    };
    let impairment = ImpairmentWire { delay_us: 1, loss_millionths: 2, rate_bits_per_s: 8000 };
    [
        line("plug Socket", PlugWire::Socket),
        line("plug Nat", PlugWire::Nat(nat.clone())),
        line("plug Tap", PlugWire::Tap { tap: "t".to_owned(), bridge: Some("b".to_owned()) }),
        line("plug ImpairedNat", PlugWire::ImpairedNat { nat, impairment }),
        line("plug AddressedTap", PlugWire::AddressedTap { tap: "t".to_owned(), address, prefix_bits: 30 }),
    ]
    .concat()
}

#[test]
fn the_bytes_between_an_agent_and_older_holders_and_guests_never_change() {
    let now = [events(), commands(), files(), guests(), plugs()].concat();
    for (golden, now) in GOLDEN.lines().zip(now.lines()) {
        assert_eq!(golden, now, "version 1 is fixed: append, or add a version");
    }
    assert_eq!(GOLDEN, now, "a line was added or taken away");
}

#[test]
fn what_changes_a_guest_as_it_runs_comes_after_what_was_there_before() {
    let slot = SlotWire { interface: interfaces().remove(0), plug: PlugWire::Socket };
    let commands = [
        HolderCommandWire::Memory { mib: 64 },
        HolderCommandWire::Plug { index: 1, slot: slot.clone() },
        HolderCommandWire::Unplug { index: 1 },
        HolderCommandWire::TellInterface { index: 1 },
        HolderCommandWire::Node(vec![1, 2]),
    ];
    for (number, command) in (3..).zip(commands) {
        let bytes = encode(&command);
        assert_eq!(bytes[0], number);
        assert_eq!(decode::<HolderCommandWire>(&bytes, HOLDER_MESSAGE_BYTES_MAX), Ok(command));
    }
    let live = HolderLiveWire { memory_mib: 64, memory_max_mib: 128, slots: vec![Some(slot), None] };
    let events = [
        HolderEventWire::Live(live),
        HolderEventWire::Refused { text: "no".to_owned() },
        HolderEventWire::Node(vec![1, 2]),
    ];
    for (number, event) in (10..).zip(events) {
        let bytes = encode(&event);
        assert_eq!(bytes[0], number);
        assert_eq!(decode::<HolderEventWire>(&bytes, HOLDER_MESSAGE_BYTES_MAX), Ok(event));
    }
}
