//! `reprise demo`: the demonstration, with the proxy of this process.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::FAILURE;
use crate::config::{Config, HostPort};
use crate::demo::{self, Options};
use crate::proxy;
use crate::telemetry::Telemetry;

/// The proxy in front of the demonstration's database; dropping it stops it.
struct InProcess {
    address: SocketAddr,
    telemetry: Arc<Telemetry>,
    _running: DropGuard,
}

impl demo::Proxy for InProcess {
    fn addr(&self) -> SocketAddr {
        self.address
    }

    fn conflicts_hidden(&self) -> u64 {
        self.telemetry.conflicts_hidden()
    }
}

pub(super) fn demo(options: Options) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match runtime.block_on(demo::run(options, start)) {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("reprise demo: {error}");
    ExitCode::from(FAILURE)
}

/// Starts the proxy on a free port, with every default but the address of the database.
async fn start(upstream: SocketAddr) -> io::Result<InProcess> {
    let mut config = Config::default();
    config.upstream.address = HostPort { host: upstream.ip().to_string(), port: upstream.port() };
    let telemetry = Arc::new(Telemetry::new(config.retry.journal_bytes_total));
    let live = Arc::new(proxy::Live::load(config).map_err(io::Error::other)?);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    tokio::spawn(proxy::serve(listener, live, Arc::clone(&telemetry), stopped));
    Ok(InProcess { address, telemetry, _running: stop.drop_guard() })
}
