//! The proxy inside the test's own process.

use std::net::SocketAddr;
use std::sync::Arc;

use reprise::config::{Config, DialectChoice, HostPort};
use reprise::proxy::Live;
use reprise::replay::Dialect;
use reprise::telemetry::Telemetry;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::database::{APPLICATION, Database, connect};
use super::eventually;
use super::wire::Wire;

/// A proxy that runs as long as the runtime of its test.
pub(crate) struct Proxy {
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    telemetry: Arc<Telemetry>,
    live: Arc<Live>,
    ends: CancellationToken,
    config: Config,
    database: String,
}

impl Proxy {
    /// Starts a proxy before a server, with the defaults and what is changed in them.
    pub(crate) async fn start(upstream: SocketAddr, change: impl FnOnce(&mut Config)) -> Self {
        Self::start_at("127.0.0.1:0", upstream, change).await
    }

    /// The same, with clients connecting to this address.
    pub(crate) async fn start_at(
        listen: &str,
        upstream: SocketAddr,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = Config::default();
        config.upstream.address = HostPort { host: upstream.ip().to_string(), port: upstream.port() };
        change(&mut config);
        let listener = TcpListener::bind(listen).await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let telemetry =
            Arc::new(Telemetry::remembering(config.retry.journal_bytes_total, config.report.options.clone()));
        let live = Arc::new(Live::load(config.clone()).expect("what it names can be read"));
        let ends = CancellationToken::new();
        let end = ends.clone().cancelled_owned();
        tokio::spawn(reprise::proxy::serve(listener, Arc::clone(&live), Arc::clone(&telemetry), end));
        Self { address, telemetry, live, ends, config, database: String::new() }
    }

    /// Before a database, in a dialect.
    pub(crate) async fn before(
        database: &Database,
        dialect: Dialect,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut proxy = Self::start(database.address, |config| {
            config.upstream.dialect = DialectChoice::Fixed(dialect);
            change(config);
        })
        .await;
        proxy.database = database.name.clone();
        proxy
    }

    /// Reads certificates, keys and authorities again.
    pub(crate) fn reload(&self) -> Result<(), reprise::proxy::credentials::Error> {
        self.live.reload(self.config.clone())
    }

    /// Another configuration, for connections that begin from now on.
    pub(crate) fn reconfigure(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config);
        self.reload().expect("it is valid");
    }

    /// Tells it to end.
    pub(crate) fn stop(&self) {
        self.ends.cancel();
    }

    /// A connection from one of the addresses of the loopback interface.
    pub(crate) async fn connect_from(&self, address: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(format!("{address}:0").parse().expect("an address")).expect("an address of the loopback");
        socket.connect(self.address).await.expect("it listens")
    }

    /// A client of its database that speaks bytes.
    pub(crate) async fn wire(&self) -> Wire {
        Wire::open(self.address, &self.database).await
    }

    /// A driver's connection to its database.
    pub(crate) async fn client(&self) -> Client {
        connect(self.address, &self.database, APPLICATION).await
    }

    /// The value of a metric; labels stand behind the name as Prometheus writes them.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.telemetry.render();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("{name} is not in\n{text}"));
        value.parse().expect("a number")
    }

    /// Waits until a metric has a value.
    pub(crate) async fn until_metric(&self, name: &str, value: f64) {
        eventually(&format!("{name} is {value}"), async || self.metric(name) == value).await;
    }

    /// Conflicts hidden so far, with those surfaced.
    pub(crate) fn conflicts(&self) -> (f64, f64) {
        let text = self.telemetry.render();
        let surfaced = text.lines().filter(|line| line.starts_with("reprise_conflicts_surfaced_total{"));
        let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        (self.metric("reprise_conflicts_hidden_total"), surfaced.filter_map(value).sum())
    }

    /// Waits until a transaction pauses before its replay; in the cockroach dialect the first replay goes without a pause.
    pub(crate) async fn until_pausing(&self, dialect: Dialect) {
        let replays = match dialect {
            Dialect::Cockroach => 2.0,
            Dialect::Postgres => 1.0,
        };
        self.until_metric("reprise_backoff_seconds_count", replays).await;
    }

    /// Waits until no session and no journal is left.
    pub(crate) async fn until_idle(&self) {
        self.until_metric("reprise_sessions", 0.0).await;
        self.until_metric("reprise_journal_bytes", 0.0).await;
    }
}
