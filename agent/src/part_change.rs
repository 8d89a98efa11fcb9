//! What this agent can carry out of a change to its part of a project, and what it refuses.
//!
//! The node decides what a project is; what VMs that are there can become is for the platform to say. It makes VMs and
//! removes them, gives one that is there another configuration for its next start, and takes one to another host with its
//! disks as they are.

use std::sync::Arc;

use mln_protocol::id::Name;
use mln_protocol::model::Fragment;
use mln_protocol::node::{Refusal, Rule};
use mln_protocol::plan;

/// A part of a project that takes the place of another one.
#[derive(Debug)]
pub(crate) struct PartChange {
    /// The part that is there.
    pub(crate) before: Option<Arc<Fragment>>,
    /// The VMs whose disks would have to come here.
    pub(crate) arriving: Vec<Name>,
    /// The VMs whose disks would have to go elsewhere.
    pub(crate) leaving: Vec<Name>,
}

impl PartChange {
    /// Refuses what can't be carried out. Nothing was changed.
    pub(crate) fn judge(&self, fragment: &Fragment) -> Result<(), Refusal> {
        let refuse = |detail: String| Err(Refusal { rule: Rule::Platform, detail });
        let change = plan::PartChange {
            before: self.before.as_deref(),
            after: Some(fragment),
            arriving: &self.arriving,
            leaving: &self.leaving,
        };
        match change.not_yet() {
            Some((vm, what)) => refuse(format!(
                "{vm}: {what} can't be changed yet while the VM stays; leave it as it is, or give the new one another name"
            )),
            None => Ok(()),
        }
    }
}
