//! Reprise: a PostgreSQL-wire proxy that makes transaction conflicts invisible to applications.

pub mod config;
pub mod replay;
pub mod telemetry;
pub mod wire;
