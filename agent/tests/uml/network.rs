//! Interfaces: what guests send arrives at the sockets that the agent gets, whichever agent that is.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;

use mln_protocol::id::VmId;
use mln_protocol::model::{AddressPlan, Attachment, Impairment, InterfaceAddress, Network, Vm};
use mlnd::platform::{Platform, VmEventKind};
use rustix::event::{PollFd, PollFlags};

use crate::world::{KillGuests, World, name, plain};

fn with_interfaces(vm: &str, addresses: &[(&str, [u8; 4])]) -> Vm {
    let networks = addresses
        .iter()
        .map(|(interface, address)| Network {
            name: name(interface),
            address: AddressPlan::Static(InterfaceAddress {
                address: IpAddr::V4(Ipv4Addr::from(*address)),
                prefix_bits: 24,
            }),
            gateway: None,
            broadcast: None,
            attachment: Attachment::Switch(name("lan")),
            mac: None,
            forwards: Vec::new(),
            impairment: Impairment::default(),
            tap_address: None,
        })
        .collect();
    Vm { networks, ..plain(vm) }
}

/// Moves frames between two interfaces until either guest is gone or this is dropped.
struct Cable {
    stop: Option<OwnedFd>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Cable {
    fn between(a: OwnedFd, b: OwnedFd) -> Self {
        let (stopped, stop) = rustix::pipe::pipe().expect("a pipe");
        let thread = std::thread::spawn(move || {
            let mut frame = [0; 65_536];
            loop {
                let mut fds = [
                    PollFd::new(&a, PollFlags::IN),
                    PollFd::new(&b, PollFlags::IN),
                    PollFd::new(&stopped, PollFlags::IN),
                ];
                rustix::event::poll(&mut fds, None).expect("polls");
                let ready = fds.each_ref().map(|fd| !fd.revents().is_empty());
                if ready[2] {
                    return;
                }
                for (from, to) in
                    [(&a, &b), (&b, &a)].into_iter().zip(ready).filter(|(_, ready)| *ready).map(|(w, _)| w)
                {
                    match rustix::io::read(from, &mut frame) {
                        Ok(0) => return,
                        // A frame that the other side has no room for is lost, as on any wire.
                        Ok(count) => drop(rustix::io::write(to, &frame[..count])),
                        Err(rustix::io::Errno::AGAIN) => {}
                        Err(_) => return,
                    }
                }
            }
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("ends well");
        }
    }
}

async fn ping(world: &World, from: &VmId, to: &str) {
    world.ok(from, &format!("ping -c 3 -i 0.2 -W 20 {to}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_guests_reach_each_other_also_over_a_new_agent() {
    let data = tempfile::tempdir().expect("a folder");
    let world = World::at(data.path());
    let _end = KillGuests(world.config.vms.clone());
    // The order of the kernel's names is not that of ours.
    let a = world.build(with_interfaces("a", &[("lan", [10, 0, 0, 1]), ("eth0", [10, 0, 1, 1])])).await;
    let b = world.build(with_interfaces("b", &[("eth0", [10, 0, 0, 2])])).await;
    world.uml.start(&a).await.expect("starts");
    world.uml.start(&b).await.expect("starts");
    let cable = Cable::between(world.interface(&a, "lan").await, world.interface(&b, "eth0").await);
    world.ready(&a).await;
    world.ready(&b).await;
    assert_eq!(world.ok(&a, "ls /sys/class/net | tr '\\n' ' '").await, "eth0 lan lo ");
    ping(&world, &a, "10.0.0.2").await;
    ping(&world, &b, "10.0.0.1").await;

    // Another agent gets the same sockets; the guests notice nothing.
    drop(cable);
    let next = World::at(data.path());
    assert_eq!(next.uml.observe_all().await.expect("observes").len(), 2);
    let (socket_a, socket_b) = (next.interface(&a, "lan").await, next.interface(&b, "eth0").await);
    let cable = Cable::between(socket_a, socket_b.try_clone().expect("one more descriptor"));
    ping(&next, &a, "10.0.0.2").await;

    // Taken down and up, an interface has a new socket.
    next.ok(&a, "ip link set lan down").await;
    next.take(&a, "lan to go down", |kind| {
        matches!(kind, VmEventKind::InterfaceDown { interface } if interface.as_str() == "lan").then_some(())
    })
    .await;
    drop(cable);
    next.ok(&a, "ip link set lan up").await;
    let _cable = Cable::between(next.interface(&a, "lan").await, socket_b);
    ping(&next, &b, "10.0.0.1").await;
}
