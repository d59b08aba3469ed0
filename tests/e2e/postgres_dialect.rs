//! The postgres dialect, with the conflicts that PostgreSQL itself makes: hidden, with everything done once.

use golden::Frontend;
use reprise::replay::Dialect;
use tokio_postgres::{Config, IsolationLevel, NoTls};

use crate::support::Scene;
use crate::support::database::{APPLICATION, config};
use crate::support::wire::extended;
use crate::support::within;

async fn start() -> Scene {
    Scene::start(Dialect::Postgres).await
}

impl Scene {
    /// Waits until so many conflicts were met in a phase, and checks that all of them were hidden.
    async fn expect_hidden(&self, sqlstate: &str, phase: &str, conflicts: f64) {
        let met = format!("reprise_conflicts_total{{phase=\"{phase}\",sqlstate=\"{sqlstate}\"}}");
        self.proxy.until_metric(&met, conflicts).await;
        assert_eq!(self.proxy.conflicts(), (conflicts, 0.0));
    }
}

#[tokio::test]
async fn the_first_updater_wins_and_the_second_never_knows() {
    let mut scene = start().await;
    let client = &mut scene.client;
    assert_eq!(client.query("BEGIN ISOLATION LEVEL REPEATABLE READ").await, "BEGIN T");
    assert_eq!(client.query("SELECT v FROM kv WHERE k = 2").await, "(20) SELECT 1 T");
    assert_eq!(client.query("INSERT INTO journal VALUES ('once')").await, "INSERT 0 1 T");
    scene.database.run("UPDATE kv SET v = v + 100 WHERE k = 1").await;
    assert_eq!(client.query("UPDATE kv SET v = v + 1 WHERE k = 1 RETURNING v").await, "(111) UPDATE 1 T");
    assert_eq!(client.query("COMMIT").await, "COMMIT I");
    assert_eq!(scene.database.query("SELECT v FROM kv WHERE k = 1").await, "111");
    assert_eq!(scene.database.query("SELECT * FROM journal").await, "once");
    scene.expect_hidden("40001", "statement", 1.0).await;
}

#[tokio::test]
async fn the_same_through_the_extended_protocol() {
    let mut scene = start().await;
    let client = &mut scene.client;
    assert_eq!(client.execute("BEGIN ISOLATION LEVEL REPEATABLE READ", &[]).await, "BEGIN T");
    assert_eq!(client.execute("SELECT v FROM kv WHERE k = $1", &["2"]).await, "(20) SELECT 1 T");
    assert_eq!(client.execute("INSERT INTO journal VALUES ($1)", &["once"]).await, "INSERT 0 1 T");
    scene.database.run("UPDATE kv SET v = v + 100 WHERE k = 1").await;
    let update = "UPDATE kv SET v = v + $2::int WHERE k = $1 RETURNING v";
    assert_eq!(client.execute(update, &["1", "1"]).await, "(111) UPDATE 1 T");
    assert_eq!(client.execute("COMMIT", &[]).await, "COMMIT I");
    assert_eq!(scene.database.query("SELECT * FROM journal").await, "once");
    scene.expect_hidden("40001", "statement", 1.0).await;
}

#[tokio::test]
async fn a_driver_with_prepared_statements_sees_nothing_but_success() {
    let scene = start().await;
    let mut client = scene.proxy.client().await;
    let transaction = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead);
    let transaction = transaction.start().await.expect("BEGIN");
    // Prepared inside of the transaction: the names outlive the attempt, and the replay must free them first.
    let read = transaction.prepare("SELECT v FROM kv WHERE k = $1").await.expect("a statement");
    let write = transaction.prepare("UPDATE kv SET v = v + $2 WHERE k = $1").await.expect("a statement");
    let row = transaction.query_one(&read, &[&2]).await.expect("a row");
    assert_eq!(row.get::<_, i32>(0), 20);
    scene.database.run("UPDATE kv SET v = v + 100 WHERE k = 1").await;
    assert_eq!(transaction.execute(&write, &[&1, &1]).await.expect("no conflict"), 1);
    assert_eq!(transaction.execute(&write, &[&2, &1]).await.expect("no conflict"), 1);
    transaction.commit().await.expect("no conflict");
    assert_eq!(client.execute(&write, &[&3, &1]).await.expect("it is still prepared"), 1);
    assert_eq!(scene.database.query("SELECT v FROM kv ORDER BY k").await, "111;21;31");
    scene.expect_hidden("40001", "statement", 1.0).await;
}

#[tokio::test]
async fn write_skew_at_commit_is_hidden() {
    for extended in [false, true] {
        let mut scene = start().await;
        let client = &mut scene.client;
        let mut other = scene.database.wire().await;
        for session in [&mut *client, &mut other] {
            assert_eq!(session.query("BEGIN ISOLATION LEVEL SERIALIZABLE").await, "BEGIN T");
            assert_eq!(session.query("SELECT count(*) FROM kv").await, "(3) SELECT 1 T");
        }
        assert_eq!(client.query("INSERT INTO kv VALUES (4, 40)").await, "INSERT 0 1 T");
        assert_eq!(other.query("UPDATE kv SET v = 31 WHERE k = 3").await, "UPDATE 1 T");
        assert_eq!(other.query("COMMIT").await, "COMMIT I");
        let commit =
            if extended { client.execute("COMMIT", &[]).await } else { client.query("COMMIT").await };
        assert_eq!(commit, "COMMIT I");
        assert_eq!(scene.database.query("SELECT k, v FROM kv ORDER BY k").await, "1,10;2,20;3,31;4,40");
        scene.expect_hidden("40001", "commit", 1.0).await;
    }
}

