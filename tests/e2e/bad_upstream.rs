//! Databases that refuse, fall silent, talk nonsense or die: the client is told what happened, as far as that is known.

use std::net::SocketAddr;
use std::time::Duration;

use golden::{Backend, Frontend};
use reprise::config::{Config, DialectChoice};
use reprise::replay::{Begin, Dialect};
use tokio::net::TcpListener;

use crate::support::DIALECTS;
use crate::support::fake::{Peer, error, serve};
use crate::support::proxy::Proxy;
use crate::support::wire::{Answer, Wire};

/// What a client is told that starts a session with a database like this.
async fn greeting(upstream: SocketAddr, change: impl FnOnce(&mut Config)) -> (Proxy, Answer) {
    let proxy = Proxy::start(upstream, change).await;
    let mut wire = Wire::connect(proxy.address).await;
    wire.send([Frontend::startup([("user", "postgres")])]).await;
    let answer = wire.until_closed().await;
    proxy.until_idle().await;
    (proxy, answer)
}

#[track_caller]
fn expect_fatal(answer: &Answer, sqlstate: &str, message: &str) {
    assert_eq!((answer.field('S'), answer.field('C')), ("FATAL", sqlstate), "{answer:?}");
    assert!(answer.field('M').contains(message), "{answer:?}");
    let errors = answer.0.iter().filter(|message| matches!(message, Backend::ErrorResponse(_))).count();
    assert_eq!(errors, 1, "{answer:?}");
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    drop(listener);
    let (proxy, answer) = greeting(address, |_| {}).await;
    expect_fatal(&answer, "08004", "could not connect to the database");
    assert_eq!(proxy.metric("reprise_upstream_connect_errors_total"), 1.0);
    assert_eq!(proxy.metric("reprise_sessions_refused_total{cause=\"upstream_unreachable\"}"), 1.0);
}

#[tokio::test]
async fn a_host_without_an_address() {
    let (_, answer) = greeting(([127, 0, 0, 1], 1).into(), |config| {
        config.upstream.address = "no-such-host.invalid:26257".parse().expect("an address");
    })
    .await;
    expect_fatal(&answer, "08004", "could not connect to the database");
}

#[tokio::test]
async fn it_closes_at_once_or_during_startup() {
    let at_once = serve(|_| async {}).await;
    let after_startup = serve(|mut peer: Peer| async move {
        peer.startup().await;
    })
    .await;
    let after_welcome = serve(|mut peer: Peer| async move {
        peer.startup().await;
        peer.answer([Backend::AuthenticationOk]).await;
    })
    .await;
    let within_a_frame = serve(|mut peer: Peer| async move {
        peer.startup().await;
        peer.answer_bytes(b"R\0\0\0\x08\0\0").await;
    })
    .await;
    for upstream in [at_once, after_startup, after_welcome, within_a_frame] {
        let (_, answer) = greeting(upstream, |_| {}).await;
        expect_fatal(&answer, "08006", "the database");
    }
}

#[tokio::test]
async fn its_own_refusal_is_passed_on_alone() {
    let refusing = serve(|mut peer: Peer| async move {
        peer.startup().await;
        peer.answer([error("FATAL", "57P03", "the database system is starting up")]).await;
    })
    .await;
    let (_, answer) = greeting(refusing, |_| {}).await;
    expect_fatal(&answer, "57P03", "the database system is starting up");
}

#[tokio::test]
async fn it_talks_nonsense_during_startup() {
    for bytes in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"R\0\0\0\x03", b"R\xff\xff\xff\xff", &[0; 64]] {
        let bytes = bytes.to_vec();
        let nonsense = serve(move |mut peer: Peer| {
            let bytes = bytes.clone();
            async move {
                peer.startup().await;
                peer.answer_bytes(&bytes).await;
                peer.until_closed().await;
            }
        })
        .await;
        let (_, answer) = greeting(nonsense, |_| {}).await;
        expect_fatal(&answer, "08006", "does not speak the PostgreSQL protocol");
    }
}

