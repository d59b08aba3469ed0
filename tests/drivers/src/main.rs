//! Real, unmodified drivers through the built proxy: `make drivers`.
//!
//! Each driver has a small program in its own language, which runs checks by name and tells what it saw. It is run
//! three times against each database that it can use: directly, through Reprise, and through Reprise with TLS, when it
//! must also tell Reprise's certificate from those of impostors. What it sees must be what
//! [`checks`] says; without a conflict every byte must be the server's, which a relay before either records; and the
//! conflicts that Reprise counts must be those that the checks provoke. The table of the README is held to all that.
//!
//! `make drivers ONLY=psycopg` runs one program.

mod catalogue;
mod checks;
mod encryption;
mod middleman;
mod program;
mod proxy;
mod recorder;
mod report;
mod target;
mod trial;

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, stream};
use reprise::demo::server::Postgres;

use catalogue::DRIVERS;
use encryption::Certificates;

/// The checks conflict at every isolation level at which a database reports conflicts.
const SETTINGS: [(&str, &str); 2] = [("default_transaction_isolation", "serializable"), ("timezone", "UTC")];

/// Programs that run at the same time; each has databases and proxies of its own.
const PARALLEL: usize = 2;

#[tokio::main]
async fn main() -> ExitCode {
    run().await.unwrap_or_else(|error| {
        eprintln!("{error:?}");
        ExitCode::FAILURE
    })
}

async fn run() -> Result<ExitCode> {
    let only = std::env::args().nth(1).filter(|name| !name.is_empty());
    let chosen = DRIVERS.iter().filter(|driver| only.as_ref().is_none_or(|only| driver.name == only));
    let chosen: Vec<_> = chosen.collect();
    ensure!(!chosen.is_empty(), "there is no such program: {only:?}");
    let server = Postgres::start(&SETTINGS).await.context("PostgreSQL")?;
    let certificates = Certificates::create();
    let admin = target::connect(server.addr(), "postgres", "postgres").await?;
    certificates::offer_tls(&server, &admin, &certificates.server, &certificates.authority).await;
    println!("{} and the CockroachDB double, directly, through Reprise, and so with TLS", server.version());
    let trials = chosen.iter().map(|driver| async {
        let outcome = trial::run(driver, &server, &certificates).await;
        report::announce(driver, &outcome);
        (*driver, outcome)
    });
    let outcomes: Vec<_> = stream::iter(trials).buffered(PARALLEL).collect().await;
    Ok(report::conclude(&outcomes, only.is_none()))
}
