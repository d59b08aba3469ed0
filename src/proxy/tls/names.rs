//! Which users a client's certificate is good for, by the common name in it.

use std::collections::HashSet;

use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::{ClientUser, Tls};
use crate::proxy::auth::{self, pairs};

/// Common names, and the users that they may log in as besides the one of the same name.
pub(super) struct Names(HashSet<(String, String)>);

impl Names {
    /// Reads the map; `None` where a certificate is good for any user.
    pub(super) fn load(options: &Tls) -> Result<Option<Self>, auth::Error> {
        if options.client_user == ClientUser::Any {
            return Ok(None);
        }
        let lines = match &options.client_map {
            Some(path) => pairs(path, "expected \"common name\" \"user\"")?,
            None => Vec::new(),
        };
        Ok(Some(Self(lines.into_iter().map(|(_, name, user)| (name, user)).collect())))
    }

    /// Whether this certificate is good for this user.
    pub(super) fn fit(&self, certificate: &CertificateDer<'_>, user: &[u8]) -> bool {
        let (Some(name), Ok(user)) = (common_name(certificate), std::str::from_utf8(user)) else {
            return false;
        };
        name == user || self.0.contains(&(name, user.to_owned()))
    }
}

/// The common name of whom a certificate is for. With several of them, as PostgreSQL has it, the first counts.
fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn certificate(name: &str) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if !name.is_empty() {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn a_certificate_is_good_for_its_name_and_those_of_the_map() {
        let names = Names(HashSet::from([("ann.example".to_owned(), "ann".to_owned())]));
        for (name, user, fits) in [
            ("ann", "ann", true),
            ("ann.example", "ann", true),
            ("ann.example", "ann.example", true),
            ("ann.example", "bob", false),
            ("bob", "ann", false),
            ("ann", "ann.example", false),
            ("Ann", "ann", false),
            ("", "", false),
        ] {
            assert_eq!(names.fit(&certificate(name), user.as_bytes()), fits, "{name} {user}");
        }
        assert!(!names.fit(&CertificateDer::from(&b"0\x03\x02\x01\x00"[..]), b"ann"));
        assert!(!names.fit(&certificate("ann"), b"\xff"));
    }
}