#[tokio::test]
async fn write_skew_at_a_statement_is_hidden() {
    let mut scene = start().await;
    let client = &mut scene.client;
    let mut other = scene.database.wire().await;
    for session in [&mut *client, &mut other] {
        assert_eq!(session.query("BEGIN ISOLATION LEVEL SERIALIZABLE").await, "BEGIN T");
        assert_eq!(session.query("SELECT count(*) FROM kv").await, "(3) SELECT 1 T");
    }
    assert_eq!(other.query("UPDATE kv SET v = 31 WHERE k = 3").await, "UPDATE 1 T");
    assert_eq!(other.query("COMMIT").await, "COMMIT I");
    assert_eq!(client.query("UPDATE kv SET v = 11 WHERE k = 1").await, "UPDATE 1 T");
    assert_eq!(client.query("COMMIT").await, "COMMIT I");
    assert_eq!(scene.database.query("SELECT v FROM kv ORDER BY k").await, "11;20;31");
    scene.expect_hidden("40001", "statement", 1.0).await;
}

/// A session whose waits look for deadlocks after so many milliseconds.
fn patient(address: std::net::SocketAddr, database: &str, deadlock_timeout: u32) -> Config {
    let mut config = config(address, database, APPLICATION);
    config.options(format!("-c deadlock_timeout={deadlock_timeout}"));
    config
}

#[tokio::test]
async fn a_deadlock_is_hidden_from_its_victim() {
    let scene = start().await;
    let name = &scene.database.name;
    // Only the client's own wait looks for deadlocks, so that it is the victim. It looks once: by then the other must wait too,
    // also where the replay has taken the first row again before it.
    let (client, connection) =
        patient(scene.proxy.address, name, 1000).connect(NoTls).await.expect("a connection");
    tokio::spawn(connection);
    let (other, connection) =
        patient(scene.database.address, name, 3_600_000).connect(NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client.batch_execute("BEGIN; UPDATE kv SET v = v + 1 WHERE k = 1").await.expect("no conflict");
    other.batch_execute("BEGIN; UPDATE kv SET v = v + 10 WHERE k = 2").await.expect("no conflict");
    let second = async {
        other.batch_execute("UPDATE kv SET v = v + 10 WHERE k = 1").await.expect("it is not the victim");
        other.batch_execute("COMMIT").await.expect("a commit");
    };
    let first = async {
        scene.database.until_blocked(1).await;
        client.batch_execute("UPDATE kv SET v = v + 1 WHERE k = 2").await.expect("no deadlock");
        client.batch_execute("COMMIT").await.expect("a commit");
    };
    within("the deadlock", async { tokio::join!(first, second) }).await;
    assert_eq!(scene.database.query("SELECT v FROM kv WHERE k < 3 ORDER BY k").await, "21;31");
    let (hidden, surfaced) = scene.proxy.conflicts();
    assert!(hidden > 0.0 && surfaced == 0.0);
}

#[tokio::test]
async fn deadlocks_may_be_left_to_the_client() {
    let scene = Scene::with(Dialect::Postgres, |config| config.retry.policy.deadlocks = false).await;
    let mut client = scene.proxy.wire().await;
    let raise = "DO $$ BEGIN RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01'; END $$";
    assert_eq!(client.query("BEGIN").await, "BEGIN T");
    let answer = client.query(raise).await;
    assert_eq!(answer, "40P01 E");
    assert_eq!((answer.field('D'), answer.field('H')), ("", ""), "the server's error is left as it is");
    assert_eq!(scene.proxy.conflicts(), (0.0, 0.0));
}

#[tokio::test]
async fn a_statement_in_autocommit_is_sent_again() {
    let mut scene = start().await;
    let client = &mut scene.client;
    let level = "SET default_transaction_isolation = 'repeatable read'";
    assert_eq!(client.query(level).await, "SET I");
    let mut other = scene.database.wire().await;
    assert_eq!(other.query("BEGIN").await, "BEGIN T");
    assert_eq!(other.query("UPDATE kv SET v = v + 100 WHERE k = 1").await, "UPDATE 1 T");
    let (updated, committed) =
        tokio::join!(client.query("UPDATE kv SET v = v + 1 WHERE k = 1 RETURNING v"), async {
            scene.database.until_blocked(1).await;
            other.query("COMMIT").await
        });
    assert_eq!(committed, "COMMIT I");
    assert_eq!(updated, "(111) UPDATE 1 I");
    scene.expect_hidden("40001", "statement", 1.0).await;
}

#[tokio::test]
async fn a_batch_in_autocommit_is_one_transaction_and_is_sent_again_whole() {
    let mut scene = start().await;
    let batch = [
        extended("INSERT INTO journal VALUES ($1)", &["b"]),
        extended("SELECT conflict('first', 1)", &[]),
        extended("INSERT INTO journal VALUES ($1)", &["c"]),
    ];
    scene.client.send(batch.into_iter().flatten().chain([Frontend::Sync])).await;
    let answer = scene.client.until_ready().await;
    assert_eq!(answer, "INSERT 0 1 (passed) SELECT 1 INSERT 0 1 I");
    assert_eq!(scene.database.query("SELECT entry FROM journal ORDER BY 1").await, "b;c");
    scene.expect_hidden("40001", "statement", 1.0).await;
}
