//! The points in the code at which one thread hands something to another.
//!
//! With the feature `chaos`, which is for tests only, a thread may pause at each point. The pause gives
//! another thread time to run in between, so that a test finds a race that is rare otherwise. In every
//! other build a point does nothing.

#[cfg(not(feature = "chaos"))]
pub(crate) fn hand_over_point() {}

/// Does nothing, yields, or sleeps for up to 200 µs, at random.
#[cfg(feature = "chaos")]
pub(crate) fn hand_over_point() {
    use std::hash::{DefaultHasher, Hash, Hasher};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    static POINTS: AtomicUsize = AtomicUsize::new(0);
    let mut hasher = DefaultHasher::new();
    // Relaxed is enough, because the number only has to differ each time.
    POINTS.fetch_add(1, Ordering::Relaxed).hash(&mut hasher);
    thread::current().id().hash(&mut hasher);
    let random = hasher.finish();
    match random % 8 {
        0 => thread::sleep(Duration::from_micros(random / 8 % 200)),
        1 | 2 => thread::yield_now(),
        _ => {}
    }
}
