//! What a server sends: the typed message, its line and its bytes.
//!
//! The notation leaves out what no recording compares (table and width of a column, file and line of an error), so
//! a message that was parsed from a line carries zeros there.

use std::fmt::{self, Display, Formatter};

use super::NotationError;
use super::body::{Body, cut_message, framed, put_count, put_i16, put_i16s, put_i32, put_text, put_value};
use super::token::{Token, quote, quote_bytes, to_hex, tokens};

/// The values of one row, `None` for NULL.
pub type Values = Vec<Option<Vec<u8>>>;

/// One column of a RowDescription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The object id of its type.
    pub type_oid: u32,
    /// Whether its values are in binary format.
    pub binary: bool,
}

/// The fields of an ErrorResponse or NoticeResponse, in the order of the wire.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fields(pub Vec<(char, String)>);

impl Fields {
    /// The letters of the fields that the notation shows, in its order.
    const SHOWN: [char; 6] = ['S', 'C', 'M', 'D', 'H', 'n'];

    /// The text of a field, by its letter.
    pub fn get(&self, letter: char) -> Option<&str> {
        self.0.iter().find(|(name, _)| *name == letter).map(|(_, text)| text.as_str())
    }
}

impl Display for Fields {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for letter in Self::SHOWN {
            if let Some(text) = self.get(letter) {
                write!(f, " {letter}={}", quote(text))?;
            }
        }
        Ok(())
    }
}

/// A message of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // The protocol documentation of PostgreSQL says what each of them and its parts are.
pub enum Backend {
    AuthenticationOk,
    Authentication(i32),
    BackendKeyData { pid: i32, key: i32 },
    BindComplete,
    CloseComplete,
    CommandComplete(String),
    CopyBothResponse { format: u8, columns: Vec<i16> },
    CopyData(Vec<u8>),
    CopyDone,
    CopyInResponse { format: u8, columns: Vec<i16> },
    CopyOutResponse { format: u8, columns: Vec<i16> },
    DataRow(Values),
    EmptyQueryResponse,
    ErrorResponse(Fields),
    FunctionCallResponse,
    NegotiateProtocolVersion { newest: i32, options: Vec<String> },
    NoData,
    NoticeResponse(Fields),
    NotificationResponse { pid: i32, channel: String, payload: String },
    ParameterDescription(Vec<u32>),
    ParameterStatus { name: String, value: String },
    ParseComplete,
    PortalSuspended,
    ReadyForQuery(char),
    RowDescription(Vec<Column>),
    Unknown { tag: u8, body: Vec<u8> },
}

/// The messages that consist of nothing but their tag.
const BARE: [(u8, &str, Backend); 7] = [
    (b'1', "ParseComplete", Backend::ParseComplete),
    (b'2', "BindComplete", Backend::BindComplete),
    (b'3', "CloseComplete", Backend::CloseComplete),
    (b'n', "NoData", Backend::NoData),
    (b's', "PortalSuspended", Backend::PortalSuspended),
    (b'I', "EmptyQueryResponse", Backend::EmptyQueryResponse),
    (b'c', "CopyDone", Backend::CopyDone),
];

impl Backend {
    /// Cuts the first whole message off a buffer of received bytes.
    pub fn read(buffer: &mut Vec<u8>) -> Option<Self> {
        let (tag, body) = cut_message(buffer)?;
        Some(Self::decode(tag, &body))
    }

    /// The message of these bytes; `Unknown` if its tag is, or if the body does not fit the tag.
    pub fn decode(tag: u8, body: &[u8]) -> Self {
        if let Some((.., message)) = BARE.iter().find(|(bare, ..)| *bare == tag) {
            return message.clone();
        }
        Self::decode_body(tag, &mut Body(body)).unwrap_or_else(|| Self::Unknown { tag, body: body.to_vec() })
    }

