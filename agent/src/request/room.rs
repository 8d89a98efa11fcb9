//! What hosts have left for VMs, by their own word: what they said of it to everybody may be late.

use std::cmp::Reverse;
use std::time::Duration;

use mln_link::message::{Request, Room};
use mln_link::{Client, Reply};
use mln_protocol::id::PublicKey;
use mln_protocol::model::MemoryMib;
use mln_protocol::plan::{Candidate, Presence};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use super::{answer, exec};
use crate::causes::chain;
use crate::control::ReplySender;
use crate::event_loop::EventLoop;
use crate::mesh::MeshHandle;

/// How long a host may take to say what it has left; whoever takes longer is taken at its last word.
const ROOM_TIMEOUT: Duration = Duration::from_secs(5);

/// How many hosts are asked for what they have left: those that have said that they have the most.
const HOSTS_ASKED_MAX: usize = 64;

impl EventLoop {
    /// Answers another agent that asks what is left here.
    pub(super) fn request_room(&self, reply: &ReplySender) {
        let MemoryMib(memory_mib) = self.node.room();
        answer(reply, [Reply::Room(Room { memory_mib })]);
    }
}

/// Has candidates say what they have left, in place of what they last said to everybody. Those that don't answer, or are of
/// an older version, stay as they are.
pub(super) async fn ask_rooms(
    candidates: &mut [Candidate],
    here: (PublicKey, MemoryMib),
    mesh: &MeshHandle,
    operator: &[u8],
) {
    let (me, room) = here;
    let mut roomiest: Vec<(u32, PublicKey)> = Vec::new();
    for candidate in candidates.iter_mut() {
        if candidate.host.key == me {
            candidate.free = room;
        } else if candidate.presence == Presence::Live {
            roomiest.push((candidate.free.0, candidate.host.key));
        }
    }
    roomiest.sort_by_key(|&(free, key)| (Reverse(free), key));
    let mut asked = JoinSet::new();
    for (_, host) in roomiest.into_iter().take(HOSTS_ASKED_MAX) {
        let (mesh, operator) = (mesh.clone(), operator.to_owned());
        asked.spawn(async move { (host, timeout(ROOM_TIMEOUT, ask(&mesh, host, &operator)).await) });
    }
    for (host, answered) in asked.join_all().await {
        match answered {
            Ok(Ok(Some(room))) => {
                let found = candidates.iter_mut().find(|candidate| candidate.host.key == host);
                if let Some(candidate) = found {
                    candidate.free = room;
                }
            }
            Ok(Ok(None)) => debug!(host = host.short(), "says nothing of what is left there"),
            Ok(Err(why)) => debug!(host = host.short(), why, "can't be asked what is left there"),
            Err(_) => debug!(host = host.short(), "didn't say in time what is left there"),
        }
    }
}

async fn ask(mesh: &MeshHandle, host: PublicKey, operator: &[u8]) -> Result<Option<MemoryMib>, String> {
    let stream = exec::open(mesh, host, operator).await.map_err(|error| chain(&error))?;
    let client = Client::over(stream).await.map_err(|error| chain(&error))?;
    let (_input, mut replies) = client.request(&Request::Room).await.map_err(|error| chain(&error))?;
    while let Some(reply) = replies.next().await.map_err(|error| chain(&error))? {
        if let Reply::Room(room) = reply {
            return Ok(Some(MemoryMib(room.memory_mib)));
        }
    }
    Ok(None)
}
