//! Tests that need the process, or the machine, for themselves: tests of time, leaks and shortages.
//!
//! Cargo runs test binaries one after another. Within this binary, the tests also run one after another.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod handles;
mod interrupted;
mod jobs;
mod panics;
mod pipes;
mod resource_usage;
mod shortage;
#[allow(
    dead_code,
    unused_imports,
    reason = "it is shared with the other tests"
)]
#[path = "../it/support/mod.rs"]
mod support;
mod timing;
mod usage;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Waits until the tests before this one have ended, also if they failed.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
