//! One request without its answer yet, and which frames answer it.

use super::batch::{self, BATCH};
use super::owner::Owner;
use crate::wire::frontend::tag;

/// A request without its answer yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// The type byte of the request, or [`BATCH`].
    pub(super) tag: u8,
    /// Whose it is.
    pub(super) owner: Owner,
    /// The client has asked for the answers up to this one.
    pub(super) flushed: bool,
    /// It may commit the transaction.
    pub(super) commits: bool,
    /// It went out as `RELEASE ...; COMMIT` in the place of a COMMIT.
    pub(super) releases: bool,
    /// It runs the empty statement in the place of a LOCK TABLE, if there is one.
    pub(super) locks: bool,
    /// It changes a name of [`super::prepared::Prepared`].
    pub(super) names: bool,
    /// Ends of COPY data that were sent right behind it, before the server asked for the data.
    pub(super) copies_ahead: u32,
}

/// How a frame fits the request that is to be answered next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// It is a part of the answer.
    Continues,
    /// It is the end of the answer.
    Ends,
    /// It is no answer to that request.
    Foreign,
}

impl Request {
    pub(super) const fn new(tag: u8, owner: Owner) -> Self {
        let (flushed, commits, releases, locks, names) = (false, false, false, false, false);
        Self { tag, owner, flushed, commits, releases, locks, names, copies_ahead: 0 }
    }

    /// Whether a ReadyForQuery ends its answer.
    pub(super) const fn is_cycle_end(&self) -> bool {
        batch::ends_cycle(self.tag)
    }

    /// Whether its ReadyForQuery is that of a COMMIT: of its own, or of the batch that it stands in.
    pub(super) const fn ends_commit(self) -> bool {
        self.releases || matches!(self.tag, tag::SYNC)
    }

    /// How a frame of this type fits the request.
    pub(super) fn fit(self, frame_tag: u8) -> Fit {
        use crate::wire::backend::tag as answer;
        match (self.tag, frame_tag) {
            (tag::QUERY | BATCH | tag::SYNC | tag::FUNCTION_CALL, answer::READY_FOR_QUERY) => Fit::Ends,
            (tag::SYNC, _) => Fit::Foreign,
            (tag::QUERY | BATCH | tag::FUNCTION_CALL, _) => Fit::Continues,
            (tag::PARSE, answer::PARSE_COMPLETE)
            | (tag::BIND, answer::BIND_COMPLETE)
            | (tag::CLOSE, answer::CLOSE_COMPLETE)
            | (tag::DESCRIBE, answer::ROW_DESCRIPTION | answer::NO_DATA)
            | (
                tag::EXECUTE,
                answer::COMMAND_COMPLETE | answer::EMPTY_QUERY_RESPONSE | answer::PORTAL_SUSPENDED,
            ) => Fit::Ends,
            (tag::DESCRIBE, answer::PARAMETER_DESCRIPTION) => Fit::Continues,
            (tag::EXECUTE, answer::DATA_ROW | answer::COPY_DATA | answer::COPY_DONE) => Fit::Continues,
            (tag::EXECUTE, answer::COPY_IN_RESPONSE | answer::COPY_OUT_RESPONSE) => Fit::Continues,
            _ => Fit::Foreign,
        }
    }
}
