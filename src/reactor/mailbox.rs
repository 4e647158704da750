//! What is under way to a reactor's loop, and whether its arrival must wake the loop.
//!
//! A thread that brings a connection adds the descriptor to the `epoll(7)` set and leaves the
//! connection here. The loop opens the mailbox before it looks at events, so that an arrival need
//! not wake the loop, unless the loop would sleep past the arrival's first deadline.

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
    /// Whether the loop has told all its entries of a stop. A later arrival must be told, too.
    stopped: bool,
    /// Whether the loop ends with its last entry.
    ends: bool,
    /// Whether the loop is gone.
    ended: bool,
}

/// How long the loop sleeps if nothing happens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sleep {
    Awake,
    Until(Instant),
    Forever,
}

/// What the loop finds in the mailbox.
pub(super) struct Opened<E> {
    pub(super) arrivals: Vec<(Token, E)>,
    /// Whether the arrivals must be told of a stop.
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

    /// Leaves an entry for the loop, which must look at the entry at `alarm`. `watch` adds the
    /// entry's descriptor to the set, and returns whether it could.
    ///
    /// Returns whether the caller must wake the loop, or the entry if the loop can't have it.
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
        // Under the lock: otherwise the loop could close the descriptor before.
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
            // The next arrivals need not wake the loop again.
            inner.sleep = Sleep::Awake;
        }
        Ok(wakes)
    }

    /// The loop, which `is_empty` or not, is about to sleep until `alarm`. Returns whether it may.
    pub(super) fn fall_asleep(&self, alarm: Option<Instant>, is_empty: bool) -> bool {
        let mut inner = self.lock();
        // What has arrived since the mailbox was opened may have an earlier deadline. And the last
        // entry may have gone after the loop was asked to end with it.
        let may = inner.arrivals.is_empty() && !(inner.ends && is_empty);
        if may {
            inner.sleep = alarm.map_or(Sleep::Forever, Sleep::Until);
        }
        may
    }

    /// The loop takes what has arrived, and gives tokens back. Returns `None` if the loop, which
    /// `is_empty` or not, has come to its end.
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

    /// The loop tells all its entries of a stop.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
    }

    /// Asks the loop to end with its last entry. The caller wakes the loop.
    pub(super) fn end(&self) {
        self.lock().ends = true;
    }

    /// The loop is gone, with everything that had arrived.
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
    fn an_entry_that_can_not_be_watched_comes_back() {
        let mailbox = Mailbox::new();
        assert_eq!(mailbox.deliver(8, None, |_, _| false), Err(8));
        assert_eq!(open(&mailbox), []);
    }
}
