//! What must hold when a world has come to rest: the clients' stories against the log of the database.

use std::collections::{HashMap, HashSet};

use golden::Backend;
use golden::notation::Fields;

use crate::reader::{Reader, Role, Shown, Told};
use crate::sql::Tag;
use crate::story::{Attempt, Closing, Kind, Opening, Step, sqlstate};
use crate::world::{Failure, World};

/// Checks everything.
pub(crate) fn check(world: &World) -> Result<(), Failure> {
    for (session, number) in world.sessions.iter().zip(0..) {
        let reader = &session.client.reader;
        let mut ledger = Ledger::new(reader);
        let attempts = world.store.committed.iter().filter(|attempt| attempt.client == number);
        attempts
            .clone()
            .try_for_each(|attempt| ledger.attempt(attempt))
            .and_then(|()| ledger.acknowledgements())
            .and_then(|()| ledger.asides())
            .map_err(|text| Failure::new(number, text))?;
    }
    Ok(())
}

/// The committed attempts of one client, beside its story.
struct Ledger<'a> {
    reader: &'a Reader,
    /// How often each step of the kind that runs was committed.
    committed: HashMap<(Tag, u32), u32>,
    /// The COMMITs that led to a commit.
    commits: HashSet<Tag>,
    /// Those among them that ended a transaction block.
    blocks: HashSet<Tag>,
    /// The connection of the last attempt, and where in its story that attempt ended.
    last: (u32, usize),
}

impl<'a> Ledger<'a> {
    fn new(reader: &'a Reader) -> Self {
        Self {
            reader,
            committed: HashMap::new(),
            commits: HashSet::new(),
            blocks: HashSet::new(),
            last: (0, 0),
        }
    }

    /// A committed attempt ran the client's statements, all of them, in order, and gave what the client was shown.
    fn attempt(&mut self, attempt: &Attempt) -> Result<(), String> {
        for step in attempt.steps.iter().filter(|step| step.id.kind == Kind::Run) {
            let times = self.committed.entry((step.id.tag, step.id.part)).or_default();
            *times += 1;
            if *times > 1 {
                return Err(format!("I3: {} was committed {times} times", step.id));
            }
        }
        let story: Vec<&Shown> =
            self.reader.shown.iter().filter(|shown| shown.connection == attempt.connection).collect();
        // What was only prepared leaves nothing to find.
        if !attempt.steps.iter().any(|step| step.id.kind == Kind::Run) {
            return Ok(());
        }
        let Some(first) = attempt.steps.first() else { return Ok(()) };
        let from = if self.last.0 == attempt.connection { self.last.1 } else { 0 };
        let starts = (from..story.len()).filter(|at| story[*at].id == first.id);
        let commits = attempt.steps.iter().filter(|step| ends_with_commit(step));
        self.commits.extend(commits.clone().map(|step| step.id.tag));
        if attempt.opening == Opening::Explicit {
            self.blocks.extend(commits.map(|step| step.id.tag));
        }
        let mut found =
            Err(format!("I4: the database ran {}, which nobody sent or which comes too late", first.id));
        for start in starts {
            let end = attempt.steps.iter().try_fold(start, |at, step| pass(&story, at, step, attempt));
            found = end.and_then(|end| self.beginning(attempt, &story[start..end]).map(|()| (start, end)));
            if found.is_ok() {
                break;
            }
        }
        let (_, at) = found?;
        self.last = (attempt.connection, at);
        if attempt.closing == Closing::Released {
            self.released(&story[at..])?;
        }
        Ok(())
    }

    /// The attempt began as the client began it.
    fn beginning(&self, attempt: &Attempt, steps: &[&Shown]) -> Result<(), String> {
        // What a name stands for is not known of what was never answered.
        let unknown = steps.first().is_some_and(|shown| shown.told == Told::Waiting);
        let begins = unknown || steps.iter().any(|shown| shown.role == Role::Begin);
        match attempt.opening {
            Opening::Explicit if !begins => {
                let first = attempt.steps.first().map(|step| step.id.to_string()).unwrap_or_default();
                Err(format!("I4: a transaction was committed without its BEGIN, from {first}"))
            }
            Opening::Implicit | Opening::Enclosed => self.outside(steps),
            _ => Ok(()),
        }
    }

