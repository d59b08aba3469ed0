//! What is wrong with a configuration, and where it was written.

use std::fmt;

/// Where a value comes from. A later variant overrides an earlier one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of the configuration file.
    File {
        /// The file, as it was named.
        path: String,
        /// The line, counted from 1.
        line: usize,
    },
    /// This environment variable.
    Environment(String),
    /// This flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Environment(variable) => f.write_str(variable),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// One thing that is wrong, with its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where it was written.
    pub origin: Origin,
    /// The option, such as `retry.max_attempts`; empty where the file is no TOML at all.
    pub key: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(f, "{}: {}", self.origin, self.message),
            key => write!(f, "{}: {key}: {}", self.origin, self.message),
        }
    }
}

/// Resemblance from which on an unknown word is taken for a mistyped known one.
const RESEMBLANCE: f64 = 0.75;

/// The candidate that a mistyped word most probably stands for.
pub(super) fn nearest<T: AsRef<str>>(word: &str, candidates: impl IntoIterator<Item = T>) -> Option<T> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(word, candidate.as_ref()), candidate))
        .filter(|(resemblance, _)| *resemblance >= RESEMBLANCE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_close_or_there_is_none() {
        let words = ["max_attempts", "max_backoff", "timeout"];
        assert_eq!(nearest("max_atempts", words), Some("max_attempts"));
        assert_eq!(nearest("tiemout", words), Some("timeout"));
        assert_eq!(nearest("colour", words), None);
    }

    #[test]
    fn flags_override_the_environment_and_that_the_file() {
        let file = Origin::File { path: "a".into(), line: 1 };
        let environment = Origin::Environment("REPRISE_RETRY_MODE".into());
        assert!(Origin::Default < file && file < environment && environment < Origin::Flag("--mode"));
    }
}
