//! One replay at a time: another waits for its turn, and gets it, is cancelled, or goes away.

use std::time::Duration;

use golden::Frontend;
use reprise::replay::Dialect;

use crate::support::wire::Wire;
use crate::support::{DIALECTS, Scene};

const WAITING: &str = "reprise_replays_waiting";

fn query(sql: &str) -> [Frontend; 1] {
    [Frontend::Query(sql.into())]
}

/// A client whose replay waits for its turn, because that of another is stuck until the third lets its lock go.
struct Line {
    scene: Scene,
    stuck: Wire,
    blocker: Wire,
}

impl Line {
    async fn form(dialect: Dialect) -> Self {
        let mut scene = Scene::with(dialect, |config| {
            config.retry.max_concurrent_replays = 1;
            // However slow the machine is: nobody gives up waiting.
            config.retry.policy.timeout = Duration::from_secs(600);
        })
        .await;
        let mut stuck = scene.proxy.wire().await;
        let mut blocker = scene.database.wire().await;
        // The lock that the first attempt held is another's in the second.
        assert_eq!(stuck.query("BEGIN").await, "BEGIN T");
        assert_eq!(stuck.query("SELECT 1 FROM pg_advisory_xact_lock(7)").await, "(1) SELECT 1 T");
        blocker.send(query("SELECT 1 FROM pg_advisory_lock(7)")).await;
        scene.database.until_blocked(1).await;
        stuck.send(query("SELECT conflict('first', 1)")).await;
        assert_eq!(blocker.until_ready().await, "(1) SELECT 1 I");
        scene.database.until_blocked(1).await;
        assert_eq!(scene.proxy.metric(WAITING), 0.0);

        let client = &mut scene.client;
        assert_eq!(client.query("BEGIN").await, "BEGIN T");
        assert_eq!(client.query("UPDATE kv SET v = 0 WHERE k = 1").await, "UPDATE 1 T");
        client.send(query("SELECT conflict('second', 1)")).await;
        scene.proxy.until_metric(WAITING, 1.0).await;
        Self { scene, stuck, blocker }
    }

    async fn let_go(&mut self) {
        assert_eq!(self.blocker.query("SELECT 1 FROM pg_advisory_unlock(7)").await, "(1) SELECT 1 I");
        assert_eq!(self.stuck.until_ready().await, "(passed) SELECT 1 T");
    }
}

#[tokio::test]
async fn a_replay_waits_for_its_turn_and_gets_it() {
    for dialect in DIALECTS {
        let mut line = Line::form(dialect).await;
        // Meanwhile its locks are free, and who meets no conflict does not wait.
        line.scene.database.run("UPDATE kv SET v = v + 1 WHERE k = 1").await;
        let mut calm = line.scene.proxy.wire().await;
        assert_eq!(calm.query("UPDATE kv SET v = v + 1 WHERE k = 1").await, "UPDATE 1 I");
        line.let_go().await;
        assert_eq!(line.scene.client.until_ready().await, "(passed) SELECT 1 T");
        assert_eq!(line.scene.client.query("COMMIT").await, "COMMIT I");
        assert_eq!(line.scene.database.query("SELECT v FROM kv WHERE k = 1").await, "0");
        assert_eq!(line.scene.proxy.metric(WAITING), 0.0);
        assert_eq!(line.scene.proxy.metric("reprise_admission_seconds_count"), 1.0);
        assert_eq!(line.scene.proxy.conflicts(), (1.0, 0.0), "the other transaction is still open");
    }
}

#[tokio::test]
async fn who_waits_is_cancelled_at_once() {
    for dialect in DIALECTS {
        let mut line = Line::form(dialect).await;
        Wire::connect(line.scene.proxy.address).await.cancel(line.scene.client.key).await;
        assert_eq!(line.scene.client.until_ready().await, "57014 E");
        line.scene.proxy.until_metric(WAITING, 0.0).await;
        assert_eq!(line.scene.client.query("ROLLBACK").await, "ROLLBACK I");
        line.let_go().await;
        assert_eq!(line.scene.proxy.metric("reprise_admission_seconds_count"), 0.0);
    }
}

#[tokio::test]
async fn who_goes_away_leaves_the_line() {
    for dialect in DIALECTS {
        let Line { scene: Scene { database, proxy, client }, mut stuck, blocker } = Line::form(dialect).await;
        drop(client);
        proxy.until_metric(WAITING, 0.0).await;
        proxy.until_metric("reprise_sessions", 1.0).await;
        drop(blocker);
        assert_eq!(stuck.until_ready().await, "(passed) SELECT 1 T");
        assert_eq!(stuck.query("COMMIT").await, "COMMIT I");
        // Whoever comes now finds the turn free.
        let mut next = proxy.wire().await;
        assert_eq!(next.query("SELECT conflict('last', 1)").await, "(passed) SELECT 1 I");
        assert_eq!(proxy.metric("reprise_admission_seconds_count"), 0.0);
        database.until("SELECT v FROM kv WHERE k = 1", "10").await;
    }
}
