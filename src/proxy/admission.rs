//! Takes a client from its first byte to its session, or to its refusal: what it is, whether it is served, and whether there is room.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_64;

use super::auth::{self, Failures};
use super::cancel::Registry;
use super::classes::Classes;
use super::connection::Connection;
use super::console::{self, Desk};
use super::crowd::{self, Crowd};
use super::handshake::{self, First, Introduction, Opened};
use super::idle::Idle;
use super::ledger::Ledger;
use super::live::{Live, Setup};
use super::member::Member;
use super::nametag::Nametag;
use super::refusal::Refusal;
use super::session::Session;
use super::shutdown::Shutdown;
use super::sockets::{self, Arrival, Peer};
use super::tls::Stream;
use super::turns::{self, Turns};
use super::workers::Place;
use crate::config::{Client, Proxy};
use crate::governor;
use crate::insight::{self, Who};
use crate::replay::{Dialect, Engine, Mode, forces_restart};
use crate::telemetry::{SessionGuard, Telemetry};
use crate::wire::startup::Initial;

/// How long a client that is refused may take to read why.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);
/// Connections from one address that are no sessions, beyond what it may have of those, where that is limited.
const BESIDE_MAX: usize = 16;
/// Consoles at a time.
const CONSOLES_MAX: usize = 32;
/// Connections from addresses that are not served: the others are closed unheard, so that they keep nobody away.
const STRANGERS_MAX: usize = 16;

/// What every session shares.
pub(super) struct Shared {
    pub(super) live: Arc<Live>,
    pub(super) telemetry: Arc<Telemetry>,
    registry: Registry,
    pub(super) classes: Arc<Classes>,
    sessions: AtomicU64,
    turns: Turns,
    seats: Crowd<()>,
    users: Crowd<Box<[u8]>>,
    addresses: Crowd<IpAddr>,
    visitors: Crowd<IpAddr>,
    strangers: Crowd<()>,
    consoles: Crowd<()>,
    failures: Failures,
    /// Those of the console, whose users have passwords of their own.
    console_failures: Failures,
    /// The proxy ends: sessions end as soon as no transaction is open.
    pub(super) shutdown: CancellationToken,
    /// It has waited long enough: sessions end now.
    pub(super) cut_off: CancellationToken,
}

/// How one session is served: by its own wish, by a rule, or by the configuration.
struct Manner {
    /// The number of the session.
    id: u64,
    mode: Mode,
    governor: governor::Mode,
    /// Its client is told of transactions that were run again.
    report: bool,
    /// Its client asks for savepoints that all restart transactions.
    forces_restart: bool,
    who: Who,
}

/// A session that is to run, with what it takes of the limits.
pub(super) struct Admitted {
    pub(super) session: Session,
    pub(super) entry: insight::Opened,
    pub(super) setup: Arc<Setup>,
    _open: SessionGuard,
    _seat: Seat,
}

impl Admitted {
    /// Gives back everything but its place.
    pub(super) fn into_place(self: Box<Self>) -> Place {
        self.session.into_place()
    }
}

