//! The engine that decides: forward, hold, replay or give up. Pure: no socket, clock, task, log or metric.
//!
//! ```text
//! requests ──> journal ──┐                 engine    the calls, and what they ask for
//!    │                   │                 requests  what the client sends
//!    v                   v                 answers   what the server sends
//! outstanding        retry, commit         retry     drain, pause, send again, catch up
//!    ^                   │                 commit    RELEASE and COMMIT of the cockroach dialect
//!    │                   v                 surfacing a conflict that cannot be hidden
//! answers ──> digest ──> surfacing
//! ```

mod answers;
mod backoff;
mod commit;
mod digest;
mod engine;
mod event;
mod explain;
mod journal;
mod outstanding;
mod policy;
mod prepared;
mod reason;
mod requests;
mod retry;
mod state;
mod statement;
mod surfacing;
mod unit;

pub use engine::{Engine, Output};
pub use event::{Event, Outcome, Phase, TransactionEnd};
pub use policy::{Dialect, Mode, Policy};
pub use reason::Reason;
