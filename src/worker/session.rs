//! A connection's life on its thread: verified, handled, and left to what carries its remainder.

use std::fmt::{self, Write};
use std::io::ErrorKind;
use std::mem;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use log::Level;

use crate::accept::warn_of_source_limit;
use crate::catch::catch;
use crate::connection::Connection;
use crate::connection::progress::Progress;
#[cfg(feature = "proxy-protocol")]
use crate::connection::proxy_header::NoHeader;
use crate::connection::rest::Wish;
use crate::state::close_reason::CloseReason;
use crate::state::closed::ClosedConnection;
use crate::warn_once::WarnOnce;
use crate::worker::handler::{HandlerError, RequestHandler, drive};

pub(crate) type VerifyHook = Box<dyn Fn(&Connection) -> bool + Send + Sync>;
pub(crate) type ErrorHook = Box<dyn Fn(&Connection, &HandlerError) + Send + Sync>;

/// The hooks of a server, which run for every connection, whatever its handler.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) verify: Option<VerifyHook>,
    pub(crate) handle_error: Option<ErrorHook>,
    /// The errors that no hook is told of.
    errors: Mutex<Errors>,
    /// The connections that did not begin with the header of a proxy.
    #[cfg(feature = "proxy-protocol")]
    without_header: Mutex<Errors>,
}

/// Errors of handlers, and when to warn of them.
#[derive(Default)]
struct Errors {
    warned: WarnOnce,
    /// How many there were after the last warning.
    since: u64,
}

impl Errors {
    /// Counts an error. Returns how many there were without a warning, if a warning is due.
    fn count(&mut self, now: Instant) -> Option<u64> {
        if self.warned.should_report(now) {
            return Some(mem::take(&mut self.since));
        }
        self.since += 1;
        None
    }
}

