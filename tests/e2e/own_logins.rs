//! Logins that the proxy decides itself, and those to the database that follow from them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use certificates::Authority;
use golden::Frontend;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use reprise::config::{Authorities, TlsMode, UpstreamTlsMode};
use reprise::demo::server::Postgres;
use reprise::wire::sasl;
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::database::{APPLICATION, connect};
use crate::support::proxy::Proxy;
use crate::support::secure::{acceptor, encrypt, postgres, psql};
use crate::support::wire::Wire;

/// A database with TLS, and a proxy with TLS and users of its own before it.
struct Scene {
    server: Postgres,
    authority: Authority,
    proxy: Proxy,
    file: NamedTempFile,
}

impl Scene {
    async fn start(users: &str) -> Self {
        let authority = Authority::create();
        let server = postgres(&authority.server("127.0.0.1"), &authority).await;
        let file = NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), users).expect("to write it");
        let proxy = start(&server, &authority, file.path()).await;
        Self { server, authority, proxy, file }
    }

    /// What libpq needs to connect.
    fn parameters(&self, user: &str) -> String {
        let port = self.proxy.address.port();
        format!("host=127.0.0.1 port={port} user={user} dbname=postgres")
    }

    /// The secret that the database keeps of a user's password.
    async fn secret(&self, user: &str) -> String {
        let admin = connect(self.server.addr(), "postgres", APPLICATION).await;
        let sql = "SELECT rolpassword FROM pg_authid WHERE rolname = $1";
        admin.query_one(sql, &[&user]).await.expect("a row").get(0)
    }

    /// Writes the file anew, and has the proxy read it.
    fn write(&self, users: &str) {
        std::fs::write(self.file.path(), users).expect("to write it");
        self.proxy.reload().expect("it is valid");
    }

    async fn encrypted(&self) -> Wire {
        Wire::over(encrypt(self.proxy.address, self.authority.trusting(None)).await.expect("TLS"))
    }
}

async fn start(server: &Postgres, authority: &Authority, file: &Path) -> Proxy {
    let identity = authority.server("localhost");
    Proxy::start(server.addr(), |config| {
        config.tls.mode = TlsMode::Allow;
        config.tls.identity = Some(identity);
        config.auth.file = Some(file.to_path_buf());
        config.upstream.tls.mode = UpstreamTlsMode::VerifyCa;
        config.upstream.tls.ca = Authorities::File(authority.file());
    })
    .await
}

const SCRAM: &str = "SCRAM-SHA-256";
const WHO: &str = "SELECT current_user, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

#[tokio::test]
async fn libpq_logs_in_with_and_without_channel_binding_whatever_the_database_asks_for() {
    let users = ["scrambled", "cleartext", "hashed", "postgres"];
    let list: String = users.map(|user| format!("\"{user}\" \"secret\"\n")).concat();
    let scene = Scene::start(&list).await;
    for user in users {
        let expected = format!("{user}|t");
        for how in [
            "sslmode=require",
            "sslmode=require channel_binding=require",
            "sslmode=require channel_binding=disable",
            "sslmode=disable",
        ] {
            let parameters = format!("{} {how}", scene.parameters(user));
            assert_eq!(psql(&parameters, WHO).await.as_ref(), Ok(&expected), "{how}");
        }
    }
}

/// Somebody between the proxy and the database who has a certificate of its own, reads along, and may hide that logins can be
/// bound; and the first answer that was given to an offer of mechanisms.
async fn in_the_middle(
    server: SocketAddr,
    authority: &Authority,
    hides: bool,
) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let (own, trusting) = (acceptor(&Authority::create().server("127.0.0.1")), authority.trusting(None));
    let answered = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&answered);
    tokio::spawn(async move {
        while let Ok((mut proxy, _)) = listener.accept().await {
            let (own, trusting, heard) = (own.clone(), trusting.clone(), Arc::clone(&heard));
            tokio::spawn(async move {
                proxy.read_exact(&mut [0; 8]).await?;
                proxy.write_all(b"S").await?;
                let mut proxy = own.accept(proxy).await?;
                let mut database = encrypt(server, trusting).await?;
                let mut bytes = vec![0; 4096];
                // The startup, the offer, and the answer to it; the rest passes as it is.
                let length = proxy.read(&mut bytes).await?;
                database.write_all(&bytes[..length]).await?;
                let length = database.read(&mut bytes).await?;
                let hidden = sasl::without_channel_binding(&bytes[..length]).filter(|_| hides);
                proxy.write_all(hidden.as_deref().unwrap_or(&bytes[..length])).await?;
                let length = proxy.read(&mut bytes).await?;
                *heard.lock().expect("no panic") = bytes[..length].to_vec();
                database.write_all(&bytes[..length]).await?;
                tokio::io::copy_bidirectional(&mut proxy, &mut database).await
            });
        }
    });
    (address, answered)
}

