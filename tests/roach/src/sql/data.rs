//! Parses SELECT, INSERT, UPDATE, DELETE and the schema statements: CockroachDB's own words are taken out first.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::lexer::{Kind, Word, words};
use super::parser::Cursor;
use super::statement::{Data, Statement};
use super::syntax::SyntaxError;

pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Statement, SyntaxError> {
    check_star_arguments(cursor)?;
    let mut dialect = Rewrite::new(cursor);
    let as_of = dialect.cut_as_of();
    let upsert = dialect.replace_first("upsert", "INSERT");
    dialect.replace_first("table", "SELECT * FROM");
    let lock_words = dialect.weaken_lock();
    dialect.drop_idle_lock();
    let ast = sqlparse(cursor, &dialect.text())?;
    Ok(Statement::Data(Box::new(Data { ast, upsert, as_of, lock_words })))
}

pub(super) fn parse_schema(cursor: &mut Cursor<'_>) -> Result<Statement, SyntaxError> {
    let ast = sqlparse(cursor, &Rewrite::new(cursor).text())?;
    Ok(Statement::Schema(Box::new(ast)))
}

/// `count(*, 1)` is something that only `sqlparser` accepts.
fn check_star_arguments(cursor: &Cursor<'_>) -> Result<(), SyntaxError> {
    for four in cursor.words.windows(4) {
        let [name, open, star, comma] = four else { continue };
        if name.kind == Kind::Word && open.is("(") && star.is("*") && comma.is(",") {
            return Err(SyntaxError::at(comma).see(&format!("hf {}", name.text)));
        }
    }
    Ok(())
}

fn sqlparse(cursor: &Cursor<'_>, sql: &str) -> Result<sqlparser::ast::Statement, SyntaxError> {
    let parsed = Parser::parse_sql(&PostgreSqlDialect {}, sql);
    let mut statements = parsed.map_err(|error| locate(cursor, sql, &error.to_string()))?;
    statements.pop().ok_or_else(|| SyntaxError::at_end(cursor.sql))
}

/// Finds the word at which `sqlparser` stopped; it tells line and column at the end of its text.
fn locate(cursor: &Cursor<'_>, sql: &str, error: &str) -> SyntaxError {
    let place = error.rsplit_once("Line: ").and_then(|(_, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        Some((line.parse::<usize>().ok()?, column.parse::<usize>().ok()?))
    });
    let Some((line, column)) = place else {
        return SyntaxError::at_end(cursor.sql);
    };
    let before: usize = sql.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let at = before + column - 1;
    let index = words(sql).iter().position(|word| word.start >= at);
    index
        .and_then(|index| cursor.words.get(index))
        .map_or_else(|| SyntaxError::at_end(cursor.sql), SyntaxError::at)
}

/// A statement whose words are exchanged for others, or dropped.
struct Rewrite<'a> {
    sql: &'a str,
    words: &'a [Word],
    replacements: Vec<Option<&'static str>>,
}

impl<'a> Rewrite<'a> {
    fn new(cursor: &Cursor<'a>) -> Self {
        let annotation = |word: &Word| word.is(":::").then_some("::");
        let replacements = cursor.words.iter().map(annotation).collect();
        Self { sql: cursor.sql, words: cursor.words, replacements }
    }

    fn replace_first(&mut self, keyword: &str, by: &'static str) -> bool {
        let found = self.words.first().is_some_and(|word| word.is(keyword));
        if found {
            self.replacements[0] = Some(by);
        }
        found
    }

    fn find(&self, keywords: &[&str]) -> Option<usize> {
        let all = |window: &[Word]| keywords.iter().zip(window).all(|(keyword, word)| word.is(keyword));
        self.words.windows(keywords.len()).position(all)
    }

    fn drop(&mut self, from: usize, count: usize) {
        self.replacements.iter_mut().skip(from).take(count).for_each(|word| *word = Some(""));
    }

    fn cut_as_of(&mut self) -> Option<String> {
        let at = self.find(&["as", "of", "system", "time"])?;
        let moment = self.words.get(at + 4).filter(|word| word.kind == Kind::String)?;
        self.drop(at, 5);
        Some(moment.text.clone())
    }

    /// `SELECT 1 FOR UPDATE` locks nothing, and `sqlparser` takes its FOR for a name.
    fn drop_idle_lock(&mut self) {
        let selects = self.words.first().is_some_and(|word| word.is("select"));
        let at = self.find(&["for", "update"]).filter(|_| selects && self.find(&["from"]).is_none());
        if let Some(at) = at {
            self.drop(at, 2);
        }
    }

    /// `FOR NO KEY UPDATE` and `FOR KEY SHARE` lock like their stronger forms.
    fn weaken_lock(&mut self) -> Option<&'static str> {
        if let Some(at) = self.find(&["for", "no", "key", "update"]) {
            self.drop(at + 1, 2);
            return Some("FOR NO KEY UPDATE");
        }
        let at = self.find(&["for", "key", "share"])?;
        self.drop(at + 1, 1);
        Some("FOR KEY SHARE")
    }

    fn text(&self) -> String {
        let mut text = String::with_capacity(self.sql.len());
        let mut at = 0;
        for (word, replacement) in self.words.iter().zip(&self.replacements) {
            text.push_str(&self.sql[at..word.start]);
            text.push_str(replacement.unwrap_or(&self.sql[word.start..word.end]));
            at = word.end;
        }
        text
    }
}
