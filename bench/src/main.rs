//! `make bench`: what a proxy costs, beside a plain relay and other proxies, on a throwaway PostgreSQL.
//!
//! Rounds are short and interleaved: one round of every peer, then the next, so that whatever else the machine does hits
//! all alike. Quoted are the ratios of processor time for each transaction; the rates depend on what else runs.

#![forbid(unsafe_code)]

mod cells;
mod latency;
mod peers;
mod plot;
mod process;
mod replays;
mod report;
mod scale;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cells::Ground;
use certificates::{Authority, offer_tls};
use clap::Parser;
use clap::builder::PossibleValuesParser;
use peers::{HIDES, MEASURE, Peer};
use report::{Measured, Report};
use reprise::demo::server::Postgres;
use tokio_postgres::NoTls;

/// Measures what a proxy costs, beside a plain relay and other proxies.
#[derive(Debug, Parser)]
struct Options {
    /// Rounds of each cell.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of one round of pgbench.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Only the cells with one of these in their name.
    #[arg(long, value_delimiter = ';')]
    only: Vec<String>,
    /// Only these peers; the plain relay is always among them.
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(peers::NAMES))]
    peers: Vec<String>,
    /// Leave out the time that is added to one statement.
    #[arg(long)]
    no_latency: bool,
    /// Leave out idle sessions by the thousand, gigabytes, the long transaction and replays.
    #[arg(long)]
    no_scale: bool,
    /// Where the figures are written; a picture of them goes beside it.
    #[arg(long, default_value = "target/bench.json")]
    json: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    cells::check_tools()?;
    // PgBouncer keeps its connections when the clients are gone.
    let settings = [("max_connections", "2500"), ("shared_buffers", "512MB")];
    let database = Postgres::start(&settings).await?;
    let ground = Ground::prepare(database.addr(), Duration::from_secs(options.seconds)).await?;
    let chosen = |name: &&'static str| {
        *name == MEASURE || options.peers.is_empty() || options.peers.iter().any(|peer| peer == name)
    };
    let wanted =
        |name: &str| options.only.is_empty() || options.only.iter().any(|part| name.contains(part.as_str()));
    let mut cells = cells::all();
    cells.retain(|cell| wanted(&cell.name));
    // The authority's files go with it.
    let authority = Authority::create();
    let identity = authority.server("localhost");
    let is_encrypted = cells.iter().any(|cell| cell.is_encrypted);
    if is_encrypted {
        let (admin, connection) = tokio_postgres::connect(&peers::url(database.addr()), NoTls).await?;
        tokio::spawn(connection);
        offer_tls(&database, &admin, &identity, &authority).await;
    }
    let (mut peers, mut encrypting) = (Vec::new(), Vec::new());
    for name in peers::NAMES.into_iter().filter(chosen) {
        peers.push(Peer::start(name, database.addr(), None).await?);
        if is_encrypted {
            encrypting.push(Peer::start(name, database.addr(), Some(&identity)).await?);
        }
    }
    let mut measured = Vec::new();
    for cell in cells {
        let peers = if cell.is_encrypted { &encrypting } else { &peers };
        let mut rounds = Vec::new();
        for round in 0..options.rounds {
            eprintln!("{}: round {} of {}", cell.name, round + 1, options.rounds);
            rounds.push(one_round(&ground, &cell, peers, round as usize, &database).await?);
        }
        measured.push(Measured { cell: cell.name, rounds });
    }
    let asked = !(options.no_latency && options.no_scale);
    ensure!(!measured.is_empty() || asked, "no cell has a name with any of {:?}", options.only);
    let mut latency = None;
    if !options.no_latency {
        eprintln!("the time that is added to one statement");
        latency = Some(latency::measure(database.addr(), &peers).await?);
    }
    let (mut scale, mut replays) = (Vec::new(), Vec::new());
    for peer in peers.iter().filter(|_| !options.no_scale) {
        eprintln!("{}: scale", peer.name);
        scale.push(scale::measure(peer).await.with_context(|| peer.name)?);
        if peer.name == HIDES {
            replays = replays::measure(peer, &peers::url(database.addr())).await?;
        }
    }
    let report = Report::new(peers.iter().map(|peer| peer.name).collect(), measured, scale, replays, latency);
    report.print();
    let picture = options.json.with_extension("svg");
    std::fs::write(&options.json, serde_json::to_vec_pretty(&report)?)
        .with_context(|| options.json.display().to_string())?;
    std::fs::write(&picture, plot::svg(&report)).with_context(|| picture.display().to_string())?;
    println!("\nThe figures are in {}, and as a picture in {}.", options.json.display(), picture.display());
    Ok(())
}

/// One round of a cell through every peer, another one first each time.
async fn one_round(
    ground: &Ground,
    cell: &cells::Cell,
    peers: &[Peer],
    round: usize,
    database: &Postgres,
) -> Result<Vec<cells::Sample>> {
    let mut samples = vec![None; peers.len()];
    for at in 0..peers.len() {
        let at = (at + round) % peers.len();
        let sample = ground.round(cell, &peers[at], database.addr()).await;
        samples[at] = Some(sample.with_context(|| format!("{} through {}", cell.name, peers[at].name))?);
    }
    Ok(samples.into_iter().flatten().collect())
}