#[tokio::test]
async fn a_login_to_the_database_is_bound_to_its_certificate() {
    let authority = Authority::create();
    let server = postgres(&authority.server("localhost"), &authority).await;
    let file = NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "\"scrambled\" \"secret\"\n\"cleartext\" \"secret\"\n").expect("to write it");
    for (hides, mechanism, binding) in
        [(false, "SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,"), (true, "SCRAM-SHA-256", "y,,")]
    {
        let (middle, answered) = in_the_middle(server.addr(), &authority, hides).await;
        // Nothing is verified here: but for the binding, it would not be noticed.
        let proxy = Proxy::start(middle, |config| {
            config.auth.file = Some(file.path().to_path_buf());
            config.upstream.tls.mode = UpstreamTlsMode::Require;
        })
        .await;
        let parameters =
            |user: &str| format!("host=127.0.0.1 port={} user={user} dbname=postgres", proxy.address.port());
        let told = psql(&parameters("scrambled"), WHO).await.expect_err("somebody is in the middle");
        assert!(told.contains("channel binding"), "{told}");
        let answer = answered.lock().expect("no panic").clone();
        let (chosen, first) = sasl::initial_response(&answer[5..]).expect("a first answer");
        assert_eq!(String::from_utf8_lossy(chosen), mechanism);
        assert!(first.starts_with(binding.as_bytes()), "{}", String::from_utf8_lossy(first));
        assert_eq!(proxy.metric("reprise_sessions_total"), 0.0);
        // A login that cannot be bound gets through.
        assert_eq!(psql(&parameters("cleartext"), WHO).await.as_deref(), Ok("cleartext|t"));
    }
}

#[tokio::test]
async fn the_databases_own_secret_is_enough() {
    let scene = Scene::start("").await;
    let secret = scene.secret("scrambled").await;
    scene.write(&format!("\"scrambled\" \"{secret}\"\n\"cleartext\" \"{secret}\"\n"));
    let parameters = format!("{} sslmode=require channel_binding=require", scene.parameters("scrambled"));
    assert_eq!(psql(&parameters, WHO).await.as_deref(), Ok("scrambled|t"));
    // A password that nobody has cannot be sent.
    let cleartext = format!("{} sslmode=require", scene.parameters("cleartext"));
    let told = psql(&cleartext, WHO).await.expect_err("there is no password");
    assert!(told.contains("could not log in to the database"), "{told}");
    let refused = "reprise_sessions_refused_total{cause=\"upstream_login_failed\"}";
    assert_eq!(scene.proxy.metric(refused), 1.0);
    // The same password under another salt.
    let admin = connect(scene.server.addr(), "postgres", APPLICATION).await;
    admin.batch_execute("ALTER ROLE scrambled PASSWORD 'secret'").await.expect("a new secret");
    assert!(psql(&parameters, WHO).await.expect_err("an old secret").contains("could not log in"));
    assert_eq!(scene.proxy.metric(refused), 2.0);
}

#[tokio::test]
async fn a_wrong_password_is_refused_like_an_unknown_user_and_the_database_is_not_asked() {
    let scene = Scene::start("\"postgres\" \"secret\"").await;
    let mut told = Vec::new();
    for user in ["postgres", "stranger"] {
        let parameters = [("user", user), ("database", "postgres")];
        let mut salts = Vec::new();
        for _ in 0..2 {
            let mut wire = scene.encrypted().await;
            wire.send([Frontend::startup(parameters)]).await;
            let (answer, salt) = log_in(&mut wire, SCRAM, ChannelBinding::unsupported(), "wrong").await;
            told.push(answer);
            salts.push(salt);
        }
        assert_eq!(salts[0], salts[1], "{user}");
        assert_eq!(salts[0].len(), 24);
    }
    assert!(told.iter().all(|answer| *answer == told[0]), "{told:?}");
    assert!(told[0].contains("28P01") && told[0].contains("password authentication failed"), "{}", told[0]);
    let refused = "reprise_sessions_refused_total{cause=\"authentication_failed\"}";
    assert_eq!(scene.proxy.metric(refused), 4.0);
    // The database would let this user in without a password.
    assert_eq!(scene.proxy.metric("reprise_sessions_total"), 0.0);
    let wrong = psql(&format!("{} password=wrong", scene.parameters("postgres")), WHO).await;
    assert!(wrong.expect_err("a wrong password").contains("password authentication failed"));
}

