//! The conversation that a session's engine had, in the notation of `tests/conversations`: to be pasted there.

use golden::{Backend, Frontend};
use reprise::replay::Dialect;

use crate::scenario::Scenario;

/// The lines, if anyone wants them.
#[derive(Default)]
pub(crate) struct Trace {
    lines: Option<Vec<String>>,
    requested: Vec<u8>,
    answered: Vec<u8>,
    asked: Vec<u8>,
    shown: Vec<u8>,
    events: Vec<String>,
}

impl Trace {
    pub(crate) fn new(wanted: bool, scenario: &Scenario) -> Self {
        let mut trace = Self { lines: wanted.then(Vec::new), ..Self::default() };
        trace.head(scenario);
        trace
    }

    fn head(&mut self, scenario: &Scenario) {
        let Some(lines) = &mut self.lines else { return };
        let policy = &scenario.policy;
        if scenario.traits.dialect == Dialect::Cockroach {
            lines.push("@dialect cockroach".into());
        }
        if scenario.turns_wait {
            lines.push("@turns wait".into());
        }
        if scenario.doors > 0 {
            lines.push("@places wait".into());
        }
        lines.push(format!(
            "@policy max_attempts={} timeout_ms={} journal_bytes={} begin={} hold_bytes={}",
            policy.max_attempts,
            policy.timeout.as_millis(),
            policy.journal_bytes,
            policy.begin.name(),
            policy.hold_bytes
        ));
    }

    /// Another connection begins.
    pub(crate) fn begin_anew(&mut self, scenario: &Scenario) {
        let Some(lines) = &mut self.lines else { return };
        lines.push("@case on another connection".into());
        self.head(scenario);
        for buffer in [&mut self.requested, &mut self.answered, &mut self.asked, &mut self.shown] {
            buffer.clear();
        }
    }

    pub(crate) fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }

    /// A line that is no message.
    pub(crate) fn note(&mut self, line: String) {
        if let Some(lines) = &mut self.lines {
            if line.starts_with('=') || line == "closed" { self.events.push(line) } else { lines.push(line) }
        }
    }

    /// The client's bytes, as the engine gets them.
    pub(crate) fn requested(&mut self, bytes: &[u8]) {
        let Some(lines) = &mut self.lines else { return };
        self.requested.extend_from_slice(bytes);
        while let Some(message) = Frontend::read(&mut self.requested) {
            lines.push(format!("> {message}"));
        }
    }

    /// The server's bytes, as the engine gets them.
    pub(crate) fn answered(&mut self, bytes: &[u8]) {
        let Some(lines) = &mut self.lines else { return };
        self.answered.extend_from_slice(bytes);
        while let Some(message) = Backend::read(&mut self.answered) {
            lines.push(format!("<< {message}"));
        }
    }

    /// The engine's bytes for the server.
    pub(crate) fn asked(&mut self, bytes: &[u8]) {
        if self.lines.is_some() {
            self.asked.extend_from_slice(bytes);
        }
    }

    /// The engine's bytes for the client.
    pub(crate) fn shown(&mut self, bytes: &[u8]) {
        if self.lines.is_some() {
            self.shown.extend_from_slice(bytes);
        }
    }

    /// Writes down what the engine made of the last input.
    pub(crate) fn settle(&mut self) {
        let Some(lines) = &mut self.lines else { return };
        while let Some(message) = Frontend::read(&mut self.asked) {
            lines.push(format!(">> {message}"));
        }
        while let Some(message) = Backend::read(&mut self.shown) {
            lines.push(format!("< {message}"));
        }
        lines.append(&mut self.events);
    }
}
