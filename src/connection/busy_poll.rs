//! Busy-polling: whether a wait for input tries again for a moment before it sleeps.
//!
//! Sleeping in a system call and being woken costs more than the rest of a small message. A waiter
//! that yields the processor (`sched_yield(2)`) and tries again without blocking lets other
//! threads run, and often finds that the next message has come meanwhile. Busy-polling pays only
//! where messages follow each other closely. So a waiter that it does not help tries it ever more
//! rarely, and a waiter that fell silent does not try again before it has been busy.
//!
//! Both the reads of one connection and the loop of a reactor use this. Whatever a peer does, the
//! waste is bounded: at most one busy-poll per message, each at most as long as the
//! [setting](crate::Builder::busy_poll), or four tries if those take longer.

use std::io::{self, ErrorKind};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::semaphore::Semaphore;
use crate::state::timeouts::BLOCKING_SLICE;

/// The busy-polling of one waiter.
// Relaxed throughout: nothing is published by it, and a lost update is a guess made twice.
#[derive(Debug)]
pub(crate) struct BusyPoll {
    longest: Duration,
    /// How many waits are still to sleep at once.
    skip: AtomicU32,
    /// How many busy-polls in a row found nothing.
    misses: AtomicU32,
}

/// How many tries are made however long they take. Where many threads are ready, yielding to them
/// takes longer than the setting, and wastes none of this processor's time. Of 150 busy
/// connections nearly all find their next message within this many tries.
const TRIES: u32 = 4;

/// How many threads busy-poll at the same time. If more did, each would be passed over too often,
/// and sleeping would be as good. 80 for each processor, as measured on two.
static POLLING: LazyLock<Semaphore> = LazyLock::new(|| {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    Semaphore::new(80 * processors)
});

/// How many waits sleep in any case. It takes two messages for one to follow the other closely.
const FIRST: u32 = 2;

/// After this many misses in a row, one wait in 2⁶ = 64 busy-polls: 50 µs then cost less than 1 µs
/// per message.
const MAX_MISSES: u32 = 6;

impl BusyPoll {
    pub(crate) fn new(longest: Duration) -> Self {
        Self {
            longest: longest.min(BLOCKING_SLICE),
            // The first message shows nothing yet.
            skip: AtomicU32::new(FIRST),
            misses: AtomicU32::new(0),
        }
    }

    /// Busy-polls by `attempt` for up to the configured time, if that is likely to pay.
    ///
    /// Returns what `attempt` returned, or `None` if the caller should sleep now.
    pub(crate) fn wait<T>(
        &self,
        mut attempt: impl FnMut() -> io::Result<T>,
    ) -> Option<io::Result<T>> {
        if !self.is_likely_to_pay() {
            return None;
        }
        let _permit = POLLING.try_acquire()?;
        let start = Instant::now();
        let mut tried = 0;
        while tried < TRIES || start.elapsed() < self.longest {
            tried += 1;
            thread::yield_now();
            match attempt() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                done => {
                    self.misses.store(0, Ordering::Relaxed);
                    return Some(done);
                }
            }
        }
        self.miss();
        None
    }

    /// Notes that nothing came for so long that the waiter is not busy.
    pub(crate) fn silence(&self) {
        self.misses.store(MAX_MISSES, Ordering::Relaxed);
        self.skip.store(1 << MAX_MISSES, Ordering::Relaxed);
    }

    fn is_likely_to_pay(&self) -> bool {
        if self.longest.is_zero() {
            return false;
        }
        let skip = self.skip.load(Ordering::Relaxed);
        if skip > 0 {
            self.skip.store(skip - 1, Ordering::Relaxed);
        }
        skip == 0
    }

    fn miss(&self) {
        let misses = self.misses.load(Ordering::Relaxed).min(MAX_MISSES - 1) + 1;
        self.misses.store(misses, Ordering::Relaxed);
        self.skip.store((1 << misses) - 1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: fn() -> io::Result<()> = || Err(ErrorKind::WouldBlock.into());

    /// Too short for more than the tries that are always made.
    const SHORT: Duration = Duration::from_nanos(1);

    /// Returns how often `reads` in a row tried.
    fn tries(busy_poll: &BusyPoll, reads: usize, attempt: impl Fn() -> io::Result<()>) -> u32 {
        let tries = AtomicU32::new(0);
        for _ in 0..reads {
            busy_poll.wait(|| {
                tries.fetch_add(1, Ordering::Relaxed);
                attempt()
            });
        }
        tries.into_inner()
    }

    #[test]
    fn a_read_that_finds_something_waits_every_time() {
        let busy_poll = BusyPoll::new(SHORT);
        assert_eq!(tries(&busy_poll, 1000, || Ok(())), 1000 - FIRST);
    }

    #[test]
    fn a_read_that_never_does_waits_ever_more_rarely() {
        let busy_poll = BusyPoll::new(SHORT);
        assert_eq!(tries(&busy_poll, FIRST as usize, NOTHING), 0);
        // Once after 0, 1, 3, 7, … reads, and then after 63.
        assert_eq!(tries(&busy_poll, 127, NOTHING), 7 * TRIES);
        assert_eq!(tries(&busy_poll, 6400, NOTHING), 100 * TRIES);
        // The first success ends that.
        assert_eq!(tries(&busy_poll, 63 + 1, || Ok(())), 1);
        assert_eq!(tries(&busy_poll, 10, || Ok(())), 10);
    }

    #[test]
    fn after_a_silence_no_read_waits_before_the_connection_is_busy() {
        let busy_poll = BusyPoll::new(SHORT);
        for _ in 0..1000 {
            busy_poll.silence();
            assert_eq!(tries(&busy_poll, 1, || Ok(())), 0);
        }
    }

    #[test]
    fn an_error_is_returned_and_not_waited_out() {
        let busy_poll = BusyPoll::new(Duration::from_secs(3600));
        assert_eq!(tries(&busy_poll, FIRST as usize, NOTHING), 0);
        let failed = busy_poll.wait(|| Err::<(), _>(ErrorKind::ConnectionReset.into()));
        let error = failed.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }

    #[test]
    fn nothing_is_tried_if_it_is_off() {
        let busy_poll = BusyPoll::new(Duration::ZERO);
        assert_eq!(tries(&busy_poll, 100, || Ok(())), 0);
    }
}
