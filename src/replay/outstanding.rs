//! The requests that the server has not answered yet, in the order in which it will.
//!
//! Source: [Message Flow](https://www.postgresql.org/docs/current/protocol-flow.html): every request but Flush and COPY
//! data is answered in order; after an error in the extended protocol everything up to Sync is passed over.

use std::collections::VecDeque;

use super::batch::{self, BATCH};
use super::owner::{Control, Owner};
use super::prepared::Prepared;
use super::request::Request;
use crate::wire::backend::tag::READY_FOR_QUERY;
use crate::wire::frontend::tag;

/// The queue of unanswered requests.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    /// The statements and portals, as far as the answers tell.
    pub(super) prepared: Prepared,
    requests: VecDeque<Request>,
    /// How many of them are journalled: a client may have sent very many that are not.
    journalled: usize,
    /// The last request was one of a batch that has no Sync yet.
    in_batch: bool,
    /// After an error in the extended protocol with no Sync sent yet: the server passes over everything up to one.
    skipping: bool,
    /// The server takes COPY data: Flush and Sync are ignored until its end.
    copying: bool,
}

/// Unanswered requests that are kept track of; past that, no more are read from the client for a while.
pub(super) const REQUESTS_MAX: usize = 1 << 16;

impl Outstanding {
    /// A request goes out. False if the server will pass over it without an answer.
    pub(super) fn push(&mut self, tag: u8, owner: Owner) -> bool {
        let of_client = !matches!(owner, Owner::Control(_));
        match tag {
            tag::FLUSH => {
                self.requests.back_mut().into_iter().for_each(|last| last.flushed = true);
                return true;
            }
            tag::TERMINATE | tag::COPY_DATA => return true,
            tag::COPY_DONE | tag::COPY_FAIL => {
                if !std::mem::take(&mut self.copying) {
                    // After an error the end of the data may come late: then there is nothing that it is ahead of.
                    self.requests.back_mut().into_iter().for_each(|last| last.copies_ahead += 1);
                }
                return true;
            }
            tag::SYNC if self.copying => return false,
            tag::SYNC | BATCH => self.skipping = false,
            _ if self.skipping => {
                if of_client {
                    self.prepared.sent(true);
                }
                return false;
            }
            _ => {}
        }
        self.in_batch = !batch::ends_cycle(tag);
        if of_client && !self.in_batch {
            self.prepared.end_batch();
        }
        let names = of_client && self.prepared.sent(false);
        self.journalled += usize::from(owner.is_journalled());
        if self.requests.capacity() == 0 {
            // As with the entries of a journal.
            self.requests.reserve_exact(1);
        }
        self.requests.push_back(Request { names, ..Request::new(tag, owner) });
        true
    }

    /// The requests of [`crate::wire::encode::run_named`] go out.
    pub(super) fn push_named(&mut self, owner: Owner) {
        self.push_bound(owner);
        for tag in [tag::EXECUTE, tag::CLOSE, tag::CLOSE] {
            self.push(tag, owner);
        }
    }

    /// The requests of [`crate::wire::encode::bind_named`] go out.
    pub(super) fn push_bound(&mut self, owner: Owner) {
        for tag in [tag::CLOSE, tag::PARSE, tag::BIND] {
            self.push(tag, owner);
        }
    }

    /// The request that is being answered.
    #[inline]
    pub(super) fn front(&self) -> Option<Request> {
        self.requests.front().copied()
    }

    /// The request that is being answered, if no other is unanswered.
    pub(super) fn only(&self) -> Option<&Request> {
        self.requests.front().filter(|_| self.requests.len() == 1)
    }

    /// Its answer is complete.
    #[inline]
    pub(super) fn pop(&mut self) {
        self.take(true);
    }

    #[inline]
    fn take(&mut self, succeeded: bool) {
        let Some(request) = self.requests.pop_front() else { return };
        self.journalled -= usize::from(request.owner.is_journalled());
        if request.names {
            // That of a batch is settled with its ParseComplete, if that comes.
            self.prepared.settle(succeeded && request.tag != BATCH);
        }
    }

