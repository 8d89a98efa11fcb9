//! The one task that owns the node: everything that happens to this host comes in here, in one order.
//!
//! It carries inputs to [`Node::handle`] and outputs to [`super::effect`]; what is decided, is decided there.
//!
//! ```text
//!  control ──► request ─┐                 ┌─► effect ──► mesh, store, platform, switches, replies
//!  mesh ───────────────►│─► Node::handle ─┤
//!  platform ───────────►│                 └─► (what we say to ourselves comes in again)
//!  store, steps ───────►┘
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use mln_protocol::id::{Label, Name, PublicKey, VmId};
use mln_protocol::node::{Input, Message, Node};
use mln_protocol::trust::{Role, Standing, admit, standing_of};
use mln_protocol::wire;
use tokio::sync::mpsc;
use tokio::time::sleep_until;
use tracing::{debug, error, info, warn};

use crate::blob::Blobs;
use crate::causes::chain;
use crate::clock::Clock;
use crate::control::{self, ControlCommand, Operator, Origin, Verbs};
use crate::disk::transfer::{Moving, Transfers, Works};
use crate::doctor::Place;
use crate::events::{Deriver, Event, EventLog};
use crate::export::{Brought, Imports};
use crate::hook::HookRunner;
use crate::identity::Identity;
use crate::image::exchange::{Exchange, FetchProgress, ServeError};
use crate::mesh::{GossipVerdict, MeshEvent, MeshHandle, StreamKind};
use crate::operations::Operations;
use crate::platform::{Platform, VmEvent};
use crate::request::{
    GuestOver, GuestPlanned, GuestPrepared, Guests, OwnPart, Prepared, PreparedChange, Seen, Waiters,
};
use crate::snapshot::Snapshots;
use crate::store::{AddressBook, StoreNews, Writer};
use crate::store_health::StoreHealth;
use crate::switches::Switches;
use crate::version::VERSION;

/// How many results of work in the background may wait.
pub(crate) const RESULTS_MAX: usize = 1024;

/// All that the agent of a host is made of.
#[derive(Debug)]
pub(crate) struct EventLoop {
    pub(crate) node: Node,
    pub(crate) clock: Clock,
    pub(crate) identity: Arc<Identity>,
    pub(crate) mesh: MeshHandle,
    pub(crate) book: AddressBook,
    pub(crate) writer: Writer,
    pub(crate) platform: Arc<dyn Platform>,
    pub(crate) exchange: Exchange,
    pub(crate) transfers: Transfers,
    /// What is done with the drives of VMs.
    pub(crate) works: Works,
    pub(crate) snapshots: Snapshots,
    pub(crate) blobs: Blobs,
    pub(crate) hooks: HookRunner,
    pub(crate) switches: Switches,
    pub(crate) operations: Operations,
    /// What is an event.
    pub(crate) deriver: Deriver,
    pub(crate) events: EventLog,
    /// What `doctor` looks at.
    pub(crate) place: Place,
    /// How the store fares.
    pub(crate) store: StoreHealth,
    pub(crate) waiters: Waiters,
    /// The VMs of this host that ask something themselves.
    pub(crate) guests: Guests,
    pub(crate) connected: BTreeSet<PublicKey>,
    /// What the hosts may do that are connected: by that it is judged what they pass on.
    pub(crate) standings: BTreeMap<PublicKey, Verbs>,
    /// Builds whose files and passwords are being prepared: contents without a project are not yet superfluous.
    pub(crate) preparing: usize,
    /// What imports have brought that somebody may still want from here.
    pub(crate) imports: Imports,
    /// Results of work in the background.
    pub(crate) results: mpsc::Sender<Work>,
    /// Requests that come over streams of other agents join those of the socket.
    pub(crate) commands: mpsc::Sender<ControlCommand>,
    /// What this node says to itself.
    pub(crate) own: VecDeque<Input>,
}

