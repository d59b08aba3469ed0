//! Throwaway database servers: for `reprise demo` and for the end-to-end tests.

mod account;
mod binaries;
mod cockroach;
mod postgres;
mod process;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

pub use cockroach::Cockroach;
pub use postgres::Postgres;
use process::Process;

/// How long a server may take until it answers; CockroachDB needs some seconds on a small machine.
const START_DURATION_MAX: Duration = Duration::from_secs(60);
/// Pause between two attempts to connect to a server that starts.
const READINESS_INTERVAL: Duration = Duration::from_millis(20);

/// Why there is no throwaway server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No server binary was found.
    #[error(
        "neither `cockroach` nor PostgreSQL's `initdb` and `postgres` were found. Install PostgreSQL's server, \
         on Debian and Ubuntu by `apt-get install postgresql`, or name a running database with --upstream"
    )]
    NotInstalled,
    /// This process is root's, and there is no other user to run a server as.
    #[error(
        "database servers refuse to run as root, and there is no user `postgres` or `nobody` to run one as"
    )]
    NoAccount,
    /// The server ended before it was ready.
    #[error("the database server did not start: {log}")]
    Ended {
        /// What it had to say.
        log: String,
    },
    /// The server did not answer in time.
    #[error("the database server did not answer within {START_DURATION_MAX:?}: {log}")]
    Silent {
        /// What it had to say.
        log: String,
    },
    /// The operating system refused something.
    #[error("the database server could not be started: {0}")]
    Io(#[from] io::Error),
}

/// Whichever server this machine has.
#[derive(Debug)]
pub enum Throwaway {
    /// CockroachDB was found on PATH.
    Cockroach(Cockroach),
    /// PostgreSQL was found.
    Postgres(Postgres),
}

impl Throwaway {
    /// Starts `cockroach` if it is on PATH, else PostgreSQL, and waits until it answers.
    pub async fn start() -> Result<Self, Error> {
        match binaries::find_on_path("cockroach") {
            Some(binary) => Ok(Self::Cockroach(Cockroach::start(&binary).await?)),
            None => {
                let settings = [("default_transaction_isolation", "serializable")];
                Ok(Self::Postgres(Postgres::start(&settings).await?))
            }
        }
    }

    /// The connection string of the database that is there from the beginning.
    pub fn url(&self) -> String {
        match self {
            Self::Cockroach(server) => server.url("defaultdb"),
            Self::Postgres(server) => server.url("postgres"),
        }
    }
}

/// An address of the loopback interface that nobody listens on.
fn free_addr() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// Asks until the server is ready; fails when it ends first or takes too long.
async fn wait_until_ready<F: Future<Output = bool>>(
    process: &mut Process,
    is_ready: impl Fn() -> F,
) -> Result<(), Error> {
    let start = Instant::now();
    while !is_ready().await {
        if !process.is_running()? {
            return Err(Error::Ended { log: process.log() });
        }
        if start.elapsed() > START_DURATION_MAX {
            return Err(Error::Silent { log: process.log() });
        }
        tokio::time::sleep(READINESS_INTERVAL).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_postgres::NoTls;

    #[tokio::test]
    async fn a_server_takes_settings_and_is_gone_after_its_drop() {
        let server = Postgres::start(&[("work_mem", "5MB"), ("max_connections", "20")]).await.unwrap();
        let (client, connection) = tokio_postgres::connect(&server.url("postgres"), NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        let row = client.query_one("SELECT current_setting('work_mem')", &[]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), "5MB");
        let (addr, data) = (server.addr(), server.data_directory());
        drop(server);
        assert!(tokio::net::TcpStream::connect(addr).await.is_err());
        assert!(!data.exists());
        // The connection's end may be an error or a close; that it ends is the point.
        let _ = connection.await.unwrap();
    }

    #[tokio::test]
    async fn a_setting_that_the_server_refuses_is_told_in_its_own_words() {
        let error = Postgres::start(&[("no_such_setting", "1")]).await.unwrap_err();
        assert!(error.to_string().contains("no_such_setting"), "{error}");
    }
}
