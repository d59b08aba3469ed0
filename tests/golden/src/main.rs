//! Holds a server against recorded conversations, and says which of them it answers differently.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use golden::{Address, Comparison, NotationError, Player, Recording, Report, Selection};
use regex::Regex;

/// Plays recorded conversations against a server and compares its answers with the recorded ones.
#[derive(Parser)]
#[command(name = "golden")]
struct Arguments {
    /// Where the server listens.
    #[arg(long, value_name = "HOST:PORT[/DB[?user=U]]")]
    dsn: Address,
    /// Play only cases whose id matches.
    #[arg(long, value_name = "REGEX")]
    only: Option<Regex>,
    /// Play only cases with this tag; may be given several times.
    #[arg(long, value_name = "WORD")]
    tag: Vec<String>,
    /// Do not play cases with this tag; may be given several times.
    #[arg(long, value_name = "WORD")]
    not_tag: Vec<String>,
    /// Compare only message types, SQLSTATEs, command tags and status bytes.
    #[arg(long)]
    loose: bool,
    /// How long one wait may last.
    #[arg(long, value_name = "SECONDS", default_value_t = 20.0)]
    timeout: f64,
    /// The recordings.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

fn main() -> ExitCode {
    match check(Arguments::parse()) {
        Ok(report) => {
            println!("{report}");
            ExitCode::from(u8::from(!report.failures.is_empty()))
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn check(arguments: Arguments) -> Result<Report, NotationError> {
    let timeout = Duration::try_from_secs_f64(arguments.timeout)
        .map_err(|error| NotationError::new("--timeout", error))?;
    let player = Player::new(arguments.dsn, timeout);
    let selection = Selection { only: arguments.only, tags: arguments.tag, without_tags: arguments.not_tag };
    let comparison = if arguments.loose { Comparison::Loose } else { Comparison::Strict };
    let mut report = Report::default();
    for path in &arguments.files {
        report.check(&player, &Recording::load(path)?, &selection, comparison);
    }
    Ok(report)
}
