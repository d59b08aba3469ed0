//! What a client was told: answers are paired with requests as the protocol demands, and everything else is a violation.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use golden::Backend;
use golden::notation::Fields;

use crate::sql::{Statement, Tag};
use crate::story::{StepId, comparable, sqlstate};

/// What a step does to the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Begin,
    Commit,
    Rollback,
    /// RELEASE of a savepoint of the client's own.
    Release,
    Other,
    /// It runs nothing.
    Prepares,
}

impl Role {
    pub(crate) const fn of(statement: &Statement) -> Self {
        match statement {
            Statement::Begin => Self::Begin,
            Statement::Commit => Self::Commit,
            Statement::Rollback => Self::Rollback,
            Statement::Release(_) => Self::Release,
            _ => Self::Other,
        }
    }
}

/// How far a step is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Waiting,
    Complete,
    /// The server passed over it, after an error.
    Skipped,
}

/// One step of the client, with what it was told of it.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) id: StepId,
    pub(crate) role: Role,
    pub(crate) told: Told,
    pub(crate) frames: Vec<Backend>,
    /// The fields of its error, as they came.
    pub(crate) error: Option<Fields>,
    pub(crate) connection: u32,
    pub(crate) cycle: usize,
}

/// What ended with a ReadyForQuery.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cycle {
    pub(crate) status: Option<char>,
    /// The error that the Sync itself was answered with: a commit that failed.
    pub(crate) error: Option<Fields>,
}

/// What a request is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Query,
    Parse { name: String, role: Role },
    Bind { portal: String, statement: String },
    DescribeStatement { name: String },
    DescribePortal,
    Execute { portal: String },
    Close { name: String },
    Sync,
}

/// What the server has under the names of a client: a Parse that fails leaves what was there before.
#[derive(Debug, Default)]
struct Names {
    statements: HashMap<String, (Role, Tag)>,
    portals: HashMap<String, Role>,
}

#[derive(Debug)]
struct Pending {
    expected: Expected,
    /// Its steps, of which those before the first are answered.
    steps: Range<usize>,
    cycle: usize,
    /// It is a COPY whose data was sent along with it.
    sends_data: bool,
}

/// The client's side of one connection after the other.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    pub(crate) shown: Vec<Shown>,
    pub(crate) cycles: Vec<Cycle>,
    pending: VecDeque<Pending>,
    cycle_failed: bool,
    /// What ReadyForQuery said last.
    pub(crate) status: Option<char>,
    /// An error came in a batch that has no Sync yet.
    pub(crate) must_sync: bool,
    /// The server asks for data of a COPY.
    pub(crate) must_copy: bool,
    pub(crate) connection: u32,
    /// The SQLSTATE of a FATAL error of this connection.
    pub(crate) fatals: Vec<(u32, String)>,
    pub(crate) setting: String,
    pub(crate) notices: HashMap<String, u32>,
    pub(crate) news: Vec<String>,
    /// Names of statements that the server did not take after all.
    pub(crate) lost_names: Vec<String>,
    /// Errors of the last volley.
    pub(crate) errors: Vec<String>,
    names: Names,
    /// A simple Query drops the unnamed statement.
    query_drops_unnamed: bool,
}

impl Reader {
    pub(crate) fn new(query_drops_unnamed: bool) -> Self {
        let cycles = vec![Cycle::default()];
        Self { cycles, status: Some('I'), setting: "start".into(), query_drops_unnamed, ..Self::default() }
    }

    /// A request goes out.
    pub(crate) fn expect(&mut self, expected: Expected, steps: impl IntoIterator<Item = (StepId, Role)>) {
        let first = self.shown.len();
        let (connection, cycle) = (self.connection, self.cycles.len() - 1);
        self.shown.extend(steps.into_iter().map(|(id, role)| Shown {
            id,
            role,
            told: Told::Waiting,
            frames: Vec::new(),
            error: None,
            connection,
            cycle,
        }));
        if matches!(expected, Expected::Query | Expected::Sync) {
            self.cycles.push(Cycle::default());
        }
        let skipped = self.must_sync && expected != Expected::Sync;
        self.must_sync = skipped;
        let steps = first..self.shown.len();
        self.pending.push_back(Pending { expected, steps, cycle, sends_data: false });
    }

