//! Injected faults: each strikes where it should, does what it should, and leaves the session as a real server would.

mod common;

use std::time::{Duration, Instant};

use common::{Client, code, connect, retrying, status};
use golden::{Backend, Frontend};
use roach::faults::{Effect, Fault, Outcome, Point, Reason};
use roach::{Options, Server, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const BEGIN: &str = "BEGIN; SAVEPOINT cockroach_restart";
const RETRY: &str = "ROLLBACK TO SAVEPOINT cockroach_restart";
const RELEASE: &str = "RELEASE SAVEPOINT cockroach_restart";
const INSERT: &str = "INSERT INTO t VALUES (1)";

async fn server_with(version: Version) -> Server {
    let server = Server::start(Options { version, ..Options::default() }).await.expect("a port is free");
    let client = connect(&server).await;
    client.batch_execute("CREATE TABLE t (x INT PRIMARY KEY)").await.expect("the server is fresh");
    server
}

async fn server() -> Server {
    server_with(Version::V20_2).await
}

fn at_insert() -> Point {
    Point::Statement("INSERT".into())
}

async fn rows(server: &Server) -> i64 {
    let client = connect(server).await;
    client.query_one("SELECT count(*) FROM t", &[]).await.expect("nobody holds a lock").get(0)
}

/// Runs SQL that must fail: SQLSTATE and text.
async fn failure(client: &Client, sql: &str) -> (String, String) {
    let error = client.batch_execute(sql).await.expect_err("a fault strikes");
    let db = error.as_db_error().expect("the server tells what is wrong");
    (db.code().code().into(), db.message().into())
}

#[tokio::test]
async fn every_reason_at_a_statement_can_be_retried_by_the_client() {
    let names = [
        (Reason::WriteTooOld, "RETRY_SERIALIZABLE"),
        (Reason::Serializable, "RETRY_SERIALIZABLE"),
        (Reason::AsyncWriteFailure, "RETRY_ASYNC_WRITE_FAILURE"),
        (Reason::CommitDeadlineExceeded, "transaction deadline exceeded"),
        (Reason::Unknown, "RETRY_REASON_UNKNOWN"),
        (Reason::Uncertain, "ReadWithinUncertaintyIntervalError"),
        (Reason::ALL[6], "ABORT_REASON_ABORTED_RECORD_FOUND"),
        (Reason::ALL[7], "ABORT_REASON_PUSHER_ABORTED"),
    ];
    let server = server().await;
    let client = connect(&server).await;
    for (number, (reason, name)) in names.into_iter().enumerate() {
        assert_eq!(reason, Reason::ALL[number]);
        server.faults().add(Fault::once(at_insert(), Effect::Retry(reason)));
        let insert = format!("INSERT INTO t VALUES ({number})");
        client.batch_execute(BEGIN).await.unwrap();
        client.batch_execute("SELECT 1").await.unwrap();
        let (code, message) = failure(&client, &insert).await;
        assert_eq!(code, "40001");
        assert!(message.contains(name), "{message}");
        assert_eq!(status(&client).await, "Aborted");
        client.batch_execute(&format!("{RETRY}; {insert}; {RELEASE}; COMMIT")).await.unwrap();
    }
    assert_eq!(rows(&server).await, i64::try_from(names.len()).unwrap());
}

#[tokio::test]
async fn a_write_that_is_too_old_names_its_key_in_later_releases() {
    let server = server_with(Version::V23_1).await;
    let client = connect(&server).await;
    client.batch_execute(BEGIN).await.unwrap();
    client.batch_execute("INSERT INTO t VALUES (7)").await.unwrap();
    server.faults().add(Fault::once(at_insert(), Effect::Retry(Reason::WriteTooOld)));
    let (_, message) = failure(&client, INSERT).await;
    assert!(message.contains("WriteTooOldError: write for key /Table/52/1/7/0 at timestamp "), "{message}");
}

#[tokio::test]
async fn a_conflict_of_the_first_statement_is_hidden() {
    let server = server().await;
    let client = connect(&server).await;
    server.faults().add(Fault::once(at_insert(), Effect::Retry(Reason::Serializable)).times(5));
    client.batch_execute(BEGIN).await.unwrap();
    client.batch_execute(INSERT).await.unwrap();
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(server.faults().struck(), 5);
    assert_eq!(rows(&server).await, 1);
}

#[tokio::test]
async fn a_conflict_at_release_leaves_the_savepoint() {
    let server = server().await;
    let client = connect(&server).await;
    server.faults().add(Fault::once(Point::Release, Effect::Retry(Reason::Serializable)));
    client.batch_execute(BEGIN).await.unwrap();
    client.batch_execute(INSERT).await.unwrap();
    assert_eq!(failure(&client, &format!("{RELEASE}; COMMIT")).await.0, "40001");
    assert_eq!(status(&client).await, "Aborted");
    client.batch_execute(&format!("{RETRY}; {INSERT}; {RELEASE}; COMMIT")).await.unwrap();
    assert_eq!(rows(&server).await, 1);
}

#[tokio::test]
async fn a_conflict_at_commit_ends_the_transaction() {
    let server = server().await;
    let client = connect(&server).await;
    server.faults().add(Fault::once(Point::Commit, Effect::Retry(Reason::Serializable)));
    client.batch_execute(BEGIN).await.unwrap();
    client.batch_execute(INSERT).await.unwrap();
    assert_eq!(failure(&client, "COMMIT").await.0, "40001");
    assert_eq!(status(&client).await, "NoTxn");
    assert_eq!(failure(&client, RETRY).await.0, "3B001");
    assert_eq!(rows(&server).await, 0);
}

#[tokio::test]
async fn a_conflict_in_a_replay_waits_for_the_replay() {
    let server = server().await;
    let client = connect(&server).await;
    let point = Point::Statement("x = 2".into());
    server.faults().add(Fault::once(point.clone(), Effect::Retry(Reason::Serializable)).in_replays());
    client.batch_execute(BEGIN).await.unwrap();
    client.batch_execute(INSERT).await.unwrap();
    client.batch_execute("SELECT x FROM t WHERE x = 2").await.unwrap();
    assert_eq!(server.faults().struck(), 0);
    client.batch_execute(RETRY).await.unwrap();
    client.batch_execute(INSERT).await.unwrap();
    assert_eq!(failure(&client, "SELECT x FROM t WHERE x = 2").await.0, "40001");
}

#[tokio::test]
async fn a_fault_lets_opportunities_pass() {
    let server = server().await;
    let client = connect(&server).await;
    server.faults().add(Fault::once(at_insert(), Effect::Retry(Reason::Serializable)).after(2));
    client.batch_execute(BEGIN).await.unwrap();
    for number in 0..2 {
        client.batch_execute(&format!("INSERT INTO t VALUES ({number})")).await.unwrap();
    }
    assert_eq!(failure(&client, "INSERT INTO t VALUES (3)").await.0, "40001");
}

#[tokio::test]
async fn an_ambiguous_release_is_final() {
    for (outcome, expected) in [(Outcome::Committed, 1), (Outcome::Lost, 0)] {
        let server = server().await;
        let client = connect(&server).await;
        server.faults().add(Fault::once(Point::Release, Effect::Ambiguous(outcome)));
        client.batch_execute(BEGIN).await.unwrap();
        client.batch_execute(INSERT).await.unwrap();
        let (code, message) = failure(&client, RELEASE).await;
        assert_eq!(code, "40003");
        assert!(message.starts_with("result is ambiguous ("), "{message}");
        assert_eq!(status(&client).await, "Aborted");
        assert_eq!(failure(&client, RETRY).await.0, "3B001");
        client.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(rows(&server).await, expected);
    }
}

#[tokio::test]
async fn an_ambiguous_commit_ends_the_transaction() {
    for (outcome, expected) in [(Outcome::Committed, 1), (Outcome::Lost, 0)] {
        let server = server().await;
        let client = connect(&server).await;
        server.faults().add(Fault::once(Point::Commit, Effect::Ambiguous(outcome)));
        client.batch_execute(&format!("BEGIN; {INSERT}")).await.unwrap();
        assert_eq!(failure(&client, "COMMIT").await.0, "40003");
        assert_eq!(status(&client).await, "NoTxn");
        assert_eq!(rows(&server).await, expected);
    }
}

#[tokio::test]
async fn a_connection_lost_at_the_end_may_have_committed() {
    for (point, end) in [(Point::Commit, "COMMIT"), (Point::Release, RELEASE)] {
        for (outcome, expected) in [(Outcome::Committed, 1), (Outcome::Lost, 0)] {
            let server = server().await;
            let client = connect(&server).await;
            client.batch_execute(&format!("{BEGIN}; {INSERT}")).await.unwrap();
            server.faults().add(Fault::once(point.clone(), Effect::Disconnect(outcome)));
            let error = client.batch_execute(end).await.unwrap_err();
            assert_eq!(code(&error), None, "the server says nothing");
            assert_eq!(rows(&server).await, expected);
        }
    }
}

#[tokio::test]
async fn a_connection_lost_in_autocommit_may_have_committed() {
    for (outcome, expected) in [(Outcome::Committed, 1), (Outcome::Lost, 0)] {
        let server = server().await;
        let client = connect(&server).await;
        server.faults().add(Fault::once(Point::Commit, Effect::Disconnect(outcome)));
        assert!(client.batch_execute(INSERT).await.is_err());
        assert_eq!(rows(&server).await, expected);
    }
}

#[tokio::test]
async fn an_answer_can_be_slow() {
    let server = server().await;
    let client = connect(&server).await;
    let delay = Duration::from_millis(80);
    server.faults().add(Fault::once(at_insert(), Effect::Delay(delay)));
    let start = Instant::now();
    client.batch_execute(INSERT).await.unwrap();
    assert!(start.elapsed() >= delay);
}

#[tokio::test]
async fn a_server_can_say_goodbye_in_the_middle() {
    let server = server().await;
    let client = connect(&server).await;
    server.faults().add(Fault::once(at_insert(), Effect::ShutDown));
    client.batch_execute("BEGIN").await.unwrap();
    assert_eq!(failure(&client, INSERT).await, ("57P01".into(), "server is shutting down".into()));
    assert!(client.batch_execute("SELECT 1").await.is_err());
    assert_eq!(rows(&server).await, 0);
}

/// A client that sees bytes, over a stream within the process.
async fn greeted(server: &Server) -> DuplexStream {
    let (mut near, far) = tokio::io::duplex(1 << 16);
    server.serve(far);
    near.write_all(&Frontend::startup([("user", "root")]).encode()).await.expect("the server reads");
    let mut bytes = Vec::new();
    loop {
        match Backend::read(&mut bytes) {
            Some(Backend::ReadyForQuery(_)) => break,
            Some(_) => {}
            None => drop(near.read_buf(&mut bytes).await.expect("the server greets")),
        }
    }
    near
}

#[tokio::test]
async fn an_answer_can_be_cut_at_any_byte() {
    let server = server().await;
    let query = Frontend::Query("SELECT 1".into()).encode();
    let mut whole = Vec::new();
    let mut client = greeted(&server).await;
    client.write_all(&[query.clone(), Frontend::Terminate.encode()].concat()).await.unwrap();
    client.read_to_end(&mut whole).await.unwrap();
    assert!(whole.ends_with(b"I"));
    for length in 0..whole.len() {
        server.faults().add(Fault::once(Point::Statement("SELECT 1".into()), Effect::Cut(length)));
        let mut client = greeted(&server).await;
        client.write_all(&query).await.unwrap();
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, whole[..length]);
    }
}

