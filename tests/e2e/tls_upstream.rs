//! TLS to the database: what each mode asks of it, and what passes through two TLS connections in a row.

use std::net::SocketAddr;

use certificates::Authority;
use golden::Frontend;
use reprise::config::{Authorities, Config, Identity, UpstreamTls, UpstreamTlsMode};
use reprise::demo::server::Postgres;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::server::Acceptor;

use crate::support::database::{APPLICATION, Database};
use crate::support::fake::{self, error};
use crate::support::program::Program;
use crate::support::proxy::Proxy;
use crate::support::secure::{acceptor, postgres, psql};
use crate::support::wire::Wire;
use crate::support::within;

/// The options of a proxy before a database.
fn options(mode: UpstreamTlsMode, ca: Option<&Authority>) -> UpstreamTls {
    let ca = ca.map_or(Authorities::System, |authority| Authorities::File(authority.file()));
    UpstreamTls { mode, ca, server_name: None, identity: None }
}

async fn proxy(upstream: SocketAddr, tls: UpstreamTls) -> Proxy {
    Proxy::start(upstream, |config| config.upstream.tls = tls).await
}

/// How a user is served: whether the database sees TLS, or the SQLSTATE of the refusal.
async fn outcome(proxy: &Proxy, user: &str) -> String {
    outcome_at(proxy.address, user).await
}

async fn outcome_at(address: SocketAddr, user: &str) -> String {
    let parameters = [("user", user), ("database", "postgres"), ("application_name", APPLICATION)];
    let (mut wire, greeting) = Wire::start(address, &parameters).await;
    match greeting.status() {
        Some(_) => wire.query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").await.to_string(),
        None => greeting.to_string(),
    }
}

const ENCRYPTED: &str = "(t) SELECT 1 I";
const PLAIN: &str = "(f) SELECT 1 I";
/// The database could not be reached, as far as the client is told.
const UNREACHABLE: &str = "08004";

/// A server with TLS, whose certificate is for `host`.
async fn secure(host: &str) -> (Postgres, Authority) {
    let authority = Authority::create();
    (postgres(&authority.server(host), &authority).await, authority)
}

#[tokio::test]
async fn each_mode_verifies_what_it_says() {
    use UpstreamTlsMode::{Disable, Prefer, Require, VerifyCa, VerifyFull};
    let (here, authority) = secure("127.0.0.1").await;
    let elsewhere = postgres(&authority.server("db.example.com"), &authority).await;
    let expired = postgres(&authority.expired("127.0.0.1"), &authority).await;
    let stranger = Authority::create();
    let (known, unknown) = (Some(&authority), Some(&stranger));
    for (mode, ca, expected) in [
        (Disable, None, [PLAIN, PLAIN, PLAIN]),
        (Prefer, None, [ENCRYPTED, ENCRYPTED, ENCRYPTED]),
        (Require, None, [ENCRYPTED, ENCRYPTED, ENCRYPTED]),
        (Require, known, [ENCRYPTED, ENCRYPTED, UNREACHABLE]),
        (Require, unknown, [UNREACHABLE; 3]),
        (VerifyCa, known, [ENCRYPTED, ENCRYPTED, UNREACHABLE]),
        (VerifyCa, unknown, [UNREACHABLE; 3]),
        (VerifyFull, known, [ENCRYPTED, UNREACHABLE, UNREACHABLE]),
        (VerifyFull, unknown, [UNREACHABLE; 3]),
    ] {
        for (server, expected) in [&here, &elsewhere, &expired].into_iter().zip(expected) {
            let proxy = proxy(server.addr(), options(mode, ca)).await;
            assert_eq!(outcome(&proxy, "postgres").await, expected, "{mode:?}");
        }
    }
    let named = |name: &str| UpstreamTls { server_name: Some(name.into()), ..options(VerifyFull, known) };
    let as_named = proxy(elsewhere.addr(), named("db.example.com")).await;
    assert_eq!(outcome(&as_named, "postgres").await, ENCRYPTED);
    let misnamed = proxy(here.addr(), named("db.example.com")).await;
    assert_eq!(outcome(&misnamed, "postgres").await, UNREACHABLE);
    assert_eq!(misnamed.metric("reprise_upstream_connect_errors_total"), 1.0);
}

