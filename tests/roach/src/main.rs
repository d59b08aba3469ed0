//! Runs the double by hand: `cargo run -p roach`, and then `psql -h 127.0.0.1 -p 26257 -U root defaultdb`.

use std::net::SocketAddr;

use clap::Parser;
use roach::{Options, Server, Version};

/// A CockroachDB that fits in a test.
#[derive(Parser)]
#[command(name = "roach")]
struct Arguments {
    /// Where to listen.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:26257")]
    listen: SocketAddr,
    /// Which release to behave like: 20.2, 23.1 or 25.2.
    #[arg(long, default_value = "20.2")]
    version: Version,
    /// What decides everything that is left to chance.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let Arguments { listen, version, seed } = Arguments::parse();
    let server = Server::start(Options { listen, version, seed, ..Options::default() }).await?;
    println!("listening on {}", server.address());
    tokio::signal::ctrl_c().await
}
