//! Spans of transactions that met a conflict, as a collector gets them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{Span, status::StatusCode as SpanStatus};
use prost::Message;
use tokio::net::TcpListener;

use crate::console::Operated;
use crate::support::eventually;

/// A collector: what it was sent, byte by byte.
#[derive(Clone, Default)]
pub(crate) struct Collector(Arc<Mutex<Vec<Bytes>>>);

impl Collector {
    pub(crate) async fn start(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let kept = self.clone();
        let take = move |headers: HeaderMap, body: Bytes| async move {
            assert_eq!(headers["content-type"], "application/x-protobuf");
            kept.0.lock().expect("no panic").push(body);
            StatusCode::OK
        };
        let router = Router::new().route("/v1/traces", post(take));
        tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        address
    }

    /// All that it was sent, as far as that is text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no panic").concat()).into_owned()
    }

    fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        let kept = self.0.lock().expect("no panic");
        kept.iter().map(|body| ExportTraceServiceRequest::decode(body.clone()).expect("protobuf")).collect()
    }

    fn spans(&self) -> Vec<Span> {
        let of_resources = self.requests().into_iter().flat_map(|request| request.resource_spans);
        of_resources.flat_map(|of| of.scope_spans).flat_map(|of| of.spans).collect()
    }
}

/// Attributes in words.
fn words(attributes: &[KeyValue]) -> BTreeMap<&str, String> {
    let text = |value: &KeyValue| match value.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => panic!("{other:?}"),
    };
    attributes.iter().map(|attribute| (attribute.key.as_str(), text(attribute))).collect()
}

async fn operated(collector: SocketAddr, variables: &[(&str, &str)]) -> Operated {
    let endpoint = format!("http://{collector}/v1/traces");
    Operated::start(&[&[("REPRISE_TRACES_ENDPOINT", endpoint.as_str())], variables].concat()).await
}

#[tokio::test]
async fn a_transaction_that_met_a_conflict_has_a_span_with_its_attempts() {
    let collector = Collector::default();
    let scene = operated(collector.start().await, &[("OTEL_BSP_SCHEDULE_DELAY", "50")]).await;
    let mut wire = scene.application().await;
    assert_eq!(wire.query("SELECT v FROM kv WHERE k = 1").await, "(10) SELECT 1 I");
    assert_eq!(wire.query("BEGIN").await, "BEGIN T");
    assert_eq!(wire.query("SELECT conflict('first', 2), 'a secret'").await, "(passed,a secret) SELECT 1 T");
    assert_eq!(wire.query("COMMIT").await, "COMMIT I");
    eventually("a span comes", async || !collector.spans().is_empty()).await;
    let spans = collector.spans();
    assert_eq!(spans.len(), 1, "calm transactions have none");
    let span = &spans[0];
    let told = words(&span.attributes);
    let line = scene.program.logged("transaction met a conflict").await;
    for name in ["reprise.txn", "outcome", "attempts", "conflicts", "application", "statements"] {
        let attribute = &told[format!("reprise.{}", name.trim_start_matches("reprise.")).as_str()];
        let logged = line[name].as_str().map_or_else(|| line[name].to_string(), str::to_owned);
        assert_eq!(*attribute, logged, "{name}");
    }
    assert_eq!((&*told["reprise.outcome"], &*told["reprise.attempts"]), ("committed", "3"));
    assert_eq!((&*told["db.system.name"], &told["db.namespace"]), ("cockroachdb", &scene.database.name));
    let events: Vec<_> = span.events.iter().map(|event| event.name.as_str()).collect();
    let once = ["conflict", "backing off", "replay started", "replay ended"];
    let expected = ["conflict", "backing off", "replay started", "conflict", "replay ended"];
    let expected = [&expected[..], &once[1..]].concat();
    assert_eq!(events, expected);
    assert_eq!(words(&span.events[0].attributes)["db.response.status_code"], "40001");
    let times = span.events.iter().map(|event| event.time_unix_nano);
    let times: Vec<_> = [span.start_time_unix_nano].into_iter().chain(times).collect();
    assert!(times.is_sorted() && times.last() < Some(&span.end_time_unix_nano), "{times:?}");
    let resource = collector.requests().remove(0).resource_spans.remove(0).resource.expect("a resource");
    assert_eq!(words(&resource.attributes)["service.name"], "reprise");
    let sent = collector.text();
    assert!(sent.contains("committed") && !sent.contains("secret"), "no literal is sent");
}

#[tokio::test]
async fn spans_that_wait_are_sent_at_the_end() {
    let collector = Collector::default();
    let variables = [("OTEL_SERVICE_NAME", "payments"), ("OTEL_BSP_SCHEDULE_DELAY", "3600000")];
    let mut scene = operated(collector.start().await, &variables).await;
    let mut wire = scene.application().await;
    assert_eq!(wire.query("BEGIN").await, "BEGIN T");
    assert_eq!(wire.query("SELECT v FROM kv WHERE k = 1").await, "(10) SELECT 1 T");
    scene.database.run("UPDATE kv SET v = 11").await;
    assert_eq!(wire.query("SELECT conflict('first', 1)").await, "40001 E");
    assert_eq!(wire.query("ROLLBACK").await, "ROLLBACK I");
    drop(wire);
    scene.program.terminate().await;
    assert_eq!(scene.program.exit_code().await, Some(0));
    let spans = collector.spans();
    assert_eq!(spans.len(), 1);
    let status = spans[0].status.as_ref().expect("a status");
    assert_eq!((status.code(), status.message.as_str()), (SpanStatus::Error, "results_differ"));
    let resource = collector.requests().remove(0).resource_spans.remove(0).resource.expect("a resource");
    assert_eq!(words(&resource.attributes)["service.name"], "payments");
}

#[tokio::test]
async fn a_collector_that_is_not_there_disturbs_nobody_and_is_told_once() {
    let nowhere = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        listener.local_addr().expect("an address")
    };
    let scene = operated(nowhere, &[("OTEL_BSP_SCHEDULE_DELAY", "20")]).await;
    let mut wire = scene.application().await;
    let told = || {
        let log = scene.program.log();
        log.iter().filter(|line| line.contains("spans cannot be sent")).count()
    };
    for counter in ["first", "second"] {
        assert_eq!(
            wire.query(&format!("SELECT conflict('{counter}', 1)")).await,
            "(passed) SELECT 1 I",
            "{counter}"
        );
        eventually("it is told", async || told() > 0).await;
    }
    assert_eq!(told(), 1);
    let metrics = scene.program.http("/metrics").await;
    assert!(metrics.contains("reprise_conflicts_hidden_total 2"), "{metrics}");
}
