//! The tags that sqlcommenter's libraries write into a comment at the end of a statement: which part of an application sent it.
//!
//! Source: [the specification](https://google.github.io/sqlcommenter/spec/). Tags may hold anything. Those that tell places in a
//! program are kept, and others, such as the identifiers of traces, are not; they are read only where
//! [`Options::show_tags`](super::Options::show_tags) allows it.

use memchr::memmem;
use percent_encoding::percent_decode_str;

use super::report::plain;

/// The tags that are kept.
const KEPT: [&str; 6] = ["action", "application", "controller", "framework", "job", "route"];
/// Bytes of a comment that is read.
const COMMENT_BYTES_MAX: usize = 2048;
/// Characters of a value that are kept.
const VALUE_MAX: usize = 64;

/// The tags of a text, as `key=value`, in the order in which they stand there. `None` if there is none that is kept.
pub(super) fn tags(sql: &[u8]) -> Option<Box<str>> {
    let text = sql.trim_ascii_end();
    let text = text.strip_suffix(b";").unwrap_or(text).trim_ascii_end().strip_suffix(b"*/")?;
    let comment = text.get(memmem::rfind(text, b"/*")? + 2..)?;
    let comment = std::str::from_utf8(comment).ok().filter(|comment| comment.len() <= COMMENT_BYTES_MAX)?;
    let kept: Vec<_> = comment.split(',').filter_map(tag).collect();
    (!kept.is_empty()).then(|| kept.join(" ").into())
}

fn tag(text: &str) -> Option<String> {
    let (key, value) = text.split_once('=')?;
    let key = KEPT.into_iter().find(|kept| *kept == key.trim())?;
    let value = value.trim().strip_prefix('\'')?.strip_suffix('\'')?.replace("\\'", "'");
    let value: String = percent_decode_str(&value).decode_utf8_lossy().chars().take(VALUE_MAX).collect();
    Some(format!("{key}={}", plain(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_a_program_are_kept_and_nothing_else() {
        let of = |sql: &str| tags(sql.as_bytes()).map(String::from);
        assert_eq!(
            of("UPDATE t SET v = 'secret' /*action='%2Fpay%2A',controller='it\\'s',traceparent='00-5b'*/ ;")
                .as_deref(),
            Some("action=/pay* controller=it's")
        );
        assert_eq!(of("SELECT 1 /*route='a%0Ab'*/").as_deref(), Some("route=a\u{fffd}b"));
        assert_eq!(
            of(&format!("SELECT 1 /*job='{}'*/", "x".repeat(99))),
            Some(format!("job={}", "x".repeat(64)))
        );
        for none in [
            "SELECT 1",
            "SELECT '/*action=''secret''*/'",
            "/*action='first'*/ SELECT 1",
            "SELECT 1 /* traceparent='00-5b' */",
            "SELECT 1 /*action=bare*/",
            "*/",
        ] {
            assert_eq!(of(none), None, "{none}");
        }
        assert_eq!(of(&format!("SELECT 1 /*action='a',x='{}'*/", "y".repeat(3000))), None);
    }
}
