//! From the first packet to the first ReadyForQuery: encryption is negotiated, the startup and every authentication
//! exchange are relayed as they are, but for the channel binding that two TLS connections in a row rule out.
//!
//! The protocol asked of the database is 3.0: a newer minor version is negotiated down as
//! [the protocol](https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP) has it, because servers
//! that know only 3.0 do not do that themselves.

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use pgwire::messages::Message;
use pgwire::messages::startup::NegotiateProtocolVersion;

use super::auth::Login;
use super::connection::{Connection, WAITING_BYTES};
use super::credentials::Credentials;
use super::isolation;
use super::nametag::Nametag;
use super::parameters::Parameters;
use super::refusal::Refusal;
use super::tls::{Acceptor, Negotiation, Stream};
use super::upstream::Database;
use crate::config::DialectChoice;
use crate::replay::{Dialect, LockTable};
use crate::telemetry::Telemetry;
use crate::wire::backend::{self, ErrorFields, tag};
use crate::wire::sasl::Request;
use crate::wire::startup::{Initial, Startup};
use crate::wire::{BadLength, HEADER_BYTES, Header, SqlState, frontend, sasl};

/// The longest message that a server may send before the session begins.
const GREETING_BYTES_MAX: usize = 1 << 20;
/// The longest answer of a client to an authentication request: PostgreSQL takes tokens of up to 65535 bytes.
const ANSWER_BYTES_MAX: usize = HEADER_BYTES + 65_535;
/// Version 3.0 as the number on the wire.
const PROTOCOL_3_0: i32 = 196_608;

/// What a client's first packets came to.
pub(super) enum First {
    /// A session is to begin.
    Startup {
        /// What its startup packet asks for.
        asked: Parameters,
        /// What a login can be bound to, if the connection has TLS.
        binding: Option<Arc<[u8]>>,
    },
    /// A CancelRequest with this key.
    Cancel(Vec<u8>),
}

/// How a client is introduced to the database.
pub(super) struct Introduction<'a> {
    /// The startup packet.
    pub(super) packet: &'a [u8],
    /// What was added to the name in it.
    pub(super) nametag: Option<Nametag>,
    /// How the proxy logs in, unless the client does.
    pub(super) login: Option<Login>,
}

/// A session that the database has admitted.
pub(super) struct Opened {
    /// The connection to the database.
    pub(super) server: Connection<Stream>,
    /// How it wants a transaction retried: by the configuration, or by what it reports.
    pub(super) dialect: Dialect,
    /// What is done with LOCK TABLE in this session.
    pub(super) lock_table: LockTable,
    /// Process id and secret key, if it gave any.
    pub(super) key: Option<Box<[u8]>>,
}

