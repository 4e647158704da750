//! What the hand-overs between threads are made of: in every normal build, the standard library's.
//!
//! `.ci/run` also builds the unit tests with `--cfg shuttle`. There a model checker (the crate
//! `shuttle`) takes the place of the scheduler, and tries the interleavings that a machine seldom
//! has. Only tests whose name has `model` in it can run in that build.

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
