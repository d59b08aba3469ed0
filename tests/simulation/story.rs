//! What was run and what it gave, in the words in which clients and database are compared.

use std::fmt::{self, Display, Formatter};

use golden::Backend;

use crate::sql::Tag;

/// What part of the protocol a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Run,
    Parse,
    Bind,
    DescribeStatement,
    DescribePortal,
}

/// The name of a step: the same for a client and for the database. A portal that is read in parts has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct StepId {
    pub(crate) kind: Kind,
    pub(crate) tag: Tag,
    pub(crate) part: u32,
}

impl Display for StepId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.kind, self.tag)?;
        if self.part > 0 { write!(f, " part {}", self.part) } else { Ok(()) }
    }
}

/// One request, or one statement of a string, with its results in the form in which they are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) id: StepId,
    pub(crate) frames: Vec<Backend>,
}

/// How an attempt began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// Without BEGIN.
    Implicit,
    /// With BEGIN.
    Explicit,
    /// With a BEGIN that the engine added, around what the client runs in autocommit.
    Enclosed,
    /// In the state that a RELEASE of the restart savepoint leaves.
    AfterRelease,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// With the last of its steps, or as a statement in autocommit does.
    Committed,
    /// With a RELEASE that the engine added in place of the client's COMMIT.
    Released,
    /// By a change of the schema that commits first.
    CommittedByDefinition,
    /// Undone.
    Aborted,
}

/// One run of one transaction in the database.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) client: u32,
    pub(crate) connection: u32,
    pub(crate) opening: Opening,
    pub(crate) closing: Closing,
    pub(crate) steps: Vec<Step>,
}

/// The form in which frames are compared: errors by what they are about, never by their text.
pub(crate) fn comparable(frame: &Backend) -> Backend {
    match frame {
        Backend::ErrorResponse(fields) => {
            let about = fields.0.iter().filter(|(letter, _)| "Cnstc".contains(*letter)).cloned().collect();
            Backend::ErrorResponse(golden::notation::Fields(about))
        }
        other => other.clone(),
    }
}

/// The SQLSTATE of an error.
pub(crate) fn sqlstate(frame: &Backend) -> Option<&str> {
    match frame {
        Backend::ErrorResponse(fields) => fields.get('C'),
        _ => None,
    }
}
