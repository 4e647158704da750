//! A 64-bit count of bytes that several threads add to, also on 32-bit processors.

#[cfg(target_has_atomic = "64")]
pub(super) use atomic::Counter;
#[cfg(not(target_has_atomic = "64"))]
pub(super) use locked::Counter;

#[cfg(target_has_atomic = "64")]
mod atomic {
    use std::sync::atomic::{AtomicU64, Ordering};

    #[derive(Debug, Default)]
    pub(crate) struct Counter(AtomicU64);

    // Relaxed is enough, because no thread reads other memory by what the count says.
    impl Counter {
        pub(crate) fn add(&self, n: usize) {
            self.0.fetch_add(n as u64, Ordering::Relaxed);
        }

        pub(crate) fn get(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
    }
}

/// The counter for processors without 64-bit atomic operations, such as 32-bit PowerPC and MIPS.
#[cfg(any(test, not(target_has_atomic = "64")))]
mod locked {
    use std::sync::{Mutex, PoisonError};

    #[derive(Debug, Default)]
    pub(crate) struct Counter(Mutex<u64>);

    impl Counter {
        pub(crate) fn add(&self, n: usize) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) += n as u64;
        }

        pub(crate) fn get(&self) -> u64 {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn both_kinds_count_beyond_4_gib() {
        let (native, locked) = (super::Counter::default(), super::locked::Counter::default());
        for _ in 0..5 {
            native.add(1 << 30);
            locked.add(1 << 30);
        }
        assert_eq!((native.get(), locked.get()), (5 << 30, 5 << 30));
    }
}
