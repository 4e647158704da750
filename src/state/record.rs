//! What one connection leaves behind: a line in the log, and its share of the totals.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::counter::Counter;

/// The record of one connection. Its owner writes it; a shutdown reads it if the owner never ends.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) peer: SocketAddr,
    pub(crate) accepted: Instant,
    bytes_in: Counter,
    bytes_out: Counter,
    finished: AtomicBool,
}

// Relaxed is enough: the flag only decides which thread finishes the record.
impl Record {
    pub(crate) fn new(peer: SocketAddr) -> Self {
        Self {
            peer,
            accepted: Instant::now(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            finished: AtomicBool::new(false),
        }
    }

    pub(crate) fn received(&self, n: usize) {
        self.bytes_in.add(n);
    }

    pub(crate) fn sent(&self, n: usize) {
        self.bytes_out.add(n);
    }

    pub(crate) fn bytes_in(&self) -> u64 {
        self.bytes_in.get()
    }

    pub(crate) fn bytes_out(&self) -> u64 {
        self.bytes_out.get()
    }

    /// Finishes the record, and returns whether it was not finished before.
    pub(super) fn finish(&self) -> bool {
        !self.finished.swap(true, Ordering::Relaxed)
    }
}
