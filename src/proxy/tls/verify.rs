//! What is verified of the database's certificate, from nothing to everything.

use std::sync::Arc;

use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use super::files;
use super::provider;
use crate::config::{Authorities, UpstreamTls, UpstreamTlsMode};

/// The verifier that the options ask for.
pub(super) fn verifier(options: &UpstreamTls) -> Result<Arc<dyn ServerCertVerifier>, files::Error> {
    let authorities = match (options.mode, &options.ca) {
        (
            UpstreamTlsMode::Disable | UpstreamTlsMode::Prefer | UpstreamTlsMode::Require,
            Authorities::System,
        ) => {
            return Ok(Arc::new(Anyone(provider())));
        }
        (_, Authorities::System) => files::system_authorities()?,
        (_, Authorities::File(path)) => files::authorities(path)?,
    };
    let trusted = WebPkiServerVerifier::builder_with_provider(Arc::new(authorities), provider());
    let trusted =
        trusted.build().expect("there are authorities, and no revocation lists that could be wrong");
    Ok(match options.mode {
        UpstreamTlsMode::VerifyFull => trusted,
        _ => Arc::new(AnyName(trusted)),
    })
}

/// Takes every certificate, as `sslmode=require` does: it keeps out who only listens. That the peer has the key of its
/// certificate is still verified.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

/// Takes the certificates of trusted authorities, for whatever name.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The name is looked at last, once everything else is right.
        match self.0.verify_server_cert(certificate, chain, name, ocsp_response, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
