//! The adviser: patterns that lose data without any error, as far as they show on the wire. They are counted and never
//! stopped: what looks like one of them may be right.
//!
//! It looks at every statement, and is off unless it is asked for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::report::Value;
use super::statements::{Statements, Text};
use super::top::Top;
use crate::replay::Fingerprint;

/// Reads of a session that are remembered.
const READS_MAX: usize = 8;
/// How long a read counts as what a later write is based on.
const READ_COUNTS: Duration = Duration::from_secs(30);
/// Writes that follow each other as fast as this may belong together.
const TOGETHER: Duration = Duration::from_millis(100);
/// Time without a request in a transaction from which on it is worth telling.
const IDLE: Duration = Duration::from_secs(1);

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Pattern {
    LostUpdate,
    CheckThenInsert,
    ScatteredWrites,
    IdleInTransaction,
    OwnRetries,
}

impl Pattern {
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::LostUpdate => (
                "possible lost update",
                "Read and write in one transaction, with SELECT ... FOR UPDATE, or compute in the UPDATE itself.",
            ),
            Self::CheckThenInsert => (
                "possible duplicate",
                "Let a constraint decide, with INSERT ... ON CONFLICT, or check and insert in one SERIALIZABLE transaction.",
            ),
            Self::ScatteredWrites => (
                "writes that may belong together",
                "If one is worth nothing without the other, put both in one transaction.",
            ),
            Self::IdleInTransaction => (
                "transaction left open while idle",
                "Do not wait for anything else inside of a transaction; proxy.idle_in_transaction_timeout ends such ones.",
            ),
            Self::OwnRetries => (
                "transaction that the client runs again itself",
                "A retry loop may stay: it sees only what Reprise could not hide. SHOW COVERAGE tells why.",
            ),
        }
    }
}

/// What a statement does, for all that it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Reads,
    /// An UPDATE; whether it writes values that the client has computed.
    Updates {
        constants: bool,
    },
    /// An INSERT; whether a constraint decides what becomes of a duplicate.
    Inserts {
        guarded: bool,
    },
    Deletes,
    Other,
}

/// What is known of the statements that a session has run.
#[derive(Debug, Default)]
pub(super) struct Watch {
    reads: VecDeque<(Box<str>, Fingerprint, Instant)>,
    write: Option<(Fingerprint, Instant)>,
    /// The first statement of the transaction at hand.
    first: Option<Fingerprint>,
    /// That of the last one, if its client was shown a conflict.
    surfaced: Option<Fingerprint>,
    /// Since when its client has been silent in a transaction.
    idle: Option<Instant>,
}

type Finding = (Arc<str>, Pattern, Option<Fingerprint>, Option<Fingerprint>);

/// What was seen in all sessions.
#[derive(Debug)]
pub(super) struct Adviser(Mutex<Top<Finding, u64>>);

impl Adviser {
    pub(super) fn new(entries: usize) -> Self {
        Self(Mutex::new(Top::new(entries)))
    }

    fn found(
        &self,
        database: &Arc<str>,
        pattern: Pattern,
        first: Option<Fingerprint>,
        second: Option<Fingerprint>,
    ) {
        let mut findings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *findings.add(&(Arc::clone(database), pattern, first, second), 1) += 1;
    }

