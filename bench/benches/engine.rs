//! Micro-benchmarks of the engine's parts, each through the calls that the proxy makes: `cargo bench -p bench`

use std::sync::Arc;
use std::time::Duration;

use bench::recorded::{BULK, RECORDED, Session};
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use reprise::replay::{Dialect, Engine, Event, Mode, Output, Policy};
use reprise::wire::Header;

fn main() {
    divan::main();
}

/// Takes everything and keeps nothing.
struct Nowhere;

impl Output for Nowhere {
    fn frontend(&mut self, bytes: &[u8]) {
        black_box(bytes);
    }

    fn backend(&mut self, bytes: &[u8]) {
        black_box(bytes);
    }

    fn report(&mut self, event: Event) {
        black_box(event);
    }

    fn hold(&mut self, journal_bytes: usize) -> bool {
        black_box(journal_bytes);
        true
    }

    fn close(&mut self) {}
}

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

fn engine(mode: Mode) -> Engine {
    Engine::new(Arc::new(Policy { mode, ..Policy::default() }), Dialect::Postgres, 1)
}

/// The framer alone: rows of so many bytes, header after header.
#[divan::bench(args = [16, 200, 4000])]
fn framer(bencher: Bencher<'_, '_>, row_bytes: usize) {
    let rows = frame(b'D', &vec![0; row_bytes]).repeat(100);
    bencher.counter(ItemsCount::new(100_usize)).bench(|| {
        let (mut at, mut frames) = (0, 0);
        while let Ok(Some(header)) = Header::parse(black_box(&rows[at..])) {
            at += header.frame_bytes;
            frames += 1;
        }
        frames
    });
}

/// The texts that the classifier reads.
const TEXTS: [&str; 4] = [
    "SELECT abalance FROM pgbench_accounts WHERE aid = 15021",
    "UPDATE pgbench_accounts SET abalance = abalance + -1023 WHERE aid = 15021;",
    "/* orders/pay */ SELECT id, total FROM orders WHERE customer = $1 AND state = 'open' ORDER BY id LIMIT 10",
    "WITH due AS (SELECT id FROM jobs WHERE at < now() FOR UPDATE SKIP LOCKED) DELETE FROM jobs USING due WHERE jobs.id = due.id",
];

/// The classifier, with a Query and its answer in autocommit around it.
#[divan::bench(args = TEXTS)]
fn classifier(bencher: Bencher<'_, '_>, text: &str) {
    let query = frame(b'Q', &[text.as_bytes(), &[0]].concat());
    let answer = [frame(b'C', b"SELECT 0\0"), frame(b'Z', b"I")].concat();
    let mut engine = engine(Mode::Observe);
    bencher.counter(BytesCount::of_str(text)).bench_local(|| {
        let _ = black_box(engine.handle_frontend(Duration::ZERO, black_box(&query), &mut Nowhere));
        let _ = black_box(engine.handle_backend(Duration::ZERO, black_box(&answer), &mut Nowhere));
    });
}

/// A large answer: with the digest in transparent mode, framed only in the others.
#[divan::bench(args = Mode::ALL.map(Mode::name))]
fn digest(bencher: Bencher<'_, '_>, mode: &str) {
    play(bencher, BULK, mode);
}

/// All steps of the engine in a session of pgbench.
#[divan::bench(args = RECORDED.map(|(name, _)| name))]
fn step(bencher: Bencher<'_, '_>, name: &str) {
    play(bencher, name, "transparent");
}

fn play(bencher: Bencher<'_, '_>, name: &str, mode: &str) {
    let session = Session::named(name).expect("a session of that name");
    let mode = Mode::ALL.into_iter().find(|known| known.name() == mode).expect("a mode");
    bencher.counter(ItemsCount::new(session.round_trips())).bench(|| session.play(mode));
}
