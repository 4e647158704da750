//! What one connection leaves behind: a line in the log, and its share of the totals.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// The record of one connection. Its owner writes it; a shutdown reads it if the owner never ends.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) peer: SocketAddr,
    pub(crate) accepted: Instant,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    finished: AtomicBool,
}

// Relaxed is enough throughout: nothing is published by the counts, and the flag only decides who
// finishes.
impl Record {
    pub(crate) fn new(peer: SocketAddr) -> Self {
        Self {
            peer,
            accepted: Instant::now(),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            finished: AtomicBool::new(false),
        }
    }

    pub(crate) fn received(&self, n: usize) {
        self.bytes_in.fetch_add(n as u64, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, n: usize) {
        self.bytes_out.fetch_add(n as u64, Ordering::Relaxed);
    }

    pub(crate) fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Ordering::Relaxed)
    }

    /// Finishes the record, and returns whether it was not finished before.
    pub(super) fn finish(&self) -> bool {
        !self.finished.swap(true, Ordering::Relaxed)
    }
}