    /// A session runs a statement, in a transaction that it has opened or not.
    pub(super) fn statement(
        &self,
        database: &Arc<str>,
        watch: &mut Watch,
        (statement, text): (Fingerprint, &Text),
        (in_transaction, now): (bool, Instant),
    ) {
        self.end_of_silence(database, watch, now);
        watch.first.get_or_insert(statement);
        if watch.surfaced.take() == Some(statement) {
            self.found(database, Pattern::OwnRetries, Some(statement), None);
        }
        if in_transaction {
            return;
        }
        let deed = deed(&text.text);
        watch.reads.retain(|(_, _, at)| now.saturating_duration_since(*at) < READ_COUNTS);
        let read = watch
            .reads
            .iter()
            .find(|(table, ..)| Some(table) == text.table.as_ref())
            .map(|(_, read, _)| *read);
        match (deed, read, &text.table) {
            (Deed::Reads, _, Some(table)) => {
                watch.reads.retain(|(known, ..)| known != table);
                watch.reads.push_back((table.clone(), statement, now));
                if watch.reads.len() > READS_MAX {
                    watch.reads.pop_front();
                }
            }
            (Deed::Updates { constants: true }, Some(read), _) => {
                self.found(database, Pattern::LostUpdate, Some(read), Some(statement));
            }
            (Deed::Inserts { guarded: false }, Some(read), _) => {
                self.found(database, Pattern::CheckThenInsert, Some(read), Some(statement));
            }
            _ => {}
        }
        if matches!(deed, Deed::Updates { .. } | Deed::Inserts { .. } | Deed::Deletes) {
            let before = watch.write.replace((statement, now));
            let together = |(before, at): &(Fingerprint, Instant)| {
                *before != statement && now.saturating_duration_since(*at) < TOGETHER
            };
            if let Some((before, _)) = before.filter(together) {
                self.found(database, Pattern::ScatteredWrites, Some(before), Some(statement));
            }
        } else {
            watch.write = None;
        }
    }

    /// A transaction has ended; `surfaced` if its client was shown a conflict.
    pub(super) fn ended(&self, database: &Arc<str>, watch: &mut Watch, surfaced: bool, now: Instant) {
        self.end_of_silence(database, watch, now);
        watch.surfaced = watch.first.take().filter(|_| surfaced);
    }

    fn end_of_silence(&self, database: &Arc<str>, watch: &mut Watch, now: Instant) {
        if watch.idle.take().is_some_and(|since| now.saturating_duration_since(since) >= IDLE) {
            self.found(database, Pattern::IdleInTransaction, watch.first, None);
        }
    }

    /// One row for each pattern and the statements that it was seen in, the most frequent first.
    pub(super) fn rows(&self, texts: &Statements) -> Vec<Vec<Value>> {
        let findings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let row = |((_, pattern, first, second), count): (&Finding, &u64)| {
            let (about, what_to_change) = pattern.words();
            let statements = [first, second].into_iter().flatten().map(|statement| texts.text(*statement));
            let subject = statements.collect::<Vec<_>>().join("; ");
            vec![about.into(), subject.into(), (*count).into(), Value::None, what_to_change.into()]
        };
        findings.heaviest().into_iter().map(row).collect()
    }
}

impl Watch {
    /// The client is silent in a transaction.
    pub(super) fn idles(&mut self, now: Instant) {
        self.idle.get_or_insert(now);
    }
}

/// Reads what a statement does from its text without data.
fn deed(text: &str) -> Deed {
    let upper = text.to_uppercase();
    match upper.split([' ', '(']).next().unwrap_or_default() {
        "SELECT" if upper.contains(" FOR UPDATE") || upper.contains(" FOR SHARE") => Deed::Other,
        "SELECT" => Deed::Reads,
        "UPDATE" => Deed::Updates { constants: sets_constants(&upper) },
        "INSERT" => Deed::Inserts { guarded: upper.contains(" ON CONFLICT") },
        "DELETE" => Deed::Deletes,
        _ => Deed::Other,
    }
}

