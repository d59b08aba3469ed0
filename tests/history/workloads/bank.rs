//! Transfers between accounts: money is neither made nor lost, and each account shows every transfer of the ledger.

use std::collections::BTreeMap;

use fastrand::Rng;
use tokio_postgres::Error;

use crate::arena::Arena;
use crate::client::{Session, Value};
use crate::history::History;
use crate::run::{Workload, on_every_ground};

on_every_ground! {
    blind: |_| Bank(Style::Blind);
    read_modify_write: |_| Bank(Style::ReadModifyWrite);
}

const ACCOUNTS: i64 = 16;
const INITIAL_BALANCE: i64 = 1000;

enum Style {
    /// The arithmetic is the database's; the client sees no balance.
    Blind,
    /// The client reads both balances and writes what it has computed.
    ReadModifyWrite,
}

struct Bank(Style);

/// What went from where to where.
struct Transfer {
    source: i64,
    target: i64,
    amount: i64,
}

impl Transfer {
    fn choose(random: &mut Rng) -> Self {
        let source = random.i64(0..ACCOUNTS);
        let target = (source + random.i64(1..ACCOUNTS)) % ACCOUNTS;
        Self { source, target, amount: random.i64(1..100) }
    }
}

impl Workload for Bank {
    type Note = Transfer;

    fn schema(&self) -> Vec<String> {
        vec![
            "CREATE TABLE accounts (id BIGINT PRIMARY KEY, balance BIGINT NOT NULL)".into(),
            format!(
                "INSERT INTO accounts SELECT i, {INITIAL_BALANCE} FROM generate_series(0, {}) AS g (i)",
                ACCOUNTS - 1
            ),
        ]
    }

    async fn transact(&self, session: &mut Session, random: &mut Rng, _: i64) -> Result<Transfer, Error> {
        let transfer = Transfer::choose(random);
        let Transfer { source, target, amount } = transfer;
        let changes = match self.0 {
            Style::Blind => {
                let add = "UPDATE accounts SET balance = balance + $2 WHERE id = $1";
                [(source, -amount), (target, amount)].map(|(account, change)| (add, account, change))
            }
            Style::ReadModifyWrite => {
                let read = "SELECT balance FROM accounts WHERE id = $1";
                let reads = [source, target].map(|account| (read, vec![Value::Int(account)]));
                let rows = session.query_all(&reads).await?;
                let balances = rows.iter().map(|rows| rows[0][0].parse().expect("a balance"));
                let balances: Vec<i64> = balances.collect();
                let write = "UPDATE accounts SET balance = $2 WHERE id = $1";
                [(write, source, balances[0] - amount), (write, target, balances[1] + amount)]
            }
        };
        let requests =
            changes.map(|(sql, account, number)| (sql, vec![Value::Int(account), Value::Int(number)]));
        session.query_all(&requests).await?;
        Ok(transfer)
    }

    async fn audit(&self, arena: &Arena, history: &History<Transfer>) -> Vec<String> {
        let mut expected: BTreeMap<i64, i64> = (0..ACCOUNTS).map(|id| (id, INITIAL_BALANCE)).collect();
        for (_, Transfer { source, target, amount }) in history.effective() {
            *expected.entry(*source).or_default() -= amount;
            *expected.entry(*target).or_default() += amount;
        }
        let rows = arena.query("SELECT id, balance FROM accounts").await;
        let number = |text: &String| text.parse::<i64>().expect("a number");
        let found: BTreeMap<i64, i64> = rows.iter().map(|row| (number(&row[0]), number(&row[1]))).collect();
        let total: i64 = found.values().sum();
        let created = total - ACCOUNTS * INITIAL_BALANCE;
        let wrong = expected.iter().filter(|(id, balance)| found.get(id) != Some(balance));
        let wrong = wrong.map(|(id, balance)| format!("account {id}: {:?}, not {balance}", found.get(id)));
        wrong.chain((created != 0).then(|| format!("{created} were made from nothing"))).collect()
    }
}
