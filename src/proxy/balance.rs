//! On how many threads sessions run: on as few as have no more to do than they can do at once.
//!
//! A thread that waits for many sockets does more whenever it wakes up, and is woken less often: the same work takes less of the
//! processors on one thread than on two. But sessions on a busy thread wait for each other. So those that begin go where there is
//! something to do already, the two threads that have the least to do become one while that leaves room, and what is too much for
//! one goes to another. Pure: told what there was to do, it tells who is to move.

/// From this part of its time on a thread has too much to do.
const FULL: f64 = 0.75;
/// Two threads become one if they had no more than this part of the time of one to do, for so many periods. What they had to do takes
/// less on one; and that must not be too much for it.
const ROOM: f64 = 0.65;
const CALM: u32 = 5;
/// A thread takes from another one that has so much more to do than itself.
const GAP: f64 = 0.2;
/// What there was to do in the last period counts for so much, and what there was before for the rest: many logins at once are over
/// soon.
const LAST: f64 = 0.5;
/// Behind a move so many periods pass until it shows what came of it.
const SETTLING: u32 = 2;

/// What there was to do on one thread in a period.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Load {
    /// The part of the time in which it had something to do.
    pub(super) busy: f64,
    /// Tasks that did something.
    pub(super) active: u32,
}

/// So many of the tasks that do something are to move from one thread to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) tasks: u32,
}

/// Decides who moves.
#[derive(Debug, Default)]
pub(super) struct Balance {
    /// What there was to do on each thread lately.
    loads: Vec<Load>,
    /// Periods in which one thread less would have done.
    calm: u32,
    /// Periods in which nothing is to move.
    settling: u32,
}

impl Balance {
    /// A period has ended in which there was so much to do.
    pub(super) fn note(&mut self, loads: Vec<Load>) {
        let mut last = std::mem::replace(&mut self.loads, loads).into_iter();
        for load in &mut self.loads {
            let before = last.next().map_or(load.busy, |before| before.busy);
            load.busy = LAST * load.busy + (1.0 - LAST) * before;
        }
    }

    /// What is to move in the period that begins, from each thread once at most.
    pub(super) fn moves(&mut self) -> Vec<Move> {
        if self.settling > 0 {
            self.settling -= 1;
            return Vec::new();
        }
        let mut threads: Vec<_> = self.loads.iter().copied().enumerate().collect();
        threads.sort_by(|(_, one), (_, other)| one.busy.total_cmp(&other.busy));
        let pairs = std::iter::zip(&threads, threads.iter().rev()).take(threads.len() / 2);
        let mut moves: Vec<_> = pairs.filter_map(|(idle, busy)| relieve(*busy, *idle)).collect();
        let mut at_work = threads.iter().filter(|(_, load)| load.active > 0);
        let has_room = match (at_work.next(), at_work.next()) {
            (Some(least), Some(next)) if moves.is_empty() && least.1.busy + next.1.busy <= ROOM => {
                if self.calm + 1 >= CALM {
                    moves.push(Move { from: least.0, to: next.0, tasks: least.1.active });
                }
                true
            }
            _ => false,
        };
        self.calm = if has_room { self.calm + 1 } else { 0 };
        if !moves.is_empty() {
            // What there was to do before says nothing any more.
            self.loads.clear();
            self.settling = SETTLING;
        }
        moves
    }

    /// Where there is the most to do, and room for more; or else where there is the least.
    pub(super) fn home(&self) -> usize {
        let busy = |thread: &usize| self.loads[*thread].busy;
        let by_busy = |one: &usize, other: &usize| busy(one).total_cmp(&busy(other));
        let threads = 0..self.loads.len();
        // Of those with the same load the first.
        let roomy = threads.clone().rev().filter(|thread| busy(thread) < ROOM).max_by(by_busy);
        roomy.or_else(|| threads.min_by(by_busy)).unwrap_or(0)
    }
}

