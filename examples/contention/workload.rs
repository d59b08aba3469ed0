//! The work: every client runs transactions of five updates, each of a row that is drawn, in the order in which they are drawn.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use hdrhistogram::Histogram;
use tokio::sync::Semaphore;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// Rows that a transaction updates.
const UPDATES: usize = 5;
/// The longest pause of the client's loop.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long a client gets to end its last transaction.
const PATIENCE: Duration = Duration::from_secs(20);

/// How conflicts are met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// Past Reprise, with the classic retry loop in the client.
    Loop,
    /// Through Reprise, without the governor.
    Replay,
    /// Through Reprise, with the governor.
    Governed,
    /// Through Reprise, without the governor, and only so many transactions at a time.
    Gate(usize),
}

impl Contender {
    pub(crate) fn all() -> Vec<Self> {
        [Self::Loop, Self::Replay, Self::Governed].into_iter().chain([1, 2, 4, 8].map(Self::Gate)).collect()
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::Loop => "loop".to_owned(),
            Self::Replay => "replay".to_owned(),
            Self::Governed => "governed".to_owned(),
            Self::Gate(width) => format!("gate{width}"),
        }
    }
}

/// One contender before one server for a while.
pub(crate) struct Workload {
    pub(crate) config: Config,
    pub(crate) contender: Contender,
    pub(crate) clients: usize,
    pub(crate) rows: u32,
    pub(crate) warmup: Duration,
    pub(crate) length: Duration,
    pub(crate) seed: u64,
}

/// What came of it.
pub(crate) struct Slice {
    pub(crate) contender: Contender,
    /// Transactions committed per second.
    pub(crate) rate: f64,
    /// Microseconds from the first BEGIN of a transaction until it was committed.
    pub(crate) latency: Histogram<u64>,
    /// Errors that a client saw, those that its loop dealt with included.
    pub(crate) errors: u64,
    /// The commits of the client that had the fewest, by those of the average.
    pub(crate) fairness: f64,
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |quantile| self.latency.value_at_quantile(quantile) as f64 / 1000.0;
        write!(
            f,
            "{:.1}/s, p50 {:.0} ms, p99 {:.0} ms, {} errors, fairness {:.2}",
            self.rate,
            ms(0.5),
            ms(0.99),
            self.errors,
            self.fairness
        )
    }
}

/// What one client did.
struct Tally {
    commits: u64,
    all: u64,
    errors: u64,
    latency: Histogram<u64>,
}

/// A connection that is driven in the background.
pub(crate) async fn connect(config: &Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The rows, all zero.
pub(crate) async fn prepare(admin: &Client, rows: u32) -> Result<(), tokio_postgres::Error> {
    admin.batch_execute("DROP TABLE IF EXISTS hot").await?;
    admin.batch_execute("CREATE TABLE hot (id INT PRIMARY KEY, n INT NOT NULL)").await?;
    admin.batch_execute(&format!("INSERT INTO hot SELECT i, 0 FROM generate_series(1, {rows}) AS g(i)")).await
}

impl Workload {
    /// Runs it, and checks that every transaction that was committed is in the rows.
    pub(crate) async fn run(&self, admin: &Client) -> Result<Slice, Box<dyn Error>> {
        let before = sum(admin).await?;
        let (counts, stops) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let width = if let Contender::Gate(width) = self.contender { width } else { Semaphore::MAX_PERMITS };
        let gate = Arc::new(Semaphore::new(width));
        let mut tasks = Vec::new();
        for number in 0..self.clients {
            let worker = Worker {
                client: connect(&self.config).await?,
                rng: Rng::with_seed(self.seed * 1000 + number as u64),
                rows: self.rows,
                gate: Arc::clone(&gate),
                counts: Arc::clone(&counts),
                stops: Arc::clone(&stops),
            };
            tasks.push(tokio::spawn(worker.run()));
        }
        tokio::time::sleep(self.warmup).await;
        counts.store(true, Ordering::Relaxed);
        let start = Instant::now();
        tokio::time::sleep(self.length).await;
        counts.store(false, Ordering::Relaxed);
        let elapsed = start.elapsed().as_secs_f64();
        stops.store(true, Ordering::Relaxed);
        let mut tallies = Vec::new();
        for task in tasks {
            tallies.push(tokio::time::timeout(PATIENCE, task).await??);
        }
        let commits: u64 = tallies.iter().map(|tally| tally.commits).sum();
        let all: u64 = tallies.iter().map(|tally| tally.all).sum();
        if sum(admin).await? - before != i64::try_from(all * UPDATES as u64)? {
            return Err(format!("{} lost or made up updates", self.contender.name()).into());
        }
        let mut latency = histogram();
        tallies.iter().for_each(|tally| latency += &tally.latency);
        let fewest = tallies.iter().map(|tally| tally.commits).min().unwrap_or(0);
        Ok(Slice {
            contender: self.contender,
            rate: commits as f64 / elapsed,
            latency,
            errors: tallies.iter().map(|tally| tally.errors).sum(),
            fairness: fewest as f64 * self.clients as f64 / commits.max(1) as f64,
        })
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(600_000_000, 3).expect("bounds and digits are within the histogram's range")
}

async fn sum(admin: &Client) -> Result<i64, Box<dyn Error>> {
    let messages = admin.simple_query("SELECT sum(n) FROM hot").await?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(row.ok_or("no sum")?.parse()?)
}

struct Worker {
    client: Client,
    rng: Rng,
    rows: u32,
    gate: Arc<Semaphore>,
    counts: Arc<AtomicBool>,
    stops: Arc<AtomicBool>,
}

impl Worker {
    async fn run(mut self) -> Tally {
        let mut tally = Tally { commits: 0, all: 0, errors: 0, latency: histogram() };
        while !self.stops.load(Ordering::Relaxed) {
            let start = Instant::now();
            let rows = self.rng.choose_multiple(1..=self.rows, UPDATES);
            let gate = Arc::clone(&self.gate);
            let _place = gate.acquire().await;
            self.until_committed(&rows, &mut tally).await;
            tally.all += 1;
            if self.counts.load(Ordering::Relaxed) {
                tally.commits += 1;
                let latency = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
                tally.latency.saturating_record(latency);
            }
        }
        tally
    }

    async fn until_committed(&mut self, rows: &[u32], tally: &mut Tally) {
        let mut longest = Duration::from_millis(2);
        while let Err(error) = self.attempt(rows).await {
            let sqlstate = error.code().map(|code| code.code());
            assert!(matches!(sqlstate, Some("40001" | "40P01")), "{error:?}");
            tally.errors += 1;
            // After a failed COMMIT there is nothing to roll back, and that is no error.
            self.client.batch_execute("ROLLBACK").await.expect("the connection stays");
            tokio::time::sleep(longest.mul_f64(self.rng.f64())).await;
            longest = (longest * 2).min(PAUSE_MAX);
        }
    }

    async fn attempt(&self, rows: &[u32]) -> Result<(), tokio_postgres::Error> {
        self.client.batch_execute("BEGIN").await?;
        for row in rows {
            self.client.batch_execute(&format!("UPDATE hot SET n = n + 1 WHERE id = {row}")).await?;
        }
        self.client.batch_execute("COMMIT").await
    }
}
