//! The governor before a real server: contending transactions wait where they hold nothing, and nobody waits for ever.

use std::time::Duration;

use golden::Frontend;
use reprise::config::{Config, Rule};
use reprise::governor::Mode;
use reprise::replay::{Dialect, Mode as Retry};

use crate::support::wire::{Wire, extended};
use crate::support::{DIALECTS, Scene, within};

const HOUR: Duration = Duration::from_secs(3600);
const WAITING: &str = "reprise_governor_waiting{class=\"all\"}";
/// The first statement of every transaction of the class.
const WORK: &str = "SELECT conflict('second', 0)";

/// Nobody's place is taken away, no wait ends by itself, and a class stays.
fn patient(config: &mut Config) {
    (config.governor.idle, config.governor.max_wait, config.governor.calm) = (HOUR, HOUR, HOUR);
    config.retry.policy.max_backoff = Duration::from_millis(5);
}

/// The same, but for a place that is taken away from whoever does nothing.
fn soon_idle(config: &mut Config) {
    patient(config);
    config.governor.idle = Duration::from_millis(50);
}

async fn governed(dialect: Dialect, change: impl FnOnce(&mut Config)) -> Scene {
    let on = |config: &mut Config| {
        config.governor.mode = Mode::On;
        change(config);
    };
    Scene::with(dialect, on).await
}

/// Three transactions with places, and a fourth whose conflicts bring the limit down to one and that waits before its replay.
struct Crowd {
    scene: Scene,
    holders: Vec<Wire>,
}

impl Crowd {
    async fn gather(dialect: Dialect, change: impl FnOnce(&mut Config)) -> Self {
        let mut scene = governed(dialect, change).await;
        // The first conflict makes the class.
        assert_eq!(scene.client.query("SELECT conflict('first', 1)").await, "(passed) SELECT 1 I");
        let mut holders = Vec::new();
        for _ in 0..3 {
            let mut holder = scene.proxy.wire().await;
            assert_eq!(holder.query("BEGIN").await, "BEGIN T");
            assert_eq!(holder.query(WORK).await, "(passed) SELECT 1 T");
            holders.push(holder);
        }
        Self { scene, holders }
    }

    /// The fourth begins, and soon waits.
    async fn crowd(&mut self) {
        self.press().await;
        self.scene.proxy.until_metric(WAITING, 1.0).await;
    }

    /// The fourth begins. It changes a row before it meets conflicts.
    async fn press(&mut self) {
        let client = &mut self.scene.client;
        assert_eq!(client.query("BEGIN").await, "BEGIN T");
        assert_eq!(client.query(WORK).await, "(passed) SELECT 1 T");
        assert_eq!(client.query("UPDATE kv SET v = v + 1 WHERE k = 1").await, "UPDATE 1 T");
        client.send([Frontend::Query("SELECT conflict('last', 40)".into())]).await;
    }

    async fn start(dialect: Dialect) -> Self {
        let mut crowd = Self::gather(dialect, patient).await;
        crowd.crowd().await;
        crowd
    }

    async fn disperse(&mut self) {
        for holder in &mut self.holders {
            assert_eq!(holder.query("COMMIT").await, "COMMIT I");
        }
    }

    /// The fourth gets through.
    async fn finish(&mut self) {
        let client = &mut self.scene.client;
        assert_eq!(client.until_ready().await, "(passed) SELECT 1 T");
        assert_eq!(client.query("COMMIT").await, "COMMIT I");
        assert_eq!(self.scene.database.query("SELECT v FROM kv WHERE k = 1").await, "11");
        self.scene.proxy.until_metric(WAITING, 0.0).await;
    }
}

#[tokio::test]
async fn who_waits_holds_no_lock_and_is_let_in_when_the_others_end() {
    for dialect in DIALECTS {
        let mut crowd = Crowd::start(dialect).await;
        // A lock that the waiting transaction has had is free.
        crowd.scene.database.run("BEGIN; UPDATE kv SET v = v WHERE k = 1; COMMIT").await;
        let mut late = crowd.scene.proxy.wire().await;
        assert_eq!(late.query("BEGIN").await, "BEGIN T");
        late.send([Frontend::Query(WORK.into())]).await;
        crowd.scene.proxy.until_metric(WAITING, 2.0).await;
        // Other work goes by.
        let mut calm = crowd.scene.proxy.wire().await;
        assert_eq!(calm.query("UPDATE kv SET v = v WHERE k = 2").await, "UPDATE 1 I");
        crowd.disperse().await;
        crowd.finish().await;
        assert_eq!(late.until_ready().await, "(passed) SELECT 1 T");
        assert_eq!(late.query("COMMIT").await, "COMMIT I");
    }
}

