//! Answers on their way to the client: held back until something flushes them, so that they can be taken back.

use std::io;

use bytes::{BufMut, BytesMut};
use pgwire::messages::Message;
use pgwire::messages::data::{DataRow, FieldDescription, NoData, ParameterDescription, RowDescription};
use pgwire::messages::response::{CommandComplete, ErrorResponse, NoticeResponse};
use pgwire::messages::startup::ParameterStatus;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::errors::SqlError;
use crate::sql::plan::OutputColumn;
use crate::sql::value::Datum;
use crate::version::Version;

/// The answers that were not sent yet.
#[derive(Debug)]
pub(crate) struct Output {
    buffer: BytesMut,
    /// Where the answers to each command begin.
    starts: Vec<(u64, usize)>,
    position: u64,
    last_flushed: Option<u64>,
    limit: usize,
    /// Where the last CommandComplete begins.
    completed_at: usize,
    /// After how many more bytes the connection breaks, if a fault says so.
    cut_after: Option<usize>,
}

impl Output {
    /// Holds answers back until there are more than `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            starts: Vec::new(),
            position: 0,
            last_flushed: None,
            limit,
            cut_after: None,
            completed_at: 0,
        }
    }

    /// From here on, answers belong to the command at this position.
    pub(crate) fn begin(&mut self, position: u64) {
        self.position = position;
        self.starts.retain(|(start, _)| *start < position);
        self.starts.push((position, self.buffer.len()));
    }

    /// Takes the answers to all commands from a position on back.
    pub(crate) fn take_back(&mut self, position: u64) {
        if let Some((_, start)) = self.starts.iter().find(|(start, _)| *start >= position) {
            self.buffer.truncate(*start);
        }
        self.starts.retain(|(start, _)| *start < position);
    }

    /// Whether an answer to a command at or behind a position was sent.
    pub(crate) fn has_sent(&self, position: u64) -> bool {
        self.last_flushed.is_some_and(|flushed| flushed >= position)
    }

    /// Whether more is held back than should be.
    pub(crate) fn is_full(&self) -> bool {
        self.buffer.len() > self.limit
    }

    /// Lets the connection break after so many more bytes.
    pub(crate) fn cut_after(&mut self, bytes: usize) {
        self.cut_after = Some(bytes);
    }

    /// Sends everything.
    pub(crate) async fn flush(&mut self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        self.last_flushed = Some(self.position);
        self.starts.clear();
        self.starts.push((self.position, 0));
        let bytes = self.buffer.split();
        if let Some(left) = self.cut_after {
            if left < bytes.len() {
                stream.write_all(&bytes[..left]).await?;
                stream.flush().await?;
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.cut_after = Some(left - bytes.len());
        }
        stream.write_all(&bytes).await?;
        stream.flush().await
    }

    /// Adds a message. Those that the double makes are never too large for the protocol.
    pub(crate) fn message(&mut self, message: &impl Message) {
        let encoded = message.encode(&mut self.buffer);
        debug_assert!(encoded.is_ok(), "{encoded:?}");
    }

    /// Adds a message that the library does not encode as the server does: its bytes.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.buffer.put_slice(bytes);
    }

    /// CommandComplete.
    pub(crate) fn complete(&mut self, tag: impl Into<String>) {
        self.message(&CommandComplete::new(tag.into()));
    }

    /// Takes the last CommandComplete back.
    pub(crate) fn take_back_completion(&mut self) {
        self.buffer.truncate(self.completed_at);
    }

    /// ReadyForQuery.
    pub(crate) fn ready(&mut self, status: u8) {
        self.raw(&[b'Z', 0, 0, 0, 5, status]);
    }

    /// ParameterStatus.
    pub(crate) fn parameter(&mut self, name: &str, value: &str) {
        self.message(&ParameterStatus::new(name.into(), value.into()));
    }

    /// ErrorResponse, with the message behind all other fields.
    pub(crate) fn error(&mut self, error: &SqlError, version: Version) {
        self.message(&ErrorResponse::new(fields("ERROR", error, version)));
    }

    /// NoticeResponse.
    pub(crate) fn notice(&mut self, severity: &str, error: &SqlError, version: Version) {
        self.message(&NoticeResponse::new(fields(severity, error, version)));
    }

    /// RowDescription, or NoData if there are no columns.
    pub(crate) fn columns(&mut self, columns: &[OutputColumn], formats: &[i16]) {
        if columns.is_empty() {
            return self.message(&NoData::new());
        }
        let field = |(index, column): (usize, &OutputColumn)| {
            let name = column.name.clone();
            FieldDescription::new(name, 0, 0, column.ty.oid(), -1, -1, format_of(formats, index))
        };
        self.message(&RowDescription::new(columns.iter().enumerate().map(field).collect()));
    }

    /// ParameterDescription.
    pub(crate) fn parameters(&mut self, types: Vec<u32>) {
        self.message(&ParameterDescription::new(types));
    }

    /// DataRow.
    pub(crate) fn row(&mut self, values: &[Datum], formats: &[i16]) {
        let mut data = BytesMut::new();
        for (index, value) in values.iter().enumerate() {
            let bytes = if format_of(formats, index) == 1 { value.to_binary() } else { value.to_text() };
            match bytes {
                None => data.put_i32(-1),
                Some(bytes) => {
                    data.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
                    data.put_slice(&bytes);
                }
            }
        }
        self.message(&DataRow::new(data, i16::try_from(values.len()).unwrap_or(i16::MAX)));
    }
}

/// One format code counts for all columns, none means text.
pub(crate) fn format_of(formats: &[i16], index: usize) -> i16 {
    match formats {
        [] => 0,
        [all] => *all,
        each => each.get(index).copied().unwrap_or(0),
    }
}

fn fields(severity: &str, error: &SqlError, version: Version) -> Vec<(u8, String)> {
    let mut fields = vec![(b'S', severity.to_owned())];
    if version >= Version::V23_1 {
        fields.push((b'V', severity.to_owned()));
    }
    fields.push((b'C', error.code.clone()));
    fields.extend(error.detail.iter().map(|detail| (b'D', detail.to_string())));
    fields.extend(error.hint.iter().map(|hint| (b'H', hint.to_string())));
    fields.extend(error.constraint.iter().map(|name| (b'n', name.to_string())));
    fields.push((b'M', error.message.clone()));
    fields
}
