//! The engine in a simulated world.
mod alone;
mod check;
mod client;
mod conflicts;
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
use world::World;

fn run(world: &mut World, seed: u64) -> Result<(), world::Failure> {
    world.run()?;
    check::check(world)?;
    conflicts::check(world)?;
    if world.scenario.is_alone() { alone::check(world, seed) } else { Ok(()) }
}

fn simulate(seed: u64) {
    let scenario = Scenario::of(seed);
    let mut world = World::new(seed, scenario.clone(), false, false);
    if let Err(failure) = run(&mut world, seed) {
        let mut world = World::new(seed, scenario, false, true);
        let _ = world.run();
        let session = failure.session.unwrap_or(0);
        panic!("seed {seed}, client {session}: {}\n{}", failure.text, world.sessions[session as usize].conversation().join("\n"));
    }
}

#[test]
fn seeds() {
    let (first, count) = match std::env::var("SEED") {
        Ok(seed) => (seed.parse().unwrap(), 1),
        Err(_) => (0, std::env::var("SEEDS").map_or(2000, |n| n.parse().unwrap())),
    };
    let mut failures: std::collections::BTreeMap<String, Vec<u64>> = Default::default();
    for seed in first..first + count {
        if count == 1 { simulate(seed) } else if let Err(e) = std::panic::catch_unwind(|| simulate(seed)) {
            let text = e.downcast_ref::<String>().cloned().unwrap_or_default();
            let key = text.lines().next().unwrap_or_default().split_once(": ").map_or(String::new(), |x| x.1.to_owned());
            failures.entry(key).or_default().push(seed);
        }
    }
    for (k, v) in &failures { println!("{} x {k}: {:?}", v.len(), &v[..v.len().min(6)]); }
    assert!(failures.is_empty());
}