    fn decode_body(tag: u8, body: &mut Body<'_>) -> Option<Self> {
        Some(match tag {
            b'T' => Self::RowDescription(decode_columns(body)?),
            b'D' => Self::DataRow((0..body.count()?).map(|_| body.value()).collect::<Option<_>>()?),
            b'C' => Self::CommandComplete(body.text()?),
            b'E' => Self::ErrorResponse(decode_fields(body)?),
            b'N' => Self::NoticeResponse(decode_fields(body)?),
            b'Z' => Self::ReadyForQuery(char::from(body.byte()?)),
            b'S' => Self::ParameterStatus { name: body.text()?, value: body.text()? },
            b't' => Self::ParameterDescription(decode_types(body)?),
            b'R' => match body.i32()? {
                0 => Self::AuthenticationOk,
                method => Self::Authentication(method),
            },
            b'K' => Self::BackendKeyData { pid: body.i32()?, key: body.i32()? },
            b'G' => Self::CopyInResponse { format: body.byte()?, columns: body.i16s()? },
            b'H' => Self::CopyOutResponse { format: body.byte()?, columns: body.i16s()? },
            b'W' => Self::CopyBothResponse { format: body.byte()?, columns: body.i16s()? },
            b'd' => Self::CopyData(body.0.to_vec()),
            b'A' => {
                Self::NotificationResponse { pid: body.i32()?, channel: body.text()?, payload: body.text()? }
            }
            b'v' => {
                let newest = body.i32()?;
                let options = (0..body.i32()?).map(|_| body.text()).collect::<Option<_>>()?;
                Self::NegotiateProtocolVersion { newest, options }
            }
            b'V' => Self::FunctionCallResponse,
            _ => return None,
        })
    }

    /// The bytes of the message.
    pub fn encode(&self) -> Vec<u8> {
        if let Some((tag, ..)) = BARE.iter().find(|(.., message)| message == self) {
            return framed(*tag, |_| {});
        }
        framed(self.tag(), |bytes| self.encode_body(bytes))
    }

    fn tag(&self) -> u8 {
        match self {
            Self::AuthenticationOk | Self::Authentication(_) => b'R',
            Self::BackendKeyData { .. } => b'K',
            Self::CommandComplete(_) => b'C',
            Self::CopyBothResponse { .. } => b'W',
            Self::CopyData(_) => b'd',
            Self::CopyInResponse { .. } => b'G',
            Self::CopyOutResponse { .. } => b'H',
            Self::DataRow(_) => b'D',
            Self::ErrorResponse(_) => b'E',
            Self::FunctionCallResponse => b'V',
            Self::NegotiateProtocolVersion { .. } => b'v',
            Self::NoticeResponse(_) => b'N',
            Self::NotificationResponse { .. } => b'A',
            Self::ParameterDescription(_) => b't',
            Self::ParameterStatus { .. } => b'S',
            Self::ReadyForQuery(_) => b'Z',
            Self::RowDescription(_) => b'T',
            Self::Unknown { tag, .. } => *tag,
            bare => BARE.iter().find(|(.., message)| message == bare).map_or(0, |(tag, ..)| *tag),
        }
    }

    fn encode_body(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::AuthenticationOk => put_i32(bytes, 0),
            Self::Authentication(method) => put_i32(bytes, *method),
            Self::BackendKeyData { pid, key } => {
                [pid, key].into_iter().for_each(|half| put_i32(bytes, *half))
            }
            Self::CommandComplete(tag) => put_text(bytes, tag),
            Self::CopyBothResponse { format, columns }
            | Self::CopyInResponse { format, columns }
            | Self::CopyOutResponse { format, columns } => {
                bytes.push(*format);
                put_i16s(bytes, columns);
            }
            Self::CopyData(data) | Self::Unknown { body: data, .. } => bytes.extend(data),
            Self::DataRow(values) => {
                put_count(bytes, values.len());
                values.iter().for_each(|value| put_value(bytes, value.as_deref()));
            }
            Self::ErrorResponse(fields) | Self::NoticeResponse(fields) => encode_fields(bytes, fields),
            Self::FunctionCallResponse => put_i32(bytes, -1),
            Self::NegotiateProtocolVersion { newest, options } => {
                put_i32(bytes, *newest);
                put_i32(bytes, i32::try_from(options.len()).expect("a handful of options"));
                options.iter().for_each(|option| put_text(bytes, option));
            }
            Self::NotificationResponse { pid, channel, payload } => {
                put_i32(bytes, *pid);
                put_text(bytes, channel);
                put_text(bytes, payload);
            }
            Self::ParameterDescription(types) => {
                put_count(bytes, types.len());
                types.iter().for_each(|oid| bytes.extend(oid.to_be_bytes()));
            }
            Self::ParameterStatus { name, value } => {
                put_text(bytes, name);
                put_text(bytes, value);
            }
            Self::ReadyForQuery(status) => bytes.push(u8::try_from(*status).unwrap_or(b'?')),
            Self::RowDescription(columns) => encode_columns(bytes, columns),
            _ => {}
        }
    }

    /// The message of a recorded line, without its `< C `. Masked numbers become zero.
    pub fn parse(line: &str) -> Result<Self, NotationError> {
        let words = tokens(line)?;
        let (name, words) = words.split_first().ok_or_else(|| NotationError::new(line, "no message"))?;
        if let Some((.., message)) = BARE.iter().find(|(_, bare, _)| *bare == name.text) {
            return Ok(message.clone());
        }
        parse_parts(&name.text, words)?.ok_or_else(|| NotationError::new(line, "not a message of a server"))
    }
}

