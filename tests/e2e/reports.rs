//! What is told of conflicts: where they were, by names that are looked up, and which statements met them.

use serde_json::{Value, json};

use crate::console::Operated;
use crate::support::eventually;
use crate::support::wire::{bind, execute, parse};
use golden::Frontend;

/// Conflicts that name a key as CockroachDB does, in a table and an index of this database; an index has its name there.
const KEYED: &str = "
    CREATE SEQUENCE keyed_conflicts;
    CREATE TABLE crdb_internal.table_indexes (descriptor_id bigint, index_id bigint, index_name text);
    INSERT INTO crdb_internal.table_indexes VALUES ('kv'::regclass::oid::bigint, 3, 'kv_by_value');
    CREATE FUNCTION keyed_conflict(times bigint) RETURNS text LANGUAGE plpgsql AS $$
    BEGIN
      IF nextval('keyed_conflicts') <= times THEN
        RAISE EXCEPTION 'restart transaction: TransactionRetryWithProtoRefreshError: WriteTooOldError: write for key /Table/%/3/\"the secret key\"/0 at timestamp 1.2,0 too old; must write at or above 1.3,0: \"sql txn\" meta={id=07d42834 key=/Table/1/1/2/0}', 'kv'::regclass::oid
        USING ERRCODE = '40001';
      END IF;
      RETURN 'passed';
    END $$;";

/// The rows of a report, as the status page gets them.
async fn rows(scene: &Operated, report: &str) -> Vec<Value> {
    let answer = scene.program.http("/status.json").await;
    let body = answer.split_once("\r\n\r\n").expect("a body").1;
    let status: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"));
    status["reports"][report]["rows"].as_array().expect("rows").clone()
}

#[tokio::test]
async fn the_table_and_the_index_of_a_key_are_told_by_their_names_and_the_key_is_not() {
    let scene = Operated::start(&[("REPRISE_REPORT_LOOKUP_USER", "postgres")]).await;
    scene.database.run(KEYED).await;
    let mut wire = scene.application().await;
    assert_eq!(wire.query("SELECT keyed_conflict(1)").await, "(passed) SELECT 1 I");
    let first = rows(&scene, "conflicts").await.remove(0);
    assert_eq!((&first["conflicts"], &first["last_cause"]), (&1.into(), &"WriteTooOldError".into()));
    eventually("the names are looked up", async || rows(&scene, "conflicts").await[0]["table"] == "kv").await;
    let row = rows(&scene, "conflicts").await.remove(0);
    assert_eq!((&row["index"], &row["key"]), (&"kv_by_value".into(), &Value::Null));
    assert_eq!(row["database"], *scene.database.name);
    scene.database.run("SELECT setval('keyed_conflicts', 1, false)").await;
    assert_eq!(wire.query("SELECT keyed_conflict(1)").await, "(passed) SELECT 1 I");
    let series = format!(
        "reprise_conflicts_by_table_total{{database=\"{}\",index=\"kv_by_value\",table=\"kv\"}} 1",
        scene.database.name
    );
    let metrics = scene.program.http("/metrics").await;
    assert!(metrics.contains(&series), "{series} is not in\n{metrics}");
    assert!(scene.psql("SHOW CONFLICTS").await.contains("\tkv\tkv_by_value\t\tWriteTooOldError\t2\t0\t"));
}

#[tokio::test]
async fn keys_are_shown_to_who_has_allowed_it_and_without_a_lookup_tables_have_numbers() {
    let scene = Operated::start(&[("REPRISE_PRIVACY_SHOW_KEYS", "true")]).await;
    scene.database.run(KEYED).await;
    let mut wire = scene.application().await;
    assert_eq!(wire.query("SELECT keyed_conflict(1)").await, "(passed) SELECT 1 I");
    let number = scene.database.query("SELECT 'kv'::regclass::oid").await;
    let row = rows(&scene, "conflicts").await.remove(0);
    assert_eq!((&row["table"], &row["index"]), (&number.as_str().into(), &"3".into()));
    assert_eq!(row["key"], "/\"the secret key\"/0");
    let line = scene.program.logged("transaction met a conflict").await;
    assert_eq!((&line["key"], &line["table"]), (&"/\"the secret key\"/0".into(), &number.as_str().into()));
}

