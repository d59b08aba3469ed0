//! The options of TLS, on the side of the clients and on that of the database.

use std::path::PathBuf;

use super::read::Reader;
use super::value::{choice, optional, server_name};

/// Section `[tls]`: the side of the clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Who may, and who must, use TLS.
    pub mode: TlsMode,
    /// What clients are shown; there unless the mode is [`TlsMode::Disable`].
    pub identity: Option<Identity>,
    /// Whose certificates clients may show, if they are asked for any.
    pub client_ca: Option<PathBuf>,
    /// Whether they must show one then.
    pub client_certificate: ClientCertificate,
    /// Which users its certificate lets a client log in as.
    pub client_user: ClientUser,
    /// Users for common names that are not theirs.
    pub client_map: Option<PathBuf>,
    /// The oldest version that clients may use.
    pub min_version: TlsVersion,
}

/// Which clients are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Those without TLS.
    Disable,
    /// Those with TLS and those without.
    Allow,
    /// Those with TLS.
    Require,
}

/// Whether a client without a certificate is served, where certificates are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    /// It is.
    Allow,
    /// It is not.
    Require,
}

/// Which users a certificate is good for. Without a certificate this asks for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientUser {
    /// Any: that is left to the login.
    Any,
    /// The one of its common name, or one that the map has for that. The login follows all the same.
    Match,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// A certificate and its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// PEM file of the certificate, with the chain behind it.
    pub certificate: PathBuf,
    /// PEM file of the key.
    pub key: PathBuf,
}

/// The options of section `[upstream]` that begin with `tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// Whether TLS is used, and what is verified then.
    pub mode: UpstreamTlsMode,
    /// Who may have signed the database's certificate.
    pub ca: Authorities,
    /// The name that it must be for, if that is not the host's.
    pub server_name: Option<String>,
    /// What the database is shown when it asks for a certificate.
    pub identity: Option<Identity>,
}

/// What `sslmode` means in
/// [libpq](https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION), without its `allow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamTlsMode {
    /// Never TLS.
    Disable,
    /// TLS if the database has it.
    Prefer,
    /// Always TLS, with whatever certificate; with a file of authorities the same as [`Self::VerifyCa`].
    Require,
    /// Always TLS, with a certificate of a trusted authority.
    VerifyCa,
    /// Always TLS, with a certificate of a trusted authority for the name of the host.
    VerifyFull,
}

/// Certificates that are trusted to sign others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorities {
    /// Those that the machine trusts.
    System,
    /// Those of a PEM file.
    File(PathBuf),
}

impl UpstreamTlsMode {
    /// Every mode, from the least to the most that is asked of the database.
    pub const ALL: [Self; 5] = [Self::Disable, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull];

    /// The word for it in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// Reads section `[tls]`.
pub(super) fn clients(reader: &mut Reader<'_>) -> Tls {
    let modes = [("disable", TlsMode::Disable), ("allow", TlsMode::Allow), ("require", TlsMode::Require)];
    let certificates = [("require", ClientCertificate::Require), ("allow", ClientCertificate::Allow)];
    let users = [("any", ClientUser::Any), ("match", ClientUser::Match)];
    let versions = [("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)];
    let tls = Tls {
        mode: reader.read("tls", "mode", choice(modes)),
        identity: identity(reader, ["tls", "certificate"], ["tls", "key"]),
        client_ca: reader.read("tls", "client_ca", optional(file)),
        client_certificate: reader.read("tls", "client_certificate", choice(certificates)),
        client_user: reader.read("tls", "client_user", choice(users)),
        client_map: reader.read("tls", "client_map", optional(file)),
        min_version: reader.read("tls", "min_version", choice(versions)),
    };
    if tls.mode != TlsMode::Disable && tls.identity.is_none() {
        reader.clash([("tls", "certificate"), ("tls", "mode")], "TLS needs a certificate and its key");
    }
    if tls.client_user == ClientUser::Match && tls.client_ca.is_none() {
        let names = [("tls", "client_ca"), ("tls", "client_user")];
        reader.clash(names, "there is no certificate that could match: name its authorities");
    }
    if tls.client_map.is_some() && tls.client_user == ClientUser::Any {
        reader.clash([("tls", "client_user"), ("tls", "client_map")], "nothing is matched");
    }
    tls
}

/// Reads what section `[upstream]` has about TLS.
pub(super) fn upstream(reader: &mut Reader<'_>) -> UpstreamTls {
    let modes = UpstreamTlsMode::ALL.map(|mode| (mode.name(), mode));
    let tls = UpstreamTls {
        mode: reader.read("upstream", "tls", choice(modes)),
        ca: reader.read("upstream", "tls_ca", authorities),
        server_name: reader.read("upstream", "tls_server_name", optional(server_name)),
        identity: identity(reader, ["upstream", "tls_certificate"], ["upstream", "tls_key"]),
    };
    let names = [("upstream", "tls_ca"), ("upstream", "tls")];
    match (tls.mode, &tls.ca) {
        (UpstreamTlsMode::VerifyCa, Authorities::System) => {
            let why =
                "anyone can get a certificate of a public authority; name a file, or use \"verify-full\"";
            reader.clash(names, why);
        }
        (UpstreamTlsMode::Disable | UpstreamTlsMode::Prefer, Authorities::File(_)) => {
            reader.clash(names, "nothing would be verified; use \"verify-full\" or \"verify-ca\"");
        }
        _ => {}
    }
    tls
}

/// A certificate and its key: both, or none of them.
fn identity(reader: &mut Reader<'_>, certificate: [&str; 2], key: [&str; 2]) -> Option<Identity> {
    let [certificate_file, key_file] =
        [certificate, key].map(|[section, name]| reader.read(section, name, optional(file)));
    match (certificate_file, key_file) {
        (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
        (None, None) => None,
        _ => {
            let names = [certificate, key].map(|[section, name]| (section, name));
            reader.clash(names, "a certificate and its key come together");
            None
        }
    }
}

fn file(text: &str) -> Result<PathBuf, String> {
    Ok(PathBuf::from(text))
}

fn authorities(text: &str) -> Result<Authorities, String> {
    match text {
        "system" => Ok(Authorities::System),
        "" => Err("no file is named; \"system\" for the authorities of the machine".to_owned()),
        _ => Ok(Authorities::File(text.into())),
    }
}
