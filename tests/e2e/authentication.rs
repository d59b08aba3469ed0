//! The startup and every authentication exchange are relayed: it is the server that admits or refuses.

use std::net::SocketAddr;

use golden::{Backend, Frontend};
use reprise::demo::server::Postgres;
use tokio::sync::OnceCell;
use tokio_postgres::{Config, NoTls};

use crate::support::database::{APPLICATION, Database, connect};
use crate::support::proxy::Proxy;
use crate::support::wire::{Answer, Wire};
use crate::support::{eventually, within};

/// Who must prove what.
const RULES: &str = "host all postgres 127.0.0.1/32 trust
host all plain 127.0.0.1/32 password
host all hashed 127.0.0.1/32 md5
host all scrambled 127.0.0.1/32 scram-sha-256
host all nobody 127.0.0.1/32 reject
";

const ROLES: &str = "CREATE ROLE plain LOGIN PASSWORD 'secret';
CREATE ROLE scrambled LOGIN PASSWORD 'secret';
CREATE ROLE nobody LOGIN;
SET password_encryption = 'md5';
CREATE ROLE hashed LOGIN PASSWORD 'secret'";

/// A server that asks for passwords.
static SERVER: OnceCell<Postgres> = OnceCell::const_new();

async fn guarded() -> SocketAddr {
    let start = async || {
        let server = Postgres::start(&[]).await.expect("a server");
        let admin = connect(server.addr(), "postgres", APPLICATION).await;
        admin.batch_execute(ROLES).await.expect("roles");
        std::fs::write(server.data_directory().join("pg_hba.conf"), RULES).expect("the rules");
        admin.batch_execute("SELECT pg_reload_conf()").await.expect("to read them");
        let refused = async || login(server.addr(), "nobody", "").await.is_err();
        eventually("the rules are in force", refused).await;
        server
    };
    SERVER.get_or_init(start).await.addr()
}

/// The user that the server takes the client for.
async fn login(address: SocketAddr, user: &str, password: &str) -> Result<String, tokio_postgres::Error> {
    let mut config = Config::new();
    config.host(address.ip().to_string()).port(address.port());
    config.user(user).password(password).dbname("postgres");
    let (client, connection) = within("to log in", config.connect(NoTls)).await?;
    tokio::spawn(connection);
    Ok(client.query_one("SELECT current_user::text", &[]).await?.get(0))
}

#[tokio::test]
async fn every_method_admits_with_the_right_password() {
    let proxy = Proxy::start(guarded().await, |_| {}).await;
    for user in ["postgres", "plain", "hashed", "scrambled"] {
        assert_eq!(login(proxy.address, user, "secret").await.expect(user), user);
    }
    assert_eq!(proxy.metric("reprise_sessions_total"), 4.0);
}

#[tokio::test]
async fn a_refusal_is_the_servers_own() {
    let server = guarded().await;
    let proxy = Proxy::start(server, |_| {}).await;
    let refusals = [("plain", "28P01"), ("hashed", "28P01"), ("scrambled", "28P01"), ("nobody", "28000")];
    for (user, sqlstate) in refusals {
        let told = async |address| {
            let error = login(address, user, "wrong").await.expect_err(user);
            let error = error.as_db_error().expect("an error of the server").clone();
            assert_eq!((error.severity(), error.code().code()), ("FATAL", sqlstate));
            // Where from differs: the port of the proxy's connection is not that of the client's.
            (
                error.message().to_owned(),
                error.detail().map(str::to_owned),
                error.routine().map(str::to_owned),
            )
        };
        assert_eq!(told(proxy.address).await, told(server).await, "{user}");
    }
    assert_eq!(proxy.metric("reprise_sessions_total"), 0.0);
}

#[tokio::test]
async fn an_unknown_database_is_refused_by_the_server() {
    let database = Database::create().await;
    let proxy = Proxy::start(database.address, |_| {}).await;
    for parameters in [
        [("user", "postgres"), ("database", "nowhere")],
        [("user", "stranger"), ("database", "postgres")],
        [("user", "postgres"), ("no_such_setting", "1")],
        [("user", "postgres"), ("options", "-c work_mem=nonsense")],
    ] {
        let (mut wire, relayed) = Wire::start(proxy.address, &parameters).await;
        let (_, direct) = Wire::start(database.address, &parameters).await;
        assert_eq!(relayed, direct);
        assert_eq!(relayed.field('S'), "FATAL");
        assert_eq!(wire.receive().await, None);
    }
    proxy.until_idle().await;
}

