//! Masks: what a server answers differently every time becomes a placeholder, so that answers can be compared.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;

use crate::notation::{Backend, Fields};

/// Patterns inside a text, and what stands for them.
static IN_TEXT: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    compile([
        (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<UUID>"),
        (r"\b\d{9,10}\.\d{9},\d+\??", "<HLC>"),
        (r"\bid=[0-9a-f]{8}\b", "id=<TXN>"),
        (r"\bpri=\d+\.\d+", "pri=<PRI>"),
        (r"/Table/\d+", "/Table/<ID>"),
        (r"\b([Pp]rocess) \d+", "$1 <PID>"),
        (r"\btransaction \d+", "transaction <XID>"),
        (r"\btuple \(\d+,\d+\)", "tuple <TID>"),
        (r"\brelation \d+ of database \d+", "relation <OID> of database <OID>"),
        (r"/docs/v\d+\.\d+/", "/docs/<VERSION>/"),
        (r"\b\d{18,19}\b", "<ROWID>"),
    ])
});

/// Patterns of a whole value, and the kind that numbers it.
static WHOLE: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    compile([
        (r"^CockroachDB .*v\d", "CRDB_VERSION"),
        (r"^PostgreSQL \d", "PG_VERSION"),
        (r"^\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?([+-]\d\d(:\d\d)?|Z)?$", "TIME"),
        (r"^\d{19}\.\d{10}$", "HLC"),
        (r"^\d{18,19}$", "ROWID"),
        (r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$", "UUID"),
    ])
});

fn compile<const N: usize>(patterns: [(&str, &'static str); N]) -> Vec<(Regex, &'static str)> {
    patterns.map(|(pattern, name)| (Regex::new(pattern).expect("the patterns are constant"), name)).into()
}

/// The masks of one case: equal values of one kind get equal numbers, in order of first appearance.
#[derive(Debug, Default)]
pub struct Mask {
    seen: HashMap<&'static str, Vec<String>>,
}

impl Mask {
    /// The message with placeholders for everything volatile.
    pub fn apply(&mut self, message: Backend) -> Backend {
        match message {
            Backend::DataRow(values) => {
                Backend::DataRow(values.into_iter().map(|value| Some(self.bytes(value?))).collect())
            }
            Backend::ErrorResponse(fields) => Backend::ErrorResponse(mask_fields(fields)),
            Backend::NoticeResponse(fields) => Backend::NoticeResponse(mask_fields(fields)),
            Backend::ParameterStatus { name, .. }
                if matches!(name.as_str(), "server_version" | "crdb_version") =>
            {
                let value = format!("<{}>", name.to_uppercase());
                Backend::ParameterStatus { name, value }
            }
            other => other,
        }
    }

    fn bytes(&mut self, value: Vec<u8>) -> Vec<u8> {
        match crate::notation::printable(&value) {
            Some(text) => self.value(text).into_bytes(),
            None => value,
        }
    }

    /// A whole value: a numbered placeholder if its shape is a volatile one.
    pub fn value(&mut self, value: &str) -> String {
        let Some((_, kind)) = WHOLE.iter().find(|(pattern, _)| pattern.is_match(value)) else {
            return mask_text(value);
        };
        let seen = self.seen.entry(kind).or_default();
        let index = seen.iter().position(|other| other == value).unwrap_or_else(|| {
            seen.push(value.to_owned());
            seen.len() - 1
        });
        format!("<{kind}#{}>", index + 1)
    }
}

/// A text in which placeholders stand for the volatile parts.
pub fn mask_text(text: &str) -> String {
    if text.starts_with("stack trace:") {
        return "<STACK TRACE>".into();
    }
    IN_TEXT
        .iter()
        .fold(text.to_owned(), |text, (pattern, name)| pattern.replace_all(&text, *name).into_owned())
}

fn mask_fields(fields: Fields) -> Fields {
    Fields(fields.0.into_iter().map(|(letter, text)| (letter, mask_text(&text))).collect())
}
