//! One connection of the model database: the protocol around its transaction. Bytes come in, bytes go out.

mod copy;
mod extended;

use std::collections::HashMap;

use golden::notation::Target;
use golden::{Backend, Frontend};
use reprise::replay::Dialect;

use crate::faults::Faults;
use crate::scenario::Traits;
use crate::sql::{self, Statement, Tag, Tagged};
use crate::store::Store;
use crate::story::{Attempt, Closing, Kind, Opening, Step, StepId, comparable};
use crate::transaction::{Block, Reply, Rewind, Transaction, notice};
use copy::Copying;
use extended::Portal;

/// The connection.
pub(crate) struct Server {
    client: u32,
    connection: u32,
    traits: Traits,
    transaction: Transaction,
    /// After an error in the extended protocol: everything up to Sync is passed over.
    skipping: bool,
    statements: HashMap<String, (String, Option<Tag>)>,
    portals: HashMap<String, Portal>,
    steps: Vec<Step>,
    opening: Opening,
    inbox: Vec<u8>,
    answer: Vec<u8>,
    /// What is on its way to the engine.
    pub(crate) outbox: Vec<u8>,
    /// The connection is closed; what is in the outbox still arrives.
    pub(crate) closed: bool,
    cancelled: bool,
    setting_told: String,
    /// A COPY whose data is awaited.
    copying: Option<Copying>,
    /// The statement at hand is a COPY that had asked for data.
    copied: bool,
    listening: bool,
    news_told: usize,
    /// The notifications that it has sent.
    pub(crate) news: Vec<String>,
}

impl Server {
    pub(crate) fn new(client: u32, connection: u32, traits: Traits) -> Self {
        Self {
            client,
            connection,
            traits,
            transaction: Transaction::new(traits),
            skipping: false,
            statements: HashMap::new(),
            portals: HashMap::new(),
            steps: Vec::new(),
            opening: Opening::Implicit,
            inbox: Vec::new(),
            answer: Vec::new(),
            outbox: Vec::new(),
            closed: false,
            cancelled: false,
            setting_told: "start".into(),
            copying: None,
            copied: false,
            listening: false,
            news_told: 0,
            news: Vec::new(),
        }
    }

