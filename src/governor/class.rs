//! One class of transactions that contend with each other: who is at work, who waits, and what they may expect.

use std::time::Duration;

use super::heat::Heat;
use super::limit::Limit;
use super::queue::{Queue, Ticket};
use super::window::End;

/// A contention class. `T` is what stands for a transaction that waits, handed back when it is its turn.
///
/// Every call takes the time since some fixed point, the same for all who use the class. A transaction that was admitted
/// holds a place until [`Self::leave`]; who calls that or [`Self::idle`] must then call [`Self::next`]
/// until nobody is left to wake. A replay enters between the two, so that its place does not go to a newcomer.
#[derive(Debug)]
pub struct Class<T> {
    limit: Limit,
    queue: Queue<T>,
    heat: Heat,
    running: u32,
    /// When there first was a conflict.
    born: Duration,
    /// When there last was a conflict, or a wait.
    stirred: Duration,
    /// When somebody last got out of the queue, or into an empty one.
    moved: Duration,
    /// When those that are more than the limit allows were last fewer than ever, and how many were at work then. Who is let in on top
    /// of them and leaves again makes them no fewer.
    drained: Duration,
    fewest: u32,
}

/// A queue that nobody leaves for this long is stuck, unless more are at work than the limit allows, and they get fewer.
pub const STUCK: Duration = Duration::from_secs(2);

/// What a transaction is told that asks for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It has a place.
    Admitted,
    /// It is in the queue, by this ticket.
    Queued(Ticket),
}

impl<T> Class<T> {
    /// A class in which a conflict was met just now.
    pub const fn new(now: Duration) -> Self {
        Self::with(Limit::new(now), now)
    }

    /// One in which nobody is to wait: it only tells who would have.
    pub const fn observed(now: Duration) -> Self {
        Self::with(Limit::observing(now), now)
    }

    const fn with(limit: Limit, now: Duration) -> Self {
        Self {
            limit,
            queue: Queue::new(),
            heat: Heat::new(),
            running: 0,
            born: now,
            stirred: now,
            moved: now,
            drained: now,
            fewest: u32::MAX,
        }
    }

    /// A transaction that began at `since` wants a place, before its first statement or, as a `replay`, before it is run again.
    /// The token is made only if it must wait.
    pub fn enter(
        &mut self,
        now: Duration,
        since: Duration,
        replay: bool,
        token: impl FnOnce() -> T,
    ) -> Entry {
        let ticket = self.queue.ticket(since, replay);
        if self.limit.admits(self.running) && self.queue.is_first(ticket) {
            self.run_one_more(now);
            return Entry::Admitted;
        }
        self.stirred = now;
        self.pass(now);
        if self.queue.is_empty() {
            self.moved = now;
        }
        self.queue.push(ticket, token());
        Entry::Queued(ticket)
    }

    /// Counts a transaction that runs in an observed class. Returns whether a limit might have made it wait: one would be looked
    /// for, and others are at work.
    pub fn observe(&mut self, now: Duration) -> bool {
        let might_wait = self.limit.is_missed() && self.running > 0;
        self.run_one_more(now);
        if might_wait {
            self.stirred = now;
        }
        might_wait
    }

    /// Somebody leaves the queue without a place; false if it has been handed out by [`Self::next`].
    pub fn withdraw(&mut self, now: Duration, ticket: Ticket) -> bool {
        self.pass(now);
        self.queue.remove(ticket)
    }

    /// Somebody has lost its patience, or, if it is `overdue`, has waited as long as anybody may: it gets a place whatever the
    /// limit is. While the queue moves, or those that are too many get fewer, who is only impatient waits on, to ask again after
    /// [`STUCK`]: its turn comes, and to let in everybody whom a crowd has delayed would only delay all of them. False if it waits on.
    pub fn admit_anyway(&mut self, now: Duration, ticket: Ticket, overdue: bool) -> bool {
        let stuck = now.saturating_sub(self.moved.max(self.drained)) >= STUCK;
        let one = |queue: &mut Queue<T>| queue.remove(ticket).then_some(());
        (stuck || overdue) && self.let_in(now, one).is_some()
    }

