//! Doctors who go off call only while another one stays: under write skew a shift would be left alone.

use std::collections::BTreeMap;

use fastrand::Rng;
use tokio_postgres::Error;

use crate::arena::Arena;
use crate::client::{Session, Value};
use crate::history::History;
use crate::run::{Workload, on_every_ground};

on_every_ground! {
    write_skew: |ground: Ground| Doctors { locks: !ground.is_serializable() };
}

const SHIFTS: i64 = 6;

struct Doctors {
    /// Snapshot isolation allows write skew, unless what is read is locked.
    locks: bool,
}

/// What a doctor saw and did.
struct Turn {
    shift: i64,
    doctor: i64,
    on_call_seen: usize,
}

impl Workload for Doctors {
    type Note = Turn;

    fn schema(&self) -> Vec<String> {
        let table = "CREATE TABLE doctors (id BIGINT PRIMARY KEY, shift BIGINT NOT NULL,
                                           on_call BIGINT NOT NULL, turns BIGINT NOT NULL)";
        let doctors = (0..SHIFTS * 2).map(|id| format!("({id}, {}, 1, 0)", id / 2));
        let doctors = doctors.collect::<Vec<_>>().join(", ");
        vec![table.into(), format!("INSERT INTO doctors VALUES {doctors}")]
    }

    async fn transact(&self, session: &mut Session, random: &mut Rng, _: i64) -> Result<Turn, Error> {
        let shift = random.i64(0..SHIFTS);
        let doctor = shift * 2 + random.i64(0..2);
        let lock = if self.locks { " FOR UPDATE" } else { "" };
        let read = format!("SELECT id, on_call FROM doctors WHERE id >= $1 AND id <= $2 ORDER BY id{lock}");
        let both = [Value::Int(shift * 2), Value::Int(shift * 2 + 1)];
        let rows = session.query(&read, &both).await?;
        let on_call_seen = rows.iter().filter(|row| row[1] == "1").count();
        // Who may not go comes back, or stays.
        let write = match on_call_seen {
            0 | 1 => "UPDATE doctors SET on_call = 1, turns = turns + 1 WHERE id = $1",
            _ => "UPDATE doctors SET on_call = 0, turns = turns + 1 WHERE id = $1",
        };
        session.query(write, &[Value::Int(doctor)]).await?;
        Ok(Turn { shift, doctor, on_call_seen })
    }

    async fn audit(&self, arena: &Arena, history: &History<Turn>) -> Vec<String> {
        let mut turns: BTreeMap<i64, i64> = BTreeMap::new();
        let mut wrong = Vec::new();
        for (id, Turn { shift, doctor, on_call_seen }) in history.effective() {
            *turns.entry(*doctor).or_default() += 1;
            if *on_call_seen == 0 {
                wrong.push(format!("transaction {id} saw shift {shift} left alone"));
            }
        }
        let mut on_call: BTreeMap<String, i64> = BTreeMap::new();
        for row in arena.query("SELECT shift, id, on_call, turns FROM doctors").await {
            let number = |column: usize| row[column].parse::<i64>().expect("a number");
            *on_call.entry(row[0].clone()).or_default() += number(2);
            let expected = turns.get(&number(1)).copied().unwrap_or_default();
            if number(3) != expected {
                wrong.push(format!("doctor {}: {} turns, not {expected}", number(1), number(3)));
            }
        }
        let alone = on_call.iter().filter(|(_, on_call)| **on_call == 0);
        wrong.extend(alone.map(|(shift, _)| format!("shift {shift} is left alone")));
        wrong
    }
}
