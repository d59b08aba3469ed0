//! What the relay does with each message of a connection.

use std::sync::Arc;

use super::Weather;
use super::frames;

/// What is to be done with a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// These bytes go to the server.
    Send(Vec<u8>),
    /// The connection breaks before the server got it.
    HangUp,
}

/// What is to be done with an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// These bytes go to the client.
    Send(Vec<u8>),
    /// The client will not get it.
    Withhold,
    /// The connection breaks, and the client does not get it.
    HangUp,
}

/// Where a connection stands. A cycle is what one ReadyForQuery answers.
#[derive(Debug)]
pub(super) struct Script {
    weather: Arc<Weather>,
    /// Cycles of which the server has got the last message.
    asked: u64,
    /// Cycles that the server has answered.
    answered: u64,
    /// The cycle in which the server was made to fail, until it is answered.
    struck: Option<u64>,
    /// The cycle whose answers are the first that the client does not get.
    last: Option<u64>,
    /// The status of the last ReadyForQuery.
    status: u8,
}

impl Script {
    pub(super) fn new(weather: Arc<Weather>) -> Self {
        Self { weather, asked: 0, answered: 0, struck: None, last: None, status: b'I' }
    }

    /// Decides on a request.
    pub(super) fn request(&mut self, frame: Vec<u8>) -> Request {
        let is_commit = frames::query_text(&frame) == "COMMIT";
        if self.weather.loses_before(is_commit) {
            return Request::HangUp;
        }
        let cycle = self.asked;
        self.asked += u64::from(matches!(frame.first(), Some(b'Q' | b'S' | b'F')));
        if is_commit && self.last.is_none() && self.weather.loses_after_commit() {
            self.last = Some(cycle);
        }
        // A server fails once: what follows in a transaction that has failed has an error of its own.
        if self.struck.is_none() && is_work(&frame) && self.weather.strikes(&frame) {
            self.struck = Some(cycle);
            return Request::Send(frames::failing(&frame));
        }
        Request::Send(frame)
    }

    /// Decides on an answer.
    pub(super) fn answer(&mut self, frame: Vec<u8>) -> Answer {
        let withheld = self.last.is_some_and(|last| self.answered >= last);
        let already_failed = self.status == b'E';
        if frame.first() == Some(&b'Z') {
            self.status = frame.last().copied().unwrap_or_default();
            // The greeting ends with the only ReadyForQuery that nobody asked for.
            if self.asked > self.answered {
                self.struck = self.struck.filter(|struck| *struck != self.answered);
                self.answered += 1;
            }
            return if withheld { Answer::HangUp } else { Answer::Send(frame) };
        }
        match (withheld, frames::is_own_error(&frame)) {
            (true, _) => Answer::Withhold,
            (false, true) => Answer::Send(frames::conflict(already_failed)),
            (false, false) => Answer::Send(frame),
        }
    }
}

/// Whether a request can meet a conflict: COMMIT does so by a trigger, and beginning or rolling back never does.
fn is_work(frame: &[u8]) -> bool {
    const CONTROL: [&str; 6] = ["BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT"];
    match frame.first() {
        Some(b'Q') => !CONTROL.iter().any(|word| frames::query_text(frame).starts_with(word)),
        Some(tag) => matches!(tag, b'P' | b'B' | b'D' | b'E'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use golden::{Backend, Frontend};

    use super::*;

    fn script() -> Script {
        Script::new(Arc::new(Weather::certain()))
    }

    fn query(sql: &str) -> Vec<u8> {
        Frontend::Query(sql.into()).encode()
    }

    fn sqlstate(answer: Answer) -> String {
        let Answer::Send(mut bytes) = answer else { panic!("{answer:?}") };
        let Some(Backend::ErrorResponse(fields)) = Backend::read(&mut bytes) else { panic!("{bytes:?}") };
        fields.get('C').expect("a code").to_owned()
    }

    fn syntax_error() -> Vec<u8> {
        let fields = [('C', "42601"), ('M', "syntax error at or near \"reprise_strikes\"")];
        let fields = fields.map(|(letter, text)| (letter, text.to_owned())).to_vec();
        Backend::ErrorResponse(golden::notation::Fields(fields)).encode()
    }

    #[test]
    fn a_statement_fails_once_and_control_is_spared() {
        let mut script = script();
        assert_eq!(script.request(query("BEGIN")), Request::Send(query("BEGIN")));
        assert_ne!(script.request(query("SELECT 1")), Request::Send(query("SELECT 1")));
        assert_eq!(script.request(query("SELECT 2")), Request::Send(query("SELECT 2")));
        script.answer(Backend::ReadyForQuery('T').encode());
        assert_eq!(sqlstate(script.answer(syntax_error())), "40001");
        script.answer(Backend::ReadyForQuery('E').encode());
        assert_ne!(script.request(query("SELECT 3")), Request::Send(query("SELECT 3")));
        assert_eq!(sqlstate(script.answer(syntax_error())), "25P02");
    }

    #[test]
    fn a_commit_that_is_lost_afterwards_was_carried_out() {
        let mut weather = Weather::certain();
        weather.lost_after_commit = 1.0;
        let mut script = Script::new(Arc::new(weather));
        assert_eq!(script.request(query("COMMIT")), Request::Send(query("COMMIT")));
        assert_eq!(script.answer(Backend::CommandComplete("COMMIT".into()).encode()), Answer::Withhold);
        assert_eq!(script.answer(Backend::ReadyForQuery('I').encode()), Answer::HangUp);
    }
}
