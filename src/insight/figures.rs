//! What is counted of the transactions of one session: by itself alone, so that no session waits for another to count.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::replay::{Outcome, Reason, TransactionEnd};

const REASONS: usize = Reason::ALL.len();

/// The figures of a session, or of all transactions of one shape. One thread at a time adds to them; everybody may read.
#[derive(Debug, Default)]
pub(super) struct Figures {
    transactions: AtomicU64,
    replayable: AtomicU64,
    micros: AtomicU64,
    replayable_micros: AtomicU64,
    conflicts: AtomicU64,
    hidden: AtomicU64,
    surfaced: AtomicU64,
    retry_micros: AtomicU64,
    /// Most sessions have none.
    reasons: OnceLock<Box<[AtomicU64; REASONS]>>,
}

/// The figures of one or more sessions at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) transactions: u64,
    /// Those that could have been run again from their first statement to their last.
    pub(super) replayable: u64,
    /// The time that they took, in all.
    pub(super) micros: u64,
    pub(super) replayable_micros: u64,
    pub(super) conflicts: u64,
    pub(super) hidden: u64,
    /// Transactions whose client was shown a conflict.
    pub(super) surfaced: u64,
    /// From first conflicts to the ends of their transactions.
    pub(super) retry_micros: u64,
    /// Transactions that could not be run again, in the order of [`Reason::ALL`].
    pub(super) reasons: [u64; REASONS],
}

impl Figures {
    /// Counts a transaction that stands for so many that took so long each.
    pub(super) fn count(&self, end: &TransactionEnd, micros: u64, stands_for: u64) {
        let add = |counter, number: u64| add(counter, number.saturating_mul(stands_for));
        add(&self.transactions, 1);
        add(&self.micros, micros);
        match obstacle(end) {
            Some(reason) => add(self.reason(reason), 1),
            None => {
                add(&self.replayable, 1);
                add(&self.replayable_micros, micros);
            }
        }
        let surfaced = matches!(end.outcome, Outcome::Surfaced(_));
        if end.conflicts > 0 || surfaced {
            add(&self.conflicts, end.conflicts.into());
            add(&self.hidden, if surfaced { 0 } else { end.conflicts.into() });
            add(&self.surfaced, surfaced.into());
            add(&self.retry_micros, self::micros(end.retry_time));
        }
    }

    /// So many transactions that were counted as replayable, and took so long each, were not, as a sample has shown.
    pub(super) fn correct(&self, reason: Reason, transactions: u64, micros: u64) {
        let subtract = |counter: &AtomicU64, number: u64| {
            counter.store(counter.load(Relaxed).saturating_sub(number), Relaxed);
        };
        subtract(&self.replayable, transactions);
        subtract(&self.replayable_micros, micros.saturating_mul(transactions));
        add(self.reason(reason), transactions);
    }

    fn reason(&self, reason: Reason) -> &AtomicU64 {
        &self.reasons.get_or_init(Box::default)[reason as usize]
    }

    /// Transactions that have ended.
    pub(super) fn transactions(&self) -> u64 {
        self.transactions.load(Relaxed)
    }

    /// What they are now.
    pub(super) fn sums(&self) -> Sums {
        Sums {
            transactions: self.transactions.load(Relaxed),
            replayable: self.replayable.load(Relaxed),
            micros: self.micros.load(Relaxed),
            replayable_micros: self.replayable_micros.load(Relaxed),
            conflicts: self.conflicts.load(Relaxed),
            hidden: self.hidden.load(Relaxed),
            surfaced: self.surfaced.load(Relaxed),
            retry_micros: self.retry_micros.load(Relaxed),
            reasons: self
                .reasons
                .get()
                .map_or([0; REASONS], |counted| counted.each_ref().map(|count| count.load(Relaxed))),
        }
    }
}

/// Why a transaction could not have been run again in any mode: in `observe` it is only not done.
fn obstacle(end: &TransactionEnd) -> Option<Reason> {
    end.not_replayable.filter(|reason| *reason != Reason::Mode)
}

/// There is one writer: two plain accesses cost less than an atomic addition.
fn add(counter: &AtomicU64, number: u64) {
    counter.store(counter.load(Relaxed).saturating_add(number), Relaxed);
}

pub(super) fn micros(duration: std::time::Duration) -> u64 {
    duration.as_micros().try_into().unwrap_or(u64::MAX)
}

impl Sums {
    /// Adds those of others.
    pub(super) fn add(&mut self, other: &Self) {
        self.numbers().zip(other.clone().numbers()).for_each(|(sum, more)| *sum = sum.saturating_add(*more));
    }

    /// Takes away what is part of them.
    pub(super) fn subtract(&mut self, part: &Self) {
        self.numbers().zip(part.clone().numbers()).for_each(|(sum, less)| *sum = sum.saturating_sub(*less));
    }

    fn numbers(&mut self) -> impl Iterator<Item = &mut u64> {
        let Self {
            transactions,
            replayable,
            micros,
            replayable_micros,
            conflicts,
            hidden,
            surfaced,
            retry_micros,
            reasons,
        } = self;
        let counts = [transactions, replayable, micros, replayable_micros];
        let of_conflicts = [conflicts, hidden, surfaced, retry_micros];
        counts.into_iter().chain(of_conflicts).chain(reasons)
    }

    /// Why transactions could not be run again, the most frequent reason first, with how many.
    pub(super) fn obstacles(&self) -> Vec<(Reason, u64)> {
        let counted = Reason::ALL.into_iter().zip(self.reasons).filter(|(_, count)| *count > 0);
        let mut counted: Vec<_> = counted.collect();
        counted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        counted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_order_of_reasons_is_that_of_their_numbers() {
        assert!(Reason::ALL.iter().enumerate().all(|(at, reason)| *reason as usize == at));
    }

    #[test]
    fn a_sample_corrects_what_was_counted() {
        let figures = Figures::default();
        (0..20).for_each(|_| figures.count(&TransactionEnd::CALM, 100, 1));
        figures.correct(Reason::AdvisoryLock, 16, 150);
        let sums = figures.sums();
        assert_eq!((sums.transactions, sums.replayable, sums.replayable_micros), (20, 4, 0));
        assert_eq!(sums.obstacles(), [(Reason::AdvisoryLock, 16)]);
    }

    #[test]
    fn what_could_be_run_again_is_told_from_what_could_not() {
        let figures = Figures::default();
        let end = |not_replayable, outcome, conflicts| TransactionEnd {
            outcome,
            conflicts,
            retry_time: Duration::from_millis(2),
            not_replayable,
            ..TransactionEnd::CALM
        };
        figures.count(&end(None, Outcome::Committed, 2), 3000, 1);
        figures.count(&end(Some(Reason::SessionState), Outcome::Committed, 0), 3000, 1);
        figures.count(&end(Some(Reason::Mode), Outcome::Surfaced(Reason::Mode), 1), 3000, 1);
        let sums = figures.sums();
        assert_eq!((sums.transactions, sums.replayable), (3, 2));
        assert_eq!((sums.micros, sums.replayable_micros, sums.retry_micros), (9000, 6000, 4000));
        assert_eq!((sums.conflicts, sums.hidden, sums.surfaced), (3, 2, 1));
        assert_eq!(sums.obstacles(), [(Reason::SessionState, 1)]);
    }
}
