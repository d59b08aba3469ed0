//! A transaction as a session holds it: reads and writes that wait for locks, marks, restarts, and its end.

use tokio::time::{Instant, timeout_at};

use super::clock::Timestamp;
use super::conflict::{AbortReason, Conflict, Snapshot};
use super::key::{Key, Row, Span};
use super::state::{Fate, Priority, Record, State, Step};
use super::store::Store;

/// Whether a read keeps writers away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strength {
    /// It does not.
    Shared,
    /// It locks what it finds, as FOR UPDATE and UPDATE do.
    Exclusive,
}

/// A place in a transaction to which it can be rolled back, as long as it was not restarted since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    id: u64,
    epoch: u32,
    sequence: u32,
}

/// A transaction; it is rolled back when it is dropped.
#[derive(Debug)]
pub struct Transaction {
    store: Store,
    id: u64,
    priority: Priority,
    /// Whether it has touched data since it began, or since it was rolled back to its beginning.
    active: bool,
    over: bool,
    /// Whether it waits for a lock; it stays so when the wait is given up.
    waits: bool,
}

/// Keeps the note that a transaction waits, and removes it even when the wait is given up.
struct Waiting<'a> {
    store: &'a Store,
    id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(record) = self.store.state().records.get_mut(&self.id) {
            record.waits_for = None;
        }
    }
}

impl Transaction {
    pub(super) fn new(store: Store, id: u64, priority: Priority) -> Self {
        Self { store, id, priority, active: false, over: false, waits: false }
    }

    /// The rows of a span.
    pub async fn scan(&mut self, span: &Span, strength: Strength) -> Result<Vec<(Key, Row)>, Conflict> {
        self.attempt(|state, id| match strength {
            Strength::Shared => state.read(id, span),
            Strength::Exclusive => state.read_locking(id, span),
        })
        .await
    }

    /// Writes a row, or removes it.
    pub async fn put(&mut self, key: &Key, row: Option<Row>) -> Result<(), Conflict> {
        self.attempt(|state, id| state.write(id, key, row.clone())).await
    }

    /// Whether a key has a row at the moment at which this transaction would write there.
    pub async fn exists(&mut self, key: &Key) -> Result<bool, Conflict> {
        self.attempt(|state, id| state.exists(id, key)).await
    }

    /// Tries a step, and waits as long as somebody else holds what it needs. Only who has waited for the same holder for a
    /// while is known to the others as one that waits: a deadlock is found when the last of its circle has.
    async fn attempt<T>(
        &mut self,
        mut step: impl FnMut(&mut State, u64) -> Result<Step<T>, Conflict>,
    ) -> Result<T, Conflict> {
        self.active = true;
        let _waiting = Waiting { store: &self.store, id: self.id };
        let mut waits_for = None;
        let mut looks_at = Instant::now();
        loop {
            // The bell is heard from here on, so that no lock can be freed unnoticed between look and wait.
            let freed = self.store.freed().notified();
            {
                let mut state = self.store.state();
                match step(&mut state, self.id)? {
                    Step::Done(result) => return Ok(result),
                    Step::Blocked { holder } => {
                        if waits_for.replace(holder) != Some(holder) {
                            state.record(self.id).waits_for = None;
                            looks_at = Instant::now() + self.store.deadlock_delay();
                        }
                        if Instant::now() >= looks_at && state.wait(self.id, holder) {
                            self.store.freed().notify_waiters();
                        }
                    }
                }
            }
            self.waits = true;
            if Instant::now() < looks_at {
                // Whether a lock was freed or it is time to look: the step is tried again.
                let _ = timeout_at(looks_at, freed).await;
            } else {
                freed.await;
            }
            self.waits = false;
        }
    }

    /// Makes all writes visible at once: the moment at which they are.
    pub fn commit(&mut self) -> Result<Timestamp, Conflict> {
        let at = self.store.state().commit(self.id)?;
        self.over = true;
        self.store.clock().forward(at);
        self.store.freed().notify_waiters();
        Ok(at)
    }

    /// Undoes all writes and frees all locks.
    pub fn rollback(&mut self) {
        if !self.over {
            self.over = true;
            self.store.state().rollback(self.id);
            self.store.freed().notify_waiters();
        }
    }

    /// Whether it was committed or rolled back.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Whether a wait for a lock was given up.
    pub fn was_interrupted(&self) -> bool {
        self.waits
    }

    /// Whether it has touched data since its beginning.
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// Notes that the transaction touched data that this store does not keep, such as the schema.
    pub fn touch(&mut self) {
        self.active = true;
    }

    /// Whether it has written rows.
    pub fn has_written(&self) -> bool {
        !self.over && self.store.state().locks.has_intents(self.id)
    }

    /// The present place.
    pub fn mark(&self) -> Mark {
        self.inspect(|record| Mark {
            id: self.id,
            epoch: record.snapshot.epoch,
            sequence: record.snapshot.sequence,
        })
    }

    /// Undoes the writes since a mark. Locks stay, and so does the moment at which it reads.
    pub fn roll_back_to(&mut self, mark: Mark) -> Result<(), Conflict> {
        if !self.holds(mark) {
            return Err(Conflict::RollbackAfterRestart);
        }
        self.store.state().locks.forget_writes(self.id, mark.sequence);
        Ok(())
    }

    /// Undoes all writes, whatever happened since; after a restart there is nothing left to undo.
    pub fn roll_back_to_beginning(&mut self) {
        self.store.state().locks.forget_writes(self.id, 0);
        self.active = false;
    }

    /// Whether a mark belongs to the present attempt.
    pub fn holds(&self, mark: Mark) -> bool {
        mark.id == self.id && mark.epoch == self.mark().epoch
    }

    /// Prepares the next attempt: a new epoch that keeps the locks, or a new transaction where this one was aborted.
    pub fn restart(&mut self, conflict: &Conflict) {
        self.active = false;
        let now = self.store.now();
        if matches!(conflict, Conflict::Aborted { .. }) {
            let mut state = self.store.state();
            state.rollback(self.id);
            self.id = state.begin(self.priority, now);
            drop(state);
            self.store.freed().notify_waiters();
            return;
        }
        let mut state = self.store.state();
        state.locks.forget_writes(self.id, 0);
        let record = state.record(self.id);
        record.reads.clear();
        record.snapshot.epoch += 1;
        record.snapshot.sequence = 0;
        let at = now.max(record.snapshot.write);
        (record.snapshot.read, record.snapshot.write) = (at, at);
    }

    /// What an error text tells about it.
    pub fn snapshot(&self) -> Box<Snapshot> {
        self.inspect(|record| Box::new(record.snapshot.clone()))
    }

    /// Aborts it from outside, as a pusher would.
    pub fn abort(&mut self, reason: AbortReason) {
        let mut state = self.store.state();
        if !matches!(state.record(self.id).fate, Fate::Aborted(_)) {
            state.abort(self.id, reason);
        }
        drop(state);
        self.store.freed().notify_waiters();
    }

    /// Changes its priority; allowed before it has touched data.
    pub fn set_priority(&mut self, priority: Priority) {
        self.priority = priority;
        self.store.state().record(self.id).priority = priority;
    }

    /// Lets it read the values of a moment; allowed before it has touched data.
    pub fn read_at(&mut self, at: Timestamp) {
        let mut state = self.store.state();
        let snapshot = &mut state.record(self.id).snapshot;
        (snapshot.read, snapshot.write) = (at, at);
    }

    fn inspect<T>(&self, look: impl FnOnce(&Record) -> T) -> T {
        look(self.store.state().record(self.id))
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.rollback();
    }
}
