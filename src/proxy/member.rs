//! A session among those that contend: whether its transaction has a place in its class, waits for one, or has lost it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

use super::classes::{Classes, Contended, Key, Turn, wake};
use crate::governor::{Class, End, Entry, Mode, Policy, STUCK, Ticket};
use crate::replay::{self, Fingerprint, Intent, Outcome, Values};
use crate::telemetry::Admission;

/// A queue stands still when nobody leaves it for so many times as long as a transaction may be idle.
const STILL: u32 = 4;

/// What begins within such a part of that time behind another's last statement may be what that one waits for.
const SOON: u32 = 5;

/// It is looked at as rarely as once in so many times that.
const RARELY: u32 = 5;

/// Where a session's transaction stands.
enum Standing {
    /// It has nothing to do with any class.
    Outside,
    /// It waits, and asks at some time whether it may go in spite of the limit.
    Queued { class: Arc<Contended>, ticket: Ticket, wait: Wait, ask: Duration },
    /// It has a place, and since when the database has not been at work for it.
    Holding { class: Arc<Contended>, idle: Option<Duration> },
    /// It had a place, and has been idle since then for too long. It looks for whom it may wait for in the queue: at some time, then
    /// after a pause that doubles, up to a limit, for as long as nobody is found.
    Idle { class: Arc<Contended>, since: Duration, look: Duration, pause: Duration },
}

/// A wait for a place.
#[derive(Clone, Copy)]
struct Wait {
    /// When the transaction began, and whether it is to be run again.
    began: Duration,
    replay: bool,
    /// Since when it waits, and when it has waited as long as it may.
    since: Duration,
    bound: Duration,
}

