//! A relay between a program and what it connects to, which keeps what each connection was sent and how it began.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::middleman::{Middleman, Sides};
use crate::target::PATIENCE;

type Streams = Arc<Mutex<Vec<Stream>>>;

/// How a client began a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Opening {
    /// It asked for TLS, was granted it, and spoke it.
    Asked,
    /// It spoke TLS from the first byte.
    Direct,
    /// It sent a request to cancel that all can read.
    PlainCancel,
    /// Anything else.
    Plain,
}

/// The length and code of an SSLRequest, and of a CancelRequest with a key of four bytes.
pub(crate) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const CANCEL_REQUEST: [u8; 8] = [0, 0, 0, 16, 4, 210, 22, 46];

/// The first byte of a TLS handshake.
pub(crate) const HANDSHAKE: u8 = 0x16;

/// What a server sent on one connection.
#[derive(Default)]
struct Stream {
    bytes: Vec<u8>,
    /// What the client sent first: an SSLRequest, and one byte that follows it.
    beginning: Vec<u8>,
    is_closed: bool,
}

impl Stream {
    /// Whether the server owes no answer.
    fn is_settled(&self) -> bool {
        self.is_closed || frames(&self.bytes).last().is_some_and(|frame| is_ready(frame))
    }

    fn opening(&self) -> Option<Opening> {
        let is_granted = self.bytes.first() == Some(&b'S');
        match (self.beginning.split_first_chunk::<8>(), self.beginning.first()?) {
            (_, &HANDSHAKE) => Some(Opening::Direct),
            (Some((&SSL_REQUEST, [HANDSHAKE])), _) if is_granted => Some(Opening::Asked),
            (Some((&CANCEL_REQUEST, _)), _) => Some(Opening::PlainCancel),
            _ => Some(Opening::Plain),
        }
    }

    /// Its messages, but for the last ReadyForQuery: whether a client that leaves is still told so is a matter of time.
    fn frames(&self) -> Vec<Vec<u8>> {
        let mut frames = frames(&self.bytes);
        while frames.last().is_some_and(|frame| is_ready(frame)) {
            frames.pop();
        }
        frames
    }
}

/// A relay to one address; it ends with the runtime.
pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    streams: Streams,
}

impl Recorder {
    /// Relays bytes as they are.
    pub(crate) async fn start(to: SocketAddr) -> io::Result<Self> {
        Self::listen(move |client| async move {
            let server = TcpStream::connect(to).await?;
            server.set_nodelay(true)?;
            Ok::<Sides, _>((Box::new(client), Box::new(server)))
        })
        .await
    }

    /// Relays what passes within TLS.
    pub(crate) async fn within_tls(to: SocketAddr, middleman: Middleman) -> io::Result<Self> {
        Self::listen(move |client| {
            let middleman = middleman.clone();
            async move { middleman.open(client, to).await }
        })
        .await
    }

    /// Relays what passes between the two sides of each connection that `open` makes of a client.
    async fn listen<F>(open: impl Fn(TcpStream) -> F + Clone + Send + Sync + 'static) -> io::Result<Self>
    where
        F: Future<Output = io::Result<Sides>> + Send,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let streams = Streams::default();
        let kept = Arc::clone(&streams);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let stream = {
                    let mut streams = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    streams.push(Stream::default());
                    streams.len() - 1
                };
                let (kept, open) = (Arc::clone(&kept), open.clone());
                tokio::spawn(async move {
                    let relayed = async {
                        client.set_nodelay(true)?;
                        relay(open(client).await?, Arc::clone(&kept), stream).await
                    };
                    // However it ends, the recording says what came of it.
                    let _ = relayed.await;
                    kept.lock().unwrap_or_else(PoisonError::into_inner)[stream].is_closed = true;
                });
            }
        });
        Ok(Self { address, streams })
    }

    /// How the connections began that carried anything.
    pub(crate) fn openings(&self) -> BTreeSet<Opening> {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.iter().filter_map(Stream::opening).collect()
    }

    /// What was sent so far, frame by frame, in the order of the connections; once every answer has come to its end.
    pub(crate) async fn frames(&self) -> Result<Vec<Vec<Vec<u8>>>> {
        let start = Instant::now();
        loop {
            {
                let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
                if streams.iter().all(Stream::is_settled) {
                    // A connection that only cancels is sent nothing.
                    let told = streams.iter().filter(|stream| !stream.bytes.is_empty());
                    return Ok(told.map(Stream::frames).collect());
                }
            }
            ensure!(start.elapsed() < PATIENCE, "an answer does not come to its end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn relay((client, server): Sides, streams: Streams, stream: usize) -> io::Result<()> {
    let (from_client, to_client) = tokio::io::split(client);
    let (from_server, to_server) = tokio::io::split(server);
    let keep = |keep: fn(&mut Stream, &[u8])| {
        let streams = &streams;
        move |bytes: &[u8]| keep(&mut streams.lock().unwrap_or_else(PoisonError::into_inner)[stream], bytes)
    };
    let begin = keep(|stream, bytes| {
        let missing = (SSL_REQUEST.len() + 1).saturating_sub(stream.beginning.len()).min(bytes.len());
        stream.beginning.extend_from_slice(&bytes[..missing]);
    });
    let record = keep(|stream, bytes| stream.bytes.extend_from_slice(bytes));
    tokio::try_join!(copy(from_client, to_server, begin), copy(from_server, to_client, record))?;
    Ok(())
}

/// Copies until one side ends; that end is passed on with the drop of the half to write to.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    record: impl Fn(&[u8]),
) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        record(&buffer[..length]);
        to.write_all(&buffer[..length]).await?;
        to.flush().await?;
    }
}

