//! Clients that go away in the middle: the server is rid of them, with their locks, and so is the proxy. While one of them
//! awaits an answer, it might have closed its sending side only: that takes the time that is given to those.

use std::time::Duration;

use golden::Frontend;
use reprise::config::Config;
use reprise::replay::Dialect;
use tokio::net::TcpStream;

use crate::support::wire::Wire;
use crate::support::{DIALECTS, Scene};

/// A client of a proxy that waits for nobody for long.
async fn leaving(dialect: Dialect) -> Scene {
    Scene::with(dialect, impatient).await
}

fn impatient(config: &mut Config) {
    config.proxy.half_closed_timeout = Duration::from_millis(200);
}

/// Drops the client, and waits until nothing is left of it anywhere.
async fn expect_gone(scene: Scene) {
    let Scene { database, proxy, client } = scene;
    drop(client);
    database.until_deserted().await;
    proxy.until_idle().await;
    assert_eq!(database.query("SELECT * FROM journal").await, "");
    assert_eq!(database.query("SELECT v FROM kv WHERE k = 1").await, "10");
}

/// A transaction that holds the lock of a row.
async fn begin(scene: &mut Scene) {
    assert_eq!(scene.client.query("BEGIN").await, "BEGIN T");
    assert_eq!(scene.client.query("INSERT INTO journal VALUES ('never')").await, "INSERT 0 1 T");
    assert_eq!(scene.client.query("UPDATE kv SET v = 0 WHERE k = 1").await, "UPDATE 1 T");
}

#[tokio::test]
async fn in_an_open_transaction() {
    for dialect in DIALECTS {
        let mut scene = leaving(dialect).await;
        begin(&mut scene).await;
        let abandoned = &format!(
            "reprise_transactions_total{{dialect=\"{}\",kind=\"explicit\",outcome=\"abandoned\"}}",
            dialect.name()
        );
        assert_eq!(scene.proxy.metric(abandoned), 0.0);
        expect_gone(scene).await;
    }
}

#[tokio::test]
async fn with_terminate() {
    for dialect in DIALECTS {
        let mut scene = leaving(dialect).await;
        begin(&mut scene).await;
        scene.client.send([Frontend::Terminate]).await;
        scene.client.until_closed().await;
        scene.proxy.until_idle().await;
        let lost = "reprise_sessions_broken_total{cause=\"upstream_lost\"}";
        assert_eq!(scene.proxy.metric(lost), 0.0, "it was the client who left");
        expect_gone(scene).await;
    }
}

#[tokio::test]
async fn in_a_statement_that_runs() {
    for dialect in DIALECTS {
        let mut scene = leaving(dialect).await;
        begin(&mut scene).await;
        scene.client.send([Frontend::Query("SELECT pg_sleep(600)".into())]).await;
        let sleeps = "SELECT count(*) FROM pg_stat_activity \
                      WHERE datname = current_database() AND wait_event = 'PgSleep'";
        scene.database.until(sleeps, "1").await;
        // The server would notice nothing for ten minutes: it has to be told.
        expect_gone(scene).await;
    }
}

#[tokio::test]
async fn in_the_middle_of_a_message() {
    for dialect in DIALECTS {
        let mut scene = leaving(dialect).await;
        begin(&mut scene).await;
        let message = Frontend::Query("INSERT INTO journal VALUES ('half')".into()).encode();
        scene.client.send_bytes(&message[..message.len() / 2]).await;
        expect_gone(scene).await;
    }
}

#[tokio::test]
async fn in_the_middle_of_a_large_result() {
    for dialect in DIALECTS {
        let mut scene = leaving(dialect).await;
        begin(&mut scene).await;
        let rows = "SELECT repeat('x', 1000) FROM generate_series(1, 10000000)";
        scene.client.send([Frontend::Query(rows.into())]).await;
        assert!(scene.client.receive().await.is_some());
        expect_gone(scene).await;
    }
}

