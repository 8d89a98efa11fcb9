//! Where the answer to a request goes.

use mln_link::Reply;
use tokio::sync::mpsc;

/// How many replies may wait for an operator who doesn't read them.
pub const REPLIES_WAITING_MAX: usize = 256;

/// How many rows one reply carries.
const ROWS_PER_REPLY: usize = 256;

/// Where the answer to a request goes.
#[derive(Debug, Clone)]
pub struct ReplySender {
    replies: mpsc::Sender<Reply>,
}

/// Why a reply didn't go out. Whoever works on the request may as well stop telling about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// The operator is gone.
    #[error("the operator is gone")]
    Gone,
    /// The operator doesn't read: [`REPLIES_WAITING_MAX`] replies wait already. Drop the sender.
    #[error("{REPLIES_WAITING_MAX} replies wait for an operator who doesn't read them")]
    Behind,
}

impl ReplySender {
    /// Returns a sender and what it fills.
    pub fn channel() -> (Self, mpsc::Receiver<Reply>) {
        let (replies, waiting) = mpsc::channel(REPLIES_WAITING_MAX);
        (Self { replies }, waiting)
    }

    /// Sends a reply without ever waiting: for the event loop.
    pub fn post(&self, reply: Reply) -> Result<(), ReplyError> {
        self.replies.try_send(reply).map_err(|error| match error {
            mpsc::error::TrySendError::Closed(_) => ReplyError::Gone,
            mpsc::error::TrySendError::Full(_) => ReplyError::Behind,
        })
    }

    /// Sends a reply once there is room: for a task of its own, such as one that carries a command's output.
    pub async fn send(&self, reply: Reply) -> Result<(), ReplyError> {
        self.replies.send(reply).await.map_err(|_| ReplyError::Gone)
    }

    /// Sends a table without ever waiting, in as many replies as it takes; none for an empty table.
    pub fn post_rows<T>(&self, rows: Vec<T>, table: fn(Vec<T>) -> Reply) -> Result<(), ReplyError> {
        let mut rows = rows.into_iter();
        loop {
            let batch: Vec<T> = rows.by_ref().take(ROWS_PER_REPLY).collect();
            if batch.is_empty() {
                return Ok(());
            }
            self.post(table(batch))?;
        }
    }

    /// Sends one reply and the end, without ever waiting.
    pub fn finish(&self, reply: Reply) -> Result<(), ReplyError> {
        self.post(reply)?;
        self.post(Reply::Done)
    }

    /// Waits until the operator is gone.
    pub async fn closed(&self) {
        self.replies.closed().await;
    }

    /// Whether the operator is gone.
    pub fn is_closed(&self) -> bool {
        self.replies.is_closed()
    }

    /// Returns the bare channel: for [`mln_link::relay::relay`].
    pub fn channel_sender(&self) -> mpsc::Sender<Reply> {
        self.replies.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_who_does_not_read_is_noticed() {
        let (sender, waiting) = ReplySender::channel();
        for _ in 0..REPLIES_WAITING_MAX {
            assert_eq!(sender.post(Reply::Done), Ok(()));
        }
        assert_eq!(sender.post(Reply::Done), Err(ReplyError::Behind));
        drop(waiting);
        assert_eq!(sender.post(Reply::Done), Err(ReplyError::Gone));
    }

    #[test]
    fn long_tables_come_in_several_replies() {
        let (sender, mut waiting) = ReplySender::channel();
        sender.post_rows(Vec::new(), Reply::Projects).expect("room");
        assert!(waiting.try_recv().is_err(), "no reply for no rows");
        let name = mln_protocol::id::Name::parse("p").expect("a name");
        let row = mln_link::message::ProjectRow {
            owner: name.clone(),
            project: name,
            id: String::new(),
            revisions: 1,
            hosts: 1,
            vms: 1,
            vms_up: 0,
        };
        sender.post_rows(vec![row; ROWS_PER_REPLY + 1], Reply::Projects).expect("room");
        let lengths: Vec<usize> = std::iter::from_fn(|| waiting.try_recv().ok())
            .map(|reply| if let Reply::Projects(rows) = reply { rows.len() } else { 0 })
            .collect();
        assert_eq!(lengths, [ROWS_PER_REPLY, 1]);
    }
}
