//! The extended protocol: statements and portals by name, and portals that are read in parts.

use std::collections::VecDeque;

use golden::Backend;

use super::{Server, copy};
use crate::faults::Faults;
use crate::sql::{self, Statement, Tag, Tagged};
use crate::store::Store;
use crate::story::Kind;
use crate::transaction::{Block, Reply, error};

/// A statement that is bound, and perhaps in the middle of its rows.
pub(super) struct Portal {
    pub(super) tagged: Tagged,
    /// What is left of its answer, once it was run.
    rest: Option<VecDeque<Backend>>,
    part: u32,
    /// Savepoints that were set when it was bound.
    pub(super) level: usize,
}

impl Server {
    /// A step that runs nothing: its frames, or the SQLSTATE of its error.
    fn prepare_step(
        &mut self,
        kind: Kind,
        tag: Option<Tag>,
        result: Result<Vec<Backend>, &'static str>,
        store: &mut Store,
    ) {
        let frames = result.unwrap_or_else(|code| vec![error("ERROR", code)]);
        let reply = Reply { frames, ..Reply::default() };
        if reply.failed() && self.transaction.block == Block::Explicit {
            self.transaction.block = Block::Failed;
        }
        let tagged = Tagged { tag, statement: Statement::Empty };
        self.answer_step(&tagged, kind, 0, reply, store);
    }

    pub(super) fn parse(&mut self, name: String, sql: String, store: &mut Store) {
        let read = sql::read(&sql, &[]).and_then(|mut statements| statements.pop());
        let Some(tagged) = read else {
            store.complaints.push(format!("the database cannot read {sql}"));
            return;
        };
        let ours = is_ours(&name);
        let result = match self.transaction.refuses(&tagged.statement) {
            Some(code) => Err(code),
            None if !name.is_empty() && self.statements.contains_key(&name) => Err("42P05"),
            None => {
                self.statements.insert(name, (sql, tagged.tag));
                Ok(vec![Backend::ParseComplete])
            }
        };
        self.prepare_step(Kind::Parse, tagged.tag.filter(|_| !ours), result, store);
    }

    pub(super) fn bind(
        &mut self,
        name: String,
        statement: &str,
        values: &[Option<Vec<u8>>],
        store: &mut Store,
    ) {
        let values: Vec<String> =
            values.iter().flatten().map(|value| String::from_utf8_lossy(value).into_owned()).collect();
        let tag = values.last().and_then(|last| Tag::parse(last));
        let result = match self.statements.get(statement) {
            None => Err("26000"),
            Some(_) if !name.is_empty() && self.portals.contains_key(&name) => Err("42P03"),
            Some((sql, text_tag)) => {
                let tag = tag.or(text_tag.filter(|_| is_ours(statement)));
                let read = sql::read(sql, &values).and_then(|mut statements| statements.pop());
                match read.map(|read| (self.transaction.refuses(&read.statement), read.statement)) {
                    None => Err("22P02"),
                    Some((Some(code), _)) => Err(code),
                    Some((None, statement)) => {
                        let level = self.transaction.savepoints_len();
                        let tagged = Tagged { tag, statement };
                        self.portals.insert(name, Portal { tagged, rest: None, part: 0, level });
                        Ok(vec![Backend::BindComplete])
                    }
                }
            }
        };
        self.prepare_step(Kind::Bind, tag, result, store);
    }

    pub(super) fn describe_statement(&mut self, name: &str, store: &mut Store) {
        let Some((sql, tag)) = self.statements.get(name).cloned() else {
            return self.prepare_step(Kind::DescribeStatement, None, Err("26000"), store);
        };
        let statement = sql::read(&sql, &[]).and_then(|mut statements| statements.pop());
        let statement = statement.expect("it was read before").statement;
        let result = match self.transaction.refuses(&statement) {
            Some(code) => Err(code),
            None => {
                let parameters = Backend::ParameterDescription(vec![20; sql.matches('$').count()]);
                Ok(vec![parameters, self.transaction.columns(&statement, store).unwrap_or(Backend::NoData)])
            }
        };
        self.prepare_step(Kind::DescribeStatement, tag, result, store);
    }

    pub(super) fn describe_portal(&mut self, name: &str, store: &mut Store) {
        let Some(tagged) = self.portals.get(name).map(|portal| portal.tagged.clone()) else {
            return self.prepare_step(Kind::DescribePortal, None, Err("34000"), store);
        };
        let result = match self.transaction.refuses(&tagged.statement) {
            Some(code) => Err(code),
            None => Ok(vec![self.transaction.columns(&tagged.statement, store).unwrap_or(Backend::NoData)]),
        };
        self.prepare_step(Kind::DescribePortal, tagged.tag, result, store);
    }

    pub(super) fn execute(&mut self, name: &str, max_rows: usize, store: &mut Store, faults: &mut Faults) {
        let Some(mut portal) = self.portals.remove(name) else {
            return self.prepare_step(Kind::Run, None, Err("34000"), store);
        };
        let first = portal.rest.is_none();
        let copies = first && !self.copied && matches!(portal.tagged.statement, Statement::Copy(_));
        if copies && self.begins_copy(&portal.tagged, Some(name)) {
            self.portals.insert(name.to_owned(), portal);
            return;
        }
        let mut reply = match portal.rest.take() {
            Some(rest) => match self.transaction.refuses(&portal.tagged.statement) {
                Some(code) => Reply { frames: vec![error("ERROR", code)], ..Reply::default() },
                None => Reply { frames: rest.into(), ..Reply::default() },
            },
            None => self.run(&portal.tagged, store, faults),
        };
        if reply.failed() && self.transaction.block == Block::Explicit {
            self.transaction.block = Block::Failed;
        }
        if first && self.traits.execute_commits && self.commits_by_itself(&reply, true) {
            self.commit_implicit(&mut reply, store, faults);
        }
        let rows = reply.frames.iter().filter(|frame| matches!(frame, Backend::DataRow(_))).count();
        portal.rest = Some(VecDeque::from([Backend::CommandComplete("SELECT 0".into())]));
        if max_rows > 0 && rows > max_rows && !reply.failed() {
            portal.rest = Some(reply.frames.split_off(max_rows).into());
            reply.frames.push(Backend::PortalSuspended);
        }
        if reply.failed() && max_rows > 0 {
            reply.frames.drain(max_rows.min(rows)..rows);
        }
        if first && self.copy_was_asked_for(&portal.tagged) && !reply.frames.is_empty() {
            reply.frames.insert(0, copy::asks_for_data());
        }
        let (part, tagged) = (portal.part, portal.tagged.clone());
        portal.part += 1;
        let over = reply.closing.is_some() || reply.failed();
        let restarted = matches!(tagged.statement, Statement::RollbackTo(_));
        if !over && !restarted {
            self.portals.insert(name.to_owned(), portal);
        }
        self.answer_step(&tagged, Kind::Run, part, reply, store);
    }
}

/// Whether a statement was prepared by the engine.
fn is_ours(name: &str) -> bool {
    name.starts_with("reprise_")
}