    /// A transaction that is idle may wait for one in the queue, and those at work for its locks: if nobody has left the queue for
    /// so long, somebody gets a place whatever the limit is. It is the last who came, for what an idle one waits for came after it.
    /// Not while those that are more than the limit allows get fewer: they end by themselves, and one more would be one more of them.
    pub fn nudge(&mut self, now: Duration, still: Duration) -> Option<T> {
        let crowded = self.limit.get().is_some_and(|limit| self.running > limit);
        let drains = crowded && now.saturating_sub(self.drained) < STUCK;
        if drains || now.saturating_sub(self.moved) < still {
            return None;
        }
        self.let_in(now, Queue::pop_last)
    }

    /// The next who gets a place, if one is free; it has it from now on.
    pub fn next(&mut self, now: Duration) -> Option<T> {
        if self.limit.admits(self.running) { self.let_in(now, Queue::pop) } else { None }
    }

    /// An attempt has ended, and its place is free.
    pub fn leave(&mut self, now: Duration, end: End) {
        self.run_one_less(now);
        self.ended(now, end);
    }

    /// An attempt has ended that had no place any more.
    pub fn ended(&mut self, now: Duration, end: End) {
        if end == End::Wasted {
            self.stirred = now;
        }
        self.pass(now);
        self.limit.ended(now, end);
        self.note_crowd(now);
    }

    /// Notes the values of an attempt that has ended, as numbers; zeros are none. Returns a value whose transactions are to be a
    /// class of their own: they wasted attempts that others did not waste.
    pub fn note_values(&mut self, values: &[u64], end: End) -> Option<u64> {
        self.heat.note(values, end)
    }

    /// Some of its transactions have become a class of their own. What is left is looked at anew, without a limit.
    pub fn split(&mut self, now: Duration) {
        self.pass(now);
        self.limit = self.limit.anew(now);
    }

    /// The database has not been at work for a transaction for a while: its place is free for others.
    pub fn idle(&mut self, now: Duration) {
        self.run_one_less(now);
    }

    /// A transaction, of this class or another, has been idle since then. If one in the queue began `soon` after that, it gets a
    /// place whatever the limit is: an application that runs a transaction inside of another waits for that one.
    pub fn admit_inner(&mut self, now: Duration, since: Duration, soon: Duration) -> Option<T> {
        self.let_in(now, |queue| queue.pop_begun(since..=since + soon))
    }

    /// It goes on. It holds locks, so it does not wait: fewer others are admitted instead.
    pub fn resume(&mut self, now: Duration) {
        self.run_one_more(now);
    }

    /// Takes somebody out of the queue, if there is such a one: it has a place from now on, and has waited until now.
    fn let_in<U>(&mut self, now: Duration, take: impl FnOnce(&mut Queue<T>) -> Option<U>) -> Option<U> {
        self.pass(now);
        let taken = take(&mut self.queue)?;
        self.moved = now;
        self.running += 1;
        Some(taken)
    }

    fn run_one_more(&mut self, now: Duration) {
        self.pass(now);
        self.running += 1;
    }

    fn run_one_less(&mut self, now: Duration) {
        self.pass(now);
        self.running = self.running.saturating_sub(1);
        self.note_crowd(now);
    }

    /// Tells the limit of the time that has passed, before what it is told of changes.
    fn pass(&mut self, now: Duration) {
        self.limit.pass(now, self.running, self.queue.waiting());
    }

    /// Those that are more than the limit allows may have become fewer, or may have come to be too many.
    fn note_crowd(&mut self, now: Duration) {
        if self.limit.get().is_none_or(|limit| self.running <= limit) {
            self.fewest = u32::MAX;
        } else if self.running < self.fewest {
            (self.drained, self.fewest) = (now, self.running);
        }
    }

