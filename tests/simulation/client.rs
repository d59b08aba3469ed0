//! A client: what it sends next, decided by dice and by what it was told. It sends a volley and waits for all answers.

use std::collections::BTreeMap;

use fastrand::Rng;
use golden::Frontend;
use golden::notation::Target;
use reprise::replay::Dialect;

use crate::plan::Plan;
use crate::reader::{Expected, Reader, Role};
use crate::scenario::Scenario;
use crate::sql::{self, Statement, Tag};
use crate::story::{Kind, StepId};

/// A statement that the client has prepared under a name.
#[derive(Clone, Debug)]
struct Named {
    template: String,
    tag: Tag,
}

/// A portal that is read in parts.
#[derive(Clone, Debug)]
struct Suspended {
    name: String,
    tag: Tag,
    part: u32,
}

/// One client.
pub(crate) struct Client {
    number: u32,
    rng: Rng,
    plan: Plan,
    pub(crate) reader: Reader,
    next_tag: u32,
    named: BTreeMap<String, Named>,
    /// The text of the unnamed statement, where it is sure to be there.
    unnamed: Option<(String, Tag)>,
    suspended: Option<Suspended>,
    /// A batch was begun, and ended with Flush for the time being.
    in_batch: bool,
    /// Data of a COPY that the server is to ask for, and the end of it.
    data: Vec<Frontend>,
    /// A simple Query drops the unnamed statement.
    query_drops_unnamed: bool,
}

/// Names of statements that a client likes to use; few, so that a name is used again for another statement.
const NAMES: u32 = 3;

/// Messages of a volley are not many more than this.
const VOLLEY_MESSAGES: usize = 40;

impl Client {
    pub(crate) fn new(number: u32, seed: u64, scenario: &Scenario) -> Self {
        let mut rng = Rng::with_seed(seed ^ (u64::from(number) << 32) ^ 0xc11e);
        let plan = Plan::new(rng.fork(), scenario);
        let query_drops_unnamed = scenario.traits.dialect == Dialect::Postgres;
        Self {
            number,
            rng,
            plan,
            reader: Reader::new(query_drops_unnamed),
            next_tag: 0,
            named: BTreeMap::new(),
            unnamed: None,
            suspended: None,
            in_batch: false,
            data: Vec::new(),
            query_drops_unnamed,
        }
    }

    fn chance(&mut self, thousandths: u32) -> bool {
        self.rng.u32(0..1000) < thousandths
    }

    fn tag(&mut self) -> Tag {
        self.next_tag += 1;
        Tag { client: self.number, number: self.next_tag }
    }

    /// Whether it has something to send at the moment.
    pub(crate) fn is_ready(&self) -> bool {
        self.reader.must_copy || (!self.reader.waits() && !self.is_done())
    }

    /// Whether it has got through with everything.
    pub(crate) fn is_done(&self) -> bool {
        let idle = self.reader.status == Some('I') && !self.in_batch && !self.reader.must_sync;
        !self.reader.waits() && idle && self.plan.is_done()
    }

    /// Connects again after its connection was lost.
    pub(crate) fn reconnect(&mut self) {
        self.reader.reconnect();
        self.named.clear();
        self.data.clear();
        self.forget_transaction();
        (self.in_batch, self.unnamed) = (false, None);
        self.plan.status('I');
    }

    fn forget_transaction(&mut self) {
        self.suspended = None;
    }

    /// The next messages.
    pub(crate) fn volley(&mut self) -> Vec<Frontend> {
        let mut out = std::mem::take(&mut self.data);
        if std::mem::take(&mut self.reader.must_copy) {
            // What was to take the place of an earlier COPY may have failed: then the data is asked for unexpectedly.
            let unexpected = out.is_empty();
            if unexpected {
                out.push(Frontend::CopyFail("there is none".into()));
            }
            if self.in_batch || unexpected {
                self.sync(&mut out);
            }
            return out;
        }
        out.clear();
        for name in std::mem::take(&mut self.reader.lost_names) {
            self.named.remove(&name);
        }
        let errors = std::mem::take(&mut self.reader.errors);
        if !errors.is_empty() {
            (self.suspended, self.unnamed) = (None, None);
            self.plan.errors(&errors);
        }
        if self.reader.must_sync || (self.in_batch && !errors.is_empty()) {
            self.sync(&mut out);
            return out;
        }
        if !self.in_batch {
            self.plan.status(self.reader.status.unwrap_or('I'));
        }
        let pipelined = self.plan.habits.pipelined;
        loop {
            self.cycle(&mut out);
            let more =
                !self.in_batch && self.data.is_empty() && !self.plan.is_done() && out.len() < VOLLEY_MESSAGES;
            if !more || !self.chance(pipelined) {
                return out;
            }
        }
    }

    fn cycle(&mut self, out: &mut Vec<Frontend>) {
        if self.in_batch || self.chance(self.plan.habits.extended) {
            self.batch(out);
        } else {
            self.query(out);
        }
    }

