//! Placeholders stand for what differs from run to run, and for nothing else.

use golden::mask::mask_text;
use golden::{Backend, Mask};

#[test]
fn equal_values_of_a_kind_get_equal_numbers() {
    let mut mask = Mask::default();
    let (noon, one) = ("2026-01-01 12:00:00.5+00:00", "2026-01-01T13:00:00Z");
    let masked: Vec<String> =
        [noon, one, noon, "123456789012345678"].iter().map(|value| mask.value(value)).collect();
    assert_eq!(masked, ["<TIME#1>", "<TIME#2>", "<TIME#1>", "<ROWID#1>"]);
}

#[test]
fn ordinary_values_are_left_alone() {
    assert_eq!(Mask::default().value("2026-01-01"), "2026-01-01");
    assert_eq!(mask_text("42 rows in 12.5 s"), "42 rows in 12.5 s");
}

#[test]
fn a_conflict_keeps_its_reason_and_its_key() {
    let text = "retry txn (RETRY_SERIALIZABLE): meta={id=1b2bf263 key=/Table/106/1/9/0 pri=0.00065863 ts=1700512205.521833000,2}";
    let masked = "retry txn (RETRY_SERIALIZABLE): meta={id=<TXN> key=/Table/<ID>/1/9/0 pri=<PRI> ts=<HLC>}";
    assert_eq!(mask_text(text), masked);
}

#[test]
fn versions_are_masked_in_parameters() {
    let line = |value: &str| Backend::parse(&format!("ParameterStatus server_version=\"{value}\"")).unwrap();
    assert_eq!(
        Mask::default().apply(line("15.4")).to_string(),
        "ParameterStatus server_version=\"<SERVER_VERSION>\""
    );
}