/// Takes one client from its first byte to its session; `None` if it is served without one.
pub(super) async fn admit(
    arrival: Arrival,
    peer: Peer,
    setup: &Arc<Setup>,
    place: Place,
    shared: &Shared,
) -> Result<Option<Box<Admitted>>, Refusal> {
    let is_allowed = is_allowed(peer, &setup.config.proxy.allowed_clients);
    let visit = match shared.visit(peer, is_allowed, &setup.config.proxy) {
        Ok(visit) => visit,
        Err(refusal) => {
            // Before it is closed, so that whoever is finds it counted.
            log_refusal(&refusal, peer, &shared.telemetry);
            return Ok(None);
        }
    };
    let stream = arrival.open().map_err(Refusal::Client)?;
    if let Stream::Tcp(socket) = &stream {
        sockets::tune(socket, setup.config.proxy.tcp_keepalive).map_err(Refusal::Client)?;
    }
    let mut client = Connection::new(stream);
    // Whoever is not served has only to say that it is there, to be told so.
    let limit = if is_allowed { setup.config.proxy.startup_timeout } else { FAREWELL };
    let welcomed = tokio::select! {
        welcomed = tokio::time::timeout(limit, welcome(&mut client, peer, setup, shared)) => {
            welcomed.unwrap_or(Err(Refusal::TimedOut(limit)))
        }
        () = shared.shutdown.cancelled() => Err(Refusal::ShuttingDown),
    };
    drop(visit);
    match welcomed {
        Ok(Welcome::Session(opened, manner, database, seat)) => {
            let entry = remember(&manner, peer, opened.dialect, shared);
            shared.telemetry.session_uses_tls(client.stream().is_tls(), opened.server.stream().is_tls());
            let session = begin(&entry, client, *opened, (manner, database), place, setup, shared);
            let (setup, open) = (Arc::clone(setup), shared.telemetry.session_opened());
            return Ok(Some(Box::new(Admitted { session, entry, setup, _open: open, _seat: seat })));
        }
        Ok(Welcome::Console(user, _place)) => {
            let (live, telemetry) = (Arc::clone(&shared.live), Arc::clone(&shared.telemetry));
            let desk = Desk { live, telemetry, user };
            console::serve(client, desk, &shared.shutdown).await.map_err(Refusal::Client)?;
        }
        Ok(Welcome::Done) => client.close().await.map_err(Refusal::Client)?,
        Err(refusal) => {
            // Before it is told, so that whoever was told finds it counted.
            log_refusal(&refusal, peer, &shared.telemetry);
            client.outbox().extend(refusal.message().unwrap_or_default());
            // Whoever does not read what it is told is closed without it.
            let _ = tokio::time::timeout(FAREWELL, client.close()).await;
        }
    }
    Ok(None)
}

/// What a client's startup has come to.
enum Welcome {
    /// A session, in this database, with its seat.
    Session(Box<Opened>, Manner, u64, Seat),
    /// This user of the console, with its place.
    Console(String, crowd::Place<()>),
    /// Nothing: it is told all that there is to tell.
    Done,
}

/// What a session takes of the limits on their number; it is free again when this is dropped.
struct Seat {
    _among_all: crowd::Place<()>,
    _of_user: crowd::Place<Box<[u8]>>,
    _from_address: Option<crowd::Place<IpAddr>>,
}

/// What a connection takes of the limits until it is a session, or told that it is none.
struct Visit {
    _from_address: Option<crowd::Place<IpAddr>>,
    _as_stranger: Option<crowd::Place<()>>,
}

impl Shared {
    pub(super) fn new(live: Arc<Live>, telemetry: Arc<Telemetry>) -> Self {
        Self {
            classes: Arc::new(Classes::new(Arc::clone(&telemetry))),
            turns: Turns::new(live.now().config.retry.max_concurrent_replays),
            live,
            telemetry,
            registry: Registry::default(),
            sessions: AtomicU64::new(0),
            seats: Crowd::new(),
            users: Crowd::new(),
            addresses: Crowd::new(),
            visitors: Crowd::new(),
            strangers: Crowd::new(),
            consoles: Crowd::new(),
            failures: Failures::default(),
            console_failures: Failures::default(),
            shutdown: CancellationToken::new(),
            cut_off: CancellationToken::new(),
        }
    }

    /// From one address as many may be on their way to a session as may have one, and some more: requests to cancel, and those that
    /// are told that there is no room.
    fn visit(&self, peer: Peer, is_allowed: bool, limits: &Proxy) -> Result<Visit, Refusal> {
        let limit = match limits.max_connections_per_address {
            0 => 0,
            sessions => sessions + BESIDE_MAX,
        };
        let as_stranger = (!is_allowed).then(|| {
            let place = self.strangers.enter((), STRANGERS_MAX);
            place.ok_or(Refusal::NotAllowed)
        });
        Ok(Visit {
            _from_address: from_address(&self.visitors, peer, limit)?,
            _as_stranger: as_stranger.transpose()?,
        })
    }

