//! A host with everything that it inherits, and its interfaces likewise.

use std::collections::BTreeMap;

use super::definitions::{Body, Content, Definitions, Guest, MadeAddress, Value};
use super::expand::{Expander, Scope};
use super::inherit::{Chain, Merged, MergedContent};
use crate::lang::Span;
use crate::lang::grammar::{self, Context};

/// A host, merged.
#[derive(Debug)]
pub(super) struct MergedHost<'a> {
    pub(super) body: Merged<'a>,
    /// Its interfaces in order.
    pub(super) networks: Vec<MergedNetwork<'a>>,
}

/// An interface of a host, merged.
#[derive(Debug)]
pub(super) struct MergedNetwork<'a> {
    pub(super) name: String,
    pub(super) span: Span,
    pub(super) body: Merged<'a>,
    /// What was merged, the farthest first.
    pub(super) bodies: Vec<&'a Body<'a>>,
}

/// Returns the scope in which a host's values are looked at.
pub(super) fn scope<'s, 'a>(
    definitions: &'s Definitions<'a>,
    guest: &'s Guest<'a>,
    chain: &'s Chain<'a>,
) -> Scope<'s, 'a> {
    let hostname = (!guest.is_class).then_some(guest.name.as_str());
    Scope::global(&definitions.global.variables).host(&chain.variables, hostname, guest.is_class)
}

impl<'a> MergedHost<'a> {
    /// Merges a guest's blocks, and puts in what an enumeration gives it.
    pub(super) fn of(
        guest: &Guest<'a>,
        chain: &Chain<'a>,
        scope: Scope<'_, 'a>,
        expander: &mut Expander<'a>,
    ) -> Self {
        let mut body = Merged::of(&chain.bodies, scope, expander);
        // What amends a host is nearer than what its enumeration makes.
        let own = chain.bodies.len() - chain.amending;
        let is_amended = body.setting("service_host").is_some_and(|(_, level)| level >= own);
        if let (Some(value), Some(keyword), false) =
            (&guest.service_host, grammar::keyword(Context::Host, "service_host"), is_amended)
        {
            body.put(keyword, value.clone());
        }
        let mut networks: Vec<MergedNetwork<'a>> = Vec::new();
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        for entry in body.entries() {
            if let (MergedContent::Blocks(bodies), Some(name), "network") =
                (&entry.content, &entry.name, entry.keyword.word)
            {
                places.insert(name, networks.len());
                let body = Merged::of(bodies, scope, expander);
                let bodies = bodies.clone();
                networks.push(MergedNetwork { name: name.clone(), span: entry.word, body, bodies });
            }
        }
        if let Some(made) = &guest.address {
            let at = places.get(made.interface.as_str()).copied().unwrap_or(networks.len());
            if at == networks.len() {
                let (name, span, body) = (made.interface.clone(), made.span, Merged::default());
                networks.push(MergedNetwork { name, span, body, bodies: Vec::new() });
            }
            if !networks[at].is_addressed_by(&chain.bodies[own..]) {
                networks[at].put_address(made);
            }
        }
        Self { body, networks }
    }
}

impl MergedNetwork<'_> {
    /// Returns whether its nearest block stands in one of these and has an address.
    fn is_addressed_by(&self, amending: &[&Body<'_>]) -> bool {
        let Some(nearest) = self.bodies.iter().rev().find(|body| body.setting("address").is_some()) else {
            return false;
        };
        amending.iter().flat_map(|body| &body.entries).any(
            |entry| matches!(&entry.content, Content::Block(inside) if std::ptr::eq::<Body<'_>>(&**inside, *nearest)),
        )
    }

    fn put_address(&mut self, made: &MadeAddress) {
        let Some(keyword) = grammar::keyword(Context::Network, "address") else { return };
        // A mask in the class says more than a guess.
        let mask_decides = !made.prefix_is_stated && self.body.setting("netmask").is_some();
        let text = if mask_decides {
            made.address.to_string()
        } else {
            format!("{}/{}", made.address, made.prefix_bits)
        };
        self.body.put(keyword, Value::Made { text, span: made.span });
    }
}