    /// The data of the COPY that went out last follows without being asked for.
    pub(crate) fn note_data_sent(&mut self) {
        self.pending.back_mut().into_iter().for_each(|last| last.sends_data = true);
    }

    /// Whether an answer is awaited.
    pub(crate) fn waits(&self) -> bool {
        !self.pending.is_empty()
    }

    /// A new connection: what was not answered never will be.
    pub(crate) fn reconnect(&mut self) {
        self.pending.clear();
        self.names = Names::default();
        (self.status, self.must_sync, self.cycle_failed) = (Some('I'), false, false);
        self.must_copy = false;
        self.cycles.push(Cycle::default());
        self.connection += 1;
        self.setting = "start".into();
        self.news.clear();
        self.errors.clear();
    }

    /// A message arrives. An error tells what is wrong with it.
    pub(crate) fn read(&mut self, frame: Backend) -> Result<(), String> {
        match &frame {
            Backend::NoticeResponse(fields) => {
                let text = fields.get('M').unwrap_or_default().to_owned();
                *self.notices.entry(text).or_default() += 1;
                return Ok(());
            }
            Backend::ParameterStatus { value, .. } => {
                self.setting.clone_from(value);
                return Ok(());
            }
            Backend::NotificationResponse { payload, .. } => {
                self.news.push(payload.clone());
                return Ok(());
            }
            Backend::ErrorResponse(fields) if fields.get('S') == Some("FATAL") => {
                self.fatals.push((self.connection, fields.get('C').unwrap_or_default().to_owned()));
                return Ok(());
            }
            _ => {}
        }
        if self.fatals.last().is_some_and(|(connection, _)| *connection == self.connection) {
            return Err(format!("{frame} behind a FATAL error"));
        }
        let Some(pending) = self.pending.front() else { return Err(format!("{frame} answers nothing")) };
        let fits = fits(&pending.expected, &frame);
        if !fits {
            return Err(format!("{frame} is no answer to {:?}", pending.expected));
        }
        self.take(frame)
    }

    /// What a step that goes by a name is about, now that everything before it is answered.
    fn resolve(&mut self) {
        let Some(Pending { expected, steps, .. }) = self.pending.front() else { return };
        let Some(shown) = self.shown.get_mut(steps.start) else { return };
        match expected {
            Expected::Execute { portal } => {
                shown.role = self.names.portals.get(portal).copied().unwrap_or(shown.role);
            }
            Expected::DescribeStatement { name } => {
                shown.id.tag = self.names.statements.get(name).map_or(shown.id.tag, |(_, tag)| *tag);
            }
            _ => {}
        }
    }

    /// The request at the front has succeeded: what that means for the names.
    fn note_names(&mut self) {
        let Some(Pending { expected, steps, .. }) = self.pending.front() else { return };
        let Names { statements, portals } = &mut self.names;
        match expected {
            Expected::Parse { name, role } => {
                statements.insert(name.clone(), (*role, self.shown[steps.start].id.tag));
            }
            Expected::Bind { portal, statement } => {
                let role = statements.get(statement).map_or(Role::Other, |(role, _)| *role);
                portals.insert(portal.clone(), role);
            }
            Expected::Close { name } => drop(statements.remove(name)),
            _ => {}
        }
    }

    fn take(&mut self, frame: Backend) -> Result<(), String> {
        self.resolve();
        let asks = matches!(frame, Backend::CopyInResponse { .. });
        self.must_copy = asks && self.pending.front().is_some_and(|pending| !pending.sends_data);
        if self.must_copy && self.pending.get(1).is_some_and(|behind| behind.expected == Expected::Sync) {
            // It was sent before the data was asked for, and is ignored.
            self.pending.remove(1);
            self.cycles.pop();
        }
        match &frame {
            Backend::ReadyForQuery(status) => self.ready(*status),
            Backend::ErrorResponse(fields) => {
                self.errors.push(sqlstate(&frame).unwrap_or_default().to_owned());
                self.fail(&frame, fields.clone())
            }
            _ => {
                let query = self.pending.front().is_some_and(|pending| pending.expected == Expected::Query);
                let ends = ends(&frame, query);
                if ends {
                    self.note_names();
                }
                let Some(pending) = self.pending.front_mut() else { return Ok(()) };
                let at = pending.steps.start;
                if pending.steps.is_empty() && !matches!(pending.expected, Expected::Close { .. }) {
                    return Err(format!("{frame} behind the last statement"));
                }
                if ends && query {
                    pending.steps.start += 1;
                } else if ends {
                    self.pending.pop_front();
                }
                if let Some(shown) = self.shown.get_mut(at).filter(|_| frame != Backend::CloseComplete) {
                    shown.frames.push(comparable(&frame));
                    shown.told = if ends { Told::Complete } else { Told::Waiting };
                }
                Ok(())
            }
        }
    }