#[tokio::test]
async fn a_login_that_is_bound_to_something_else_is_refused() {
    let scene = Scene::start("\"postgres\" \"secret\"").await;
    let bindings = [
        ("another certificate", "SCRAM-SHA-256-PLUS", ChannelBinding::tls_server_end_point(vec![7; 32])),
        ("no binding where it was chosen", "SCRAM-SHA-256-PLUS", ChannelBinding::unsupported()),
        ("a binding where it was not", SCRAM, ChannelBinding::tls_server_end_point(vec![7; 32])),
        ("a downgrade", SCRAM, ChannelBinding::unrequested()),
    ];
    for (what, mechanism, binding) in bindings {
        let mut wire = scene.encrypted().await;
        wire.send([Frontend::startup([("user", "postgres"), ("database", "postgres")])]).await;
        let (answer, _) = log_in(&mut wire, mechanism, binding, "secret").await;
        assert!(answer.contains("08P01"), "{what}: {answer}");
    }
    assert_eq!(scene.proxy.metric("reprise_sessions_total"), 0.0);
    // Without TLS there is nothing to bind to, and saying so is no downgrade.
    let mut wire = Wire::connect(scene.proxy.address).await;
    wire.send([Frontend::startup([("user", "postgres"), ("database", "postgres")])]).await;
    let (answer, _) = log_in(&mut wire, SCRAM, ChannelBinding::unrequested(), "secret").await;
    assert_eq!(answer, "admitted");
    assert_eq!(wire.until_ready().await.status(), Some('I'));
}

#[tokio::test]
async fn nobody_gets_past_the_login() {
    let scene = Scene::start("\"postgres\" \"secret\"").await;
    let parameters = [("user", "postgres"), ("database", "postgres")];
    for (message, sqlstate) in [
        (Frontend::Query("SELECT 1".into()).encode(), "08P01"),
        (b"p\0\0\0\x0bsecret\0".to_vec(), "08P01"),
        (b"p\0\0\0\x04".to_vec(), "08P01"),
        (b"p\xff\xff\xff\xff".to_vec(), "08P01"),
    ] {
        let mut wire = Wire::connect(scene.proxy.address).await;
        wire.send([Frontend::startup(parameters)]).await;
        wire.send_bytes(&message).await;
        let answer = wire.until_closed().await;
        assert_eq!(answer.field('C'), sqlstate, "{message:?}");
    }
    assert_eq!(scene.proxy.metric("reprise_sessions_total"), 0.0);
}

#[tokio::test]
async fn new_passwords_count_once_they_are_read() {
    let scene = Scene::start("\"postgres\" \"secret\"").await;
    let parameters = format!("{} sslmode=require", scene.parameters("postgres"));
    assert!(psql(&parameters, WHO).await.is_ok());
    scene.write("\"postgres\" \"changed\"");
    assert!(psql(&parameters, WHO).await.is_err());
    assert!(psql(&format!("{parameters} password=changed"), WHO).await.is_ok());
    std::fs::write(scene.file.path(), "nonsense").expect("to write it");
    let error = scene.proxy.reload().expect_err("it is not valid").to_string();
    assert!(error.ends_with(":1: expected \"user\" \"password\""), "{error}");
    assert!(psql(&format!("{parameters} password=changed"), WHO).await.is_ok());
}

/// Logs in by SCRAM: `admitted`, or what it was told; and the salt in base64, if it came that far.
async fn log_in(
    wire: &mut Wire,
    mechanism: &str,
    binding: ChannelBinding,
    password: &str,
) -> (String, String) {
    receive(wire).await.expect("an offer");
    let mut scram = ScramSha256::new(password.as_bytes(), binding);
    let first = scram.message();
    send(wire, &[mechanism.as_bytes(), &[0], &(first.len() as u32).to_be_bytes(), first].concat()).await;
    let challenge = match receive(wire).await {
        Ok(challenge) => challenge,
        Err(told) => return (told, String::new()),
    };
    scram.update(&challenge).expect("a challenge");
    let text = String::from_utf8_lossy(&challenge).into_owned();
    let salt = text.split(",s=").nth(1).and_then(|rest| rest.split(',').next()).expect("a salt").to_owned();
    send(wire, scram.message()).await;
    match receive(wire).await {
        Ok(last) => {
            scram.finish(&last).expect("the server proves itself");
            ("admitted".to_owned(), salt)
        }
        Err(told) => (told, salt),
    }
}

async fn send(wire: &mut Wire, body: &[u8]) {
    let length = (body.len() as u32 + 4).to_be_bytes();
    wire.send_bytes(&[&b"p"[..], &length, body].concat()).await;
}

/// The data of an authentication message, or the error that came instead.
async fn receive(wire: &mut Wire) -> Result<Vec<u8>, String> {
    let frame = wire.receive_frame().await.expect("a message");
    match frame[0] {
        b'R' => Ok(frame[9..].to_vec()),
        _ => Err(String::from_utf8_lossy(&frame[5..]).into_owned()),
    }
}
