//! What a transaction is about to do: its first statement, and the values with which it is run.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::fingerprint::{Fingerprint, TOKENS_MAX, first_at_work};
use super::lexer::Token;
use crate::wire::frontend::{self, tag};
use crate::wire::{HEADER_BYTES, Header};

/// Values that are looked at, the first ones of a statement.
const VALUES_MAX: usize = 4;

/// What a transaction is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Its first statement.
    pub statement: Fingerprint,
    /// The values of that statement.
    pub values: Values,
}

/// Numbers that stand for the first values of a statement, literals of its text or parameters, each for the value and its place
/// among them; zeros where there is none. Equal values have equal numbers within one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Values([u64; VALUES_MAX]);

impl Intent {
    /// Of a statement whose values are not known.
    pub(super) fn of(statement: Fingerprint) -> Self {
        Self { statement, values: Values::default() }
    }
}

impl Values {
    /// Of one value, with that number.
    #[cfg(test)]
    pub(crate) const fn one(number: u64) -> Self {
        let mut numbers = [0; VALUES_MAX];
        numbers[0] = number;
        Self(numbers)
    }

    /// Of a request that begins a transaction, with what came behind it. The values of a Parse are those of a Bind behind it.
    pub(super) fn of(tag: u8, frame: &[u8], behind: &[u8]) -> Self {
        let body = frame.get(HEADER_BYTES..).unwrap_or_default();
        match tag {
            tag::QUERY => frontend::query(body).map(Self::of_text),
            tag::BIND => Some(Self::of_bind(body)),
            tag::PARSE => bind(behind).map(Self::of_bind),
            _ => None,
        }
        .unwrap_or_default()
    }

    fn of_text(sql: &[u8]) -> Self {
        let Some(mut lexer) = first_at_work(sql) else { return Self::default() };
        let tokens = std::iter::from_fn(|| {
            lexer.skip_blanks_and_comments();
            let before = lexer.0;
            let token = lexer.next_token()?;
            Some((token, &before[..before.len() - lexer.0.len()]))
        });
        let statement = tokens
            .take(TOKENS_MAX)
            .take_while(|(token, _)| !matches!(token, Token::Semicolon | Token::Unclear));
        // Operators and parentheses are no words either, and no values.
        let is_value = |text: &[u8]| matches!(text, [b'0'..=b'9' | b'\'' | b'e' | b'E', ..]);
        Self::numbered(
            statement.filter_map(|(token, text)| {
                (matches!(token, Token::Other) && is_value(text)).then_some(text)
            }),
        )
    }

    fn of_bind(body: &[u8]) -> Self {
        Self::numbered(frontend::bind_values(body))
    }

    fn numbered<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut numbers = [0; VALUES_MAX];
        for ((number, value), place) in numbers.iter_mut().zip(values).zip(0..) {
            *number = xxh3_64_with_seed(value, place).max(1);
        }
        Self(numbers)
    }

    /// The numbers; zeros are none.
    pub const fn numbers(&self) -> &[u64] {
        &self.0
    }
}

/// The body of the Bind that stands here in full, if one does.
fn bind(bytes: &[u8]) -> Option<&[u8]> {
    let header = Header::parse(bytes).ok().flatten().filter(|header| header.tag == tag::BIND)?;
    bytes.get(HEADER_BYTES..header.frame_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode;

    fn of(sql: &str) -> Values {
        Values::of_text(sql.as_bytes())
    }

    #[test]
    fn values_are_told_by_their_places() {
        let same = |one: Values, other: Values| -> Vec<bool> {
            std::iter::zip(one.0, other.0).map(|(one, other)| one == other && one != 0).collect()
        };
        let transfer = of("BEGIN; UPDATE t SET n = n - 17 WHERE id = 'a'; SELECT 5");
        assert_eq!(
            same(transfer, of("UPDATE t SET n=n-18 /* 9 */ WHERE id='a'")),
            [false, true, false, false]
        );
        assert_ne!(of("SELECT 1, 2"), of("SELECT 2, 1"));
        assert_eq!(of("SELECT a FROM t"), Values::default());
        assert_eq!(of("COMMIT"), Values::default());
        assert!(of("SELECT 1, 2, 3, 4, 5, 6").0.iter().all(|number| *number != 0));
    }

    #[test]
    fn the_values_of_a_parse_are_those_of_the_bind_behind_it() {
        let (mut parse, mut bind) = (Vec::new(), Vec::new());
        encode::parse(&mut parse, b"", b"UPDATE t SET n = n + $1 WHERE id = $2");
        // No formats, two values of which one is NULL, no formats of results.
        let body = b"\0\0\0\0\0\x02\xff\xff\xff\xff\0\0\0\x01a\0\0";
        bind.push(tag::BIND);
        bind.extend((body.len() as u32 + 4).to_be_bytes());
        bind.extend(body);
        let values = Values::of(tag::BIND, &bind, b"");
        assert_ne!(values, Values::default());
        assert_eq!(Values::of(tag::PARSE, &parse, &bind), values);
        for cut in 0..bind.len() {
            assert_eq!(Values::of(tag::PARSE, &parse, &bind[..cut]), Values::default());
        }
    }
}
