//! Random input for everything that reads what a peer sends: no panic, no lie about lengths, no memory without a bound.
//!
//! ```text
//!   bytes         arbitrary bytes: framer, views, startup packets, and the engine
//!   sql           texts in which a COMMIT is, or only seems to be: told by what the engine does
//!   operations    lists of requests, answers, faults and time: the engine against a server of a few lines
//! ```
//!
//! `cargo test --test fuzz` is a short run. A long one, with as many cases as there is time for:
//!
//! ```text
//!   PROPTEST_CASES=1000000 cargo test --release --test fuzz
//! ```
//!
//! What fails is shrunk and printed, operations as a list. Write it down as a conversation in `tests/conversations/`.

mod bytes;
mod operations;
mod server;
mod session;
mod sql;

use proptest::test_runner::Config;

/// The configuration of a test of `cases` cases, unless the environment says how many.
fn cases(cases: u32) -> Config {
    let config = Config { failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() };
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config,
        None => Config { cases, ..config },
    }
}
