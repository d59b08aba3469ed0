//! The database under the demonstration: the one that was named, or a throwaway server.

use std::net::SocketAddr;

use tokio::net::{TcpStream, lookup_host};
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::Error;
use super::server::Throwaway;

const PORT_DEFAULT: u16 = 5432;

/// The database, and how to connect to it.
pub(super) struct Upstream {
    /// Held for its drop, which stops the server.
    throwaway: Option<Throwaway>,
    config: Config,
    addr: SocketAddr,
}

impl Upstream {
    /// Connects to the database of `url`, or starts a throwaway server.
    pub(super) async fn open(url: Option<&str>) -> Result<Self, Error> {
        let throwaway = match url {
            Some(_) => None,
            None => Some(Throwaway::start().await?),
        };
        let url =
            url.map(str::to_owned).or_else(|| throwaway.as_ref().map(Throwaway::url)).unwrap_or_default();
        let config: Config = url.parse().map_err(|error| Error::Upstream(format!("{error}")))?;
        let addr = reachable_addr(&config).await?;
        Ok(Self { throwaway, config, addr })
    }

    /// Where the database listens.
    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How to connect as the same user to the same database at `addr`: its own, or a proxy's.
    pub(super) fn config(&self, addr: SocketAddr) -> Config {
        let mut config = Config::new();
        config.host(addr.ip().to_string()).port(addr.port()).application_name("reprise demo");
        if let Some(user) = self.config.get_user() {
            config.user(user);
        }
        if let Some(password) = self.config.get_password() {
            config.password(password);
        }
        if let Some(database) = self.config.get_dbname() {
            config.dbname(database);
        }
        if let Some(options) = self.config.get_options() {
            config.options(options);
        }
        config
    }

    /// What a reader of the figures must know about this database.
    pub(super) fn remark(&self) -> &'static str {
        match self.throwaway {
            None => "as named by --upstream",
            Some(Throwaway::Cockroach(_)) => "a throwaway server in memory, on this machine",
            Some(Throwaway::Postgres(_)) => {
                "a throwaway server that does not wait for the disk, on this machine"
            }
        }
    }
}

/// The first address of the configured hosts that takes a connection.
async fn reachable_addr(config: &Config) -> Result<SocketAddr, Error> {
    let mut refusal = "it names no host".to_owned();
    let ports = config.get_ports();
    for (index, host) in config.get_hosts().iter().enumerate() {
        let Host::Tcp(name) = host else {
            refusal = "Reprise connects by TCP, not by a Unix socket".to_owned();
            continue;
        };
        // One port may stand for all hosts.
        let port = ports.get(index).or(ports.first()).copied().unwrap_or(PORT_DEFAULT);
        match connect_any(name, port).await {
            Ok(addr) => return Ok(addr),
            Err(error) => refusal = format!("{name}:{port}: {error}"),
        }
    }
    Err(Error::Upstream(refusal))
}

async fn connect_any(host: &str, port: u16) -> std::io::Result<SocketAddr> {
    let addrs: Vec<_> = lookup_host((host, port)).await?.collect();
    TcpStream::connect(&addrs[..]).await?.peer_addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_url_that_cannot_be_used_is_refused_with_its_reason() {
        for (url, reason) in [
            ("postgres:///db?host=/run", "Unix socket"),
            ("postgres:///db", "no host"),
            ("postgres://127.0.0.1:1/db", "127.0.0.1:1"),
            ("nonsense", "--upstream"),
        ] {
            let Err(error) = Upstream::open(Some(url)).await else { panic!("{url} was taken") };
            assert!(error.to_string().contains(reason), "{url}: {error}");
        }
    }

    #[tokio::test]
    async fn a_proxy_is_connected_to_as_the_same_user() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let upstream =
            Upstream::open(Some(&format!("postgres://ann:secret@localhost:{port}/bank"))).await.unwrap();
        let config = upstream.config("127.0.0.9:6432".parse().unwrap());
        assert_eq!(config.get_hosts(), [Host::Tcp("127.0.0.9".to_owned())]);
        assert_eq!(config.get_ports(), [6432]);
        assert_eq!((config.get_user(), config.get_dbname()), (Some("ann"), Some("bank")));
        assert_eq!(config.get_password(), Some(&b"secret"[..]));
    }
}
