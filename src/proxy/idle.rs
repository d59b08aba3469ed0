//! Clients that stay and do nothing: how long they may, inside of a transaction and outside, and with half of the connection
//! closed.
//!
//! The clock is read by others anyway; the timer is set again only when it fires. A session that is at work pays nothing.

use std::pin::Pin;
use std::task::Context;
use std::time::{Duration, Instant};

use tokio::time::Sleep;

/// Where a client is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// With no transaction open.
    Outside,
    /// In a transaction.
    Inside,
    /// It waits itself, and has closed its sending side.
    HalfClosed,
}

/// Watches a client. Zero is no limit.
pub(super) struct Idle {
    outside: Duration,
    inside: Duration,
    half_closed: Duration,
    /// When something last came from either side.
    since: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Idle {
    pub(super) const fn new(outside: Duration, inside: Duration, half_closed: Duration) -> Self {
        Self { outside, inside, half_closed, since: Duration::ZERO, timer: None }
    }

    /// The session has moved to another thread: what wakes it is to be there.
    pub(super) fn settle(&mut self) {
        self.timer = None;
    }

    /// Something came.
    pub(super) const fn stir(&mut self, now: Duration) {
        self.since = now;
    }

    /// Whether the client was idle for too long; if not, the task is woken when it may be.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, clock: Instant, waiting: Waiting) -> bool {
        let limit = match waiting {
            Waiting::Outside => self.outside,
            Waiting::Inside => self.inside,
            Waiting::HalfClosed => self.half_closed,
        };
        if limit.is_zero() {
            return false;
        }
        let due = tokio::time::Instant::from_std(clock + self.since + limit);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        // A timer that fires too early is set anew; only one that would fire too late must be changed now.
        if timer.deadline() > due {
            timer.as_mut().reset(due);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if tokio::time::Instant::now() >= due {
                return true;
            }
            timer.as_mut().reset(due);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn expired(idle: &mut Idle, clock: Instant, waiting: Waiting) -> bool {
        idle.poll(&mut Context::from_waker(Waker::noop()), clock, waiting)
    }

    #[tokio::test(start_paused = true)]
    async fn each_place_has_its_limit() {
        let clock = tokio::time::Instant::now().into_std();
        let mut idle = Idle::new(SECOND * 10, SECOND, SECOND * 2);
        assert!(!expired(&mut idle, clock, Waiting::Outside));
        tokio::time::advance(SECOND * 5).await;
        assert!(!expired(&mut idle, clock, Waiting::Outside));
        assert!(expired(&mut idle, clock, Waiting::Inside));
        assert!(expired(&mut idle, clock, Waiting::HalfClosed));
        tokio::time::advance(SECOND * 5).await;
        assert!(expired(&mut idle, clock, Waiting::Outside));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_stirs_has_the_whole_time_again() {
        let clock = tokio::time::Instant::now().into_std();
        let mut idle = Idle::new(SECOND * 10, Duration::ZERO, Duration::ZERO);
        assert!(!expired(&mut idle, clock, Waiting::Outside));
        idle.stir(SECOND * 9);
        tokio::time::advance(SECOND * 18).await;
        assert!(!expired(&mut idle, clock, Waiting::Outside));
        assert!(!expired(&mut idle, clock, Waiting::Inside), "no limit");
        tokio::time::advance(SECOND).await;
        assert!(expired(&mut idle, clock, Waiting::Outside));
    }
}
