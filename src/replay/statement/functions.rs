//! What a text names that its keywords do not tell: functions with effects of their own, and words anywhere in it.

/// Which functions that reach beyond the transaction a text names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::replay) struct Functions {
    /// `pg_advisory_lock`, `pg_try_advisory_lock`, `pg_advisory_unlock` and their like: no rollback frees these locks, or takes
    /// them again.
    pub(in crate::replay) lock: bool,
    /// `set_config`, which does what SET does.
    pub(in crate::replay) set: bool,
}

impl Functions {
    /// Looks for them anywhere in a text, or in several.
    pub(in crate::replay) fn named(text: &[u8]) -> Self {
        let mut named = Self::default();
        for at in memchr::memchr_iter(b'_', text) {
            let (before, behind) = (&text[..at], &text[at + 1..]);
            let begins = |word: &[u8]| behind.get(..word.len()).is_some_and(|w| w.eq_ignore_ascii_case(word));
            match behind.first() {
                Some(b'a' | b'A') => named.lock |= begins(b"advisory_lock") || begins(b"advisory_unlock"),
                Some(b'c' | b'C') if begins(b"config") => {
                    named.set |=
                        before.last_chunk().is_some_and(|w: &[u8; 3]| w.eq_ignore_ascii_case(b"set"));
                }
                _ => {}
            }
        }
        named
    }
}

/// Whether one of these names, in small letters, occurs anywhere in a text, in letters of any size.
pub(in crate::replay) fn names(text: &[u8], words: &[&[u8]]) -> bool {
    words.iter().any(|word| {
        let [first, large] = [word[0], word[0].to_ascii_uppercase()];
        memchr::memchr2_iter(first, large, text)
            .any(|at| text[at..].get(..word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word)))
    })
}
