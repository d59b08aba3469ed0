//! Words of a line: quoting, escapes, and `key=value`.

use std::fmt::Write;
use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::NotationError;

static WORD: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"^\s*(?:([A-Za-z_][\w.:-]*)=)?("(?:[^"\\]|\\.)*"|[^\s"]+)"#)
        .expect("the pattern is constant")
});
static ESCAPE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?s)\\(x[0-9a-f]{2}|.)").expect("the pattern is constant"));

/// One word of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The name before `=`, if there is one.
    pub key: Option<String>,
    /// The word itself, without quotes and escapes.
    pub text: String,
    /// Whether it stood in quotes: `"NULL"` is text, `NULL` is not.
    pub quoted: bool,
}

impl Token {
    /// The bytes that the word stands for: text in quotes, or hexadecimal digits after `0x`.
    pub fn bytes(&self) -> Result<Vec<u8>, NotationError> {
        match self.text.strip_prefix("0x") {
            Some(digits) if !self.quoted => from_hex(digits),
            _ => Ok(self.text.clone().into_bytes()),
        }
    }

    /// The bytes of a value, or `None` for SQL NULL.
    pub fn value(&self) -> Result<Option<Vec<u8>>, NotationError> {
        if self.text == "NULL" && !self.quoted { Ok(None) } else { self.bytes().map(Some) }
    }

    /// The word as a number.
    pub fn number<N: std::str::FromStr>(&self) -> Result<N, NotationError> {
        self.text.parse().map_err(|_| NotationError::new(&self.text, "a number is expected"))
    }
}

/// Splits a line into its words.
pub fn tokens(line: &str) -> Result<Vec<Token>, NotationError> {
    let mut words = Vec::new();
    let mut rest = line.trim_end();
    while !rest.is_empty() {
        let found = WORD.captures(rest).ok_or_else(|| NotationError::new(rest, "not a word"))?;
        let word = &found[2];
        words.push(Token {
            key: found.get(1).map(|key| key.as_str().to_owned()),
            text: unquote(word),
            quoted: word.starts_with('"'),
        });
        rest = &rest[found[0].len()..];
    }
    Ok(words)
}

/// Puts text in quotes, with the notation's escapes.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c < ' ' || c == '\x7f' => {
                let _ = write!(quoted, "\\x{:02x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Text in quotes where the bytes are printable text, hexadecimal digits where they are not.
pub fn quote_bytes(bytes: &[u8]) -> String {
    match printable(bytes) {
        Some(text) => quote(text),
        None => format!("0x{}", to_hex(bytes)),
    }
}

/// The bytes as text, if they are text without control characters.
pub(crate) fn printable(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let control = |c: char| c < ' ' && !matches!(c, '\n' | '\r' | '\t');
    (!text.contains(control)).then_some(text)
}

/// Hexadecimal digits of bytes.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

fn from_hex(digits: &str) -> Result<Vec<u8>, NotationError> {
    let wrong = || NotationError::new(digits, "pairs of hexadecimal digits are expected");
    if !digits.is_ascii() || !digits.len().is_multiple_of(2) {
        return Err(wrong());
    }
    (0..digits.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&digits[i..i + 2], 16).map_err(|_| wrong()))
        .collect()
}

fn unquote(word: &str) -> String {
    let Some(inner) = word.strip_prefix('"').and_then(|word| word.strip_suffix('"')) else {
        return word.to_owned();
    };
    ESCAPE.replace_all(inner, |escape: &Captures<'_>| unescape(&escape[1])).into_owned()
}

fn unescape(escape: &str) -> String {
    match escape {
        "n" => "\n".into(),
        "r" => "\r".into(),
        "t" => "\t".into(),
        _ if escape.len() == 3 => {
            u8::from_str_radix(&escape[1..], 16).map(char::from).map_or_else(|_| escape.into(), String::from)
        }
        other => other.into(),
    }
}
