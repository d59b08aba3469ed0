//! The isolation level that a new session has: asked of the database before the client may use the session.

use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::Connection;
use super::handshake::whole_frame;
use super::refusal::Refusal;
use crate::wire::backend::{first_value, tag};
use crate::wire::{HEADER_BYTES, encode};

const QUESTION: &str = "SHOW default_transaction_isolation";
const SERIALIZABLE: &[u8] = b"serializable";

/// Whether its transactions are SERIALIZABLE unless they say otherwise. An error of the database is a no.
pub(super) async fn is_serializable<S: AsyncRead + AsyncWrite + Unpin>(
    server: &mut Connection<S>,
) -> Result<bool, Refusal> {
    encode::query(server.outbox(), QUESTION);
    server.drain().await.map_err(Refusal::Server)?;
    let mut serializable = false;
    loop {
        let Some(bytes) = whole_frame(server.received()).map_err(Refusal::ServerNonsense)? else {
            if server.fill().await.map_err(Refusal::Server)? == 0 {
                return Err(Refusal::ServerClosed);
            }
            continue;
        };
        let frame = &server.received()[..bytes];
        let (frame_tag, body) = (frame[0], &frame[HEADER_BYTES..]);
        if frame_tag == tag::DATA_ROW {
            serializable = first_value(body).is_some_and(|value| value.eq_ignore_ascii_case(SERIALIZABLE));
        }
        server.consume(bytes);
        if frame_tag == tag::READY_FOR_QUERY {
            return Ok(serializable);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::wire::backend::Status;

    /// What a database makes of the question that answers with this value, if any.
    async fn answered(value: Option<&[u8]>) -> bool {
        let (mut database, stream) = duplex(1024);
        let mut answer = Vec::new();
        if let Some(value) = value {
            let length = u32::try_from(value.len()).unwrap();
            answer.push(tag::DATA_ROW);
            answer.extend((4 + 2 + 4 + length).to_be_bytes());
            answer.extend([0, 1]);
            answer.extend(length.to_be_bytes());
            answer.extend(value);
        }
        encode::ready_for_query(&mut answer, Status::Idle);
        database.write_all(&answer).await.unwrap();
        let mut server = Connection::new(stream);
        let found = is_serializable(&mut server).await.unwrap();
        let mut asked = [0; 5 + QUESTION.len() + 1];
        database.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked[5..asked.len() - 1], QUESTION.as_bytes());
        assert!(server.received().is_empty());
        found
    }

    #[tokio::test]
    async fn only_serializable_is() {
        assert!(answered(Some(b"serializable")).await);
        assert!(!answered(Some(b"read committed")).await);
        assert!(!answered(None).await);
    }
}
