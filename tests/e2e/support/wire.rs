//! A client that speaks the protocol message by message.

use std::fmt::{self, Display, Formatter, Write as _};
use std::net::SocketAddr;

use golden::notation::{CancelKey, Fields};
use golden::{Backend, Frontend};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::database::APPLICATION;
use super::within;

/// What a client speaks over.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// A connection of a client.
pub(crate) struct Wire {
    stream: Box<dyn Socket>,
    received: Vec<u8>,
    /// By which it can be cancelled.
    pub(crate) key: CancelKey,
}

impl Wire {
    /// Connects, and says nothing.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = within("to connect", TcpStream::connect(address)).await.expect("a connection");
        stream.set_nodelay(true).expect("an option of a socket");
        Self::over(stream)
    }

    /// A connection that is there already.
    pub(crate) fn over(stream: impl Socket + 'static) -> Self {
        Self { stream: Box::new(stream), received: Vec::new(), key: CancelKey::default() }
    }

    /// Closes the client's half of the connection.
    pub(crate) async fn say_no_more(&mut self) {
        within("to say no more", self.stream.shutdown()).await.expect("a connection");
    }

    /// A session as the superuser.
    pub(crate) async fn open(address: SocketAddr, database: &str) -> Self {
        let parameters = [("user", "postgres"), ("database", database), ("application_name", APPLICATION)];
        let (wire, greeting) = Self::start(address, &parameters).await;
        assert_eq!(greeting.status(), Some('I'), "{greeting}");
        wire
    }

    /// Starts a session with these parameters; what the server says up to ReadyForQuery or the end.
    pub(crate) async fn start(address: SocketAddr, parameters: &[(&str, &str)]) -> (Self, Answer) {
        let mut wire = Self::connect(address).await;
        let greeting = wire.begin(parameters).await;
        (wire, greeting)
    }

    /// The same on a connection that is there already.
    pub(crate) async fn begin(&mut self, parameters: &[(&str, &str)]) -> Answer {
        self.send([Frontend::startup(parameters.iter().copied())]).await;
        let greeting = self.until_ready().await;
        for message in &greeting.0 {
            if let Backend::BackendKeyData { pid, key } = *message {
                self.key = CancelKey { pid, key };
            }
        }
        greeting
    }

    /// Sends messages in one write.
    pub(crate) async fn send(&mut self, messages: impl IntoIterator<Item = Frontend>) {
        let bytes: Vec<u8> = messages.into_iter().flat_map(|message| message.encode()).collect();
        self.send_bytes(&bytes).await;
    }

    /// Sends bytes.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        let sent = async { self.stream.write_all(bytes).await.and(self.stream.flush().await) };
        within("to send", sent).await.expect("to send");
    }

    /// The next message; `None` at the end of the connection.
    pub(crate) async fn receive(&mut self) -> Option<Backend> {
        loop {
            if let Some(message) = Backend::read(&mut self.received) {
                return Some(message);
            }
            let read = within("an answer", self.stream.read_buf(&mut self.received)).await;
            // A reset is an end too.
            if read.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// The bytes of the next message; `None` at the end of the connection.
    pub(crate) async fn receive_frame(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = frame_end(&self.received, 0) {
                return Some(self.received.drain(..end).collect());
            }
            if within("an answer", self.stream.read_buf(&mut self.received)).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// One byte that is no message.
    pub(crate) async fn receive_byte(&mut self) -> Option<u8> {
        within("a byte", self.stream.read_u8()).await.ok()
    }

    /// Everything up to the next ReadyForQuery, or to the end of the connection.
    pub(crate) async fn until_ready(&mut self) -> Answer {
        self.until(|message| matches!(message, Backend::ReadyForQuery(_))).await
    }

    /// Everything up to such a message, or to the end of the connection.
    pub(crate) async fn until(&mut self, is_last: impl Fn(&Backend) -> bool) -> Answer {
        let mut messages = Vec::new();
        while let Some(message) = self.receive().await {
            let last = is_last(&message);
            messages.push(message);
            if last {
                break;
            }
        }
        Answer(messages)
    }

    /// Everything up to the end of the connection.
    pub(crate) async fn until_closed(&mut self) -> Answer {
        self.until(|_| false).await
    }

    /// The bytes of so many ReadyForQuery and what precedes them.
    pub(crate) async fn bytes_until_ready(&mut self, count: usize) -> Vec<u8> {
        let (mut at, mut seen) = (0, 0);
        while seen < count {
            match frame_end(&self.received, at) {
                Some(end) => {
                    seen += usize::from(self.received[at] == b'Z');
                    at = end;
                }
                None => {
                    self.received.reserve(64 << 10);
                    let read = within("an answer", self.stream.read_buf(&mut self.received)).await;
                    assert!(read.expect("to read") > 0, "closed behind {at} bytes");
                }
            }
        }
        self.received.drain(..at).collect()
    }

    /// Asks to cancel what runs in the session with this key, and waits until that is acted on.
    pub(crate) async fn cancel(mut self, CancelKey { pid, key }: CancelKey) {
        let numbers = [16, 80_877_102, pid, key];
        self.send_bytes(&numbers.map(i32::to_be_bytes).concat()).await;
        assert_eq!(self.receive().await, None, "a request to cancel has no answer");
    }

    /// Runs a text by the simple protocol.
    pub(crate) async fn query(&mut self, sql: &str) -> Answer {
        self.send([Frontend::Query(sql.to_owned())]).await;
        self.until_ready().await
    }

    /// Runs a statement by the extended protocol, with values in text.
    pub(crate) async fn execute(&mut self, sql: &str, values: &[&str]) -> Answer {
        self.send(extended(sql, values).into_iter().chain([Frontend::Sync])).await;
        self.until_ready().await
    }
}

/// Where the frame that begins at `at` ends, if all of it is there.
pub(crate) fn frame_end(bytes: &[u8], at: usize) -> Option<usize> {
    let length = bytes.get(at + 1..)?.first_chunk::<4>()?;
    let end = at + 1 + u32::from_be_bytes(*length) as usize;
    (end <= bytes.len()).then_some(end)
}

/// Parse, Bind, Describe and Execute of unnamed statement and portal.
pub(crate) fn extended(sql: &str, values: &[&str]) -> [Frontend; 4] {
    let values = values.iter().map(|value| Some(value.as_bytes().to_vec())).collect();
    [parse("", sql), bind("", "", values), describe_portal(), execute("", 0)]
}

pub(crate) fn parse(name: &str, sql: &str) -> Frontend {
    Frontend::Parse { name: name.into(), sql: sql.into(), types: Vec::new() }
}

pub(crate) fn bind(portal: &str, statement: &str, values: Vec<Option<Vec<u8>>>) -> Frontend {
    Frontend::Bind {
        portal: portal.into(),
        statement: statement.into(),
        values,
        parameter_formats: Vec::new(),
        result_formats: Vec::new(),
    }
}

pub(crate) fn execute(portal: &str, max_rows: i32) -> Frontend {
    Frontend::Execute { portal: portal.into(), max_rows }
}

fn describe_portal() -> Frontend {
    Frontend::Describe(golden::notation::Target::Portal, String::new())
}

/// What a client was answered. It can be compared with a line that tells its rows, tags, SQLSTATEs and status, such as
/// `(1,10) (2,20) SELECT 2 T`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer(pub(crate) Vec<Backend>);

impl Answer {
    /// The status byte of its ReadyForQuery.
    pub(crate) fn status(&self) -> Option<char> {
        self.0.iter().rev().find_map(|message| match message {
            Backend::ReadyForQuery(status) => Some(*status),
            _ => None,
        })
    }

    /// The fields of its error.
    #[track_caller]
    pub(crate) fn error(&self) -> &Fields {
        let error = self.0.iter().find_map(|message| match message {
            Backend::ErrorResponse(fields) => Some(fields),
            _ => None,
        });
        error.unwrap_or_else(|| panic!("no error: {self}"))
    }

    /// A field of its error, by its letter; empty if it is not there.
    #[track_caller]
    pub(crate) fn field(&self, letter: char) -> &str {
        self.error().get(letter).unwrap_or_default()
    }

    /// Whether a message with this line is in it.
    pub(crate) fn has(&self, line: &str) -> bool {
        self.0.iter().any(|message| message.to_string() == line)
    }
}

impl Answer {
    fn line(&self) -> String {
        self.0.iter().filter_map(word).collect::<Vec<_>>().join(" ")
    }
}

impl Display for Answer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line())
    }
}

impl PartialEq<&str> for Answer {
    fn eq(&self, line: &&str) -> bool {
        self.line() == *line
    }
}

/// A message in a word; `None` for those that only prepare an answer.
fn word(message: &Backend) -> Option<String> {
    match message {
        Backend::DataRow(values) => {
            let mut row = String::new();
            for value in values {
                let text = value.as_deref().map_or("NULL".into(), String::from_utf8_lossy);
                let _ = write!(row, "{}{text}", if row.is_empty() { "(" } else { "," });
            }
            Some(row + ")")
        }
        Backend::CommandComplete(tag) => Some(tag.clone()),
        Backend::ErrorResponse(fields) => Some(fields.get('C').unwrap_or("no SQLSTATE").to_owned()),
        Backend::ReadyForQuery(status) => Some(status.to_string()),
        Backend::PortalSuspended => Some("suspended".into()),
        Backend::EmptyQueryResponse => Some("empty".into()),
        _ => None,
    }
}