/// Where everything comes from.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) commands: mpsc::Receiver<ControlCommand>,
    pub(crate) mesh: mpsc::Receiver<MeshEvent>,
    pub(crate) platform: mpsc::Receiver<VmEvent>,
    pub(crate) results: mpsc::Receiver<Work>,
    pub(crate) stop: tokio::signal::unix::Signal,
    pub(crate) interrupt: tokio::signal::unix::Signal,
}

/// What comes of work in the background.
#[derive(Debug)]
pub(crate) enum Work {
    /// Something for the node.
    Input(Box<Input>),
    /// A build whose source is understood, or not.
    Prepared(Box<Prepared>),
    /// A change whose text is understood, or not.
    PreparedChange(Box<PreparedChange>),
    /// A change that a VM wants, whose text is made, or not.
    GuestPrepared(Box<GuestPrepared>),
    /// What came of such a change.
    GuestOver(Box<GuestOver>),
    /// What would come of a change that a VM only thinks of.
    GuestPlanned(Box<GuestPlanned>),
    /// What the policies of a VM see is found out.
    Seen(Box<Seen>),
    /// All have said what they have to say to a change that is only thought of.
    Planned,
    /// An image for a VM of this host is being fetched.
    Fetching(Box<Fetching>),
    /// The disk of a VM comes to this host.
    Moving(Box<Moving>),
    /// The disk of a VM does not come to this host.
    NotMoved(Box<NotMoved>),
    /// Somebody has waited for VMs for as long as they wanted to: who, and for how long, in milliseconds.
    WaitOver { number: u64, ms: u64 },
    /// How the store fares.
    Store(StoreNews),
    /// A step for a snapshot that this agent has asked itself for.
    Snapshot(Box<OwnPart>),
    /// An import has come to its end, one way or the other, having brought this; none where it came to nothing before.
    Imported(Box<(Label, Option<Brought>)>),
}

/// How far the fetch of an image is that a VM of this host waits for.
#[derive(Debug)]
pub(crate) struct Fetching {
    /// The VM.
    pub(crate) vm: Name,
    /// Its project.
    pub(crate) label: Label,
    /// How far it is.
    pub(crate) progress: FetchProgress,
}

/// A disk that does not come to this host; it is tried again.
#[derive(Debug)]
pub(crate) struct NotMoved {
    /// Whose.
    pub(crate) vm: VmId,
    /// Its project.
    pub(crate) label: Label,
    /// Why not.
    pub(crate) why: String,
}

/// Why the agent ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ending {
    /// The mesh's task has ended; a bug.
    #[error("the network part of the agent has ended")]
    Mesh,
}

impl EventLoop {
    /// Runs until it is told to stop.
    pub(crate) async fn run(
        mut self,
        mut sources: Sources,
        first: Input,
        early: Vec<VmEvent>,
    ) -> Result<(), Ending> {
        let started = self.deriver.started(self.clock.now().unix_ms, VERSION);
        self.events.note(started);
        self.note_findings();
        self.handle(first).await;
        for event in early {
            self.vm_event(event).await;
        }
        loop {
            let timeout = self.node.poll_timeout().map(|due_ms| self.clock.instant(due_ms));
            // Every arm is cancel-safe: channels' receive, a timer and signals lose nothing.
            tokio::select! {
                Some(work) = sources.results.recv() => match work {
                    Work::Input(input) => self.handle(*input).await,
                    Work::Prepared(prepared) => self.build_prepared(*prepared).await,
                    Work::PreparedChange(prepared) => self.change_prepared(*prepared).await,
                    Work::GuestPrepared(prepared) => self.guest_prepared(*prepared).await,
                    Work::GuestOver(over) => self.guest_over(*over),
                    Work::GuestPlanned(planned) => self.guest_planned(*planned),
                    Work::Seen(seen) => self.seen(*seen),
                    Work::Planned => self.work_over(),
                    Work::Imported(imported) => self.imported(*imported),
                    Work::Fetching(fetching) => {
                        self.operations.fetching(&fetching, &self.identity.name);
                    }
                    Work::Moving(moving) => {
                        let Moving { vm, label, .. } = &*moving;
                        self.operations.moving(vm, label, &moving.to_string(), &self.identity.name);
                    }
                    Work::NotMoved(failed) => self.not_moved(&failed),
                    Work::WaitOver { number, ms } => self.wait_over(number, ms),
                    Work::Store(news) => self.store_news(news).await,
                    Work::Snapshot(own) => self.own_snapshot_part(*own),
                },
                Some(event) = sources.platform.recv() => self.vm_event(event).await,
                event = sources.mesh.recv() => match event {
                    Some(event) => self.mesh_event(event).await,
                    None => return Err(Ending::Mesh),
                },
                Some(command) = sources.commands.recv() => self.request(command).await,
                () = sleep_until(timeout.unwrap_or_else(far_future)), if timeout.is_some() => {
                    self.handle(Input::Timeout).await;
                }
                _ = sources.stop.recv() => break,
                _ = sources.interrupt.recv() => break,
            }
        }
        info!("stopping; virtual machines run on");
        self.mesh.stop().await;
        Ok(())
    }

