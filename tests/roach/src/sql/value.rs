//! Types and values, and both of their formats on the wire.

use std::cmp::Ordering;
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

/// The type of a column or an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// true or false.
    Bool,
    /// 64 bits.
    Int,
    /// A number with a fraction.
    Decimal,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
    /// A moment.
    Timestamp,
    /// A length of time.
    Interval,
    /// 128 bits.
    Uuid,
    /// Several integers.
    IntArray,
    /// NULL without a context.
    Unknown,
}

impl Type {
    /// The number by which the protocol knows the type.
    pub fn oid(self) -> u32 {
        match self {
            Self::Bool => 16,
            Self::Bytes => 17,
            Self::Int => 20,
            Self::Text => 25,
            Self::Unknown => 705,
            Self::IntArray => 1016,
            Self::Timestamp => 1184,
            Self::Interval => 1186,
            Self::Decimal => 1700,
            Self::Uuid => 2950,
        }
    }

    /// The type of an object id that a client may give for a parameter.
    pub fn of_oid(oid: u32) -> Option<Self> {
        Some(match oid {
            16 => Self::Bool,
            17 => Self::Bytes,
            20 | 21 | 23 => Self::Int,
            25 | 1043 | 19 => Self::Text,
            700 | 701 | 1700 => Self::Decimal,
            1184 | 1114 => Self::Timestamp,
            1186 => Self::Interval,
            2950 => Self::Uuid,
            _ => return None,
        })
    }

    /// How error texts call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Bytes => "bytes",
            Self::Int => "int",
            Self::Text => "string",
            Self::Unknown => "unknown",
            Self::IntArray => "int[]",
            Self::Timestamp => "timestamptz",
            Self::Interval => "interval",
            Self::Decimal => "decimal",
            Self::Uuid => "uuid",
        }
    }
}

/// A value.
#[derive(Debug, Clone)]
pub enum Datum {
    /// No value.
    Null,
    /// true or false.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A number with a fraction, as exact as the tests need.
    Decimal(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Nanoseconds since 1970.
    Timestamp(u64),
    /// A length of time.
    Interval(Duration),
    /// A UUID in its text form.
    Uuid(String),
    /// Several integers.
    IntArray(Vec<i64>),
}

impl Datum {
    /// Whether it is NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// As a number, if it is one.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            // The tests stay far below 2^53.
            Self::Int(number) => Some(*number as f64),
            Self::Decimal(number) => Some(*number),
            _ => None,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Bool(_) => 1,
            Self::Int(_) | Self::Decimal(_) => 2,
            Self::Text(_) => 3,
            Self::Bytes(_) => 4,
            Self::Timestamp(_) => 5,
            Self::Interval(_) => 6,
            Self::Uuid(_) => 7,
            Self::IntArray(_) => 8,
        }
    }

    /// The bytes of the text format, `None` for NULL.
    pub fn to_text(&self) -> Option<Vec<u8>> {
        match self {
            Self::Null => None,
            Self::Bool(value) => Some(if *value { b"t".to_vec() } else { b"f".to_vec() }),
            other => Some(other.to_string().into_bytes()),
        }
    }

    /// The bytes of the binary format, `None` for NULL.
    pub fn to_binary(&self) -> Option<Vec<u8>> {
        Some(match self {
            Self::Null => return None,
            Self::Bool(value) => vec![u8::from(*value)],
            Self::Int(value) => value.to_be_bytes().to_vec(),
            Self::Decimal(value) => binary_decimal(*value),
            Self::Bytes(value) => value.clone(),
            Self::Timestamp(nanoseconds) => {
                let microseconds = i64::try_from(nanoseconds / 1000).unwrap_or(i64::MAX);
                (microseconds - EPOCH_MICROSECONDS).to_be_bytes().to_vec()
            }
            Self::Interval(length) => {
                let microseconds = i64::try_from(length.as_micros()).unwrap_or(i64::MAX);
                [microseconds.to_be_bytes(), [0; 8]].concat()
            }
            Self::Uuid(text) => {
                let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
                u128::from_str_radix(&digits, 16).unwrap_or_default().to_be_bytes().to_vec()
            }
            Self::IntArray(values) => binary_array(values),
            Self::Text(text) => text.clone().into_bytes(),
        })
    }
}

