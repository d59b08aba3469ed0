//! What texts are taken for.

use super::*;

#[track_caller]
fn expect(sql: &str, class: Class) {
    assert_eq!(Classes::of(sql.as_bytes()), class.into(), "{sql}");
}

#[test]
fn transaction_control_is_told_from_its_words() {
    for sql in [
        "BEGIN",
        "begin;",
        " /* a /* b */ */ BEGIN ISOLATION LEVEL SERIALIZABLE",
        "START TRANSACTION READ ONLY",
    ] {
        expect(sql, Class::Begin);
    }
    for sql in ["COMMIT", "commit work", "END", "END TRANSACTION;", "-- bye\nCOMMIT", "COMMIT AND NO CHAIN"] {
        expect(sql, Class::Commit);
    }
    for sql in ["ROLLBACK", "ABORT", "rollback transaction ;"] {
        expect(sql, Class::Rollback);
    }
    expect("COMMIT AND CHAIN", Class::Chain);
    expect("ROLLBACK WORK AND CHAIN", Class::Chain);
    for sql in ["PREPARE TRANSACTION 'x'", "COMMIT PREPARED 'x'", "ROLLBACK PREPARED 'x'"] {
        expect(sql, Class::TwoPhase);
    }
    expect("SHOW COMMIT TIMESTAMP;", Class::CommitTimestamp);
    expect("SHOW commit_delay", Class::Utility);
    expect("ROLLBACK TO SAVEPOINT a", Class::RollbackTo);
    expect("RELEASE a", Class::Release);
}

#[test]
fn the_restart_savepoint_is_folded_as_cockroachdb_folds_it() {
    for sql in ["ROLLBACK TO cockroach_restart_2", "ROLLBACK TRANSACTION TO SAVEPOINT \"cockroach_restart\""]
    {
        expect(sql, Class::RestartRollback);
    }
    expect("SAVEPOINT cockroach_restart", Class::RestartSavepoint);
    expect("RELEASE SAVEPOINT Cockroach_Restart", Class::RestartRelease);
    assert!(Classes::from(Class::RestartRelease).releases_restart());
    assert!(!Classes::of(b"RELEASE a").releases_restart());
    expect("SAVEPOINT \"COCKROACH_RESTART\"", Class::Savepoint);
    expect("SAVEPOINT cockroach", Class::Savepoint);
}

#[test]
fn session_state_is_recognised() {
    for sql in ["SET search_path = a", "USE db", "RESET ALL", "SET SESSION x = 1", "SET TIME ZONE 'UTC'"] {
        expect(sql, Class::Setting);
    }
    for sql in ["SET LOCAL x = 1", "SET CONSTRAINTS ALL DEFERRED", "DECLARE hold CURSOR FOR TABLE t"] {
        expect(sql, Class::Utility);
    }
    expect("SET TRANSACTION READ ONLY", Class::TransactionMode);
    expect("DECLARE c NO SCROLL CURSOR WITH HOLD FOR SELECT 1", Class::HeldCursor);
    expect("DECLARE c CURSOR WITHOUT HOLD FOR SELECT 'WITH HOLD'", Class::Utility);
    expect("MOVE 1 IN c", Class::Cursor);
    for sql in ["PREPARE q AS SELECT 1", "DEALLOCATE ALL", "DISCARD ALL"] {
        expect(sql, Class::SessionState);
    }
}

#[test]
fn functions_that_reach_beyond_the_transaction_are_known_by_their_names() {
    let (lock, set) = (Class::AdvisoryLock, Class::Setting);
    for (sql, class) in [
        ("SELECT PG_Advisory_Lock(1)", lock),
        ("SELECT pg_try_advisory_lock(1)", lock),
        ("SELECT pg_advisory_unlock_all()", lock),
        ("SELECT set_config($1, $2, false)", set),
        ("SELECT pg_catalog.SET_CONFIG('a', 'b', true)", set),
    ] {
        assert_eq!(
            Classes::of_prepared(sql.as_bytes()),
            Classes::from(Class::Data).union(class.into()),
            "{sql}"
        );
    }
    for sql in [
        "SELECT pg_advisory_xact_lock(1)",
        "SELECT reset_conf, _config, my_a FROM t_",
        "SELECT a_set, config",
    ] {
        assert_eq!(Classes::of_prepared(sql.as_bytes()), Class::Data.into(), "{sql}");
    }
    expect("PREPARE p AS SELECT set_config('a', 'b', false)", Class::PreparedEffect);
    expect("PREPARE p AS SELECT pg_advisory_lock(1), set_config('a', 'b', false)", Class::PreparedLock);
}