    /// Gives the node one input, and carries out all that follows from it.
    pub(crate) async fn handle(&mut self, input: Input) {
        self.own.push_back(input);
        while let Some(input) = self.own.pop_front() {
            self.node.handle(self.clock.now(), input);
            // Before anything is done that may stop who is to be told.
            self.tell_guests();
            while let Some(output) = self.node.poll_output() {
                self.note_output(&output);
                self.effect(output).await;
            }
        }
        self.settle_imports();
        self.answer_waiters();
    }

    fn note_output(&mut self, output: &mln_protocol::node::Output) {
        let (node, now) = (&self.node, self.clock.now().unix_ms);
        let asker = match output {
            mln_protocol::node::Output::Done { op, .. } => self.operations.asker(*op),
            _ => None,
        };
        for event in self.deriver.output(output, now, &|of| node.label(of.project(|vm| node.vm_project(vm))?))
        {
            self.events.note(match asker {
                Some(asker) => asker.names(event),
                None => event,
            });
        }
    }

    /// Keeps what the deriver makes of something, if it is an event.
    pub(crate) fn note(&mut self, derive: impl FnOnce(&mut Deriver, u64) -> Option<Event>) {
        if let Some(event) = derive(&mut self.deriver, self.clock.now().unix_ms) {
            self.events.note(event);
        }
    }

