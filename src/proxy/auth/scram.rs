//! The computations of SCRAM-SHA-256, and what its messages say. Both ends of it: clients of the proxy are the one, the
//! database is the other.
//!
//! Sources: [RFC 5802](https://www.rfc-editor.org/rfc/rfc5802), [RFC 7677](https://www.rfc-editor.org/rfc/rfc7677).

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac, pbkdf2};
use subtle::ConstantTimeEq;

/// A SHA-256 hash, or a key made of one.
pub(super) type Hash = [u8; 32];

/// Iterations of a secret that is made here, as PostgreSQL has them by default.
pub(super) const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("it is not zero");
/// The most iterations that a database may ask for: it decides how long they take.
const ITERATIONS_MAX: u32 = 1_000_000;

/// What a server keeps of a password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret {
    pub(super) iterations: NonZeroU32,
    pub(super) salt: Vec<u8>,
    pub(super) stored_key: Hash,
    pub(super) server_key: Hash,
}

/// What a password comes to, given a salt: enough to log in.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) client_key: Hash,
    pub(super) server_key: Hash,
}

impl Keys {
    /// The keys of a password.
    pub(super) fn derive(password: &str, salt: &[u8], iterations: NonZeroU32) -> Self {
        // What cannot be prepared is used as it is, as PostgreSQL does.
        let prepared = stringprep::saslprep(password).unwrap_or(password.into());
        let mut salted = Hash::default();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, prepared.as_bytes(), &mut salted);
        Self { client_key: hmac(&salted, b"Client Key"), server_key: hmac(&salted, b"Server Key") }
    }

    /// What a server keeps of them.
    pub(super) fn secret(&self, salt: Vec<u8>, iterations: NonZeroU32) -> Secret {
        Secret { iterations, salt, stored_key: sha256(&self.client_key), server_key: self.server_key }
    }
}

impl Secret {
    /// Reads a secret as PostgreSQL writes it: `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (head, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let ((iterations, salt), (stored_key, server_key)) = (head.split_once(':')?, keys.split_once(':')?);
        let key = |text: &str| Hash::try_from(BASE64.decode(text).ok()?).ok();
        Some(Self {
            iterations: iterations.parse().ok()?,
            salt: BASE64.decode(salt).ok()?,
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        })
    }

    /// The client's key, if its proof is right.
    pub(super) fn verify(&self, message: &[u8], proof: &Hash) -> Option<Hash> {
        let client_key = xor(proof, &hmac(&self.stored_key, message));
        bool::from(sha256(&client_key).ct_eq(&self.stored_key)).then_some(client_key)
    }
}

/// The proof that a client knows its key.
pub(super) fn proof(client_key: &Hash, message: &[u8]) -> Hash {
    xor(client_key, &hmac(&sha256(client_key), message))
}

/// The proof that a server knows the secret.
pub(super) fn signature(server_key: &Hash, message: &[u8]) -> Hash {
    hmac(server_key, message)
}

/// What both ends sign.
pub(super) fn signed(client_first_bare: &str, server_first: &str, client_final_bare: &str) -> Vec<u8> {
    [client_first_bare, server_first, client_final_bare].join(",").into_bytes()
}

/// The message with the salt.
pub(super) fn server_first(nonce: &str, salt: &[u8], iterations: NonZeroU32) -> String {
    format!("r={nonce},s={},i={iterations}", BASE64.encode(salt))
}

/// The first message of a client: its GS2 header, and the rest with its nonce.
pub(super) struct ClientFirst<'a> {
    /// Whether it binds its login, and to what: `n`, `y` or `p=<kind>`.
    pub(super) binding: &'a str,
    /// Everything up to the second comma.
    pub(super) header: &'a str,
    pub(super) bare: &'a str,
    pub(super) nonce: &'a str,
}

impl<'a> ClientFirst<'a> {
    /// Reads it. One that wants to act for somebody else, or has mandatory extensions, is not understood.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (binding, rest) = text.split_once(',')?;
        let bare = rest.strip_prefix(',')?;
        let header = &text[..text.len() - bare.len()];
        // The name in it does not count: it is that of the startup packet.
        let nonce = bare.strip_prefix("n=")?.split(',').nth(1)?.strip_prefix("r=")?;
        (!nonce.is_empty()).then_some(Self { binding, header, bare, nonce })
    }
}

/// The second message of a client.
pub(super) struct ClientFinal<'a> {
    /// Everything before the proof.
    pub(super) bare: &'a str,
    pub(super) binding: Vec<u8>,
    pub(super) nonce: &'a str,
    pub(super) proof: Hash,
}

