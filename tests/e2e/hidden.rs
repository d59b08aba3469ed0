//! Everything that a transaction may hold is replayed as it was, in both dialects: the client sees one run of it, and so
//! does the data.

use golden::notation::Target;
use golden::{Backend, Frontend};
use reprise::replay::Dialect;

use crate::support::wire::{Wire, bind, execute, extended, parse};
use crate::support::{DIALECTS, Scene, within};

#[tokio::test]
async fn savepoints_of_the_client_are_replayed_with_what_they_undid() {
    for dialect in DIALECTS {
        let mut scene = Scene::start(dialect).await;
        let client = &mut scene.client;
        assert_eq!(client.query("BEGIN").await, "BEGIN T");
        assert_eq!(client.query("INSERT INTO journal VALUES ('kept')").await, "INSERT 0 1 T");
        assert_eq!(client.query("SAVEPOINT mine").await, "SAVEPOINT T");
        assert_eq!(client.query("INSERT INTO journal VALUES ('undone')").await, "INSERT 0 1 T");
        assert_eq!(client.query("INSERT INTO kv VALUES (1, 0)").await, "23505 E");
        assert_eq!(client.query("ROLLBACK TO mine").await, "ROLLBACK T");
        assert_eq!(client.query("SELECT conflict('first', 2)").await, "(passed) SELECT 1 T");
        assert_eq!(client.query("RELEASE mine").await, "RELEASE T");
        assert_eq!(client.query("INSERT INTO late VALUES (1)").await, "INSERT 0 1 T");
        assert_eq!(client.query("COMMIT").await, "COMMIT I");
        assert_eq!(scene.database.query("SELECT * FROM journal").await, "kept");
        assert_eq!(scene.proxy.conflicts(), (3.0, 0.0), "{}", dialect.name());
    }
}

#[tokio::test]
async fn a_pipeline_with_one_sync_is_answered_once() {
    for dialect in DIALECTS {
        let mut scene = Scene::start(dialect).await;
        let client = &mut scene.client;
        assert_eq!(client.query("BEGIN").await, "BEGIN T");
        let batch = [
            extended("INSERT INTO journal VALUES ($1)", &["a"]),
            extended("SELECT v FROM kv WHERE k = $1", &["1"]),
            extended("SELECT conflict('first', 2)", &[]),
            extended("INSERT INTO journal VALUES ($1)", &["b"]),
        ];
        client.send(batch.into_iter().flatten().chain([Frontend::Sync])).await;
        let answer = client.until_ready().await;
        assert_eq!(answer, "INSERT 0 1 (10) SELECT 1 (passed) SELECT 1 INSERT 0 1 T");
        let parsed = answer.0.iter().filter(|message| matches!(message, Backend::ParseComplete)).count();
        assert_eq!(parsed, 4, "{answer:?}");
        assert_eq!(client.query("COMMIT").await, "COMMIT I");
        assert_eq!(scene.database.query("SELECT * FROM journal").await, "a;b");
        assert_eq!(scene.proxy.conflicts(), (2.0, 0.0), "{}", dialect.name());
    }
}

#[tokio::test]
async fn named_statements_and_portals_are_made_again() {
    for dialect in DIALECTS {
        let mut scene = Scene::start(dialect).await;
        let client = &mut scene.client;
        assert_eq!(client.query("BEGIN").await, "BEGIN T");
        let by_key = Some(b"1".to_vec());
        client
            .send([
                parse("all", "SELECT k FROM kv WHERE k >= $1 ORDER BY k"),
                Frontend::Describe(Target::Statement, "all".into()),
                bind("rows", "all", vec![by_key.clone()]),
                execute("rows", 1),
                Frontend::Sync,
            ])
            .await;
        assert_eq!(client.until_ready().await, "(1) suspended T");
        assert_eq!(client.query("SELECT conflict('first', 2)").await, "(passed) SELECT 1 T");
        // The portal goes on where it stood, although it is another one.
        client.send([execute("rows", 1), Frontend::Sync]).await;
        assert_eq!(client.until_ready().await, "(2) suspended T");
        client.send([execute("rows", 0), Frontend::Sync]).await;
        assert_eq!(client.until_ready().await, "(3) SELECT 1 T");
        assert_eq!(client.query("COMMIT").await, "COMMIT I");
        client.send([bind("", "all", vec![by_key]), execute("", 0), Frontend::Sync]).await;
        assert_eq!(client.until_ready().await, "(1) (2) (3) SELECT 3 I", "the statement is still there");
        assert_eq!(scene.proxy.conflicts(), (2.0, 0.0), "{}", dialect.name());
    }
}

