//! What a client that was shown a conflict must be told with it, and what the engine must have reported of its work.

use golden::Backend;
use golden::notation::Fields;
use reprise::replay::{Dialect, Event, Outcome};

use crate::reader::{Reader, Role, Shown, Told};
use crate::session::Session;
use crate::store::Store;
use crate::story::{Attempt, Kind, Opening, Step, StepId, sqlstate};
use crate::world::{Failure, World};

/// Errors of a replay that the engine itself has brought about.
const OWN_FAULTS: [&str; 4] = ["42P05", "26000", "34000", "42P03"];

/// Checks I5, I7, and the events.
pub(crate) fn check(world: &World) -> Result<(), Failure> {
    for (session, number) in world.sessions.iter().zip(0..) {
        let reader = &session.client.reader;
        surfaced(world, reader)
            .and_then(|()| limits(world, session))
            .and_then(|()| reports(world, session, number))
            .and_then(|()| at_rest(session))
            .and_then(|()| differences(reader, number, &world.store))
            .map_err(|text| Failure::new(number, text))?;
    }
    Ok(())
}

/// I5: a surfaced conflict says why and what to do, and leaves the status that the server would.
fn surfaced(world: &World, reader: &Reader) -> Result<(), String> {
    for shown in &reader.shown {
        let Some(fields) = shown.error.as_ref().filter(|fields| is_conflict(world, fields)) else { continue };
        explained(world, fields).map_err(|text| format!("{}: {text}", shown.id))?;
        let cycle = &reader.cycles[shown.cycle];
        let cycle_runs = reader.shown.iter().filter(|other| other.cycle == shown.cycle && runs(other));
        let alone = cycle_runs.count() == 1;
        let before = shown.cycle.checked_sub(1).and_then(|before| reader.cycles[before].status);
        let expected = match (shown.role, before) {
            _ if !alone => None,
            (Role::Commit, Some(_)) => Some('I'),
            (Role::Other, Some('T')) if !world.scenario.traits.definition_commits => Some('E'),
            (Role::Other, Some('I')) => Some('I'),
            _ => None,
        };
        if expected.is_some_and(|expected| cycle.status.is_some_and(|status| status != expected)) {
            return Err(format!("I5: the conflict of {} left status {:?}", shown.id, cycle.status));
        }
    }
    let at_sync = reader.cycles.iter().filter_map(|cycle| cycle.error.as_ref());
    at_sync.filter(|fields| is_conflict(world, fields)).try_for_each(|fields| explained(world, fields))
}

/// Whether a step runs a statement, or would have.
const fn runs(shown: &Shown) -> bool {
    matches!(shown.id.kind, Kind::Run)
}

fn is_conflict(world: &World, fields: &Fields) -> bool {
    let deadlocks = world.scenario.traits.dialect == Dialect::Postgres && world.scenario.policy.deadlocks;
    match fields.get('C') {
        Some("40001") => true,
        Some("40P01") => deadlocks,
        _ => false,
    }
}

fn explained(world: &World, fields: &Fields) -> Result<(), String> {
    let own_retry =
        world.scenario.traits.dialect == Dialect::Cockroach && world.scenario.habits.own_retry > 0;
    let told =
        fields.get('D').is_some_and(|detail| detail.contains("Reprise could not hide this conflict ("))
            && fields.get('H').is_some();
    if told || own_retry { Ok(()) } else { Err("I5: a conflict without DETAIL and HINT".into()) }
}

/// I7: nothing passes the limits of the policy.
fn limits(world: &World, session: &Session) -> Result<(), String> {
    let policy = &world.scenario.policy;
    for event in &session.wires.events {
        let within = match event {
            Event::BackedOff { attempt, pause } => {
                // Where replays wait for a place, the pause is as long as that takes.
                let limited = world.scenario.doors == 0;
                *attempt <= policy.max_attempts && (!limited || *pause <= policy.max_backoff)
            }
            Event::ReplayStarted { attempt, journal_bytes, .. } => {
                *attempt <= policy.max_attempts && *journal_bytes <= policy.journal_bytes
            }
            Event::TransactionEnded(end) => {
                end.attempts <= policy.max_attempts.max(1) && end.journal_bytes <= policy.journal_bytes
            }
            _ => true,
        };
        if !within {
            return Err(format!("I7: {event:?} passes the limits of {policy:?}"));
        }
    }
    Ok(())
}

