//! The end of the proxy, as a session hears of it.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// When the proxy ends, and with it the session.
pub(super) struct Shutdown {
    when_idle: Pin<Box<WaitForCancellationFutureOwned>>,
    now: Pin<Box<WaitForCancellationFutureOwned>>,
    urgency: Urgency,
}

/// How soon a session must end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Urgency {
    None,
    /// As soon as no transaction is open.
    Idle,
    Now,
}

impl Shutdown {
    pub(super) fn new(when_idle: &CancellationToken, now: &CancellationToken) -> Self {
        Self {
            when_idle: Box::pin(when_idle.clone().cancelled_owned()),
            now: Box::pin(now.clone().cancelled_owned()),
            urgency: Urgency::None,
        }
    }

    /// Looks whether the proxy ends.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        if self.urgency == Urgency::None && self.when_idle.as_mut().poll(cx).is_ready() {
            self.urgency = Urgency::Idle;
        }
        if self.urgency != Urgency::Now && self.now.as_mut().poll(cx).is_ready() {
            self.urgency = Urgency::Now;
        }
    }

    /// Whether a session ends now, in a transaction or not.
    pub(super) const fn ends(&self, in_transaction: bool) -> bool {
        match self.urgency {
            Urgency::None => false,
            Urgency::Idle => !in_transaction,
            Urgency::Now => true,
        }
    }
}
