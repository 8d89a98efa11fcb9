//! `plan`: every host that a change concerns is asked what it would answer, and nothing is reserved for it.

use std::sync::Arc;
use std::time::Duration;

use mln_link::message::{Consider, Plan, PlanRow, PlanSign, Request, Silence};
use mln_link::{Client, Reply};
use mln_protocol::id::{Label, Name, PublicKey, VmId};
use mln_protocol::model::Fragment;
use mln_protocol::node::{Ask, HostRefusal, Inquiry, Intention, Message, Refusal, ReviseContent, Rule};
use mln_protocol::plan::{Act, Effect, Row, Sign};
use mln_protocol::record::Consent;
use mln_protocol::trust::Verified;
use mln_protocol::wire;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::texts::Texts;
use super::{answer, exec, refusal};
use crate::causes::chain;
use crate::control::{Operator, Origin, ReplySender};
use crate::effect::check_part;
use crate::event_loop::{EventLoop, Work};
use crate::moving::ArrivalCheck;
use crate::operations::refused;
use crate::part_change::PartChange;
use crate::platform::Platform;

/// How long a host may take for its answer. It may have to ask others for a template.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// What a host has answered.
struct HostAnswer {
    host: Name,
    rows: Vec<PlanRow>,
    /// Refusals, and whatever else isn't a row.
    others: Vec<Reply>,
}

impl EventLoop {
    /// Asks all whom a change concerns, and answers with what they say, and with what both texts tell, where they are known.
    pub(super) fn plan(
        &mut self,
        label: Label,
        intention: &Intention,
        operator: &Operator,
        reply: ReplySender,
        texts: Option<Texts>,
    ) {
        let inquiries = match self.node.inquiries(self.clock.now(), intention, operator.standing.as_deref()) {
            Ok(inquiries) => inquiries,
            Err(refusals) => {
                answer(&reply, refusals.into_iter().map(refused));
                return self.work_over();
            }
        };
        let partial = matches!(intention, Intention::Revise(order) if order.consent == Consent::Partial);
        let head = self.head_of(&label);
        let asked =
            |inquiry: &&Inquiry| inquiry.host == self.node.key() || self.connected.contains(&inquiry.host);
        let mut hosts: Vec<Name> =
            inquiries.iter().filter(asked).map(|inquiry| inquiry.name.clone()).collect();
        if hosts.is_empty() {
            // None at all would say that nothing changes.
            hosts = inquiries.iter().map(|inquiry| inquiry.name.clone()).collect();
        }
        // A text says what people want now; what they go back to, or choose, may be older than a disk that has grown.
        let is_text = match intention {
            Intention::Revise(order) => matches!(order.content, ReviseContent::Definition { .. }),
            Intention::Build(_) | Intention::Guest(_) => false,
        };
        let plan = Plan { owner: label.owner, project: label.project, head, hosts };
        let (blobs, mesh) = (self.blobs.clone(), self.mesh.clone());
        let mut asked: JoinSet<HostAnswer> = JoinSet::new();
        for inquiry in inquiries {
            self.inquire(inquiry, operator.header(), partial, &mut asked);
        }
        let results = self.results.clone();
        tokio::spawn(async move {
            let mut answers = asked.join_all().await;
            answers.sort_by(|a, b| a.host.cmp(&b.host));
            let mut rows: Vec<PlanRow> = Vec::new();
            let mut others = Vec::new();
            for HostAnswer { rows: of_host, others: more, .. } in answers {
                of_host.into_iter().for_each(|row| add(&mut rows, row));
                others.extend(more);
            }
            if let Some(texts) = texts {
                let (whole, untold) = texts.complete(rows, &blobs, &mesh).await;
                rows = whole;
                others.extend(untold);
            }
            if is_text {
                others.extend(rows.iter().filter(|row| is_smaller_disk(row)).map(smaller_disk));
            }
            // Whoever has gone misses nothing.
            if reply.post(Reply::Plan(plan)).and_then(|()| reply.post_rows(rows, Reply::PlanRows)).is_ok() {
                answer(&reply, others);
            }
            // The loop has ended if nobody listens.
            let _ = results.send(Work::Planned).await;
        });
    }

