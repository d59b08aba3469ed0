//! What is claimed of the governor, held against the model.

use std::time::Duration;

use reprise::governor::Policy;

use crate::database::Kind;
use crate::gate::Gate;
use crate::world::{Scenario, Tally, World};

/// Seconds in which a limit is found; the rest of a play counts.
const FOUND: usize = 12;
const SEEDS: u64 = 4;

fn play(scenario: &Scenario, seed: u64, gates: Vec<Gate>) -> Tally {
    World::new(Scenario { seed, ..scenario.clone() }, gates).run()
}

fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) = values.into_iter().fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / count
}

/// What a gate gets done, on average over seeds.
fn rate(scenario: &Scenario, gate: impl Fn() -> Gate) -> f64 {
    rate_from(FOUND, SEEDS, scenario, gate)
}

/// From some second on, over so many seeds.
fn rate_from(first: usize, seeds: u64, scenario: &Scenario, gate: impl Fn() -> Gate) -> f64 {
    mean((1..=seeds).map(|seed| play(scenario, seed, vec![gate()]).rate(first)))
}

/// What the best of the fixed gates gets done, or none at all.
fn best(scenario: &Scenario) -> f64 {
    let fixed = [1, 2, 4, 8].map(|width| rate(scenario, || Gate::fixed(width)));
    fixed.into_iter().fold(rate(scenario, || Gate::Free), f64::max)
}

#[test]
fn it_gets_nearly_as_much_done_as_the_best_fixed_gate_without_being_told() {
    for (kind, network, rows) in [
        (Kind::Postgres, 5, 10),
        (Kind::Postgres, 5, 30),
        (Kind::Postgres, 5, 1000),
        (Kind::Postgres, 1, 100),
        (Kind::Cockroach, 5, 10),
        (Kind::Cockroach, 5, 100),
        (Kind::Cockroach, 1, 100),
    ] {
        let scenario = Scenario::new(kind, network, rows);
        // What is found by trying is found sooner in one play, and later in another.
        let (best, governed) = (best(&scenario), rate_from(FOUND, 4 * SEEDS, &scenario, Gate::governed));
        assert!(
            governed >= 0.85 * best,
            "{kind:?}, {network} ms, {rows} rows: {governed:.1} of {best:.1} per second"
        );
    }
}

#[test]
fn where_nothing_contends_nobody_waits() {
    for kind in [Kind::Postgres, Kind::Cockroach] {
        let mut scenario = Scenario::new(kind, 5, 10_000);
        scenario.length = Duration::from_secs(15);
        let (free, tally) = (rate(&scenario, || Gate::Free), play(&scenario, 1, vec![Gate::governed()]));
        assert!(tally.rate(FOUND) >= 0.98 * free, "{:.1} of {free:.1}", tally.rate(FOUND));
        assert_eq!(tally.longest_wait, Duration::ZERO);
    }
}

/// A fifth of the attempts is wasted, and still more gets done without a limit: to find that out must cost little.
#[test]
fn light_contention_is_left_alone_soon() {
    let mut scenario = Scenario::new(Kind::Postgres, 5, 1000);
    scenario.length = Duration::from_secs(12);
    let from_the_start = |gate: fn() -> Gate| rate_from(1, 16 * SEEDS, &scenario, gate);
    let (free, governed) = (from_the_start(|| Gate::Free), from_the_start(Gate::governed));
    assert!(governed >= 0.93 * free, "{governed:.1} of {free:.1} per second");
}

#[test]
fn a_limit_that_is_right_is_left_alone() {
    for (kind, rows) in [(Kind::Postgres, 10), (Kind::Cockroach, 10)] {
        for seed in 1..=SEEDS {
            let tally = play(&Scenario::new(kind, 1, rows), seed, vec![Gate::governed()]);
            let late = &tally.limits[FOUND..];
            let alone = late.iter().filter(|limit| **limit == Some(1)).count();
            assert!(alone * 10 >= late.len() * 8, "{kind:?}, seed {seed}: {late:?}");
        }
    }
}

#[test]
fn clients_share_alike() {
    for (kind, rows) in [(Kind::Postgres, 100), (Kind::Cockroach, 10), (Kind::Cockroach, 100)] {
        let tally = play(&Scenario::new(kind, 5, rows), 1, vec![Gate::governed()]);
        let average = mean(tally.clients.iter().map(|commits| f64::from(*commits)));
        let fewest = tally.clients.iter().copied().min().map_or(0.0, f64::from);
        assert!(fewest >= 0.5 * average, "{kind:?}, {rows} rows: {:?}", tally.clients);
        assert_eq!(tally.overdue, 0, "nobody waits up to the bound");
    }
}

