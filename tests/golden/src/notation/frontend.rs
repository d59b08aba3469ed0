//! What a client sends: the typed message, its line and its bytes.

use std::fmt::{self, Display, Formatter};

use super::NotationError;
use super::body::{
    Body, cut_message, cut_untagged, framed, put_count, put_i16, put_i16s, put_i32, put_text, put_value,
    untagged,
};
use super::token::{Token, quote, quote_bytes, to_hex, tokens};

const SSL_REQUEST: i32 = 80_877_103;
const GSS_ENC_REQUEST: i32 = 80_877_104;
const CANCEL_REQUEST: i32 = 80_877_102;

/// What Describe and Close speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A prepared statement, `S`.
    Statement,
    /// A portal, `P`.
    Portal,
}

impl Target {
    fn letter(self) -> char {
        match self {
            Self::Statement => 'S',
            Self::Portal => 'P',
        }
    }

    fn of(letter: &str) -> Option<Self> {
        match letter {
            "S" => Some(Self::Statement),
            "P" => Some(Self::Portal),
            _ => None,
        }
    }
}

/// The two numbers of a BackendKeyData, by which a CancelRequest names a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct CancelKey {
    pub pid: i32,
    pub key: i32,
}

/// A message of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // The protocol documentation of PostgreSQL says what each of them and its parts are.
pub enum Frontend {
    Bind {
        portal: String,
        statement: String,
        values: Vec<Option<Vec<u8>>>,
        parameter_formats: Vec<i16>,
        result_formats: Vec<i16>,
    },
    /// With the key of the named connection, or with one bit of it changed.
    CancelRequest {
        connection: String,
        wrong: bool,
    },
    Close(Target, String),
    CopyData(Vec<u8>),
    CopyDone,
    CopyFail(String),
    Describe(Target, String),
    Execute {
        portal: String,
        max_rows: i32,
    },
    Flush,
    FunctionCall(i32),
    GssEncRequest,
    Parse {
        name: String,
        sql: String,
        types: Vec<i32>,
    },
    Query(String),
    /// Bytes as they are.
    Raw(Vec<u8>),
    SslRequest,
    Startup {
        major: i16,
        minor: i16,
        parameters: Vec<(String, String)>,
    },
    Sync,
    Terminate,
}

impl Frontend {
    /// The StartupMessage of protocol 3.0 with these parameters.
    pub fn startup<'a>(parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let parameters = parameters.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self::Startup { major: 3, minor: 0, parameters }
    }

    /// Cuts the first whole message off a buffer of received bytes, after the startup phase.
    pub fn read(buffer: &mut Vec<u8>) -> Option<Self> {
        let (tag, body) = cut_message(buffer)?;
        Some(Self::decode(tag, &body))
    }

    /// Cuts the first whole message off a buffer of received bytes, in the startup phase.
    pub fn read_startup(buffer: &mut Vec<u8>) -> Option<Self> {
        let body = cut_untagged(buffer)?;
        Some(
            decode_startup(&mut Body(&body))
                .unwrap_or_else(|| Self::Raw(untagged(|bytes| bytes.extend(&body)))),
        )
    }

    /// The message of these bytes; `Raw` if the notation has no name for it.
    pub fn decode(tag: u8, body: &[u8]) -> Self {
        decode_tagged(tag, &mut Body(body))
            .unwrap_or_else(|| Self::Raw(framed(tag, |bytes| bytes.extend(body))))
    }

    /// The bytes of the message; a CancelRequest carries a key of zeros.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_with(|_| CancelKey::default())
    }

    /// The bytes of the message, with a way to find the key of a connection.
    pub fn encode_with(&self, key_of: impl Fn(&str) -> CancelKey) -> Vec<u8> {
        match self {
            Self::Bind { .. } => framed(b'B', |bytes| self.encode_bind(bytes)),
            Self::CancelRequest { connection, wrong } => {
                let CancelKey { pid, key } = key_of(connection);
                untagged(|bytes| {
                    let key = key ^ i32::from(*wrong);
                    [CANCEL_REQUEST, pid, key].into_iter().for_each(|part| put_i32(bytes, part));
                })
            }
            Self::Close(target, name) => named(b'C', *target, name),
            Self::CopyData(data) => framed(b'd', |bytes| bytes.extend(data)),
            Self::CopyDone => framed(b'c', |_| {}),
            Self::CopyFail(reason) => framed(b'f', |bytes| put_text(bytes, reason)),
            Self::Describe(target, name) => named(b'D', *target, name),
            Self::Execute { portal, max_rows } => framed(b'E', |bytes| {
                put_text(bytes, portal);
                put_i32(bytes, *max_rows);
            }),
            Self::Flush => framed(b'H', |_| {}),
            Self::FunctionCall(oid) => framed(b'F', |bytes| {
                put_i32(bytes, *oid);
                (0..3).for_each(|_| put_i16(bytes, 0));
            }),
            Self::GssEncRequest => untagged(|bytes| put_i32(bytes, GSS_ENC_REQUEST)),
            Self::Parse { name, sql, types } => framed(b'P', |bytes| {
                put_text(bytes, name);
                put_text(bytes, sql);
                put_count(bytes, types.len());
                types.iter().for_each(|oid| put_i32(bytes, *oid));
            }),
            Self::Query(sql) => framed(b'Q', |bytes| put_text(bytes, sql)),
            Self::Raw(raw) => raw.clone(),
            Self::SslRequest => untagged(|bytes| put_i32(bytes, SSL_REQUEST)),
            Self::Startup { major, minor, parameters } => untagged(|bytes| {
                put_i16(bytes, *major);
                put_i16(bytes, *minor);
                parameters.iter().for_each(|(name, value)| {
                    [name, value].into_iter().for_each(|text| put_text(bytes, text))
                });
                bytes.push(0);
            }),
            Self::Sync => framed(b'S', |_| {}),
            Self::Terminate => framed(b'X', |_| {}),
        }
    }

    fn encode_bind(&self, bytes: &mut Vec<u8>) {
        if let Self::Bind { portal, statement, values, parameter_formats, result_formats } = self {
            put_text(bytes, portal);
            put_text(bytes, statement);
            put_i16s(bytes, parameter_formats);
            put_count(bytes, values.len());
            values.iter().for_each(|value| put_value(bytes, value.as_deref()));
            put_i16s(bytes, result_formats);
        }
    }

    /// The message of a script's line, without its `> C `.
    pub fn parse(line: &str) -> Result<Self, NotationError> {
        let words = tokens(line)?;
        let (name, words) = words.split_first().ok_or_else(|| NotationError::new(line, "no message"))?;
        Parts { line, words }.message(&name.text)
    }
}

