//! Authorities, certificates and keys, made anew for each test, and a PostgreSQL that shows them.

mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use reprise::config::Identity;
use tempfile::TempDir;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

pub use server::offer_tls;

/// Somebody who signs certificates; its files go with it.
#[derive(Debug)]
pub struct Authority {
    directory: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// A new one, whom nobody knows yet.
    pub fn create() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let directory = tempfile::tempdir().expect("a directory");
        // Each has a name of its own.
        params.distinguished_name.push(DnType::CommonName, directory.path().display().to_string());
        let issuer = CertifiedIssuer::self_signed(params, key()).expect("a certificate");
        fs::write(directory.path().join("ca.crt"), issuer.pem()).expect("to write it");
        Self { directory, issuer }
    }

    /// The file with its own certificate.
    pub fn file(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// A certificate for a host.
    pub fn server(&self, host: &str) -> Identity {
        self.sign(host, CertificateParams::new([host.to_owned()]).expect("a name"))
    }

    /// One that is valid no more.
    pub fn expired(&self, host: &str) -> Identity {
        let mut params = CertificateParams::new([host.to_owned()]).expect("a name");
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
        self.sign(host, params)
    }

    /// A certificate for a user.
    pub fn client(&self, user: &str) -> Identity {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(user, params)
    }

    fn sign(&self, name: &str, mut params: CertificateParams) -> Identity {
        let key = key();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let place = |suffix: &str| self.directory.path().join(format!("{name}.{suffix}"));
        let identity = Identity { certificate: place("crt"), key: place("key") };
        fs::write(&identity.certificate, certificate.pem()).expect("to write it");
        fs::write(&identity.key, key.serialize_pem()).expect("to write it");
        restrict(&identity.key);
        identity
    }

    /// A client that trusts this authority, and speaks one version only.
    pub fn trusting_only(&self, version: &'static SupportedProtocolVersion) -> ClientConfig {
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .expect("a version");
        config.with_root_certificates(self.roots()).with_no_client_auth()
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("an authority");
        roots
    }

    /// A client that trusts this authority, and shows a certificate if it has one.
    pub fn trusting(&self, shown: Option<&Identity>) -> ClientConfig {
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(self.roots());
        match shown {
            None => config.with_no_client_auth(),
            Some(Identity { certificate, key }) => {
                let chain = CertificateDer::pem_file_iter(certificate).expect("a file");
                let chain = chain.collect::<Result<_, _>>().expect("certificates");
                let key = PrivateKeyDer::from_pem_file(key).expect("a key");
                config.with_client_auth_cert(chain, key).expect("they belong together")
            }
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

/// PostgreSQL's server and libpq take no key that others can read.
fn restrict(key: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).expect("permissions");
}
