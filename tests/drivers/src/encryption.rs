//! TLS in the suite: which certificates are shown, and how programs are told whom to trust.

use certificates::Authority;
use reprise::config::Identity;

use crate::middleman::Middleman;
use crate::target::Kind;

/// How a driver comes to TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    /// It asks for it in PostgreSQL's own negotiation.
    Asked,
    /// It begins with it, as `sslnegotiation=direct` says.
    Direct,
    /// It asks for it, and shows a certificate of its own.
    Certificate,
}

/// The name that servers are reached by, and that their certificates are for.
const HOST: &str = "localhost";

/// The certificates of the suite: whom the programs trust, what it signed, and what they must not take for it.
pub(crate) struct Certificates {
    /// Whom programs and the proxy trust.
    pub(crate) authority: Authority,
    /// What the database and the proxy show.
    pub(crate) server: Identity,
    client: Identity,
    /// For the same name, of an authority that nobody trusts.
    stranger: Identity,
    /// Held for its files.
    _other: Authority,
    /// Of the trusted authority, for another name.
    elsewhere: Identity,
}

/// Settings of the proxy: names of variables, and their values.
pub(crate) type Settings = Vec<(&'static str, String)>;

impl Certificates {
    pub(crate) fn create() -> Self {
        let (authority, other) = (Authority::create(), Authority::create());
        Self {
            server: authority.server(HOST),
            client: authority.client("drivers"),
            elsewhere: authority.server("elsewhere.example"),
            stranger: other.server(HOST),
            _other: other,
            authority,
        }
    }

    /// A proxy that takes clients with TLS only, and speaks TLS with the database where that can.
    pub(crate) fn settings(&self, tls: Tls, kind: Kind) -> Settings {
        let mut settings = shown(&self.server);
        let authority = self.authority.file().display().to_string();
        if tls == Tls::Certificate {
            settings.push(("REPRISE_TLS_CLIENT_CA", authority.clone()));
        }
        if kind == Kind::Postgres {
            settings.push(("REPRISE_UPSTREAM_TLS", "verify-full".into()));
            settings.push(("REPRISE_UPSTREAM_TLS_CA", authority));
            settings.push(("REPRISE_UPSTREAM_TLS_SERVER_NAME", HOST.into()));
        }
        settings
    }

    /// Who stands between a driver and a proxy with these settings.
    pub(crate) fn middleman(&self, tls: Tls) -> Middleman {
        let shown = (tls == Tls::Certificate).then_some(&self.client);
        Middleman::new(&self.server, self.authority.trusting(shown), HOST)
    }

    /// Proxies that a driver must not take for the one it looks for, and what it must verify to see that.
    pub(crate) fn impostors(&self) -> [(&'static str, Settings); 2] {
        [("authority", shown(&self.stranger)), ("host", shown(&self.elsewhere))]
    }

    /// What a program's URL has in addition, and the host that it names.
    pub(crate) fn url(&self, tls: Tls) -> (&'static str, String) {
        let authority = self.authority.file();
        let trust = format!("sslmode=verify-full&sslrootcert={}", authority.display());
        let own = match tls {
            Tls::Asked => String::new(),
            Tls::Direct => "&sslnegotiation=direct".into(),
            Tls::Certificate => {
                let Identity { certificate, key } = &self.client;
                format!("&sslcert={}&sslkey={}", certificate.display(), key.display())
            }
        };
        (HOST, trust + &own)
    }
}

fn shown(identity: &Identity) -> Settings {
    let Identity { certificate, key } = identity;
    vec![
        ("REPRISE_TLS_MODE", "require".into()),
        ("REPRISE_TLS_CERTIFICATE", certificate.display().to_string()),
        ("REPRISE_TLS_KEY", key.display().to_string()),
    ]
}
