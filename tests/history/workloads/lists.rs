//! Lists to which clients append and which they read: every list tells in which order its writers came, and so which
//! transaction must come before which.

use std::collections::{BTreeMap, HashMap};

use fastrand::Rng;
use tokio_postgres::Error;

use crate::arena::Arena;
use crate::client::{Session, Value};
use crate::graph::{Graph, Reason};
use crate::history::History;
use crate::run::{Workload, on_every_ground};

on_every_ground! {
    cycles: |ground: Ground| Lists { serializable: ground.is_serializable() };
}

const LISTS: i64 = 8;

struct Lists {
    serializable: bool,
}

/// A step of a transaction. What is appended is the transaction's id, once to a list at most.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Append { list: i64 },
    Read { list: i64, seen: Vec<i64> },
}

/// Which lists a transaction reads and appends to, in which order.
fn choose(random: &mut Rng) -> Vec<Step> {
    let mut steps = Vec::new();
    for _ in 0..random.usize(2..=4) {
        let list = random.i64(0..LISTS);
        let append = Step::Append { list };
        match random.bool() && !steps.contains(&append) {
            true => steps.push(append),
            false => steps.push(Step::Read { list, seen: Vec::new() }),
        }
    }
    steps
}

fn elements(text: &str) -> Vec<i64> {
    text.split(',').filter(|element| !element.is_empty()).map(|id| id.parse().expect("an id")).collect()
}

impl Workload for Lists {
    type Note = Vec<Step>;

    fn schema(&self) -> Vec<String> {
        let lists = (0..LISTS).map(|id| format!("({id}, '')")).collect::<Vec<_>>().join(", ");
        vec![
            "CREATE TABLE lists (id BIGINT PRIMARY KEY, elements TEXT NOT NULL)".into(),
            format!("INSERT INTO lists VALUES {lists}"),
        ]
    }

    async fn transact(&self, session: &mut Session, random: &mut Rng, id: i64) -> Result<Vec<Step>, Error> {
        let mut steps = choose(random);
        let append = "UPDATE lists SET elements = elements || $2 WHERE id = $1";
        let read = "SELECT elements FROM lists WHERE id = $1";
        let request = |step: &Step| match step {
            Step::Append { list } => (append, vec![Value::Int(*list), Value::Text(format!("{id},"))]),
            Step::Read { list, .. } => (read, vec![Value::Int(*list)]),
        };
        let requests: Vec<_> = steps.iter().map(request).collect();
        let answers = session.query_all(&requests).await?;
        for (step, rows) in steps.iter_mut().zip(answers) {
            if let Step::Read { seen, .. } = step {
                *seen = elements(&rows[0][0]);
            }
        }
        Ok(steps)
    }

    async fn audit(&self, arena: &Arena, history: &History<Vec<Step>>) -> Vec<String> {
        let rows = arena.query("SELECT id, elements FROM lists").await;
        let lists = rows.iter().map(|row| (row[0].parse().expect("an id"), elements(&row[1]))).collect();
        let transactions = history.effective().map(|(id, steps)| (id, steps.as_slice())).collect();
        examine(&transactions, &lists, self.serializable)
    }
}

/// Everything that cannot be, given the transactions that took effect and the lists as they are at the end.
fn examine(
    transactions: &BTreeMap<i64, &[Step]>,
    lists: &HashMap<i64, Vec<i64>>,
    serializable: bool,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut graph = Graph::default();
    for (list, elements) in lists {
        wrong.extend(misplaced(transactions, *list, elements));
        for pair in elements.windows(2) {
            graph.add(pair[0], pair[1], Reason::WriteWrite);
        }
    }
    for (id, steps) in transactions {
        for (at, step) in steps.iter().enumerate() {
            if let Step::Read { list, seen } = step {
                let appended = steps[..at].contains(&Step::Append { list: *list });
                match foreign(*id, seen, appended, &lists[list]) {
                    Some(count) => order(&mut graph, *id, count, &lists[list]),
                    None => wrong.push(format!(
                        "transaction {id} read {seen:?} of list {list}, which is {:?}",
                        lists[list]
                    )),
                }
            }
        }
    }
    let cycle = if serializable { graph.serial_cycle() } else { graph.snapshot_cycle() };
    wrong.extend(cycle.map(|cycle| format!("no order explains the transactions {cycle:?}")));
    wrong
}

