//! Conversions between values: casts, and the texts and bytes of parameters.

use std::time::Duration;

use super::value::{Datum, Type};
use crate::errors::SqlError;

impl Datum {
    /// Whether it is true, and not false or NULL.
    pub fn is_true(&self) -> bool {
        matches!(self, Self::Bool(true))
    }

    /// As an integer, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// The value as another type.
    pub fn cast(self, ty: Type) -> Result<Self, SqlError> {
        Ok(match (self, ty) {
            (Self::Null, _) => Self::Null,
            (Self::Text(text), ty) => parse(&text, ty)?,
            // A cast rounds, and is only used for numbers that fit.
            (Self::Decimal(number), Type::Int) => Self::Int(number.round() as i64),
            (value @ Self::Int(_), Type::Decimal) => value.as_f64().map_or(Self::Null, Self::Decimal),
            (Self::Bool(value), Type::Int) => Self::Int(i64::from(value)),
            (Self::Int(value), Type::Bool) => Self::Bool(value != 0),
            (value, Type::Text) => Self::Text(value.to_string()),
            (value, _) => value,
        })
    }
}

/// A value from its text.
pub fn parse(text: &str, ty: Type) -> Result<Datum, SqlError> {
    let wrong = |reason: &str| {
        let name = ty.name();
        SqlError::new("22P02", format!("could not parse \"{text}\" as type {name}: {reason}"))
    };
    Ok(match ty {
        Type::Text | Type::Unknown => Datum::Text(text.into()),
        Type::Int => {
            let number = text.trim().parse();
            Datum::Int(
                number
                    .map_err(|_| wrong(&format!("strconv.ParseInt: parsing \"{text}\": invalid syntax")))?,
            )
        }
        Type::Decimal => Datum::Decimal(text.trim().parse().map_err(|_| wrong("invalid syntax"))?),
        Type::Bool => match text.trim().to_lowercase().as_str() {
            "t" | "true" | "on" | "yes" | "1" => Datum::Bool(true),
            "f" | "false" | "off" | "no" | "0" => Datum::Bool(false),
            _ => return Err(wrong("invalid bool value")),
        },
        Type::Interval => Datum::Interval(interval(text).ok_or_else(|| wrong("interval: missing unit"))?),
        Type::Uuid => Datum::Uuid(text.to_lowercase()),
        Type::Bytes => Datum::Bytes(text.as_bytes().to_vec()),
        Type::Timestamp | Type::IntArray => {
            return Err(SqlError::unsupported(format!("text as {}", ty.name())));
        }
    })
}

/// A length of time such as `1h`, `500ms`, `1s 500ms` or `2 seconds`.
pub fn interval(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        let seconds = match &rest[..letters] {
            "us" | "microseconds" => 0.000_001,
            "ms" | "milliseconds" => 0.001,
            "s" | "sec" | "second" | "seconds" => 1.0,
            "m" | "min" | "minute" | "minutes" => 60.0,
            "h" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86_400.0,
            _ => return None,
        };
        total += Duration::try_from_secs_f64(number * seconds).ok()?;
        rest = rest[letters..].trim_start();
    }
    Some(total)
}

/// The value of a parameter that came in text format.
pub fn text_parameter(number: usize, bytes: &[u8], ty: Type) -> Result<Datum, SqlError> {
    let text = String::from_utf8_lossy(bytes);
    parse(&text, ty).map_err(|error| {
        let reason = error.message.split_once(": ").map_or(error.message.as_str(), |(_, reason)| reason);
        SqlError::protocol(format!("error in argument for ${number}: {reason}"))
    })
}

/// The value of a parameter that came in binary format.
pub fn binary_parameter(number: usize, bytes: &[u8], ty: Type) -> Result<Datum, SqlError> {
    let wrong = || SqlError::protocol(format!("error in argument for ${number}: unexpected length"));
    Ok(match ty {
        Type::Int => Datum::Int(match bytes.len() {
            2 => i64::from(i16::from_be_bytes(bytes.try_into().map_err(|_| wrong())?)),
            4 => i64::from(i32::from_be_bytes(bytes.try_into().map_err(|_| wrong())?)),
            _ => i64::from_be_bytes(bytes.try_into().map_err(|_| wrong())?),
        }),
        Type::Bool => Datum::Bool(bytes.first().is_some_and(|byte| *byte != 0)),
        Type::Bytes => Datum::Bytes(bytes.to_vec()),
        Type::Text | Type::Unknown => Datum::Text(String::from_utf8_lossy(bytes).into_owned()),
        _ => return Err(SqlError::unsupported(format!("binary parameters of type {}", ty.name()))),
    })
}
