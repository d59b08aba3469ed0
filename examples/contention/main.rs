//! `make bench-contention`: transactions over hot rows, with the client's own retry loop, with replay, with replay behind gates of
//! fixed widths, and with the governor.
//!
//! Every contender gets the same slices of time, in turns, before the same servers: a throwaway PostgreSQL at SERIALIZABLE and
//! the CockroachDB double, both behind a relay that delays what passes as a network would. The table goes to standard output,
//! every slice to a JSON file.

mod contender;
mod relay;
mod report;
mod work;
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

use contender::Contender;
use report::Cell;
use work::Work;
use workload::Workload;

/// What is measured.
#[derive(Debug, Parser)]
struct Options {
    /// Clients at work at a time, one or more numbers.
    #[arg(long, value_delimiter = ',', default_value = "16")]
    clients: Vec<usize>,
    /// What the clients do.
    #[arg(long, value_delimiter = ',', default_value = "transfers")]
    work: Vec<Work>,
    /// Rows that transfers fight for, one or more numbers.
    #[arg(long, value_delimiter = ',', default_value = "10,100,10000")]
    rows: Vec<u32>,
    /// Round trip of the network between Reprise, or the client's loop, and the database, in milliseconds.
    #[arg(long, default_value_t = 5.0)]
    network_ms: f64,
    /// Seconds of each slice that count.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds of each slice before that, in which the governor finds its limit.
    #[arg(long, default_value_t = 10.0)]
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
    async fn start(name: &str, connections: usize) -> Result<Self, Box<dyn Error>> {
        match name {
            "postgres" => {
                let connections = connections.to_string();
                let settings =
                    [("default_transaction_isolation", "serializable"), ("max_connections", &connections)];
                Ok(Self::Postgres(Postgres::start(&settings).await?))
            }
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
    let most = options.clients.iter().copied().max().unwrap_or(1);
    let mut cells = Vec::new();
    for name in &options.servers {
        // Two of each client, some of those before them that are about to leave, and the administrator's.
        let server = Server::start(name, 4 * most + 16).await?;
        for &work in &options.work {
            for rows in work.rows(&options.rows) {
                for &clients in &options.clients {
                    let mut cell = Cell { server: name.clone(), work, clients, rows, slices: Vec::new() };
                    measure(options, &contenders, &server, &mut cell).await?;
                    cells.push(cell);
                }
            }
        }
    }
    println!("{}", report::table(options.network_ms, &cells));
    report::calm_table(&cells).into_iter().for_each(|table| println!("{table}"));
    std::fs::write(&options.json, report::json(options.network_ms, &cells)?)?;
    println!("every slice: {}", options.json.display());
    Ok(())
}

/// Gives every contender its slices, in turns.
async fn measure(
    options: &Options,
    contenders: &[Contender],
    server: &Server,
    cell: &mut Cell,
) -> Result<(), Box<dyn Error>> {
    let relay = relay::start(server.address(), Duration::from_secs_f64(options.network_ms / 1000.0)).await?;
    let (replaying, _replaying) = proxy(relay, Mode::Off).await?;
    let (governing, _governing) = proxy(relay, Mode::On).await?;
    let admin = workload::connect(&server.config(server.address())).await?;
    workload::prepare(&admin, cell.rows).await?;
    for round in 0..options.rounds {
        for &contender in contenders.iter().filter(|contender| cell.work.takes(**contender)) {
            let address = match contender {
                Contender::Loop => relay,
                Contender::Replay | Contender::Gate(_) => replaying,
                Contender::Governed => governing,
            };
            let workload = Workload {
                config: server.config(address),
                contender,
                work: cell.work,
                clients: cell.clients,
                rows: cell.rows,
                warmup: Duration::from_secs_f64(options.warmup),
                length: Duration::from_secs_f64(options.seconds),
                seed: u64::from(round),
            };
            let slice = workload.run(&admin).await?;
            let (server, work, rows, clients) = (&cell.server, cell.work.name(), cell.rows, cell.clients);
            eprintln!("{server}, {work}, {rows} rows, {clients} clients, {}: {slice}", contender.name());
            cell.slices.push(slice);
        }
    }
    Ok(())
}