#[tokio::test]
async fn statements_are_told_whoever_prepared_them_and_when() {
    let scene = Operated::start(&[]).await;
    let mut wire = scene.application().await;
    wire.send([
        parse("named", "UPDATE kv SET v = length(conflict('first', $1)) WHERE k = 1"),
        Frontend::Sync,
    ])
    .await;
    assert_eq!(wire.until_ready().await, "I");
    assert_eq!(wire.query("BEGIN").await, "BEGIN T");
    assert_eq!(wire.query("UPDATE kv SET v = 7 WHERE k = 2").await, "UPDATE 1 T");
    wire.send([bind("", "named", vec![Some(b"1".to_vec())]), execute("", 0), Frontend::Sync]).await;
    assert_eq!(wire.until_ready().await, "UPDATE 1 T");
    assert_eq!(wire.query("COMMIT").await, "COMMIT I");
    let statement = "UPDATE kv SET v = length(conflict(?)) WHERE k = ?";
    let row = rows(&scene, "statements").await.remove(0);
    assert_eq!((&row["statement"], &row["conflicts"]), (&statement.into(), &1.into()));
    let row = rows(&scene, "transactions").await.remove(0);
    assert_eq!(row["statements"], format!("UPDATE kv SET v = ? WHERE k = ?; {statement}"));
    assert_eq!((&row["max_attempts"], &row["surfaced"]), (&2.into(), &0.into()));
    let conflict = rows(&scene, "conflicts").await.remove(0);
    assert_eq!(conflict["table"], "kv", "the error names none: it is the statement's");
}

#[tokio::test]
async fn what_cannot_be_run_again_is_told_with_what_to_change() {
    let scene = Operated::start(&[]).await;
    let mut wire = scene.application().await;
    assert_eq!(wire.query("BEGIN").await, "BEGIN T");
    assert_eq!(wire.query("SET work_mem = '1MB'").await, "SET T");
    assert_eq!(wire.query("COMMIT").await, "COMMIT I");
    assert_eq!(wire.query("BEGIN").await, "BEGIN T");
    assert_eq!(wire.query("SELECT v FROM kv WHERE k = 1").await, "(10) SELECT 1 T");
    scene.database.run("UPDATE kv SET v = 11").await;
    assert_eq!(wire.query("SELECT conflict('first', 1)").await, "40001 E");
    assert_eq!(wire.query("ROLLBACK").await, "ROLLBACK I");
    assert_eq!(wire.query("SELECT 1").await, "(1) SELECT 1 I");
    let row = rows(&scene, "coverage").await.remove(0);
    assert_eq!(
        (&row["transactions"], &row["replayable_pct"], &row["surfaced"]),
        (&3.into(), &33.3.into(), &1.into())
    );
    let advice = rows(&scene, "advice").await;
    let of = |subject: &str| {
        let found = advice.iter().find(|row| row["subject"] == subject);
        found.unwrap_or_else(|| panic!("{subject}: {advice:?}"))["what_to_change"]
            .as_str()
            .expect("advice")
            .to_owned()
    };
    assert!(of("session_state").contains("SET LOCAL"));
    assert!(of("results_differ").contains("FOR UPDATE"));
    assert!(of("SELECT v FROM kv WHERE k = ?").contains("FOR UPDATE"), "the statement that differed");
}

/// The row of a report on coverage that tells of the transactions that run these statements.
fn of_shape<'a>(coverage: &'a [Value], statements: &str) -> &'a Value {
    let is_it = |row: &&Value| row["by"] == "transaction" && row["statements"] == statements;
    coverage.iter().find(is_it).unwrap_or_else(|| panic!("{statements}: {coverage:?}"))
}

