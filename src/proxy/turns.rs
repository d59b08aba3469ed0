//! Turns for replays, so many at a time for all sessions: who finds none waits, the oldest transaction first.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::sync::oneshot;

use crate::telemetry::{Telemetry, WaitGuard};

/// What all sessions share. Only replays touch it.
#[derive(Clone)]
pub(super) struct Turns(Arc<Mutex<Line>>);

struct Line {
    free: usize,
    /// By the age of the transaction; the number tells those of one moment apart.
    waiting: BTreeMap<(Instant, u64), oneshot::Sender<Turn>>,
    number: u64,
}

/// Where one session stands: with a turn, in the line, or neither.
pub(super) struct Place {
    turns: Turns,
    turn: Option<Turn>,
    waiting: Option<(Waiting, WaitGuard)>,
}

/// A turn, taken until this is dropped.
struct Turn(Turns);

/// A place in the line; left when this is dropped.
struct Waiting {
    turns: Turns,
    place: (Instant, u64),
    called: oneshot::Receiver<Turn>,
}

/// What asking for a turn comes to.
enum Asked {
    Admitted(Turn),
    Waiting(Waiting),
}

impl Turns {
    pub(super) fn new(at_a_time: usize) -> Self {
        Self(Arc::new(Mutex::new(Line { free: at_a_time, waiting: BTreeMap::new(), number: 0 })))
    }

    /// Asks for a turn, for a transaction that began at this moment.
    fn ask(&self, began: Instant) -> Asked {
        self.with(|line| {
            if line.free > 0 {
                line.free -= 1;
                return Asked::Admitted(Turn(self.clone()));
            }
            line.number += 1;
            let place = (began, line.number);
            let (call, called) = oneshot::channel();
            line.waiting.insert(place, call);
            Asked::Waiting(Waiting { turns: self.clone(), place, called })
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Line) -> T) -> T {
        // What is done under the lock leaves it whole, even if it panics.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Place {
    pub(super) const fn new(turns: Turns) -> Self {
        Self { turns, turn: None, waiting: None }
    }

    /// Asks for a turn, for a transaction that began at this moment. False if it has to wait.
    pub(super) fn ask(&mut self, began: Instant, telemetry: &Telemetry) -> bool {
        // What it had goes to whoever is next: that may be itself.
        self.leave();
        match self.turns.ask(began) {
            Asked::Admitted(turn) => self.turn = Some(turn),
            Asked::Waiting(waiting) => self.waiting = Some((waiting, telemetry.replay_waits())),
        }
        self.turn.is_some()
    }

    /// Gives the turn back, or leaves the line.
    pub(super) fn leave(&mut self) {
        (self.turn, self.waiting) = (None, None);
    }

    /// Ready once, when the turn has come that was waited for.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some((waiting, _)) = &mut self.waiting else { return Poll::Pending };
        let turn = std::task::ready!(waiting.poll(cx));
        (self.turn, self.waiting) = (Some(turn), None);
        Poll::Ready(())
    }
}

impl Drop for Turn {
    /// The oldest in the line is next. One that has just left it gives the turn back: then this is done once more.
    fn drop(&mut self) {
        let next = self.0.with(|line| {
            let next = line.waiting.pop_first();
            line.free += usize::from(next.is_none());
            next
        });
        if let Some((_, call)) = next {
            // Outside of the lock, which the turn that comes back would take.
            drop(call.send(Self(self.0.clone())));
        }
    }
}

impl Waiting {
    /// Ready when the turn has come.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        match Pin::new(&mut self.called).poll(cx) {
            Poll::Ready(Ok(turn)) => Poll::Ready(turn),
            // Nobody drops the other end without calling.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.turns.with(|line| line.waiting.remove(&self.place));
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;
    use std::time::Duration;

    use super::*;

    fn admitted(asked: Asked) -> Turn {
        match asked {
            Asked::Admitted(turn) => turn,
            Asked::Waiting(_) => panic!("it must wait"),
        }
    }

    fn waiting(asked: Asked) -> Waiting {
        match asked {
            Asked::Waiting(waiting) => waiting,
            Asked::Admitted(_) => panic!("it need not wait"),
        }
    }

    fn called(waiting: &mut Waiting) -> Option<Turn> {
        match waiting.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        }
    }

    #[test]
    fn the_oldest_is_called_first() {
        let (turns, start) = (Turns::new(1), Instant::now());
        let first = admitted(turns.ask(start));
        let mut young = waiting(turns.ask(start + Duration::from_secs(2)));
        let mut old = waiting(turns.ask(start + Duration::from_secs(1)));
        assert!(called(&mut young).is_none() && called(&mut old).is_none());
        drop(first);
        assert!(called(&mut young).is_none());
        let second = called(&mut old).expect("its turn");
        assert!(called(&mut young).is_none());
        drop(second);
        let third = called(&mut young).expect("its turn");
        drop(third);
        let _again = admitted(turns.ask(start));
    }

    #[test]
    fn who_leaves_the_line_takes_no_turn_with_it() {
        let (turns, start) = (Turns::new(2), Instant::now());
        let (one, other) = (admitted(turns.ask(start)), admitted(turns.ask(start)));
        let gone = waiting(turns.ask(start));
        drop(gone);
        let mut stays = waiting(turns.ask(start));
        let called_and_gone = waiting(turns.ask(start));
        drop(one);
        drop(other);
        assert!(called(&mut stays).is_some(), "and given back at once");
        drop(called_and_gone);
        drop((admitted(turns.ask(start)), admitted(turns.ask(start))));
    }
}
