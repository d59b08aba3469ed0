//! The contention classes of all sessions, and the place of each session in them: the governor with locks and clocks.
//!
//! A session whose transaction belongs to no class looks at one number and passes. One that does takes the lock of its class,
//! for a few instructions, when a transaction asks for a place and when it leaves it. Whoever frees a place hands it to the
//! next in the line and wakes that session.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Slot;
use futures_util::task::AtomicWaker;
use tokio::time::Sleep;

use crate::governor::{Class, End, Entry, Mode, Policy, STUCK, Ticket};
use crate::replay::{self, Fingerprint, Outcome};
use crate::telemetry::{Admission, ClassFigures, Telemetry};

/// What makes two transactions contend: the database, and what they are about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    database: u64,
    statement: u64,
}

impl Key {
    /// The name of the class in metrics and in the log: no text of a statement is in it.
    fn label(self) -> String {
        format!("{:016x}", self.database.rotate_left(1) ^ self.statement)
    }
}

/// A session that waits is woken by this.
#[derive(Debug, Default)]
struct Turn {
    came: AtomicBool,
    waker: AtomicWaker,
}

type SharedClass = Arc<Mutex<Class<Arc<Turn>>>>;

fn lock(class: &SharedClass) -> MutexGuard<'_, Class<Arc<Turn>>> {
    class.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The table of classes.
pub(super) struct Classes {
    policy: Policy,
    epoch: Instant,
    /// How many there are: what a session looks at first.
    count: AtomicUsize,
    classes: DashMap<Key, SharedClass>,
    telemetry: Arc<Telemetry>,
}

