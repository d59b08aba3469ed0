//! The offer and the choice of a SASL mechanism, as far as channel binding is concerned.
//!
//! Sources: [SASL Authentication](https://www.postgresql.org/docs/current/sasl-authentication.html),
//! [RFC 5802, section 6](https://www.rfc-editor.org/rfc/rfc5802#section-6).

use super::HEADER_BYTES;
use super::backend::tag;
use super::frame::split_cstr;

/// The code of AuthenticationSASL among the authentication messages.
const SASL: [u8; 4] = 10_u32.to_be_bytes();
/// What the names of mechanisms with channel binding end with.
const BINDING: &[u8] = b"-PLUS";

/// The AuthenticationSASL message without the mechanisms that are bound to a TLS connection; `None` if it is another
/// message, or offers no such mechanism.
pub fn without_channel_binding(frame: &[u8]) -> Option<Vec<u8>> {
    let (header, body) = frame.split_at_checked(HEADER_BYTES)?;
    let mut rest = body.strip_prefix(&SASL).filter(|_| header[0] == tag::AUTHENTICATION)?;
    let mut kept = vec![tag::AUTHENTICATION, 0, 0, 0, 0];
    kept.extend(SASL);
    while let Some((mechanism, after)) = split_cstr(rest) {
        if !mechanism.ends_with(BINDING) {
            kept.extend_from_slice(mechanism);
            kept.push(0);
        }
        rest = after;
    }
    let length = u32::try_from(kept.len() - 1).ok()?;
    kept[1..HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
    (kept.len() < frame.len()).then_some(kept)
}

/// Whether a SASLInitialResponse says that the client could bind its login to TLS and believes that the server could not:
/// its GS2 header begins with `y`.
pub fn misses_channel_binding(frame: &[u8]) -> bool {
    let response = frame.get(HEADER_BYTES..).and_then(split_cstr).and_then(|(_, rest)| rest.get(4..));
    response.is_some_and(|response| response.starts_with(b"y,"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(tag: u8, body: &[&[u8]]) -> Vec<u8> {
        let body = body.concat();
        [&[tag][..], &(body.len() as u32 + 4).to_be_bytes(), &body].concat()
    }

    #[test]
    fn only_mechanisms_with_channel_binding_are_taken_out() {
        let offer = frame(b'R', &[&SASL, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"]);
        let kept = frame(b'R', &[&SASL, b"SCRAM-SHA-256\0\0"]);
        assert_eq!(without_channel_binding(&offer), Some(kept.clone()));
        let continued = frame(b'R', &[&11_u32.to_be_bytes(), b"r=x-PLUS\0"]);
        for other in [kept, continued, frame(b'S', &[&SASL, b"X-PLUS\0\0"]), frame(b'R', &[&[0; 4]])] {
            assert_eq!(without_channel_binding(&other), None);
        }
    }

    #[test]
    fn a_client_that_misses_channel_binding_says_so_in_its_first_answer() {
        let response = |gs2: &[u8]| frame(b'p', &[b"SCRAM-SHA-256\0", &20_u32.to_be_bytes(), gs2]);
        assert!(misses_channel_binding(&response(b"y,,n=,r=abc")));
        assert!(!misses_channel_binding(&response(b"n,,n=,r=abc")));
        // A password of the simple kind, and a later answer of the exchange.
        assert!(!misses_channel_binding(&frame(b'p', &[b"y,,\0"])));
        assert!(!misses_channel_binding(&frame(b'p', &[b"c=eSws,r=abc,p=x"])));
    }
}
