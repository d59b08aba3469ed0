//! SQL text cut into words: no grammar, only what tells a keyword from a string, a comment or a quoted name.

/// Reads words and skips over what is none: white space, comments, quoted strings.
#[derive(Clone, Copy)]
pub(super) struct Lexer<'a>(pub(super) &'a [u8]);

/// One lexical element, as coarse as is needed here.
pub(super) enum Token<'a> {
    Word(&'a [u8]),
    Quoted(&'a [u8]),
    Semicolon,
    Other,
    /// A string with a backslash before a quote (its end depends on a setting), or without an end.
    Unclear,
}

impl<'a> Lexer<'a> {
    /// The next word; something that is none stands for itself.
    pub(super) fn next_word(&mut self) -> Option<&'a [u8]> {
        loop {
            self.skip_blanks_and_comments();
            let first = *self.0.first()?;
            match self.next_token()? {
                Token::Word(word) | Token::Quoted(word) => return Some(word),
                Token::Other if first == b'(' => return Some(b"("),
                Token::Other | Token::Unclear => return Some(b"?"),
                Token::Semicolon => {}
            }
        }
    }

    /// The next word that is not one of `noise`.
    pub(super) fn next_word_but(&mut self, noise: &[&str]) -> Option<&'a [u8]> {
        let word = self.next_word()?;
        if is_any(word, noise) { self.next_word() } else { Some(word) }
    }

    /// The next element; `None` at the end of the text.
    pub(super) fn next_token(&mut self) -> Option<Token<'a>> {
        self.skip_blanks_and_comments();
        let text = self.0;
        let (length, token): (usize, fn(&'a [u8]) -> Token<'a>) = match *text.first()? {
            b';' => (1, |_| Token::Semicolon),
            b'\'' => return Some(self.string(0, false)),
            b'e' | b'E' if text.get(1) == Some(&b'\'') => return Some(self.string(1, true)),
            0 => {
                self.0 = &[];
                return Some(Token::Unclear);
            }
            b'"' => return Some(self.quoted()),
            b'$' => return Some(self.dollar_quoted()),
            first if is_word_start(first) => {
                (text.iter().position(|b| !is_word(*b)).unwrap_or(text.len()), Token::Word)
            }
            first if first.is_ascii_digit() => {
                (text.iter().position(|b| !is_word(*b)).unwrap_or(text.len()), |_| Token::Other)
            }
            _ => (1, |_| Token::Other),
        };
        self.0 = &text[length..];
        Some(token(&text[..length]))
    }

    /// Skips over what is between two elements.
    pub(super) fn skip_blanks_and_comments(&mut self) {
        loop {
            while let [blank, rest @ ..] = self.0
                && is_blank(*blank)
            {
                self.0 = rest;
            }
            if self.0.starts_with(b"--") {
                self.skip_line_comment();
            } else if self.0.starts_with(b"/*") {
                self.skip_block_comment();
            } else {
                return;
            }
        }
    }

    /// PostgreSQL ends the comment at a carriage return too, CockroachDB does not: unless a newline follows, nobody can tell.
    fn skip_line_comment(&mut self) {
        let Some(end) = memchr::memchr2(b'\n', b'\r', self.0) else {
            self.0 = &[];
            return;
        };
        let lone = self.0[end] == b'\r' && self.0.get(end + 1) != Some(&b'\n');
        self.0 = if lone { UNCLEAR } else { &self.0[end + 1..] };
    }

    /// Block comments nest.
    fn skip_block_comment(&mut self) {
        let mut depth = 0usize;
        let mut at = 0;
        while at < self.0.len() {
            match self.0.get(at..at + 2) {
                Some(b"/*") => (depth, at) = (depth + 1, at + 2),
                Some(b"*/") => (depth, at) = (depth - 1, at + 2),
                _ => at += 1,
            }
            if depth == 0 {
                break;
            }
        }
        self.0 = if depth == 0 { &self.0[at..] } else { UNCLEAR };
    }

    /// A string in single quotes that begins at `start`; a doubled quote stands for itself.
    fn string(&mut self, start: usize, escapes: bool) -> Token<'a> {
        let mut at = start + 1;
        while let Some(found) = memchr::memchr2(b'\'', b'\\', &self.0[at..]) {
            at += found;
            match (self.0[at], self.0.get(at + 1)) {
                (b'\\', Some(b'\'' | b'\\')) if escapes && may_be_half(&self.0[start..at]) => break,
                (b'\\', _) if escapes => at += 2,
                (b'\\', Some(b'\'')) => break,
                (b'\\', _) => at += 1,
                (_, Some(b'\'')) => at += 2,
                _ => {
                    self.0 = &self.0[at + 1..];
                    return Token::Other;
                }
            }
            if at > self.0.len() {
                break;
            }
        }
        self.0 = &[];
        Token::Unclear
    }

    /// An identifier in double quotes: the token keeps the opening quote as a mark.
    fn quoted(&mut self) -> Token<'a> {
        let text = self.0;
        let mut at = 1;
        while let Some(found) = memchr::memchr(b'"', &text[at..]) {
            at += found;
            if text.get(at + 1) != Some(&b'"') {
                self.0 = &text[at + 1..];
                return Token::Quoted(&text[..at]);
            }
            at += 2;
        }
        self.0 = &[];
        Token::Unclear
    }

    /// A string in dollar quotes, or a parameter such as `$1`.
    fn dollar_quoted(&mut self) -> Token<'a> {
        let text = self.0;
        let tag_end = text[1..].iter().position(|b| !is_word(*b) || *b == b'$').map_or(text.len(), |n| n + 1);
        if text.get(tag_end) != Some(&b'$') || text.get(1).is_some_and(u8::is_ascii_digit) {
            self.0 = &text[tag_end.max(1)..];
            return Token::Other;
        }
        let (tag, body) = text.split_at(tag_end + 1);
        match memchr::memmem::find(body, tag) {
            Some(end) => {
                self.0 = &body[end + tag.len()..];
                Token::Other
            }
            None => {
                self.0 = &[];
                Token::Unclear
            }
        }
    }
}

