//! Waits for any of many connections.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use crate::failure::{Failure, Result};

/// A server that makes no progress for this long has hung.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// The most events that one call returns. A small number would serve some connections before others.
const EVENTS: usize = 1024;

/// An epoll set.
pub(super) struct Poller {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Poller {
    pub(super) fn new() -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(failed)?;
        let empty = Event {
            flags: EventFlags::empty(),
            data: EventData::new_u64(0),
        };
        let events = vec![empty; EVENTS];
        Ok(Self { epoll, events })
    }

    pub(super) fn add(&self, fd: impl AsFd, number: usize, flags: EventFlags) -> Result {
        let data = EventData::new_u64(number as u64);
        epoll::add(&self.epoll, fd, data, flags).map_err(failed)
    }

    pub(super) fn modify(&self, fd: impl AsFd, number: usize, flags: EventFlags) -> Result {
        let data = EventData::new_u64(number as u64);
        epoll::modify(&self.epoll, fd, data, flags).map_err(failed)
    }

    pub(super) fn remove(&self, fd: impl AsFd) -> Result {
        epoll::delete(&self.epoll, fd).map_err(failed)
    }

    /// Waits until a connection is ready. Returns how many are.
    pub(super) fn wait(&mut self) -> Result<usize> {
        match self.wait_for(TIMEOUT)? {
            0 => Err(silence()),
            ready => Ok(ready),
        }
    }

    /// Waits at most `limit`. Returns how many connections are ready.
    pub(super) fn wait_for(&mut self, limit: Duration) -> Result<usize> {
        let timeout = Timespec::try_from(limit).ok();
        loop {
            match epoll::wait(&self.epoll, &mut self.events[..], timeout.as_ref()) {
                Ok(ready) => return Ok(ready),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
    }

    /// Returns the number of a ready connection, and what it is ready for.
    pub(super) fn ready(&self, index: usize) -> (usize, EventFlags) {
        let Event { flags, data } = self.events[index];
        (usize::try_from(data.u64()).unwrap_or(usize::MAX), flags)
    }
}

/// Returns the failure of a server that made no progress for `TIMEOUT`.
pub(super) fn silence() -> Failure {
    Failure::new(format!("silence for {} s", TIMEOUT.as_secs()))
}

fn failed(errno: Errno) -> Failure {
    Failure::errno("wait for events", errno)
}
