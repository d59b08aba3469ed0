//! Cancelling: what runs is cancelled wherever it is, in the server or in the proxy's own retry.

use std::time::Duration;

use golden::Frontend;
use golden::notation::CancelKey;
use reprise::config::Config;
use reprise::replay::Dialect;

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