    /// Bytes arrive.
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        if !self.closed {
            self.inbox.extend_from_slice(bytes);
        }
    }

    /// Whether a message may be waiting.
    pub(crate) fn has_work(&self) -> bool {
        !self.closed && whole_message(&self.inbox)
    }

    /// Where the connection stands.
    pub(crate) const fn status(&self) -> char {
        self.transaction.status()
    }

    /// The value of the setting that a client should know.
    pub(crate) fn setting(&self) -> &str {
        &self.setting_told
    }

    /// Where it stands, for people.
    pub(crate) fn describe(&self) -> String {
        let Self { inbox, answer, outbox, skipping, closed, .. } = self;
        let lengths = [inbox.len(), answer.len(), outbox.len()];
        format!("{:?}, skipping {skipping}, closed {closed}, bytes {lengths:?}", self.transaction.block)
    }

    /// A CancelRequest: it strikes what runs, if anything does.
    pub(crate) fn cancel(&mut self) {
        self.cancelled = !self.inbox.is_empty();
    }

    /// The other side is gone: what is open is undone.
    pub(crate) fn hang_up(&mut self, store: &mut Store) {
        self.closed = true;
        self.copying = None;
        self.transaction.close(false);
        self.close_attempt(Closing::Aborted, store);
    }

    /// Takes one message.
    pub(crate) fn work(&mut self, store: &mut Store, faults: &mut Faults) {
        let Some(message) = Frontend::read(&mut self.inbox) else { return };
        if self.copying.is_some() && message != Frontend::Terminate {
            return self.copy_message(message, store, faults);
        }
        match message {
            // The rest of the data of a COPY that has failed.
            Frontend::CopyData(_) | Frontend::CopyDone | Frontend::CopyFail(_) => {}
            Frontend::Query(sql) => self.query(&sql, store, faults),
            Frontend::Sync => self.sync(store, faults),
            Frontend::Terminate => self.hang_up(store),
            Frontend::Flush => self.flush(),
            _ if self.skipping => {}
            Frontend::Parse { name, sql, .. } => self.parse(name, sql, store),
            Frontend::Bind { portal, statement, values, .. } => self.bind(portal, &statement, &values, store),
            Frontend::Describe(Target::Statement, name) => self.describe_statement(&name, store),
            Frontend::Describe(Target::Portal, name) => self.describe_portal(&name, store),
            Frontend::Execute { portal, max_rows } => {
                self.execute(&portal, usize::try_from(max_rows).unwrap_or(0), store, faults);
            }
            Frontend::Close(target, name) => {
                if target == Target::Statement {
                    self.statements.remove(&name);
                } else {
                    self.portals.remove(&name);
                }
                self.emit(&Backend::CloseComplete);
            }
            other => store.complaints.push(format!("the database got {other}")),
        }
        self.tell_news(store);
        if self.traits.always_flushes {
            self.flush();
        }
    }

    fn emit(&mut self, frame: &Backend) {
        self.answer.extend(frame.encode());
    }

    fn flush(&mut self) {
        self.outbox.append(&mut self.answer);
    }

    fn query(&mut self, sql: &str, store: &mut Store, faults: &mut Faults) {
        if self.skipping {
            return;
        }
        if self.traits.dialect == Dialect::Postgres {
            self.statements.remove("");
        }
        self.portals.remove("");
        let Some(statements) = sql::read(sql, &[]) else {
            store.complaints.push(format!("the database cannot read {sql}"));
            return;
        };
        let Some((last, before)) = statements.split_last() else { return };
        if !matches!(last.statement, Statement::Copy(_)) {
            return self.run_all(&statements, store, faults);
        }
        if !self.run_each(before, false, store, faults) {
            return self.end_query(store);
        }
        if !self.begins_copy(last, None) {
            self.run_all(std::slice::from_ref(last), store, faults);
        }
    }

    fn run_all(&mut self, statements: &[Tagged], store: &mut Store, faults: &mut Faults) {
        self.run_each(statements, true, store, faults);
        self.end_query(store);
    }

    /// Runs statements of one string, `to_end` or with another behind them. Whether that is reached.
    fn run_each(
        &mut self,
        statements: &[Tagged],
        to_end: bool,
        store: &mut Store,
        faults: &mut Faults,
    ) -> bool {
        for (at, tagged) in statements.iter().enumerate() {
            let mut reply = self.run(tagged, store, faults);
            let last = to_end && at + 1 == statements.len();
            if self.commits_by_itself(&reply, last) {
                self.commit_implicit(&mut reply, store, faults);
            }
            if self.copy_was_asked_for(tagged) && !reply.frames.is_empty() {
                reply.frames.insert(0, copy::asks_for_data());
            }
            let has_rows = matches!(reply.frames.first(), Some(Backend::DataRow(_)));
            if (has_rows || !reply.failed())
                && !reply.hangs_up
                && let Some(columns) = self.transaction.columns(&tagged.statement, store)
            {
                reply.frames.insert(0, columns);
            }
            self.answer_step(tagged, Kind::Run, 0, reply, store);
            if self.closed || self.failed_now(store) {
                return false;
            }
        }
        true
    }

    fn end_query(&mut self, store: &mut Store) {
        if self.closed {
            return;
        }
        if self.transaction.block == Block::None {
            self.close_attempt(Closing::Committed, store);
        }
        self.ready();
    }

    /// Whether the implicit transaction ends with this statement.
    fn commits_by_itself(&self, reply: &Reply, last: bool) -> bool {
        let ends = last || self.traits.execute_commits;
        ends && self.transaction.block == Block::Implicit && !reply.failed() && !reply.hangs_up
    }

    /// Commits what stands outside a transaction block; an error takes the place of the tag.
    fn commit_implicit(&mut self, reply: &mut Reply, store: &mut Store, faults: &mut Faults) {
        let Some(done) = reply.frames.pop() else { return };
        let commit = self.transaction.commit_work(done, store, faults);
        reply.frames.extend(commit.frames);
        (reply.closing, reply.hangs_up) = (commit.closing, commit.hangs_up);
    }

    /// Whether the last step failed; a transaction without a block is undone then.
    fn failed_now(&mut self, store: &mut Store) -> bool {
        let failed = std::mem::take(&mut self.skipping);
        if failed && matches!(self.transaction.block, Block::Implicit | Block::None) {
            self.transaction.close(false);
            self.close_attempt(Closing::Aborted, store);
        }
        failed
    }

    /// Runs a statement, whatever protocol it came by.
    fn run(&mut self, tagged: &Tagged, store: &mut Store, faults: &mut Faults) -> Reply {
        if tagged.tag.is_none() && !is_control(&tagged.statement) {
            store.complaints.push(format!("nobody sent {}", tagged.statement));
        }
        if let Some(tag) = tagged.tag.filter(|tag| store.in_doubt.contains(tag)) {
            store.complaints.push(format!("{tag} is run again, although its commit is in doubt"));
        }
        let cancelled = std::mem::take(&mut self.cancelled) && self.transaction.block != Block::Released;
        if cancelled && self.transaction.refuses(&tagged.statement).is_none() {
            return self.transaction.cancel();
        }
        let before = self.transaction.block;
        let reply = self.transaction.run(tagged, self.steps.len(), store, faults);
        if before != Block::Explicit && self.transaction.block == Block::Explicit && before != Block::Failed {
            self.opening = if tagged.tag.is_some() { Opening::Explicit } else { Opening::Enclosed };
        }
        if matches!(tagged.statement, Statement::Listen) && !reply.failed() {
            self.listening = true;
        }
        if let Some(rewind) = self.transaction.rewinds.take() {
            self.log(Closing::Aborted, store);
            self.rewind(rewind);
        }
        if matches!(tagged.statement, Statement::RollbackTo(_)) && !reply.failed() {
            let level = self.transaction.savepoints_len();
            let kept = |portal: &Portal| self.traits.dialect == Dialect::Postgres && portal.level < level;
            self.portals.retain(|_, portal| kept(portal));
        }
        reply
    }

    /// The steps from there on belong to an attempt that is over.
    fn rewind(&mut self, rewind: Rewind) {
        let begins = |step: &Step| step.frames.last() == Some(&Backend::CommandComplete("BEGIN".into()));
        let steps = match rewind {
            Rewind::ToStep(steps) => steps,
            Rewind::ToBegin => self.steps.iter().position(begins).map_or(0, |at| at + 1),
        };
        self.steps.truncate(steps);
        if rewind == Rewind::ToBegin {
            self.portals.clear();
        }
    }

    /// Sends the answer of a step and notes it; the attempt is closed if it ends with it.
    fn answer_step(&mut self, tagged: &Tagged, kind: Kind, part: u32, reply: Reply, store: &mut Store) {
        let by_definition = reply.closing == Some(Closing::CommittedByDefinition);
        if by_definition {
            self.close_attempt(Closing::CommittedByDefinition, store);
        }
        if let Some(tag) = tagged.tag {
            let frames = reply.frames.iter().filter(|frame| !is_aside(frame)).map(comparable).collect();
            self.steps.push(Step { id: StepId { kind, tag, part }, frames });
        }
        self.note_doubt(&reply, store);
        for (frame, at) in reply.frames.iter().zip(1..) {
            let told = kind == Kind::Run && at == reply.frames.len() && !reply.failed();
            if let Some(tag) = tagged.tag.filter(|tag| told && has_notice(*tag, &tagged.statement)) {
                self.emit(&notice(&format!("about {tag}")));
            }
            // The one that asked for the data is sent already.
            if !matches!(frame, Backend::CopyInResponse { .. }) {
                self.emit(frame);
            }
        }
        let failed = reply.failed();
        match reply.closing {
            Some(Closing::CommittedByDefinition) => self.close_attempt(Closing::Committed, store),
            Some(closing) => self.close_attempt(closing, store),
            None => {}
        }
        if self.transaction.block == Block::Released {
            self.opening = Opening::AfterRelease;
        }
        self.skipping = failed;
        if failed && (self.traits.error_flushes || reply.hangs_up) {
            self.flush();
        }
        if reply.hangs_up {
            self.hang_up(store);
        }
    }

    fn note_doubt(&self, reply: &Reply, store: &mut Store) {
        let ambiguous = reply.frames.iter().any(|frame| crate::story::sqlstate(frame) == Some("40003"));
        let lost = reply.hangs_up && reply.closing.is_some();
        if ambiguous || lost {
            let runs = self.steps.iter().filter(|step| step.id.kind == Kind::Run);
            store.in_doubt.extend(runs.map(|step| step.id.tag));
        }
    }

    fn log(&mut self, closing: Closing, store: &mut Store) {
        let attempt = Attempt {
            client: self.client,
            connection: self.connection,
            opening: self.opening,
            closing,
            steps: self.steps.clone(),
        };
        if closing == Closing::Aborted {
            store.aborted.push(attempt);
        } else {
            store.committed.push(attempt);
        }
    }

    fn close_attempt(&mut self, closing: Closing, store: &mut Store) {
        if !self.steps.is_empty() || self.opening != Opening::Implicit {
            self.log(closing, store);
        }
        self.steps.clear();
        self.opening = Opening::Implicit;
        if self.transaction.block != Block::Released {
            self.portals.clear();
        }
    }

    fn tell_setting(&mut self) {
        let value = self.transaction.reported_setting();
        if value != self.setting_told {
            self.setting_told = value.to_owned();
            let status =
                Backend::ParameterStatus { name: "application_name".into(), value: value.to_owned() };
            self.emit(&status);
        }
    }

    fn tell_news(&mut self, store: &Store) {
        if self.closed || self.transaction.block != Block::None {
            return;
        }
        let from = std::mem::replace(&mut self.news_told, store.news.len());
        if self.listening {
            self.news.extend_from_slice(&store.news[from..]);
            for payload in &store.news[from..] {
                self.emit(&Backend::NotificationResponse {
                    pid: 1,
                    channel: "news".into(),
                    payload: payload.clone(),
                });
            }
            self.flush();
        }
    }

    fn ready(&mut self) {
        self.skipping = false;
        self.tell_setting();
        self.emit(&Backend::ReadyForQuery(self.transaction.status()));
        self.flush();
    }

    fn sync(&mut self, store: &mut Store, faults: &mut Faults) {
        let failed = self.skipping;
        match self.transaction.block {
            Block::Implicit if failed => {
                self.transaction.close(false);
                self.close_attempt(Closing::Aborted, store);
            }
            Block::Implicit => {
                let reply = self.transaction.commit_work(Backend::NoData, store, faults);
                self.note_doubt(&reply, store);
                self.close_attempt(reply.closing.unwrap_or(Closing::Aborted), store);
                if reply.hangs_up {
                    return self.hang_up(store);
                }
                if reply.failed() {
                    reply.frames.iter().for_each(|frame| self.emit(frame));
                }
            }
            Block::None => {
                let closing = if failed { Closing::Aborted } else { Closing::Committed };
                self.close_attempt(closing, store);
            }
            _ => {}
        }
        self.ready();
    }
}

/// Whether a NOTICE comes with the last frame of a statement.
const fn has_notice(tag: Tag, statement: &Statement) -> bool {
    tag.number % 7 == 3 && !matches!(statement, Statement::Begin | Statement::Commit | Statement::Rollback)
}

/// What may be sent besides the client's statements.
fn is_control(statement: &Statement) -> bool {
    match statement {
        Statement::Begin | Statement::Rollback | Statement::Commit | Statement::Chain => true,
        Statement::Savepoint(name) | Statement::Release(name) => name == "cockroach_restart",
        Statement::RollbackTo(name) => name == "cockroach_restart" || name == "reprise_surfaced",
        _ => false,
    }
}

/// Messages that are no results.
const fn is_aside(frame: &Backend) -> bool {
    matches!(
        frame,
        Backend::NoticeResponse(_) | Backend::NotificationResponse { .. } | Backend::ParameterStatus { .. }
    )
}

fn whole_message(bytes: &[u8]) -> bool {
    let Some(length) = bytes.get(1..5) else { return false };
    let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]);
    bytes.len() > length as usize
}