fn parse_parts(name: &str, words: &[Token]) -> Result<Option<Backend>, NotationError> {
    let text = |index: usize| words.get(index).map(|word| word.text.clone()).unwrap_or_default();
    let masked = |index: usize| text(index).parse().unwrap_or(0);
    Ok(Some(match name {
        "AuthenticationOk" => Backend::AuthenticationOk,
        "Authentication" => Backend::Authentication(masked(0)),
        "BackendKeyData" => Backend::BackendKeyData { pid: masked(0), key: masked(1) },
        "CommandComplete" => Backend::CommandComplete(text(0)),
        "CopyBothResponse" | "CopyInResponse" | "CopyOutResponse" => {
            return parse_copy(name, words).map(Some);
        }
        "CopyData" => Backend::CopyData(words.first().map_or(Ok(Vec::new()), Token::bytes)?),
        "DataRow" => Backend::DataRow(words.iter().map(Token::value).collect::<Result<_, _>>()?),
        "ErrorResponse" => Backend::ErrorResponse(parse_fields(words)),
        "FunctionCallResponse" => Backend::FunctionCallResponse,
        "NegotiateProtocolVersion" => {
            let options = words.iter().skip(1).map(|word| word.text.clone()).collect();
            Backend::NegotiateProtocolVersion { newest: masked(0), options }
        }
        "NoticeResponse" => Backend::NoticeResponse(parse_fields(words)),
        "NotificationResponse" => {
            Backend::NotificationResponse { pid: masked(0), channel: text(1), payload: text(2) }
        }
        "ParameterDescription" => {
            Backend::ParameterDescription(words.iter().map(Token::number).collect::<Result<_, _>>()?)
        }
        "ParameterStatus" => match words {
            [Token { key: Some(name), text: value, .. }] => {
                Backend::ParameterStatus { name: name.clone(), value: value.clone() }
            }
            _ => return Ok(None),
        },
        "ReadyForQuery" => Backend::ReadyForQuery(text(0).chars().next().unwrap_or('?')),
        "RowDescription" => Backend::RowDescription(parse_columns(words)?),
        _ => return Ok(None),
    }))
}

fn parse_copy(name: &str, words: &[Token]) -> Result<Backend, NotationError> {
    let [format, columns @ ..] = words else {
        return Err(NotationError::new(name, "a format is expected after"));
    };
    let format = format.number()?;
    let columns = columns.iter().map(Token::number).collect::<Result<_, _>>()?;
    Ok(match name {
        "CopyInResponse" => Backend::CopyInResponse { format, columns },
        "CopyOutResponse" => Backend::CopyOutResponse { format, columns },
        _ => Backend::CopyBothResponse { format, columns },
    })
}

fn parse_fields(words: &[Token]) -> Fields {
    let field = |word: &Token| Some((word.key.as_ref()?.chars().next()?, word.text.clone()));
    Fields(words.iter().filter_map(field).collect())
}

/// A column is two words for the scanner: `"name"` and `:oid` or `:oid:b`.
fn parse_columns(words: &[Token]) -> Result<Vec<Column>, NotationError> {
    let column = |pair: &[Token]| {
        let oid = pair.get(1).and_then(|word| word.text.strip_prefix(':'));
        let oid =
            oid.ok_or_else(|| NotationError::new(&pair[0].text, "a type is expected after the column"))?;
        let (oid, binary) = oid.strip_suffix(":b").map_or((oid, false), |oid| (oid, true));
        let type_oid = oid.parse().map_err(|_| NotationError::new(oid, "a type is a number"))?;
        Ok(Column { name: pair[0].text.clone(), type_oid, binary })
    };
    words.chunks(2).map(column).collect()
}

