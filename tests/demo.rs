//! The demonstration on real PostgreSQL, with relays in place of Reprise: an honest one and one that loses commits.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use reprise::demo::server::Postgres;
use reprise::demo::{self, Options, Proxy};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::NoTls;

/// A proxy that hides nothing.
struct Relay(SocketAddr);

impl Proxy for Relay {
    fn addr(&self) -> SocketAddr {
        self.0
    }

    fn conflicts_hidden(&self) -> u64 {
        0
    }
}

/// What a relay does with the bytes of a client before it passes them on.
type Tamper = fn(&mut [u8]);

async fn start_relay(upstream: SocketAddr, tamper: Tamper) -> io::Result<Relay> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(relay(client, upstream, tamper));
        }
    });
    Ok(Relay(addr))
}

async fn relay(mut client: TcpStream, upstream: SocketAddr, tamper: Tamper) -> io::Result<()> {
    let mut server = TcpStream::connect(upstream).await?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    tokio::select! {
        done = copy(from_client, to_server, tamper) => done,
        done = copy(from_server, to_client, |_| {}) => done,
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    tamper: Tamper,
) -> io::Result<()> {
    let mut buffer = [0; 8192];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        tamper(&mut buffer[..length]);
        to.write_all(&buffer[..length]).await?;
    }
}

/// Runs small versions of every row, and tells the exit code and the schemas left behind.
async fn run(tamper: Tamper) -> (ExitCode, i64) {
    let server = Postgres::start(&[]).await.expect("a server");
    let url = server.url("postgres");
    let options = Options { upstream: Some(url.clone()), clients: 4, accounts: 4, transfers: 40, seed: 1 };
    let code = demo::run(options, |upstream| start_relay(upstream, tamper)).await.expect("a whole run");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    let left = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'reprise%'";
    (code, client.query_one(left, &[]).await.expect("a count").get(0))
}

/// `ExitCode` can be compared by its look only.
fn assert_same(found: ExitCode, expected: ExitCode) {
    assert_eq!(format!("{found:?}"), format!("{expected:?}"));
}

#[tokio::test]
async fn an_honest_proxy_passes_and_nothing_is_left_behind() {
    let (code, schemas) = run(|_| {}).await;
    assert_same(code, ExitCode::SUCCESS);
    assert_eq!(schemas, 0);
}

#[tokio::test]
async fn a_proxy_that_loses_commits_is_found_out() {
    let (code, schemas) = run(|bytes| {
        // The driver does not look at the tag, so that the client takes the rollback for a commit.
        if let Some(at) = bytes.windows(7).position(|window| window == b"COMMIT\0") {
            bytes[at..at + 7].copy_from_slice(b"ABORT \0");
        }
    })
    .await;
    assert_same(code, ExitCode::FAILURE);
    assert_eq!(schemas, 0);
}

#[tokio::test]
async fn a_proxy_that_lets_nothing_through_proves_nothing() {
    let (code, schemas) = run(|bytes| {
        if let Some(at) = bytes.windows(5).position(|window| window == b"BEGIN") {
            bytes[at..at + 5].copy_from_slice(b"BEGUN");
        }
    })
    .await;
    assert_same(code, ExitCode::FAILURE);
    assert_eq!(schemas, 0);
}