/// What became of a fixed series of transactions under faults of a seed.
async fn story(seed: u64) -> Vec<Option<String>> {
    let server = server().await;
    let effects = Reason::ALL.map(Effect::Retry).to_vec();
    server.faults().add_chance(seed, 0.3, effects);
    let client = connect(&server).await;
    let mut story = Vec::new();
    for number in 0..30 {
        client.batch_execute("BEGIN").await.expect("BEGIN is spared");
        let _ = client.batch_execute("SELECT 1").await;
        let insert = client.batch_execute(&format!("INSERT INTO t VALUES ({number})")).await;
        story
            .push(insert.err().and_then(|error| error.as_db_error().map(|error| error.message().to_owned())));
        let _ = client.batch_execute("ROLLBACK").await;
    }
    story.iter().map(|text| text.as_ref().map(|text| golden::mask::mask_text(text))).collect()
}

#[tokio::test]
async fn the_same_seed_tells_the_same_story() {
    let first = story(7).await;
    assert!(first.iter().any(Option::is_some) && first.iter().any(Option::is_none));
    assert_eq!(first, story(7).await);
    assert_ne!(first, story(8).await);
}

#[tokio::test]
async fn a_client_that_retries_gets_through_a_storm() {
    let server = server().await;
    server.faults().add_chance(3, 0.25, Reason::ALL.map(Effect::Retry).to_vec());
    let client = connect(&server).await;
    let mut retries = 0;
    for number in 0..20_i64 {
        retries += retrying(&client, async || {
            client.batch_execute(&format!("INSERT INTO t VALUES ({number})")).await?;
            client.batch_execute(&format!("UPDATE t SET x = {} WHERE x = {number}", number + 100)).await
        })
        .await;
    }
    assert!(retries > 0);
    server.faults().clear();
    assert_eq!(rows(&server).await, 20);
}

/// A connection that breaks by chance commits nothing unless a commit was asked for.
#[tokio::test]
async fn chance_commits_no_half_of_a_transaction() {
    let server = server().await;
    server.faults().add_chance(5, 0.5, vec![Effect::Disconnect(Outcome::Committed)]);
    for number in 0..20 {
        let client = connect(&server).await;
        let _ = client.batch_execute(&format!("BEGIN; INSERT INTO t VALUES ({number}); SELECT 1")).await;
    }
    server.faults().clear();
    assert_eq!(rows(&server).await, 0);
}
