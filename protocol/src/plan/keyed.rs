//! Lists whose items have names, compared and changed: what came, what went, what stayed, and in which order.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::Name;

/// What differs between two lists of items with names; names are unique in each.
#[derive(Debug)]
pub(super) struct Keyed<'p, T> {
    /// What is only in the first.
    pub(super) removed: Vec<&'p T>,
    /// What is only in the second, with its place there.
    pub(super) added: Vec<(usize, &'p T)>,
    /// What is in both, in the order of the second.
    pub(super) kept: Vec<(&'p T, &'p T)>,
    /// The order of what is in both, where it is another one.
    pub(super) order: Option<Vec<Name>>,
}

impl<'p, T> Keyed<'p, T> {
    pub(super) fn between(from: &'p [T], to: &'p [T], name: impl Fn(&T) -> &Name) -> Self {
        let before: BTreeMap<&Name, (usize, &T)> =
            from.iter().enumerate().map(|(at, item)| (name(item), (at, item))).collect();
        let after: BTreeSet<&Name> = to.iter().map(&name).collect();
        let mut keyed = Self { removed: Vec::new(), added: Vec::new(), kept: Vec::new(), order: None };
        keyed.removed.extend(from.iter().filter(|item| !after.contains(name(item))));
        let mut places = Vec::with_capacity(to.len());
        for (at, item) in to.iter().enumerate() {
            match before.get(name(item)) {
                None => keyed.added.push((at, item)),
                Some(&(place, old)) => {
                    places.push(place);
                    keyed.kept.push((old, item));
                }
            }
        }
        if !places.is_sorted() {
            keyed.order = Some(keyed.kept.iter().map(|(_, item)| name(item).clone()).collect());
        }
        keyed
    }
}

/// Puts items in the order of their names; what has none of these stays behind.
pub(super) fn reorder<T>(items: &mut [T], order: &[Name], name: impl Fn(&T) -> &Name) {
    let places: BTreeMap<&Name, usize> = order.iter().enumerate().map(|(at, name)| (name, at)).collect();
    items.sort_by_key(|item| places.get(name(item)).copied().unwrap_or(usize::MAX));
}

/// Puts in items, each at its place in the list that comes of it.
pub(super) fn insert_all<T>(items: &mut Vec<T>, mut new: Vec<(usize, T)>) {
    new.sort_by_key(|(at, _)| *at);
    for (at, item) in new {
        items.insert(at.min(items.len()), item);
    }
}
