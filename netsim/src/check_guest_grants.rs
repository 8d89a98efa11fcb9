//! S4 for guests in projects that people have made on grants, written from `protocol.md`, "The right of a guest".
//!
//! "What the project takes of grants is what follows from all this. Where people made the project on their grants, what grows is
//! counted against these, and a host that gets a VM must be one of theirs; nothing comes or grows on grants that were revoked.
//! Where nobody's grants are behind the project, since a host's own user made it, a host that gets a VM, or of which more room
//! is taken, judges its coordinator's own grant: it needs `upgrade` on the project there."

use std::collections::{BTreeMap, BTreeSet};

use mln_protocol::id::{Digest, Name, PublicKey};
use mln_protocol::model::Fragment;
use mln_protocol::plan::PlacedHost;
use mln_protocol::record::{Charge, Commit, RecordKey, Revision};
use mln_protocol::trust::{Grant, Verb};

use crate::guest::Asker;
use crate::holder::Holder;
use crate::host::{Honesty, root_key};
use crate::world::World;

/// The parts of a project, each with its host.
type Parts = BTreeMap<PlacedHost, Fragment>;

/// Returns the grants on which projects are made, each by its digest.
pub(crate) fn grounds() -> BTreeMap<Digest, Grant> {
    let links = Holder::GROUNDS.into_iter().flat_map(|holder| holder.standing(&root_key()).links);
    links.map(|link| (link.digest, link.grant)).collect()
}

/// Returns how many VMs there are in some parts, and how much memory these have; disks of their own they have none.
fn taken_by<'p>(parts: impl Iterator<Item = &'p Fragment>) -> (u64, u64) {
    let vms = parts.flat_map(|part| &part.vms);
    vms.fold((0, 0), |(vms, memory), vm| (vms + 1, memory + u64::from(vm.memory.0)))
}

fn grows(before: (u64, u64), after: (u64, u64)) -> bool {
    after.0 > before.0 || after.1 > before.1
}

fn said(charge: &Charge) -> (u64, u64) {
    (charge.amount.vms, charge.amount.memory_mib)
}

/// Returns the VMs that a revision has on a host.
fn carried(revision: &Revision, host: PublicKey) -> BTreeSet<&Name> {
    revision.host(host).into_iter().flat_map(|part| &part.vms).map(|vm| &vm.name).collect()
}

/// Whether a revision brings a VM to a host.
fn comes(parent: &Commit, revision: &Revision, host: PublicKey) -> bool {
    !carried(revision, host).is_subset(&carried(&parent.revision, host))
}

impl World {
    /// Says what is wrong with what a revision says of grants, and with what is too much for them or elsewhere, whatever
    /// anybody knows of other projects.
    pub(crate) fn judge_ground(
        &self,
        revision: &Revision,
        parent: &Commit,
        parts: &Parts,
    ) -> Result<(), String> {
        let (before, after) = match (&parent.revision.charge, &revision.charge) {
            (None, None) => return Ok(()),
            (Some(before), Some(after)) => (before, after),
            (None, Some(_)) => return Err("it is made on grants of somebody who has not asked".to_owned()),
            (Some(_), None) => {
                return Err("it says nothing of the grants on which the project was made".to_owned());
            }
        };
        if (before.principal, &before.grants) != (after.principal, &after.grants) {
            return Err("it is made on other grants than the project".to_owned());
        }
        let all = taken_by(parts.values());
        if said(after) != all || after.amount.disk_bytes != 0 {
            return Err(format!(
                "it says that it takes {:?} of the grants, and it takes {all:?}",
                after.amount
            ));
        }
        for grant in self.links_of(after)? {
            let limits = grant.scope.limits;
            let over = |limit: Option<u64>, sum: u64| limit.is_some_and(|limit| sum > limit);
            if grows(said(before), all) && (over(limits.vms, all.0) || over(limits.memory_mib, all.1)) {
                return Err(format!("it takes {all:?} VMs and MiB of a grant for {limits:?}"));
            }
        }
        Ok(())
    }

    /// Says which host, of those that don't lie, gets a VM though the grants are not for it: each judges that for itself.
    pub(crate) fn judge_ground_hosts(
        &self,
        revision: &Revision,
        parent: &Commit,
        is_asked: impl Fn(PublicKey) -> bool,
    ) -> Result<(), String> {
        let Some(charge) = &revision.charge else { return Ok(()) };
        let grants = self.links_of(charge)?;
        let far = revision.hosts.iter().find(|host| {
            let lies = self.index.get(&host.key).is_none_or(|at| self.hosts[*at].honesty == Honesty::Hostile);
            is_asked(host.key)
                && !lies
                && comes(parent, revision, host.key)
                && !grants.iter().all(|grant| grant.scope.covers_host(&host.name, &[]))
        });
        far.map_or(Ok(()), |far| Err(format!("{} gets a VM, for which the grants are not", far.name)))
    }

    /// Says why a host must not have a part in it, by what that host knows.
    pub(crate) fn judge_ground_at(
        &self,
        node: usize,
        author: PublicKey,
        revision: &Revision,
        parent: &Commit,
        parts: (&Parts, &Parts),
    ) -> Result<(), String> {
        let host = &self.hosts[node];
        let own = host.keys.public();
        let (before, after) = parts;
        let here = |parts: &Parts| {
            taken_by(parts.iter().filter(|(place, _)| place.key == own).map(|(_, part)| part))
        };
        let comes = comes(parent, revision, own);
        let Some(charge) = &revision.charge else {
            if comes || grows(here(before), here(after)) {
                return self
                    .may(node, author, &[], Verb::Upgrade, &revision.label)
                    .map_err(|reason| format!("more comes here, and {reason}"));
            }
            return Ok(());
        };
        let grows = parent.revision.charge.as_ref().is_some_and(|had| grows(said(had), said(charge)));
        if !comes && !grows {
            return Ok(());
        }
        self.judge_ground_hosts(revision, parent, |host| host == own)?;
        if self.knows_revoked(node, charge) {
            return Err("the grants on which its project was made were taken back, and that is durable here"
                .to_owned());
        }
        if !grows {
            return Ok(());
        }
        let of_all = said(charge);
        for (digest, grant) in charge.grants.iter().zip(self.links_of(charge)?) {
            let taken = self.taken(node, *digest, &[revision.project]);
            let limits = grant.scope.limits;
            let over = |limit: Option<u64>, sum: u64| limit.is_some_and(|limit| sum > limit);
            if over(limits.vms, taken.0 + of_all.0) || over(limits.memory_mib, taken.1 + of_all.1) {
                return Err(format!(
                    "it takes {of_all:?} VMs and MiB of a grant for {limits:?}, of which others take {taken:?}"
                ));
            }
        }
        Ok(())
    }

    fn links_of(&self, charge: &Charge) -> Result<Vec<&Grant>, String> {
        let links = charge.grants.iter().map(|grant| self.guests.grounds.get(grant));
        links.collect::<Option<_>>().ok_or_else(|| "it is made on grants that nobody has given".to_owned())
    }

    /// Whether a host has written down that one of these grants was taken back.
    fn knows_revoked(&self, node: usize, charge: &Charge) -> bool {
        let disk = &self.hosts[node].disk;
        charge.grants.iter().any(|grant| disk.record(&RecordKey::Revocation(*grant)).is_some())
    }

    /// Whether a guest's host has written down that grants were taken back on which its project was made.
    pub(crate) fn is_ground_revoked(&self, asker: &Asker) -> bool {
        let charge = asker.parent.revision.charge.as_ref();
        charge.is_some_and(|charge| self.knows_revoked(asker.node, charge))
    }
}
