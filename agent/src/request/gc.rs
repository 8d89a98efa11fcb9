//! `gc`: what of the image store nobody uses, and what is kept beside it.

use mln_link::Reply;
use mln_link::message::{GarbageKind, GarbageReport, GarbageRow, GcMode};
use mln_protocol::id::ProjectId;
use mln_protocol::record::Commit;

use super::{answer, failure, snapshot, status};
use crate::causes::chain;
use crate::control::{Operator, ReplySender};
use crate::event_loop::EventLoop;
use crate::image::{self, Sweep};
use crate::snapshot::Leftover;

/// How many files are told of; what is freed is more than that only in a store that nobody ever looked after.
const ROWS_MAX: usize = 1000;

impl EventLoop {
    pub(super) fn request_gc(&self, mode: GcMode, operator: &Operator, reply: ReplySender) {
        let mut kept = status::kept(&self.node, self.clock.now(), &self.node.projects(), operator);
        kept.retain(|row| row.host == self.identity.name);
        kept.truncate(ROWS_MAX);
        let stored = self.snapshots.projects();
        let (projects, me) = (self.node.projects(), self.identity.name.clone());
        let seen = projects.into_iter().filter(|project| stored.contains(&project.id));
        let seen: Vec<_> = seen.filter(|project| operator.sees(&project.label)).collect();
        // Only what is known to be removed: a project that nobody has heard of may only be forgotten.
        let head = |project: &ProjectId| self.node.revision(self.node.heads(*project)?.head());
        let gone = stored.into_iter().filter(|project| head(project).is_some_and(Commit::removes)).collect();
        let snapshots = self.snapshots.clone();
        let exchange = self.exchange.clone();
        let sweep = match mode {
            GcMode::Show => Sweep::Show,
            GcMode::Free => Sweep::Remove,
        };
        tokio::spawn(async move {
            let limit_bytes = exchange.limit_bytes();
            let mut taken = Vec::new();
            for project in seen {
                match snapshots.list(project.id) {
                    Ok(all) => {
                        taken.extend(all.into_iter().map(|one| snapshot::row(one, &project.label, &me)))
                    }
                    Err(error) => {
                        let text = format!("snapshots of {} can't be read: {}", project.label, chain(&error));
                        // Nobody listens any more if it can't be said.
                        let _ = reply.post(Reply::Warning { text });
                    }
                }
            }
            taken.truncate(ROWS_MAX);
            let left = snapshots.sweep(gone, sweep).await;
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
                    let rows = left.into_iter().map(leftover).chain(collected.garbage.into_iter().map(row));
                    let rows = rows.take(ROWS_MAX).collect();
                    Reply::Garbage(GarbageReport { rows, bytes_left: collected.bytes_left, limit_bytes })
                }
                Err(error) => failure("freeing what nobody uses", chain(&error), &["mlnctl status"]),
            };
            answer(&reply, [Reply::Kept(kept), Reply::Snapshots(taken), message]);
        });
    }
}

fn leftover(left: Leftover) -> GarbageRow {
    GarbageRow {
        kind: GarbageKind::Snapshot,
        file: format!("snapshots/{}/{}", left.project.0, left.taken.name),
        bytes: left.taken.bytes,
        since_unix_ms: left.taken.about.taken_unix_ms,
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