#[tokio::test]
async fn the_machines_authorities_are_trusted_unless_others_are_named() {
    let (server, authority) = secure("127.0.0.1").await;
    let stranger = Authority::create();
    for (trusted, expected) in [(&authority, ENCRYPTED), (&stranger, UNREACHABLE)] {
        let upstream = server.addr().to_string();
        let file = trusted.file().display().to_string();
        // What OpenSSL and its kin take for the authorities of the machine.
        let variables = [("REPRISE_UPSTREAM_TLS", "verify-full"), ("SSL_CERT_FILE", &file)];
        let program = Program::start(&["--upstream", &upstream], &variables).await;
        assert_eq!(outcome_at(program.listens().await, "postgres").await, expected);
    }
}

#[tokio::test]
async fn a_database_without_tls_is_taken_only_where_that_is_allowed() {
    use UpstreamTlsMode::{Disable, Prefer, Require, VerifyFull};
    let database = Database::create().await;
    for (mode, expected) in
        [(Disable, PLAIN), (Prefer, PLAIN), (Require, UNREACHABLE), (VerifyFull, UNREACHABLE)]
    {
        let stranger = Authority::create();
        let ca = (mode == VerifyFull).then_some(&stranger);
        let proxy = proxy(database.address, options(mode, ca)).await;
        assert_eq!(outcome(&proxy, "postgres").await, expected, "{mode:?}");
    }
}

#[tokio::test]
async fn rules_for_connections_without_tls_are_met_as_libpq_does() {
    let (server, authority) = secure("127.0.0.1").await;
    let preferring = proxy(server.addr(), options(UpstreamTlsMode::Prefer, None)).await;
    assert_eq!(outcome(&preferring, "plain").await, PLAIN);
    assert_eq!(outcome(&preferring, "nobody").await, "28000", "it is let in neither way");
    let requiring = proxy(server.addr(), options(UpstreamTlsMode::Require, Some(&authority))).await;
    assert_eq!(outcome(&requiring, "plain").await, "28000");
}

#[tokio::test]
async fn nothing_is_told_to_who_declines_or_injects() {
    // The last one grants TLS, and says in the same breath that the client is admitted.
    let admitted = b"SR\0\0\0\x08\0\0\0\0Z\0\0\0\x05I".to_vec();
    for answer in [b"N".to_vec(), error("FATAL", "53300", "too many").encode(), admitted] {
        let grants = answer[0] == b'S';
        let (sender, mut received) = mpsc::unbounded_channel();
        let upstream = fake::serve(move |mut peer| {
            let (sender, answer) = (sender.clone(), answer.clone());
            async move {
                assert_eq!(peer.packet().await, Some(Frontend::SslRequest));
                peer.answer_bytes(&answer).await;
                sender.send(peer.rest().await).expect("the test listens");
            }
        })
        .await;
        let proxy = proxy(upstream, options(UpstreamTlsMode::Require, None)).await;
        assert_eq!(outcome(&proxy, "somebody").await, UNREACHABLE);
        assert_eq!(proxy.metric("reprise_sessions_total"), 0.0);
        let received = within("the end", received.recv()).await.expect("what was sent");
        assert_eq!(received.is_empty(), !grants, "at most a handshake is begun");
        assert!(!received.windows(8).any(|bytes| bytes == b"somebody"));
    }
}

#[tokio::test]
async fn who_answers_neither_yes_nor_no_is_asked_without_tls_where_that_is_allowed() {
    let upstream = fake::serve(async |mut peer: fake::Peer| match peer.packet().await {
        Some(Frontend::SslRequest) => peer.answer([error("FATAL", "08P01", "unknown packet")]).await,
        packet => {
            assert!(matches!(packet, Some(Frontend::Startup { .. })), "{packet:?}");
            peer.welcome().await;
            peer.complete("SELECT 0", 'I').await;
        }
    })
    .await;
    let proxy = proxy(upstream, options(UpstreamTlsMode::Prefer, None)).await;
    let mut wire = Wire::open(proxy.address, "any").await;
    assert_eq!(wire.query("SELECT").await, "SELECT 0 I");
}

