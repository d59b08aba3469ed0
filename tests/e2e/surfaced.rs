//! Replays that would show the client something other than it was shown: the conflict is surfaced, and the session is
//! where a failed transaction leaves it.

use golden::Frontend;
use reprise::replay::Dialect;

use crate::support::wire::{Answer, Wire};
use crate::support::{DIALECTS, Scene, within};

/// The surfaced conflict of a statement: the server's own error, with what stood in the way.
#[track_caller]
fn expect_surfaced(answer: &Answer, reason: &str, what: &str) {
    assert_eq!(answer.field('C'), "40001", "{answer:?}");
    assert_eq!(answer.field('M'), "restart transaction");
    let detail = answer.field('D');
    assert!(detail.contains(&format!("({reason})")) && detail.contains(what), "{detail}");
    assert!(!answer.field('H').is_empty());
}

/// After a surfaced conflict the session can do what one with a failed transaction can, and no more; then all is well.
async fn expect_usable(scene: &mut Scene) {
    let hidden = scene.proxy.conflicts().0;
    let client = &mut scene.client;
    assert_eq!(client.query("SELECT 1").await, "25P02 E");
    assert_eq!(client.query("ROLLBACK").await, "ROLLBACK I");
    assert_eq!(client.query("BEGIN").await, "BEGIN T");
    assert_eq!(client.query("INSERT INTO journal VALUES ('next')").await, "INSERT 0 1 T");
    assert_eq!(client.query("SELECT conflict('last', 2)").await, "(passed) SELECT 1 T");
    assert_eq!(client.query("COMMIT").await, "COMMIT I");
    assert_eq!(scene.database.query("SELECT * FROM journal").await, "next");
    assert_eq!(scene.proxy.conflicts(), (hidden + 2.0, 1.0));
}

/// Runs a transaction in which `seen` is answered, somebody else does `change`, and then a conflict is met.
async fn differing(dialect: Dialect, seen: &[(&str, &str)], change: &str) -> (Scene, Answer) {
    let mut scene = Scene::start(dialect).await;
    assert_eq!(scene.client.query("BEGIN").await, "BEGIN T");
    for (sql, answer) in seen {
        assert_eq!(scene.client.query(sql).await, *answer, "{sql}");
    }
    scene.database.run(change).await;
    let answer = scene.client.query("SELECT conflict('first', 1)").await;
    assert_eq!(answer.status(), Some('E'), "{answer:?}");
    (scene, answer)
}

#[tokio::test]
async fn a_row_that_was_read_and_now_differs() {
    for dialect in DIALECTS {
        let read = [
            ("SELECT count(*) FROM kv", "(3) SELECT 1 T"),
            ("SELECT v FROM kv WHERE k = 1", "(10) SELECT 1 T"),
            ("INSERT INTO journal VALUES ('never')", "INSERT 0 1 T"),
        ];
        let (mut scene, answer) = differing(dialect, &read, "UPDATE kv SET v = 11 WHERE k = 1").await;
        expect_surfaced(&answer, "results_differ", "gave another result than before, with as many rows (1)");
        assert!(answer.field('D').contains(": 2 attempts in "), "{}", answer.error());
        let reason = "reprise_conflicts_surfaced_total{reason=\"results_differ\"}";
        expect_usable(&mut scene).await;
        assert_eq!(scene.proxy.metric(reason), 1.0);
    }
}

#[tokio::test]
async fn rows_that_came_or_went() {
    for dialect in DIALECTS {
        let read = [("SELECT k FROM kv ORDER BY k", "(1) (2) (3) SELECT 3 T")];
        let (mut scene, answer) = differing(dialect, &read, "DELETE FROM kv WHERE k = 3").await;
        expect_surfaced(&answer, "results_differ", "(3 rows, now 2)");
        expect_usable(&mut scene).await;
        let (mut scene, answer) = differing(dialect, &read, "INSERT INTO kv VALUES (4, 40)").await;
        expect_surfaced(&answer, "results_differ", "(3 rows, now 4)");
        expect_usable(&mut scene).await;
    }
}

