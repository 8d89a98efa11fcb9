//! What is done with a VM's drives, one after the other, in the order in which it was asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use mln_protocol::id::VmId;
use tokio::sync::watch;

/// The works on the drives of VMs; of one VM one at a time.
#[derive(Debug, Default)]
pub(crate) struct Works {
    last: BTreeMap<VmId, watch::Receiver<()>>,
}

/// A work's place among those of its VM; it is over when all of its clones are gone.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    before: Option<watch::Receiver<()>>,
    _over: Arc<watch::Sender<()>>,
}

impl Works {
    /// Takes the next place.
    pub(crate) fn turn(&mut self, vm: &VmId) -> Turn {
        // Nobody sends anything: what is waited for is that the sender goes.
        self.last.retain(|_, last| last.has_changed().is_ok());
        let (over, receiver) = watch::channel(());
        let before = self.last.insert(vm.clone(), receiver);
        Turn { before, _over: Arc::new(over) }
    }

    /// Returns when all works on a VM's drives that were asked for by now are over; takes no place.
    pub(crate) fn over(&self, vm: &VmId) -> impl Future<Output = ()> + Send + use<> {
        let last = self.last.get(vm).cloned();
        async move {
            if let Some(mut last) = last {
                // The sender never sends.
                let _ = last.changed().await;
            }
        }
    }
}

impl Turn {
    /// Waits until those before are over.
    pub(crate) async fn come(&mut self) {
        if let Some(mut before) = self.before.take() {
            // The sender never sends.
            let _ = before.changed().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use mln_protocol::id::{Digest, Name};

    use super::*;

    #[tokio::test]
    async fn works_on_one_vm_come_in_their_order_and_those_on_others_beside_them() {
        let vm = |name| VmId { birth: Digest([1; 32]), name: Name::parse(name).expect("a name") };
        let mut works = Works::default();
        let (mut first, mut second) = (works.turn(&vm("a")), works.turn(&vm("a")));
        works.turn(&vm("b")).come().await;
        first.come().await;
        let over = works.over(&vm("a"));
        let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let tell = told.clone();
        let waits = tokio::spawn(async move {
            second.come().await;
            tell.send("second").expect("somebody listens");
        });
        let kept = first.clone();
        drop(first);
        told.send("first").expect("somebody listens");
        drop(kept);
        waits.await.expect("it ends");
        over.await;
        assert_eq!((heard.recv().await, heard.recv().await), (Some("first"), Some("second")));
        works.turn(&vm("c"));
        assert_eq!(works.last.len(), 1, "what is over is forgotten");
    }
}
