//! `--bandwidth` of one change: told to the hosts that have the disks, before the change is made.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use mln_link::message::{Bandwidth, Request};
use mln_link::{Client, Reply};
use mln_protocol::id::{Name, PublicKey, VmId};
use mln_protocol::model::Rate;
use tokio::time::timeout;

use super::{answer, exec, refusal, select};
use crate::causes::chain;
use crate::control::{Operator, Origin, ReplySender};
use crate::event_loop::EventLoop;
use crate::mesh::MeshHandle;

/// How long a host may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

impl EventLoop {
    pub(super) fn request_bandwidth(&self, wanted: Bandwidth, operator: &Operator, reply: ReplySender) {
        let project = match select::project(&self.node, &wanted.project, operator) {
            Ok(project) => project,
            Err(wrong) => return answer(&reply, [*wrong]),
        };
        let rate = match wanted.bits_per_s.map(|bits| (bits, Rate::from_bits_per_s(bits))) {
            Some((bits, None)) => {
                let text = format!("{bits} bits per second is no rate: {} to {}", Rate::MIN, Rate::MAX);
                return answer(&reply, [refusal("malformed", text, Some("you: --bandwidth 10Mbit"))]);
            }
            Some((_, rate)) => rate,
            None => None,
        };
        let mut elsewhere: BTreeMap<PublicKey, (Name, Vec<Name>)> = BTreeMap::new();
        for vm in self.node.vms(project.id) {
            let id: VmId = vm.status.vm;
            if !wanted.vms.contains(&id.name) {
                continue;
            }
            if vm.owner == self.node.key() {
                self.transfers.limit(&id, rate.map(Rate::bits_per_s));
            } else {
                elsewhere.entry(vm.owner).or_insert((vm.status.host, Vec::new())).1.push(id.name);
            }
        }
        if let Origin::Peer { .. } = operator.origin {
            return answer(&reply, []);
        }
        let (mesh, header) = (self.mesh.clone(), operator.header());
        tokio::spawn(async move {
            let asked = elsewhere.into_iter().map(async |(key, (host, vms))| {
                let wanted = Bandwidth { vms, ..wanted.clone() };
                let told = timeout(ANSWER_TIMEOUT, tell(&mesh, key, &header, wanted)).await;
                match told.unwrap_or_else(|_| Err("it does not answer".to_owned())) {
                    Ok(replies) => replies,
                    Err(why) => {
                        let text =
                            format!("{host} knows no --bandwidth for this, and obeys its own alone: {why}");
                        vec![Reply::Warning { text }]
                    }
                }
            });
            answer(&reply, join_all(asked).await.into_iter().flatten());
        });
    }
}

async fn tell(
    mesh: &MeshHandle,
    host: PublicKey,
    header: &[u8],
    wanted: Bandwidth,
) -> Result<Vec<Reply>, String> {
    let stream = exec::open(mesh, host, header).await.map_err(|error| chain(&error))?;
    let client = Client::over(stream).await.map_err(|error| chain(&error))?;
    let request = Request::Bandwidth(wanted);
    let (_input, mut replies) = client.request(&request).await.map_err(|error| chain(&error))?;
    let mut said = Vec::new();
    while let Some(reply) = replies.next().await.map_err(|error| chain(&error))? {
        match reply {
            Reply::Done => break,
            other => said.push(other),
        }
    }
    Ok(said)
}
