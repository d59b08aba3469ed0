//! Messages that Reprise writes itself, appended to a buffer.

use super::backend::{self, ErrorFields, Status};
use super::frontend;

/// Writes one message: type byte, length, and the body that `body` appends.
fn message(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let start = out.len();
    out.extend([0; 4]);
    body(out);
    let length = u32::try_from(out.len() - start).expect("own messages are small");
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn cstr(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(text);
    out.push(0);
}

/// A Query message.
pub fn query(out: &mut Vec<u8>, sql: &str) {
    message(out, frontend::tag::QUERY, |out| cstr(out, sql.as_bytes()));
}

/// Parse and Bind of a statement without parameters and results, under `name` for statement and portal alike: what exists
/// under other names, or without one, is left alone. It begins with a Close, because an earlier one may not have got to its end.
pub fn bind_named(out: &mut Vec<u8>, name: &str, sql: &[u8]) {
    close_statement(out, name.as_bytes());
    parse(out, name.as_bytes(), sql);
    message(out, frontend::tag::BIND, |out| {
        cstr(out, name.as_bytes());
        cstr(out, name.as_bytes());
        out.extend([0; 6]);
    });
}

/// Parse of a statement, with no parameter types given.
pub fn parse(out: &mut Vec<u8>, name: &[u8], sql: &[u8]) {
    message(out, frontend::tag::PARSE, |out| {
        cstr(out, name);
        cstr(out, sql);
        out.extend(0u16.to_be_bytes());
    });
}

/// Bind of a statement without parameters to the unnamed portal.
pub fn bind(out: &mut Vec<u8>, statement: &str) {
    message(out, frontend::tag::BIND, |out| {
        cstr(out, b"");
        cstr(out, statement.as_bytes());
        out.extend([0; 6]);
    });
}

/// Execute of a portal, without a limit.
pub fn execute(out: &mut Vec<u8>, portal: &str) {
    message(out, frontend::tag::EXECUTE, |out| {
        cstr(out, portal.as_bytes());
        out.extend(0u32.to_be_bytes());
    });
}

/// [`bind_named`], Execute, and Close for both.
pub fn run_named(out: &mut Vec<u8>, name: &str, sql: &[u8]) {
    bind_named(out, name, sql);
    execute(out, name);
    close(out, b'P', name.as_bytes());
    close(out, b'S', name.as_bytes());
}

/// Close of a portal (`P`) or a prepared statement (`S`).
fn close(out: &mut Vec<u8>, kind: u8, name: &[u8]) {
    message(out, frontend::tag::CLOSE, |out| {
        out.push(kind);
        cstr(out, name);
    });
}

/// Close of a prepared statement.
pub fn close_statement(out: &mut Vec<u8>, name: &[u8]) {
    close(out, b'S', name);
}

/// A CopyFail message.
pub fn copy_fail(out: &mut Vec<u8>, reason: &str) {
    message(out, frontend::tag::COPY_FAIL, |out| cstr(out, reason.as_bytes()));
}

/// A Sync message.
pub fn sync(out: &mut Vec<u8>) {
    message(out, frontend::tag::SYNC, |_| {});
}

/// A Flush message.
pub fn flush(out: &mut Vec<u8>) {
    message(out, frontend::tag::FLUSH, |_| {});
}

/// A ParameterStatus message.
pub fn parameter_status(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    message(out, backend::tag::PARAMETER_STATUS, |out| {
        cstr(out, name);
        cstr(out, value);
    });
}

/// A ReadyForQuery message.
pub fn ready_for_query(out: &mut Vec<u8>, status: Status) {
    message(out, backend::tag::READY_FOR_QUERY, |out| out.push(status.byte()));
}

/// A CommandComplete message.
pub fn command_complete(out: &mut Vec<u8>, tag: &str) {
    message(out, backend::tag::COMMAND_COMPLETE, |out| cstr(out, tag.as_bytes()));
}

/// An ErrorResponse with the fields given, in their order.
pub fn error_response<'a>(out: &mut Vec<u8>, fields: impl IntoIterator<Item = (u8, &'a [u8])>) {
    message(out, backend::tag::ERROR_RESPONSE, |out| error_fields(out, fields));
}

/// A NoticeResponse.
pub fn notice(out: &mut Vec<u8>, text: &str, hint: &str) {
    notice_with(out, text, b'H', hint);
}

/// A NoticeResponse with one field besides the usual ones.
pub fn notice_with(out: &mut Vec<u8>, text: &str, field: u8, value: &str) {
    let fields = [(b'S', "NOTICE"), (b'V', "NOTICE"), (b'C', "00000"), (b'M', text), (field, value)];
    let fields = fields.map(|(field, value)| (field, value.as_bytes()));
    message(out, backend::tag::NOTICE_RESPONSE, |out| error_fields(out, fields));
}

fn error_fields<'a>(out: &mut Vec<u8>, fields: impl IntoIterator<Item = (u8, &'a [u8])>) {
    for (field, value) in fields {
        out.push(field);
        cstr(out, value);
    }
    out.push(0);
}

/// The error with `detail` and `hint` added: after what the server itself said there, on a line of their own.
pub fn annotated_error(out: &mut Vec<u8>, original: ErrorFields<'_>, detail: &str, hint: &str) {
    let added = |field: u8, text: &str| {
        let mut value = original.get(field).map_or_else(Vec::new, |v| [v, b"\n"].concat());
        value.extend_from_slice(text.as_bytes());
        value
    };
    let (detail, hint) = (added(b'D', detail), added(b'H', hint));
    let kept = original.iter().filter(|(field, _)| !matches!(field, b'D' | b'H'));
    error_response(out, kept.chain([(b'D', detail.as_slice()), (b'H', hint.as_slice())]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_carry_their_length() {
        let mut out = Vec::new();
        query(&mut out, "ROLLBACK");
        assert_eq!(out, b"Q\0\0\0\x0dROLLBACK\0");
        out.clear();
        ready_for_query(&mut out, Status::Failed);
        assert_eq!(out, b"Z\0\0\0\x05E");
        out.clear();
        close_statement(&mut out, b"s");
        assert_eq!(out, b"C\0\0\0\x07Ss\0");
    }

    #[test]
    fn an_annotated_error_keeps_what_the_server_said() {
        let mut out = Vec::new();
        let original = ErrorFields::new(b"SERROR\0C40001\0Mm\0Dthe server's\0\0");
        annotated_error(&mut out, original, "ours", "do this");
        assert_eq!(&out[5..], b"SERROR\0C40001\0Mm\0Dthe server's\nours\0Hdo this\0\0");
    }
}
