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

use super::balance::{Balance, Load, Move};

/// How often what there is to do is looked at.
const PERIOD: Duration = Duration::from_millis(100);

/// So many tasks begin on one thread at a time before another one is looked for.
const BEGIN_MAX: usize = 8;
/// A task that has moved stays for so many periods: whoever does the most would otherwise be moved to and fro.
const STAY: u32 = 10;

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

/// What a thread gets to work on: something new, which counts from now on, or something that has moved.
enum Arrival<J> {
    New(J, Place),
    Moved(J),
}

struct Worker<J> {
    inbox: mpsc::UnboundedSender<Arrival<J>>,
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
    /// How many of the tasks are to move on, in the upper half, and to which thread, in the lower.
    orders: AtomicU64,
    /// Tasks that have not done anything yet but to begin.
    beginning: AtomicUsize,
}

/// A task's place on its thread, as long as it is kept.
pub(super) struct Place {
    post: Arc<Post>,
    /// The period in which the task was last seen.
    seen: u32,
    /// The period up to which it stays.
    stays: u32,
    /// It counts as beginning.
    begins: bool,
    _token: TaskTrackerToken,
}

impl<J: Send + 'static> Workers<J> {
    /// Starts so many threads; for zero, one for each processor that this process may use. Each thing to work on is handed to
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
        let started: Vec<_> =
            (0..threads).map(|_| start(serve.clone(), tasks.clone())).collect::<io::Result<_>>()?;
        let (workers, rest): (Vec<_>, Vec<_>) = started.into_iter().unzip();
        let workers: Arc<[Worker<J>]> = workers.into();
        let (known, stops): (Vec<_>, Vec<_>) = rest.into_iter().unzip();
        // A thread that has ended needs to know nothing.
        known.into_iter().for_each(|known| drop(known.send(Arc::clone(&workers))));
        Ok(Self { workers, home: AtomicUsize::new(0), tasks, _stops: stops })
    }

    /// Works on something new: where others are at work, or, if many begin there already, where the fewest begin.
    pub(super) fn put(&self, job: J) {
        let begin = |worker: &Worker<J>| worker.post.beginning.load(Ordering::Relaxed);
        let home = &self.workers[self.home.load(Ordering::Relaxed)];
        let fewest = || self.workers.iter().min_by_key(|worker| begin(worker)).unwrap_or(home);
        let worker = if begin(home) < BEGIN_MAX { home } else { fewest() };
        worker.post.beginning.fetch_add(1, Ordering::Relaxed);
        let place = Place::new(&worker.post, true, self.tasks.token());
        // A thread that has ended takes nothing: so has everything.
        let _ = worker.inbox.send(Arrival::New(job, place));
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
            let loads = std::iter::zip(&*self.workers, &mut worked)
                .map(|(worker, worked)| {
                    let before = std::mem::replace(worked, worker.worked());
                    let busy = worked.saturating_sub(before).div_duration_f64(elapsed);
                    Load { busy, active: worker.post.end_period() }
                })
                .collect();
            balance.note(loads);
            self.home.store(balance.home(), Ordering::Relaxed);
            for Move { from, to, tasks } in balance.moves() {
                tracing::trace!(from, to, tasks, "sessions are to move to another thread");
                self.workers[from].post.order(to, tasks);
            }
        }
        std::future::pending().await
    }
}

/// A thread, what tells it of all others, and what ends it.
type Started<J> = (Worker<J>, (oneshot::Sender<Arc<[Worker<J>]>>, oneshot::Sender<()>));

/// Starts one thread. Its runtime is made and dropped there: it could not be where others wait for this one.
fn start<J, F, S>(serve: F, tasks: TaskTracker) -> io::Result<Started<J>>
where
    J: Send + 'static,
    F: Fn(J, Place) -> S + Send + 'static,
    S: Future<Output = Option<Onward<J>>> + Send + 'static,
{
    let (inbox, mut arrivals) = mpsc::unbounded_channel();
    let ((know, known), (stop, stopped)) = (oneshot::channel(), oneshot::channel());
    let (tell, told) = std::sync::mpsc::channel();
    let post = Arc::<Post>::default();
    let at = Arc::clone(&post);
    thread::Builder::new().name("sessions".to_owned()).spawn(move || {
        let runtime = match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(tell.send(Err(error))),
        };
        // Whoever has started it waits for this.
        let _ = tell.send(Ok(runtime.metrics()));
        runtime.spawn(async move {
            let Ok(workers): Result<Arc<[Worker<J>]>, _> = known.await else { return };
            while let Some(arrival) = arrivals.recv().await {
                let (job, place) = match arrival {
                    Arrival::New(job, place) => (job, place),
                    Arrival::Moved(job) => (job, Place::new(&at, false, tasks.token())),
                };
                let workers = Arc::clone(&workers);
                // Not in an async block: what it is made of would be in memory twice.
                tokio::spawn(serve(job, place).map(move |onward| {
                    if let Some(Onward { job, to }) = onward {
                        let _ = workers[to].inbox.send(Arrival::Moved(job));
                    }
                }));
            }
        });
        // Nothing is ever sent: it ends when the sender is dropped.
        let _ = runtime.block_on(stopped);
    })?;
    let metrics = told.recv().map_err(io::Error::other)??;
    Ok((Worker { inbox, post, metrics }, (know, stop)))
}

