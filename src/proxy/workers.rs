//! The threads that sessions run on: each has a runtime of its own, and a session stays where it was put until it is told to move.
//!
//! A session that moved between threads as it likes would wake them, and take its part in their locks, with every message. The kernel
//! can spread connections too (`SO_REUSEPORT`), but by chance: 16 sessions would lie 11 and 5 on two threads as likely as not.
//!
//! How many threads are at work is a matter of [`super::balance`]: it is told now and then what there was to do on each.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::runtime::{Builder, RuntimeMetrics};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::balance::{Balance, Load, Move, home};

/// How often what there is to do is looked at.
const PERIOD: Duration = Duration::from_millis(100);

/// The threads, which work on `J`. What still runs on them ends with the value.
pub(super) struct Workers<J> {
    workers: Arc<[Worker<J>]>,
    /// The number of the one for what is new.
    home: AtomicUsize,
    tasks: TaskTracker,
    /// The threads end when these are dropped.
    _stops: Vec<oneshot::Sender<()>>,
}

/// What is to go on elsewhere.
pub(super) struct Onward<J> {
    pub(super) job: J,
    /// The number of a thread.
    pub(super) to: usize,
}

struct Worker<J> {
    inbox: mpsc::UnboundedSender<(J, Place)>,
    post: Arc<Post>,
    metrics: RuntimeMetrics,
}

/// What a thread is told, and tells. Each of its tasks has a copy.
#[derive(Default)]
struct Post {
    /// The number of the period.
    period: AtomicU32,
    /// Tasks that did something in this period.
    active: AtomicU32,
    /// How many of them are to move on, above, and to which thread, below.
    orders: AtomicU64,
}

/// A task's place on its thread, as long as it is kept.
pub(super) struct Place {
    post: Arc<Post>,
    /// The period in which the task was last seen.
    seen: u32,
    _token: TaskTrackerToken,
}

impl<J: Send + 'static> Workers<J> {
    /// Starts so many threads, one at least; for zero, one for each processor that this process may use. Each thing to work on is handed to
    /// `serve`, with a place, and then to that of another thread if that is what comes of it.
    ///
    /// # Errors
    /// When the operating system refuses a thread or what a runtime needs.
    pub(super) fn start<F, S>(threads: usize, serve: F) -> io::Result<Self>
    where
        F: Fn(J, Place) -> S + Clone + Send + 'static,
        S: Future<Output = Option<Onward<J>>> + Send + 'static,
    {
        let processors = || thread::available_parallelism().map_or(1, usize::from);
        let threads = if threads == 0 { processors() } else { threads };
        let tasks = TaskTracker::new();
        let (mut workers, mut stops, mut ready) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..threads {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (inbox, jobs) = mpsc::unbounded_channel();
            let (stop, stopped) = oneshot::channel::<()>();
            workers.push(Worker { inbox, post: Arc::default(), metrics: runtime.metrics() });
            stops.push(stop);
            ready.push((runtime, jobs, stopped));
        }
        let workers: Arc<[Worker<J>]> = workers.into();
        for (runtime, mut jobs, stopped) in ready {
            let (workers, serve, tasks) = (Arc::clone(&workers), serve.clone(), tasks.clone());
            thread::Builder::new().name("sessions".to_owned()).spawn(move || {
                runtime.spawn(async move {
                    while let Some((job, place)) = jobs.recv().await {
                        let (workers, tokens) = (Arc::clone(&workers), tasks.clone());
                        // Not in an async block: what it is made of would be in memory twice.
                        let served = serve(job, place).map(move |onward| {
                            if let Some(Onward { job, to }) = onward {
                                workers[to].put(job, &tokens);
                            }
                        });
                        tokio::spawn(served);
                    }
                });
                // Nothing is ever sent: it ends when the sender is dropped.
                let _ = runtime.block_on(stopped);
            })?;
        }
        Ok(Self { workers, home: AtomicUsize::new(0), tasks, _stops: stops })
    }

    /// Works on something, on one of the threads.
    pub(super) fn put(&self, job: J) {
        self.workers[self.home.load(Ordering::Relaxed)].put(job, &self.tasks);
    }

    /// How much is worked on.
    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Waits until nothing is worked on any more. Nothing must be put in any more.
    pub(super) async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Looks after which thread has what to do, for as long as this is polled.
    pub(super) async fn balance(&self) {
        let mut balance = Balance::default();
        let mut worked: Vec<_> = self.workers.iter().map(Worker::worked).collect();
        let mut since = Instant::now();
        // With one thread there is nothing to look after.
        while self.workers.len() > 1 {
            tokio::time::sleep(PERIOD).await;
            let elapsed = since.elapsed();
            since += elapsed;
            let loads: Vec<_> = std::iter::zip(&*self.workers, &mut worked)
                .map(|(worker, worked)| {
                    let before = std::mem::replace(worked, worker.worked());
                    let busy = worked.saturating_sub(before).div_duration_f64(elapsed);
                    Load { busy, active: worker.post.end_period() }
                })
                .collect();
            self.home.store(home(&loads).unwrap_or(0), Ordering::Relaxed);
            for Move { from, to, tasks } in balance.decide(&loads) {
                tracing::trace!(from, to, tasks, "sessions are to move to another thread");
                self.workers[from].post.order(to, tasks);
            }
        }
        std::future::pending().await
    }
}

