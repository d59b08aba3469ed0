//! The sessions that are open: who they are, what they do now, and what is counted of them.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use tokio_util::sync::CancellationToken;

use super::adviser::Watch;
use super::conflicts::Met;
use super::figures::{Figures, micros};
use super::report::{Column, Report, Value, count, number, plain, text};
use super::shape::Outline;
use super::transactions::Sample;

/// Who a session belongs to, as its client says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Who {
    /// The application; often empty.
    pub application: Arc<str>,
    /// The user.
    pub user: Arc<str>,
    /// The database.
    pub database: Arc<str>,
}

/// Characters of a name that are kept: databases take none that are so long.
const NAME_MAX: usize = 128;

impl Who {
    /// By the names that a client gives, which may be anything: what is kept of them can be shown everywhere.
    pub fn named(application: &[u8], user: &[u8], database: &[u8]) -> Self {
        let name = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            plain(text.chars().take(NAME_MAX).collect()).into()
        };
        Self { application: name(application), user: name(user), database: name(database) }
    }
}

/// What a session does at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Nothing, outside of a transaction.
    Idle,
    /// Nothing, in a transaction.
    IdleInTransaction,
    /// The database is at work.
    Active,
    /// A transaction is being run again.
    Retrying,
    /// A transaction waits for a place.
    Waiting,
}

impl Activity {
    /// Every one.
    pub const ALL: [Self; 5] =
        [Self::Idle, Self::IdleInTransaction, Self::Active, Self::Retrying, Self::Waiting];

    /// The stable name, as in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::IdleInTransaction => "idle in transaction",
            Self::Active => "active",
            Self::Retrying => "retrying",
            Self::Waiting => "waiting",
        }
    }
}

/// A session that is open.
#[derive(Debug)]
pub struct Session {
    /// Its number.
    pub id: u64,
    /// Who it belongs to.
    pub who: Who,
    /// Where its client is.
    pub client: String,
    /// What is done about its conflicts.
    pub mode: &'static str,
    /// How its transactions are run again.
    pub dialect: &'static str,
    /// It is to end at once when this is cancelled.
    pub kill: CancellationToken,
    since: Instant,
    activity: AtomicU8,
    /// When its transaction began, in microseconds since it did itself.
    began: AtomicU64,
    held_bytes: AtomicU64,
    pub(super) figures: Figures,
    /// What its transaction has met.
    met: Mutex<Option<Box<Met>>>,
    has_met: AtomicBool,
    /// What its transaction runs, if that is told.
    outline: Mutex<Outline>,
    /// What the adviser knows of it, if there is one.
    pub(super) watch: Option<Box<Mutex<Watch>>>,
}

