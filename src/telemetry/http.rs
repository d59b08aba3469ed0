//! The HTTP endpoint: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever restarts and routes, and a page for
//! people with what it shows in `/status.json`. All of it only tells.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::Telemetry;

/// The page, in one piece.
const PAGE: &str = include_str!("../../web/status.html");

/// Connections at a time; more of them wait. Each is a file that no client of the proxy can have.
const CONNECTIONS_MAX: usize = 64;
/// How long the head of a request may take, the pause before it included: whoever asks less often connects anew.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection is kept; a request that is under way then may take as long as a head.
const LIFETIME: Duration = Duration::from_secs(60);
/// How long accepting pauses after the operating system refused a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers requests until it is dropped.
pub async fn serve_http(listener: TcpListener, telemetry: Arc<Telemetry>) -> Infallible {
    let router = Router::new()
        .route("/", get(page))
        .route("/status.json", get(status))
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(telemetry);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = serve_connection(stream, router.clone());
                tokio::spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection for metrics");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers the requests of one connection. Whatever goes wrong with it concerns only who is at its other end.
async fn serve_connection(stream: TcpStream, router: Router) {
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    if timeout(LIFETIME, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(HEAD_TIMEOUT, connection).await;
    }
}

async fn metrics(State(telemetry): State<Arc<Telemetry>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], telemetry.render())
}

/// The page loads nothing from elsewhere, and may not: names that clients give themselves are shown on it.
async fn page() -> impl IntoResponse {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                  img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, policy),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, PAGE)
}

async fn status(State(telemetry): State<Arc<Telemetry>>) -> impl IntoResponse {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    (headers, telemetry.status().to_string())
}

async fn ready(State(telemetry): State<Arc<Telemetry>>) -> impl IntoResponse {
    match telemetry.is_ready() {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not accepting connections\n"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    struct Endpoint {
        telemetry: Arc<Telemetry>,
        address: std::net::SocketAddr,
    }

    async fn endpoint() -> Endpoint {
        let telemetry = Arc::new(Telemetry::new(1024));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve_http(listener, Arc::clone(&telemetry)));
        Endpoint { telemetry, address }
    }

    impl Endpoint {
        async fn request(&self, request_line: &str) -> String {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            let request = format!("{request_line} HTTP/1.1\r\nHost: reprise\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        }
    }

    #[tokio::test]
    async fn metrics_are_served_as_prometheus_wants_them() {
        let endpoint = endpoint().await;
        let _session = endpoint.telemetry.session_opened();
        assert!(endpoint.telemetry.journal().reserve(99));
        let answer = endpoint.request("GET /metrics").await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        assert!(body.contains("\nreprise_sessions 1\n"), "{body}");
        assert!(body.contains("\nreprise_journal_bytes 99\n"), "{body}");
    }

    #[tokio::test]
    async fn ready_only_while_accepting_and_healthy_all_the_time() {
        let endpoint = endpoint().await;
        for (accepting, status) in [(None, "503"), (Some(true), "200"), (Some(false), "503")] {
            if let Some(accepting) = accepting {
                endpoint.telemetry.set_ready(accepting);
            }
            let answer = endpoint.request("GET /readyz").await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert!(endpoint.request("GET /healthz").await.starts_with("HTTP/1.1 200 "));
        }
    }

    #[tokio::test]
    async fn the_page_is_whole_and_its_figures_are_json() {
        let endpoint = endpoint().await;
        let page = endpoint.request("GET /").await;
        assert!(
            page.starts_with("HTTP/1.1 200 ") && page.contains("content-security-policy: default-src 'none'")
        );
        let scheme = "://";
        assert!(
            !PAGE.contains(&format!("http{scheme}")) && !PAGE.contains(&format!("https{scheme}")),
            "elsewhere"
        );
        let _session = endpoint.telemetry.session_opened();
        let answer = endpoint.request("GET /status.json").await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("content-type: application/json"), "{head}");
        let status: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!((&status["stats"]["sessions"], &status["ready"]), (&1.into(), &false.into()));
        for report in ["conflicts", "governor"] {
            assert!(status["reports"][report]["rows"].is_array(), "{status}");
        }
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        let endpoint = endpoint().await;
        assert!(endpoint.request("GET /nothing").await.starts_with("HTTP/1.1 404 "));
        assert!(endpoint.request("POST /metrics").await.starts_with("HTTP/1.1 405 "));
    }
}
