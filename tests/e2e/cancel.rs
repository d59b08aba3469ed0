//! Cancelling: what runs is cancelled wherever it is, in the server or in the proxy's own retry.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use golden::notation::CancelKey;
use golden::{Backend, Frontend};
use reprise::config::Config;
use reprise::replay::Dialect;

use crate::support::fake::serve;
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;
use crate::support::{DIALECTS, Scene, within};

async fn cancel(scene: &Scene) {
    Wire::connect(scene.proxy.address).await.cancel(scene.client.key).await;
}

const SLEEPS: &str = "SELECT count(*) FROM pg_stat_activity \
                      WHERE datname = current_database() AND wait_event = 'PgSleep'";

#[tokio::test]
async fn a_statement_that_runs_is_cancelled_by_the_server() {
    for dialect in DIALECTS {
        let mut scene = Scene::start(dialect).await;
        scene.client.send([Frontend::Query("SELECT pg_sleep(600)".into())]).await;
        scene.database.until(SLEEPS, "1").await;
        cancel(&scene).await;
        let answer = scene.client.until_ready().await;
        assert_eq!(answer, "57014 I");
        assert_eq!(answer.field('D'), "", "the error is the server's own");
        assert_eq!(scene.proxy.metric("reprise_cancel_requests_total"), 1.0);
        // In a transaction it fails that statement, and a savepoint brings the rest back.
        let client = &mut scene.client;
        assert_eq!(client.query("BEGIN").await, "BEGIN T");
        assert_eq!(client.query("SAVEPOINT mine").await, "SAVEPOINT T");
        client.send([Frontend::Query("SELECT pg_sleep(600)".into())]).await;
        scene.database.until(SLEEPS, "1").await;
        cancel(&scene).await;
        assert_eq!(scene.client.until_ready().await, "57014 E");
        assert_eq!(scene.client.query("ROLLBACK TO mine").await, "ROLLBACK T");
        assert_eq!(scene.client.query("COMMIT").await, "COMMIT I");
    }
}

#[tokio::test]
async fn a_driver_cancels_with_its_token() {
    let scene = Scene::start(Dialect::Postgres).await;
    let client = scene.proxy.client().await;
    let token = client.cancel_token();
    let (slept, ()) = tokio::join!(client.batch_execute("SELECT pg_sleep(600)"), async {
        scene.database.until(SLEEPS, "1").await;
        token.cancel_query(tokio_postgres::NoTls).await.expect("to ask");
    });
    assert_eq!(slept.expect_err("it is cancelled").code().expect("a SQLSTATE").code(), "57014");
}

#[tokio::test]
async fn a_pause_before_a_replay_is_ended() {
    let pause = |config: &mut Config| {
        config.retry.policy.initial_backoff = Duration::from_secs(3600);
        config.retry.policy.max_backoff = Duration::from_secs(3600);
        config.retry.policy.timeout = Duration::from_secs(7200);
    };
    for dialect in DIALECTS {
        let mut scene = Scene::with(dialect, pause).await;
        let client = &mut scene.client;
        assert_eq!(client.query("BEGIN").await, "BEGIN T");
        assert_eq!(client.query("INSERT INTO journal VALUES ('never')").await, "INSERT 0 1 T");
        client.send([Frontend::Query("SELECT conflict('first', 1000)".into())]).await;
        scene.proxy.until_pausing(dialect).await;
        cancel(&scene).await;
        let answer = scene.client.until_ready().await;
        assert_eq!(answer, "57014 E");
        assert!(answer.field('D').contains("(cancelled)"), "{}", answer.error());
        let client = &mut scene.client;
        assert_eq!(client.query("SELECT 1").await, "25P02 E");
        assert_eq!(client.query("COMMIT").await, "ROLLBACK I");
        assert_eq!(scene.database.query("SELECT * FROM journal").await, "");
        assert_eq!(scene.proxy.metric("reprise_conflicts_surfaced_total{reason=\"cancelled\"}"), 1.0);
    }
}

