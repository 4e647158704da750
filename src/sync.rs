//! The mutexes and threads for hand-overs: the standard library's, or a model checker's in one test build.
//!
//! `.ci/run` also builds the unit tests with `--cfg shuttle`. In that build the model checker `shuttle`
//! replaces the scheduler, and tries interleavings that are rare on a real machine. Only the tests whose
//! path contains `model` can run in that build.

#[cfg(not(all(test, shuttle)))]
pub(crate) use std::{
    sync::{Mutex, MutexGuard},
    thread,
};

#[cfg(all(test, shuttle))]
pub(crate) use shuttle::{
    sync::{Mutex, MutexGuard},
    thread,
};
