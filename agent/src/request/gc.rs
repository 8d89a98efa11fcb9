//! `gc`: what of the image store nobody uses.

use mln_link::Reply;
use mln_link::message::{GarbageKind, GarbageReport, GarbageRow, GcMode};

use super::{answer, failure, status};
use crate::causes::chain;
use crate::control::{Operator, ReplySender};
use crate::event_loop::EventLoop;
use crate::image::{self, Sweep};

/// How many files are told of; what is freed is more than that only in a store that nobody ever looked after.
const ROWS_MAX: usize = 1000;

impl EventLoop {
    pub(super) fn request_gc(&self, mode: GcMode, operator: &Operator, reply: ReplySender) {
        let mut kept = status::kept(&self.node, self.clock.now(), &self.node.projects(), operator);
        kept.retain(|row| row.host == self.identity.name);
        kept.truncate(ROWS_MAX);
        let exchange = self.exchange.clone();
        let sweep = match mode {
            GcMode::Show => Sweep::Show,
            GcMode::Free => Sweep::Remove,
        };
        tokio::spawn(async move {
            let limit_bytes = exchange.limit_bytes();
            let message = match exchange.collect(limit_bytes, sweep).await {
                Ok(collected) => {
                    let over = limit_bytes.map_or(0, |limit| collected.bytes_left.saturating_sub(limit));
                    if over > 0 {
                        let text = format!(
                            "the store is {over} bytes over its limit (image_limit_mib), and what is left is in use or has \
                             a name; templates that aren't needed are removed by mlnctl template rm"
                        );
                        // Nobody listens any more if it can't be said.
                        let _ = reply.post(Reply::Warning { text });
                    }
                    let rows = collected.garbage.into_iter().take(ROWS_MAX).map(row).collect();
                    Reply::Garbage(GarbageReport { rows, bytes_left: collected.bytes_left, limit_bytes })
                }
                Err(error) => failure("freeing what nobody uses", chain(&error), &["mlnctl status"]),
            };
            answer(&reply, [Reply::Kept(kept), message]);
        });
    }
}

fn row(garbage: image::Garbage) -> GarbageRow {
    GarbageRow {
        kind: match garbage.kind {
            image::GarbageKind::Image => GarbageKind::Image,
            image::GarbageKind::LongerImage => GarbageKind::LongerImage,
            image::GarbageKind::AgentDrive => GarbageKind::AgentDrive,
            image::GarbageKind::Part => GarbageKind::Part,
        },
        file: garbage.file,
        bytes: garbage.bytes,
        since_unix_ms: garbage.since_unix_ms,
    }
}
