//! Limits: past one of them a conflict is surfaced as the server reported it, and nothing fails that would have worked.

use std::time::Duration;

use golden::Frontend;
use reprise::config::Config;
use reprise::replay::{Dialect, Mode};

use crate::support::wire::{Answer, Wire};
use crate::support::{DIALECTS, Scene};

/// The DETAIL of a conflict that was surfaced for this reason.
#[track_caller]
fn expect_reason<'a>(answer: &'a Answer, reason: &str) -> &'a str {
    assert_eq!(answer.field('C'), "40001", "{answer:?}");
    let detail = answer.field('D');
    assert!(detail.contains(&format!("({reason})")), "{detail}");
    detail
}

#[tokio::test]
async fn the_last_attempt_is_surfaced() {
    for dialect in DIALECTS {
        let mut scene = Scene::with(dialect, |config| config.retry.policy.max_attempts = 3).await;
        let client = &mut scene.client;
        assert_eq!(client.query("BEGIN").await, "BEGIN T");
        let answer = client.query("SELECT conflict('first', 100)").await;
        assert!(expect_reason(&answer, "attempts_exhausted").contains(": 3 attempts in "));
        assert_eq!(answer.status(), Some('E'));
        assert_eq!(client.query("COMMIT").await, "ROLLBACK I");
        assert_eq!(scene.database.query("SELECT last_value FROM first").await, "3", "runs of the function");
        // Two conflicts and a third attempt that passes: the limit counts attempts, not conflicts.
        assert_eq!(client.query("BEGIN").await, "BEGIN T");
        assert_eq!(client.query("SELECT conflict('second', 2)").await, "(passed) SELECT 1 T");
        assert_eq!(client.query("COMMIT").await, "COMMIT I");
    }
}

#[tokio::test]
async fn attempts_count_for_the_whole_transaction() {
    for dialect in DIALECTS {
        let mut scene = Scene::with(dialect, |config| config.retry.policy.max_attempts = 3).await;
        let client = &mut scene.client;
        assert_eq!(client.query("BEGIN").await, "BEGIN T");
        assert_eq!(client.query("SELECT conflict('first', 1)").await, "(passed) SELECT 1 T");
        assert_eq!(client.query("SELECT conflict('second', 1)").await, "(passed) SELECT 1 T");
        expect_reason(&client.query("SELECT conflict('last', 1)").await, "attempts_exhausted");
        assert_eq!(client.query("ROLLBACK").await, "ROLLBACK I");
    }
}

#[tokio::test]
async fn a_retry_that_takes_too_long_is_surfaced() {
    for dialect in DIALECTS {
        let mut scene =
            Scene::with(dialect, |config| config.retry.policy.timeout = Duration::from_millis(50)).await;
        let client = &mut scene.client;
        assert_eq!(client.query("BEGIN").await, "BEGIN T");
        let answer = client.query("SELECT conflict('first', 1000000)").await;
        expect_reason(&answer, "retry_timeout");
        assert_eq!(client.query("COMMIT").await, "ROLLBACK I");
    }
}

/// Runs a transaction with so many bytes in its requests; what its only conflict is answered with.
async fn run_large(client: &mut Wire, bytes: usize) -> Answer {
    assert_eq!(client.query("BEGIN").await, "BEGIN T");
    let text = format!("INSERT INTO journal VALUES (length('{}')::text)", "x".repeat(bytes));
    assert_eq!(client.query(&text).await, "INSERT 0 1 T");
    client.query("SELECT conflict('first', 1)").await
}

#[tokio::test]
async fn a_journal_that_outgrows_its_limit_lets_the_transaction_through() {
    for dialect in DIALECTS {
        let limit = |config: &mut Config| config.retry.policy.journal_bytes = 40_000;
        let mut scene = Scene::with(dialect, limit).await;
        let client = &mut scene.client;
        let answer = run_large(client, 50_000).await;
        expect_reason(&answer, "journal_limit");
        assert_eq!(client.query("COMMIT").await, "ROLLBACK I");
        assert_eq!(run_large(client, 50_000).await, "(passed) SELECT 1 T");
        assert_eq!(client.query("COMMIT").await, "COMMIT I");
        assert_eq!(scene.database.query("SELECT * FROM journal").await, "50000");
        assert_eq!(scene.proxy.metric("reprise_not_replayable_total{reason=\"journal_limit\"}"), 2.0);
    }
}

#[tokio::test]
async fn many_small_requests_reach_the_limit_too() {
    let limit = |config: &mut Config| config.retry.policy.journal_bytes = 40_000;
    let mut scene = Scene::with(Dialect::Postgres, limit).await;
    let client = &mut scene.client;
    assert_eq!(client.query("BEGIN").await, "BEGIN T");
    for _ in 0..50 {
        let text = format!("SELECT length('{}')", "x".repeat(1000));
        assert_eq!(client.query(&text).await, "(1000) SELECT 1 T");
    }
    expect_reason(&client.query("SELECT conflict('first', 1)").await, "journal_limit");
    assert_eq!(client.query("COMMIT").await, "ROLLBACK I");
}