/// Elements that are missing in a list, or that nobody has appended, or that stand there twice.
fn misplaced(transactions: &BTreeMap<i64, &[Step]>, list: i64, elements: &[i64]) -> Vec<String> {
    let appends = |steps: &&[Step]| steps.contains(&Step::Append { list });
    let mut expected: Vec<i64> =
        transactions.iter().filter(|(_, steps)| appends(steps)).map(|(id, _)| *id).collect();
    let mut found = elements.to_vec();
    expected.sort_unstable();
    found.sort_unstable();
    let differs = expected != found;
    differs.then(|| format!("list {list} has {found:?}, not {expected:?}")).into_iter().collect()
}

/// How many elements of others a transaction saw at the head of a list, if what it saw can be: what was there, with its
/// own element behind it if it has appended one.
fn foreign(id: i64, seen: &[i64], appended: bool, list: &[i64]) -> Option<usize> {
    let head = match appended {
        true => seen.split_last().filter(|(last, _)| **last == id).map(|(_, head)| head)?,
        false => seen,
    };
    (list.starts_with(head) && !head.contains(&id)).then_some(head.len())
}

/// A reader comes behind the writer of what it saw last, and before that of what it did not see.
fn order(graph: &mut Graph, reader: i64, count: usize, list: &[i64]) {
    if let Some(writer) = list[..count].last() {
        graph.add(*writer, reader, Reason::WriteRead);
    }
    if let Some(writer) = list.get(count) {
        graph.add(reader, *writer, Reason::ReadWrite);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: i64, seen: &[i64]) -> Step {
        Step::Read { list, seen: seen.to_vec() }
    }

    fn append(list: i64) -> Step {
        Step::Append { list }
    }

    /// Whether there is an anomaly in a serial order, and in snapshots.
    fn anomalies(transactions: &[&[Step]], lists: [&[i64]; 2]) -> (bool, bool) {
        let transactions = (1..).zip(transactions.iter().copied()).collect();
        let lists = (0..).zip(lists.map(<[i64]>::to_vec)).collect();
        [true, false].map(|serializable| !examine(&transactions, &lists, serializable).is_empty()).into()
    }

    #[test]
    fn a_serial_history_passes() {
        let first = [append(0), read(0, &[1]), read(1, &[])];
        let second = [read(0, &[1]), append(0), append(1)];
        assert_eq!(anomalies(&[&first, &second], [&[1, 2], &[2]]), (false, false));
    }

    #[test]
    fn a_lost_or_repeated_or_foreign_element_is_found() {
        for list in [&[][..], &[1, 1], &[1, 7]] {
            assert_eq!(anomalies(&[&[append(0)]], [list, &[]]), (true, true), "{list:?}");
        }
    }

    #[test]
    fn a_read_of_what_never_was_is_found() {
        for seen in [&[2][..], &[2, 1], &[1, 2, 3]] {
            let reader = [read(0, seen)];
            let found = anomalies(&[&[append(0)], &[append(0)], &reader], [&[1, 2], &[]]);
            assert_eq!(found, (true, true), "{seen:?}");
        }
    }

    #[test]
    fn an_own_append_is_read() {
        assert_eq!(anomalies(&[&[append(0), read(0, &[])]], [&[1], &[]]), (true, true));
        assert_eq!(anomalies(&[&[read(0, &[1]), append(0)]], [&[1], &[]]), (true, true));
    }

    #[test]
    fn a_lost_update_is_found_and_write_skew_where_it_is_forbidden() {
        let update = [read(0, &[]), append(0)];
        assert_eq!(anomalies(&[&update, &update], [&[1, 2], &[]]), (true, true));
        let skew: [&[Step]; 2] = [&[read(0, &[]), append(1)], &[read(1, &[]), append(0)]];
        assert_eq!(anomalies(&skew, [&[2], &[1]]), (true, false));
    }
}