    fn query(&mut self, out: &mut Vec<Frontend>) {
        let mut statements = vec![self.plan.next()];
        while statements.len() < 4 && self.chance(self.plan.habits.several) && !self.plan.is_done() {
            statements.push(self.plan.next());
        }
        if statements.len() > 1 {
            statements.retain(|statement| *statement != Statement::Empty);
            statements.extend(statements.is_empty().then_some(Statement::Empty));
            // Only the last one may be a COPY.
            let before = statements.iter_mut().rev().skip(1);
            let copies = before.filter(|statement| matches!(statement, Statement::Copy(_)));
            copies.for_each(|copy| *copy = Statement::SelectAll);
        }
        let (mut texts, mut steps) = (Vec::new(), Vec::new());
        for statement in &statements {
            let tag = self.tag();
            texts.push(format!("{statement} /* {tag} */"));
            steps.push((StepId { kind: Kind::Run, tag, part: 0 }, Role::of(statement)));
        }
        self.note_end(&statements);
        if self.query_drops_unnamed {
            self.unnamed = None;
        }
        self.reader.expect(Expected::Query, steps);
        out.push(Frontend::Query(texts.join("; ")));
        if let Some(Statement::Copy(rows)) = statements.last() {
            self.copy(rows, out);
        }
    }

    /// The data of a COPY: sent along, or when the server asks for it. Whether it was sent along.
    fn copy(&mut self, rows: &[(i64, i64)], out: &mut Vec<Frontend>) -> bool {
        let end = if self.chance(100) { Frontend::CopyFail("no more".into()) } else { Frontend::CopyDone };
        let data = sql::copy_rows(rows).into_iter().map(Frontend::CopyData).chain([end]);
        let along = self.rng.bool();
        if along {
            out.extend(data);
            self.reader.note_data_sent();
        } else {
            self.data = data.collect();
        }
        along
    }

    fn note_end(&mut self, statements: &[Statement]) {
        let ends = |statement: &Statement| {
            matches!(statement, Statement::Commit | Statement::Rollback | Statement::RollbackTo(_))
        };
        if statements.iter().any(ends) {
            self.forget_transaction();
        }
    }

    /// One or a few statements in the extended protocol, up to Sync or Flush.
    fn batch(&mut self, out: &mut Vec<Frontend>) {
        if !self.in_batch && self.chance(60) {
            self.prepare_ahead(out);
        } else {
            let statements = self.rng.u32(1..=2) + u32::from(self.chance(100));
            for _ in 0..statements {
                if self.plan.is_done() {
                    break;
                }
                if let Statement::Copy(rows) = self.statement(out)
                    && !self.copy(&rows, out)
                {
                    return self.await_copy(out);
                }
            }
        }
        if !self.plan.is_done() && self.chance(self.plan.habits.flush) {
            out.push(Frontend::Flush);
            self.in_batch = true;
        } else {
            self.sync(out);
        }
    }

    /// The server is to ask for the data of a COPY. A Sync that is sent before is ignored, if it does.
    fn await_copy(&mut self, out: &mut Vec<Frontend>) {
        if self.rng.bool() {
            out.push(Frontend::Flush);
        } else {
            self.sync(out);
        }
        self.in_batch = true;
    }

    fn sync(&mut self, out: &mut Vec<Frontend>) {
        self.in_batch = false;
        self.reader.expect(Expected::Sync, []);
        out.push(Frontend::Sync);
    }

    /// Prepares a statement for later, without running it.
    fn prepare_ahead(&mut self, out: &mut Vec<Frontend>) {
        let statement = self.plan.some_change();
        if let Some((template, _)) = template(&statement) {
            let name = self.named_statement(template, out);
            self.describe_statement(&name, out);
        }
    }

    fn describe_statement(&mut self, name: &str, out: &mut Vec<Frontend>) {
        let Some(named) = self.named.get(name) else { return };
        let id = StepId { kind: Kind::DescribeStatement, tag: named.tag, part: 0 };
        let expected = Expected::DescribeStatement { name: name.to_owned() };
        self.reader.expect(expected, [(id, Role::Prepares)]);
        out.push(Frontend::Describe(Target::Statement, name.to_owned()));
    }

    fn parse(&mut self, name: &str, sql: &str, out: &mut Vec<Frontend>) -> Tag {
        let tag = self.tag();
        let id = StepId { kind: Kind::Parse, tag, part: 0 };
        let read = sql::read(sql, &[]).and_then(|mut statements| statements.pop());
        let role = read.map_or(Role::Other, |read| Role::of(&read.statement));
        self.reader.expect(Expected::Parse { name: name.to_owned(), role }, [(id, Role::Prepares)]);
        out.push(Frontend::Parse { name: name.to_owned(), sql: format!("{sql} /* {tag} */"), types: vec![] });
        tag
    }

