//! `compat.lock_table = "ignore"`: a client that begins each transaction with LOCK TABLE, as on a database that has none.

use golden::{Backend, Frontend};
use reprise::config::Config;
use reprise::replay::{Dialect, LockTable};
use roach::{Options, Server};

use crate::support::database::Database;
use crate::support::proxy::Proxy;
use crate::support::wire::{Answer, Wire, bind, execute, extended, parse};

const SERIALIZABLE: (&str, &str) = ("options", "-c default_transaction_isolation=serializable");
const LOCK: &str = "LOCK TABLE kv IN ACCESS EXCLUSIVE MODE";

fn ignore(config: &mut Config) {
    config.retry.policy.lock_table = LockTable::Ignore;
}

async fn start() -> (Database, Proxy) {
    let database = Database::create().await;
    let proxy = Proxy::before(&database, Dialect::Cockroach, ignore).await;
    (database, proxy)
}

async fn session(database: &Database, proxy: &Proxy, parameters: &[(&str, &str)]) -> Wire {
    let common =
        [("user", "postgres"), ("database", database.name.as_str()), ("application_name", "application")];
    let (wire, greeting) = Wire::start(proxy.address, &[&common[..], parameters].concat()).await;
    assert_eq!(greeting.status(), Some('I'), "{greeting}");
    wire
}

/// The statements that the database has run, without the question for the isolation level.
async fn statements(database: &Database) -> Vec<String> {
    let mut statements = database.statements().await;
    statements.retain(|sql| sql != "SHOW default_transaction_isolation");
    statements
}

#[tokio::test]
async fn the_database_hears_nothing_of_it() {
    let (database, proxy) = start().await;
    let mut client = session(&database, &proxy, &[SERIALIZABLE]).await;
    assert_eq!(client.query("BEGIN").await, "BEGIN T");
    let first = client.query(LOCK).await;
    assert_eq!(first, "LOCK TABLE T");
    let notices = |answer: &Answer| {
        answer.0.iter().filter(|message| matches!(message, Backend::NoticeResponse(_))).count()
    };
    assert_eq!(notices(&first), 1);
    assert_eq!(client.query("COMMIT").await, "COMMIT I");
    assert_eq!(client.query("BEGIN").await, "BEGIN T");
    let second = client.query(LOCK).await;
    assert_eq!(second, "LOCK TABLE T");
    assert_eq!(notices(&second), 0, "once a session");
    assert_eq!(client.query("UPDATE kv SET v = 0 WHERE k = 1").await, "UPDATE 1 T");
    // Nothing is locked.
    database.run("UPDATE kv SET v = 0 WHERE k = 2").await;
    assert_eq!(client.query(LOCK).await, "LOCK TABLE T");
    assert_eq!(client.query("COMMIT").await, "COMMIT I");
    assert!(!statements(&database).await.iter().any(|sql| sql.contains("LOCK")));
}

#[tokio::test]
async fn a_pipeline_is_answered_in_its_order() {
    let (database, proxy) = start().await;
    let mut client = session(&database, &proxy, &[SERIALIZABLE]).await;
    let texts =
        ["BEGIN", LOCK, "SELECT v FROM kv WHERE k = 1", LOCK, "SELECT conflict('first', 2)", "COMMIT"];
    client.send(texts.map(|sql| Frontend::Query(sql.into()))).await;
    let expected =
        ["BEGIN T", "LOCK TABLE T", "(10) SELECT 1 T", "LOCK TABLE T", "(passed) SELECT 1 T", "COMMIT I"];
    for answer in expected {
        assert_eq!(client.until_ready().await, answer);
    }
    assert_eq!(proxy.conflicts(), (2.0, 0.0));
    assert!(!statements(&database).await.iter().any(|sql| sql.contains("LOCK")));
}

#[tokio::test]
async fn in_the_extended_protocol_it_has_its_place_in_the_batch() {
    let (database, proxy) = start().await;
    let mut client = session(&database, &proxy, &[SERIALIZABLE]).await;
    assert_eq!(client.query("BEGIN").await, "BEGIN T");
    let batch = [extended(LOCK, &[]), extended("SELECT conflict('first', 2)", &[]), extended(LOCK, &[])];
    client.send(batch.into_iter().flatten().chain([Frontend::Sync])).await;
    assert_eq!(client.until_ready().await, "LOCK TABLE (passed) SELECT 1 LOCK TABLE T");
    // Prepared, and run in another batch.
    client.send([parse("lock", LOCK), Frontend::Sync]).await;
    assert_eq!(client.until_ready().await.status(), Some('T'));
    client.send([bind("", "lock", Vec::new()), execute("", 0), Frontend::Sync]).await;
    assert_eq!(client.until_ready().await, "LOCK TABLE T");
    assert_eq!(client.execute("UPDATE kv SET v = 0 WHERE k = 1", &[]).await, "UPDATE 1 T");
    assert_eq!(client.execute("COMMIT", &[]).await, "COMMIT I");
    assert_eq!(proxy.conflicts(), (2.0, 0.0));
    database.run("UPDATE kv SET v = 0 WHERE k = 2").await;
    let log = database.log().await;
    assert!(!log.iter().any(|line| line.contains("ACCESS EXCLUSIVE")), "{log:?}");
}

