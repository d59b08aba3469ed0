//! Sessions that go on on another thread: with everything that they have, and without anybody noticing.

use certificates::Authority;
use golden::Frontend;
use reprise::config::{HostPort, TlsMode};
use reprise::replay::Dialect;

use crate::support::database::Database;
use crate::support::proxy::Proxy;
use crate::support::secure::open;
use crate::support::wire::Wire;
use crate::support::{eventually, within};

const MOVED: &str = "reprise_sessions_moved_total";
const CLIENTS: usize = 8;
/// A Close of a prepared statement that there is not, and how many of them keep the proxy busy.
const CLOSE: &[u8] = b"C\0\0\0\x07Sx\0";
const MUCH: usize = 100_000;
/// A row that all of them change.
const HOT: usize = 99;

/// How both sides of the proxy are connected.
#[derive(Clone, Copy)]
enum Way {
    Tcp,
    /// Clients by TLS.
    Tls,
    /// The database by a socket in a directory.
    Unix,
}

/// A database, with the proxy before it on two threads, and clients that have all begun on one of them.
struct Crowd {
    database: Database,
    proxy: Proxy,
    clients: Vec<Wire>,
}

impl Crowd {
    async fn gather(way: Way) -> Self {
        let (database, authority) = (Database::create().await, Authority::create());
        database.run("CREATE TABLE rows AS SELECT k, 0 AS n FROM generate_series(0, 99) AS k").await;
        let directory = database.socket_directory().await;
        let identity = authority.server("localhost");
        let proxy = Proxy::before(&database, Dialect::Postgres, |config| {
            config.proxy.threads = 2;
            match way {
                Way::Tcp => {}
                Way::Tls => (config.tls.mode, config.tls.identity) = (TlsMode::Require, Some(identity)),
                Way::Unix => {
                    config.upstream.address = HostPort { host: directory, port: database.address.port() };
                }
            }
        })
        .await;
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(match way {
                Way::Tls => open(proxy.address, authority.trusting(None), &database.name).await,
                _ => proxy.wire().await,
            });
        }
        Self { database, proxy, clients }
    }

    /// Keeps the clients at work until sessions have moved. Nothing that any of them does is lost, or done twice, or in the session
    /// of another.
    async fn hurry(&mut self) {
        let proxy = &self.proxy;
        let clients = self.clients.iter_mut().enumerate().map(|(k, wire)| hurry(wire, k, proxy));
        let hot = within("sessions move", futures_util::future::join_all(clients)).await;
        let changed = format!("SELECT n FROM rows WHERE k = {HOT}");
        assert_eq!(self.database.query(&changed).await, hot.iter().sum::<usize>().to_string());
    }

    /// The end of the proxy finds them where they are now.
    async fn disperse(mut self) {
        self.proxy.stop();
        for wire in &mut self.clients {
            assert_eq!(wire.until_closed().await, "57P01");
        }
        self.proxy.until_idle().await;
    }
}

/// Does one transaction behind the other, and what keeps the proxy's thread busy between them, until some sessions have moved, and a
/// few more. Returns how often it has changed the hot row.
async fn hurry(wire: &mut Wire, k: usize, proxy: &Proxy) -> usize {
    assert_eq!(wire.query(&format!("SET reprise_test.number = '{k}'")).await, "SET I");
    let mine = format!("PREPARE mine AS UPDATE rows SET n = n + 1 WHERE k = {k} RETURNING n");
    assert_eq!(wire.query(&mine).await, "PREPARE I");
    // Each of these the proxy has to follow. For this process, which sends and compares them as bytes, and for the database it is next
    // to no work: however fast they are, and however slow the disk is, the proxy has the most to do.
    let closes = [CLOSE.repeat(MUCH), Frontend::Sync.encode()].concat();
    let closed = [b"3\0\0\0\x04".repeat(MUCH), b"Z\0\0\0\x05I".to_vec()].concat();
    let (mut done, mut hot, mut left) = (0, 0, 3);
    while left > 0 {
        done += 1;
        assert_eq!(wire.query("BEGIN ISOLATION LEVEL SERIALIZABLE").await, "BEGIN T");
        assert_eq!(wire.query("EXECUTE mine").await, &*format!("({done}) UPDATE 1 T"));
        let whose = wire.execute("SELECT current_setting('reprise_test.number') || $1", &["!"]).await;
        assert_eq!(whose, &*format!("({k}!) SELECT 1 T"));
        if done % 2 == k % 2 {
            // Others do so too, now and then at the same time, and the conflicts are hidden.
            assert_eq!(wire.query(&format!("UPDATE rows SET n = n + 1 WHERE k = {HOT}")).await, "UPDATE 1 T");
            hot += 1;
        }
        assert_eq!(wire.query("COMMIT").await, "COMMIT I");
        wire.send_bytes(&closes).await;
        assert!(wire.bytes_until_ready(1).await == closed);
        left -= usize::from(proxy.metric(MOVED) > 0.0);
    }
    hot
}

#[tokio::test]
async fn a_session_that_moves_takes_everything_along() {
    let mut crowd = Crowd::gather(Way::Tcp).await;
    crowd.hurry().await;
    for wire in &mut crowd.clients {
        wire.send([Frontend::Query("SELECT pg_sleep(600)".into())]).await;
        eventually("it sleeps", async || {
            let sleeps = format!("SELECT wait_event FROM pg_stat_activity WHERE pid = {}", wire.key.pid);
            crowd.database.query(&sleeps).await == "PgSleep"
        })
        .await;
        // A cancel finds it where it is now.
        Wire::connect(crowd.proxy.address).await.cancel(wire.key).await;
        assert_eq!(wire.until_ready().await, "57014 I");
    }
    crowd.disperse().await;
}

#[tokio::test]
async fn a_session_moves_with_tls() {
    let mut crowd = Crowd::gather(Way::Tls).await;
    crowd.hurry().await;
    crowd.disperse().await;
}

#[tokio::test]
async fn a_session_moves_with_a_unix_socket() {
    let mut crowd = Crowd::gather(Way::Unix).await;
    crowd.hurry().await;
    crowd.disperse().await;
}
