//! `reprise.report`: a client that asks for it is told, by a NOTICE, of each transaction that was run again.
//!
//! The NOTICE stands before the ReadyForQuery that ends the transaction. It tells figures, and nothing of the data.
//!
//! `SET reprise.report` is answered here, in the simple protocol, when everything before it is answered; the server hears
//! nothing of it. In the extended protocol it goes to the server like any other: who uses that asks at startup.

use std::time::Duration;

use super::engine::{Engine, Output};
use super::event::Outcome;
use super::explain;
use super::owner::{Control, Owner};
use super::scan::Scan;
use super::state::State;
use crate::wire::backend::{self, Status};
use crate::wire::frontend;
use crate::wire::{HEADER_BYTES, SqlState, encode};

/// The name of the parameter.
pub const REPORT: &str = "reprise.report";

/// Reads a value of [`REPORT`], as PostgreSQL writes booleans.
pub fn report_value(value: &[u8]) -> Option<bool> {
    let is = |names: [&str; 4]| names.iter().any(|name| value.eq_ignore_ascii_case(name.as_bytes()));
    match () {
        () if is(["on", "true", "yes", "1"]) => Some(true),
        () if is(["off", "false", "no", "0"]) => Some(false),
        () => None,
    }
}

/// A `SET reprise.report`: its value, `None` if that is none.
type Setting = Option<bool>;

impl Engine {
    /// Says whether the client is to be told of transactions that were run again.
    pub const fn report_replays(&mut self, report: bool) {
        self.reports = report;
    }

    /// Whether this Query is a SET of ours.
    fn report_setting(&self, frame: &[u8]) -> Option<Setting> {
        let free = !self.discarding && self.outstanding.ends_cycle() && !self.outstanding.is_copying();
        if !free {
            return None;
        }
        setting(frontend::query(&frame[HEADER_BYTES..])?)
    }

    /// Whether the next request, a Query, is one, and must wait until everything before it is answered.
    pub(super) fn setting_must_wait(&self, frame: &[u8]) -> bool {
        !self.outstanding.is_empty() && self.report_setting(frame).is_some()
    }

    /// Answers it, in the status that the session is in. False if the Query is none.
    pub(super) fn answer_setting(&mut self, frame: &[u8], out: &mut impl Output) -> bool {
        let Some(setting) = self.report_setting(frame) else { return false };
        let mut answer = Vec::new();
        match setting {
            _ if self.status == Status::Failed => answer = explain::in_failed_transaction(),
            None => {
                answer = explain::refused(
                    SqlState::INVALID_PARAMETER_VALUE,
                    "parameter \"reprise.report\" requires a Boolean value, in a SET that stands alone",
                );
            }
            Some(report) => {
                self.reports = report;
                encode::command_complete(&mut answer, "SET");
            }
        }
        encode::ready_for_query(&mut answer, self.status);
        out.frontend(&answer);
        true
    }

    /// Before a frame of the server goes to the client: tells of the replays, if it is the ReadyForQuery behind a transaction
    /// that was run again and whose conflict the client was not shown.
    pub(super) fn tell_of_replays(
        &mut self,
        now: Duration,
        frame_tag: u8,
        scan: &mut Scan<'_>,
        out: &mut impl Output,
    ) {
        let ends = frame_tag == backend::tag::READY_FOR_QUERY && self.status == Status::Idle;
        let hidden = self.unit.attempts > 1 && !matches!(self.unit.outcome, Some(Outcome::Surfaced(_)));
        if !ends || !hidden || !self.is_shown() {
            return;
        }
        let end = self.unit.end(now);
        let cause = self.unit.cause.map_or("other", super::Cause::name);
        let text = format!("Reprise ran this transaction {} times", end.attempts);
        let detail =
            format!("attempts={} retry_ms={} cause={cause}", end.attempts, end.retry_time.as_millis());
        let mut notice = Vec::new();
        encode::notice_with(&mut notice, &text, b'D', &detail);
        scan.flush(out);
        self.deliver_own(&notice, out);
    }

    /// Whether the frame at hand is for the client, and new to it.
    fn is_shown(&self) -> bool {
        let owner = self.outstanding.front().map(|front| front.owner);
        if owner == Some(Owner::Control(Control::EndFailedCommit)) {
            // The client gets the ReadyForQuery of this one, behind the error that it was told.
            return true;
        }
        let asked = matches!(owner, Some(Owner::Journalled(_) | Owner::Unjournalled));
        asked
            && match self.state {
                State::Open | State::Committing | State::Passthrough(_) => true,
                _ => self.is_live(),
            }
    }
}

/// The value that a text sets, if it sets ours.
fn setting(sql: &[u8]) -> Option<Setting> {
    let rest = word(sql.trim_ascii(), b"SET")?;
    let rest = word(rest, b"SESSION").unwrap_or(rest);
    let name = rest.get(..REPORT.len()).filter(|name| name.eq_ignore_ascii_case(REPORT.as_bytes()))?;
    let rest = &rest[name.len()..];
    let value =
        rest.trim_ascii_start().strip_prefix(b"=").or_else(|| word(rest.trim_ascii_start(), b"TO"))?;
    let value = value.trim_ascii();
    let value = value.strip_suffix(b";").unwrap_or(value).trim_ascii();
    let quoted = value.strip_prefix(b"'").and_then(|value| value.strip_suffix(b"'"));
    Some(report_value(quoted.unwrap_or(value)))
}

/// What is behind a first word and the space after it.
fn word<'a>(text: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let (first, rest) = text.split_at_checked(word.len())?;
    let is = first.eq_ignore_ascii_case(word) && rest.first().is_some_and(u8::is_ascii_whitespace);
    is.then(|| rest.trim_ascii_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_ours_is_told_from_all_others() {
        for sql in
            ["SET reprise.report = on", " set session Reprise.Report to 'TRUE' ; ", "SET reprise.report=1"]
        {
            assert_eq!(setting(sql.as_bytes()), Some(Some(true)), "{sql}");
        }
        assert_eq!(setting(b"SET reprise.report TO off"), Some(Some(false)));
        for sql in
            ["SET reprise.report = maybe", "SET reprise.report = on; SELECT 1", "SET reprise.report = "]
        {
            assert_eq!(setting(sql.as_bytes()), Some(None), "{sql}");
        }
        for sql in [
            "SET reprise.reports = on",
            "SET LOCAL reprise.report = on",
            "SETreprise.report = on",
            "SELECT 1",
            "SET",
            "",
        ] {
            assert_eq!(setting(sql.as_bytes()), None, "{sql}");
        }
    }
}