/// Half of what the one has more goes to the other, if that has too much to do.
fn relieve((from, busy): (usize, Load), (to, idle): (usize, Load)) -> Option<Move> {
    let gap = busy.busy - idle.busy;
    let tasks = f64::from(busy.active) * gap / 2.0 / busy.busy;
    let relieves = busy.busy >= FULL && gap >= GAP && busy.active > 1;
    relieves.then_some(Move { from, to, tasks: (tasks.round() as u32).max(1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After so many periods that are all alike.
    fn after(periods: u32, balance: &mut Balance, given: &[(f64, u32)]) -> Vec<(usize, usize, u32)> {
        let mut moves = Vec::new();
        for _ in 0..periods {
            assert_eq!(moves, [], "too early");
            balance.note(given.iter().map(|&(busy, active)| Load { busy, active }).collect());
            let made = balance.moves();
            moves = made.into_iter().map(|Move { from, to, tasks }| (from, to, tasks)).collect();
        }
        moves
    }

    fn at_once(given: &[(f64, u32)]) -> Vec<(usize, usize, u32)> {
        after(1, &mut Balance::default(), given)
    }

    #[test]
    fn a_thread_that_has_too_much_to_do_shares_it() {
        assert_eq!(at_once(&[(0.8, 16), (0.0, 0)]), [(0, 1, 8)]);
        assert_eq!(at_once(&[(0.4, 8), (0.4, 8)]), []);
        assert_eq!(at_once(&[(0.1, 2), (0.5, 8), (0.9, 9)]), [(2, 0, 4)]);
        assert_eq!(at_once(&[(0.9, 3), (0.8, 3)]), [], "nobody has room");
        assert_eq!(at_once(&[(0.9, 1), (0.0, 0)]), [], "one task cannot be shared");
        assert_eq!(
            at_once(&[(0.9, 8), (0.1, 1), (1.0, 10), (0.0, 0)]),
            [(2, 3, 5), (0, 1, 4)],
            "all at once"
        );
    }

    #[test]
    fn what_is_over_soon_moves_nobody() {
        let mut balance = Balance::default();
        assert_eq!(after(5, &mut balance, &[(0.3, 8), (0.0, 0)]), []);
        assert_eq!(after(1, &mut balance, &[(1.0, 8), (0.0, 0)]), []);
        assert_eq!(after(5, &mut balance, &[(0.3, 8), (0.0, 0)]), []);
        assert_eq!(after(2, &mut balance, &[(1.0, 8), (0.0, 0)]), [(0, 1, 4)]);
    }

    #[test]
    fn what_came_of_a_move_is_awaited_and_what_was_before_is_forgotten() {
        let mut balance = Balance::default();
        assert_eq!(after(1, &mut balance, &[(1.0, 16), (0.0, 0)]), [(0, 1, 8)]);
        assert_eq!(after(2, &mut balance, &[(1.0, 8), (0.1, 8)]), [], "they are on their way");
        assert_eq!(after(1, &mut balance, &[(1.0, 8), (0.5, 8)]), [(0, 1, 3)], "that was not enough");
        assert_eq!(after(50, &mut balance, &[(0.7, 5), (0.7, 11)]), []);
    }

    #[test]
    fn two_that_have_little_to_do_become_one_after_a_while() {
        let mut balance = Balance::default();
        let little = [(0.1, 5), (0.6, 9), (0.2, 8)];
        assert_eq!(after(CALM, &mut balance, &little), [(0, 2, 5)]);
        assert_eq!(
            after(SETTLING + 1, &mut balance, &little),
            [(0, 2, 5)],
            "who did not move is asked again"
        );
        let mut balance = Balance::default();
        assert_eq!(after(CALM - 1, &mut balance, &little), []);
        assert_eq!(after(50, &mut balance, &[(0.0, 0), (0.5, 9), (0.4, 13)]), [], "there is no room");
        assert_eq!(after(50, &mut balance, &[(0.01, 0), (0.2, 8)]), [], "one thread is at work");
        assert_eq!(after(CALM, &mut balance, &[(0.1, 5), (0.1, 5)]).len(), 1, "it has begun anew");
    }

    #[test]
    fn what_is_shared_is_not_put_together_again() {
        for busy in [FULL, 0.8, 1.0] {
            // The same takes no less on two threads.
            let half = (busy / 2.0, 8);
            assert_eq!(after(50, &mut Balance::default(), &[half, half]), [], "{busy}");
        }
    }

    #[test]
    fn who_begins_goes_where_others_are_at_work_and_there_is_room() {
        let home = |busy: &[f64]| {
            let mut balance = Balance::default();
            balance.note(busy.iter().map(|&busy| Load { busy, active: 1 }).collect());
            balance.home()
        };
        assert_eq!(home(&[0.0, 0.0]), 0);
        assert_eq!(home(&[0.0, 0.3, 0.2]), 1);
        assert_eq!(home(&[0.0, 0.9, 0.2]), 2);
        assert_eq!(home(&[0.9, 0.8]), 1);
    }
}