impl Session {
    /// A session that begins now.
    pub fn new(
        id: u64,
        who: Who,
        client: String,
        [mode, dialect]: [&'static str; 2],
        kill: CancellationToken,
    ) -> Self {
        Self {
            id,
            who,
            client,
            mode,
            dialect,
            kill,
            since: Instant::now(),
            activity: AtomicU8::new(0),
            began: AtomicU64::new(0),
            held_bytes: AtomicU64::new(0),
            figures: Figures::default(),
            met: Mutex::new(None),
            has_met: AtomicBool::new(false),
            outline: Mutex::default(),
            watch: None,
        }
    }

    /// Bytes of answers that it keeps from its client.
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Relaxed)
    }

    /// Notes what the session does, when its transaction began, since it did itself, and how many bytes it keeps from its client.
    pub fn note(&self, activity: Activity, began: Duration, held_bytes: usize) {
        self.activity.store(activity as u8, Relaxed);
        self.held_bytes.store(held_bytes as u64, Relaxed);
        if activity != Activity::Idle {
            self.began.store(micros(began), Relaxed);
        }
        if activity == Activity::IdleInTransaction
            && let Some(mut watch) = self.watch()
        {
            watch.idles(Instant::now());
        }
    }

    /// When it began: the clock of its times.
    pub const fn since(&self) -> Instant {
        self.since
    }

    /// Its transaction has ended, so long after the session began: how long it took, in microseconds. What begins before the
    /// next note begins now.
    pub(super) fn end_transaction(&self, now: Duration) -> u64 {
        let (began, now) = (self.began.load(Relaxed), micros(now));
        self.began.store(now, Relaxed);
        now.saturating_sub(began)
    }

    pub(super) fn activity(&self) -> Activity {
        Activity::ALL.get(usize::from(self.activity.load(Relaxed))).copied().unwrap_or(Activity::Idle)
    }

    /// The name of the transaction at hand, or of the last one: the session and how many it had before.
    pub fn transaction(&self) -> String {
        format!("{}.{}", self.id, self.figures.sums().transactions)
    }

    /// What the adviser knows of it, if there is one.
    pub(super) fn watch(&self) -> Option<MutexGuard<'_, Watch>> {
        self.watch.as_ref().map(|watch| watch.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the statements of the transaction at hand are to be told.
    pub fn is_watched(&self) -> bool {
        self.watch.is_some() || self.is_outlined()
    }

    /// Whether what the transaction at hand runs is kept: it is one of the sample, or has met a conflict.
    pub(super) fn is_outlined(&self) -> bool {
        self.sample().stands_for().is_some() || self.has_met.load(Relaxed)
    }

    /// Where the transaction at hand stands among those of the session.
    pub(super) fn sample(&self) -> Sample {
        Sample { before: self.figures.transactions() }
    }

    /// What the transaction at hand runs, as far as it is kept.
    pub(super) fn outline(&self) -> MutexGuard<'_, Outline> {
        self.outline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The transaction at hand has met a conflict.
    pub(super) fn meet(&self, met: Met) {
        self.has_met.store(true, Relaxed);
        *self.met.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(met));
    }

    /// What it has met, which is its last word on that.
    pub(super) fn take_met(&self) -> Option<Box<Met>> {
        if !self.has_met.swap(false, Relaxed) {
            return None;
        }
        self.met.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// All sessions that are open.
#[derive(Debug, Default)]
pub(super) struct Sessions(DashMap<u64, Arc<Session>>);

impl Sessions {
    pub(super) fn insert(&self, session: Arc<Session>) {
        self.0.insert(session.id, session);
    }

    pub(super) fn remove(&self, id: u64) {
        self.0.remove(&id);
    }

    pub(super) fn get(&self, id: u64) -> Option<Arc<Session>> {
        self.0.get(&id).map(|session| Arc::clone(&session))
    }

    /// All of them, the oldest first.
    pub(super) fn all(&self) -> Vec<Arc<Session>> {
        let mut all: Vec<_> = self.0.iter().map(|entry| Arc::clone(entry.value())).collect();
        all.sort_by_key(|session| session.id);
        all
    }

    pub(super) fn report(&self) -> Report {
        Report { columns: COLUMNS, rows: self.all().iter().map(|session| row(session)).collect() }
    }
}

pub(super) const COLUMNS: &[Column] = &[
    count("session"),
    text("user"),
    text("database"),
    text("application"),
    text("client"),
    text("mode"),
    text("dialect"),
    text("state"),
    number("connected_s"),
    number("transaction_s"),
    count("transactions"),
    count("conflicts"),
    count("hidden"),
    count("surfaced"),
];

fn row(session: &Session) -> Vec<Value> {
    let (activity, sums) = (session.activity(), session.figures.sums());
    let age = micros(session.since.elapsed());
    let transaction = match activity {
        Activity::Idle => Value::None,
        _ => Value::seconds(age.saturating_sub(session.began.load(Relaxed))),
    };
    vec![
        session.id.into(),
        (*session.who.user).into(),
        (*session.who.database).into(),
        (*session.who.application).into(),
        session.client.as_str().into(),
        session.mode.into(),
        session.dialect.into(),
        activity.name().into(),
        Value::seconds(age),
        transaction,
        sums.transactions.into(),
        sums.conflicts.into(),
        sums.hidden.into(),
        sums.surfaced.into(),
    ]
}
