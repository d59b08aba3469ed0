//! The functions that the double knows, in one table.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::Rng;

use super::cast::interval;
use super::expr::Env;
use super::value::{Datum, Type};
use crate::errors::{SqlError, unimplemented_hint};
use crate::kv::Conflict;

/// What a function does with its arguments.
type Call = fn(&mut Env<'_>, &[Datum]) -> Result<Datum, SqlError>;

/// A function.
#[derive(Debug)]
pub struct Builtin {
    /// Its name, as headers of columns show it.
    pub name: &'static str,
    /// The type of its result; `Unknown` stands for the type of its first argument.
    pub result: Type,
    /// What it does.
    pub call: Call,
}

const fn builtin(name: &'static str, result: Type, call: Call) -> Builtin {
    Builtin { name, result, call }
}

static BUILTINS: [Builtin; 37] = [
    builtin("abs", Type::Unknown, |_, values| {
        Ok(match first(values) {
            Datum::Int(number) => Datum::Int(number.abs()),
            Datum::Decimal(number) => Datum::Decimal(number.abs()),
            other => other,
        })
    }),
    builtin("clock_timestamp", Type::Timestamp, |_, _| Ok(Datum::Timestamp(nanoseconds()))),
    builtin("cluster_logical_timestamp", Type::Decimal, |env, _| Ok(Datum::Text(env.logical.decimal()))),
    builtin("concat", Type::Text, |_, values| Ok(Datum::Text(values.iter().map(Datum::to_string).collect()))),
    builtin("crdb_internal.force_error", Type::Int, |_, values| Err(force_error(values))),
    builtin("crdb_internal.force_retry", Type::Int, force_retry),
    builtin("crdb_internal.node_executable_version", Type::Text, |env, _| show(env, "server_version")),
    builtin("current_database", Type::Text, |env, _| show(env, "database")),
    builtin("current_setting", Type::Text, |env, values| show(env, &first(values).to_string())),
    builtin("current_timestamp", Type::Timestamp, |env, _| Ok(Datum::Timestamp(env.transaction_time))),
    builtin("current_user", Type::Text, |env, _| show(env, "session_authorization")),
    builtin("currval", Type::Int, |env, values| env.sequences.current(&first(values).to_string())),
    builtin("gen_random_uuid", Type::Uuid, |_, _| Ok(Datum::Uuid(random_uuid()))),
    builtin("greatest", Type::Unknown, |_, values| Ok(values.iter().max().cloned().unwrap_or(Datum::Null))),
    builtin("lastval", Type::Int, |env, _| env.sequences.last()),
    builtin("least", Type::Unknown, |_, values| Ok(values.iter().min().cloned().unwrap_or(Datum::Null))),
    builtin("length", Type::Int, |_, values| {
        let length = first(values).to_string().chars().count();
        Ok(Datum::Int(i64::try_from(length).unwrap_or(i64::MAX)))
    }),
    builtin("lower", Type::Text, |_, values| Ok(Datum::Text(first(values).to_string().to_lowercase()))),
    builtin("nextval", Type::Int, nextval),
    builtin("now", Type::Timestamp, |env, _| Ok(Datum::Timestamp(env.transaction_time))),
    builtin("pg_advisory_unlock", Type::Bool, |_, _| Ok(Datum::Bool(true))),
    builtin("pg_backend_pid", Type::Int, |_, _| Ok(Datum::Int(-1))),
    builtin("pg_is_in_recovery", Type::Bool, |_, _| Ok(Datum::Bool(false))),
    builtin("pg_sleep", Type::Bool, pg_sleep),
    builtin("pg_try_advisory_lock", Type::Bool, |_, _| Ok(Datum::Bool(true))),
    builtin("random", Type::Decimal, |_, _| Ok(Datum::Decimal(rand::rng().random()))),
    builtin("set_config", Type::Text, set_config),
    builtin("statement_timestamp", Type::Timestamp, |env, _| Ok(Datum::Timestamp(env.statement_time))),
    builtin("transaction_timestamp", Type::Timestamp, |env, _| Ok(Datum::Timestamp(env.transaction_time))),
    builtin("unique_rowid", Type::Int, |_, _| Ok(Datum::Int(unique_rowid()))),
    builtin("upper", Type::Text, |_, values| Ok(Datum::Text(first(values).to_string().to_uppercase()))),
    builtin("user", Type::Text, |env, _| show(env, "session_authorization")),
    builtin("version", Type::Text, |env, _| show(env, "crdb_version")),
    builtin("pg_typeof", Type::Text, |_, _| Ok(Datum::Text("unknown".into()))),
    builtin("current_schema", Type::Text, |_, _| Ok(Datum::Text("public".into()))),
    builtin("session_user", Type::Text, |env, _| show(env, "session_authorization")),
    builtin("mod", Type::Int, |_, values| match values {
        [Datum::Int(_), Datum::Int(0)] => Err(SqlError::division_by_zero()),
        [Datum::Int(left), Datum::Int(right)] => Ok(Datum::Int(left.wrapping_rem(*right))),
        _ => Ok(Datum::Null),
    }),
];

/// The function of a name.
pub fn find(name: &str) -> Option<&'static Builtin> {
    BUILTINS
        .iter()
        .find(|builtin| builtin.name == name || builtin.name.strip_prefix("pg_catalog.") == Some(name))
}

