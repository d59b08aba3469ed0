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
use crate::replay::{Intent, Values};
use crate::telemetry::{ClassFigures, Telemetry};

/// What makes two transactions contend: the database, and what they are about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) database: u64,
    pub(super) statement: u64,
    /// A number for the value that they have in common, a hot row's key for example; 0 for the others, whatever their values.
    pub(super) value: u64,
    /// Whether nobody is made to wait: sessions that only observe are no part of those that are held back.
    pub(super) observed: bool,
}

/// A session that waits is woken by this.
#[derive(Debug, Default)]
pub(super) struct Turn {
    pub(super) came: AtomicBool,
    pub(super) waker: AtomicWaker,
}

impl Turn {
    /// The session may go.
    pub(super) fn call(&self) {
        self.came.store(true, Ordering::Release);
        self.waker.wake();
    }
}

/// A class, with its key.
pub(super) struct Contended {
    pub(super) key: Key,
    /// Its name in metrics and in the log: nothing of a statement can be read from it, and those of values are numbered.
    label: String,
    class: Mutex<Class<Arc<Turn>>>,
}

impl Contended {
    pub(super) fn lock(&self) -> MutexGuard<'_, Class<Arc<Turn>>> {
        self.class.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The table of classes.
pub(super) struct Classes {
    pub(super) epoch: Instant,
    /// How many there are: what a session looks at first.
    count: AtomicUsize,
    /// How many of them are of a value, and how many there ever were.
    of_values: AtomicUsize,
    values_ever: AtomicUsize,
    classes: DashMap<Key, Arc<Contended>>,
    pub(super) telemetry: Arc<Telemetry>,
}

impl Classes {
    pub(super) fn new(telemetry: Arc<Telemetry>) -> Self {
        let (count, of_values, values_ever) = Default::default();
        Self { epoch: Instant::now(), count, of_values, values_ever, classes: DashMap::new(), telemetry }
    }

    /// Whether there is any.
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Whether there are as many as there may be.
    pub(super) fn is_full(&self, most: usize) -> bool {
        self.count.load(Ordering::Relaxed) >= most
    }

    /// The time that classes are told.
    pub(super) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// The class of a transaction, if its like contend: that of one of its values, or that of its statement.
    pub(super) fn find(&self, database: u64, intent: Intent, observed: bool) -> Option<Arc<Contended>> {
        let key = Key { database, statement: intent.statement.into(), value: 0, observed };
        self.find_hot(key, intent.values).or_else(|| self.get(key))
    }

    /// The class of one of these values among the transactions of a class, if that is not such a one itself.
    pub(super) fn find_hot(&self, key: Key, values: Values) -> Option<Arc<Contended>> {
        if key.value != 0 || self.of_values.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut values = values.numbers().iter().copied().filter(|value| *value != 0);
        values.find_map(|value| self.get(Key { value, ..key }))
    }

    fn get(&self, key: Key) -> Option<Arc<Contended>> {
        self.classes.get(&key).map(|class| Arc::clone(&class))
    }

    /// The other classes in which sessions of the same database wait.
    pub(super) fn beside(&self, class: &Arc<Contended>) -> Vec<Arc<Contended>> {
        let is_beside = |other: &Arc<Contended>| {
            other.key.database == class.key.database && !other.key.observed && !Arc::ptr_eq(other, class)
        };
        self.classes.iter().map(|it| Arc::clone(it.value())).filter(is_beside).collect()
    }

    /// The class of transactions that have met a conflict; `None` if there are `most` classes, and this is none of them.
    pub(super) fn get_or_make(&self, key: Key, most: usize) -> Option<Arc<Contended>> {
        if let Some(class) = self.get(key) {
            return Some(class);
        }
        if self.is_full(most) {
            return None;
        }
        let class = match self.classes.entry(key) {
            Slot::Occupied(class) => Arc::clone(class.get()),
            Slot::Vacant(slot) => {
                self.count.fetch_add(1, Ordering::Relaxed);
                let label = self.label(key);
                tracing::info!(class = label, "transactions contend");
                let make = if key.observed { Class::observed } else { Class::new };
                let class = Mutex::new(make(self.now()));
                Arc::clone(&slot.insert(Arc::new(Contended { key, label, class })))
            }
        };
        Some(class)
    }

    /// The transactions of a class that have this value become a class of their own, if they are not.
    pub(super) fn split(&self, class: &Contended, value: u64, most: usize) {
        let key = Key { value, ..class.key };
        if self.get(key).is_none() && self.get_or_make(key, most).is_some() {
            let (mut class, now) = (class.lock(), self.now());
            class.split(now);
            wake(&mut class, now);
        }
    }

    fn label(&self, key: Key) -> String {
        let mut label = format!("{:016x}", key.database.rotate_left(1) ^ key.statement);
        if key.value != 0 {
            self.of_values.fetch_add(1, Ordering::Relaxed);
            label += &format!("#{}", self.values_ever.fetch_add(1, Ordering::Relaxed) + 1);
        }
        if key.observed {
            label += " (observed)";
        }
        label
    }

    /// Forgets the classes that have been calm, and tells the metrics of the others.
    pub(super) fn sweep(&self, policy: &Policy) {
        let (now, metrics) = (self.now(), self.telemetry.governor());
        let mut sums = ClassFigures::default();
        self.classes.retain(|key, contended| {
            let class = contended.lock();
            let keeps = !class.is_calm(now, policy.calm);
            let (limit, gained) = (class.limit(), class.gained());
            let (running, waiting) = (class.running(), class.waiting());
            if keeps {
                sums.limit = Some(sums.limit.unwrap_or(0) + limit.unwrap_or(0));
                sums.running += running;
                sums.waiting += waiting;
                sums.gained += gained;
                metrics.set_class(&contended.label, ClassFigures { limit, running, waiting, gained });
            } else {
                self.count.fetch_sub(1, Ordering::Relaxed);
                self.of_values.fetch_sub(usize::from(key.value != 0), Ordering::Relaxed);
                metrics.forget_class(&contended.label);
                tracing::info!(class = contended.label, "transactions contend no more");
            }
            keeps
        });
        metrics.set_classes(self.count.load(Ordering::Relaxed), sums);
    }
}

/// Hands out the places that are free.
pub(super) fn wake(class: &mut Class<Arc<Turn>>, now: Duration) {
    while let Some(turn) = class.next(now) {
        turn.call();
    }
}
