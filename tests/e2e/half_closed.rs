//! Clients that close their sending side and still read: they get what they have asked for, as from the database itself.

use std::net::SocketAddr;
use std::time::Duration;

use certificates::Authority;
use golden::notation::Target;
use golden::{Backend, Frontend};
use reprise::replay::{Dialect, Mode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::support::database::{APPLICATION, Database};
use crate::support::fake::{Peer, serve};
use crate::support::program::Program;
use crate::support::proxy::Proxy;
use crate::support::secure::encrypt;
use crate::support::wire::{Answer, Socket, bind, execute, extended, frame_end, parse};
use crate::support::{DIALECTS, within};

/// A startup packet for a database.
fn startup(database: &str) -> Frontend {
    Frontend::startup([("user", "postgres"), ("database", database), ("application_name", APPLICATION)])
}

fn query(sql: &str) -> Frontend {
    Frontend::Query(sql.into())
}

/// Says everything at once, then nothing more, and reads to the end.
async fn say_all(stream: impl Socket, messages: &[Frontend]) -> Vec<u8> {
    say_bytes(stream, &bytes(messages)).await
}

fn bytes(messages: &[Frontend]) -> Vec<u8> {
    messages.iter().flat_map(Frontend::encode).collect()
}

async fn say_bytes(mut stream: impl Socket, bytes: &[u8]) -> Vec<u8> {
    let mut heard = Vec::new();
    let exchange = async {
        stream.write_all(bytes).await?;
        stream.shutdown().await?;
        stream.read_to_end(&mut heard).await
    };
    within("the end of the answers", exchange).await.expect("answers");
    heard
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("it listens")
}

/// The bytes without the key to cancel by.
fn masked(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    while let Some(end) = frame_end(&bytes, at) {
        if bytes[at] == b'K' {
            bytes[at + 5..end].fill(0);
        }
        at = end;
    }
    bytes
}

/// The messages behind the greeting.
fn answers(mut heard: Vec<u8>) -> Answer {
    while Backend::read(&mut heard).expect("a greeting") != Backend::ReadyForQuery('I') {}
    Answer(std::iter::from_fn(|| Backend::read(&mut heard)).collect())
}

/// Requests that need nothing more of the client.
fn conversations() -> Vec<Vec<Frontend>> {
    let copy = [Frontend::CopyData(b"a\nb\n".to_vec()), Frontend::CopyDone];
    let flushed = [
        parse("", "SELECT v FROM kv ORDER BY k"),
        Frontend::Describe(Target::Statement, String::new()),
        bind("", "", vec![]),
        execute("", 2),
        Frontend::Flush,
    ];
    vec![
        Vec::new(),
        vec![query("SELECT 1"), query("SELECT 1 / 0"), query("SELECT repeat('x', 1000000)")],
        vec![
            query("BEGIN"),
            query("UPDATE kv SET v = v + 1"),
            query("SELECT pg_sleep(0.3)"),
            query("COMMIT"),
        ],
        vec![query("BEGIN"), query("UPDATE kv SET v = 0"), query("TABLE kv")],
        extended("SELECT $1 || 'x'", &["a"]).into_iter().chain([Frontend::Sync]).collect(),
        [query("COPY journal FROM STDIN")].into_iter().chain(copy).chain([query("TABLE journal")]).collect(),
        flushed.to_vec(),
        vec![query("SELECT 1"), Frontend::Terminate],
    ]
}

#[tokio::test]
async fn they_hear_what_the_database_says() {
    for messages in conversations() {
        let state = "SELECT (SELECT sum(v) FROM kv), (SELECT count(*) FROM journal)";
        let mut heard = Vec::new();
        let setups = [
            (Dialect::Postgres, None),
            (Dialect::Postgres, Some(Mode::Transparent)),
            (Dialect::Cockroach, Some(Mode::Transparent)),
            (Dialect::Cockroach, Some(Mode::Observe)),
            (Dialect::Postgres, Some(Mode::Off)),
        ];
        for (dialect, mode) in setups {
            let database = Database::create().await;
            let proxy = Proxy::before(&database, dialect, |config| {
                config.retry.policy.mode = mode.unwrap_or(Mode::Transparent)
            })
            .await;
            let address = mode.map_or(database.address, |_| proxy.address);
            let all: Vec<_> = [startup(&database.name)].into_iter().chain(messages.iter().cloned()).collect();
            let bytes = masked(say_all(connect(address).await, &all).await);
            database.until_deserted().await;
            heard.push((bytes, database.query(state).await));
            assert_eq!(heard[0], heard[heard.len() - 1], "{dialect:?} {mode:?} {messages:?}");
        }
    }
}

#[tokio::test]
async fn before_the_session_they_are_told_what_becomes_of_it_and_asked_nothing() {
    let database = Database::create().await;
    let proxy = Proxy::start(database.address, |_| {}).await;
    let mut heard = Vec::new();
    for address in [database.address, proxy.address] {
        heard.push(say_all(connect(address).await, &[startup("nowhere")]).await);
    }
    assert_eq!(heard[0], heard[1]);
    assert_eq!(Backend::read(&mut heard[0]), Some(Backend::AuthenticationOk));
    assert_eq!(Answer(vec![Backend::read(&mut heard[0]).expect("a refusal")]), "3D000");
    // A database that asks for the password of somebody who will never say it.
    let upstream = serve(async |mut peer: Peer| {
        peer.startup().await;
        peer.answer_bytes(b"R\0\0\0\x08\0\0\0\x03").await;
        peer.until_closed().await;
    })
    .await;
    let proxy =
        Proxy::start(upstream, |config| config.proxy.startup_timeout = Duration::from_secs(3600)).await;
    let heard = say_all(connect(proxy.address).await, &[startup("any"), query("SELECT 1")]).await;
    assert_eq!(heard, b"R\0\0\0\x08\0\0\0\x03");
}

#[tokio::test]
async fn their_conflicts_are_hidden() {
    for dialect in DIALECTS {
        let database = Database::create().await;
        let proxy = Proxy::before(&database, dialect, |_| {}).await;
        let texts = ["BEGIN", "INSERT INTO journal VALUES ('once')", "SELECT conflict('first', 2)", "COMMIT"];
        let messages: Vec<_> = [startup(&database.name)].into_iter().chain(texts.map(query)).collect();
        let heard = answers(say_all(connect(proxy.address).await, &messages).await);
        assert_eq!(heard, "BEGIN T INSERT 0 1 T (passed) SELECT 1 T COMMIT I");
        assert_eq!(proxy.conflicts(), (2.0, 0.0));
        assert_eq!(database.query("TABLE journal").await, "once");
        proxy.until_idle().await;
    }
}

#[tokio::test]
async fn over_tls_and_a_local_socket() {
    let (database, authority) = (Database::create().await, Authority::create());
    let directory = tempfile::tempdir().expect("a directory");
    let identity = authority.server("localhost");
    let place = |path: &std::path::Path| path.display().to_string();
    let variables = [
        ("REPRISE_PROXY_UNIX_SOCKET_DIRECTORY", place(directory.path())),
        ("REPRISE_TLS_MODE", "allow".to_owned()),
        ("REPRISE_TLS_CERTIFICATE", place(&identity.certificate)),
        ("REPRISE_TLS_KEY", place(&identity.key)),
    ];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let program = Program::start(&["--upstream", &database.address.to_string()], &variables).await;
    let address = program.listens().await;
    let messages = [startup(&database.name), query("SELECT pg_sleep(0.2)"), query("SELECT 2")];
    let encrypted = encrypt(address, authority.trusting(None)).await.expect("TLS");
    let socket = directory.path().join(format!(".s.PGSQL.{}", address.port()));
    let local = UnixStream::connect(socket).await.expect("it listens");
    for heard in [say_all(encrypted, &messages).await, say_all(local, &messages).await] {
        assert_eq!(answers(heard), "() SELECT 1 I (2) SELECT 1 I");
    }
}

#[tokio::test]
async fn they_are_served_for_as_long_as_answers_come_and_no_longer() {
    for mode in [Mode::Transparent, Mode::Off] {
        let database = Database::create().await;
        let proxy = Proxy::before(&database, Dialect::Postgres, |config| {
            config.retry.policy.mode = mode;
            config.proxy.half_closed_timeout = Duration::from_secs(2);
        })
        .await;
        let naps = [startup(&database.name)]
            .into_iter()
            .chain(std::iter::repeat_n(query("SELECT pg_sleep(0.5)"), 5));
        let heard = answers(say_all(connect(proxy.address).await, &naps.collect::<Vec<_>>()).await);
        assert_eq!(
            heard.0.iter().filter(|message| matches!(message, Backend::ReadyForQuery('I'))).count(),
            5
        );
        // Who has said BEGIN can never say COMMIT: nobody waits for that, with its locks.
        let sleep = ["BEGIN", "UPDATE kv SET v = 0", "SELECT pg_sleep(600)"].map(query);
        let sleep: Vec<_> = [startup(&database.name)].into_iter().chain(sleep).collect();
        let heard = answers(say_all(connect(proxy.address).await, &sleep).await);
        assert_eq!(heard, "BEGIN T UPDATE 3 T");
        proxy.until_idle().await;
        if mode == Mode::Transparent {
            database.until_deserted().await;
            assert_eq!(database.query("SELECT v FROM kv WHERE k = 1").await, "10");
        }
    }
}

#[tokio::test]
async fn what_they_have_begun_and_cannot_end_is_over_at_once() {
    for dialect in DIALECTS {
        for end in [
            bytes(&[query("COPY kv FROM STDIN"), Frontend::CopyData(b"4\t40\n".to_vec())]),
            bytes(&extended("SELECT 1", &[])),
            bytes(&[query("COMMIT")])[..7].to_vec(),
        ] {
            let database = Database::create().await;
            let proxy =
                Proxy::before(&database, dialect, |config| config.proxy.half_closed_timeout = Duration::ZERO)
                    .await;
            let begun = [startup(&database.name), query("BEGIN"), query("UPDATE kv SET v = 0")];
            say_bytes(connect(proxy.address).await, &[bytes(&begun), end].concat()).await;
            database.until_deserted().await;
            assert_eq!(database.query("SELECT v FROM kv WHERE k = 1").await, "10");
            proxy.until_idle().await;
        }
    }
}
