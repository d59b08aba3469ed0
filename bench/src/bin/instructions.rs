//! Counts the instructions that the engine takes for recorded sessions, by callgrind, and holds them against the budget.
//!
//! `instructions` compares, `instructions --write` writes the budget anew, `instructions play SESSION MODE TIMES` is what runs
//! under callgrind. Two runs of different length are subtracted, so that only playing counts.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use bench::budget::{self, Budget, Figures, TOLERANCE_PERCENT};
use bench::recorded::{BULK, RECORDED, Session};
use reprise::replay::Mode;

/// How often a session is played in the shorter run and in the longer one.
const TIMES: [u64; 2] = [5, 25];

fn main() -> Result<ExitCode> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => compare(&measure()?),
        ["--write"] => {
            std::fs::write(path(), text(&Budget { compiler: compiler()?, instructions: measure()? })?)?;
            Ok(ExitCode::SUCCESS)
        }
        ["play", name, mode, times] => {
            let session = Session::named(name).context("a session of that name")?;
            let mode = Mode::ALL.into_iter().find(|known| known.name() == *mode).context("a mode")?;
            (0..times.parse::<u64>()?).for_each(|_| session.play(mode));
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("usage: instructions [--write | play SESSION MODE TIMES]"),
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("budget.toml")
}

fn text(budget: &Budget) -> Result<String> {
    let head = format!(
        "# Instructions of the engine for each round trip of a recorded session, counted by callgrind. A change that takes more\n\
         # than {TOLERANCE_PERCENT} % more fails in CI. `make budget` writes the figures anew: say in the commit what they buy.\n"
    );
    Ok(head + &toml::to_string(budget)?)
}

fn compiler() -> Result<String> {
    let told = Command::new("rustc").arg("--version").output().context("rustc is on the PATH")?;
    Ok(String::from_utf8(told.stdout)?.trim().to_owned())
}

fn compare(measured: &Figures) -> Result<ExitCode> {
    let budget: Budget = toml::from_str(&std::fs::read_to_string(path())?)?;
    let verdict = budget::judge(&budget.instructions, measured);
    for lighter in &verdict.lighter {
        println!("{lighter}: `make budget` lowers it");
    }
    for wrong in &verdict.wrong {
        println!("{wrong}");
    }
    let compiler = compiler()?;
    if !verdict.wrong.is_empty() && compiler != budget.compiler {
        println!("The budget was counted with {}, and this is {compiler}.", budget.compiler);
    }
    let kept = measured.len() - verdict.wrong.len().min(measured.len());
    println!("{kept} passed, {} failed", verdict.wrong.len());
    Ok(if verdict.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn measure() -> Result<Figures> {
    let mut measured = Figures::new();
    for name in RECORDED.map(|(name, _)| name).into_iter().chain([BULK]) {
        let round_trips = Session::named(name).context("a session of that name")?.round_trips() as u64;
        for mode in [Mode::Transparent, Mode::Observe] {
            let [short, long] = TIMES.map(|times| instructions(name, mode, times));
            let played = (TIMES[1] - TIMES[0]) * round_trips;
            let figure = (long? - short?) / played;
            println!("{name} {}: {figure} instructions a round trip", mode.name());
            measured.insert(format!("{name}-{}", mode.name()), figure);
        }
    }
    Ok(measured)
}

/// The instructions of a process that plays a session so often.
fn instructions(name: &str, mode: Mode, times: u64) -> Result<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(std::env::current_exe()?);
    command.args(["play", name, mode.name(), &times.to_string()]);
    let output =
        command.output().context("valgrind is not on the PATH: scripts/install-benchmarks.sh installs it")?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{told}");
    let collected =
        told.lines().find_map(|line| line.split_once("Collected : ")).context(told.to_string())?;
    Ok(collected.1.trim().parse()?)
}
