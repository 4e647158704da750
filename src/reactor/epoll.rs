//! An `epoll(7)` set: level-triggered, each descriptor with the number that its events have.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use super::step::Ready;

/// The most events that one system call returns.
const EVENTS: usize = 256;

#[derive(Debug)]
pub(super) struct EpollSet(OwnedFd);

/// What a descriptor is watched for. A hang-up and an error are events in any case.
pub(super) type Interest = EventFlags;

pub(super) fn interest(input: bool, room: bool) -> Interest {
    let mut flags = EventFlags::empty();
    flags.set(EventFlags::IN, input);
    flags.set(EventFlags::OUT, room);
    flags
}

/// Events, and room for more.
pub(super) struct Events(Vec<Event>);

impl Events {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(EVENTS))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether the descriptor of this number has an event.
    pub(super) fn has(&self, number: u64) -> bool {
        self.0.iter().any(|event| event.data.u64() == number)
    }

    /// Returns the number of each descriptor that has an event, and what it is ready for.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (u64, Ready)> {
        self.0.drain(..).map(|event| {
            let flags = event.flags;
            // Receiving or sending finds out what an error or a hang-up is.
            let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
            let ready = Ready {
                input: broken || flags.contains(EventFlags::IN),
                room: broken || flags.contains(EventFlags::OUT),
            };
            (event.data.u64(), ready)
        })
    }
}

impl EpollSet {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(CreateFlags::CLOEXEC)?))
    }

    /// Adds a descriptor. Closing it removes it.
    pub(super) fn add(&self, fd: impl AsFd, number: u64, interest: Interest) -> io::Result<()> {
        let data = EventData::new_u64(number);
        Ok(epoll::add(&self.0, fd, data, interest)?)
    }

    /// Changes what a descriptor of the set is watched for.
    pub(super) fn modify(&self, fd: impl AsFd, number: u64, interest: Interest) {
        // Only a descriptor that is not in the set makes this fail.
        let _ = epoll::modify(&self.0, fd, EventData::new_u64(number), interest);
    }

    /// Removes a descriptor that stays open.
    pub(super) fn remove(&self, fd: impl AsFd) {
        // The same goes for this.
        let _ = epoll::delete(&self.0, fd);
    }

    /// Fills `events` with what is ready, once something is, `timeout` is over, or a signal was
    /// handled.
    pub(super) fn wait(&self, events: &mut Events, timeout: Option<Duration>) {
        events.0.clear();
        // A timeout too long for the kernel's type is none.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let spare = rustix::buffer::spare_capacity(&mut events.0);
        // A signal is the only possible error of a set of our own. Then the caller finds out that it
        // is too early, and waits again.
        let _ = epoll::wait(&self.0, spare, timeout.as_ref());
    }
}
