//! A throwaway PostgreSQL.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tokio_postgres::{Config, NoTls};

use super::account::Account;
use super::binaries::Binaries;
use super::process::Process;
use super::{Error, free_addr, wait_until_ready};

/// What every throwaway server is started with; the caller's settings come later and win.
///
/// Nothing in it is to survive, so that waiting for the disk (fsync and its kin) would only slow it down, and
/// autovacuum would only disturb what is measured.
const SETTINGS: [(&str, &str); 5] = [
    ("fsync", "off"),
    ("synchronous_commit", "off"),
    ("full_page_writes", "off"),
    ("autovacuum", "off"),
    ("max_connections", "200"),
];

/// Another process may take the free port before the server does.
const START_ATTEMPTS_MAX: u32 = 3;

/// A PostgreSQL server with a data directory of its own, on a free port of the loopback interface, with the
/// superuser `postgres`, whom it trusts. Dropping it, or any end of this process, stops it and removes its files.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use reprise::demo::server::Postgres;
///
/// let server = Postgres::start(&[("default_transaction_isolation", "serializable")]).await?;
/// let (client, connection) = tokio_postgres::connect(&server.url("postgres"), tokio_postgres::NoTls).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    addr: SocketAddr,
    version: String,
}

impl Postgres {
    /// Starts a server with `settings` (names and values as in `postgresql.conf`) and waits until it answers.
    ///
    /// Works as root too: the server then runs as an unprivileged user.
    pub async fn start(settings: &[(&str, &str)]) -> Result<Self, Error> {
        let account = Account::choose()?;
        let binaries = Binaries::find(&account).ok_or(Error::NotInstalled)?;
        let mut attempt = 1;
        loop {
            match Self::attempt(&account, &binaries, settings).await {
                Err(Error::Ended { log }) if attempt < START_ATTEMPTS_MAX && log.contains("in use") => {
                    attempt += 1
                }
                result => return result,
            }
        }
    }

    async fn attempt(
        account: &Account,
        binaries: &Binaries,
        settings: &[(&str, &str)],
    ) -> Result<Self, Error> {
        let addr = free_addr()?;
        let directory = account.create_directory()?;
        create_data(account, &binaries.initdb, directory.path()).await?;
        let server = server_command(&binaries.postgres, directory.path(), addr, settings);
        // SIGQUIT is PostgreSQL's immediate shutdown.
        let process = Process::spawn(account, directory, "QUIT", &server)?;
        let mut server = Self { process, addr, version: binaries.version.clone() };
        let data = server.data_directory();
        wait_until_ready(&mut server.process, || is_ready(addr, &data)).await?;
        Ok(server)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The connection string of `database`, for the superuser.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@{}/{database}", self.addr)
    }

    /// As `postgres --version` prints it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The data directory, for whoever wants to change `pg_hba.conf` and reload.
    pub fn data_directory(&self) -> PathBuf {
        data_directory(self.process.directory())
    }
}

fn data_directory(directory: &Path) -> PathBuf {
    directory.join("data")
}

/// Makes the data directory: no password, no locale of the machine.
async fn create_data(account: &Account, initdb: &Path, directory: &Path) -> Result<(), Error> {
    let mut command = account.command(initdb);
    command
        .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync", "-D"])
        .arg(data_directory(directory))
        .current_dir(directory);
    let output = tokio::task::spawn_blocking(move || command.output()).await.map_err(io::Error::other)??;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Ended { log: String::from_utf8_lossy(&output.stderr).trim_end().to_owned() })
}

fn server_command(postgres: &Path, directory: &Path, addr: SocketAddr, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(postgres);
    command.arg("-D").arg(data_directory(directory)).arg("-k").arg(directory);
    command.arg("-h").arg(addr.ip().to_string()).arg("-p").arg(addr.port().to_string());
    for (name, value) in SETTINGS.iter().chain(settings) {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    command
}

/// Whether the server answers, and is ours: a stranger may have taken the port a moment earlier.
async fn is_ready(addr: SocketAddr, data: &Path) -> bool {
    let mut config = Config::new();
    config.host(addr.ip().to_string()).port(addr.port()).user("postgres").dbname("postgres");
    let Ok((client, connection)) = config.connect(NoTls).await else { return false };
    let connection = tokio::spawn(connection);
    let answer = client.query_one("SHOW data_directory", &[]).await;
    connection.abort();
    answer.is_ok_and(|row| row.try_get::<_, String>(0).is_ok_and(|found| Path::new(&found) == data))
}