/// A server's messages, the key to cancel by masked: each connection has another one.
fn frames(mut stream: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some((length, _)) = stream.get(1..).and_then(|rest| rest.split_first_chunk::<4>()) {
        let end = (1 + u32::from_be_bytes(*length) as usize).min(stream.len());
        let (frame, rest) = stream.split_at(end);
        let shown = if frame[0] == b'K' { 5 } else { end };
        frames.push(frame[..shown].to_vec());
        stream = rest;
    }
    frames
}

/// Whether a message is ReadyForQuery.
fn is_ready(frame: &[u8]) -> bool {
    frame[0] == b'Z'
}

/// Where two recordings differ first, in words.
pub(crate) fn difference(direct: &[Vec<Vec<u8>>], through: &[Vec<Vec<u8>>]) -> Option<String> {
    if direct.len() != through.len() {
        return Some(format!("{} connections directly, {} through Reprise", direct.len(), through.len()));
    }
    let pairs = direct.iter().zip(through).enumerate();
    pairs.into_iter().find_map(|(connection, (direct, through))| {
        let length = direct.len().max(through.len());
        let at = (0..length).find(|at| direct.get(*at) != through.get(*at))?;
        let text = |frames: &[Vec<u8>]| frames.get(at).map_or("nothing".into(), |frame| show(frame));
        let (direct, through) = (text(direct), text(through));
        Some(format!("connection {connection}, message {at}: {direct} directly, {through} through Reprise"))
    })
}

fn show(frame: &[u8]) -> String {
    frame.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[tag], &length[..], body].concat()
    }

    #[test]
    fn recordings_differ_by_any_byte_but_those_of_the_key() {
        let one = frames(&[message(b'K', b"12345678"), message(b'Z', b"I")].concat());
        let other = frames(&[message(b'K', b"87654321"), message(b'Z', b"I")].concat());
        let failed = frames(&[message(b'K', b"12345678"), message(b'Z', b"E")].concat());
        assert_eq!(difference(slice::from_ref(&one), &[other]), None);
        let told = difference(slice::from_ref(&one), &[failed]).unwrap();
        assert!(told.contains("message 1") && told.contains("x05I directly"), "{told}");
        let told = difference(slice::from_ref(&one), &[vec![one[0].clone()]]).unwrap();
        assert!(told.contains("nothing through Reprise"), "{told}");
        assert!(difference(&[one], &[]).is_some());
    }

    #[test]
    fn an_answer_has_come_to_its_end_when_the_server_is_ready_or_gone() {
        let (complete, ready) = (message(b'C', b"SELECT 1\0"), message(b'Z', b"I"));
        let stream = |bytes: Vec<u8>, is_closed| Stream { bytes, is_closed, ..Stream::default() };
        let whole = stream([&complete[..], &ready, &ready].concat(), false);
        assert!(whole.is_settled());
        assert!(!stream(complete.clone(), false).is_settled());
        assert!(stream(complete, true).is_settled());
        assert_eq!(whole.frames().len(), 1);
    }

    #[test]
    fn an_opening_is_encrypted_only_if_tls_was_spoken() {
        let opening = |beginning: &[&[u8]], answer: &[u8]| {
            Stream { bytes: answer.to_vec(), beginning: beginning.concat(), is_closed: false }.opening()
        };
        assert_eq!(opening(&[], b""), None);
        assert_eq!(opening(&[&SSL_REQUEST, &[HANDSHAKE]], b"S"), Some(Opening::Asked));
        assert_eq!(opening(&[&SSL_REQUEST, &[HANDSHAKE]], b"N"), Some(Opening::Plain));
        assert_eq!(opening(&[&SSL_REQUEST, &[0]], b"S"), Some(Opening::Plain));
        assert_eq!(opening(&[&[HANDSHAKE, 3, 1]], b""), Some(Opening::Direct));
        assert_eq!(opening(&[&CANCEL_REQUEST, &[1]], b""), Some(Opening::PlainCancel));
        assert_eq!(opening(&[&[0, 0, 0, 50, 0, 3, 0, 0], b"u"], b"R"), Some(Opening::Plain));
    }

    #[test]
    fn a_message_that_was_cut_off_is_no_whole_one() {
        let whole = message(b'D', b"12345678");
        assert_eq!(frames(&whole[..9]), [&whole[..9]]);
        assert_ne!(frames(&whole[..9]), frames(&whole));
    }
}
