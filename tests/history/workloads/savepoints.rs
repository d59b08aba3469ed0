//! Savepoints of the clients' own: what they undo leaves nothing, also if a conflict comes in between.

use std::collections::BTreeMap;

use fastrand::Rng;
use tokio_postgres::Error;

use crate::arena::Arena;
use crate::client::{Session, Value};
use crate::history::History;
use crate::run::{Workload, on_every_ground};

on_every_ground! {
    undone_statements: |_| Savepoints;
}

const COUNTERS: i64 = 12;
const ADD: &str = "UPDATE counters SET value = value + 1 WHERE id = $1";
/// What is undone would be seen.
const ADD_MUCH: &str = "UPDATE counters SET value = value + 1000000 WHERE id = $1";
/// There is such a row.
const FAIL: &str = "INSERT INTO counters (id, value) VALUES ($1, 0)";

struct Savepoints;

/// The counters that were advanced.
type Advanced = Vec<i64>;

/// How the part between savepoint and its end goes.
enum Detour {
    /// Its work is kept.
    Kept,
    /// Its work is undone.
    Undone,
    /// A statement in it fails, and it is undone.
    Failed,
}

impl Detour {
    fn choose(random: &mut Rng) -> Self {
        match random.u8(0..3) {
            0 => Self::Kept,
            1 => Self::Undone,
            _ => Self::Failed,
        }
    }
}

impl Savepoints {
    /// Does something behind a savepoint; the counter, if it is advanced in the end.
    async fn detour(session: &mut Session, detour: Detour, counter: i64) -> Result<Option<i64>, Error> {
        session.control("SAVEPOINT detour").await?;
        let values = [Value::Int(counter)];
        let kept = match detour {
            Detour::Kept => {
                session.query(ADD, &values).await?;
                Some(counter)
            }
            Detour::Undone => {
                session.query(ADD_MUCH, &values).await?;
                session.control("ROLLBACK TO SAVEPOINT detour").await?;
                None
            }
            Detour::Failed => {
                session.query(ADD_MUCH, &values).await?;
                let error = session.query(FAIL, &values).await.expect_err("the row is there");
                if error.code().is_none_or(|code| code.code() != "23505") {
                    return Err(error);
                }
                session.control("ROLLBACK TO SAVEPOINT detour").await?;
                None
            }
        };
        session.control("RELEASE SAVEPOINT detour").await?;
        Ok(kept)
    }
}

impl Workload for Savepoints {
    type Note = Advanced;

    fn schema(&self) -> Vec<String> {
        vec![
            "CREATE TABLE counters (id BIGINT PRIMARY KEY, value BIGINT NOT NULL)".into(),
            format!("INSERT INTO counters SELECT i, 0 FROM generate_series(0, {}) AS g (i)", COUNTERS - 1),
        ]
    }

    async fn transact(&self, session: &mut Session, random: &mut Rng, _: i64) -> Result<Advanced, Error> {
        let mut counters: Vec<i64> = (0..COUNTERS).collect();
        random.shuffle(&mut counters);
        let mut advanced = Vec::new();
        if random.bool() {
            session.query(ADD, &[Value::Int(counters[0])]).await?;
            advanced.push(counters[0]);
        }
        for counter in &counters[1..random.usize(2..=3)] {
            advanced.extend(Self::detour(session, Detour::choose(random), *counter).await?);
        }
        session.query(ADD, &[Value::Int(counters[3])]).await?;
        advanced.push(counters[3]);
        Ok(advanced)
    }

    async fn audit(&self, arena: &Arena, history: &History<Advanced>) -> Vec<String> {
        let mut expected: BTreeMap<i64, i64> = BTreeMap::new();
        for counter in history.effective().flat_map(|(_, advanced)| advanced) {
            *expected.entry(*counter).or_default() += 1;
        }
        let rows = arena.query("SELECT id, value FROM counters ORDER BY id").await;
        let rows = rows.iter().map(|row| (row[0].parse().expect("an id"), row[1].parse().expect("a value")));
        let expected = |id: &i64| expected.get(id).copied().unwrap_or_default();
        let wrong = rows.filter(|(id, value): &(i64, i64)| *value != expected(id));
        wrong.map(|(id, value)| format!("counter {id} is {value}, not {}", expected(&id))).collect()
    }
}
