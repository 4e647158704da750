//! Tests that need the process, or the machine, for themselves: of time, of leaks, of shortage.
//!
//! Cargo runs test binaries one after another, and within this one each test takes its turn.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod handles;
mod interrupted;
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

/// Waits for the tests before this one. A failed one has had its turn, too.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
