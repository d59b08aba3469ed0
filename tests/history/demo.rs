//! The demonstration against the CockroachDB double.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use reprise::config::{Config, HostPort};
use reprise::demo::{self, Options, Proxy};
use reprise::telemetry::Telemetry;
use roach::faults::{Effect, Fault, Point, Reason};
use roach::{Server, Version};

use crate::arena::start_proxy;

/// Reprise, as the demonstration sees it.
struct Reprise {
    address: SocketAddr,
    telemetry: Arc<Telemetry>,
}

impl Proxy for Reprise {
    fn addr(&self) -> SocketAddr {
        self.address
    }

    fn conflicts_hidden(&self) -> u64 {
        self.telemetry.conflicts_hidden()
    }
}

async fn start(upstream: SocketAddr) -> io::Result<Reprise> {
    let mut config = Config::default();
    config.upstream.address = HostPort { host: upstream.ip().to_string(), port: upstream.port() };
    let (address, telemetry) = start_proxy(config).await;
    Ok(Reprise { address, telemetry })
}

async fn passes_on(version: Version) {
    let server = Server::start(roach::Options { version, ..roach::Options::default() }).await;
    let server = server.expect("a loopback port is free");
    // The server itself hides those conflicts that arise before an answer left it, which are most of the blind ones: so
    // every eighth transfer is made to meet one at its last statement.
    for reason in Reason::ALL.into_iter().cycle().take(160) {
        let at = Point::Statement("(client, number".into());
        server.faults().add(Fault::once(at, Effect::Retry(reason)).after(7));
    }
    let upstream = Some(format!("postgres://root@{}/defaultdb", server.address()));
    let options = Options { upstream, clients: 8, accounts: 4, transfers: 160, seed: 1 };
    let mut telemetry = None;
    let code = demo::run(options, async |upstream| {
        let reprise = start(upstream).await?;
        telemetry = Some(Arc::clone(&reprise.telemetry));
        Ok(reprise)
    });
    let code = code.await.expect("a whole run");
    // `ExitCode` can be compared by its look only.
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
    let telemetry = telemetry.expect("the proxy was started");
    assert!(telemetry.conflicts_hidden() > 0, "nothing was hidden");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demonstration_passes_on_cockroach_20_2() {
    passes_on(Version::V20_2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demonstration_passes_on_cockroach_25_2() {
    passes_on(Version::V25_2).await;
}
