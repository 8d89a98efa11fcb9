//! `grant` and `revoke`: signing with the key of this host, and telling everybody of what others have signed.

use std::collections::BTreeSet;
use std::sync::Arc;

use mln_door::dial::without_peer;
use mln_door::key::peer_id_of;
use mln_link::Reply;
use mln_link::message::{GrantOrder, GrantRow, Granted, Revoke, RevokedRow};
use mln_protocol::id::{Digest, Name, PublicKey};
use mln_protocol::node::{Input, Node};
use mln_protocol::record::Record;
use mln_protocol::trust::{
    GrantOrder as Order, HostPattern, Limits, PATTERNS_MAX, PatternError, ProjectPattern, Scope, Signed,
    Standing, issue, standing_of,
};
use mln_protocol::wire::{self, GrantText, HELLO_ADDRESSES_MAX};

use super::{answer, failure, refusal};
use crate::causes::chain;
use crate::control::{Operator, Origin, ReplySender, Verbs};
use crate::event_loop::EventLoop;

/// How many revocations of one who is no host a host takes: each goes to everybody and is kept for ever.
const REVOCATIONS_MAX: usize = 1024;

/// How long the text of a reason may be, in bytes.
const REASON_BYTES_MAX: usize = 400;

impl EventLoop {
    /// Signs a grant with the key of this host.
    pub(super) async fn request_grant(&mut self, order: GrantOrder, asked_by: &Operator, reply: ReplySender) {
        if let Some(refused) = not_of_this_host(asked_by, "mlnctl grant") {
            return answer(&reply, [refused]);
        }
        let order = match order_of(&self.node, &order) {
            Ok(order) => order,
            Err(wrong) => return answer(&reply, [*wrong]),
        };
        let (identity, now) = (Arc::clone(&self.identity), self.clock.now());
        let issued = match issue(&identity.keys, identity.root, &identity.chain, &order, now) {
            Ok(issued) => issued,
            Err(error) => {
                let change = "whoever gave the grant of this host; at another host it may be wider";
                return answer(&reply, [refusal("grant", chain(&error), Some(change))]);
            }
        };
        self.handle(Input::GrantSeen(issued.clone())).await;
        let Ok(standing) = standing_of(identity.root, &issued) else {
            let why = "what was signed does not hold".to_owned();
            return answer(&reply, [failure("granting", why, &[])]);
        };
        let row = row(&self.node, &standing);
        let (mesh, own) = (self.mesh.clone(), self.node.key());
        tokio::spawn(async move {
            let peer = peer_id_of(own);
            let listeners = mesh.listeners().await.into_iter().take(HELLO_ADDRESSES_MAX);
            let addresses = listeners
                .filter_map(|address| Some(without_peer(address).with_p2p(peer?).ok()?.to_string()))
                .collect();
            let text = GrantText { root: identity.root, chain: issued, addresses }.to_text();
            answer(&reply, [Reply::Granted(Box::new(Granted { text, row }))]);
        });
    }

    /// Lists the grants of people, as far as they were used or made where everybody heard of them; and those of hosts,
    /// which have the verb `join`.
    pub(super) fn request_grants(&self, reply: &ReplySender) {
        let hosts = self.node.hosts();
        let hosts = hosts.iter().filter_map(|host| self.node.member_standing(host.key));
        let all = self.node.grants().into_iter().chain(hosts);
        let rows = all.map(|standing| row(&self.node, &standing)).collect();
        if reply.post_rows(rows, Reply::Grants).is_ok() {
            answer(reply, []);
        }
    }