#[tokio::test]
async fn copied_rows_are_copied_again() {
    for dialect in DIALECTS {
        let mut scene = Scene::start(dialect).await;
        let client = &mut scene.client;
        assert_eq!(client.query("BEGIN").await, "BEGIN T");
        client.send([Frontend::Query("COPY kv FROM STDIN".into())]).await;
        client.until(|message| matches!(message, Backend::CopyInResponse { .. })).await;
        client.send([Frontend::CopyData(b"4\t40\n".to_vec()), Frontend::CopyData(b"5\t50\n".to_vec())]).await;
        client.send([Frontend::CopyDone]).await;
        assert_eq!(client.until_ready().await, "COPY 2 T");
        assert_eq!(client.query("SELECT conflict('first', 2)").await, "(passed) SELECT 1 T");
        client.send([Frontend::Query("COPY (SELECT k FROM kv ORDER BY k) TO STDOUT".into())]).await;
        let copied = client.until_ready().await;
        assert_eq!(copied.0.iter().filter(|message| matches!(message, Backend::CopyData(_))).count(), 5);
        assert_eq!(client.query("INSERT INTO late VALUES (1)").await, "INSERT 0 1 T");
        assert_eq!(client.query("COMMIT").await, "COMMIT I");
        assert_eq!(scene.database.query("SELECT k FROM kv ORDER BY k").await, "1;2;3;4;5");
        assert_eq!(scene.proxy.conflicts(), (3.0, 0.0), "{}", dialect.name());
    }
}

/// Sends a COPY and its data.
async fn copy(client: &mut Wire, table: &str, data: &[u8]) {
    client.send([Frontend::Query(format!("COPY {table} FROM STDIN"))]).await;
    client.until(|message| matches!(message, Backend::CopyInResponse { .. })).await;
    client.send([Frontend::CopyData(data.to_vec())]).await;
}

#[tokio::test]
async fn each_table_gets_its_own_rows_again() {
    for dialect in DIALECTS {
        let mut scene = Scene::start(dialect).await;
        let client = &mut scene.client;
        assert_eq!(client.query("BEGIN").await, "BEGIN T");
        assert_eq!(client.query("SAVEPOINT a").await, "SAVEPOINT T");
        assert_eq!(client.query("SELECT 1/0").await, "22012 E");
        assert_eq!(client.query("ROLLBACK TO a").await, "ROLLBACK T");
        for (table, data) in [("kv", &b"4\t40\n"[..]), ("journal", b"a\nb\n"), ("kv", b"5\t50\n")] {
            copy(client, table, data).await;
            client.send([Frontend::CopyDone]).await;
            assert_eq!(client.until_ready().await.status(), Some('T'));
        }
        assert_eq!(client.query("SELECT conflict('first', 2)").await, "(passed) SELECT 1 T");
        client.send([parse("", "SELECT 1"), bind("", "", vec![]), execute("", 0), Frontend::Sync]).await;
        assert_eq!(client.until_ready().await, "(1) SELECT 1 T");
        assert_eq!(client.query("COMMIT").await, "COMMIT I");
        assert_eq!(scene.database.query("SELECT k FROM kv ORDER BY k").await, "1;2;3;4;5");
        assert_eq!(scene.database.query("SELECT entry FROM journal ORDER BY entry").await, "a;b");
        assert_eq!(scene.proxy.conflicts(), (2.0, 0.0), "{}", dialect.name());
    }
}

