//! Parents and children that get their ids from the database: the ids that a client was told are the ones that are there.

use std::collections::BTreeMap;

use fastrand::Rng;
use tokio_postgres::Error;

use crate::arena::Arena;
use crate::client::{Rows, Session, Value};
use crate::history::History;
use crate::run::{Workload, on_every_ground};

on_every_ground! {
    told_ids: |_| Families;
}

const TOWNS: i64 = 4;

struct Families;

/// The ids that the client was told.
struct Family {
    parent: i64,
    children: Vec<i64>,
}

impl Workload for Families {
    type Note = Family;

    fn schema(&self) -> Vec<String> {
        [
            "CREATE TABLE towns (id BIGINT PRIMARY KEY, families BIGINT NOT NULL)",
            "INSERT INTO towns VALUES (0, 0), (1, 0), (2, 0), (3, 0)",
            "CREATE TABLE parents (id BIGSERIAL PRIMARY KEY, origin BIGINT NOT NULL)",
            "CREATE TABLE children (id BIGSERIAL PRIMARY KEY,
                                    parent BIGINT NOT NULL REFERENCES parents (id), origin BIGINT NOT NULL)",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    async fn transact(&self, session: &mut Session, random: &mut Rng, id: i64) -> Result<Family, Error> {
        // What families contend for comes first: a conflict over it is met before an id was told.
        let count = "UPDATE towns SET families = families + 1 WHERE id = $1";
        session.query(count, &[Value::Int(random.i64(0..TOWNS))]).await?;
        let insert = "INSERT INTO parents (origin) VALUES ($1) RETURNING id";
        let parent = told(&session.query(insert, &[Value::Int(id)]).await?);
        let insert = "INSERT INTO children (parent, origin) VALUES ($1, $2) RETURNING id";
        let child = (insert, vec![Value::Int(parent), Value::Int(id)]);
        let children = vec![child; random.usize(0..3)];
        let children = session.query_all(&children).await?.iter().map(told).collect();
        Ok(Family { parent, children })
    }

    async fn audit(&self, arena: &Arena, history: &History<Family>) -> Vec<String> {
        let mut told: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        let mut there: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for (id, Family { parent, children }) in history.effective() {
            told.entry(id).or_default().push(*parent);
            told.entry(id).or_default().extend(children.iter().flat_map(|child| [*parent, *child]));
        }
        let number = |text: &String| text.parse::<i64>().expect("a number");
        for row in arena.query("SELECT origin, id FROM parents").await {
            there.entry(number(&row[0])).or_default().push(number(&row[1]));
        }
        for row in arena.query("SELECT origin, parent, id FROM children ORDER BY id").await {
            there.entry(number(&row[0])).or_default().extend([number(&row[1]), number(&row[2])]);
        }
        let families: i64 =
            arena.query("SELECT families FROM towns").await.iter().map(|row| number(&row[0])).sum();
        let mut wrong = differences(&told, &there);
        if families != told.len() as i64 {
            wrong.push(format!("towns count {families} families, not {}", told.len()));
        }
        wrong
    }
}

/// The id of the only row.
fn told(rows: &Rows) -> i64 {
    rows[0][0].parse().expect("an id")
}

fn differences(told: &BTreeMap<i64, Vec<i64>>, there: &BTreeMap<i64, Vec<i64>>) -> Vec<String> {
    let mut origins: Vec<_> = told.keys().chain(there.keys()).collect();
    origins.sort();
    origins.dedup();
    let sorted = |ids: Option<&Vec<i64>>| {
        let mut ids = ids.cloned().unwrap_or_default();
        ids.sort_unstable();
        ids
    };
    let differs = origins.into_iter().filter(|origin| sorted(told.get(origin)) != sorted(there.get(origin)));
    differs
        .map(|origin| {
            format!("transaction {origin} was told {:?}, there are {:?}", told.get(origin), there.get(origin))
        })
        .collect()
}