#[test]
fn control_in_strings_comments_and_quotes_is_none() {
    for sql in [
        "SELECT 'a; COMMIT; b'",
        "SELECT $q$; COMMIT; $q$;",
        "SELECT $1;\n",
        "SELECT 1 /* ; COMMIT; */",
        "SELECT \"; COMMIT\"",
        "SELECT E'\\'; COMMIT; '",
        "SELECT 'it''s; COMMIT'",
        "SELECT 1 -- ; COMMIT",
    ] {
        expect(sql, Class::Data);
    }
    expect("SELECT 'a\\'; COMMIT; b", Class::Unclear);
    expect("COMMIT /* x", Class::Unclear);
    expect("SELECT E'\u{e9}\\n'", Class::Data);
    expect("-- x\rCOMMIT", Class::Unclear);
    expect("-- x\r\nCOMMIT", Class::Commit);
    expect("\x0bCOMMIT", Class::Commit);
    expect("= COMMIT", Class::Unclear);
}

/// In SJIS the second byte of a character may be that of a backslash: the quote behind it ends the string.
#[test]
fn a_backslash_that_may_be_half_a_character_is_unclear() {
    for sql in [&b"SELECT E'\x95\\'; COMMIT; SELECT '"[..], b"SELECT E'\x95\\\\'; COMMIT; SELECT '"] {
        assert!(Classes::of(sql).has(Class::Unclear));
    }
}

#[test]
fn lock_table_is_a_class_of_its_own() {
    for sql in ["LOCK TABLE a IN ACCESS EXCLUSIVE MODE", "lock a;", "/* x */ LOCK TABLE ONLY a, b NOWAIT"] {
        expect(sql, Class::Lock);
    }
    assert!(!Classes::of(b"LOCK TABLE a; SELECT 1").is(Class::Lock));
}

#[test]
fn a_comment_switches_retries_off() {
    for sql in [
        "/* reprise:off */ SELECT 1",
        "SELECT 1 -- reprise:off",
        "SELECT /*reprise:off*/ 'a'; COMMIT",
        "BEGIN /* app:shop, reprise:off */",
        "SELECT 1 /* a /* b */ reprise:off */ ;",
    ] {
        assert!(Classes::of(sql.as_bytes()).are_switched_off(), "{sql}");
    }
    for sql in [
        "SELECT '/* reprise:off */'",
        "SELECT $$ -- reprise:off $$",
        "/* reprise:offline */ SELECT 1",
        "/* xreprise:off */ SELECT 1",
        "SELECT 1 /* Reprise:off */",
        "SELECT reprise:off",
    ] {
        assert!(!Classes::of(sql.as_bytes()).are_switched_off(), "{sql}");
    }
    assert!(Classes::of(b"COMMIT /* reprise:off */").is(Class::Commit));
}

#[test]
fn several_statements_give_the_union_of_their_classes() {
    let classes = Classes::of(b"UPDATE t SET a = 'x;y'; COMMIT; BEGIN");
    assert!(classes.has(Class::Data) && classes.has(Class::Commit) && classes.has(Class::Begin));
    assert!(classes.may_end() && !classes.is(Class::Commit));
    assert!(Classes::of(b"SELECT 1; SELECT 2;").only_data());
    assert!(!Classes::of(b"COMMIT; COMMIT").is(Class::Commit));
    assert!(Classes::of(b"/* ; */ COMMIT;").is(Class::Commit));
    assert!(Classes::of(b"BEGIN; SAVEPOINT cockroach_restart").has(Class::RestartSavepoint));
    assert_eq!(Classes::of(b" ;; "), Classes::default());
    assert_eq!(Classes::of(b""), Classes::default());
}

#[test]
fn a_plain_begin_asks_for_nothing_unusual() {
    for sql in [
        "BEGIN",
        "begin;",
        "START TRANSACTION",
        "BEGIN TRANSACTION READ ONLY",
        "BEGIN ISOLATION LEVEL SERIALIZABLE",
        "BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE READ WRITE",
    ] {
        assert!(begins_plainly(sql.as_bytes()), "{sql}");
    }
    for sql in [
        "BEGIN DEFERRABLE",
        // CockroachDB refuses it.
        "BEGIN WORK",
        "BEGIN PRIORITY HIGH",
        "BEGIN AS OF SYSTEM TIME '-1s'",
        "BEGIN READ ONLY READ WRITE",
        "BEGIN ISOLATION LEVEL READ COMMITTED",
        "BEGIN /* x */",
        "BEGIN READ ONLY, READ ONLY",
        "BEGIN; SELECT 1",
    ] {
        assert!(!begins_plainly(sql.as_bytes()), "{sql}");
    }
}

