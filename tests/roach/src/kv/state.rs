//! What the store knows: versions, locks, reads and transactions; and what a single step does to them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::clock::Timestamp;
use super::conflict::{AbortReason, Conflict, Obstacle, Snapshot};
use super::key::{Key, Row, Span};
use super::locks::LockTable;
use super::reads::ReadCache;

/// How long clocks of different nodes may differ; a younger value of another node is uncertain.
const MAX_OFFSET: Duration = Duration::from_millis(500);

/// How far back AS OF SYSTEM TIME can read.
const HISTORY: Duration = Duration::from_secs(10);

/// What a client asked for with PRIORITY.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[allow(missing_docs)]
pub enum Priority {
    Low,
    #[default]
    Normal,
    High,
}

/// What became of a transaction without its doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It may go on.
    Pending,
    /// A pusher that met only a lock has decided that it must not commit; it learns that when it tries to.
    Poisoned,
    /// It is over, and has lost its locks.
    Aborted(AbortReason),
}

/// A transaction as the store sees it.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) snapshot: Snapshot,
    pub(super) priority: Priority,
    pub(super) fate: Fate,
    /// What it has read, and must be able to read again at a later moment.
    pub(super) reads: Vec<Span>,
    /// Whose lock it waits for.
    pub(super) waits_for: Option<u64>,
}

/// A read that was made whole, or a key that somebody else holds.
pub(super) enum Step<T> {
    Done(T),
    Blocked { holder: u64 },
}