impl<J> Worker<J> {
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
    fn new(post: &Arc<Post>, begins: bool, token: TaskTrackerToken) -> Self {
        let seen = post.period.load(Ordering::Relaxed);
        let stays = if begins { seen } else { seen.wrapping_add(STAY) };
        Self { post: Arc::clone(post), seen, stays, begins, _token: token }
    }

    /// The task does something. Returns the thread on which it should go on, if that is another one.
    pub(super) fn stir(&mut self) -> Option<usize> {
        let period = self.post.period.load(Ordering::Relaxed);
        if self.begins {
            self.has_begun();
        }
        if self.seen != period {
            self.seen = period;
            self.post.active.fetch_add(1, Ordering::Relaxed);
        }
        let stays = period.wrapping_sub(self.stays).cast_signed() < 0;
        if stays || self.post.orders.load(Ordering::Relaxed) == 0 { None } else { self.post.take_order() }
    }

    fn has_begun(&mut self) {
        self.begins = false;
        self.post.beginning.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.begins {
            self.has_begun();
        }
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
            if let Some(to) = place.stir() {
                return Some(Onward { job, to });
            }
            if job.ticks.changed().await.is_err() {
                return None;
            }
        }
    }

    #[tokio::test]
    async fn as_many_as_are_told_go_on_on_another_thread_and_stay_there() {
        let workers = Workers::start(3, work).unwrap();
        let (tick, ticks) = watch::channel(true);
        let (tell, mut told) = mpsc::unbounded_channel();
        let mut homes = Vec::new();
        for _ in 0..12 {
            workers.put(Job { tell: tell.clone(), ticks: ticks.clone() });
            homes.push(told.recv().await.unwrap());
        }
        drop((tell, ticks));
        assert!(homes.iter().all(|home| *home == homes[0]), "they begin where others are at work");
        let post = |number: usize| &workers.workers[number].post;
        assert_eq!((workers.len(), post(0).end_period()), (12, 0), "none did anything behind its first turn");
        post(0).order(2, 5);
        tick.send(true).unwrap();
        let other = told.recv().await.unwrap();
        assert_ne!(other, homes[0]);
        for _ in 1..5 {
            assert_eq!(told.recv().await, Some(other));
        }
        for period in 1..=STAY {
            post(2).end_period();
            post(2).order(1, 1);
            tick.send(true).unwrap();
            if period == STAY {
                assert!(told.recv().await.is_some_and(|third| third != other && third != homes[0]));
            }
        }
        assert_eq!(
            (told.try_recv().is_err(), workers.len()),
            (true, 12),
            "only one has moved, and only then"
        );
        drop(tick);
        workers.finish().await;
        assert_eq!((told.recv().await, workers.len()), (None, 0));
    }

    #[tokio::test]
    async fn where_many_begin_at_once_all_threads_take_part() {
        let begin = |job: Job, place| async move {
            let _place = place;
            job.tell.send(thread::current().id()).unwrap();
            std::future::pending().await
        };
        let workers = Workers::start(3, begin).unwrap();
        let (_tick, ticks) = watch::channel(true);
        let (tell, mut told) = mpsc::unbounded_channel();
        (0..30).for_each(|_| workers.put(Job { tell: tell.clone(), ticks: ticks.clone() }));
        let mut shares = std::collections::HashMap::new();
        for _ in 0..30 {
            *shares.entry(told.recv().await.unwrap()).or_insert(0) += 1;
        }
        assert_eq!(shares.into_values().collect::<Vec<_>>(), [10, 10, 10]);
    }

    /// Never waits for anything.
    async fn toil(job: Job, mut place: Place) -> Option<Onward<Job>> {
        job.tell.send(thread::current().id()).ok()?;
        while !job.tell.is_closed() {
            if let Some(to) = place.stir() {
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