#[tokio::test]
async fn a_replay_that_waits_for_a_lock_is_ended() {
    for dialect in DIALECTS {
        let mut scene = Scene::start(dialect).await;
        let mut other = scene.database.wire().await;
        assert_eq!(scene.client.query("BEGIN").await, "BEGIN T");
        assert_eq!(scene.client.query("UPDATE kv SET v = 0 WHERE k = 1").await, "UPDATE 1 T");
        // The lock goes from the failed attempt to the other one, who keeps it from the replay.
        assert_eq!(other.query("BEGIN").await, "BEGIN T");
        other.send([Frontend::Query("LOCK TABLE kv".into())]).await;
        scene.database.until_blocked(1).await;
        scene.client.send([Frontend::Query("SELECT conflict('first', 1)".into())]).await;
        assert_eq!(other.until_ready().await, "LOCK TABLE T");
        scene.database.until_blocked(1).await;
        cancel(&scene).await;
        let answer = within("the end of the retry", scene.client.until_ready()).await;
        assert_eq!(answer, "57014 E");
        assert_eq!(scene.client.query("ROLLBACK").await, "ROLLBACK I");
        assert_eq!(other.query("COMMIT").await, "COMMIT I");
        assert_eq!(scene.database.query("SELECT v FROM kv WHERE k = 1").await, "10");
    }
}

#[tokio::test]
async fn a_key_that_belongs_to_no_session_does_nothing() {
    let mut scene = Scene::start(Dialect::Postgres).await;
    let mut direct = scene.database.wire().await;
    direct.send([Frontend::Query("SELECT pg_sleep(600)".into())]).await;
    scene.client.send([Frontend::Query("SELECT pg_sleep(600)".into())]).await;
    scene.database.until(SLEEPS, "2").await;
    let CancelKey { pid, key } = scene.client.key;
    // A wrong secret, a stranger, and a session of the server that did not come through the proxy.
    for key in [CancelKey { pid, key: key ^ 1 }, CancelKey { pid: 1, key: 1 }, direct.key] {
        Wire::connect(scene.proxy.address).await.cancel(key).await;
    }
    assert_eq!(scene.database.query(SLEEPS).await, "2");
    assert_eq!(scene.proxy.metric("reprise_cancel_requests_total"), 3.0);
    cancel(&scene).await;
    assert_eq!(scene.client.until_ready().await, "57014 I");
    assert_eq!(scene.database.query(SLEEPS).await, "1");
}

#[tokio::test]
async fn a_request_that_comes_too_late_does_nothing() {
    let mut scene = Scene::start(Dialect::Postgres).await;
    assert_eq!(scene.client.query("BEGIN").await, "BEGIN T");
    cancel(&scene).await;
    assert_eq!(scene.client.query("SELECT conflict('first', 1)").await, "(passed) SELECT 1 T");
    cancel(&scene).await;
    assert_eq!(scene.client.query("COMMIT").await, "COMMIT I");
    cancel(&scene).await;
    assert_eq!(scene.client.query("SELECT 1").await, "(1) SELECT 1 I");
}

/// Sends a request to cancel with a key of any length; waits until it is acted on.
async fn cancel_with(proxy: &Proxy, key: &[u8]) {
    let mut wire = Wire::connect(proxy.address).await;
    let length = (key.len() as u32 + 8).to_be_bytes();
    wire.send_bytes(&[&length[..], &80_877_102u32.to_be_bytes(), key].concat()).await;
    assert_eq!(wire.receive().await, None, "a request to cancel has no answer");
}

#[tokio::test]
async fn a_flood_of_strange_keys_leaves_no_trace_at_the_database() {
    let connections = Arc::new(AtomicUsize::new(0));
    let upstream = serve({
        let connections = Arc::clone(&connections);
        move |mut peer| {
            connections.fetch_add(1, Ordering::Relaxed);
            async move {
                peer.admit().await;
                peer.complete("SELECT 0", 'I').await;
                peer.until_closed().await;
            }
        }
    })
    .await;
    let proxy = Proxy::start(upstream, |_| {}).await;
    let (mut wire, _) = Wire::start(proxy.address, &[("user", "postgres")]).await;
    let before = connections.load(Ordering::Relaxed);
    let strangers = (0..500u64).map(|number| {
        let key = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        let proxy = &proxy;
        async move { cancel_with(proxy, &key).await }
    });
    futures_util::future::join_all(strangers).await;
    assert_eq!(proxy.metric("reprise_cancel_requests_total"), 500.0);
    assert_eq!(connections.load(Ordering::Relaxed), before);
    assert_eq!(wire.query("SELECT").await, "SELECT 0 I");
}

