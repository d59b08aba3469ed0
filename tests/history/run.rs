//! Lets the clients of a workload work in bad weather, then judges what came of it.

use std::time::Instant;

use fastrand::Rng;
use futures_util::future::join_all;
use tokio_postgres::Error;

use crate::arena::{Arena, Ground};
use crate::client::{Session, Speech, Value};
use crate::history::{Fate, History, Transaction};

/// Clients at the same time.
const CLIENTS: i64 = 10;
/// Transactions of each.
const TRANSACTIONS: i64 = 24;
/// The seed of everything that is left to chance, unless the variable SEED names another.
const SEED_DEFAULT: u64 = 20_260_711;

/// Each transaction writes its id here; there is no key that would hide a second time.
const LEDGER: &str = "CREATE TABLE ledger (id BIGINT NOT NULL)";
const ENTRY: &str = "INSERT INTO ledger (id) VALUES ($1)";

/// What the clients do, and what must be true of it afterwards.
pub(crate) trait Workload {
    /// What the client remembers of a transaction.
    type Note;

    /// The tables and their first rows.
    fn schema(&self) -> Vec<String>;

    /// The statements of a transaction between BEGIN and COMMIT.
    async fn transact(&self, session: &mut Session, random: &mut Rng, id: i64) -> Result<Self::Note, Error>;

    /// Everything that cannot be.
    async fn audit(&self, arena: &Arena, history: &History<Self::Note>) -> Vec<String>;
}

fn seed() -> u64 {
    let chosen = std::env::var("SEED").ok();
    chosen.map_or(SEED_DEFAULT, |seed| seed.parse().expect("SEED is a positive number"))
}

/// Runs a workload, and fails if anything cannot be, or if nothing was put to the test.
pub(crate) async fn run<W: Workload>(workload: W, ground: Ground) {
    let (start, seed) = (Instant::now(), seed());
    let arena = Arena::open(ground, seed).await;
    for statement in workload.schema().iter().map(String::as_str).chain([LEDGER]) {
        arena.run(statement).await;
    }
    arena.begin_storm().await;
    let clients = (0..CLIENTS).map(|client| work(&workload, &arena, ground, seed, client));
    let transactions = join_all(clients).await.into_iter().flatten().collect();
    arena.end_storm().await;
    let ledger = arena.query("SELECT id FROM ledger").await;
    let ledger: Vec<i64> = ledger.iter().map(|row| row[0].parse().expect("an id")).collect();
    let history = History::new(transactions, &ledger);
    let mut anomalies = history.contradictions();
    anomalies.extend(workload.audit(&arena, &history).await);
    let summary = Summary::new(&arena, &history);
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    println!("{name}: {} in {:.1?}", summary.line, start.elapsed());
    assert!(anomalies.is_empty(), "SEED={seed}: {}\n{}", summary.line, anomalies.join("\n"));
    summary.assert_worth();
}

async fn work<W: Workload>(
    workload: &W,
    arena: &Arena,
    ground: Ground,
    seed: u64,
    client: i64,
) -> Vec<Transaction<W::Note>> {
    let speech = Speech::ALL[client as usize % Speech::ALL.len()];
    let mut session = Session::open(arena.proxied.clone(), speech).await.expect("a connection");
    let mut transactions = Vec::new();
    for number in 0..TRANSACTIONS {
        let id = client * TRANSACTIONS + number + 1;
        let mut random = Rng::with_seed(seed ^ id as u64);
        session.mend().await.expect("a connection");
        transactions.push(attempt(workload, &mut session, ground, &mut random, id).await);
    }
    transactions
}

