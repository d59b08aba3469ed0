//! A model of a database under contention: rows with locks, and what two kinds of servers do about a conflict.

use std::collections::VecDeque;
use std::time::Duration;

/// How conflicts are met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Serializable PostgreSQL: whoever finds a row changed since its snapshot fails, and a deadlock is found after a second.
    Postgres,
    /// CockroachDB: who waited for a row goes on with it, and a deadlock is found soon.
    Cockroach,
}

impl Kind {
    /// How long a transaction waits for a lock before a deadlock is looked for.
    pub(crate) const fn deadlock_check(self) -> Duration {
        match self {
            Self::Postgres => Duration::from_secs(1),
            Self::Cockroach => Duration::from_millis(100),
        }
    }
}

/// What became of a request for a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    Taken,
    Waits,
    Conflict,
}

#[derive(Clone, Debug, Default)]
struct Row {
    holder: Option<usize>,
    waiting: VecDeque<usize>,
    changed: Duration,
}

/// The rows, and for each transaction the one that it waits for.
#[derive(Debug)]
pub(crate) struct Database {
    kind: Kind,
    rows: Vec<Row>,
    waits_for: Vec<Option<usize>>,
    held: Vec<Vec<usize>>,
    snapshots: Vec<Duration>,
}

impl Database {
    pub(crate) fn new(kind: Kind, rows: usize, clients: usize) -> Self {
        Self {
            kind,
            rows: vec![Row::default(); rows],
            waits_for: vec![None; clients],
            held: vec![Vec::new(); clients],
            snapshots: vec![Duration::ZERO; clients],
        }
    }

    /// The first statement of an attempt.
    pub(crate) fn begin(&mut self, now: Duration, client: usize) {
        self.snapshots[client] = now;
    }

    /// A client updates a row.
    pub(crate) fn update(&mut self, client: usize, row: usize) -> Lock {
        let at = &mut self.rows[row];
        match at.holder {
            Some(holder) if holder != client => {
                at.waiting.push_back(client);
                self.waits_for[client] = Some(row);
                Lock::Waits
            }
            Some(_) => Lock::Taken,
            None => self.take(client, row),
        }
    }

    fn take(&mut self, client: usize, row: usize) -> Lock {
        if self.kind == Kind::Postgres && self.rows[row].changed > self.snapshots[client] {
            return Lock::Conflict;
        }
        self.rows[row].holder = Some(client);
        self.held[client].push(row);
        Lock::Taken
    }

    /// Whether a client waits for a row.
    pub(crate) fn is_waiting(&self, client: usize) -> bool {
        self.waits_for[client].is_some()
    }

    /// Whether a client waits, through others, for itself.
    pub(crate) fn is_deadlocked(&self, client: usize) -> bool {
        let mut at = client;
        for _ in 0..self.waits_for.len() {
            let Some(holder) = self.waits_for[at].and_then(|row| self.rows[row].holder) else { return false };
            if holder == client {
                return true;
            }
            at = holder;
        }
        false
    }

    /// A transaction ends. Returns those that waited for its rows, and what they got.
    pub(crate) fn end(&mut self, now: Duration, client: usize, committed: bool) -> Vec<(usize, Lock)> {
        if let Some(row) = self.waits_for[client].take() {
            self.rows[row].waiting.retain(|other| *other != client);
        }
        let mut woken = Vec::new();
        for row in std::mem::take(&mut self.held[client]) {
            self.rows[row].holder = None;
            if committed {
                self.rows[row].changed = now;
            }
            while self.rows[row].holder.is_none()
                && let Some(next) = self.rows[row].waiting.pop_front()
            {
                self.waits_for[next] = None;
                woken.push((next, self.take(next, row)));
            }
        }
        woken
    }
}