#[tokio::test]
async fn a_cancel_ends_the_wait_for_the_first_statement() {
    for dialect in DIALECTS {
        let mut crowd = Crowd::start(dialect).await;
        let mut late = crowd.scene.proxy.wire().await;
        for (begins, status, ends) in [(false, "I", "ROLLBACK I"), (true, "E", "ROLLBACK I")] {
            for simple in [true, false] {
                if begins {
                    assert_eq!(late.query("BEGIN").await, "BEGIN T");
                    assert_eq!(late.query("SAVEPOINT a").await, "SAVEPOINT T");
                }
                if simple {
                    late.send([Frontend::Query(WORK.into())]).await;
                } else {
                    late.send(extended(WORK, &[]).into_iter().chain([Frontend::Sync])).await;
                }
                crowd.scene.proxy.until_metric(WAITING, 2.0).await;
                Wire::connect(crowd.scene.proxy.address).await.cancel(late.key).await;
                assert_eq!(late.until_ready().await, format!("57014 {status}").as_str());
                crowd.scene.proxy.until_metric(WAITING, 1.0).await;
                if begins {
                    assert_eq!(late.query("SELECT 1").await, "25P02 E");
                    assert_eq!(late.query("ROLLBACK TO a").await, "ROLLBACK T");
                }
                assert_eq!(late.query("ROLLBACK").await, ends);
            }
        }
        // The session is as good as new, and it was no conflict.
        assert_eq!(late.query("SELECT 1").await, "(1) SELECT 1 I");
        assert_eq!(crowd.scene.proxy.metric("reprise_conflicts_surfaced_total{reason=\"cancelled\"}"), 0.0);
        crowd.disperse().await;
        crowd.finish().await;
    }
}

#[tokio::test]
async fn a_cancel_ends_the_wait_for_a_replay() {
    for dialect in DIALECTS {
        let mut crowd = Crowd::start(dialect).await;
        Wire::connect(crowd.scene.proxy.address).await.cancel(crowd.scene.client.key).await;
        let answer = crowd.scene.client.until_ready().await;
        assert_eq!(answer, "57014 E");
        crowd.scene.proxy.until_metric(WAITING, 0.0).await;
        assert_eq!(crowd.scene.client.query("ROLLBACK").await, "ROLLBACK I");
        crowd.disperse().await;
    }
}

#[tokio::test]
async fn who_leaves_is_waited_for_by_nobody() {
    for dialect in DIALECTS {
        let mut crowd = Crowd::start(dialect).await;
        let mut late = crowd.scene.proxy.wire().await;
        late.send([Frontend::Query(WORK.into())]).await;
        crowd.scene.proxy.until_metric(WAITING, 2.0).await;
        drop(late);
        crowd.scene.proxy.until_metric(WAITING, 1.0).await;
        // Holders that are gone have no place any more.
        crowd.holders.clear();
        crowd.finish().await;
    }
}

#[tokio::test]
async fn a_wait_is_bounded() {
    for dialect in DIALECTS {
        let bounded = |config: &mut Config| {
            patient(config);
            config.governor.max_wait = Duration::from_secs(3);
        };
        let mut crowd = Crowd::gather(dialect, bounded).await;
        crowd.crowd().await;
        Wire::connect(crowd.scene.proxy.address).await.cancel(crowd.scene.client.key).await;
        assert_eq!(crowd.scene.client.until_ready().await, "57014 E");
        assert_eq!(crowd.scene.client.query("ROLLBACK").await, "ROLLBACK I");
        // The holders hold on.
        assert_eq!(crowd.scene.client.query(WORK).await, "(passed) SELECT 1 I");
        assert!(crowd.scene.proxy.metric("reprise_governor_admissions_total{how=\"overdue\"}") >= 1.0);
        crowd.disperse().await;
    }
}

