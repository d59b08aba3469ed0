//! The tables: accounts with their balances, and the journal in which each transfer writes a row.

use tokio_postgres::{Client, NoTls, Row};

use super::Error;
use super::audit::{Account, Change, Entry, Ledger};
use super::plan::{Transfer, TransferId};
use super::upstream::Upstream;

/// What every account holds at the beginning of each row of the table.
const INITIAL_BALANCE: i64 = 10_000;

/// The accounts and the journal, in a schema of their own, and a direct connection to them.
pub(super) struct Bank {
    client: Client,
    schema: String,
    accounts: i64,
    server_version: String,
}

impl Bank {
    /// Connects, and chooses a name for the schema that nobody else has.
    pub(super) async fn open(upstream: &Upstream, accounts: u32) -> Result<Self, Error> {
        let schema = format!("reprise_demo_{:016x}", fastrand::u64(..));
        let (client, connection) =
            upstream.config(upstream.addr()).connect(NoTls).await.map_err(Error::Bank)?;
        // It ends with the client; an error shows in the client's next statement.
        tokio::spawn(connection);
        let server_version = server_version(&client).await.map_err(Error::Bank)?;
        Ok(Self { client, schema, accounts: accounts.into(), server_version })
    }

    /// Creates the schema and its tables.
    ///
    /// The journal has no key: a transfer that was run twice must be found there, not refused.
    pub(super) async fn create_tables(&self) -> Result<(), Error> {
        let schema = &self.schema;
        self.execute(&format!("CREATE SCHEMA {schema}")).await?;
        self.execute(&format!(
            "CREATE TABLE {schema}.accounts (
                 id BIGINT PRIMARY KEY, balance BIGINT NOT NULL, version BIGINT NOT NULL)"
        ))
        .await?;
        self.execute(&format!(
            "CREATE TABLE {schema}.journal (
                 client BIGINT NOT NULL, number BIGINT NOT NULL,
                 source BIGINT NOT NULL, target BIGINT NOT NULL, amount BIGINT NOT NULL,
                 source_version BIGINT, source_read BIGINT, source_written BIGINT,
                 target_version BIGINT, target_read BIGINT, target_written BIGINT)"
        ))
        .await
    }

    /// The schema of the tables.
    pub(super) fn schema(&self) -> &str {
        &self.schema
    }

    /// The server's own name and version.
    pub(super) fn server_version(&self) -> &str {
        &self.server_version
    }

    /// Empties the journal and gives every account its initial balance.
    pub(super) async fn reset(&self) -> Result<(), Error> {
        let Self { schema, accounts, .. } = self;
        self.execute(&format!("TRUNCATE {schema}.accounts, {schema}.journal")).await?;
        self.execute(&format!(
            "INSERT INTO {schema}.accounts (id, balance, version)
                 SELECT id, {INITIAL_BALANCE}, 0 FROM generate_series(1, {accounts}) AS ids (id)"
        ))
        .await
    }

    /// Reads both tables.
    pub(super) async fn ledger(&self) -> Result<Ledger, Error> {
        self.read().await.map_err(Error::Bank)
    }

    async fn read(&self) -> Result<Ledger, tokio_postgres::Error> {
        let accounts = format!("SELECT id, balance FROM {}.accounts", self.schema);
        let journal = format!(
            "SELECT client, number, source, target, amount, source_version, source_read, source_written,
                    target_version, target_read, target_written FROM {}.journal",
            self.schema
        );
        let accounts = self.client.query(&accounts, &[]).await?;
        let journal = self.client.query(&journal, &[]).await?;
        Ok(Ledger {
            initial_balance: INITIAL_BALANCE,
            accounts: accounts.iter().map(account).collect::<Result<_, _>>()?,
            journal: journal.iter().map(entry).collect::<Result<_, _>>()?,
        })
    }

    /// Removes the schema and all that is in it.
    pub(super) async fn remove(&self) -> Result<(), Error> {
        self.execute(&format!("DROP SCHEMA IF EXISTS {} CASCADE", self.schema)).await
    }

    /// Runs one statement: CockroachDB changes schemas best in transactions of their own.
    async fn execute(&self, statement: &str) -> Result<(), Error> {
        self.client.batch_execute(statement).await.map_err(Error::Bank)
    }
}

async fn server_version(client: &Client) -> Result<String, tokio_postgres::Error> {
    let version: String = client.query_one("SELECT version()", &[]).await?.try_get(0)?;
    // What follows, in parentheses, is how it was built.
    let name = version.split(" (").next().unwrap_or_default();
    Ok(name.split(" on ").next().unwrap_or_default().to_owned())
}

fn account(row: &Row) -> Result<Account, tokio_postgres::Error> {
    Ok(Account { id: row.try_get(0)?, balance: row.try_get(1)? })
}

fn entry(row: &Row) -> Result<Entry, tokio_postgres::Error> {
    let id = TransferId { client: row.try_get(0)?, number: row.try_get(1)? };
    let transfer = Transfer { id, source: row.try_get(2)?, target: row.try_get(3)?, amount: row.try_get(4)? };
    Ok(Entry { transfer, source: change(row, 5)?, target: change(row, 8)? })
}

/// The three columns from `first` on, which a blind transfer leaves empty.
fn change(row: &Row, first: usize) -> Result<Option<Change>, tokio_postgres::Error> {
    let version: Option<i64> = row.try_get(first)?;
    let read: Option<i64> = row.try_get(first + 1)?;
    let written: Option<i64> = row.try_get(first + 2)?;
    Ok(version.zip(read).zip(written).map(|((version, read), written)| Change { version, read, written }))
}
