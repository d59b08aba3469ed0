//! CancelRequest: a connection of its own that names a session by the key which the server gave to its client.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::live::Setup;
use super::upstream::Database;

/// The longest that a cancel waits for a session, or for the database to take it.
const PATIENCE: Duration = Duration::from_secs(5);
/// Cancels of one session that are under way at a time; more of them would say the same.
const UNDER_WAY_MAX: usize = 4;

/// Asks a session to cancel; answered with whether the request must go to the server too.
pub(super) type Ask = oneshot::Sender<bool>;

/// The sessions that can be cancelled, by process id and secret key as they stand in BackendKeyData.
#[derive(Clone, Default)]
pub(super) struct Registry(Arc<DashMap<Box<[u8]>, Target>>);

/// A session that can be cancelled.
#[derive(Clone)]
struct Target {
    asks: mpsc::Sender<Ask>,
    /// Those that may be under way besides.
    places: Arc<Semaphore>,
    /// The database that it was opened in is the one that knows its key.
    setup: Arc<Setup>,
}

/// A session's place in the registry; it leaves when this is dropped.
pub(super) struct Registration {
    registry: Registry,
    key: Option<Box<[u8]>>,
    /// Where requests to cancel arrive.
    pub(super) asks: mpsc::Receiver<Ask>,
}

impl Registry {
    /// Enters a session. A server that gives no key has sessions that nobody can cancel.
    pub(super) fn register(&self, key: Option<&[u8]>, setup: &Arc<Setup>) -> Registration {
        let (sender, asks) = mpsc::channel(UNDER_WAY_MAX);
        let key = key.map(Box::from);
        if let Some(key) = key.clone() {
            let places = Arc::new(Semaphore::new(UNDER_WAY_MAX));
            self.0.insert(key, Target { asks: sender, places, setup: Arc::clone(setup) });
        }
        Registration { registry: self.clone(), key, asks }
    }

    /// Cancels what runs in the session with this key: in the proxy, and where that is needed in the database. A key that
    /// belongs to no session leaves no trace upstream.
    pub(super) async fn cancel(&self, key: &[u8]) {
        let Some(session) = self.0.get(key).map(|session| session.clone()) else { return };
        let Ok(_place) = session.places.try_acquire() else { return };
        let (ask, answer) = oneshot::channel();
        if session.asks.try_send(ask).is_err() {
            return;
        }
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
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            self.registry.0.remove(key);
        }
    }
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
