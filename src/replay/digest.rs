//! What a request was answered, boiled down: enough to tell whether a replay answers the same.

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::wire::backend::{ErrorFields, tag};

/// A running hash over the frames of one answer.
///
/// Frames go in as framed on the wire, with type and length, so that no two sequences of frames feed the same
/// bytes. How the bytes are cut into runs makes no difference. The hash need not withstand an adversary: it is
/// compared with one's own earlier reading.
#[derive(Default)]
pub(super) struct Digest {
    /// Present once an answer came in more than one run; most come in one, and hashing that at once is cheapest.
    streaming: Option<Box<Xxh3>>,
    begun: bool,
}

impl Digest {
    /// Takes in a run of bytes that is not the last one.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let state = self.streaming.get_or_insert_with(|| Box::new(Xxh3::new()));
        if !self.begun {
            state.reset();
            self.begun = true;
        }
        state.update(bytes);
    }

    /// The hash of everything up to the end of `last`; more may follow.
    pub(super) fn so_far(&mut self, last: &[u8]) -> u128 {
        self.update(last);
        match &self.streaming {
            Some(state) if self.begun => state.digest128(),
            _ => xxh3_128(&[]),
        }
    }

    /// The hash of everything up to the end of `last`, which ends the answer: the next one begins anew.
    pub(super) fn finish(&mut self, last: &[u8]) -> u128 {
        if !self.begun {
            return xxh3_128(last);
        }
        let hash = self.so_far(last);
        self.begun = false;
        hash
    }

    /// Takes in an ErrorResponse: errors are the same when SQLSTATE, constraint, schema, table and column are, whatever
    /// their text says.
    pub(super) fn update_error(&mut self, fields: ErrorFields<'_>) {
        self.update(&[tag::ERROR_RESPONSE]);
        for (field, value) in fields.iter().filter(|(field, _)| b"Cnstc".contains(field)) {
            self.update(&[field]);
            self.update(&(value.len() as u32).to_be_bytes());
            self.update(value);
        }
    }

    /// Begins anew.
    pub(super) const fn reset(&mut self) {
        self.begun = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_may_be_cut_anywhere() {
        let answer: Vec<u8> = (0..2000u32).flat_map(u32::to_be_bytes).collect();
        let whole = Digest::default().finish(&answer);
        for cut in [1, 5, 240, 256, 1023, answer.len() - 1] {
            let mut digest = Digest::default();
            digest.update(&answer[..cut]);
            assert_eq!(digest.so_far(&answer[cut..]), whole, "cut at {cut}");
            assert_eq!(digest.finish(&[]), whole, "cut at {cut}");
        }
    }

    #[test]
    fn a_reset_digest_begins_anew() {
        let mut digest = Digest::default();
        digest.update(b"one");
        digest.reset();
        assert_eq!(digest.finish(b"two"), Digest::default().finish(b"two"));
    }

    #[test]
    fn errors_are_compared_by_what_they_are_about() {
        let of = |body: &'static [u8]| {
            let mut digest = Digest::default();
            digest.update_error(ErrorFields::new(body));
            digest.finish(b"")
        };
        let first = of(b"SERROR\0C23505\0Mduplicate key (1)\0tacc\0nacc_pkey\0\0");
        assert_eq!(first, of(b"SERROR\0C23505\0Mduplicate key (2)\0F1.c\0tacc\0nacc_pkey\0\0"));
        assert_ne!(first, of(b"SERROR\0C23505\0Mduplicate key (1)\0tacc\0nother\0\0"));
        assert_ne!(first, of(b"SERROR\0C23503\0Mduplicate key (1)\0tacc\0nacc_pkey\0\0"));
    }
}
