//! `make bench-contention`: transfers over hot rows, with the client's own retry loop, with replay, with replay behind gates of
//! fixed widths, and with the governor.
//!
//! Every contender gets the same slices of time, in turns, before the same servers: a throwaway PostgreSQL at SERIALIZABLE and
//! the CockroachDB double, both behind a relay that delays what passes as a network would. The table goes to standard output,
//! every slice to a JSON file.

mod relay;
mod report;
mod workload;

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use reprise::config::{Config, HostPort};
use reprise::demo::server::Postgres;
use reprise::governor::Mode;
use reprise::telemetry::Telemetry;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use report::Cell;
use workload::{Contender, Slice, Workload};

/// What is measured.
#[derive(Debug, Parser)]
struct Options {
    /// Clients at work at a time.
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// Rows that the clients fight for, one or more numbers.
    #[arg(long, value_delimiter = ',', default_value = "10,100,10000")]
    rows: Vec<u32>,
    /// Round trip of the network between Reprise, or the client's loop, and the database, in milliseconds.
    #[arg(long, default_value_t = 5.0)]
    network_ms: f64,
    /// Seconds of each slice that count.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds of each slice before that.
    #[arg(long, default_value_t = 5.0)]
    warmup: f64,
    /// Slices of each contender.
    #[arg(long, default_value_t = 2)]
    rounds: u32,
    /// The servers: postgres, roach, or the URL of one that runs.
    #[arg(long, value_delimiter = ',', default_value = "postgres,roach")]
    servers: Vec<String>,
    /// Contenders: all, or some of loop, replay, governed, gate1, gate2, gate4, gate8.
    #[arg(long, value_delimiter = ',')]
    contenders: Vec<String>,
    /// Where every slice is written.
    #[arg(long, default_value = "target/contention.json")]
    json: PathBuf,
}

/// A server that is measured, for as long as this is kept.
enum Server {
    Postgres(Postgres),
    Roach(roach::Server),
    Running(SocketAddr, tokio_postgres::Config),
}

impl Server {
    async fn start(name: &str) -> Result<Self, Box<dyn Error>> {
        match name {
            "postgres" => Ok(Self::Postgres(
                Postgres::start(&[("default_transaction_isolation", "serializable")]).await?,
            )),
            "roach" => Ok(Self::Roach(roach::Server::start(roach::Options::default()).await?)),
            url => {
                let config: tokio_postgres::Config = url.parse()?;
                let tokio_postgres::config::Host::Tcp(host) =
                    config.get_hosts().first().ok_or("the URL names no host")?
                else {
                    return Err("the URL names no host".into());
                };
                let port = config.get_ports().first().copied().unwrap_or(26257);
                let address = tokio::net::lookup_host((host.as_str(), port)).await?.next();
                Ok(Self::Running(address.ok_or("the host has no address")?, config))
            }
        }
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Postgres(server) => server.addr(),
            Self::Roach(server) => server.address(),
            Self::Running(address, _) => *address,
        }
    }

    /// How to connect to it, through `address`.
    fn config(&self, address: SocketAddr) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        let (mut user, mut database) = ("root".to_owned(), "defaultdb".to_owned());
        match self {
            Self::Postgres(_) => (user, database) = ("postgres".to_owned(), "postgres".to_owned()),
            Self::Roach(_) => {}
            Self::Running(_, given) => {
                given.get_user().into_iter().for_each(|given| user = given.to_owned());
                given.get_dbname().into_iter().for_each(|given| database = given.to_owned());
                given.get_password().into_iter().for_each(|given| {
                    config.password(given);
                });
            }
        }
        config.host(address.ip().to_string()).port(address.port()).user(user).dbname(database);
        config
    }
}

/// A proxy of this process, before a server; it stops when the guard is dropped.
async fn proxy(upstream: SocketAddr, mode: Mode) -> Result<(SocketAddr, DropGuard), Box<dyn Error>> {
    let mut config = Config::default();
    config.upstream.address = HostPort { host: upstream.ip().to_string(), port: upstream.port() };
    config.governor.mode = mode;
    let telemetry = Arc::new(Telemetry::new(config.retry.journal_bytes_total));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let live = Arc::new(reprise::proxy::Live::load(config)?);
    tokio::spawn(reprise::proxy::serve(listener, live, telemetry, stopped));
    Ok((address, stop.drop_guard()))
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("contention: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let chosen = |contender: &Contender| {
        options.contenders.is_empty() || options.contenders.contains(&contender.name())
    };
    let contenders: Vec<_> = Contender::all().into_iter().filter(chosen).collect();
    let mut cells = Vec::new();
    for name in &options.servers {
        let server = Server::start(name).await?;
        let relay =
            relay::start(server.address(), Duration::from_secs_f64(options.network_ms / 1000.0)).await?;
        let (replaying, _replaying) = proxy(relay, Mode::Off).await?;
        let (governing, _governing) = proxy(relay, Mode::On).await?;
        let admin = workload::connect(&server.config(server.address())).await?;
        for &rows in &options.rows {
            workload::prepare(&admin, rows).await?;
            let mut slices = Vec::new();
            for round in 0..options.rounds {
                for &contender in &contenders {
                    let address = match contender {
                        Contender::Loop => relay,
                        Contender::Replay | Contender::Gate(_) => replaying,
                        Contender::Governed => governing,
                    };
                    let workload = Workload {
                        config: server.config(address),
                        contender,
                        clients: options.clients,
                        rows,
                        warmup: Duration::from_secs_f64(options.warmup),
                        length: Duration::from_secs_f64(options.seconds),
                        seed: u64::from(round),
                    };
                    let slice: Slice = workload.run(&admin).await?;
                    eprintln!("{name}, {rows} rows, {}: {slice}", contender.name());
                    slices.push(slice);
                }
            }
            cells.push(Cell { server: name.clone(), rows, slices });
        }
    }
    println!("{}", report::table(options.clients, options.network_ms, &cells));
    std::fs::write(&options.json, report::json(options.clients, options.network_ms, &cells)?)?;
    println!("every slice: {}", options.json.display());
    Ok(())
}