    /// What was committed outside a transaction block was not sent inside one.
    fn outside(&self, steps: &[&Shown]) -> Result<(), String> {
        let Some(last) = steps.last().filter(|shown| shown.told == Told::Complete) else { return Ok(()) };
        let cycle = &self.reader.cycles[last.cycle];
        let begins = self
            .reader
            .shown
            .iter()
            .any(|shown| shown.cycle == last.cycle && matches!(shown.role, Role::Begin));
        if matches!(cycle.status, Some('T' | 'E')) && !begins {
            return Err(format!("I4: {} was committed outside the transaction that it was sent in", last.id));
        }
        Ok(())
    }

    /// The engine released its savepoint: in place of a COMMIT of the client.
    fn released(&mut self, rest: &[&Shown]) -> Result<(), String> {
        let next = rest.iter().find(|shown| {
            shown.told != Told::Skipped && matches!(shown.id.kind, Kind::Run) && !is_missing(shown)
        });
        match next {
            Some(shown) if shown.role == Role::Commit => {
                self.commits.insert(shown.id.tag);
                self.blocks.insert(shown.id.tag);
                Ok(())
            }
            _ => Err("I4: a transaction was committed without a COMMIT of the client".into()),
        }
    }

    /// What the client was told of its commits is true.
    fn acknowledgements(&self) -> Result<(), String> {
        for shown in &self.reader.shown {
            self.acknowledgement(shown)?;
        }
        for (cycle, number) in self.reader.cycles.iter().zip(0..) {
            let failed = cycle.error.as_ref().is_some_and(|fields| fields.get('C') != Some("40003"));
            let mut runs =
                self.reader.shown.iter().filter(|shown| shown.cycle == number && shown.role == Role::Other);
            let last = runs.next_back().filter(|_| failed && cycle.status == Some('I'));
            if let Some(shown) = last
                && self.committed.contains_key(&(shown.id.tag, shown.id.part))
                && !self.batch_commits(shown)
            {
                return Err(format!("I3: {} was committed, but its Sync failed", shown.id));
            }
        }
        Ok(())
    }

    /// Whether the batch of this step ended a transaction of its own before its Sync.
    fn batch_commits(&self, shown: &Shown) -> bool {
        let mut batch = self.reader.shown.iter().filter(|other| other.cycle == shown.cycle);
        batch.any(|other| matches!(other.role, Role::Commit | Role::Rollback | Role::Release | Role::Begin))
    }

    fn acknowledgement(&self, shown: &Shown) -> Result<(), String> {
        let committed = self.commits.contains(&shown.id.tag) && shown.id.part == 0;
        let fatal = self.reader.fatals.iter().find(|(connection, _)| *connection == shown.connection);
        let rolled_back = fatal.is_some_and(|(_, sqlstate)| sqlstate == "08006");
        let id = shown.id;
        match (shown.role, shown.frames.last()) {
            (Role::Commit, Some(Backend::CommandComplete(tag))) if tag == "COMMIT" && !committed => {
                if self.is_empty(shown) {
                    return Ok(());
                }
                Err(format!("I3: {id} was acknowledged, but nothing was committed"))
            }
            (Role::Commit, Some(Backend::CommandComplete(tag))) if tag == "ROLLBACK" && committed => {
                Err(format!("I3: {id} was told ROLLBACK, but it was committed"))
            }
            (Role::Commit, Some(error))
                if committed && sqlstate(error).is_some_and(|code| code != "40003") =>
            {
                Err(format!("I3: {id} was told {error}, but it was committed"))
            }
            (Role::Commit, _) if shown.told == Told::Waiting && rolled_back => {
                let committed = self.blocks.contains(&id.tag);
                if committed { Err(format!("I3: {id} was told 08006, but it was committed")) } else { Ok(()) }
            }
            (Role::Other, Some(Backend::CommandComplete(_))) => self.autocommit_is_there(shown),
            _ => Ok(()),
        }
    }

    /// Whether this ends a transaction of nothing but BEGIN, of which the database need not know.
    fn is_empty(&self, shown: &Shown) -> bool {
        let runs = self.reader.shown.iter().filter(|other| other.id.kind == Kind::Run);
        let before = runs.take_while(|other| other.id != shown.id).last();
        before.is_some_and(|before| before.role == Role::Begin && before.connection == shown.connection)
    }

