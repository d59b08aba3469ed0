//! Accepts clients, bounds their number, and lets their sessions end in peace at shutdown.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use xxhash_rust::xxh3::xxh3_64;

use super::auth;
use super::cancel::{self, Registry};
use super::classes::{Classes, Member};
use super::connection::Connection;
use super::credentials::Credentials;
use super::crowd::{self, Crowd};
use super::handshake::{self, First, Opened};
use super::idle::Idle;
use super::refusal::Refusal;
use super::session::{Ledger, Session, Shutdown};
use super::sockets::{self, Listeners, Peer};
use super::tls::Stream;
use super::turns::{Place, Turns};
use super::upstream::Database;
use crate::config::Config;
use crate::replay::{Engine, LockTable, Mode, Policy};
use crate::telemetry::Telemetry;
use crate::wire::startup::Initial;

/// How long accepting pauses after the operating system refused a connection, out of file descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a client that is refused may take to read why.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often the contention classes are looked after.
const SWEEP: Duration = Duration::from_secs(1);
/// Connections besides those of sessions that are open at a time: clients that start, cancel, or are told that there is no
/// room. Beyond that they are closed unheard.
const VISITORS_MAX: usize = 256;

/// How one session is served: by its own wish, by a rule, or by the configuration.
struct Manner {
    mode: Mode,
    /// Its client is told of transactions that were run again.
    report: bool,
}

/// What every session shares.
struct Shared {
    config: Arc<Config>,
    credentials: Arc<Credentials>,
    policy: Arc<Policy>,
    telemetry: Arc<Telemetry>,
    registry: Registry,
    classes: Arc<Classes>,
    sessions: AtomicU64,
    turns: Turns,
    seats: Semaphore,
    users: Crowd<Box<[u8]>>,
    addresses: Crowd<IpAddr>,
    doors: Arc<Semaphore>,
    /// The proxy ends: sessions end as soon as no transaction is open.
    shutdown: CancellationToken,
    /// It has waited long enough: sessions end now.
    cut_off: CancellationToken,
}

impl Shared {
    fn database(&self) -> Database<'_> {
        Database { options: &self.config.upstream, credentials: &self.credentials }
    }

    /// The policy of the configuration, with what is different for one session.
    fn policy(&self, mode: Mode, lock_table: LockTable) -> Arc<Policy> {
        if (mode, lock_table) == (self.policy.mode, self.policy.lock_table) {
            Arc::clone(&self.policy)
        } else {
            Arc::new(Policy { mode, lock_table, ..Policy::clone(&self.policy) })
        }
    }
}

/// Serves clients until `shutdown` completes; then accepts no more, lets transactions finish for `proxy.drain_timeout`, and
/// returns.
///
/// # Errors
/// None at present: what goes wrong with one connection is logged and counted, and the others go on.
pub async fn serve(
    listeners: impl Into<Listeners>,
    config: Arc<Config>,
    credentials: Arc<Credentials>,
    telemetry: Arc<Telemetry>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let shared = Arc::new(Shared {
        policy: Arc::new(config.policy()),
        credentials,
        classes: Arc::new(Classes::new(config.governor.clone(), Arc::clone(&telemetry))),
        telemetry,
        registry: Registry::default(),
        sessions: AtomicU64::new(0),
        turns: Turns::new(config.retry.max_concurrent_replays),
        seats: Semaphore::new(config.proxy.max_connections),
        users: Crowd::new(config.proxy.max_connections_per_user),
        addresses: Crowd::new(config.proxy.max_connections_per_address),
        doors: Arc::new(Semaphore::new(config.proxy.max_connections + VISITORS_MAX)),
        shutdown: CancellationToken::new(),
        cut_off: CancellationToken::new(),
        config,
    });
    let listeners = listeners.into();
    let tasks = TaskTracker::new();
    let _sweeper = AbortOnDropHandle::new(tokio::spawn(sweep(Arc::clone(&shared.classes))));
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            accepted = listeners.accept() => match accepted {
                Ok((stream, peer)) => {
                    let Ok(door) = Arc::clone(&shared.doors).try_acquire_owned() else {
                        log_refusal(&Refusal::TooMany, peer, &shared.telemetry);
                        continue;
                    };
                    let shared = Arc::clone(&shared);
                    tasks.spawn(async move {
                        let _door = door;
                        if let Err(refusal) = admit(stream, peer, &shared).await {
                            log_refusal(&refusal, peer, &shared.telemetry);
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            () = &mut shutdown => break,
        }
    }
    drop(listeners);
    shared.shutdown.cancel();
    tasks.close();
    if tokio::time::timeout(shared.config.proxy.drain_timeout, tasks.wait()).await.is_err() {
        tracing::warn!(sessions = tasks.len(), "sessions with open transactions are cut off");
        shared.cut_off.cancel();
        // They only say goodbye now.
        let _ = tokio::time::timeout(FAREWELL, tasks.wait()).await;
    }
    Ok(())
}

/// Looks after the contention classes for as long as the proxy runs.
async fn sweep(classes: Arc<Classes>) {
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        ticks.tick().await;
        classes.sweep();
    }
}

fn log_refusal(refusal: &Refusal, peer: Peer, telemetry: &Telemetry) {
    let source = std::error::Error::source(refusal).map(ToString::to_string);
    match refusal.cause() {
        Some(cause) => {
            telemetry.refused(cause);
            tracing::warn!(%peer, cause = cause.name(), source, "{refusal}");
        }
        None => tracing::debug!(%peer, source, "{refusal}"),
    }
}

/// Takes one client from its first byte to its last.
async fn admit(stream: Stream, peer: Peer, shared: &Shared) -> Result<(), Refusal> {
    if let Stream::Tcp(socket) = &stream {
        sockets::tune(socket, shared.config.proxy.tcp_keepalive).map_err(Refusal::Client)?;
    }
    let mut client = Connection::new(stream);
    let limit = shared.config.proxy.startup_timeout;
    let welcomed = tokio::select! {
        welcomed = tokio::time::timeout(limit, welcome(&mut client, peer, shared)) => {
            welcomed.unwrap_or(Err(Refusal::TimedOut(limit)))
        }
        () = shared.shutdown.cancelled() => Err(Refusal::ShuttingDown),
    };
    match welcomed {
        Ok(Some((opened, manner, database, _seat))) => {
            run(client, opened, manner, database, shared).await;
            Ok(())
        }
        Ok(None) => client.close().await.map_err(Refusal::Client),
        Err(refusal) => {
            client.outbox().extend(refusal.message().unwrap_or_default());
            // Whoever does not read what it is told is closed without it.
            let _ = tokio::time::timeout(FAREWELL, client.close()).await;
            Err(refusal)
        }
    }
}

/// What a session takes of the limits on their number; it is free again when this is dropped.
struct Seat<'a> {
    _among_all: SemaphorePermit<'a>,
    _of_user: crowd::Place<'a, Box<[u8]>>,
    _from_address: Option<crowd::Place<'a, IpAddr>>,
}

impl Shared {
    fn seat(&self, user: Box<[u8]>, peer: Peer) -> Result<Seat<'_>, Refusal> {
        let from_address = match peer.address() {
            Some(address) => Some(self.addresses.enter(address).ok_or(Refusal::TooManyFromAddress)?),
            None => None,
        };
        Ok(Seat {
            _from_address: from_address,
            _of_user: self.users.enter(user).ok_or(Refusal::TooManyOfUser)?,
            _among_all: self.seats.try_acquire().map_err(|_| Refusal::TooMany)?,
        })
    }
}

