//! The search for the limit of one class, step by step.

use super::*;

const BASE: Sample = Sample { rate: 40.0, waste: 0.0, running: 2.0, waits: 1.0 };

/// Two at a time, with others waiting.
fn steady() -> Limit {
    let mut limit = Limit::new(Duration::ZERO);
    limit.enter(Duration::ZERO, Phase::Steady { base: BASE, windows: WINDOWS }, Some(2));
    limit.pass(Duration::ZERO, 2, Waiting::Newcomers);
    // Nothing is tried of its own accord.
    (limit.up.next, limit.down.next) = (Duration::MAX, Duration::MAX);
    limit
}

/// One at a time, until it is known what that gets done.
fn calibrating() -> Limit {
    let mut limit = Limit::new(Duration::ZERO);
    limit.enter(Duration::ZERO, Phase::Calibrating, Some(1));
    limit
}

/// That is known to be about twenty a second.
fn assert_twenty_a_second(limit: &Limit) {
    assert!(
        matches!(limit.phase, Phase::Probing { base, .. } if (18.0..25.0).contains(&base.rate)),
        "{limit:?}"
    );
}

/// A transaction is done, with so many at work up to then and these in the queue.
fn done(limit: &mut Limit, at: Duration, running: u32, waiting: Waiting) {
    limit.pass(at, running, waiting);
    limit.ended(at, End::Done);
}

/// So many transactions are done in the second that begins then, one like the other.
fn work(limit: &mut Limit, second: u64, count: u32) {
    for number in 1..=count {
        let at = Duration::from_secs(second) + Duration::from_secs(1) * number / count;
        done(limit, at, 2, Waiting::Newcomers);
    }
}

#[test]
fn a_little_waste_is_looked_into_and_a_few_conflicts_are_not() {
    for (every, tried) in [(10, Some(8)), (50, None)] {
        let mut limit = Limit::new(Duration::ZERO);
        for number in 1..=150 {
            let at = Duration::from_millis(20 * number);
            limit.pass(at, 16, Waiting::Nobody);
            limit.ended(at, if number % every == 0 { End::Wasted } else { End::Done });
        }
        assert_eq!(limit.get(), tried, "one of {every} is wasted");
    }
}

#[test]
fn where_what_gets_done_varies_much_a_limit_is_tried_for_longer() {
    for (counts, left) in [([40, 40], Some(2)), ([70, 10], Some(1))] {
        let mut limit = steady();
        for second in 0..10 {
            work(&mut limit, second, counts[second as usize % 2]);
        }
        limit.try_limit(Duration::from_secs(10), 2, 1, BASE, false);
        limit.pass(Duration::from_secs(10), 1, Waiting::Newcomers);
        work(&mut limit, 10, 15);
        assert_eq!(limit.get(), left, "{counts:?}: unrest {}", limit.unrest);
    }
}

#[test]
fn a_limit_that_is_never_kept_is_judged_all_the_same() {
    let mut limit = calibrating();
    let at = Duration::from_secs;
    for second in 1..=25 {
        done(&mut limit, at(second), 9, Waiting::Newcomers);
    }
    assert_eq!(limit.get(), Some(1), "they may be left over");
    for second in 26..=60 {
        done(&mut limit, at(second), 9, Waiting::Newcomers);
    }
    assert_ne!(limit.phase, Phase::Calibrating);
}

#[test]
fn what_was_left_over_does_not_count_for_what_one_at_a_time_gets_done() {
    let mut limit = calibrating();
    let at = Duration::from_millis;
    for replay in 1..=20 {
        done(&mut limit, at(10 * replay), 1, Waiting::Replays);
    }
    assert_eq!(limit.get(), Some(1));
    for newcomer in 1..=12 {
        done(&mut limit, at(200 + 50 * newcomer), 1, Waiting::Newcomers);
    }
    assert_twenty_a_second(&limit);
}

#[test]
fn what_others_from_before_hold_up_does_not_count_for_what_one_at_a_time_gets_done() {
    let mut limit = calibrating();
    let at = Duration::from_millis;
    for second in 0..5 {
        done(&mut limit, at(1000 * second + 900), 1, Waiting::Newcomers);
        limit.ended(at(1000 * second + 900), End::Wasted);
    }
    assert_eq!(limit.phase, Phase::Calibrating);
    for number in 1..=10 {
        done(&mut limit, at(4900 + 50 * number), 1, Waiting::Newcomers);
    }
    assert_twenty_a_second(&limit);
}