    /// How many may run at a time; `None` for any number.
    pub const fn limit(&self) -> Option<u32> {
        self.limit.get()
    }

    /// How many more transactions are done per second than before there was a limit, as far as can be told.
    pub fn gained(&self) -> f64 {
        self.limit.gained()
    }

    /// How many run.
    pub const fn running(&self) -> u32 {
        self.running
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Whether transactions that have nothing to do with the class may be from before it: one that waits for somebody in the queue is
    /// not seen to be idle, and may have locks for which those at work wait.
    pub fn is_young(&self, now: Duration, patience: Duration) -> bool {
        now.saturating_sub(self.born) < patience
    }

    /// Whether the class can be forgotten: for so long nobody met a conflict in it or had to wait.
    pub fn is_calm(&self, now: Duration, calm: Duration) -> bool {
        self.queue.is_empty() && now.saturating_sub(self.stirred) >= calm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A class that lets one transaction run at a time, and has one in it.
    fn narrow(now: Duration) -> Class<&'static str> {
        let mut class = Class::new(Duration::ZERO);
        let enter = |class: &mut Class<_>| {
            assert_eq!(class.enter(now, now, false, || "nobody"), Entry::Admitted);
        };
        waste(&mut class, now, enter);
        assert_eq!(class.limit(), Some(1));
        enter(&mut class);
        class
    }

    /// Has two transactions at a time waste their attempts.
    fn waste<T>(class: &mut Class<T>, now: Duration, run: impl Fn(&mut Class<T>)) {
        for _ in 0..5 {
            for _ in 0..2 {
                run(class);
            }
            for _ in 0..2 {
                class.leave(now + Duration::from_millis(1), End::Wasted);
            }
        }
    }

    #[test]
    fn who_is_impatient_is_let_in_where_nothing_moves_and_who_is_overdue_in_any_case() {
        let at = Duration::from_secs;
        let mut class = narrow(at(0));
        let enter = |class: &mut Class<_>, since| match class.enter(at(since), at(since), false, || "waits") {
            Entry::Queued(ticket) => ticket,
            Entry::Admitted => panic!("there is a limit"),
        };
        let [first, second, third] = [1, 1, 1].map(|since| enter(&mut class, since));
        // Those from before the limit still end.
        for _ in 0..2 {
            class.resume(at(1));
        }
        class.leave(at(9), End::Wasted);
        assert!(!class.admit_anyway(at(10), first, false), "one has just ended");
        assert!(class.admit_anyway(at(11), first, false), "nothing moves");
        assert!(!class.admit_anyway(at(11), second, false), "one has just been let in");
        assert!(class.admit_anyway(at(11), third, true) && class.running() == 4);
        assert!(!class.admit_anyway(at(60), third, true), "it has been");
    }

    #[test]
    fn an_observed_class_tells_who_might_have_waited_and_has_no_limit() {
        let at = Duration::from_millis;
        let mut class = Class::<()>::observed(at(0));
        assert_eq!(
            (class.observe(at(0)), class.observe(at(0))),
            (false, false),
            "nothing is known of it yet"
        );
        class.leave(at(1), End::Wasted);
        class.leave(at(1), End::Wasted);
        waste(&mut class, at(1), |class| {
            class.observe(at(1));
        });
        assert_eq!((class.limit(), class.gained()), (None, 0.0));
        assert_eq!((class.observe(at(3)), class.observe(at(3))), (false, true), "one has no need to wait");
        class.leave(at(4), End::Done);
        class.leave(at(4), End::Done);
        // Later there is room for all of them.
        for second in 5..20 {
            for _ in 0..20 {
                class.observe(at(1000 * second));
            }
            for _ in 0..20 {
                class.leave(at(1000 * second + 1), End::Done);
            }
        }
        assert_eq!((class.observe(at(20_000)), class.observe(at(20_000))), (false, false));
    }

    #[test]
    fn an_idle_transaction_hands_its_place_to_one_that_began_when_it_became_idle() {
        let at = Duration::from_millis;
        let mut class = narrow(at(0));
        for (name, since) in [("before", 90), ("inner", 101), ("later", 130)] {
            let entry = class.enter(at(since), at(since), false, || name);
            assert!(matches!(entry, Entry::Queued(_)));
        }
        class.idle(at(150));
        assert_eq!(class.admit_inner(at(150), at(100), at(10)), Some("inner"));
        assert_eq!((class.running(), class.next(at(150))), (1, None), "the place is taken");
        class.resume(at(160));
        class.leave(at(160), End::Done);
        class.leave(at(170), End::Done);
        assert_eq!(class.next(at(170)), Some("before"));
        class.idle(at(250));
        assert_eq!(class.admit_inner(at(250), at(200), at(10)), None, "nobody began then");
        assert_eq!(class.next(at(250)), Some("later"));
    }

    #[test]
    fn who_gives_up_its_wait_has_waited() {
        let at = Duration::from_millis;
        let mut class = narrow(at(0));
        class.leave(at(1), End::Unknown);
        for round in 1..=200 {
            // They come, and whoever finds no place gives up in the end. However many are at work, one of them does what it is to.
            let enter = |class: &mut Class<_>| class.enter(at(50 * round), at(50 * round), false, || "waits");
            let mut entries = std::iter::repeat_with(|| enter(&mut class)).take(100);
            let ticket = entries.find_map(|entry| match entry {
                Entry::Queued(ticket) => Some(ticket),
                Entry::Admitted => None,
            });
            assert!(class.withdraw(at(50 * round + 49), ticket.expect("somebody waits")), "round {round}");
            for last in (0..class.running()).rev() {
                class.leave(at(50 * round + 49), if last == 0 { End::Done } else { End::Unknown });
            }
        }
        assert!(class.limit().is_some_and(|limit| limit <= 2), "somebody always waited: {:?}", class.limit());
    }

    #[test]
    fn nobody_is_let_in_early_while_those_that_are_too_many_get_fewer() {
        let at = Duration::from_millis;
        let mut class = narrow(at(0));
        for since in [10, 20, 30] {
            let entry = class.enter(at(since), at(since), false, || "waits");
            assert!(matches!(entry, Entry::Queued(_)));
        }
        for _ in 0..2 {
            class.resume(at(30));
        }
        class.leave(at(1000), End::Wasted);
        let still = at(200);
        assert_eq!(class.nudge(at(2999), still), None, "one of two too many has ended");
        assert_eq!(class.nudge(at(3000), still), Some("waits"), "the other does not");
        class.leave(at(3100), End::Wasted);
        assert_eq!(class.nudge(at(3200), still), Some("waits"), "that was who was let in");
        class.leave(at(3300), End::Wasted);
        class.leave(at(3300), End::Wasted);
        assert_eq!(class.nudge(at(3500), still), Some("waits"), "nobody is too many");
    }

    #[test]
    fn an_idle_transaction_gets_the_last_who_came_in_once_the_queue_stands_still() {
        let at = Duration::from_millis;
        let mut class = narrow(at(0));
        for (name, since) in [("first", 5100), ("last", 5200)] {
            let entry = class.enter(at(since), at(since), false, || name);
            assert!(matches!(entry, Entry::Queued(_)));
        }
        assert_eq!(class.nudge(at(5250), at(200)), None, "the queue is young");
        assert_eq!(class.nudge(at(5300), at(200)), Some("last"));
        assert_eq!(class.nudge(at(5400), at(200)), None, "it has just moved");
        assert_eq!((class.nudge(at(5500), at(200)), class.nudge(at(5800), at(200))), (Some("first"), None));
        assert_eq!((class.running(), class.waiting()), (3, 0));
    }
}
