//! A client that has the database for itself: its story must be the one that it would have had without the engine and
//! without a conflict, and with no conflict its bytes must be.

use golden::Backend;
use reprise::replay::{Dialect, Event};

use crate::reader::{Reader, Shown};
use crate::scenario::Scenario;
use crate::world::{Failure, World};

/// Reasons for which a conflict may reach even a client that is alone.
const EXCUSES: [&str; 6] = [
    "session_state",
    "pipelined_past_end",
    "committed_inside",
    "partly_delivered",
    "own_retry_protocol",
    "statement_from_before",
];

/// Runs the client's script twice more: without conflicts, and without the engine.
pub(crate) fn check(world: &World, seed: u64) -> Result<(), Failure> {
    let scenario: &Scenario = &world.scenario;
    let mut bare = World::new(seed, scenario.calm(), true, false);
    bare.run()?;
    let mut calm = World::new(seed, scenario.calm(), false, false);
    calm.run()?;
    if calm.sessions[0].heard != bare.sessions[0].heard {
        return Err(Failure::new(0, "I6: without a conflict, the client's bytes are not the server's"));
    }
    let (reader, expected) = (&world.sessions[0].client.reader, &bare.sessions[0].client.reader);
    if let Some(reason) = surfaced(reader)? {
        let excused = EXCUSES.contains(&reason.as_str());
        return if excused { Ok(()) } else { Err(Failure::new(0, format!("it was not hidden: {reason}"))) };
    }
    same_story(reader, expected).or_else(|text| match drops_unnamed(world) {
        true => Ok(()),
        false => Err(Failure::new(0, text)),
    })
}

/// Whether the client missed its unnamed statement after a retry. On PostgreSQL every simple Query drops it, ROLLBACK too: the
/// next use of one from before is told so, as the README says.
fn drops_unnamed(world: &World) -> bool {
    let missing = |shown: &Shown| shown.error.as_ref().is_some_and(|fields| fields.get('C') == Some("26000"));
    let session = &world.sessions[0];
    let retried = session.wires.events.iter().any(|event| matches!(event, Event::ReplayStarted { .. }));
    world.scenario.traits.dialect == Dialect::Postgres
        && retried
        && session.client.reader.shown.iter().any(missing)
}

/// Why a conflict reached the client, if one did.
fn surfaced(reader: &Reader) -> Result<Option<String>, Failure> {
    let errors = reader.shown.iter().filter_map(|shown| shown.error.as_ref());
    let at_sync = reader.cycles.iter().filter_map(|cycle| cycle.error.as_ref());
    let mut conflicts =
        errors.chain(at_sync).filter(|fields| matches!(fields.get('C'), Some("40001" | "40P01")));
    let Some(fields) = conflicts.next() else { return Ok(None) };
    let detail = fields.get('D').unwrap_or_default();
    let reason = detail.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(reason, _)| reason);
    reason.map(|reason| Some(reason.to_owned())).ok_or_else(|| Failure::new(0, "a conflict without a reason"))
}

fn same_story(reader: &Reader, expected: &Reader) -> Result<(), String> {
    for (shown, wanted) in reader.shown.iter().zip(&expected.shown) {
        let same = |shown: &Shown, wanted: &Shown| {
            shown.id == wanted.id && shown.told == wanted.told && shown.frames == wanted.frames
        };
        if !same(shown, wanted) {
            let show =
                |frames: &[Backend]| frames.iter().map(|frame| format!("\n    {frame}")).collect::<String>();
            return Err(format!(
                "I1: the client was shown of {}:{}\n  without a conflict it is shown of {}:{}",
                shown.id,
                show(&shown.frames),
                wanted.id,
                show(&wanted.frames)
            ));
        }
    }
    if reader.shown.len() != expected.shown.len() || reader.setting != expected.setting {
        return Err("the story ends otherwise than without a conflict".into());
    }
    let status = |reader: &Reader| reader.cycles.iter().map(|cycle| cycle.status).collect::<Vec<_>>();
    if status(reader) == status(expected) {
        Ok(())
    } else {
        Err("another status than without a conflict".into())
    }
}