    async fn mesh_event(&mut self, event: MeshEvent) {
        match event {
            MeshEvent::Connected { peer, standing } => {
                let name = standing.name.as_ref().map_or_else(|| peer.short(), ToString::to_string);
                info!(peer = %name, "connected");
                self.connected.insert(peer);
                self.standings.insert(peer, standing.verbs.iter().copied().collect());
                self.note(|deriver, now| Some(deriver.connected(peer, now)));
                self.switches.connected(peer).await;
                self.handle(Input::Connected(peer)).await;
            }
            MeshEvent::Disconnected { peer } => {
                info!(peer = %peer.short(), "disconnected");
                self.connected.remove(&peer);
                self.standings.remove(&peer);
                self.note(|deriver, now| Some(deriver.disconnected(peer, now)));
                self.handle(Input::Disconnected(peer)).await;
            }
            MeshEvent::Gossip { from, id, bytes } => self.gossip(from, id, &bytes).await,
            MeshEvent::Message { from, bytes } => self.message(from, &bytes).await,
            MeshEvent::Stream { from, kind, header, stream } => match kind {
                StreamKind::Trunk => {
                    if !self.switches.accept(from, &header, stream).await {
                        let _ = self.mesh.report_misbehaviour(from, "a trunk for no switch").await;
                    }
                }
                StreamKind::Bulk => {
                    let blobs = self.blobs.clone();
                    tokio::spawn(async move {
                        if let Err(error) = blobs.serve(&header, stream).await {
                            debug!(%error, "a file was not handed over");
                        }
                    });
                }
                StreamKind::Image => {
                    let (exchange, mesh) = (self.exchange.clone(), self.mesh.clone());
                    tokio::spawn(async move {
                        if let Err(error) = exchange.serve(from, &header, stream).await {
                            debug!(peer = %from.short(), error = chain(&error), "an image was not handed over");
                            if let ServeError::Ask(_) | ServeError::NoSuchChunk { .. } = error {
                                let _ = mesh
                                    .report_misbehaviour(from, "a question about images that is none")
                                    .await;
                            }
                        }
                    });
                }
                StreamKind::Disk => self.disk_stream(from, &header, stream),
                StreamKind::Inventory => {
                    let exchange = self.exchange.clone();
                    tokio::spawn(async move {
                        if let Err(error) = exchange.tell_inventory(&header, stream).await {
                            debug!(peer = %from.short(), error = chain(&error), "what is here of an image was not told");
                        }
                    });
                }
                StreamKind::Control => self.control_stream(from, &header, stream),
            },
            MeshEvent::Operator { key, standing, stream } => {
                self.operator_stream(key, standing, stream).await;
            }
            MeshEvent::Discovered { peer } => {
                // Whatever is seen on the network, only those are tried whose grants somebody has judged before.
                if self.node.hosts().iter().any(|host| host.key == peer) {
                    let _ = self.mesh.learn(peer, Vec::new()).await;
                }
            }
            MeshEvent::JoinRequest { role, name, key, grants, reply } => {
                // An operator's name is the owner of what they build, and no host's.
                let taken = role == Role::Host && self.node.name_taken(&name, key);
                let revoked = grants.into_iter().any(|grant| self.node.revocation(grant).is_some());
                let verdict = if revoked {
                    Err(wire::Refusal::Revoked)
                } else if taken {
                    Err(wire::Refusal::NameTaken)
                } else {
                    info!(%name, ?role, key = %key.short(), "joins");
                    self.note(|deriver, now| Some(deriver.admitted(&name, now)));
                    Ok(())
                };
                // The joiner has gone if it doesn't hear this; joining again is safe.
                let _ = reply.send(verdict);
            }
            MeshEvent::Refused { peer, addr, by, reason } => {
                warn!(peer = %peer.short(), %addr, ?by, %reason, "refused");
                self.note(|deriver, now| deriver.stranger(peer, reason, now));
            }
            MeshEvent::Listening { addr } => info!(%addr, "listening"),
            MeshEvent::AddressBook { entries } => {
                if let Err(error) = self.book.save(&entries) {
                    warn!(%error, "the addresses of peers could not be saved");
                }
            }
        }
    }

    async fn gossip(&mut self, from: PublicKey, id: crate::mesh::GossipId, bytes: &[u8]) {
        let record = mln_protocol::trust::Signed::from_bytes(bytes)
            .map_err(wire::RecordError::from)
            .and_then(|signed| wire::verify_record(signed, self.identity.root));
        let verdict = match &record {
            Ok(_) => GossipVerdict::Accept,
            // Of a newer host: it goes by others, and whoever passed it on did nothing wrong.
            Err(error) if error.is_of_another_version() => {
                debug!(peer = %from.short(), %error, "gossip is not understood");
                GossipVerdict::Ignore
            }
            Err(error) => {
                warn!(peer = %from.short(), %error, "gossip is dropped");
                GossipVerdict::Reject
            }
        };
        // The mesh's task has ended only if the loop is about to.
        let _ = self.mesh.judge_gossip(from, id, verdict).await;
        if let Ok(record) = record {
            self.handle(Input::Record(record)).await;
        }
    }

