//! The program as it is operated: what it shows of its work, what it keeps to itself, and how it ends.

use golden::Frontend;

use crate::support::database::{APPLICATION, Database, connect};
use crate::support::program::Program;
use crate::support::wire::Wire;
use crate::support::{eventually, within};

/// The program before a database, with these variables besides.
async fn start(database: &Database, variables: &[(&str, &str)]) -> Program {
    let upstream = database.address.to_string();
    Program::start(&["--upstream", &upstream], variables).await
}

#[tokio::test]
async fn metrics_tell_what_happened() {
    let database = Database::create().await;
    let program = start(&database, &[("REPRISE_UPSTREAM_DIALECT", "cockroach")]).await;
    let mut wire = Wire::open(program.listens().await, &database.name).await;
    assert_eq!(wire.query("BEGIN").await, "BEGIN T");
    assert_eq!(wire.query("SELECT conflict('first', 2)").await, "(passed) SELECT 1 T");
    assert_eq!(wire.query("COMMIT").await, "COMMIT I");
    assert_eq!(wire.query("BEGIN").await, "BEGIN T");
    assert_eq!(wire.query("SELECT v FROM kv WHERE k = 1").await, "(10) SELECT 1 T");
    database.run("UPDATE kv SET v = 11").await;
    assert_eq!(wire.query("SELECT conflict('second', 1)").await, "40001 E");
    assert_eq!(wire.query("ROLLBACK").await, "ROLLBACK I");
    let metrics = program.http("/metrics").await;
    for line in [
        "reprise_conflicts_hidden_total 2",
        "reprise_conflicts_surfaced_total{reason=\"results_differ\"} 1",
        "reprise_conflicts_total{phase=\"statement\",sqlstate=\"40001\"} 2",
        "reprise_conflicts_total{phase=\"replay\",sqlstate=\"40001\"} 1",
        "reprise_transactions_total{dialect=\"cockroach\",kind=\"explicit\",outcome=\"committed\"} 1",
        "reprise_transactions_total{dialect=\"cockroach\",kind=\"explicit\",outcome=\"surfaced\"} 1",
        "reprise_transaction_attempts_bucket{le=\"3\"} 2",
        "reprise_transaction_attempts_sum 5",
        "reprise_replay_seconds_count 3",
        "reprise_sessions 1",
        "reprise_sessions_total 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    let line = program.logged("transaction met a conflict").await;
    assert_eq!((&line["outcome"], &line["attempts"]), (&"committed".into(), &3.into()));
    drop(wire);
    eventually("no session", async || program.http("/metrics").await.contains("\nreprise_sessions 0\n"))
        .await;
}

#[tokio::test]
async fn options_come_from_file_environment_and_flags() {
    let database = Database::create().await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    let text = "[retry]\nmax_attempts = 2\nmode = \"observe\"\n[upstream]\ndialect = \"cockroach\"\n";
    std::fs::write(file.path(), text).expect("to write it");
    let path = file.path().display().to_string();
    let upstream = database.address.to_string();
    let arguments = ["--config", &path, "--mode", "transparent"];
    let program = Program::start(&arguments, &[("REPRISE_UPSTREAM_ADDRESS", &upstream)]).await;
    let mut wire = Wire::open(program.listens().await, &database.name).await;
    assert_eq!(wire.query("BEGIN").await, "BEGIN T");
    let answer = wire.query("SELECT conflict('first', 9)").await;
    assert!(answer.field('D').contains("(attempts_exhausted): 2 attempts"), "{}", answer.error());
    assert!(database.statements().await.iter().any(|sql| sql == "SAVEPOINT cockroach_restart"));
}

#[tokio::test]
async fn at_a_signal_idle_sessions_end_and_transactions_may_finish() {
    let database = Database::create().await;
    let mut program = start(&database, &[]).await;
    let address = program.listens().await;
    let mut idle = Wire::open(address, &database.name).await;
    let mut busy = Wire::open(address, &database.name).await;
    assert_eq!(busy.query("BEGIN").await, "BEGIN T");
    assert_eq!(busy.query("INSERT INTO journal VALUES ('once')").await, "INSERT 0 1 T");
    assert!(program.http("/readyz").await.starts_with("HTTP/1.1 200 "));
    program.terminate().await;
    let farewell = idle.until_closed().await;
    assert_eq!(farewell, "57P01");
    assert_eq!(farewell.field('S'), "FATAL");
    assert!(program.http("/readyz").await.starts_with("HTTP/1.1 503 "));
    assert!(program.http("/healthz").await.starts_with("HTTP/1.1 200 "));
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "no more clients are taken");
    // Even its conflicts are still hidden.
    assert_eq!(busy.query("SELECT conflict('first', 2)").await, "(passed) SELECT 1 T");
    assert_eq!(busy.query("COMMIT").await, "COMMIT I");
    assert_eq!(busy.until_closed().await, "57P01");
    assert_eq!(program.exit_code().await, Some(0));
    assert_eq!(database.query("SELECT * FROM journal").await, "once");
    database.until_deserted().await;
}

