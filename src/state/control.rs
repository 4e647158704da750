//! The requests of other threads to one connection: to close it, or to wake its handler.

use std::io;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use crate::hand_over::hand_over_point;
use crate::wake::Waker;

/// The requests to one connection.
///
/// Most connections get none. So the memory for requests is only allocated at the first one, because an
/// idle connection should take little memory.
#[derive(Debug, Default)]
pub(crate) struct Control(OnceLock<Box<Requests>>);

#[derive(Debug, Default)]
struct Requests {
    /// The time at which the close was requested.
    closing: OnceLock<Instant>,
    wake_up: Mutex<WakeUp>,
}

#[derive(Debug, Default)]
struct WakeUp {
    /// Whether the handler was woken and has not noticed yet.
    pending: bool,
    /// Whether the last wait returned because of a wake-up. Then input has precedence, so that frequent
    /// wake-ups don't keep the handler from reading.
    was_last: bool,
    /// The waker that the handler sleeps on. `None` until its first wait.
    waker: Option<Arc<Waker>>,
}

impl Control {
    /// Requests the close. Returns `false` if it was requested before.
    pub(super) fn close(&self) -> bool {
        self.requests().closing.set(Instant::now()).is_ok()
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing_since().is_some()
    }

    /// Returns when the close was requested.
    pub(crate) fn closing_since(&self) -> Option<Instant> {
        self.0.get()?.closing.get().copied()
    }

    /// Makes the handler's current or next wait return.
    pub(super) fn wake(&self) {
        let mut wake_up = self.lock();
        // If a wake-up is pending, the waker was woken by the first, and once is enough.
        let is_first = !mem::replace(&mut wake_up.pending, true);
        hand_over_point();
        if is_first && let Some(waker) = &wake_up.waker {
            waker.wake();
        }
    }

    /// Takes a pending wake-up. Returns `false` if none is pending, or if it is the turn of the input.
    pub(crate) fn take_wake_up(&self, has_input: bool) -> bool {
        let mut wake_up = self.lock();
        let takes = wake_up.pending && !(has_input && wake_up.was_last);
        if takes && let Some(waker) = &wake_up.waker {
            waker.clear();
        }
        wake_up.pending &= !takes;
        wake_up.was_last = takes;
        takes
    }

    /// Returns the waker to sleep on. If a wake-up is pending, the waker is already woken.
    pub(crate) fn waker(&self) -> io::Result<Arc<Waker>> {
        let mut wake_up = self.lock();
        if let Some(waker) = &wake_up.waker {
            return Ok(Arc::clone(waker));
        }
        let waker = Arc::new(Waker::new()?);
        if wake_up.pending {
            waker.wake();
        }
        wake_up.waker = Some(Arc::clone(&waker));
        Ok(waker)
    }

    /// Closes the waker's descriptors, because the handler has returned and waits no more.
    pub(crate) fn release(&self) {
        if let Some(requests) = self.0.get() {
            requests.lock().waker = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, WakeUp> {
        self.requests().lock()
    }

    fn requests(&self) -> &Requests {
        self.0.get_or_init(Box::default)
    }
}

impl Requests {
    fn lock(&self) -> MutexGuard<'_, WakeUp> {
        self.wake_up.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wake_ups_that_are_pending_are_one_write_and_none_is_lost() {
        let control = Control::default();
        let written = |waker: &Waker| rustix::io::ioctl_fionread(waker).unwrap();
        // Before the first wait there is no pipe to write to.
        control.wake();
        let waker = control.waker().unwrap();
        assert_eq!(written(&waker), 1);
        control.wake();
        assert_eq!(written(&waker), 1);
        assert!(control.take_wake_up(true));
        assert_eq!(written(&waker), 0);
        for _ in 0..3 {
            control.wake();
        }
        assert_eq!(written(&waker), 1);
        // It is the turn of the input, so the wake-up stays pending.
        assert!(!control.take_wake_up(true));
        control.wake();
        assert_eq!(written(&waker), 1);
        assert!(control.take_wake_up(true));
    }
}