/// The words of a line behind the message's name.
struct Parts<'a> {
    line: &'a str,
    words: &'a [Token],
}

impl Parts<'_> {
    fn message(&self, name: &str) -> Result<Frontend, NotationError> {
        Ok(match name {
            "Bind" => self.bind()?,
            "CancelRequest" => Frontend::CancelRequest {
                connection: self.text(0)?,
                wrong: self.plain().any(|word| word.text == "wrong"),
            },
            "Close" => Frontend::Close(self.target()?, self.text(1)?),
            "CopyData" => Frontend::CopyData(self.word(0)?.bytes()?),
            "CopyDone" => Frontend::CopyDone,
            "CopyFail" => Frontend::CopyFail(self.text(0)?),
            "Describe" => Frontend::Describe(self.target()?, self.text(1)?),
            "Execute" => Frontend::Execute {
                portal: self.text(0)?,
                max_rows: self.plain().nth(1).map_or(Ok(0), Token::number)?,
            },
            "Flush" => Frontend::Flush,
            "FunctionCall" => Frontend::FunctionCall(self.word(0)?.number()?),
            "GSSENCRequest" => Frontend::GssEncRequest,
            "Parse" => {
                Frontend::Parse { name: self.text(0)?, sql: self.text(1)?, types: self.numbers("oids")? }
            }
            "Query" => Frontend::Query(self.text(0)?),
            "Raw" => Frontend::Raw(self.word(0)?.bytes()?),
            "SSLRequest" => Frontend::SslRequest,
            "Startup" => self.startup()?,
            "Sync" => Frontend::Sync,
            "Terminate" => Frontend::Terminate,
            _ => return Err(self.wrong("not a message of a client")),
        })
    }

    fn wrong(&self, reason: &str) -> NotationError {
        NotationError::new(self.line, reason)
    }

    fn plain(&self) -> impl Iterator<Item = &Token> {
        self.words.iter().filter(|word| word.key.is_none())
    }

    fn word(&self, index: usize) -> Result<&Token, NotationError> {
        self.plain().nth(index).ok_or_else(|| self.wrong("a word is missing"))
    }

    fn text(&self, index: usize) -> Result<String, NotationError> {
        self.word(index).map(|word| word.text.clone())
    }

    fn target(&self) -> Result<Target, NotationError> {
        Target::of(&self.word(0)?.text).ok_or_else(|| self.wrong("S or P is expected"))
    }

    /// The numbers of `key=1,2,3`; none if the key is absent.
    fn numbers<N: std::str::FromStr>(&self, key: &str) -> Result<Vec<N>, NotationError> {
        let Some(word) = self.words.iter().find(|word| word.key.as_deref() == Some(key)) else {
            return Ok(Vec::new());
        };
        let number = |text: &str| text.parse().map_err(|_| self.wrong("numbers are expected"));
        word.text.split(',').filter(|text| !text.is_empty()).map(number).collect()
    }

    fn bind(&self) -> Result<Frontend, NotationError> {
        Ok(Frontend::Bind {
            portal: self.text(0)?,
            statement: self.text(1)?,
            values: self.plain().skip(2).map(Token::value).collect::<Result<_, _>>()?,
            parameter_formats: self.numbers("pf")?,
            result_formats: self.numbers("rf")?,
        })
    }

    fn startup(&self) -> Result<Frontend, NotationError> {
        let version = self.text(0)?;
        let number = |text: &str| text.parse().map_err(|_| self.wrong("MAJOR.MINOR is expected"));
        let (major, minor) = version.split_once('.').ok_or_else(|| self.wrong("MAJOR.MINOR is expected"))?;
        let parameter = |word: &Token| Some((word.key.clone()?, word.text.clone()));
        Ok(Frontend::Startup {
            major: number(major)?,
            minor: number(minor)?,
            parameters: self.words.iter().filter_map(parameter).collect(),
        })
    }
}

