//! `events`: what happened, and what happens from now on.

use mln_link::Reply;
use mln_link::message::{EVENTS_ASKED_MAX, EventReading, EventRow, Events, ProjectRef, SKIPPED_KIND};
use mln_protocol::id::Name;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::answer;
use crate::clock::Clock;
use crate::control::ReplySender;
use crate::event_loop::EventLoop;

/// How many operators may follow.
const FOLLOWERS_MAX: usize = 64;

impl EventLoop {
    pub(super) fn request_events(&self, events: Events, reply: ReplySender) {
        let Events { last, project, reading } = events;
        let count = last.min(EVENTS_ASKED_MAX) as usize;
        let past = self.events.last(count, |row| is_of(row, project.as_ref()));
        if reply.post_rows(past, Reply::Events).is_err() {
            return;
        }
        match reading {
            EventReading::Past => answer(&reply, []),
            EventReading::Follow if self.events.followers() >= FOLLOWERS_MAX => {
                let text = format!("{FOLLOWERS_MAX} operators follow this agent's events already");
                answer(&reply, [super::refusal("followers", text, Some("whoever ends one of them"))]);
            }
            EventReading::Follow => {
                let feed = self.events.follow();
                tokio::spawn(follow(feed, reply, project, self.identity.name.clone(), self.clock));
            }
        }
    }
}

/// Hands on events until the operator is gone; one who reads slowly is told how many were left out.
async fn follow(
    mut feed: Receiver<EventRow>,
    reply: ReplySender,
    project: Option<ProjectRef>,
    host: Name,
    clock: Clock,
) {
    loop {
        // Both arms are cancel-safe: a receive loses nothing, and that somebody is gone stays so.
        let row = tokio::select! {
            received = feed.recv() => match received {
                Ok(row) if is_of(&row, project.as_ref()) => row,
                Ok(_) => continue,
                Err(RecvError::Lagged(count)) => skipped(count, &host, clock.now().unix_ms),
                Err(RecvError::Closed) => return,
            },
            () = reply.closed() => return,
        };
        if reply.send(Reply::Events(vec![row])).await.is_err() {
            return;
        }
    }
}

fn skipped(count: u64, host: &Name, unix_ms: u64) -> EventRow {
    EventRow {
        unix_ms,
        host: host.to_string(),
        kind: SKIPPED_KIND.to_owned(),
        project: None,
        vm: None,
        rule: None,
        status: None,
        text: format!("{count} events are left out here, because they were not read in time"),
    }
}

/// Whether an event is of this project; each is of none in particular.
fn is_of(row: &EventRow, project: Option<&ProjectRef>) -> bool {
    let Some(wanted) = project else { return true };
    let Some((owner, name)) = row.project.as_deref().and_then(|project| project.split_once('/')) else {
        return false;
    };
    name == wanted.project.as_str() && wanted.owner.as_ref().is_none_or(|wanted| owner == wanted.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::BEHIND_MAX;

    fn row(text: &str, project: Option<&str>) -> EventRow {
        let host = Name::parse("oslo").expect("a name");
        EventRow {
            kind: "ready".to_owned(),
            project: project.map(str::to_owned),
            text: text.to_owned(),
            ..skipped(0, &host, 0)
        }
    }

    #[tokio::test]
    async fn a_reader_who_is_behind_is_told_how_much_was_left_out() {
        let (feed, receiver) = tokio::sync::broadcast::channel(BEHIND_MAX);
        let (reply, mut replies) = ReplySender::channel();
        for number in 0..BEHIND_MAX + 3 {
            feed.send(row(&number.to_string(), None)).expect("the receiver is there");
        }
        let host = Name::parse("oslo").expect("a name");
        let following = tokio::spawn(follow(receiver, reply, None, host, Clock::start()));
        let mut next = async || match replies.recv().await {
            Some(Reply::Events(rows)) => (rows[0].kind.clone(), rows[0].text.clone()),
            other => panic!("{other:?}"),
        };
        let (kind, text) = next().await;
        assert!(kind == SKIPPED_KIND && text.starts_with("3 events"), "{text}");
        assert_eq!(next().await, ("ready".to_owned(), "3".to_owned()));
        drop(feed);
        while replies.recv().await.is_some() {}
        following.await.expect("it ends when the log is closed");
    }

    #[test]
    fn a_project_is_told_by_its_name_and_where_it_is_said_by_its_owner() {
        let wanted = |text: &str| ProjectRef::parse(text).expect("a project");
        let of_anna = row("", Some("anna/ring"));
        assert!(is_of(&of_anna, Some(&wanted("ring"))) && is_of(&of_anna, Some(&wanted("anna/ring"))));
        assert!(!is_of(&of_anna, Some(&wanted("bob/ring"))) && !is_of(&of_anna, Some(&wanted("rin"))));
        assert!(!is_of(&row("", None), Some(&wanted("ring"))) && is_of(&row("", None), None));
    }
}