fn decode_columns(body: &mut Body<'_>) -> Option<Vec<Column>> {
    let count = body.count()?;
    (0..count)
        .map(|_| {
            let name = body.text()?;
            body.take(6)?;
            let type_oid = u32::from_be_bytes(body.take(4)?.try_into().ok()?);
            body.take(6)?;
            Some(Column { name, type_oid, binary: body.i16()? != 0 })
        })
        .collect()
}

fn encode_columns(bytes: &mut Vec<u8>, columns: &[Column]) {
    put_count(bytes, columns.len());
    for column in columns {
        put_text(bytes, &column.name);
        bytes.extend([0; 6]);
        bytes.extend(column.type_oid.to_be_bytes());
        put_i16(bytes, -1);
        put_i32(bytes, -1);
        put_i16(bytes, i16::from(column.binary));
    }
}

fn decode_fields(body: &mut Body<'_>) -> Option<Fields> {
    let mut fields = Vec::new();
    loop {
        match body.byte()? {
            0 => return Some(Fields(fields)),
            letter => fields.push((char::from(letter), body.text()?)),
        }
    }
}

fn encode_fields(bytes: &mut Vec<u8>, fields: &Fields) {
    for (letter, text) in &fields.0 {
        bytes.push(u8::try_from(*letter).unwrap_or(b'?'));
        put_text(bytes, text);
    }
    bytes.push(0);
}

fn decode_types(body: &mut Body<'_>) -> Option<Vec<u32>> {
    (0..body.count()?).map(|_| Some(u32::from_be_bytes(body.take(4)?.try_into().ok()?))).collect()
}

impl Display for Backend {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::AuthenticationOk => f.write_str("AuthenticationOk"),
            Self::Authentication(method) => write!(f, "Authentication {method}"),
            Self::BackendKeyData { .. } => f.write_str("BackendKeyData <PID> <KEY>"),
            Self::CommandComplete(tag) => write!(f, "CommandComplete {}", quote(tag)),
            Self::CopyBothResponse { format, columns } => write_copy(f, "CopyBothResponse", *format, columns),
            Self::CopyData(data) => write!(f, "CopyData {}", quote_bytes(data)),
            Self::CopyInResponse { format, columns } => write_copy(f, "CopyInResponse", *format, columns),
            Self::CopyOutResponse { format, columns } => write_copy(f, "CopyOutResponse", *format, columns),
            Self::DataRow(values) => write_values(f, values),
            Self::ErrorResponse(fields) => write!(f, "ErrorResponse{fields}"),
            Self::FunctionCallResponse => f.write_str("FunctionCallResponse"),
            Self::NegotiateProtocolVersion { newest, options } => {
                write!(f, "NegotiateProtocolVersion {newest}")?;
                options.iter().try_for_each(|option| write!(f, " {}", quote(option)))
            }
            Self::NoticeResponse(fields) => write!(f, "NoticeResponse{fields}"),
            Self::NotificationResponse { channel, payload, .. } => {
                write!(f, "NotificationResponse <PID> {} {}", quote(channel), quote(payload))
            }
            Self::ParameterDescription(types) => {
                f.write_str("ParameterDescription")?;
                types.iter().try_for_each(|oid| write!(f, " {oid}"))
            }
            Self::ParameterStatus { name, value } => write!(f, "ParameterStatus {name}={}", quote(value)),
            Self::ReadyForQuery(status) => write!(f, "ReadyForQuery {status}"),
            Self::RowDescription(columns) => write_columns(f, columns),
            Self::Unknown { tag, body } => write!(f, "Unknown 0x{} {}", to_hex(&[*tag]), body.len()),
            bare => f.write_str(BARE.iter().find(|(.., m)| m == bare).map_or("", |(_, name, _)| *name)),
        }
    }
}

fn write_copy(f: &mut Formatter<'_>, name: &str, format: u8, columns: &[i16]) -> fmt::Result {
    write!(f, "{name} {format}")?;
    columns.iter().try_for_each(|column| write!(f, " {column}"))
}

fn write_values(f: &mut Formatter<'_>, values: &Values) -> fmt::Result {
    f.write_str("DataRow")?;
    values.iter().try_for_each(|value| match value {
        None => f.write_str(" NULL"),
        Some(value) => write!(f, " {}", quote_bytes(value)),
    })
}

fn write_columns(f: &mut Formatter<'_>, columns: &[Column]) -> fmt::Result {
    f.write_str("RowDescription")?;
    columns.iter().try_for_each(|column| {
        write!(f, " {}:{}{}", quote(&column.name), column.type_oid, if column.binary { ":b" } else { "" })
    })
}
