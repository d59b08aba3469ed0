//! The number of a session behind the application_name that the database knows it by, for who looks for a session of the log
//! in the server's own log and views: `upstream.name_sessions`.
//!
//! It goes out with the startup packet, so that no statement is added. The client is told the name that it gave itself.

use crate::wire::startup::{Initial, STARTUP_BYTES_MAX, startup_message};
use crate::wire::{backend, encode, options};

const PARAMETER: &[u8] = b"application_name";
/// Bytes of an application_name that PostgreSQL shows (`NAMEDATALEN - 1`).
const NAME_BYTES_MAX: usize = 63;

/// A name with the number of its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Nametag {
    own: Vec<u8>,
    /// How much of it is kept before the suffix.
    kept: usize,
    suffix: Vec<u8>,
}

impl Nametag {
    /// A startup packet with the number of its session behind the name of its application, and what tells them apart. `None` if
    /// there is no room for it.
    pub(super) fn pin(packet: &[u8], session: u64) -> Option<(Vec<u8>, Self)> {
        let Ok(Initial::Startup(startup)) = Initial::parse(packet) else { return None };
        let own = name(startup.parameters());
        let number = format!("reprise:{session}");
        let mut suffix = if own.is_empty() { Vec::new() } else { b" ".to_vec() };
        suffix.extend_from_slice(number.as_bytes());
        let mut kept = own.len().min(NAME_BYTES_MAX - suffix.len());
        // Not in the middle of a character of UTF-8.
        while kept < own.len() && kept > 0 && own[kept] & 0xc0 == 0x80 {
            kept -= 1;
        }
        let tagged = [&own[..kept], &suffix].concat();
        let others = startup.parameters().filter(|(name, _)| *name != PARAMETER);
        let named = startup_message(others.chain([(PARAMETER, tagged.as_slice())]));
        (named.len() <= STARTUP_BYTES_MAX).then_some((named, Self { own, kept, suffix }))
    }

    /// What a client is told in the place of a ParameterStatus with this body: its own name. `None` if that is about something
    /// else.
    pub(super) fn unpin(&self, body: &[u8]) -> Option<Vec<u8>> {
        let (_, value) = backend::parameter_status(body).filter(|(name, _)| *name == PARAMETER)?;
        // The database may have written the name in another way.
        let reported = value.strip_suffix(self.suffix.as_slice())?;
        let own = if reported == &self.own[..self.kept] { &self.own } else { reported };
        let mut frame = Vec::new();
        encode::parameter_status(&mut frame, PARAMETER, own);
        Some(frame)
    }
}

/// The name that a client gives itself: a parameter of its own wins over the same one in `options`, and a later over an earlier.
fn name<'a>(parameters: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Vec<u8> {
    let (mut alone, mut in_options) = (None, None);
    for (name, value) in parameters {
        match name {
            PARAMETER => alone = Some(value.to_vec()),
            b"options" => {
                let mut named = options::switches(value).into_iter().rev();
                let last = named.find(|switch| switch.name == PARAMETER);
                in_options = last.and_then(|switch| switch.value).or(in_options);
            }
            _ => {}
        }
    }
    alone.or(in_options).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pinned(parameters: &[(&str, &str)]) -> (String, Nametag) {
        let bytes = parameters.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let (packet, tag) = Nametag::pin(&startup_message(bytes), 42).expect("room");
        let Ok(Initial::Startup(startup)) = Initial::parse(&packet) else { panic!("a startup packet") };
        let names: Vec<_> = startup.parameters().filter(|(name, _)| *name == PARAMETER).collect();
        assert_eq!(names.len(), 1);
        (String::from_utf8(names[0].1.to_vec()).expect("UTF-8"), tag)
    }

    fn told(tag: &Nametag, value: &str) -> Option<String> {
        let frame = tag.unpin(format!("application_name\0{value}\0").as_bytes())?;
        let (_, value) = backend::parameter_status(&frame[5..]).expect("a ParameterStatus");
        Some(String::from_utf8_lossy(value).into_owned())
    }

    #[test]
    fn the_number_stands_behind_the_name() {
        assert_eq!(pinned(&[("user", "ann"), ("application_name", "shop")]).0, "shop reprise:42");
        assert_eq!(pinned(&[("user", "ann")]).0, "reprise:42");
        assert_eq!(pinned(&[("options", "-c application_name=till -F")]).0, "till reprise:42");
        let both = [("options", "-c application_name=till"), ("application_name", "shop")];
        assert_eq!(pinned(&both).0, "shop reprise:42");
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let long = "ö".repeat(100);
        let (name, tag) = pinned(&[("application_name", &long)]);
        assert_eq!(name, format!("{} reprise:42", "ö".repeat(26)));
        assert_eq!(told(&tag, &name).as_deref(), Some(&*long));
        let huge = "x".repeat(9_985);
        let packet = startup_message([(PARAMETER, huge.as_bytes())].into_iter());
        assert!(Nametag::pin(&packet, 42).is_some_and(|(named, _)| named.len() < 200));
        let options = [(&b"options"[..], &huge.as_bytes()[..9_970])];
        assert_eq!(Nametag::pin(&startup_message(options.into_iter()), 42), None);
    }

    #[test]
    fn the_client_is_told_its_own_name() {
        let (_, tag) = pinned(&[("application_name", "shöp")]);
        assert_eq!(told(&tag, "shöp reprise:42").as_deref(), Some("shöp"));
        assert_eq!(told(&tag, "sh??p reprise:42").as_deref(), Some("sh??p"), "as PostgreSQL writes it");
        assert_eq!(told(&tag, "another"), None);
        assert_eq!(tag.unpin(b"TimeZone\0UTC reprise:42\0"), None);
    }
}
