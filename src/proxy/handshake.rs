//! From the first packet to the first ReadyForQuery: encryption is declined, the startup and every authentication exchange
//! are relayed as they are.
//!
//! The protocol asked of the database is 3.0: a newer minor version is negotiated down as
//! [the protocol](https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP) has it, because servers
//! that know only 3.0 do not do that themselves.

use bytes::BytesMut;
use pgwire::messages::Message;
use pgwire::messages::startup::NegotiateProtocolVersion;
use tokio::net::TcpStream;

use super::connection::Connection;
use super::isolation;
use super::parameters::Parameters;
use super::refusal::Refusal;
use super::upstream;
use crate::config::{DialectChoice, Upstream};
use crate::replay::{Dialect, LockTable};
use crate::telemetry::Telemetry;
use crate::wire::backend::{self, tag};
use crate::wire::startup::{Initial, Startup};
use crate::wire::{HEADER_BYTES, Header, frontend};

/// The longest message that either side may send before the session begins.
const STARTUP_MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Version 3.0 as the number on the wire.
const PROTOCOL_3_0: i32 = 196_608;

/// What a client's first packets came to.
pub(super) enum First {
    /// What its startup packet asks for.
    Startup(Parameters),
    /// A CancelRequest with this key.
    Cancel(Vec<u8>),
}

/// A session that the database has admitted.
pub(super) struct Opened {
    /// The connection to the database.
    pub(super) server: Connection<TcpStream>,
    /// How it wants a transaction retried: by the configuration, or by what it reports.
    pub(super) dialect: Dialect,
    /// What is done with LOCK TABLE in this session.
    pub(super) lock_table: LockTable,
    /// Process id and secret key, if it gave any.
    pub(super) key: Option<Box<[u8]>>,
}

/// Connects to the database and relays until it has admitted the client. `None` if it has refused it, and told it why.
pub(super) async fn enter(
    client: &mut Connection<TcpStream>,
    startup: &[u8],
    upstream: &Upstream,
    lock_table: LockTable,
    telemetry: &Telemetry,
) -> Result<Option<Opened>, Refusal> {
    let stream = upstream::connect(&upstream.address, upstream.connect_timeout).await.map_err(|error| {
        telemetry.upstream_connect_failed();
        Refusal::Unreachable(error)
    })?;
    let mut server = Connection::new(stream);
    server.outbox().extend_from_slice(startup);
    let Some(greeting) = relay_authentication(client, &mut server).await? else { return Ok(None) };
    let dialect = match upstream.dialect {
        DialectChoice::Auto => greeting.dialect,
        DialectChoice::Fixed(dialect) => dialect,
    };
    let lock_table = match (lock_table, dialect) {
        (LockTable::Forward, _) => LockTable::Forward,
        (LockTable::Ignore, Dialect::Postgres) => return Err(Refusal::LockTable),
        (LockTable::Ignore, Dialect::Cockroach) if isolation::is_serializable(&mut server).await? => {
            LockTable::Ignore
        }
        (LockTable::Ignore, Dialect::Cockroach) => LockTable::Forward,
    };
    client.outbox().extend_from_slice(&greeting.ready);
    client.drain().await.map_err(Refusal::Client)?;
    Ok(Some(Opened { server, dialect, lock_table, key: greeting.key }))
}

/// Reads packets until one starts a session or cancels. TLS and GSSAPI encryption are declined, each once.
pub(super) async fn first_packet(client: &mut Connection<TcpStream>) -> Result<First, Refusal> {
    let (mut tls, mut gss) = (false, false);
    loop {
        let bytes = match Initial::packet_bytes(client.received())? {
            Some(bytes) if client.received().len() >= bytes => bytes,
            _ => {
                fill(client, Refusal::Client, Refusal::ClientGone).await?;
                continue;
            }
        };
        let mut negotiated = Vec::new();
        let first = match Initial::parse(&client.received()[..bytes])? {
            Initial::SslRequest if !std::mem::replace(&mut tls, true) => None,
            Initial::GssEncRequest if !std::mem::replace(&mut gss, true) => None,
            Initial::SslRequest | Initial::GssEncRequest => {
                return Err(Refusal::Protocol { major: 1234, minor: 5679 });
            }
            Initial::Cancel { key } => Some(First::Cancel(key.to_vec())),
            Initial::Startup(startup) => Some(First::Startup(negotiate(startup, &mut negotiated)?)),
        };
        client.consume(bytes);
        let Some(first) = first else {
            client.outbox().push(b'N');
            client.drain().await.map_err(Refusal::Client)?;
            continue;
        };
        client.outbox().extend(negotiated);
        return Ok(first);
    }
}