    /// The request being answered failed. In the extended protocol everything up to the next Sync is dropped;
    /// what was dropped is handed to `skipped`.
    pub(super) fn fail(&mut self, mut skipped: impl FnMut(Request)) {
        self.copying = false;
        let Some(front) = self.requests.front_mut() else { return };
        if front.is_cycle_end() {
            // No more data is asked for.
            front.copies_ahead = 0;
            return;
        }
        self.take(false);
        while let Some(next) = self.front() {
            if matches!(next.tag, tag::SYNC | BATCH) {
                return;
            }
            self.take(false);
            skipped(next);
        }
        self.skipping = true;
    }

    /// The server asks for COPY data. In the extended protocol each Sync that was sent before the end of the data is ignored by
    /// the server; they are returned here. Behind a Query without data the next request is taken for what
    /// should have been data: it fails the COPY, and has no answer of its own.
    pub(super) fn begin_copy_in(&mut self) -> Vec<Request> {
        if self.requests.front().is_some_and(|r| r.tag == tag::QUERY && r.copies_ahead == 0) {
            let taken = self.requests.remove(1);
            self.journalled -= usize::from(taken.is_some_and(|taken| taken.owner.is_journalled()));
        }
        let mut ignored = Vec::new();
        let Some(mut front) = self.requests.pop_front() else { return ignored };
        while front.tag == tag::EXECUTE
            && front.copies_ahead == 0
            && let Some(sync) = self.requests.front().copied().filter(|next| next.tag == tag::SYNC)
        {
            self.requests.pop_front();
            self.journalled -= usize::from(sync.owner.is_journalled());
            front.copies_ahead = sync.copies_ahead;
            ignored.push(sync);
        }
        self.in_batch |= !ignored.is_empty() && !self.requests.iter().any(Request::is_cycle_end);
        self.copying = front.copies_ahead == 0;
        front.copies_ahead = front.copies_ahead.saturating_sub(1);
        self.requests.push_front(front);
        ignored
    }

    /// Whether the server passes over everything up to a Sync that is not sent yet.
    pub(super) const fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// Whether a RELEASE, or what belongs to it, is unanswered.
    pub(super) fn has_release(&self) -> bool {
        let controls = |owner| {
            matches!(owner, Owner::Control(Control::Release | Control::Commit | Control::EndFailedCommit))
        };
        self.requests.iter().any(|request| request.releases || controls(request.owner))
    }

    /// Whether the server is at work on the end of a COMMIT that has failed.
    pub(super) fn ends_failed_commit(&self) -> bool {
        self.front().is_some_and(|front| front.owner == Owner::Control(Control::EndFailedCommit))
    }

    /// Whether the server takes COPY data and owes no other answer.
    pub(super) fn only_copies(&self) -> bool {
        self.copying && self.requests.len() == 1
    }

    /// Whether the server takes COPY data.
    pub(super) const fn is_copying(&self) -> bool {
        self.copying
    }

    /// Whether the server answers all of them without another word of the client.
    pub(super) fn are_complete(&self) -> bool {
        let is_flushed = self.requests.back().is_some_and(|last| last.flushed);
        !self.copying && (self.ends_cycle() || is_flushed)
    }

    /// Whether every request is answered.
    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Whether the client, which has sent more in the same batch, waits for more than a frame of this type.
    pub(super) fn is_awaited_behind(&self, frame_tag: u8) -> bool {
        self.front().is_some_and(|front| match front.tag {
            BATCH => frame_tag != READY_FOR_QUERY,
            _ => self.requests.len() > 1 && !front.flushed && !front.is_cycle_end(),
        })
    }

    /// Whether a batch can go out as one request: all that is unanswered did, so that none of it is told apart.
    pub(super) fn takes_batches(&self) -> bool {
        self.requests.back().is_none_or(|last| last.tag == BATCH)
    }

    /// The server has taken the statement that the request at hand prepares.
    pub(super) fn note_parsed(&mut self) {
        if let Some(front) = self.requests.front_mut().filter(|front| front.tag == BATCH)
            && std::mem::take(&mut front.names)
        {
            self.prepared.settle(true);
        }
    }

    /// The request that went out last is a `RELEASE ...; COMMIT` in the place of a COMMIT.
    pub(super) fn mark_release(&mut self) {
        self.requests.back_mut().into_iter().for_each(|last| last.releases = true);
    }

    /// The request that went out last runs a LOCK TABLE.
    pub(super) fn mark_lock(&mut self) {
        self.requests.back_mut().into_iter().for_each(|last| last.locks = true);
    }