#[tokio::test]
async fn the_same_rows_in_another_order() {
    for dialect in DIALECTS {
        let read = [("SELECT k FROM kv ORDER BY v", "(1) (2) (3) SELECT 3 T")];
        let (mut scene, answer) = differing(dialect, &read, "UPDATE kv SET v = 25 WHERE k = 1").await;
        expect_surfaced(&answer, "results_differ", "statement ");
        expect_usable(&mut scene).await;
    }
}

#[tokio::test]
async fn a_count_of_updated_rows_that_differs() {
    for dialect in DIALECTS {
        let written = [("UPDATE kv SET v = v + 1 WHERE v >= 30", "UPDATE 1 T")];
        let (mut scene, answer) = differing(dialect, &written, "INSERT INTO kv VALUES (4, 40)").await;
        expect_surfaced(&answer, "results_differ", "statement ");
        expect_usable(&mut scene).await;
        assert_eq!(scene.database.query("SELECT v FROM kv ORDER BY k").await, "10;20;30;40");
    }
}

#[tokio::test]
async fn an_error_that_does_not_come_again() {
    for dialect in DIALECTS {
        let failed = [
            ("SAVEPOINT mine", "SAVEPOINT T"),
            ("INSERT INTO kv VALUES (3, 0)", "23505 E"),
            ("ROLLBACK TO mine", "ROLLBACK T"),
        ];
        let (mut scene, answer) = differing(dialect, &failed, "DELETE FROM kv WHERE k = 3").await;
        expect_surfaced(&answer, "results_differ", "statement ");
        expect_usable(&mut scene).await;
        assert_eq!(scene.database.query("SELECT k FROM kv ORDER BY k").await, "1;2");
    }
}

#[tokio::test]
async fn an_error_that_comes_only_now() {
    for dialect in DIALECTS {
        let seen = [("SELECT 5 / (11 - v) FROM kv WHERE k = 1", "(5) SELECT 1 T")];
        let (mut scene, answer) = differing(dialect, &seen, "UPDATE kv SET v = 11 WHERE k = 1").await;
        expect_surfaced(&answer, "results_differ", "statement 1 of 2 gave another ");
        expect_usable(&mut scene).await;
    }
}

#[tokio::test]
async fn columns_that_another_session_changed() {
    for dialect in DIALECTS {
        let mut scene = Scene::start(dialect).await;
        let mut other = scene.database.wire().await;
        assert_eq!(scene.client.query("BEGIN").await, "BEGIN T");
        // No row: only the description of the columns was seen.
        assert_eq!(scene.client.query("SELECT * FROM kv WHERE k = 9").await, "SELECT 0 T");
        let (answer, altered) = tokio::join!(
            async {
                scene.database.until_blocked(1).await;
                scene.client.query("SELECT conflict('first', 1)").await
            },
            other.query("ALTER TABLE kv ADD COLUMN w integer")
        );
        assert_eq!(altered, "ALTER TABLE I");
        expect_surfaced(&answer, "results_differ", "statement ");
        expect_usable(&mut scene).await;
    }
}

#[tokio::test]
async fn a_read_modify_write_never_loses_an_update() {
    let mut scene = Scene::start(Dialect::Postgres).await;
    let client = &mut scene.client;
    assert_eq!(client.execute("BEGIN ISOLATION LEVEL REPEATABLE READ", &[]).await, "BEGIN T");
    assert_eq!(client.execute("SELECT v FROM kv WHERE k = $1", &["1"]).await, "(10) SELECT 1 T");
    scene.database.run("UPDATE kv SET v = v + 100 WHERE k = 1").await;
    let answer = client.execute("UPDATE kv SET v = $2 WHERE k = $1", &["1", "11"]).await;
    assert_eq!(answer, "40001 E");
    assert!(answer.field('D').contains("(results_differ)"), "{}", answer.error());
    assert_eq!(scene.database.query("SELECT v FROM kv WHERE k = 1").await, "110");
    expect_usable(&mut scene).await;
}