    fn inquire(
        &mut self,
        inquiry: Inquiry,
        operator: Vec<u8>,
        partial: bool,
        asked: &mut JoinSet<HostAnswer>,
    ) {
        let Inquiry { host, name, message } = inquiry;
        if host == self.node.key() {
            if let Message::Ask { ask, fragment } = message {
                let considered = self.consider(&ask, fragment, None);
                asked.spawn(async move {
                    let (rows, refusal) = considered.await;
                    let others = refusal.map(|refusal| refused(by(&name, refusal))).into_iter().collect();
                    HostAnswer { rows, others, host: name }
                });
            }
            return;
        }
        if !self.connected.contains(&host) {
            let other = if partial {
                Reply::Warning { text: format!("{name} is off: its part stays as it is") }
            } else {
                let since = self.last_heard(host);
                let detail = format!(
                    "{name} is off{since}: its part can't be done, and nothing of it moves, until it is back"
                );
                refused(by(&name, Refusal { rule: Rule::HostOff, detail }))
            };
            asked.spawn(async move { HostAnswer { rows: Vec::new(), others: vec![other], host: name } });
            return;
        }
        let (mesh, bytes) = (self.mesh.clone(), wire::encode_message(&message));
        asked.spawn(async move {
            let request = Request::Consider(Consider { message: bytes });
            let conversation = async {
                let stream = exec::open(&mesh, host, &operator).await.map_err(|error| chain(&error))?;
                let client = Client::over(stream).await.map_err(|error| chain(&error))?;
                let (_input, mut replies) = client.request(&request).await.map_err(|error| chain(&error))?;
                let (mut rows, mut others) = (Vec::new(), Vec::new());
                while let Some(reply) = replies.next().await.map_err(|error| chain(&error))? {
                    match reply {
                        Reply::PlanRows(more) => rows.extend(more),
                        Reply::Done => break,
                        other => others.push(other),
                    }
                }
                Ok((rows, others))
            };
            let answered = match timeout(ANSWER_TIMEOUT, conversation).await {
                Ok(answered) => answered,
                Err(_) => Err(format!("it didn't answer for {} s", ANSWER_TIMEOUT.as_secs())),
            };
            match answered {
                Ok((rows, others)) => HostAnswer { host: name, rows, others },
                Err(why) => {
                    let text = format!("what it says to its part is not known: {why}");
                    let silence = Reply::Silent(Silence { host: name.clone(), text });
                    HostAnswer { host: name, rows: Vec::new(), others: vec![silence] }
                }
            }
        });
    }

    /// Answers another agent that asks what this host would say to its part of a change.
    pub(super) fn request_consider(&mut self, consider: &Consider, operator: &Operator, reply: ReplySender) {
        let asked = wire::decode_message(&consider.message, self.identity.root);
        let (ask, fragment, from) = match (asked, operator.origin) {
            (Ok(Message::Ask { ask, fragment }), Origin::Peer { key })
                if ask.author() == key && ask.host == self.node.key() =>
            {
                (ask, fragment, key)
            }
            _ => {
                let text = "this is no question of that host about a part of this one".to_owned();
                return answer(&reply, [refusal("malformed", text, None)]);
            }
        };
        let (name, considered) = (self.identity.name.clone(), self.consider(&ask, fragment, Some(from)));
        tokio::spawn(async move {
            let (rows, refusal) = considered.await;
            if reply.post_rows(rows, Reply::PlanRows).is_ok() {
                answer(&reply, refusal.map(|refusal| refused(by(&name, refusal))));
            }
        });
    }

    /// Returns what this host says to its part of a change: the rows, and why not, where it would refuse it.
    fn consider(
        &mut self,
        ask: &Arc<Verified<Ask>>,
        fragment: Option<Arc<Fragment>>,
        source: Option<PublicKey>,
    ) -> impl Future<Output = (Vec<PlanRow>, Option<Refusal>)> + Send + 'static {
        let considered = self.node.consider(self.clock.now(), ask, fragment);
        let host = self.identity.name.clone();
        let (platform, blobs) = (self.platform.clone(), self.blobs.clone());
        let (mesh, exchange, transfers) = (self.mesh.clone(), self.exchange.clone(), self.transfers.clone());
        let arriving = self.node.arrivals(ask.revision.parent, &considered.arriving);
        let mut leaving = self.node.arrivals(ask.revision.parent, &considered.leaving);
        leaving.retain(|(_, owner)| *owner == self.node.key());
        let names: Vec<Name> =
            considered.fragment.iter().flat_map(|part| &part.vms).map(|vm| vm.name.clone()).collect();
        let stay = self.node.arrivals(ask.revision.parent, &names);
        let stay: Vec<VmId> =
            stay.into_iter().filter(|(_, owner)| *owner == self.node.key()).map(|(vm, _)| vm).collect();
        async move {
            let change = PartChange {
                before: considered.before,
                arriving: considered.arriving,
                leaving: considered.leaving,
            };
            let mut rows = considered.rows;
            if let Some(fragment) = &considered.fragment {
                change.be_exact(&mut rows, &*platform, fragment, &stay).await;
            }
            let rows = rows.iter().map(|row| plan_row(&host, row));
            let rows = leaving_rows(&platform, &host, leaving).await.into_iter().chain(rows).collect();
            let mut verdict = considered.verdict;
            if let (Ok(()), Some(fragment)) = (&verdict, &considered.fragment) {
                verdict = change.judge(fragment);
                if verdict.is_ok() {
                    let arrivals =
                        ArrivalCheck { platform: &*platform, exchange: &exchange, transfers: &transfers };
                    verdict = check_part(&arrivals, &arriving, &blobs, &mesh, source, fragment).await;
                }
            }
            (rows, verdict.err())
        }
    }
}

