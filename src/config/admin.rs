//! The console and what is remembered for reports: sections `[admin]`, `[report]` and `[privacy]`.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use super::read::Reader;
use super::value::{boolean, networks, number, optional};
use crate::insight;

/// Section `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// The users of the console and their passwords; without them there is no console.
    pub file: Option<PathBuf>,
    /// The name that takes the place of a database's.
    pub database: String,
    /// Users who may only look.
    pub viewers: Vec<String>,
    /// Where users may come from, if not by the Unix-domain socket.
    pub networks: Vec<IpNet>,
}

/// Sections `[report]` and `[privacy]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What may be remembered.
    pub options: insight::Options,
    /// Who looks up the names of tables, if anybody does.
    pub lookup: Option<Lookup>,
}

/// Who looks up the names of tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// A user of the database.
    pub user: String,
    /// Where its password is, if it needs one.
    pub password_file: Option<PathBuf>,
}

impl Admin {
    /// Whether a client with this address may use the console.
    pub fn is_open_to(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }
}

/// Reads section `[admin]`.
pub(super) fn admin(reader: &mut Reader<'_>) -> Admin {
    Admin {
        file: reader.read("admin", "file", optional(path)),
        database: reader.read("admin", "database", name),
        viewers: reader.read("admin", "viewers", |text| Ok(list(text).map(str::to_owned).collect())),
        networks: reader.read("admin", "networks", networks),
    }
}

/// Reads sections `[report]` and `[privacy]`.
pub(super) fn report(reader: &mut Reader<'_>) -> Report {
    let options = insight::Options {
        max_entries: reader.read("report", "max_entries", number(1..=10_000)) as usize,
        max_tables: reader.read("report", "max_tables", number(0..=10_000)) as usize,
        adviser: reader.read("report", "adviser", boolean),
        show_keys: reader.read("privacy", "show_keys", boolean),
        show_tags: reader.read("privacy", "show_tags", boolean),
    };
    let user = reader.read("report", "lookup_user", optional(|text| Ok(text.to_owned())));
    let password_file = reader.read("report", "lookup_password_file", optional(path));
    if user.is_none() && password_file.is_some() {
        let names = [("report", "lookup_user"), ("report", "lookup_password_file")];
        reader.clash(names, "a password needs its user");
    }
    Report { options, lookup: user.map(|user| Lookup { user, password_file }) }
}

fn path(text: &str) -> Result<PathBuf, String> {
    Ok(PathBuf::from(text))
}

fn name(text: &str) -> Result<String, String> {
    match text {
        "" => Err("no name is given, such as \"reprise\"".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_open_to_its_networks_only() {
        let networks = networks("127.0.0.0/8, ::1").unwrap();
        let admin = Admin { file: None, database: "reprise".to_owned(), viewers: Vec::new(), networks };
        for (address, open) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("10.0.0.1", false),
            ("::2", false),
        ] {
            assert_eq!(admin.is_open_to(address.parse().unwrap()), open, "{address}");
        }
        assert!(name("").is_err());
    }
}
