//! From text to typed values: addresses, durations, sizes, numbers and choices. Every refusal tells what is allowed.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use axum::http::Uri;
use bytesize::ByteSize;
use ipnet::IpNet;

use super::problem::nearest;

/// Host and port of a server; the host is a name, an IP address, or as in libpq the directory of a Unix-domain socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A name, an IP address without brackets, or an absolute path.
    pub host: String,
    /// The port; never zero.
    pub port: u16,
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = || format!("\"{text}\" is not HOST:PORT, such as localhost:26257 or [::1]:26257");
        let (host, port) = text.rsplit_once(':').ok_or_else(allowed)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(allowed)?;
        if Path::new(host).is_absolute() {
            return Ok(Self { host: host.to_owned(), port });
        }
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address.parse::<Ipv6Addr>().is_ok().then_some(address),
            None => is_name(host).then_some(host),
        };
        Ok(Self { host: host.ok_or_else(allowed)?.to_owned(), port })
    }
}

impl HostPort {
    /// The Unix-domain socket that is meant, if it is one.
    pub fn unix_socket(&self) -> Option<PathBuf> {
        let directory = Path::new(&self.host);
        directory.is_absolute().then(|| unix_socket(directory, self.port))
    }
}

/// The Unix-domain socket of a directory, by the name that libpq looks for.
pub fn unix_socket(directory: &Path, port: u16) -> PathBuf {
    directory.join(format!(".s.PGSQL.{port}"))
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') && self.unix_socket().is_none() {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Host names as resolvers take them, underscores included, and IPv4 addresses.
fn is_name(host: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    host.len() <= 253 && host.strip_suffix('.').unwrap_or(host).split('.').all(is_label)
}

/// A name, or several: `*` stands for any characters, `?` for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Box<[u8]>);

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(text.as_bytes().into()))
    }
}

impl Pattern {
    /// Whether the pattern stands for this name, byte for byte.
    pub fn fits(&self, name: &[u8]) -> bool {
        let (mut at, mut pattern) = (0, 0);
        // Where the last `*` stands, and how far it reaches: when the rest fails, it takes one byte more.
        let mut star = None;
        while at < name.len() {
            match self.0.get(pattern) {
                Some(b'*') => {
                    star = Some((pattern, at));
                    pattern += 1;
                }
                Some(byte) if *byte == b'?' || *byte == name[at] => (at, pattern) = (at + 1, pattern + 1),
                _ => {
                    let Some((of_star, reach)) = star else { return false };
                    star = Some((of_star, reach + 1));
                    (at, pattern) = (reach + 1, of_star + 1);
                }
            }
        }
        self.0[pattern..].iter().all(|byte| *byte == b'*')
    }
}

/// An address to listen on.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("\"{text}\" is not IP:PORT, such as 127.0.0.1:6432 or [::1]:6432"))
}

/// Networks and addresses, separated by commas.
pub(super) fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    let parts = text.split(',').map(str::trim).filter(|_| !text.trim().is_empty());
    let network = |part: &str| {
        let single = || part.parse::<IpAddr>().map(IpNet::from).ok();
        part.parse().ok().or_else(single).ok_or_else(|| {
            format!("\"{part}\" is neither a network nor an address, such as 10.0.0.0/8, 192.0.2.7 or ::1")
        })
    };
    parts.map(network).collect()
}

/// A value, or nothing.
pub(super) fn optional<T>(
    read: impl Fn(&str) -> Result<T, String>,
) -> impl Fn(&str) -> Result<Option<T>, String> {
    move |text| match text {
        "" => Ok(None),
        _ => read(text).map(Some).map_err(|message| format!("{message}; \"\" for none")),
    }
}

