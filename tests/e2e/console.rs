//! The console: what operators ask by psql and by drivers, what they may change, and who is let in.

use std::net::SocketAddr;

use tokio::process::Command;
use tokio_postgres::{Client, Config, NoTls};

use golden::Frontend;

use crate::support::database::{Database, config};
use crate::support::program::Program;
use crate::support::wire::Wire;
use crate::support::{eventually, within};

const USERS: &str = "\"op\" \"the console's password\"\n\"eve\" \"another password\"\n";

/// The program with a console, before a database.
pub(crate) struct Operated {
    pub(crate) program: Program,
    pub(crate) database: Database,
    pub(crate) address: SocketAddr,
    users: tempfile::NamedTempFile,
}

impl Operated {
    pub(crate) async fn start(variables: &[(&str, &str)]) -> Self {
        let database = Database::create().await;
        let users = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(users.path(), USERS).expect("to write it");
        let path = users.path().display().to_string();
        let own = [("REPRISE_ADMIN_FILE", path.as_str()), ("REPRISE_UPSTREAM_DIALECT", "cockroach")];
        let variables = [&own, variables].concat();
        let program = Program::start(&["--upstream", &database.address.to_string()], &variables).await;
        let address = program.listens().await;
        Self { program, database, address, users }
    }

    /// What psql prints for a command: columns joined by tabs.
    pub(crate) async fn psql(&self, command: &str) -> String {
        let url = format!("postgres://op@{}/reprise?sslmode=disable", self.address);
        let mut psql = Command::new("psql");
        psql.args([&url, "--no-psqlrc", "--no-align", "--field-separator=\t", "--command", command]);
        psql.env("PGPASSWORD", "the console's password");
        let output = within("psql", psql.output()).await.expect("psql");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn config(&self, user: &str, password: &str) -> Config {
        let mut config = config(self.address, "reprise", "driver");
        config.user(user).password(password);
        config
    }

    /// A driver's connection to the console.
    async fn client(&self, user: &str, password: &str) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = within("to connect", self.config(user, password).connect(NoTls)).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    pub(crate) async fn operator(&self) -> Client {
        self.client("op", "the console's password").await.expect("the operator")
    }

    pub(crate) async fn application(&self) -> Wire {
        Wire::open(self.address, &self.database.name).await
    }
}

/// The SQLSTATE of an error.
fn code(error: &tokio_postgres::Error) -> String {
    error.code().unwrap_or_else(|| panic!("{error:?}")).code().to_owned()
}

#[tokio::test]
async fn psql_is_told_everything() {
    let scene = Operated::start(&[]).await;
    let mut wire = scene.application().await;
    assert_eq!(wire.query("BEGIN").await, "BEGIN T");
    assert_eq!(wire.query("SELECT conflict('first', 2)").await, "(passed) SELECT 1 T");
    assert_eq!(wire.query("COMMIT").await, "COMMIT I");
    let name = &scene.database.name;
    let help = scene.psql("SHOW HELP").await;
    for line in help.lines().filter(|line| line.starts_with("SHOW ")) {
        let command = line.split('\t').next().expect("a command");
        let told = scene.psql(command).await;
        assert!(told.lines().count() >= 2, "{command}: {told}");
    }
    let sessions = scene.psql("show sessions;").await;
    let row = sessions.lines().nth(1).expect("a session").split('\t').collect::<Vec<_>>();
    assert_eq!(
        (row[1], row[2], row[5], row[6], row[7]),
        ("postgres", &**name, "transparent", "cockroach", "idle")
    );
    assert_eq!(row[10..], ["1", "2", "2", "0"], "{sessions}");
    let stats = scene.psql("SHOW STATS").await;
    for figure in ["committed\t1\t", "conflicts\t2\t", "hidden\t2\t", "sessions\t1\t"] {
        assert!(stats.lines().any(|line| line.starts_with(figure)), "{figure} is not in\n{stats}");
    }
    let transactions = scene.psql("SHOW TRANSACTIONS").await;
    assert!(transactions.contains("\tSELECT conflict(?)\n"), "{transactions}");
    let coverage = scene.psql("SHOW COVERAGE").await;
    assert!(coverage.contains(&format!("\tpostgres\t{name}\t1\t100\t")), "{coverage}");
    // A session that has ended is still a part of it.
    drop(wire);
    eventually("it ends", async || {
        scene.psql("SHOW SESSIONS").await.starts_with("session\t")
            && scene.psql("SHOW SESSIONS").await.ends_with("(0 rows)\n")
    })
    .await;
    assert!(scene.psql("SHOW COVERAGE").await.contains(&format!("\tpostgres\t{name}\t1\t100\t")));
}

#[tokio::test]
async fn drivers_ask_by_the_extended_protocol() {
    let scene = Operated::start(&[]).await;
    let _application = scene.application().await;
    let console = scene.operator().await;
    let rows = console.query("SHOW SESSIONS", &[]).await.expect("rows");
    assert_eq!(rows.len(), 1);
    let (id, connected): (i64, f64) = (rows[0].get("session"), rows[0].get("connected_s"));
    assert!(id > 0 && connected >= 0.0);
    assert_eq!(rows[0].get::<_, Option<f64>>("transaction_s"), None);
    assert_eq!(rows[0].get::<_, &str>("state"), "idle");
    assert_eq!(console.execute("SET mode = 'observe'", &[]).await.expect("set"), 0);
    let version: String = console.query_one("SHOW VERSION", &[]).await.expect("a row").get("version");
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    console
        .batch_execute("SET client_encoding = 'UTF8'; BEGIN; SHOW STATS; COMMIT")
        .await
        .expect("as drivers do");
    for (command, expected) in [
        ("SELECT 1", "42601"),
        ("SHOW NOTHING", "42704"),
        ("KILL 999", "42704"),
        ("SET mode = 'on'", "22023"),
    ] {
        let simple = console.batch_execute(command).await.expect_err(command);
        let extended = console.query(command, &[]).await.expect_err(command);
        assert_eq!((code(&simple), code(&extended)), (expected.to_owned(), expected.to_owned()), "{command}");
    }
    assert!(console.query("SHOW HELP", &[]).await.is_ok(), "an error does not end the session");
}

#[tokio::test]
async fn the_mode_is_set_for_sessions_that_begin_and_a_reload_takes_it_back() {
    let scene = Operated::start(&[]).await;
    let mut before = scene.application().await;
    let console = scene.operator().await;
    console.batch_execute("SET mode = 'observe'").await.expect("set");
    let mut after = scene.application().await;
    assert_eq!(before.query("SELECT conflict('first', 1)").await, "(passed) SELECT 1 I");
    assert_eq!(after.query("SELECT conflict('second', 1)").await, "40001 I");
    let mode = async || -> (String, String) {
        let rows = console.query("SHOW CONFIG", &[]).await.expect("rows");
        let row = rows.iter().find(|row| row.get::<_, &str>("key") == "retry.mode").expect("the mode");
        (row.get("value"), row.get("origin"))
    };
    assert_eq!(mode().await, ("observe".to_owned(), "console".to_owned()));
    console.batch_execute("RELOAD").await.expect("a reload");
    assert_eq!(mode().await, ("transparent".to_owned(), "default".to_owned()));
    std::fs::write(scene.users.path(), "nonsense").expect("to write it");
    let refused = console.batch_execute("RELOAD").await.expect_err("the file is wrong");
    assert_eq!(code(&refused), "F0000");
    assert!(refused.as_db_error().is_some_and(|error| error.message().contains(":1: expected")), "{refused}");
}

#[tokio::test]
async fn a_session_is_ended_by_its_number() {
    let scene = Operated::start(&[]).await;
    let mut wire = scene.application().await;
    assert_eq!(wire.query("BEGIN").await, "BEGIN T");
    assert_eq!(wire.query("UPDATE kv SET v = 11 WHERE k = 1").await, "UPDATE 1 T");
    let console = scene.operator().await;
    let row = console.query_one("SHOW SESSIONS", &[]).await.expect("one session");
    assert_eq!(row.get::<_, &str>("state"), "idle in transaction");
    let id: i64 = row.get("session");
    console.batch_execute(&format!("KILL {id}")).await.expect("killed");
    assert_eq!(wire.until_closed().await, "57P01");
    scene.database.until_deserted().await;
    assert_eq!(scene.database.query("SELECT v FROM kv WHERE k = 1").await, "10");
    assert!(console.query("SHOW SESSIONS", &[]).await.expect("rows").is_empty());
}

/// What the database does for a session that is ended ends too: it does not hold its locks until it is done.
#[tokio::test]
async fn the_statement_of_a_session_that_is_ended_is_cancelled() {
    let scene = Operated::start(&[]).await;
    let mut wire = scene.application().await;
    let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(600)%' AND state = 'active' AND \
                  datname = current_database()";
    wire.send([Frontend::Query("SELECT pg_sleep(600)".into())]).await;
    scene.database.until(sleeps, "1").await;
    let console = scene.operator().await;
    let id: i64 = console.query_one("SHOW SESSIONS", &[]).await.expect("one session").get("session");
    console.batch_execute(&format!("KILL {id}")).await.expect("killed");
    wire.until_closed().await;
    scene.database.until(sleeps, "0").await;
}

#[tokio::test]
async fn drain_ends_the_proxy_in_peace() {
    let mut scene = Operated::start(&[]).await;
    let mut wire = scene.application().await;
    assert_eq!(wire.query("BEGIN").await, "BEGIN T");
    let console = scene.operator().await;
    console.batch_execute("DRAIN").await.expect("it begins");
    scene.program.logged("shutting down; a second signal ends it at once").await;
    assert_eq!(wire.query("COMMIT").await, "COMMIT I");
    assert_eq!(scene.program.exit_code().await, Some(0));
}

#[tokio::test]
async fn only_its_users_are_let_in_and_viewers_only_look() {
    let scene = Operated::start(&[("REPRISE_ADMIN_VIEWERS", "eve")]).await;
    for (user, password) in [("op", "wrong"), ("nobody", "the console's password")] {
        let refused = scene.client(user, password).await.expect_err("no password");
        assert_eq!(code(&refused), "28P01", "{user}");
    }
    let viewer = scene.client("eve", "another password").await.expect("a viewer");
    assert!(viewer.query("SHOW STATS", &[]).await.is_ok());
    for command in ["SET mode = 'off'", "RELOAD", "DRAIN", "KILL 1"] {
        let refused = viewer.batch_execute(command).await.expect_err(command);
        assert_eq!(code(&refused), "42501", "{command}");
    }
    // All answers to one text are in memory at a time.
    let refused = viewer.batch_execute(&"SHOW STATS;".repeat(17)).await.expect_err("too many");
    assert_eq!(code(&refused), "54000");
    assert!(viewer.batch_execute(&"SHOW STATS;".repeat(16)).await.is_ok());
    let log = scene.program.log().join("\n");
    assert!(!log.contains("password\"") && !log.contains("the console's"), "{log}");
    let config = scene.psql("SHOW CONFIG").await;
    assert!(config.contains("admin.file\t") && !config.contains("the console's password"), "{config}");
}

#[tokio::test]
async fn it_is_closed_to_other_networks_and_absent_without_users() {
    let scene = Operated::start(&[("REPRISE_ADMIN_NETWORKS", "10.0.0.0/8")]).await;
    let refused = scene.client("op", "the console's password").await.expect_err("it is closed");
    assert_eq!(code(&refused), "28000");
    let database = Database::create().await;
    database.observer.batch_execute("CREATE DATABASE reprise").await.expect("a database of that name");
    let program = Program::start(&["--upstream", &database.address.to_string()], &[]).await;
    let mut wire = Wire::open(program.listens().await, "reprise").await;
    assert_eq!(wire.query("SELECT current_database()").await, "(reprise) SELECT 1 I");
}
