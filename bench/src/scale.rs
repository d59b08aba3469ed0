//! Scale: many idle sessions, answers and data larger than any buffer, and a transaction of very many statements.

use std::pin::pin;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use futures_util::{SinkExt, TryStreamExt};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::NoTls;

use crate::peers::Peer;
use crate::process;

/// Idle sessions whose memory is measured, as far as the limit on open files lets them.
const IDLE_SESSIONS: u64 = 10_000;
/// Sessions that come before them, so that what a proxy allocates once is not counted.
const FIRST_SESSIONS: u64 = 100;
/// Sessions at work before and beside the idle ones.
const BUSY_SESSIONS: usize = 8;
/// Statements of each of them.
const BUSY_STATEMENTS: usize = 5_000;
/// Rows of the large answer and lines of the large COPY, of about 1 KiB each.
const LARGE_ROWS: u64 = 1 << 20;
/// Statements of the long transaction.
const LONG_STATEMENTS: usize = 100_000;
/// Statements of it that are sent at a time.
const BATCH_STATEMENTS: usize = 1_000;

/// What every answer ends with outside of a transaction: ReadyForQuery.
pub(crate) const READY: &[u8] = b"Z\0\0\0\x05I";
/// What a startup is answered: AuthenticationOk, a ParameterStatus, without which PgBouncer crashes, and ReadyForQuery.
const WELCOME: &[u8] = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x18server_version\x0015.0\0Z\0\0\0\x05I";
/// What a statement is answered: CommandComplete and ReadyForQuery.
const ANSWER: &[u8] = b"C\0\0\0\x0dSELECT 0\0Z\0\0\0\x05I";
/// A startup packet of the user `postgres`.
pub(crate) const STARTUP: &[u8] = b"\0\0\0\x17\0\x03\0\0user\0postgres\0\0";
const QUERY: &[u8] = b"Q\0\0\0\x0dSELECT 1\0";

/// What a peer came to.
#[derive(Serialize)]
pub(crate) struct Scale {
    #[serde(flatten)]
    pub(crate) idle: Idle,
    /// KiB by which the peer grew at most while a client got 1 GiB.
    pub(crate) result_kib: u64,
    /// The same while a client gave 1 GiB.
    pub(crate) copy_kib: u64,
    /// The same in a transaction of very many statements.
    pub(crate) transaction_kib: u64,
    /// Processor time for each statement among the first tenth of these, in microseconds.
    pub(crate) first_us: f64,
    /// The same of the last tenth.
    pub(crate) last_us: f64,
}

/// What many idle sessions take, and what they cost those at work.
#[derive(Serialize)]
pub(crate) struct Idle {
    pub(crate) idle_sessions: u64,
    /// KiB for each of them.
    pub(crate) idle_kib: f64,
    /// Processor time for each statement of busy sessions before there are idle ones, in microseconds.
    pub(crate) alone_us: f64,
    /// The same beside them.
    pub(crate) beside_us: f64,
}

/// Measures one peer; `peer` stands before a PostgreSQL.
pub(crate) async fn measure(peer: &Peer) -> Result<Scale> {
    let idle = idle(peer.name).await?;
    let (client, connection) = tokio_postgres::connect(&peer.url(), NoTls).await?;
    tokio::spawn(connection);
    let result_kib = growth(peer, large_result(&client)).await?;
    let copy_kib = growth(peer, large_copy(&client)).await?;
    let mut tenths = Vec::new();
    let transaction_kib = growth(peer, long_transaction(&client, peer, &mut tenths)).await?;
    let (first_us, last_us) = (tenths[0], tenths[tenths.len() - 1]);
    Ok(Scale { idle, result_kib, copy_kib, transaction_kib, first_us, last_us })
}

async fn growth(peer: &Peer, act: impl Future<Output = Result<()>>) -> Result<u64> {
    let before = process::resident_kib(peer.pid)?;
    process::forget_peak(peer.pid)?;
    act.await?;
    Ok(process::peak_kib(peer.pid)?.saturating_sub(before))
}

async fn large_result(client: &tokio_postgres::Client) -> Result<()> {
    let text = format!("SELECT repeat('x', 1000) FROM generate_series(1, {LARGE_ROWS})");
    let mut rows = pin!(client.query_raw(&text, None::<i32>).await?);
    let mut count = 0;
    while rows.try_next().await?.is_some() {
        count += 1;
    }
    ensure!(count == LARGE_ROWS, "{count} rows came");
    Ok(())
}

