//! The clients at work: every transfer of the plan, in one style and one way.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio_postgres::Config;

use super::Error;
use super::plan::{Plan, Transfer, TransferId};
use super::progress::Progress;
use super::session::{Failure, Session};
use crate::replay::Policy;

/// How a transfer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// `SET balance = balance - $1`: nothing is read, so that nothing can have been a lie.
    Blind,
    /// `SELECT` both balances, compute in the client, `UPDATE` with constants.
    ReadModifyWrite,
}

impl Style {
    pub(super) const ALL: [Self; 2] = [Self::Blind, Self::ReadModifyWrite];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Blind => "blind",
            Self::ReadModifyWrite => "read-modify-write",
        }
    }
}

/// How conflicts are met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Directly, without retries.
    Direct,
    /// Directly, with the classic retry loop in the client.
    ClientLoop,
    /// Through Reprise, without retries in the client.
    Reprise,
}

impl Way {
    pub(super) const ALL: [Self; 3] = [Self::Direct, Self::ClientLoop, Self::Reprise];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "no retries",
            Self::ClientLoop => "client's loop",
            Self::Reprise => "Reprise",
        }
    }

    const fn route(self) -> &'static str {
        match self {
            Self::Direct | Self::ClientLoop => "directly",
            Self::Reprise => "through Reprise",
        }
    }
}

/// The longest latency that is told from longer ones: ten minutes.
const LATENCY_MICROSECONDS_MAX: u64 = 600_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

/// What the clients saw.
#[derive(Debug)]
pub(super) struct Tally {
    /// Transfers whose COMMIT succeeded.
    pub(super) committed: HashSet<TransferId>,
    /// Transfers of which a COMMIT got no clear answer.
    pub(super) in_doubt: HashSet<TransferId>,
    /// Errors by SQLSTATE, those that a client's loop dealt with included.
    pub(super) errors: BTreeMap<String, u64>,
    /// Microseconds from the first BEGIN of a transfer until its COMMIT succeeded.
    pub(super) latency: Histogram<u64>,
    /// From the first client's first transfer to the last one's last.
    pub(super) elapsed: Duration,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            committed: HashSet::new(),
            in_doubt: HashSet::new(),
            errors: BTreeMap::new(),
            latency: Histogram::new_with_max(LATENCY_MICROSECONDS_MAX, SIGNIFICANT_DIGITS)
                .expect("bounds and digits are within the histogram's range"),
            elapsed: Duration::ZERO,
        }
    }

    fn add_commit(&mut self, id: TransferId, latency: Duration) {
        self.committed.insert(id);
        self.latency.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    fn add_failure(&mut self, id: TransferId, failure: Failure) {
        *self.errors.entry(failure.sqlstate.unwrap_or_else(|| "connection lost".to_owned())).or_default() +=
            1;
        if failure.in_doubt {
            self.in_doubt.insert(id);
        }
    }

    fn merge(&mut self, other: Self) {
        self.committed.extend(other.committed);
        self.in_doubt.extend(other.in_doubt);
        for (sqlstate, count) in other.errors {
            *self.errors.entry(sqlstate).or_default() += count;
        }
        self.latency += other.latency;
    }
}

/// Connects a session for each client, then lets all of them work through the plan at once.
pub(super) async fn run(
    plan: &Plan,
    style: Style,
    way: Way,
    config: &Config,
    schema: &str,
    progress: &Progress,
) -> Result<Tally, Error> {
    let config = Arc::new(config.clone());
    let mut clients = Vec::new();
    for transfers in plan.clients() {
        let session = connect(way, &config, schema).await?;
        clients.push(Worker { style, way, config: &config, schema, session, transfers, progress });
    }
    let start = Instant::now();
    let tallies = futures_util::future::try_join_all(clients.into_iter().map(Worker::run)).await?;
    let mut total = Tally::new();
    tallies.into_iter().for_each(|tally| total.merge(tally));
    total.elapsed = start.elapsed();
    Ok(total)
}

async fn connect(way: Way, config: &Config, schema: &str) -> Result<Session, Error> {
    let session = Session::open(config, schema).await;
    session.map_err(|source| Error::Connect { way: way.route(), source })
}

/// One client and its share of the plan.
struct Worker<'a> {
    style: Style,
    way: Way,
    config: &'a Config,
    schema: &'a str,
    session: Session,
    transfers: &'a [Transfer],
    progress: &'a Progress,
}

impl Worker<'_> {
    async fn run(mut self) -> Result<Tally, Error> {
        let mut tally = Tally::new();
        for transfer in self.transfers {
            let start = Instant::now();
            if self.transfer(transfer, &mut tally).await? {
                tally.add_commit(transfer.id, start.elapsed());
            }
            self.progress.advance();
        }
        Ok(tally)
    }

    /// Tries as often as the way allows; tells whether the transfer was committed.
    async fn transfer(&mut self, transfer: &Transfer, tally: &mut Tally) -> Result<bool, Error> {
        let mut retries = Retries::new(self.way);
        loop {
            let Err(failure) = self.session.attempt(self.style, transfer).await else { return Ok(true) };
            if self.session.is_closed() {
                self.session = connect(self.way, self.config, self.schema).await?;
            }
            let pause = retries.next_pause(&failure);
            tally.add_failure(transfer.id, failure);
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Ok(false),
            }
        }
    }
}

/// The classic retry loop: exponential backoff with full jitter, bounded. Its limits are those that Reprise has by
/// default, so that the two can be compared.
struct Retries {
    policy: Policy,
    attempt: u32,
    start: Instant,
}

impl Retries {
    fn new(way: Way) -> Self {
        let mut policy = Policy::default();
        if way != Way::ClientLoop {
            policy.max_attempts = 1;
        }
        Self { policy, attempt: 1, start: Instant::now() }
    }

    /// How long to wait before another attempt, if there is to be one.
    fn next_pause(&mut self, failure: &Failure) -> Option<Duration> {
        let is_conflict = matches!(failure.sqlstate.as_deref(), Some("40001" | "40P01"));
        if !is_conflict
            || self.attempt >= self.policy.max_attempts
            || self.start.elapsed() > self.policy.timeout
        {
            return None;
        }
        let growth = 1_u32.checked_shl(self.attempt - 1).unwrap_or(u32::MAX);
        let longest = self.policy.initial_backoff.saturating_mul(growth).min(self.policy.max_backoff);
        self.attempt += 1;
        Some(longest.mul_f64(fastrand::f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(sqlstate: &str) -> Failure {
        Failure { sqlstate: Some(sqlstate.to_owned()), in_doubt: false }
    }

    #[test]
    fn only_the_clients_loop_tries_again_and_only_after_conflicts() {
        assert_eq!(Retries::new(Way::Direct).next_pause(&failure("40001")), None);
        assert_eq!(Retries::new(Way::Reprise).next_pause(&failure("40001")), None);
        assert_eq!(Retries::new(Way::ClientLoop).next_pause(&failure("23505")), None);
        assert!(Retries::new(Way::ClientLoop).next_pause(&failure("40P01")).is_some());
    }

    #[test]
    fn the_clients_loop_is_bounded() {
        let mut retries = Retries::new(Way::ClientLoop);
        let pauses = std::iter::from_fn(|| retries.next_pause(&failure("40001")));
        let policy = Policy::default();
        let pauses: Vec<_> = pauses.take(1000).collect();
        assert_eq!(pauses.len(), policy.max_attempts as usize - 1);
        assert!(pauses.iter().all(|pause| *pause <= policy.max_backoff));
        assert!(pauses[0] <= policy.initial_backoff);
    }
}