    fn seat(&self, user: Box<[u8]>, peer: Peer, limits: &Proxy) -> Result<Seat, Refusal> {
        Ok(Seat {
            _from_address: from_address(&self.addresses, peer, limits.max_connections_per_address)?,
            _of_user: self
                .users
                .enter(user, limits.max_connections_per_user)
                .ok_or(Refusal::TooManyOfUser)?,
            _among_all: self.seats.enter((), limits.max_connections).ok_or(Refusal::TooMany)?,
        })
    }
}

/// A place for whoever comes from an IP address.
fn from_address(
    crowd: &Crowd<IpAddr>,
    peer: Peer,
    limit: usize,
) -> Result<Option<crowd::Place<IpAddr>>, Refusal> {
    let place = peer.address().map(|address| crowd.enter(address, limit));
    place.map(|place| place.ok_or(Refusal::TooManyFromAddress)).transpose()
}

/// Whether clients from there are served. Without a list all are; local ones are in any case.
fn is_allowed(peer: Peer, allowed: &[IpNet]) -> bool {
    let address = peer.address();
    allowed.is_empty()
        || address.is_none_or(|address| allowed.iter().any(|network| network.contains(&address)))
}

/// The startup of a client, and its seat: a request to cancel needs none, and the console has none.
async fn welcome(
    client: &mut Connection<Stream>,
    peer: Peer,
    setup: &Setup,
    shared: &Shared,
) -> Result<Welcome, Refusal> {
    let is_allowed = is_allowed(peer, &setup.config.proxy.allowed_clients);
    match handshake::first_packet(client, &setup.credentials).await? {
        _ if !is_allowed => Err(Refusal::NotAllowed),
        First::Cancel(key) => {
            shared.telemetry.cancel_requested();
            shared.registry.cancel(&key).await;
            Ok(Welcome::Done)
        }
        First::Startup { asked, binding } => {
            let user = &asked.client.user;
            if let Some(users) = setup.console(&asked.client, peer)? {
                let attempts = shared.console_failures.of(peer.address(), user);
                auth::authenticate(client, user, &users, binding.as_deref(), attempts).await?;
                client.drain().await.map_err(Refusal::Client)?;
                let place = shared.consoles.enter((), CONSOLES_MAX).ok_or(Refusal::TooMany)?;
                return Ok(Welcome::Console(String::from_utf8_lossy(user).into_owned(), place));
            }
            let login = match setup.credentials.users() {
                Some(users) => {
                    let attempts = shared.failures.of(peer.address(), user);
                    Some(auth::authenticate(client, user, &users, binding.as_deref(), attempts).await?)
                }
                None => None,
            };
            // Behind the login, where Reprise has one: nobody takes the seats of a user whose password it does not know.
            let seat = shared.seat(user.clone(), peer, &setup.config.proxy)?;
            let mode = asked.mode.unwrap_or_else(|| setup.config.mode_for(&asked.client));
            let governor = setup.config.governor_for(&asked.client);
            let id = shared.sessions.fetch_add(1, Ordering::Relaxed) + 1;
            // Sessions that are not followed are not told of either; and who replicates may be known by its very name.
            let names = setup.config.upstream.name_sessions && mode != Mode::Off;
            let pinned = if names { Nametag::pin(&asked.packet, id) } else { None };
            let (packet, nametag) = pinned.map_or((asked.packet, None), |(packet, tag)| (packet, Some(tag)));
            let introduction = Introduction { packet: &packet, nametag, login };
            let (telemetry, database, locks) = (&shared.telemetry, setup.database(), setup.lock_table(mode));
            let opened = handshake::enter(client, introduction, database, locks, telemetry).await?;
            let (report, forces_restart) = (asked.report, forces_restart(&packet));
            let manner = Manner { id, mode, governor, report, forces_restart, who: who(&asked.client) };
            Ok(opened.map_or(Welcome::Done, |opened| {
                Welcome::Session(Box::new(opened), manner, database_hash(&packet), seat)
            }))
        }
    }
}

