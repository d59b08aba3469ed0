//! What stands before the database: nothing, a gate of a fixed width, or the governor.

use std::collections::VecDeque;
use std::time::Duration;

use reprise::governor::{Class, End, Entry, Ticket};

/// A gate.
#[derive(Debug)]
pub(crate) enum Gate {
    Free,
    Fixed { width: usize, running: usize, queue: VecDeque<usize> },
    Governed(Box<Class<usize>>),
}

impl Gate {
    pub(crate) fn fixed(width: usize) -> Self {
        Self::Fixed { width, running: 0, queue: VecDeque::new() }
    }

    pub(crate) fn governed() -> Self {
        Self::Governed(Box::new(Class::new(Duration::ZERO)))
    }

    /// A client wants in; the ticket if it must wait.
    pub(crate) fn enter(
        &mut self,
        now: Duration,
        client: usize,
        since: Duration,
        replay: bool,
    ) -> Option<Option<Ticket>> {
        match self {
            Self::Free => None,
            // A replay has kept its place.
            Self::Fixed { .. } if replay => None,
            Self::Fixed { width, running, queue } => {
                if *running < *width {
                    *running += 1;
                    return None;
                }
                queue.push_back(client);
                Some(None)
            }
            Self::Governed(class) => match class.enter(now, since, replay, || client) {
                Entry::Admitted => None,
                Entry::Queued(ticket) => Some(Some(ticket)),
            },
        }
    }

    /// An attempt has ended.
    pub(crate) fn leave(&mut self, now: Duration, end: End) {
        match self {
            Self::Free => {}
            Self::Fixed { running, .. } if end == End::Done => *running -= 1,
            Self::Fixed { .. } => {}
            Self::Governed(class) => class.leave(now, end),
        }
    }

    /// The next who may go.
    pub(crate) fn next(&mut self, now: Duration) -> Option<usize> {
        match self {
            Self::Free => None,
            Self::Fixed { width, running, queue } => {
                if running >= width {
                    return None;
                }
                let client = queue.pop_front()?;
                *running += 1;
                Some(client)
            }
            Self::Governed(class) => class.next(now),
        }
    }

    pub(crate) fn class(&mut self) -> Option<&mut Class<usize>> {
        match self {
            Self::Governed(class) => Some(class),
            Self::Free | Self::Fixed { .. } => None,
        }
    }
}
