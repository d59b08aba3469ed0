//! One client: its connection, and one transfer as a careful application would write it.
//!
//! Accounts are updated in the order of their ids, so that no two transfers wait for each other: a deadlock would
//! stall PostgreSQL for a second (`deadlock_timeout`) and hide what is to be seen here, conflicts.

use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, NoTls, Row, Statement};

use super::plan::Transfer;
use super::workload::Style;

/// Codes after which the outcome of a COMMIT is not known: the completion or the resolution is said to be, or the
/// server went away.
const IN_DOUBT: [&str; 3] = ["40003", "08", "57P0"];

/// An account's two columns that a transfer reads and writes.
#[derive(Clone, Copy)]
struct State {
    balance: i64,
    version: i64,
}

/// An attempt that did not commit, as far as the client can tell.
#[derive(Debug)]
pub(super) struct Failure {
    /// The server's, or none when the connection was lost.
    pub(super) sqlstate: Option<String>,
    /// Whether the transaction may have committed nevertheless.
    pub(super) in_doubt: bool,
}

impl Failure {
    fn before_commit(error: &tokio_postgres::Error) -> Self {
        Self { sqlstate: error.code().map(|code| code.code().to_owned()), in_doubt: false }
    }

    fn at_commit(error: &tokio_postgres::Error) -> Self {
        let failure = Self::before_commit(error);
        let in_doubt = leaves_doubt(failure.sqlstate.as_deref());
        Self { in_doubt, ..failure }
    }
}

/// Whether a transaction may have committed although its COMMIT failed like this; without a code, the connection was
/// lost.
fn leaves_doubt(sqlstate: Option<&str>) -> bool {
    sqlstate.is_none_or(|sqlstate| IN_DOUBT.iter().any(|prefix| sqlstate.starts_with(prefix)))
}

/// A connection with the statements that it needs, prepared.
pub(super) struct Session {
    client: Client,
    driver: JoinHandle<Result<(), tokio_postgres::Error>>,
    statements: Statements,
}

struct Statements {
    withdraw: Statement,
    deposit: Statement,
    read: Statement,
    write: Statement,
    log_blind: Statement,
    log_read: Statement,
}

impl Statements {
    async fn prepare(client: &Client, schema: &str) -> Result<Self, tokio_postgres::Error> {
        let accounts = format!("{schema}.accounts");
        let journal = format!("{schema}.journal");
        let update = format!("UPDATE {accounts} SET balance = balance");
        let log = format!("INSERT INTO {journal} (client, number, source, target, amount");
        Ok(Self {
            withdraw: client.prepare(&format!("{update} - $1 WHERE id = $2")).await?,
            deposit: client.prepare(&format!("{update} + $1 WHERE id = $2")).await?,
            read: client.prepare(&format!("SELECT balance, version FROM {accounts} WHERE id = $1")).await?,
            write: client
                .prepare(&format!("UPDATE {accounts} SET balance = $1, version = $2 WHERE id = $3"))
                .await?,
            log_blind: client.prepare(&format!("{log}) VALUES ($1, $2, $3, $4, $5)")).await?,
            log_read: client
                .prepare(&format!(
                    "{log}, source_version, source_read, source_written, target_version, target_read, \
                     target_written) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
                ))
                .await?,
        })
    }
}

impl Session {
    /// Connects, and prepares the statements for the tables of `schema`.
    pub(super) async fn open(config: &Config, schema: &str) -> Result<Self, tokio_postgres::Error> {
        let (client, connection) = config.connect(NoTls).await?;
        let driver = tokio::spawn(connection);
        let statements = Statements::prepare(&client, schema).await?;
        Ok(Self { client, driver, statements })
    }

    /// Whether the connection is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Runs `transfer` as one transaction, once.
    pub(super) async fn attempt(&self, style: Style, transfer: &Transfer) -> Result<(), Failure> {
        if let Err(error) = self.transact(style, transfer).await {
            // The answer does not matter: a connection on which this fails is found closed.
            let _ = self.client.batch_execute("ROLLBACK").await;
            return Err(Failure::before_commit(&error));
        }
        self.client.batch_execute("COMMIT").await.map_err(|error| Failure::at_commit(&error))
    }

    async fn transact(&self, style: Style, transfer: &Transfer) -> Result<(), tokio_postgres::Error> {
        self.client.batch_execute("BEGIN ISOLATION LEVEL SERIALIZABLE").await?;
        match style {
            Style::Blind => self.transfer_blindly(transfer).await,
            Style::ReadModifyWrite => self.transfer_by_reading(transfer).await,
        }
    }

    /// Leaves the arithmetic to the database.
    async fn transfer_blindly(&self, transfer: &Transfer) -> Result<(), tokio_postgres::Error> {
        let Transfer { id, source, target, amount } = transfer;
        let mut updates = [(source, &self.statements.withdraw), (target, &self.statements.deposit)];
        updates.sort_by_key(|(account, _)| *account);
        for (account, update) in updates {
            self.client.execute(update, &[amount, account]).await?;
        }
        let entry = &self.statements.log_blind;
        self.client.execute(entry, &[&id.client, &id.number, source, target, amount]).await?;
        Ok(())
    }

    /// Computes the new balances here, from what was read.
    async fn transfer_by_reading(&self, transfer: &Transfer) -> Result<(), tokio_postgres::Error> {
        let Transfer { id, source, target, amount } = transfer;
        let from = self.read(source).await?;
        let to = self.read(target).await?;
        let (from_written, to_written) = (from.balance - amount, to.balance + amount);
        let mut writes = [(source, from_written, from.version + 1), (target, to_written, to.version + 1)];
        writes.sort_by_key(|(account, ..)| *account);
        for (account, written, version) in writes {
            self.client.execute(&self.statements.write, &[&written, &version, account]).await?;
        }
        let entry = &self.statements.log_read;
        self.client
            .execute(
                entry,
                &[
                    &id.client,
                    &id.number,
                    source,
                    target,
                    amount,
                    &from.version,
                    &from.balance,
                    &from_written,
                    &to.version,
                    &to.balance,
                    &to_written,
                ],
            )
            .await?;
        Ok(())
    }

    async fn read(&self, account: &i64) -> Result<State, tokio_postgres::Error> {
        let row: Row = self.client.query_one(&self.statements.read, &[account]).await?;
        Ok(State { balance: row.try_get(0)?, version: row.try_get(1)? })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The driver's error with the server's own words, which its `Display` leaves out.
pub(super) fn explain(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(server) => format!("{} (SQLSTATE {})", server.message(), server.code().code()),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_in_doubt_only_if_nobody_said_that_it_failed() {
        for sqlstate in [None, Some("40003"), Some("08007"), Some("08006"), Some("57P01")] {
            assert!(leaves_doubt(sqlstate), "{sqlstate:?}");
        }
        for sqlstate in [Some("40001"), Some("40P01"), Some("25P02"), Some("57014")] {
            assert!(!leaves_doubt(sqlstate), "{sqlstate:?}");
        }
    }
}
