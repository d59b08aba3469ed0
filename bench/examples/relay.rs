//! A plain relay of bytes, the measure of what a proxy costs at least: `cargo run -p bench --example relay -- LISTEN UPSTREAM`
//!
//! Two threads, a task a connection, and tokio's `copy_bidirectional` with its own buffers: what a good programmer writes
//! first. Nothing is read in the bytes.

use std::env;
use std::error::Error;
use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let mut address = |name: &str| -> Result<SocketAddr, Box<dyn Error>> {
        Ok(arguments.next().ok_or(format!("{name} is missing: relay LISTEN UPSTREAM"))?.parse()?)
    };
    let (listen, upstream) = (address("LISTEN")?, address("UPSTREAM")?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await?;
        loop {
            let (client, _) = listener.accept().await?;
            tokio::spawn(async move {
                // A connection that breaks ends, and the others go on.
                let _ = relay(client, upstream).await;
            });
        }
    })
}

async fn relay(mut client: TcpStream, upstream: SocketAddr) -> std::io::Result<()> {
    let mut server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