    /// Takes back what somebody has, with the key of this host.
    pub(super) async fn request_revoke(&mut self, revoke: Revoke, asked_by: &Operator, reply: ReplySender) {
        if let Some(refused) = not_of_this_host(asked_by, "mlnctl revoke") {
            return answer(&reply, [refused]);
        }
        let found = named(&self.node, &revoke.whom);
        if found.is_empty() {
            let text = format!("nobody here knows a grant of {}", revoke.whom);
            return answer(
                &reply,
                [refusal("no-such-grant", text, Some("you: mlnctl grant list names them"))],
            );
        }
        let own = self.node.key();
        let (ours, others): (Vec<Standing>, Vec<Standing>) =
            found.into_iter().partition(|standing| standing.links.iter().any(|link| link.issuer == own));
        let mut replies = Vec::new();
        for standing in &ours {
            let reason: String = revoke.reason.chars().take(REASON_BYTES_MAX).collect();
            self.handle(Input::Revoke { chain: standing.chain(), reason }).await;
            replies.push(row(&self.node, standing));
        }
        let mut replies = vec![Reply::Grants(replies)];
        for standing in &others {
            let issuers: Vec<String> =
                standing.links.iter().skip(1).map(|link| called(&self.node, link.issuer)).collect();
            let text = format!("this host signed nothing on the way to the grant of {}", revoke.whom);
            let change = format!(
                "{}; or whoever has the mesh's root key: mlnctl revoke --root-key FILE",
                if issuers.is_empty() { "nobody else".to_owned() } else { issuers.join(", ") }
            );
            replies.push(refusal("grant", text, Some(&change)));
        }
        answer(&reply, replies);
    }

    /// Tells everybody of a revocation that an operator, or the holder of the root key, has signed.
    pub(super) async fn request_revocation(&mut self, bytes: &[u8], reply: ReplySender) {
        let root = self.identity.root;
        let record = Signed::from_bytes(bytes)
            .map_err(wire::RecordError::from)
            .and_then(|signed| wire::verify_record(signed, root));
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                let change = "whoever signed a grant on the way to that one, or has the mesh's root key";
                return answer(&reply, [refusal("grant", chain(&error), Some(change))]);
            }
        };
        let Record::Revocation(revocation) = &**record else {
            let text = "what was signed is no revocation".to_owned();
            return answer(&reply, [refusal("grant", text, None)]);
        };
        let author = record.author();
        let many = self.node.revocations().filter(|(by, _)| *by == author).count() >= REVOCATIONS_MAX;
        if many && author != root {
            let text = format!("{} has revoked {REVOCATIONS_MAX} grants already", author.short());
            let change = "whoever gave you yours, by revoking that; or a host that signed it";
            return answer(&reply, [refusal("grant", text, Some(change))]);
        }
        let standing = standing_of(root, &revocation.chain).ok();
        self.handle(Input::RevokedBy(record.clone())).await;
        let rows = standing.iter().map(|standing| row(&self.node, standing)).collect();
        answer(&reply, [Reply::Grants(rows)]);
    }
}

/// Refuses to sign with this host's key for somebody who has one of their own.
fn not_of_this_host(asked_by: &Operator, command: &str) -> Option<Reply> {
    match asked_by.origin {
        Origin::Socket { .. } => None,
        Origin::Operator { .. } | Origin::Peer { .. } => {
            let text = "this is signed with your own key, behind your own grants, and not with this host's";
            let change = format!("you: {command}, of the same version as the agent");
            Some(refusal("grant", text.to_owned(), Some(&change)))
        }
    }
}

fn order_of(node: &Node, order: &GrantOrder) -> Result<Order, Box<Reply>> {
    let unclear = |text: String| Box::new(refusal("grant-order", text, Some("you, by other arguments")));
    let known: Vec<Standing> =
        node.grants().into_iter().filter(|standing| is_meant(standing, &order.to)).collect();
    let subjects: BTreeSet<PublicKey> = known.iter().map(|standing| standing.subject).collect();
    let subject = match (PublicKey::from_hex(&order.to), subjects.len()) {
        (Some(key), _) => key,
        (None, 1) => known[0].subject,
        (None, 0) => {
            let to = &order.to;
            return Err(unclear(format!(
                "{to} has no grant yet: name the key that `mlnctl key` prints there"
            )));
        }
        (None, several) => {
            return Err(unclear(format!("{several} keys have the name {}: name the key", order.to)));
        }
    };
    let held = node.grants().into_iter().find(|standing| standing.subject == subject);
    let name = order.name.clone().or_else(|| held.and_then(|standing| standing.name));
    let name = name.ok_or_else(|| unclear("a new key needs a name: --name OWNER".to_owned()))?;
    let taken = node.grants().iter().any(|one| one.name.as_ref() == Some(&name) && one.subject != subject);
    if taken {
        return Err(unclear(format!("{name} is the name of another key; choose another one")));
    }
    let scope = scope_of(order).map_err(|error| unclear(error.to_string()))?;
    if scope.projects.len() > PATTERNS_MAX || scope.hosts.len() > PATTERNS_MAX {
        return Err(unclear(format!(
            "a grant names at most {PATTERNS_MAX} patterns of projects, or of hosts"
        )));
    }
    let verbs = Verbs::of_bits(order.verbs).iter().collect();
    Ok(Order { subject, name, verbs, passes: order.passes, valid_ms: order.valid_ms, scope })
}