/// The URL of something that is asked without TLS; no password is in it, for it is shown.
pub(super) fn plain_url(text: &str) -> Result<String, String> {
    let is_plain =
        |url: &Uri| url.scheme_str() == Some("http") && url.host().is_some_and(|host| !host.is_empty());
    match text.parse::<Uri>().ok().filter(is_plain) {
        // What is wrong is shown too, so that it is not repeated here.
        _ if text.contains('@') => {
            Err("a user or a password in a URL would be shown; give it without".to_owned())
        }
        Some(_) => Ok(text.to_owned()),
        None => Err(format!("\"{text}\" is not http://HOST:PORT/PATH, without TLS")),
    }
}

/// A name or an IP address, as a certificate has it.
pub(super) fn server_name(text: &str) -> Result<String, String> {
    match is_name(text) || text.parse::<Ipv6Addr>().is_ok() {
        true => Ok(text.to_owned()),
        false => Err(format!("\"{text}\" is neither a host name nor an IP address")),
    }
}

/// A duration such as `1m 30s`.
pub(super) fn duration(allowed: RangeInclusive<Duration>) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| {
        let told = format!(
            "allowed: {} to {}",
            humantime::format_duration(*allowed.start()),
            humantime::format_duration(*allowed.end())
        );
        let duration = humantime::parse_duration(text)
            .map_err(|error| format!("\"{text}\" is not a duration: {error}; {told}"))?;
        within(duration, &allowed).ok_or_else(|| format!("\"{text}\" is out of range; {told}"))
    }
}

/// A number of bytes such as `4MiB`.
pub(super) fn size(allowed: RangeInclusive<u64>) -> impl Fn(&str) -> Result<u64, String> {
    move |text| {
        let told = format!("allowed: {} to {}", ByteSize(*allowed.start()), ByteSize(*allowed.end()));
        let size: ByteSize = text
            .parse()
            .map_err(|_| format!("\"{text}\" is not a size, such as \"512KiB\" or \"4MiB\"; {told}"))?;
        within(size.as_u64(), &allowed).ok_or_else(|| format!("\"{text}\" is out of range; {told}"))
    }
}

/// A whole number.
pub(super) fn number(allowed: RangeInclusive<u32>) -> impl Fn(&str) -> Result<u32, String> {
    move |text| {
        let told = format!("allowed: {} to {}", allowed.start(), allowed.end());
        let number: i128 = text.parse().map_err(|_| format!("\"{text}\" is not a whole number; {told}"))?;
        let number = u32::try_from(number).ok().and_then(|number| within(number, &allowed));
        number.ok_or_else(|| format!("{text} is out of range; {told}"))
    }
}

/// `true` or `false`.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("\"{text}\" is not a boolean; allowed: true, false"))
}

