//! The statements that read and write: their rows and their tags.

use golden::Backend;

use super::{Block, Forced, Reply, Transaction, error, notice};
use crate::faults::{Faults, Mishap};
use crate::sql::Statement;
use crate::store::{Store, Work};
use crate::story::Closing;

impl Transaction {
    pub(super) fn data(&mut self, statement: &Statement, store: &mut Store, faults: &mut Faults) -> Reply {
        if let Statement::Retype(oid) = statement
            && self.traits.definition_commits
        {
            return self.definition_that_commits(*oid, store, faults);
        }
        if self.block == Block::None {
            self.block = Block::Implicit;
        }
        let mishap = match self.forced.take() {
            Some(Forced::Mishap(mishap)) => mishap,
            Some(Forced::Error(code)) => Some(Mishap::Error(code)),
            None => faults.at_statement(),
        };
        match mishap {
            Some(Mishap::Loss) => return Reply::hang_up(),
            Some(Mishap::Shutdown) => {
                return Reply { frames: vec![error("FATAL", "57P01")], closing: None, hangs_up: true };
            }
            _ => {}
        }
        let mut work = self.work.take().unwrap_or_else(|| Work::begin(store));
        let mut frames = self.rows_and_tag(statement, &mut work, store);
        self.work = Some(work);
        if let Some(Mishap::Error(code)) = mishap {
            frames.truncate(faults.rows_before(frames.len().saturating_sub(1)));
            frames.push(error("ERROR", code));
        }
        self.doomed |= self.is_cockroach() && frames.last().and_then(crate::story::sqlstate) == Some("40001");
        Reply { frames, closing: None, hangs_up: false }
    }

    /// The open transaction is committed, then the schema is changed in a transaction of its own.
    fn definition_that_commits(&mut self, oid: u32, store: &mut Store, faults: &mut Faults) -> Reply {
        let done = Backend::CommandComplete("ALTER TABLE".into());
        if self.block == Block::Explicit {
            let mut reply = self.commit_work(done, store, faults);
            if reply.failed() || reply.hangs_up {
                return reply;
            }
            reply.frames.insert(0, notice("auto-committing transaction before processing DDL"));
            store.type_oid = oid;
            return reply.closing(Closing::CommittedByDefinition);
        }
        self.block = Block::Implicit;
        self.work.get_or_insert_with(|| Work::begin(store)).retype(oid);
        Reply { frames: vec![done], ..Reply::default() }
    }

    /// The rows of a statement and its tag, or its error.
    fn rows_and_tag(&mut self, statement: &Statement, work: &mut Work, store: &mut Store) -> Vec<Backend> {
        let row = |values: &[i64]| {
            Backend::DataRow(values.iter().map(|value| Some(value.to_string().into_bytes())).collect())
        };
        let tag = |tag: &str| vec![Backend::CommandComplete(tag.to_owned())];
        let change =
            |work: &mut Work, key: i64, value: Option<i64>, done: &str| match work.write(store, key, value) {
                Ok(()) => tag(done),
                Err(_) => vec![error("ERROR", "40001")],
            };
        match statement {
            Statement::SelectKey(key) => {
                let found = work.read(*key);
                let rows = found.iter().map(|value| row(&[*value]));
                rows.chain(tag(&format!("SELECT {}", found.iter().len()))).collect()
            }
            Statement::SelectAll => {
                let rows = work.scan();
                let count = tag(&format!("SELECT {}", rows.len()));
                rows.iter().map(|(key, value)| row(&[*key, *value])).chain(count).collect()
            }
            Statement::NextValue => {
                vec![row(&[store.next_value()]), Backend::CommandComplete("SELECT 1".into())]
            }
            Statement::DivideByZero => vec![error("ERROR", "22012")],
            Statement::Add { key, delta } => match work.read(*key) {
                Some(value) => change(work, *key, Some(value + delta), "UPDATE 1"),
                None => tag("UPDATE 0"),
            },
            Statement::Swap { key, old, new } if work.read(*key) == Some(*old) => {
                change(work, *key, Some(*new), "UPDATE 1")
            }
            Statement::Swap { .. } => tag("UPDATE 0"),
            Statement::Insert { key, .. } if work.read(*key).is_some() => vec![duplicate()],
            Statement::Insert { key, value } => change(work, *key, Some(*value), "INSERT 0 1"),
            Statement::Copy(rows) => {
                let mut done = tag(&format!("COPY {}", rows.len()));
                for (key, value) in rows {
                    let there = work.read(*key).is_some();
                    let copied = if there { vec![duplicate()] } else { change(work, *key, Some(*value), "") };
                    if copied.iter().any(|frame| crate::story::sqlstate(frame).is_some()) {
                        done = copied;
                        break;
                    }
                }
                done
            }
            Statement::Delete(key) if work.read(*key).is_some() => change(work, *key, None, "DELETE 1"),
            Statement::Delete(_) => tag("DELETE 0"),
            Statement::Set(value) => {
                self.setting.clone_from(value);
                self.local = None;
                tag("SET")
            }
            Statement::SetLocal(_) if self.is_cockroach() => vec![error("ERROR", "0A000")],
            Statement::SetLocal(value) => {
                self.local = (self.block == Block::Explicit).then(|| value.clone());
                tag("SET")
            }
            Statement::Retype(oid) => {
                work.retype(*oid);
                tag("ALTER TABLE")
            }
            Statement::Notify(payload) => {
                work.notify(payload.clone());
                tag("NOTIFY")
            }
            _ => tag("LISTEN"),
        }
    }
}

fn duplicate() -> Backend {
    let Backend::ErrorResponse(mut fields) = error("ERROR", "23505") else { unreachable!("an error") };
    fields.0.push(('n', "kv_pkey".into()));
    Backend::ErrorResponse(fields)
}
