//! The heaviest of more things than can be kept: a table of bounded size, by the Space-Saving algorithm.
//!
//! Source: Metwally, Agrawal, El Abbadi, "Efficient computation of frequent and top-k elements in data streams" (2005). Whatever
//! has more than its share of the whole weight, one part in the capacity, is in the table.

use std::collections::HashMap;
use std::hash::Hash;

/// The heaviest things, each with what is known of it since it was last taken in.
#[derive(Debug)]
pub(super) struct Top<K, V> {
    capacity: usize,
    entries: HashMap<K, Entry<V>>,
}

#[derive(Debug)]
struct Entry<V> {
    weight: u64,
    value: V,
}

impl<K: Clone + Eq + Hash, V: Default> Top<K, V> {
    /// Of so many things at most.
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), entries: HashMap::new() }
    }

    /// Adds to the weight of a thing. One that is new takes the place of the lightest if there is no other, and that weight.
    pub(super) fn add(&mut self, key: &K, weight: u64) -> &mut V {
        if !self.entries.contains_key(key) {
            let weight = if self.entries.len() < self.capacity { 0 } else { self.take_lightest() };
            self.entries.insert(key.clone(), Entry { weight, value: V::default() });
        }
        let entry = self.entries.get_mut(key).expect("it is in the table");
        entry.weight += weight;
        &mut entry.value
    }

    /// Removes the lightest, and returns its weight.
    fn take_lightest(&mut self) -> u64 {
        let lightest = self.entries.iter().min_by_key(|(_, entry)| entry.weight).map(|(key, _)| key.clone());
        lightest.and_then(|key| self.entries.remove(&key)).map_or(0, |entry| entry.weight)
    }

    /// What is known of a thing, if it is in the table.
    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|entry| &mut entry.value)
    }

    /// All of them, the heaviest first.
    pub(super) fn heaviest(&self) -> Vec<(&K, &V)> {
        let mut sorted: Vec<_> = self.entries.iter().collect();
        sorted.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.weight));
        sorted.into_iter().map(|(key, entry)| (key, &entry.value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heavy_stay_and_the_table_stays_small() {
        let mut top: Top<u32, u32> = Top::new(4);
        for round in 0..1000 {
            *top.add(&1, 1) += 1;
            *top.add(&2, 2) += 1;
            *top.add(&(100 + round), 1) += 1;
        }
        let kept = top.heaviest();
        assert_eq!(kept.len(), 4);
        assert_eq!((kept[0], kept[1].0), ((&2, &1000), &1));
        assert_eq!(top.get_mut(&100), None);
    }
}
