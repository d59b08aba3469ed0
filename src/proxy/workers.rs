//! The threads that sessions run on: each has a runtime of its own, and a session stays where it was put.
//!
//! A session that moved between threads would wake them, and take its part in their locks, with every message. The kernel can
//! spread connections too (`SO_REUSEPORT`), but by chance: 16 sessions would lie 11 and 5 on two threads as likely as not.
//!
//! Fewer threads have more to do whenever they wake up, and cost a little less for each transaction; but then sessions wait for each
//! other.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

/// The threads. What still runs on them ends with the value.
pub(super) struct Workers(Vec<Worker>);

/// A task's place on its thread, as long as it is kept.
pub(super) struct Place(#[expect(dead_code, reason = "it counts")] Arc<()>);

struct Worker {
    runtime: Handle,
    /// Each of its tasks keeps a copy.
    load: Arc<()>,
    /// The thread ends when this is dropped.
    _stop: oneshot::Sender<()>,
}

impl Workers {
    /// Starts so many threads; for zero, one for each processor that this process may use.
    ///
    /// # Errors
    /// When the operating system refuses a thread or what a runtime needs.
    pub(super) fn start(threads: usize) -> io::Result<Self> {
        let processors = || thread::available_parallelism().map_or(1, usize::from);
        let threads = if threads == 0 { processors() } else { threads };
        (0..threads).map(|_| Worker::start()).collect::<io::Result<_>>().map(Self)
    }

    /// Runs a task on the thread that has the fewest. The task keeps its place there to its end.
    pub(super) fn spawn<T>(&self, tasks: &TaskTracker, task: impl FnOnce(Place) -> T)
    where
        T: Future<Output = ()> + Send + 'static,
    {
        let idlest = self.0.iter().min_by_key(|worker| Arc::strong_count(&worker.load));
        let Some(Worker { runtime, load, .. }) = idlest else { return };
        // Were the place kept in a future around the task's, that would be in memory twice.
        tasks.spawn_on(task(Place(Arc::clone(load))), runtime);
    }
}

impl Worker {
    fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        thread::Builder::new().name("sessions".to_owned()).spawn(move || {
            // Nothing is ever sent: it ends when the sender is dropped.
            let _ = runtime.block_on(stopped);
        })?;
        Ok(Self { runtime: handle, load: Arc::new(()), _stop: stop })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tokio::sync::{mpsc, watch};

    use super::*;

    #[tokio::test]
    async fn every_thread_gets_its_share() {
        let (workers, tasks) = (Workers::start(3).unwrap(), TaskTracker::new());
        let (end, ended) = watch::channel(());
        let (tell, mut told) = mpsc::channel(12);
        let task = || {
            let (tell, mut ended) = (tell.clone(), ended.clone());
            |place| async move {
                let _place = place;
                tell.send(thread::current().id()).await.unwrap();
                let _ = ended.changed().await;
            }
        };
        (0..12).for_each(|_| workers.spawn(&tasks, task()));
        let mut shares = HashMap::new();
        for _ in 0..12 {
            *shares.entry(told.recv().await.unwrap()).or_insert(0) += 1;
        }
        assert_eq!(shares.into_values().collect::<Vec<_>>(), [4, 4, 4]);
        end.send(()).unwrap();
        tasks.close();
        tasks.wait().await;
        assert!(workers.0.iter().all(|worker| Arc::strong_count(&worker.load) == 1));
    }

    #[tokio::test]
    async fn what_runs_ends_with_the_value() {
        let (workers, tasks) = (Workers::start(1).unwrap(), TaskTracker::new());
        let (held, mut dropped) = mpsc::channel::<()>(1);
        workers.spawn(&tasks, |place| async move {
            let _held = (held, place);
            std::future::pending::<()>().await;
        });
        drop(workers);
        assert_eq!(dropped.recv().await, None);
    }
}
