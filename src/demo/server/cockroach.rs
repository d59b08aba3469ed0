//! A throwaway CockroachDB.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tokio_postgres::{Config, NoTls};

use super::account::Account;
use super::process::Process;
use super::{Error, free_addr, wait_until_ready};

/// A CockroachDB node of its own, in memory, without TLS, on a free port of the loopback interface. Dropping it,
/// or any end of this process, stops it.
#[derive(Debug)]
pub struct Cockroach {
    /// Held for its drop.
    _process: Process,
    addr: SocketAddr,
}

impl Cockroach {
    /// Starts `binary` and waits until it answers.
    pub(super) async fn start(binary: &Path) -> Result<Self, Error> {
        let account = Account::choose()?;
        let addr = free_addr()?;
        let directory = account.create_directory()?;
        // Its data is memory: there is nothing to shut down in good order.
        let mut process = Process::spawn(&account, directory, "KILL", &server_command(binary, addr))?;
        wait_until_ready(&mut process, || is_ready(addr)).await?;
        Ok(Self { _process: process, addr })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The connection string of `database`, for the superuser.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://root@{}/{database}", self.addr)
    }
}

fn server_command(binary: &Path, addr: SocketAddr) -> Command {
    let mut command = Command::new(binary);
    command
        .args(["start-single-node", "--insecure", "--store=type=mem,size=1GiB", "--http-addr=127.0.0.1:0"])
        .arg(format!("--listen-addr={addr}"))
        .arg("--log={sinks: {stderr: {filter: WARNING}}}")
        // A server that lives for a minute has nothing to report to its makers.
        .env("COCKROACH_SKIP_ENABLING_DIAGNOSTIC_REPORTING", "true");
    command
}

async fn is_ready(addr: SocketAddr) -> bool {
    let mut config = Config::new();
    config.host(addr.ip().to_string()).port(addr.port()).user("root").dbname("defaultdb");
    let Ok((client, connection)) = config.connect(NoTls).await else { return false };
    let connection = tokio::spawn(connection);
    let answer = client.simple_query("SELECT 1").await;
    connection.abort();
    answer.is_ok()
}
