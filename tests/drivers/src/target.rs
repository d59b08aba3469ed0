//! What the programs run against: a real PostgreSQL, or the CockroachDB double.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use reprise::demo::server::Postgres;
use roach::faults::{Effect, Fault, Point};
use roach::{Options, Server, Version};
use tokio::sync::Mutex;
use tokio_postgres::{Client, Config, NoTls};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What is there before each check.
const TABLES: &str = "
    CREATE TABLE accounts (id INT8 PRIMARY KEY, balance INT8 NOT NULL);
    CREATE TABLE payments (id INT8 PRIMARY KEY, account INT8 NOT NULL REFERENCES accounts (id));
    CREATE TABLE users (sip VARCHAR PRIMARY KEY, credit INT8 NOT NULL);
    CREATE SEQUENCE numbers;
    CREATE TABLE withdrawals (id INT8 PRIMARY KEY, sip VARCHAR NOT NULL, amount INT8 NOT NULL)";
const RESET: &str = "
    DELETE FROM payments; DELETE FROM accounts;
    INSERT INTO accounts VALUES (1, 100), (2, 200), (3, 300);
    DELETE FROM withdrawals; DELETE FROM users;
    INSERT INTO users VALUES ('1001', 100)";

/// The kinds of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Postgres,
    Double,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Double => "double",
        }
    }

    pub(crate) fn user(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Double => "root",
        }
    }
}

/// A database of one program's own, and a connection to it that does what the program is not told of.
pub(crate) struct Target {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    pub(crate) database: String,
    rival: Client,
    double: Option<Server>,
}

impl Target {
    pub(crate) async fn postgres(server: &Postgres, name: &str) -> Result<Self> {
        let admin = connect(server.addr(), "postgres", "postgres").await?;
        let database = name.replace(['-', '.'], "_");
        {
            // Only one session at a time may copy the template.
            static COPYING: Mutex<()> = Mutex::const_new(());
            let _alone = COPYING.lock().await;
            admin.batch_execute(&format!("CREATE DATABASE {database}")).await?;
        }
        let rival = connect(server.addr(), "postgres", &database).await?;
        rival.batch_execute(TABLES).await?;
        Ok(Self { kind: Kind::Postgres, address: server.addr(), database, rival, double: None })
    }

    pub(crate) async fn double() -> Result<Self> {
        let server = Server::start(Options { version: Version::V25_2, ..Options::default() }).await?;
        let rival = connect(server.address(), "root", "defaultdb").await?;
        rival.batch_execute(TABLES).await?;
        let (kind, address) = (Kind::Double, server.address());
        Ok(Self { kind, address, database: "defaultdb".into(), rival, double: Some(server) })
    }

    /// Makes everything as it was.
    pub(crate) async fn reset(&self) -> Result<()> {
        if let Some(server) = &self.double {
            // A fault that does nothing, but is counted, tells from outside that a statement begins to sleep.
            server.faults().clear();
            let sleep = Point::Statement("pg_sleep".into());
            server.faults().add(Fault::once(sleep, Effect::Cut(usize::MAX)));
        }
        Ok(self.rival.batch_execute(RESET).await?)
    }

    /// Changes the balance that the program's transaction is about.
    pub(crate) async fn interfere(&self) -> Result<()> {
        Ok(self.rival.batch_execute("UPDATE accounts SET balance = balance + 1 WHERE id = 1").await?)
    }

    /// Waits until the statement to be cancelled runs.
    pub(crate) async fn until_running(&self, struck_before: usize) -> Result<()> {
        let start = Instant::now();
        while !self.is_running(struck_before).await? {
            ensure!(start.elapsed() < PATIENCE, "no statement runs that could be cancelled");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn is_running(&self, struck_before: usize) -> Result<bool> {
        if self.double.is_some() {
            return Ok(self.struck() > struck_before);
        }
        let sleeping = "SELECT count(*) FROM pg_stat_activity \
                        WHERE datname = current_database() AND wait_event = 'PgSleep'";
        Ok(self.rival.query_one(sleeping, &[]).await?.get::<_, i64>(0) > 0)
    }

    /// How often a statement has begun to sleep in the double.
    pub(crate) fn struck(&self) -> usize {
        self.double.as_ref().map_or(0, |server| server.faults().struck())
    }
}

/// A connection that does what no program is told of.
pub(crate) async fn connect(address: SocketAddr, user: &str, database: &str) -> Result<Client> {
    let mut config = Config::new();
    config.host(address.ip().to_string()).port(address.port()).user(user).dbname(database);
    config.application_name("rival");
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
