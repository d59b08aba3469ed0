//! The log: text or JSON on standard error. No statement text and no value ever gets in, because events have none.

use std::io::{self, IsTerminal};
use std::sync::OnceLock;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::reload;

use super::pace::Pace;
use crate::insight::{Contended, Session, Story};
use crate::replay::{Event, Outcome, Reason, TransactionEnd};

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// Every format.
    pub const ALL: [Self; 2] = [Self::Text, Self::Json];

    /// The stable name, as in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// Reads a level, or directives, and tells what is wrong with them.
pub fn log_filter(text: &str) -> Result<EnvFilter, String> {
    let allowed = "allowed: off, error, warn, info, debug, trace, \
                   and directives such as reprise=debug, separated by commas";
    // A lone word that is no level would be taken for the name of a module, all of whose events are wanted.
    let is_stray = |directive: &&str| {
        let is_level = !directive.is_empty() && directive.parse::<LevelFilter>().is_ok();
        !is_level && !directive.contains(['=', '[', '{', '}'])
    };
    if let Some(stray) = text.split(',').map(str::trim).find(is_stray) {
        return Err(format!("\"{stray}\" is no level; {allowed}"));
    }
    EnvFilter::builder().parse(text).map_err(|error| format!("\"{text}\": {error}; {allowed}"))
}

/// Sends the events of the whole process to standard error, from now on.
///
/// # Errors
/// If the level is not valid, or if events already go somewhere.
pub fn start_log(format: LogFormat, level: &str) -> Result<(), String> {
    let (subscriber, level) = subscriber(format, log_filter(level)?, io::stderr().is_terminal(), io::stderr);
    tracing::subscriber::set_global_default(subscriber).map_err(|error| error.to_string())?;
    // There is one log, and this is the first.
    let _ = LEVEL.set(level);
    Ok(())
}

/// Has events of the whole process logged by this level, or these directives, from now on.
///
/// # Errors
/// If it is not valid, or if there is no log.
pub fn set_log_level(level: &str) -> Result<(), String> {
    let filter = log_filter(level)?;
    LEVEL.get().ok_or("there is no log")?(filter).map_err(|error| error.to_string())
}

/// What changes the level of a log.
type Level = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

/// That of the one log.
static LEVEL: OnceLock<Level> = OnceLock::new();

fn subscriber<W>(
    format: LogFormat,
    filter: EnvFilter,
    ansi: bool,
    writer: W,
) -> (Box<dyn Subscriber + Send + Sync>, Level)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(ansi).with_writer(writer);
    match format {
        LogFormat::Text => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            (Box::new(builder.finish()), Box::new(move |filter| handle.reload(filter)))
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_filter_reloading();
            let handle = builder.reload_handle();
            (Box::new(builder.finish()), Box::new(move |filter| handle.reload(filter)))
        }
    }
}

/// Writes one event of a session: a transaction that met a conflict at `info`, all else at `debug`.
pub(super) fn log(session: u64, event: &Event) {
    match event {
        Event::Conflict { sqlstate, phase, cause, wasted } => {
            let (phase, cause, wasted_us) = (phase.name(), cause.name(), micros(*wasted));
            tracing::debug!(session, %sqlstate, phase, cause, wasted_us, "conflict");
        }
        Event::BackedOff { attempt, pause } => {
            tracing::debug!(session, attempt, pause_us = micros(*pause), "backing off");
        }
        Event::Admitted { waited } => {
            tracing::debug!(session, waited_us = micros(*waited), "admitted");
        }
        Event::ReplayStarted { attempt, journal_bytes, statements } => {
            tracing::debug!(session, attempt, journal_bytes, statements, "replay started");
        }
        Event::ReplayEnded { elapsed } => {
            tracing::debug!(session, elapsed_us = micros(*elapsed), "replay ended");
        }
        // It has a line of its own.
        Event::TransactionEnded(_) => {}
    }
}

