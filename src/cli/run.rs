//! `reprise` without a subcommand: the proxy and its HTTP endpoint, until a signal ends them.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{FAILURE, refuse};
use crate::config::{self, Config, Sources, unix_socket};
use crate::proxy::{self, Credentials, Listeners};
use crate::telemetry::{self, Telemetry};

pub(super) fn run(sources: Sources) -> ExitCode {
    let config = match config::load(sources) {
        Ok((config, _)) => config,
        Err(error) => return refuse(&error),
    };
    if let Err(error) = telemetry::start_log(config.log.format, &config.log.level) {
        eprintln!("reprise: {error}");
        return ExitCode::from(FAILURE);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.map_err(Error::Runtime).and_then(|runtime| runtime.block_on(run_until_signal(config))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(FAILURE)
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
    #[error("cannot listen on {address} ({section}.listen): {error}")]
    Listen { address: SocketAddr, section: &'static str, error: io::Error },
    #[error("cannot listen on {} (proxy.unix_socket_directory): {error}", path.display())]
    ListenLocally { path: PathBuf, error: io::Error },
    #[error("cannot start: {0}")]
    Credentials(#[from] proxy::credentials::Error),
    #[error("cannot go on: {0}")]
    Serve(#[source] io::Error),
}

async fn run_until_signal(config: Config) -> Result<(), Error> {
    let config = Arc::new(config);
    let credentials = Arc::new(Credentials::load(&config)?);
    let telemetry = Arc::new(Telemetry::new(config.retry.journal_bytes_total));
    let mut first = Signals::new().map_err(Error::Runtime)?;
    let mut second = Signals::new().map_err(Error::Runtime)?;
    if let Some(address) = config.http.listen {
        let (listener, address) = listen("http", address).await?;
        tracing::info!(%address, "serving metrics and health");
        tokio::spawn(telemetry::serve_http(listener, Arc::clone(&telemetry)));
    }
    tokio::spawn(reload_at_hangup(
        signal(SignalKind::hangup()).map_err(Error::Runtime)?,
        Arc::clone(&credentials),
    ));
    let (listener, address) = listen("proxy", config.proxy.listen).await?;
    let mut listeners = Listeners::from(listener);
    if let Some(directory) = &config.proxy.unix_socket_directory {
        let path = unix_socket(directory, address.port());
        listeners = listeners
            .with_local(path.clone())
            .map_err(|error| Error::ListenLocally { path: path.clone(), error })?;
        tracing::info!(socket = %path.display(), "accepting local connections");
    }
    let mode = config.retry.policy.mode.name();
    telemetry.set_ready(true);
    tracing::info!(%address, upstream = %config.upstream.address, mode, "accepting connections");
    let shutdown = {
        let telemetry = Arc::clone(&telemetry);
        async move {
            first.next().await;
            telemetry.set_ready(false);
            tracing::info!("shutting down; a second signal ends it at once");
        }
    };
    tokio::select! {
        served = proxy::serve(listeners, config, credentials, telemetry, shutdown) => served.map_err(Error::Serve),
        () = async { second.next().await; second.next().await } => Ok(()),
    }
}

/// Reads certificates, keys, authorities and passwords again at each SIGHUP.
async fn reload_at_hangup(mut hangup: Signal, credentials: Arc<Credentials>) {
    while hangup.recv().await.is_some() {
        match credentials.reload() {
            Ok(()) => tracing::info!("certificates and passwords were read again"),
            Err(error) => tracing::error!(%error, "cannot read them again; those from before stay in use"),
        }
    }
}

async fn listen(section: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let refused = |error| Error::Listen { address, section, error };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    Ok((listener, bound))
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
