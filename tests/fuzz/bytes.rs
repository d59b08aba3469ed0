//! Arbitrary bytes: nothing panics, and nothing claims more than there is.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use reprise::replay::{Dialect, Policy};
use reprise::wire::backend::{self, ErrorFields, Status};
use reprise::wire::frontend::{self, Bind, Parse};
use reprise::wire::startup::Initial;
use reprise::wire::{HEADER_BYTES, Header, MESSAGE_BYTES_MAX};

use crate::cases;
use crate::session::{Cut, Session};

/// Type bytes that mean something on one side or the other, and one that means nothing.
const TAGS: &[u8] = b"BCDEFHPQSXcdfp123AGIKNRTVWZnstv?";

/// Arbitrary bytes, or frames with a length that fits and an arbitrary body, one after the other.
pub(crate) fn stream() -> impl Strategy<Value = Vec<u8>> {
    let garbage = vec(any::<u8>(), 0..40);
    let framed = vec(frame(), 1..8).prop_map(|frames| frames.concat());
    prop_oneof![1 => garbage, 6 => framed]
}

/// A frame with a length that fits.
pub(crate) fn frame() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![select(WORDS).prop_map(|word| word.as_bytes().to_vec()), vec(any::<u8>(), 0..20)];
    (select(TAGS), vec(text, 0..3)).prop_map(|(tag, texts)| {
        let body = texts.join(&0);
        let mut frame = vec![tag];
        frame.extend((body.len() as u32 + 4).to_be_bytes());
        frame.extend(body);
        frame
    })
}

/// Bodies that some view understands.
const WORDS: &[&str] = &[
    "",
    "\0",
    "COMMIT\0",
    "BEGIN\0",
    "s\0",
    "Ss\0",
    "T",
    "I",
    "E",
    "C40001\0\0",
    "SET x = 1\0",
    "SELECT 1;COMMIT\0",
];

fn is_within(part: &[u8], whole: &[u8]) -> bool {
    let (part, whole) = (part.as_ptr_range(), whole.as_ptr_range());
    whole.start <= part.start && part.end <= whole.end
}

proptest! {
    #![proptest_config(cases(1024))]

    #[test]
    fn a_header_is_five_bytes_and_a_length_that_can_be(bytes in vec(any::<u8>(), 0..12)) {
        match Header::parse(&bytes) {
            Ok(None) => prop_assert!(bytes.len() < HEADER_BYTES),
            Ok(Some(header)) => {
                prop_assert!((HEADER_BYTES..=MESSAGE_BYTES_MAX as usize + 1).contains(&header.frame_bytes));
                prop_assert_eq!(header.tag, bytes[0]);
            }
            Err(bad) => prop_assert!(bad.length < 4 || bad.length > MESSAGE_BYTES_MAX),
        }
    }

    #[test]
    fn a_view_is_a_part_of_what_it_views(frame in frame(), cut in 0..40usize) {
        let body = &frame[HEADER_BYTES..];
        let body = &body[..cut.min(body.len())];
        let mut parts = vec![frontend::query(body), frontend::execute(body), frontend::statement_target(body)];
        parts.extend(Parse::view(body).map(|parse| [Some(parse.statement), Some(parse.sql)]).into_iter().flatten());
        parts.extend(Bind::view(body).map(|bind| [Some(bind.portal), Some(bind.statement)]).into_iter().flatten());
        parts.push(backend::command_tag(body));
        parts.extend(backend::parameter_status(body).map(|(name, value)| [Some(name), Some(value)]).into_iter().flatten());
        parts.extend(ErrorFields::new(body).iter().map(|(_, value)| Some(value)));
        let _ = (Status::parse(body), ErrorFields::new(body).sqlstate());
        prop_assert!(parts.into_iter().flatten().all(|part| is_within(part, body)));
    }

    #[test]
    fn a_startup_packet_is_as_long_as_it_says(bytes in vec(any::<u8>(), 0..64), known in any::<bool>()) {
        let mut packet = bytes;
        if known && packet.len() >= 8 {
            let length = packet.len() as u32;
            packet[..4].copy_from_slice(&length.to_be_bytes());
            packet[4..8].copy_from_slice(&[0, 3, 0, 0]);
        }
        let fits = Initial::packet_bytes(&packet).is_ok_and(|length| length == Some(packet.len()));
        if let Ok(Initial::Startup(startup)) = Initial::parse(&packet) && fits
        {
            prop_assert!(startup.parameters().all(|(name, value)| is_within(name, &packet) && is_within(value, &packet)));
        }
    }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn an_engine_takes_any_bytes_cut_anywhere(
        reads in vec((any::<bool>(), stream()), 1..24),
        cut in 1..9usize,
        cockroach in any::<bool>(),
    ) {
        let dialect = if cockroach { Dialect::Cockroach } else { Dialect::Postgres };
        let policy = Policy { journal_bytes: 400, hold_bytes: 200, ..Policy::default() };
        let mut session = Session::new(policy, dialect, Cut::Pieces(cut));
        for (from_client, bytes) in reads {
            match from_client {
                true => session.client_sends(&bytes),
                false => session.server_sends(&bytes),
            }
            session.wait();
            if session.is_over() {
                break;
            }
        }
    }
}
