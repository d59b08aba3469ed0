//! Unix-domain sockets and IPv6, on both sides.

use certificates::Authority;
use golden::Frontend;
use reprise::config::{HostPort, TlsMode, UpstreamTlsMode};
use tokio::net::UnixStream;

use crate::support::database::Database;
use crate::support::program::Program;
use crate::support::proxy::Proxy;
use crate::support::secure::psql;
use crate::support::wire::Wire;

#[tokio::test]
async fn local_clients_come_by_a_socket_in_a_directory() {
    let database = Database::create().await;
    let authority = Authority::create();
    let identity = authority.server("localhost");
    let directory = tempfile::tempdir().expect("a directory");
    let place = |path: &std::path::Path| path.display().to_string();
    let upstream = database.address.to_string();
    // That TLS is required says nothing of clients on the same machine.
    let variables = [
        ("REPRISE_PROXY_UNIX_SOCKET_DIRECTORY", place(directory.path())),
        ("REPRISE_TLS_MODE", "require".to_owned()),
        ("REPRISE_TLS_CERTIFICATE", place(&identity.certificate)),
        ("REPRISE_TLS_KEY", place(&identity.key)),
    ];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut program = Program::start(&["--upstream", &upstream], &variables).await;
    let port = program.listens().await.port();
    let socket = directory.path().join(format!(".s.PGSQL.{port}"));
    let base = format!("host={} port={port} user=postgres dbname={}", place(directory.path()), database.name);
    assert_eq!(psql(&base, "SELECT v FROM kv WHERE k = 1").await.as_deref(), Ok("10"));
    let mut wire = Wire::over(UnixStream::connect(&socket).await.expect("it listens"));
    wire.send([Frontend::SslRequest]).await;
    assert_eq!(wire.receive_byte().await, Some(b'N'));
    let parameters = [("user", "postgres"), ("database", database.name.as_str())];
    assert_eq!(wire.begin(&parameters).await.status(), Some('I'));
    assert_eq!(wire.query("BEGIN").await, "BEGIN T");
    assert_eq!(wire.query("SELECT conflict('first', 2)").await, "(passed) SELECT 1 T");
    assert_eq!(wire.query("COMMIT").await, "COMMIT I");
    wire.send([Frontend::Query("SELECT pg_sleep(600)".into())]).await;
    database.until("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'", "1").await;
    Wire::over(UnixStream::connect(&socket).await.expect("it listens")).cancel(wire.key).await;
    assert_eq!(wire.until_ready().await, "57014 I");
    program.terminate().await;
    assert_eq!(wire.until_closed().await, "57P01");
    assert_eq!(program.exit_code().await, Some(0));
    assert!(!socket.exists(), "it is taken along");
}

#[tokio::test]
async fn the_database_is_reached_by_a_socket_in_a_directory() {
    let database = Database::create().await;
    let directory = database.socket_directory().await;
    let authority = Authority::create();
    let proxy = Proxy::start(database.address, |config| {
        config.upstream.address = HostPort { host: directory, port: database.address.port() };
        // As in libpq, it does not count there.
        config.upstream.tls.mode = UpstreamTlsMode::VerifyFull;
        config.upstream.tls.ca = reprise::config::Authorities::File(authority.file());
        config.tls.mode = TlsMode::Disable;
    })
    .await;
    let mut wire = Wire::open(proxy.address, &database.name).await;
    let where_from = "SELECT client_addr IS NULL FROM pg_stat_activity WHERE pid = pg_backend_pid()";
    assert_eq!(wire.query(where_from).await, "(t) SELECT 1 I");
    assert_eq!(wire.query("SELECT conflict('first', 2)").await, "(passed) SELECT 1 I");
    wire.send([Frontend::Query("SELECT pg_sleep(600)".into())]).await;
    database.until("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'", "1").await;
    Wire::connect(proxy.address).await.cancel(wire.key).await;
    assert_eq!(wire.until_ready().await, "57014 I");
}

#[tokio::test]
async fn both_sides_speak_ipv6() {
    let database = Database::create().await;
    // The first proxy takes clients by IPv6, and the second one is such a client.
    let near = Proxy::start_at("[::1]:0", database.address, |_| {}).await;
    let far = Proxy::start_at("[::1]:0", near.address, |_| {}).await;
    let mut wire = Wire::open(far.address, &database.name).await;
    assert_eq!(wire.query("BEGIN").await, "BEGIN T");
    assert_eq!(wire.query("SELECT conflict('first', 2)").await, "(passed) SELECT 1 T");
    assert_eq!(wire.query("COMMIT").await, "COMMIT I");
    assert_eq!(near.metric("reprise_sessions_total"), 1.0);
}
