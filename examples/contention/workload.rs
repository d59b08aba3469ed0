//! One contender at work before one server for a while, and what came of it.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use hdrhistogram::Histogram;
use tokio::sync::Semaphore;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use crate::contender::Contender;
use crate::work::{Step, Work};

/// The longest pause of the client's loop.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long a client gets to end its last transaction.
const PATIENCE: Duration = Duration::from_secs(60);
/// Rows of the calm clients.
const CALM_ROWS: u32 = 10_000;

/// One contender before one server for a while.
pub(crate) struct Workload {
    pub(crate) config: Config,
    pub(crate) contender: Contender,
    pub(crate) work: Work,
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
    /// The same of the calm clients, which do not count in anything else.
    pub(crate) calm: Histogram<u64>,
    /// Errors that a client saw, those that its loop dealt with included.
    pub(crate) errors: u64,
    /// The commits of the client that had the fewest, by those of the average.
    pub(crate) fairness: f64,
    /// Microseconds of processor time of this process, clients, proxies and networks, for each transaction.
    pub(crate) cpu_micros: f64,
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.1}/s, p50 {:.0} ms, p99 {:.0} ms, {} errors, fairness {:.2}, {:.0} us of CPU",
            self.rate,
            ms(&self.latency, 0.5),
            ms(&self.latency, 0.99),
            self.errors,
            self.fairness,
            self.cpu_micros
        )?;
        if !self.calm.is_empty() {
            write!(f, "; calm: p50 {:.1} ms, p99 {:.1} ms", ms(&self.calm, 0.5), ms(&self.calm, 0.99))?;
        }
        Ok(())
    }
}

/// A quantile, in milliseconds.
pub(crate) fn ms(latency: &Histogram<u64>, quantile: f64) -> f64 {
    latency.value_at_quantile(quantile) as f64 / 1000.0
}

/// What one client did.
struct Tally {
    is_calm: bool,
    commits: u64,
    /// Rows that it has added one to, the warm-up included.
    updates: u64,
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
    for (table, rows) in [("hot", rows), ("calm", CALM_ROWS)] {
        admin.batch_execute(&format!("DROP TABLE IF EXISTS {table}")).await?;
        admin.batch_execute(&format!("CREATE TABLE {table} (id INT PRIMARY KEY, n INT NOT NULL)")).await?;
        let fill = format!("INSERT INTO {table} SELECT i, 0 FROM generate_series(1, {rows}) AS g(i)");
        admin.batch_execute(&fill).await?;
    }
    Ok(())
}