#[tokio::test]
async fn the_clients_certificate_is_the_proxys() {
    let (server, authority) = secure("127.0.0.1").await;
    let shown = |user: &str| UpstreamTls {
        identity: Some(authority.client(user)),
        ..options(UpstreamTlsMode::VerifyFull, Some(&authority))
    };
    let certified = proxy(server.addr(), shown("certified")).await;
    assert_eq!(outcome(&certified, "certified").await, ENCRYPTED);
    let other = proxy(server.addr(), shown("another")).await;
    assert_eq!(outcome(&other, "certified").await, "28000");
    let none = proxy(server.addr(), options(UpstreamTlsMode::VerifyFull, Some(&authority))).await;
    assert_eq!(outcome(&none, "certified").await, "28000");
}

#[tokio::test]
async fn the_database_is_told_by_which_name_it_is_looked_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let upstream = listener.local_addr().expect("its address");
    let (sender, mut names) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.read_exact(&mut [0; 8]).await.expect("a request");
            stream.write_all(b"S").await.expect("to grant it");
            let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await.expect("a hello");
            let name = hello.client_hello().server_name().map(str::to_owned);
            sender.send(name).expect("the test listens");
        }
    });
    // An address is no name.
    for (host, server_name, told) in [
        ("localhost", None, Some("localhost")),
        ("127.0.0.1", None, None),
        ("127.0.0.1", Some("db.example.com"), Some("db.example.com")),
    ] {
        let proxy = Proxy::start(upstream, |config| {
            config.upstream.address.host = host.into();
            config.upstream.tls = options(UpstreamTlsMode::Require, None);
            config.upstream.tls.server_name = server_name.map(str::to_owned);
        })
        .await;
        assert_eq!(outcome(&proxy, "anybody").await, UNREACHABLE, "there is no handshake");
        let name = within("a name", names.recv()).await.expect("a hello");
        assert_eq!(name.as_deref(), told);
    }
}

#[tokio::test]
async fn what_the_database_is_shown_and_trusted_by_is_read_again() {
    let (server, authority) = secure("127.0.0.1").await;
    let (identity, stranger) = (authority.client("certified"), Authority::create());
    let directory = tempfile::tempdir().expect("a directory");
    let place = |name: &str| directory.path().join(name);
    let copy = |from: &std::path::Path, name: &str| {
        std::fs::copy(from, place(name)).expect("to copy it");
    };
    copy(&stranger.file(), "ca.crt");
    let other = authority.client("another");
    copy(&other.certificate, "client.crt");
    copy(&other.key, "client.key");
    let tls = UpstreamTls {
        mode: UpstreamTlsMode::VerifyFull,
        ca: Authorities::File(place("ca.crt")),
        server_name: None,
        identity: Some(Identity { certificate: place("client.crt"), key: place("client.key") }),
    };
    let proxy = proxy(server.addr(), tls).await;
    assert_eq!(outcome(&proxy, "certified").await, UNREACHABLE);
    copy(&authority.file(), "ca.crt");
    assert_eq!(outcome(&proxy, "certified").await, UNREACHABLE, "it is not read yet");
    proxy.reload().expect("the files are there");
    assert_eq!(outcome(&proxy, "certified").await, "28000", "another certificate is shown");
    copy(&identity.certificate, "client.crt");
    copy(&identity.key, "client.key");
    proxy.reload().expect("the files are there");
    assert_eq!(outcome(&proxy, "certified").await, ENCRYPTED);
}

#[tokio::test]
async fn scram_passes_unless_both_sides_use_tls_and_the_client_would_bind_it() {
    let (server, authority) = secure("127.0.0.1").await;
    let identity = authority.server("127.0.0.1");
    let proxy = Proxy::start(server.addr(), |config: &mut Config| {
        config.tls.mode = reprise::config::TlsMode::Allow;
        config.tls.identity = Some(identity);
        config.upstream.tls = options(UpstreamTlsMode::VerifyFull, Some(&authority));
    })
    .await;
    let port = proxy.address.port();
    let base = format!("host=127.0.0.1 port={port} user=scrambled dbname=postgres");
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert_eq!(psql(&format!("{base} sslmode=disable"), sql).await.as_deref(), Ok("t"));
    let unbound = format!("{base} sslmode=require channel_binding=disable");
    assert_eq!(psql(&unbound, sql).await.as_deref(), Ok("t"));
    let told = psql(&format!("{base} sslmode=require"), sql).await.expect_err("it would bind its login");
    assert!(told.contains("channel binding does not work through Reprise"), "{told}");
    assert!(told.contains("HINT:  Set channel_binding=disable"), "{told}");
    assert_eq!(proxy.metric("reprise_sessions_refused_total{cause=\"channel_binding\"}"), 1.0);
    // Who is not offered it, and insists, says so itself.
    let told = psql(&format!("{base} sslmode=require channel_binding=require"), sql).await;
    assert!(told.expect_err("it insists").contains("channel binding is required"));
    let wrong = psql(&format!("{base} sslmode=disable password=wrong"), sql).await;
    assert!(wrong.expect_err("a wrong password").contains("password authentication failed"));
}

