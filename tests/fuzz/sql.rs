//! Texts in which a COMMIT is, or only seems to be. The classification is the engine's own affair: it shows in what it does.

use golden::{Backend, Frontend};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use reprise::replay::{Begin, Dialect, Policy};

use crate::cases;
use crate::session::{Cut, Session};

/// A session in a transaction.
fn in_transaction(dialect: Dialect) -> Session {
    let policy = Policy { begin: Begin::Immediate, ..Policy::default() };
    let mut session = Session::new(policy, dialect, Cut::Whole);
    ask(&mut session, "BEGIN");
    answer(&mut session, "CommandComplete \"BEGIN\"");
    answer(&mut session, "ReadyForQuery T");
    session
}

fn ask(session: &mut Session, sql: &str) {
    let mut frame = vec![b'Q'];
    frame.extend((sql.len() as u32 + 5).to_be_bytes());
    frame.extend(sql.as_bytes());
    frame.push(0);
    session.client_sends(&frame);
}

fn answer(session: &mut Session, line: &str) {
    session.server_sends(&Backend::parse(line).expect("a backend message").encode());
}

/// The texts that went to the server, but for what the dialect adds.
fn sent(session: &Session) -> Vec<String> {
    let mut bytes = session.record.to_server.clone();
    std::iter::from_fn(|| Frontend::read(&mut bytes))
        .filter_map(|request| match request {
            Frontend::Query(sql) => Some(sql),
            _ => None,
        })
        .filter(|sql| !sql.contains("cockroach_restart"))
        .collect()
}

/// Words that end a transaction where they stand for themselves.
fn control() -> impl Strategy<Value = String> {
    select(
        &[
            "; COMMIT;",
            ";COMMIT",
            ";\nend;",
            "; ROLLBACK; ",
            "; /* */ Commit work ;",
            ";\x0bCOMMIT",
            "COMMIT",
        ][..],
    )
    .prop_map(str::to_owned)
}

/// Letters and signs that may stand in any quotation without ending it.
fn filling() -> impl Strategy<Value = String> {
    vec(prop_oneof![3 => "[a-zA-Z é漢😀,;()=+\n\t0-9_-]{0,12}", 2 => control()], 1..4)
        .prop_map(|parts| parts.concat())
}

/// A part of a statement in which nothing stands for itself, whatever is in it.
fn quotation() -> impl Strategy<Value = String> {
    let tag = "[a-z_é]{0,3}[0-9]?";
    prop_oneof![
        filling().prop_map(|text| format!("'{text}'")),
        filling().prop_map(|text| format!("'{text}''{text}'")),
        filling().prop_map(|text| format!("E'{text}\\'{text}\\\\'")),
        filling().prop_map(|text| format!("\"{text}\"\"{text}\"")),
        filling().prop_map(|text| format!("/* {text} /* {text} */ {text} */")),
        filling().prop_map(|text| format!("--{}\n", text.replace('\n', " "))),
        (tag, filling())
            .prop_filter("a tag begins with a letter", |(tag, _)| !tag
                .starts_with(|c: char| c.is_ascii_digit()))
            .prop_map(|(tag, text)| format!("${tag}${text}' \"${tag}$")),
    ]
}

/// One statement, whatever seems to be in it.
fn statement() -> impl Strategy<Value = String> {
    let word = select(&["SELECT", "update t set a =", "INSERT INTO t VALUES", "(SELECT 1),"][..]);
    let between = select(&[" ", ", ", " + $1 ", "\n", " a.b "][..]);
    let part = (quotation(), between).prop_map(|(quotation, between)| quotation + between);
    (word, vec(part, 1..5)).prop_map(|(word, parts)| format!("{word} {}", parts.concat()))
}

fn dialect() -> impl Strategy<Value = Dialect> {
    prop_oneof![Just(Dialect::Cockroach), Just(Dialect::Postgres)]
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn control_in_a_quotation_is_none(sql in statement(), semicolon in any::<bool>(), dialect in dialect()) {
        let sql = if semicolon { sql + ";" } else { sql };
        let mut session = in_transaction(dialect);
        ask(&mut session, &sql);
        prop_assert!(session.engine.takes_requests(), "it is taken for an end: {sql:?}");
        let shown = session.record.to_client.len();
        if dialect == Dialect::Cockroach {
            answer(&mut session, "CommandComplete \"SAVEPOINT\"");
            answer(&mut session, "ReadyForQuery T");
        }
        answer(&mut session, "ErrorResponse S=\"ERROR\" C=\"40001\" M=\"conflict\"");
        prop_assert_eq!(session.record.to_client.len(), shown, "it is not replayable: {:?}", sql);
    }

    #[test]
    fn control_behind_a_quotation_is_seen(sql in statement(), end in select(&["COMMIT", "end", "\x0bCommit", "-- ;\nROLLBACK ;"][..]), dialect in dialect()) {
        let mut session = in_transaction(dialect);
        ask(&mut session, &format!("{sql}; {end}"));
        prop_assert!(!session.engine.takes_requests(), "its end is not seen: {sql:?}");
    }

    #[test]
    fn any_text_reaches_the_server_as_it_is(sql in "\\PC{0,40}", dialect in dialect()) {
        prop_assume!(!sql.to_ascii_lowercase().contains("cockroach_restart"));
        let mut session = in_transaction(dialect);
        ask(&mut session, &sql);
        prop_assert_eq!(sent(&session), ["BEGIN", sql.as_str()]);
    }
}
