//! A session's transactions among those that contend.

use futures_util::FutureExt;

use super::*;
use crate::governor::Class;

const FOREVER: Duration = Duration::from_secs(3600);

/// Classes, with one whose limit is one, and what its transactions begin with.
fn contended() -> (Arc<Classes>, Arc<Contended>, Fingerprint) {
    let classes = Arc::new(Classes::new(Arc::new(crate::telemetry::Telemetry::new(1 << 20))));
    let statement = Fingerprint::of(b"UPDATE kv SET v = 1 WHERE k = 1").expect("a statement");
    member(&classes, FOREVER).contends(statement);
    let key = Key { database: 1, statement: statement.into(), value: 0, observed: false };
    let class = classes.get_or_make(key, 64).expect("a class");
    narrow(&class, classes.now());
    (classes, class, statement)
}

/// Two at a time waste their attempts, until there is a limit of one.
fn narrow(class: &Contended, now: Duration) {
    let mut class = class.lock();
    for _ in 0..20 {
        if class.limit().is_some() {
            break;
        }
        for _ in 0..2 {
            assert_eq!(class.enter(now, now, false, Default::default), Entry::Admitted);
        }
        (0..2).for_each(|_| class.leave(now + Duration::from_millis(1), End::Wasted));
    }
    assert_eq!(class.limit(), Some(1));
}

fn member(classes: &Arc<Classes>, max_wait: Duration) -> Member {
    Member::new(Arc::clone(classes), Arc::new(Policy { max_wait, ..Policy::default() }), 1)
}

fn enter(member: &mut Member, statement: Fingerprint, value: u64) -> replay::Place {
    member.enter(Intent { statement, values: Values::one(value) }, Duration::ZERO, false)
}

fn comes(member: &mut Member) -> bool {
    std::future::poll_fn(|cx| member.poll(false, cx)).now_or_never().is_some()
}

fn figures(class: &Contended) -> (u32, usize) {
    let class: &Class<_> = &class.lock();
    (class.running(), class.waiting())
}

#[tokio::test]
async fn who_waits_for_a_hot_row_goes_on_waiting_in_its_class() {
    let (classes, class, statement) = contended();
    let mut members: Vec<_> = (0..6).map(|_| member(&classes, FOREVER)).collect();
    for (member, value) in members.iter_mut().zip([9, 7, 8, 7, 9, 7]) {
        let _ = enter(member, statement, value);
    }
    assert_eq!(figures(&class), (1, 5));
    classes.split(&class, 7, 64);
    let hot = classes.get_or_make(Key { value: 7, ..class.key }, 64).expect("there is one");
    narrow(&hot, classes.now());
    let come: Vec<_> = members.iter_mut().map(comes).collect();
    assert_eq!(come, [false, true, true, false, true, false]);
    assert_eq!((figures(&class), figures(&hot)), ((3, 0), (1, 2)));
    members[1].ended(Outcome::Committed);
    assert_eq!((comes(&mut members[3]), comes(&mut members[5])), (true, false));
    drop(members);
    assert_eq!((figures(&class), figures(&hot)), ((0, 0), (0, 0)));
}

#[tokio::test]
async fn a_replay_goes_to_the_class_of_its_hot_row() {
    let (classes, class, statement) = contended();
    let mut member = member(&classes, FOREVER);
    assert_eq!(enter(&mut member, statement, 7), replay::Place::Granted);
    classes.split(&class, 7, 64);
    let intent = Intent { statement, values: Values::one(7) };
    assert_eq!(member.enter(intent, Duration::ZERO, true), replay::Place::Free, "it has no limit yet");
    let hot = classes.get_or_make(Key { value: 7, ..class.key }, 64).expect("there is one");
    assert_eq!((figures(&class), figures(&hot)), ((0, 0), (1, 0)));
}

#[tokio::test]
async fn what_was_split_off_already_resets_nothing() {
    let (classes, class, _) = contended();
    classes.split(&class, 7, 64);
    narrow(&class, classes.now() + Duration::from_secs(1));
    classes.split(&class, 7, 64);
    assert_eq!(class.lock().limit(), Some(1));
}

#[tokio::test]
async fn a_class_that_was_forgotten_is_there_again_for_a_replay() {
    let (classes, _, statement) = contended();
    let mut member = member(&classes, FOREVER);
    let _ = enter(&mut member, statement, 0);
    classes.sweep(&Policy { calm: Duration::ZERO, ..Policy::default() });
    assert!(classes.is_empty());
    let intent = Intent { statement, values: Values::default() };
    let _ = member.enter(intent, Duration::ZERO, true);
    assert!(!classes.is_empty());
}

#[tokio::test]
async fn a_transaction_waits_no_longer_than_it_may_however_often_it_is_run_again() {
    const MAX: Duration = Duration::from_millis(50);
    let (classes, class, statement) = contended();
    let [mut holder, mut late] = [FOREVER, MAX].map(|max_wait| member(&classes, max_wait));
    let _ = enter(&mut holder, statement, 0);
    assert_eq!(enter(&mut late, statement, 0), replay::Place::Awaited);
    std::future::poll_fn(|cx| late.poll(false, cx)).await;
    assert!(late.waited >= MAX && figures(&class) == (2, 0));
    let intent = Intent { statement, values: Values::default() };
    assert_eq!(late.enter(intent, Duration::ZERO, true), replay::Place::Awaited);
    assert!(matches!(&late.standing, Standing::Queued { wait, .. } if wait.bound == wait.since));
    assert_eq!(enter(&mut late, statement, 0), replay::Place::Awaited);
    assert!(matches!(&late.standing, Standing::Queued { wait, .. } if wait.bound == wait.since + MAX));
}

#[tokio::test]
async fn a_conflict_of_one_who_is_no_member_leaves_nobody_waiting_beside_a_free_place() {
    let (classes, class, statement) = contended();
    let mut waits = member(&classes, FOREVER);
    let mut holder = member(&classes, FOREVER);
    let _ = (enter(&mut holder, statement, 0), enter(&mut waits, statement, 0));
    // The limit goes up without anybody who would hand the place on.
    class.lock().split(classes.now());
    member(&classes, FOREVER).contends(statement);
    assert!(comes(&mut waits));
}