/// Microseconds from 1970 to 2000, where the binary format of a timestamp begins.
const EPOCH_MICROSECONDS: i64 = 946_684_800_000_000;

/// PostgreSQL's numeric: groups of four decimal digits.
fn binary_decimal(value: f64) -> Vec<u8> {
    let text = value.abs().to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let whole = format!("{:0>width$}", whole, width = whole.len().div_ceil(4) * 4);
    let padded = format!("{:0<width$}", fraction, width = fraction.len().div_ceil(4) * 4);
    let digits: Vec<u16> = [whole.as_str(), padded.as_str()]
        .concat()
        .as_bytes()
        .chunks(4)
        .map(|group| std::str::from_utf8(group).ok().and_then(|group| group.parse().ok()).unwrap_or_default())
        .collect();
    let header = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
    let sign = if value < 0.0 { 0x4000 } else { 0 };
    let head = [header(digits.len()), header(whole.len() / 4 - 1), sign, header(fraction.len())];
    head.into_iter().chain(digits).flat_map(u16::to_be_bytes).collect()
}

fn binary_array(values: &[i64]) -> Vec<u8> {
    let count = i32::try_from(values.len()).unwrap_or(i32::MAX);
    let mut bytes: Vec<u8> = [1, 0, 20, count, 1].into_iter().flat_map(i32::to_be_bytes).collect();
    for value in values {
        bytes.extend(8_i32.to_be_bytes());
        bytes.extend(value.to_be_bytes());
    }
    bytes
}

impl Display for Datum {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Decimal(value) => write!(f, "{value}"),
            Self::Text(text) | Self::Uuid(text) => f.write_str(text),
            Self::Bytes(bytes) => {
                f.write_str("\\x")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::Timestamp(nanoseconds) => f.write_str(&timestamp_text(*nanoseconds)),
            Self::Interval(length) => write_interval(f, *length),
            Self::IntArray(values) => {
                let values: Vec<String> = values.iter().map(i64::to_string).collect();
                write!(f, "{{{}}}", values.join(","))
            }
        }
    }
}

fn timestamp_text(nanoseconds: u64) -> String {
    const SHAPE: &[BorrowedFormatItem<'_>] =
        format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:6]+00:00");
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(nanoseconds))
        .ok()
        .and_then(|moment| moment.format(SHAPE).ok())
        .unwrap_or_default()
}

fn write_interval(f: &mut Formatter<'_>, length: Duration) -> fmt::Result {
    let seconds = length.as_secs();
    write!(f, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)?;
    match length.subsec_micros() {
        0 => Ok(()),
        micros => f.write_str(format!(".{micros:06}").trim_end_matches('0')),
    }
}

impl PartialEq for Datum {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Datum {}

impl PartialOrd for Datum {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The order of an index: NULL first, then by kind, then by value.
impl Ord for Datum {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::Text(a), Self::Text(b)) | (Self::Uuid(a), Self::Uuid(b)) => a.cmp(b),
            (Self::Bytes(a), Self::Bytes(b)) => a.cmp(b),
            (Self::Timestamp(a), Self::Timestamp(b)) => a.cmp(b),
            (Self::Interval(a), Self::Interval(b)) => a.cmp(b),
            (Self::IntArray(a), Self::IntArray(b)) => a.cmp(b),
            _ => match (self.as_f64(), other.as_f64()) {
                (Some(a), Some(b)) => a.total_cmp(&b),
                _ => self.rank().cmp(&other.rank()),
            },
        }
    }
}