#[test]
fn a_hot_spot_that_comes_and_goes_is_followed() {
    for kind in [Kind::Postgres, Kind::Cockroach] {
        let mut scenario = Scenario::new(kind, 20, 10_000);
        scenario.hot = vec![(0, 10_000), (10, 10), (40, 10_000)];
        scenario.length = Duration::from_secs(80);
        let tally = play(&scenario, 1, vec![Gate::governed()]);
        let hot = best(&Scenario::new(kind, 20, 10));
        let during = |seconds: std::ops::Range<usize>| {
            mean(tally.seconds[seconds].iter().map(|commits| f64::from(*commits)))
        };
        assert!(during(25..40) >= 0.8 * hot, "{kind:?}: {:?}", tally.seconds);
        assert!(during(70..80) >= 0.9 * during(1..10), "{kind:?}: {:?} {:?}", tally.seconds, tally.limits);
    }
}

#[test]
fn a_load_that_pauses_and_comes_back_has_its_limit() {
    for (rows, present) in [(10, 0), (100, 0), (100, 2)] {
        let mut scenario = Scenario::new(Kind::Cockroach, 5, rows);
        (scenario.length, scenario.pause) = (Duration::from_secs(50), (20..30, present));
        let width = if rows == 10 { 1 } else { 8 };
        let fixed = rate_from(32, 4 * SEEDS, &scenario, || Gate::fixed(width));
        let governed = rate_from(32, 4 * SEEDS, &scenario, Gate::governed);
        assert!(
            governed >= 0.85 * fixed,
            "{rows} rows, {present} go on: {governed:.1} of {fixed:.1} per second"
        );
    }
}

/// What is tried in a bad moment is tried again soon.
#[test]
fn nobody_is_left_without_a_limit_for_long() {
    let scenario = Scenario::new(Kind::Cockroach, 1, 100);
    let best = best(&scenario);
    for seed in 1..=48 {
        let rate = play(&scenario, seed, vec![Gate::governed()]).rate(FOUND);
        assert!(rate >= 0.6 * best, "seed {seed}: {rate:.1} of {best:.1} per second");
    }
}

#[test]
fn many_clients_get_as_much_done_as_few() {
    let few = Scenario::new(Kind::Cockroach, 5, 10);
    let many = Scenario { clients: 256, length: Duration::from_secs(60), ..few.clone() };
    let few = rate(&few, Gate::governed);
    let tally = play(&many, 1, vec![Gate::governed()]);
    assert!(tally.rate(40) >= 0.85 * few, "{:.1} of {few:.1}: {:?}", tally.rate(40), tally.seconds);
}

#[test]
fn four_governors_before_one_database_get_more_done_than_none() {
    for (kind, rows, gain) in [
        (Kind::Postgres, 100, 1.5),
        (Kind::Cockroach, 10, 1.5),
        (Kind::Postgres, 300, 0.9),
        (Kind::Cockroach, 100, 0.8),
    ] {
        let scenario = Scenario::new(kind, 5, rows);
        let free = rate(&scenario, || Gate::Free);
        let four = |seed| play(&scenario, seed, (0..4).map(|_| Gate::governed()).collect()).rate(FOUND);
        let governed = mean((1..=SEEDS).map(four));
        assert!(governed >= gain * free, "{kind:?}, {rows} rows: {governed:.1}, without {free:.1}");
    }
}

#[test]
fn who_thinks_in_the_middle_of_a_transaction_keeps_nobody_waiting() {
    let mut scenario = Scenario::new(Kind::Cockroach, 1, 1000);
    scenario.think = Duration::from_millis(200);
    scenario.clients = 32;
    let free = rate(&scenario, || Gate::Free);
    let tally = play(&scenario, 1, vec![Gate::governed()]);
    assert!(tally.rate(FOUND) >= 0.85 * free, "{:.1} of {free:.1}", tally.rate(FOUND));
}

/// Every step of the model checks that nobody waits while there is a place.
#[test]
fn nobody_is_left_behind_over_many_seeds() {
    for seed in 0..24 {
        let kind = if seed % 2 == 0 { Kind::Postgres } else { Kind::Cockroach };
        let mut scenario = Scenario::new(kind, 1 + seed % 5, [10, 50, 200][seed as usize % 3]);
        scenario.clients = [3, 16, 40][seed as usize / 3 % 3];
        scenario.updates = 1 + seed as usize % 6;
        scenario.length = Duration::from_secs(25);
        if seed % 4 == 1 {
            scenario.think = Duration::from_millis(60);
        }
        let gates = 1 + seed as usize % 3;
        let tally = play(&scenario, seed, (0..gates).map(|_| Gate::governed()).collect());
        let late: u32 = tally.seconds[FOUND..].iter().sum();
        assert!(late > 0, "seed {seed}: nothing is done: {:?}", tally.seconds);
        let bound = Policy::default().max_wait;
        assert!(tally.longest_wait <= bound, "seed {seed}: {:?}", tally.longest_wait);
    }
}
