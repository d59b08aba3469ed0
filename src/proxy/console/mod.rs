//! The console: a database that is none, for operators with psql or any driver.
//!
//! The handshake, TLS and the login are those of every client; from then on the `pgwire` crate speaks the protocol.

mod answer;
mod command;
mod handler;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use pgwire::api::auth::{DefaultServerParameterProvider, finish_authentication};
use pgwire::api::{ClientInfo, DefaultClient, METADATA_USER, NoopHandler};
use pgwire::error::{ErrorInfo, PgWireError};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use pgwire::tokio::server::{PgWireMessageServerCodec, process_error, process_message};
use tokio_util::codec::{Framed, FramedParts};
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::tls::Stream;
pub(super) use answer::Desk;
use command::Command;
use handler::Handler;

/// How long a user may take to read that the proxy ends.
const FAREWELL: Duration = Duration::from_secs(1);
/// The version of PostgreSQL whose protocol is spoken: drivers read it.
const SERVER_VERSION: &str = concat!("16.0 (Reprise ", env!("CARGO_PKG_VERSION"), ")");

type Channel = Framed<Stream, PgWireMessageServerCodec<Command>>;

/// Serves a client that has logged in, until it leaves or the proxy ends.
///
/// # Errors
/// When the connection fails.
pub(super) async fn serve(
    client: Connection<Stream>,
    desk: Desk,
    shutdown: &CancellationToken,
) -> io::Result<()> {
    let user = desk.user.clone();
    let mut channel = channel(client, user);
    let mut parameters = DefaultServerParameterProvider::default();
    parameters.server_version = SERVER_VERSION.to_owned();
    parameters.is_superuser = false;
    finish_authentication(&mut channel, &parameters).await.map_err(io::Error::other)?;
    let handler = Arc::new(Handler::new(desk));
    // Whoever does not read its answers ends with the proxy too.
    let ended = tokio::select! {
        biased;
        ended = converse(&mut channel, &handler) => Some(ended),
        () = shutdown.cancelled() => None,
    };
    match ended {
        Some(ended) => ended,
        None => tokio::time::timeout(FAREWELL, say_goodbye(&mut channel)).await.unwrap_or(Ok(())),
    }
}

/// Answers messages until the user leaves.
async fn converse(channel: &mut Channel, handler: &Arc<Handler>) -> io::Result<()> {
    loop {
        let message = match channel.next().await {
            None | Some(Ok(PgWireFrontendMessage::Terminate(_))) => return Ok(()),
            Some(message) => message.map_err(io::Error::other)?,
        };
        let is_extended = message.is_extended_query();
        let nothing = || Arc::new(NoopHandler);
        let (simple, extended) = (Arc::clone(handler), Arc::clone(handler));
        let processed =
            process_message(message, channel, nothing(), simple, extended, nothing(), nothing()).await;
        if let Err(error) = processed {
            let is_fatal = matches!(error, PgWireError::IoError(_));
            process_error(channel, error, is_extended).await?;
            if is_fatal {
                return Ok(());
            }
        }
    }
}

/// The connection as the crate wants it, at the end of its login.
fn channel(client: Connection<Stream>, user: String) -> Channel {
    let (stream, received) = client.into_parts();
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut info = DefaultClient::new(nowhere, stream.is_tls());
    info.metadata_mut().insert(METADATA_USER.to_owned(), user);
    let mut parts = FramedParts::new(stream, PgWireMessageServerCodec::new(info));
    parts.read_buf = BytesMut::from(&*received);
    Framed::from_parts(parts)
}

async fn say_goodbye(channel: &mut Channel) -> io::Result<()> {
    let message = "terminating connection due to administrator command";
    let error = ErrorInfo::new("FATAL".to_owned(), "57P01".to_owned(), message.to_owned());
    channel.send(PgWireBackendMessage::ErrorResponse(error.into())).await?;
    channel.close().await
}