/// One of a few words.
pub(super) fn choice<T: Copy>(
    choices: impl IntoIterator<Item = (&'static str, T)>,
) -> impl Fn(&str) -> Result<T, String> {
    let choices: Vec<_> = choices.into_iter().collect();
    move |text| {
        let names = || choices.iter().map(|(name, _)| *name);
        let chosen = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        chosen.ok_or_else(|| {
            let meant = nearest(text, names()).map(|name| format!("did you mean \"{name}\"? "));
            let told = names().collect::<Vec<_>>().join("\", \"");
            format!("\"{text}\" is unknown; {}allowed: \"{told}\"", meant.unwrap_or_default())
        })
    }
}

fn within<T: PartialOrd>(value: T, allowed: &RangeInclusive<T>) -> Option<T> {
    allowed.contains(&value).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_with_a_password_is_refused_and_not_repeated() {
        assert_eq!(
            plain_url("http://127.0.0.1:4318/v1/traces").as_deref(),
            Ok("http://127.0.0.1:4318/v1/traces")
        );
        for url in ["http://ann:secret@h/", "https://ann:secret@h/", "ann:secret@h"] {
            assert!(plain_url(url).is_err_and(|error| !error.contains("secret")), "{url}");
        }
        assert!(plain_url("https://h/").is_err_and(|error| error.contains("https://h/")));
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        for text in
            ["localhost:26257", "db_1.example.com.:5432", "10.0.0.1:1", "[::1]:65535", "/run/postgresql:5432"]
        {
            assert_eq!(text.parse::<HostPort>().map(|address| address.to_string()), Ok(text.to_owned()));
        }
        for text in
            ["", "localhost", ":5432", "a:0", "a:65536", "::1:5432", "[::1:5432", "[a]:1", "a b:1", "a..b:1"]
        {
            assert!(text.parse::<HostPort>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_directory_stands_for_the_socket_in_it() {
        let socket = |text: &str| text.parse::<HostPort>().expect("an address").unix_socket();
        assert_eq!(socket("/run/postgresql:5433"), Some(PathBuf::from("/run/postgresql/.s.PGSQL.5433")));
        assert_eq!(socket("[::1]:5433"), None);
    }

    #[test]
    fn a_pattern_stands_for_names() {
        let fits = |pattern: &str, name: &str| pattern.parse::<Pattern>().unwrap().fits(name.as_bytes());
        for (pattern, name) in [
            ("*", ""),
            ("", ""),
            ("app", "app"),
            ("app-?", "app-1"),
            ("*b*c", "abbcbc"),
            ("a**", "a"),
            ("?", "?"),
        ] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("", "a"), ("app", "App"), ("app-?", "app-"), ("*b*c", "abbcb"), ("a?*", "a"), ("app", "app2")]
        {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn addresses_to_listen_on_are_exact() {
        assert!(socket_address("0.0.0.0:0").is_ok());
        assert!(socket_address("localhost:1").unwrap_err().contains("IP:PORT"));
        assert_eq!(optional(socket_address)(""), Ok(None));
        assert!(optional(socket_address)("9432").unwrap_err().ends_with("\"\" for none"));
    }

    #[test]
    fn networks_are_a_list() {
        assert_eq!(networks(" "), Ok(Vec::new()));
        let read = networks("10.0.0.0/8, 192.0.2.7,::1").expect("valid");
        assert_eq!(
            read.iter().map(IpNet::to_string).collect::<Vec<_>>(),
            ["10.0.0.0/8", "192.0.2.7/32", "::1/128"]
        );
        for text in ["10.0.0.0/33", "localhost", "10.0.0.0/8,", "10.0.0.0/8 ::1"] {
            assert!(networks(text).unwrap_err().contains("is neither a network nor an address"), "{text}");
        }
    }

    #[test]
    fn durations_have_a_unit_and_a_range() {
        let read = duration(Duration::from_millis(1)..=Duration::from_secs(60));
        assert_eq!(read("1s 500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(read("0s").unwrap_err(), "\"0s\" is out of range; allowed: 1ms to 1m");
        assert!(read("15").unwrap_err().contains("time unit needed, for example 15sec or 15ms"));
    }

    #[test]
    fn sizes_may_be_plain_bytes() {
        let read = size(1024..=1 << 30);
        assert_eq!(read("4MiB"), Ok(4 << 20));
        assert_eq!(read("4096"), Ok(4096));
        assert_eq!(read("2GiB").unwrap_err(), "\"2GiB\" is out of range; allowed: 1.0 KiB to 1.0 GiB");
        assert!(read("much").unwrap_err().contains("not a size"));
    }

    #[test]
    fn numbers_do_not_wrap() {
        let read = number(1..=100);
        assert_eq!(read("100"), Ok(100));
        for text in ["0", "-1", "101", "4294967297"] {
            assert_eq!(read(text), Err(format!("{text} is out of range; allowed: 1 to 100")));
        }
        assert!(read("many").unwrap_err().contains("not a whole number"));
    }

    #[test]
    fn a_mistyped_choice_is_told_what_was_meant() {
        let read = choice([("text", 1), ("json", 2)]);
        assert_eq!(read("json"), Ok(2));
        assert_eq!(
            read("jsn").unwrap_err(),
            "\"jsn\" is unknown; did you mean \"json\"? allowed: \"text\", \"json\""
        );
        assert_eq!(read("xml").unwrap_err(), "\"xml\" is unknown; allowed: \"text\", \"json\"");
    }
}