#[tokio::test]
async fn rows_that_are_still_to_come_follow_those_that_are_copied_again() {
    for dialect in DIALECTS {
        let mut scene = Scene::start(dialect).await;
        let trigger = "CREATE FUNCTION halfway() RETURNS trigger LANGUAGE plpgsql AS \
                       $$ BEGIN PERFORM conflict('first', 1); RETURN NEW; END $$; \
                       CREATE TRIGGER halfway BEFORE INSERT ON kv FOR EACH ROW WHEN (NEW.k = 5) \
                       EXECUTE FUNCTION halfway()";
        scene.database.run(trigger).await;
        let client = &mut scene.client;
        assert_eq!(client.query("BEGIN").await, "BEGIN T");
        copy(client, "kv", b"4\t40\n5\t50\n6\t60\n").await;
        // The replay has come to the same row.
        scene.database.until("SELECT last_value FROM first", "2").await;
        client.send([Frontend::CopyData(b"7\t70\n".to_vec()), Frontend::CopyDone]).await;
        assert_eq!(client.until_ready().await, "COPY 4 T");
        assert_eq!(client.query("COMMIT").await, "COMMIT I");
        assert_eq!(scene.database.query("SELECT k FROM kv ORDER BY k").await, "1;2;3;4;5;6;7");
        assert_eq!(scene.proxy.conflicts(), (1.0, 0.0), "{}", dialect.name());
    }
}

#[tokio::test]
async fn local_settings_hold_in_every_attempt() {
    for dialect in DIALECTS {
        let mut scene = Scene::start(dialect).await;
        let client = &mut scene.client;
        assert_eq!(client.query("BEGIN").await, "BEGIN T");
        assert_eq!(client.query("SET LOCAL search_path = crdb_internal, public").await, "SET T");
        assert_eq!(client.query("SELECT conflict('first', 2)").await, "(passed) SELECT 1 T");
        assert_eq!(client.query("SHOW search_path").await, "(crdb_internal, public) SHOW T");
        assert_eq!(client.query("COMMIT").await, "COMMIT I");
        assert_eq!(client.query("SHOW search_path").await, "(\"$user\", public) SHOW I");
        assert_eq!(scene.proxy.conflicts(), (2.0, 0.0), "{}", dialect.name());
    }
}

#[tokio::test]
async fn notices_and_notifications_come_once() {
    for dialect in DIALECTS {
        let mut scene = Scene::start(dialect).await;
        let client = &mut scene.client;
        assert_eq!(client.query("LISTEN news").await, "LISTEN I");
        assert_eq!(client.query("BEGIN").await, "BEGIN T");
        let noticed = client.query("SELECT remark()").await;
        assert_eq!(client.query("NOTIFY news, 'one'").await, "NOTIFY T");
        let retried = client.query("SELECT conflict('first', 2)").await;
        assert_eq!(retried, "(passed) SELECT 1 T");
        let notices = |answer: &crate::support::wire::Answer| {
            answer.0.iter().filter(|message| matches!(message, Backend::NoticeResponse(_))).count()
        };
        assert_eq!((notices(&noticed), notices(&retried)), (1, 0));
        client.send([Frontend::Query("COMMIT".into())]).await;
        let is_news = |message: &Backend| matches!(message, Backend::NotificationResponse { .. });
        let mut answer = client.until_ready().await;
        answer.0.extend(client.query("SELECT 1").await.0);
        assert_eq!(answer.0.iter().filter(|message| is_news(message)).count(), 1, "{answer:?}");
        assert_eq!(scene.proxy.conflicts(), (2.0, 0.0), "{}", dialect.name());
    }
}

