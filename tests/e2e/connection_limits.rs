//! How many sessions one user, and one address, may have.

use tokio::net::{TcpSocket, TcpStream};

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
    let from = async |address: &str| {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(format!("{address}:0").parse().expect("an address")).expect("an address of the loopback");
        enter(socket.connect(proxy.address).await.expect("it listens"), "postgres").await
    };
    let first = from("127.0.0.1").await.expect("there is room");
    assert_eq!(from("127.0.0.1").await.err().as_deref(), Some("53300"));
    let _other = from("127.0.0.2").await.expect("that is another address");
    assert_eq!(proxy.metric("reprise_sessions_refused_total{cause=\"max_connections_per_address\"}"), 1.0);
    drop(first);
    proxy.until_metric("reprise_sessions", 1.0).await;
    from("127.0.0.1").await.expect("there is room again");
}