#[tokio::test]
async fn a_transaction_that_waits_for_another_of_its_own_application_makes_room_for_it() {
    for dialect in DIALECTS {
        let mut crowd = Crowd::gather(dialect, soon_idle).await;
        // The holders have a request under way for as long as somebody keeps a lock.
        let mut keeper = crowd.scene.database.wire().await;
        assert_eq!(keeper.query("BEGIN; LOCK TABLE journal").await, "BEGIN LOCK TABLE T");
        for holder in &mut crowd.holders {
            holder.send([Frontend::Query("SELECT count(*) FROM journal".into())]).await;
        }
        crowd.scene.database.until_blocked(3).await;
        crowd.crowd().await;
        assert_eq!(keeper.query("COMMIT").await, "COMMIT I");
        for holder in &mut crowd.holders {
            assert_eq!(holder.until_ready().await, "(0) SELECT 1 T");
        }
        // They stay open, as if they waited for the fourth.
        crowd.finish().await;
        assert!(crowd.scene.proxy.metric("reprise_governor_idle_total") >= 2.0);
        crowd.disperse().await;
    }
}

/// A transaction that has nothing to do with the class has a lock for which those at work wait, and waits itself for the one in the
/// queue: it may be from before the class.
#[tokio::test]
async fn a_young_class_makes_room_for_whom_a_stranger_may_wait_for() {
    for dialect in DIALECTS {
        let mut crowd = Crowd::gather(dialect, soon_idle).await;
        let mut stranger = crowd.scene.database.wire().await;
        assert_eq!(stranger.query("BEGIN; LOCK TABLE journal").await, "BEGIN LOCK TABLE T");
        for holder in &mut crowd.holders {
            holder.send([Frontend::Query("SELECT count(*) FROM journal".into())]).await;
        }
        crowd.scene.database.until_blocked(3).await;
        crowd.crowd().await;
        crowd.finish().await;
        assert_eq!(stranger.query("COMMIT").await, "COMMIT I");
        for holder in &mut crowd.holders {
            assert_eq!(holder.until_ready().await, "(0) SELECT 1 T");
        }
        crowd.disperse().await;
    }
}

/// Holders that have a request under way on which the server does nothing: they let the fourth pass, as if they waited for it.
async fn let_pass_while_the_server_waits(
    dialect: Dialect,
    request: &str,
    waits_for: &str,
    rest: &[Frontend],
) {
    let mut crowd = Crowd::gather(dialect, soon_idle).await;
    for holder in &mut crowd.holders {
        holder.send([Frontend::Query(request.into())]).await;
    }
    let waiting = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = '{waits_for}' \
         AND state = 'active'"
    );
    crowd.scene.database.until(&waiting, "3").await;
    crowd.press().await;
    crowd.finish().await;
    for holder in &mut crowd.holders {
        holder.send(rest.iter().cloned()).await;
        assert_eq!(holder.until_ready().await.status(), Some('T'));
    }
    crowd.disperse().await;
}

#[tokio::test]
async fn a_copy_without_data_is_not_at_work() {
    for dialect in DIALECTS {
        let rest = [Frontend::CopyData(b"a\n".to_vec()), Frontend::CopyDone];
        let_pass_while_the_server_waits(dialect, "COPY journal FROM STDIN", "ClientRead", &rest).await;
    }
}

#[tokio::test]
async fn an_answer_that_the_client_does_not_read_is_not_at_work() {
    let rows = "SELECT repeat('x', 10000) FROM generate_series(1, 2000)";
    for dialect in DIALECTS {
        let_pass_while_the_server_waits(dialect, rows, "ClientWrite", &[]).await;
    }
}

#[tokio::test]
async fn who_waits_is_not_taken_for_idle_by_the_server() {
    const IMPATIENT: &str = "SET idle_in_transaction_session_timeout = '1s'";
    let mut crowd = Crowd::gather(Dialect::Postgres, patient).await;
    // One that waits for a replay, and one that waits for its first statement.
    assert_eq!(crowd.scene.client.query(IMPATIENT).await, "SET I");
    crowd.crowd().await;
    let mut late = crowd.scene.proxy.wire().await;
    assert_eq!(late.query(IMPATIENT).await, "SET I");
    assert_eq!(late.query("BEGIN").await, "BEGIN T");
    late.send([Frontend::Query(WORK.into())]).await;
    let old = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
               AND state LIKE 'idle in%' AND now() - xact_start > '3s'";
    // The holders, and one of the two: a transaction that has failed has no age.
    crowd.scene.database.until(old, "4").await;
    crowd.scene.proxy.until_metric(WAITING, 2.0).await;
    crowd.disperse().await;
    crowd.finish().await;
    assert_eq!(late.until_ready().await, "(passed) SELECT 1 T");
    assert_eq!(late.query("COMMIT").await, "COMMIT I");
}

