//! Certificates, keys and authorities from PEM files, and what is wrong with them.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};

use crate::config::Identity;
use crate::proxy::auth;

/// Why there is no TLS as it is configured.
#[derive(Debug, Error)]
pub enum Error {
    /// A file is not there, or may not be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// A file is no PEM.
    #[error("{} is not valid PEM: {error}", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: pem::Error,
    },
    /// The map of names is not as it should be.
    #[error(transparent)]
    Map(#[from] auth::Error),
    /// A file has no certificate.
    #[error("{} has no certificate (-----BEGIN CERTIFICATE-----)", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A file has no private key that can be used.
    #[error("{} has no private key in PKCS#8, PKCS#1 or SEC1 form that is not encrypted", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// A certificate cannot be an authority.
    #[error("{} has a certificate that cannot be trusted: {error}", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: tokio_rustls::rustls::Error,
    },
    /// A certificate cannot be shown, or the key is another one's.
    #[error("the certificate of {} cannot be used with its key: {error}", path.display())]
    Identity {
        /// The file of the certificate.
        path: PathBuf,
        /// What is wrong.
        error: tokio_rustls::rustls::Error,
    },
    /// The machine trusts nobody.
    #[error("this machine has no certificates of authorities; name a file in upstream.tls_ca{0}")]
    NoSystemAuthorities(String),
    /// A name that no certificate can have.
    #[error("\"{0}\" is no name that a certificate can have; set upstream.tls_server_name")]
    ServerName(String),
    /// The cryptography does not work.
    #[error("TLS cannot be used: {0}")]
    Unusable(tokio_rustls::rustls::Error),
}

/// A certificate with its chain, and its private key.
pub(super) fn identity(
    identity: &Identity,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
    let path = identity.key.clone();
    let key = PrivateKeyDer::from_pem_slice(&read(&path)?).map_err(|error| match error {
        pem::Error::NoItemsFound => Error::NoKey { path },
        error => Error::NotPem { path, error },
    })?;
    Ok((certificates(&identity.certificate)?, key))
}

/// The authorities of a file.
pub(super) fn authorities(path: &Path) -> Result<RootCertStore, Error> {
    let mut authorities = RootCertStore::empty();
    for certificate in certificates(path)? {
        let told = |error| Error::Authority { path: path.to_owned(), error };
        authorities.add(certificate).map_err(told)?;
    }
    Ok(authorities)
}

/// The authorities that the machine trusts.
pub(super) fn system_authorities() -> Result<RootCertStore, Error> {
    let mut authorities = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    // Among those of a machine there are some that nobody can use.
    authorities.add_parsable_certificates(found.certs);
    if authorities.is_empty() {
        let errors: String = found.errors.iter().map(|error| format!("; {error}")).collect();
        return Err(Error::NoSystemAuthorities(errors));
    }
    Ok(authorities)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = read(path)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| Error::NotPem { path: path.to_owned(), error })?;
    match certificates.is_empty() {
        true => Err(Error::NoCertificate { path: path.to_owned() }),
        false => Ok(certificates),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| Error::Unreadable { path: path.to_owned(), error })
}
