//! A waker that remembers whether it was called, so that a task polls only what has something to say.
//!
//! Each poll of a socket that has nothing locks it and leaves a waker there; a session waits for two of them and for more that
//! almost never comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

/// The bell of one thing that a task waits for. It is rung at first: nothing was polled yet.
pub(super) struct Bell {
    rope: Arc<Rope>,
    waker: Waker,
}

/// What is pulled to ring it.
struct Rope {
    rung: AtomicBool,
    task: Waker,
}

impl Wake for Rope {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

impl Bell {
    fn new(task: &Waker) -> Self {
        let rope = Arc::new(Rope { rung: AtomicBool::new(true), task: task.clone() });
        let waker = Waker::from(Arc::clone(&rope));
        Self { rope, waker }
    }

    /// Whether it was rung since the last time; then what it is for must be polled, with [`Self::context`].
    pub(super) fn heard(&self) -> bool {
        // Nobody else takes it back, so that the common case needs no more than a look.
        self.rope.rung.load(Ordering::Acquire) && self.rope.rung.swap(false, Ordering::AcqRel)
    }

    /// What was polled was ready: only when it is not will it ring by itself.
    pub(super) fn ring(&self) {
        self.rope.rung.store(true, Ordering::Release);
    }

    /// What it is for is polled with this.
    pub(super) fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }
}

/// The bells of a session.
pub(super) struct Bells {
    pub(super) client: Bell,
    pub(super) server: Bell,
    /// Requests to cancel, and the end of the proxy.
    pub(super) outside: Bell,
}

impl Bells {
    /// All of them rung, for no task yet.
    pub(super) fn new() -> Self {
        Self::of(Waker::noop())
    }

    fn of(task: &Waker) -> Self {
        Self { client: Bell::new(task), server: Bell::new(task), outside: Bell::new(task) }
    }

    /// From now on they wake this task. If it is another one than before they are all rung.
    pub(super) fn wake(&mut self, task: &Waker) {
        if !self.client.rope.task.will_wake(task) {
            *self = Self::of(task);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_bell_is_heard_once_and_wakes_its_task() {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let bell = Bell::new(&Waker::from(Arc::clone(&count)));
        assert!(bell.heard() && !bell.heard(), "it is rung at first");
        bell.context().waker().wake_by_ref();
        assert!(bell.heard() && !bell.heard());
        bell.ring();
        assert!(bell.heard() && !bell.heard());
        assert_eq!(count.0.load(Ordering::Relaxed), 1, "whoever rings it again is awake");
    }

    #[test]
    fn another_task_hears_all_of_them() {
        let [first, second] = [(); 2].map(|()| Waker::from(Arc::new(Count(AtomicUsize::new(0)))));
        let mut bells = Bells::new();
        bells.wake(&first);
        assert!(bells.client.heard() && bells.server.heard() && bells.outside.heard());
        bells.wake(&first.clone());
        assert!(!bells.client.heard() && !bells.server.heard() && !bells.outside.heard());
        bells.wake(&second);
        assert!(bells.client.heard() && bells.server.heard() && bells.outside.heard());
    }
}
