//! What stands before the database: nothing, a gate of a fixed width, or the governor.

use std::collections::VecDeque;
use std::time::Duration;

use reprise::governor::{Class, End, Entry, Ticket};

/// A gate.
#[derive(Debug)]
pub(crate) enum Gate {
    Free,
    Fixed {
        width: usize,
        running: usize,
        queue: VecDeque<usize>,
    },
    /// There is a class from the first conflict on.
    Governed(Option<Box<Class<usize>>>),
}

impl Gate {
    pub(crate) fn fixed(width: usize) -> Self {
        Self::Fixed { width, running: 0, queue: VecDeque::new() }
    }

    pub(crate) fn governed() -> Self {
        Self::Governed(None)
    }

    /// An attempt has met a conflict that began when there was no class.
    pub(crate) fn contends(&mut self, now: Duration) {
        if let Self::Governed(class) = self {
            class.get_or_insert_with(|| Box::new(Class::new(now))).ended(now, End::Wasted);
        }
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
            Self::Free | Self::Governed(None) => None,
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
            Self::Governed(Some(class)) => match class.enter(now, since, replay, || client) {
                Entry::Admitted => None,
                Entry::Queued(ticket) => Some(Some(ticket)),
            },
        }
    }

    /// An attempt has ended.
    pub(crate) fn leave(&mut self, now: Duration, end: End) {
        match self {
            Self::Free | Self::Governed(None) => {}
            Self::Fixed { running, .. } if end == End::Done => *running -= 1,
            Self::Fixed { .. } => {}
            Self::Governed(Some(class)) => class.leave(now, end),
        }
    }

    /// The next who may go.
    pub(crate) fn next(&mut self, now: Duration) -> Option<usize> {
        match self {
            Self::Free | Self::Governed(None) => None,
            Self::Fixed { width, running, queue } => {
                if running >= width {
                    return None;
                }
                let client = queue.pop_front()?;
                *running += 1;
                Some(client)
            }
            Self::Governed(Some(class)) => class.next(now),
        }
    }

    pub(crate) fn class(&mut self) -> Option<&mut Class<usize>> {
        match self {
            Self::Governed(class) => class.as_deref_mut(),
            Self::Free | Self::Fixed { .. } => None,
        }
    }
}
