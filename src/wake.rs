//! Waiting for descriptors: `poll(2)`.

use std::io;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, Timespec, poll};
use rustix::io::Errno;

/// Sleeps until one of `fds` is ready, or the timeout is over. Returns whether one is ready.
pub(crate) fn wait(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<bool> {
    let start = Instant::now();
    loop {
        // A timeout that the kernel's type, or the end of time, can't hold never comes.
        let left = timeout.map(|timeout| timeout.saturating_sub(start.elapsed()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(fds, left.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            // Any thread may be the one that a signal is delivered to.
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