/// All that is stored.
#[derive(Debug)]
pub(super) struct State {
    versions: BTreeMap<Key, Vec<(Timestamp, Option<Row>)>>,
    pub(super) locks: LockTable,
    cache: ReadCache,
    pub(super) records: HashMap<u64, Record>,
    remote: Vec<Span>,
    random: StdRng,
    next_id: u64,
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            versions: BTreeMap::new(),
            locks: LockTable::default(),
            cache: ReadCache::default(),
            records: HashMap::new(),
            remote: Vec::new(),
            random: StdRng::seed_from_u64(seed),
            next_id: seed | 1,
        }
    }

    /// Begins a transaction: its id.
    pub(super) fn begin(&mut self, priority: Priority, at: Timestamp) -> u64 {
        // An odd multiplier makes the eight digits that texts show look as random as real ones, and never repeat.
        self.next_id = self.next_id.wrapping_add(2);
        let id = self.next_id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let snapshot = Snapshot {
            id,
            anchor: None,
            priority: self.random.random_range(0.000_1..0.2),
            epoch: 0,
            write: at,
            start: at,
            sequence: 0,
            aborted: false,
            read: at,
            limit: if self.remote.is_empty() { at } else { at.after(MAX_OFFSET) },
        };
        let record = Record { snapshot, priority, fate: Fate::Pending, reads: Vec::new(), waits_for: None };
        self.records.insert(id, record);
        id
    }

    /// Values in this span are kept by another node, so that young ones are uncertain.
    pub(super) fn place_remotely(&mut self, span: Span) {
        self.remote.push(span);
    }

    pub(super) fn record(&mut self, id: u64) -> &mut Record {
        self.records.get_mut(&id).expect("a handle outlives its record only when it is dropped")
    }

    /// The rows of a span as a transaction sees them.
    pub(super) fn read(&mut self, id: u64, span: &Span) -> Result<Step<Vec<(Key, Row)>>, Conflict> {
        self.check_alive(id)?;
        if let Some(holder) = self.blocking_reader(id, span) {
            return Ok(Step::Blocked { holder });
        }
        if let Some(found) = self.uncertain(id, span) {
            let snapshot = &self.record(id).snapshot;
            let (read, limit) = (snapshot.read, snapshot.limit);
            if self.refresh(id, found.next()).is_err() {
                return Err(Conflict::Uncertain { read, found, limit });
            }
            return self.read(id, span);
        }
        let rows = self.visible(id, span);
        self.remember_read(id, span.clone());
        Ok(Step::Done(rows))
    }

    /// The rows of a span, which are locked; the reads move to the newest of them first.
    pub(super) fn read_locking(&mut self, id: u64, span: &Span) -> Result<Step<Vec<(Key, Row)>>, Conflict> {
        self.check_alive(id)?;
        if let Some(holder) = self.blocking_writer(id, |key| span.contains(key), &span.first()) {
            return Ok(Step::Blocked { holder });
        }
        let newest = self.newest_in(span);
        if let Some((key, existing)) = newest {
            self.move_above(id, &key, existing)?;
        }
        let rows = self.visible(id, span);
        self.remember_read(id, span.clone());
        for (key, _) in &rows {
            self.lock(id, key);
        }
        Ok(Step::Done(rows))
    }

    /// Writes a row, or removes it.
    pub(super) fn write(&mut self, id: u64, key: &Key, row: Option<Row>) -> Result<Step<()>, Conflict> {
        self.check_alive(id)?;
        if let Some(holder) = self.blocking_writer(id, |other| other == key, key) {
            return Ok(Step::Blocked { holder });
        }
        if let Some((existing, _)) = self.versions.get(key).and_then(|versions| versions.last()) {
            let existing = *existing;
            self.move_above(id, key, existing)?;
        }
        if let Some(read) = self.cache.latest(key, id) {
            let snapshot = &mut self.record(id).snapshot;
            snapshot.write = snapshot.write.max(read.next());
        }
        let snapshot = &mut self.record(id).snapshot;
        snapshot.sequence += 1;
        let number = snapshot.sequence;
        self.lock(id, key);
        let at = self.record(id).snapshot.write;
        self.locks.acquire(key, id, at).writes.push((number, row));
        Ok(Step::Done(()))
    }

    /// Whether a key has a row, for a writer that must know before it writes.
    pub(super) fn exists(&mut self, id: u64, key: &Key) -> Result<Step<bool>, Conflict> {
        self.check_alive(id)?;
        if let Some(holder) = self.blocking_writer(id, |other| other == key, key) {
            return Ok(Step::Blocked { holder });
        }
        let own = self.locks.get(key).and_then(|lock| lock.value().map(Option::is_some));
        let newest = self.versions.get(key).and_then(|versions| versions.last());
        let committed = newest.map(|(at, row)| (*at, row.is_some()));
        if let Some((existing, _)) = committed.filter(|_| own.is_none()) {
            self.move_above(id, key, existing)?;
        }
        Ok(Step::Done(own.or(committed.map(|(_, exists)| exists)).unwrap_or(false)))
    }

    /// Ends a transaction and makes its writes visible: the moment at which they are.
    pub(super) fn commit(&mut self, id: u64) -> Result<Timestamp, Conflict> {
        self.check_alive(id)?;
        let has_intents = self.locks.has_intents(id);
        if self.record(id).fate == Fate::Poisoned && has_intents {
            let txn = self.closing_snapshot(id);
            return Err(Conflict::Aborted { reason: AbortReason::AbortedRecordFound, txn });
        }
        let snapshot = &self.record(id).snapshot;
        let (read, write) = (snapshot.read, snapshot.write);
        if has_intents && write > read {
            self.refresh(id, write).map_err(|obstacle| Conflict::Serializable {
                obstacle: Some(obstacle),
                txn: self.closing_snapshot(id),
            })?;
        }
        let at = self.record(id).snapshot.write;
        for (key, row) in self.locks.release(id) {
            self.add_version(key, at, row);
        }
        self.end(id);
        Ok(at)
    }

    /// Ends a transaction without a trace.
    pub(super) fn rollback(&mut self, id: u64) {
        self.locks.release(id);
        self.end(id);
    }

    fn end(&mut self, id: u64) {
        self.records.remove(&id);
        match self.oldest_read() {
            Some(oldest) => self.cache.forget_before(oldest),
            None => self.cache.forget_all(),
        }
    }

    /// Where the transaction reads that reads furthest back.
    fn oldest_read(&self) -> Option<Timestamp> {
        self.records.values().map(|record| record.snapshot.read).min()
    }

    /// Adds a version to a key, and forgets those that nobody reads any more.
    fn add_version(&mut self, key: Key, at: Timestamp, row: Option<Row>) {
        let horizon = at.before(HISTORY).min(self.oldest_read().unwrap_or(at));
        let versions = self.versions.entry(key).or_default();
        versions.push((at, row));
        let needed = versions.iter().rposition(|(at, _)| *at <= horizon).unwrap_or(0);
        versions.drain(..needed);
    }

    /// The transaction as the text of an error at its end shows it: the end itself counts as a write.
    pub(super) fn closing_snapshot(&mut self, id: u64) -> Box<Snapshot> {
        let mut snapshot = self.record(id).snapshot.clone();
        snapshot.sequence += 1;
        Box::new(snapshot)
    }

    /// Moves a transaction's reads to a later moment, if nothing that it read was written in between.
    fn refresh(&mut self, id: u64, to: Timestamp) -> Result<(), Obstacle> {
        let record = self.record(id);
        let (from, reads) = (record.snapshot.read, record.reads.clone());
        match reads.iter().find_map(|span| self.obstacle(id, span, from, to)) {
            Some(obstacle) => Err(obstacle),
            None => {
                reads.into_iter().for_each(|span| self.cache.add(span, to, id));
                let snapshot = &mut self.record(id).snapshot;
                snapshot.read = to;
                snapshot.write = snapshot.write.max(to);
                Ok(())
            }
        }
    }

    /// What was written into a span between two moments by somebody else.
    fn obstacle(&self, id: u64, span: &Span, from: Timestamp, to: Timestamp) -> Option<Obstacle> {
        let committed = self.versions_in(span).find_map(|(key, versions)| {
            let (at, _) = versions.iter().find(|(at, _)| *at > from && *at <= to)?;
            Some(Obstacle { key: key.clone(), at: *at, intent: false })
        });
        committed.or_else(|| {
            let foreign = self
                .locks_in(span)
                .find(|(_, lock)| lock.holder != id && lock.is_intent() && lock.at <= to)?;
            Some(Obstacle { key: foreign.0.clone(), at: foreign.1.at, intent: true })
        })
    }

    /// Moves a transaction above a committed value that is newer than its reads.
    fn move_above(&mut self, id: u64, key: &Key, existing: Timestamp) -> Result<(), Conflict> {
        let snapshot = &self.record(id).snapshot;
        let attempted = snapshot.read;
        if existing <= attempted {
            return Ok(());
        }
        let to = existing.next().max(snapshot.write);
        self.refresh(id, to).map_err(|_| Conflict::WriteTooOld { key: key.clone(), attempted, existing })
    }

    fn lock(&mut self, id: u64, key: &Key) {
        let snapshot = &mut self.record(id).snapshot;
        let at = snapshot.write;
        snapshot.anchor.get_or_insert_with(|| key.clone());
        self.locks.acquire(key, id, at);
    }

    fn remember_read(&mut self, id: u64, span: Span) {
        let record = self.record(id);
        let at = record.snapshot.read;
        if !record.reads.contains(&span) {
            record.reads.push(span.clone());
        }
        self.cache.add(span, at, id);
    }

    fn check_alive(&mut self, id: u64) -> Result<(), Conflict> {
        let record = self.record(id);
        match record.fate {
            Fate::Aborted(reason) => {
                let txn = Box::new(Snapshot { aborted: true, ..record.snapshot.clone() });
                Err(Conflict::Aborted { reason, txn })
            }
            _ => Ok(()),
        }
    }

    /// Whose lock keeps a reader from a span. A lock that begins later than the read does not.
    fn blocking_reader(&mut self, id: u64, span: &Span) -> Option<u64> {
        loop {
            let read = self.record(id).snapshot.read;
            let (key, holder) = self
                .locks_in(span)
                .find(|(_, lock)| lock.holder != id && lock.at <= read)
                .map(|(key, lock)| (key.clone(), lock.holder))?;
            if !self.outranks(id, holder) {
                return Some(holder);
            }
            let above = read.next();
            let pushed = &mut self.record(holder).snapshot;
            pushed.write = pushed.write.max(above);
            self.locks.push(&key, above);
        }
    }

    /// Whose lock keeps a writer from its keys; a holder of lower priority loses it.
    fn blocking_writer(&mut self, id: u64, wanted: impl Fn(&Key) -> bool, first: &Key) -> Option<u64> {
        loop {
            let found = self.locks.from(first).find(|(key, lock)| lock.holder != id && wanted(key));
            let (holder, is_intent) = found.map(|(_, lock)| (lock.holder, lock.is_intent()))?;
            if !self.outranks(id, holder) {
                return Some(holder);
            }
            self.push_aside(holder, is_intent);
        }
    }

    fn outranks(&self, pusher: u64, holder: u64) -> bool {
        match (self.records.get(&pusher), self.records.get(&holder)) {
            (Some(pusher), Some(holder)) => pusher.priority > holder.priority,
            _ => false,
        }
    }

    /// Takes the locks of a transaction away. One that has only locks is not told before it tries to commit.
    fn push_aside(&mut self, holder: u64, met_intent: bool) {
        if met_intent || self.locks.has_intents(holder) {
            let reason = if met_intent { AbortReason::AbortSpan } else { AbortReason::AbortedRecordFound };
            self.abort(holder, reason);
        } else {
            self.locks.release(holder);
            self.record(holder).fate = Fate::Poisoned;
        }
    }

    /// Ends a transaction against its will; it learns of it at its next step.
    pub(super) fn abort(&mut self, id: u64, reason: AbortReason) {
        self.locks.release(id);
        let record = self.record(id);
        record.fate = Fate::Aborted(reason);
        // It is about to wake up, and must not be found in a circle a second time before it has.
        record.waits_for = None;
    }

    /// Notes that a transaction waits for another. If that closes a circle, one of the circle is aborted: true.
    pub(super) fn wait(&mut self, id: u64, holder: u64) -> bool {
        self.record(id).waits_for = Some(holder);
        let mut circle = vec![id];
        let mut next = Some(holder);
        while let Some(waiter) = next {
            if waiter == id {
                let weight = |id: &&u64| self.records.get(*id).map_or(0.0, |record| record.snapshot.priority);
                let victim =
                    circle.iter().min_by(|a, b| weight(a).total_cmp(&weight(b))).copied().unwrap_or(id);
                self.abort(victim, AbortReason::PusherAborted);
                return true;
            }
            if circle.contains(&waiter) {
                return false;
            }
            circle.push(waiter);
            next = self.records.get(&waiter).and_then(|record| record.waits_for);
        }
        false
    }

    /// A committed value of another node that may be older than the reader, although its timestamp is younger.
    fn uncertain(&mut self, id: u64, span: &Span) -> Option<Timestamp> {
        let snapshot = &self.record(id).snapshot;
        let (read, limit) = (snapshot.read, snapshot.limit);
        self.versions_in(span)
            .filter(|(key, _)| self.remote.iter().any(|remote| remote.contains(key)))
            .find_map(|(_, versions)| {
                versions.iter().rev().map(|(at, _)| *at).find(|at| *at > read && *at <= limit)
            })
    }

    fn newest_in(&self, span: &Span) -> Option<(Key, Timestamp)> {
        let newest =
            |(key, versions): (&Key, &Vec<(Timestamp, Option<Row>)>)| Some((key.clone(), versions.last()?.0));
        self.versions_in(span).filter_map(newest).max_by_key(|(_, at)| *at)
    }

    fn visible(&mut self, id: u64, span: &Span) -> Vec<(Key, Row)> {
        let read = self.record(id).snapshot.read;
        let mut rows: BTreeMap<Key, Row> = BTreeMap::new();
        for (key, versions) in self.versions_in(span) {
            let version = versions.iter().rev().find(|(at, _)| *at <= read);
            if let Some((_, Some(row))) = version {
                rows.insert(key.clone(), row.clone());
            }
        }
        for (key, lock) in self.locks_in(span).filter(|(_, lock)| lock.holder == id) {
            match lock.value() {
                Some(Some(row)) => drop(rows.insert(key.clone(), row.clone())),
                Some(None) => drop(rows.remove(key)),
                None => {}
            }
        }
        rows.into_iter().collect()
    }

    fn versions_in<'a>(
        &'a self,
        span: &'a Span,
    ) -> impl Iterator<Item = (&'a Key, &'a Vec<(Timestamp, Option<Row>)>)> {
        let range = self.versions.range(span.first()..);
        range.take_while(|(key, _)| !span.is_before(key)).filter(|(key, _)| span.contains(key))
    }

    fn locks_in<'a>(&'a self, span: &'a Span) -> impl Iterator<Item = (&'a Key, &'a super::locks::Lock)> {
        let range = self.locks.from(&span.first());
        range.take_while(|(key, _)| !span.is_before(key)).filter(|(key, _)| span.contains(key))
    }
}
