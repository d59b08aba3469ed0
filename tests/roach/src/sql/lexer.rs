//! Words of SQL text with their places, as far as transaction statements and error texts need them.

/// What kind of word it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A keyword or an unquoted name.
    Word,
    /// A quoted name.
    Quoted,
    /// A string in single quotes.
    String,
    /// A number.
    Number,
    /// Anything else.
    Symbol,
}

/// A word and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// What kind it is.
    pub kind: Kind,
    /// Folded to lower case if it was not quoted; without its quotes if it was.
    pub text: String,
    /// Where it begins in the text, in bytes.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
}

impl Word {
    /// Whether it is this keyword, which is given in lower case.
    pub fn is(&self, keyword: &str) -> bool {
        matches!(self.kind, Kind::Word | Kind::Symbol) && self.text == keyword
    }
}

/// Splits SQL into words; comments and white space are dropped.
pub fn words(sql: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(first) = sql[at..].chars().next() {
        let rest = &sql[at..];
        let (kind, length) = match first {
            c if c.is_whitespace() => {
                at += c.len_utf8();
                continue;
            }
            '-' if rest.starts_with("--") => {
                at += rest.find('\n').unwrap_or(rest.len());
                continue;
            }
            '/' if rest.starts_with("/*") => {
                at += rest.find("*/").map_or(rest.len(), |end| end + 2);
                continue;
            }
            '\'' => (Kind::String, quoted_length(rest, '\'')),
            '"' => (Kind::Quoted, quoted_length(rest, '"')),
            c if c.is_alphabetic() || c == '_' => (Kind::Word, word_length(rest)),
            c if c.is_ascii_digit() => (Kind::Number, number_length(rest)),
            ':' if rest.starts_with(":::") => (Kind::Symbol, 3),
            c => (Kind::Symbol, c.len_utf8()),
        };
        words.push(Word { kind, text: content(kind, &rest[..length]), start: at, end: at + length });
        at += length;
    }
    words
}

fn content(kind: Kind, source: &str) -> String {
    match kind {
        Kind::Word => source.to_lowercase(),
        Kind::String => inner(source, '\'').replace("''", "'"),
        Kind::Quoted => inner(source, '"').replace("\"\"", "\""),
        Kind::Number | Kind::Symbol => source.to_owned(),
    }
}

fn inner(source: &str, quote: char) -> &str {
    let source = source.strip_prefix(quote).unwrap_or(source);
    source.strip_suffix(quote).unwrap_or(source)
}

/// The length of a quoted word; a doubled quote does not end it.
fn quoted_length(rest: &str, quote: char) -> usize {
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if character == quote {
            if characters.peek().is_some_and(|(_, next)| *next == quote) {
                characters.next();
            } else {
                return at + quote.len_utf8();
            }
        }
    }
    rest.len()
}

fn word_length(rest: &str) -> usize {
    rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(rest.len())
}

fn number_length(rest: &str) -> usize {
    rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '.')).unwrap_or(rest.len())
}

/// Splits SQL at its semicolons: the text of each statement that is not empty.
pub fn split(sql: &str) -> Vec<&str> {
    let mut statements = Vec::new();
    let mut start = None;
    let mut end = 0;
    for word in words(sql) {
        if word.is(";") {
            statements.extend(start.take().map(|start| &sql[start..end]));
        } else {
            start.get_or_insert(word.start);
            end = word.end;
        }
    }
    statements.extend(start.map(|start| &sql[start..end]));
    statements
}