#[tokio::test]
async fn transactions_that_do_not_finish_in_time_are_cut_off() {
    let database = Database::create().await;
    let mut program = start(&database, &[("REPRISE_PROXY_DRAIN_TIMEOUT", "200ms")]).await;
    let mut busy = Wire::open(program.listens().await, &database.name).await;
    assert_eq!(busy.query("BEGIN").await, "BEGIN T");
    assert_eq!(busy.query("UPDATE kv SET v = 0").await, "UPDATE 3 T");
    let mut committing = Wire::open(program.listens().await, &database.name).await;
    committing.send([Frontend::Query("SELECT pg_sleep(600)".into())]).await;
    let sleeps = "SELECT count(*) FROM pg_stat_activity \
                  WHERE datname = current_database() AND wait_event = 'PgSleep'";
    database.until(sleeps, "1").await;
    program.terminate().await;
    assert_eq!(program.exit_code().await, Some(0));
    program.logged("sessions with open transactions are cut off").await;
    let farewell = within("the end", busy.until_closed()).await;
    assert_eq!(farewell, "57P01", "it is told, and not just cut");
    let farewell = within("the end", committing.until_closed()).await;
    assert_eq!(farewell, "08007", "a statement that commits by itself may still do so");
    // What ran for nobody was cancelled.
    database.until_deserted().await;
    assert_eq!(database.query("SELECT v FROM kv WHERE k = 1").await, "10");
}

#[tokio::test]
async fn no_secret_reaches_logs_or_metrics() {
    const SECRET: &str = "hunter2swordfish";
    let database = Database::create().await;
    let program = start(&database, &[("REPRISE_LOG_LEVEL", "trace")]).await;
    let address = program.listens().await;
    let mut wire = Wire::open(address, &database.name).await;
    assert_eq!(wire.query("BEGIN").await, "BEGIN T");
    assert_eq!(wire.query(&format!("INSERT INTO journal VALUES ('{SECRET}')")).await, "INSERT 0 1 T");
    let shown = format!("({SECRET}) SELECT 1 T");
    assert_eq!(wire.execute("SELECT $1::text", &[SECRET]).await, shown.as_str());
    assert_eq!(wire.query("SELECT conflict('first', 2)").await, "(passed) SELECT 1 T");
    assert_eq!(wire.query("COMMIT").await, "COMMIT I");
    // Surfaced, refused, malformed, cancelled: whatever is worth a line.
    assert_eq!(wire.query(&format!("SELECT '{SECRET}'::integer")).await, "22P02 I");
    assert_eq!(wire.query("BEGIN").await, "BEGIN T");
    assert_eq!(wire.query(&format!("SELECT '{SECRET}', v FROM kv WHERE k = 1")).await.status(), Some('T'));
    database.run("UPDATE kv SET v = 11").await;
    assert_eq!(wire.query("SELECT conflict('second', 1)").await, "40001 E");
    let parameters = [("user", SECRET), ("database", SECRET), ("password", SECRET)];
    assert_eq!(Wire::start(address, &parameters).await.1.field('S'), "FATAL");
    let mut broken = Wire::open(address, &database.name).await;
    broken.send([Frontend::Query(format!("SELECT '{SECRET}'"))]).await;
    broken.send_bytes(&[b"Q\0\0\0\0", SECRET.as_bytes()].concat()).await;
    broken.until_closed().await;
    let driver = connect(address, &database.name, APPLICATION).await;
    driver.query("SELECT $1::text", &[&SECRET]).await.expect("a row");
    drop((wire, driver));
    let metrics = || program.http("/metrics");
    eventually("no session", async || metrics().await.contains("\nreprise_sessions 0\n")).await;
    let told = program.log().join("\n") + &metrics().await;
    assert!(told.contains("\"message\":\"replay started\""), "the log is at its most talkative: {told}");
    assert!(!told.contains(SECRET), "{told}");
}
