//! Histories: many clients without a retry loop behind Reprise, servers that fail all the time, and afterwards the
//! question whether what the clients were told and what the database holds can be one story.
//!
//! ```text
//! workloads ──> client ──> Reprise ──> relay ──> PostgreSQL     strikes at statements, lost connections;
//!     │            │           │                    └ trigger    strikes at COMMIT
//!     │            │           └─────────> the CockroachDB double, which fails by itself
//!     v            v
//!   audit <──── history ──> contradictions
//! ```
//!
//! Nothing that goes wrong is made up: the server has really failed the statement, really rolled the transaction back
//! and really committed, or not, what was in doubt. All choices come from a seed, which a failure prints; the order in
//! which sessions meet is the scheduler's.

mod arena;
mod client;
mod demo;
mod graph;
mod history;
mod postgres;
mod relay;
mod run;
mod workloads;
