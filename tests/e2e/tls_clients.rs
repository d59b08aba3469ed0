//! TLS to clients: who gets in and who does not, whatever else they send.

use certificates::Authority;
use golden::Frontend;
use reprise::config::{ClientCertificate, Config, Identity, TlsMode, TlsVersion};
use reprise::replay::Dialect;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::rustls::version::TLS12;
use tokio_rustls::rustls::{ClientConfig, HandshakeKind};

use crate::support::database::{APPLICATION, Database};
use crate::support::program::Program;
use crate::support::proxy::Proxy;
use crate::support::secure::{SSL_REQUEST, encrypt, handshake, open, psql};
use crate::support::wire::Wire;
use crate::support::within;

/// Offers TLS with this certificate.
fn offer(mode: TlsMode, identity: &Identity) -> impl FnOnce(&mut Config) {
    let identity = identity.clone();
    move |config| {
        config.tls.mode = mode;
        config.tls.identity = Some(identity);
    }
}

/// A proxy that offers TLS before a database, and who has signed its certificate.
async fn scene(mode: TlsMode) -> (Database, Proxy, Authority) {
    scene_with(mode, |_, _| {}).await
}

async fn scene_with(
    mode: TlsMode,
    change: impl FnOnce(&mut Config, &Authority),
) -> (Database, Proxy, Authority) {
    let (database, authority) = (Database::create().await, Authority::create());
    let identity = authority.server("localhost");
    let proxy = Proxy::before(&database, Dialect::Postgres, |config| {
        offer(mode, &identity)(config);
        change(config, &authority);
    })
    .await;
    (database, proxy, authority)
}

/// A client's connection with direct TLS, with these protocols on offer in ALPN.
async fn direct(proxy: &Proxy, mut config: ClientConfig, protocols: &[&str]) -> std::io::Result<Wire> {
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(proxy.address).await.expect("a connection");
    Ok(Wire::over(handshake(stream, config).await?))
}

/// Whether a client gets a session with this configuration. In TLS 1.3 it learns only behind the handshake that its
/// certificate is not taken.
async fn gets_in(proxy: &Proxy, database: &Database, config: ClientConfig) -> bool {
    let Ok(stream) = encrypt(proxy.address, config).await else { return false };
    let parameters = [("user", "postgres"), ("database", database.name.as_str())];
    let mut bytes = Frontend::startup(parameters).encode();
    let (mut reader, mut writer) = tokio::io::split(stream);
    if writer.write_all(&bytes).await.and(writer.flush().await).is_err() {
        return false;
    }
    bytes.clear();
    within("an answer", reader.read_buf(&mut bytes)).await.is_ok() && bytes.starts_with(b"R")
}

#[tokio::test]
async fn conflicts_are_hidden_with_tls_and_without() {
    let (database, proxy, authority) = scene(TlsMode::Allow).await;
    let encrypted = open(proxy.address, authority.trusting(None), &database.name).await;
    for (sequence, mut wire) in [("first", encrypted), ("second", proxy.wire().await)] {
        assert_eq!(wire.query("BEGIN").await, "BEGIN T");
        let conflict = format!("SELECT conflict('{sequence}', 2)");
        assert_eq!(wire.query("UPDATE kv SET v = v + 1 WHERE k = 1").await, "UPDATE 1 T");
        assert_eq!(wire.query(&conflict).await, "(passed) SELECT 1 T");
        assert_eq!(wire.query("COMMIT").await, "COMMIT I");
    }
    assert_eq!(database.query("SELECT v FROM kv WHERE k = 1").await, "12");
    assert_eq!(proxy.conflicts(), (4.0, 0.0));
    proxy.until_idle().await;
}

#[tokio::test]
async fn large_answers_and_requests_pass_unchanged() {
    let (database, proxy, authority) = scene(TlsMode::Require).await;
    let mut wire = open(proxy.address, authority.trusting(None), &database.name).await;
    let mut direct = database.wire().await;
    // Far beyond what TLS and the sockets hold between them, so that both sides must wait for each other.
    let sql = "SELECT repeat(md5(n::text), 1000) FROM generate_series(1, 500) AS n";
    let value = "x".repeat(3 << 20);
    for wire in [&mut wire, &mut direct] {
        wire.send([Frontend::Query(sql.into()), Frontend::Query(format!("SELECT length('{value}')"))]).await;
    }
    let expected = direct.bytes_until_ready(2).await;
    assert!(expected.len() > 16_000_000);
    assert!(wire.bytes_until_ready(2).await == expected, "the bytes differ");
}

