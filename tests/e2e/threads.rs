//! Sessions that go on on another thread: with everything that they have, and without anybody noticing.

use certificates::Authority;
use golden::Frontend;
use reprise::config::{Config, HostPort, TlsMode};
use reprise::replay::Dialect;

use crate::support::database::Database;
use crate::support::proxy::Proxy;
use crate::support::secure::open;
use crate::support::wire::Wire;
use crate::support::{eventually, within};

const MOVED: &str = "reprise_sessions_moved_total";
const CLIENTS: usize = 12;

/// Does one transaction behind the other until some sessions have moved, and then until each has done as many. All of its statements
/// are seen, once each, in its own session.
async fn hurry(mut wire: Wire, k: usize, proxy: &Proxy) -> Wire {
    assert_eq!(wire.query(&format!("SET reprise_test.number = '{k}'")).await, "SET I");
    assert_eq!(
        wire.query(&format!("PREPARE mine AS UPDATE rows SET n = n + 1 WHERE k = {k} RETURNING n")).await,
        "PREPARE I"
    );
    let (mut done, mut left) = (0, 50);
    while left > 0 {
        assert_eq!(wire.query("BEGIN").await, "BEGIN T");
        done += 1;
        assert_eq!(wire.query("EXECUTE mine").await, &*format!("({done}) UPDATE 1 T"));
        let whose = wire.execute("SELECT current_setting('reprise_test.number') || $1", &["!"]).await;
        assert_eq!(whose, &*format!("({k}!) SELECT 1 T"));
        assert_eq!(wire.query("COMMIT").await, "COMMIT I");
        left -= usize::from(has_moved(proxy));
    }
    wire
}

/// Keeps a thread busy until some sessions have moved.
async fn crowd(proxy: &Proxy) {
    const AT_ONCE: usize = 500;
    let mut wire = proxy.wire().await;
    while !has_moved(proxy) {
        wire.send((0..AT_ONCE).map(|_| Frontend::Query(String::new()))).await;
        wire.bytes_until_ready(AT_ONCE).await;
    }
}

fn has_moved(proxy: &Proxy) -> bool {
    proxy.metric(MOVED) >= 6.0
}

/// A crowd of clients on two threads, some of them with TLS; a few of their sessions have moved.
async fn moved(change: impl FnOnce(&mut Config, &Database, &str)) -> (Database, Proxy, Vec<Wire>) {
    let (database, authority) = (Database::create().await, Authority::create());
    database.run("CREATE TABLE rows AS SELECT k, 0 AS n FROM generate_series(0, 99) AS k").await;
    let directory = database.socket_directory().await;
    let identity = authority.server("localhost");
    let proxy = Proxy::before(&database, Dialect::Postgres, |config| {
        config.proxy.threads = 2;
        (config.tls.mode, config.tls.identity) = (TlsMode::Allow, Some(identity));
        change(config, &database, &directory);
    })
    .await;
    let mut clients = Vec::new();
    for k in 0..CLIENTS {
        let wire = if k % 2 == 0 {
            proxy.wire().await
        } else {
            open(proxy.address, authority.trusting(None), &database.name).await
        };
        clients.push(hurry(wire, k, &proxy));
    }
    let clients = futures_util::future::join_all(clients);
    let crowd = futures_util::future::join_all((0..CLIENTS).map(|_| crowd(&proxy)));
    let (clients, _) = within("they move", async { tokio::join!(clients, crowd) }).await;
    (database, proxy, clients)
}

#[tokio::test]
async fn a_session_that_moves_takes_everything_along() {
    let (database, proxy, mut clients) = moved(|_, _, _| {}).await;
    for wire in &mut clients {
        // A cancel finds it where it is now.
        wire.send([Frontend::Query("SELECT pg_sleep(600)".into())]).await;
    }
    for wire in &mut clients {
        eventually("it sleeps", async || {
            let sleeps = format!("SELECT wait_event FROM pg_stat_activity WHERE pid = {}", wire.key.pid);
            database.query(&sleeps).await == "PgSleep"
        })
        .await;
        Wire::connect(proxy.address).await.cancel(wire.key).await;
        assert_eq!(wire.until_ready().await, "57014 I");
        // A conflict is hidden there too.
        assert_eq!(wire.execute("SELECT conflict('first', 1)", &[]).await, "(passed) SELECT 1 I");
    }
    proxy.stop();
    for wire in &mut clients {
        assert_eq!(wire.until_closed().await, "57P01");
    }
    proxy.until_idle().await;
}

#[tokio::test]
async fn a_session_moves_with_a_unix_socket_too() {
    let by_socket = |config: &mut Config, database: &Database, directory: &str| {
        config.upstream.address = HostPort { host: directory.to_owned(), port: database.address.port() };
    };
    let (_database, proxy, mut clients) = moved(by_socket).await;
    let where_from = "SELECT client_addr IS NULL FROM pg_stat_activity WHERE pid = pg_backend_pid()";
    for wire in &mut clients {
        assert_eq!(wire.query(where_from).await, "(t) SELECT 1 I");
    }
    drop(clients);
    proxy.until_idle().await;
}