#[tokio::test]
async fn what_could_be_run_again_is_told_by_what_the_transactions_run() {
    let scene = Operated::start(&[]).await;
    let mut wire = scene.application().await;
    for round in 0..20 {
        assert_eq!(wire.query("BEGIN").await, "BEGIN T");
        let read = wire.query(&format!("SELECT v FROM kv WHERE k = {}", round % 2)).await;
        assert_eq!(read.status(), Some('T'));
        assert_eq!(wire.execute("UPDATE kv SET v = $1 WHERE k = $2", &["1", "2"]).await, "UPDATE 1 T");
        assert_eq!(wire.query("COMMIT").await, "COMMIT I");
    }
    let mut other = scene.application().await;
    assert_eq!(other.query("BEGIN").await, "BEGIN T");
    assert_eq!(other.query("SELECT pg_advisory_lock(1)").await, "() SELECT 1 T");
    assert_eq!(other.execute("DELETE FROM journal WHERE entry = $1", &["x"]).await, "DELETE 0 T");
    assert_eq!(other.query("COMMIT").await, "COMMIT I");
    let coverage = rows(&scene, "coverage").await;
    let row = of_shape(&coverage, "SELECT v FROM kv WHERE k = ?; UPDATE kv SET v = ? WHERE k = ?");
    assert_eq!((&row["replayable_pct"], &row["user"]), (&json!(100.0), &Value::Null));
    assert_eq!(row["transactions"], 17, "the first, and the seventeenth for those in between");
    assert_eq!(row["database"], *scene.database.name);
    let row = of_shape(&coverage, "SELECT pg_advisory_lock(?); DELETE FROM journal WHERE entry = ?");
    assert_eq!((&row["transactions"], &row["replayable_pct"]), (&json!(1), &json!(0.0)));
    assert_eq!((&row["top_reason"], &row["top_reason_pct"]), (&json!("advisory_lock"), &json!(100.0)));
    assert!(row["what_to_change"].as_str().expect("advice").contains("pg_advisory_xact_lock"));
    let by_client: u64 = coverage
        .iter()
        .filter(|row| row["by"] == "client")
        .map(|row| row["transactions"].as_u64().expect("a number"))
        .sum();
    assert_eq!(by_client, 21, "these are all counted");
    let row = coverage.iter().find(|row| row["by"] == "client").expect("a client");
    assert_eq!((&row["replayable_pct"], &row["top_reason"]), (&json!(95.2), &json!("advisory_lock")));
}

#[tokio::test]
async fn the_share_of_replays_in_which_a_statement_differed_is_told() {
    let scene = Operated::start(&[]).await;
    let mut wire = scene.application().await;
    assert_eq!(wire.query("BEGIN").await, "BEGIN T");
    assert_eq!(wire.execute("SELECT v FROM kv WHERE k = $1", &["1"]).await, "(10) SELECT 1 T");
    assert_eq!(wire.query("SELECT conflict('first', 3)").await, "(passed) SELECT 1 T");
    assert_eq!(wire.query("COMMIT").await, "COMMIT I");
    assert_eq!(wire.query("BEGIN").await, "BEGIN T");
    assert_eq!(wire.execute("SELECT v FROM kv WHERE k = $1", &["1"]).await, "(10) SELECT 1 T");
    assert_eq!(wire.query("SELECT entry FROM journal").await, "SELECT 0 T");
    scene.database.run("UPDATE kv SET v = 11").await;
    assert_eq!(wire.query("SELECT conflict('second', 1)").await, "40001 E");
    assert_eq!(wire.query("ROLLBACK").await, "ROLLBACK I");
    let statements = rows(&scene, "statements").await;
    let row = |text: &str| {
        let row = statements.iter().find(|row| row["statement"] == text);
        let row = row.unwrap_or_else(|| panic!("{text}: {statements:?}"));
        json!(["conflicts", "compared", "differed", "differed_pct"].map(|name| &row[name]))
    };
    // Three replays of the first transaction, two of them up to another conflict, and one of the second.
    assert_eq!(row("SELECT v FROM kv WHERE k = ?"), json!([0, 4, 1, 25.0]));
    // Its result was never shown before it was run again.
    assert_eq!(row("SELECT conflict(?)"), json!([4, 0, 0, null]));
    assert!(!statements.iter().any(|row| row["statement"] == "SELECT entry FROM journal"), "not compared");
    let advice = rows(&scene, "advice").await;
    let told = advice.iter().find(|row| row["subject"] == "SELECT v FROM kv WHERE k = ?").expect("advice");
    assert_eq!((&told["count"], &told["share_pct"]), (&json!(1), &json!(25.0)));
    assert!(told["what_to_change"].as_str().expect("words").starts_with("Lock what it reads"), "{told}");
    let costs = rows(&scene, "transactions").await;
    let surfaced = costs.iter().find(|row| row["surfaced"] == 1).expect("the second transaction");
    assert_eq!(surfaced["last_reason"], "results_differ");
}