fn named(tag: u8, target: Target, name: &str) -> Vec<u8> {
    framed(tag, |bytes| {
        bytes.extend(target.letter().to_string().as_bytes());
        put_text(bytes, name);
    })
}

fn decode_tagged(tag: u8, body: &mut Body<'_>) -> Option<Frontend> {
    Some(match tag {
        b'B' => Frontend::Bind {
            portal: body.text()?,
            statement: body.text()?,
            parameter_formats: body.i16s()?,
            values: (0..body.count()?).map(|_| body.value()).collect::<Option<_>>()?,
            result_formats: body.i16s()?,
        },
        b'C' => Frontend::Close(decode_target(body)?, body.text()?),
        b'd' => Frontend::CopyData(body.0.to_vec()),
        b'c' => Frontend::CopyDone,
        b'f' => Frontend::CopyFail(body.text()?),
        b'D' => Frontend::Describe(decode_target(body)?, body.text()?),
        b'E' => Frontend::Execute { portal: body.text()?, max_rows: body.i32()? },
        b'H' => Frontend::Flush,
        b'F' => Frontend::FunctionCall(body.i32()?),
        b'P' => Frontend::Parse {
            name: body.text()?,
            sql: body.text()?,
            types: (0..body.count()?).map(|_| body.i32()).collect::<Option<_>>()?,
        },
        b'Q' => Frontend::Query(body.text()?),
        b'S' => Frontend::Sync,
        b'X' => Frontend::Terminate,
        _ => return None,
    })
}

fn decode_target(body: &mut Body<'_>) -> Option<Target> {
    Target::of(std::str::from_utf8(body.take(1)?).ok()?)
}

/// A CancelRequest stays `Raw`: the notation names a connection where the wire has a key.
fn decode_startup(body: &mut Body<'_>) -> Option<Frontend> {
    let mut code = Body(body.0);
    match code.i32()? {
        SSL_REQUEST => return Some(Frontend::SslRequest),
        GSS_ENC_REQUEST => return Some(Frontend::GssEncRequest),
        CANCEL_REQUEST => return None,
        _ => {}
    }
    let (major, minor) = (body.i16()?, body.i16()?);
    let mut parameters = Vec::new();
    while body.0.len() > 1 {
        parameters.push((body.text()?, body.text()?));
    }
    Some(Frontend::Startup { major, minor, parameters })
}

impl Display for Frontend {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind { portal, statement, values, parameter_formats, result_formats } => {
                write!(f, "Bind {} {}", quote(portal), quote(statement))?;
                for value in values {
                    write!(f, " {}", value.as_deref().map_or("NULL".into(), quote_bytes))?;
                }
                write_numbers(f, "pf", parameter_formats)?;
                write_numbers(f, "rf", result_formats)
            }
            Self::CancelRequest { connection, wrong } => {
                write!(f, "CancelRequest {connection}{}", if *wrong { " wrong" } else { "" })
            }
            Self::Close(target, name) => write!(f, "Close {} {}", target.letter(), quote(name)),
            Self::CopyData(data) => write!(f, "CopyData {}", quote_bytes(data)),
            Self::CopyDone => f.write_str("CopyDone"),
            Self::CopyFail(reason) => write!(f, "CopyFail {}", quote(reason)),
            Self::Describe(target, name) => write!(f, "Describe {} {}", target.letter(), quote(name)),
            Self::Execute { portal, max_rows } => write!(f, "Execute {} {max_rows}", quote(portal)),
            Self::Flush => f.write_str("Flush"),
            Self::FunctionCall(oid) => write!(f, "FunctionCall {oid}"),
            Self::GssEncRequest => f.write_str("GSSENCRequest"),
            Self::Parse { name, sql, types } => {
                write!(f, "Parse {} {}", quote(name), quote(sql))?;
                write_numbers(f, "oids", types)
            }
            Self::Query(sql) => write!(f, "Query {}", quote(sql)),
            Self::Raw(raw) => write!(f, "Raw 0x{}", to_hex(raw)),
            Self::SslRequest => f.write_str("SSLRequest"),
            Self::Startup { major, minor, parameters } => {
                write!(f, "Startup {major}.{minor}")?;
                parameters.iter().try_for_each(|(name, value)| write!(f, " {name}={}", quote(value)))
            }
            Self::Sync => f.write_str("Sync"),
            Self::Terminate => f.write_str("Terminate"),
        }
    }
}

fn write_numbers(f: &mut Formatter<'_>, key: &str, numbers: &[impl Display]) -> fmt::Result {
    for (index, number) in numbers.iter().enumerate() {
        if index == 0 { write!(f, " {key}={number}")? } else { write!(f, ",{number}")? }
    }
    Ok(())
}
