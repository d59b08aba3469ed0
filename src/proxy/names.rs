//! Looks up the names of the tables that CockroachDB names by their numbers, on connections of its own.
//!
//! A number is the OID of its table in the database that the session was in. What is found is kept for good; so this is idle
//! but for the first conflicts of each table. A database is asked at most once a second.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::time::MissedTickBehavior;
use tokio_postgres::config::{ChannelBinding, SslMode};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, SimpleQueryRow};

use super::live::{Live, Setup};
use super::upstream::Unreachable;
use crate::config::Lookup;
use crate::insight::{Insight, TableNames};

/// How often a database is asked at most.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a lookup may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Tables that are looked up at a time.
const TABLES_MAX: usize = 100;

/// Why nothing could be looked up.
#[derive(Debug, Error)]
enum Failure {
    #[error("{0}")]
    Unreachable(#[from] Unreachable),
    #[error("cannot read report.lookup_password_file: {0}")]
    Password(#[from] std::io::Error),
    #[error("{}", said(.0))]
    Database(#[from] tokio_postgres::Error),
    #[error("no answer within {PATIENCE:?}")]
    TimedOut,
}

/// What the database said, without the statement that it said it of.
fn said(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
}

/// Looks up what is wanted for as long as the proxy runs.
pub(super) async fn look_up(live: Arc<Live>, insight: Arc<Insight>) {
    let mut ticks = tokio::time::interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let setup = live.now();
        let Some(lookup) = &setup.config.report.lookup else { continue };
        let Some((database, mut tables)) = insight.nameless().into_iter().next() else { continue };
        tables.truncate(TABLES_MAX);
        let asked = tokio::time::timeout(PATIENCE, ask(&setup, lookup, &database, &tables)).await;
        let found = asked.unwrap_or(Err(Failure::TimedOut)).unwrap_or_else(|failure| {
            tracing::warn!(database = &*database, "the names of tables cannot be looked up: {failure}");
            Vec::new()
        });
        for table in tables {
            let names = found.iter().find(|(number, _)| *number == table).map(|(_, names)| names.clone());
            insight.learn_names(&database, table, names);
        }
    }
}

/// Asks a database for the names of tables. Those that it has not, or does not show, are left out.
async fn ask(
    setup: &Setup,
    lookup: &Lookup,
    database: &str,
    tables: &[u32],
) -> Result<Vec<(u32, TableNames)>, Failure> {
    let mut config = tokio_postgres::Config::new();
    config.user(&lookup.user).dbname(database).application_name("reprise");
    // The connection is encrypted already, if it is to be.
    config.ssl_mode(SslMode::Disable).channel_binding(ChannelBinding::Disable);
    if let Some(path) = &lookup.password_file {
        config.password(std::fs::read_to_string(path)?.trim_end_matches(['\r', '\n']));
    }
    let stream = setup.database().connect().await?;
    let (client, connection) = config.connect_raw(stream, NoTls).await?;
    let _connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let numbers = tables.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let query = format!(
        "SELECT c.oid, n.nspname, c.relname FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid IN ({numbers})"
    );
    let mut found = Vec::new();
    for row in rows(&client, &query).await? {
        let [Some(number), Some(schema), Some(table)] = [0, 1, 2].map(|at| row.get(at)) else { continue };
        let Ok(number) = number.parse() else { continue };
        let table = if schema == "public" { table.to_owned() } else { format!("{schema}.{table}") };
        found.push((number, TableNames { table, ..TableNames::default() }));
    }
    add_indexes(&client, &numbers, &mut found).await;
    Ok(found)
}

/// Adds the names of indexes, where the database tells them: newer versions of CockroachDB want to be asked twice.
async fn add_indexes(client: &Client, numbers: &str, found: &mut [(u32, TableNames)]) {
    // Versions that do not know the setting need it not.
    let _ = client.batch_execute("SET allow_unsafe_internals = on").await;
    let query = format!(
        "SELECT descriptor_id, index_id, index_name FROM crdb_internal.table_indexes \
         WHERE descriptor_id IN ({numbers})"
    );
    let indexes = rows(client, &query).await.unwrap_or_default();
    for row in &indexes {
        let [Some(table), Some(index), Some(name)] = [0, 1, 2].map(|at| row.get(at)) else { continue };
        let (Ok(table), Ok(index)) = (table.parse::<u32>(), index.parse()) else { continue };
        if let Some((_, names)) = found.iter_mut().find(|(number, _)| *number == table) {
            names.indexes.insert(index, name.to_owned());
        }
    }
}

async fn rows(client: &Client, query: &str) -> Result<Vec<SimpleQueryRow>, tokio_postgres::Error> {
    let messages = client.simple_query(query).await?;
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    Ok(rows.collect())
}
