//! What it takes to close a connection so that the peer loses nothing by it: the single steps,
//! none of which blocks. The order of the steps is the [remainder](crate::reactor)'s.

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
    /// Receives what has arrived, without waiting.
    pub(crate) fn try_receive(&self, buf: &mut [u8]) -> std::io::Result<usize> {
        let (_, n) = rustix::net::recv(self.stream(), buf, RecvFlags::DONTWAIT)?;
        self.record.received(n);
        Ok(n)
    }

    /// Receives what has arrived and drops it, without waiting and without counting it. Returns
    /// whether there was something; at an end of file or an error there is nothing.
    pub(crate) fn try_discard(&self, scratch: &mut [u8]) -> std::io::Result<usize> {
        let (_, n) = rustix::net::recv(self.stream(), scratch, RecvFlags::DONTWAIT)?;
        Ok(n)
    }

    /// Sends what the kernel has room for, without waiting.
    pub(crate) fn try_send(&self, buf: &[u8]) -> std::io::Result<usize> {
        let flags = NO_SIGNAL | rustix::net::SendFlags::DONTWAIT;
        let n = rustix::net::send(self.stream(), buf, flags)?;
        self.record.sent(n);
        Ok(n)
    }

    /// Returns how much input has arrived and is unread (`FIONREAD`).
    pub(crate) fn arrived(&self) -> std::io::Result<u64> {
        Ok(rustix::io::ioctl_fionread(self.stream())?)
    }

    /// Makes the stream writable only once everything has left this machine
    /// (`TCP_NOTSENT_LOWAT`, `tcp(7)`). Returns whether that can be told.
    pub(crate) fn mark_unsent(&self) -> bool {
        // After a FIN the kernel calls every stream writable, so nothing can be told from that.
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

    /// Makes the stream writable only once the peer has acknowledged everything except about
    /// 3 kB: the smallest send buffer (`SO_SNDBUF`, `socket(7)`), of which a third must be free.
    ///
    /// The caller waits for the unsent bytes first. If the buffer shrank while much is unsent,
    /// the kernel would answer each loss by sending whole segments again (`TCPWqueueTooBig`).
    pub(crate) fn mark_in_flight(&self) -> bool {
        socket2::SockRef::from(self.stream())
            .set_send_buffer_size(0)
            .is_ok()
    }

    /// Returns whether the stream is writable now, by the marks that were set.
    pub(crate) fn is_writable(&self) -> bool {
        self.wait_for(PollFlags::OUT, Duration::ZERO)
    }

    /// Sends a FIN. Returns whether there is still a peer to send it to.
    pub(crate) fn send_fin(&self) -> bool {
        self.stream().shutdown(Shutdown::Write).is_ok()
    }

    /// Closes the descriptor, logs the connection's line, tells the hook, and gives the slot back.
    ///
    /// The slot comes last, so that hooks that are slow hold up new connections instead of piling up.
    pub(crate) fn close(self, reason: CloseReason) -> ClosedConnection {
        if self.slot.state().has_close_hook() {
            // The hook is told of the address, which is found out while there is a descriptor.
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
        // A shutdown that has aborted the connection may have given up on its handler.
        let is_first = slot.finish(&record, reason);
        let closed = ClosedConnection::new(&record, reason.unless_aborted(&record));
        if is_first {
            slot.state().tell_closed(&closed);
        }
        drop(slot);
        closed
    }
}
