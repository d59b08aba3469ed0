//! The budget of bytes that the journals of all sessions share.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that may be journalled at a time, by all sessions together.
#[derive(Debug)]
pub struct JournalBudget {
    limit: u64,
    used: AtomicU64,
}

impl JournalBudget {
    /// A budget of this many bytes, all of them free.
    pub const fn new(limit: u64) -> Self {
        Self { limit, used: AtomicU64::new(0) }
    }

    /// Takes so many bytes; `false`, and nothing taken, where fewer are left.
    #[must_use]
    pub fn reserve(&self, bytes: usize) -> bool {
        let grown = |used: u64| used.checked_add(bytes as u64).filter(|used| *used <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_ok()
    }

    /// Gives back bytes that were taken.
    pub fn release(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes as u64, Ordering::Relaxed);
        debug_assert!(before >= bytes as u64, "released {bytes} of {before} bytes");
    }

    /// Bytes that are taken.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_given_than_there_is() {
        let budget = JournalBudget::new(10);
        assert!(budget.reserve(7));
        assert!(!budget.reserve(4));
        assert!(budget.reserve(3));
        assert_eq!(budget.used(), 10);
        budget.release(7);
        assert!(budget.reserve(4));
        assert!(!budget.reserve(usize::MAX));
        assert_eq!(budget.used(), 7);
    }

    #[test]
    fn many_threads_together_stay_within_it() {
        let budget = JournalBudget::new(1000);
        let taken: usize = std::thread::scope(|scope| {
            let take = || (0..500).filter(|_| budget.reserve(1)).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((taken, budget.used()), (1000, 1000));
    }
}
