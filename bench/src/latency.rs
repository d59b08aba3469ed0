//! The time that a peer adds to one statement of one client, beside the same statement without any peer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use reprise::wire::backend::tag;
use reprise::wire::encode;
use serde::Serialize;

use crate::peers::Peer;
use crate::report::Ratio;
use crate::scale::{READY, STARTUP};

/// Blocks of statements, one on every way in turn, so that whatever else the machine does hits all alike.
const BLOCKS: usize = 100;
/// Statements of a block; its figure is their median.
const STATEMENTS: usize = 100;
const NAME: &str = "select";
const SELECT: &[u8] = b"SELECT abalance FROM pgbench_accounts WHERE aid = 1";

/// How long a prepared select takes.
#[derive(Serialize)]
pub(crate) struct Latency {
    /// Without a peer, in microseconds; the median.
    pub(crate) direct_us: f64,
    /// What each peer adds to that in the same block, in microseconds.
    pub(crate) added_us: Vec<Ratio>,
}

/// Measures all peers in front of a database. The client blocks: a runtime's own threads would be measured with it.
pub(crate) async fn measure(database: SocketAddr, peers: &[Peer]) -> Result<Latency> {
    let addresses: Vec<_> = std::iter::once(database).chain(peers.iter().map(|peer| peer.address)).collect();
    tokio::task::spawn_blocking(move || in_turn(&addresses)).await?
}

fn in_turn(addresses: &[SocketAddr]) -> Result<Latency> {
    let mut ways: Vec<_> = addresses.iter().map(|at| Way::open(*at)).collect::<Result<_>>()?;
    let mut medians = vec![Vec::with_capacity(BLOCKS); ways.len()];
    for block in 0..BLOCKS {
        for at in 0..ways.len() {
            let at = (at + block) % ways.len();
            medians[at].push(ways[at].block()?);
        }
    }
    let direct = &medians[0];
    let added = |peer: &Vec<f64>| {
        Ratio::of(std::iter::zip(peer, direct).map(|(peer, direct)| peer - direct).collect())
    };
    let added_us = medians[1..].iter().map(added).collect();
    Ok(Latency { direct_us: Ratio::of(direct.clone()).median, added_us })
}

/// A connection, with a statement prepared.
struct Way {
    stream: TcpStream,
    select: Vec<u8>,
    answer: Vec<u8>,
}

impl Way {
    fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut way = Self { stream, select: Vec::new(), answer: vec![0; 8 << 10] };
        way.ask(STARTUP)?;
        let mut prepare = Vec::new();
        encode::parse(&mut prepare, NAME.as_bytes(), SELECT);
        encode::sync(&mut prepare);
        way.ask(&prepare)?;
        encode::bind(&mut way.select, NAME);
        encode::execute(&mut way.select, "");
        encode::sync(&mut way.select);
        Ok(way)
    }

    /// The median of a few statements, in microseconds.
    fn block(&mut self) -> Result<f64> {
        let select = std::mem::take(&mut self.select);
        let times = (0..STATEMENTS).map(|_| self.ask(&select));
        let mut times: Vec<_> = times.collect::<Result<_>>()?;
        self.select = select;
        times.sort();
        Ok(times[STATEMENTS / 2].as_secs_f64() * 1e6)
    }

    /// The time from a request to the end of its answer.
    fn ask(&mut self, request: &[u8]) -> Result<Duration> {
        let (begin, mut got) = (Instant::now(), 0);
        self.stream.write_all(request)?;
        while !self.answer[..got].ends_with(READY) {
            let read = self.stream.read(&mut self.answer[got..])?;
            ensure!(read > 0, "the answer ends early: {}", self.answer[..got].escape_ascii());
            got += read;
        }
        let elapsed = begin.elapsed();
        ensure!(self.answer[0] != tag::ERROR_RESPONSE, "{}", self.answer[..got].escape_ascii());
        Ok(elapsed)
    }
}