/// A session among those that contend; its place is left when this is dropped.
pub(super) struct Member {
    classes: Arc<Classes>,
    policy: Arc<Policy>,
    database: u64,
    standing: Standing,
    /// Those of the transaction, as far as it is in a class that wants to know.
    values: Values,
    /// For how long the transaction has waited for the places that it had so far.
    waited: Duration,
    /// There is none until the session has to wait: most never do.
    turn: Option<Arc<Turn>>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Member {
    /// Of a session in a database, by a hash of its name.
    pub(super) fn new(classes: Arc<Classes>, policy: Arc<Policy>, database: u64) -> Self {
        let (standing, values, turn, timer) = (Standing::Outside, Values::default(), None, None);
        Self { classes, policy, database, standing, values, waited: Duration::ZERO, turn, timer }
    }

    /// Whether the session's transactions may belong to a class.
    pub(super) fn governs(&self) -> bool {
        !self.classes.is_empty() && self.policy.mode != Mode::Off
    }

    fn observes(&self) -> bool {
        self.policy.mode == Mode::Observe
    }

    /// A transaction of this age asks for a place.
    pub(super) fn enter(&mut self, intent: Intent, age: Duration, replay: bool) -> replay::Place {
        let before = if replay { self.step_back() } else { None };
        self.leave(End::Unknown);
        if before.is_none() {
            self.values = intent.values;
        }
        if !replay {
            self.waited = Duration::ZERO;
        }
        let Some(class) = before.or_else(|| self.classes.find(self.database, intent, self.observes())) else {
            return replay::Place::Free;
        };
        let now = self.classes.now();
        if class.key.observed {
            let might_wait = class.lock().observe(now);
            let metrics = self.classes.telemetry.governor();
            metrics.admitted(if might_wait { Admission::Observed } else { Admission::AtOnce }, None);
            self.standing = Standing::Holding { class, idle: None };
            return replay::Place::Free;
        }
        let bound = now + self.policy.max_wait.saturating_sub(self.waited);
        let wait = Wait { began: now.saturating_sub(age), replay, since: now, bound };
        let place = self.ask_for_place(class, now, wait);
        if place != replay::Place::Awaited {
            self.classes.telemetry.governor().admitted(Admission::AtOnce, None);
        }
        place
    }

    /// Takes a place in a class, or waits for one.
    fn ask_for_place(&mut self, class: Arc<Contended>, now: Duration, wait: Wait) -> replay::Place {
        let turn = self.turn.get_or_insert_default();
        turn.came.store(false, Ordering::Relaxed);
        let mut locked = class.lock();
        let entry = locked.enter(now, wait.began, wait.replay, || Arc::clone(turn));
        let limited = locked.limit().is_some();
        let young = locked.is_young(now, self.policy.patience());
        wake(&mut locked, now);
        drop(locked);
        match entry {
            Entry::Admitted => {
                self.standing = Standing::Holding { class, idle: None };
                if limited { replay::Place::Granted } else { replay::Place::Free }
            }
            Entry::Queued(ticket) => {
                let ask = now + if young { self.still() } else { self.policy.patience() };
                self.standing = Standing::Queued { class, ticket, wait, ask };
                replay::Place::Awaited
            }
        }
    }

    /// An attempt has ended in a conflict, and another one follows at once: its place is free, but not handed on yet. Returns the class
    /// of the next one: one of the same kind if this has been forgotten meanwhile, or that of a hot value.
    fn step_back(&mut self) -> Option<Arc<Contended>> {
        let had_place = self.has_place();
        match std::mem::replace(&mut self.standing, Standing::Outside) {
            Standing::Holding { class, .. } | Standing::Idle { class, .. } => {
                self.end_attempt(&class, had_place, End::Wasted, false);
                let hot = self.classes.find_hot(class.key, self.values);
                let same = || self.classes.get_or_make(class.key, self.policy.max_classes);
                let next = hot.or_else(same).unwrap_or_else(|| Arc::clone(&class));
                if !Arc::ptr_eq(&next, &class) {
                    // Nobody enters here who could hand it on.
                    wake(&mut class.lock(), self.classes.now());
                }
                Some(next)
            }
            standing => {
                self.standing = standing;
                None
            }
        }
    }

    /// An attempt in a class has ended; its place, if it had one, may be handed on. If one of its values is behind the conflicts
    /// of the class, that gets a class of its own.
    fn end_attempt(&self, class: &Contended, had_place: bool, end: End, hands_on: bool) {
        let now = self.classes.now();
        let mut locked = class.lock();
        if had_place {
            locked.leave(now, end);
        } else {
            locked.ended(now, end);
        }
        let is_whole = class.key.value != 0 || self.classes.is_full(self.policy.max_classes);
        let hot = if is_whole { None } else { locked.note_values(self.values.numbers(), end) };
        if hands_on {
            wake(&mut locked, now);
        }
        drop(locked);
        if let Some(value) = hot {
            self.classes.split(class, value, self.policy.max_classes);
        }
    }

    /// The transaction at hand has met a conflict: from now on there is a class for its like.
    pub(super) fn contends(&self, statement: Fingerprint) {
        if matches!(self.standing, Standing::Outside) && self.policy.mode != Mode::Off {
            let (database, observed) = (self.database, self.observes());
            let key = Key { database, statement: statement.into(), value: 0, observed };
            if let Some(class) = self.classes.get_or_make(key, self.policy.max_classes) {
                let (mut class, now) = (class.lock(), self.classes.now());
                class.ended(now, End::Wasted);
                wake(&mut class, now);
            }
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
        let had_place = self.has_place();
        match std::mem::replace(&mut self.standing, Standing::Outside) {
            Standing::Outside => {}
            Standing::Queued { class, ticket, .. } => {
                let (mut class, now) = (class.lock(), self.classes.now());
                if !class.withdraw(now, ticket) {
                    // Its turn had come meanwhile.
                    class.leave(now, End::Unknown);
                    wake(&mut class, now);
                }
            }
            Standing::Holding { class, .. } | Standing::Idle { class, .. } => {
                self.end_attempt(&class, had_place, end, true);
            }
        }
    }

    /// Leaves the queue, if it waits.
    pub(super) fn withdraw(&mut self) {
        if matches!(self.standing, Standing::Queued { .. }) {
            self.leave(End::Unknown);
        }
    }

    /// There is no transaction: what was prepared and bound has not been run.
    pub(super) fn step_out(&mut self) {
        self.leave(End::Unknown);
    }

    /// The session has moved to another thread: what wakes it is to be there.
    pub(super) fn settle(&mut self) {
        self.timer = None;
    }

    /// Whether the session has anything to do with a class.
    pub(super) const fn is_outside(&self) -> bool {
        matches!(self.standing, Standing::Outside)
    }

    /// What time and other sessions have brought; `busy` tells whether the server is at work for it. Ready when the transaction is
    /// admitted.
    pub(super) fn poll(&mut self, busy: bool, cx: &mut Context<'_>) -> Poll<()> {
        let now = self.classes.now();
        match &mut self.standing {
            Standing::Outside => Poll::Pending,
            Standing::Queued { .. } => self.poll_turn(now, cx),
            Standing::Holding { .. } if busy => {
                self.stir();
                Poll::Pending
            }
            Standing::Holding { idle, .. } => {
                let due = *idle.get_or_insert(now) + self.policy.idle;
                if self.poll_timer(due, cx).is_ready() {
                    self.give_up_place(now);
                    self.look_at_queue(now, cx);
                }
                Poll::Pending
            }
            Standing::Idle { .. } if !busy => {
                self.look_at_queue(now, cx);
                Poll::Pending
            }
            Standing::Idle { .. } => {
                self.stir();
                Poll::Pending
            }
        }
    }

    /// The transaction is not idle, or not any more.
    pub(super) fn stir(&mut self) {
        match &mut self.standing {
            Standing::Outside | Standing::Queued { .. } => {}
            Standing::Holding { idle, .. } => *idle = None,
            Standing::Idle { class, .. } => {
                class.lock().resume(self.classes.now());
                let class = Arc::clone(class);
                self.standing = Standing::Holding { class, idle: None };
            }
        }
    }

    fn poll_turn(&mut self, now: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let Standing::Queued { class, ticket, wait, ask } = &self.standing else { return Poll::Pending };
        let (class, ticket, wait, ask) = (Arc::clone(class), *ticket, *wait, *ask);
        let turn = self.turn.get_or_insert_default();
        turn.waker.register(cx.waker());
        if turn.came.load(Ordering::Acquire) {
            return self.take_turn(class, now, wait, cx);
        }
        if self.poll_timer(ask.min(wait.bound), cx).is_pending() {
            return Poll::Pending;
        }
        if now < wait.bound && class.lock().is_young(now, self.policy.patience()) {
            self.hand_on(&class, |class| class.nudge(now, self.still()));
            return self.ask_again(now + self.still(), cx);
        }
        if !class.lock().admit_anyway(now, ticket, now >= wait.bound) {
            return self.ask_again(now + STUCK, cx);
        }
        self.standing = Standing::Holding { class, idle: None };
        self.admitted(Admission::Overdue, now, wait)
    }

    /// It has a place: one in the class of a hot value instead, if there is such a class by now, where it may have to wait.
    fn take_turn(&mut self, class: Arc<Contended>, now: Duration, wait: Wait, cx: &Context<'_>) -> Poll<()> {
        if let Some(hot) = self.classes.find_hot(class.key, self.values) {
            let mut locked = class.lock();
            locked.leave(now, End::Unknown);
            wake(&mut locked, now);
            drop(locked);
            if self.ask_for_place(hot, now, wait) == replay::Place::Awaited {
                // For the timer to be set anew; or the turn has come there.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        } else {
            self.standing = Standing::Holding { class, idle: None };
        }
        self.admitted(Admission::Waited, now, wait)
    }

    /// It waits on, and asks then.
    fn ask_again(&mut self, at: Duration, cx: &Context<'_>) -> Poll<()> {
        if let Standing::Queued { ask, .. } = &mut self.standing {
            *ask = at;
        }
        // For the timer to be set anew; or the turn has come just now.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    const fn has_place(&self) -> bool {
        matches!(self.standing, Standing::Holding { .. })
    }

    fn admitted(&mut self, how: Admission, now: Duration, wait: Wait) -> Poll<()> {
        let waited = now.saturating_sub(wait.since);
        self.waited += waited;
        self.classes.telemetry.governor().admitted(how, Some(waited));
        Poll::Ready(())
    }

    fn give_up_place(&mut self, now: Duration) {
        if let Standing::Holding { class, idle } = std::mem::replace(&mut self.standing, Standing::Outside) {
            let since = idle.unwrap_or(now);
            class.lock().idle(now);
            self.let_inner_in(&class, now, since);
            wake(&mut class.lock(), now);
            self.classes.telemetry.governor().idled();
            let pause = self.policy.idle;
            self.standing = Standing::Idle { class, since, look: now + pause, pause };
        }
    }

    /// Somebody in the queue may be who this transaction waits for.
    fn look_at_queue(&mut self, now: Duration, cx: &mut Context<'_>) {
        let Standing::Idle { class, since, look, pause } = &self.standing else { return };
        let (class, since, look, pause) = (Arc::clone(class), *since, *look, *pause);
        if self.poll_timer(look, cx).is_pending() {
            return;
        }
        let still = self.still();
        let found =
            self.let_inner_in(&class, now, since) || self.hand_on(&class, |class| class.nudge(now, still));
        let pause = if found { still } else { (pause * 2).min(RARELY * still) };
        self.standing = Standing::Idle { class, since, look: now + pause, pause };
        // For the timer to be set anew.
        cx.waker().wake_by_ref();
    }

    /// Lets in whom this transaction, which is idle since then, may have begun inside of itself.
    fn let_inner_in(&self, class: &Arc<Contended>, now: Duration, since: Duration) -> bool {
        self.hand_on(class, |class| class.admit_inner(now, since, self.policy.idle / SOON))
    }

    /// A queue that nobody leaves for so long stands still.
    fn still(&self) -> Duration {
        STILL * self.policy.idle
    }

    /// Lets somebody in by `choose`, from the queue of this class or, if there is nobody, from another one of the database: what a
    /// transaction waits for need not be like it. Whether somebody was let in.
    fn hand_on(
        &self,
        class: &Arc<Contended>,
        mut choose: impl FnMut(&mut Class<Arc<Turn>>) -> Option<Arc<Turn>>,
    ) -> bool {
        let mut lets_in = |class: &Contended| {
            let mut locked = class.lock();
            let chosen = choose(&mut locked);
            // Under the lock: whoever gives up its wait must see that its turn has come.
            chosen.map(|turn| turn.call()).is_some()
        };
        lets_in(class) || self.classes.beside(class).iter().any(|class| lets_in(class))
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

#[cfg(test)]
mod tests;
