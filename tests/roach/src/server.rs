//! The server: it listens, greets, keeps track of its sessions, and shuts down in order.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::catalog::{Catalog, Schema};
use crate::faults::Faults;
use crate::kv::{Span, Store, Timestamp};
use crate::session::Wire;
use crate::sql::value::Datum;
use crate::startup::greet;
use crate::transaction::State;
use crate::version::Version;

/// How a server is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens; port 0 means any free one.
    pub listen: SocketAddr,
    /// Which CockroachDB it pretends to be.
    pub version: Version,
    /// What decides everything that is left to chance.
    pub seed: u64,
    /// `kv.lock_table.deadlock_detection_push_delay`: how long a transaction waits for a lock before it looks for a deadlock.
    pub deadlock_delay: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            version: Version::default(),
            seed: 1,
            deadlock_delay: Duration::from_millis(100),
        }
    }
}

/// What the sessions of a server share.
#[derive(Debug)]
pub struct Shared {
    pub(crate) version: Version,
    pub(crate) store: Store,
    pub(crate) catalog: Catalog,
    pub(crate) faults: Faults,
    sessions: Mutex<Vec<Weak<Handle>>>,
    next_session: AtomicU64,
    draining: watch::Sender<bool>,
}

impl Shared {
    fn sessions(&self) -> MutexGuard<'_, Vec<Weak<Handle>>> {
        self.sessions.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Adds a session.
    pub(crate) fn register(&self, application_name: &str) -> Arc<Handle> {
        let number = self.next_session.fetch_add(1, Ordering::SeqCst) + 1;
        let handle = Arc::new(Handle {
            // The node's number stands in the upper bits, something unguessable in a real server in the lower ones.
            key: 1 << 52 | number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 12,
            application_name: Mutex::new(application_name.into()),
            state: Mutex::new(State::NoTxn),
            committed: Mutex::new(None),
            cancel: Notify::new(),
            kill: Notify::new(),
        });
        let mut sessions = self.sessions();
        sessions.retain(|session| session.strong_count() > 0);
        sessions.push(Arc::downgrade(&handle));
        handle
    }

    fn handles(&self) -> Vec<Arc<Handle>> {
        self.sessions().iter().filter_map(Weak::upgrade).collect()
    }

    /// The sessions of an application.
    pub(crate) fn sessions_named(&self, application_name: &str) -> Vec<Arc<Handle>> {
        let mut handles = self.handles();
        handles.retain(|handle| *locked(&handle.application_name) == application_name);
        handles
    }

    /// Cancels the statement of the session that was given this key.
    pub(crate) fn cancel(&self, key: u64) {
        self.handles().iter().filter(|handle| handle.key == key).for_each(|handle| handle.cancel());
    }

    pub(crate) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Returns when the server begins to shut down.
    pub(crate) async fn drained(&self) {
        // The sender lives as long as this value.
        let _ = self.draining.subscribe().wait_for(|draining| *draining).await;
    }
}

/// What others may do to a session.
#[derive(Debug)]
pub struct Handle {
    /// The 64 bits of its BackendKeyData.
    pub(crate) key: u64,
    application_name: Mutex<String>,
    state: Mutex<State>,
    committed: Mutex<Option<Timestamp>>,
    cancel: Notify,
    kill: Notify,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Handle {
    /// Cancels the statement that runs, if one does.
    pub(crate) fn cancel(&self) {
        self.cancel.notify_waiters();
    }

    /// Ends the session.
    pub(crate) fn kill(&self) {
        self.kill.notify_one();
    }

    pub(crate) async fn cancelled(&self) {
        self.cancel.notified().await;
    }

    pub(crate) async fn killed(&self) {
        self.kill.notified().await;
    }

    pub(crate) fn set_application_name(&self, name: &str) {
        *locked(&self.application_name) = name.into();
    }

    pub(crate) fn set_state(&self, state: State) {
        *locked(&self.state) = state;
    }

    pub(crate) fn set_commit_timestamp(&self, at: Timestamp) {
        *locked(&self.committed) = Some(at);
    }

    pub(crate) fn commit_timestamp(&self) -> Option<Timestamp> {
        *locked(&self.committed)
    }
}

/// A running server; it stops when it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: JoinHandle<()>,
}

impl Server {
    /// Starts a server within this process.
    pub async fn start(options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            version: options.version,
            store: Store::new(options.seed, options.deadlock_delay),
            catalog: Catalog::default(),
            faults: Faults::default(),
            sessions: Mutex::new(Vec::new()),
            next_session: AtomicU64::new(0),
            draining: watch::Sender::new(false),
        });
        let listening = tokio::spawn(listen(listener, shared.clone()));
        Ok(Self { address, shared, listening })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What goes wrong in it.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// Serves a client over any stream, such as one half of [`tokio::io::duplex`].
    pub fn serve(&self, stream: impl Wire + 'static) -> JoinHandle<()> {
        tokio::spawn(greet(self.shared.clone(), Box::new(stream)))
    }

    /// Shuts down in order: idle clients are sent away, the others after their transactions.
    pub fn drain(&self) {
        self.shared.draining.send_replace(true);
    }

    /// How many sessions are in this state.
    pub fn sessions_in(&self, state: State) -> usize {
        self.shared.handles().iter().filter(|handle| *locked(&handle.state) == state).count()
    }

    /// Lets the rows of a table from a key on be kept by another node, so that values younger than a
    /// transaction are uncertain to it: whether there is such a table.
    pub fn place_remotely(&self, table: &str, from: i64) -> bool {
        let schema = Schema { catalog: &self.shared.catalog, changes: &[] };
        let found = schema.find_table(table);
        if let Some(table) = &found {
            let start = std::ops::Bound::Included(Datum::Int(from));
            self.shared.store.place_remotely(Span { start, ..Span::table(table.id) });
        }
        found.is_some()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.listening.abort();
        self.shared.handles().iter().for_each(|handle| handle.kill());
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        // Latency is all that matters here; a stream without the option still works.
        let _ = stream.set_nodelay(true);
        tokio::spawn(greet(shared.clone(), Box::new(stream)));
    }
}
