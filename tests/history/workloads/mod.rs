//! What the clients do: each workload is made so that one kind of anomaly would show in it.

mod bank;
mod counters;
mod doctors;
mod families;
mod lists;
mod savepoints;
