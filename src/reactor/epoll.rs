//! An `epoll(7)` set, level-triggered. Each descriptor has a number, which its events carry.

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

/// The events that the set reports for a descriptor. The kernel always reports a hang-up and an error, too.
pub(super) type Interest = EventFlags;

pub(super) fn interest(input: bool, room: bool) -> Interest {
    let mut flags = EventFlags::empty();
    flags.set(EventFlags::IN, input);
    flags.set(EventFlags::OUT, room);
    flags
}

/// A buffer for the events of one system call.
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

    /// Takes the events out. Returns the number of each descriptor, and what the descriptor is ready for.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (u64, Ready)> {
        self.0.drain(..).map(|event| {
            let flags = event.flags;
            // An error or a hang-up counts as ready, so that the next receive or send reports it.
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

    /// Adds a descriptor. Closing the descriptor removes it from the set.
    pub(super) fn add(&self, fd: impl AsFd, number: u64, interest: Interest) -> io::Result<()> {
        let data = EventData::new_u64(number);
        Ok(epoll::add(&self.0, fd, data, interest)?)
    }

    /// Changes the events that the set reports for a descriptor.
    pub(super) fn modify(&self, fd: impl AsFd, number: u64, interest: Interest) {
        // This fails only for a descriptor that is not in the set.
        let _ = epoll::modify(&self.0, fd, EventData::new_u64(number), interest);
    }

    /// Removes a descriptor, which stays open.
    pub(super) fn remove(&self, fd: impl AsFd) {
        // This fails only for a descriptor that is not in the set.
        let _ = epoll::delete(&self.0, fd);
    }

    /// Waits until a descriptor is ready, `timeout` is over, or a signal was handled. Replaces `events`
    /// with the events of this wait.
    pub(super) fn wait(&self, events: &mut Events, timeout: Option<Duration>) {
        events.0.clear();
        // A timeout that the kernel's type can't hold is no limit.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let spare = rustix::buffer::spare_capacity(&mut events.0);
        // For a valid set the only possible error is EINTR, from a signal. The caller then sees no events,
        // and waits again.
        let _ = epoll::wait(&self.0, spare, timeout.as_ref());
    }
}
