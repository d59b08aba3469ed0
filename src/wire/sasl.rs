//! The messages of a login: what a server asks for, and what a client answers.
//!
//! Sources: [SASL Authentication](https://www.postgresql.org/docs/current/sasl-authentication.html),
//! [RFC 5802, section 6](https://www.rfc-editor.org/rfc/rfc5802#section-6).

use super::backend::tag;
use super::frame::split_cstr;
use super::{HEADER_BYTES, frontend};

/// SCRAM with SHA-256.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
/// The same, bound to a TLS connection.
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// The codes of AuthenticationSASL, and of the two messages that follow it.
const SASL: [u8; 4] = 10_u32.to_be_bytes();
const SASL_CONTINUE: [u8; 4] = 11_u32.to_be_bytes();
const SASL_FINAL: [u8; 4] = 12_u32.to_be_bytes();
/// What the names of mechanisms with channel binding end with.
const BINDING: &[u8] = b"-PLUS";

/// What a server asks for, or tells, in an authentication message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Nothing more: the client is let in.
    Ok,
    /// The password.
    Cleartext,
    /// The password as MD5, with this salt.
    Md5 {
        /// Four bytes.
        salt: [u8; 4],
    },
    /// One of these mechanisms: names that each end with a zero.
    Sasl {
        /// The names; see [`has`].
        mechanisms: &'a [u8],
    },
    /// The next step of the mechanism.
    SaslContinue(&'a [u8]),
    /// The last step of the mechanism.
    SaslFinal(&'a [u8]),
    /// Something else.
    Other,
}

impl<'a> Request<'a> {
    /// Reads the body of an authentication message.
    pub fn parse(body: &'a [u8]) -> Self {
        let Some((code, rest)) = body.split_first_chunk::<4>() else { return Self::Other };
        match (u32::from_be_bytes(*code), rest) {
            (0, []) => Self::Ok,
            (3, []) => Self::Cleartext,
            (5, &[a, b, c, d]) => Self::Md5 { salt: [a, b, c, d] },
            (10, mechanisms) => Self::Sasl { mechanisms },
            (11, data) => Self::SaslContinue(data),
            (12, data) => Self::SaslFinal(data),
            _ => Self::Other,
        }
    }
}

impl Request<'_> {
    /// Whether the client must answer before anything else comes.
    pub fn wants_answer(self) -> bool {
        !matches!(self, Self::Ok | Self::SaslFinal(_))
    }
}

/// Whether a mechanism is among those that a server offers.
pub fn has(mut mechanisms: &[u8], name: &str) -> bool {
    while let Some((mechanism, rest)) = split_cstr(mechanisms) {
        if mechanism == name.as_bytes() {
            return true;
        }
        mechanisms = rest;
    }
    false
}

/// AuthenticationSASL: a server offers mechanisms.
pub fn offer(mechanisms: &[&str]) -> Vec<u8> {
    let mut body = SASL.to_vec();
    for mechanism in mechanisms {
        body.extend_from_slice(mechanism.as_bytes());
        body.push(0);
    }
    body.push(0);
    frame(tag::AUTHENTICATION, &[&body])
}

/// AuthenticationSASLContinue: the next step of a server.
pub fn proceed(data: &[u8]) -> Vec<u8> {
    frame(tag::AUTHENTICATION, &[&SASL_CONTINUE, data])
}

/// AuthenticationSASLFinal: the last step of a server.
pub fn conclude(data: &[u8]) -> Vec<u8> {
    frame(tag::AUTHENTICATION, &[&SASL_FINAL, data])
}

/// SASLInitialResponse: a client chooses a mechanism, and begins with it.
pub fn begin(mechanism: &str, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).expect("it is short");
    frame(frontend::tag::PASSWORD, &[mechanism.as_bytes(), &[0], &length.to_be_bytes(), data])
}

/// SASLResponse: the next step of a client.
pub fn respond(data: &[u8]) -> Vec<u8> {
    frame(frontend::tag::PASSWORD, &[data])
}

/// PasswordMessage: a password, or the hash of one.
pub fn password(text: &[u8]) -> Vec<u8> {
    frame(frontend::tag::PASSWORD, &[text, &[0]])
}

/// The mechanism and the data of the body of a SASLInitialResponse.
pub fn initial_response(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mechanism, rest) = split_cstr(body)?;
    let (length, data) = rest.split_first_chunk::<4>()?;
    (u32::from_be_bytes(*length) as usize == data.len()).then_some((mechanism, data))
}

fn frame(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = u32::try_from(body.len() + 4).expect("it is short");
    [&[tag], &length.to_be_bytes()[..], &body].concat()
}

/// The AuthenticationSASL message without the mechanisms that are bound to a TLS connection; `None` if it is another
/// message, or offers no such mechanism.
pub fn without_channel_binding(message: &[u8]) -> Option<Vec<u8>> {
    let (header, body) = message.split_at_checked(HEADER_BYTES)?;
    let mut rest = body.strip_prefix(&SASL).filter(|_| header[0] == tag::AUTHENTICATION)?;
    let mut kept = SASL.to_vec();
    while let Some((mechanism, after)) = split_cstr(rest) {
        if !mechanism.ends_with(BINDING) {
            kept.extend_from_slice(mechanism);
            kept.push(0);
        }
        rest = after;
    }
    (kept.len() < body.len()).then(|| frame(tag::AUTHENTICATION, &[&kept]))
}

/// Whether a SASLInitialResponse says that the client could bind its login to TLS and believes that the server could not:
/// its GS2 header begins with `y`.
pub fn misses_channel_binding(message: &[u8]) -> bool {
    let response = message.get(HEADER_BYTES..).and_then(split_cstr).and_then(|(_, rest)| rest.get(4..));
    response.is_some_and(|response| response.starts_with(b"y,"))
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_is_written_can_be_read() {
        let offered = offer(&[SCRAM_SHA_256_PLUS, SCRAM_SHA_256]);
        let Request::Sasl { mechanisms } = Request::parse(&offered[5..]) else { panic!("an offer") };
        assert!(has(mechanisms, SCRAM_SHA_256) && !has(mechanisms, "SCRAM-SHA-1"));
        assert_eq!(Request::parse(&proceed(b"r=x")[5..]), Request::SaslContinue(b"r=x"));
        assert_eq!(Request::parse(&conclude(b"v=x")[5..]), Request::SaslFinal(b"v=x"));
        assert_eq!(Request::parse(&[0; 4]), Request::Ok);
        assert_eq!(Request::parse(&[0, 0, 0, 5, 1, 2, 3, 4]), Request::Md5 { salt: [1, 2, 3, 4] });
        for other in [&[][..], &[0, 0, 0], &[0, 0, 0, 0, 0], &[0, 0, 0, 5, 1], &[0, 0, 0, 9]] {
            assert_eq!(Request::parse(other), Request::Other);
        }
        let begun = begin(SCRAM_SHA_256, b"n,,n=,r=x");
        assert_eq!(initial_response(&begun[5..]), Some((SCRAM_SHA_256.as_bytes(), &b"n,,n=,r=x"[..])));
        assert_eq!(initial_response(&begun[5..begun.len() - 1]), None);
        assert_eq!(password(b"secret"), b"p\0\0\0\x0bsecret\0");
        assert_eq!(respond(b"c=biws"), b"p\0\0\0\x0ac=biws");
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