#[tokio::test]
async fn what_loses_data_without_an_error_is_told_to_who_asks_for_it() {
    let scene = Operated::start(&[("REPRISE_REPORT_ADVISER", "true")]).await;
    let mut wire = scene.application().await;
    assert_eq!(wire.query("SELECT v FROM kv WHERE k = 1").await, "(10) SELECT 1 I");
    assert_eq!(wire.execute("UPDATE kv SET v = $1 WHERE k = 2", &["12"]).await, "UPDATE 1 I");
    assert_eq!(wire.execute("UPDATE kv SET v = $1 WHERE k = 1", &["12"]).await, "UPDATE 1 I");
    // The same in a transaction is the client's own affair.
    assert_eq!(wire.query("BEGIN").await, "BEGIN T");
    assert_eq!(wire.query("SELECT entry FROM journal").await, "SELECT 0 T");
    assert_eq!(wire.query("INSERT INTO journal VALUES ('x')").await, "INSERT 0 1 T");
    assert_eq!(wire.query("COMMIT").await, "COMMIT I");
    let advice = rows(&scene, "advice").await;
    let lost = |row: &&Value| row["about"] == "possible lost update";
    let found: Vec<_> =
        advice.iter().filter(lost).map(|row| row["subject"].as_str().expect("text")).collect();
    assert_eq!(found, ["SELECT v FROM kv WHERE k = ?; UPDATE kv SET v = ? WHERE k = ?"], "{advice:?}");
    assert!(!advice.iter().any(|row| row["about"] == "possible duplicate"), "{advice:?}");
    let off = Operated::start(&[]).await;
    let mut wire = off.application().await;
    assert_eq!(wire.query("SELECT v FROM kv WHERE k = 1").await, "(10) SELECT 1 I");
    assert_eq!(wire.query("UPDATE kv SET v = 12 WHERE k = 1").await, "UPDATE 1 I");
    assert!(rows(&off, "advice").await.is_empty());
}

#[tokio::test]
async fn where_in_a_program_a_transaction_comes_from_is_told_to_who_has_allowed_it() {
    for (allowed, expected) in [("false", Value::Null), ("true", "action=/pay controller=till".into())] {
        let scene = Operated::start(&[("REPRISE_PRIVACY_SHOW_TAGS", allowed)]).await;
        let mut wire = scene.application().await;
        assert_eq!(wire.query("BEGIN").await, "BEGIN T");
        let tagged = "INSERT INTO journal VALUES ('paid') \
                      /*action='%2Fpay',controller='till',traceparent='00-5bd66ef5095369c7-01'*/";
        assert_eq!(wire.query(tagged).await, "INSERT 0 1 T");
        assert_eq!(wire.query("SELECT conflict('first', 1)").await, "(passed) SELECT 1 T");
        assert_eq!(wire.query("COMMIT").await, "COMMIT I");
        let row = rows(&scene, "transactions").await.remove(0);
        assert_eq!(row["last_tags"], expected, "{row}");
        assert!(!row.to_string().contains("5bd66ef5095369c7"));
    }
}
