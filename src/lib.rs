//! Reprise: a PostgreSQL-wire proxy that makes transaction conflicts invisible to applications.
//!
//! This page is for who reads the code: the map, the rules that it never breaks, and the words. What the program does for
//! its users, and every option, is in `README.md`.
//!
//! # The picture
//!
//! ```text
//!            client                                            CockroachDB / PostgreSQL
//!              | bytes                                               | bytes
//!   +----------v-----------------------------------------------------v---------+
//!   | proxy    owns sockets, clock and tasks; moves bytes                      |
//!   |       handle_frontend, handle_backend,             Output: bytes for     |
//!   |       timeout, cancel, ..._closed                  either side, events   |
//!   |      +----v-------------------------------------------------^-----+      |
//!   |      | replay   decides: forward, replay, surface, give up        |      |
//!   |      +------------------------------------------------------------+      |
//!   | wire     frames, and views of the few messages that are read             |
//!   +--------------------------------------------------------------------------+
//! ```
//!
//! The arrows go one way: [`proxy`] to [`replay`] to [`wire`]. `replay` and `wire` are pure. They know no socket, clock,
//! task, log or metric: time is an argument, randomness comes from a seed, and what is worth counting goes out as a value.
//! So the sockets of the proxy, a recorded conversation and a simulator drive the very same calls. `tests/architecture`
//! enforces it, and the arrows of the table that follows.
//!
//! # Layout
//!
//! | module | what it is for | what it may use |
//! |---|---|---|
//! | [`wire`] | frames, startup packets, views of messages, SQLSTATEs | nothing |
//! | [`replay`] | the engine of one session, and the policy within which it acts | `wire` |
//! | [`governor`] | contention classes: how many of their transactions run at a time, and who is next | nothing |
//! | [`insight`] | what is remembered for reports: sessions, coverage, what is fought for | `replay`, `wire` |
//! | [`telemetry`] | events become metrics, log lines and spans; the HTTP endpoint | `insight`, `replay`, `wire` |
//! | [`config`] | file, environment and flags become one validated value | `replay`, `governor`, `insight`, `telemetry` |
//! | [`proxy`] | listener, TLS, handshake, logins, session loop, cancel | all of the above |
//! | [`demo`] | the demonstration, and throwaway database servers for it and for the tests | `replay` |
//! | [`cli`] | arguments, subcommands, exit codes; wires everything together | all of the above |
//!
//! Inside `replay`, where the work is:
//!
//! | file | what it is for |
//! |---|---|
//! | `state.rs` | where a session stands, with the legal moves drawn beside it |
//! | `engine.rs` | the calls, and the [`replay::Output`] that answers them |
//! | `requests.rs`, `answers.rs`, `results.rs`, `rows.rs`, `scan.rs` | what client and server send, told apart |
//! | `journal.rs`, `digest.rs` | what is kept of requests, and what of answers |
//! | `cycle.rs`, `calm.rs` | a cycle that runs one statement, and answers that are whole and well: most are, and are taken at once |
//! | `batch.rs` | a batch of the extended protocol that is one request |
//! | `outstanding.rs`, `request.rs`, `owner.rs` | the requests that the server has not answered yet, and whose they are |
//! | `held.rs`, `deferred.rs` | answers that the client cannot act on yet; a BEGIN that waits for the first statement |
//! | `encounter.rs`, `normalise.rs` | a conflict in full for those who report on it, and statements without their data |
//! | `gate.rs`, `fingerprint.rs` | a place among those that contend to wait for, and what a transaction is known by there |
//! | `copying.rs` | a COPY that asks for its data, in a cycle and in a replay |
//! | `lock_table.rs` | LOCK TABLE, answered where the database has none |
//! | `retry.rs`, `refusal.rs`, `cockroach.rs` | a conflict and what follows, and what the cockroach dialect adds |
//! | `backoff.rs`, `turn.rs`, `keep_alive.rs` | the pause before a replay, its turn among those of all sessions, and the server meanwhile |
//! | `surfacing.rs`, `explain.rs`, `reason.rs` | a conflict that cannot be hidden, and its words |
//! | `report.rs` | what a client that asks for it is told of a conflict that was hidden |
//! | `statement.rs`, `lexer.rs`, `savepoint.rs`, `prepared.rs`, `unit.rs` | what a text does to the transaction, and what is known of that |
//! | `policy.rs`, `event.rs`, `cause.rs` | what the operator allows; what the engine reports; what the database names as the cause |
//!
//! # The rules
//!
//! A client may decide its next statement by what it has been shown. So a conflict may be hidden only if the attempt that
//! commits would have shown the client exactly what it was shown. What follows from that:
//!
//! - **I1, one story.** Every result that a client was shown in a transaction that was committed is the one that the
//!   committing attempt gave; of an error, the SQLSTATE and the objects that it is about. There is no mode that looks away.
//!   *Where:* `replay/digest.rs` says what is compared, `results.rs` compares each frame of a replay, and `retry.rs` lets
//!   nothing out that may commit before all before it is verified.
//!   *Tests:* unit tests of `digest.rs`, `tests/conversations`, `tests/e2e`, `tests/simulation`, `tests/history`; and
//!   `tests/demo.rs`, whose audit finds a proxy that lies.
//! - **I2, undelivered is free.** What the client has not been shown is not compared: it gets the new answer.
//!   *Where:* `journal.rs` counts what was delivered of each answer; `results.rs` goes over to delivering behind it; `held.rs`
//!   keeps back what the client cannot act on.
//!   *Tests:* `tests/conversations`, `tests/simulation`.
//! - **I3, commit at most once.** A commit whose answer was lost, or was 40003, is never sent again: the client is told that
//!   its outcome is unknown.
//!   *Where:* `engine.rs` (`backend_closed`), `cockroach.rs` and `refusal.rs`: a request that may have committed
//!   something is not sent twice.
//!   *Tests:* `tests/conversations`, `tests/e2e`, `tests/simulation`, `tests/history`.
//! - **I4, nothing added, nothing lost.** A committed attempt ran the client's statements, all of them and in order, failed
//!   and undone ones included. Only transaction control is added. A named statement that the client was told of is left as it
//!   is: no rollback undoes it, and preparing it again could only lose it.
//!   *Where:* `journal.rs` keeps frames as they came, and `retry.rs` writes them all; what Reprise adds has its own
//!   owner in `outstanding.rs`.
//!   *Tests:* unit tests of both, `tests/conversations`, `tests/simulation`.
//! - **I5, honest refusal.** A conflict that cannot be hidden is the database's own error, with what was tried, what stood in the
//!   way and what to change, on a session in the status that it would be in without Reprise.
//!   *Where:* `surfacing.rs`, `explain.rs`; the reasons are [`replay::Reason`], and `README.md` has a row for each.
//!   *Tests:* unit tests of `explain.rs`, `tests/readme.rs`, `tests/conversations`, `tests/e2e`.
//! - **I6, transparent otherwise.** Without a conflict the client's bytes are the server's, but for the answers to what was
//!   added. What is not understood is passed on and makes the transaction not replayable; it is never an error.
//!   *Where:* `requests.rs` and `answers.rs` forward runs of their input; `unit.rs` and `statement.rs` tell what rules a
//!   replay out.
//!   *Tests:* unit tests of `statement.rs`, `tests/e2e`, which compares bytes with and without Reprise.
//! - **I7, bounded.** Attempts, time, journals, unwritten bytes, connections and startup packets have limits. Passing one makes a
//!   transaction not replayable or surfaces its conflict; it fails nothing that would have succeeded.
//!   *Where:* [`replay::Policy`], `Engine::room_for`, [`telemetry::JournalBudget`], `outstanding.rs` (`REQUESTS_MAX`),
//!   `proxy/connection.rs` (`BACKLOG_BYTES`), `proxy/listener.rs`, `proxy/crowd.rs`, `wire/startup.rs`.
//!   *Tests:* unit tests of `backoff.rs`, `journal.rs`, `telemetry/budget.rs` and `wire`, `tests/e2e`, `tests/fuzz`.
//!
//! # The words
//!
//! PostgreSQL's own words mean what they mean there: frontend, backend, session, transaction, portal, savepoint. Besides:
//!
//! - *journal*: the requests of the open transaction, as they came.
//! - *digest*: a hash of what the client was shown of one answer.
//! - *attempt*: one run of a transaction; *replay*: an attempt after the first.
//! - *backoff*: the pause between two attempts.
//! - *conflict*: 40001, and in the postgres dialect 40P01 unless that is switched off.
//! - *hidden*: said of a conflict that the client never saw; *surfaced*: of one that it did.
//! - *not replayable*: said of a transaction that is passed on and would be surfaced if it met a conflict, for a *reason*.
//! - *in doubt*: said of a transaction whose commit may or may not have happened.
//! - *dialect*: how a transaction is run again on the server at hand.
//! - *cycle*: the requests up to one that ReadyForQuery answers, a Query or a Sync.
//! - *unit*: what is run again as a whole: a transaction, or a statement in autocommit.
//!
//! # Where to begin
//!
//! 1. `replay/state.rs`: the states and moves, on one screen.
//! 2. `replay/engine.rs`: what can happen, and what may come of it.
//! 3. `replay/requests.rs`, then `answers.rs` and `results.rs`: the way of a calm transaction.
//! 4. `replay/retry.rs`, then `surfacing.rs`: the way of one that meets a conflict.
//! 5. `proxy/session.rs`: the loop that drives all of it with sockets.
//!
//! A file says in its first line what it is for, and has its unit tests at its end or in `tests.rs` beside it. `make test` runs
//! everything.

#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod demo;
pub mod governor;
pub mod insight;
pub mod proxy;
pub mod replay;
pub mod telemetry;
pub mod wire;