impl Classes {
    pub(super) fn new(policy: Policy, telemetry: Arc<Telemetry>) -> Self {
        Self { policy, epoch: Instant::now(), count: AtomicUsize::new(0), classes: DashMap::new(), telemetry }
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn get(&self, key: Key) -> Option<SharedClass> {
        self.classes.get(&key).map(|class| Arc::clone(&class))
    }

    /// The class of a transaction that has met a conflict; `None` if there are as many classes as there may be.
    fn get_or_make(&self, key: Key) -> Option<SharedClass> {
        if let Some(class) = self.get(key) {
            return Some(class);
        }
        if self.policy.mode == Mode::Off || self.count.load(Ordering::Relaxed) >= self.policy.max_classes {
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
    pub(super) fn sweep(&self) {
        let (now, metrics) = (self.now(), self.telemetry.governor());
        let mut sums = ClassFigures::default();
        self.classes.retain(|key, class| {
            let class = lock(class);
            let keeps = !class.is_calm(now, self.policy.calm);
            let (limit, running, waiting) = (class.limit(), class.running(), class.waiting());
            if keeps {
                sums.limit = Some(sums.limit.unwrap_or(0) + limit.unwrap_or(0));
                sums.running += running;
                sums.waiting += waiting;
                metrics.set_class(&key.label(), ClassFigures { limit, running, waiting });
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

/// Where a session's transaction stands.
enum Standing {
    /// It has nothing to do with any class.
    Outside,
    /// It waits.
    Queued { class: SharedClass, ticket: Ticket, since: Duration, bound: Duration },
    /// It has a place, and so long has had no request under way.
    Holding { class: SharedClass, idle: Option<Duration> },
    /// It had a place, and was idle for too long.
    Idle { class: SharedClass },
}

/// A session among those that contend; its place is left when this is dropped.
pub(super) struct Member {
    classes: Arc<Classes>,
    database: u64,
    standing: Standing,
    turn: Arc<Turn>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Member {
    /// Of a session in a database, by a hash of its name.
    pub(super) fn new(classes: Arc<Classes>, database: u64) -> Self {
        Self { classes, database, standing: Standing::Outside, turn: Arc::default(), timer: None }
    }

    /// Whether there is any class.
    pub(super) fn governs(&self) -> bool {
        self.classes.count.load(Ordering::Relaxed) > 0
    }

    const fn key(&self, statement: u64) -> Key {
        Key { database: self.database, statement }
    }

    /// A transaction of this age asks for a place.
    pub(super) fn enter(&mut self, statement: Fingerprint, age: Duration, replay: bool) -> replay::Place {
        let before = if replay { self.step_back() } else { None };
        self.leave(End::Unknown);
        let Some(class) = before.or_else(|| self.classes.get(self.key(statement.into()))) else {
            return replay::Place::Free;
        };
        let (now, metrics) = (self.classes.now(), self.classes.telemetry.governor());
        let mut locked = lock(&class);
        if self.classes.policy.mode == Mode::Observe {
            let admitted = locked.observe(now);
            metrics.admitted(if admitted { Admission::AtOnce } else { Admission::Observed }, None);
            drop(locked);
            self.standing = Standing::Holding { class, idle: None };
            return replay::Place::Free;
        }
        self.turn.came.store(false, Ordering::Relaxed);
        let entry = locked.enter(now, now.saturating_sub(age), replay, || Arc::clone(&self.turn));
        let limited = locked.limit().is_some();
        wake(&mut locked, now);
        drop(locked);
        match entry {
            Entry::Admitted => {
                metrics.admitted(Admission::AtOnce, None);
                self.standing = Standing::Holding { class, idle: None };
                if limited { replay::Place::Granted } else { replay::Place::Free }
            }
            Entry::Queued(ticket) => {
                let bound = now + self.classes.policy.max_wait;
                self.standing = Standing::Queued { class, ticket, since: now, bound };
                replay::Place::Awaited
            }
        }
    }

    /// An attempt has ended in a conflict, and another one follows at once: its place is free, but not handed on yet.
    fn step_back(&mut self) -> Option<SharedClass> {
        let now = self.classes.now();
        match std::mem::replace(&mut self.standing, Standing::Outside) {
            Standing::Holding { class, .. } => {
                lock(&class).leave(now, End::Wasted);
                Some(class)
            }
            Standing::Idle { class } => {
                lock(&class).ended(now, End::Wasted);
                Some(class)
            }
            standing => {
                self.standing = standing;
                self.leave(End::Unknown);
                None
            }
        }
    }

    /// The transaction at hand has met a conflict: from now on there is a class for its like.
    pub(super) fn contends(&self, statement: Fingerprint) {
        if matches!(self.standing, Standing::Outside)
            && let Some(class) = self.classes.get_or_make(self.key(statement.into()))
        {
            lock(&class).ended(self.classes.now(), End::Wasted);
        }
    }

    /// The transaction has ended.
    pub(super) fn ended(&mut self, outcome: Outcome) {
        self.leave(match outcome {
            Outcome::Committed | Outcome::RolledBack => End::Done,
            Outcome::Surfaced(_) => End::Wasted,
            Outcome::InDoubt | Outcome::Abandoned => End::Unknown,
        });
    }

    /// Leaves the queue, or the place.
    fn leave(&mut self, end: End) {
        let now = self.classes.now();
        match std::mem::replace(&mut self.standing, Standing::Outside) {
            Standing::Outside => {}
            Standing::Queued { class, ticket, .. } => {
                let mut class = lock(&class);
                if !class.withdraw(ticket) {
                    // Its turn had come meanwhile.
                    class.leave(now, End::Unknown);
                    wake(&mut class, now);
                }
            }
            Standing::Holding { class, .. } => {
                let mut class = lock(&class);
                class.leave(now, end);
                wake(&mut class, now);
            }
            Standing::Idle { class } => {
                let mut class = lock(&class);
                class.ended(now, end);
                wake(&mut class, now);
            }
        }
    }

    /// Leaves the queue, if it waits.
    pub(super) fn withdraw(&mut self) {
        if matches!(self.standing, Standing::Queued { .. }) {
            self.leave(End::Unknown);
        }
    }

    /// Whether the session has anything to do with a class.
    pub(super) const fn is_outside(&self) -> bool {
        matches!(self.standing, Standing::Outside)
    }

    /// What time and other sessions have brought; `busy` tells whether a request is under way. Ready when the transaction is
    /// admitted.
    pub(super) fn poll(&mut self, busy: bool, cx: &mut Context<'_>) -> Poll<()> {
        let now = self.classes.now();
        match &mut self.standing {
            Standing::Outside => Poll::Pending,
            Standing::Queued { .. } => self.poll_turn(now, cx),
            Standing::Holding { idle, .. } if busy => {
                *idle = None;
                Poll::Pending
            }
            Standing::Holding { idle, .. } => {
                let due = *idle.get_or_insert(now) + self.classes.policy.idle;
                if self.poll_timer(due, cx).is_ready() {
                    self.give_up_place(now);
                }
                Poll::Pending
            }
            Standing::Idle { .. } if !busy => Poll::Pending,
            Standing::Idle { class } => {
                lock(class).resume(now);
                let class = Arc::clone(class);
                self.standing = Standing::Holding { class, idle: None };
                Poll::Pending
            }
        }
    }

    fn poll_turn(&mut self, now: Duration, cx: &mut Context<'_>) -> Poll<()> {
        self.turn.waker.register(cx.waker());
        let Standing::Queued { class, ticket, since, bound } = &self.standing else { return Poll::Pending };
        let (class, ticket, since, bound) = (Arc::clone(class), *ticket, *since, *bound);
        let came = self.turn.came.load(Ordering::Acquire);
        let how = if came {
            Admission::Waited
        } else if self.poll_timer(bound, cx).is_pending() {
            return Poll::Pending;
        } else if lock(&class).admit_anyway(now, ticket) {
            Admission::Overdue
        } else {
            self.standing = Standing::Queued { class, ticket, since, bound: now + STUCK };
            // For the timer to be set anew; or the turn has come just now.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        };
        self.classes.telemetry.governor().admitted(how, Some(now.saturating_sub(since)));
        self.standing = Standing::Holding { class, idle: None };
        Poll::Ready(())
    }

    fn give_up_place(&mut self, now: Duration) {
        if let Standing::Holding { class, .. } = std::mem::replace(&mut self.standing, Standing::Outside) {
            let mut locked = lock(&class);
            locked.idle(now);
            wake(&mut locked, now);
            drop(locked);
            self.classes.telemetry.governor().idled();
            self.standing = Standing::Idle { class };
        }
    }

    fn poll_timer(&mut self, due: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let due = tokio::time::Instant::from_std(self.classes.epoch + due);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        timer.as_mut().poll(cx)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.leave(End::Unknown);
    }
}

/// Hands out the places that are free.
fn wake(class: &mut Class<Arc<Turn>>, now: Duration) {
    while let Some(turn) = class.next(now) {
        turn.came.store(true, Ordering::Release);
        turn.waker.wake();
    }
}
