//! Who is let in at all: by address, by certificate, and after logins that have failed.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;

use certificates::Authority;
use reprise::config::{ClientCertificate, ClientUser, TlsMode};

use crate::support::database::Database;
use crate::support::program::Program;
use crate::support::proxy::Proxy;
use crate::support::secure::{encrypt, psql};
use crate::support::wire::Wire;

/// A connection from one of the addresses of the loopback interface.
async fn from(proxy: &Proxy, address: &str) -> Wire {
    Wire::over(proxy.connect_from(address).await)
}

const WHO: [(&str, &str); 2] = [("user", "postgres"), ("database", "postgres")];

#[tokio::test]
async fn only_addresses_of_the_list_are_served() {
    let database = Database::create().await;
    let proxy = Proxy::start(database.address, |config| {
        config.proxy.allowed_clients =
            vec!["127.0.0.2/31".parse().expect("a network"), IpAddr::from([127, 0, 0, 9]).into()];
    })
    .await;
    let mut served = Vec::new();
    for address in ["127.0.0.2", "127.0.0.3", "127.0.0.9"] {
        let mut wire = from(&proxy, address).await;
        assert_eq!(wire.begin(&WHO).await.status(), Some('I'), "{address}");
        served.push(wire);
    }
    for address in ["127.0.0.1", "127.0.0.4", "127.0.0.10"] {
        let refused = from(&proxy, address).await.begin(&WHO).await;
        assert_eq!(refused, "28000", "{address}");
        assert_eq!(refused.field('M'), "connections from this address are not served");
    }
    // Neither are their cancels: no answer, and nothing is cancelled.
    let key = served[0].key;
    served[0].send([golden::Frontend::Query("SELECT pg_sleep(600)".into())]).await;
    let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(600)' AND datname = 'postgres'";
    database.until(sleeps, "1").await;
    let mut stranger = from(&proxy, "127.0.0.1").await;
    let request = [16, 80_877_102, key.pid, key.key].map(i32::to_be_bytes).concat();
    stranger.send_bytes(&request).await;
    stranger.until_closed().await;
    assert_eq!(database.query(sleeps).await, "1");
    assert_eq!(proxy.metric("reprise_cancel_requests_total"), 0.0);
    from(&proxy, "127.0.0.9").await.cancel(key).await;
    assert_eq!(served[0].until_ready().await, "57014 I");
    assert_eq!(proxy.metric("reprise_sessions_refused_total{cause=\"address_not_allowed\"}"), 4.0);
}

#[tokio::test]
async fn a_certificate_lets_in_whom_it_names() {
    let (database, authority) = (Database::create().await, Authority::create());
    database.run("DO $$ BEGIN CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN; END $$").await;
    let map = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(map.path(), "; the batch\n\"batch.example\" \"ann\"\n").expect("to write it");
    let proxy = Proxy::start(database.address, |config| {
        config.tls.mode = TlsMode::Allow;
        config.tls.identity = Some(authority.server("localhost"));
        config.tls.client_ca = Some(authority.file());
        config.tls.client_certificate = ClientCertificate::Allow;
        config.tls.client_user = ClientUser::Match;
        config.tls.client_map = Some(map.path().to_path_buf());
    })
    .await;
    let mut refused = 0.0;
    for (name, user, fits) in [
        (Some("ann"), "ann", true),
        (Some("batch.example"), "ann", true),
        (Some("ann"), "bob", false),
        (Some("batch.example"), "bob", false),
        (Some("Ann"), "ann", false),
        // Who shows none is left to the login.
        (None, "bob", true),
    ] {
        let identity = name.map(|name| authority.client(name));
        let config = authority.trusting(identity.as_ref());
        // The second time the session of TLS is resumed: the certificate counts as before.
        for _ in 0..2 {
            let mut wire = Wire::over(encrypt(proxy.address, config.clone()).await.expect("TLS"));
            let answer = wire.begin(&[("user", user), ("database", "postgres")]).await;
            assert_eq!(answer.status().is_some(), fits, "{name:?} {user}: {answer}");
            if !fits {
                assert_eq!(answer, "28000");
                refused += 1.0;
            }
        }
    }
    assert_eq!(proxy.metric("reprise_sessions_refused_total{cause=\"certificate_mismatch\"}"), refused);
}

#[tokio::test]
async fn after_logins_that_failed_there_is_a_pause_for_their_user_and_address() {
    let database = Database::create().await;
    database.run("CREATE ROLE patient LOGIN").await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "\"postgres\" \"right\"\n\"patient\" \"right\"\n").expect("to write it");
    let proxy = Proxy::start(database.address, |config| config.auth.file = Some(file.path().into())).await;
    let port = proxy.address.port();
    let login = async |user: &str, password: &str| {
        let login = format!("host=127.0.0.1 port={port} user={user} dbname=postgres sslmode=disable");
        psql(&format!("{login} password={password}"), "SELECT 1").await
    };
    const TOO_MANY: &str = "too many failed logins of this user from this address";
    // Whether somebody is a user makes no difference; and many at once have no more guesses.
    let mut refused = 0.0;
    for user in ["postgres", "nobody"] {
        let guesses = ["wrong"; 16].map(|password| login(user, password));
        let told =
            futures_util::future::join_all(guesses).await.into_iter().map(|told| told.expect_err("a guess"));
        let (late, heard): (Vec<_>, Vec<_>) = told.partition(|told| told.contains(TOO_MANY));
        // Of those that are late themselves, one is heard after each pause.
        assert!((6..=9).contains(&heard.len()), "{heard:?}");
        assert!(heard.iter().all(|told| told.contains("password authentication failed")), "{heard:?}");
        refused += late.len() as f64;
    }
    // Now even who knows it must wait, and others need not.
    crate::support::eventually("one more is counted", async || {
        login("postgres", "wrong").await.is_err_and(|told| !told.contains(TOO_MANY))
    })
    .await;
    let told = login("postgres", "right").await.expect_err("too many have failed");
    assert!(told.contains(TOO_MANY), "{told}");
    assert!(proxy.metric("reprise_sessions_refused_total{cause=\"login_backoff\"}") > refused);
    assert_eq!(login("patient", "right").await.as_deref(), Ok("1"));
    crate::support::eventually("the pause is over", async || login("postgres", "right").await.is_ok()).await;
}

#[tokio::test]
async fn keys_that_everybody_may_read_are_warned_of() {
    let (database, authority) = (Database::create().await, Authority::create());
    let identity = authority.server("localhost");
    let [certificate, key] = [&identity.certificate, &identity.key].map(|path| path.display().to_string());
    let upstream = database.address.to_string();
    let variables = [
        ("REPRISE_TLS_MODE", "allow"),
        ("REPRISE_TLS_CERTIFICATE", &*certificate),
        ("REPRISE_TLS_KEY", &key),
    ];
    const WARNING: &str = "everybody on this machine may read this file: chmod 600";
    let program = Program::start(&["--upstream", &upstream], &variables).await;
    assert!(!program.log().iter().any(|line| line.contains(WARNING)), "the key is safe");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("permissions");
    program.signal("HUP").await;
    assert_eq!(program.logged(WARNING).await["file"], key);
}
