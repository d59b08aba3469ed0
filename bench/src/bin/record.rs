//! Records the sessions of `bench/recorded` anew: pgbench with one client on a throwaway PostgreSQL, through a relay that
//! writes down what it passes on.

#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bench::recorded::{RECORDED, Session, Side};
use reprise::demo::server::Postgres;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

/// Transactions of one recording.
const TRANSACTIONS: u32 = 50;
/// The end of a startup.
const READY: &[u8] = b"Z\0\0\0\x05I";

#[tokio::main]
async fn main() -> Result<()> {
    let database = Postgres::start(&[]).await?;
    pgbench(database.addr(), &["--initialize", "--quiet"]).await?;
    for (name, _) in RECORDED {
        let (builtin, protocol) = name.split_once('-').context("a workload and a protocol")?;
        let builtin = if builtin == "select" { "select-only" } else { "tpcb-like" };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let recorder = tokio::spawn(last_session(listener, database.addr()));
        let transactions = format!("--transactions={TRANSACTIONS}");
        pgbench(address, &["-n", "--protocol", protocol, "--builtin", builtin, &transactions]).await?;
        let session = recorder.await??;
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("recorded").join(name);
        std::fs::write(&path, session.write())?;
        println!("{name}: {} round trips", session.round_trips());
    }
    Ok(())
}

async fn pgbench(address: SocketAddr, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("pgbench");
    command.args(["--host", &address.ip().to_string(), "--port", &address.port().to_string()]);
    command.args(["--username", "postgres"]).args(arguments).arg("postgres").env("PGSSLMODE", "disable");
    let output = command.output().await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Relays pgbench's two connections, one after the other: the first looks at the tables, the second is the client's.
async fn last_session(listener: TcpListener, database: SocketAddr) -> Result<Session> {
    relay(listener.accept().await?.0, database).await?;
    relay(listener.accept().await?.0, database).await
}

async fn relay(mut client: TcpStream, database: SocketAddr) -> Result<Session> {
    let mut server = TcpStream::connect(database).await?;
    let (mut session, mut started) = (Session::default(), false);
    let (mut from_client, mut from_server) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let piece = &from_client[..read?];
                // The client's goodbye is no part of the recording: there is no answer to it.
                if piece.is_empty() || piece.starts_with(b"X") {
                    return Ok(session);
                }
                if started {
                    session.push(Side::Frontend, piece);
                }
                server.write_all(piece).await?;
            }
            read = server.read(&mut from_server) => {
                let piece = &from_server[..read?];
                ensure!(!piece.is_empty(), "the server left");
                if started {
                    session.push(Side::Backend, piece);
                }
                started |= piece.ends_with(READY);
                client.write_all(piece).await?;
            }
        }
    }
}