#[tokio::test]
async fn all_journals_together_have_a_limit() {
    for dialect in DIALECTS {
        let limit = |config: &mut Config| config.retry.journal_bytes_total = 128 << 10;
        let mut scene = Scene::with(dialect, limit).await;
        let mut other = scene.proxy.wire().await;
        // The other one has most of it. Its conflict is hidden.
        assert_eq!(run_large(&mut other, 100_000).await, "(passed) SELECT 1 T");
        assert!(scene.proxy.metric("reprise_journal_bytes") >= 100_000.0);
        assert_eq!(scene.client.query("SELECT setval('first', 1, false)").await, "(1) SELECT 1 I");
        expect_reason(&run_large(&mut scene.client, 100_000).await, "journal_total");
        assert_eq!(scene.client.query("ROLLBACK").await, "ROLLBACK I");
        assert_eq!(other.query("COMMIT").await, "COMMIT I");
        scene.proxy.until_metric("reprise_journal_bytes", 0.0).await;
        // There is room again.
        assert_eq!(scene.client.query("SELECT setval('first', 1, false)").await, "(1) SELECT 1 I");
        assert_eq!(run_large(&mut scene.client, 100_000).await, "(passed) SELECT 1 T");
        assert_eq!(scene.client.query("COMMIT").await, "COMMIT I");
    }
}

/// What is known of each request takes memory too, however short the request.
#[tokio::test]
async fn the_smallest_requests_count_with_what_is_noted_of_them() {
    for dialect in DIALECTS {
        let mut scene = Scene::start(dialect).await;
        assert_eq!(scene.client.query("BEGIN").await, "BEGIN T");
        assert_eq!(scene.client.query("SELECT 1").await, "(1) SELECT 1 T");
        scene
            .client
            .send([Frontend::Parse { name: "s".into(), sql: "SELECT 2".into(), types: vec![] }])
            .await;
        for _ in 0..100 {
            scene.client.send_bytes(&b"H\0\0\0\x04".repeat(100)).await;
        }
        assert_eq!(scene.client.query("SELECT 3").await.status(), Some('T'));
        let bytes = scene.proxy.metric("reprise_journal_bytes");
        assert!(bytes >= 500_000.0, "{bytes}");
    }
}

#[tokio::test]
async fn clients_beyond_the_limit_are_refused_and_those_within_go_on() {
    let mut scene = Scene::with(Dialect::Postgres, |config| config.proxy.max_connections = 2).await;
    let second = scene.proxy.wire().await;
    let parameters = [("user", "postgres"), ("database", scene.database.name.as_str())];
    let (mut third, answer) = Wire::start(scene.proxy.address, &parameters).await;
    assert_eq!(answer, "53300");
    assert_eq!(answer.field('S'), "FATAL");
    assert_eq!(third.receive().await, None);
    assert_eq!(scene.client.query("SELECT 1").await, "(1) SELECT 1 I");
    // Even then a statement can be cancelled.
    scene.client.send([Frontend::Query("SELECT pg_sleep(600)".into())]).await;
    let sleeps = "SELECT count(*) FROM pg_stat_activity \
                  WHERE datname = current_database() AND wait_event = 'PgSleep'";
    scene.database.until(sleeps, "1").await;
    Wire::connect(scene.proxy.address).await.cancel(scene.client.key).await;
    assert_eq!(scene.client.until_ready().await, "57014 I");
    assert_eq!(scene.proxy.metric("reprise_sessions_refused_total{cause=\"max_connections\"}"), 1.0);
    drop(second);
    scene.proxy.until_metric("reprise_sessions", 1.0).await;
    assert_eq!(scene.proxy.wire().await.query("SELECT 1").await, "(1) SELECT 1 I");
}

#[tokio::test]
async fn in_observe_mode_conflicts_are_counted_and_left_as_they_are() {
    for dialect in DIALECTS {
        let mut scene = Scene::with(dialect, |config| config.retry.policy.mode = Mode::Observe).await;
        let client = &mut scene.client;
        assert_eq!(client.query("BEGIN").await, "BEGIN T");
        assert_eq!(client.query("INSERT INTO journal VALUES ('never')").await, "INSERT 0 1 T");
        let answer = client.query("SELECT conflict('first', 1)").await;
        assert_eq!(answer, "40001 E");
        assert_eq!((answer.field('D'), answer.field('H')), ("", ""));
        assert_eq!(client.query("ROLLBACK").await, "ROLLBACK I");
        assert_eq!(scene.proxy.conflicts(), (0.0, 1.0));
        let statements = scene.database.statements().await;
        assert_eq!(statements.len(), 4, "nothing is added: {statements:?}");
    }
}

#[tokio::test]
async fn in_off_mode_nothing_is_looked_at() {
    let mut scene = Scene::with(Dialect::Postgres, |config| config.retry.policy.mode = Mode::Off).await;
    let client = &mut scene.client;
    assert_eq!(client.query("BEGIN").await, "BEGIN T");
    assert_eq!(client.query("SELECT conflict('first', 1)").await, "40001 E");
    assert_eq!(client.query("ROLLBACK").await, "ROLLBACK I");
    assert_eq!(scene.proxy.conflicts(), (0.0, 0.0));
}
