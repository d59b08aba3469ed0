//! What is measured of sessions at work: by the clock now and then, and of what they hold.

use std::time::Duration;

use golden::Frontend;

use crate::support::wire::extended;
use crate::support::{DIALECTS, Scene, eventually};

#[tokio::test]
async fn how_long_the_database_and_the_proxy_take_is_measured_now_and_then() {
    for dialect in DIALECTS {
        let mut scene = Scene::start(dialect).await;
        for _ in 0..200 {
            assert_eq!(scene.client.query("SELECT 1").await, "(1) SELECT 1 I");
        }
        let count = |name: &str| scene.proxy.metric(&format!("{name}_count"));
        let (answers, added) = (count("reprise_upstream_round_trip_seconds"), count("reprise_added_seconds"));
        assert!((1.0..=7.0).contains(&answers) && (2.0..=7.0).contains(&added), "{answers} and {added}");
        let conflicts = scene.client.query("SELECT conflict('first', 2)").await;
        assert_eq!(conflicts, "(passed) SELECT 1 I");
        assert_eq!(count("reprise_wasted_seconds"), 2.0);
    }
}

#[tokio::test]
async fn what_is_held_is_counted_while_it_is() {
    for dialect in DIALECTS {
        let hold = |config: &mut reprise::config::Config| {
            config.retry.policy.hold_time = Duration::from_secs(60);
        };
        let mut scene = Scene::with(dialect, hold).await;
        assert_eq!(scene.proxy.metric("reprise_held_bytes"), 0.0);
        // More than PostgreSQL keeps before it sends it: the first row comes before the second statement is done.
        let rows = extended("SELECT repeat('x', 5000) FROM generate_series(1, 2)", &[]);
        let waits = extended("SELECT pg_advisory_xact_lock(7)", &[]);
        let other = scene.proxy.client().await;
        other.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(7)").await.expect("a lock");
        assert_eq!(scene.client.query("BEGIN").await, "BEGIN T");
        scene.client.send(rows.into_iter().chain(waits).chain([Frontend::Sync])).await;
        eventually("a row is held", async || scene.proxy.metric("reprise_held_bytes") > 5000.0).await;
        other.batch_execute("COMMIT").await.expect("no conflict");
        assert_eq!(scene.client.until_ready().await.status(), Some('T'));
        eventually("nothing is held", async || scene.proxy.metric("reprise_held_bytes") == 0.0).await;
    }
}