    /// The name under which a template is prepared; prepares it if it is not.
    fn named_statement(&mut self, template: String, out: &mut Vec<Frontend>) -> String {
        if let Some((name, _)) = self.named.iter().find(|(_, named)| named.template == template) {
            let name = name.clone();
            if !self.chance(150) {
                return name;
            }
            self.named.remove(&name);
            self.reader.expect(Expected::Close { name: name.clone() }, []);
            out.push(Frontend::Close(Target::Statement, name));
        }
        let free = (0..NAMES).map(|number| format!("s{number}")).find(|name| !self.named.contains_key(name));
        let name = free.unwrap_or_else(|| format!("s{}", self.next_tag));
        let tag = self.parse(&name, &template, out);
        self.named.insert(name.clone(), Named { template, tag });
        name
    }

    /// One statement, which is returned; or more of the rows of the last one.
    fn statement(&mut self, out: &mut Vec<Frontend>) -> Statement {
        if let Some(suspended) = self.suspended.clone().filter(|_| self.plan.is_open()) {
            self.go_on_reading(suspended, out);
            return Statement::SelectAll;
        }
        let statement = self.plan.next();
        self.note_end(std::slice::from_ref(&statement));
        let (name, values) = match template(&statement) {
            Some((template, values)) if self.chance(300) => (self.named_statement(template, out), values),
            Some((template, values)) if self.chance(500) => {
                let ready = self.unnamed.as_ref().is_some_and(|(unnamed, _)| *unnamed == template);
                if !ready || self.chance(400) {
                    let tag = self.parse("", &template, out);
                    self.unnamed = Some((template, tag));
                }
                (String::new(), values)
            }
            _ => {
                self.parse("", &statement.to_string(), out);
                self.unnamed = None;
                (String::new(), Vec::new())
            }
        };
        if !name.is_empty() && self.chance(200) {
            self.describe_statement(&name, out);
        }
        self.bind_and_execute(&statement, name, values, out);
        statement
    }

    fn bind_and_execute(
        &mut self,
        statement: &Statement,
        name: String,
        values: Vec<i64>,
        out: &mut Vec<Frontend>,
    ) {
        let tag = self.tag();
        let in_parts = *statement == Statement::SelectAll && self.plan.is_open() && self.chance(500);
        let portal = if in_parts { format!("p{}", tag.number) } else { String::new() };
        let mut texts: Vec<String> = values.iter().map(i64::to_string).collect();
        texts.push(tag.to_string());
        let expected = Expected::Bind { portal: portal.clone(), statement: name.clone() };
        self.reader.expect(expected, [(StepId { kind: Kind::Bind, tag, part: 0 }, Role::Prepares)]);
        out.push(Frontend::Bind {
            portal: portal.clone(),
            statement: name,
            values: texts.into_iter().map(|text| Some(text.into_bytes())).collect(),
            parameter_formats: vec![],
            result_formats: vec![],
        });
        if self.chance(300) {
            let id = StepId { kind: Kind::DescribePortal, tag, part: 0 };
            self.reader.expect(Expected::DescribePortal, [(id, Role::Prepares)]);
            out.push(Frontend::Describe(Target::Portal, portal.clone()));
        }
        let id = StepId { kind: Kind::Run, tag, part: 0 };
        self.reader.expect(Expected::Execute { portal: portal.clone() }, [(id, Role::of(statement))]);
        let max_rows = if in_parts { self.rng.i32(1..=2) } else { 0 };
        if in_parts {
            self.suspended = Some(Suspended { name: portal.clone(), tag, part: 1 });
        }
        out.push(Frontend::Execute { portal, max_rows });
    }

    fn go_on_reading(&mut self, mut suspended: Suspended, out: &mut Vec<Frontend>) {
        let id = StepId { kind: Kind::Run, tag: suspended.tag, part: suspended.part };
        self.reader.expect(Expected::Execute { portal: suspended.name.clone() }, [(id, Role::Other)]);
        let max_rows = self.rng.i32(0..=2);
        out.push(Frontend::Execute { portal: suspended.name.clone(), max_rows });
        suspended.part += 1;
        self.suspended = (max_rows > 0 && self.chance(700)).then_some(suspended);
    }
}

/// The text of a statement with parameters, and their values.
fn template(statement: &Statement) -> Option<(String, Vec<i64>)> {
    match *statement {
        Statement::SelectKey(key) => Some(("SELECT v FROM kv WHERE k = $1".into(), vec![key])),
        Statement::SelectAll => Some((statement.to_string(), vec![])),
        Statement::Add { key, delta } => {
            Some(("UPDATE kv SET v = v + $1 WHERE k = $2".into(), vec![delta, key]))
        }
        Statement::Swap { key, old, new } => {
            Some(("UPDATE kv SET v = $1 WHERE k = $2 AND v = $3".into(), vec![new, key, old]))
        }
        Statement::Begin | Statement::Commit => Some((statement.to_string(), vec![])),
        _ => None,
    }
}