fn first(values: &[Datum]) -> Datum {
    values.first().cloned().unwrap_or(Datum::Null)
}

fn show(env: &mut Env<'_>, variable: &str) -> Result<Datum, SqlError> {
    env.settings.get(variable).map(Datum::Text)
}

/// Fails as long as the statement begins less than the interval after its transaction.
fn force_retry(env: &mut Env<'_>, values: &[Datum]) -> Result<Datum, SqlError> {
    let length = match first(values) {
        Datum::Interval(length) => length,
        other => interval(&other.to_string()).unwrap_or_default(),
    };
    let elapsed = Duration::from_nanos(env.statement_time.saturating_sub(env.transaction_time));
    if elapsed < length {
        return Err(SqlError::conflict(Conflict::Forced, env.settings.version()));
    }
    Ok(Datum::Int(0))
}

/// An error of the given code. A 40001 made in this way is one for the client only: the server does not retry it.
fn force_error(values: &[Datum]) -> SqlError {
    let code = first(values).to_string();
    let message = values.get(1).map(Datum::to_string).unwrap_or_default();
    match code.as_str() {
        "" => SqlError::new("XXUUU", message),
        "40001" => SqlError::new("40001", format!("restart transaction: {message}")),
        code => SqlError::new(code, message),
    }
}

fn nextval(env: &mut Env<'_>, values: &[Datum]) -> Result<Datum, SqlError> {
    let name = first(values).to_string();
    if env.read_only {
        return Err(SqlError::new("25006", "nextval(): cannot execute nextval() in a read-only transaction"));
    }
    let sequence = env.schema.find_sequence(&name).ok_or_else(|| SqlError::unknown_table(&name))?;
    let value = sequence.advance();
    env.sequences.remember(&name, value);
    Ok(Datum::Int(value))
}

fn pg_sleep(env: &mut Env<'_>, values: &[Datum]) -> Result<Datum, SqlError> {
    let seconds = first(values).as_f64().unwrap_or_default();
    env.pause += Duration::try_from_secs_f64(seconds).unwrap_or_default();
    Ok(Datum::Bool(true))
}

fn set_config(env: &mut Env<'_>, values: &[Datum]) -> Result<Datum, SqlError> {
    let text = |index: usize| values.get(index).map(Datum::to_string).unwrap_or_default();
    let is_local = values.get(2).is_some_and(Datum::is_true);
    if is_local && !env.settings.version().has_set_local() {
        let message = "set_config(): unimplemented: transaction-scoped settings are not supported";
        return Err(SqlError::new("0A000", message).with_hint(unimplemented_hint(Some(32562))));
    }
    env.settings.set(&text(0), &text(1), true)?;
    Ok(Datum::Text(text(1)))
}

fn nanoseconds() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

/// Time in units of ten microseconds and the number of the node; never the same twice.
pub fn unique_rowid() -> i64 {
    static LAST: AtomicI64 = AtomicI64::new(0);
    let fresh = i64::try_from(nanoseconds() / 10_000).unwrap_or(i64::MAX >> 15) << 15 | 1;
    let later = |last: i64| fresh.max(last + (1 << 15));
    let update = |last| Some(later(last));
    LAST.fetch_update(Ordering::SeqCst, Ordering::SeqCst, update).map_or(fresh, later)
}

fn random_uuid() -> String {
    let bits: u128 = rand::rng().random();
    let digits = format!("{bits:032x}");
    format!("{}-{}-4{}-a{}-{}", &digits[..8], &digits[8..12], &digits[13..16], &digits[17..20], &digits[20..])
}
