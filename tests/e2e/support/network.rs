//! A slow network before the database, which counts round trips: how often something is sent only after an answer was read.
//! Time is not measured. The delay is what makes the count exact: whatever is sent without waiting is sent long before the
//! next answer arrives.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use golden::Frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// How long an answer is on its way.
const DELAY: Duration = Duration::from_millis(20);

/// What was sent between two answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RoundTrip {
    /// The messages.
    pub(crate) messages: Vec<Frontend>,
    /// In how many writes they came.
    pub(crate) writes: usize,
}

impl RoundTrip {
    /// The texts of its queries.
    pub(crate) fn queries(&self) -> Vec<&str> {
        self.messages
            .iter()
            .filter_map(|message| match message {
                Frontend::Query(sql) => Some(sql.as_str()),
                _ => None,
            })
            .collect()
    }
}

#[derive(Default)]
struct Log {
    round_trips: Vec<RoundTrip>,
    /// An answer was delivered since the last message.
    answered: bool,
}

/// The network. It ends with the runtime of its test.
pub(crate) struct Network {
    /// Where the database seems to be.
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<Log>>,
}

impl Network {
    pub(crate) async fn before(database: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let log = Arc::new(Mutex::new(Log::default()));
        let network = Self { address, log: Arc::clone(&log) };
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(database).await.expect("the database listens");
                near.set_nodelay(true).and(far.set_nodelay(true)).expect("an option of a socket");
                let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
                tokio::spawn(carry_requests(from_near, to_far, Arc::clone(&log)));
                tokio::spawn(carry_answers(from_far, to_near, Arc::clone(&log)));
            }
        });
        network
    }

    /// The round trips since the last call.
    pub(crate) fn round_trips(&self) -> Vec<RoundTrip> {
        let mut log = self.log.lock().expect("no panic");
        log.answered = true;
        std::mem::take(&mut log.round_trips)
    }
}

async fn carry_requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, log: Arc<Mutex<Log>>) {
    let (mut bytes, mut unread, mut started) = (vec![0; 64 << 10], Vec::new(), false);
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        unread.extend_from_slice(&bytes[..read]);
        {
            let mut log = log.lock().expect("no panic");
            if std::mem::take(&mut log.answered) || log.round_trips.is_empty() {
                log.round_trips.push(RoundTrip::default());
            }
            let round_trip = log.round_trips.last_mut().expect("one was just begun");
            round_trip.writes += 1;
            if !started {
                started = Frontend::read_startup(&mut unread).is_some();
            }
            while let Some(message) = started.then(|| Frontend::read(&mut unread)).flatten() {
                round_trip.messages.push(message);
            }
        }
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

async fn carry_answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, log: Arc<Mutex<Log>>) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        tokio::time::sleep(DELAY).await;
        log.lock().expect("no panic").answered = true;
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}