/// Whether an UPDATE gives a column a value that nothing in the database was looked at for.
fn sets_constants(upper: &str) -> bool {
    let Some((_, assignments)) = upper.split_once(" SET ") else { return false };
    let assignments = assignments.split(" WHERE ").next().unwrap_or_default();
    assignments.split(',').any(|assignment| {
        assignment.split_once('=').is_some_and(|(_, value)| {
            // A cast of it is one too.
            value.split("::").next().is_some_and(|value| value.trim() == "?")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::Statement;

    struct Stage {
        adviser: Adviser,
        texts: Statements,
        watch: Watch,
        now: Instant,
    }

    impl Stage {
        fn new() -> Self {
            let (texts, watch) = (Statements::default(), Watch::default());
            Self { adviser: Adviser::new(10), texts, watch, now: Instant::now() }
        }

        fn run(&mut self, sql: &str, in_transaction: bool) {
            let fingerprint = Fingerprint::of(sql.as_bytes()).unwrap();
            self.texts.learn(Statement { fingerprint, sql: Some(sql.as_bytes()) });
            let text = self.texts.get(fingerprint).unwrap();
            let database = "bank".into();
            self.adviser.statement(
                &database,
                &mut self.watch,
                (fingerprint, &text),
                (in_transaction, self.now),
            );
            self.now += Duration::from_secs(1);
        }

        fn found(&self) -> Vec<String> {
            let text = |value: &Value| match value {
                Value::Text(text) => text.clone(),
                Value::Count(count) => count.to_string(),
                _ => String::new(),
            };
            self.adviser
                .rows(&self.texts)
                .iter()
                .map(|row| [&row[0], &row[1], &row[2]].map(text).join(": "))
                .collect()
        }
    }

    #[test]
    fn a_read_and_a_write_of_what_was_computed_are_a_possible_lost_update() {
        let mut stage = Stage::new();
        for (read, write) in [(1, 9), (2, 8)] {
            stage.run(&format!("SELECT balance FROM accounts WHERE id = {read}"), false);
            stage.run(&format!("UPDATE accounts SET balance = {write} WHERE id = {read}"), false);
        }
        let expected = "possible lost update: SELECT balance FROM accounts WHERE id = ?; \
                        UPDATE accounts SET balance = ? WHERE id = ?: 2";
        assert_eq!(stage.found(), [expected]);
    }

    #[test]
    fn what_is_right_is_not_told() {
        let mut stage = Stage::new();
        stage.run("SELECT balance FROM accounts WHERE id = 1", false);
        stage.run("UPDATE accounts SET balance = balance - 1 WHERE id = 1", false);
        stage.run("UPDATE others SET balance = 1 WHERE id = 1", false);
        stage.run("INSERT INTO accounts VALUES (1) ON CONFLICT DO NOTHING", false);
        stage.run("SELECT balance FROM accounts WHERE id = 1 FOR UPDATE", true);
        stage.run("UPDATE accounts SET balance = 1 WHERE id = 1", true);
        stage.now += READ_COUNTS;
        stage.run("UPDATE accounts SET balance = 1 WHERE id = 1", false);
        assert_eq!(stage.found(), [""; 0]);
    }

    #[test]
    fn a_check_before_an_insert_and_writes_close_together_are_told() {
        let mut stage = Stage::new();
        stage.run("SELECT 1 FROM users WHERE name = 'ann'", false);
        stage.run("INSERT INTO users VALUES ('ann')", false);
        stage.now -= Duration::from_secs(1);
        stage.run("INSERT INTO mails VALUES ('ann')", false);
        let found = stage.found().join("\n");
        assert!(found.contains(
            "possible duplicate: SELECT ? FROM users WHERE name = ?; INSERT INTO users VALUES (?): 1"
        ));
        assert!(
            found
                .contains("writes that may belong together: INSERT INTO users VALUES (?); INSERT INTO mails")
        );
    }

    #[test]
    fn idleness_inside_and_a_retry_of_ones_own_are_told() {
        let mut stage = Stage::new();
        let sql = "UPDATE accounts SET balance = balance - 1 WHERE id = 1";
        stage.run(sql, true);
        stage.watch.idles(stage.now);
        stage.now += IDLE;
        stage.adviser.ended(&"bank".into(), &mut stage.watch, true, stage.now);
        stage.run(sql, true);
        assert_eq!(stage.found().len(), 2, "{:?}", stage.found());
    }
}