#[tokio::test]
async fn what_is_smuggled_in_before_tls_is_refused() {
    for mode in [TlsMode::Disable, TlsMode::Allow, TlsMode::Require] {
        let (database, proxy, _authority) = scene(mode).await;
        let parameters = [("user", "postgres"), ("database", database.name.as_str())];
        for injected in [Frontend::startup(parameters).encode(), vec![0]] {
            for request in [Frontend::SslRequest, Frontend::GssEncRequest] {
                let mut wire = Wire::connect(proxy.address).await;
                wire.send_bytes(&[request.encode(), injected.clone()].concat()).await;
                let answer = wire.until_closed().await;
                assert_eq!(answer, "08P01");
                assert_eq!(answer.field('S'), "FATAL");
            }
        }
        assert_eq!(proxy.metric("reprise_sessions_total"), 0.0);
        assert_eq!(proxy.metric("reprise_sessions_refused_total{cause=\"protocol_violation\"}"), 4.0);
    }
}

#[tokio::test]
async fn what_comes_plain_behind_the_grant_is_no_startup() {
    let (database, proxy, _authority) = scene(TlsMode::Allow).await;
    let mut stream = TcpStream::connect(proxy.address).await.expect("a connection");
    stream.write_all(&SSL_REQUEST).await.expect("to ask");
    assert_eq!(stream.read_u8().await.expect("an answer"), b'S');
    let parameters = [("user", "postgres"), ("database", database.name.as_str())];
    stream.write_all(&Frontend::startup(parameters).encode()).await.expect("to send");
    let mut answer = Vec::new();
    let _ = within("the end", stream.read_to_end(&mut answer)).await;
    // An alert of TLS at most.
    assert!(answer.is_empty() || answer[0] == 0x15, "{answer:?}");
    proxy.until_metric("reprise_sessions_refused_total{cause=\"tls_failed\"}", 1.0).await;
    assert_eq!(proxy.metric("reprise_sessions_total"), 0.0);
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_cut_off() {
    let limit = |config: &mut Config, _: &Authority| {
        config.proxy.startup_timeout = std::time::Duration::from_millis(300);
    };
    let (_database, proxy, _authority) = scene_with(TlsMode::Allow, limit).await;
    for (begun, answer) in [(&SSL_REQUEST[..], &b"S"[..]), (&[0x16], &[]), (&[0x16, 3, 1, 2, 0], &[])] {
        let mut stream = TcpStream::connect(proxy.address).await.expect("a connection");
        stream.write_all(begun).await.expect("to begin");
        let mut received = Vec::new();
        let _ = within("the end", stream.read_to_end(&mut received)).await;
        assert_eq!(received, answer, "nothing can be told");
    }
    proxy.until_metric("reprise_sessions_refused_total{cause=\"startup_timeout\"}", 3.0).await;
}

#[tokio::test]
async fn where_tls_is_required_only_cancels_come_without() {
    let (database, proxy, authority) = scene(TlsMode::Require).await;
    let parameters = [("user", "postgres"), ("database", database.name.as_str())];
    let (mut wire, answer) = Wire::start(proxy.address, &parameters).await;
    assert_eq!(answer, "28000");
    assert!(answer.field('H').contains("sslmode=require"), "{}", answer.error());
    assert_eq!(wire.receive().await, None);
    assert_eq!(proxy.metric("reprise_sessions_refused_total{cause=\"tls_required\"}"), 1.0);
    let mut wire = open(proxy.address, authority.trusting(None), &database.name).await;
    let running = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event = 'PgSleep'";
    for encrypted in [true, false] {
        wire.send([Frontend::Query("SELECT pg_sleep(600)".into())]).await;
        database.until(running, "1").await;
        let canceller = match encrypted {
            true => Wire::over(encrypt(proxy.address, authority.trusting(None)).await.expect("TLS")),
            false => Wire::connect(proxy.address).await,
        };
        canceller.cancel(wire.key).await;
        assert_eq!(wire.until_ready().await, "57014 I");
    }
    assert_eq!(proxy.metric("reprise_cancel_requests_total"), 2.0);
}

#[tokio::test]
async fn direct_tls_must_name_the_protocol() {
    let (database, proxy, authority) = scene(TlsMode::Allow).await;
    let parameters = [("user", "postgres"), ("database", database.name.as_str())];
    let mut wire = direct(&proxy, authority.trusting(None), &["postgresql"]).await.expect("TLS");
    assert_eq!(wire.begin(&parameters).await.status(), Some('I'));
    assert_eq!(wire.query("SELECT 1").await, "(1) SELECT 1 I");
    assert!(direct(&proxy, authority.trusting(None), &["http/1.1"]).await.is_err());
    let mut nameless = direct(&proxy, authority.trusting(None), &[]).await.expect("a handshake");
    assert_eq!(nameless.until_closed().await.0, []);
    // A handshake is refused in words of its own, and counted when it is over.
    proxy.until_metric("reprise_sessions_refused_total{cause=\"tls_failed\"}", 2.0).await;
    // It is encrypted already: asking for that is nonsense.
    let mut wire = direct(&proxy, authority.trusting(None), &["postgresql"]).await.expect("TLS");
    wire.send([Frontend::SslRequest]).await;
    assert_eq!(wire.until_closed().await, "0A000");
    assert_eq!(proxy.metric("reprise_sessions_total"), 1.0);
    assert_eq!(proxy.metric("reprise_sessions_tls_total{side=\"client\"}"), 1.0);
    assert_eq!(proxy.metric("reprise_sessions_tls_total{side=\"database\"}"), 0.0);
}

#[tokio::test]
async fn encryption_is_granted_once_and_gssapi_never() {
    let (database, proxy, authority) = scene(TlsMode::Allow).await;
    let mut stream = TcpStream::connect(proxy.address).await.expect("a connection");
    for (request, answer) in [(Frontend::GssEncRequest, b'N'), (Frontend::SslRequest, b'S')] {
        stream.write_all(&request.encode()).await.expect("to ask");
        assert_eq!(within("an answer", stream.read_u8()).await.expect("an answer"), answer);
    }
    let mut wire = Wire::over(handshake(stream, authority.trusting(None)).await.expect("TLS"));
    let parameters = [("user", "postgres"), ("database", database.name.as_str())];
    assert_eq!(wire.begin(&parameters).await.status(), Some('I'));
    for request in [Frontend::SslRequest, Frontend::GssEncRequest] {
        let mut wire = Wire::over(encrypt(proxy.address, authority.trusting(None)).await.expect("TLS"));
        wire.send([request]).await;
        assert_eq!(wire.until_closed().await, "0A000");
    }
}

#[tokio::test]
async fn client_certificates_are_verified() {
    let others = Authority::create();
    for (policy, without) in [(ClientCertificate::Require, false), (ClientCertificate::Allow, true)] {
        let (database, proxy, authority) = scene_with(TlsMode::Require, |config, authority| {
            config.tls.client_ca = Some(authority.file());
            config.tls.client_certificate = policy;
        })
        .await;
        let shown = async |identity: Option<Identity>| {
            gets_in(&proxy, &database, authority.trusting(identity.as_ref())).await
        };
        assert_eq!(shown(None).await, without, "{policy:?}");
        assert!(shown(Some(authority.client("ann"))).await);
        assert!(!shown(Some(others.client("ann"))).await, "of a stranger");
        assert!(!shown(Some(authority.expired("ann"))).await, "expired");
        let refused = "reprise_sessions_refused_total{cause=\"tls_failed\"}";
        proxy.until_metric(refused, if without { 2.0 } else { 3.0 }).await;
    }
}

#[tokio::test]
async fn versions_that_are_too_old_are_refused() {
    for (oldest, taken) in [(TlsVersion::V1_2, true), (TlsVersion::V1_3, false)] {
        let (database, proxy, authority) =
            scene_with(TlsMode::Allow, |config, _| config.tls.min_version = oldest).await;
        assert!(gets_in(&proxy, &database, authority.trusting(None)).await);
        assert_eq!(gets_in(&proxy, &database, authority.trusting_only(&TLS12)).await, taken);
    }
}

#[tokio::test]
async fn sessions_of_tls_are_resumed_until_the_files_are_read_again() {
    let (database, proxy, authority) = scene(TlsMode::Require).await;
    let config = authority.trusting(None);
    let mut kinds = Vec::new();
    for reads in [false, false, true] {
        if reads {
            proxy.reload().expect("the files are still there");
        }
        let mut stream = encrypt(proxy.address, config.clone()).await.expect("TLS");
        kinds.push(stream.get_ref().1.handshake_kind());
        let parameters = [("user", "postgres"), ("database", database.name.as_str())];
        stream.write_all(&Frontend::startup(parameters).encode()).await.expect("to send");
        // The ticket comes with the first answer.
        assert!(within("an answer", stream.read(&mut [0; 1])).await.expect("an answer") > 0);
    }
    assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Full].map(Some));
}

