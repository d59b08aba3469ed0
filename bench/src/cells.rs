//! What is measured: the rows of the table, and one round of each.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use tokio::process::Command;
use tokio_postgres::NoTls;

use crate::peers::Peer;
use crate::process;

/// Rows of the bulk table, of about 200 bytes each.
const BULK_ROWS: usize = 200_000;

/// Statements that are sent before the first of them is answered.
const PIPELINE_STATEMENTS: u32 = 100;

/// The cells that are measured with TLS too.
const ENCRYPTED: [&str; 4] =
    ["select, prepared c16", "connect and select c4", "bulk COPY in", "bulk COPY out"];

/// Clients of the cell that shows whether a transaction costs more among many.
const BUSY_CLIENTS: u32 = 1000;

/// Clients that are sure to be connected within a second.
const CONNECTED_IN_A_SECOND: u32 = 100;

/// A row of the table.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) name: String,
    load: Load,
    /// Whether both sides are encrypted.
    pub(crate) is_encrypted: bool,
}

#[derive(Clone, Debug)]
enum Load {
    Pgbench {
        protocol: &'static str,
        builtin: &'static str,
        clients: u32,
        /// Whether each transaction connects anew.
        connects: bool,
    },
    /// Statements of one client that are sent before the first is answered.
    Pipelined,
    /// One statement in `psql`, with the rows to copy in as its input.
    Bulk { statement: &'static str, input: bool },
}

/// What one round of a cell came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Processor time of the proxy for each transaction, in microseconds.
    pub(crate) cpu_us: f64,
    /// Transactions a second.
    pub(crate) rate: f64,
}

/// Every cell, in the order of the table.
pub(crate) fn all() -> Vec<Cell> {
    let mut cells = Vec::new();
    for (builtin, called) in [("select-only", "select"), ("tpcb-like", "TPC-B")] {
        for protocol in ["simple", "extended", "prepared"] {
            for clients in [1, 16, 64] {
                let load = Load::Pgbench { protocol, builtin, clients, connects: false };
                cells.push(Cell::new(format!("{called}, {protocol} c{clients}"), load));
            }
        }
    }
    let busy = Load::Pgbench {
        protocol: "prepared",
        builtin: "select-only",
        clients: BUSY_CLIENTS,
        connects: false,
    };
    cells.push(Cell::new(format!("select, prepared c{BUSY_CLIENTS}"), busy));
    let (protocol, builtin) = ("simple", "select-only");
    let connect = Load::Pgbench { protocol, builtin, clients: 4, connects: true };
    cells.push(Cell::new("connect and select c4", connect));
    cells.push(Cell::new("pipelined selects c1", Load::Pipelined));
    let bulk = [
        ("bulk COPY in", "COPY sink FROM STDIN", true),
        ("bulk COPY out", "COPY source TO STDOUT", false),
        ("bulk SELECT", "SELECT * FROM source", false),
    ];
    cells.extend(bulk.map(|(name, statement, input)| Cell::new(name, Load::Bulk { statement, input })));
    let encrypted = cells.iter().filter(|cell| ENCRYPTED.contains(&cell.name.as_str()));
    let encrypted: Vec<_> = encrypted.map(Cell::encrypted).collect();
    cells.extend(encrypted);
    cells
}

impl Cell {
    fn new(name: impl Into<String>, load: Load) -> Self {
        Self { name: name.into(), load, is_encrypted: false }
    }

    fn encrypted(&self) -> Self {
        Self { name: format!("{}, TLS", self.name), load: self.load.clone(), is_encrypted: true }
    }
}

/// What the cells need besides a proxy.
pub(crate) struct Ground {
    rows: PathBuf,
    _directory: tempfile::TempDir,
    round: Duration,
}

