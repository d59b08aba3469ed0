//! Runs a command with a throwaway PostgreSQL at hand: `cargo run --example postgres -- COMMAND [ARGUMENT]...`
//!
//! The command finds the server's `HOST:PORT` in `GOLDEN_POSTGRES`; the user `postgres` needs no password. The
//! server is gone when the command ends.

use std::env;
use std::error::Error;
use std::process::ExitCode;

use reprise::demo::server::Postgres;
use tokio::process::Command;

/// The recorded conversations prepare transactions, which a server refuses by default, and were recorded in this time zone.
const SETTINGS: [(&str, &str); 2] = [("max_prepared_transactions", "20"), ("timezone", "UTC")];

#[tokio::main]
async fn main() -> ExitCode {
    run().await.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}

async fn run() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1);
    let program = arguments.next().ok_or("no command was given")?;
    let server = Postgres::start(&SETTINGS).await?;
    eprintln!("{} at {}", server.version(), server.addr());
    let status = Command::new(program)
        .args(arguments)
        .env("GOLDEN_POSTGRES", server.addr().to_string())
        .status()
        .await?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