#[tokio::test]
async fn a_client_that_is_gone_is_not_kept_alive() {
    let mut crowd = Crowd::gather(Dialect::Postgres, |config| {
        patient(config);
        config.proxy.half_closed_timeout = Duration::from_secs(2);
    })
    .await;
    crowd.crowd().await;
    let mut late = crowd.scene.proxy.wire().await;
    assert_eq!(late.query("BEGIN").await, "BEGIN T");
    late.send([Frontend::Query(WORK.into())]).await;
    crowd.scene.proxy.until_metric(WAITING, 2.0).await;
    late.say_no_more().await;
    crowd.scene.proxy.until_metric(WAITING, 1.0).await;
    crowd.disperse().await;
    crowd.finish().await;
}

#[tokio::test]
async fn nothing_that_waits_is_sent_when_the_proxy_ends() {
    for dialect in DIALECTS {
        let mut crowd = Crowd::gather(dialect, |config| {
            patient(config);
            config.proxy.drain_timeout = Duration::from_millis(100);
        })
        .await;
        crowd.crowd().await;
        let mut waiting = Vec::new();
        for _ in 0..16 {
            let mut late = crowd.scene.proxy.wire().await;
            late.send([Frontend::Query(format!("{WORK}; INSERT INTO journal VALUES ('sent')"))]).await;
            waiting.push(late);
        }
        crowd.scene.proxy.until_metric(WAITING, 17.0).await;
        crowd.scene.proxy.stop();
        for late in &mut waiting {
            assert_eq!(late.until_closed().await, "57P01");
        }
        crowd.scene.database.until_deserted().await;
        assert_eq!(crowd.scene.database.query("SELECT count(*) FROM journal").await, "0");
    }
}

/// Those who have places wait for the locks of one that waits for somebody who has none.
#[tokio::test]
async fn nobody_waits_at_the_gate_for_a_transaction_that_waits_for_it() {
    const UPDATE: &str = "UPDATE kv SET v = v WHERE k = 2";
    for dialect in DIALECTS {
        let mut crowd = Crowd::gather(dialect, |config| {
            patient(config);
            // The last one meets forty conflicts, and waits before each replay.
            config.governor.idle = Duration::from_millis(5);
        })
        .await;
        assert_eq!(crowd.holders[0].query(UPDATE).await, "UPDATE 1 T");
        for (holder, blocked) in crowd.holders[1..].iter_mut().zip(1..) {
            holder.send([Frontend::Query(UPDATE.into())]).await;
            crowd.scene.database.until_blocked(blocked).await;
        }
        crowd.press().await;
        crowd.finish().await;
        let waited = crowd.scene.proxy.metric("reprise_governor_admissions_total{how=\"waited\"}");
        assert!(waited >= 1.0, "{waited}");
        assert_eq!(crowd.holders.remove(0).query("COMMIT").await, "COMMIT I");
        // Which of them is next is not known: one may meet a conflict and be run again behind the other.
        let others = crowd.holders.iter_mut().map(async |holder| {
            assert_eq!(holder.until_ready().await, "UPDATE 1 T");
            assert_eq!(holder.query("COMMIT").await, "COMMIT I");
        });
        within("the others", futures_util::future::join_all(others)).await;
    }
}

#[tokio::test]
async fn an_observer_lets_everybody_pass() {
    for dialect in DIALECTS {
        let mut crowd = Crowd::gather(dialect, |config| {
            patient(config);
            config.governor.mode = Mode::Observe;
        })
        .await;
        let client = &mut crowd.scene.client;
        assert_eq!(client.query("BEGIN").await, "BEGIN T");
        assert_eq!(client.query("SELECT conflict('last', 40)").await, "(passed) SELECT 1 T");
        assert_eq!(client.query("COMMIT").await, "COMMIT I");
        assert!(crowd.scene.proxy.metric("reprise_governor_admissions_total{how=\"observed\"}") >= 1.0);
        assert_eq!(crowd.scene.proxy.metric("reprise_governor_wait_seconds_count"), 0.0);
        crowd.disperse().await;
    }
}