    async fn message(&mut self, from: PublicKey, bytes: &[u8]) {
        match wire::decode_message(bytes, self.identity.root) {
            Ok(message) => {
                let node = &self.node;
                self.deriver.asked(from, &message, |vm| {
                    Some((node.ownership(vm)?.clone(), node.label(node.vm_project(vm)?)?))
                });
                self.handle(Input::Message { from, message }).await;
            }
            Err(error) if error.is_of_another_version() => {
                debug!(peer = %from.short(), %error, "a message is not understood");
            }
            Err(error) => {
                warn!(peer = %from.short(), %error, "a message is dropped");
                let _ = self.mesh.report_misbehaviour(from, "a message that is not one").await;
            }
        }
    }

    /// Serves an operator of another agent, who asked for something that only this host can do.
    fn control_stream(&self, from: PublicKey, header: &[u8], stream: crate::mesh::MeshStream) {
        // The name, and behind a zero byte the grants of whoever has some of their own.
        let (name, chain) = match header.iter().position(|byte| *byte == 0) {
            Some(end) => (&header[..end], Some(&header[end + 1..])),
            None => (header, None),
        };
        let name = std::str::from_utf8(name).ok().and_then(|text| mln_protocol::id::Name::parse(text).ok());
        let standing = chain.map(|chain| {
            let links = wire::decode_chain(chain).ok()?;
            let named = standing_of(self.identity.root, &links).ok()?;
            let standing = admit(self.identity.root, &links, named.subject, self.clock.now()).ok()?;
            (standing.name.as_ref() == name.as_ref()).then(|| Arc::new(standing))
        });
        let (Some(name), None | Some(Some(_))) = (name, &standing) else {
            warn!(peer = %from.short(), "a control stream without an operator, or with grants that don't hold, is dropped");
            return;
        };
        let operator = Operator { name, origin: Origin::Peer { key: from }, standing: standing.flatten() };
        tokio::spawn(control::serve(stream, operator, self.commands.clone()));
    }

    /// Serves an operator who came with a key and grants of their own.
    async fn operator_stream(&mut self, key: PublicKey, standing: Standing, stream: crate::mesh::MeshStream) {
        // Judged at the door already; who has no name there is not let in.
        let Ok(name) = standing.operator().cloned() else { return };
        self.handle(Input::GrantSeen(standing.chain())).await;
        let verbs = standing.verbs.iter().copied().collect();
        let origin = Origin::Operator { key, verbs };
        let operator = Operator { name, origin, standing: Some(Arc::new(standing)) };
        tokio::spawn(control::serve(stream, operator, self.commands.clone()));
    }

    /// Brings a message to a peer; to ourselves without a network.
    pub(crate) async fn send(&mut self, to: PublicKey, message: Message) {
        if to == self.node.key() {
            self.own.push_back(Input::Message { from: to, message });
            return;
        }
        let awaits_answer = matches!(message, Message::Ask { .. } | Message::Ballot { .. } | Message::Run(_));
        if awaits_answer && !self.connected.contains(&to) {
            self.own.push_back(Input::Unreachable(to));
            // It is not sent as well: a peer that is just connecting would take it after all, and hold room for
            // what its author has given up. The mesh tries to reach it at once.
            let _ = self.mesh.hurry(to).await;
            return;
        }
        // Also to one that is away: the mesh tries to reach it at once.
        if let Err(error) = self.mesh.send(to, wire::encode_message(&message)).await {
            error!(%error, "a message was not sent");
        }
    }

    /// Lets a task that works in the background report to the node.
    pub(crate) fn spawn(&self, work: impl Future<Output = Input> + Send + 'static) {
        let results = self.results.clone();
        tokio::spawn(async move {
            // The loop has ended if nobody listens.
            let _ = results.send(Work::Input(Box::new(work.await))).await;
        });
    }

    /// Broadcasts a record to everybody.
    pub(crate) async fn broadcast(&self, record: &mln_protocol::record::VerifiedRecord) {
        if let Err(error) = self.mesh.broadcast(record.signed().to_bytes()).await {
            error!(%error, "a record was not gossiped");
        }
    }
}

fn far_future() -> tokio::time::Instant {
    tokio::time::Instant::now() + std::time::Duration::from_secs(3600)
}
