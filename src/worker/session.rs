//! The part of a connection's life on its thread: the PROXY header, the verify hook, and the handler.

use std::fmt::{self, Write};
use std::io::ErrorKind;
use std::mem;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use log::Level;

use crate::accept::limit_reports::warn_of_source_limit;
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

/// The hooks of a server, which are the same for every connection.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) verify: Option<VerifyHook>,
    pub(crate) handle_error: Option<ErrorHook>,
    /// The handlers' errors that are logged, because there is no error hook.
    errors: Mutex<Errors>,
    /// The errors of trusted proxies that sent no valid header.
    #[cfg(feature = "proxy-protocol")]
    without_header: Mutex<Errors>,
}

/// Counts errors of one kind, and decides when to warn of them.
#[derive(Default)]
struct Errors {
    warned: WarnOnce,
    /// The number of errors since the last warning.
    since: u64,
}

impl Errors {
    /// Counts an error. If a warning is due, returns the number of errors since the last warning.
    fn count(&mut self, now: Instant) -> Option<u64> {
        if self.warned.should_report(now) {
            return Some(mem::take(&mut self.since));
        }
        self.since += 1;
        None
    }
}

impl Hooks {
    /// Returns whether no step of a session runs code of users, except for the handler.
    pub(crate) fn are_unset(&self) -> bool {
        self.verify.is_none() && self.handle_error.is_none()
    }

    /// Reads the PROXY header of a connection from a trusted proxy. Returns the connection, or how the
    /// connection was closed if there is no valid header.
    #[cfg_attr(
        not(feature = "proxy-protocol"),
        expect(
            clippy::unnecessary_wraps,
            clippy::unused_self,
            reason = "without the feature the result is always the connection"
        )
    )]
    pub(crate) fn admit(&self, conn: Box<Connection>) -> Result<Box<Connection>, ClosedConnection> {
        let is_logged = log::log_enabled!(Level::Debug);
        if is_logged {
            // The log lines show the address. Ask now, because after a reset the kernel no longer knows it.
            let _ = conn.local_addr();
        }
        #[cfg(feature = "proxy-protocol")]
        if conn.expects_proxy_header()
            && let Err(cause) = conn.receive_proxy_header()
        {
            self.log_no_header(&conn, &cause);
            let reason = conn.reason_without_header(&cause);
            // Close without lingering, because the server has sent nothing that a reset could destroy.
            return Err(conn.close(reason));
        }
        if is_logged {
            log_start(&conn);
        }
        Ok(conn)
    }

    /// Runs the verify hook and the handler of a connection. Catches every panic in them.
    ///
    /// Returns the connection, and the handler's wish to leave the rest of it to the server.
    pub(crate) fn serve<'h>(
        &self,
        mut conn: Box<Connection>,
        make: &dyn Fn() -> Box<dyn RequestHandler + 'h>,
    ) -> (Box<Connection>, Option<Wish>) {
        // Count a proxied connection for its source now, because at its accept the client was not known.
        // Any other connection was counted then.
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

    /// Records a failure as the reason for the connection's end, and passes it to the hook or the log.
    pub(crate) fn report(&self, conn: &Connection, failure: &HandlerError) {
        let ended = match conn.progress() {
            Progress::Ended { reason, .. } => Some(reason),
            Progress::Open | Progress::HandlerInformed | Progress::Draining { .. } => None,
        };
        match (failure, ended) {
            (HandlerError::Panic(_), _) => conn.end(CloseReason::Panic),
            // The peer half-closed where the handler expected more input, so the reason stays `eof`.
            (HandlerError::Error(error), Some(CloseReason::Eof))
                if error.kind() == ErrorKind::UnexpectedEof => {}
            (HandlerError::Error(_), None | Some(CloseReason::Eof)) => conn.end(CloseReason::Error),
            // The connection recorded the reason when its own read or write failed.
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
            // The reason in the connection's own line is enough.
            None => {}
        }
    }

    /// Logs a failure that no hook receives.
    ///
    /// A panic is a bug in the handler, so each one is logged at error. A client may be able to cause an
    /// error, and must not be able to flood the log. So only the first error of an episode is a warning.
    fn log_failure(&self, conn: &Connection, failure: &HandlerError) {
        // The text may quote input, by which a client could otherwise forge a line of the log, so escape
        // it. Making the text runs users' code, which may panic.
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

    /// Logs why a connection has no valid header. The proxy is probably misconfigured, so the first such
    /// connection of an episode is a warning.
    #[cfg(feature = "proxy-protocol")]
    fn log_no_header(&self, conn: &Connection, cause: &NoHeader) {
        let (prefix, peer) = (conn.prefix(), conn.peer_addr());
        let mut line =
            format!("{prefix}peer={peer} is trusted to send a PROXY header, but {cause}");
        let level = match cause {
            // The reason in the connection's own line is enough.
            NoHeader::Closing => return,
            cause if cause.is_bare_connect() => Level::Debug,
            _ => count(&self.without_header, &mut line),
        };
        log::log!(level, service = prefix, peer:%; "{line}");
    }
}

/// Logs that the server begins to serve a connection, whose line at its end may follow hours later.
fn log_start(conn: &Connection) {
    let (prefix, id, peer) = (conn.prefix(), conn.id(), conn.peer_addr());
    // The address is not known if the peer has already reset the connection.
    let local = conn.local_addr().ok().map(|local| local.to_string());
    let at = local
        .as_ref()
        .map_or_else(String::new, |local| format!(" local={local}"));
    log::debug!(service = prefix, id, peer:%, local; "{prefix}id={id} peer={peer}{at} accepted");
}

/// Counts an error, and returns the level of its log line. A warning's line gets the number of errors
/// since the last warning.
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
    fn only_the_first_error_of_an_episode_is_a_warning_and_has_the_number_since_the_last() {
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
