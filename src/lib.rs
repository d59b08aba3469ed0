//! Reprise: a PostgreSQL-wire proxy that makes transaction conflicts invisible to applications.

pub mod cli;
pub mod config;
pub mod demo;
pub mod proxy;
pub mod replay;
pub mod telemetry;
pub mod wire;