impl Workload {
    /// Runs it, and checks that every transaction that was committed is in the rows.
    pub(crate) async fn run(&self, admin: &Client) -> Result<Slice, Box<dyn Error>> {
        let before = sum(admin).await?;
        let (counts, stops) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let width = if let Contender::Gate(width) = self.contender { width } else { Semaphore::MAX_PERMITS };
        let gate = Arc::new(Semaphore::new(width));
        let began = Instant::now();
        let mut tasks = Vec::new();
        for number in (0..self.clients).filter(|number| !self.work.is_absent(*number)) {
            let worker = Worker {
                client: connect(&self.config).await?,
                second: if self.work == Work::Nested { Some(connect(&self.config).await?) } else { None },
                rng: Rng::with_seed(self.seed * 1000 + number as u64),
                work: self.work,
                number,
                rows: self.rows,
                began,
                gate: Arc::clone(&gate),
                counts: Arc::clone(&counts),
                stops: Arc::clone(&stops),
            };
            tasks.push(tokio::spawn(worker.run()));
        }
        tokio::time::sleep(self.warmup).await;
        counts.store(true, Ordering::Relaxed);
        let (start, cpu) = (Instant::now(), cpu_seconds());
        tokio::time::sleep(self.length).await;
        counts.store(false, Ordering::Relaxed);
        let (elapsed, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        stops.store(true, Ordering::Relaxed);
        let mut tallies = Vec::new();
        for task in tasks {
            tallies.push(tokio::time::timeout(PATIENCE, task).await.map_err(|_| "a client is stuck")??);
        }
        let updates: u64 = tallies.iter().map(|tally| tally.updates).sum();
        if sum(admin).await? - before != i64::try_from(updates)? {
            return Err(format!("{} lost or made up updates", self.contender.name()).into());
        }
        Ok(self.slice(&tallies, elapsed, cpu))
    }

    fn slice(&self, tallies: &[Tally], elapsed: f64, cpu: f64) -> Slice {
        let (mut latency, mut calm) = (histogram(), histogram());
        for tally in tallies {
            *(if tally.is_calm { &mut calm } else { &mut latency }) += &tally.latency;
        }
        let all: u64 = tallies.iter().map(|tally| tally.commits).sum();
        let counted = || tallies.iter().filter(|tally| !tally.is_calm).map(|tally| tally.commits);
        let (commits, fewest) = (counted().sum::<u64>(), counted().min().unwrap_or(0));
        Slice {
            contender: self.contender,
            rate: commits as f64 / elapsed,
            latency,
            calm,
            errors: tallies.iter().map(|tally| tally.errors).sum(),
            fairness: fewest as f64 * counted().count() as f64 / commits.max(1) as f64,
            cpu_micros: cpu * 1e6 / all.max(1) as f64,
        }
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(600_000_000, 3).expect("bounds and digits are within the histogram's range")
}

/// Processor time of this process so far: utime and stime of `/proc/self/stat`, in ticks of 10 ms. Zero where there is none.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in parentheses, may hold anything.
    let behind = stat.rsplit(')').next().unwrap_or_default();
    let ticks = behind.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

/// Everything that was added to the rows.
async fn sum(admin: &Client) -> Result<i64, Box<dyn Error>> {
    let mut sum = 0;
    for table in ["hot", "calm"] {
        let messages = admin.simple_query(&format!("SELECT sum(n) FROM {table}")).await?;
        let row = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        sum += row.ok_or("no sum")?.parse::<i64>()?;
    }
    Ok(sum)
}

struct Worker {
    client: Client,
    /// For transactions aside.
    second: Option<Client>,
    rng: Rng,
    work: Work,
    number: usize,
    rows: u32,
    began: Instant,
    gate: Arc<Semaphore>,
    counts: Arc<AtomicBool>,
    stops: Arc<AtomicBool>,
}

impl Worker {
    async fn run(mut self) -> Tally {
        let is_calm = self.work.is_calm(self.number);
        let mut tally = Tally { is_calm, commits: 0, updates: 0, errors: 0, latency: histogram() };
        while !self.stops.load(Ordering::Relaxed) {
            let start = Instant::now();
            let steps = self.work.next(self.number, self.rows, self.began.elapsed(), &mut self.rng);
            let gate = Arc::clone(&self.gate);
            let _place = gate.acquire().await;
            let link = Link { client: &self.client, second: self.second.as_ref(), stops: &self.stops };
            let committed = link.until_committed(&steps, &mut self.rng, &mut tally).await;
            if committed && self.counts.load(Ordering::Relaxed) {
                tally.commits += 1;
                let latency = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
                tally.latency.saturating_record(latency);
            }
        }
        tally
    }
}

/// What a client runs its transactions over.
struct Link<'a> {
    client: &'a Client,
    second: Option<&'a Client>,
    stops: &'a AtomicBool,
}

impl Link<'_> {
    /// The client's own loop. Through Reprise it runs once. False if the end came before the transaction got through.
    async fn until_committed(&self, steps: &[Step], rng: &mut Rng, tally: &mut Tally) -> bool {
        let mut longest = Duration::from_millis(2);
        while let Err(error) = self.attempt(steps, rng, tally).await {
            let sqlstate = error.code().map(|code| code.code());
            assert!(matches!(sqlstate, Some("40001" | "40P01")), "{error:?}");
            tally.errors += 1;
            // After a failed COMMIT there is nothing to roll back, and that is no error.
            self.client.batch_execute("ROLLBACK").await.expect("the connection stays");
            if self.stops.load(Ordering::Relaxed) {
                return false;
            }
            tokio::time::sleep(longest.mul_f64(rng.f64())).await;
            longest = (longest * 2).min(PAUSE_MAX);
        }
        tally.updates += steps.iter().filter(|step| matches!(step, Step::Run(_))).count() as u64;
        true
    }

    async fn attempt(
        &self,
        steps: &[Step],
        rng: &mut Rng,
        tally: &mut Tally,
    ) -> Result<(), tokio_postgres::Error> {
        self.client.batch_execute("BEGIN").await?;
        for step in steps {
            match step {
                Step::Run(sql) => self.client.batch_execute(sql).await?,
                Step::Think(pause) => tokio::time::sleep(*pause).await,
                Step::Aside(sql) => {
                    let client = self.second.expect("work with transactions aside has a second connection");
                    let aside = Link { client, second: None, stops: self.stops };
                    Box::pin(aside.until_committed(&[Step::Run(sql.clone())], rng, tally)).await;
                }
            }
        }
        self.client.batch_execute("COMMIT").await
    }
}