#[tokio::test]
async fn it_falls_silent_during_startup() {
    let silent = serve(|mut peer: Peer| async move { peer.until_closed().await }).await;
    let (_, answer) =
        greeting(silent, |config| config.proxy.startup_timeout = Duration::from_millis(200)).await;
    expect_fatal(&answer, "57014", "timeout");
}

/// A session of a dialect with a database like this.
async fn session(upstream: SocketAddr, dialect: Dialect) -> (Proxy, Wire) {
    let proxy = Proxy::start(upstream, |config| {
        config.upstream.dialect = DialectChoice::Fixed(dialect);
        // These databases know the simple protocol only.
        config.retry.policy.begin = Begin::Immediate;
    })
    .await;
    let (wire, greeting) = Wire::start(proxy.address, &[("user", "postgres")]).await;
    assert_eq!(greeting.status(), Some('I'), "{greeting:?}");
    (proxy, wire)
}

#[tokio::test]
async fn it_talks_nonsense_in_a_session() {
    for dialect in DIALECTS {
        let nonsense = serve(|mut peer: Peer| async move {
            peer.admit().await;
            peer.request().await;
            peer.answer_bytes(b"T\0\0\0\x01").await;
            peer.until_closed().await;
        })
        .await;
        let (proxy, mut wire) = session(nonsense, dialect).await;
        wire.send([Frontend::Query("SELECT 1".into())]).await;
        let answer = wire.until_closed().await;
        // The statement commits by itself: nobody knows whether it did.
        expect_fatal(&answer, "08007", "does not speak the PostgreSQL protocol; whether");
        proxy.until_metric("reprise_sessions_broken_total{cause=\"upstream_violation\"}", 1.0).await;
        proxy.until_idle().await;
    }
}

#[tokio::test]
async fn it_talks_nonsense_in_the_place_of_a_commits_answer() {
    for dialect in DIALECTS {
        let nonsense = serve(|mut peer: Peer| async move {
            peer.admit().await;
            peer.complete("BEGIN", 'T').await;
            peer.request().await;
            peer.answer_bytes(b"C\0\0\0\x01").await;
            peer.until_closed().await;
        })
        .await;
        let (_proxy, mut wire) = session(nonsense, dialect).await;
        assert_eq!(wire.query("BEGIN").await, "BEGIN T");
        wire.send([Frontend::Query("COMMIT".into())]).await;
        expect_fatal(&wire.until_closed().await, "08007", "committed is unknown");
    }
}

#[tokio::test]
async fn it_dies_in_a_statement_or_within_a_frame() {
    for dialect in DIALECTS {
        for bytes in [&b""[..], b"T\0\0", b"C\0\0\0\x0dSELE"] {
            let dying = serve(move |mut peer: Peer| async move {
                peer.admit().await;
                peer.complete("BEGIN", 'T').await;
                peer.request().await;
                peer.answer_bytes(bytes).await;
            })
            .await;
            let (proxy, mut wire) = session(dying, dialect).await;
            assert_eq!(wire.query("BEGIN").await, "BEGIN T");
            wire.send([Frontend::Query("SELECT 1".into())]).await;
            expect_fatal(&wire.until_closed().await, "08006", "the connection to the database was lost");
            let abandoned = &format!(
                "reprise_transactions_total{{dialect=\"{}\",kind=\"explicit\",outcome=\"abandoned\"}}",
                dialect.name()
            );
            proxy.until_metric(abandoned, 1.0).await;
            proxy.until_idle().await;
        }
    }
}

#[tokio::test]
async fn it_dies_within_a_long_row() {
    let dying = serve(|mut peer: Peer| async move {
        peer.admit().await;
        peer.request().await;
        let row = Backend::DataRow(vec![Some(vec![b'x'; 100_000])]).encode();
        peer.answer_bytes(&row[..row.len() - 10]).await;
    })
    .await;
    let (proxy, mut wire) = session(dying, Dialect::Postgres).await;
    wire.send([Frontend::Query("SELECT 1".into())]).await;
    let answer = wire.until_closed().await;
    assert!(answer.0.is_empty(), "an error would be taken for the rest of the row: {answer:?}");
    proxy.until_idle().await;
}