#[tokio::test]
async fn a_flood_of_cancels_of_one_session_is_a_few_at_a_time() {
    // A database that is slow to act on them, and counts those that wait for it.
    let waiting = Arc::new(AtomicUsize::new(0));
    let release = Arc::new(tokio::sync::Semaphore::new(0));
    let upstream = serve({
        let (waiting, release) = (Arc::clone(&waiting), Arc::clone(&release));
        move |mut peer| {
            let (waiting, release) = (Arc::clone(&waiting), Arc::clone(&release));
            async move {
                if let Some(Frontend::Startup { .. }) = peer.startup().await {
                    peer.welcome().await;
                    peer.request().await;
                    peer.until_closed().await;
                } else {
                    waiting.fetch_add(1, Ordering::Relaxed);
                    let _released = release.acquire().await;
                }
            }
        }
    })
    .await;
    let proxy = Proxy::start(upstream, |_| {}).await;
    let (mut wire, _) = Wire::start(proxy.address, &[("user", "postgres")]).await;
    wire.send([Frontend::Query("SELECT pg_sleep(600)".into())]).await;
    let key = [7u32.to_be_bytes(), 11u32.to_be_bytes()].concat();
    let all = (0..100).map(|_| cancel_with(&proxy, &key));
    let (_, ()) = tokio::join!(futures_util::future::join_all(all), async {
        proxy.until_metric("reprise_cancel_requests_total", 100.0).await;
        crate::support::eventually("some arrive", async || waiting.load(Ordering::Relaxed) > 0).await;
        release.add_permits(1000);
    });
    let arrived = waiting.load(Ordering::Relaxed);
    assert!((1..=8).contains(&arrived), "{arrived} of 100");
}

#[tokio::test]
async fn keys_of_any_length_are_the_databases_own() {
    // CockroachDB's are one number of 64 bits, those of protocol 3.2 have up to 256 bytes behind the process id.
    for length in [8, 12, 36, 260] {
        let key: Vec<u8> = (0..length).map(|number: u32| number as u8 ^ 0xa5).collect();
        let (sender, mut cancelled) = tokio::sync::mpsc::unbounded_channel();
        let upstream = serve({
            let key = key.clone();
            move |mut peer| {
                let (key, sender) = (key.clone(), sender.clone());
                async move {
                    match peer.first_packet().await {
                        Some(packet) if packet[4..8] == 80_877_102u32.to_be_bytes() => {
                            let _ = sender.send(packet[8..].to_vec());
                        }
                        _ => {
                            let greeting =
                                [Backend::AuthenticationOk, Backend::Unknown { tag: b'K', body: key }];
                            peer.answer(greeting.into_iter().chain([Backend::ReadyForQuery('I')])).await;
                            peer.until_closed().await;
                        }
                    }
                }
            }
        })
        .await;
        let proxy = Proxy::start(upstream, |config| {
            config.upstream.tls.mode = reprise::config::UpstreamTlsMode::Disable;
        })
        .await;
        let mut wire = Wire::connect(proxy.address).await;
        wire.send([Frontend::startup([("user", "postgres")])]).await;
        wire.receive_frame().await.expect("it is admitted");
        let frame = wire.receive_frame().await.expect("a key");
        assert_eq!(frame[5..], key, "the client sees the server's own");
        wire.receive_frame().await.expect("it is ready");
        wire.send([Frontend::Query("SELECT pg_sleep(600)".into())]).await;
        proxy.until_metric("reprise_sessions", 1.0).await;
        // The first may come before the statement: then it is of no use to anybody.
        let arrives = async {
            loop {
                cancel_with(&proxy, &key).await;
                if let Ok(arrived) = cancelled.try_recv() {
                    return arrived;
                }
            }
        };
        assert_eq!(within("the cancel", arrives).await, key);
    }
}

#[tokio::test]
async fn a_server_without_keys_has_sessions_that_nobody_cancels() {
    let upstream = serve(|mut peer| async move {
        peer.startup().await;
        peer.answer([Backend::AuthenticationOk, Backend::ReadyForQuery('I')]).await;
        peer.complete("SELECT 0", 'I').await;
        peer.until_closed().await;
    })
    .await;
    let proxy = Proxy::start(upstream, |_| {}).await;
    let (mut wire, greeting) = Wire::start(proxy.address, &[("user", "postgres")]).await;
    assert!(
        !greeting.0.iter().any(|message| matches!(message, Backend::BackendKeyData { .. })),
        "{greeting:?}"
    );
    cancel_with(&proxy, &[0; 8]).await;
    assert_eq!(wire.query("SELECT").await, "SELECT 0 I");
}