impl Ground {
    /// Fills the database and writes the rows that are copied in.
    pub(crate) async fn prepare(database: SocketAddr, round: Duration) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let rows = directory.path().join("rows");
        let mut text = String::new();
        for row in 0..BULK_ROWS {
            writeln!(text, "{row}\t{row:0>180}\t{}", row % 97)?;
        }
        fs::write(&rows, text)?;
        let ground = Self { rows, _directory: directory, round };
        let mut initialise = Command::new("pgbench");
        at(&mut initialise, database).args(["--initialize", "--scale=20", "--quiet"]).arg("postgres");
        finish(&mut initialise).await?;
        let mut create = psql(database, "CREATE TABLE source (id int, text text, rest int)");
        finish(&mut create).await?;
        finish(&mut psql(database, "CREATE UNLOGGED TABLE sink (LIKE source)")).await?;
        finish(psql(database, "COPY source FROM STDIN").stdin(fs::File::open(&ground.rows)?)).await?;
        Ok(ground)
    }

    /// One round of a cell through a peer; `database` is where the ground is cleared.
    pub(crate) async fn round(&self, cell: &Cell, peer: &Peer, database: SocketAddr) -> Result<Sample> {
        let before = process::cpu_time(peer.pid)?;
        let begin = Instant::now();
        let (transactions, rate) = match &cell.load {
            Load::Pgbench { protocol, builtin, clients, connects } => {
                let more: &[_] = if *connects { &["--connect"] } else { &[] };
                self.pgbench(peer, protocol, builtin, *clients, more).await?
            }
            Load::Pipelined => self.pipelined(peer).await?,
            Load::Bulk { statement, input } => {
                self.bulk(peer, statement, *input).await?;
                (1.0, 1.0 / begin.elapsed().as_secs_f64())
            }
        };
        let cpu = process::cpu_time(peer.pid)? - before;
        if matches!(cell.load, Load::Bulk { input: true, .. }) {
            finish(&mut psql(database, "TRUNCATE sink")).await?;
        }
        Ok(Sample { cpu_us: cpu.as_secs_f64() * 1e6 / transactions, rate })
    }

    async fn pgbench(
        &self,
        peer: &Peer,
        protocol: &str,
        builtin: &str,
        clients: u32,
        more: &[&str],
    ) -> Result<(f64, f64)> {
        let mut command = Command::new("pgbench");
        at(&mut command, peer.address).env("PGSSLMODE", peer.ssl_mode).args([
            "--no-vacuum",
            "--protocol",
            protocol,
            "--builtin",
            builtin,
        ]);
        command.args(more).arg(format!("--client={clients}")).arg(format!("--jobs={}", clients.min(2)));
        // The time counts from before the first of them is connected.
        let seconds = self.round.as_secs().max(u64::from(clients / CONNECTED_IN_A_SECOND)).max(1);
        command.arg(format!("--time={seconds}")).arg("postgres");
        let printed = finish(&mut command).await?;
        let figure = |before: &str| -> Result<f64> {
            let rest = printed.split(before).nth(1).with_context(|| printed.clone())?;
            let figure: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
            Ok(figure.parse()?)
        };
        Ok((figure("actually processed: ")?, figure("tps = ")?))
    }

    /// Statements in pipelines of a fixed length; returns how many, and how many a second.
    async fn pipelined(&self, peer: &Peer) -> Result<(f64, f64)> {
        let (client, connection) = tokio_postgres::connect(&peer.url(), NoTls).await?;
        tokio::spawn(connection);
        let select = client.prepare("SELECT abalance FROM pgbench_accounts WHERE aid = 1").await?;
        let (begin, mut statements) = (Instant::now(), 0);
        while begin.elapsed() < self.round {
            try_join_all((0..PIPELINE_STATEMENTS).map(|_| client.query_one(&select, &[]))).await?;
            statements += PIPELINE_STATEMENTS;
        }
        Ok((f64::from(statements), f64::from(statements) / begin.elapsed().as_secs_f64()))
    }

    async fn bulk(&self, peer: &Peer, statement: &str, input: bool) -> Result<()> {
        let mut command = psql(peer.address, statement);
        command.env("PGSSLMODE", peer.ssl_mode);
        if input {
            command.stdin(fs::File::open(&self.rows)?);
        }
        // A cursor would turn one large answer into many small ones.
        command.arg("--output=/dev/null");
        finish(&mut command).await.map(|_| ())
    }
}

fn at(command: &mut Command, address: SocketAddr) -> &mut Command {
    command.arg(format!("--host={}", address.ip())).arg(format!("--port={}", address.port()));
    command.arg("--username=postgres").env("PGSSLMODE", "disable").env_remove("PGOPTIONS")
}

fn psql(address: SocketAddr, statement: &str) -> Command {
    let mut command = Command::new("psql");
    at(&mut command, address).args(["--no-psqlrc", "--quiet", "--command", statement, "--dbname=postgres"]);
    command.stdin(Stdio::null());
    command
}

async fn finish(command: &mut Command) -> Result<String> {
    let output = command.output().await.with_context(|| format!("{command:?}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {error}");
    Ok(String::from_utf8(output.stdout)?)
}

/// Whether the programs that put the load are here.
pub(crate) fn check_tools() -> Result<()> {
    for tool in ["pgbench", "psql", "pgbouncer", "haproxy"] {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).any(|folder| Path::new(&folder).join(tool).is_file());
        ensure!(found, "{tool} is not on the PATH: `scripts/install-benchmarks.sh` installs it");
    }
    Ok(())
}
