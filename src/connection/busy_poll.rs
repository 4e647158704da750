//! Busy-polling: a wait for input tries again for a short time before it sleeps.
//!
//! For a small message, sleeping in a system call and being woken costs more than everything else. A
//! waiter that yields the processor (`sched_yield(2)`) and tries again without blocking lets other
//! threads run, and often finds that the next message has arrived meanwhile.
//!
//! Busy-polling pays only if messages follow each other closely. So a waiter whose busy-polls find
//! nothing makes them ever more rarely. After a silence a waiter busy-polls only once 64 waits have
//! passed without another silence.
//!
//! The reads of a connection use this, and so does the loop of a reactor. Whatever a peer does, the
//! waste is at most one busy-poll per message. Each takes at most as long as the
//! [setting](crate::Builder::busy_poll), or as four tries if those take longer.

use std::io::{self, ErrorKind};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::semaphore::Semaphore;
use crate::state::timeouts::BLOCKING_SLICE;

/// The busy-polling of one waiter.
// Every access is relaxed, because no other data depends on these values. After a lost update the waiter
// only makes the same guess twice.
#[derive(Debug)]
pub(crate) struct BusyPoll {
    longest: Duration,
    /// The number of next waits that sleep without a busy-poll.
    skip: AtomicU32,
    /// The number of last busy-polls in a row that found nothing.
    misses: AtomicU32,
}

/// The tries that a busy-poll makes even if they take longer than the setting.
///
/// If many threads are ready, yielding to them takes longer than the setting, but wastes no time of
/// this processor. With 150 busy connections, nearly all of them find their next message within this
/// many tries.
const TRIES: u32 = 4;

/// The bound on threads that busy-poll at the same time. If there were more, each would wait so long
/// for its turn that sleeping is as good. 80 per processor is what was measured on two processors.
static POLLING: LazyLock<Semaphore> = LazyLock::new(|| {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    Semaphore::new(80 * processors)
});

/// The first waits of a waiter, which always sleep. Only the second message shows whether messages
/// follow each other closely.
const FIRST_SLEEPS: u32 = 2;

/// After this many misses in a row, only one wait in 2⁶ = 64 busy-polls, so that 50 µs of busy-polling
/// cost less than 1 µs per message.
const MAX_MISSES: u32 = 6;

impl BusyPoll {
    pub(crate) fn new(longest: Duration) -> Self {
        Self {
            longest: longest.min(BLOCKING_SLICE),
            skip: AtomicU32::new(FIRST_SLEEPS),
            misses: AtomicU32::new(0),
        }
    }

    /// Busy-polls by calling `attempt` for up to the configured time, if that is likely to pay.
    ///
    /// Returns the result of `attempt`, or `None` if the caller should sleep now.
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

    /// Notes a silence: the waiter has waited too long for its input to count as busy.
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

    /// Too short for more tries than those that are always made.
    const SHORT: Duration = Duration::from_nanos(1);

    /// Returns how many tries `waits` in a row made.
    fn tries(busy_poll: &BusyPoll, waits: usize, attempt: impl Fn() -> io::Result<()>) -> u32 {
        let tries = AtomicU32::new(0);
        for _ in 0..waits {
            busy_poll.wait(|| {
                tries.fetch_add(1, Ordering::Relaxed);
                attempt()
            });
        }
        tries.into_inner()
    }

    #[test]
    fn a_waiter_that_finds_something_busy_polls_every_time() {
        let busy_poll = BusyPoll::new(SHORT);
        assert_eq!(tries(&busy_poll, 1000, || Ok(())), 1000 - FIRST_SLEEPS);
    }

    #[test]
    fn a_waiter_that_finds_nothing_busy_polls_ever_more_rarely() {
        let busy_poll = BusyPoll::new(SHORT);
        assert_eq!(tries(&busy_poll, FIRST_SLEEPS as usize, NOTHING), 0);
        // One busy-poll after 0, 1, 3, 7, … sleeps, and then one after every 63.
        assert_eq!(tries(&busy_poll, 127, NOTHING), 7 * TRIES);
        assert_eq!(tries(&busy_poll, 6400, NOTHING), 100 * TRIES);
        // After a success every wait busy-polls again.
        assert_eq!(tries(&busy_poll, 63 + 1, || Ok(())), 1);
        assert_eq!(tries(&busy_poll, 10, || Ok(())), 10);
    }

    #[test]
    fn after_a_silence_no_wait_busy_polls_before_the_waiter_is_busy() {
        let busy_poll = BusyPoll::new(SHORT);
        for _ in 0..1000 {
            busy_poll.silence();
            assert_eq!(tries(&busy_poll, 1, || Ok(())), 0);
        }
    }

    #[test]
    fn an_error_is_returned_at_once() {
        let busy_poll = BusyPoll::new(Duration::from_secs(3600));
        assert_eq!(tries(&busy_poll, FIRST_SLEEPS as usize, NOTHING), 0);
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
