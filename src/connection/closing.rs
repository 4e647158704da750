//! How a connection is closed: so that nothing that is due to the peer is lost by it.

use std::io::{ErrorKind, Read};
use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::{Connection, SILENT};
use crate::connection::close_reason::Ending;

impl Connection {
    /// Ends the connection as the type's documentation says, logs it, and gives the slot back.
    pub(crate) fn close(self) {
        self.leave();
        let ending = self.ending();
        let Self { link, slot, .. } = self;
        drop(link);
        let bytes_in = slot.bytes_in.load(Ordering::Relaxed);
        let bytes_out = slot.bytes_out.load(Ordering::Relaxed);
        ending.log(
            slot.registry().tag(),
            self.peer,
            (bytes_in, bytes_out),
            self.accepted.elapsed(),
        );
        drop(slot);
    }

    /// Sends a FIN, and waits until a close can't reset the peer out of what is due to it.
    fn leave(&self) {
        // Only before the FIN can it be told what has reached the peer.
        let settled = match self.ending() {
            Ending::Reset => return,
            // It sends nothing more, so that the close sends a FIN and no reset.
            Ending::Eof => return self.link.settle(),
            // The drain timeout is the bound, and who is not done by then is cut, and counted.
            Ending::Shutdown => self.settles_within(self.times.drain.max(self.times.linger)),
            Ending::Lifetime => self.settles_within(self.times.linger),
            _ => self.has_settled(),
        };
        if settled {
            self.link.settle();
        }
        if self.stream().shutdown(Shutdown::Write).is_err() {
            return;
        }
        let was_silent = self.due.load(Ordering::Relaxed) == SILENT;
        // A peer that was asked to end and is silent may stay so for ever, and what it sends from
        // now on comes too late.
        if !(was_silent && settled) {
            self.drop_input();
        }
    }

    /// Reads and drops until what was written has reached the peer. Returns whether it has in
    /// time, or the peer has ended, after which no close can take it back.
    #[inline(never)] // Or its scratch would be part of the stack of every connection that is idle.
    fn settles_within(&self, patience: Duration) -> bool {
        let start = Instant::now();
        let mut scratch = [0; 4096];
        // It also sets the marks that make the stream writable only then.
        while !self.has_settled() {
            let left = patience.saturating_sub(start.elapsed());
            if left.is_zero() || !CAN_TELL || !self.wait_for(PollFlags::IN | PollFlags::OUT, left) {
                return false;
            }
            match rustix::net::recv(self.stream(), &mut scratch, RecvFlags::DONTWAIT) {
                Ok((_, 1..)) | Err(Errno::INTR | Errno::AGAIN) => {}
                Ok((_, 0)) => return !self.link.is_cut(),
                Err(_) => return false,
            }
        }
        true
    }

    /// Reads and drops until the peer's FIN, or the end of the linger.
    #[inline(never)] // For the same reason.
    fn drop_input(&self) {
        let start = Instant::now();
        let mut scratch = [0; 4096];
        loop {
            let left = self.times.linger.saturating_sub(start.elapsed());
            if left.is_zero() || !self.wait_for(PollFlags::IN, left) {
                return;
            }
            match self.stream().read(&mut scratch) {
                Ok(1..) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return,
            }
        }
    }

    /// Returns whether what was written has reached the peer: nothing waits to be sent, and at
    /// most some 3 kB wait to be acknowledged. Where it can't be told, it has not.
    fn has_settled(&self) -> bool {
        // With these marks the stream is writable exactly then (`socket(7)`, `tcp(7)`): the smallest
        // send buffer, of which a third must be free, and nothing unsent.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            let socket = socket2::SockRef::from(self.stream());
            socket.set_send_buffer_size(0).is_ok()
                && socket.set_tcp_notsent_lowat(1).is_ok()
                && self.wait_for(PollFlags::OUT, Duration::ZERO)
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        false
    }
}

/// Whether the system says what has reached a peer.
const CAN_TELL: bool = cfg!(any(target_os = "linux", target_os = "android"));