async fn large_copy(client: &tokio_postgres::Client) -> Result<()> {
    client.batch_execute("CREATE TEMP TABLE taken (id int, text text, rest int)").await?;
    // Nothing is stored: what the database does with it is not measured.
    let mut sink = pin!(client.copy_in("COPY taken FROM STDIN WHERE false").await?);
    let line = format!("1\t{}\t1\n", "x".repeat(1000));
    let lines = line.repeat(64);
    for _ in 0..LARGE_ROWS / 64 {
        sink.send(std::io::Cursor::new(lines.clone())).await?;
    }
    sink.finish().await?;
    Ok(())
}

async fn long_transaction(client: &tokio_postgres::Client, peer: &Peer, tenths: &mut Vec<f64>) -> Result<()> {
    let statement = client.prepare("SELECT 1").await?;
    client.batch_execute("BEGIN").await?;
    for _ in 0..10 {
        let before = process::cpu_time(peer.pid)?;
        for _ in 0..LONG_STATEMENTS / BATCH_STATEMENTS / 10 {
            try_join_all((0..BATCH_STATEMENTS).map(|_| client.execute(&statement, &[]))).await?;
        }
        let spent = process::cpu_time(peer.pid)? - before;
        tenths.push(spent.as_secs_f64() * 1e6 * 10.0 / LONG_STATEMENTS as f64);
    }
    client.batch_execute("COMMIT").await?;
    Ok(())
}

/// Opens sessions before a server that does nothing.
async fn idle(name: &'static str) -> Result<Idle> {
    let (_, limit) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, limit, limit)?;
    let sessions = IDLE_SESSIONS.min(limit.saturating_sub(500) / 2 - FIRST_SESSIONS);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let peer = Peer::start(name, listener.local_addr()?, None).await?;
    let server = tokio::spawn(serve(listener));
    let alone_us = busy(&peer).await?;
    let (mut open, mut before) = (Vec::new(), 0);
    for number in 0..FIRST_SESSIONS + sessions {
        if number == FIRST_SESSIONS {
            before = process::resident_kib(peer.pid)?;
        }
        let session = begin(&peer).await;
        open.push(session.with_context(|| format!("session {number} of {name}"))?);
    }
    let grown = process::resident_kib(peer.pid)?.saturating_sub(before);
    let beside_us = busy(&peer).await?;
    server.abort();
    Ok(Idle { idle_sessions: sessions, idle_kib: grown as f64 / sessions as f64, alone_us, beside_us })
}

/// Processor time for each statement of some sessions at work, in microseconds.
async fn busy(peer: &Peer) -> Result<f64> {
    let mut streams = try_join_all((0..BUSY_SESSIONS).map(|_| begin(peer))).await?;
    let before = process::cpu_time(peer.pid)?;
    let work = streams.iter_mut().map(async |stream| {
        for _ in 0..BUSY_STATEMENTS {
            stream.write_all(QUERY).await?;
            until_ready(stream).await?;
        }
        Ok::<_, anyhow::Error>(())
    });
    try_join_all(work).await?;
    let spent = process::cpu_time(peer.pid)? - before;
    Ok(spent.as_secs_f64() * 1e6 / (BUSY_SESSIONS * BUSY_STATEMENTS) as f64)
}

/// A session that has run a statement.
async fn begin(peer: &Peer) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(peer.address).await?;
    stream.write_all(STARTUP).await?;
    until_ready(&mut stream).await?;
    stream.write_all(QUERY).await?;
    until_ready(&mut stream).await?;
    Ok(stream)
}

async fn until_ready(stream: &mut TcpStream) -> Result<()> {
    let mut got = Vec::new();
    while !got.ends_with(READY) {
        ensure!(stream.read_buf(&mut got).await? > 0, "the connection was closed: {}", got.escape_ascii());
    }
    Ok(())
}

/// A server that lets everybody in and answers every statement with nothing.
async fn serve(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let (mut bytes, mut answer) = ([0; 1024], WELCOME);
            while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) && bytes[0] != b'X' {
                if stream.write_all(answer).await.is_err() {
                    break;
                }
                answer = ANSWER;
            }
        });
    }
}
