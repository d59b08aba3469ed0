//! Who waits for a place, in the order in which they get it: replays before newcomers, the oldest transaction first.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

/// A place in the queue. The order of tickets is the order of admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket {
    newcomer: bool,
    since: Duration,
    number: u64,
}

/// Who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    Nobody,
    /// First attempts only.
    Newcomers,
    /// Replays, and perhaps others.
    Replays,
}

/// Those who wait. Each leaves a token, to be known by when its turn comes.
#[derive(Debug)]
pub(super) struct Queue<T> {
    waiting: BTreeMap<Ticket, T>,
    /// Tickets given so far: of two transactions of the same age the first to ask goes first.
    given: u64,
}

impl<T> Queue<T> {
    pub(super) const fn new() -> Self {
        Self { waiting: BTreeMap::new(), given: 0 }
    }

    /// A ticket for a transaction that began at `since`.
    pub(super) const fn ticket(&mut self, since: Duration, replay: bool) -> Ticket {
        self.given += 1;
        Ticket { newcomer: !replay, since, number: self.given }
    }

    pub(super) fn push(&mut self, ticket: Ticket, token: T) {
        self.waiting.insert(ticket, token);
    }

    /// The next in the line.
    pub(super) fn pop(&mut self) -> Option<T> {
        self.waiting.pop_first().map(|(_, token)| token)
    }

    /// The last in the line.
    pub(super) fn pop_last(&mut self) -> Option<T> {
        self.waiting.pop_last().map(|(_, token)| token)
    }

    /// The next of those whose transactions began within a span of time.
    pub(super) fn pop_begun(&mut self, began: RangeInclusive<Duration>) -> Option<T> {
        let found = [false, true].into_iter().find_map(|newcomer| {
            let ticket = |since, number| Ticket { newcomer, since, number };
            let mut begun = self.waiting.range(ticket(*began.start(), 0)..=ticket(*began.end(), u64::MAX));
            begun.next().map(|(ticket, _)| *ticket)
        });
        self.waiting.remove(&found?)
    }

    /// Somebody leaves; false if it does not wait any more.
    pub(super) fn remove(&mut self, ticket: Ticket) -> bool {
        self.waiting.remove(&ticket).is_some()
    }

    /// Whether a ticket comes before all that wait.
    pub(super) fn is_first(&self, ticket: Ticket) -> bool {
        self.waiting.first_key_value().is_none_or(|(first, _)| ticket < *first)
    }

    /// Who waits.
    pub(super) fn waiting(&self) -> Waiting {
        match self.waiting.first_key_value() {
            None => Waiting::Nobody,
            Some((first, _)) if first.newcomer => Waiting::Newcomers,
            Some(_) => Waiting::Replays,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replays_go_first_and_the_oldest_before_the_others() {
        let mut queue = Queue::new();
        for (name, since, replay) in [
            ("new 1", 5, false),
            ("old replay", 2, true),
            ("new 2", 5, false),
            ("young replay", 4, true),
            ("new 0", 1, false),
        ] {
            let ticket = queue.ticket(Duration::from_secs(since), replay);
            queue.push(ticket, name);
            assert_eq!(queue.waiting() == Waiting::Newcomers, name == "new 1");
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, ["old replay", "young replay", "new 0", "new 1", "new 2"]);
        assert_eq!(queue.waiting(), Waiting::Nobody);
    }

    #[test]
    fn who_waits_is_found_by_when_it_began() {
        let mut queue = Queue::new();
        for (name, since, replay) in
            [("replay", 3, true), ("before", 2, false), ("behind", 4, false), ("later", 6, false)]
        {
            let ticket = queue.ticket(Duration::from_secs(since), replay);
            queue.push(ticket, name);
        }
        let mut pop = |from, to| queue.pop_begun(Duration::from_secs(from)..=Duration::from_secs(to));
        assert_eq!(
            (pop(4, 5), pop(4, 5), pop(3, 6), pop(3, 6)),
            (Some("behind"), None, Some("replay"), Some("later"))
        );
        assert_eq!((queue.pop(), queue.len()), (Some("before"), 0));
    }

    #[test]
    fn who_leaves_is_passed_over() {
        let mut queue = Queue::new();
        let [first, second] = [1, 2].map(|since| queue.ticket(Duration::from_secs(since), false));
        queue.push(first, 1);
        queue.push(second, 2);
        assert!(queue.remove(first) && !queue.remove(first));
        assert_eq!((queue.pop(), queue.len(), queue.is_empty()), (Some(2), 0, true));
    }
}
