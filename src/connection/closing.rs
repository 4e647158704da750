//! The steps of a close that loses no data of the peer. None of them blocks. Their order is decided by
//! the state machine [`Remainder`](crate::reactor::remainder::Remainder).

use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::net::RecvFlags;

use super::Connection;
use super::transfer::NO_SIGNAL;
use crate::state::close_reason::CloseReason;
use crate::state::closed::ClosedConnection;

impl Connection {
    /// Receives and counts input that has arrived, without waiting.
    pub(crate) fn try_receive(&self, buf: &mut [u8]) -> std::io::Result<usize> {
        let (_, n) = rustix::net::recv(self.stream(), buf, RecvFlags::DONTWAIT)?;
        self.record.received(n);
        Ok(n)
    }

    /// Receives input that has arrived and drops it, without waiting and without counting it. Returns
    /// how many bytes, or 0 at the end of file.
    pub(crate) fn try_discard(&self, scratch: &mut [u8]) -> std::io::Result<usize> {
        let (_, n) = rustix::net::recv(self.stream(), scratch, RecvFlags::DONTWAIT)?;
        Ok(n)
    }

    /// Sends as much as the kernel has room for, without waiting.
    pub(crate) fn try_send(&self, buf: &[u8]) -> std::io::Result<usize> {
        let flags = NO_SIGNAL | rustix::net::SendFlags::DONTWAIT;
        let n = rustix::net::send(self.stream(), buf, flags)?;
        self.record.sent(n);
        Ok(n)
    }

    /// Returns how many bytes of input have arrived and are unread (`FIONREAD`, `tcp(7)`).
    pub(crate) fn arrived(&self) -> std::io::Result<u64> {
        Ok(rustix::io::ioctl_fionread(self.stream())?)
    }

    /// Sets `TCP_NOTSENT_LOWAT` (`tcp(7)`), so that the stream becomes writable only once everything has
    /// left this machine. Returns false if the kernel can't do this.
    pub(crate) fn mark_unsent(&self) -> bool {
        // After a FIN the kernel reports every stream as writable, whatever is unsent.
        if self.has_sent_fin.load(Ordering::Relaxed) {
            return false;
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        return socket2::SockRef::from(self.stream())
            .set_tcp_notsent_lowat(1)
            .is_ok();
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        false
    }

    /// Shrinks the send buffer to its minimum (`SO_SNDBUF`, `socket(7)`), so that the stream becomes
    /// writable only once the peer has acknowledged everything except about 3 kB. A stream is writable if a
    /// third of its buffer is free. Returns false if the kernel can't do this.
    ///
    /// The caller first waits until nothing is unsent. If the buffer shrank while much is unsent, the
    /// kernel would answer each loss by sending whole segments again (`TCPWqueueTooBig`).
    pub(crate) fn mark_in_flight(&self) -> bool {
        socket2::SockRef::from(self.stream())
            .set_send_buffer_size(0)
            .is_ok()
    }

    /// Returns whether the stream is writable now, which means what [`mark_unsent`](Self::mark_unsent) or
    /// [`mark_in_flight`](Self::mark_in_flight) says.
    pub(crate) fn is_writable(&self) -> bool {
        self.wait_for(PollFlags::OUT, Duration::ZERO)
    }

    /// Sends a FIN. Returns false if the connection is gone, because the peer has reset it.
    pub(crate) fn send_fin(&self) -> bool {
        self.stream().shutdown(Shutdown::Write).is_ok()
    }

    /// Closes the descriptor, logs the connection's line, calls the close hook, and frees the slot.
    ///
    /// The slot is freed last, so that slow hooks hold up new connections instead of piling up.
    pub(crate) fn close(self, reason: CloseReason) -> ClosedConnection {
        if self.slot.state().has_close_hook() {
            // The hook may ask for the local address, so look it up while the descriptor is open.
            let _ = self.local_addr();
        }
        let Self {
            stream,
            slot,
            record,
            ..
        } = self;
        drop(stream);
        record.control.release();
        // If the handler ignored an abort for too long, the shutdown has already counted and logged this
        // connection. Don't report it twice.
        let is_first = slot.finish(&record, reason);
        let closed = ClosedConnection::new(&record, reason.unless_aborted(&record));
        if is_first {
            slot.state().report_closed(&closed);
        }
        drop(slot);
        closed
    }
}