    /// A statement that stood alone and succeeded is committed.
    fn autocommit_is_there(&self, shown: &Shown) -> Result<(), String> {
        let cycle = &self.reader.cycles[shown.cycle];
        let alone = cycle.status == Some('I') && cycle.error.is_none();
        let others = self.reader.shown.iter().filter(|other| other.cycle == shown.cycle);
        let plain = others
            .clone()
            .all(|other| other.error.is_none() && matches!(other.role, Role::Other | Role::Prepares));
        let opened = shown.cycle > 0 && !matches!(self.status_before(shown), Some('I'));
        if alone && plain && !opened && !self.committed.contains_key(&(shown.id.tag, shown.id.part)) {
            return Err(format!("I3: {} succeeded, but it was not committed", shown.id));
        }
        Ok(())
    }

    fn status_before(&self, shown: &Shown) -> Option<char> {
        let before = self.reader.cycles.get(shown.cycle.checked_sub(1)?)?;
        let first = self.reader.shown.iter().find(|other| other.connection == shown.connection)?;
        if first.cycle == shown.cycle { Some('I') } else { before.status }
    }

    /// Every conflict that the client was shown says why, and every notice of a statement reached it.
    fn asides(&self) -> Result<(), String> {
        for shown in &self.reader.shown {
            let done = shown.told == Told::Complete && shown.error.is_none() && shown.role == Role::Other;
            if done && shown.id.kind == Kind::Run && shown.id.part == 0 && shown.id.tag.number % 7 == 3 {
                let notice = format!("about {}", shown.id.tag);
                if !self.reader.notices.contains_key(&notice) {
                    return Err(format!("the notice of {} is lost", shown.id));
                }
            }
        }
        Ok(())
    }
}

fn ends_with_commit(step: &Step) -> bool {
    let committed = matches!(step.frames.last(), Some(Backend::CommandComplete(tag)) if tag == "COMMIT");
    committed || step.frames.last().is_none() || step.frames.last().and_then(sqlstate) == Some("40003")
}

/// Finds the step in the client's story, from `at` on, and compares what it gave. What is passed over must not have run.
fn pass(story: &[&Shown], mut at: usize, step: &Step, attempt: &Attempt) -> Result<usize, String> {
    while let Some(shown) = story.get(at) {
        // What was skipped left nothing: one name may be described again behind it.
        if shown.id == step.id && shown.told != Told::Skipped {
            compare(shown, step, attempt)?;
            return Ok(at + 1);
        }
        let unknown = shown.told == Told::Waiting;
        let elsewhere = is_missing(shown) || is_prepared(shown) || is_cancelled_at_gate(shown);
        if shown.told != Told::Skipped && !unknown && !elsewhere {
            return Err(format!("I4: {} is not in the committed attempt that has {}", shown.id, step.id));
        }
        at += 1;
    }
    Err(format!("I4: {} was run out of order, or nobody sent it: {:?}", step.id, attempt.closing))
}

/// Requests of what does not exist carry no tag, and the database does not note them.
fn is_missing(shown: &Shown) -> bool {
    matches!(shown.frames.last().and_then(sqlstate), Some("26000" | "34000"))
}

/// What was cancelled while it waited for a place was not run, and the transaction may go on from a savepoint before it.
fn is_cancelled_at_gate(shown: &Shown) -> bool {
    let told = |fields: &Fields| fields.get('D').is_some_and(|detail| detail.ends_with("it was not run."));
    shown.error.as_ref().is_some_and(|fields| fields.get('C') == Some("57014") && told(fields))
}

/// What is prepared outlives its transaction: it need not be prepared again.
fn is_prepared(shown: &Shown) -> bool {
    shown.id.kind == Kind::Parse && shown.frames == [Backend::ParseComplete]
}

/// What the client was shown equals what the committed attempt gave.
fn compare(shown: &Shown, step: &Step, attempt: &Attempt) -> Result<(), String> {
    // Around what it encloses the engine commits: whatever that is told of the outcome, it tells in the place of the tag.
    let in_doubt = attempt.opening == Opening::Enclosed
        && shown.frames.last().and_then(sqlstate) == Some("40003")
        && shown.frames.len() == step.frames.len()
        && step.frames.starts_with(&shown.frames[..shown.frames.len() - 1]);
    let equal = match shown.told {
        Told::Complete => shown.frames == step.frames || in_doubt,
        Told::Waiting => step.frames.starts_with(&shown.frames) || step.frames.is_empty(),
        Told::Skipped => false,
    };
    if equal {
        return Ok(());
    }
    let show = |frames: &[Backend]| frames.iter().map(|f| format!("\n    {f}")).collect::<String>();
    Err(format!(
        "I1: the client was shown of {}:{}\n  and the committed attempt gave:{}",
        step.id,
        show(&shown.frames),
        show(&step.frames)
    ))
}
