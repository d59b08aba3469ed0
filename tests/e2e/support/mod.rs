//! What the tests stand on: a real server, the proxy, clients of two kinds, fake databases and the program itself.

pub(crate) mod database;
pub(crate) mod fake;
pub(crate) mod network;
pub(crate) mod program;
pub(crate) mod proxy;
pub(crate) mod secure;
pub(crate) mod wire;

use std::time::{Duration, Instant};

use reprise::config::Config;
use reprise::replay::Dialect;

use database::Database;
use proxy::Proxy;
use wire::Wire;

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The outcome, unless it takes too long.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    let outcome = tokio::time::timeout(PATIENCE, future).await;
    outcome.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// Asks again and again until the condition holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Both ways in which a transaction is run again. PostgreSQL does as it is told in either.
pub(crate) const DIALECTS: [Dialect; 2] = [Dialect::Cockroach, Dialect::Postgres];

/// A database, a proxy before it, and a client of the proxy.
pub(crate) struct Scene {
    /// The database.
    pub(crate) database: Database,
    /// The proxy.
    pub(crate) proxy: Proxy,
    /// The client.
    pub(crate) client: Wire,
}

impl Scene {
    pub(crate) async fn start(dialect: Dialect) -> Self {
        Self::with(dialect, |_| {}).await
    }

    /// With options other than the defaults.
    pub(crate) async fn with(dialect: Dialect, change: impl FnOnce(&mut Config)) -> Self {
        let database = Database::create().await;
        let proxy = Proxy::before(&database, dialect, change).await;
        let client = proxy.wire().await;
        Self { database, proxy, client }
    }
}
