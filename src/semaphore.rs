//! A bound on how many there are of something in this process.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How many may be taken, and how many are.
#[derive(Debug)]
pub(crate) struct Quota {
    most: usize,
    taken: AtomicUsize,
}

/// One of a quota, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit<'q>(&'q Quota);

// Relaxed throughout: they are only counted.
impl Quota {
    pub(crate) const fn new(most: usize) -> Self {
        Self {
            most,
            taken: AtomicUsize::new(0),
        }
    }

    /// Takes one, if there is one left.
    pub(crate) fn take(&self) -> Option<Permit<'_>> {
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
                (taken < self.most).then_some(taken + 1)
            })
            .ok()
            .map(|_| Permit(self))
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_taken_than_there_are_and_each_can_be_taken_again() {
        let quota = Quota::new(2);
        let first = quota.take();
        let second = quota.take();
        assert!(first.is_some() && second.is_some());
        assert!(quota.take().is_none());
        drop(first);
        let third = quota.take();
        assert!(third.is_some());
        assert!(quota.take().is_none());
    }
}
