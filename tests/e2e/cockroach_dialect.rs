//! The cockroach dialect, on PostgreSQL with CockroachDB's own test function: `SAVEPOINT cockroach_restart` and the way
//! back to it, as the server's log shows them.

use golden::Frontend;
use reprise::replay::{Begin, Dialect};

use crate::support::Scene;
use crate::support::wire::extended;

const SAVEPOINT: &str = "SAVEPOINT cockroach_restart";
const RESTART: &str = "ROLLBACK TO SAVEPOINT cockroach_restart";
const RELEASE_AND_COMMIT: &str = "RELEASE SAVEPOINT cockroach_restart; COMMIT";

async fn start() -> Scene {
    Scene::start(Dialect::Cockroach).await
}

fn count(statements: &[String], sql: &str) -> usize {
    statements.iter().filter(|statement| *statement == sql).count()
}

#[tokio::test]
async fn a_forced_conflict_at_a_statement_goes_back_to_the_savepoint() {
    let mut scene = start().await;
    let client = &mut scene.client;
    assert_eq!(client.query("BEGIN").await, "BEGIN T");
    assert_eq!(client.query("INSERT INTO journal VALUES ('once')").await, "INSERT 0 1 T");
    assert_eq!(client.query("SELECT crdb_internal.force_retry('500ms')").await, "(0) SELECT 1 T");
    assert_eq!(client.query("COMMIT").await, "COMMIT I");
    assert_eq!(scene.database.query("SELECT * FROM journal").await, "once");
    let (hidden, surfaced) = scene.proxy.conflicts();
    assert!(hidden > 0.0 && surfaced == 0.0);

    let statements = scene.database.statements().await;
    assert_eq!(statements[..3], ["BEGIN", SAVEPOINT, "INSERT INTO journal VALUES ('once')"]);
    assert_eq!(count(&statements, SAVEPOINT), 1);
    assert_eq!(count(&statements, RESTART), hidden as usize, "one way back for each conflict");
    assert_eq!(count(&statements, "BEGIN"), 1, "it is one transaction of the server");
    assert_eq!(statements.last().expect("the last"), RELEASE_AND_COMMIT);
}

#[tokio::test]
async fn a_forced_conflict_at_commit_is_hidden() {
    let mut scene = start().await;
    let client = &mut scene.client;
    assert_eq!(client.query("BEGIN").await, "BEGIN T");
    assert_eq!(client.query("INSERT INTO journal VALUES ('once')").await, "INSERT 0 1 T");
    assert_eq!(client.query("INSERT INTO late VALUES (3)").await, "INSERT 0 1 T");
    assert_eq!(client.query("COMMIT").await, "COMMIT I");
    assert_eq!(scene.database.query("SELECT * FROM journal").await, "once");
    let phase = "reprise_conflicts_total{phase=\"commit\",sqlstate=\"40001\"}";
    assert_eq!(scene.proxy.metric(phase), 3.0);
    assert_eq!(scene.proxy.conflicts(), (3.0, 0.0));
    // A failed COMMIT ends the transaction: each further attempt has a BEGIN and a savepoint of its own.
    let statements = scene.database.statements().await;
    assert_eq!(count(&statements, SAVEPOINT), 4);
    assert_eq!(count(&statements, RELEASE_AND_COMMIT), 4);
}

#[tokio::test]
async fn conflicts_at_many_places_of_one_transaction_are_hidden() {
    let mut scene = start().await;
    let client = &mut scene.client;
    assert_eq!(client.query("BEGIN").await, "BEGIN T");
    assert_eq!(client.query("SELECT conflict('first', 2)").await, "(passed) SELECT 1 T");
    assert_eq!(client.query("UPDATE kv SET v = v + 1 WHERE k = 1 RETURNING v").await, "(11) UPDATE 1 T");
    assert_eq!(client.query("SELECT conflict('second', 3)").await, "(passed) SELECT 1 T");
    assert_eq!(client.query("INSERT INTO late VALUES (2)").await, "INSERT 0 1 T");
    assert_eq!(client.query("SELECT v FROM kv WHERE k = 1").await, "(11) SELECT 1 T");
    assert_eq!(client.query("COMMIT").await, "COMMIT I");
    assert_eq!(scene.database.query("SELECT v FROM kv WHERE k = 1").await, "11");
    assert_eq!(scene.proxy.conflicts(), (7.0, 0.0));
}

