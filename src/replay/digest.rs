//! What a request was answered, boiled down: enough to tell whether a replay answers the same.

use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_128};

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

    /// The hash of a whole answer.
    pub(super) fn of(answer: &[u8]) -> u128 {
        xxh3_128(answer)
    }

    /// The hash of everything up to the end of `last`, which ends the answer: the next one begins anew.
    pub(super) fn finish(&mut self, last: &[u8]) -> u128 {
        if !self.begun {
            return Self::of(last);
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

/// The rows of one answer whatever their order: tells rows in another order from other rows. Where it would cost something
/// (many rows, or long ones) it is lost, and tells nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unordered {
    sum: u64,
    rows: u32,
    lost: bool,
}

/// Rows of one answer that are hashed one by one.
const UNORDERED_ROWS_MAX: u32 = 100;
/// Bytes of the longest of them.
const UNORDERED_BYTES_MAX: usize = 256;

impl Unordered {
    /// Takes in a row, of which this much is here.
    pub(super) fn add(&mut self, frame: &[u8], whole: bool) {
        if self.lost {
            return;
        }
        self.lost = !whole || self.rows == UNORDERED_ROWS_MAX || frame.len() > UNORDERED_BYTES_MAX;
        if !self.lost {
            self.rows += 1;
            self.sum = self.sum.wrapping_add(xxh3_64(frame));
        }
    }

    /// Whether it tells nothing, whatever comes.
    pub(super) const fn is_lost(&self) -> bool {
        self.lost
    }

    /// Whether both are of the same rows, more than one.
    pub(super) fn has_the_rows_of(&self, other: &Self) -> bool {
        self == other && !self.lost && self.rows > 1
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
    fn the_same_rows_in_another_order_are_known_while_they_are_few_and_short() {
        let of = |frames: &[&[u8]]| {
            let mut unordered = Unordered::default();
            frames.iter().for_each(|frame| unordered.add(frame, true));
            unordered
        };
        let [a, b] = [&b"D\0\0\0\x05a"[..], b"D\0\0\0\x05b"];
        assert!(of(&[a, b, b]).has_the_rows_of(&of(&[b, a, b])));
        assert!(!of(&[a, b, b]).has_the_rows_of(&of(&[a, a, b])));
        assert!(!of(&[a]).has_the_rows_of(&of(&[a])), "there is no order in one");
        let (many, long) = ([a; 101], [0; 257]);
        for lost in [of(&many), of(&[&long])] {
            assert!(!lost.has_the_rows_of(&lost));
        }
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
