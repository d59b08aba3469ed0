//! The store that sessions share: its state behind a lock, its clock, and the bell that rings when a lock is freed.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;

use super::clock::{Clock, Timestamp};
use super::key::Span;
use super::state::{Priority, State};
use super::transaction::Transaction;

/// A handle on the store; clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    freed: Notify,
    clock: Clock,
    deadlock_delay: Duration,
}

impl Store {
    /// An empty store; the seed decides who loses a deadlock, which is looked for behind a wait of `deadlock_delay`.
    pub fn new(seed: u64, deadlock_delay: Duration) -> Self {
        let state = Mutex::new(State::new(seed));
        let shared = Shared { state, freed: Notify::new(), clock: Clock::default(), deadlock_delay };
        Self { shared: Arc::new(shared) }
    }

    /// Begins a transaction that reads the newest committed values.
    pub fn begin(&self, priority: Priority) -> Transaction {
        self.begin_at(priority, self.now())
    }

    /// Begins a transaction that reads the values of a moment.
    pub fn begin_at(&self, priority: Priority, at: Timestamp) -> Transaction {
        let id = self.state().begin(priority, at);
        Transaction::new(self.clone(), id, priority)
    }

    /// Lets values in this span be kept by another node, whose clock may differ.
    pub fn place_remotely(&self, span: Span) {
        self.state().place_remotely(span);
    }

    /// The present moment.
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    pub(super) fn deadlock_delay(&self) -> Duration {
        self.shared.deadlock_delay
    }

    pub(super) fn freed(&self) -> &Notify {
        &self.shared.freed
    }

    /// A panic of another session must not spoil the store for the others: each step leaves it whole.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