    fn ready(&mut self, status: char) -> Result<(), String> {
        let Some(pending) = self.pending.pop_front() else { return Ok(()) };
        if !pending.steps.is_empty() {
            return Err(format!("ReadyForQuery before {}", self.shown[pending.steps.start].id));
        }
        if pending.expected == Expected::Query && self.query_drops_unnamed {
            self.names.statements.remove("");
        }
        self.status = Some(status);
        self.cycle_failed = false;
        self.cycles[pending.cycle].status = Some(status);
        Ok(())
    }

    fn fail(&mut self, frame: &Backend, fields: Fields) -> Result<(), String> {
        if std::mem::replace(&mut self.cycle_failed, true) {
            return Err(format!("{frame} is the second error of its cycle"));
        }
        let Some(pending) = self.pending.front_mut() else { return Ok(()) };
        let mut steps = std::mem::replace(&mut pending.steps, 0..0);
        if let Some(at) = steps.next() {
            let shown = &mut self.shown[at];
            shown.frames.push(comparable(frame));
            shown.error = Some(fields.clone());
            shown.told = Told::Complete;
        } else if pending.expected == Expected::Sync {
            self.cycles[pending.cycle].error = Some(fields);
        } else if !matches!(pending.expected, Expected::Close { .. }) {
            return Err(format!("{frame} behind the last statement"));
        }
        steps.for_each(|at| self.shown[at].told = Told::Skipped);
        if !matches!(pending.expected, Expected::Query | Expected::Sync) {
            self.skip_to_sync();
        }
        Ok(())
    }

    fn skip_to_sync(&mut self) {
        self.must_sync = true;
        let mut first = true;
        while let Some(pending) = self.pending.front_mut() {
            if pending.expected == Expected::Sync {
                self.must_sync = false;
                return;
            }
            if let Expected::Parse { name, .. } = &pending.expected {
                self.lost_names.push(name.clone());
            }
            let steps = std::mem::replace(&mut pending.steps, 0..0);
            if !first {
                steps.for_each(|at| self.shown[at].told = Told::Skipped);
            }
            first = false;
            self.pending.pop_front();
        }
    }
}

const fn ends(frame: &Backend, query: bool) -> bool {
    match frame {
        Backend::RowDescription(_) => !query,
        Backend::DataRow(_) | Backend::ParameterDescription(_) | Backend::CopyInResponse { .. } => false,
        _ => true,
    }
}

fn fits(expected: &Expected, frame: &Backend) -> bool {
    use Backend as B;
    match expected {
        _ if matches!(frame, B::ErrorResponse(_)) => true,
        Expected::Query => matches!(
            frame,
            B::RowDescription(_)
                | B::DataRow(_)
                | B::CommandComplete(_)
                | B::CopyInResponse { .. }
                | B::EmptyQueryResponse
                | B::ReadyForQuery(_)
        ),
        Expected::Parse { .. } => matches!(frame, B::ParseComplete),
        Expected::Bind { .. } => matches!(frame, B::BindComplete),
        Expected::DescribeStatement { .. } => {
            matches!(frame, B::ParameterDescription(_) | B::RowDescription(_) | B::NoData)
        }
        Expected::DescribePortal => matches!(frame, B::RowDescription(_) | B::NoData),
        Expected::Execute { .. } => matches!(
            frame,
            B::DataRow(_)
                | B::CommandComplete(_)
                | B::CopyInResponse { .. }
                | B::EmptyQueryResponse
                | B::PortalSuspended
        ),
        Expected::Close { .. } => matches!(frame, B::CloseComplete),
        Expected::Sync => matches!(frame, B::ReadyForQuery(_)),
    }
}
