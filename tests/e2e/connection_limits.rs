//! How many sessions one user, and one address, may have.

use tokio::net::TcpStream;

use crate::support::database::Database;
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

/// A client, or the SQLSTATE with which it is refused.
async fn enter(stream: TcpStream, user: &str) -> Result<Wire, String> {
    let mut wire = Wire::over(stream);
    let greeting = wire.begin(&[("user", user), ("database", "postgres")]).await;
    match greeting.status() {
        Some(_) => Ok(wire),
        None => Err(greeting.to_string()),
    }
}

#[tokio::test]
async fn each_user_has_a_limit() {
    let database = Database::create().await;
    database.run("CREATE ROLE limited LOGIN SUPERUSER").await;
    let proxy = Proxy::start(database.address, |config| config.proxy.max_connections_per_user = 2).await;
    let enter = async |user| enter(TcpStream::connect(proxy.address).await.expect("it listens"), user).await;
    let mut wires = Vec::new();
    for _ in 0..2 {
        wires.push(enter("postgres").await.expect("there is room"));
    }
    assert_eq!(enter("postgres").await.err().as_deref(), Some("53300"));
    wires.push(enter("limited").await.expect("that is another user"));
    let refused = "reprise_sessions_refused_total{cause=\"max_connections_per_user\"}";
    assert_eq!(proxy.metric(refused), 1.0);
    // Cancels have no user.
    Wire::connect(proxy.address).await.cancel(wires[0].key).await;
    drop(wires);
    proxy.until_idle().await;
    enter("postgres").await.expect("there is room again");
}

#[tokio::test]
async fn each_address_has_a_limit() {
    let database = Database::create().await;
    let proxy = Proxy::start(database.address, |config| config.proxy.max_connections_per_address = 1).await;
    let from = async |address: &str| enter(proxy.connect_from(address).await, "postgres").await;
    let first = from("127.0.0.1").await.expect("there is room");
    assert_eq!(from("127.0.0.1").await.err().as_deref(), Some("53300"));
    let _other = from("127.0.0.2").await.expect("that is another address");
    assert_eq!(proxy.metric("reprise_sessions_refused_total{cause=\"max_connections_per_address\"}"), 1.0);
    drop(first);
    proxy.until_metric("reprise_sessions", 1.0).await;
    from("127.0.0.1").await.expect("there is room again");
}

/// Who only connects and says nothing takes no more than its address may have, and nothing from others.
#[tokio::test]
async fn silent_connections_count_for_their_address() {
    let database = Database::create().await;
    let proxy = Proxy::start(database.address, |config| config.proxy.max_connections_per_address = 2).await;
    // There is room for some more, that they may cancel, or be told that there is none.
    let mut silent = Vec::new();
    for _ in 0..2 + 16 {
        silent.push(proxy.connect_from("127.0.0.1").await);
    }
    let refused = "reprise_sessions_refused_total{cause=\"max_connections_per_address\"}";
    Wire::over(proxy.connect_from("127.0.0.1").await).until_closed().await;
    assert_eq!(proxy.metric(refused), 1.0);
    enter(proxy.connect_from("127.0.0.2").await, "postgres").await.expect("that is another address");
}

/// Who may not come in cannot keep others out.
#[tokio::test]
async fn silent_connections_from_elsewhere_are_few_and_short() {
    let database = Database::create().await;
    let allowed = "127.0.0.2/32".parse().expect("a network");
    let proxy = Proxy::start(database.address, |config| {
        config.proxy.allowed_clients = vec![allowed];
        config.proxy.startup_timeout = std::time::Duration::from_secs(600);
    })
    .await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(proxy.address).await.expect("it listens"));
    }
    // Most of them are closed at once, and the others when their time is over.
    for stream in silent {
        Wire::over(stream).until_closed().await;
    }
    let refused = "reprise_sessions_refused_total{cause=\"address_not_allowed\"}";
    assert!(proxy.metric(refused) >= 24.0, "{}", proxy.metric(refused));
}