#[tokio::test]
async fn who_observes_holds_up_nobody() {
    for dialect in DIALECTS {
        let mut crowd = Crowd::gather(dialect, |config| {
            patient(config);
            config.governor.mode = Mode::Observe;
        })
        .await;
        crowd.press().await;
        assert_eq!(crowd.scene.client.until_ready().await, "(passed) SELECT 1 T");
        crowd.scene.proxy.reconfigure(|config| config.governor.mode = Mode::On);
        let mut late = crowd.scene.proxy.wire().await;
        assert_eq!(late.query("SELECT conflict('first', 40)").await, "(passed) SELECT 1 I");
        assert_eq!(crowd.scene.proxy.metric("reprise_governor_wait_seconds_count"), 0.0);
        assert_eq!(crowd.scene.client.query("COMMIT").await, "COMMIT I");
        crowd.disperse().await;
    }
}

#[tokio::test]
async fn what_is_not_retried_is_no_class() {
    let mut scene = governed(Dialect::Postgres, |config| config.retry.policy.mode = Retry::Observe).await;
    assert_eq!(scene.client.query("SELECT conflict('first', 1)").await, "40001 I");
    assert_eq!(scene.client.query("SELECT conflict('first', 1)").await, "(passed) SELECT 1 I");
    assert_eq!(scene.proxy.metric("reprise_governor_admissions_total{how=\"at_once\"}"), 0.0);
    let met = "reprise_conflicts_total{phase=\"statement\",sqlstate=\"40001\"}";
    assert_eq!(scene.proxy.metric(met), 1.0);
    assert_eq!(scene.proxy.metric("reprise_governor_classes"), 0.0);
}

#[tokio::test]
async fn what_is_bound_and_not_run_leaves_its_place() {
    let mut scene = governed(Dialect::Postgres, patient).await;
    assert_eq!(scene.client.query("SELECT conflict('first', 1)").await, "(passed) SELECT 1 I");
    let bound =
        extended(WORK, &[]).into_iter().filter(|message| !matches!(message, Frontend::Execute { .. }));
    scene.client.send(bound.chain([Frontend::Sync])).await;
    assert_eq!(scene.client.until_ready().await, "I");
    assert_eq!(scene.proxy.metric("reprise_governor_admissions_total{how=\"at_once\"}"), 2.0);
    let mut holder = scene.proxy.wire().await;
    assert_eq!(holder.query("BEGIN").await, "BEGIN T");
    assert_eq!(holder.query(WORK).await, "(passed) SELECT 1 T");
    scene.proxy.until_metric("reprise_governor_running{class=\"all\"}", 1.0).await;
}

#[tokio::test]
async fn without_a_governor_there_is_no_class() {
    let for_all = |config: &mut Config| config.governor.mode = Mode::Off;
    let by_a_rule = |config: &mut Config| {
        let [user, database, application_name] = ["*"; 3].map(|pattern| pattern.parse().expect("a pattern"));
        let (mode, governor) = (None, Some(Mode::Off));
        config.rules.push(Rule { user, database, application_name, mode, governor });
    };
    for change in [for_all as fn(&mut Config), by_a_rule] {
        let crowd = Crowd::gather(Dialect::Postgres, change).await;
        assert_eq!(crowd.scene.proxy.metric("reprise_conflicts_hidden_total"), 1.0);
        assert_eq!(crowd.scene.proxy.metric("reprise_governor_classes"), 0.0);
        assert_eq!(crowd.scene.proxy.metric("reprise_governor_admissions_total{how=\"at_once\"}"), 0.0);
    }
}