impl<J> Worker<J> {
    fn put(&self, job: J, tasks: &TaskTracker) {
        let seen = self.post.period.load(Ordering::Relaxed);
        let place = Place { post: Arc::clone(&self.post), seen, _token: tasks.token() };
        // A thread that has ended takes nothing: so has everything.
        let _ = self.inbox.send((job, place));
    }

    /// For how long it has not waited for something to do.
    fn worked(&self) -> Duration {
        self.metrics.worker_total_busy_duration(0)
    }
}

impl Post {
    /// Begins another period, without orders. Returns how many tasks did something in the last one.
    fn end_period(&self) -> u32 {
        self.orders.store(0, Ordering::Relaxed);
        self.period.fetch_add(1, Ordering::Relaxed);
        self.active.swap(0, Ordering::Relaxed)
    }

    fn order(&self, to: usize, tasks: u32) {
        self.orders.store(u64::from(tasks) << 32 | to as u64, Ordering::Relaxed);
    }

    /// Takes one order, if there is one.
    fn take_order(&self) -> Option<usize> {
        let less = |orders: u64| orders.checked_sub(1 << 32);
        let taken = self.orders.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        taken.ok().map(|orders| (orders & u64::from(u32::MAX)) as usize)
    }
}

impl Place {
    /// The task does something. Returns the thread on which it should go on, if that is another one; it is asked to only if it
    /// `may_move`.
    pub(super) fn stir(&mut self, may_move: bool) -> Option<usize> {
        let period = self.post.period.load(Ordering::Relaxed);
        if self.seen != period {
            self.seen = period;
            self.post.active.fetch_add(1, Ordering::Relaxed);
        }
        if may_move && self.post.orders.load(Ordering::Relaxed) != 0 { self.post.take_order() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::{mpsc, watch};

    use super::*;

    /// Tells of each thread that it is worked on, and waits for orders or the end.
    #[derive(Clone)]
    struct Job {
        tell: mpsc::UnboundedSender<thread::ThreadId>,
        ticks: watch::Receiver<bool>,
    }

    async fn work(mut job: Job, mut place: Place) -> Option<Onward<Job>> {
        job.tell.send(thread::current().id()).unwrap();
        loop {
            if let Some(to) = place.stir(true) {
                return Some(Onward { job, to });
            }
            if job.ticks.changed().await.is_err() {
                return None;
            }
        }
    }

    #[tokio::test]
    async fn as_many_as_are_told_go_on_on_another_thread() {
        let workers = Workers::start(3, work).unwrap();
        let (tick, ticks) = watch::channel(true);
        let (tell, mut told) = mpsc::unbounded_channel();
        (0..12).for_each(|_| workers.put(Job { tell: tell.clone(), ticks: ticks.clone() }));
        drop((tell, ticks));
        let first = told.recv().await.unwrap();
        for _ in 1..12 {
            assert_eq!(told.recv().await, Some(first), "they begin where others are at work");
        }
        assert_eq!(
            (workers.len(), workers.workers[0].post.end_period()),
            (12, 0),
            "none did anything behind its first turn"
        );
        workers.workers[0].post.order(2, 5);
        tick.send(true).unwrap();
        let other = told.recv().await.unwrap();
        assert_ne!(other, first);
        for _ in 1..5 {
            assert_eq!(told.recv().await, Some(other));
        }
        drop(tick);
        workers.finish().await;
        assert_eq!((told.recv().await, workers.len()), (None, 0), "the others stay");
        let active = workers.workers.iter().map(|worker| worker.post.end_period()).collect::<Vec<_>>();
        assert_eq!(active, [12, 0, 0], "each counts once");
    }

    /// Never waits for anything.
    async fn toil(job: Job, mut place: Place) -> Option<Onward<Job>> {
        job.tell.send(thread::current().id()).ok()?;
        while !job.tell.is_closed() {
            if let Some(to) = place.stir(true) {
                return Some(Onward { job, to });
            }
            let since = Instant::now();
            while since.elapsed() < Duration::from_millis(1) {}
            tokio::task::yield_now().await;
        }
        None
    }

    #[tokio::test]
    async fn what_one_thread_cannot_do_is_shared() {
        let workers = Workers::start(2, toil).unwrap();
        let (_tick, ticks) = watch::channel(true);
        let (tell, mut told) = mpsc::unbounded_channel();
        (0..4).for_each(|_| workers.put(Job { tell: tell.clone(), ticks: ticks.clone() }));
        let first = told.recv().await.unwrap();
        let another = async { while told.recv().await == Some(first) {} };
        tokio::select! {
            () = workers.balance() => {}
            shared = tokio::time::timeout(Duration::from_secs(20), another) => assert!(shared.is_ok()),
        }
        drop(told);
        workers.finish().await;
    }

    #[tokio::test]
    async fn what_runs_ends_with_the_value() {
        let (held, mut dropped) = mpsc::channel::<()>(1);
        let wait = |held, place| async move {
            let _held = (held, place);
            std::future::pending().await
        };
        let workers = Workers::start(1, wait).unwrap();
        workers.put(held);
        drop(workers);
        assert_eq!(dropped.recv().await, None);
    }
}
