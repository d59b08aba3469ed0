//! Spans by the OpenTelemetry protocol: one for each transaction that met a conflict, with its attempts as events in it.
//!
//! They are made of the events that the log is made of, and sent in batches by a thread of their own, over HTTP. No session
//! waits for that: what there are too many of to be sent is dropped.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use axum::http::{Request, Response};
use bytes::Bytes;
use dashmap::DashMap;
use opentelemetry::trace::{Event as Mark, Span, SpanKind, Status, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tokio::runtime::Handle;

use crate::insight::{Session, Story};
use crate::replay::{Dialect, Event, Outcome, TransactionEnd};

/// Events of a transaction that are kept at most.
const MARKS_MAX: usize = 128;
/// How long the collector may take for a batch.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the last batch may take at the end.
const FAREWELL: Duration = Duration::from_secs(3);

/// Makes spans and sends them.
#[derive(Debug)]
pub struct Spans {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    /// What the transactions at hand that met a conflict have gone through, by their sessions.
    marks: DashMap<u64, Vec<Mark>>,
}

impl Spans {
    /// Sends them to this endpoint from now on, on the runtime at hand.
    ///
    /// # Errors
    /// If the endpoint is none.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn start(endpoint: &str) -> Result<Self, String> {
        let client = HyperClient::with_default_connector(PATIENCE, None);
        let sender = Sender { client, runtime: Handle::current(), is_failing: AtomicBool::new(false) };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(sender)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint)
            .with_timeout(PATIENCE)
            .build()
            .map_err(|error| error.to_string())?;
        // What the environment says by the names that OpenTelemetry has for it wins.
        let resource = match std::env::var_os("OTEL_SERVICE_NAME") {
            Some(_) => Resource::builder(),
            None => Resource::builder().with_service_name("reprise"),
        };
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = resource.with_attribute(version).build();
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        Ok(Self { tracer: provider.tracer("reprise"), provider, marks: DashMap::new() })
    }

    /// Sends what there is, and ends. It blocks for that.
    pub fn stop(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(FAREWELL) {
            tracing::warn!("the last spans may be lost: {error}");
        }
    }

    /// Keeps what a transaction goes through from its first conflict on.
    pub(super) fn note(&self, session: u64, event: &Event) {
        let Some((name, attributes)) = described(event) else { return };
        if matches!(event, Event::Conflict { .. }) {
            self.marks.entry(session).or_default();
        }
        if let Some(mut marks) = self.marks.get_mut(&session)
            && marks.len() < MARKS_MAX
        {
            marks.push(Mark::new(name, SystemTime::now(), attributes, 0));
        }
    }

    /// A transaction has ended: it has a span if it met a conflict.
    pub(super) fn ended(&self, owner: &Session, end: &TransactionEnd, story: Option<&Story>) {
        if end.conflicts == 0 {
            return;
        }
        let marks = self.marks.remove(&owner.id).map(|(_, marks)| marks).unwrap_or_default();
        let now = SystemTime::now();
        let took = story.map_or(end.retry_time, |story| story.took);
        let mut span = self
            .tracer
            .span_builder("transaction")
            .with_kind(SpanKind::Client)
            .with_start_time(now.checked_sub(took).unwrap_or(now))
            .with_attributes(attributes(owner, end, story))
            .with_events(marks)
            .start_with_context(&self.tracer, &Context::new());
        if let Outcome::Surfaced(reason) = end.outcome {
            span.set_status(Status::error(reason.name()));
        }
        span.end_with_timestamp(now);
    }
}

/// What is told of a transaction: what its line in the log tells.
fn attributes(owner: &Session, end: &TransactionEnd, story: Option<&Story>) -> Vec<KeyValue> {
    let system = if owner.dialect == Dialect::Cockroach.name() { "cockroachdb" } else { "postgresql" };
    let reason = match end.outcome {
        Outcome::Surfaced(reason) => Some(reason),
        _ => end.not_replayable,
    };
    let retry_ms = i64::try_from(end.retry_time.as_millis()).unwrap_or(i64::MAX);
    let mut told = vec![
        KeyValue::new("db.system.name", system),
        KeyValue::new("db.namespace", owner.who.database.to_string()),
        KeyValue::new("reprise.txn", owner.transaction()),
        KeyValue::new("reprise.application", owner.who.application.to_string()),
        KeyValue::new("reprise.outcome", end.outcome.name()),
        KeyValue::new("reprise.attempts", i64::from(end.attempts)),
        KeyValue::new("reprise.conflicts", i64::from(end.conflicts)),
        KeyValue::new("reprise.retry_ms", retry_ms),
    ];
    told.extend(reason.map(|reason| KeyValue::new("reprise.reason", reason.name())));
    if let Some(story) = story {
        let place = &story.contended;
        let named = [("db.collection.name", &place.table), ("reprise.index", &place.index)];
        let named = named.into_iter().filter(|(_, name)| !name.is_empty());
        told.extend(named.map(|(key, name)| KeyValue::new(key, name.clone())));
        told.extend(place.key.clone().map(|key| KeyValue::new("reprise.key", key)));
        told.extend(story.statement.clone().map(|label| KeyValue::new("reprise.statement", label)));
        told.push(KeyValue::new("reprise.statements", story.statements.clone()));
    }
    told
}

/// The name of an event in a span, and what is told of it.
fn described(event: &Event) -> Option<(&'static str, Vec<KeyValue>)> {
    let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    let attempt = |attempt: u32| KeyValue::new("reprise.attempt", i64::from(attempt));
    Some(match event {
        Event::Conflict { sqlstate, phase, cause, .. } => (
            "conflict",
            vec![
                KeyValue::new("db.response.status_code", sqlstate.to_string()),
                KeyValue::new("reprise.phase", phase.name()),
                KeyValue::new("reprise.cause", cause.name()),
            ],
        ),
        Event::BackedOff { attempt: next, pause } => {
            ("backing off", vec![attempt(*next), KeyValue::new("reprise.pause_us", micros(*pause))])
        }
        Event::Admitted { waited } => ("admitted", vec![KeyValue::new("reprise.waited_us", micros(*waited))]),
        Event::ReplayStarted { attempt: number, .. } => ("replay started", vec![attempt(*number)]),
        Event::ReplayEnded { elapsed } => {
            ("replay ended", vec![KeyValue::new("reprise.elapsed_us", micros(*elapsed))])
        }
        Event::TransactionEnded(_) => return None,
    })
}

/// Sends batches on a runtime, whatever thread they come from, and tells when that begins to fail.
#[derive(Debug)]
struct Sender {
    client: HyperClient,
    runtime: Handle,
    is_failing: AtomicBool,
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move { client.send_bytes(request).await });
        let answer = sent.await.unwrap_or_else(|error| Err(error.into()));
        let failure = match &answer {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(answer.status().to_string()),
            Err(error) => Some(error.to_string()),
        };
        let failed_before = self.is_failing.swap(failure.is_some(), Relaxed);
        match failure {
            Some(failure) if !failed_before => {
                tracing::warn!("spans cannot be sent (traces.endpoint): {failure}");
            }
            None if failed_before => tracing::info!("spans are sent again"),
            _ => {}
        }
        answer
    }
}