#[tokio::test]
async fn a_reload_switches_it_for_sessions_that_begin() {
    const CLASSES: &str = "reprise_governor_classes";
    let conflict = "SELECT conflict('first', 1)";
    let mut scene = governed(Dialect::Postgres, |config| config.governor.mode = Mode::Off).await;
    assert_eq!(scene.client.query(conflict).await, "(passed) SELECT 1 I");
    scene.proxy.reconfigure(|config| config.governor.mode = Mode::On);
    let mut late = scene.proxy.wire().await;
    assert_eq!(late.query("SELECT conflict('second', 1)").await, "(passed) SELECT 1 I");
    scene.proxy.until_metric(CLASSES, 1.0).await;
    scene.proxy.reconfigure(|config| config.governor.calm = Duration::from_millis(1));
    scene.proxy.until_metric(CLASSES, 0.0).await;
}

#[tokio::test]
async fn a_setting_of_the_proxy_s_own_begins_no_transaction() {
    const STATES: [(&str, f64); 2] = [("idle", 1.0), ("idle_in_transaction", 0.0)];
    let mut scene = governed(Dialect::Postgres, patient).await;
    assert_eq!(scene.client.query("SELECT conflict('first', 1)").await, "(passed) SELECT 1 I");
    assert_eq!(scene.client.query("SET reprise.report = on").await, "SET I");
    for (state, sessions) in STATES {
        let name = format!("reprise_sessions_by_state{{dialect=\"postgres\",state=\"{state}\"}}");
        assert_eq!(scene.proxy.metric(&name), sessions, "{state}");
    }
}

#[tokio::test]
async fn a_class_that_is_calm_is_forgotten() {
    let calm = |config: &mut Config| config.governor.calm = Duration::from_millis(1);
    let mut scene = governed(Dialect::Postgres, calm).await;
    assert_eq!(scene.client.query("SELECT conflict('first', 1)").await, "(passed) SELECT 1 I");
    scene.proxy.until_metric("reprise_governor_classes", 0.0).await;
    assert_eq!(scene.client.query(WORK).await, "(passed) SELECT 1 I");
}

#[tokio::test]
async fn only_transactions_on_the_same_hot_row_are_a_class() {
    let scene = governed(Dialect::Postgres, |_| {}).await;
    let name = &scene.database.name;
    // A scan of the whole table would have everybody conflict with everybody.
    scene.database.run(&format!("ALTER DATABASE {name} SET enable_seqscan = off")).await;
    let mut clients = Vec::new();
    for row in [1, 1, 1, 1, 2, 3] {
        let client = scene.proxy.client().await;
        let update = client.prepare("UPDATE kv SET v = v + 1 WHERE k = $1").await.expect("a statement");
        clients.push((row, client, update));
    }
    // That of the statement, and that of the row.
    let are_told_apart = || scene.proxy.metric("reprise_governor_classes") == 2.0;
    let work = clients.iter().map(async |(row, client, update)| {
        while !are_told_apart() {
            client.batch_execute("BEGIN ISOLATION LEVEL SERIALIZABLE").await.expect("BEGIN");
            assert_eq!(client.execute(update, &[row]).await.expect("hidden"), 1);
            client.batch_execute("COMMIT").await.expect("hidden");
        }
    });
    within("the class of the row", futures_util::future::join_all(work)).await;
}

#[tokio::test]
async fn hot_rows_lose_no_update() {
    const CLIENTS: usize = 8;
    const ROUNDS: usize = 10;
    let scene = Scene::start(Dialect::Postgres).await;
    let name = &scene.database.name;
    scene.database.run(&format!("ALTER DATABASE {name} SET deadlock_timeout = '5ms'")).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(scene.proxy.client().await);
    }
    let work = clients.iter().enumerate().map(async |(number, client)| {
        for round in 0..ROUNDS {
            let mut rows = [1, 2, 3];
            rows.rotate_left((number + round) % 3);
            client.batch_execute("BEGIN ISOLATION LEVEL SERIALIZABLE").await.expect("BEGIN");
            for row in rows {
                let update = "UPDATE kv SET v = v + 1 WHERE k = $1";
                assert_eq!(client.execute(update, &[&row]).await.expect("hidden"), 1);
            }
            client.batch_execute("COMMIT").await.expect("hidden");
        }
    });
    within("all transfers", futures_util::future::join_all(work)).await;
    let expected = (CLIENTS * ROUNDS * 3 + 60).to_string();
    assert_eq!(scene.database.query("SELECT sum(v) FROM kv").await, expected);
    drop(clients);
    // What is left is the client of the scene.
    scene.proxy.until_metric("reprise_sessions", 1.0).await;
}
