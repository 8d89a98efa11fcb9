//! `doctor`: what is wrong with this agent's machine.

use mln_link::Reply;
use mln_protocol::node::{Reach, Signing};

use super::{answer, failure};
use crate::control::ReplySender;
use crate::doctor::{self, MeshFacts, MeshStanding, PeerClock, Ports};
use crate::event_loop::EventLoop;

impl EventLoop {
    pub(super) fn request_doctor(&self, reply: ReplySender) {
        let (place, mesh) = (self.place.clone(), self.mesh.clone());
        let store = self.store.facts(&place.data, &self.node);
        let others = self.node.hosts().into_iter().filter(|host| host.reach != Reach::Here);
        let reach: Vec<Reach> = others.map(|host| host.reach).collect();
        let standing = Some(MeshStanding {
            doubled: (self.node.signing() == Signing::Doubled).then(|| self.node.doubled_refusal().detail),
            members: reach.len(),
            reached: reach.iter().filter(|reach| **reach == Reach::Connected).count(),
        });
        let peers = self
            .node
            .hosts()
            .into_iter()
            .filter(|host| host.reach == Reach::Connected)
            .filter_map(|host| {
                let measured_unix_ms = host.status?.measured_unix_ms;
                Some(PeerClock { name: host.name.to_string(), measured_unix_ms })
            })
            .collect();
        tokio::spawn(async move {
            let listeners = mesh.listeners().await.iter().map(ToString::to_string).collect();
            let facts = MeshFacts { ports: Ports::Open(listeners), peers, store, standing };
            // It runs programs, and may ask a directory server for a group.
            match tokio::task::spawn_blocking(move || doctor::examine(&place, &facts)).await {
                Ok(rows) => answer(&reply, [Reply::Doctor(rows)]),
                Err(error) => answer(&reply, [failure("looking at the machine", error.to_string(), &[])]),
            }
        });
    }
}