fn scope_of(order: &GrantOrder) -> Result<Scope, PatternError> {
    Ok(Scope {
        projects: order.projects.iter().map(|text| ProjectPattern::parse(text)).collect::<Result<_, _>>()?,
        hosts: order.hosts.iter().map(|text| HostPattern::parse(text)).collect::<Result<_, _>>()?,
        limits: Limits { memory_mib: order.memory_mib, vms: order.vms, disk_bytes: order.disk_bytes },
    })
}

/// Whether somebody is meant by a name or a key, or a grant by the beginning of its digest.
fn is_meant(standing: &Standing, whom: &str) -> bool {
    let by_name = standing.name.as_ref().is_some_and(|name| name.as_str() == whom);
    by_name || standing.subject.to_string() == whom
}

/// Returns the grants that are meant: of people, or of a host.
fn named(node: &Node, whom: &str) -> Vec<Standing> {
    const DIGITS_MIN: usize = 8;
    let by_digest = |standing: &Standing| {
        let id = standing.links.last().map(|link| link.digest.to_string());
        whom.len() >= DIGITS_MIN && id.is_some_and(|id| id.starts_with(whom))
    };
    let people = node.grants().into_iter();
    let hosts = node.hosts().into_iter().filter_map(|host| node.member_standing(host.key));
    people.chain(hosts).filter(|standing| is_meant(standing, whom) || by_digest(standing)).collect()
}

/// Returns what people call a key.
fn called(node: &Node, key: PublicKey) -> String {
    let host = node.hosts().into_iter().find(|host| host.key == key).map(|host| host.name);
    let person = || node.grants().into_iter().find(|one| one.subject == key).and_then(|one| one.name);
    let name: Option<Name> = host.or_else(person);
    name.map_or_else(|| key.to_string(), |name| name.to_string())
}

fn row(node: &Node, standing: &Standing) -> GrantRow {
    let last = standing.links.last();
    let revoked = standing.links.iter().find_map(|link| revoked_row(node, link.digest));
    // The first that ends, and the least of each limit: what it comes to.
    let least = |of: fn(&Limits) -> Option<u64>| {
        standing.links.iter().filter_map(|link| of(&link.grant.scope.limits)).min()
    };
    let scopes = || standing.links.iter().rev().map(|link| &link.grant.scope);
    let projects = scopes().find(|scope| !scope.projects.is_empty());
    let hosts = scopes().find(|scope| !scope.hosts.is_empty());
    GrantRow {
        id: last.map(|link| link.digest.to_string()).unwrap_or_default(),
        name: standing.name.as_ref().map_or_else(|| standing.subject.short(), Name::to_string),
        key: standing.subject.to_string(),
        issuer: last.map(|link| called(node, link.issuer)).unwrap_or_default(),
        verbs: standing.verbs.iter().fold(0, |bits, verb| bits | verb.bit()),
        projects: projects.iter().flat_map(|scope| &scope.projects).map(ToString::to_string).collect(),
        hosts: hosts.iter().flat_map(|scope| &scope.hosts).map(ToString::to_string).collect(),
        memory_mib: least(|limits| limits.memory_mib),
        vms: least(|limits| limits.vms),
        disk_bytes: least(|limits| limits.disk_bytes),
        ends_unix_ms: standing.not_after_unix_ms,
        passes: standing.passes,
        revoked,
        chain: wire::encode_chain(&standing.chain()),
    }
}

fn revoked_row(node: &Node, grant: Digest) -> Option<RevokedRow> {
    let record = node.revocation(grant)?;
    let Record::Revocation(revocation) = &**record else { return None };
    Some(RevokedRow {
        by: called(node, record.author()),
        unix_ms: revocation.made_unix_ms,
        reason: revocation.reason.clone(),
    })
}
