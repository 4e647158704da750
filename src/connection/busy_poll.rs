//! Whether a read waits a little, awake, before it sleeps.
//!
//! To sleep in `recv(2)` and be woken costs more than the rest of a small message. A read that
//! yields the processor (`sched_yield(2)`) and tries again without blocking lets the others that are
//! ready run, and often finds that the next message has come meanwhile. It is worth it only where
//! messages follow each other closely, so a connection that it does not help is tried ever more
//! rarely, and one that falls silent is not tried again before it has shown that it is busy.
//!
//! What it wastes is bounded, whatever the peer does: one such wait per message at most, and each at
//! most as long as the [setting](crate::Builder::spin), or a few tries if they take longer.

use std::io::{self, ErrorKind};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::semaphore::Quota;
use crate::state::timeouts::BRIEFLY;

/// The state of this in one connection.
// Relaxed throughout: nothing is published by it, and a lost update is a guess made twice.
#[derive(Debug)]
pub(super) struct Spin {
    longest: Duration,
    /// How many reads are still to sleep at once.
    skip: AtomicU32,
    /// How many waits in a row were in vain.
    misses: AtomicU32,
}

/// How many tries are made however long they take. Where many are ready, to yield to them takes
/// longer than the setting, and none of this processor's time is wasted by it; of 150 busy
/// connections nearly all find their next message within so many.
const TRIES: u32 = 4;

/// How many reads wait awake at most. Where there are more that are busy, each is passed over by the
/// others too often, and to sleep is as good. So many for each processor, as measured on two.
static AWAKE: LazyLock<Quota> = LazyLock::new(|| {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    Quota::new(80 * processors)
});

/// How many reads of a connection sleep in any case: it takes two messages for one to follow the
/// other closely.
const FIRST: u32 = 2;

/// After this many misses in a row, one read in 2⁶ = 64 waits: 50 µs then cost less than 1 µs per
/// message.
const MOST_MISSES: u32 = 6;

impl Spin {
    pub(super) fn new(longest: Duration) -> Self {
        Self {
            longest: longest.min(BRIEFLY),
            // The first message shows nothing yet.
            skip: AtomicU32::new(FIRST),
            misses: AtomicU32::new(0),
        }
    }

    /// Tries, if it is worth it, and yields until there is something, or it has been long enough.
    /// Returns what came of it, or `None` if the read is to sleep.
    pub(super) fn wait<T>(
        &self,
        mut attempt: impl FnMut() -> io::Result<T>,
    ) -> Option<io::Result<T>> {
        if !self.is_worth_it() {
            return None;
        }
        let _permit = AWAKE.take()?;
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

    /// Notes that the peer has fallen silent.
    pub(super) fn silence(&self) {
        self.misses.store(MOST_MISSES, Ordering::Relaxed);
        self.skip.store(1 << MOST_MISSES, Ordering::Relaxed);
    }

    fn is_worth_it(&self) -> bool {
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
        let misses = self.misses.load(Ordering::Relaxed).min(MOST_MISSES - 1) + 1;
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
    fn tries(spin: &Spin, reads: usize, attempt: impl Fn() -> io::Result<()>) -> u32 {
        let tries = AtomicU32::new(0);
        for _ in 0..reads {
            spin.wait(|| {
                tries.fetch_add(1, Ordering::Relaxed);
                attempt()
            });
        }
        tries.into_inner()
    }

    #[test]
    fn a_read_that_finds_something_waits_every_time() {
        let spin = Spin::new(SHORT);
        assert_eq!(tries(&spin, 1000, || Ok(())), 1000 - FIRST);
    }

    #[test]
    fn a_read_that_never_does_waits_ever_more_rarely() {
        let spin = Spin::new(SHORT);
        assert_eq!(tries(&spin, FIRST as usize, NOTHING), 0);
        // Once after 0, 1, 3, 7, … reads, and then after 63.
        assert_eq!(tries(&spin, 127, NOTHING), 7 * TRIES);
        assert_eq!(tries(&spin, 6400, NOTHING), 100 * TRIES);
        // The first success ends that.
        assert_eq!(tries(&spin, 63 + 1, || Ok(())), 1);
        assert_eq!(tries(&spin, 10, || Ok(())), 10);
    }

    #[test]
    fn after_a_silence_no_read_waits_before_the_connection_is_busy() {
        let spin = Spin::new(SHORT);
        for _ in 0..1000 {
            spin.silence();
            assert_eq!(tries(&spin, 1, || Ok(())), 0);
        }
    }

    #[test]
    fn an_error_is_returned_and_not_waited_out() {
        let spin = Spin::new(Duration::from_secs(3600));
        assert_eq!(tries(&spin, FIRST as usize, NOTHING), 0);
        let failed = spin.wait(|| Err::<(), _>(ErrorKind::ConnectionReset.into()));
        let error = failed.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }

    #[test]
    fn nothing_is_tried_if_it_is_off() {
        let spin = Spin::new(Duration::ZERO);
        assert_eq!(tries(&spin, 100, || Ok(())), 0);
    }
}
