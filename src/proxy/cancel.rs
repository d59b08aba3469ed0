//! CancelRequest: a connection of its own that names a session by the key which the server gave to its client.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use dashmap::DashMap;
use futures_util::task::AtomicWaker;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::live::Setup;
use super::upstream::Database;

/// The longest that a cancel waits for a session, or for the database to take it.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the database gets to read what it is to cancel.
const AGAIN: Duration = Duration::from_millis(200);
/// Cancels of one session that are under way at a time; more of them would say the same.
const UNDER_WAY_MAX: usize = 4;

/// Asks a session to cancel; answered with whether the request must go to the server too.
pub(super) type Ask = oneshot::Sender<bool>;

/// Where requests to cancel a session arrive. A channel would be ten times as large, and most sessions are never cancelled.
#[derive(Default)]
struct Letterbox {
    inside: Mutex<Letters>,
    waker: AtomicWaker,
}

#[derive(Default)]
struct Letters {
    asks: Vec<Ask>,
    /// Those that are under way: not answered yet, or on their way to the database.
    under_way: usize,
    /// The session is over.
    is_closed: bool,
}

impl Letterbox {
    fn with<T>(&self, act: impl FnOnce(&mut Letters) -> T) -> T {
        // What is done under the lock leaves it whole, even if it panics.
        act(&mut self.inside.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks the session; `None` if it is over, or asked too often.
    fn ask(&self) -> Option<(oneshot::Receiver<bool>, UnderWay<'_>)> {
        let answer = self.with(|letters| {
            if letters.is_closed || letters.under_way >= UNDER_WAY_MAX {
                return None;
            }
            let (ask, answer) = oneshot::channel();
            letters.asks.push(ask);
            letters.under_way += 1;
            Some(answer)
        })?;
        self.waker.wake();
        Some((answer, UnderWay(self)))
    }

    /// The session is over: who has asked hears no more of it.
    fn close(&self) {
        self.with(|letters| {
            letters.is_closed = true;
            std::mem::take(&mut letters.asks)
        });
    }
}

/// A request that is under way until this is dropped.
struct UnderWay<'a>(&'a Letterbox);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.with(|letters| letters.under_way -= 1);
    }
}

/// The sessions that can be cancelled, by process id and secret key as they stand in BackendKeyData.
#[derive(Clone, Default)]
pub(super) struct Registry(Arc<DashMap<Box<[u8]>, Target>>);

/// A session that can be cancelled.
#[derive(Clone)]
struct Target {
    letterbox: Arc<Letterbox>,
    /// The database that it was opened in is the one that knows its key.
    setup: Arc<Setup>,
}

/// A session's place in the registry; it leaves when this is dropped.
pub(super) struct Registration {
    registry: Registry,
    key: Option<Box<[u8]>>,
    letterbox: Arc<Letterbox>,
}

impl Registry {
    /// Enters a session. A server that gives no key has sessions that nobody can cancel.
    pub(super) fn register(&self, key: Option<&[u8]>, setup: &Arc<Setup>) -> Registration {
        let letterbox = Arc::<Letterbox>::default();
        let key = key.map(Box::from);
        if let Some(key) = key.clone() {
            self.0.insert(key, Target { letterbox: Arc::clone(&letterbox), setup: Arc::clone(setup) });
        }
        Registration { registry: self.clone(), key, letterbox }
    }

    /// Cancels what runs in the session with this key: in the proxy, and where that is needed in the database. A key that
    /// belongs to no session leaves no trace upstream.
    pub(super) async fn cancel(&self, key: &[u8]) {
        let Some(session) = self.0.get(key).map(|session| session.clone()) else { return };
        let Some((answer, _under_way)) = session.letterbox.ask() else { return };
        if let Ok(Ok(true)) = tokio::time::timeout(PATIENCE, answer).await {
            forward(key, session.setup.database()).await;
        }
    }
}

impl Registration {
    /// The session's key.
    pub(super) fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    /// The next request to cancel, when there is one.
    pub(super) fn poll_ask(&self, cx: &Context<'_>) -> Poll<Ask> {
        self.letterbox.waker.register(cx.waker());
        let ask = self.letterbox.with(|letters| (!letters.asks.is_empty()).then(|| letters.asks.remove(0)));
        ask.map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            self.registry.0.remove(key);
        }
        self.letterbox.close();
    }
}

/// Cancels what runs for nobody. A request that comes before the database has read what it is to cancel comes too early, and nothing
/// tells that it did: so there is another one behind it.
pub(super) async fn forward_twice(key: &[u8], database: Database<'_>) {
    forward(key, database).await;
    tokio::time::sleep(AGAIN).await;
    forward(key, database).await;
}

/// Sends a CancelRequest to the database, and waits until the database has closed the connection: then it has acted on it.
pub(super) async fn forward(key: &[u8], database: Database<'_>) {
    let exchange = async {
        let mut stream = database.connect().await.ok()?;
        stream.write_all(&crate::wire::startup::cancel_request(key)).await.ok()?;
        stream.flush().await.ok()?;
        stream.read(&mut [0; 64]).await.ok()
    };
    if !matches!(tokio::time::timeout(PATIENCE, exchange).await, Ok(Some(_))) {
        tracing::debug!("a cancel request did not reach the database");
    }
}
