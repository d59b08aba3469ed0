//! `reprise` without a subcommand: the proxy and its HTTP endpoint, until a signal ends them.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use super::reload::Reload;
use super::service::{self, Sockets};
use super::{FAILURE, refuse};
use crate::config::{self, Config, Settings, Sources, unix_socket};
use crate::proxy::{self, Listeners, Live};
use crate::telemetry::{self, Spans, Telemetry};

pub(super) fn run(sources: Sources) -> ExitCode {
    let (config, settings) = match config::load(sources.clone()) {
        Ok(loaded) => loaded,
        Err(error) => return refuse(&error),
    };
    if let Err(error) = telemetry::start_log(config.log.format, &config.log.level) {
        eprintln!("reprise: {error}");
        return ExitCode::from(FAILURE);
    }
    // Sessions have threads of their own: this one accepts them, and serves metrics.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime
        .map_err(Error::Runtime)
        .and_then(|runtime| runtime.block_on(run_until_signal(config, settings, sources)))
    {
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
    #[error("cannot take the sockets that were handed over: {0}")]
    Sockets(#[source] io::Error),
    #[error("cannot start: {0}")]
    Credentials(#[from] proxy::credentials::Error),
    #[error("cannot send spans (traces.endpoint): {0}")]
    Traces(String),
    #[error("cannot go on: {0}")]
    Serve(#[source] io::Error),
}

async fn run_until_signal(config: Config, at_start: Settings, sources: Sources) -> Result<(), Error> {
    let live = Arc::new(Live::load(config.clone())?);
    let spans = config.traces.endpoint.as_deref().map(Spans::start).transpose().map_err(Error::Traces)?;
    let telemetry = Telemetry::remembering(config.retry.journal_bytes_total, config.report.options.clone())
        .with_spans(spans);
    let telemetry = Arc::new(telemetry);
    let mut first = Signals::new().map_err(Error::Runtime)?;
    let mut second = Signals::new().map_err(Error::Runtime)?;
    let handed = Sockets::take().map_err(Error::Sockets)?;
    if let Some((listener, address)) = listen("http", handed.http, config.http.listen).await? {
        tracing::info!(%address, "serving metrics and health");
        tokio::spawn(telemetry::serve_http(listener, Arc::clone(&telemetry)));
    }
    let hangup = signal(SignalKind::hangup()).map_err(Error::Runtime)?;
    let drain = Arc::new(Notify::new());
    let reload = Arc::new(Reload::new(sources, at_start, Arc::clone(&live), Arc::clone(&drain)));
    live.set_operator(Arc::clone(&reload) as _);
    tokio::spawn(reload.at_each(hangup));
    tokio::spawn(service::watchdog());
    let (listener, address) = listen("proxy", handed.clients, Some(config.proxy.listen))
        .await?
        .expect("there is an address to listen on");
    let listeners = match (handed.local, &config.proxy.unix_socket_directory) {
        (Some(socket), _) => Listeners::from(listener).with_handed(socket),
        (None, Some(directory)) => listen_locally(listener, unix_socket(directory, address.port()))?,
        (None, None) => listener.into(),
    };
    let mode = config.retry.policy.mode.name();
    telemetry.set_ready(true);
    tracing::info!(%address, upstream = %config.upstream.address, mode, "accepting connections");
    service::ready();
    let shutdown = {
        let telemetry = Arc::clone(&telemetry);
        async move {
            tokio::select! {
                () = first.next() => {}
                () = drain.notified() => {}
            }
            telemetry.set_ready(false);
            service::stopping();
            tracing::info!("shutting down; a second signal ends it at once");
        }
    };
    let counted = Arc::clone(&telemetry);
    tokio::select! {
        served = proxy::serve(listeners, live, telemetry, shutdown) => served.map_err(Error::Serve)?,
        () = async { second.next().await; second.next().await } => return Ok(()),
    }
    if counted.spans().is_some() {
        // On a thread of its own, for this one has the runtime that sends them.
        let stopped = tokio::task::spawn_blocking(move || counted.spans().into_iter().for_each(Spans::stop));
        stopped.await.unwrap_or_else(|error| tracing::warn!("the last spans may be lost: {error}"));
    }
    Ok(())
}

/// The socket that was handed over, else one at the address; `None` if there is neither.
async fn listen(
    section: &'static str,
    handed: Option<TcpListener>,
    address: Option<SocketAddr>,
) -> Result<Option<(TcpListener, SocketAddr)>, Error> {
    let listener = match (handed, address) {
        (Some(listener), _) => listener,
        (None, Some(address)) => {
            let refused = |error| Error::Listen { address, section, error };
            TcpListener::bind(address).await.map_err(refused)?
        }
        (None, None) => return Ok(None),
    };
    let bound = listener.local_addr().map_err(Error::Sockets)?;
    Ok(Some((listener, bound)))
}

fn listen_locally(listener: TcpListener, path: PathBuf) -> Result<Listeners, Error> {
    let refused = |error| Error::ListenLocally { path: path.clone(), error };
    let listeners = Listeners::from(listener).with_local(path.clone()).map_err(refused)?;
    tracing::info!(socket = %path.display(), "accepting local connections");
    Ok(listeners)
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