#[tokio::test]
async fn a_driver_is_retried_through_the_extended_protocol() {
    // PostgreSQL answers START TRANSACTION, as this driver begins, with another tag than CockroachDB.
    let scene = Scene::with(Dialect::Cockroach, |config| config.retry.policy.begin = Begin::Immediate).await;
    let mut client = scene.proxy.client().await;
    let transaction = client.transaction().await.expect("BEGIN");
    let inserted = transaction.execute("INSERT INTO journal VALUES ($1)", &[&"once"]).await;
    assert_eq!(inserted.expect("a row"), 1);
    let row = transaction.query_one("SELECT conflict('first', $1)", &[&2i64]).await.expect("no conflict");
    assert_eq!(row.get::<_, &str>(0), "passed");
    transaction.execute("INSERT INTO late VALUES (1)", &[]).await.expect("no conflict");
    transaction.commit().await.expect("no conflict");
    assert_eq!(scene.database.query("SELECT * FROM journal").await, "once");
    assert_eq!(scene.proxy.conflicts(), (3.0, 0.0));
    assert_eq!(count(&scene.database.statements().await, RESTART), 2);
}

#[tokio::test]
async fn a_commit_in_the_extended_protocol_is_released_and_hidden() {
    let mut scene = start().await;
    let client = &mut scene.client;
    assert_eq!(client.execute("BEGIN", &[]).await, "BEGIN T");
    assert_eq!(client.execute("INSERT INTO journal VALUES ($1)", &["once"]).await, "INSERT 0 1 T");
    assert_eq!(client.execute("INSERT INTO late VALUES ($1)", &["2"]).await, "INSERT 0 1 T");
    assert_eq!(client.execute("COMMIT", &[]).await, "COMMIT I");
    assert_eq!(scene.database.query("SELECT * FROM journal").await, "once");
    assert_eq!(scene.proxy.conflicts(), (2.0, 0.0));
}

#[tokio::test]
async fn a_whole_transaction_in_one_batch_is_restarted_whole() {
    let mut scene = start().await;
    let statements =
        ["BEGIN", "INSERT INTO journal VALUES ('once')", "SELECT conflict('first', 2)", "COMMIT"];
    let batch = statements.into_iter().flat_map(|sql| extended(sql, &[]));
    scene.client.send(batch.chain([Frontend::Sync])).await;
    let answer = scene.client.until_ready().await;
    assert_eq!(answer, "BEGIN INSERT 0 1 (passed) SELECT 1 COMMIT I");
    assert_eq!(scene.database.query("SELECT * FROM journal").await, "once");
    assert_eq!(scene.proxy.conflicts(), (2.0, 0.0));
}

#[tokio::test]
async fn a_pipeline_of_queries_is_hidden_with_its_commit() {
    let mut scene = start().await;
    let texts = ["BEGIN", "INSERT INTO journal VALUES ('once')", "SELECT conflict('first', 2)", "COMMIT"];
    scene.client.send(texts.map(|sql| Frontend::Query(sql.into()))).await;
    for expected in ["BEGIN T", "INSERT 0 1 T", "(passed) SELECT 1 T", "COMMIT I"] {
        assert_eq!(scene.client.until_ready().await, expected);
    }
    assert_eq!(scene.database.query("SELECT * FROM journal").await, "once");
    assert_eq!(scene.proxy.conflicts(), (2.0, 0.0));
}

#[tokio::test]
async fn nothing_is_added_to_what_needs_no_savepoint() {
    let mut scene = start().await;
    let client = &mut scene.client;
    assert_eq!(client.query("BEGIN").await, "BEGIN T");
    assert_eq!(client.query("COMMIT").await, "COMMIT I");
    assert_eq!(client.query("SELECT 1").await, "(1) SELECT 1 I");
    assert_eq!(client.query("BEGIN").await, "BEGIN T");
    assert_eq!(client.query("ROLLBACK").await, "ROLLBACK I");
    // An empty transaction is not even begun.
    assert_eq!(scene.database.statements().await, ["SELECT 1"]);
}

#[tokio::test]
async fn the_clients_own_retry_protocol_is_left_alone() {
    let mut scene = start().await;
    let client = &mut scene.client;
    assert_eq!(client.query("BEGIN; SAVEPOINT cockroach_restart").await, "BEGIN SAVEPOINT T");
    let answer = client.query("SELECT conflict('first', 1)").await;
    assert_eq!(answer, "40001 E");
    assert_eq!(answer.field('D'), "", "the wire is as it is without the proxy");
    assert_eq!(client.query(RESTART).await, "ROLLBACK T");
    assert_eq!(client.query("SELECT conflict('first', 1)").await, "(passed) SELECT 1 T");
    assert_eq!(client.query("RELEASE SAVEPOINT cockroach_restart").await, "RELEASE T");
    assert_eq!(client.query("COMMIT").await, "COMMIT I");
    let statements = scene.database.statements().await;
    assert_eq!(statements.len(), 6, "{statements:?}");
    assert_eq!(scene.proxy.conflicts(), (0.0, 1.0));
}
