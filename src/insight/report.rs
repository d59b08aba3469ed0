//! A report: named columns and rows. The console sends it as rows, the status page gets it as JSON.

use serde_json::{Map, Value as Json, json};

/// What is told of one thing, in rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Its columns.
    pub columns: &'static [Column],
    /// Its rows, each with a value for every column.
    pub rows: Vec<Vec<Value>>,
}

/// A column of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name; a unit is at its end.
    pub name: &'static str,
    /// What its values are.
    pub kind: Kind,
}

/// What the values of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Words.
    Text,
    /// A whole number.
    Count,
    /// A number with a fraction.
    Number,
}

/// A value of a report.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// There is none.
    None,
    /// Words.
    Text(String),
    /// A whole number.
    Count(u64),
    /// A number with a fraction.
    Number(f64),
}

/// A column of words.
pub const fn text(name: &'static str) -> Column {
    Column { name, kind: Kind::Text }
}

/// A column of whole numbers.
pub const fn count(name: &'static str) -> Column {
    Column { name, kind: Kind::Count }
}

/// A column of numbers with a fraction.
pub const fn number(name: &'static str) -> Column {
    Column { name, kind: Kind::Number }
}

impl Report {
    /// The rows as JSON objects, besides the columns in their order.
    pub fn json(&self) -> Json {
        let object = |row: &Vec<Value>| {
            let named = self.columns.iter().zip(row);
            Json::Object(
                named.map(|(column, value)| (column.name.to_owned(), value.json())).collect::<Map<_, _>>(),
            )
        };
        let columns: Vec<_> = self.columns.iter().map(|column| column.name).collect();
        json!({ "columns": columns, "rows": self.rows.iter().map(object).collect::<Vec<_>>() })
    }
}

impl Value {
    /// A part of a whole in per cent, to a tenth; none of nothing.
    pub fn share(part: u64, whole: u64) -> Self {
        if whole == 0 {
            Self::None
        } else {
            Self::Number((part as f64 * 1000.0 / whole as f64).round() / 10.0)
        }
    }

    /// Microseconds in seconds, to a thousandth.
    pub fn seconds(micros: u64) -> Self {
        Self::Number((micros as f64 / 1000.0).round() / 1000.0)
    }

    fn json(&self) -> Json {
        match self {
            Self::None => Json::Null,
            Self::Text(text) => text.as_str().into(),
            Self::Count(count) => (*count).into(),
            Self::Number(number) => (*number).into(),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(plain(text.to_owned()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(plain(text))
    }
}

/// The text without control characters, which would make a terminal do something, or break a row in two: names may have them.
pub(crate) fn plain(text: String) -> String {
    match text.contains(char::is_control) {
        true => text.replace(char::is_control, REPLACEMENT),
        false => text,
    }
}

/// What stands in the place of what cannot be shown.
const REPLACEMENT: &str = "\u{fffd}";

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_move_the_cursor_or_end_a_row() {
        assert_eq!(
            Value::from("a\tb\nc\u{1b}[2Jd\u{9b}e"),
            Value::from("a\u{fffd}b\u{fffd}c\u{fffd}[2Jd\u{fffd}e")
        );
        assert_eq!(plain("Zoë's 店".to_owned()), "Zoë's 店");
    }

    #[test]
    fn rows_become_objects() {
        const COLUMNS: &[Column] = &[text("table"), count("conflicts"), number("share_pct")];
        let report = Report {
            columns: COLUMNS,
            rows: vec![
                vec!["t".into(), 2.into(), Value::share(1, 3)],
                vec![Value::None, 0.into(), Value::share(0, 0)],
            ],
        };
        let expected = json!({
            "columns": ["table", "conflicts", "share_pct"],
            "rows": [
                { "table": "t", "conflicts": 2, "share_pct": 33.3 },
                { "table": null, "conflicts": 0, "share_pct": null },
            ],
        });
        assert_eq!(report.json(), expected);
    }
}