#[tokio::test]
async fn in_the_middle_of_copied_rows() {
    for dialect in DIALECTS {
        let mut scene = leaving(dialect).await;
        begin(&mut scene).await;
        scene.client.send([Frontend::Query("COPY kv FROM STDIN".into())]).await;
        assert!(scene.client.receive().await.is_some());
        scene.client.send([Frontend::CopyData(b"4\t40\n".to_vec())]).await;
        expect_gone(scene).await;
    }
}

/// Pauses of any length up to an hour.
fn pause(config: &mut Config) {
    impatient(config);
    config.retry.policy.initial_backoff = Duration::from_secs(3600);
    config.retry.policy.max_backoff = Duration::from_secs(3600);
    config.retry.policy.timeout = Duration::from_secs(7200);
}

#[tokio::test]
async fn while_the_proxy_pauses_before_a_replay() {
    for dialect in DIALECTS {
        let mut scene = Scene::with(dialect, pause).await;
        begin(&mut scene).await;
        scene.client.send([Frontend::Query("SELECT conflict('first', 1000)".into())]).await;
        scene.proxy.until_pausing(dialect).await;
        expect_gone(scene).await;
    }
}

#[tokio::test]
async fn while_the_proxy_pauses_and_more_requests_wait() {
    for dialect in DIALECTS {
        let mut scene = Scene::with(dialect, pause).await;
        begin(&mut scene).await;
        scene.client.send([Frontend::Query("SELECT conflict('first', 1000)".into())]).await;
        scene.proxy.until_pausing(dialect).await;
        scene.client.send([Frontend::Query("SELECT 1".into()), Frontend::Terminate]).await;
        expect_gone(scene).await;
    }
}

#[tokio::test]
async fn while_a_replay_waits_for_a_lock() {
    for dialect in DIALECTS {
        let mut scene = leaving(dialect).await;
        let mut other = scene.database.wire().await;
        begin(&mut scene).await;
        // The lock goes from the failed attempt to the other one, who keeps it from the replay.
        assert_eq!(other.query("BEGIN").await, "BEGIN T");
        other.send([Frontend::Query("LOCK TABLE kv".into())]).await;
        scene.database.until_blocked(1).await;
        scene.client.send([Frontend::Query("SELECT conflict('first', 1)".into())]).await;
        assert_eq!(other.until_ready().await, "LOCK TABLE T");
        scene.database.until_blocked(1).await;
        let Scene { database, proxy, client } = scene;
        drop(client);
        proxy.until_idle().await;
        database.until_blocked(0).await;
        assert_eq!(other.query("ROLLBACK").await, "ROLLBACK I");
        drop(other);
        database.until_deserted().await;
        assert_eq!(database.query("SELECT v FROM kv WHERE k = 1").await, "10");
    }
}

#[tokio::test]
async fn others_are_not_disturbed() {
    let mut scene = Scene::start(Dialect::Postgres).await;
    let mut other = scene.proxy.wire().await;
    assert_eq!(other.query("BEGIN").await, "BEGIN T");
    assert_eq!(other.query("INSERT INTO kv VALUES (4, 40)").await, "INSERT 0 1 T");
    begin(&mut scene).await;
    let Scene { database, proxy, client } = scene;
    drop(client);
    proxy.until_metric("reprise_sessions", 1.0).await;
    assert_eq!(other.query("UPDATE kv SET v = v + 1 WHERE k = 1").await, "UPDATE 1 T");
    assert_eq!(other.query("COMMIT").await, "COMMIT I");
    assert_eq!(database.query("SELECT v FROM kv ORDER BY k").await, "11;20;30;40");
}

/// The database may not have read a statement yet when it is asked to cancel it.
#[tokio::test]
async fn right_behind_a_statement() {
    let Scene { database, proxy, client } = leaving(Dialect::Postgres).await;
    drop(client);
    for _ in 0..60 {
        let stream = TcpStream::connect(proxy.address).await.expect("it listens");
        stream.set_zero_linger().expect("an option that every socket has");
        let mut wire = Wire::over(stream);
        wire.begin(&[("user", "postgres"), ("database", &database.name)]).await;
        assert_eq!(wire.query("BEGIN").await, "BEGIN T");
        wire.send([Frontend::Query("SELECT pg_sleep(600)".into())]).await;
    }
    database.until_deserted().await;
    proxy.until_idle().await;
}