impl Hooks {
    /// Receives the header of a proxy, if the connection begins with one. Returns the connection, or how
    /// it was closed.
    #[cfg_attr(
        not(feature = "proxy-protocol"),
        expect(
            clippy::unnecessary_wraps,
            clippy::unused_self,
            reason = "it is always the connection"
        )
    )]
    pub(crate) fn admit(&self, conn: Box<Connection>) -> Result<Box<Connection>, ClosedConnection> {
        let is_logged = log::log_enabled!(Level::Debug);
        if is_logged {
            // Once the connection has ended, the kernel no longer knows the address.
            let _ = conn.local_addr();
        }
        #[cfg(feature = "proxy-protocol")]
        if conn.expects_proxy_header()
            && let Err(cause) = conn.receive_proxy_header()
        {
            self.log_no_header(&conn, &cause);
            let reason = conn.reason_without_header(&cause);
            // Without lingering: nothing was sent that a reset could destroy.
            return Err(conn.close(reason));
        }
        if is_logged {
            log_start(&conn);
        }
        Ok(conn)
    }

    /// Takes one connection from its verification to the end of its handler. Returns the
    /// connection, and what the handler has wished for it. No panic of a handler or a hook gets
    /// out of here.
    pub(crate) fn serve<'h>(
        &self,
        mut conn: Box<Connection>,
        make: &dyn Fn() -> Box<dyn RequestHandler + 'h>,
    ) -> (Box<Connection>, Option<Wish>) {
        // A connection of a proxy was not counted when it was accepted, because its client was not known then.
        if let Err(exceeded) = conn.claim_source() {
            conn.end(CloseReason::Limit);
            warn_of_source_limit(conn.server().state(), exceeded);
            conn.server().state().count_rejected(true);
            return (conn, None);
        }
        let succeeded = match self.verified(&conn) {
            Ok(true) => drive(make, &mut conn, &|conn, failure| self.report(conn, failure)),
            Ok(false) => {
                conn.end(CloseReason::Denied);
                false
            }
            Err(message) => {
                self.report(&conn, &HandlerError::Panic(message));
                false
            }
        };
        let wish = conn.take_wish().filter(|_| succeeded);
        (conn, wish)
    }

    fn verified(&self, conn: &Connection) -> Result<bool, String> {
        match &self.verify {
            Some(verify) => catch(|| verify(conn)),
            None => Ok(true),
        }
    }

    /// Notes a failure as the reason for the end, and tells of it.
    pub(crate) fn report(&self, conn: &Connection, failure: &HandlerError) {
        let ended = match conn.progress() {
            Progress::Ended { reason, .. } => Some(reason),
            Progress::Open | Progress::Told | Progress::Draining { .. } => None,
        };
        match (failure, ended) {
            (HandlerError::Panic(_), _) => conn.end(CloseReason::Panic),
            // The end came where the handler expected more: that is the peer's doing.
            (HandlerError::Error(error), Some(CloseReason::Eof))
                if error.kind() == ErrorKind::UnexpectedEof => {}
            (HandlerError::Error(_), None | Some(CloseReason::Eof)) => conn.end(CloseReason::Error),
            // An error of the connection itself has set the reason when it happened.
            (HandlerError::Error(_), _) => {}
        }
        match &self.handle_error {
            Some(hook) => {
                if let Err(message) = catch(|| hook(conn, failure)) {
                    conn.end(CloseReason::Panic);
                    self.log_failure(conn, &HandlerError::Panic(message));
                }
            }
            None if matches!(conn.reason(), CloseReason::Error | CloseReason::Panic) => {
                self.log_failure(conn, failure);
            }
            // The reason in the connection's own line says it all.
            None => {}
        }
    }

    /// Logs a failure that no hook is told of. A panic is a bug in the handler. An error is the end of
    /// one connection, and may be the client's doing, so that it must not be able to fill the log: only
    /// the first of an episode is a warning.
    fn log_failure(&self, conn: &Connection, failure: &HandlerError) {
        // The text may quote the client, which must not be able to forge a line. Making it runs the
        // error's own code.
        let text = catch(|| failure.to_string())
            .unwrap_or_else(|message| format!("an error that panicked when displayed: {message}"));
        let (prefix, peer, text) = (conn.prefix(), conn.peer_addr(), text.escape_debug());
        let mut line = format!("{prefix}peer={peer} handler: {text}");
        let level = match failure {
            HandlerError::Panic(_) => Level::Error,
            HandlerError::Error(_) => count(&self.errors, &mut line),
        };
        log::log!(level, service = prefix, peer:%; "{line}");
    }

    /// Logs why a connection has no header. A proxy that sends none is probably set up wrong, so the first
    /// such connection of an episode is a warning.
    #[cfg(feature = "proxy-protocol")]
    fn log_no_header(&self, conn: &Connection, cause: &NoHeader) {
        let (prefix, peer) = (conn.prefix(), conn.peer_addr());
        let mut line =
            format!("{prefix}peer={peer} is trusted to send a PROXY header, but {cause}");
        let level = match cause {
            // The connection's own line says it all.
            NoHeader::Closing => return,
            cause if cause.is_bare_connect() => Level::Debug,
            _ => count(&self.without_header, &mut line),
        };
        log::log!(level, service = prefix, peer:%; "{line}");
    }
}

/// Logs that a connection is about to be served. Its line at the end may be hours away.
fn log_start(conn: &Connection) {
    let (prefix, id, peer) = (conn.prefix(), conn.id(), conn.peer_addr());
    // Unless the peer has reset the connection already.
    let local = conn.local_addr().ok().map(|local| local.to_string());
    let at = local
        .as_ref()
        .map_or_else(String::new, |local| format!(" local={local}"));
    log::debug!(service = prefix, id, peer:%, local; "{prefix}id={id} peer={peer}{at} accepted");
}

/// Counts an error. Returns the level of its line, to which a warning adds how many errors went without
/// one before.
fn count(errors: &Mutex<Errors>, line: &mut String) -> Level {
    let mut errors = errors.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(before) = errors.count(Instant::now()) else {
        return Level::Debug;
    };
    if before > 0 {
        let _ = write!(line, " ({before} more errors since the last warning)");
    }
    Level::Warn
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("verify", &self.verify.is_some())
            .field("handle_error", &self.handle_error.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn errors_are_warned_of_once_an_episode_with_how_many_went_before() {
        let mut errors = Errors::default();
        let start = Instant::now();
        assert_eq!(errors.count(start), Some(0));
        for _ in 0..1000 {
            assert_eq!(errors.count(start), None);
        }
        let later = start + 2 * WarnOnce::QUIET;
        assert_eq!(errors.count(later), Some(1000));
        assert_eq!(errors.count(later + Duration::from_secs(1)), None);
    }
}