#[tokio::test]
async fn a_difference_found_at_commit_leaves_no_transaction() {
    for dialect in DIALECTS {
        for extended in [false, true] {
            let mut scene = Scene::start(dialect).await;
            let client = &mut scene.client;
            assert_eq!(client.query("BEGIN").await, "BEGIN T");
            assert_eq!(client.query("SELECT v FROM kv WHERE k = 1").await, "(10) SELECT 1 T");
            assert_eq!(client.query("INSERT INTO journal VALUES ('never')").await, "INSERT 0 1 T");
            assert_eq!(client.query("INSERT INTO late VALUES (1)").await, "INSERT 0 1 T");
            scene.database.run("UPDATE kv SET v = 11 WHERE k = 1").await;
            let answer =
                if extended { client.execute("COMMIT", &[]).await } else { client.query("COMMIT").await };
            expect_surfaced(&answer, "results_differ", "statement ");
            assert_eq!(answer.status(), Some('I'));
            assert_eq!(scene.database.query("SELECT * FROM journal").await, "");
            assert_eq!(client.query("BEGIN").await, "BEGIN T");
            assert_eq!(client.query("SELECT conflict('first', 1)").await, "(passed) SELECT 1 T");
            assert_eq!(client.query("COMMIT").await, "COMMIT I");
        }
    }
}

#[tokio::test]
async fn a_surfaced_transaction_cannot_be_revived() {
    for dialect in DIALECTS {
        let seen = [
            ("SAVEPOINT mine", "SAVEPOINT T"),
            ("INSERT INTO journal VALUES ('never')", "INSERT 0 1 T"),
            ("SELECT v FROM kv WHERE k = 1", "(10) SELECT 1 T"),
        ];
        let (mut scene, answer) = differing(dialect, &seen, "UPDATE kv SET v = 11 WHERE k = 1").await;
        expect_surfaced(&answer, "results_differ", "statement ");
        let client = &mut scene.client;
        assert_eq!(client.query("ROLLBACK TO mine").await, "3B001 E");
        assert_eq!(client.query("INSERT INTO journal VALUES ('never')").await, "25P02 E");
        assert_eq!(client.execute("SELECT 1", &[]).await, "25P02 E");
        assert_eq!(client.query("COMMIT").await, "ROLLBACK I");
        assert_eq!(scene.database.query("SELECT * FROM journal").await, "");
        assert_eq!(client.query("BEGIN").await, "BEGIN T");
        expect_next_is_hidden(client).await;
    }
}

async fn expect_next_is_hidden(client: &mut Wire) {
    assert_eq!(client.query("SELECT conflict('second', 1)").await, "(passed) SELECT 1 T");
    assert_eq!(client.query("COMMIT").await, "COMMIT I");
}

#[tokio::test]
async fn what_was_pipelined_behind_a_surfaced_conflict_fails_as_it_would() {
    for dialect in DIALECTS {
        let mut scene = Scene::start(dialect).await;
        let client = &mut scene.client;
        assert_eq!(client.query("BEGIN").await, "BEGIN T");
        assert_eq!(client.query("SELECT v FROM kv WHERE k = 1").await, "(10) SELECT 1 T");
        scene.database.run("UPDATE kv SET v = 11 WHERE k = 1").await;
        let texts = ["SELECT conflict('first', 1)", "INSERT INTO journal VALUES ('never')", "COMMIT"];
        client.send(texts.map(|sql| Frontend::Query(sql.into()))).await;
        expect_surfaced(&client.until_ready().await, "results_differ", "statement ");
        assert_eq!(client.until_ready().await, "25P02 E");
        assert_eq!(client.until_ready().await, "ROLLBACK I");
        assert_eq!(scene.database.query("SELECT * FROM journal").await, "");
    }
}