/// Whether a word is one of these, in letters of any size.
pub(super) fn is_any(word: &[u8], names: &[&str]) -> bool {
    names.iter().any(|name| word.eq_ignore_ascii_case(name.as_bytes()))
}

/// Whether a backslash behind these bytes may be the second half of a character: some encodings that only clients have (SJIS, BIG5,
/// GBK) have such, UTF-8 has not.
fn may_be_half(before: &[u8]) -> bool {
    before.last().is_some_and(|byte| !byte.is_ascii()) && std::str::from_utf8(before).is_err()
}

/// Whether `word` stands in a comment of the text, with no letter or digit beside it.
pub(super) fn comments_say(sql: &[u8], word: &[u8]) -> bool {
    // Most texts have no comment at all; the others are read only if the word is somewhere.
    let has_comment = || memchr::memchr2(b'/', b'-', sql).is_some();
    if !has_comment() || memchr::memmem::find(sql, word).is_none() {
        return false;
    }
    let mut rest = Lexer(sql);
    loop {
        let before = rest.0;
        rest.skip_blanks_and_comments();
        let skipped = &before[..before.len().saturating_sub(rest.0.len())];
        let says = memchr::memmem::find_iter(skipped, word).any(|at| {
            let beside =
                [at.checked_sub(1), Some(at + word.len())].map(|at| at.and_then(|at| skipped.get(at)));
            !beside.into_iter().flatten().any(|byte| is_word(*byte))
        });
        if says {
            return true;
        }
        if rest.next_token().is_none() {
            return false;
        }
    }
}

/// What stands for the rest of a text that cannot be told: no text has a zero byte.
const UNCLEAR: &[u8] = b"\0";

/// White space, the vertical tab included, as in PostgreSQL 16 and later.
const fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

/// Letters, underscore and every byte of a multi-byte character begin an identifier.
const fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

const fn is_word(byte: u8) -> bool {
    IN_WORDS[byte as usize]
}

/// The bytes that an identifier goes on with: a table, for every byte of most texts is looked up.
const IN_WORDS: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = is_word_start(byte as u8) || (byte as u8).is_ascii_digit() || byte as u8 == b'$';
        byte += 1;
    }
    table
};
