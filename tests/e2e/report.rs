//! `reprise.report`: a client that asks for it is told of transactions that were run again, and nothing else changes.

use golden::{Backend, Frontend};
use reprise::replay::Dialect;

use crate::support::wire::{Answer, Wire, bind, execute, parse};
use crate::support::{DIALECTS, Scene};

/// Two conflicts, then it passes.
const CONFLICT: &str = "SELECT conflict('first', 2)";

/// The DETAIL of a notice in an answer, without the time, and whether the ReadyForQuery is right behind it.
fn told(answer: &Answer) -> Option<(String, bool)> {
    let mut notices = answer.0.iter().enumerate().filter_map(|(at, message)| match message {
        Backend::NoticeResponse(fields) => Some((at, fields)),
        _ => None,
    });
    let (at, fields) = notices.next()?;
    assert!(notices.next().is_none(), "told twice: {answer}");
    assert_eq!(fields.get('M'), Some("Reprise ran this transaction 3 times"));
    let (before, rest) = fields.get('D').expect("a DETAIL").split_once("retry_ms=").expect("the time");
    let (time, after) = rest.split_once(' ').expect("more");
    assert!(time.parse::<u64>().is_ok(), "{time}");
    let behind = matches!(answer.0.get(at + 1), Some(Backend::ReadyForQuery('I')));
    Some((format!("{before}{after}"), behind))
}

fn expected() -> Option<(String, bool)> {
    Some(("attempts=3 cause=other".to_owned(), true))
}

async fn asking(scene: &Scene) -> Wire {
    let parameters = [("user", "postgres"), ("database", &scene.database.name), ("reprise.report", "on")];
    Wire::start(scene.proxy.address, &parameters).await.0
}

#[tokio::test]
async fn a_transaction_that_was_run_again_is_told_of_at_its_end() {
    for dialect in DIALECTS {
        let mut scene = Scene::start(dialect).await;
        let client = &mut scene.client;
        assert_eq!(client.query("SET reprise.report = on").await, "SET I");
        assert_eq!(client.query("BEGIN").await, "BEGIN T");
        let answer = client.query(CONFLICT).await;
        assert_eq!(answer, "(passed) SELECT 1 T");
        assert_eq!(told(&answer), None, "not before its end");
        let answer = client.query("COMMIT").await;
        assert_eq!(answer, "COMMIT I");
        assert_eq!(told(&answer), expected());
        assert_eq!(told(&client.query("SELECT 1").await), None, "once");
        assert_eq!(client.query("SET reprise.report TO off;").await, "SET I");
        assert_eq!(told(&client.query("SELECT conflict('second', 2)").await), None);
        let heard = scene.database.statements().await;
        assert!(!heard.iter().any(|sql| sql.contains("reprise.report")), "{heard:?}");
    }
}

#[tokio::test]
async fn a_conflict_at_the_commit_and_a_statement_in_autocommit_are_told_of_too() {
    for dialect in DIALECTS {
        let scene = Scene::start(dialect).await;
        let mut client = asking(&scene).await;
        let answer = client.query(CONFLICT).await;
        assert_eq!(answer, "(passed) SELECT 1 I");
        assert_eq!(told(&answer), expected());
        assert_eq!(client.query("BEGIN").await, "BEGIN T");
        assert_eq!(client.query("INSERT INTO late VALUES (2)").await, "INSERT 0 1 T");
        let answer = client.query("COMMIT").await;
        assert_eq!(answer, "COMMIT I");
        assert_eq!(told(&answer), expected());
    }
}

#[tokio::test]
async fn in_a_pipeline_each_transaction_is_told_of_in_its_place() {
    for dialect in DIALECTS {
        let scene = Scene::start(dialect).await;
        let mut client = asking(&scene).await;
        let run = |sql: &str| [parse("", sql), bind("", "", Vec::new()), execute("", 0)];
        let transaction = |sql: &str| {
            let mut messages = Vec::new();
            for sql in ["BEGIN", sql, "COMMIT"] {
                messages.extend(run(sql));
            }
            messages.push(Frontend::Sync);
            messages
        };
        let mut messages = transaction(CONFLICT);
        messages.extend(transaction("SELECT v FROM kv WHERE k = 1"));
        client.send(messages).await;
        let first = client.until_ready().await;
        assert_eq!(first, "BEGIN (passed) SELECT 1 COMMIT I");
        assert_eq!(told(&first), expected());
        let second = client.until_ready().await;
        assert_eq!(second, "BEGIN (10) SELECT 1 COMMIT I");
        assert_eq!(told(&second), None);
    }
}

#[tokio::test]
async fn a_set_that_waits_for_answers_or_is_wrong_is_answered_as_a_server_would() {
    let mut scene = Scene::start(Dialect::Postgres).await;
    let client = &mut scene.client;
    let texts = ["SELECT 1", "SET reprise.report = on", "SELECT 2"];
    client.send(texts.map(|sql| Frontend::Query(sql.to_owned()))).await;
    for expected in ["(1) SELECT 1 I", "SET I", "(2) SELECT 1 I"] {
        assert_eq!(client.until_ready().await, expected);
    }
    assert_eq!(client.query("SET reprise.report = maybe").await, "22023 I");
    assert_eq!(client.query("BEGIN").await, "BEGIN T");
    assert_eq!(client.query("SET reprise.report = off").await, "SET T");
    assert_eq!(client.query("SELECT 1 / 0").await, "22012 E");
    assert_eq!(client.query("SET reprise.report = on").await, "25P02 E");
    assert_eq!(client.query("ROLLBACK").await, "ROLLBACK I");
}

#[tokio::test]
async fn a_surfaced_conflict_has_its_detail_and_no_notice() {
    let scene = Scene::start(Dialect::Postgres).await;
    let mut client = asking(&scene).await;
    assert_eq!(client.query("BEGIN").await, "BEGIN T");
    assert_eq!(client.query("SELECT v FROM kv WHERE k = 1").await, "(10) SELECT 1 T");
    scene.database.run("UPDATE kv SET v = 11").await;
    let answer = client.query(CONFLICT).await;
    assert_eq!(answer, "40001 E");
    assert_eq!(told(&answer), None);
    assert_eq!(told(&client.query("ROLLBACK").await), None);
}
