//! The contention classes of all sessions: the governor with locks and clocks. Where one session stands in them is a matter of
//! [`super::member`].
//!
//! A session whose transaction belongs to no class looks at one number and passes. One that does takes the lock of its class,
//! for a few instructions, when a transaction asks for a place and when it leaves it. Whoever frees a place hands it to the
//! next in the line and wakes that session.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Slot;
use futures_util::task::AtomicWaker;

use crate::governor::{Class, Policy};
use crate::telemetry::{ClassFigures, Telemetry};

/// What makes two transactions contend: the database, and what they are about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) database: u64,
    pub(super) statement: u64,
}

impl Key {
    /// The name of the class in metrics and in the log: no text of a statement is in it.
    fn label(self) -> String {
        format!("{:016x}", self.database.rotate_left(1) ^ self.statement)
    }
}

/// A session that waits is woken by this.
#[derive(Debug, Default)]
pub(super) struct Turn {
    pub(super) came: AtomicBool,
    pub(super) waker: AtomicWaker,
}

pub(super) type SharedClass = Arc<Mutex<Class<Arc<Turn>>>>;

pub(super) fn lock(class: &SharedClass) -> MutexGuard<'_, Class<Arc<Turn>>> {
    class.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The table of classes.
pub(super) struct Classes {
    pub(super) epoch: Instant,
    /// How many there are: what a session looks at first.
    count: AtomicUsize,
    classes: DashMap<Key, SharedClass>,
    pub(super) telemetry: Arc<Telemetry>,
}

impl Classes {
    pub(super) fn new(telemetry: Arc<Telemetry>) -> Self {
        Self { epoch: Instant::now(), count: AtomicUsize::new(0), classes: DashMap::new(), telemetry }
    }

    /// Whether there is any.
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// The time that classes are told.
    pub(super) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// The class of these transactions, if they contend.
    pub(super) fn get(&self, key: Key) -> Option<SharedClass> {
        self.classes.get(&key).map(|class| Arc::clone(&class))
    }

    /// The class of a transaction that has met a conflict; `None` if there are `most` classes, and this is none of them.
    pub(super) fn get_or_make(&self, key: Key, most: usize) -> Option<SharedClass> {
        if let Some(class) = self.get(key) {
            return Some(class);
        }
        if self.count.load(Ordering::Relaxed) >= most {
            return None;
        }
        let class = match self.classes.entry(key) {
            Slot::Occupied(class) => Arc::clone(class.get()),
            Slot::Vacant(slot) => {
                self.count.fetch_add(1, Ordering::Relaxed);
                tracing::info!(class = key.label(), "transactions contend");
                Arc::clone(&slot.insert(Arc::new(Mutex::new(Class::new(self.now())))))
            }
        };
        Some(class)
    }

    /// Forgets the classes that have been calm, and tells the metrics of the others.
    pub(super) fn sweep(&self, policy: &Policy) {
        let (now, metrics) = (self.now(), self.telemetry.governor());
        let mut sums = ClassFigures::default();
        self.classes.retain(|key, class| {
            let class = lock(class);
            let keeps = !class.is_calm(now, policy.calm);
            let (limit, gained) = (class.limit(), class.gained());
            let (running, waiting) = (class.running(), class.waiting());
            if keeps {
                sums.limit = Some(sums.limit.unwrap_or(0) + limit.unwrap_or(0));
                sums.running += running;
                sums.waiting += waiting;
                sums.gained += gained;
                metrics.set_class(&key.label(), ClassFigures { limit, running, waiting, gained });
            } else {
                self.count.fetch_sub(1, Ordering::Relaxed);
                metrics.forget_class(&key.label());
                tracing::info!(class = key.label(), "transactions contend no more");
            }
            keeps
        });
        metrics.set_classes(self.count.load(Ordering::Relaxed), sums);
    }
}

/// Hands out the places that are free.
pub(super) fn wake(class: &mut Class<Arc<Turn>>, now: Duration) {
    while let Some(turn) = class.next(now) {
        turn.came.store(true, Ordering::Release);
        turn.waker.wake();
    }
}
