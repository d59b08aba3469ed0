//! Accepts clients, has threads work on their sessions, and lets these end in peace at shutdown.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use super::admission::{Admitted, FAREWELL, Shared, admit, log_refusal};
use super::live::{Live, Setup};
use super::refusal::Refusal;
use super::session::Stop;
use super::sockets::{Arrival, Listeners, Peer};
use super::workers::{Onward, Place, Workers};
use super::{cancel, names};
use crate::telemetry::Telemetry;

/// How long accepting pauses after the operating system refused a connection, out of file descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often the contention classes are looked after.
const SWEEP: Duration = Duration::from_secs(1);
/// Connections besides those of sessions that are open at a time: clients that start, cancel, or are told that there is no
/// room. Beyond that they are closed unheard.
const VISITORS_MAX: usize = 256;

/// Serves clients until `shutdown` completes; then accepts no more, lets transactions finish for `proxy.drain_timeout`, and
/// returns.
///
/// # Errors
/// When the threads that sessions run on cannot be started. What goes wrong with one connection is logged and counted, and
/// the others go on.
pub async fn serve(
    listeners: impl Into<Listeners>,
    live: Arc<Live>,
    telemetry: Arc<Telemetry>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let shared = Arc::new(Shared::new(live, telemetry));
    let listeners = listeners.into();
    let serve = {
        let shared = Arc::clone(&shared);
        move |job, place| work(job, place, Arc::clone(&shared))
    };
    let workers = Workers::start(shared.live.now().config.proxy.threads, serve)?;
    let _sweeper = AbortOnDropHandle::new(tokio::spawn(sweep(Arc::clone(&shared))));
    let insight = Arc::clone(shared.telemetry.insight());
    let _names = AbortOnDropHandle::new(tokio::spawn(names::look_up(Arc::clone(&shared.live), insight)));
    let balance = workers.balance();
    tokio::pin!(shutdown, balance);
    loop {
        tokio::select! {
            accepted = listeners.accept() => match accepted {
                Ok((arrival, peer)) => {
                    let setup = shared.live.now();
                    if workers.len() >= setup.config.proxy.max_connections + VISITORS_MAX {
                        log_refusal(&Refusal::TooMany, peer, &shared.telemetry);
                        continue;
                    }
                    workers.put(Job::Arrival(arrival, peer, setup));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            () = &mut shutdown => break,
            () = &mut balance => {}
        }
    }
    drop(listeners);
    shared.shutdown.cancel();
    if tokio::time::timeout(shared.live.now().config.proxy.drain_timeout, workers.finish()).await.is_err() {
        tracing::warn!(sessions = workers.len(), "sessions with open transactions are cut off");
        shared.cut_off.cancel();
        // They only say goodbye now.
        let _ = tokio::time::timeout(FAREWELL, workers.finish()).await;
    }
    Ok(())
}

/// Looks after the contention classes for as long as the proxy runs.
async fn sweep(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        ticks.tick().await;
        shared.classes.sweep(&shared.live.now().config.governor);
    }
}

/// What a thread works on.
enum Job {
    /// A client that has just come.
    Arrival(Arrival, Peer, Arc<Setup>),
    /// A session that comes from another thread.
    Session(Box<Admitted>),
}

/// Works on one thing on the thread that this runs on, and returns it if it is to go on elsewhere.
async fn work(job: Job, place: Place, shared: Arc<Shared>) -> Option<Onward<Job>> {
    let admitted = match job {
        Job::Arrival(arrival, peer, setup) => {
            // On the heap: its memory is free again when the session runs.
            let admitted = Box::pin(admit(arrival, peer, &setup, place, &shared)).await;
            admitted.unwrap_or_else(|refusal| {
                log_refusal(&refusal, peer, &shared.telemetry);
                None
            })?
        }
        Job::Session(mut admitted) => {
            admitted.session.settle(place);
            shared.telemetry.session_moved();
            admitted
        }
    };
    run(admitted, &shared).await
}

/// Runs a session for as long as it stays on this thread.
async fn run(mut admitted: Box<Admitted>, shared: &Shared) -> Option<Onward<Job>> {
    let (ending, orphaned) = match admitted.session.run().await {
        Stop::Ended(ending, orphaned) => (ending, orphaned),
        Stop::Moves(to) => return Some(Onward { job: Job::Session(admitted), to }),
    };
    let (id, setup) = (admitted.entry.id, Arc::clone(&admitted.setup));
    // The end of the proxy waits for what is done below, and nothing else is kept for it.
    let _place = admitted.into_place();
    match ending.breakage() {
        Some(cause) => {
            shared.telemetry.session_broken(cause);
            tracing::warn!(session = id, cause = cause.name(), "session ends: {ending}");
        }
        None => tracing::debug!(session = id, "session ends: {ending}"),
    }
    if let Some(key) = orphaned {
        Box::pin(cancel::forward_twice(&key, setup.database())).await;
    }
    None
}
