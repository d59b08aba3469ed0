//! The beginning of a connection: encryption requests, cancel requests, and the greeting.

use std::io;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::errors::SqlError;
use crate::output::Output;
use crate::server::Shared;
use crate::session::{Frames, Session, Settings, Wire};

const PROTOCOL: u32 = 196_608;
const SSL_REQUEST: u32 = 80_877_103;
const GSS_ENC_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;

/// What the server's other protocol, HTTP/2, says to a client it does not know: an empty SETTINGS frame that allows
/// headers, as recorded.
const HTTP2_SETTINGS: [u8; 9] = [0, 0, 0x12, 4, 0, 0, 0, 0, 0];

/// Greets a client and converses with it.
pub(crate) async fn greet(shared: Arc<Shared>, stream: Box<dyn Wire>) {
    // A connection that breaks before it began needs no more words.
    if let Ok(Some(session)) = start(shared, stream).await {
        session.run().await;
    }
}

async fn start(shared: Arc<Shared>, mut stream: Box<dyn Wire>) -> io::Result<Option<Session>> {
    let mut received = BytesMut::new();
    loop {
        let mut packet = read_packet(&mut stream, &mut received).await?;
        match packet.try_get_u32().map_err(|_| io::ErrorKind::InvalidData)? {
            SSL_REQUEST => {
                stream.write_all(b"N").await?;
                stream.flush().await?;
            }
            CANCEL_REQUEST => {
                if let (true, Ok(key)) = (shared.version.has_cancel_keys(), packet.try_get_u64()) {
                    shared.cancel(key);
                }
                return Ok(None);
            }
            GSS_ENC_REQUEST => {
                let error = SqlError::protocol(format!("unknown protocol version {GSS_ENC_REQUEST}"));
                return refuse(&shared, stream, &error).await;
            }
            PROTOCOL => return welcome(shared, stream, received, &parameters(&packet)).await,
            _ => {
                stream.write_all(&HTTP2_SETTINGS).await?;
                stream.flush().await?;
                return Ok(None);
            }
        }
    }
}

/// A message without a tag: its body.
async fn read_packet(stream: &mut Box<dyn Wire>, received: &mut BytesMut) -> io::Result<BytesMut> {
    const MAX_LENGTH: usize = 10_000;
    loop {
        if let Some(header) = received.get(..4) {
            let length = header.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
            if !(8..=MAX_LENGTH).contains(&length) {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if received.len() >= length {
                let mut packet = received.split_to(length);
                packet.advance(4);
                return Ok(packet);
            }
        }
        if stream.read_buf(received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn parameters(packet: &[u8]) -> Vec<(String, String)> {
    let texts: Vec<String> =
        packet.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned()).collect();
    let pair = |pair: &[String]| Some((pair.first()?.clone(), pair.get(1)?.clone()));
    texts.chunks(2).filter_map(pair).filter(|(name, _)| !name.is_empty()).collect()
}

async fn refuse(shared: &Shared, mut stream: Box<dyn Wire>, error: &SqlError) -> io::Result<Option<Session>> {
    let mut output = Output::new(0);
    output.error(error, shared.version);
    output.flush(&mut stream).await?;
    Ok(None)
}

async fn welcome(
    shared: Arc<Shared>,
    mut stream: Box<dyn Wire>,
    received: BytesMut,
    parameters: &[(String, String)],
) -> io::Result<Option<Session>> {
    if shared.is_draining() {
        return refuse(&shared, stream, &SqlError::no_new_clients(shared.version)).await;
    }
    let mut settings = Settings::new(shared.version);
    for (name, value) in parameters.iter().filter(|(name, _)| name != "user") {
        if let Err(error) = settings.start_with(name, value) {
            return refuse(&shared, stream, &error).await;
        }
    }
    let user = parameters.iter().find(|(name, _)| name == "user").map(|(_, user)| user.to_lowercase());
    let user = user.unwrap_or_default();
    if user != "root" {
        let message = format!("password authentication failed for user {user}");
        return refuse(&shared, stream, &SqlError::new("XXUUU", message)).await;
    }
    let handle = shared.register(&settings.get("application_name").unwrap_or_default());
    let mut output = Output::new(0);
    output.raw(&[b'R', 0, 0, 0, 8, 0, 0, 0, 0]);
    for (name, variable) in GREETING {
        output.parameter(name, &settings.get(variable).unwrap_or_default());
    }
    if shared.version.has_cancel_keys() {
        output.raw(&[b'K', 0, 0, 0, 12]);
        output.raw(&handle.key.to_be_bytes());
    }
    output.ready(b'I');
    output.flush(&mut stream).await?;
    Ok(Some(Session::new(shared, handle, Frames::new(stream, received), settings)))
}

/// What a client is told at the beginning: names in ParameterStatus, and of variables.
const GREETING: [(&str, &str); 12] = [
    ("server_version", "server_version"),
    ("server_encoding", "server_encoding"),
    ("client_encoding", "client_encoding"),
    ("application_name", "application_name"),
    ("DateStyle", "datestyle"),
    ("IntervalStyle", "intervalstyle"),
    ("TimeZone", "timezone"),
    ("integer_datetimes", "integer_datetimes"),
    ("standard_conforming_strings", "standard_conforming_strings"),
    ("crdb_version", "crdb_version"),
    ("session_authorization", "session_authorization"),
    ("is_superuser", "is_superuser"),
];