/// Runs a transaction, once.
async fn attempt<W: Workload>(
    workload: &W,
    session: &mut Session,
    ground: Ground,
    random: &mut Rng,
    id: i64,
) -> Transaction<W::Note> {
    let body = async {
        session.control(ground.begin()).await?;
        workload.transact(session, random, id).await
    };
    let refused =
        |error: &Error| Transaction { id, fate: Fate::Refused, note: None, sqlstate: sqlstate(error) };
    let note = match body.await {
        Ok(note) => note,
        Err(error) => {
            roll_back(session).await;
            return refused(&error);
        }
    };
    let (fate, sqlstate) = match session.commit(ENTRY, &[Value::Int(id)]).await {
        (Err(error), None) => {
            roll_back(session).await;
            return refused(&error);
        }
        (last @ Err(_), Some(_)) => (Fate::of_commit(&last), last.err().as_ref().and_then(sqlstate)),
        (Ok(_), Some(commit)) => (Fate::of_commit(&commit), commit.err().as_ref().and_then(sqlstate)),
        (Ok(_), None) => unreachable!("a COMMIT follows the last statement"),
    };
    Transaction { id, fate, note: Some(note), sqlstate }
}

/// As every client does after an error. The answer does not matter: a connection on which it fails is found closed.
async fn roll_back(session: &Session) {
    let _ = session.control("ROLLBACK").await;
}

fn sqlstate(error: &Error) -> Option<String> {
    error.code().map(|code| code.code().to_owned())
}

/// What the run was worth.
struct Summary {
    committed: usize,
    met: f64,
    /// Of those: met at COMMIT, and in replays.
    at_commit: f64,
    in_replays: f64,
    hidden: f64,
    line: String,
}

impl Summary {
    fn new<N>(arena: &Arena, history: &History<N>) -> Self {
        let [committed, refused, doubtful] =
            [Fate::Committed, Fate::Refused, Fate::InDoubt].map(|fate| history.count(fate));
        let met = arena.metric("reprise_conflicts_total", "");
        let at_commit = arena.metric("reprise_conflicts_total", "phase=\"commit\"");
        let in_replays = arena.metric("reprise_conflicts_total", "phase=\"replay\"");
        let hidden = arena.metric("reprise_conflicts_hidden_total", "");
        let surfaced = arena.metric("reprise_conflicts_surfaced_total", "");
        let attempts = arena.metric("reprise_transaction_attempts_sum", "");
        let line = format!(
            "{committed} committed, {refused} refused, {doubtful} in doubt after {:?}; {met} conflicts in \
             {attempts} attempts, {at_commit} at COMMIT and {in_replays} in replays; {:.0} % hidden, \
             {surfaced} surfaced; {} faults injected besides those of triggers",
            history.failures(),
            100.0 * hidden / met,
            arena.faults(),
        );
        Self { committed, met, at_commit, in_replays, hidden, line }
    }

    /// Many conflicts at every step, many of them hidden, and enough transactions committed.
    fn assert_worth(&self) {
        let wanted = (CLIENTS * TRANSACTIONS) as usize;
        assert!(self.met * 5.0 > wanted as f64, "hardly a conflict: {}", self.line);
        assert!(self.at_commit > 0.0 && self.in_replays > 0.0, "a step was spared: {}", self.line);
        assert!(self.hidden > 0.0, "nothing was hidden: {}", self.line);
        assert!(self.committed * 4 > wanted, "hardly a commit: {}", self.line);
    }
}

/// A module with a test for each ground.
macro_rules! on_every_ground {
    ($($name:ident: $workload:expr;)*) => { $(
        mod $name {
            use super::*;
            use $crate::arena::Ground;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres_serializable() {
                $crate::run::run($workload(Ground::PostgresSerializable), Ground::PostgresSerializable).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres_repeatable_read() {
                $crate::run::run($workload(Ground::PostgresRepeatableRead), Ground::PostgresRepeatableRead).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn cockroach_20_2() {
                $crate::run::run($workload(Ground::Cockroach20), Ground::Cockroach20).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn cockroach_25_2() {
                $crate::run::run($workload(Ground::Cockroach25), Ground::Cockroach25).await;
            }
        }
    )* };
}
pub(crate) use on_every_ground;
