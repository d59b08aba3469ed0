//! Logins that failed, by the address that they came from and the user whom they were for: after a few of them there must be a
//! pause, which grows.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use dashmap::DashMap;
use tokio::time::Instant;

/// Failures that nothing follows from: people mistype, and a password may have been changed under an application.
const FREE: u32 = 5;
/// The pause after the first failure beyond those; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Quiet time after which what was before it is forgotten.
const MEMORY: Duration = Duration::from_secs(10 * 60);
/// Records that are kept at most. Who makes more of them within that time has all forgotten, and that costs as many logins.
const RECORDS_MAX: usize = 10_000;

/// The failed logins of a while. A login that succeeds makes up for all of its user from its address.
#[derive(Default)]
pub(in crate::proxy) struct Failures {
    records: DashMap<Origin, Record>,
    hasher: RandomState,
}

/// Where a login comes from, and a hash of the user whom it is for: others from there must not suffer for it.
type Origin = (IpAddr, u64);

struct Record {
    count: u32,
    last: Instant,
}

impl Record {
    fn pause(&self) -> Duration {
        let Some(doublings) = self.count.checked_sub(FREE + 1) else { return Duration::ZERO };
        FIRST_PAUSE.saturating_mul(1 << doublings.min(16)).min(LONGEST_PAUSE)
    }
}

impl Failures {
    /// The logins of a user from an address. Those without one, from the machine itself, need not wait.
    pub(in crate::proxy) fn of(&self, address: Option<IpAddr>, user: &[u8]) -> Attempts<'_> {
        let origin = address.map(|address| (network(address), self.hasher.hash_one(user)));
        Attempts { failures: self, origin }
    }

    fn count(&self, origin: Origin) {
        if self.records.len() >= RECORDS_MAX {
            self.records.retain(|_, record| record.last.elapsed() < MEMORY);
        }
        if self.records.len() >= RECORDS_MAX {
            self.records.clear();
        }
        let mut record = self.records.entry(origin).or_insert(Record { count: 0, last: Instant::now() });
        if record.last.elapsed() >= MEMORY {
            record.count = 0;
        }
        record.count = record.count.saturating_add(1);
        record.last = Instant::now();
    }
}

/// The logins of one user from one address.
#[derive(Clone, Copy)]
pub(in crate::proxy) struct Attempts<'a> {
    failures: &'a Failures,
    origin: Option<Origin>,
}

impl Attempts<'_> {
    /// How long they have to wait; `None` if they need not.
    pub(super) fn wait(self) -> Option<Duration> {
        let record = self.failures.records.get(&self.origin?)?;
        record.pause().checked_sub(record.last.elapsed()).filter(|wait| !wait.is_zero())
    }

    /// One has failed.
    pub(super) fn failed(self) {
        if let Some(origin) = self.origin {
            self.failures.count(origin);
        }
    }

    /// One has succeeded.
    pub(super) fn succeeded(self) {
        if let Some(origin) = self.origin {
            self.failures.records.remove(&origin);
        }
    }
}

/// Whom an address belongs to: of IPv6, one has 64 bits of them at least.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_grows_up_to_a_limit_and_is_over_some_time() {
        let failures = Failures::default();
        let ann = failures.of(Some(address("192.0.2.1")), b"ann");
        (0..FREE).for_each(|_| ann.failed());
        assert_eq!(ann.wait(), None);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            ann.failed();
            pauses.push(ann.wait().unwrap().as_secs());
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60]);
        tokio::time::advance(SECOND * 59).await;
        assert_eq!(ann.wait(), Some(SECOND));
        for (address, user) in
            [(Some(address("192.0.2.2")), "ann"), (Some(address("192.0.2.1")), "bob"), (None, "ann")]
        {
            assert_eq!(failures.of(address, user.as_bytes()).wait(), None, "others need not wait");
        }
        tokio::time::advance(SECOND).await;
        assert_eq!(ann.wait(), None);
        ann.failed();
        assert!(ann.wait().is_some(), "it is not forgotten yet");
        tokio::time::advance(MEMORY).await;
        ann.failed();
        assert_eq!(ann.wait(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_that_succeeds_makes_up_for_all() {
        let failures = Failures::default();
        let ann = failures.of(Some(address("192.0.2.1")), b"ann");
        (0..20).for_each(|_| ann.failed());
        ann.succeeded();
        ann.failed();
        assert_eq!(ann.wait(), None);
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        assert_eq!(network(address("2001:db8::1")), network(address("2001:db8::ffff:1")));
        assert_ne!(network(address("2001:db8::1")), network(address("2001:db8:0:1::1")));
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded_and_what_is_old_makes_room() {
        let failures = Failures::default();
        let other = |number: u32| failures.of(Some(std::net::Ipv4Addr::from_bits(number).into()), b"ann");
        let ann = failures.of(Some(address("192.0.2.1")), b"ann");
        (0..RECORDS_MAX as u32 - 1).for_each(|number| other(number).failed());
        tokio::time::advance(MEMORY - SECOND).await;
        (0..20).for_each(|_| ann.failed());
        tokio::time::advance(SECOND).await;
        other(RECORDS_MAX as u32).failed();
        assert_eq!(failures.records.len(), 2);
        assert!(ann.wait().is_some());
        (0..RECORDS_MAX as u32 * 2).for_each(|number| other(number).failed());
        assert!(failures.records.len() <= RECORDS_MAX);
    }
}
