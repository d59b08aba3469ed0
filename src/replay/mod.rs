//! The engine that decides: forward, hold, replay or give up. Pure: no socket, clock, task, log or metric.
//!
//! ```text
//! requests ──> journal ───┐            engine     the calls, and what they ask for
//!    │                    │            requests   what the client sends
//!    │                    │            classify   what they run
//!    v                    v            answers    what the server sends, paired with the requests
//! outstanding           retry          results    answers delivered, or compared with what was delivered
//!    │                    │            held       answers that the client cannot act on yet
//!    │                    │            deferred   a BEGIN that waits for the first statement
//!    │                    │            lock_table LOCK TABLE, where the database has none
//!    │                    │            gate       a place to wait for, before the first statement or a replay
//!    │                    │            enclosed   a block around what was shown in autocommit, to compare before it commits
//!    ^                    │            retry      drain, pause, send again, catch up
//!    │                    │            copying    a COPY asks for its data
//!    │                    │            turn       a replay waits for others to end
//!    │                    │            keep_alive whoever waits is not taken for idle
//!    │                    v            cockroach  its savepoint, and RELEASE before COMMIT
//! answers ─> results ─> surfacing      surfacing  a conflict that cannot be hidden
//! ```

mod answers;
mod backoff;
mod batch;
mod calm;
mod cause;
mod classify;
#[cfg(test)]
mod client;
mod cockroach;
mod copying;
mod cycle;
mod deferred;
mod digest;
mod enclosed;
mod encounter;
mod engine;
mod event;
mod explain;
mod fingerprint;
mod gate;
mod held;
mod intent;
mod journal;
mod keep_alive;
mod lexer;
mod lock_table;
mod normalise;
mod outstanding;
mod owner;
mod policy;
mod prepared;
mod reason;
mod refusal;
mod report;
mod request;
mod requests;
mod results;
mod retry;
mod rows;
mod savepoint;
mod scan;
mod state;
mod statement;
mod surfacing;
mod turn;
mod unit;

pub use cause::Cause;
pub use cockroach::forces_restart;
pub use encounter::{Encounter, Statement};
pub use engine::{Engine, Output};
pub use event::{Event, Outcome, Phase, TransactionEnd};
pub use fingerprint::Fingerprint;
pub use gate::Place;
pub use intent::{Intent, Values};
pub use normalise::{normalised, target};
pub use policy::{Begin, Dialect, LockTable, Mode, Policy};
pub use reason::Reason;
pub use report::{REPORT, report_value};