/// Writes the end of a transaction: one that met a conflict at `info` and within limits, all else at `debug`.
pub(super) fn log_end(owner: &Session, end: &TransactionEnd, story: Option<&Story>, pace: &Pace) {
    let session = owner.id;
    let outcome = end.outcome.name();
    let reason = match end.outcome {
        Outcome::Surfaced(reason) => Some(reason),
        _ => end.not_replayable,
    };
    let reason = reason.map(Reason::name);
    let TransactionEnd { explicit, attempts, conflicts, journal_bytes, .. } = *end;
    if conflicts > 0 || matches!(end.outcome, Outcome::Surfaced(_)) {
        let Some(left_out) = pace.allows() else { return };
        let retry_ms = end.retry_time.as_millis() as u64;
        let of_place = |part: fn(&Contended) -> &str| {
            story.map(|story| part(&story.contended)).filter(|name| !name.is_empty())
        };
        tracing::info!(
            session,
            reprise.txn = owner.transaction(),
            outcome,
            explicit,
            attempts,
            conflicts,
            retry_ms,
            reason,
            database = &*owner.who.database,
            application = &*owner.who.application,
            table = of_place(|place| &place.table),
            index = of_place(|place| &place.index),
            key = story.and_then(|story| story.contended.key.as_deref()),
            statement = story.and_then(|story| story.statement.as_deref()),
            statements = story.map(|story| &*story.statements),
            left_out = Some(left_out).filter(|lines| *lines > 0),
            "transaction met a conflict"
        );
    } else {
        tracing::debug!(session, outcome, explicit, journal_bytes, reason, "transaction ended");
    }
}

fn micros(duration: std::time::Duration) -> u64 {
    duration.as_micros().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::insight::Who;
    use crate::replay::{Cause, Phase};
    use crate::wire::SqlState;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, level: &str, events: &[Event]) -> Vec<String> {
        let page = Page::default();
        let writer = page.clone();
        let (subscriber, _) = subscriber(format, log_filter(level).unwrap(), false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            let session = Session::new(7, Who::default(), String::new(), [""; 2], CancellationToken::new());
            let pace = Pace::default();
            for event in events {
                match event {
                    Event::TransactionEnded(end) => log_end(&session, end, Some(&story()), &pace),
                    event => log(7, event),
                }
            }
        });
        let bytes = page.0.lock().unwrap();
        String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
    }

    fn story() -> Story {
        let contended = Contended { table: "accounts".to_owned(), ..Contended::default() };
        Story {
            contended,
            statement: Some("ab".to_owned()),
            statements: "cd ab".to_owned(),
            took: Duration::ZERO,
        }
    }

    fn end(outcome: Outcome, conflicts: u32) -> Event {
        Event::TransactionEnded(TransactionEnd {
            outcome,
            attempts: conflicts + 1,
            conflicts,
            retry_time: Duration::from_millis(25),
            journal_bytes: 99,
            ..TransactionEnd::CALM
        })
    }

    #[test]
    fn at_info_only_transactions_that_met_a_conflict_are_logged() {
        let events = [
            Event::Conflict {
                sqlstate: SqlState::SERIALIZATION_FAILURE,
                phase: Phase::Commit,
                cause: Cause::OTHER,
                wasted: Duration::from_millis(4),
            },
            Event::BackedOff { attempt: 2, pause: Duration::from_millis(1) },
            Event::Admitted { waited: Duration::from_millis(2) },
            Event::ReplayStarted { attempt: 2, journal_bytes: 99, statements: 3 },
            Event::ReplayEnded { elapsed: Duration::from_millis(3) },
            end(Outcome::Committed, 0),
            end(Outcome::Surfaced(Reason::ResultsDiffer), 2),
        ];
        let lines = logged(LogFormat::Json, "info", &events);
        assert_eq!(lines.len(), 1, "{lines:?}");
        let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "transaction met a conflict");
        assert_eq!((&line["session"], &line["attempts"]), (&7.into(), &3.into()));
        assert_eq!((&line["conflicts"], &line["retry_ms"]), (&2.into(), &25.into()));
        assert_eq!((&line["outcome"], &line["reason"]), (&"surfaced".into(), &"results_differ".into()));
        assert_eq!((&line["table"], &line["statements"]), (&"accounts".into(), &"cd ab".into()));
        assert_eq!(
            (&line["reprise.txn"], line.get("index"), line.get("left_out")),
            (&"7.0".into(), None, None)
        );
        assert_eq!(logged(LogFormat::Json, "debug", &events).len(), events.len());
    }

    #[test]
    fn text_lines_have_the_same_fields_and_none_that_is_unknown() {
        let lines = logged(LogFormat::Text, "warn,reprise=info", &[end(Outcome::Committed, 1)]);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains("INFO") && lines[0].contains("outcome=\"committed\""), "{lines:?}");
        assert!(lines[0].contains("retry_ms=25") && !lines[0].contains("reason"), "{lines:?}");
    }

    #[test]
    fn directives_are_read_strictly() {
        for text in ["info", "off", "warn,reprise=debug", "reprise::telemetry=trace", "[session{id=7}]=debug"]
        {
            assert!(log_filter(text).is_ok(), "{text}");
        }
        for text in ["", "inof", "info,", "reprise", "reprise=loud"] {
            assert!(log_filter(text).unwrap_err().contains("allowed: off, error"), "{text}");
        }
    }
}
