//! The engine that decides: forward, hold, replay or give up. Pure: no socket, clock, task, log or metric.

mod event;
mod policy;
mod reason;

pub use event::{Event, Outcome, Phase, TransactionEnd};
pub use policy::{Dialect, Mode, Policy};
pub use reason::Reason;
