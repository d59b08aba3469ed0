//! `reprise demo`: contended bank transfers without retries, with a client's own retry loop, and through Reprise.
//!
//! ```text
//! plan ----> workload (sessions) ----> server, directly or through the proxy
//!                |                        |
//!                tally                  ledger: accounts and the journal that each transfer wrote
//!                +------> audit <---------+
//!                           |
//!                         report
//! ```

mod audit;
mod bank;
mod plan;
mod progress;
mod report;
pub mod server;
mod session;
mod upstream;
mod workload;

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use bank::Bank;
use plan::Plan;
use progress::Progress;
use report::Row;
use upstream::Upstream;
use workload::{Style, Way};

/// Ended by Ctrl-C or SIGTERM, as a shell would tell it.
const INTERRUPTED: u8 = 130;

/// What the demonstration runs on, and how much of it.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Database to use: postgres://user:password@host:port/database, without TLS. Its tables are created in a
    /// schema of their own, which is removed at the end. Without it a throwaway server is started: cockroach
    /// if that is on PATH, else PostgreSQL.
    #[arg(long, value_name = "URL")]
    pub upstream: Option<String>,
    /// Clients that transfer money at the same time, 150 at most.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=150))]
    pub clients: u32,
    /// Accounts that they transfer between; the fewer, the more conflicts.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub accounts: u32,
    /// Transfers wanted in each row of the table, by all clients together.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    pub transfers: u32,
    /// Seed of the transfers; every row runs the same ones.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// A running proxy, as far as the demonstration is concerned. Dropping it may stop it.
pub trait Proxy {
    /// Where it listens for clients.
    fn addr(&self) -> SocketAddr;
    /// Conflicts that no client saw, since its start.
    fn conflicts_hidden(&self) -> u64;
}

/// Why the demonstration could not be carried through.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no throwaway server.
    #[error(transparent)]
    Server(#[from] server::Error),
    /// The URL of `--upstream` is not one, or cannot be used.
    #[error("--upstream cannot be used: {0}")]
    Upstream(String),
    /// The proxy did not start.
    #[error("the proxy did not start: {0}")]
    Proxy(#[source] io::Error),
    /// A client could not connect, or lost its connection and could not connect again.
    #[error("a client could not connect {way}: {}", session::explain(.source))]
    Connect {
        /// Directly, or through Reprise.
        way: &'static str,
        /// What the driver says.
        source: tokio_postgres::Error,
    },
    /// The tables could not be created, reset, read or removed.
    #[error("the accounts could not be kept: {}", session::explain(.0))]
    Bank(#[source] tokio_postgres::Error),
    /// The operating system refused something.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Runs the demonstration and prints its table.
///
/// `start_proxy` is given the database's address and starts the proxy in front of it, on an address of the proxy's
/// choice. The exit code is a success only if the rows that went through the proxy committed something, conserved all
/// money and lost nothing.
pub async fn run<P, S, F>(options: Options, start_proxy: S) -> Result<ExitCode, Error>
where
    P: Proxy,
    S: FnOnce(SocketAddr) -> F,
    F: Future<Output = io::Result<P>>,
{
    let Some((upstream, proxy)) = unless_interrupted(open(&options, start_proxy)).await? else {
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let bank = Bank::open(&upstream, options.accounts).await?;
    println!("{}\n{}", bank.server_version(), upstream.remark());
    let rows = unless_interrupted(measure(&options, &upstream, &bank, &proxy)).await;
    // Whatever came of it, the tables go; who wants an end again need not wait for that.
    unless_interrupted(bank.remove()).await?;
    Ok(rows?.map_or(ExitCode::from(INTERRUPTED), |rows| conclude(&rows)))
}

/// Opens the database, then starts the proxy in front of it.
async fn open<P, S, F>(options: &Options, start_proxy: S) -> Result<(Upstream, P), Error>
where
    S: FnOnce(SocketAddr) -> F,
    F: Future<Output = io::Result<P>>,
{
    let upstream = Upstream::open(options.upstream.as_deref()).await?;
    let proxy = start_proxy(upstream.addr()).await.map_err(Error::Proxy)?;
    Ok((upstream, proxy))
}

/// Carries `work` through, unless the user, or the system, wants an end: then there is no result.
async fn unless_interrupted<T>(work: impl Future<Output = Result<T, Error>>) -> Result<Option<T>, Error> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = work => result.map(Some),
        _ = interrupt.recv() => Ok(None),
        _ = terminate.recv() => Ok(None),
    }
}

/// Runs the same transfers in every style and every way, one after the other.
async fn measure(
    options: &Options,
    upstream: &Upstream,
    bank: &Bank,
    proxy: &impl Proxy,
) -> Result<Vec<Row>, Error> {
    bank.create_tables().await?;
    let plan = Plan::new(options.clients, options.accounts, options.transfers, options.seed);
    let cases = Style::ALL.into_iter().flat_map(|style| Way::ALL.map(|way| (style, way)));
    let progress = Progress::start(u64::from(options.transfers) * cases.clone().count() as u64);
    let mut rows = Vec::new();
    for (style, way) in cases {
        progress.show(style, way);
        bank.reset().await?;
        let config = match way {
            Way::Direct | Way::ClientLoop => upstream.config(upstream.addr()),
            Way::Reprise => upstream.config(proxy.addr()),
        };
        let hidden_before = proxy.conflicts_hidden();
        let tally = workload::run(&plan, style, way, &config, bank.schema(), &progress).await?;
        let hidden = (way == Way::Reprise).then(|| proxy.conflicts_hidden().saturating_sub(hidden_before));
        let findings = audit::examine(style, &bank.ledger().await?, &tally);
        rows.push(Row { style, way, wanted: options.transfers, tally, hidden, findings });
    }
    Ok(rows)
}

fn conclude(rows: &[Row]) -> ExitCode {
    println!("\n{}", report::render(rows, io::stdout().is_terminal()));
    // Where nothing was committed, nothing could be lost: that proves nothing.
    let is_proven = |row: &Row| row.findings.is_clean() && !row.tally.committed.is_empty();
    if rows.iter().filter(|row| row.way == Way::Reprise).all(is_proven) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