#[tokio::test]
async fn it_dies_during_a_commit() {
    for dialect in DIALECTS {
        let dying = serve(|mut peer: Peer| async move {
            peer.admit().await;
            while let Some(Frontend::Query(sql)) = peer.request().await {
                if sql.ends_with("COMMIT") {
                    return;
                }
                let tag = sql.split(' ').next().unwrap_or_default().to_owned();
                peer.answer([Backend::CommandComplete(tag), Backend::ReadyForQuery('T')]).await;
            }
        })
        .await;
        let (proxy, mut wire) = session(dying, dialect).await;
        assert_eq!(wire.query("BEGIN").await, "BEGIN T");
        assert_eq!(wire.query("INSERT INTO t VALUES (1)").await, "INSERT T");
        wire.send([Frontend::Query("COMMIT".into())]).await;
        let answer = wire.until_closed().await;
        expect_fatal(&answer, "08007", "while the transaction was being committed");
        assert!(answer.field('H').contains("unknown"), "{}", answer.error());
        let in_doubt = &format!(
            "reprise_transactions_total{{dialect=\"{}\",kind=\"explicit\",outcome=\"in_doubt\"}}",
            dialect.name()
        );
        proxy.until_metric(in_doubt, 1.0).await;
        proxy.until_idle().await;
    }
}

#[tokio::test]
async fn it_dies_in_a_statement_that_commits_by_itself() {
    for dialect in DIALECTS {
        let dying = serve(|mut peer: Peer| async move {
            peer.admit().await;
            peer.request().await;
        })
        .await;
        let (proxy, mut wire) = session(dying, dialect).await;
        wire.send([Frontend::Query("INSERT INTO t VALUES (1)".into())]).await;
        expect_fatal(&wire.until_closed().await, "08007", "while the transaction was being committed");
        let in_doubt = &format!(
            "reprise_transactions_total{{dialect=\"{}\",kind=\"autocommit\",outcome=\"in_doubt\"}}",
            dialect.name()
        );
        proxy.until_metric(in_doubt, 1.0).await;
    }
}

#[tokio::test]
async fn its_farewell_is_the_last_word() {
    for dialect in DIALECTS {
        let leaving = serve(|mut peer: Peer| async move {
            peer.admit().await;
            peer.complete("BEGIN", 'T').await;
            peer.answer([error("FATAL", "57P01", "terminating connection")]).await;
        })
        .await;
        let (proxy, mut wire) = session(leaving, dialect).await;
        assert_eq!(wire.query("BEGIN").await, "BEGIN T");
        expect_fatal(&wire.until_closed().await, "57P01", "terminating connection");
        proxy.until_idle().await;
    }
}

#[tokio::test]
async fn it_dies_while_a_transaction_is_run_again() {
    for dialect in DIALECTS {
        let dying = serve(|mut peer: Peer| async move {
            peer.admit().await;
            while let Some(Frontend::Query(sql)) = peer.request().await {
                let tag = sql.split(' ').next().unwrap_or_default();
                let answer = match tag {
                    "ROLLBACK" => return,
                    "SELECT" => (error("ERROR", "40001", "restart transaction"), 'E'),
                    _ => (Backend::CommandComplete(tag.to_owned()), 'T'),
                };
                peer.answer([answer.0, Backend::ReadyForQuery(answer.1)]).await;
            }
        })
        .await;
        let (proxy, mut wire) = session(dying, dialect).await;
        assert_eq!(wire.query("BEGIN").await, "BEGIN T");
        wire.send([Frontend::Query("SELECT 1".into())]).await;
        expect_fatal(&wire.until_closed().await, "08006", "the connection to the database was lost");
        proxy.until_idle().await;
    }
}
