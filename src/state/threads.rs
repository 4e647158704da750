//! The threads of a server: how many run handlers, and whether those with a loop respond.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::ServerState;
use crate::wake::Waker;

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl ServerState {
    /// Counts a thread for handlers, until the guard is dropped.
    pub(crate) fn count_thread(self: &Arc<Self>) -> CountedThread {
        // Relaxed is enough, because no thread reads other memory by what the count says.
        self.threads.fetch_add(1, Ordering::Relaxed);
        CountedThread(Arc::clone(self))
    }

    /// Adds a reactor, so that a watchdog asks it, too.
    pub(crate) fn add_reactor(&self, waker: &Arc<Waker>) {
        self.reactors().push(Arc::clone(waker));
    }

    /// Removes a reactor that ends.
    pub(crate) fn remove_reactor(&self, waker: &Arc<Waker>) {
        self.reactors().retain(|other| !Arc::ptr_eq(other, waker));
    }

    /// Returns whether every loop of the server responds within `timeout`.
    pub(crate) fn is_responsive(&self, timeout: Duration) -> bool {
        let now = Instant::now();
        // A timeout that the clock can't hold counts as a year.
        let deadline = now.checked_add(timeout).unwrap_or(now + YEAR);
        let reactors = self.reactors().clone();
        [self.shutdown.supervisor(), self.shutdown.lead()]
            .into_iter()
            .chain(reactors.iter().map(|waker| &**waker))
            .all(|waker| waker.is_cleared_by(deadline))
    }

    pub(super) fn reactors(&self) -> MutexGuard<'_, Vec<Arc<Waker>>> {
        self.reactors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A guard of `count_thread`: the thread counts as long as the guard exists.
pub(crate) struct CountedThread(Arc<ServerState>);

impl Drop for CountedThread {
    fn drop(&mut self) {
        self.0.threads.fetch_sub(1, Ordering::Relaxed);
    }
}
