//! A database in bad weather, with Reprise before it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use reprise::config::{Config, HostPort, UpstreamTlsMode};
use reprise::telemetry::Telemetry;
use roach::faults::{Effect, Outcome, Reason};
use roach::{Options, Server, State, Version};
use tokio::net::TcpListener;
use tokio_postgres::Client;

use crate::client::{APPLICATION, Login, connect, query_text};
use crate::postgres;
use crate::relay::{self, Weather};

/// Which database, and how its transactions begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ground {
    PostgresSerializable,
    PostgresRepeatableRead,
    Cockroach20,
    Cockroach25,
}

impl Ground {
    /// The first statement of a transaction.
    pub(crate) fn begin(self) -> &'static str {
        match self {
            Self::PostgresSerializable => "BEGIN ISOLATION LEVEL SERIALIZABLE",
            Self::PostgresRepeatableRead => "BEGIN ISOLATION LEVEL REPEATABLE READ",
            Self::Cockroach20 | Self::Cockroach25 => "BEGIN",
        }
    }

    /// Whether a serial order must explain every history; under snapshot isolation some need none.
    pub(crate) fn is_serializable(self) -> bool {
        self != Self::PostgresRepeatableRead
    }
}

/// How long the sessions of a test may take to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long the double lets a transaction wait before it looks for a deadlock, so that much happens in little time.
const DEADLOCK_DELAY: Duration = Duration::from_millis(5);

/// The share of statements that fail on the double, RELEASE and COMMIT included.
const FAILING_STATEMENTS: f64 = 0.2;
/// Of so many faults one breaks the connection or leaves a commit in doubt.
const CONFLICTS_PER_LOSS: usize = 30;

/// What makes things go wrong.
enum Upstream {
    Postgres(Arc<Weather>),
    Cockroach(Box<Server>),
}

/// A database, and Reprise before it.
pub(crate) struct Arena {
    upstream: Upstream,
    telemetry: Arc<Telemetry>,
    seed: u64,
    /// Through Reprise.
    pub(crate) proxied: Login,
    /// Past Reprise, where nothing goes wrong.
    pub(crate) observer: Client,
}

impl Arena {
    pub(crate) async fn open(ground: Ground, seed: u64) -> Self {
        let (upstream, direct, relayed) = match ground {
            Ground::PostgresSerializable | Ground::PostgresRepeatableRead => {
                let login = postgres::create_database().await;
                let weather = Arc::new(Weather::stormy(seed));
                let address = relay::start(login.address, Arc::clone(&weather)).await.expect("a relay");
                (Upstream::Postgres(weather), login.clone(), Login { address, ..login })
            }
            Ground::Cockroach20 => cockroach(Version::V20_2, seed).await,
            Ground::Cockroach25 => cockroach(Version::V25_2, seed).await,
        };
        let (address, telemetry) = start_proxy(patient(&relayed)).await;
        let observer = connect(&direct).await.expect("the server answers");
        Self { upstream, telemetry, seed, proxied: Login { address, ..relayed }, observer }
    }

    /// Lets things go wrong; the ledger is there.
    pub(crate) async fn begin_storm(&self) {
        match &self.upstream {
            Upstream::Postgres(weather) => {
                self.run(&postgres::failing_commits(self.seed)).await;
                weather.is_bad.store(true, Ordering::Relaxed);
            }
            Upstream::Cockroach(server) => {
                server.faults().add_chance(self.seed, FAILING_STATEMENTS, effects())
            }
        }
    }

    /// Ends it, and waits until the server has nothing to do any more for those whose connections were lost.
    pub(crate) async fn end_storm(&self) {
        let start = Instant::now();
        match &self.upstream {
            Upstream::Postgres(weather) => weather.is_bad.store(false, Ordering::Relaxed),
            Upstream::Cockroach(server) => server.faults().clear(),
        }
        while !self.is_deserted().await {
            assert!(start.elapsed() < PATIENCE, "sessions do not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn is_deserted(&self) -> bool {
        match &self.upstream {
            Upstream::Postgres(_) => {
                let others = format!(
                    "SELECT pid FROM pg_stat_activity WHERE datname = current_database()
                     AND application_name = '{APPLICATION}' AND pid <> pg_backend_pid()"
                );
                self.query(&others).await.is_empty()
            }
            Upstream::Cockroach(server) => {
                [State::Open, State::Aborted].iter().all(|state| server.sessions_in(*state) == 0)
            }
        }
    }

    /// Runs statements past Reprise.
    pub(crate) async fn run(&self, sql: &str) {
        self.observer.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// The rows of a query past Reprise.
    pub(crate) async fn query(&self, sql: &str) -> Vec<Vec<String>> {
        query_text(&self.observer, sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    /// The sum of the series of a metric that have this label.
    pub(crate) fn metric(&self, name: &str, label: &str) -> f64 {
        let text = self.telemetry.render();
        let is_of = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        let series = text.lines().filter(is_of).filter(|line| line.contains(label));
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Faults that were injected where they can be counted, which is not at PostgreSQL's COMMIT.
    pub(crate) fn faults(&self) -> u64 {
        match &self.upstream {
            Upstream::Postgres(weather) => {
                weather.strikes.load(Ordering::Relaxed) + weather.losses.load(Ordering::Relaxed)
            }
            Upstream::Cockroach(server) => server.faults().struck() as u64,
        }
    }
}

async fn cockroach(version: Version, seed: u64) -> (Upstream, Login, Login) {
    let options = Options { version, seed, deadlock_delay: DEADLOCK_DELAY, ..Options::default() };
    let server = Server::start(options).await.expect("a loopback port is free");
    let login = Login { address: server.address(), user: "root", database: "defaultdb".to_owned() };
    (Upstream::Cockroach(Box::new(server)), login.clone(), login)
}

/// Every reason for a conflict, and now and then something worse.
fn effects() -> Vec<Effect> {
    let worse = [
        Effect::Disconnect(Outcome::Committed),
        Effect::Disconnect(Outcome::Lost),
        Effect::Ambiguous(Outcome::Committed),
        Effect::Ambiguous(Outcome::Lost),
    ];
    let conflicts = Reason::ALL.into_iter().cycle().take(CONFLICTS_PER_LOSS * worse.len());
    conflicts.map(Effect::Retry).chain(worse).collect()
}

/// Pauses are short, so that much happens in little time, and patience is long: every conflict that can be hidden is.
fn patient(upstream: &Login) -> Config {
    let mut config = Config::default();
    let address = upstream.address;
    config.upstream.address = HostPort { host: address.ip().to_string(), port: address.port() };
    // The relay reads what passes.
    config.upstream.tls.mode = UpstreamTlsMode::Disable;
    config.retry.policy.max_attempts = 500;
    config.retry.policy.max_backoff = Duration::from_millis(20);
    config
}

/// Starts Reprise; it runs as long as the runtime of its test.
pub(crate) async fn start_proxy(config: Config) -> (SocketAddr, Arc<Telemetry>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let telemetry = Arc::new(Telemetry::new(config.retry.journal_bytes_total));
    let never = std::future::pending();
    let live = Arc::new(reprise::proxy::Live::load(config).expect("no files"));
    tokio::spawn(reprise::proxy::serve(listener, live, Arc::clone(&telemetry), never));
    (address, telemetry)
}