/// Who a client is, in words.
fn who(client: &Client) -> Who {
    Who::named(&client.application_name, &client.user, &client.database)
}

/// A hash of the database that a startup packet names: that of the user, if it names none.
fn database_hash(packet: &[u8]) -> u64 {
    let Ok(Initial::Startup(startup)) = Initial::parse(packet) else { return 0 };
    let find = |wanted: &[u8]| startup.parameters().find(|(name, _)| *name == wanted);
    find(b"database").or_else(|| find(b"user")).map_or(0, |(_, name)| xxh3_64(name))
}

/// Remembers a session that begins, for reports.
fn remember(manner: &Manner, peer: Peer, dialect: Dialect, shared: &Shared) -> insight::Opened {
    let (id, who, names) = (manner.id, manner.who.clone(), [manner.mode.name(), dialect.name()]);
    let session = insight::Session::new(id, who, peer.to_string(), names, shared.cut_off.child_token());
    shared.telemetry.insight().open(session)
}

/// A session in its own mode.
fn begin(
    entry: &insight::Opened,
    client: Connection<Stream>,
    opened: Opened,
    (manner, database): (Manner, u64),
    place: Place,
    setup: &Arc<Setup>,
    shared: &Shared,
) -> Session {
    let (id, mode) = (entry.id, manner.mode);
    let (dialect, lock_table) = (opened.dialect, opened.lock_table);
    // The seed need not be secret: it only spreads the pauses of sessions that met in a conflict.
    let mut engine = Engine::new(setup.policy(mode, lock_table), dialect, seed(id));
    engine.report_replays(manner.report);
    if manner.forces_restart {
        engine.expect_forced_restarts();
    }
    let registration = shared.registry.register(opened.key.as_deref(), setup);
    let (telemetry, turn) = (Arc::clone(&shared.telemetry), turns::Place::new(shared.turns.clone()));
    let member = Member::new(Arc::clone(&shared.classes), setup.governor(manner.governor), database);
    let ledger = Ledger { session: entry.share(), telemetry, held: 0, place: turn, member };
    let shutdown = Shutdown::new(&shared.shutdown, &entry.kill);
    let limits = &setup.config.proxy;
    let (outside, inside) = match mode {
        // Who is idle is not known where transactions are not followed.
        Mode::Off => (Duration::ZERO, Duration::ZERO),
        _ => (limits.idle_timeout, limits.idle_in_transaction_timeout),
    };
    let idle = Idle::new(outside, inside, limits.half_closed_timeout);
    let (lock_table, mode) = (lock_table.name(), mode.name());
    tracing::debug!(session = id, dialect = dialect.name(), mode, lock_table, "session begins");
    Session::new(engine, (client, opened.server), registration, shutdown, idle, ledger, place)
}

/// Tells the log and the metrics of a client that is not served.
pub(super) fn log_refusal(refusal: &Refusal, peer: Peer, telemetry: &Telemetry) {
    let source = std::error::Error::source(refusal).map(ToString::to_string);
    match refusal.cause() {
        Some(cause) => {
            if let Some(left_out) = telemetry.refused(cause) {
                let left_out = Some(left_out).filter(|lines| *lines > 0);
                tracing::warn!(%peer, cause = cause.name(), source, left_out, "{refusal}");
            }
        }
        None => tracing::debug!(%peer, source, "{refusal}"),
    }
}

/// Differs from session to session and from process to process.
fn seed(session: u64) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(session)
}