#[tokio::test]
async fn rows_of_a_statement_that_conflicts_in_the_middle_are_delivered_once() {
    for dialect in DIALECTS {
        let mut scene = Scene::start(dialect).await;
        let client = &mut scene.client;
        assert_eq!(client.query("BEGIN").await, "BEGIN T");
        // More rows than any buffer holds come before the conflict.
        let rows = "SELECT repeat('x', 1000), CASE WHEN n = 2000 THEN conflict('first', 2) END \
                    FROM generate_series(1, 2100) n";
        let answer = client.query(rows).await;
        let count = answer.0.iter().filter(|message| matches!(message, Backend::DataRow(_))).count();
        assert_eq!((count, answer.status()), (2100, Some('T')));
        assert!(answer.has("CommandComplete \"SELECT 2100\""));
        assert_eq!(client.query("COMMIT").await, "COMMIT I");
        assert_eq!(scene.proxy.conflicts(), (2.0, 0.0), "{}", dialect.name());
    }
}

#[tokio::test]
async fn a_transaction_that_the_client_rolls_back_leaves_nothing() {
    for dialect in DIALECTS {
        let mut scene = Scene::start(dialect).await;
        let client = &mut scene.client;
        assert_eq!(client.query("BEGIN").await, "BEGIN T");
        assert_eq!(client.query("INSERT INTO journal VALUES ('never')").await, "INSERT 0 1 T");
        assert_eq!(client.query("SELECT conflict('first', 1)").await, "(passed) SELECT 1 T");
        assert_eq!(client.query("ROLLBACK").await, "ROLLBACK I");
        assert_eq!(scene.database.query("SELECT * FROM journal").await, "");
        let ended = &format!(
            "reprise_transactions_total{{dialect=\"{}\",kind=\"explicit\",outcome=\"rolled_back\"}}",
            dialect.name()
        );
        assert_eq!(scene.proxy.metric(ended), 1.0);
        assert_eq!(scene.proxy.conflicts(), (1.0, 0.0), "{}", dialect.name());
    }
}

#[tokio::test]
async fn errors_that_are_no_conflicts_are_the_servers_own() {
    for dialect in DIALECTS {
        let mut scene = Scene::start(dialect).await;
        let client = &mut scene.client;
        assert_eq!(client.query("BEGIN").await, "BEGIN T");
        assert_eq!(client.query("SELECT conflict('first', 1)").await, "(passed) SELECT 1 T");
        let answer = client.query("INSERT INTO kv VALUES (1, 0)").await;
        assert_eq!(answer, "23505 E");
        assert_eq!(answer.field('n'), "kv_pkey");
        assert_eq!(client.query("SELECT 1").await, "25P02 E");
        assert_eq!(client.query("COMMIT").await, "ROLLBACK I");
        assert_eq!(client.query("SELECT 1").await, "(1) SELECT 1 I");
        assert_eq!(scene.proxy.conflicts(), (1.0, 0.0), "{}", dialect.name());
    }
}

#[tokio::test]
async fn a_journal_and_answers_of_megabytes_are_replayed() {
    for dialect in DIALECTS {
        let mut scene = Scene::start(dialect).await;
        let client = &mut scene.client;
        assert_eq!(client.query("BEGIN").await, "BEGIN T");
        let filler = "x".repeat(10 << 10);
        for n in 0..200 {
            let sql = format!("SELECT {n} + length(repeat('{filler}', 0)), repeat('y', 20000)");
            assert_eq!(client.query(&sql).await.status(), Some('T'));
        }
        assert_eq!(client.query("INSERT INTO journal VALUES ('once')").await, "INSERT 0 1 T");
        assert_eq!(client.query("SELECT conflict('first', 2)").await, "(passed) SELECT 1 T");
        assert_eq!(client.query("COMMIT").await, "COMMIT I");
        assert_eq!(scene.database.query("SELECT * FROM journal").await, "once");
        assert_eq!(scene.proxy.conflicts(), (2.0, 0.0), "{}", dialect.name());
        assert!(scene.proxy.metric("reprise_replayed_bytes_total") > 4_000_000.0);
    }
}

