//! A bound on how many of something this process has at the same time.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of permits, which never blocks.
#[derive(Debug)]
pub(crate) struct Semaphore {
    limit: usize,
    acquired: AtomicUsize,
}

/// One of a semaphore's permits. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Permit<'s>(&'s Semaphore);

// Relaxed throughout: the count publishes nothing but itself.
impl Semaphore {
    pub(crate) const fn new(limit: usize) -> Self {
        Self {
            limit,
            acquired: AtomicUsize::new(0),
        }
    }

    /// Takes a permit, if one is left.
    pub(crate) fn try_acquire(&self) -> Option<Permit<'_>> {
        self.try_acquire_of(self.limit)
    }

    /// Takes a permit, if fewer than `limit` are taken: for a limit that changes.
    pub(crate) fn try_acquire_of(&self, limit: usize) -> Option<Permit<'_>> {
        self.acquired
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |acquired| {
                (acquired < limit).then_some(acquired + 1)
            })
            .ok()
            .map(|_| Permit(self))
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.acquired.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_permits_as_the_limit_and_each_can_be_taken_again() {
        let semaphore = Semaphore::new(2);
        let first = semaphore.try_acquire();
        let second = semaphore.try_acquire();
        assert!(first.is_some() && second.is_some());
        assert!(semaphore.try_acquire().is_none());
        drop(first);
        let third = semaphore.try_acquire();
        assert!(third.is_some());
        assert!(semaphore.try_acquire().is_none());
    }
}
