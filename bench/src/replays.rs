//! How long a client waits for a statement that meets a conflict, by the number of statements that are run again for it.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use tokio_postgres::{Client, NoTls};

use crate::peers::Peer;

/// Statements of the transactions that are run again.
const STATEMENTS: [usize; 3] = [2, 10, 100];
/// Transactions of each kind.
const TIMES: usize = 40;

/// The time for a transaction's last statement, the median.
#[derive(Serialize)]
pub(crate) struct Replay {
    pub(crate) statements: usize,
    /// Without a conflict, in microseconds.
    pub(crate) calm_us: f64,
    /// With one that is hidden.
    pub(crate) conflict_us: f64,
}

/// Measures transactions through a peer that hides conflicts; `rival` is a client of the database.
pub(crate) async fn measure(peer: &Peer, rival: &str) -> Result<Vec<Replay>> {
    let (client, rival) = (connect(&peer.url()).await?, connect(rival).await?);
    let create = "DROP TABLE IF EXISTS contended; CREATE TABLE contended (id int PRIMARY KEY, value int); \
                  INSERT INTO contended SELECT generate_series(1, 10), 0";
    rival.batch_execute(create).await?;
    let mut replays = Vec::new();
    for statements in STATEMENTS {
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..TIMES {
            for (conflicts, times) in [false, true].into_iter().zip(&mut times) {
                times.push(last_statement(&client, &rival, statements, conflicts).await?);
            }
        }
        let [calm_us, conflict_us] = times.map(|mut times| {
            times.sort();
            times[TIMES / 2].as_secs_f64() * 1e6
        });
        replays.push(Replay { statements, calm_us, conflict_us });
    }
    Ok(replays)
}

async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The time for the last of so many statements of a transaction, with or without a rival that was there first.
async fn last_statement(
    client: &Client,
    rival: &Client,
    statements: usize,
    conflicts: bool,
) -> Result<Duration> {
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    for _ in 1..statements {
        client.batch_execute("SELECT value FROM contended WHERE id = 2").await?;
    }
    if conflicts {
        rival.batch_execute("UPDATE contended SET value = value + 1 WHERE id = 1").await?;
    }
    let begin = Instant::now();
    client.batch_execute("UPDATE contended SET value = value + 1 WHERE id = 1").await?;
    let time = begin.elapsed();
    client.batch_execute("COMMIT").await?;
    Ok(time)
}