/// The startup of a client, and its seat: a request to cancel needs none. `None` if there is nothing more to do for it.
async fn welcome<'a>(
    client: &mut Connection<Stream>,
    peer: Peer,
    shared: &'a Shared,
) -> Result<Option<(Opened, Manner, u64, Seat<'a>)>, Refusal> {
    match handshake::first_packet(client, &shared.credentials).await? {
        First::Cancel(key) => {
            shared.telemetry.cancel_requested();
            shared.registry.cancel(&key, shared.database()).await;
            Ok(None)
        }
        First::Startup { asked, binding } => {
            let user = &asked.client.user;
            let seat = shared.seat(user.clone(), peer)?;
            let login = match shared.credentials.users() {
                Some(users) => Some(auth::authenticate(client, user, &users, binding.as_deref()).await?),
                None => None,
            };
            let mode = asked.mode.unwrap_or_else(|| shared.config.mode_for(&asked.client));
            let lock_table = match mode {
                Mode::Transparent => shared.policy.lock_table,
                // The wire is left as it is.
                Mode::Observe | Mode::Off => LockTable::Forward,
            };
            let (packet, telemetry) = (&asked.packet, &shared.telemetry);
            let opened =
                handshake::enter(client, packet, login, shared.database(), lock_table, telemetry).await?;
            let manner = Manner { mode, report: asked.report };
            Ok(opened.map(|opened| (opened, manner, database(packet), seat)))
        }
    }
}

/// A hash of the database that a startup packet names: that of the user, if it names none.
fn database(packet: &[u8]) -> u64 {
    let Ok(Initial::Startup(startup)) = Initial::parse(packet) else { return 0 };
    let find = |wanted: &[u8]| startup.parameters().find(|(name, _)| *name == wanted);
    find(b"database").or_else(|| find(b"user")).map_or(0, |(_, name)| xxh3_64(name))
}

/// Runs a session to its end, in its own mode.
async fn run(client: Connection<Stream>, opened: Opened, manner: Manner, database: u64, shared: &Shared) {
    let mode = manner.mode;
    let id = shared.sessions.fetch_add(1, Ordering::Relaxed) + 1;
    let _open = shared.telemetry.session_opened();
    let (dialect, lock_table) = (opened.dialect, opened.lock_table);
    // The seed need not be secret: it only spreads the pauses of sessions that met in a conflict.
    let mut engine = Engine::new(shared.policy(mode, lock_table), dialect, seed(id));
    engine.report_replays(manner.report);
    let registration = shared.registry.register(opened.key.as_deref());
    let (telemetry, place) = (Arc::clone(&shared.telemetry), Place::new(shared.turns.clone()));
    let member = Member::new(Arc::clone(&shared.classes), database);
    let ledger = Ledger { id, telemetry, held: 0, place, member };
    let shutdown = Shutdown::new(&shared.shutdown, &shared.cut_off);
    let idle = match mode {
        // Who is idle is not known where transactions are not followed.
        Mode::Off => Idle::new(Duration::ZERO, Duration::ZERO),
        _ => Idle::new(shared.config.proxy.idle_timeout, shared.config.proxy.idle_in_transaction_timeout),
    };
    let (lock_table, mode) = (lock_table.name(), mode.name());
    tracing::debug!(session = id, dialect = dialect.name(), mode, lock_table, "session begins");
    let (ending, orphaned) =
        Session::new(engine, client, opened.server, registration, shutdown, idle, ledger).run().await;
    match ending.breakage() {
        Some(cause) => {
            shared.telemetry.session_broken(cause);
            tracing::warn!(session = id, cause = cause.name(), "session ends: {ending}");
        }
        None => tracing::debug!(session = id, "session ends: {ending}"),
    }
    if let Some(key) = orphaned {
        cancel::forward(&key, shared.database()).await;
    }
}

/// Differs from session to session and from process to process.
fn seed(session: u64) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(session)
}
