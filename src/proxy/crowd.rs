//! How many sessions there are of one kind: in all, of each user, and from each address.

use std::hash::Hash;
use std::sync::Arc;

use dashmap::DashMap;

/// Counts places by their owner. The limit is named by whoever wants a place: it may be another one each time.
pub(super) struct Crowd<K: Eq + Hash> {
    places: Arc<DashMap<K, usize>>,
}

/// A place in a crowd; it is free again when this is dropped.
pub(super) struct Place<K: Eq + Hash> {
    places: Arc<DashMap<K, usize>>,
    owner: K,
}

impl<K: Eq + Hash> Crowd<K> {
    pub(super) fn new() -> Self {
        Self { places: Arc::default() }
    }

    /// Takes a place; `None` if its owner has as many as there may be. A limit of zero is none.
    pub(super) fn enter(&self, owner: K, limit: usize) -> Option<Place<K>>
    where
        K: Clone,
    {
        let mut taken = self.places.entry(owner.clone()).or_insert(0);
        if limit > 0 && *taken >= limit {
            return None;
        }
        *taken += 1;
        Some(Place { places: Arc::clone(&self.places), owner })
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        // Nobody enters or leaves for the same owner meanwhile: its entry is locked.
        self.places.remove_if_mut(&self.owner, |_, taken| {
            *taken -= 1;
            *taken == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_owner_has_a_limit_and_nothing_is_kept_of_who_left() {
        let crowd = Crowd::new();
        let places = (crowd.enter("ann", 2), crowd.enter("ann", 2), crowd.enter("bob", 2));
        assert!(places.0.is_some() && places.1.is_some() && places.2.is_some());
        assert!(crowd.enter("ann", 2).is_none());
        drop(places.0);
        assert!(crowd.enter("ann", 2).is_some());
        drop((places.1, places.2));
        assert!(crowd.places.is_empty());
    }

    #[test]
    fn a_limit_that_is_set_later_counts_those_who_are_there_already() {
        let crowd = Crowd::new();
        let places: Vec<_> = (0..100).map(|_| crowd.enter("ann", 0)).collect();
        assert!(places.iter().all(Option::is_some));
        assert!(crowd.enter("ann", 100).is_none() && crowd.enter("ann", 101).is_some());
    }
}