#[tokio::test]
async fn a_driver_gets_an_error_that_its_own_loop_understands() {
    for dialect in DIALECTS {
        let scene = Scene::start(dialect).await;
        let mut client = scene.proxy.client().await;
        let mut attempts = 0;
        within("the client's own loop", async {
            loop {
                attempts += 1;
                let transaction = client.transaction().await.expect("BEGIN");
                let row = transaction.query_one("SELECT v FROM kv WHERE k = 1", &[]).await.expect("a row");
                if attempts == 1 {
                    scene.database.run("UPDATE kv SET v = 11 WHERE k = 1").await;
                }
                match transaction.query_one("SELECT conflict('first', 1)", &[]).await {
                    Ok(_) => {
                        let value = row.get::<_, i32>(0) + 1;
                        let update = "UPDATE kv SET v = $1 WHERE k = 1";
                        transaction.execute(update, &[&value]).await.expect("a row");
                        return transaction.commit().await.expect("a commit");
                    }
                    Err(error) => assert_eq!(error.code().expect("a SQLSTATE").code(), "40001"),
                }
            }
        })
        .await;
        assert_eq!(
            (attempts, scene.database.query("SELECT v FROM kv WHERE k = 1").await.as_str()),
            (2, "12")
        );
    }
}

#[tokio::test]
async fn a_value_that_differs_on_every_run_cannot_be_hidden() {
    for dialect in DIALECTS {
        let seen = [("SELECT nextval('second')", "(1) SELECT 1 T")];
        let (mut scene, answer) = differing(dialect, &seen, "SELECT 1").await;
        expect_surfaced(&answer, "results_differ", "statement ");
        expect_usable(&mut scene).await;
    }
}

#[tokio::test]
async fn what_no_rollback_restores_cannot_be_replayed() {
    let statements = [
        (Dialect::Postgres, "PREPARE q AS SELECT 1", "PREPARE T", "session_state"),
        (Dialect::Cockroach, "SET search_path = public", "SET T", "session_state"),
        (Dialect::Postgres, "SELECT pg_advisory_lock(1)", "() SELECT 1 T", "advisory_lock"),
    ];
    for (dialect, sql, answer, reason) in statements {
        let mut scene = Scene::start(dialect).await;
        assert_eq!(scene.client.query("BEGIN").await, "BEGIN T");
        assert_eq!(scene.client.query(sql).await, answer);
        let answer = scene.client.query("SELECT conflict('first', 1)").await;
        expect_surfaced(&answer, reason, "the transaction was not run again");
        expect_usable(&mut scene).await;
    }
}

#[tokio::test]
async fn a_transaction_that_goes_on_behind_its_commit_is_not_retried() {
    for dialect in DIALECTS {
        let mut scene = Scene::start(dialect).await;
        let client = &mut scene.client;
        assert_eq!(client.query("BEGIN").await, "BEGIN T");
        assert_eq!(client.query("INSERT INTO journal VALUES ('first')").await, "INSERT 0 1 T");
        assert_eq!(client.query("COMMIT AND CHAIN").await, "COMMIT T");
        let answer = client.query("SELECT conflict('first', 1)").await;
        expect_surfaced(&answer, "chained_transaction", "it is chained to another transaction");
        assert_eq!(client.query("ROLLBACK").await, "ROLLBACK I");
        assert_eq!(scene.database.query("SELECT * FROM journal").await, "first");
    }
}

#[tokio::test]
async fn a_cursor_from_before_that_was_moved() {
    let mut scene = Scene::start(Dialect::Postgres).await;
    let client = &mut scene.client;
    let declare = "DECLARE c CURSOR WITH HOLD FOR SELECT k FROM kv ORDER BY k";
    assert_eq!(client.query(declare).await, "DECLARE CURSOR I");
    assert_eq!(client.query("BEGIN").await, "BEGIN T");
    assert_eq!(client.query("MOVE 1 IN c").await, "MOVE 1 T");
    // A rollback does not move it back: a replay would move it once more, and be answered the same.
    let answer = client.query("SELECT conflict('first', 1)").await;
    expect_surfaced(&answer, "session_state", "state of the session");
    assert_eq!(client.query("ROLLBACK").await, "ROLLBACK I");
    assert_eq!(client.query("FETCH 1 FROM c").await, "(2) FETCH 1 I");
}