#[tokio::test]
async fn libpq_verifies_the_proxy_and_shows_its_certificate() {
    let (database, proxy, authority) = scene_with(TlsMode::Require, |config, authority| {
        config.tls.client_ca = Some(authority.file());
    })
    .await;
    let Identity { certificate, key } = authority.client("ann");
    let base = format!(
        "host=localhost hostaddr=127.0.0.1 port={} user=postgres dbname={} application_name={APPLICATION}",
        proxy.address.port(),
        database.name
    );
    let shown = format!("{base} sslcert={} sslkey={}", certificate.display(), key.display());
    let trusting = |authority: &Authority| format!("sslrootcert={}", authority.file().display());
    let full = format!("{shown} sslmode=verify-full {}", trusting(&authority));
    assert_eq!(psql(&full, "SELECT v FROM kv WHERE k = 1").await.as_deref(), Ok("10"));
    let elsewhere = full.replace("host=localhost ", "host=elsewhere ");
    assert_refused(&elsewhere, "does not match host name").await;
    let stranger = Authority::create();
    let distrusting = format!("{shown} sslmode=verify-ca {}", trusting(&stranger));
    assert_refused(&distrusting, "certificate verify failed").await;
    let bare = format!("{base} sslmode=require");
    assert_refused(&bare, "certificate required").await;
    assert_refused(&format!("{base} sslmode=disable"), "HINT:  Set sslmode=require").await;
}