#[tokio::test]
async fn a_client_with_tls_logs_in_with_scram_before_a_database_without() {
    let (server, authority) = secure("127.0.0.1").await;
    let admin = crate::support::database::connect(server.addr(), "postgres", APPLICATION).await;
    let rules = "host all postgres 127.0.0.1/32 trust\nhost all scrambled 127.0.0.1/32 scram-sha-256\n";
    std::fs::write(server.data_directory().join("pg_hba.conf"), rules).expect("the rules");
    admin.batch_execute("SELECT pg_reload_conf()").await.expect("to read them");
    let identity = authority.server("127.0.0.1");
    let proxy = Proxy::start(server.addr(), |config: &mut Config| {
        config.tls.mode = reprise::config::TlsMode::Require;
        config.tls.identity = Some(identity);
        config.upstream.tls = options(UpstreamTlsMode::Disable, None);
    })
    .await;
    let ca = authority.file();
    let parameters = format!(
        "host=127.0.0.1 port={} user=scrambled dbname=postgres sslmode=verify-full sslrootcert={}",
        proxy.address.port(),
        ca.display()
    );
    crate::support::eventually("the rules are in force", async || {
        psql(&parameters, "SELECT current_user").await.as_deref() == Ok("scrambled")
    })
    .await;
}

#[tokio::test]
async fn a_cancel_is_encrypted_like_the_session() {
    let authority = Authority::create();
    let acceptor = acceptor(&authority.server("127.0.0.1"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let upstream = listener.local_addr().expect("its address");
    let (sender, mut packets) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (acceptor, sender) = (acceptor.clone(), sender.clone());
            tokio::spawn(async move {
                let mut packet = [0; 8];
                stream.read_exact(&mut packet).await.expect("a request");
                assert_eq!(packet, crate::support::secure::SSL_REQUEST);
                stream.write_all(b"S").await.expect("to grant it");
                let mut stream = acceptor.accept(stream).await.expect("TLS");
                let mut packet = vec![0; 4];
                stream.read_exact(&mut packet).await.expect("a length");
                packet.resize(u32::from_be_bytes([packet[0], packet[1], packet[2], packet[3]]) as usize, 0);
                stream.read_exact(&mut packet[4..]).await.expect("a packet");
                let is_cancel = packet[4..8] == 80_877_102_u32.to_be_bytes();
                sender.send(packet).expect("the test listens");
                if !is_cancel {
                    let greeting = b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x07\0\0\0\x0bZ\0\0\0\x05I";
                    stream.write_all(greeting).await.expect("to admit it");
                    stream.flush().await.expect("to admit it");
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                }
            });
        }
    });
    let proxy = proxy(upstream, options(UpstreamTlsMode::VerifyFull, Some(&authority))).await;
    let mut wire = Wire::open(proxy.address, "any").await;
    assert!(within("a startup", packets.recv()).await.is_some());
    wire.send([Frontend::Query("SELECT pg_sleep(600)".into())]).await;
    proxy.until_metric("reprise_sessions", 1.0).await;
    assert_eq!(proxy.metric("reprise_sessions_tls_total{side=\"database\"}"), 1.0);
    proxy.until_metric("reprise_sessions_by_state{dialect=\"postgres\",state=\"active\"}", 1.0).await;
    let key = wire.key;
    let cancelled = async {
        loop {
            Wire::connect(proxy.address).await.cancel(key).await;
            if let Ok(packet) = packets.try_recv() {
                return packet;
            }
        }
    };
    let packet = within("a cancel", cancelled).await;
    assert_eq!(packet, [16_u32, 80_877_102, 7, 11].map(u32::to_be_bytes).concat());
}