/// Whether a host says that a disk is to be smaller than it is, which does nothing. One whose size is no longer said just stays.
fn is_smaller_disk(row: &PlanRow) -> bool {
    row.kind == "host"
        && row.key.as_deref() == Some("disk")
        && row.act == Act::Keep.word()
        && row.to.is_some()
}

/// Refuses that.
fn smaller_disk(row: &PlanRow) -> Reply {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Reply::Refused(mln_link::message::Refusal {
        host: row.hosts.first().cloned(),
        vm: row.name.clone(),
        rule: Rule::Disk.code().to_owned(),
        text: format!("a disk only grows: it has {}, and {} is less", text(&row.from), text(&row.to)),
        who_can_change: Some(
            "the author of the project: leave its size as it is; for a smaller disk, another host under another name, and \
             mlnctl cp for what is to be kept"
                .to_owned(),
        ),
    })
}

/// Returns a row for each VM that goes to another host: how much there is to be sent at most.
async fn leaving_rows(
    platform: &Arc<dyn Platform>,
    host: &Name,
    leaving: Vec<(VmId, PublicKey)>,
) -> Vec<PlanRow> {
    let (platform, host) = (platform.clone(), host.clone());
    let row = move |(vm, _): (VmId, PublicKey)| {
        let bytes = platform.disk(&vm).ok()?.bytes_on_disk().ok()?;
        Some(PlanRow {
            hosts: vec![host.clone()],
            sign: PlanSign::Moved,
            kind: "host".to_owned(),
            name: Some(vm.name),
            key: Some("disk".to_owned()),
            from: None,
            to: Some(format!("at most {:.1} MiB", bytes as f64 / f64::from(1 << 20))),
            act: Effect::Move.word().to_owned(),
            why: "what the new host has of it already is not sent again".to_owned(),
        })
    };
    // It only looks at files: where that is cut off, there is nothing to be said.
    tokio::task::spawn_blocking(move || leaving.into_iter().filter_map(row).collect())
        .await
        .unwrap_or_default()
}

fn by(host: &Name, refusal: Refusal) -> HostRefusal {
    HostRefusal { host: host.to_string(), refusal }
}

/// Adds a row, or another host to the one that says the same.
pub(super) fn add(rows: &mut Vec<PlanRow>, row: PlanRow) {
    let same = |known: &&mut PlanRow| {
        let PlanRow { hosts: _, sign, kind, name, key, from, to, act, why } = &row;
        (&known.sign, &known.kind, &known.name, &known.key) == (sign, kind, name, key)
            && (&known.from, &known.to, &known.act, &known.why) == (from, to, act, why)
            // A list may name the same line twice on one host.
            && known.hosts.iter().all(|host| !row.hosts.contains(host))
    };
    match rows.iter_mut().find(same) {
        Some(known) => known.hosts.extend(row.hosts),
        None => rows.push(row),
    }
}

pub(super) fn plan_row(host: &Name, row: &Row) -> PlanRow {
    PlanRow {
        hosts: vec![host.clone()],
        sign: match row.sign {
            Sign::Added => PlanSign::Added,
            Sign::Removed => PlanSign::Removed,
            Sign::Changed => PlanSign::Changed,
            Sign::Moved => PlanSign::Moved,
        },
        kind: row.subject.kind().to_owned(),
        name: row.subject.name().cloned(),
        key: row.key.clone(),
        from: row.from.clone(),
        to: row.to.clone(),
        act: row.act.word().to_owned(),
        why: row.why.to_owned(),
    }
}