    /// The request that went out last may commit the transaction.
    pub(super) fn mark_commit(&mut self) {
        self.requests.back_mut().into_iter().for_each(|last| last.commits = true);
    }

    /// Whether requests of the client are unanswered, and none of ours but those that only end a batch.
    pub(super) fn has_only_clients(&self) -> bool {
        let ours = |request: &Request| match request.owner {
            Owner::Control(Control::Sync | Control::CloseStatement) => false,
            Owner::Control(_) => true,
            Owner::Journalled(_) | Owner::Unjournalled => false,
        };
        self.has_unanswered_statement() && !self.requests.iter().any(ours)
    }

    /// Whether a request is unanswered that may commit the transaction.
    pub(super) fn may_commit(&self) -> bool {
        self.requests.iter().any(|request| request.commits)
    }

    /// Whether a request is unanswered that runs a statement or ends a cycle.
    pub(super) fn has_unanswered_statement(&self) -> bool {
        self.requests.iter().any(|r| r.is_cycle_end() || r.tag == tag::EXECUTE)
    }

    /// Whether a cycle of the client is unanswered.
    pub(super) fn has_unanswered_cycle(&self) -> bool {
        self.requests.iter().any(|r| r.is_cycle_end() && !matches!(r.owner, Owner::Control(_)))
    }

    /// Whether a journalled request of the client is unanswered that runs a statement.
    pub(super) fn has_journalled_statement(&self) -> bool {
        let runs = |r: &Request| batch::runs_statement(r.tag) && r.owner.is_journalled();
        self.journalled > 0 && self.requests.iter().any(runs)
    }

    /// The first unanswered request of the client that is journalled.
    pub(super) fn first_journalled(&self) -> Option<usize> {
        self.requests.iter().find_map(|r| match r.owner {
            Owner::Journalled(number) => Some(number),
            _ => None,
        })
    }

    /// Number of unanswered requests.
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether what was sent ends with a request that a ReadyForQuery answers: otherwise the server waits for a Sync.
    pub(super) const fn ends_cycle(&self) -> bool {
        !self.in_batch && !self.skipping
    }

