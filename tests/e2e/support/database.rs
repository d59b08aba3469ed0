//! A real PostgreSQL, one for all tests, and in it a database of its own for each.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use reprise::demo::server::Postgres;
use tokio::sync::OnceCell;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use super::wire::Wire;
use super::{eventually, within};

/// What every database holds.
const KIT: &str = include_str!("kit.sql");

/// The name under which tests look at what the others do.
const OBSERVER: &str = "observer";
/// The name under which everything that is tested connects.
pub(crate) const APPLICATION: &str = "application";

/// Every statement is logged, with the database and the application that it came from.
const SETTINGS: [(&str, &str); 8] = [
    ("logging_collector", "on"),
    ("log_directory", "log"),
    ("log_filename", "server.log"),
    ("log_rotation_age", "0"),
    ("log_rotation_size", "0"),
    ("log_statement", "all"),
    ("log_line_prefix", "%d|%a|"),
    ("timezone", "UTC"),
];

/// The one server; it ends with this process.
static SERVER: OnceCell<Postgres> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);
static MARKS: AtomicU32 = AtomicU32::new(0);

async fn server() -> &'static Postgres {
    SERVER
        .get_or_init(async || {
            let server = Postgres::start(&SETTINGS).await.expect("a server");
            let admin = connect(server.addr(), "postgres", OBSERVER).await;
            admin.batch_execute("CREATE DATABASE kit").await.expect("a database");
            connect(server.addr(), "kit", OBSERVER).await.batch_execute(KIT).await.expect("the kit");
            let gone = "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'kit'";
            eventually("nobody uses the template", async || {
                admin.query_one(gone, &[]).await.expect("a count").get(0)
            })
            .await;
            server
        })
        .await
}

/// A driver's connection.
pub(crate) async fn connect(address: SocketAddr, database: &str, application: &str) -> Client {
    let config = config(address, database, application);
    let (client, connection) =
        within("to connect", config.connect(NoTls)).await.unwrap_or_else(|error| panic!("{error:?}"));
    tokio::spawn(connection);
    client
}

/// What a driver connects with.
pub(crate) fn config(address: SocketAddr, database: &str, application: &str) -> Config {
    let mut config = Config::new();
    config.host(address.ip().to_string()).port(address.port()).user("postgres");
    config.dbname(database).application_name(application);
    config
}

/// A database of a test's own, with the kit, and a connection past the proxy that looks at it.
pub(crate) struct Database {
    /// Its name.
    pub(crate) name: String,
    /// Where the server listens.
    pub(crate) address: SocketAddr,
    /// Not through the proxy.
    pub(crate) observer: Client,
}

impl Database {
    pub(crate) async fn create() -> Self {
        let server = server().await;
        let name = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        let admin = connect(server.addr(), "postgres", OBSERVER).await;
        admin.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE kit")).await.expect("a database");
        let observer = connect(server.addr(), &name, OBSERVER).await;
        Self { name, address: server.addr(), observer }
    }

    /// Where the server has its Unix-domain socket.
    pub(crate) async fn socket_directory(&self) -> String {
        self.query("SHOW unix_socket_directories").await
    }

    /// A client that speaks to the server itself.
    pub(crate) async fn wire(&self) -> Wire {
        Wire::open(self.address, &self.name).await
    }

    /// Runs statements past the proxy.
    pub(crate) async fn run(&self, sql: &str) {
        within(sql, self.observer.batch_execute(sql)).await.expect(sql);
    }

    /// The rows that a query gives past the proxy: columns joined by commas, rows by semicolons.
    pub(crate) async fn query(&self, sql: &str) -> String {
        let messages = within(sql, self.observer.simple_query(sql)).await.expect(sql);
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(
                (0..row.len()).map(|column| row.get(column).unwrap_or("NULL")).collect::<Vec<_>>().join(","),
            ),
            _ => None,
        });
        rows.collect::<Vec<_>>().join(";")
    }

    /// Waits until a query gives these rows.
    pub(crate) async fn until(&self, sql: &str, rows: &str) {
        eventually(sql, async || self.query(sql).await == rows).await;
    }

    /// Waits until so many sessions of the application wait for a lock.
    pub(crate) async fn until_blocked(&self, sessions: usize) {
        let blocked = "SELECT count(*) FROM pg_stat_activity \
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";
        self.until(blocked, &sessions.to_string()).await;
    }

    /// Waits until the server has no session of the application any more.
    pub(crate) async fn until_deserted(&self) {
        let sessions = format!(
            "SELECT count(*) FROM pg_stat_activity \
             WHERE datname = current_database() AND application_name <> '{OBSERVER}'"
        );
        self.until(&sessions, "0").await;
        // Databases that were made of one template have the same numbers for their tables.
        let locks = "SELECT count(*) FROM pg_locks JOIN pg_database AS own ON own.oid = database \
                     WHERE relation = 'kv'::regclass AND datname = current_database()";
        self.until(locks, "0").await;
    }

    /// What the server has logged for the application so far: its statements in order, and its errors.
    pub(crate) async fn log(&self) -> Vec<String> {
        let mark = format!("mark {}", MARKS.fetch_add(1, Ordering::Relaxed));
        self.query(&format!("SELECT '{mark}'")).await;
        let path = server().await.data_directory().join("log/server.log");
        let read = || String::from_utf8_lossy(&std::fs::read(&path).expect("the log")).into_owned();
        // One process writes what all have sent through one pipe: what came before the mark stands before it.
        eventually("the log is written", async || read().contains(&mark)).await;
        let prefix = format!("{}|{APPLICATION}|", self.name);
        read().lines().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_owned).collect()
    }

    /// The statements among [`Self::log`], without the words around them.
    pub(crate) async fn statements(&self) -> Vec<String> {
        let statement = |line: &String| {
            let text = line.strip_prefix("LOG:  ")?;
            let simple = text.strip_prefix("statement: ");
            let executed = || text.strip_prefix("execute ")?.split_once(": ").map(|(_, sql)| sql);
            simple.or_else(executed).map(str::to_owned)
        };
        self.log().await.iter().filter_map(statement).collect()
    }
}
