//! Counters that clients read and write back: no two of them build on the same value.

use std::collections::BTreeMap;

use fastrand::Rng;
use tokio_postgres::Error;

use crate::arena::Arena;
use crate::client::{Session, Value};
use crate::history::History;
use crate::run::{Workload, on_every_ground};

on_every_ground! {
    lost_updates: |_| Counters;
}

const COUNTERS: i64 = 8;

struct Counters;

/// The counter that was advanced, and what it was before.
struct Advance {
    counter: i64,
    from: i64,
}

impl Workload for Counters {
    type Note = Advance;

    fn schema(&self) -> Vec<String> {
        vec![
            "CREATE TABLE counters (id BIGINT PRIMARY KEY, value BIGINT NOT NULL)".into(),
            format!("INSERT INTO counters SELECT i, 0 FROM generate_series(0, {}) AS g (i)", COUNTERS - 1),
        ]
    }

    async fn transact(&self, session: &mut Session, random: &mut Rng, _: i64) -> Result<Advance, Error> {
        let counter = random.i64(0..COUNTERS);
        let rows = session.query("SELECT value FROM counters WHERE id = $1", &[Value::Int(counter)]).await?;
        let from: i64 = rows[0][0].parse().expect("a number");
        let write = "UPDATE counters SET value = $2 WHERE id = $1";
        session.query(write, &[Value::Int(counter), Value::Int(from + 1)]).await?;
        Ok(Advance { counter, from })
    }

    async fn audit(&self, arena: &Arena, history: &History<Advance>) -> Vec<String> {
        let mut steps: BTreeMap<i64, Vec<i64>> = (0..COUNTERS).map(|id| (id, Vec::new())).collect();
        for (_, Advance { counter, from }) in history.effective() {
            steps.entry(*counter).or_default().push(*from);
        }
        let mut wrong = Vec::new();
        for row in arena.query("SELECT id, value FROM counters ORDER BY id").await {
            let (id, value) = (row[0].parse().expect("an id"), row[1].parse().expect("a value"));
            let mut steps = steps.remove(&id).unwrap_or_default();
            steps.sort_unstable();
            if steps != (0..value).collect::<Vec<i64>>() {
                wrong.push(format!("counter {id} is {value}, and was advanced from {steps:?}"));
            }
        }
        wrong
    }
}
