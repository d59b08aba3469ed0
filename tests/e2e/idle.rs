//! Clients that do nothing for too long.

use std::time::Duration;

use reprise::config::Config;
use reprise::replay::Mode;

use crate::support::wire::Wire;
use crate::support::{DIALECTS, Scene};

const LIMIT: Duration = Duration::from_millis(300);

fn limited(config: &mut Config) {
    config.proxy.idle_timeout = LIMIT;
    config.proxy.idle_in_transaction_timeout = LIMIT;
}

/// What a client that does nothing is told before its connection closes.
async fn farewell(client: &mut Wire) -> String {
    let answer = client.until_closed().await;
    assert_eq!(answer.field('S'), "FATAL");
    answer.to_string()
}

#[tokio::test]
async fn an_idle_session_ends() {
    for dialect in DIALECTS {
        let mut scene = Scene::with(dialect, limited).await;
        assert_eq!(scene.client.query("SELECT 1").await, "(1) SELECT 1 I");
        assert_eq!(farewell(&mut scene.client).await, "57P05");
        scene.database.until_deserted().await;
    }
}

#[tokio::test]
async fn an_idle_transaction_ends_and_is_rolled_back() {
    for dialect in DIALECTS {
        for sql in ["UPDATE kv SET v = 0", "SELECT 1 / 0"] {
            let mut scene = Scene::with(dialect, |config| {
                limited(config);
                config.proxy.idle_timeout = Duration::ZERO;
            })
            .await;
            assert_eq!(scene.client.query("BEGIN").await, "BEGIN T");
            scene.client.query(sql).await;
            assert_eq!(farewell(&mut scene.client).await, "25P03");
            scene.database.until_deserted().await;
            assert_eq!(scene.database.query("SELECT v FROM kv WHERE k = 1").await, "10");
        }
        // A BEGIN that the database has not been told of is one for the client.
        let mut scene = Scene::with(dialect, limited).await;
        assert_eq!(scene.client.query("BEGIN").await, "BEGIN T");
        assert_eq!(farewell(&mut scene.client).await, "25P03");
    }
}

#[tokio::test]
async fn who_waits_for_the_database_is_not_idle() {
    for dialect in DIALECTS {
        let mut scene = Scene::with(dialect, limited).await;
        let seconds = LIMIT.as_secs_f64() * 2.0;
        assert_eq!(scene.client.query(&format!("SELECT pg_sleep({seconds})")).await, "() SELECT 1 I");
        assert_eq!(scene.client.query("BEGIN").await, "BEGIN T");
        assert_eq!(scene.client.query(&format!("SELECT pg_sleep({seconds})")).await, "() SELECT 1 T");
        assert_eq!(scene.client.query("COMMIT").await, "COMMIT I");
    }
}

#[tokio::test]
async fn where_transactions_are_not_followed_nobody_is_idle() {
    let mut scene = Scene::with(DIALECTS[0], |config| {
        limited(config);
        config.retry.policy.mode = Mode::Off;
    })
    .await;
    let seconds = LIMIT.as_secs_f64() * 2.0;
    assert_eq!(scene.client.query(&format!("SELECT pg_sleep({seconds})")).await, "() SELECT 1 I");
}
