//! What is known of one connection for as long as anybody asks, and what it leaves behind: a line in
//! the log, and its share of the totals.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::control::Control;
use super::counter::Counter;

/// The record of one connection. Its owner writes it; a shutdown reads it if the owner never ends.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) id: u64,
    pub(crate) peer: SocketAddr,
    /// Known once somebody has asked for it.
    pub(crate) local: OnceLock<SocketAddr>,
    pub(crate) accepted: Instant,
    bytes_in: Counter,
    bytes_out: Counter,
    finished: AtomicBool,
    pub(crate) control: Control,
}

// Relaxed is enough: the flag only decides which thread finishes the record.
impl Record {
    pub(crate) fn new(id: u64, peer: SocketAddr) -> Self {
        Self {
            id,
            peer,
            local: OnceLock::new(),
            accepted: Instant::now(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            finished: AtomicBool::new(false),
            control: Control::default(),
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