/// The events tell what happened.
fn reports(world: &World, session: &Session, client: u32) -> Result<(), String> {
    let events = &session.wires.events;
    let ends = events.iter().filter_map(|event| match event {
        Event::TransactionEnded(end) => Some(end),
        _ => None,
    });
    let count = |wanted: fn(&Event) -> bool| events.iter().filter(|event| wanted(event)).count() as u32;
    let conflicts = count(|event| matches!(event, Event::Conflict { .. }));
    let replays = count(|event| matches!(event, Event::ReplayStarted { .. }));
    let told: u32 = ends.clone().map(|end| end.conflicts).sum();
    if told != conflicts {
        return Err(format!("{conflicts} conflicts were reported, {told} at the ends of transactions"));
    }
    let attempts: u32 = ends.clone().map(|end| end.attempts - 1).sum();
    if attempts != replays {
        return Err(format!("{replays} replays were reported, {attempts} at the ends of transactions"));
    }
    let explicit = |attempt: &&Attempt| attempt.client == client && attempt.opening == Opening::Explicit;
    let committed = world.store.committed.iter().filter(explicit).count() + unheard(world, session);
    let reported = ends.filter(|end| end.explicit && end.outcome == Outcome::Committed).count();
    if reported > committed && !crate::known::OUTCOMES {
        return Err(format!("{reported} transactions were reported as committed, {committed} were"));
    }
    Ok(())
}

/// Transactions of nothing but a BEGIN that never went out: the database does not know of them.
fn unheard(world: &World, session: &Session) -> usize {
    let heard = |id: &StepId| {
        let attempts = world.store.committed.iter().chain(&world.store.aborted);
        attempts.flat_map(|attempt| &attempt.steps).any(|step| step.id == *id)
    };
    let begins = session.client.reader.shown.iter().filter(|shown| shown.role == Role::Begin);
    begins.filter(|shown| shown.told == Told::Complete && !heard(&shown.id)).count()
}

/// Where the client thinks that it is, there it is.
fn at_rest(session: &Session) -> Result<(), String> {
    let (reader, server) = (&session.client.reader, &session.server);
    if !session.is_connected() || server.closed {
        return Ok(());
    }
    if reader.status != Some(server.status()) {
        return Err(format!(
            "the client was told {:?}, the server stands at {}",
            reader.status,
            server.status()
        ));
    }
    if reader.setting != server.setting() {
        return Err(format!(
            "the client was told the setting {}, it is {}",
            reader.setting,
            server.setting()
        ));
    }
    if reader.news != server.news {
        return Err(format!("the client got the notifications {:?} of {:?}", reader.news, server.news));
    }
    Ok(())
}

/// A replay that is said to differ differs, and not because it was sent wrongly.
fn differences(reader: &Reader, client: u32, store: &Store) -> Result<(), String> {
    for shown in &reader.shown {
        let detail = shown.error.as_ref().and_then(|fields| fields.get('D'));
        if detail.is_some_and(|detail| detail.contains("(results_differ)")) {
            difference(shown, reader, client, store)?;
        }
    }
    Ok(())
}

fn difference(surfaced: &Shown, reader: &Reader, client: u32, store: &Store) -> Result<(), String> {
    let idle = |cycle: &usize| reader.cycles[*cycle].status == Some('I');
    let first = (0..surfaced.cycle).rev().find(idle).map_or(0, |cycle| cycle + 1);
    let cycles = first..=surfaced.cycle;
    let story: Vec<&Shown> = reader.shown.iter().filter(|shown| cycles.contains(&shown.cycle)).collect();
    let attempts = store.aborted.iter().chain(&store.committed);
    let steps = attempts.filter(|attempt| attempt.client == client).flat_map(|attempt| &attempt.steps);
    let mut own_fault = None;
    for step in steps {
        let Some(shown) = story.iter().find(|shown| shown.id == step.id) else { continue };
        if !differs(shown, step, shown.id == surfaced.id) {
            continue;
        }
        match step.frames.last().and_then(sqlstate).filter(|code| OWN_FAULTS.contains(code)) {
            Some(code) => own_fault = Some(format!("{} failed with {code}", step.id)),
            // A conflict of a replay makes it run again: only the rows before it can differ.
            None if step.frames.last().and_then(sqlstate) == Some("40001") && !rows_differ(shown, step) => {}
            None => return Ok(()),
        }
    }
    match own_fault {
        Some(fault) => Err(format!("the replay was sent wrongly: {fault}")),
        None => Err(format!("nothing differed, but {} was told so", surfaced.id)),
    }
}

/// Whether what was shown differs from what the step gave before its error.
fn rows_differ(shown: &Shown, step: &Step) -> bool {
    let rows = step.frames.len() - 1;
    shown.frames.iter().zip(&step.frames[..rows]).any(|(shown, given)| shown != given)
}

fn differs(shown: &Shown, step: &Step, last: bool) -> bool {
    let results = shown.frames.iter().filter(|frame| !(last && matches!(frame, Backend::ErrorResponse(_))));
    let results: Vec<&Backend> = results.collect();
    if last || shown.told == Told::Waiting {
        results.iter().zip(&step.frames).any(|(shown, given)| **shown != *given)
            || results.len() > step.frames.len()
    } else {
        shown.told == Told::Complete && !results.iter().copied().eq(&step.frames)
    }
}
