//! A relay that hands on what it gets after a while, in order: the network between two machines. The whole round trip is spent
//! on the way back, because timers round up, and so do it only once.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Starts a relay to `target` on a free port, with so long a round trip.
pub(crate) async fn start(target: SocketAddr, round_trip: Duration) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(relay(client, target, round_trip));
        }
    });
    Ok(address)
}

async fn relay(client: TcpStream, target: SocketAddr, round_trip: Duration) -> io::Result<()> {
    let server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    hand_on(from_client, to_server, Duration::ZERO);
    hand_on(from_server, to_client, round_trip);
    Ok(())
}

/// One direction: what is read at some time is written `delay` later.
fn hand_on(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(1024);
    tokio::spawn(async move {
        loop {
            let mut bytes = Vec::with_capacity(4096);
            match from.read_buf(&mut bytes).await {
                Ok(1..) if sender.send((Instant::now() + delay, bytes)).await.is_ok() => {}
                _ => return,
            }
        }
    });
    tokio::spawn(async move {
        while let Some((due, bytes)) = receiver.recv().await {
            if due > Instant::now() {
                tokio::time::sleep_until(due).await;
            }
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
}