/// Fails unless psql is not let in, and says so.
async fn assert_refused(parameters: &str, why: &str) {
    let told = psql(parameters, "SELECT 1").await.expect_err("it is not let in");
    assert!(told.contains(why), "{told}");
}

#[tokio::test]
async fn at_a_hangup_the_files_are_read_again() {
    let (database, old, new) = (Database::create().await, Authority::create(), Authority::create());
    let (before, after) = (old.server("localhost"), new.server("localhost"));
    let place = |path: &std::path::Path| path.display().to_string();
    let upstream = database.address.to_string();
    let variables = [
        ("REPRISE_TLS_MODE", "require"),
        ("REPRISE_TLS_CERTIFICATE", &place(&before.certificate)),
        ("REPRISE_TLS_KEY", &place(&before.key)),
    ];
    let program = Program::start(&["--upstream", &upstream], &variables).await;
    let address = program.listens().await;
    let mut wire = open(address, old.trusting(None), &database.name).await;
    assert_eq!(wire.query("BEGIN").await, "BEGIN T");
    std::fs::copy(&after.certificate, &before.certificate).expect("to copy it");
    program.signal("HUP").await;
    let refused = program.logged("cannot read them again; everything stays as it was").await;
    assert!(refused["error"].as_str().is_some_and(|error| error.contains("its key")), "{refused}");
    open(address, old.trusting(None), &database.name).await;
    std::fs::copy(&after.key, &before.key).expect("to copy it");
    program.signal("HUP").await;
    program.logged("configuration and files were read again").await;
    let mut renewed = open(address, new.trusting(None), &database.name).await;
    assert_eq!(renewed.query("SELECT 1").await, "(1) SELECT 1 I");
    assert!(encrypt(address, old.trusting(None)).await.is_err(), "the old certificate is shown no more");
    assert_eq!(wire.query("COMMIT").await, "COMMIT I", "a session that was open stays");
}
