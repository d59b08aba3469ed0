//! How many sessions somebody has: a limit for each user, and for each address.

use std::hash::Hash;

use dashmap::DashMap;
use dashmap::Entry;

/// Counts places by their owner, up to a limit for each.
pub(super) struct Crowd<K: Eq + Hash> {
    places: DashMap<K, usize>,
    /// Zero is no limit, and nothing is counted.
    limit: usize,
}

/// A place in a crowd; it is free again when this is dropped.
pub(super) struct Place<'a, K: Eq + Hash> {
    crowd: &'a Crowd<K>,
    owner: Option<K>,
}

impl<K: Eq + Hash> Crowd<K> {
    pub(super) fn new(limit: usize) -> Self {
        Self { places: DashMap::new(), limit }
    }

    /// Takes a place; `None` if its owner has as many as there may be.
    pub(super) fn enter(&self, owner: K) -> Option<Place<'_, K>>
    where
        K: Clone,
    {
        if self.limit == 0 {
            return Some(Place { crowd: self, owner: None });
        }
        let mut taken = self.places.entry(owner.clone()).or_insert(0);
        if *taken >= self.limit {
            return None;
        }
        *taken += 1;
        Some(Place { crowd: self, owner: Some(owner) })
    }
}

impl<K: Eq + Hash> Drop for Place<'_, K> {
    fn drop(&mut self) {
        let Some(owner) = self.owner.take() else { return };
        if let Entry::Occupied(mut taken) = self.crowd.places.entry(owner) {
            *taken.get_mut() -= 1;
            if *taken.get() == 0 {
                taken.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_owner_has_a_limit_and_nothing_is_kept_of_who_left() {
        let crowd = Crowd::new(2);
        let places = (crowd.enter("ann"), crowd.enter("ann"), crowd.enter("bob"));
        assert!(places.0.is_some() && places.1.is_some() && places.2.is_some());
        assert!(crowd.enter("ann").is_none());
        drop(places.0);
        assert!(crowd.enter("ann").is_some());
        drop((places.1, places.2));
        assert!(crowd.places.is_empty());
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let crowd = Crowd::new(0);
        let places: Vec<_> = (0..100).map(|_| crowd.enter("ann")).collect();
        assert!(places.iter().all(Option::is_some) && crowd.places.is_empty());
    }
}
