//! Logins that failed, by the address that they came from: after a few of them there must be a pause, which grows.

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
/// Addresses that are remembered at most. Beyond that, failures from further ones have no consequences.
const ADDRESSES_MAX: usize = 10_000;

/// The failed logins of a while. A login that succeeds makes up for all of its address.
#[derive(Default)]
pub(in crate::proxy) struct Failures(DashMap<IpAddr, Record>);

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
    /// How long an address has to wait before it may log in; `None` if it may now.
    pub(in crate::proxy) fn wait(&self, address: IpAddr) -> Option<Duration> {
        let record = self.0.get(&origin(address))?;
        record.pause().checked_sub(record.last.elapsed()).filter(|wait| !wait.is_zero())
    }

    /// Counts a failure.
    pub(in crate::proxy) fn count(&self, address: IpAddr) {
        if self.0.len() >= ADDRESSES_MAX {
            self.0.retain(|_, record| record.last.elapsed() < MEMORY);
        }
        let origin = origin(address);
        if self.0.len() >= ADDRESSES_MAX && !self.0.contains_key(&origin) {
            return;
        }
        let mut record = self.0.entry(origin).or_insert(Record { count: 0, last: Instant::now() });
        if record.last.elapsed() >= MEMORY {
            record.count = 0;
        }
        record.count = record.count.saturating_add(1);
        record.last = Instant::now();
    }

    /// Forgets the failures of an address.
    pub(in crate::proxy) fn forget(&self, address: IpAddr) {
        self.0.remove(&origin(address));
    }
}

/// Whom an address belongs to: of IPv6, one has 64 bits of them at least.
fn origin(address: IpAddr) -> IpAddr {
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
        let (failures, ann) = (Failures::default(), address("192.0.2.1"));
        (0..FREE).for_each(|_| failures.count(ann));
        assert_eq!(failures.wait(ann), None);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            failures.count(ann);
            pauses.push(failures.wait(ann).unwrap().as_secs());
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60]);
        tokio::time::advance(SECOND * 59).await;
        assert_eq!(failures.wait(ann), Some(SECOND));
        assert_eq!(failures.wait(address("192.0.2.2")), None, "others need not wait");
        tokio::time::advance(SECOND).await;
        assert_eq!(failures.wait(ann), None);
        failures.count(ann);
        assert!(failures.wait(ann).is_some(), "it is not forgotten yet");
        tokio::time::advance(MEMORY).await;
        failures.count(ann);
        assert_eq!(failures.wait(ann), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_that_succeeds_makes_up_for_all() {
        let (failures, ann) = (Failures::default(), address("192.0.2.1"));
        (0..20).for_each(|_| failures.count(ann));
        failures.forget(ann);
        failures.count(ann);
        assert_eq!(failures.wait(ann), None);
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        assert_eq!(origin(address("2001:db8::1")), origin(address("2001:db8::ffff:1")));
        assert_ne!(origin(address("2001:db8::1")), origin(address("2001:db8:0:1::1")));
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded_and_what_is_old_makes_room() {
        let failures = Failures::default();
        for number in 0..ADDRESSES_MAX as u32 + 100 {
            failures.count(std::net::Ipv4Addr::from_bits(number).into());
        }
        assert_eq!(failures.0.len(), ADDRESSES_MAX);
        tokio::time::advance(MEMORY).await;
        failures.count(address("192.0.2.1"));
        assert_eq!(failures.0.len(), 1);
    }
}
