//! A relay between Reprise and PostgreSQL that makes the server fail and breaks connections, by a seed.
//!
//! A server that is to fail gets a message that it cannot parse in place of the client's: it fails the statement and its
//! transaction as it does for any error, skips what it has to skip, and only the words of its error are exchanged for
//! those of a conflict.

mod frames;
mod script;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use script::{Answer, Request, Script};

/// What goes wrong, and how often.
#[derive(Debug)]
pub(crate) struct Weather {
    random: Mutex<fastrand::Rng>,
    /// Nothing goes wrong before it is set.
    pub(crate) is_bad: AtomicBool,
    /// The share of statements in a Query that fail.
    pub(crate) failing_queries: f64,
    /// The share of Parse, Bind, Describe and Execute that fail.
    pub(crate) failing_steps: f64,
    /// The share of messages before which the connection breaks.
    pub(crate) lost: f64,
    /// The share of COMMITs before which it does.
    pub(crate) lost_before_commit: f64,
    /// The share of COMMITs whose answer is lost.
    pub(crate) lost_after_commit: f64,
    /// How many statements were made to fail.
    pub(crate) strikes: AtomicU64,
    /// How many connections were broken.
    pub(crate) losses: AtomicU64,
}

impl Weather {
    /// Conflicts at every step and a few lost connections; calm at first.
    pub(crate) fn stormy(seed: u64) -> Self {
        Self {
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            is_bad: AtomicBool::new(false),
            failing_queries: 0.2,
            failing_steps: 0.07,
            lost: 0.0005,
            lost_before_commit: 0.015,
            lost_after_commit: 0.03,
            strikes: AtomicU64::new(0),
            losses: AtomicU64::new(0),
        }
    }

    /// Every statement fails; no connection is lost.
    #[cfg(test)]
    fn certain() -> Self {
        Self {
            is_bad: AtomicBool::new(true),
            failing_queries: 1.0,
            failing_steps: 1.0,
            lost: 0.0,
            lost_before_commit: 0.0,
            lost_after_commit: 0.0,
            ..Self::stormy(0)
        }
    }

    fn happens(&self, share: f64, counter: &AtomicU64) -> bool {
        let mut random = self.random.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let happens = self.is_bad.load(Ordering::Relaxed) && random.f64() < share;
        counter.fetch_add(u64::from(happens), Ordering::Relaxed);
        happens
    }

    fn strikes(&self, frame: &[u8]) -> bool {
        let share = if frame.first() == Some(&b'Q') { self.failing_queries } else { self.failing_steps };
        self.happens(share, &self.strikes)
    }

    fn loses_before(&self, is_commit: bool) -> bool {
        self.happens(if is_commit { self.lost_before_commit } else { self.lost }, &self.losses)
    }

    fn loses_after_commit(&self) -> bool {
        self.happens(self.lost_after_commit, &self.losses)
    }
}

/// Starts a relay before a server; it runs as long as the runtime of its test.
pub(crate) async fn start(upstream: SocketAddr, weather: Arc<Weather>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(relay(client, upstream, Script::new(Arc::clone(&weather))));
        }
    });
    Ok(address)
}

/// Passes messages on until one side, or the script, ends the connection.
async fn relay(mut client: TcpStream, upstream: SocketAddr, mut script: Script) -> io::Result<()> {
    let mut server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut requests, mut answers) = (Vec::new(), Vec::new());
    greet(&mut client, &mut server, &mut requests).await?;
    loop {
        tokio::select! {
            read = client.read_buf(&mut requests) => {
                let pass = pass_requests(&mut script, &mut requests);
                server.write_all(&pass.bytes).await?;
                if read? == 0 || pass.ends { return Ok(()) }
            }
            read = server.read_buf(&mut answers) => {
                let pass = pass_answers(&mut script, &mut answers);
                client.write_all(&pass.bytes).await?;
                if read? == 0 || pass.ends { return Ok(()) }
            }
        }
    }
}

/// Passes the startup packet on, and nothing behind it.
async fn greet(client: &mut TcpStream, server: &mut TcpStream, received: &mut Vec<u8>) -> io::Result<()> {
    loop {
        if let Some(packet) = frames::cut(received, false) {
            return server.write_all(&packet).await;
        }
        if client.read_buf(received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Bytes to be written, and whether the connection ends behind them.
#[derive(Default)]
struct Pass {
    bytes: Vec<u8>,
    ends: bool,
}

fn pass_requests(script: &mut Script, received: &mut Vec<u8>) -> Pass {
    let mut pass = Pass::default();
    while let Some(frame) = frames::cut(received, true) {
        match script.request(frame) {
            Request::Send(bytes) => pass.bytes.extend(bytes),
            Request::HangUp => return Pass { ends: true, ..pass },
        }
    }
    pass
}

fn pass_answers(script: &mut Script, received: &mut Vec<u8>) -> Pass {
    let mut pass = Pass::default();
    while let Some(frame) = frames::cut(received, true) {
        match script.answer(frame) {
            Answer::Send(bytes) => pass.bytes.extend(bytes),
            Answer::Withhold => {}
            Answer::HangUp => return Pass { ends: true, ..pass },
        }
    }
    pass
}
