//! A limit on how many of something this process has at the same time.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A semaphore that never blocks: if no permit is free, taking one fails.
#[derive(Debug)]
pub(crate) struct Semaphore {
    limit: usize,
    acquired: AtomicUsize,
}

/// A permit of a semaphore. Dropping the permit gives it back.
#[derive(Debug)]
pub(crate) struct Permit<'s>(&'s Semaphore);

// Relaxed is enough throughout, because no thread reads other memory by what the count says.
impl Semaphore {
    pub(crate) const fn new(limit: usize) -> Self {
        Self {
            limit,
            acquired: AtomicUsize::new(0),
        }
    }

    /// Takes a permit, if one is free.
    pub(crate) fn try_acquire(&self) -> Option<Permit<'_>> {
        self.try_acquire_of(self.limit)
    }

    /// Takes a permit, if fewer than `limit` are taken. Callers whose limit changes pass the current one.
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