#[tokio::test]
async fn sessions_that_meet_again_and_again_lose_nothing() {
    const ROUNDS: usize = 20;
    let scene = Scene::start(Dialect::Postgres).await;
    let session = async || {
        let client = scene.proxy.client().await;
        for _ in 0..ROUNDS {
            client.batch_execute("BEGIN ISOLATION LEVEL SERIALIZABLE").await.expect("BEGIN");
            client.execute("UPDATE kv SET v = v + 1 WHERE k = 1", &[]).await.expect("no conflict");
            client.execute("INSERT INTO journal VALUES ('x')", &[]).await.expect("no conflict");
            client.batch_execute("COMMIT").await.expect("no conflict");
        }
    };
    within("all rounds", async { tokio::join!(session(), session(), session()) }).await;
    let done = 3 * ROUNDS;
    assert_eq!(scene.database.query("SELECT count(*) FROM journal").await, done.to_string());
    assert_eq!(scene.database.query("SELECT v FROM kv WHERE k = 1").await, (10 + done).to_string());
    assert_eq!(scene.proxy.conflicts().1, 0.0);
}

/// Of these rows more is shown than what is held, before they are all there or their statement commits.
const ROWS: &str = "generate_series(1, 1000) i";

#[tokio::test]
async fn rows_shown_in_autocommit_are_verified_before_their_statement_commits() {
    for dialect in DIALECTS {
        let mut scene = Scene::start(dialect).await;
        let client = &mut scene.client;
        let read = format!(
            "SELECT CASE i WHEN 1000 THEN conflict('first', 2) ELSE repeat('x', 100) END FROM {ROWS}"
        );
        let answer = client.query(&read).await.to_string();
        assert_eq!(answer.matches("xx)").count(), 999, "every row once");
        assert!(answer.ends_with("(passed) SELECT 1000 I"), "{answer:.100}");
        let write = |counter: &str| {
            format!(
                "WITH late AS (INSERT INTO late VALUES (1)) \
                 INSERT INTO journal SELECT repeat('y', 100) FROM {ROWS} RETURNING entry, {counter}"
            )
        };
        let answer = client.query(&write("1")).await.to_string();
        assert_eq!(answer.matches("yy,1)").count(), 1000, "every row once");
        assert!(answer.ends_with("INSERT 0 1000 I"), "{answer:.100}");
        assert_eq!(scene.database.query("SELECT count(*) FROM journal").await, "1000");
        assert_eq!(scene.proxy.conflicts(), (3.0, 0.0), "{}", dialect.name());
        // The rows that were shown are not those of the replay: nothing of it may stay.
        scene.database.run("SELECT setval('last', 1, false)").await;
        let answer = client.query(&write("nextval('second')")).await;
        assert!(answer.field('D').contains("results_differ"), "{}", answer.error());
        assert_eq!(answer.status(), Some('I'));
        assert_eq!(scene.database.query("SELECT count(*) FROM journal").await, "1000");
        assert_eq!(scene.proxy.conflicts(), (3.0, 1.0), "{}", dialect.name());
    }
}

#[tokio::test]
async fn the_unnamed_statement_outlives_the_block_that_it_is_run_again_in() {
    for dialect in DIALECTS {
        let mut scene = Scene::start(dialect).await;
        let sql = format!(
            "SELECT CASE i WHEN 1000 THEN conflict('first', 2) ELSE repeat('x', 100) END FROM {ROWS}"
        );
        let run = || [bind("", "", vec![]), execute("", 0), Frontend::Sync];
        scene.client.send([parse("", &sql)].into_iter().chain(run())).await;
        assert!(scene.client.until_ready().await.to_string().ends_with("(passed) SELECT 1000 I"));
        assert_eq!(scene.proxy.conflicts(), (2.0, 0.0), "{}", dialect.name());
        // It is used once more, and run again once more.
        scene.database.run("SELECT setval('first', 1, false)").await;
        scene.client.send(run()).await;
        assert!(scene.client.until_ready().await.to_string().ends_with("(passed) SELECT 1000 I"));
        assert_eq!(scene.proxy.conflicts(), (4.0, 0.0), "{}", dialect.name());
    }
}