#[test]
fn a_begin_without_options_has_none() {
    for sql in ["BEGIN", "begin work;", "START TRANSACTION /* now */", "BEGIN TRANSACTION"] {
        assert!(begins_without_options(sql.as_bytes()), "{sql}");
    }
    for sql in [
        "BEGIN READ ONLY",
        "START TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "BEGIN ISOLATION LEVEL REPEATABLE READ",
    ] {
        assert!(!begins_without_options(sql.as_bytes()), "{sql}");
    }
}

#[test]
fn what_is_explained_counts_for_it_may_be_run() {
    for sql in [
        "EXPLAIN SELECT 1",
        "EXPLAIN ANALYZE VERBOSE UPDATE t SET a = 1",
        "EXPLAIN (ANALYZE, BUFFERS) WITH a AS (SELECT 1) TABLE a",
        "EXPLAIN (SELECT 1)",
        "EXPLAIN ((SELECT 1))",
    ] {
        expect(sql, Class::Utility);
    }
    expect("EXPLAIN ANALYZE EXECUTE p", Class::Execute);
    expect("EXPLAIN ANALYZE (DEBUG) SET a = 1", Class::Setting);
    expect("EXPLAIN (FORMAT 'json') ALTER TABLE t ADD COLUMN c INT", Class::Definition);
    expect("EXPLAIN (VERBOSE) (SELECT 1)", Class::Utility);
    expect("CREATE TABLE a AS EXECUTE p(1)", Class::DefinitionByExecute);
    expect("CREATE TABLE a AS SELECT 'EXECUTE'", Class::Definition);
}

/// However long a text is, neither the stack nor time without end is spent on it.
#[test]
fn what_is_nested_without_end_is_not_followed() {
    let many = |text: &str| text.repeat(300_000);
    expect(&many("EXPLAIN "), Class::Unclear);
    expect(&many("EXPLAIN ANALYZE (VERBOSE) "), Class::Unclear);
    expect(&format!("EXPLAIN {}", many("(CREATE) ")), Class::Utility);
    expect(&format!("EXPLAIN {}", many("((a ")), Class::Utility);
    expect(&many("PREPARE p AS "), Class::PreparedEffect);
    assert!(ends_in_cockroach(format!("COMMIT{}", many(";")).as_bytes()));
    expect(&format!("PREPARE p AS {}", many("EXPLAIN ")), Class::PreparedEffect);
}

#[test]
fn cockroachdb_knows_fewer_forms_of_commit() {
    for sql in ["COMMIT", "end transaction ;", "COMMIT TRANSACTION /* x */", "\n\tCOMMIT -- y", "abort work"]
    {
        assert!(ends_in_cockroach(sql.as_bytes()), "{sql}");
    }
    for sql in ["COMMIT WORK", "ROLLBACK WORK", "END AND NO CHAIN", "COMMIT\u{b}", "COMMIT TRANSACTION WORK"]
    {
        assert!(!ends_in_cockroach(sql.as_bytes()), "{sql}");
    }
    expect("COMMIT AND NO CHAIN", Class::Commit);
    expect("COMMIT AND NO", Class::Unclear);
}

#[test]
fn a_prepared_effect_is_told_from_other_statements() {
    for sql in [
        "PREPARE p AS SET a = 1",
        "prepare p as reset all",
        "PREPARE p AS /* so */ USE d",
        "PREPARE p AS ALTER TABLE t ADD COLUMN c INT",
    ] {
        expect(sql, Class::PreparedEffect);
    }
    expect("PREPARE set AS SELECT 1", Class::SessionState);
    expect("PREPARE q (int) AS UPDATE t SET a = $1", Class::SessionState);
    expect("PREPARE q AS SHOW a", Class::SessionState);
    expect("EXECUTE q(1)", Class::Execute);
}

#[test]
fn everything_unknown_counts_as_a_definition() {
    for sql in ["CREATE TABLE t (a INT)", "CALL p()", "DO $$ BEGIN END $$", "VACUUM"] {
        expect(sql, Class::Definition);
    }
}
