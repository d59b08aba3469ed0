//! The login to the database, for a client that has proved who it is.

use std::num::NonZeroU32;

use postgres_protocol::authentication::md5_hash;
use thiserror::Error;

use super::scram::{self, Hash, Keys, Secret};
use super::userlist::{User, random};
use crate::wire::sasl::{self, Request, SCRAM_SHA_256, SCRAM_SHA_256_PLUS};

/// What it takes to log in, and how far that has come.
pub(in crate::proxy) struct Login {
    user: Vec<u8>,
    password: Option<String>,
    /// The secret that the client knows the password of.
    secret: Secret,
    /// What it has proved that by.
    client_key: Hash,
    /// What the login can be bound to, if the connection has TLS.
    binding: Option<Vec<u8>>,
    progress: Progress,
}

/// How far an exchange of SCRAM has come.
enum Progress {
    None,
    /// The first message is sent: this part of it, with this nonce, behind what binds the login.
    First {
        bare: String,
        nonce: String,
        bound: Vec<u8>,
    },
    /// The proof is sent, and the database must prove itself by this.
    Last {
        signature: Hash,
    },
    /// The database has proved itself, or needed not to.
    Done,
}

/// Why a login to the database does not go on.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(in crate::proxy) enum LoginFailure {
    /// It asks for the password itself.
    #[error("the database asks for a password, and auth.file has only a SCRAM secret of it")]
    NoPassword,
    /// It has another salt, or other iterations, than the secret.
    #[error("the SCRAM secret in auth.file is not the one that the database has")]
    OtherSecret,
    /// It asks for something else.
    #[error("the database asks for a method of authentication that Reprise does not have")]
    Method,
    /// What it says is not SCRAM, or not from somebody who knows the password.
    #[error("the database does not authenticate itself as it should")]
    Nonsense,
}

impl Login {
    pub(super) fn new(name: &[u8], user: User, client_key: Hash) -> Self {
        let User { secret, password } = user;
        let (user, binding) = (name.to_vec(), None);
        Self { user, password, secret, client_key, binding, progress: Progress::None }
    }

    /// The login is to be valid on this TLS connection only, whose other end might be somebody in the middle.
    pub(in crate::proxy) fn bind(&mut self, binding: Option<Vec<u8>>) {
        self.binding = binding;
    }

    /// The answer to an authentication message of the database; `None` if it wants none.
    pub(in crate::proxy) fn answer(&mut self, request: Request<'_>) -> Result<Option<Vec<u8>>, LoginFailure> {
        let progress = std::mem::replace(&mut self.progress, Progress::Done);
        match (request, progress) {
            (Request::Cleartext, Progress::None) => Ok(Some(sasl::password(self.password()?.as_bytes()))),
            (Request::Md5 { salt }, Progress::None) => {
                let hash = md5_hash(&self.user, self.password()?.as_bytes(), salt);
                Ok(Some(sasl::password(hash.as_bytes())))
            }
            (Request::Sasl { mechanisms }, Progress::None) => self.begin(mechanisms).map(Some),
            (Request::SaslContinue(challenge), Progress::First { bare, nonce, bound }) => {
                self.prove(&bare, &nonce, &bound, challenge).map(Some)
            }
            (Request::SaslFinal(last), Progress::Last { signature }) => {
                let last = std::str::from_utf8(last).map_err(|_| LoginFailure::Nonsense)?;
                scram::is_signed(last, &signature).then_some(None).ok_or(LoginFailure::Nonsense)
            }
            // Only one that was proved to must not break off: it could be somebody else.
            (Request::Ok, Progress::None | Progress::Done) => Ok(None),
            (Request::Ok | Request::SaslContinue(_) | Request::SaslFinal(_), _) => {
                Err(LoginFailure::Nonsense)
            }
            _ => Err(LoginFailure::Method),
        }
    }

    /// Chooses a mechanism. Where the login could be bound and the database does not offer that, it is told so: if it has
    /// offered it, and somebody in the middle has taken that away, it refuses.
    fn begin(&mut self, mechanisms: &[u8]) -> Result<Vec<u8>, LoginFailure> {
        let (mechanism, header, binding) = match &self.binding {
            Some(binding) if sasl::has(mechanisms, SCRAM_SHA_256_PLUS) => {
                (SCRAM_SHA_256_PLUS, "p=tls-server-end-point,,", &binding[..])
            }
            _ if !sasl::has(mechanisms, SCRAM_SHA_256) => return Err(LoginFailure::Method),
            Some(_) => (SCRAM_SHA_256, "y,,", &[][..]),
            None => (SCRAM_SHA_256, "n,,", &[][..]),
        };
        let nonce = scram::encode(&random::<18>().map_err(|_| LoginFailure::Nonsense)?);
        let bare = format!("n=,r={nonce}");
        let message = sasl::begin(mechanism, format!("{header}{bare}").as_bytes());
        let bound = [header.as_bytes(), binding].concat();
        self.progress = Progress::First { bare, nonce, bound };
        Ok(message)
    }

    fn prove(
        &mut self,
        bare: &str,
        nonce: &str,
        bound: &[u8],
        challenge: &[u8],
    ) -> Result<Vec<u8>, LoginFailure> {
        let challenge = std::str::from_utf8(challenge).map_err(|_| LoginFailure::Nonsense)?;
        let (whole_nonce, salt, iterations) =
            scram::parse_server_first(challenge).ok_or(LoginFailure::Nonsense)?;
        if !whole_nonce.starts_with(nonce) || whole_nonce.len() == nonce.len() {
            return Err(LoginFailure::Nonsense);
        }
        let keys = self.keys(&salt, iterations)?;
        let last = format!("c={},r={whole_nonce}", scram::encode(bound));
        let message = scram::signed(bare, challenge, &last);
        let proof = scram::encode(&scram::proof(&keys.client_key, &message));
        self.progress = Progress::Last { signature: scram::signature(&keys.server_key, &message) };
        Ok(sasl::respond(format!("{last},p={proof}").as_bytes()))
    }

    /// With the password at hand any salt will do; what the client has proved is good for that of the file.
    fn keys(&self, salt: &[u8], iterations: NonZeroU32) -> Result<Keys, LoginFailure> {
        if let Some(password) = &self.password {
            return Ok(Keys::derive(password, salt, iterations));
        }
        if self.secret.salt != salt || self.secret.iterations != iterations {
            return Err(LoginFailure::OtherSecret);
        }
        Ok(Keys { client_key: self.client_key, server_key: self.secret.server_key })
    }

    fn password(&self) -> Result<&str, LoginFailure> {
        self.password.as_deref().ok_or(LoginFailure::NoPassword)
    }
}