    /// Makes every journalled request an unjournalled one.
    pub(super) fn forget_journal(&mut self) {
        if std::mem::take(&mut self.journalled) > 0 {
            let journalled = self.requests.iter_mut().filter(|request| request.owner.is_journalled());
            journalled.for_each(|request| request.owner = Owner::Unjournalled);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::statement::Class;

    fn with(tags: &[u8]) -> Outstanding {
        let mut outstanding = Outstanding::default();
        for &tag in tags {
            outstanding.push(tag, Owner::Unjournalled);
        }
        outstanding
    }

    #[test]
    fn an_error_in_a_batch_drops_everything_up_to_sync() {
        let mut outstanding = with(b"PBES");
        let mut skipped = Vec::new();
        outstanding.fail(|r| skipped.push(r.tag));
        assert_eq!(skipped, b"BE");
        assert_eq!(outstanding.front().map(|r| r.tag), Some(b'S'));
    }

    #[test]
    fn the_sync_of_a_batch_that_is_one_request_is_heard() {
        let mut outstanding = with(b"PBEQ");
        outstanding.push(BATCH, Owner::Unjournalled);
        outstanding.fail(|_| {});
        assert_eq!(outstanding.only().map(|request| request.tag), Some(BATCH));
        outstanding.pop();
        let mut outstanding = with(b"PB");
        outstanding.fail(|_| {});
        assert!(outstanding.push(BATCH, Owner::Unjournalled) && !outstanding.is_skipping());
    }

    #[test]
    fn what_a_batch_prepares_is_known_when_its_parse_has_succeeded() {
        for parsed in [true, false] {
            let mut outstanding = Outstanding::default();
            outstanding.prepared.parse(b"", Class::Begin.into());
            outstanding.push(BATCH, Owner::Unjournalled);
            if parsed {
                outstanding.note_parsed();
            }
            outstanding.pop();
            assert_eq!(outstanding.prepared.settled(b"") == Some(Class::Begin.into()), parsed);
        }
    }

    #[test]
    fn without_a_sync_the_server_passes_over_what_follows() {
        let mut outstanding = with(b"PB");
        outstanding.fail(|_| {});
        assert!(outstanding.is_empty() && !outstanding.ends_cycle());
        assert!(!outstanding.push(b'E', Owner::Unjournalled));
        assert!(outstanding.push(b'S', Owner::Unjournalled));
        assert_eq!(outstanding.len(), 1);
    }

    #[test]
    fn those_that_are_journalled_are_counted() {
        let counted = |outstanding: &Outstanding| {
            let journalled = outstanding.requests.iter().filter(|request| request.owner.is_journalled());
            assert_eq!(outstanding.journalled, journalled.count());
            outstanding.journalled
        };
        let mut outstanding = with(b"PB");
        for (number, &tag) in b"ESBESQ".iter().enumerate() {
            outstanding.push(tag, Owner::Journalled(number));
        }
        assert_eq!(counted(&outstanding), 6);
        outstanding.pop();
        outstanding.pop();
        outstanding.begin_copy_in();
        assert_eq!(counted(&outstanding), 5, "the Sync is ignored");
        outstanding.push(b'c', Owner::Unjournalled);
        outstanding.push(b'S', Owner::Journalled(6));
        outstanding.fail(|_| {});
        assert_eq!(counted(&outstanding), 3, "all up to the next Sync is passed over");
        outstanding.forget_journal();
        assert_eq!((counted(&outstanding), outstanding.len()), (0, 3));
    }

    #[test]
    fn an_error_in_a_simple_query_drops_nothing() {
        let mut outstanding = with(b"QQ");
        outstanding.fail(|_| panic!("nothing is skipped"));
        assert_eq!(outstanding.len(), 2);
    }

    #[test]
    fn a_batch_and_copied_data_need_their_end() {
        for (tags, complete) in
            [(&b"Q"[..], true), (b"PBE", false), (b"PBEH", true), (b"PBEHB", false), (b"PBES", true)]
        {
            assert_eq!(with(tags).are_complete(), complete, "{tags:?}");
        }
        let mut outstanding = with(b"Q");
        outstanding.begin_copy_in();
        assert!(!outstanding.are_complete());
        outstanding.push(b'c', Owner::Unjournalled);
        assert!(outstanding.are_complete());
    }

    #[test]
    fn a_sync_sent_along_with_a_copy_is_not_answered() {
        let mut outstanding = with(b"ESS");
        assert_eq!(outstanding.begin_copy_in().len(), 2);
        assert_eq!(outstanding.len(), 1);
        assert!(!outstanding.push(b'S', Owner::Unjournalled));
        outstanding.push(b'c', Owner::Unjournalled);
        assert!(outstanding.push(b'S', Owner::Unjournalled));
        assert_eq!(outstanding.len(), 2);
    }

    #[test]
    fn a_sync_behind_the_end_of_a_copy_is_answered() {
        for (tags, ignored, copies) in [(&b"EcS"[..], 0, false), (b"EScS", 1, false), (b"EPS", 0, true)] {
            let mut outstanding = with(tags);
            assert_eq!(outstanding.begin_copy_in().len(), ignored);
            assert_eq!(outstanding.is_copying(), copies);
            assert!(outstanding.ends_cycle(), "the last Sync is heard");
        }
    }

    #[test]
    fn data_that_is_sent_ahead_belongs_to_the_request_before_it() {
        let mut outstanding = with(b"QcQQccQESc");
        outstanding.begin_copy_in();
        assert!(!outstanding.is_copying());
        outstanding.pop();
        outstanding.fail(|_| panic!("nothing is skipped"));
        outstanding.pop();
        for _ in 0..2 {
            outstanding.begin_copy_in();
            assert!(!outstanding.is_copying());
        }
        outstanding.begin_copy_in();
        assert!(outstanding.is_copying(), "there is no data left for a third one");
        outstanding.fail(|_| panic!("nothing is skipped"));
        outstanding.pop();
        let ignored = outstanding.begin_copy_in();
        assert_eq!(ignored.iter().map(|sync| sync.tag).collect::<Vec<_>>(), b"S");
        assert!(!outstanding.is_copying() && !outstanding.only_copies());
    }

    #[test]
    fn a_request_in_the_place_of_data_has_no_answer() {
        let mut outstanding = with(b"QQQ");
        outstanding.begin_copy_in();
        assert!(outstanding.is_copying() && outstanding.len() == 2);
    }
}