impl<'a> ClientFinal<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (bare, proof) = text.rsplit_once(",p=")?;
        let mut parts = bare.split(',');
        let binding = BASE64.decode(parts.next()?.strip_prefix("c=")?).ok()?;
        let nonce = parts.next()?.strip_prefix("r=")?;
        Some(Self { bare, binding, nonce, proof: BASE64.decode(proof).ok()?.try_into().ok()? })
    }
}

/// The first message of a server: its nonce, salt and iterations.
pub(super) fn parse_server_first(text: &str) -> Option<(&str, Vec<u8>, NonZeroU32)> {
    let mut parts = text.split(',');
    let nonce = parts.next()?.strip_prefix("r=")?;
    let salt = BASE64.decode(parts.next()?.strip_prefix("s=")?).ok()?;
    let iterations: NonZeroU32 = parts.next()?.strip_prefix("i=")?.parse().ok()?;
    (iterations.get() <= ITERATIONS_MAX).then_some((nonce, salt, iterations))
}

/// Bytes in base64.
pub(super) fn encode(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// Whether a server's last message has this signature.
pub(super) fn is_signed(server_final: &str, signature: &Hash) -> bool {
    let found = server_final.strip_prefix("v=").and_then(|found| BASE64.decode(found).ok());
    found.is_some_and(|found| found.ct_eq(signature).into())
}

fn sha256(bytes: &[u8]) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

/// The keyed hash of SCRAM.
pub(super) fn hmac(key: &[u8], message: &[u8]) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref());
    hash
}

fn xor(a: &Hash, b: &Hash) -> Hash {
    std::array::from_fn(|at| a[at] ^ b[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677, section 3.
    const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                                p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    #[test]
    fn both_ends_of_the_example_agree() {
        let first = ClientFirst::parse(CLIENT_FIRST).unwrap();
        assert_eq!((first.binding, first.header, first.nonce), ("n", "n,,", "rOprNGfwEbeRWgbNEkqO"));
        let (nonce, salt, iterations) = parse_server_first(SERVER_FIRST).unwrap();
        assert_eq!(server_first(nonce, &salt, iterations), SERVER_FIRST);
        let last = ClientFinal::parse(CLIENT_FINAL).unwrap();
        assert_eq!((&last.binding[..], last.nonce), (first.header.as_bytes(), nonce));
        let message = signed(first.bare, SERVER_FIRST, last.bare);
        let keys = Keys::derive("pencil", &salt, iterations);
        assert_eq!(proof(&keys.client_key, &message), last.proof);
        let secret = keys.secret(salt, iterations);
        assert_eq!(secret.verify(&message, &last.proof), Some(keys.client_key));
        assert!(is_signed(SERVER_FINAL, &signature(&secret.server_key, &message)));
        assert!(!is_signed(SERVER_FINAL, &signature(&secret.stored_key, &message)));
        let mut wrong = last.proof;
        wrong[31] ^= 1;
        assert_eq!(secret.verify(&message, &wrong), None);
    }

    #[test]
    fn a_secret_is_read_as_postgresql_writes_it() {
        let keys = Keys::derive("pencil", b"salt", ITERATIONS);
        let secret = keys.secret(b"salt".to_vec(), ITERATIONS);
        let (stored, server) = (encode(&secret.stored_key), encode(&secret.server_key));
        let text = format!("SCRAM-SHA-256$4096:{}${stored}:{server}", encode(b"salt"));
        assert!(Secret::parse(&text) == Some(secret));
        for wrong in [text.replace("4096", "0"), text.replace(&stored, "AAAA"), "SCRAM-SHA-256$".into()] {
            assert!(Secret::parse(&wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn messages_that_are_none_are_refused() {
        for text in ["", "n", "n,,", "n,a=root,n=,r=x", "n,,n=,r=", "n,,m=x,n=,r=x", "n,,r=x"] {
            assert!(ClientFirst::parse(text).is_none(), "{text}");
        }
        for text in ["", "c=biws,r=x", "c=!,r=x,p=AAAA", "c=biws,r=x,p=AAAA", "r=x,c=biws,p=AAAA"] {
            assert!(ClientFinal::parse(text).is_none(), "{text}");
        }
        for text in ["", "r=x,s=AAAA,i=0", "r=x,s=AAAA,i=99999999", "r=x,s=!,i=1", "s=AAAA,i=1"] {
            assert!(parse_server_first(text).is_none(), "{text}");
        }
    }
}
