//! The storage layer by itself: when transactions wait, move, restart and are aborted.

use std::time::{Duration, Instant};

use roach::kv::{AbortReason, Conflict, Key, Priority, Row, Span, Store, Strength, Transaction};
use roach::sql::value::Datum;

const TABLE: u32 = 52;

fn key(number: i64) -> Key {
    Key { table: TABLE, parts: vec![Datum::Int(number)] }
}

fn row(value: i64) -> Option<Row> {
    Some(Row::new(vec![Datum::Int(value)]))
}

fn at(number: i64) -> Span {
    Span::prefix(TABLE, Datum::Int(number))
}

/// A store in which the keys 1, 2 and 3 have the values 10, 20 and 30.
async fn store() -> Store {
    store_looking_after(Duration::ZERO).await
}

/// The same, which looks for a deadlock after a while only.
async fn store_looking_after(deadlock_delay: Duration) -> Store {
    let store = Store::new(1, deadlock_delay);
    let mut txn = store.begin(Priority::Normal);
    for number in 1..=3 {
        txn.put(&key(number), row(number * 10)).await.expect("nobody else is there");
    }
    txn.commit().expect("nobody else is there");
    store
}

async fn read(txn: &mut Transaction, number: i64, strength: Strength) -> Result<Option<i64>, Conflict> {
    let rows = txn.scan(&at(number), strength).await?;
    Ok(rows.first().and_then(|(_, row)| row[0].as_int()))
}

async fn write(store: &Store, number: i64, value: i64) {
    let mut txn = store.begin(Priority::Normal);
    txn.put(&key(number), row(value)).await.expect("the key is free");
    txn.commit().expect("it read nothing");
}

#[tokio::test]
async fn a_snapshot_does_not_change() {
    let store = store().await;
    let mut reader = store.begin(Priority::Normal);
    write(&store, 1, 11).await;
    assert_eq!(read(&mut reader, 1, Strength::Shared).await, Ok(Some(10)));
    assert_eq!(reader.commit().map(|_| ()), Ok(()));
}

#[tokio::test]
async fn a_write_that_is_too_old_moves_if_nothing_read_has_changed() {
    let store = store().await;
    let mut txn = store.begin(Priority::Normal);
    assert_eq!(read(&mut txn, 2, Strength::Shared).await, Ok(Some(20)));
    write(&store, 1, 11).await;
    assert_eq!(read(&mut txn, 1, Strength::Exclusive).await, Ok(Some(11)));
    txn.put(&key(1), row(12)).await.unwrap();
    txn.commit().unwrap();
}

#[tokio::test]
async fn a_write_that_is_too_old_fails_if_something_read_has_changed() {
    let store = store().await;
    let mut txn = store.begin(Priority::Normal);
    assert_eq!(read(&mut txn, 1, Strength::Shared).await, Ok(Some(10)));
    write(&store, 1, 11).await;
    let conflict = txn.put(&key(1), row(12)).await.unwrap_err();
    assert!(matches!(conflict, Conflict::WriteTooOld { key: found, .. } if found == key(1)));
}

#[tokio::test]
async fn a_write_below_a_read_is_pushed_and_checked_at_the_end() {
    let store = store().await;
    let mut txn = store.begin(Priority::Normal);
    assert_eq!(read(&mut txn, 1, Strength::Shared).await, Ok(Some(10)));
    let mut other = store.begin(Priority::Normal);
    assert_eq!(read(&mut other, 2, Strength::Shared).await, Ok(Some(20)));
    other.put(&key(1), row(11)).await.unwrap();
    txn.put(&key(2), row(21)).await.unwrap();
    other.commit().unwrap();
    let conflict = txn.commit().unwrap_err();
    let Conflict::Serializable { obstacle: Some(obstacle), txn: snapshot } = &conflict else {
        panic!("{conflict:?}");
    };
    assert_eq!(obstacle.key, key(1));
    assert_eq!(snapshot.anchor, Some(key(2)));
    txn.restart(&conflict);
    assert_eq!(read(&mut txn, 1, Strength::Shared).await, Ok(Some(11)));
}

#[tokio::test]
async fn a_phantom_is_a_change() {
    let store = store().await;
    let mut txn = store.begin(Priority::Normal);
    assert_eq!(txn.scan(&Span::table(TABLE), Strength::Shared).await.unwrap().len(), 3);
    write(&store, 4, 40).await;
    let conflict = txn.put(&key(4), row(41)).await.unwrap_err();
    assert!(matches!(conflict, Conflict::WriteTooOld { .. }));
}

#[tokio::test]
async fn a_restart_keeps_the_locks_and_forgets_the_writes() {
    let store = store().await;
    let mut txn = store.begin(Priority::Normal);
    txn.put(&key(1), row(11)).await.unwrap();
    let mark = txn.mark();
    txn.restart(&Conflict::Forced);
    assert_eq!(txn.roll_back_to(mark), Err(Conflict::RollbackAfterRestart));
    let mut other = store.begin(Priority::Normal);
    let wanted = key(1);
    let waiting = other.put(&wanted, row(99));
    tokio::select! {
        biased;
        _ = waiting => panic!("the lock was lost"),
        () = tokio::task::yield_now() => {}
    }
    txn.commit().unwrap();
    assert_eq!(read(&mut other, 1, Strength::Shared).await, Ok(Some(10)));
}

#[tokio::test]
async fn a_higher_priority_takes_the_key_away() {
    let store = store().await;
    let mut txn = store.begin(Priority::Normal);
    txn.put(&key(1), row(11)).await.unwrap();
    let mut urgent = store.begin(Priority::High);
    urgent.put(&key(1), row(99)).await.unwrap();
    urgent.commit().unwrap();
    let conflict = read(&mut txn, 2, Strength::Shared).await.unwrap_err();
    assert!(matches!(conflict, Conflict::Aborted { reason: AbortReason::AbortSpan, .. }));
    txn.restart(&conflict);
    assert_eq!(read(&mut txn, 1, Strength::Shared).await, Ok(Some(99)));
}

/// Three transactions hold a key each and want the next one's: exactly one of them must give way.
#[tokio::test]
async fn a_circle_of_three_is_broken_once() {
    break_a_circle(store().await).await;
}

#[tokio::test]
async fn a_deadlock_is_found_behind_the_delay_and_not_before() {
    let delay = Duration::from_millis(50);
    let store = store_looking_after(delay).await;
    let began = Instant::now();
    break_a_circle(store).await;
    assert!(began.elapsed() >= delay);
}

async fn break_a_circle(store: Store) {
    let mut circle = Vec::new();
    for number in 1..=3 {
        let mut txn = store.begin(Priority::Normal);
        txn.put(&key(number), row(0)).await.expect("nobody else is there");
        circle.push(txn);
    }
    let tasks = circle.into_iter().zip(1..).map(|(mut txn, number)| {
        tokio::spawn(async move {
            let outcome = txn.put(&key(number % 3 + 1), row(number)).await;
            outcome.and_then(|()| txn.commit().map(|_| ()))
        })
    });
    let mut aborted = 0;
    for task in tasks.collect::<Vec<_>>() {
        match task.await.expect("it does not panic") {
            Ok(()) => {}
            Err(Conflict::Aborted { reason: AbortReason::PusherAborted, .. }) => aborted += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(aborted, 1);
}