/// Connects to the database and relays until it has admitted the client, or logs in for a client that has logged in to the proxy.
/// `None` if the database has refused it, and told it why.
pub(super) async fn enter(
    client: &mut Connection<Stream>,
    Introduction { packet, nametag, mut login }: Introduction<'_>,
    database: Database<'_>,
    lock_table: LockTable,
    telemetry: &Telemetry,
) -> Result<Option<Opened>, Refusal> {
    let unreachable = |error| {
        telemetry.upstream_connect_failed();
        Refusal::Unreachable(error)
    };
    let begin = |stream| {
        let mut server = Connection::new(stream);
        server.outbox().extend_from_slice(packet);
        server
    };
    let asked = Instant::now();
    let mut server = begin(database.connect().await.map_err(unreachable)?);
    telemetry.upstream_connected(asked.elapsed());
    if server.stream().is_tls() && database.takes_plain() && is_turned_away(&mut server).await? {
        server = begin(database.connect_plain().await.map_err(unreachable)?);
    }
    login.iter_mut().for_each(|login| login.bind(server.stream().binding()));
    let greeting = Greeting { login, nametag, ..Greeting::default() };
    let Some(greeting) = relay_authentication(client, &mut server, greeting).await? else { return Ok(None) };
    let dialect = match database.options.dialect {
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

/// Whether the database refuses the very startup: a rule of it may be for connections without TLS only, and libpq tries it
/// without then too.
async fn is_turned_away(server: &mut Connection<Stream>) -> Result<bool, Refusal> {
    server.drain().await.map_err(Refusal::Server)?;
    loop {
        if let Some(bytes) = whole_frame(server.received()).map_err(Refusal::ServerNonsense)? {
            let (header, body) = server.received()[..bytes].split_at(HEADER_BYTES);
            let sqlstate = ErrorFields::new(body).sqlstate();
            return Ok(header[0] == tag::ERROR_RESPONSE && sqlstate == Some(SqlState::INVALID_AUTHORIZATION));
        }
        fill(server, Refusal::Server, Refusal::ServerClosed).await?;
    }
}

/// Reads packets until one starts a session or cancels. TLS and GSSAPI encryption are granted or declined, each once.
pub(super) async fn first_packet(
    client: &mut Connection<Stream>,
    credentials: &Credentials,
) -> Result<First, Refusal> {
    let acceptor = credentials.acceptor().filter(|_| !client.stream().is_local());
    let mut requested = Requested::default();
    if let Some(acceptor) = &acceptor
        && client.stream().begins_with_tls().await.map_err(Refusal::Client)?
    {
        acceptor.accept(client.stream_mut(), Negotiation::Direct).await.map_err(Refusal::TlsFailed)?;
        requested = Requested::ENCRYPTED;
    }
    loop {
        let bytes = match Initial::packet_bytes(client.received())? {
            Some(bytes) if client.received().len() >= bytes => bytes,
            _ => {
                fill(client, Refusal::Client, Refusal::ClientGone).await?;
                continue;
            }
        };
        let is_alone = client.received().len() == bytes;
        match Initial::parse(&client.received()[..bytes])? {
            Initial::SslRequest | Initial::GssEncRequest if !is_alone => return Err(Refusal::Smuggled),
            Initial::SslRequest if !std::mem::replace(&mut requested.tls, true) => {
                client.consume(bytes);
                if let Some(acceptor) = &acceptor {
                    answer(client, b'S').await?;
                    let accepted = acceptor.accept(client.stream_mut(), Negotiation::Asked).await;
                    accepted.map_err(Refusal::TlsFailed)?;
                    requested = Requested::ENCRYPTED;
                } else {
                    answer(client, b'N').await?;
                }
            }
            Initial::GssEncRequest if !std::mem::replace(&mut requested.gss, true) => {
                client.consume(bytes);
                answer(client, b'N').await?;
            }
            Initial::SslRequest | Initial::GssEncRequest => {
                return Err(Refusal::Protocol { major: 1234, minor: 5679 });
            }
            Initial::Cancel { key } => return Ok(First::Cancel(key.to_vec())),
            Initial::Startup(startup) => {
                let mut negotiated = Vec::new();
                let asked = negotiate(startup, &mut negotiated)?;
                if acceptor.as_deref().is_some_and(Acceptor::is_required) && !client.stream().is_tls() {
                    return Err(Refusal::TlsRequired);
                }
                if acceptor
                    .as_deref()
                    .is_some_and(|acceptor| !acceptor.vouches_for(client.stream(), &asked.client.user))
                {
                    return Err(Refusal::Certificate);
                }
                client.consume(bytes);
                client.outbox().extend(negotiated);
                let binding = acceptor.filter(|_| client.stream().is_tls());
                let binding = binding.and_then(|acceptor| acceptor.binding());
                return Ok(First::Startup { asked, binding });
            }
        }
    }
}

/// What a client has asked for already: it may ask once, and for nothing more within TLS.
#[derive(Default)]
struct Requested {
    tls: bool,
    gss: bool,
}

impl Requested {
    const ENCRYPTED: Self = Self { tls: true, gss: true };
}

/// Answers a request for encryption.
async fn answer(client: &mut Connection<Stream>, byte: u8) -> Result<(), Refusal> {
    client.outbox().push(byte);
    client.drain().await.map_err(Refusal::Client)
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
    client: &mut Connection<Stream>,
    server: &mut Connection<Stream>,
    mut greeting: Greeting,
) -> Result<Option<Greeting>, Refusal> {
    let mut is_half_closed = false;
    loop {
        if relay_greeting(server, client, &mut greeting)? {
            return Ok(Some(greeting));
        }
        relay_answers(client, server, &mut greeting)?;
        if is_half_closed && greeting.asked > greeting.answered {
            return Err(Refusal::ClientGone);
        }
        server.drain().await.map_err(Refusal::Server)?;
        client.drain().await.map_err(Refusal::Client)?;
        let has_read_ahead = begins_request(client) && client.received().len() >= WAITING_BYTES;
        tokio::select! {
            read = server.fill() => {
                if read.map_err(Refusal::Server)? == 0 {
                    return if greeting.refused { Ok(None) } else { Err(Refusal::ServerClosed) };
                }
            }
            read = client.fill(), if !is_half_closed && !has_read_ahead => {
                // Who has said what it wants may still read what comes of it, unless it is asked for more.
                is_half_closed = read.map_err(Refusal::Client)? == 0;
            }
        }
    }
}

/// What the database tells before the session begins.
struct Greeting {
    dialect: Dialect,
    key: Option<Box<[u8]>>,
    refused: bool,
    /// How often it has asked the client to authenticate itself, and how often that was answered.
    asked: u32,
    answered: u32,
    /// It offered a login that is bound to its TLS connection, which the client was not told.
    binds: bool,
    /// How the proxy logs in, unless the client does.
    login: Option<Login>,
    /// What the proxy has added to the name of the application.
    nametag: Option<Nametag>,
    /// Its ReadyForQuery.
    ready: Vec<u8>,
}

impl Default for Greeting {
    fn default() -> Self {
        Self {
            dialect: Dialect::Postgres,
            key: None,
            refused: false,
            asked: 0,
            answered: 0,
            binds: false,
            login: None,
            nametag: None,
            ready: Vec::new(),
        }
    }
}

/// Passes on what the database sends; true at its ReadyForQuery, which is kept.
fn relay_greeting(
    server: &mut Connection<Stream>,
    client: &mut Connection<Stream>,
    greeting: &mut Greeting,
) -> Result<bool, Refusal> {
    while let Some(bytes) = whole_frame(server.received()).map_err(Refusal::ServerNonsense)? {
        let frame = &server.received()[..bytes];
        let (frame_tag, body) = (frame[0], &frame[HEADER_BYTES..]);
        match frame_tag {
            tag::PARAMETER_STATUS if is_crdb_version(body) => greeting.dialect = Dialect::Cockroach,
            tag::BACKEND_KEY_DATA => greeting.key = Some(body.into()),
            tag::ERROR_RESPONSE => greeting.refused = true,
            tag::AUTHENTICATION if greeting.login.is_none() && Request::parse(body).wants_answer() => {
                greeting.asked += 1;
            }
            _ => {}
        }
        if frame_tag == tag::READY_FOR_QUERY {
            greeting.ready = frame.to_vec();
            server.consume(bytes);
            return Ok(true);
        }
        let mut own_answer = None;
        match &mut greeting.login {
            Some(login) if frame_tag == tag::AUTHENTICATION => {
                let request = Request::parse(body);
                own_answer = login.answer(request).map_err(Refusal::Login)?;
                if request == Request::Ok {
                    client.outbox().extend_from_slice(frame);
                }
            }
            _ if frame_tag == tag::PARAMETER_STATUS && greeting.nametag.is_some() => {
                let own = greeting.nametag.as_ref().and_then(|nametag| nametag.unpin(body));
                client.outbox().extend_from_slice(own.as_deref().unwrap_or(frame));
            }
            _ => match sasl::without_channel_binding(frame) {
                Some(offer) => {
                    greeting.binds = true;
                    client.outbox().extend(offer);
                }
                None => client.outbox().extend_from_slice(frame),
            },
        }
        server.consume(bytes);
        server.outbox().extend(own_answer.unwrap_or_default());
    }
    Ok(false)
}

/// Only CockroachDB reports this setting.
fn is_crdb_version(body: &[u8]) -> bool {
    backend::parameter_status(body).is_some_and(|(name, _)| name == b"crdb_version")
}

/// Passes on what the client answers. A client that could bind its login to TLS, and says that it was not offered to, would
/// be refused by the database as a victim of a man in the middle: it is told why. Anything but an answer to an authentication request waits for the session.
fn relay_answers(
    client: &mut Connection<Stream>,
    server: &mut Connection<Stream>,
    greeting: &mut Greeting,
) -> Result<(), Refusal> {
    while !begins_request(client)
        && let Some(bytes) = whole_answer(client.received())?
    {
        let frame = &client.received()[..bytes];
        match frame[0] {
            frontend::tag::PASSWORD if greeting.binds && sasl::misses_channel_binding(frame) => {
                return Err(Refusal::ChannelBinding);
            }
            frontend::tag::PASSWORD if greeting.login.is_none() => {
                greeting.answered += 1;
                server.outbox().extend_from_slice(frame);
            }
            frontend::tag::TERMINATE => return Err(Refusal::ClientGone),
            other => return Err(Refusal::ClientMessage(other)),
        }
        client.consume(bytes);
    }
    Ok(())
}

/// Whether what the client has sent is for the session, whatever its length.
fn begins_request(client: &Connection<Stream>) -> bool {
    client.received().first().copied().is_some_and(is_request)
}

/// Whether a message may begin a session's work: clients may send it before they are told that the session is ready.
const fn is_request(frame_tag: u8) -> bool {
    use frontend::tag;
    matches!(
        frame_tag,
        tag::QUERY | tag::PARSE | tag::BIND | tag::CLOSE | tag::DESCRIBE | tag::FUNCTION_CALL | tag::SYNC
    )
}

/// The body of the client's next answer to an authentication request.
pub(super) async fn next_answer(client: &mut Connection<Stream>) -> Result<Vec<u8>, Refusal> {
    client.drain().await.map_err(Refusal::Client)?;
    loop {
        if let Some(bytes) = whole_answer(client.received())? {
            let (header, body) = client.received()[..bytes].split_at(HEADER_BYTES);
            let answer = match header[0] {
                frontend::tag::PASSWORD => body.to_vec(),
                frontend::tag::TERMINATE => return Err(Refusal::ClientGone),
                other => return Err(Refusal::ClientMessage(other)),
            };
            client.consume(bytes);
            return Ok(answer);
        }
        fill(client, Refusal::Client, Refusal::ClientGone).await?;
    }
}

/// Length of the server's frame at the start, once all of it is there.
pub(super) fn whole_frame(bytes: &[u8]) -> Result<Option<usize>, BadLength> {
    whole(bytes, GREETING_BYTES_MAX)
}

/// Length of the client's answer at the start, once all of it is there.
fn whole_answer(bytes: &[u8]) -> Result<Option<usize>, Refusal> {
    whole(bytes, ANSWER_BYTES_MAX).map_err(Refusal::ClientFrame)
}

fn whole(bytes: &[u8], longest: usize) -> Result<Option<usize>, BadLength> {
    let Some(header) = Header::parse(bytes)? else { return Ok(None) };
    if header.frame_bytes > longest {
        return Err(BadLength { tag: header.tag, length: header.frame_bytes as u32 - 1 });
    }
    Ok((header.frame_bytes <= bytes.len()).then_some(header.frame_bytes))
}

async fn fill(
    connection: &mut Connection<Stream>,
    failed: fn(std::io::Error) -> Refusal,
    ended: Refusal,
) -> Result<(), Refusal> {
    match connection.fill().await {
        Ok(0) => Err(ended),
        Ok(_) => Ok(()),
        Err(error) => Err(failed(error)),
    }
}
