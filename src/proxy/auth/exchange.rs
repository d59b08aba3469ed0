//! The login of a client, with the proxy as the server of SCRAM.

use std::time::Duration;

use super::scram::{self, ClientFinal, ClientFirst};
use super::userlist::random;
use super::{Attempts, Login, Users};
use crate::proxy::connection::Connection;
use crate::proxy::handshake::next_answer;
use crate::proxy::refusal::Refusal;
use crate::proxy::tls::Stream;
use crate::wire::sasl::{self, SCRAM_SHA_256, SCRAM_SHA_256_PLUS};

/// How long a client with a wrong password waits for the answer: whoever tries many is not to be quick.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// The kind of channel binding that PostgreSQL has.
const BINDING: &str = "p=tls-server-end-point";

/// Has a client prove that it knows its password; what it takes to log in to the database for it then. `binding` is what a
/// login is bound to, if the client's connection has TLS; `attempts` are those of this user from the client's address.
pub(in crate::proxy) async fn authenticate(
    client: &mut Connection<Stream>,
    name: &[u8],
    users: &Users,
    binding: Option<&[u8]>,
    attempts: Attempts<'_>,
) -> Result<Login, Refusal> {
    let mechanisms = match binding {
        Some(_) => &[SCRAM_SHA_256_PLUS, SCRAM_SHA_256][..],
        None => &[SCRAM_SHA_256],
    };
    client.outbox().extend(sasl::offer(mechanisms));
    let first = next_answer(client).await?;
    let (mechanism, first) = sasl::initial_response(&first).ok_or(Refusal::Sasl)?;
    let first = text(first)?;
    let first = ClientFirst::parse(first).ok_or(Refusal::Sasl)?;
    let bound = bound_to(mechanism, &first, binding)?;
    let user = users.find(name);
    let secret = &user.secret;
    let own_nonce: [u8; 18] = random().map_err(|_| Refusal::Sasl)?;
    let nonce = format!("{}{}", first.nonce, scram::encode(&own_nonce));
    let challenge = scram::server_first(&nonce, &secret.salt, secret.iterations);
    client.outbox().extend(sasl::proceed(challenge.as_bytes()));
    let last = next_answer(client).await?;
    let last = ClientFinal::parse(text(&last)?).ok_or(Refusal::Sasl)?;
    if last.nonce != nonce || last.binding != [first.header.as_bytes(), bound].concat() {
        return Err(Refusal::Sasl);
    }
    let message = scram::signed(first.bare, &challenge, last.bare);
    // Only now: many who begin at once have no more guesses than one after the other.
    if let Some(wait) = attempts.wait() {
        return Err(Refusal::Backoff(wait));
    }
    let Some(client_key) = secret.verify(&message, &last.proof) else {
        attempts.failed();
        tokio::time::sleep(FAILURE_PAUSE).await;
        return Err(Refusal::Password);
    };
    attempts.succeeded();
    let signature = scram::signature(&secret.server_key, &message);
    client.outbox().extend(sasl::conclude(format!("v={}", scram::encode(&signature)).as_bytes()));
    Ok(Login::new(name, user, client_key))
}

/// What a login is bound to: nothing, or the TLS connection. A client that could have bound it and was made to believe that it
/// could not is the victim of somebody in the middle.
fn bound_to<'a>(
    mechanism: &[u8],
    first: &ClientFirst<'_>,
    binding: Option<&'a [u8]>,
) -> Result<&'a [u8], Refusal> {
    match (mechanism == SCRAM_SHA_256_PLUS.as_bytes(), first.binding, binding) {
        (true, BINDING, Some(binding)) => Ok(binding),
        (false, "n", _) | (false, "y", None) if mechanism == SCRAM_SHA_256.as_bytes() => Ok(&[]),
        _ => Err(Refusal::Sasl),
    }
}

fn text(bytes: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(bytes).map_err(|_| Refusal::Sasl)
}