#[tokio::test]
async fn under_weaker_isolation_the_database_locks() {
    let (database, proxy) = start().await;
    let lock = [LOCK.to_owned()];
    for (parameters, begin) in [
        (&[][..], "BEGIN"),
        (&[SERIALIZABLE], "BEGIN ISOLATION LEVEL READ COMMITTED"),
        (&[SERIALIZABLE], "BEGIN; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"),
    ] {
        let mut client = session(&database, &proxy, parameters).await;
        client.query(begin).await;
        assert_eq!(client.query(LOCK).await, "LOCK TABLE T");
        let asked = statements(&database).await;
        assert_eq!(asked.last(), lock.last(), "{parameters:?} {begin}");
        assert_eq!(client.query("ROLLBACK").await, "ROLLBACK I");
    }
    let mut client = session(&database, &proxy, &[SERIALIZABLE, ("reprise.mode", "observe")]).await;
    client.query("BEGIN").await;
    assert_eq!(client.query(LOCK).await, "LOCK TABLE T");
    assert_eq!(statements(&database).await.last(), lock.last());
}

#[tokio::test]
async fn on_postgresql_clients_are_refused() {
    let database = Database::create().await;
    let proxy = Proxy::start(database.address, ignore).await;
    let parameters = [("user", "postgres"), ("database", database.name.as_str())];
    let (_, greeting) = Wire::start(proxy.address, &parameters).await;
    assert_eq!(greeting.field('C'), "0A000", "{greeting}");
    assert_eq!(greeting.status(), None, "the session has not begun");
    proxy.until_metric("reprise_sessions_refused_total{cause=\"lock_table\"}", 1.0).await;
}

/// Withdrawals of a client that knows only the simple protocol, and counts on its lock. In the double of CockroachDB, for
/// only there are real conflicts met again in the way of its dialect.
#[tokio::test]
async fn withdrawals_of_a_legacy_client_lose_nothing() {
    const CLIENTS: usize = 4;
    const WITHDRAWALS: usize = 10;
    let server = Server::start(Options::default()).await.expect("a server");
    let proxy = Proxy::start(server.address(), ignore).await;
    let connect = async || {
        let parameters = [("user", "root"), ("database", "defaultdb")];
        let (wire, greeting) = Wire::start(proxy.address, &parameters).await;
        assert_eq!(greeting.status(), Some('I'), "{greeting}");
        wire
    };
    let mut owner = connect().await;
    let tables = "CREATE TABLE users (sip STRING PRIMARY KEY, credit INT); \
                  CREATE TABLE withdrawals (id INT DEFAULT unique_rowid() PRIMARY KEY, sip STRING)";
    assert_eq!(owner.query(tables).await.status(), Some('I'));
    assert_eq!(owner.query("INSERT INTO users VALUES ('ann', 1000)").await, "INSERT 0 1 I");
    assert_eq!(owner.execute("BEGIN", &[]).await, "BEGIN T");
    assert_eq!(owner.execute("LOCK TABLE users", &[]).await, "LOCK TABLE T");
    assert_eq!(owner.execute("ROLLBACK", &[]).await, "ROLLBACK I");
    let mut tasks = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = connect().await;
        tasks.push(tokio::spawn(async move {
            for _ in 0..WITHDRAWALS {
                withdraw(&mut client).await;
            }
        }));
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    let left = format!("({}) SELECT 1 I", 1000 - CLIENTS * WITHDRAWALS);
    assert_eq!(owner.query("SELECT credit FROM users").await, left.as_str());
    let entries = format!("({}) SELECT 1 I", CLIENTS * WITHDRAWALS);
    assert_eq!(owner.query("SELECT count(*) FROM withdrawals").await, entries.as_str());
}

/// Withdraws one, by what was read, and begins again when it is told to: what it read is shown to it, and may differ then.
async fn withdraw(client: &mut Wire) {
    loop {
        assert_eq!(client.query("BEGIN").await, "BEGIN T");
        assert_eq!(client.query("LOCK TABLE users IN ACCESS EXCLUSIVE MODE").await, "LOCK TABLE T");
        let shown = client.query("SELECT credit FROM users WHERE sip='ann'").await.to_string();
        let credit = shown.strip_prefix('(').and_then(|shown| shown.split(')').next()?.parse::<i64>().ok());
        let texts = credit.into_iter().flat_map(|credit| {
            [
                format!("UPDATE users SET credit={} WHERE sip='ann'", credit - 1),
                "INSERT INTO withdrawals (sip) VALUES ('ann') RETURNING id;".to_owned(),
                "COMMIT".to_owned(),
            ]
        });
        for text in texts {
            let answer = client.query(&text).await;
            if answer == "COMMIT I" {
                return;
            }
            if answer.status() != Some('T') {
                assert_eq!(answer.field('C'), "40001", "{answer}");
                break;
            }
        }
        client.query("ROLLBACK").await;
    }
}
