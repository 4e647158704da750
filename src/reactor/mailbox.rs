//! The mailbox of a reactor's loop: connections that other threads have left for the loop.
//!
//! A thread that brings a connection adds the descriptor to the `epoll(7)` set and leaves the
//! connection here. The loop opens the mailbox before it looks at events, so the first event of an
//! arrival finds its connection. So a thread wakes the loop only if the loop would otherwise sleep
//! past the arrival's first deadline, or past a shutdown that the arrival must notice.

use std::mem;
use std::sync::PoisonError;
use std::time::Instant;

use super::slab::{Token, Tokens};
use crate::hand_over::hand_over_point;
use crate::sync::{Mutex, MutexGuard};

#[cfg(all(test, shuttle))]
mod model;

/// The mailbox of a loop whose entries are of the type `E`.
pub(super) struct Mailbox<E>(Mutex<Inner<E>>);

struct Inner<E> {
    arrivals: Vec<(Token, E)>,
    tokens: Tokens,
    sleep: Sleep,
    /// Whether the loop has advanced all its entries because of a shutdown request. The loop must advance
    /// later arrivals, too.
    stopped: bool,
    /// Whether the loop must end once it has no entry left.
    ends: bool,
    /// Whether the loop has ended.
    ended: bool,
}

/// How long the loop sleeps if no event comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sleep {
    Awake,
    Until(Instant),
    Forever,
}

/// The contents of the mailbox when the loop opens it.
pub(super) struct Opened<E> {
    pub(super) arrivals: Vec<(Token, E)>,
    /// Whether the loop must advance the arrivals because of a shutdown request.
    pub(super) stopped: bool,
}

impl<E> Mailbox<E> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Inner {
            arrivals: Vec::new(),
            tokens: Tokens::default(),
            sleep: Sleep::Awake,
            stopped: false,
            ends: false,
            ended: false,
        }))
    }

    /// Leaves an entry for the loop, which must look at the entry at `alarm`. `watch` must add the
    /// entry's descriptor to the set, and return whether this has worked.
    ///
    /// Returns whether the caller must wake the loop. Returns the entry instead if the loop has ended or
    /// `watch` returns false.
    pub(super) fn deliver(
        &self,
        entry: E,
        alarm: Option<Instant>,
        watch: impl FnOnce(Token, &E) -> bool,
    ) -> Result<bool, E> {
        let mut inner = self.lock();
        if inner.ended {
            return Err(entry);
        }
        let token = inner.tokens.acquire();
        // Call `watch` under the lock. Otherwise the loop could take the entry, and close its descriptor
        // before `watch` adds it.
        if !watch(token, &entry) {
            inner.tokens.release(token);
            return Err(entry);
        }
        inner.arrivals.push((token, entry));
        let oversleeps = match (inner.sleep, alarm) {
            (Sleep::Awake, _) | (_, None) => false,
            (Sleep::Forever, Some(_)) => true,
            (Sleep::Until(end), Some(alarm)) => alarm < end,
        };
        let wakes = oversleeps || (inner.stopped && inner.sleep != Sleep::Awake);
        if wakes {
            // The loop is being woken, so the next arrivals need not wake it again.
            inner.sleep = Sleep::Awake;
        }
        Ok(wakes)
    }

    /// Notes that the loop is about to sleep until `alarm`, and returns whether the loop may. `is_empty`:
    /// the loop has no entries.
    pub(super) fn fall_asleep(&self, alarm: Option<Instant>, is_empty: bool) -> bool {
        let mut inner = self.lock();
        // An entry that has arrived since the mailbox was opened may have an earlier deadline. And if the
        // last entry has gone since, a loop that was asked to end must not sleep, because no other wake-up
        // will come.
        let may = inner.arrivals.is_empty() && !(inner.ends && is_empty);
        if may {
            inner.sleep = alarm.map_or(Sleep::Forever, Sleep::Until);
        }
        may
    }

    /// Takes the arrivals for the loop, and takes back the tokens in `freed`. Returns `None` if the loop
    /// must end. `is_empty`: the loop has no entries.
    pub(super) fn open(
        &self,
        freed: impl Iterator<Item = Token>,
        is_empty: bool,
    ) -> Option<Opened<E>> {
        let mut inner = self.lock();
        inner.sleep = Sleep::Awake;
        freed.for_each(|token| inner.tokens.release(token));
        if inner.ends && is_empty && inner.arrivals.is_empty() {
            inner.ended = true;
            return None;
        }
        Some(Opened {
            arrivals: mem::take(&mut inner.arrivals),
            stopped: inner.stopped,
        })
    }

    /// Notes that the loop advances all its entries because of a shutdown request.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
    }

    /// Asks the loop to end once it has no entry left. The caller must wake the loop.
    pub(super) fn end(&self) {
        self.lock().ends = true;
    }

    /// Notes that the loop has ended, and drops the arrivals.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.ended = true;
        inner.arrivals.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Inner<E>> {
        hand_over_point();
        let guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        hand_over_point();
        guard
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn deliver(mailbox: &Mailbox<u8>, alarm: Option<Instant>) -> bool {
        mailbox.deliver(7, alarm, |_, _| true).unwrap()
    }

    fn open(mailbox: &Mailbox<u8>) -> Vec<u8> {
        let opened = mailbox.open([].into_iter(), true).unwrap();
        opened
            .arrivals
            .into_iter()
            .map(|(_, entry)| entry)
            .collect()
    }

    #[test]
    fn an_arrival_wakes_the_loop_only_if_it_would_oversleep() {
        let mailbox = Mailbox::new();
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        assert!(!deliver(&mailbox, Some(now)), "the loop is awake");
        assert!(!mailbox.fall_asleep(None, true), "there is an arrival");
        assert_eq!(open(&mailbox), [7]);
        assert!(mailbox.fall_asleep(None, true));
        assert!(!deliver(&mailbox, None), "an event wakes the loop");
        assert!(deliver(&mailbox, Some(later)));
        assert!(!deliver(&mailbox, Some(later)), "the loop is being woken");
        assert_eq!(open(&mailbox), [7, 7, 7]);
        assert!(mailbox.fall_asleep(Some(later), true));
        assert!(!deliver(&mailbox, Some(later)));
        assert!(deliver(&mailbox, Some(now)));
    }

    #[test]
    fn after_a_stop_every_arrival_wakes_a_loop_that_sleeps() {
        let mailbox = Mailbox::new();
        mailbox.stop();
        assert!(!deliver(&mailbox, None), "the loop is awake");
        open(&mailbox);
        assert!(mailbox.fall_asleep(None, true));
        assert!(deliver(&mailbox, None));
    }

    #[test]
    fn the_loop_ends_once_it_is_empty_and_takes_no_more() {
        let mailbox = Mailbox::new();
        deliver(&mailbox, None);
        mailbox.end();
        assert_eq!(open(&mailbox), [7]);
        assert!(mailbox.fall_asleep(None, false));
        assert!(!mailbox.fall_asleep(None, true), "it must end");
        assert!(mailbox.open([].into_iter(), false).is_some());
        assert!(mailbox.open([].into_iter(), true).is_none());
        assert_eq!(mailbox.deliver(8, None, |_, _| true), Err(8));
    }

    #[test]
    fn an_entry_that_can_not_be_watched_is_returned() {
        let mailbox = Mailbox::new();
        assert_eq!(mailbox.deliver(8, None, |_, _| false), Err(8));
        assert_eq!(open(&mailbox), []);
    }
}
