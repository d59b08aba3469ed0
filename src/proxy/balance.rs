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
const CALM: u32 = 10;
/// A thread takes from another one that has so much more to do than itself.
const GAP: f64 = 0.2;

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
    /// Periods in which one thread less would have done.
    calm: u32,
}

impl Balance {
    /// A period has ended in which there was so much to do. Returns what is to move in the next one, from each thread once at most.
    pub(super) fn decide(&mut self, loads: &[Load]) -> Vec<Move> {
        let mut threads: Vec<_> = loads.iter().copied().enumerate().collect();
        threads.sort_by(|(_, one), (_, other)| one.busy.total_cmp(&other.busy));
        let moves: Vec<_> = std::iter::zip(&threads, threads.iter().rev())
            .take(threads.len() / 2)
            .filter_map(|(idle, busy)| relieve(*busy, *idle))
            .collect();
        let mut at_work = threads.iter().filter(|(_, load)| load.active > 0);
        let (Some(least), Some(next), true) = (at_work.next(), at_work.next(), moves.is_empty()) else {
            self.calm = 0;
            return moves;
        };
        let has_room = least.1.busy + next.1.busy <= ROOM;
        self.calm = if has_room { self.calm + 1 } else { 0 };
        let merges = self.calm >= CALM;
        merges.then_some(Move { from: least.0, to: next.0, tasks: least.1.active }).into_iter().collect()
    }
}

/// Half of what the one has more goes to the other, if that has too much to do.
fn relieve((from, busy): (usize, Load), (to, idle): (usize, Load)) -> Option<Move> {
    let gap = busy.busy - idle.busy;
    let tasks = f64::from(busy.active) * gap / 2.0 / busy.busy;
    let relieves = busy.busy >= FULL && gap >= GAP && busy.active > 1;
    relieves.then_some(Move { from, to, tasks: (tasks.round() as u32).max(1) })
}

/// Where there is the most to do, and room for more; or else where there is the least. `None` without threads.
pub(super) fn home(loads: &[Load]) -> Option<usize> {
    let busy = |thread: &usize| loads[*thread].busy;
    let by_busy = |one: &usize, other: &usize| busy(one).total_cmp(&busy(other));
    // Of those with the same load the first.
    let roomy = (0..loads.len()).rev().filter(|thread| busy(thread) < ROOM).max_by(by_busy);
    roomy.or_else(|| (0..loads.len()).min_by(by_busy))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(loads: &[(f64, u32)]) -> Vec<Load> {
        loads.iter().map(|&(busy, active)| Load { busy, active }).collect()
    }

    fn decide(balance: &mut Balance, given: &[(f64, u32)]) -> Vec<(usize, usize, u32)> {
        let moves = balance.decide(&loads(given));
        moves.into_iter().map(|Move { from, to, tasks }| (from, to, tasks)).collect()
    }

    #[test]
    fn a_thread_that_has_too_much_to_do_shares_it_at_once() {
        let mut balance = Balance::default();
        assert_eq!(decide(&mut balance, &[(0.8, 16), (0.0, 0)]), [(0, 1, 8)]);
        assert_eq!(decide(&mut balance, &[(0.4, 8), (0.4, 8)]), []);
        assert_eq!(decide(&mut balance, &[(0.1, 2), (0.5, 8), (0.9, 9)]), [(2, 0, 4)]);
        assert_eq!(decide(&mut balance, &[(0.9, 3), (0.8, 3)]), [], "nobody has room");
        assert_eq!(decide(&mut balance, &[(0.9, 1), (0.0, 0)]), [], "one task cannot be shared");
        let four = [(0.9, 8), (0.1, 1), (1.0, 10), (0.0, 0)];
        assert_eq!(decide(&mut balance, &four), [(2, 3, 5), (0, 1, 4)], "all at once");
    }

    #[test]
    fn two_that_have_little_to_do_become_one_after_a_while() {
        let mut balance = Balance::default();
        let little = [(0.1, 5), (0.6, 9), (0.2, 8)];
        for _ in 1..CALM {
            assert_eq!(decide(&mut balance, &little), []);
        }
        assert_eq!(decide(&mut balance, &little), [(0, 2, 5)]);
        assert_eq!(decide(&mut balance, &little), [(0, 2, 5)], "who could not move is asked again");
        assert_eq!(decide(&mut balance, &[(0.0, 0), (0.5, 9), (0.3, 13)]), [], "there is no room");
        for _ in 0..2 * CALM {
            assert_eq!(decide(&mut balance, &[(0.01, 0), (0.2, 8)]), [], "one thread is at work");
        }
        for _ in 1..CALM {
            assert_eq!(decide(&mut balance, &[(0.1, 5), (0.1, 5)]), [], "it begins anew");
        }
        assert_eq!(decide(&mut balance, &[(0.1, 5), (0.1, 5)]).len(), 1);
    }

    #[test]
    fn what_is_shared_is_not_put_together_again() {
        let mut balance = Balance::default();
        for busy in [FULL, 0.8, 1.0] {
            for _ in 0..2 * CALM {
                // The same takes no less on two threads.
                let half = (busy / 2.0, 8);
                assert_eq!(decide(&mut balance, &[half, half]), [], "{busy}");
            }
        }
    }

    #[test]
    fn who_begins_goes_where_others_are_at_work_and_there_is_room() {
        assert_eq!(home(&loads(&[(0.0, 0), (0.0, 0)])), Some(0));
        assert_eq!(home(&loads(&[(0.0, 0), (0.3, 1), (0.2, 1)])), Some(1));
        assert_eq!(home(&loads(&[(0.0, 0), (0.9, 1), (0.2, 1)])), Some(2));
        assert_eq!(home(&loads(&[(0.9, 4), (0.8, 4)])), Some(1));
        assert_eq!(home(&[]), None);
    }
}
