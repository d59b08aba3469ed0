//! Pauses between attempts: exponential, with full jitter.
//!
//! Full jitter (any pause between nothing and the bound) spreads the sessions that met in one conflict best; see
//! [Exponential Backoff And Jitter](https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).

use std::time::Duration;

use super::policy::{Dialect, Policy};

/// A source of pauses; the seed fixes them.
#[derive(Clone, Debug)]
pub(super) struct Backoff(u64);

impl Backoff {
    /// A source of its own for each session.
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The pause before attempt number `attempt` (the first replay is attempt 2).
    ///
    /// On CockroachDB the first replay goes at once: the savepoint keeps the transaction's place in the line.
    pub(super) fn pause(&mut self, policy: &Policy, dialect: Dialect, attempt: u32) -> Duration {
        let doublings = match dialect {
            Dialect::Cockroach if attempt <= 2 => return Duration::ZERO,
            Dialect::Cockroach => attempt - 3,
            Dialect::Postgres => attempt.saturating_sub(2),
        };
        let bound = policy.initial_backoff.saturating_mul(1 << doublings.min(30)).min(policy.max_backoff);
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(((u128::from(self.next()) * u128::from(nanos)) >> 64) as u64)
    }

    /// SplitMix64: a few instructions, no state to speak of, and good enough to spread pauses.
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_stay_below_a_bound_that_doubles() {
        let policy = Policy {
            initial_backoff: Duration::from_millis(4),
            max_backoff: Duration::from_millis(20),
            ..Policy::default()
        };
        let mut backoff = Backoff::new(7);
        for (attempt, bound_ms) in [(2, 4), (3, 8), (4, 16), (5, 20), (50, 20), (u32::MAX, 20)] {
            let longest = (0..1000).map(|_| backoff.pause(&policy, Dialect::Postgres, attempt)).max();
            let bound = Duration::from_millis(bound_ms);
            assert!(longest <= Some(bound) && longest > Some(bound.mul_f64(0.9)), "{attempt}: {longest:?}");
        }
    }

    #[test]
    fn on_cockroachdb_the_first_replay_goes_at_once() {
        let mut backoff = Backoff::new(7);
        assert_eq!(backoff.pause(&Policy::default(), Dialect::Cockroach, 2), Duration::ZERO);
        assert!(backoff.pause(&Policy::default(), Dialect::Cockroach, 3) > Duration::ZERO);
    }
}