#[tokio::test]
async fn startup_parameters_reach_the_server_and_its_greeting_the_client() {
    let database = Database::create().await;
    let proxy = Proxy::start(database.address, |_| {}).await;
    let parameters = [
        ("user", "postgres"),
        ("database", database.name.as_str()),
        ("application_name", "an ünusual name"),
        ("options", "-c work_mem=5MB -c search_path=crdb_internal"),
        ("DateStyle", "German"),
        ("client_encoding", "LATIN1"),
    ];
    let (mut wire, relayed) = Wire::start(proxy.address, &parameters).await;
    let (_, direct) = Wire::start(database.address, &parameters).await;
    let without_key = |answer: &Answer| {
        let is_key = |message: &&Backend| matches!(message, Backend::BackendKeyData { .. });
        answer.0.iter().filter(|message| !is_key(message)).cloned().collect::<Vec<_>>()
    };
    assert_eq!(without_key(&relayed), without_key(&direct));
    assert_ne!(wire.key.pid, 0);
    for (setting, value) in
        [("work_mem", "5MB"), ("search_path", "crdb_internal"), ("client_encoding", "LATIN1")]
    {
        assert_eq!(wire.query(&format!("SHOW {setting}")).await, format!("({value}) SHOW I").as_str());
    }
    assert_eq!(
        wire.query("SELECT count(*) FROM pg_settings WHERE name = 'DateStyle' AND setting LIKE 'German%'")
            .await,
        "(1) SELECT 1 I"
    );
}

#[tokio::test]
async fn newer_protocols_and_options_are_negotiated_down() {
    let database = Database::create().await;
    let proxy = Proxy::start(database.address, |_| {}).await;
    for (minor, option) in [(2, None), (9999, Some("_pq_.greeting")), (0, Some("_pq_.greeting"))] {
        let mut wire = Wire::connect(proxy.address).await;
        let base = [("user", "postgres"), ("database", database.name.as_str())].into_iter();
        let parameters = base.chain(option.map(|option| (option, "hello")));
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        wire.send([Frontend::Startup { major: 3, minor, parameters }]).await;
        let answer = wire.until_ready().await;
        let options: Vec<String> = option.map(str::to_owned).into_iter().collect();
        assert_eq!(answer.0[0], Backend::NegotiateProtocolVersion { newest: 3 << 16, options });
        assert_eq!(answer.status(), Some('I'));
        let again =
            answer.0[1..].iter().any(|message| matches!(message, Backend::NegotiateProtocolVersion { .. }));
        assert!(!again, "{answer:?}");
        assert_eq!(wire.query("SELECT 1").await, "(1) SELECT 1 I");
    }
}

#[tokio::test]
async fn encryption_is_declined_once_each() {
    let database = Database::create().await;
    let proxy = Proxy::start(database.address, |_| {}).await;
    let startup = || Frontend::startup([("user", "postgres"), ("database", database.name.as_str())]);
    for requests in [
        vec![Frontend::SslRequest],
        vec![Frontend::GssEncRequest],
        vec![Frontend::GssEncRequest, Frontend::SslRequest],
        vec![Frontend::SslRequest, Frontend::GssEncRequest],
    ] {
        let mut wire = Wire::connect(proxy.address).await;
        for request in requests {
            wire.send([request]).await;
            assert_eq!(wire.receive_byte().await, Some(b'N'));
        }
        wire.send([startup()]).await;
        assert_eq!(wire.until_ready().await.status(), Some('I'));
        assert_eq!(wire.query("SELECT 1").await, "(1) SELECT 1 I");
    }
    let mut wire = Wire::connect(proxy.address).await;
    wire.send([Frontend::SslRequest]).await;
    assert_eq!(wire.receive_byte().await, Some(b'N'));
    wire.send([Frontend::SslRequest]).await;
    let answer = wire.until_closed().await;
    assert_eq!(answer.field('S'), "FATAL");
}

#[tokio::test]
async fn requests_may_come_with_the_startup() {
    let database = Database::create().await;
    let proxy = Proxy::start(database.address, |_| {}).await;
    let mut wire = Wire::connect(proxy.address).await;
    let startup = Frontend::startup([("user", "postgres"), ("database", database.name.as_str())]);
    let queries = ["BEGIN", "SELECT conflict('first', 2)", "COMMIT"].map(|sql| Frontend::Query(sql.into()));
    wire.send([startup].into_iter().chain(queries)).await;
    assert_eq!(wire.until_ready().await.status(), Some('I'));
    for expected in ["BEGIN T", "(passed) SELECT 1 T", "COMMIT I"] {
        assert_eq!(wire.until_ready().await, expected);
    }
    assert_eq!(proxy.conflicts(), (2.0, 0.0));
    // However long they are.
    let mut wire = Wire::connect(proxy.address).await;
    let startup = Frontend::startup([("user", "postgres"), ("database", database.name.as_str())]);
    let long = format!("SELECT length('{}')", "x".repeat(5 << 20));
    wire.send([startup, Frontend::Query(long)]).await;
    assert_eq!(wire.until_ready().await.status(), Some('I'));
    assert_eq!(wire.until_ready().await, "(5242880) SELECT 1 I");
}
