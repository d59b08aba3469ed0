//! The engine in a simulated world: clients, a network that cuts and delays, a model database that conflicts, fails and goes
//! away. One thread, no sockets, a clock of its own, and everything out of one seed.
//!
//! ```text
//!   scenario ──> what this seed is about                 world ── dice choose the next move
//!      |                                                  |
//!      v            bytes, cut anywhere      bytes        v
//!   client ── plan ──> doors ───> Engine ─────────> server ── transaction ── store
//!      |                            |                  ^            |
//!   reader: what it was told     trace, events       faults      log of attempts
//!      |                            |                               |
//!      +----> check (I1, I3, I4) <--+--- conflicts (I5, I7) <-------+      alone (I1, I6)
//! ```
//!
//! - `cargo test --test simulation` plays some thousands of seeds; `SEEDS=n` says how many, `FIRST=n` from where on.
//! - `SEED=n` plays one. A seed that fails prints the conversation of the session at hand, in the notation of
//!   `tests/conversations`, to be pasted there.
//! - `make simulate SEEDS=1000000` plays many, optimised. `scripts/mutants.sh` shows that the checks bite.

mod alone;
mod check;
mod client;
mod conflicts;
mod doors;
mod faults;
mod known;
mod plan;
mod reader;
mod scenario;
mod server;
mod session;
mod sql;
mod store;
mod story;
mod trace;
mod transaction;
mod world;

use scenario::Scenario;
use world::{Failure, World};

/// Plays one world to its end, and checks it.
fn play(world: &mut World, seed: u64) -> Result<(), Failure> {
    world.run()?;
    check::check(world)?;
    conflicts::check(world)?;
    if world.scenario.alone { alone::check(world, seed) } else { Ok(()) }
}

/// What is wrong with a seed, with the conversation in which it went wrong; `None` if nothing is.
fn complaint(seed: u64) -> Option<String> {
    let scenario = Scenario::of(seed);
    let failure = play(&mut World::new(seed, scenario.clone(), false, false), seed).err()?;
    let mut traced = World::new(seed, scenario, false, true);
    // It fails the same way again; this time it is written down.
    let _ = traced.run();
    let session = failure.session.unwrap_or(0);
    let conversation = traced.sessions[session as usize].conversation().join("\n");
    Some(format!(
        "seed {seed}, client {session}: {}\n@case seed {seed}\n{conversation}\n\nagain: SEED={seed} cargo test --test simulation",
        failure.text
    ))
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

#[test]
fn every_seed_holds() {
    let (first, count) = match number("SEED") {
        Some(seed) => (seed, 1),
        None => (number("FIRST").unwrap_or(0), number("SEEDS").unwrap_or(6_000)),
    };
    for seed in first..first + count {
        if let Some(complaint) = complaint(seed) {
            panic!("{complaint}");
        }
    }
}