/// What a startup packet asks for; `answer` gets what a client that asks for more than 3.0 is told first.
fn negotiate(startup: Startup<'_>, answer: &mut Vec<u8>) -> Result<Parameters, Refusal> {
    let Startup { major, minor, .. } = startup;
    if major != 3 {
        return Err(Refusal::Protocol { major, minor });
    }
    let is_option = |name: &[u8]| name.starts_with(b"_pq_.");
    let options: Vec<String> = startup
        .parameters()
        .filter(|(name, _)| is_option(name))
        .map(|(name, _)| String::from_utf8_lossy(name).into_owned())
        .collect();
    if minor > 0 || !options.is_empty() {
        let mut frame = BytesMut::new();
        NegotiateProtocolVersion::new(PROTOCOL_3_0, options)
            .encode(&mut frame)
            .map_err(|_| Refusal::Protocol { major, minor })?;
        answer.extend_from_slice(&frame);
    }
    Ok(Parameters::read(startup.parameters().filter(|(name, _)| !is_option(name)))?)
}

/// Relays until the database says that it is ready, which is not passed on yet, or closes the connection.
async fn relay_authentication(
    client: &mut Connection<TcpStream>,
    server: &mut Connection<TcpStream>,
) -> Result<Option<Greeting>, Refusal> {
    let mut greeting = Greeting::default();
    loop {
        server.drain().await.map_err(Refusal::Server)?;
        client.drain().await.map_err(Refusal::Client)?;
        tokio::select! {
            read = server.fill() => {
                if read.map_err(Refusal::Server)? == 0 {
                    return if greeting.refused { Ok(None) } else { Err(Refusal::ServerClosed) };
                }
                if relay_greeting(server, client, &mut greeting)? {
                    return Ok(Some(greeting));
                }
            }
            read = client.fill() => {
                if read.map_err(Refusal::Client)? == 0 {
                    return Err(Refusal::ClientGone);
                }
            }
        }
        relay_answers(client, server)?;
    }
}

/// What the database tells before the session begins.
struct Greeting {
    dialect: Dialect,
    key: Option<Box<[u8]>>,
    refused: bool,
    /// Its ReadyForQuery.
    ready: Vec<u8>,
}

impl Default for Greeting {
    fn default() -> Self {
        Self { dialect: Dialect::Postgres, key: None, refused: false, ready: Vec::new() }
    }
}

/// Passes on what the database sends; true at its ReadyForQuery, which is kept.
fn relay_greeting(
    server: &mut Connection<TcpStream>,
    client: &mut Connection<TcpStream>,
    greeting: &mut Greeting,
) -> Result<bool, Refusal> {
    while let Some(bytes) = whole_frame(server.received()).map_err(Refusal::ServerNonsense)? {
        let frame = &server.received()[..bytes];
        let (frame_tag, body) = (frame[0], &frame[HEADER_BYTES..]);
        match frame_tag {
            tag::PARAMETER_STATUS if is_crdb_version(body) => greeting.dialect = Dialect::Cockroach,
            tag::BACKEND_KEY_DATA => greeting.key = Some(body.into()),
            tag::ERROR_RESPONSE => greeting.refused = true,
            _ => {}
        }
        if frame_tag == tag::READY_FOR_QUERY {
            greeting.ready = frame.to_vec();
            server.consume(bytes);
            return Ok(true);
        }
        client.outbox().extend_from_slice(frame);
        server.consume(bytes);
    }
    Ok(false)
}

/// Only CockroachDB reports this setting.
fn is_crdb_version(body: &[u8]) -> bool {
    backend::parameter_status(body).is_some_and(|(name, _)| name == b"crdb_version")
}

/// Passes on what the client answers. Anything but an answer to an authentication request waits for the session.
fn relay_answers(
    client: &mut Connection<TcpStream>,
    server: &mut Connection<TcpStream>,
) -> Result<(), Refusal> {
    while let Some(bytes) = whole_frame(client.received()).map_err(Refusal::ClientFrame)? {
        let frame = &client.received()[..bytes];
        match frame[0] {
            frontend::tag::PASSWORD => server.outbox().extend_from_slice(frame),
            frontend::tag::TERMINATE => return Err(Refusal::ClientGone),
            other if is_request(other) => return Ok(()),
            other => return Err(Refusal::ClientMessage(other)),
        }
        client.consume(bytes);
    }
    Ok(())
}

/// Whether a message may begin a session's work: clients may send it before they are told that the session is ready.
const fn is_request(frame_tag: u8) -> bool {
    use frontend::tag;
    matches!(
        frame_tag,
        tag::QUERY | tag::PARSE | tag::BIND | tag::CLOSE | tag::DESCRIBE | tag::FUNCTION_CALL | tag::SYNC
    )
}

/// Length of the frame at the start, once all of it is there.
pub(super) fn whole_frame(bytes: &[u8]) -> Result<Option<usize>, crate::wire::BadLength> {
    let Some(header) = Header::parse(bytes)? else { return Ok(None) };
    if header.frame_bytes > STARTUP_MESSAGE_BYTES_MAX {
        return Err(crate::wire::BadLength { tag: header.tag, length: header.frame_bytes as u32 - 1 });
    }
    Ok((header.frame_bytes <= bytes.len()).then_some(header.frame_bytes))
}

async fn fill(
    connection: &mut Connection<TcpStream>,
    failed: fn(std::io::Error) -> Refusal,
    ended: Refusal,
) -> Result<(), Refusal> {
    match connection.fill().await {
        Ok(0) => Err(ended),
        Ok(_) => Ok(()),
        Err(error) => Err(failed(error)),
    }
}
