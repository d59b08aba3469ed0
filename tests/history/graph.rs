//! Which transaction must come before which, and whether that goes round in a circle.

use std::collections::{BTreeMap, BTreeSet};

/// Why one transaction comes before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// The other one wrote over what it wrote.
    WriteWrite,
    /// The other one read what it wrote.
    WriteRead,
    /// The other one wrote over what it read.
    ReadWrite,
}

/// Transactions by their ids, and what stands between them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Graph {
    edges: BTreeSet<(i64, i64, Reason)>,
}

impl Graph {
    /// One transaction comes before another; none comes before itself.
    pub(crate) fn add(&mut self, first: i64, second: i64, reason: Reason) {
        if first != second {
            self.edges.insert((first, second, reason));
        }
    }

    /// A circle, which no serial order allows.
    pub(crate) fn serial_cycle(&self) -> Option<Vec<i64>> {
        cycle(self.edges.iter().map(|(first, second, _)| (*first, *second)))
    }

    /// A circle that snapshot isolation does not allow either: one in which no two read-write edges are neighbours.
    /// Such a circle is one of the dependencies, each with at most one read-write edge behind it.
    pub(crate) fn snapshot_cycle(&self) -> Option<Vec<i64>> {
        let dependencies = self.edges.iter().filter(|(.., reason)| *reason != Reason::ReadWrite);
        let composed = dependencies.flat_map(|(first, second, _)| {
            let behind = self.edges.range((*second, i64::MIN, Reason::WriteWrite)..);
            let behind = behind.take_while(move |(from, ..)| from == second);
            let skips = behind.filter(|(.., reason)| *reason == Reason::ReadWrite).map(|(_, to, _)| *to);
            std::iter::once((*first, *second)).chain(skips.map(move |to| (*first, to)))
        });
        cycle(composed)
    }
}

/// Who stands in a circle, or leads from one to another; nobody if there is none.
fn cycle(edges: impl Iterator<Item = (i64, i64)>) -> Option<Vec<i64>> {
    let mut followers: BTreeMap<i64, BTreeSet<i64>> = BTreeMap::new();
    let mut leaders: BTreeMap<i64, BTreeSet<i64>> = BTreeMap::new();
    for (first, second) in edges {
        followers.entry(first).or_default().insert(second);
        leaders.entry(second).or_default().insert(first);
    }
    let mut left: BTreeSet<i64> = followers.keys().chain(leaders.keys()).copied().collect();
    let is_inner = |node: &i64, left: &BTreeSet<i64>| {
        let meets = |edges: &BTreeMap<i64, BTreeSet<i64>>| {
            edges.get(node).is_some_and(|others| others.iter().any(|other| left.contains(other)))
        };
        meets(&followers) && meets(&leaders)
    };
    // Whoever has nobody before or nobody behind is in no circle.
    loop {
        let outer: Vec<i64> = left.iter().filter(|node| !is_inner(node, &left)).copied().collect();
        if outer.is_empty() {
            return (!left.is_empty()).then(|| left.into_iter().collect());
        }
        left.retain(|node| !outer.contains(node));
    }
}

#[cfg(test)]
mod tests {
    use super::Reason::{ReadWrite, WriteRead, WriteWrite};
    use super::*;

    fn graph(edges: &[(i64, i64, Reason)]) -> Graph {
        let mut graph = Graph::default();
        edges.iter().for_each(|(first, second, reason)| graph.add(*first, *second, *reason));
        graph
    }

    #[test]
    fn an_order_has_no_circle() {
        let graph = graph(&[(1, 2, WriteWrite), (2, 3, ReadWrite), (1, 3, WriteRead), (4, 4, ReadWrite)]);
        assert_eq!((graph.serial_cycle(), graph.snapshot_cycle()), (None, None));
    }

    #[test]
    fn write_skew_is_allowed_in_snapshots_only() {
        let graph = graph(&[(1, 2, ReadWrite), (2, 1, ReadWrite), (0, 1, WriteRead), (0, 2, WriteRead)]);
        assert_eq!((graph.serial_cycle(), graph.snapshot_cycle()), (Some(vec![1, 2]), None));
    }

    #[test]
    fn lost_updates_and_torn_reads_are_allowed_nowhere() {
        for edges in [
            [(1, 2, WriteWrite), (2, 1, WriteWrite)],
            [(1, 2, WriteRead), (2, 1, WriteWrite)],
            [(1, 2, WriteWrite), (2, 1, ReadWrite)],
            [(1, 2, WriteRead), (2, 1, ReadWrite)],
        ] {
            let graph = graph(&edges);
            assert!(graph.serial_cycle().is_some(), "{edges:?}");
            assert!(graph.snapshot_cycle().is_some(), "{edges:?}");
        }
    }

    #[test]
    fn a_single_read_write_edge_in_a_long_circle_is_found() {
        let graph = graph(&[(1, 2, WriteWrite), (2, 3, WriteRead), (3, 1, ReadWrite), (9, 1, WriteRead)]);
        assert!(graph.snapshot_cycle().is_some_and(|cycle| cycle.contains(&1)));
    }
}
