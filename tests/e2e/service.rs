//! The program under a service manager: sockets that it is handed, what it tells, and SIGHUP.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

use tempfile::TempDir;

use crate::support::database::Database;
use crate::support::eventually;
use crate::support::program::Program;
use crate::support::wire::Wire;

/// A service manager that listens to what it is told.
struct Manager {
    directory: TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = UnixDatagram::bind(directory.path().join("notify")).expect("a socket");
        socket.set_nonblocking(true).expect("an option of a socket");
        Self { directory, socket }
    }

    fn path(&self) -> String {
        self.directory.path().join("notify").display().to_string()
    }

    /// Waits until it is told something that begins with this, and passes over what comes before.
    async fn told(&self, beginning: &str) -> String {
        let heard = RefCell::new(String::new());
        eventually(beginning, async || {
            let mut buffer = [0; 256];
            while let Ok(length) = self.socket.recv(&mut buffer) {
                let told = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if told.starts_with(beginning) {
                    heard.replace(told);
                    return true;
                }
            }
            false
        })
        .await;
        heard.into_inner()
    }
}

#[tokio::test]
async fn the_service_manager_is_told_of_every_turn() {
    let database = Database::create().await;
    let manager = Manager::start();
    let upstream = database.address.to_string();
    let variables = [("NOTIFY_SOCKET", manager.path()), ("WATCHDOG_USEC", "20000".to_owned())];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut program = Program::start(&["--upstream", &upstream], &variables).await;
    manager.told("READY=1").await;
    manager.told("WATCHDOG=1").await;
    program.signal("HUP").await;
    assert!(manager.told("RELOADING=1").await.contains("MONOTONIC_USEC="));
    manager.told("READY=1").await;
    program.terminate().await;
    manager.told("STOPPING=1").await;
    assert_eq!(program.exit_code().await, Some(0));
}

#[tokio::test]
async fn sockets_that_are_handed_over_are_used() {
    let database = Database::create().await;
    let socket = || std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let (clients, http) = (socket(), socket());
    let [address, http_address] = [&clients, &http].map(|socket| socket.local_addr().expect("an address"));
    let upstream = database.address.to_string();
    let program = Program::start_with(
        [OwnedFd::from(clients), OwnedFd::from(http)],
        &["--upstream", &upstream],
        &[("LISTEN_FDNAMES", "reprise.socket:http")],
    )
    .await;
    assert_eq!(program.listens().await, address);
    assert_eq!(Wire::open(address, &database.name).await.query("SELECT 1").await, "(1) SELECT 1 I");
    assert_eq!(program.serves_http().await, http_address);
    assert!(program.http("/readyz").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn at_a_hangup_the_configuration_is_read_again() {
    let database = Database::create().await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    let write = |text: &str| std::fs::write(file.path(), text).expect("to write it");
    write("[proxy]\nmax_connections_per_user = 5\n");
    let (path, upstream) = (file.path().display().to_string(), database.address.to_string());
    let program = Program::start(&["--config", &path, "--upstream", &upstream], &[]).await;
    let address = program.listens().await;
    let mut wire = Wire::open(address, &database.name).await;
    assert_eq!(wire.query("BEGIN").await, "BEGIN T");
    // Something is wrong: nothing changes, whatever else is in it.
    write("[proxy]\nmax_connections_per_user = 1\nmax_connections = 0\n");
    program.signal("HUP").await;
    let refused = program.logged("cannot read them again; everything stays as it was").await;
    assert!(refused["error"].as_str().is_some_and(|error| error.contains("max_connections")), "{refused}");
    assert_eq!(Wire::open(address, &database.name).await.query("SELECT 1").await, "(1) SELECT 1 I");
    eventually("the second session ends", async || {
        program.http("/metrics").await.contains("\nreprise_sessions 1\n")
    })
    .await;
    // A limit that counts who is there already, another mode, and what needs a restart.
    write(
        "[proxy]\nmax_connections_per_user = 2\nidle_timeout = \"1h\"\n[retry]\nmode = \"observe\"\n\
         journal_bytes_total = \"128MiB\"\n[[rules]]\nuser = \"nobody\"\nmode = \"off\"\n[log]\nlevel = \"debug\"\n",
    );
    program.signal("HUP").await;
    let read = program.logged("configuration and files were read again").await;
    assert_eq!(
        read["changed"],
        "proxy.max_connections_per_user, proxy.idle_timeout, retry.mode, log.level, rules"
    );
    let late = program.logged("these changes need a restart").await;
    assert_eq!(late["keys"], "retry.journal_bytes_total");
    assert!(!program.log().iter().any(|line| line.contains("session begins")), "that is told at debug");
    let mut observed = Wire::open(address, &database.name).await;
    assert_eq!(Wire::start(address, &[("user", "postgres")]).await.1, "53300");
    program.logged("session begins").await;
    assert_eq!(observed.query("BEGIN ISOLATION LEVEL SERIALIZABLE").await, "BEGIN T");
    assert_eq!(observed.query("SELECT conflict('first', 1)").await, "40001 E");
    // The session from before is what it was.
    assert_eq!(wire.query("SELECT conflict('second', 1)").await, "(passed) SELECT 1 T");
    assert_eq!(wire.query("COMMIT").await, "COMMIT I");
}

#[tokio::test]
async fn a_cancel_reaches_the_database_of_its_session_whatever_was_read_since() {
    let database = Database::create().await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    let write = |text: &str| std::fs::write(file.path(), text).expect("to write it");
    write(&format!("[upstream]\naddress = \"{}\"\n", database.address));
    let path = file.path().display().to_string();
    let program = Program::start(&["--config", &path], &[]).await;
    let address = program.listens().await;
    let mut wire = Wire::open(address, &database.name).await;
    write("[upstream]\naddress = \"127.0.0.1:1\"\n");
    program.signal("HUP").await;
    program.logged("configuration and files were read again").await;
    assert_eq!(Wire::start(address, &[("user", "postgres")]).await.1, "08004");
    wire.send([golden::Frontend::Query("SELECT pg_sleep(600)".into())]).await;
    let sleeps =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    database.until(sleeps, "1").await;
    Wire::connect(address).await.cancel(wire.key).await;
    assert_eq!(wire.until_ready().await, "57014 I");
}

#[tokio::test]
async fn a_second_signal_ends_the_process_without_waiting() {
    let database = Database::create().await;
    let upstream = database.address.to_string();
    let mut program =
        Program::start(&["--upstream", &upstream], &[("REPRISE_PROXY_DRAIN_TIMEOUT", "1h")]).await;
    let mut busy = Wire::open(program.listens().await, &database.name).await;
    assert_eq!(busy.query("BEGIN").await, "BEGIN T");
    assert_eq!(busy.query("UPDATE kv SET v = 0").await, "UPDATE 3 T");
    program.terminate().await;
    program.logged("shutting down; a second signal ends it at once").await;
    assert_eq!(busy.query("SELECT 1").await, "(1) SELECT 1 T", "it waits for the transaction");
    program.terminate().await;
    assert_eq!(program.exit_code().await, Some(0));
    database.until_deserted().await;
    assert_eq!(database.query("SELECT v FROM kv WHERE k = 1").await, "10");
}
